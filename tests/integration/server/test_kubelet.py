"""The way to a kubelet: logs, exec by WebSocket and by SPDY's upgrade, refusals, and who the node must be.

The kubelet is a stand-in of some lines: it says what it was asked, and echoes bytes after an upgrade.
"""

import asyncio
import base64
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.apiserver import RunningServer, running_server

from machinery.server.audit import default, policy
from machinery.server.audit.config import AuditConfig
from machinery.server.config import ServerConfig
from machinery.server.pki import client_context, server_context
from machinery.server.user import UserInfo

pytestmark = pytest.mark.integration
CONFIG = ServerConfig(static_tokens=(("tok-root", UserInfo("root", ("system:masters",))),))
ROOT = {"Authorization": "Bearer tok-root"}
POD = "/api/v1/namespaces/default/pods/p"
EXEC = f"{POD}/exec?container=c&command=sh&stdin=true&stdout=true"


@dataclass
class Kubelet:
    """Answers on TLS as `system:node:<name>`; `answer` maps the start of a path to bytes."""

    heads: list[str] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    follow: asyncio.Event = field(default_factory=asyncio.Event)
    frames: bytes = b""
    """What it says, all at once, behind the head of a WebSocket; else it echoes."""
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        certificate: Any = writer.get_extra_info("peercert")
        self.peers.append(dict(pair[0] for pair in certificate["subject"])["commonName"])
        target = head.split(" ")[1]
        try:
            if "upgrade:" in head.lower():
                await self._echo(head, reader, writer)
            elif target.startswith("/containerLogs/") and "follow" in target:
                await self._follow(writer)
            else:
                writer.write(self._answer(target))
            await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    def _answer(self, target: str) -> bytes:
        for start, answer in self.answers.items():
            if target.startswith(start):
                return answer
        body = f"asked {target}".encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )

    async def _follow(self, writer: asyncio.StreamWriter) -> None:
        """A first line, and another when told to."""
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n"
        )
        await writer.drain()
        await self.follow.wait()
        writer.write(b"7\r\nsecond\n\r\n0\r\n\r\n")

    async def _echo(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        refusal = self.answers.get("/exec")
        if refusal is not None:
            writer.write(refusal)
            return
        if self.frames:
            lines = b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + lines + self.frames)
            while await reader.read(1024):
                pass
            return
        # bytes right behind the head, in the same write: none may be lost
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello"
        )
        while data := await reader.read(1024):
            writer.write(data.upper())
            if data.endswith(b"bye"):
                return


@dataclass
class World:
    server: RunningServer
    kubelet: Kubelet
    session: aiohttp.ClientSession

    async def add_node(self, name: str, port: int) -> None:
        document = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        await self.post("/api/v1/nodes", document)
        status = {
            "status": {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            }
        }
        await self.server.rest.request(
            "PATCH", f"/api/v1/nodes/{name}/status", body=json.dumps(status).encode(),
            content_type="application/merge-patch+json",
        )  # fmt: skip

    async def add_pod(self, name: str, node: str) -> None:
        spec: dict[str, Any] = {
            "containers": [{"name": "c", "image": "x"}, {"name": "d", "image": "x"}]
        }
        if node:
            spec["nodeName"] = node
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        await self.post("/api/v1/namespaces/default/pods", document)

    async def post(self, path: str, document: dict[str, Any]) -> None:
        await self.server.rest.request("POST", path, body=json.dumps(document).encode())

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.server.api.url + path, headers=ROOT) as answer:
            return answer.status, await answer.text()

    async def upgrade(
        self, method: str, path: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection after the head of an upgrade request, with bytes sent right behind it."""
        tls = client_context(self.server.api.ca_pem)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.api.port, ssl=tls)
        key = base64.b64encode(os.urandom(16)).decode()
        head = [
            f"{method} {path} HTTP/1.1", "Host: x", "Authorization: Bearer tok-root",
            "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: v5.channel.k8s.io",
        ]  # fmt: skip
        writer.write(("\r\n".join(head) + "\r\n\r\nearly ").encode())
        return reader, writer


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with made(CONFIG) as world:
        yield world


@asynccontextmanager
async def made(config: ServerConfig) -> AsyncIterator[World]:
    async with running_server(config=config) as server:
        kubelet = Kubelet()
        pair = server.api.authority.issue_serving("system:node:n1", ["n1"])
        tls = server_context(server.api.ca_pem, pair)
        tls.verify_mode = ssl.CERT_REQUIRED
        listening = await asyncio.start_server(kubelet.serve, "127.0.0.1", 0, ssl=tls)
        kubelet.port = listening.sockets[0].getsockname()[1]
        connector = aiohttp.TCPConnector(ssl=client_context(server.api.ca_pem))
        async with aiohttp.ClientSession(connector=connector) as session:
            world = World(server, kubelet, session)
            await world.add_node("n1", kubelet.port)
            await world.add_pod("p", "n1")
            yield world
        listening.close()
        await listening.wait_closed()


async def test_logs_are_the_kubelets(world: World) -> None:
    status, text = await world.get(f"{POD}/log?container=d&tailLines=5&pretty=true")
    assert (status, text) == (200, "asked /containerLogs/default/p/d?tailLines=5")
    assert world.kubelet.peers == ["kube-apiserver-kubelet-client"], "mutual TLS"


async def test_following_logs_come_as_they_are_written(world: World) -> None:
    url = f"{world.server.api.url}{POD}/log?container=c&follow=true"
    async with world.session.get(url, headers=ROOT) as answer:
        assert await answer.content.readline() == b"first\n"
        world.kubelet.follow.set()
        assert await answer.content.readline() == b"second\n"
        assert await answer.content.read() == b""


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"{POD}/log", 400, "a container name must be specified for pod p, choose one of: [c d]"),
        (f"{POD}/log?container=zz", 400, "container zz is not valid for pod p"),
        ("/api/v1/namespaces/default/pods/nope/log", 404, 'pods \\"nope\\" not found'),
        (f"{POD}/exec?command=ls&stdout=1&container=c", 400, "Upgrade request required"),
        ("/api/v1/nodes/nope/proxy/x", 404, 'nodes \\"nope\\" not found'),
        (f"{POD}/nothing", 404, "could not find the requested resource"),
    ],
)
async def test_refused_here(world: World, path: str, status: int, words: str) -> None:
    code, text = await world.get(path)
    assert code == status
    assert words in text


async def test_a_pod_without_a_node(world: World) -> None:
    await world.add_pod("waiting", "")
    pod = "/api/v1/namespaces/default/pods/waiting"
    assert await world.get(f"{pod}/log?container=c") == (204, "")
    code, text = await world.get(f"{pod}/exec?container=c&command=ls&stdout=1")
    assert code == 400
    assert "does not have a host assigned" in text


async def test_node_proxy(world: World) -> None:
    assert await world.get("/api/v1/nodes/n1/proxy/metrics/cadvisor?x=1") == (
        200,
        "asked /metrics/cadvisor?x=1",
    )


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/v1/nodes/n1:PORT/proxy/healthz", 200, "asked /healthz"),
        ("/api/v1/nodes/ftp:n1:1/proxy/", 400, 'invalid node request \\"ftp:n1:1\\"'),
        ("/api/v1/nodes/n1:9/proxy/", 400, "address not allowed"),
    ],
)
async def test_node_proxy_with_a_port(world: World, path: str, status: int, words: str) -> None:
    code, text = await world.get(path.replace("PORT", str(world.kubelet.port)))
    assert code == status
    assert words in text


@pytest.mark.parametrize(("verbs", "status"), [(["get"], 403), (["get", "create"], 101)])
async def test_an_upgrade_through_a_node_needs_what_exec_needs(
    verbs: list[str], status: int
) -> None:
    config = replace(
        CONFIG, static_tokens=(*CONFIG.static_tokens, ("tok-jane", UserInfo("jane", ())))
    )
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    version = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "r"}}
    rules = [{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": verbs}]
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}
    ref = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "r"}
    async with made(config) as world:
        await world.post(f"{rbac}/clusterroles", {**version, "kind": "ClusterRole", "rules": rules})
        binding = {**version, "kind": "ClusterRoleBinding", "roleRef": ref, "subjects": [subject]}
        await world.post(f"{rbac}/clusterrolebindings", binding)
        path = "/api/v1/nodes/n1/proxy/exec/default/p/c?command=sh&input=1"
        answer = await asked(world, "GET", path, "tok-jane", "Upgrade: websocket")
        assert int(answer.split(" ")[1]) == status
        ran = [head for head in world.kubelet.heads if head.startswith("GET /exec/")]
        assert bool(ran) is (status == 101)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_exec_is_spliced_and_no_byte_is_lost(world: World, method: str) -> None:
    reader, writer = await world.upgrade(method, EXEC)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert await reader.readexactly(5) == b"hello", "sent right behind the kubelet's head"
    assert await reader.readexactly(6) == b"EARLY ", "sent right behind the client's head"
    for number in range(50):
        writer.write(b"line %d\n" % number)
        line = await reader.readline()
        assert line == b"LINE %d\n" % number
    writer.write(b"bye")
    assert await reader.read() == b"BYE", "the end of the kubelet is the end for the client"
    writer.close()
    asked = world.kubelet.heads[-1]
    assert asked.startswith(f"{method} /exec/default/p/c?input=1&output=1&command=sh HTTP/1.1")
    assert "Sec-WebSocket-Protocol: v5.channel.k8s.io" in asked
    assert "Authorization" not in asked, "the caller's credentials stay here"


def records(context: ssl.SSLContext, port: int, count: int) -> list[bytes]:
    """What the first TLS records behind the head of an answer have in them: one read takes no more than one record."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        lines = ("Authorization: Bearer tok-root", "Connection: Upgrade", "Upgrade: websocket")
        tls.sendall("\r\n".join((f"GET {EXEC} HTTP/1.1", "Host: x", *lines, "", "")).encode())
        assert tls.recv(16384).endswith(b"\r\n\r\n")
        return [tls.recv(16384) for _ in range(count)]


async def test_each_frame_of_a_websocket_is_a_record_of_its_own(world: World) -> None:
    """A client that polls its socket before each frame sees every one (`machinery.wire.frames`)."""
    frames = [b"\x82\x05\x01out\n", b"\x82\x05\x02err\n", b"\x88\x00"]
    world.kubelet.frames = b"".join(frames)
    context, port = client_context(world.server.api.ca_pem), world.server.api.port
    assert await asyncio.to_thread(records, context, port, 3) == frames


async def test_a_big_stream_arrives_whole(world: World) -> None:
    reader, writer = await world.upgrade("GET", EXEC)
    await reader.readuntil(b"hello")
    await reader.readexactly(6)
    sent = b"x" * 2_000_000 + b"bye"

    async def send() -> None:
        writer.write(sent)
        await writer.drain()

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        got = await reader.readexactly(len(sent))
    assert got == sent.upper()
    writer.close()


SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io")


async def asked(world: World, method: str, path: str, token: str, *lines: str) -> str:
    """The status line of the answer to an upgrade that this token asks for."""
    tls = client_context(world.server.api.ca_pem)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.api.port, ssl=tls)
    head = [
        f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", "Connection: Upgrade", *lines,
    ]  # fmt: skip
    writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    return answer.splitlines()[0]


async def test_all_protocols_that_an_old_kubectl_offers_reach_the_kubelet(world: World) -> None:
    offered = [f"X-Stream-Protocol-Version: {name}" for name in SPDY_PROTOCOLS]
    status = await asked(
        world, "POST", EXEC, "tok-root", "Upgrade: SPDY/3.1", "Content-Length: 0", *offered
    )
    assert status == "HTTP/1.1 101 Switching Protocols"
    head = world.kubelet.heads[-1]
    assert head.startswith("POST /exec/default/p/c?")
    assert [line for line in head.splitlines() if line.startswith("X-Stream")] == offered
    assert "Upgrade: SPDY/3.1" in head


@pytest.mark.parametrize(
    ("verbs", "get", "post"),
    [(["get"], 403, 403), (["create"], 403, 101), (["get", "create"], 101, 101)],
    ids=["get", "create", "both"],
)
@pytest.mark.parametrize("stream", ["exec", "attach", "portforward"])
async def test_a_websocket_needs_get_and_create_and_spdy_create_alone(
    stream: str, verbs: list[str], get: int, post: int
) -> None:
    config = replace(
        CONFIG, static_tokens=(*CONFIG.static_tokens, ("tok-jane", UserInfo("jane", ())))
    )
    rules = [{"apiGroups": [""], "resources": [f"pods/{stream}"], "verbs": verbs}]
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}
    ref = {"kind": "Role", "apiGroup": "rbac.authorization.k8s.io", "name": "r"}
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    version = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "r"}}
    async with made(config) as world:
        await world.post(f"{rbac}/roles", {**version, "kind": "Role", "rules": rules})
        binding = {**version, "kind": "RoleBinding", "roleRef": ref, "subjects": [subject]}
        await world.post(f"{rbac}/rolebindings", binding)
        path = f"{POD}/{stream}?container=c&command=sh&stdin=true&stdout=true"
        for method, upgrade, wanted in (("GET", "websocket", get), ("POST", "SPDY/3.1", post)):
            status = await asked(world, method, path, "tok-jane", f"Upgrade: {upgrade}")
            assert int(status.split(" ")[1]) == wanted


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("", "/portForward/default/p"),
        ("?ports=80,81&ports=82", "/portForward/default/p?port=80&port=81&port=82"),
    ],
)
async def test_port_forward_names_the_ports_to_the_kubelet(
    world: World, query: str, target: str
) -> None:
    status = await asked(
        world, "GET", f"{POD}/portforward{query}", "tok-root", "Upgrade: websocket"
    )
    assert status.startswith("HTTP/1.1 101 ")
    assert world.kubelet.heads[-1].startswith(f"GET {target} HTTP/1.1")


@pytest.mark.parametrize("ports", ["x", "80,", "-1", "65536"])
async def test_ports_that_are_none(world: World, ports: str) -> None:
    path = f"{POD}/portforward?ports={ports}"
    status = await asked(world, "GET", path, "tok-root", "Upgrade: websocket")
    assert status == "HTTP/1.1 400 Bad Request"


async def test_a_refused_upgrade_is_a_status(world: World) -> None:
    body = b"container not running"
    world.kubelet.answers["/exec"] = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
    reader, writer = await world.upgrade("GET", EXEC)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    status = json.loads(await reader.readexactly(length))
    assert (status["code"], status["message"]) == (404, "container not running")
    writer.close()


async def test_logs_of_a_container_that_is_gone(world: World) -> None:
    body = b"container not found"
    world.kubelet.answers["/containerLogs/"] = (
        b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    code, text = await world.get(f"{POD}/log?container=c")
    assert code == 404
    assert json.loads(text)["message"] == "container not found"


async def test_another_machine_at_the_nodes_address_is_not_believed(world: World) -> None:
    await world.add_node("n2", world.kubelet.port)
    await world.add_pod("q", "n2")
    code, text = await world.get("/api/v1/namespaces/default/pods/q/log?container=c")
    assert code == 500
    assert "is not node n2" in text
    assert not world.kubelet.heads


async def test_a_kubelet_that_is_away(world: World) -> None:
    with_free_port = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = with_free_port.sockets[0].getsockname()[1]
    with_free_port.close()
    await with_free_port.wait_closed()
    await world.add_node("n3", port)
    await world.add_pod("r", "n3")
    code, text = await world.get("/api/v1/namespaces/default/pods/r/log?container=c")
    assert code == 500
    assert "error dialing backend: dial tcp 127.0.0.1" in text


# ------------------------------------------------------------------------------------------------------------ audit
async def told(world: World, path: Path, verb: str) -> list[tuple[str, int]]:
    """(stage, code) of what was recorded of a subresource so far."""
    assert world.server.api.auditor is not None
    await world.server.api.auditor.log.flush()
    events = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [
        (event["stage"], event.get("responseStatus", {}).get("code", 0))
        for event in events
        if event["objectRef"].get("subresource") == verb
    ]


async def test_an_exec_is_recorded_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with made(replace(CONFIG, audit=AuditConfig(str(path), default.policy()))) as world:
        reader, writer = await world.upgrade("GET", EXEC)
        await reader.readuntil(b"hello")
        begun = [("RequestReceived", 0), ("ResponseStarted", 101)]
        assert await told(world, path, "exec") == begun
        writer.write(b"bye")
        await reader.read()
        writer.close()
        code, _ = await world.get(f"{POD}/exec?command=ls&stdout=1&container=c")
        assert code == 400
        assert await told(world, path, "exec") == [
            *begun, ("ResponseComplete", 101),
            ("RequestReceived", 0), ("ResponseStarted", 400), ("ResponseComplete", 400),
        ]  # fmt: skip


async def test_logs_that_a_policy_wants_are_recorded_from_their_start(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    rules = policy.read(
        "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}", "test"
    )
    async with made(replace(CONFIG, audit=AuditConfig(str(path), rules))) as world:
        url = f"{world.server.api.url}{POD}/log?container=c&follow=true"
        async with world.session.get(url, headers=ROOT) as answer:
            assert len(answer.headers["Audit-Id"]) == 36
            assert await answer.content.readline() == b"first\n"
            begun = [("RequestReceived", 0), ("ResponseStarted", 200)]
            assert await told(world, path, "log") == begun
            world.kubelet.follow.set()
            await answer.read()
        assert await told(world, path, "log") == [*begun, ("ResponseComplete", 200)]
