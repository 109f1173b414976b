"""SPDY streams on asyncio: one task reads, one writes, and each stream is read and written like a pipe.

    pipe (a socket, or a WebSocket that carries SPDY) ↔ Connection ↔ Stream, Stream, …

Bounds: what has been received and not read is at most BUFFERED_BYTES_MAX and one read for the whole connection; then the
pipe is not read on, which holds the peer back whether it keeps windows or not. Of data at most OUT_BYTES_MAX wait to be
written, for its writers wait; the reader waits only while as much of answers (to pings, say) is not written, for two ends
that each read nothing before the other has read would wait for ever. A connection on which nothing arrives for IDLE_S is
closed, as upstream's kubelet does.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Protocol

from machinery.kit.tasks import TaskOwner
from machinery.wire.spdy import session as s
from machinery.wire.spdy.frames import DATA_BYTES_MAX, Status
from machinery.wire.spdy.headers import Headers

READ_BYTES = 64 * 1024
BUFFERED_BYTES_MAX = 4 * 1024 * 1024
OUT_BYTES_MAX = 256 * 1024
IDLE_S = 4 * 3600.0
PING_S = 10.0
"""How often a ping is sent. Nobody waits for its answer, which may stand behind data that nobody reads yet: what is written to a
peer that has gone fails, and that is seen also where nothing is read."""
FLUSH_S = 2.0
"""How long the last bytes may take when the connection is closed."""


class Pipe(Protocol):
    """Bytes both ways."""

    async def read(self) -> bytes:
        """The next bytes; empty at the end. Raises ConnectionError."""
        ...

    async def write(self, data: bytes) -> None:
        """Returns when the far end may be sent more. Raises ConnectionError."""
        ...

    async def close(self) -> None:
        """After what was written has gone."""
        ...


class StreamPipe:
    """A Pipe of asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        return await self._reader.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()


class StreamReset(ConnectionError):
    """The stream was ended at once, by the peer or with its connection."""


class Stream:
    """One stream; made by Connection."""

    def __init__(self, connection: "Connection", number: int, headers: Headers) -> None:
        self._connection, self.id, self.headers = connection, number, headers
        self._pieces: list[bytes] = []
        self._ended = self._reset = self._unwanted = False
        self.closed = False
        """Whether we have said that nothing more is written."""
        self._wake = asyncio.Event()
        self.replied = asyncio.Event()

    async def read(self) -> bytes:
        """The next data; empty at the end. Raises StreamReset."""
        while not self._pieces:
            if self._reset:
                raise StreamReset(f"stream {self.id} was reset")
            if self._ended:
                return b""
            self._wake.clear()
            await self._wake.wait()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._connection.used(self, len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Returns when the connection holds little that is not written. Raises StreamReset."""
        view = memoryview(data)
        while view:
            size = await self._connection.room(self)
            piece = bytes(view[: min(size, DATA_BYTES_MAX)])
            self._connection.send(self, piece)
            view = view[len(piece) :]

    def close(self) -> None:
        """Nothing more is written; the peer may go on."""
        if not self.closed:
            self.closed = True
            self._connection.send(self, b"", fin=True)

    def discard(self) -> None:
        """Nobody reads on: what has come and what still comes holds no other stream back."""
        self._unwanted = True
        self._connection.used(self, self._drop())

    def _drop(self) -> int:
        lost = sum(map(len, self._pieces))
        self._pieces.clear()
        return lost

    def reset(self, status: int = Status.CANCEL) -> None:
        """End both directions."""
        self._connection.reset(self, status)

    @property
    def is_reset(self) -> bool:
        """Whether it was ended at once."""
        return self._reset

    # ------------------------------------------------------------------------------------------- for the connection
    def arrived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._wake.set()
        if self._unwanted:
            self.discard()

    def ended(self) -> None:
        self._ended = True
        self._wake.set()

    def cut(self) -> None:
        """The connection has ended; what came whole can still be read."""
        if not self._ended:
            _ = self.was_reset()

    def was_reset(self) -> int:
        """How many bytes nobody will read any more."""
        self._reset = True
        self._wake.set()
        self.replied.set()
        return self._drop()


Accept = Callable[[Stream], Status | None]
"""Says of a stream that the peer opens why it is refused; None takes it. Must not wait."""


def refuse(_stream: Stream) -> Status | None:
    """Takes no streams."""
    return Status.REFUSED_STREAM


class Connection:
    """One SPDY connection over a pipe."""

    def __init__(
        self,
        pipe: Pipe,
        *,
        client: bool = False,
        accept: Accept = refuse,
        streams_max: int = s.STREAMS_MAX,
        idle_s: float = IDLE_S,
        ping_s: float = PING_S,
    ) -> None:
        self._pipe, self._accept = pipe, accept
        self._idle_s, self._ping_s = idle_s, ping_s
        self._session = s.Session(client=client, streams_max=streams_max)
        self._streams: dict[int, Stream] = {}
        self._buffered = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._closed = False
        self.failure = ""
        """Why the peer was given up, if it broke the rules."""

    @property
    def buffered(self) -> int:
        """Bytes that have come and are not read."""
        return self._buffered

    # ----------------------------------------------------------------------------------------------------- its tasks
    async def run(self) -> None:
        """Until the peer goes away or breaks the rules, or until it is cancelled; all streams are reset then."""
        self._session.widen(BUFFERED_BYTES_MAX - s.WINDOW_BYTES)
        tasks = TaskOwner(on_death=lambda _name, _error: None)
        writer = tasks.spawn(self._write_on(), "spdy-writer")
        _ = tasks.spawn(self._ping_on(), "spdy-pings")
        try:
            with contextlib.suppress(OSError):
                await self._read_on()
        finally:
            self._close()
            try:
                await asyncio.wait({writer}, timeout=FLUSH_S)
                await tasks.close()
            finally:  # whoever is in a hurry cancels once more
                await self._pipe.close()

    async def _read_on(self) -> None:
        while not self._session.failed:
            await self._until(self._may_read)
            if self._closed:
                return
            async with asyncio.timeout(self._idle_s):
                data = await self._pipe.read()
            if not data:
                return
            for event in self._session.receive(data):
                self._on(event)
            self._wake()

    def _may_read(self) -> bool:
        few = self._session.pending_control < OUT_BYTES_MAX
        return few and self._buffered < BUFFERED_BYTES_MAX

    async def _write_on(self) -> None:
        """Write what there is; after the close what is left, and end."""
        try:
            while True:
                if data := self._session.take():
                    self._wake()
                    await self._pipe.write(data)
                elif self._closed:
                    return
                else:
                    await self._until(lambda: self._session.pending > 0)
        finally:
            self._close()

    async def _ping_on(self) -> None:
        while True:
            await asyncio.sleep(self._ping_s)
            self._session.ping()
            self._wake()

    def _close(self) -> None:
        self._closed = True
        for stream in self._streams.values():
            stream.cut()
        self._streams.clear()
        self._wake()

    async def flushed(self) -> None:
        """Everything that was sent has been written, or never will be."""
        await self._until(lambda: not self._session.pending)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _until(self, true: Callable[[], bool]) -> None:
        """Return when that is so, or the connection is closed."""
        while not (self._closed or true()):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    # ---------------------------------------------------------------------------------------------------- the peer's
    def _on(self, event: s.Event) -> None:
        match event:
            case s.Opened(number, headers):
                self._on_opened(Stream(self, number, headers))
            case s.Replied(number, headers):
                if (stream := self._streams.get(number)) is not None:
                    stream.replied.set()
            case s.Received(number, data):
                if (stream := self._streams.get(number)) is not None:
                    self._buffered += len(data)
                    stream.arrived(data)
                else:
                    self._session.consumed(number, len(data))
            case s.Ended(number):
                if (stream := self._streams.get(number)) is not None:
                    stream.ended()
                    self._forget_if_ended(stream)
            case s.WasReset(number, _):
                if (stream := self._streams.pop(number, None)) is not None:
                    self._lose(stream)
            case s.Failed(reason):
                self.failure = reason
            case s.Widened() | s.Leaving():
                pass

    def _on_opened(self, stream: Stream) -> None:
        self._streams[stream.id] = stream
        why = self._accept(stream)
        if why is None:
            self._session.reply(stream.id)
        else:
            self.reset(stream, why)

    def _forget_if_ended(self, stream: Stream) -> None:
        if not self._session.knows(stream.id):
            self._streams.pop(stream.id, None)

    def _lose(self, stream: Stream) -> None:
        """What nobody will read makes room."""
        lost = stream.was_reset()
        self.used(stream, lost)

    # -------------------------------------------------------------------------------------------------------- ours
    async def open(self, headers: Mapping[str, str]) -> Stream:
        """A stream that the peer has taken. Raises ConnectionError, StreamReset."""
        if self._closed:
            raise ConnectionError("the connection is closed")
        number = self._session.open(headers)
        stream = self._streams[number] = Stream(self, number, dict(headers))
        self._wake()
        await stream.replied.wait()
        if stream.is_reset:
            raise StreamReset(f"stream {number} was refused")
        return stream

    async def room(self, stream: Stream) -> int:
        """How much may be sent, when something may. Raises StreamReset."""
        session = self._session
        await self._until(
            lambda: (
                stream.is_reset
                or stream.closed
                or (session.pending < OUT_BYTES_MAX and session.room(stream.id) > 0)
            )
        )
        if self._closed or stream.is_reset or stream.closed:
            raise StreamReset(f"stream {stream.id} was closed")
        return session.room(stream.id)

    def send(self, stream: Stream, data: bytes, *, fin: bool = False) -> None:
        """Within the room."""
        self._session.send(stream.id, data, fin=fin)
        self._forget_if_ended(stream)
        self._wake()

    def used(self, stream: Stream, size: int) -> None:
        """So much was read of the stream."""
        self._buffered -= size
        self._session.consumed(stream.id, size)
        self._wake()

    def reset(self, stream: Stream, status: int) -> None:
        """End the stream both ways."""
        self._session.reset(stream.id, status)
        self._streams.pop(stream.id, None)
        self._lose(stream)
