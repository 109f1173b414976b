"""Cuts a byte stream into lines of any length, in linear time.

aiohttp's own `readline` refuses lines above its buffer; a watch event with a ConfigMap of a megabyte is one line.
"""

from collections.abc import Iterator


class LineBuffer:
    """Feed chunks, get whole lines without their end; empty lines are dropped."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that `chunk` completes."""
        first, *rest = chunk.split(b"\n")
        self._parts.append(first)
        for part in rest:
            line = b"".join(self._parts).strip()
            self._parts = [part]
            if line:
                yield line
