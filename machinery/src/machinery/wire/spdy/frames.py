"""SPDY/3.1's frames: values, their bytes, and a reader that is fed whatever arrives.

    control   1 | version 3 (15 bits) | type (16) | flags (8) | length (24) | …
    data      0 | stream (31 bits)                | flags (8) | length (24) | …

A control frame is read whole and may have CONTROL_BYTES_MAX bytes. A data frame has no such bound, for clients in Go write
as much as they hold into one; it is handed on in the pieces that arrive, so nothing grows with it. Control frames of types
that nobody knows are passed over, as SPDY asks. Pure; what frames mean is `session`'s matter.
"""

import enum
import struct
from collections.abc import Iterator
from typing import NamedTuple

VERSION = 3
HEAD_BYTES = 8
CONTROL_BYTES_MAX = 64 * 1024
DATA_BYTES_MAX = 32 * 1024
"""Data in one frame of ours."""
SETTINGS_MAX = 64
STREAM_ID_MAX = 2**31 - 1

FIN, UNIDIRECTIONAL = 1, 2


class Kind(enum.IntEnum):
    """Types of control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Status(enum.IntEnum):
    """Why a stream was reset."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9


class GoAwayStatus(enum.IntEnum):
    """Why a connection ends."""

    OK = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class Setting(enum.IntEnum):
    """The settings that we heed."""

    MAX_CONCURRENT_STREAMS = 4
    INITIAL_WINDOW_SIZE = 7


class MalformedFrame(ValueError):
    """Bytes that are no SPDY/3 frame, or one beyond the limits; the connection cannot go on."""


class SynStream(NamedTuple):
    """A new stream; `block` is compressed."""

    stream: int
    block: bytes
    fin: bool = False
    unidirectional: bool = False
    associated: int = 0
    priority: int = 0


class SynReply(NamedTuple):
    """The other side's first word on a stream."""

    stream: int
    block: bytes
    fin: bool = False


class More(NamedTuple):
    """HEADERS: more of them for an open stream."""

    stream: int
    block: bytes
    fin: bool = False


class Reset(NamedTuple):
    """RST_STREAM. `status` is a Status, or a number that nobody knows."""

    stream: int
    status: int


class Settings(NamedTuple):
    """(id, value), in order."""

    values: tuple[tuple[int, int], ...]


class Ping(NamedTuple):
    """Odd ids are the client's."""

    id: int


class GoAway(NamedTuple):
    """No further streams; `last` is the last one that was taken."""

    last: int
    status: int


class WindowUpdate(NamedTuple):
    """`delta` bytes more may be sent; stream 0 is the whole connection."""

    stream: int
    delta: int


class Data(NamedTuple):
    """A piece of a data frame; `fin` comes with its last piece."""

    stream: int
    data: bytes
    fin: bool = False


Control = SynStream | SynReply | More | Reset | Settings | Ping | GoAway | WindowUpdate
Frame = Control | Data


# ------------------------------------------------------------------------------------------------------------ writing
def encode(frame: Frame) -> bytes:
    """The bytes of a frame."""
    match frame:
        case Data(stream, data, fin):
            assert len(data) < 1 << 24
            return struct.pack(">II", stream, (FIN if fin else 0) << 24 | len(data)) + data
        case SynStream(stream, block, fin, unidirectional, associated, priority):
            flags = (FIN if fin else 0) | (UNIDIRECTIONAL if unidirectional else 0)
            body = struct.pack(">IIBB", stream, associated, priority << 5, 0) + block
            return _control(Kind.SYN_STREAM, body, flags)
        case SynReply(stream, block, fin):
            return _control(Kind.SYN_REPLY, stream.to_bytes(4, "big") + block, FIN if fin else 0)
        case More(stream, block, fin):
            return _control(Kind.HEADERS, stream.to_bytes(4, "big") + block, FIN if fin else 0)
        case Reset(stream, status):
            return _control(Kind.RST_STREAM, struct.pack(">II", stream, status))
        case Settings(values):
            entries = b"".join(struct.pack(">II", key, value) for key, value in values)
            return _control(Kind.SETTINGS, len(values).to_bytes(4, "big") + entries)
        case Ping(number):
            return _control(Kind.PING, number.to_bytes(4, "big"))
        case GoAway(last, status):
            return _control(Kind.GOAWAY, struct.pack(">II", last, status))
        case WindowUpdate(stream, delta):
            return _control(Kind.WINDOW_UPDATE, struct.pack(">II", stream, delta))


def _control(kind: Kind, body: bytes, flags: int = 0) -> bytes:
    assert len(body) <= CONTROL_BYTES_MAX
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(body)) + body


# ------------------------------------------------------------------------------------------------------------ reading
class FrameReader:
    """Bytes in, frames out; keeps at most one control frame."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._stream, self._left, self._fin = 0, 0, False

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames and pieces of data that are complete now; to be read to the end. Raises MalformedFrame."""
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield Data(self._stream, piece, self._fin and not self._left)
                continue
            wanted = self._wanted() - len(self._held)
            self._held += data[at : at + wanted]
            at += wanted
            if len(self._held) < self._wanted():
                continue
            head, body = bytes(self._held[:HEAD_BYTES]), bytes(self._held[HEAD_BYTES:])
            self._held.clear()
            if head[0] & 0x80:
                frame = _decode(head, body)
                if frame is not None:
                    yield frame
            else:
                self._stream, self._left = _pair(head[:4] + bytes(1) + head[5:])
                self._fin = bool(head[4] & FIN)
                if not self._left:
                    yield Data(self._stream, b"", self._fin)

    def _wanted(self) -> int:
        """The bytes that must be held before something can be said: a head, or a whole control frame."""
        if len(self._held) < HEAD_BYTES or not self._held[0] & 0x80:
            return HEAD_BYTES
        if int.from_bytes(self._held[:2], "big") != 0x8000 | VERSION:
            raise MalformedFrame("a control frame is not of SPDY version 3")
        size = int.from_bytes(self._held[5:8], "big")
        if size > CONTROL_BYTES_MAX:
            raise MalformedFrame(f"a control frame of {size} bytes is too large")
        return HEAD_BYTES + size


def _decode(head: bytes, body: bytes) -> Control | None:
    """A control frame; None for a type that is to be passed over. Raises MalformedFrame."""
    kind, flags = int.from_bytes(head[2:4], "big"), head[4]
    fin = bool(flags & FIN)
    match kind:
        case Kind.SYN_STREAM:
            _at_least(body, 10)
            stream, associated = _pair(body)
            return SynStream(
                stream, body[10:], fin, bool(flags & UNIDIRECTIONAL), associated, body[8] >> 5
            )
        case Kind.SYN_REPLY:
            return SynReply(_stream(body), body[4:], fin)
        case Kind.HEADERS:
            return More(_stream(body), body[4:], fin)
        case Kind.RST_STREAM:
            _exactly(body, 8)
            return Reset(_stream(body), int.from_bytes(body[4:], "big"))
        case Kind.SETTINGS:
            return _settings(body)
        case Kind.PING:
            _exactly(body, 4)
            return Ping(int.from_bytes(body, "big"))
        case Kind.GOAWAY:
            _exactly(body, 8)
            return GoAway(_stream(body), int.from_bytes(body[4:], "big"))
        case Kind.WINDOW_UPDATE:
            _exactly(body, 8)
            return WindowUpdate(*_pair(body))
        case _:
            return None


def _settings(body: bytes) -> Settings:
    _at_least(body, 4)
    count = int.from_bytes(body[:4], "big")
    if count > SETTINGS_MAX:
        raise MalformedFrame(f"{count} settings are more than {SETTINGS_MAX}")
    _exactly(body, 4 + 8 * count)
    entries = struct.iter_unpack(">II", body[4:])
    return Settings(tuple((key & 0xFFFFFF, value) for key, value in entries))


def _stream(body: bytes) -> int:
    _at_least(body, 4)
    return int.from_bytes(body[:4], "big") & STREAM_ID_MAX


def _pair(body: bytes) -> tuple[int, int]:
    """Two numbers of 31 bits."""
    first, second = struct.unpack(">II", body[:8])
    return first & STREAM_ID_MAX, second & STREAM_ID_MAX


def _at_least(body: bytes, size: int) -> None:
    if len(body) < size:
        raise MalformedFrame(f"a control frame ends after {len(body)} bytes")


def _exactly(body: bytes, size: int) -> None:
    if len(body) != size:
        raise MalformedFrame(f"a control frame has {len(body)} bytes where {size} belong")
