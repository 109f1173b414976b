"""Attach through CRI's streaming server: a SPDY client, on the loopback.

The container's own pipes belong to containerd, so attach goes through it; exec does not (`cri.tasks`). SPDY because the
WebSocket that containerd speaks (v4) cannot say that the input has ended: by SPDY it does, and a container with `stdinOnce`
sees the end of its input.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import orjson

from cluster_agent.node.cri.interface import RuntimeFault, StreamRequest, Streams
from machinery.kit.tasks import TaskOwner, cancel_all
from machinery.wire import channels, upgrade
from machinery.wire.link import HEAD_BYTES_MAX, MalformedHead, ResponseHead, request_head
from machinery.wire.linkpool import read_refusal
from machinery.wire.spdy.connection import Connection, Stream, StreamPipe, StreamReset

CONNECT_TIMEOUT_S = 10.0
STATUS_BYTES_MAX = 64 * 1024


async def attach(url: str, request: StreamRequest, streams: Streams) -> None:
    """Join the streams until the container's output ends or the caller is cancelled. Raises RuntimeFault."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            pipe = await _upgraded(url)
    except (OSError, EOFError, MalformedHead) as error:
        raise RuntimeFault(f"attach: {error}") from error
    connection = Connection(pipe, client=True)
    owner = TaskOwner(on_death=lambda _name, _error: None)
    _ = owner.spawn(connection.run(), "attach-connection")
    try:
        await _joined(connection, request, streams)
    except ConnectionError as error:
        raise RuntimeFault(f"attach: {error}") from error
    finally:
        await owner.close()
        await pipe.close()  # also where the connection had not begun


async def _upgraded(url: str) -> StreamPipe:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        place.hostname, place.port or 80, limit=HEAD_BYTES_MAX
    )
    try:
        headers = {
            "Host": place.netloc,
            "Connection": "Upgrade",
            "Upgrade": upgrade.SPDY,
            upgrade.PROTOCOL_HEADER: upgrade.STREAM_V4,
            "Content-Length": "0",
        }
        target = f"{place.path}?{place.query}" if place.query else place.path
        writer.write(request_head("POST", target, headers))
        head = ResponseHead.parse(await reader.readuntil(b"\r\n\r\n"))
        said = b"" if head.status == 101 else await read_refusal(reader, head.headers)
    except BaseException:
        writer.close()
        raise
    if head.status != 101:
        writer.close()
        text = said.decode("utf-8", "replace").strip()
        raise RuntimeFault(f"attach: the runtime answered {head.status}: {text}")
    return StreamPipe(reader, writer)


async def _joined(connection: Connection, request: StreamRequest, streams: Streams) -> None:
    opened = {"error": await connection.open({"streamType": "error"})}
    for kind, wanted in (
        ("stdin", request.stdin),
        ("stdout", request.stdout),
        ("stderr", request.stderr and not request.tty),
        ("resize", request.tty),
    ):
        if wanted:
            opened[kind] = await connection.open({"streamType": kind})
    owner = TaskOwner(on_death=lambda _name, _error: None)
    status = owner.spawn(_status(opened["error"]), "attach-status")
    outputs = [
        owner.spawn(_copy(opened[kind], send), f"attach-{kind}")
        for kind, send in (("stdout", streams.stdout), ("stderr", streams.stderr))
        if kind in opened
    ]
    side = [owner.spawn(_input(opened["stdin"], streams), "attach-stdin")] if request.stdin else []
    if request.tty:
        side.append(owner.spawn(_resizes(opened["resize"], streams), "attach-resize"))
    try:
        await asyncio.wait({status, *outputs})
        await cancel_all(side)
        for task in outputs:
            task.result()
        if why := status.result():
            raise RuntimeFault(f"attach: {why}")
    finally:
        await owner.close()


async def _status(stream: Stream) -> str:
    """Why it failed, in the runtime's words; empty where it did not, or was cut."""
    said = b""
    with contextlib.suppress(StreamReset):
        while (data := await stream.read()) and len(said) < STATUS_BYTES_MAX:
            said += data
    try:
        status = orjson.loads(said) if said else {}
    except ValueError:
        return said.decode("utf-8", "replace")
    failed = isinstance(status, dict) and status.get("status") == "Failure"
    return str(status.get("message") or "the runtime gave no reason") if failed else ""


async def _copy(stream: Stream, send: Callable[[bytes], Awaitable[None]]) -> None:
    with contextlib.suppress(StreamReset):
        while data := await stream.read():
            await send(data)


async def _input(stream: Stream, streams: Streams) -> None:
    with contextlib.suppress(StreamReset):
        while (data := await streams.read_stdin()) is not None:
            await stream.write(data)
    stream.close()


async def _resizes(stream: Stream, streams: Streams) -> None:
    with contextlib.suppress(StreamReset):
        while (size := await streams.read_resize()) is not None:
            await stream.write(channels.encode_resize(*size)[1:])
