"""One exec or attach over SPDY: a stream for each of stdin, stdout, stderr, resize, and `error` for the final Status.

The client opens them all, named by the header `streamType`, and the work begins when the last has come. Half-close is SPDY's
own: the end of stdin arrives as the end of its stream. Protocols v4 to v1 differ little here: v4 says the end as a Status
document (with the exit code), the others as a text, or nothing for success; terminals are resized from v3 on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from cluster_agent.node.cri.interface import RuntimeFault, StreamRequest
from machinery.kit.tasks import TaskOwner
from machinery.wire import channels
from machinery.wire.spdy.connection import Connection, Pipe, Stream, StreamReset
from machinery.wire.spdy.frames import Status
from machinery.wire.upgrade import STREAM_V3, STREAM_V4

log = logging.getLogger(__name__)

CREATION_S = 30.0
"""How long the client may take to open its streams."""
LINGER_S = 1.0
"""How long the client may take to hang up after the Status; then we do."""
RESIZE_BYTES_MAX = 4096

Work = Callable[["SpdyStreams"], Awaitable[int]]


def wanted_streams(request: StreamRequest, protocol: str) -> frozenset[str]:
    """The streams that the client must open."""
    names = {"error"}
    names |= {"stdin"} if request.stdin else set()
    names |= {"stdout"} if request.stdout else set()
    names |= {"stderr"} if request.stderr and not request.tty else set()
    names |= {"resize"} if request.tty and protocol in (STREAM_V3, STREAM_V4) else set()
    return frozenset(names)


class SpdyStreams:
    """The `Streams` of one connection."""

    def __init__(self, pipe: Pipe, request: StreamRequest, protocol: str) -> None:
        self._connection = Connection(pipe, accept=self._accept)
        self._protocol = protocol
        self._wanted = wanted_streams(request, protocol)
        self._streams: dict[str, Stream] = {}
        self._complete = asyncio.Event()
        self._sizes = bytearray()

    def _accept(self, stream: Stream) -> Status | None:
        kind = stream.headers.get("streamtype", "")
        if kind not in self._wanted or kind in self._streams:
            return Status.REFUSED_STREAM
        self._streams[kind] = stream
        if len(self._streams) == len(self._wanted):
            self._complete.set()
        return None

    async def run(self, work: Work) -> None:
        """Do `work` when the streams are there, say how it ended; give it up if the client goes away."""
        owner = TaskOwner(on_death=lambda _name, _error: None)
        reader = owner.spawn(self._connection.run(), "spdy-exec")
        worker = owner.spawn(self._work(work), "exec")
        try:
            await asyncio.wait({reader, worker}, return_when=asyncio.FIRST_COMPLETED)
            if worker.done() and not reader.done():
                await asyncio.wait({reader}, timeout=LINGER_S)
        finally:
            await owner.close()

    async def _work(self, work: Work) -> None:
        try:
            async with asyncio.timeout(CREATION_S):
                await self._complete.wait()
        except TimeoutError:
            log.info(
                "exec gave up", extra={"reason": "timed out waiting for client to create streams"}
            )
            return
        try:
            status = channels.exit_code(await work(self))
        except RuntimeFault as fault:
            status = channels.failure(str(fault))
        error = self._streams["error"]
        for stream in self._streams.values():
            stream.discard()
            if stream is not error:
                stream.close()
        await error.write(channels.final_words(status, self._protocol))
        error.close()
        await self._connection.flushed()

    # ------------------------------------------------------------------------------------------- the runtime's side
    async def stdout(self, data: bytes) -> None:
        await self._write("stdout", data)

    async def stderr(self, data: bytes) -> None:
        await self._write("stderr", data)

    async def _write(self, name: str, data: bytes) -> None:
        """A stream that the client has closed alone swallows; the command need not end for it."""
        stream = self._streams.get(name)
        if stream is None:
            return
        try:
            await stream.write(data)
        except StreamReset:
            log.debug("output to a closed stream", extra={"stream": name, "bytes": len(data)})

    async def read_stdin(self) -> bytes | None:
        stream = self._streams.get("stdin")
        if stream is None:
            return None
        try:
            return await stream.read() or None
        except StreamReset:
            return None

    async def read_resize(self) -> tuple[int, int] | None:
        """Documents stand one behind the other on the stream; none of them has an object inside."""
        stream = self._streams.get("resize")
        if stream is None:
            return None
        while True:
            document, end, rest = self._sizes.partition(b"}")
            if end:
                self._sizes = rest
                if (size := channels.resize_of(bytes(document.strip() + end))) is not None:
                    return size
                continue
            if len(self._sizes) > RESIZE_BYTES_MAX:
                return None
            try:
                more = await stream.read()
            except StreamReset:
                return None
            if not more:
                return None
            self._sizes += more
