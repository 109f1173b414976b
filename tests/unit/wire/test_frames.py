"""A WebSocket's bytes cut at frame ends, and what a client that polls its socket sees through a splice over TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.client import Configuration
from kubernetes.stream.ws_client import WSClient
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from machinery.kit.clock import SystemClock
from machinery.server.pki import CertificateAuthority, server_context
from machinery.wire import channels
from machinery.wire.frames import FrameEnds
from machinery.wire.splice import splice

LIMIT_S = 15.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SIZES = (0, 1, 125, 126, 127, 65535, 65536, 70000)


def framed(size: int, *, masked: bool = False) -> bytes:
    return Frame(Opcode.BINARY, bytes(size)).serialize(mask=masked)


def cut(ends: FrameEnds, chunks: list[bytes]) -> list[bytes]:
    return [bytes(piece) for chunk in chunks for piece in ends.cut(chunk)]


@pytest.mark.parametrize("masked", [False, True])
def test_frames_that_come_together_are_parted(masked: bool) -> None:
    frames = [framed(size, masked=masked) for size in SIZES]
    assert cut(FrameEnds(), [b"".join(frames)]) == frames


def test_a_piece_of_a_frame_is_passed_on_at_once() -> None:
    ends = FrameEnds()
    first, second = framed(300), framed(5)
    assert cut(ends, [first[:1]]) == [first[:1]], "not even a head is waited for"
    assert cut(ends, [first[1:3]]) == [first[1:3]]
    assert cut(ends, [first[3:200]]) == [first[3:200]]
    assert cut(ends, [first[200:] + second[:4]]) == [first[200:], second[:4]]
    assert cut(ends, [second[4:]]) == [second[4:]]


@settings(deadline=None)
@given(st.lists(st.sampled_from(SIZES[:-3]), max_size=8), st.lists(st.integers(1, 400)))
def test_nothing_is_lost_and_every_end_is_a_cut(sizes: list[int], steps: list[int]) -> None:
    frames = [framed(size) for size in sizes]
    stream = b"".join(frames)
    chunks, at = [], 0
    for step in [*steps, len(stream)]:
        chunks.append(stream[at : at + step])
        at += step
    pieces = cut(FrameEnds(), [chunk for chunk in chunks if chunk])
    assert b"".join(pieces) == stream
    cuts = {sum(map(len, pieces[:n])) for n in range(len(pieces) + 1)}
    assert {sum(map(len, frames[:n])) for n in range(len(frames) + 1)} <= cuts


# ------------------------------------------------------------------------------------------------ with the client itself
async def kubelet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that a short command says, in one piece behind the head, as a busy reader in between finds it. Nothing follows."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = dict(line.split(": ", 1) for line in head.split("\r\n") if ": " in line)
    accepted = accept_key(lines["Sec-WebSocket-Key"])
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accepted}\r\n\r\n".encode()
    )
    status = orjson.dumps(channels.exit_code(7))
    said = [(channels.STDOUT, b"out\n"), (channels.STDERR, b"err\n"), (channels.ERROR, status)]
    messages = [channels.encode(channel, data) for channel, data in said]
    frames = [Frame(Opcode.BINARY, message).serialize(mask=False) for message in messages]
    writer.write(b"".join([*frames, Frame(Opcode.CLOSE, b"").serialize(mask=False)]))
    await reader.read(1)  # the client's own closing frame


@contextlib.asynccontextmanager
async def spliced() -> AsyncIterator[tuple[str, Configuration]]:
    """The kubelet behind a splice that speaks TLS to its clients: its URL, and what a client needs to trust it."""
    authority = CertificateAuthority.create("test", SystemClock())
    pair = authority.issue_serving("test", ["127.0.0.1"], 30)
    context = server_context(authority.certificate_pem.decode(), pair)
    context.verify_mode = ssl.CERT_NONE

    over = asyncio.Semaphore(0)

    async def middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", back.sockets[0].getsockname()[1])
        there[1].write(await reader.readuntil(b"\r\n\r\n"))
        writer.write(await there[0].readuntil(b"\r\n\r\n"))
        with contextlib.suppress(OSError):  # the client goes without a word of TLS
            await splice((reader, writer), there, frames=True)
        writer.transport.abort()

    def whole(serve: Serve) -> Serve:
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await serve(reader, writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            over.release()

        return one

    back = await asyncio.start_server(whole(kubelet), "127.0.0.1", 0)
    front = await asyncio.start_server(whole(middle), "127.0.0.1", 0, ssl=context)
    configuration = Configuration()
    configuration.verify_ssl = False
    configuration.no_proxy = "*"
    try:
        yield f"wss://127.0.0.1:{front.sockets[0].getsockname()[1]}/exec", configuration
        await over.acquire()
        await over.acquire()
    finally:
        back.close()
        front.close()


def told(url: str, configuration: Configuration) -> tuple[str, str, int | None]:
    """Both outputs and the exit code, read as `stream` does with `_preload_content=False`."""
    client = WSClient(configuration, url, {}, capture_all=True)
    client.run_forever(timeout=LIMIT_S)
    try:
        return client.read_stdout(timeout=0), client.read_stderr(timeout=0), client.returncode
    finally:
        client.sock.shutdown()  # its own close() leaves the socket open when the server said the end


async def test_the_python_client_sees_frames_that_came_together() -> None:
    """It polls its socket before each frame, and does not know of what TLS has already taken from there."""
    async with spliced() as (url, configuration):
        seen = await asyncio.to_thread(told, url, configuration)
    assert seen == ("out\n", "err\n", 7)
