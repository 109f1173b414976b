"""`pods/proxy` and `services/proxy`: real HTTP to a stand-in of a pod, by whatever client, with bodies and upgrades.

Pods have addresses of a network that is not there: the server is handed the way to them, which ends at the stand-in.
"""

import asyncio
import hashlib
import io
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.webpod import BIG, Backend, endpoint

from machinery.meta import errors
from machinery.server.app import Extensions
from machinery.server.config import ServerConfig
from machinery.server.pki import client_context
from machinery.server.proxy.places import Place
from machinery.server.proxy.relay import direct
from machinery.server.user import UserInfo

pytestmark = pytest.mark.integration
CONFIG = ServerConfig(
    static_tokens=(
        ("tok-root", UserInfo("root", ("system:masters",))),
        ("tok-jane", UserInfo("jane", ())),
    )
)
POD = "/api/v1/namespaces/default/pods"
SERVICE = "/api/v1/namespaces/default/services"


@dataclass
class World:
    server: RunningServer
    backend: Backend
    session: aiohttp.ClientSession

    async def post(self, path: str, document: dict[str, Any]) -> None:
        await self.server.rest.request("POST", path, body=orjson.dumps(document))

    async def add_pod(self, name: str, ip: str, *, port: int = 80) -> None:
        container = {"name": "c", "image": "x", "ports": [{"containerPort": port}]}
        await self.post(
            POD,
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name},
                "spec": {"containers": [container]},
            },
        )
        status = {"status": {"podIP": ip, "podIPs": [{"ip": ip}] if ip else None}}
        await self.server.rest.request(
            "PATCH", f"{POD}/{name}/status", body=orjson.dumps(status),
            content_type="application/merge-patch+json",
        )  # fmt: skip

    async def add_service(self, name: str, *endpoints: dict[str, Any]) -> None:
        ports = [{"name": "http", "port": 8000}, {"name": "tls", "port": 8443}]
        metadata = {"name": name}
        await self.post(
            SERVICE,
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}},
        )
        await self.post(
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 80}, {"name": "tls", "port": 443}],
                "endpoints": list(endpoints),
            },
        )

    async def ask(
        self, path: str, method: str = "GET", *, token: str = "tok-root", **more: Any
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        async with self.session.request(
            method, self.server.api.url + path, headers=headers, allow_redirects=False, **more
        ) as answer:
            return answer.status, await answer.read()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with made() as world:
        yield world


def session_of(server: RunningServer) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=client_context(server.api.ca_pem))
    )


@asynccontextmanager
async def made() -> AsyncIterator[World]:
    backend = Backend()
    async with (
        running_server(config=CONFIG, extensions=Extensions(reach=backend.reach)) as server,
        backend.serving(server.api),
        session_of(server) as session,
    ):
        world = World(server, backend, session)
        await world.add_pod("web", "10.77.0.5")
        yield world


# ---------------------------------------------------------------------------------------------------------------- pods
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("web", Place("10.77.0.5", "80", False)),
        ("web:80", Place("10.77.0.5", "80", False)),
        ("http:web:80", Place("10.77.0.5", "80", False)),
        ("https:web:443", Place("10.77.0.5", "443", True)),
    ],
)
async def test_a_pod(world: World, name: str, place: Place) -> None:
    asked = await world.ask(f"{POD}/{name}/proxy/a%2Fb/?q=1&q=2")
    assert asked == (200, b"GET /a%2Fb/?q=1&q=2")
    assert world.backend.dialled == [place]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("counted", [True, False], ids=["length", "chunks"])
async def test_bodies_of_every_method(world: World, method: str, counted: bool) -> None:
    sent = b"0123456789abcdef" * (BIG // 16)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(sent), 100_000):
            yield sent[start : start + 100_000]

    body = io.BytesIO(sent) if counted else pieces()
    status, answer = await world.ask(f"{POD}/web/proxy/hash", method, data=body)
    assert status == 200
    assert orjson.loads(answer) == {"sha256": hashlib.sha256(sent).hexdigest(), "method": method}
    chunked = world.backend.seen[-1].headers.get("Transfer-Encoding") == "chunked"
    assert chunked is not counted


async def test_who_waits_to_be_invited_is(world: World) -> None:
    asked = await world.ask(f"{POD}/web/proxy/hash", "POST", data=io.BytesIO(b"x"), expect100=True)
    assert orjson.loads(asked[1])["sha256"] == hashlib.sha256(b"x").hexdigest()


async def test_what_passes_and_what_does_not(world: World) -> None:
    headers = {"X-Mine": "1", "Cookie": "c=d", "Impersonate-User": "root"}
    async with world.session.get(
        f"{world.server.api.url}{POD}/web/proxy/x",
        headers={
            "Authorization": "Bearer tok-root",
            "Impersonate-Group": "system:masters",
            **headers,
        },
    ) as answer:
        assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["X-A"] == "b"
    seen = world.backend.seen[-1].headers
    assert (seen["X-Mine"], seen["Cookie"]) == ("1", "c=d")
    assert seen["X-Forwarded-Uri"] == f"{POD}/web/proxy/x"
    assert seen["X-Forwarded-For"] == "127.0.0.1"
    assert not [name for name in seen if name.startswith(("Authorization", "Impersonate"))]


async def test_statuses_heads_and_options_are_the_backends(world: World) -> None:
    assert await world.ask(f"{POD}/web/proxy/teapot") == (418, b"short and stout")
    assert await world.ask(f"{POD}/web/proxy/x", "HEAD") == (200, b"")
    assert await world.ask(f"{POD}/web/proxy/x", "OPTIONS") == (200, b"OPTIONS /x")


async def test_a_long_answer_streams(world: World) -> None:
    status, answer = await world.ask(f"{POD}/web/proxy/stream")
    assert (status, len(answer)) == (200, BIG)


async def test_half_an_answer_is_none(world: World) -> None:
    with pytest.raises(aiohttp.ClientError):
        await world.ask(f"{POD}/web/proxy/broken")


async def test_the_path_of_a_page_ends_in_a_slash(world: World) -> None:
    url = world.server.api.url + POD
    headers = {"Authorization": "Bearer tok-root"}
    async with world.session.get(
        f"{url}/web/proxy?a=b", headers=headers, allow_redirects=False
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, f"{POD}/web/proxy/?a=b")
    async with world.session.get(f"{url}/web/proxy?a=b", headers=headers) as answer:
        assert await answer.text() == "GET /?a=b"


async def test_a_redirect_leads_back(world: World) -> None:
    async with world.session.get(
        f"{world.server.api.url}{POD}/web/proxy/login",
        headers={"Authorization": "Bearer tok-root"},
    ) as answer:
        assert await answer.text() == "GET /welcome?a=b"
        assert answer.url.raw_path == f"{POD}/web/proxy/welcome"


async def test_a_websocket(world: World) -> None:
    async with world.session.ws_connect(
        f"{world.server.api.url}{POD}/web/proxy/socket?q=1",
        headers={"Authorization": "Bearer tok-root"}, protocols=("chat",),
    ) as socket:  # fmt: skip
        assert socket.protocol == "chat"
        for word in ("one", "two"):
            await socket.send_str(word)
            assert await socket.receive_str() == word.upper()
    assert world.backend.seen[-1].raw_path == "/socket?q=1"


async def test_an_upgrade_that_is_refused_is_an_answer(world: World) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "chat"}
    assert await world.ask(f"{POD}/web/proxy/teapot", headers=headers) == (418, b"short and stout")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"{POD}/nope/proxy/", 404, 'pods "nope" not found'),
        (f"{POD}/ftp:web:21/proxy/", 400, 'invalid pod request "ftp:web:21"'),
        (f"{POD}/a:b:c:d/proxy/", 400, 'invalid pod request "a:b:c:d"'),
        (f"{POD}/young/proxy/", 400, "address not allowed"),
        (f"{POD}/local/proxy/", 400, "address not allowed"),
        (
            f"{POD}/web:81/proxy/", 503,
            "error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        (
            f"{POD}/https:web:80/proxy/", 503,
            "error trying to reach service: tls: first record does not look like a TLS handshake",
        ),
        (f"{SERVICE}/nope:8000/proxy/", 404, 'services "nope" not found'),
        (f"{SERVICE}/web:81/proxy/", 503, 'no service port 81 found for service "web"'),
        (f"{SERVICE}/web:http/proxy/", 503, 'no endpoints available for service "web:http"'),
        (f"{SERVICE}/web/proxy/", 503, 'no endpoints available for service "web"'),
    ],
)  # fmt: skip
async def test_refusals(world: World, path: str, status: int, words: str) -> None:
    await world.add_pod("young", "")
    await world.add_pod("local", "127.0.0.1")
    await world.add_service("web", endpoint("10.77.0.9", "gone"), endpoint("10.77.0.9", "web"))
    code, answer = await world.ask(path)
    assert code == status
    assert orjson.loads(answer)["message"] == words


async def test_a_port_that_is_no_port() -> None:
    for port, words in (("http", "lookup tcp/http: unknown port"), ("99999", "address 99999")):
        with pytest.raises(errors.ServiceUnavailable) as refused:
            await direct(Place("10.77.0.5", port, False))
        assert words in refused.value.message


# ------------------------------------------------------------------------------------------------------------- services
async def test_a_service_is_its_ready_pods_in_turn(world: World) -> None:
    await world.add_pod("other", "10.77.0.6")
    await world.add_service("web", endpoint("10.77.0.5", "web"), endpoint("10.77.0.6", "other"))
    for name in ("web:8000", "web:http", "http:web:http", "web:8000"):
        assert await world.ask(f"{SERVICE}/{name}/proxy/x") == (200, b"GET /x")
    assert {place.host for place in world.backend.dialled} == {"10.77.0.5", "10.77.0.6"}
    assert await world.ask(f"{SERVICE}/https:web:tls/proxy/x") == (200, b"GET /x")
    assert world.backend.dialled[-1].tls


# ---------------------------------------------------------------------------------------------------------------- rights
@pytest.mark.parametrize(
    ("verb", "method"),
    [
        ("get", "GET"),
        ("create", "POST"),
        ("update", "PUT"),
        ("patch", "PATCH"),
        ("delete", "DELETE"),
    ],
)
async def test_the_verb_is_that_of_the_method(world: World, verb: str, method: str) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    version = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "r"}}
    rules = [
        {
            "apiGroups": [""],
            "resources": ["pods/proxy"],
            "verbs": [verb],
            "resourceNames": ["web:80"],
        }
    ]
    await world.post(f"{rbac}/roles", {**version, "kind": "Role", "rules": rules})
    ref = {"kind": "Role", "apiGroup": "rbac.authorization.k8s.io", "name": "r"}
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}
    binding = {**version, "kind": "RoleBinding", "roleRef": ref, "subjects": [subject]}
    await world.post(f"{rbac}/rolebindings", binding)
    for other in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        status, _ = await world.ask(f"{POD}/web:80/proxy/x", other, token="tok-jane")
        assert status == (200 if other == method else 403)
    status, answer = await world.ask(f"{POD}/web/proxy/x", method, token="tok-jane")
    assert status == 403, "the name in a rule is the whole name in the URL"
    assert b'cannot %b resource \\"pods/proxy\\"' % verb.encode() in answer


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
async def test_kubectl(world: World, tmp_path: Path) -> None:
    await world.add_service("web", endpoint("10.77.0.5", "web"))
    kubeconfig = world.server.write_kubeconfig(tmp_path)

    async def kubectl(*words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", kubeconfig, *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        return (await process.communicate())[0].decode()

    assert await kubectl("get", "--raw", f"{SERVICE}/web:8000/proxy/") == "GET /"
    assert await kubectl("get", "--raw", f"{POD}/web/proxy") == "GET /"
    text = tmp_path / "text"
    text.write_text("hello")
    digest = hashlib.sha256(b"hello").hexdigest()
    said = await kubectl("create", "--raw", f"{POD}/web/proxy/hash", "-f", str(text))
    assert orjson.loads(said) == {"sha256": digest, "method": "POST"}
