"""Proxies through a federation: passed on to the member over the connections that it dialled, as the user who asks."""

import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.webpod import BIG, Backend, endpoint

from federation.app import Sight
from federation.clusters import proxying
from federation.clusters.links import Links
from federation.clusters.mirroring import SOURCE_NAME, mirror_name
from federation.clusters.proxying import ProxyForwarder
from machinery.api.fleet.cluster import MANAGED_LABEL
from machinery.kit.clock import SystemClock
from machinery.kit.tasks import TaskOwner
from machinery.server.app import ApiServer, Extensions
from machinery.server.config import ServerConfig
from machinery.server.pki import AGENT_PREFIX, client_context
from machinery.server.user import UserInfo
from machinery.wire.link import LINK_PATH, VIA_LINK
from machinery.wire.linkdialer import DialTarget, LinkDialer

pytestmark = pytest.mark.integration
CONFIG = ServerConfig(static_tokens=(("tok-jane", UserInfo("jane", ("devs",))),))
TOKEN = {"Authorization": "Bearer tok-jane"}
POD = "/api/v1/namespaces/default/pods"
SERVICE = "/api/v1/namespaces/default/services"
RBAC = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
MEMBERS = ["alpha", "beta"]


async def post(server: RunningServer, path: str, document: dict[str, Any]) -> None:
    await server.rest.request("POST", path, body=orjson.dumps(document))


async def allow(server: RunningServer, *resources: str) -> None:
    """Jane may proxy to these."""
    version = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "p"}}
    rules = [{"apiGroups": [""], "resources": list(resources), "verbs": ["*"]}]
    await post(server, RBAC, {**version, "kind": "ClusterRole", "rules": rules})
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}
    ref = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "p"}
    binding = {**version, "kind": "ClusterRoleBinding", "roleRef": ref, "subjects": [subject]}
    await post(server, RBAC.replace("roles", "rolebindings"), binding)


async def add_pod(server: RunningServer, name: str, ip: str, cluster: str = "") -> None:
    """A ready pod; of a cluster: its mirror at the federation."""
    metadata: dict[str, Any] = {"name": name, "labels": {"app": "web"}}
    if cluster:
        metadata["name"] = mirror_name(name, cluster)
        metadata["labels"][MANAGED_LABEL] = cluster
        metadata["annotations"] = {SOURCE_NAME: name}
    spec = {"containers": [{"name": "c", "image": "x"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    await post(server, POD, pod)
    ready = [{"type": "Ready", "status": "True"}]
    status = {"status": {"podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready}}
    await server.rest.request(
        "PATCH", f"{POD}/{metadata['name']}/status", body=orjson.dumps(status),
        content_type="application/merge-patch+json",
    )  # fmt: skip


async def add_service(server: RunningServer, name: str, ip: str = "") -> None:
    """With an endpoint, where pods are."""
    spec = {"ports": [{"port": 80}], "selector": {"app": "web"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
    await post(server, SERVICE, service)
    if ip:
        labels = {"kubernetes.io/service-name": name}
        await post(
            server,
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": name, "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": "", "port": 80}],
                "endpoints": [endpoint(ip, "web")],
            },
        )


@dataclass
class World:
    federation: RunningServer
    members: dict[str, RunningServer]
    backends: dict[str, Backend]
    session: aiohttp.ClientSession
    links: Links

    @property
    def url(self) -> str:
        return self.federation.api.url

    async def ask(self, path: str, method: str = "GET", **more: Any) -> tuple[int, bytes]:
        async with self.session.request(
            method, self.url + path, headers=TOKEN, allow_redirects=False, **more
        ) as answer:
            return answer.status, await answer.read()


async def dial(federation: ApiServer, member: ApiServer, cluster: str, tasks: TaskOwner) -> None:
    """What the member's agent does."""
    tls = client_context(federation.ca_pem, federation.client_pair(AGENT_PREFIX + cluster))
    url = federation.url
    dialer = LinkDialer(
        DialTarget([url], f"cluster={cluster}"), member.handler, SystemClock(), tls=lambda: tls
    )
    _ = tasks.spawn(dialer.run(), cluster)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    links = Links(SystemClock())
    held: list[ApiServer] = []
    sight = Sight(lambda: held[0], lambda: [*MEMBERS, "gamma"])
    forwarder = ProxyForwarder(
        links, sight,
        lambda key: held[0].peek("core/pods", key.namespace, key.name),
        lambda name: held[0].peek("core/nodes", "", name),
    )  # fmt: skip
    connects = {(plural, "proxy"): forwarder.connect for plural in proxying.SINGULARS}
    extensions = Extensions(connects=connects, raw_routes={LINK_PATH: links.accept})
    agent = UserInfo("ubernetes:federation", ("system:masters",))
    tasks = TaskOwner(on_death=lambda *_: None)
    async with AsyncExitStack() as stack:
        federation = await stack.enter_async_context(
            running_server(config=CONFIG, extensions=extensions)
        )
        held.append(federation.api)
        await allow(federation, "pods/proxy", "services/proxy", "nodes/proxy")
        members, backends = {}, {}
        for number, cluster in enumerate(MEMBERS):
            backend = backends[cluster] = Backend(cluster)
            member = members[cluster] = await stack.enter_async_context(
                running_server(
                    extensions=Extensions(
                        reach=backend.reach,
                        authenticators=[lambda r: agent if r.get(VIA_LINK) else None],
                    )
                )
            )
            await stack.enter_async_context(backend.serving(member.api))
            await allow(member, "pods/proxy", "services/proxy")
            await add_pod(member, "web", f"10.{number}.0.5")
            await add_service(member, "web", f"10.{number}.0.5")
            await add_pod(federation, "web", f"10.{number}.0.5", cluster)
            await dial(federation.api, member.api, cluster, tasks)
        await add_service(federation, "web")
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=client_context(federation.api.ca_pem))
            )
        )
        stack.push_async_callback(links.close)
        stack.push_async_callback(tasks.close)
        while len(links.connected) < len(MEMBERS):
            await SystemClock().sleep(0.02)
        yield World(federation, members, backends, session, links)


@pytest.mark.parametrize("name", ["web.beta", "web.beta:80", "http:web.beta:80"])
async def test_a_pod_of_a_member(world: World, name: str) -> None:
    assert await world.ask(f"{POD}/{name}/proxy/x/?q=1") == (200, b"GET /x/?q=1 of beta")
    seen = world.backends["beta"].seen[-1].headers
    assert seen["Host"].endswith(str(world.federation.api.port)), "as the client called it"
    assert not [name for name in seen if name.startswith(("Authorization", "Impersonate"))]


@pytest.mark.parametrize("counted", [True, False], ids=["length", "chunks"])
async def test_bodies_stream_both_ways(world: World, counted: bool) -> None:
    sent = b"0123456789abcdef" * (BIG // 16)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(sent), 100_000):
            yield sent[start : start + 100_000]

    body = io.BytesIO(sent) if counted else pieces()
    status, answer = await world.ask(f"{POD}/web.alpha/proxy/hash", "POST", data=body)
    assert status == 200
    assert orjson.loads(answer)["sha256"] == hashlib.sha256(sent).hexdigest()
    status, answer = await world.ask(f"{POD}/web.alpha/proxy/stream")
    assert (status, len(answer)) == (200, BIG)


async def test_who_waits_to_be_invited_is(world: World) -> None:
    path = f"{POD}/web.alpha/proxy/hash"
    _, answer = await world.ask(path, "POST", data=io.BytesIO(b"x"), expect100=True)
    assert orjson.loads(answer)["sha256"] == hashlib.sha256(b"x").hexdigest()


async def test_statuses_and_redirects(world: World) -> None:
    assert await world.ask(f"{POD}/web.alpha/proxy/teapot") == (418, b"short and stout")
    for path, end in (("login", "/proxy/welcome"), ("", "/proxy/")):
        url = f"{world.url}{POD}/web.alpha/proxy" + (f"/{path}" if path else "")
        async with world.session.get(url, headers=TOKEN) as answer:
            assert answer.url.raw_path == f"{POD}/web.alpha{end}"
            assert (await answer.text()).endswith("of alpha")


async def test_half_an_answer_is_none(world: World) -> None:
    with pytest.raises(aiohttp.ClientError):
        await world.ask(f"{POD}/web.alpha/proxy/broken")


async def test_a_websocket(world: World) -> None:
    async with world.session.ws_connect(
        f"{world.url}{POD}/web.alpha:80/proxy/socket", headers=TOKEN, protocols=("chat",)
    ) as socket:
        assert socket.protocol == "chat"
        for word in ("one", "two"):
            await socket.send_str(word)
            assert await socket.receive_str() == word.upper()


async def test_a_service_is_its_clusters_in_turn(world: World) -> None:
    said = [await world.ask(f"{SERVICE}/web:80/proxy/x") for _ in range(4)]
    assert {status for status, _ in said} == {200}
    assert {text for _, text in said} == {b"GET /x of alpha", b"GET /x of beta"}
    for _ in range(3):
        asked = await world.ask(f"{SERVICE}/web.beta:80/proxy/x")
        assert asked == (200, b"GET /x of beta")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"{POD}/nope.alpha/proxy/", 404, 'pods "nope.alpha" not found'),
        (f"{SERVICE}/nope/proxy/", 404, 'services "nope" not found'),
        (f"{SERVICE}/web.delta/proxy/", 404, 'services "web.delta" not found'),
        (f"{SERVICE}/web:81/proxy/", 503, 'no service port 81 found for service "web"'),
        (f"{SERVICE}/nope.alpha/proxy/", 404, 'services "nope" not found'),
        (f"{SERVICE}/web.gamma/proxy/", 503, 'cluster "gamma" is not connected'),
        ("/api/v1/nodes/nope.alpha/proxy/x", 404, 'nodes "nope.alpha" not found'),
    ],
)
async def test_refusals(world: World, path: str, status: int, words: str) -> None:
    code, answer = await world.ask(path)
    assert code == status
    assert words in orjson.loads(answer)["message"]


async def test_a_cluster_that_is_away_gets_nothing(world: World) -> None:
    world.links.get("alpha").drop()
    await world.links.get("alpha").close()
    assert {await world.ask(f"{SERVICE}/web:80/proxy/x") for _ in range(4)} == {
        (200, b"GET /x of beta")
    }
    status, answer = await world.ask(f"{POD}/web.alpha/proxy/x")
    assert status == 503
    assert 'cluster "alpha" is not connected' in orjson.loads(answer)["message"]


async def test_the_member_authorises_the_user_once_more(world: World) -> None:
    await world.members["alpha"].rest.request("DELETE", f"{RBAC}/p")
    status, answer = await world.ask(f"{POD}/web.alpha/proxy/x")
    assert status == 403
    assert b'User \\"jane\\" cannot get resource \\"pods/proxy\\"' in answer
    assert not world.backends["alpha"].seen
