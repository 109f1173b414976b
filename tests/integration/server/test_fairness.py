"""A flood by one client, on real sockets: others are served before its queue drains; and requests that do not come."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server

from machinery.server import fairness, handlers
from machinery.server.config import ServerConfig
from machinery.server.limits import Limits
from machinery.server.pki import client_context
from machinery.server.shares import SEATS
from machinery.server.user import UserInfo

pytestmark = pytest.mark.integration
MAPS = "/api/v1/namespaces/default/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
NODE = "system:node:n1"
OBJECTS = 400
FLOOD = 300
USERS = ("flood", "other", "third")
CONFIG = ServerConfig(
    static_tokens=(
        *((name, UserInfo(name, ("system:masters",))) for name in USERS),
        ("node", UserInfo(NODE, ("system:nodes",))),
    ),
    list_segment_objects=4,
    watch_buffer_bytes_max=4096,
)
REFUSED = "Too many requests, please try again later."
Limit = Callable[..., None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Other limits for the servers to come; `scans` is the number of their seats."""

    def set_limits(scans: int = SEATS["scans"], **limits: Any) -> None:
        monkeypatch.setitem(globals(), "CONFIG", replace(CONFIG, limits=Limits(**limits)))
        monkeypatch.setattr(fairness, "SEATS", {**SEATS, "scans": scans})

    return set_limits


class Wire:
    """One TLS connection that speaks HTTP by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, token: str, method: str, path: str, body: Any = None, *lines: str) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *lines]
        if data:
            head += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        self.writer.write("\r\n".join([*head, "", ""]).encode() + data)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.partition(": ") for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name: value for name, _, value in pairs}

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        if "Content-Length" in headers:
            return status, headers, await self.reader.readexactly(int(headers["Content-Length"]))
        body = b""
        while piece := await self.chunk():
            body += piece
        return status, headers, body

    async def ask(
        self, token: str, method: str, path: str, body: Any = None, *lines: str
    ) -> tuple[int, dict[str, str], bytes]:
        self.send(token, method, path, body, *lines)
        return await self.answer()

    async def ended(self) -> bool:
        """Wait until the server has ended the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
            return self.reader.at_eof()
        return True


class Scene:
    """A server with many objects."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.wires: list[Wire] = []
        self._tls = client_context(server.api.ca_pem)

    async def wire(self) -> Wire:
        port = self.server.api.port
        wire = Wire(*await asyncio.open_connection("127.0.0.1", port, ssl=self._tls))
        self.wires.append(wire)
        return wire

    async def fill(self, objects: int, size: int) -> None:
        wire = await self.wire()
        for number in range(objects):
            body = {"metadata": {"name": f"m-{number:04d}"}, "data": {"k": "v" * size}}
            assert (await wire.ask("other", "POST", MAPS, body))[0] == 201

    @property
    def waiting(self) -> int:
        return self.server.api._front._fairness.waiting("scans")


@contextlib.asynccontextmanager
async def scene(objects: int = OBJECTS, size: int = 10) -> AsyncIterator[Scene]:
    async with running_server(config=CONFIG) as server, asyncio.timeout(120):
        made = Scene(server)
        await made.fill(objects, size)
        try:
            yield made
        finally:
            for wire in made.wires:
                wire.writer.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.005)


async def flooded(made: Scene, token: str = "flood") -> list[asyncio.Future[Any]]:
    """Hundreds of LISTs at once, of which as many wait as may; their answers are read in the background."""
    wires = [await made.wire() for _ in range(FLOOD)]
    for wire in wires:
        wire.send(token, "GET", MAPS)
    answers: list[asyncio.Future[Any]] = [asyncio.ensure_future(wire.answer()) for wire in wires]
    await until(lambda: made.waiting == Limits().flow_waiting_max)
    return answers


async def test_a_flood_holds_up_nobody_else() -> None:
    async with scene() as made:
        node, other, third, watch = [await made.wire() for _ in range(4)]
        lease = {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}
        status, _, raw = await node.ask("node", "POST", LEASES, lease)
        assert status == 201
        watch.send("other", "GET", f"{MAPS}?watch=1&resourceVersion={await revision(other)}")
        assert (await watch.head())[0] == 200

        answers = await flooded(made)
        for _ in range(10):
            status, _, raw = await node.ask("node", "PUT", f"{LEASES}/n1", json.loads(raw))
            assert status == 200, "a lease is renewed"
            assert (await other.ask("other", "GET", f"{MAPS}/m-0007?resourceVersion=0"))[0] == 200
            made_now = {"metadata": {"generateName": "new-"}}
            assert (await other.ask("other", "POST", MAPS, made_now, "Expect: nothing"))[0] == 201
            assert json.loads(await watch.chunk())["type"] == "ADDED"
        status, _, body = await third.ask("third", "GET", MAPS)
        assert (status, len(json.loads(body)["items"])) == (200, OBJECTS + 10)
        assert made.waiting > 0, "the flood was not served before the others"

        told = f'inqueue_requests{{priority_level="scans"}} {float(made.waiting)}'
        assert told.encode() in (await other.ask("other", "GET", "/metrics"))[2]

        found = await asyncio.gather(*answers)
        refused = [answer for answer in found if answer[0] == 429]
        assert {status for status, _, _ in found} == {200, 429}
        assert 0 < len(refused) <= FLOOD - Limits().flow_waiting_max
        for _, headers, body in refused:
            told = json.loads(body)
            assert headers["Retry-After"] == "1"
            assert (told["kind"], told["reason"], told["code"]) == (
                "Status",
                "TooManyRequests",
                429,
            )
            assert (told["message"], told["details"]) == (REFUSED, {"retryAfterSeconds": 1})
        assert made.waiting == 0


async def revision(wire: Wire) -> str:
    _, _, body = await wire.ask("other", "GET", f"{MAPS}?limit=1")
    found: str = json.loads(body)["metadata"]["resourceVersion"]
    return found


async def test_ones_own_flood_of_lists_leaves_ones_short_requests_alone() -> None:
    async with scene() as made:
        wire = await made.wire()
        answers = await flooded(made)
        for _ in range(10):
            assert (await wire.ask("flood", "GET", f"{MAPS}/m-0007?resourceVersion=0"))[0] == 200
            assert (await wire.ask("flood", "GET", f"{MAPS}?limit=4"))[0] == 200
        assert made.waiting > 0
        await asyncio.gather(*answers)


async def test_flooders_who_hang_up_leave_no_trace() -> None:
    async with scene() as made:
        wire = await made.wire()
        answers = await flooded(made)
        for flooder in made.wires[-FLOOD:]:
            flooder.writer.transport.abort()
        await asyncio.gather(*answers, return_exceptions=True)
        await until(lambda: made.waiting == 0)
        assert (await wire.ask("flood", "GET", MAPS))[0] == 200
        await until(lambda: all(not level.queue.seated for level in levels(made)))


def levels(made: Scene) -> list[Any]:
    return list(made.server.api._front._fairness._levels.values())


async def test_who_does_not_read_loses_the_seat_to_those_who_wait(limit: Limit) -> None:
    limit(scans=2, seat_s=0.05)
    async with scene(objects=100, size=100_000) as made:
        stuck, wire = await made.wire(), await made.wire()
        stuck.send("flood", "GET", MAPS)
        assert (await stuck.head())[0] == 200
        status, _, body = await wire.ask("flood", "GET", MAPS)
        assert (status, len(json.loads(body)["items"])) == (200, 100)
        stuck.send("flood", "GET", "/api")
        text = b""
        while piece := await stuck.chunk():
            text += piece
        assert len(json.loads(text)["items"]) == 100  # it was not cut
        assert (await stuck.answer())[0] == 200


async def test_a_list_that_is_left_unread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "UNREAD_S", 0.05)
    async with scene(objects=100, size=100_000) as made:
        stuck = await made.wire()
        stuck.send("flood", "GET", MAPS)
        assert (await stuck.head())[0] == 200
        await until(lambda: all(not level.queue.seated for level in levels(made)))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            while await stuck.chunk():
                pass


async def test_who_waits_for_too_long_is_told_to_come_again(limit: Limit) -> None:
    limit(scans=2, seat_s=3600, wait_s=0.05)
    async with scene(objects=100, size=100_000) as made:
        stuck, wire = await made.wire(), await made.wire()
        stuck.send("flood", "GET", MAPS)
        assert (await stuck.head())[0] == 200
        status, headers, _ = await wire.ask("flood", "GET", MAPS)
        assert (status, headers["Retry-After"]) == (429, "1")
        assert (await wire.ask("third", "GET", MAPS))[0] == 200  # a flow never has all the seats


async def test_a_watch_has_its_seat_for_the_initial_state_only(limit: Limit) -> None:
    limit(scans=2, seat_s=3600, wait_s=3600)
    async with scene(objects=20) as made:
        watch, wire = await made.wire(), await made.wire()
        watch.send("flood", "GET", f"{MAPS}?watch=1")
        assert (await watch.head())[0] == 200
        assert (await wire.ask("flood", "GET", MAPS))[0] == 200
        assert made.server.api.watches.count() == 1


async def test_watches_of_one_user_are_bounded(limit: Limit) -> None:
    limit(lasting_max=2)
    async with scene(objects=0) as made:
        one, two, three = [await made.wire() for _ in range(3)]
        for wire in (one, two):
            wire.send("flood", "GET", f"{MAPS}?watch=1")
            assert (await wire.head())[0] == 200
        assert (await three.ask("flood", "GET", f"{MAPS}?watch=1"))[0] == 429
        assert (await three.ask("flood", "GET", MAPS))[0] == 200
        one.writer.close()
        await until(lambda: made.server.api._front._fairness.lasting["flood"] == 1)
        three.send("flood", "GET", f"{MAPS}?watch=1")
        assert (await three.head())[0] == 200


# ------------------------------------------------------------------------------------------------- connections
async def test_a_head_that_comes_byte_by_byte_ends_its_connection_alone(limit: Limit) -> None:
    limit(head_s=0.1, sweep_s=0.02)
    async with scene(objects=1) as made:
        idle, silent, slow = [await made.wire() for _ in range(3)]
        assert (await idle.ask("other", "GET", f"{MAPS}/m-0000"))[0] == 200
        slow.writer.write(b"GET /api HTTP/1.1\r\n")
        over = asyncio.ensure_future(slow.ended())
        while not over.done():
            slow.writer.write(b"X-More: 1\r\n")
            await asyncio.sleep(0.005)
        assert await silent.ended()
        assert (await idle.ask("other", "GET", f"{MAPS}/m-0000"))[0] == 200


async def test_a_body_that_does_not_come_ends_its_connection(limit: Limit) -> None:
    limit(body_grace_s=0.1, sweep_s=0.02)
    async with scene(objects=0) as made:
        wire = await made.wire()
        wire.send(
            "other", "POST", MAPS, None, "Content-Length: 100", "Content-Type: application/json"
        )
        wire.writer.write(b'{"metadata"')
        assert await wire.ended()
        await until(lambda: all(not level.queue.seated for level in levels(made)))


@pytest.mark.parametrize(
    "lines",
    [
        [f"X-{number}: 1" for number in range(200)],
        ["X: " + "v" * 40_000],
    ],
    ids=["many", "long"],
)
async def test_heads_are_bounded(lines: list[str]) -> None:
    async with scene(objects=1) as made:
        wire = await made.wire()
        wire.send("other", "GET", f"{MAPS}/m-0000", None, *lines)
        assert (await wire.answer())[0] == 431
        assert await wire.ended()


async def test_a_head_without_end_is_refused() -> None:
    async with scene(objects=0) as made:
        wire = await made.wire()
        lines = "".join(f"X-{number}: {'v' * 16_000}\r\n" for number in range(5))
        wire.writer.write(f"GET /api HTTP/1.1\r\n{lines}".encode())
        assert (await wire.answer())[0] == 431
        assert await wire.ended()


async def test_a_long_selector_is_no_attack() -> None:
    async with scene(objects=1) as made:
        names = ",".join(f"name-{number}" for number in range(2000))
        wire = await made.wire()
        path = f"{MAPS}?labelSelector=app+in+({names})"
        assert (await wire.ask("other", "GET", path))[0] == 200


async def test_connections_of_one_address_are_bounded(limit: Limit) -> None:
    limit(address_connections_max=3)
    async with running_server(config=CONFIG) as server, asyncio.timeout(60):
        made = Scene(server)
        wires = [await made.wire() for _ in range(3)]
        for wire in wires:
            assert (await wire.ask("other", "GET", "/api"))[0] == 200
        assert await (await made.wire()).ended()
        wires[0].writer.close()
        addresses = server.api._front._server._addresses  # type: ignore[union-attr]
        await until(lambda: addresses.count["127.0.0.1"] == 2)
        assert (await (await made.wire()).ask("other", "GET", "/api"))[0] == 200
        for wire in made.wires:
            wire.writer.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_half_an_identity_is_refused(method: str) -> None:
    async with scene(objects=1) as made:
        wire = await made.wire()
        path = f"{MAPS}/m-0000" if method == "GET" else MAPS
        body = None if method == "GET" else {"metadata": {"name": "new"}}
        answer = await wire.ask("other", method, path, body, "Impersonate-Extra-Scopes: all")
        told = json.loads(answer[2])
        assert (answer[0], told["reason"]) == (400, "BadRequest")
        assert told["message"] == (
            'requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string(nil), '
            'Extra:map[string][]string{"scopes":[]string{"all"}}} without impersonating a user name'
        )
