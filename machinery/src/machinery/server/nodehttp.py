"""Just enough HTTP/1.1 client for a connection that may become a stream: read a head, then its body, and no byte more."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

HEAD_BYTES_MAX = 64 * 1024
CHUNK = 64 * 1024
_STATUS = re.compile(r"[0-9]{3}", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response up to its body; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All headers as they stand, also those that come several times."""
        lines = self.raw.decode("utf-8", "surrogateescape").split("\r\n")[1:]
        split = (line.partition(":") for line in lines)
        return [(name.strip(), value.strip()) for name, colon, value in split if colon]


async def read_head(reader: asyncio.StreamReader) -> ResponseHead:
    """Raises ConnectionError for what is not HTTP, IncompleteReadError at an early end."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise ConnectionError("response head too long") from error
    lines = raw.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not _STATUS.fullmatch(parts[1]):
        raise ConnectionError(f"not an HTTP response: {lines[0][:80]!r}")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return ResponseHead(int(parts[1]), headers, raw)


async def open_body(head: ResponseHead, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The body, piece by piece as it comes."""
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        async for piece in _chunks(reader):
            yield piece
        return
    length = head.headers.get("content-length")
    left = int(length) if length is not None and _LENGTH.fullmatch(length) else -1
    while left:
        piece = await reader.read(CHUNK if left < 0 else min(CHUNK, left))
        if not piece:
            return
        left -= len(piece) if left > 0 else 0
        yield piece


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError as error:
        raise ConnectionError("a line of the response is too long") from error


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        line = await _line(reader)
        text = line.split(b";")[0].strip()
        if not _CHUNK_SIZE.fullmatch(text):
            raise ConnectionError("broken chunk in the response")
        size = int(text, 16)
        if size == 0:
            while (await _line(reader)) not in (b"\r\n", b""):
                pass
            return
        while size:
            piece = await reader.read(min(CHUNK, size))
            if not piece:
                raise ConnectionError("the response ended early")
            size -= len(piece)
            yield piece
        await reader.readexactly(2)
