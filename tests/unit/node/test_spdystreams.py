"""Exec and attach over SPDY, from the streams that a client opens to the Status at the end; and our own attach client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import pytest
from tests.support.pipes import pipe_pair

from cluster_agent.node.cri.attach import attach
from cluster_agent.node.cri.interface import RuntimeFault, StreamRequest
from cluster_agent.node.spdystreams import SpdyStreams, wanted_streams
from machinery.kit.tasks import TaskOwner
from machinery.wire import channels, upgrade
from machinery.wire.spdy.connection import Connection, Stream, StreamPipe, StreamReset

V4, V3, V2, V1 = upgrade.EXEC_PROTOCOLS
ALL = StreamRequest(("x",), stdin=True, stdout=True, stderr=True)
TTY = StreamRequest(("x",), stdin=True, stdout=True, stderr=True, tty=True)
Work = Callable[[SpdyStreams], Awaitable[int]]


@pytest.mark.parametrize(
    ("request_", "protocol", "wanted"),
    [
        (ALL, V4, {"error", "stdin", "stdout", "stderr"}),
        (StreamRequest(stdout=True, stderr=False), V4, {"error", "stdout"}),
        (TTY, V4, {"error", "stdin", "stdout", "resize"}),
        (TTY, V3, {"error", "stdin", "stdout", "resize"}),
        (TTY, V2, {"error", "stdin", "stdout"}),
        (TTY, V1, {"error", "stdin", "stdout"}),
    ],
)
def test_the_streams_that_are_awaited(
    request_: StreamRequest, protocol: str, wanted: set[str]
) -> None:
    assert wanted_streams(request_, protocol) == wanted


@pytest.mark.parametrize(
    ("protocol", "code", "words"),
    [
        (V4, 0, b'{"metadata":{},"status":"Success"}'),
        (V3, 0, b""),
        (V1, 7, b"command terminated with non-zero exit code: exit status 7"),
    ],
)
def test_the_last_words(protocol: str, code: int, words: bytes) -> None:
    assert channels.final_words(channels.exit_code(code), protocol) == words


class Client:
    """kubectl's side."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.streams: dict[str, Stream] = {}

    async def opens(self, *kinds: str) -> None:
        for kind in kinds:
            self.streams[kind] = await self.connection.open({"streamType": kind})

    async def hears(self, kind: str) -> bytes:
        got = b""
        while data := await self.streams[kind].read():
            got += data
        return got


@asynccontextmanager
async def talking(
    work: Work, request: StreamRequest = ALL, protocol: str = V4
) -> AsyncIterator[Client]:
    near, far = pipe_pair()
    owner, connection = TaskOwner(), Connection(near, client=True)
    owner.spawn(SpdyStreams(far, request, protocol).run(work), "server")
    owner.spawn(connection.run(), "client")
    yield Client(connection)
    await owner.close()


async def upper(streams: SpdyStreams) -> int:
    """Loud to stdout, a word to stderr, then 3."""
    while (data := await streams.read_stdin()) is not None:
        await streams.stdout(data.upper())
    await streams.stderr(b"done")
    return 3


async def test_input_its_end_both_outputs_and_the_exit_code() -> None:
    async with talking(upper) as client:
        await client.opens("error", "stdin", "stdout", "stderr")
        stdin = client.streams["stdin"]
        await stdin.write(b"hello ")
        await stdin.write(b"you")
        stdin.close()
        assert await client.hears("stdout") == b"HELLO YOU"
        assert await client.hears("stderr") == b"done"
        assert channels.exit_code_of(orjson.loads(await client.hears("error"))) == 3


async def test_a_command_that_cannot_run() -> None:
    async def work(_streams: SpdyStreams) -> int:
        raise RuntimeFault("no such file")

    async with talking(work, protocol=V2) as client:
        await client.opens("error", "stdin", "stdout", "stderr")
        assert await client.hears("error") == b"no such file"
        assert await client.hears("stdout") == b""


async def test_sizes_of_a_terminal_come_joined_and_in_pieces() -> None:
    async def work(streams: SpdyStreams) -> int:
        for _ in range(3):
            size = await streams.read_resize()
            await streams.stdout(f"{size}".encode())
        return 0

    async with talking(work, TTY) as client:
        await client.opens("error", "stdin", "stdout", "resize")
        resize = client.streams["resize"]
        await resize.write(b'{"Width":80,"Height":24}\n{"Width":0,"Height":1}\n{"Wid')
        await resize.write(b'th":100,"Height":30}\n')
        resize.close()
        assert await client.hears("stdout") == b"(80, 24)(100, 30)None"


async def test_streams_that_were_not_asked_for_or_come_twice_are_refused() -> None:
    async with talking(upper) as client:
        for kinds in (("resize",), ("nonsense",), ("stdin", "stdin")):
            with pytest.raises(StreamReset):
                await client.opens(*kinds)


async def test_a_client_that_goes_away_ends_the_work() -> None:
    ended = asyncio.Event()

    async def work(_streams: SpdyStreams) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 0

    async with talking(work) as client:
        await client.opens("error", "stdin", "stdout", "stderr")
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_client_that_closes_one_output_does_not_end_the_command() -> None:
    async def work(streams: SpdyStreams) -> int:
        await streams.read_stdin()
        await streams.stdout(b"unheard")
        await streams.stderr(b"heard")
        return 0

    async with talking(work) as client:
        await client.opens("error", "stdin", "stdout", "stderr")
        client.streams["stdout"].reset()
        client.streams["stdin"].close()
        assert await client.hears("stderr") == b"heard"


# ------------------------------------------------------------------------------------------------- our own attach
class Ours:
    """The `Streams` of an attach: input in, outputs kept."""

    def __init__(self, *said: bytes) -> None:
        self.said = list(said)
        self.out, self.err = b"", b""

    async def stdout(self, data: bytes) -> None:
        self.out += data

    async def stderr(self, data: bytes) -> None:
        self.err += data

    async def read_stdin(self) -> bytes | None:
        return self.said.pop(0) if self.said else None

    async def read_resize(self) -> tuple[int, int] | None:
        return None


@asynccontextmanager
async def streaming_server(work: Work) -> AsyncIterator[tuple[str, list[str]]]:
    """A container runtime's streaming server of some lines: its URL, and the heads that it saw."""
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if "/gone" in heads[-1]:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")
        else:
            writer.write(upgrade.answer(upgrade.Upgrade(True, V4)))
            with contextlib.suppress(ConnectionError):
                await SpdyStreams(StreamPipe(reader, writer), ALL, V4).run(work)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        served.set()

    served = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    await served.wait()
    server.close()
    await server.wait_closed()


async def test_an_attached_process_sees_the_end_of_its_input() -> None:
    async with streaming_server(upper) as (url, heads):
        ours = Ours(b"one ", b"two")
        with pytest.raises(RuntimeFault, match="exit status 3"):
            await attach(f"{url}/attach/token", ALL, ours)
        assert (ours.out, ours.err) == (b"ONE TWO", b"done")
        assert heads[0].startswith("POST /attach/token HTTP/1.1\r\n")
        assert "Upgrade: SPDY/3.1" in heads[0]


async def test_an_attach_that_the_runtime_refuses() -> None:
    async with streaming_server(upper) as (url, _):
        with pytest.raises(RuntimeFault, match="answered 404: gone"):
            await attach(f"{url}/gone", ALL, Ours())


async def test_a_runtime_that_does_not_answer() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(RuntimeFault, match="attach: "):
        await attach(f"{url}/attach", ALL, Ours())
    server.close()
    await server.wait_closed()
