"""Where the frames of a WebSocket end in its bytes (RFC 6455, section 5.2), for those who pass the bytes on. Pure.

A peer may poll its socket before it reads a frame, as the official Python client does. Over TLS it then does not see a second frame
that came in the same record: that one is in the TLS library already, and no longer in the socket. A server that makes its
frames itself gives each a record of its own, so who passes frames on has to do so too.
"""

from collections.abc import Iterator

HEAD_BYTES_MAX = 14
"""Two, eight of a long length, four of a mask."""
_MASKED = 0x80
_LENGTHS = {126: 2, 127: 8}


class FrameEnds:
    """One direction of a connection, from the first byte behind the upgrade's head."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def cut(self, chunk: bytes) -> Iterator[memoryview]:
        """The bytes again, parted behind each frame's end. What has no end yet comes last, it is not kept back."""
        view, size = memoryview(chunk), len(chunk)
        begun = at = 0
        while at < size:
            if not self._left:
                held = len(self._head)
                self._head += chunk[at : at + HEAD_BYTES_MAX - held]
                measured = measure(self._head)
                if measured is None:
                    break
                at += measured[0] - held
                self._head, self._left = b"", measured[1]
            step = min(self._left, size - at)
            at += step
            self._left -= step
            if not self._left:
                yield view[begun:at]
                begun = at
        if begun < size:
            yield view[begun:]


def measure(begin: bytes) -> tuple[int, int] | None:
    """Bytes of the head and of the payload of the frame that begins so; None when its head is longer than that."""
    if len(begin) < 2:
        return None
    length, more = begin[1] & ~_MASKED, _LENGTHS.get(begin[1] & ~_MASKED, 0)
    head = 2 + more + (4 if begin[1] & _MASKED else 0)
    if len(begin) < head:
        return None
    return head, int.from_bytes(begin[2 : 2 + more], "big") if more else length
