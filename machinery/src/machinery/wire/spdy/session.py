"""What one end of a SPDY/3.1 connection knows: its streams, their ends, their windows. Pure: bytes in, events and bytes out.

    session.receive(bytes) → events        session.open/reply/send/reset … → bytes of session.take()

A fault of one stream resets it; a fault of the connection (an unreadable frame or header block, a stream id out of order) is
answered with GOAWAY, and the last event is `Failed`.

**Windows.** SPDY/3.1 has windows of 64 KiB, but the library under kubectl and all clients in Go neither keeps them nor ever sends a
WINDOW_UPDATE: whoever waited for one would wait for ever. So we grant windows as we consume, and keep those of a peer that
has spoken of windows (by a setting or an update); to any other we write as fast as it reads. What a peer may make us hold
is bounded by whoever reads the socket (`connection`), not by trust in windows.
"""

from collections.abc import Mapping
from typing import NamedTuple

from machinery.wire.spdy import frames
from machinery.wire.spdy.frames import (
    DATA_BYTES_MAX,
    STREAM_ID_MAX,
    FrameReader,
    GoAwayStatus,
    MalformedFrame,
    Setting,
    Status,
)
from machinery.wire.spdy.headers import Headers, MalformedHeaders, Packer, Unpacker

STREAMS_MAX = 512
"""Open at once; a port-forward takes two for each of its connections."""
WINDOW_BYTES = 64 * 1024
UNBOUNDED = 2**62


class Opened(NamedTuple):
    """The peer opened a stream; it waits for `reply` or `reset`."""

    stream: int
    headers: Headers


class Replied(NamedTuple):
    """The peer took a stream of ours."""

    stream: int
    headers: Headers


class Received(NamedTuple):
    """Data; to be reported by `consumed` when it is used."""

    stream: int
    data: bytes


class Ended(NamedTuple):
    """The peer sends nothing more on this stream."""

    stream: int


class WasReset(NamedTuple):
    """The stream is gone, both ways."""

    stream: int
    status: int


class Widened(NamedTuple):
    """There may be room to send again."""


class Leaving(NamedTuple):
    """The peer takes no further streams."""

    last: int


class Failed(NamedTuple):
    """The connection is of no further use."""

    reason: str


Event = Opened | Replied | Received | Ended | WasReset | Widened | Leaving | Failed


class _Fault(Exception):
    """The peer broke the rules of the connection."""


class _Stream:
    """One open stream."""

    __slots__ = ("consumed", "id", "ours", "ours_ended", "replied", "theirs_ended", "window")

    def __init__(self, number: int, window: int, *, ours: bool) -> None:
        self.id, self.ours, self.window = number, ours, window
        self.replied = self.ours_ended = self.theirs_ended = False
        self.consumed = 0


class Session:
    """One end of one connection."""

    def __init__(self, *, client: bool, streams_max: int = STREAMS_MAX) -> None:
        self._client, self._streams_max = client, streams_max
        self._reader, self._packer, self._unpacker = FrameReader(), Packer(), Unpacker()
        self._streams: dict[int, _Stream] = {}
        self._next_id = self._next_ping = 1 if client else 2
        self._last_peer = 0
        self._out: list[bytes] = []
        self._out_bytes = self._control_bytes = 0
        self._windows_kept = False
        self._initial_window = self._window = WINDOW_BYTES
        self._consumed = 0
        self._peer_leaves = False
        self.failed = False

    # ---------------------------------------------------------------------------------------------------- what is so
    @property
    def pending(self) -> int:
        """Bytes that `take` would give."""
        return self._out_bytes

    @property
    def pending_control(self) -> int:
        """Those of them that are no data: answers to what the peer sent."""
        return self._control_bytes

    @property
    def open_streams(self) -> int:
        """Streams that have not ended both ways."""
        return len(self._streams)

    def knows(self, stream: int) -> bool:
        """Whether the stream is open, at least one way."""
        return stream in self._streams

    def room(self, stream: int) -> int:
        """How many bytes may be sent on this stream now; 0 when it is closed."""
        found = self._streams.get(stream)
        if found is None or found.ours_ended:
            return 0
        return max(0, min(found.window, self._window)) if self._windows_kept else UNBOUNDED

    def take(self) -> bytes:
        """What is to be written, once."""
        out = b"".join(self._out)
        self._out.clear()
        self._out_bytes = self._control_bytes = 0
        return out

    def _put(self, frame: frames.Frame) -> None:
        raw = frames.encode(frame)
        self._out.append(raw)
        self._out_bytes += len(raw)
        if not isinstance(frame, frames.Data):
            self._control_bytes += len(raw)

    # -------------------------------------------------------------------------------------------------------- sending
    def open(self, headers: Mapping[str, str]) -> int:
        """A new stream of ours. Raises ConnectionError when the connection takes none."""
        if self.failed or self._peer_leaves or self._next_id > STREAM_ID_MAX:
            raise ConnectionError("no further streams can be opened on this connection")
        number = self._next_id
        self._next_id += 2
        self._streams[number] = _Stream(number, self._initial_window, ours=True)
        self._put(frames.SynStream(number, self._packer.pack(headers)))
        return number

    def reply(self, stream: int, headers: Mapping[str, str] | None = None) -> None:
        """Take a stream of the peer's."""
        found = self._streams.get(stream)
        if found is not None and not found.replied:
            found.replied = True
            self._put(frames.SynReply(stream, self._packer.pack(headers or {})))

    def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Data within `room`; with `fin` nothing more comes from us on this stream. On a closed stream: nothing."""
        found = self._streams.get(stream)
        if found is None or found.ours_ended:
            return
        assert len(data) <= self.room(stream)
        for start in range(0, len(data), DATA_BYTES_MAX):
            piece = data[start : start + DATA_BYTES_MAX]
            self._put(frames.Data(stream, piece, fin and start + len(piece) == len(data)))
        found.window -= len(data)
        self._window -= len(data)
        if fin:
            if not data:
                self._put(frames.Data(stream, b"", True))
            found.ours_ended = True
            self._forget_if_ended(found)

    def reset(self, stream: int, status: int = Status.CANCEL) -> None:
        """End a stream both ways, at once."""
        if self._streams.pop(stream, None) is not None:
            self._put(frames.Reset(stream, status))

    def consumed(self, stream: int, size: int) -> None:
        """So much of what was received has been used; the peer may send as much again."""
        self._consumed += size
        if self._consumed >= WINDOW_BYTES // 2:
            self._put(frames.WindowUpdate(0, self._consumed))
            self._consumed = 0
        found = self._streams.get(stream)
        if found is None or found.theirs_ended:
            return
        found.consumed += size
        if found.consumed >= WINDOW_BYTES // 2:
            self._put(frames.WindowUpdate(stream, found.consumed))
            found.consumed = 0

    def ping(self) -> None:
        """Ask the peer for a sign of life; its answer is no event."""
        self._put(frames.Ping(self._next_ping))
        self._next_ping = (self._next_ping + 2) % 2**32

    def widen(self, size: int) -> None:
        """The window of the whole connection is `size` bytes more; by itself it is not larger than a stream's."""
        self._put(frames.WindowUpdate(0, size))

    def leave(self, status: int = GoAwayStatus.OK) -> None:
        """Say that no further streams are taken."""
        self._put(frames.GoAway(self._last_peer, status))

    # ------------------------------------------------------------------------------------------------------ receiving
    def receive(self, data: bytes) -> list[Event]:
        """What these bytes mean. After `Failed` nothing more is read."""
        events: list[Event] = []
        if self.failed:
            return events
        try:
            for frame in self._reader.feed(data):
                events += self._on(frame)
        except (MalformedFrame, MalformedHeaders, _Fault) as error:
            self.failed = True
            self.leave(GoAwayStatus.PROTOCOL_ERROR)
            events.append(Failed(str(error)))
        return events

    def _on(self, frame: frames.Frame) -> list[Event]:
        match frame:
            case frames.Data(stream, data, fin):
                return self._on_data(stream, data, fin)
            case frames.SynStream():
                return self._on_open(frame)
            case frames.SynReply(stream, block, fin):
                return self._on_reply(stream, self._unpacker.unpack(block), fin)
            case frames.More(stream, block, fin):
                self._unpacker.unpack(block)
                return self._on_end(stream) if fin else []
            case frames.Reset(stream, status):
                gone = self._streams.pop(stream, None)
                return [] if gone is None else [WasReset(stream, status)]
            case frames.Ping(number):
                if number % 2 != self._client:  # the peer's own; ours are odd as a client
                    self._put(frame)
                return []
            case frames.Settings(values):
                return self._on_settings(values)
            case frames.GoAway(last, _):
                self._peer_leaves = True
                return [Leaving(last)]
            case frames.WindowUpdate(stream, delta):
                return self._on_window(stream, delta)

    def _on_open(self, frame: frames.SynStream) -> list[Event]:
        headers = self._unpacker.unpack(frame.block)
        number = frame.stream
        if number % 2 == self._client or number <= self._last_peer:
            raise _Fault(f"stream {number} cannot follow stream {self._last_peer}")
        self._last_peer = number
        if len(self._streams) >= self._streams_max:
            self._put(frames.Reset(number, Status.REFUSED_STREAM))
            return []
        opened = _Stream(number, self._initial_window, ours=False)
        opened.ours_ended = frame.unidirectional
        self._streams[number] = opened
        return [Opened(number, headers), *(self._on_end(number) if frame.fin else ())]

    def _on_reply(self, stream: int, headers: Headers, fin: bool) -> list[Event]:
        found = self._streams.get(stream)
        if found is None:
            return []
        if not found.ours or found.replied:
            return self._broken(stream, Status.STREAM_IN_USE)
        found.replied = True
        return [Replied(stream, headers), *(self._on_end(stream) if fin else ())]

    def _on_data(self, stream: int, data: bytes, fin: bool) -> list[Event]:
        found = self._streams.get(stream)
        if found is None:
            self.consumed(stream, len(data))
            if not self._was(stream):
                self._put(frames.Reset(stream, Status.INVALID_STREAM))
            return []
        if found.theirs_ended:
            self.consumed(stream, len(data))
            return self._broken(stream, Status.STREAM_ALREADY_CLOSED)
        if found.ours and not found.replied:
            self.consumed(stream, len(data))
            return self._broken(stream, Status.PROTOCOL_ERROR)
        events: list[Event] = [Received(stream, data)] if data else []
        return [*events, *self._on_end(stream)] if fin else events

    def _was(self, stream: int) -> bool:
        """Whether a stream of that id was ever opened; late frames for it are no fault."""
        ours = stream % 2 == self._client
        return stream < self._next_id if ours else stream <= self._last_peer

    def _on_end(self, stream: int) -> list[Event]:
        found = self._streams.get(stream)
        if found is None or found.theirs_ended:
            return []
        found.theirs_ended = True
        self._forget_if_ended(found)
        return [Ended(stream)]

    def _forget_if_ended(self, stream: _Stream) -> None:
        if stream.ours_ended and stream.theirs_ended:
            self._streams.pop(stream.id, None)

    def _broken(self, stream: int, status: Status) -> list[Event]:
        self.reset(stream, status)
        return [WasReset(stream, status)]

    # -------------------------------------------------------------------------------------------------------- windows
    def _on_settings(self, values: tuple[tuple[int, int], ...]) -> list[Event]:
        for key, value in values:
            if key != Setting.INITIAL_WINDOW_SIZE:
                continue
            if value > STREAM_ID_MAX:
                raise _Fault(f"an initial window of {value} bytes is too large")
            self._windows_kept = True
            for stream in self._streams.values():
                stream.window += value - self._initial_window
            self._initial_window = value
        return [Widened()]

    def _on_window(self, stream: int, delta: int) -> list[Event]:
        self._windows_kept = True
        if stream == 0:
            if not delta or self._window + delta > STREAM_ID_MAX:
                raise _Fault(f"the connection's window cannot grow by {delta}")
            self._window += delta
            return [Widened()]
        found = self._streams.get(stream)
        if found is None:
            return []
        if not delta or found.window + delta > STREAM_ID_MAX:
            return self._broken(stream, Status.FLOW_CONTROL_ERROR)
        found.window += delta
        return [Widened()]
