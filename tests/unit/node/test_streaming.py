"""An exec over a WebSocket whose client does odd things."""

import asyncio
import base64
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest
from aiohttp import web

from cluster_agent.node.cri.interface import StreamRequest
from cluster_agent.node.streaming import PING_S, SIZES_MAX, WebSocketStreams
from machinery.wire import channels

Work = Callable[[WebSocketStreams], Awaitable[int]]
SIZE = b'{"Width":7,"Height":1}'
TTY = StreamRequest(("x",), stdin=True, tty=True)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@asynccontextmanager
async def talking(
    work: Work, ping_s: float = PING_S, protocol: str = channels.V5
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        ws = web.WebSocketResponse(protocols=channels.SERVED, compress=False, max_msg_size=0)
        await ws.prepare(request)
        await WebSocketStreams(ws, TTY, protocol, ping_s=ping_s).run(work)
        return ws

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=(protocol,) if protocol else (), max_msg_size=0) as found,
    ):
        yield found
    await runner.cleanup()


async def everything(ws: aiohttp.ClientWebSocketResponse) -> bytes:
    """All of the standard output."""
    got = b""
    async for message in ws:
        frame = channels.decode(message.data)
        if frame is not None and frame.channel == channels.STDOUT:
            got += frame.data
    return got


async def test_of_many_sizes_the_newest_are_kept() -> None:
    async def work(streams: WebSocketStreams) -> int:
        await streams.read_stdin()  # it comes behind all sizes
        while (size := await streams.read_resize()) is not None and size[0] < 1000:
            await streams.stdout(b"%d " % size[0])
        return 0

    async with talking(work) as ws:
        for width in range(1, 1001):
            await ws.send_bytes(channels.encode_resize(width, 1))
        await ws.send_bytes(channels.encode(channels.STDIN, b"x"))
        shown = await everything(ws)
    assert shown.split() == [b"%d" % width for width in range(1001 - SIZES_MAX, 1000)]


async def test_a_large_input_in_one_message_arrives_whole() -> None:
    async def work(streams: WebSocketStreams) -> int:
        total = 0
        while (data := await streams.read_stdin()) is not None:
            assert len(data) <= channels.MESSAGE_BYTES_MAX
            total += len(data)
        await streams.stdout(b"%d" % total)
        return 0

    async with talking(work) as ws:
        await ws.send_bytes(channels.encode(channels.STDIN, bytes(5_000_000)))
        await ws.send_bytes(channels.encode_close(channels.STDIN))
        assert await everything(ws) == b"5000000"


async def echo(streams: WebSocketStreams) -> int:
    """Until a line says "bye"; what the terminal's width was is the exit code."""
    while (data := await streams.read_stdin()) != b"bye\n":
        await streams.stdout(data or b"?")
    size = await streams.read_resize()
    return size[0] if size is not None else 0


FAILED = b"command terminated with non-zero exit code: exit status 7"
SEVEN = orjson.dumps(channels.exit_code(7))


@pytest.mark.parametrize(
    ("protocol", "sent", "heard"),
    [
        (channels.V4, [b"\0hi\xff", b"\4" + SIZE, b"\0bye\n"], [b"\1", b"\1hi\xff", b"\3" + SEVEN]),
        (channels.V5, ["\0hä\n", "\4" + SIZE.decode(), "\0bye\n"], [b"\1", "\1hä\n".encode(), b"\3" + SEVEN]),
        (channels.V1, [b"\0hi", b"\4" + SIZE, b"\0bye\n"], [b"\1", b"\1hi", b"\3" + FAILED]),
        ("", [b"\0hi", b"\4" + SIZE, b"\0bye\n"], [b"\1", b"\1hi", b"\3" + FAILED]),
        (channels.V4_BASE64, ["0" + text(b"hi\xff"), b"4" + text(SIZE).encode(), "0no base64", "0" + text(b"bye\n")],
         ["1", "1" + text(b"hi\xff"), "3" + text(SEVEN)]),
        (channels.V1_BASE64, ["0" + text(b"hi"), "4" + text(SIZE), "0" + text(b"bye\n")], ["1", "1" + text(b"hi"), "3" + text(FAILED)]),
    ],
)  # fmt: skip
async def test_every_form_of_the_channels(
    protocol: str, sent: list[bytes | str], heard: list[bytes | str]
) -> None:
    """The second is the official Python client, whose texts are text messages also where binary ones are meant."""
    async with talking(echo, protocol=protocol) as ws:
        assert (ws.protocol or "") == protocol
        for message in sent:
            await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))
        assert [message.data async for message in ws] == heard


async def test_before_version_4_nothing_is_said_of_a_success() -> None:
    async def work(_streams: WebSocketStreams) -> int:
        return 0

    async with talking(work, protocol=channels.V1) as ws:
        assert [message.data async for message in ws] == [b"\1"]


async def test_a_client_that_goes_away_is_noticed_though_its_input_is_not_read() -> None:
    """The command never reads: so we read no further either, and hear nothing of the end."""
    ended = asyncio.Event()

    async def work(_streams: WebSocketStreams) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 0

    async with talking(work, ping_s=0.01) as ws:
        gone: list[int] = []

        async def flood() -> None:
            while True:
                await ws.send_bytes(channels.encode(channels.STDIN, bytes(32_000)))
                gone.append(1)

        sending = asyncio.ensure_future(flood())
        before = -1
        while before != len(
            gone
        ):  # until nothing moves any more: the other side has stopped reading
            before = len(gone)
            await asyncio.wait({sending}, timeout=0.2)
        held = ws.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport = ws._writer.transport  # noqa: SLF001 - to break it, not to end it well
        transport.abort()
        async with asyncio.timeout(20):
            await ended.wait()
        sending.cancel()
