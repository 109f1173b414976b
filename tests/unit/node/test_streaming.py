"""An exec over a WebSocket whose client does odd things."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from cluster_agent.node.cri.interface import StreamRequest
from cluster_agent.node.streaming import PING_S, SIZES_MAX, WebSocketStreams
from machinery.wire import channels

Work = Callable[[WebSocketStreams], Awaitable[int]]
TTY = StreamRequest(("x",), stdin=True, tty=True)


@asynccontextmanager
async def talking(
    work: Work, ping_s: float = PING_S
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        ws = web.WebSocketResponse(protocols=channels.PROTOCOLS, compress=False, max_msg_size=0)
        await ws.prepare(request)
        await WebSocketStreams(ws, TTY, v5=True, ping_s=ping_s).run(work)
        return ws

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=(channels.V5,), max_msg_size=0) as found,
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
