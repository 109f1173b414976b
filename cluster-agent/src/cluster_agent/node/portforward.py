"""Port-forward at the kubelet: connections of a client to ports on a pod's localhost.

By SPDY (on the socket, or tunnelled in WebSocket messages) each connection is two streams with one request id: `data`, and
`error`, on which a text says why there is no connection. An end of either side is passed on as an end, so that a client may
finish its request and still read. By the older WebSocket channels the ports stand in the query, channel 2n is the data of
the n-th, 2n+1 its errors, and the first message of each channel is its port; there an end cannot be said.

Texts are those of upstream's kubelet.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from cluster_agent.node.channelsocket import ChannelSocket
from cluster_agent.node.cri.interface import RuntimeFault
from machinery.kit.tasks import TaskOwner
from machinery.wire import channels
from machinery.wire.spdy.connection import Connection, Pipe, Stream, StreamReset
from machinery.wire.spdy.frames import Status

log = logging.getLogger(__name__)

CHUNK = 32 * 1024
PAIR_S = 30.0
"""How long one stream of a pair waits for the other."""
PAIRS_MAX = 256
"""Pairs at once, complete or not: a client may open a stream, reset it and never complete its pair."""
CHANNEL_PORTS_MAX = 127
"""A channel's number is a byte, and 255 is taken."""

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Ends]]
"""A connection to a port of the pod. Raises RuntimeFault."""


@dataclass(slots=True)
class Target:
    """The pod that is meant."""

    name: str
    """As it stands in messages: the id of its sandbox."""
    dial: Dial

    def failed(self, port: int, why: object) -> str:
        """Why a connection did not come about."""
        return f"error forwarding port {port} to pod {self.name}, uid : {why}"


@dataclass(slots=True)
class _Pair:
    """The two streams of one connection."""

    port: int
    streams: dict[str, Stream] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)


class Forwarding:
    """All connections of one client over one SPDY connection."""

    def __init__(self, pipe: Pipe, target: Target) -> None:
        self._target = target
        self._connection = Connection(pipe, accept=self._accept)
        self._pairs: dict[str, _Pair] = {}
        self._tasks = TaskOwner()

    async def run(self) -> None:
        """Until the client goes away."""
        try:
            await self._connection.run()
        finally:
            await self._tasks.close()

    def _accept(self, stream: Stream) -> Status | None:
        try:
            request, kind, port = stream_headers(stream)
        except ValueError as error:
            log.info("port-forward stream refused", extra={"reason": str(error)})
            return Status.REFUSED_STREAM
        pair = self._pairs.get(request)
        if pair is None:
            if len(self._pairs) >= PAIRS_MAX:
                return Status.REFUSED_STREAM
            pair = self._pairs[request] = _Pair(port)
            _ = self._tasks.spawn(self._serve(request, pair), "port-forward")
        if kind in pair.streams:
            return Status.REFUSED_STREAM
        pair.streams[kind] = stream
        if len(pair.streams) == 2:
            pair.complete.set()
        return None

    async def _serve(self, request: str, pair: _Pair) -> None:
        """One connection, from its first stream to its end."""
        try:
            async with asyncio.timeout(PAIR_S):
                await pair.complete.wait()
            await self._forward(pair)
        except TimeoutError:
            await _tell(
                pair.streams.get("error"), f"request {request}: timed out waiting for streams"
            )
        finally:
            del self._pairs[request]
            for stream in pair.streams.values():
                stream.close()
                stream.discard()

    async def _forward(self, pair: _Pair) -> None:
        data, error = pair.streams["data"], pair.streams["error"]
        try:
            pod = await self._target.dial(pair.port)
        except RuntimeFault as why:
            log.info("port not forwarded", extra={"port": pair.port, "reason": str(why)})
            await _tell(error, self._target.failed(pair.port, why))
            return
        try:
            await relay(data, pod)
        except OSError as why:
            log.debug("forwarded connection broke", extra={"error": str(why)})
            data.reset()


async def _tell(error: Stream | None, text: str) -> None:
    if error is not None:
        with contextlib.suppress(StreamReset):
            await error.write(text.encode())


def stream_headers(stream: Stream) -> tuple[str, str, int]:
    """(request id, `data` or `error`, port) of a stream. Raises ValueError.

    Clients of long ago gave no request id: then the error stream comes first, and the data stream next.
    """
    headers = stream.headers
    kind, text = headers.get("streamtype", ""), headers.get("port", "")
    if kind not in ("data", "error"):
        raise ValueError(f'invalid stream type "{kind[:40]}"')
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 6 and 0 < int(text) < 65536):
        raise ValueError(f'unable to parse "{text[:40]}" as a port')
    implied = stream.id if kind == "error" else stream.id - 2
    return headers.get("requestid", f"implied-{implied}"), kind, int(text)


async def relay(stream: Stream, pod: Ends) -> None:
    """Both ways until both have ended. Raises OSError when either side breaks."""
    reader, writer = pod
    try:
        async with asyncio.TaskGroup() as group:
            _ = group.create_task(_to_pod(stream, writer))
            _ = group.create_task(_from_pod(reader, stream))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        writer.close()


async def _to_pod(stream: Stream, writer: asyncio.StreamWriter) -> None:
    while data := await stream.read():
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _from_pod(reader: asyncio.StreamReader, stream: Stream) -> None:
    while data := await reader.read(CHUNK):
        await stream.write(data)
    stream.close()


# ------------------------------------------------------------------------------------------------------ by WebSocket
class WebSocketPipe:
    """SPDY's bytes in the messages of a WebSocket; where one message ends means nothing."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                return b""
            if message.data:
                return bytes(message.data)

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            await self._socket.send_bytes(data[start : start + CHUNK])

    async def close(self) -> None:
        await self._socket.close()


class ChannelForwarding:
    """All ports of one client over WebSocket channels."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        target: Target,
        ports: Sequence[int],
        protocol: str = channels.V4,
    ) -> None:
        self._socket, self._target, self._ports = socket, target, ports
        self._channels = ChannelSocket(socket, protocol)
        self._input: list[asyncio.Queue[bytes]] = [asyncio.Queue(16) for _ in ports]
        self._writers: dict[int, asyncio.StreamWriter] = {}

    async def run(self) -> None:
        """Until the client goes away, or every port's connection has ended."""
        for channel in range(2 * len(self._ports)):
            first = self._ports[channel // 2].to_bytes(2, "little")
            await self._channels.send(channel, first)
        owner = TaskOwner(on_death=lambda _name, _error: None)
        reading = owner.spawn(self._read(), "port-forward-input")
        serving = [
            owner.spawn(self._serve(number, port, owner), "port-forward")
            for number, port in enumerate(self._ports)
        ]
        everything = owner.spawn(_all(serving), "port-forward-ports")
        try:
            await asyncio.wait({reading, everything}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await owner.close()
            for writer in self._writers.values():
                writer.close()
        await self._socket.close()

    async def _read(self) -> None:
        """Until the client goes away; a port that does not take its input holds the others back, as one socket must."""
        async for frame in self._channels.frames():
            if not frame.data or frame.channel % 2:
                continue
            if frame.channel // 2 < len(self._input):
                await self._input[frame.channel // 2].put(frame.data)

    async def _serve(self, number: int, port: int, owner: TaskOwner) -> None:
        """From the pod's port to the client, to the port's end."""
        try:
            reader, writer = await self._target.dial(port)
        except RuntimeFault as why:
            _ = owner.spawn(self._feed(number), "port-forward-feed")
            text = self._target.failed(port, why).encode()
            await self._channels.send(2 * number + 1, text)
            return
        self._writers[number] = writer
        _ = owner.spawn(self._feed(number), "port-forward-feed")
        try:
            while data := await reader.read(CHUNK):
                await self._channels.send(2 * number, data)
        finally:
            writer.close()

    async def _feed(self, number: int) -> None:
        """From the client to the pod's port. What comes for a port that has ended goes nowhere, and holds nobody back."""
        queue, writer = self._input[number], self._writers.get(number)
        while True:
            data = await queue.get()
            if writer is not None and not writer.is_closing():
                writer.write(data)
                with contextlib.suppress(ConnectionError):
                    await writer.drain()


async def _all(tasks: "Sequence[asyncio.Task[None]]") -> None:
    await asyncio.wait(tasks)


def channel_ports(values: Sequence[str]) -> list[int]:
    """The ports of a query, once each or with commas. Raises ValueError."""
    texts = [text for value in values for text in value.split(",")]
    if not texts or len(texts) > CHANNEL_PORTS_MAX:
        raise ValueError(f'query parameter "port" is required, at most {CHANNEL_PORTS_MAX} times')
    ports = []
    for text in texts:
        if not (text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536):
            raise ValueError(f'query parameter "port" is no port: "{text[:40]}"')
        ports.append(int(text))
    return ports
