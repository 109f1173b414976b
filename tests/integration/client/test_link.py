"""The reversed link over real TLS sockets on loopback: the member dials, the federation asks."""

import asyncio
import functools
import inspect
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
import uvloop
from aiohttp import web
from multidict import CIMultiDict
from tests.support.tls import TestAuthority

from machinery.api.core import PODS
from machinery.client.interface import EventType, ListOptions
from machinery.client.rest import RestClient
from machinery.kit.clock import SystemClock
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import ObjectKey
from machinery.wire.handover import streams
from machinery.wire.link import (
    CONNECTIONS_MAX,
    LINK_PATH,
    OURS,
    VIA_LINK,
    LinkDown,
    LinkVersion,
)
from machinery.wire.linkdialer import DialTarget, LinkDialer
from machinery.wire.linkpool import LINK_URL, LinkPool, UpgradeRefused

pytestmark = pytest.mark.integration
AUTHORITY = TestAuthority()
UPGRADE = {"Connection": "Upgrade", "Upgrade": "echo"}
WEBSOCKET = {"Connection": "Upgrade", "Upgrade": "websocket"}


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_both_loops(test):
    """The test, once on each kind of loop that the link meets."""

    @pytest.mark.parametrize("loop", LOOPS)
    @functools.wraps(test)
    def run(loop, **arguments):
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test(**arguments))

    signature = inspect.signature(test)
    extra = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), extra])
    return run


async def eventually(condition, what, tries=500):
    for _ in range(tries):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never came true: {what}")


class Member:
    """What the member serves."""

    def __init__(self):
        self.concurrent = self.most = 0
        self.cancelled = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request[VIA_LINK] is True
        name = request.path.rsplit("/", 1)[-1]
        return await getattr(self, f"do_{name}")(request)

    async def do_pods(self, request):
        if request.query.get("watch"):
            return await self.watch(request)
        return web.json_response(
            {"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": []}
        )

    async def watch(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for number in range(3):
                pod = f'{{"metadata":{{"name":"p{number}","resourceVersion":"{number}"}}}}'
                await response.write(f'{{"type":"ADDED","object":{pod}}}\n'.encode())
                await asyncio.sleep(0.01)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return response

    async def do_echo_body(self, request):
        body = await request.read()
        headers = {"X-Got": request.headers.get("X-Sent", ""), "X-Query": request.query_string}
        return web.Response(status=201, body=body, headers=headers)

    async def do_slow(self, request):
        self.concurrent += 1
        self.most = max(self.most, self.concurrent)
        await asyncio.sleep(0.3)
        self.concurrent -= 1
        return web.Response(text=request.query["n"])

    async def do_hang(self, request):
        await asyncio.sleep(60)

    async def do_no(self, request):
        return web.json_response({"kind": "Status", "code": 403, "message": "not you"}, status=403)

    async def do_groups(self, request):
        return web.json_response(request.headers.getall("Impersonate-Group"), status=403)

    async def do_chunked_no(self, request):
        response = web.StreamResponse(status=500)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"first ")
        await response.write(b"second")
        return response

    async def do_echo(self, request):
        reader, writer = streams(request)
        # the first bytes leave in one write with the head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nhello ")
        while data := await reader.read(65536):
            writer.write(data)
            if data.endswith(b"bye"):
                break
        await writer.drain()
        writer.close()
        return web.Response()


class Fleet:
    """One federation server with one pool, and one member."""

    def __init__(self, version=OURS):
        self.member, self.tasks = Member(), TaskOwner()
        self.changes = []
        self.pool = LinkPool("alpha", SystemClock(), version=version, on_change=self.changes.append)
        self.seen = []
        self.site = self.dialer = self.port = self._server = None

    async def serve(self, port=0):
        async def handle(request):
            assert request.path == LINK_PATH
            self.seen.append((request.query_string, request.headers.get("Authorization")))
            return await self.pool.accept(request)

        self._server = web.Server(handle)
        loop = asyncio.get_running_loop()
        self.site = await loop.create_server(
            self._server, "127.0.0.1", port, ssl=AUTHORITY.server_context()
        )
        self.port = self.site.sockets[0].getsockname()[1]

    def dial(self, *urls, version=OURS):
        self.dialer = LinkDialer(
            DialTarget(urls or (f"https://localhost:{self.port}",), "cluster=alpha", version),
            self.member.handle,
            SystemClock(),
            tls=AUTHORITY.client_context,
            headers=lambda: {"Authorization": "Bearer t0ken"},
        )
        self.tasks.spawn(self.dialer.run(), "dialer")

    async def stop(self):
        await self.tasks.close()
        if self.dialer is not None:
            await self.dialer.close()
        await self.pool.close()
        self.site.close()
        await self._server.shutdown(1)
        await asyncio.sleep(0.05)


@asynccontextmanager
async def fleet(**options):
    room = Fleet(**options)
    await room.serve()
    try:
        yield room
    finally:
        await room.stop()


@asynccontextmanager
async def linked():
    async with fleet() as room:
        room.dial()
        await eventually(lambda: room.pool.unused == 2, "two connections dialled")
        yield room


@on_both_loops
async def test_two_connections_wait_and_are_replaced_as_they_are_taken():
    async with linked() as room:
        assert room.seen[0] == ("cluster=alpha", "Bearer t0ken")
        assert room.changes == [True]
        await eventually(lambda: room.dialer.connected, "the member knows, too")
        async with await room.pool.request("GET", "/api/v1/pods") as response:
            assert (response.status, (await response.json())["kind"]) == (200, "PodList")
        await eventually(lambda: room.pool.unused == 2, "the taken one replaced")
        assert room.pool.connections == 3
        for _ in range(20):
            async with await room.pool.request("GET", "/api/v1/pods") as response:
                await response.read()
        assert room.pool.connections == 3, "a used connection is kept for the next request"


@on_both_loops
async def test_method_headers_query_and_body_arrive_as_sent():
    async with linked() as room:
        body = bytes(range(256)) * 4000
        async with await room.pool.request(
            "PATCH", "/x/echo_body?a=%2Fb&c=d", {"X-Sent": "yes"}, body
        ) as response:
            assert response.status == 201
            assert await response.read() == body
            assert response.headers["X-Got"] == "yes"
            assert response.headers["X-Query"] == "a=/b&c=d"


@on_both_loops
async def test_a_client_speaks_through_the_link_and_a_watch_streams():
    async with linked() as room:
        client = RestClient(LINK_URL, connector=room.pool.connector)
        assert (await client.list(PODS)).resource_version == "7"
        names = []
        async for event in client.watch(PODS, "", ListOptions(resource_version="7")):
            assert event.type is EventType.ADDED
            names.append(event.object.key)
            if len(names) == 3:
                break
        assert names == [ObjectKey("", f"p{i}") for i in range(3)]
        async with await room.pool.request("GET", "/api/v1/pods?watch=1") as response:
            await response.content.read(1)
        await asyncio.wait_for(room.member.cancelled.wait(), 5)
        await client.close()


@on_both_loops
async def test_64_requests_run_side_by_side():
    async with linked() as room:
        answers = []

        async def one(n):
            async with await room.pool.request("GET", f"/slow?n={n}") as response:
                answers.append(await response.text())

        async with asyncio.TaskGroup() as group:
            for n in range(CONNECTIONS_MAX):
                group.create_task(one(n))
        assert sorted(map(int, answers)) == list(range(CONNECTIONS_MAX))
        assert room.member.most > 8
        assert room.pool.connections <= CONNECTIONS_MAX


@on_both_loops
async def test_more_requests_than_connections_wait_their_turn():
    async with linked() as room:
        answers = []

        async def one(n):
            async with await room.pool.request("GET", f"/slow?n={n}") as response:
                answers.append(await response.text())

        async with asyncio.TaskGroup() as group:
            for n in range(CONNECTIONS_MAX * 2):
                group.create_task(one(n))
        assert len(set(answers)) == CONNECTIONS_MAX * 2
        assert room.pool.connections <= CONNECTIONS_MAX


@on_both_loops
async def test_an_upgrade_owns_its_connection_and_loses_no_byte():
    async with linked() as room:
        up = await room.pool.open_upgrade("GET", "/echo", UPGRADE)
        assert up.headers["Upgrade"] == "echo"
        assert await up.reader.readexactly(6) == b"hello "
        blob = bytes(range(256)) * 8192
        up.writer.write(blob)
        assert await up.reader.readexactly(len(blob)) == blob
        up.writer.write(b"good bye")
        assert await up.reader.read() == b"good bye", "all that was written, then the end"
        up.writer.close()
        await eventually(lambda: room.pool.connections == 2, "its connection is gone")


@on_both_loops
async def test_bytes_right_behind_an_upgrade_request_are_not_lost():
    async with linked() as room:
        up = await room.pool.open_upgrade("GET", "/echo", WEBSOCKET)
        up.writer.write(b"early bye")
        assert await up.reader.read() == b"hello early bye"
        transport = await room.pool.take()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        head = "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        transport.write(head.encode() + b"early bye")
        assert (await reader.read()).endswith(b"\r\n\r\nhello early bye")
        transport.close()


@on_both_loops
async def test_a_refused_upgrade_gives_the_answer_whole():
    async with linked() as room:
        with pytest.raises(UpgradeRefused) as caught:
            await room.pool.open_upgrade("GET", "/no", UPGRADE)
        assert (caught.value.status, b"not you" in caught.value.body) == (403, True)
        with pytest.raises(UpgradeRefused) as caught:
            await room.pool.open_upgrade("GET", "/chunked_no", UPGRADE)
        assert (caught.value.status, caught.value.body) == (500, b"first second")
        with pytest.raises(ValueError, match="line break"):
            await room.pool.open_upgrade("GET", "/x\r\nEvil: 1", UPGRADE)


@on_both_loops
async def test_an_upgrade_carries_every_group_of_the_user():
    async with linked() as room:
        groups = [("Impersonate-Group", group) for group in ("ops", "system:authenticated")]
        with pytest.raises(UpgradeRefused) as caught:
            await room.pool.open_upgrade("GET", "/groups", CIMultiDict([*UPGRADE.items(), *groups]))
        assert json.loads(caught.value.body) == ["ops", "system:authenticated"]


@on_both_loops
async def test_closing_one_side_of_an_upgrade_reaches_the_other():
    async with linked() as room:
        up = await room.pool.open_upgrade("GET", "/echo", UPGRADE)
        await room.dialer.close()
        assert await up.reader.read() in (b"hello ", b"")
        up.writer.close()


@on_both_loops
async def test_cut_in_the_middle_fails_what_runs_and_redials():
    async with linked() as room:
        failed = []

        async def victim():
            try:
                async with await room.pool.request("GET", "/hang") as response:
                    await response.read()
            except (LinkDown, aiohttp.ClientError) as error:
                failed.append(error)

        room.tasks.spawn(victim(), "victim")
        await eventually(lambda: room.pool.connections == 3, "the victim's connection")
        room.pool.drop()
        await eventually(lambda: failed, "the victim fails")
        assert isinstance(failed[0], LinkDown)
        await eventually(lambda: room.pool.unused == 2, "redialled")
        assert room.changes == [True, False, True]
        assert await room.pool.ping() < 5


@on_both_loops
async def test_the_member_finds_a_federation_that_comes_back():
    async with fleet() as room:
        room.dial("https://localhost:1", f"https://localhost:{room.port}")
        await eventually(lambda: room.pool.unused == 2, "the second URL tried")
        room.site.close()
        room.pool.drop()
        await eventually(lambda: not (room.dialer.connected or room.pool.connected), "cut noticed")
        with pytest.raises(LinkDown, match='cluster "alpha" is not connected'):
            await room.pool.request("GET", "/api/v1/pods")
        await asyncio.sleep(0.3)
        assert (
            "refused" in room.dialer.last_error.lower()
            or "connect" in room.dialer.last_error.lower()
        )
        await room.serve(room.port)
        await eventually(lambda: room.pool.unused == 2, "back", tries=1500)


@pytest.mark.parametrize(
    ("federation", "agent", "words"),
    [
        pytest.param(
            LinkVersion(5, 3),
            LinkVersion(2, 1),
            "the oldest still spoken here is 3",
            id="old-agent",
        ),
        pytest.param(
            LinkVersion(2, 1), LinkVersion(5, 3), "this side only up to 2", id="old-federation"
        ),
    ],
)
@on_both_loops
async def test_versions_too_far_apart_are_refused_and_say_why(federation, agent, words):
    async with fleet(version=federation) as room:
        room.dial(version=agent)
        await eventually(lambda: room.dialer.last_error, "refused")
        assert words in room.dialer.last_error
        assert 'cluster "alpha"' in room.dialer.last_error
        assert not room.pool.connected


@on_both_loops
async def test_versions_two_apart_talk():
    async with fleet(version=LinkVersion(5, 3)) as room:
        room.dial(version=LinkVersion(3, 1))
        await eventually(lambda: room.pool.unused == 2, "linked")


@on_both_loops
async def test_a_dial_without_our_upgrade_is_a_bad_request():
    async with fleet() as room:
        connector = aiohttp.TCPConnector(ssl=AUTHORITY.client_context())
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"https://localhost:{room.port}{LINK_PATH}") as response,
        ):
            assert response.status == 400
            assert (await response.json())["message"].startswith("the link is dialled with")
        await asyncio.sleep(0.05)


@on_both_loops
async def test_close_is_clean():
    async with linked() as room:
        await room.tasks.close()
        await room.dialer.close()
        assert not room.dialer.connected
        await eventually(lambda: not room.pool.connected, "federation sees it go")
        assert room.changes == [True, False]
