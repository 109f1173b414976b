"""SPDY's header blocks: name/value pairs, all blocks of one direction compressed as one zlib stream with a known dictionary.

A block that cannot be read leaves the stream of all later blocks unreadable too, so every fault here ends the connection.
What a block may grow to is bounded before it is inflated. Names are lower case on the wire; a name that comes twice is a
fault, several values of one name are joined by NUL.
"""

import zlib
from collections.abc import Mapping

BLOCK_BYTES_MAX = 64 * 1024
"""An inflated block; what clients of Kubernetes send has some hundred bytes."""
PAIRS_MAX = 256
WINDOW_BITS, MEMORY_LEVEL = 11, 2
"""Our own compressor: a small window and little memory, as the headers are small."""

_PLAIN_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_MORE_WORDS = (
    "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin",
)  # fmt: skip
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(
        len(word).to_bytes(4, "big") + word.encode()
        for word in (*_PLAIN_WORDS.split(), *_MORE_WORDS)
    )
    + _TAIL.encode()
)
"""The dictionary of SPDY/3 (draft 3, section 2.6.10.1): 1423 bytes, Adler-32 0xe3c6a7c2."""

Headers = dict[str, str]


class MalformedHeaders(ValueError):
    """A header block that cannot be read; nothing after it can be either."""


class Packer:
    """Compresses the blocks of one direction."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(
            6, zlib.DEFLATED, WINDOW_BITS, MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, DICTIONARY
        )

    def pack(self, headers: Mapping[str, str]) -> bytes:
        """The next block."""
        plain = encode_pairs(headers)
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class Unpacker:
    """Inflates the blocks of one direction."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def unpack(self, block: bytes) -> Headers:
        """The next block's headers. Raises MalformedHeaders; then no further block can be read."""
        try:
            plain = self._inflate.decompress(block, BLOCK_BYTES_MAX + 1)
        except zlib.error as error:
            raise MalformedHeaders(f"a header block does not inflate: {error}") from None
        if len(plain) > BLOCK_BYTES_MAX:
            raise MalformedHeaders(f"a header block is larger than {BLOCK_BYTES_MAX} bytes")
        if self._inflate.eof:
            raise MalformedHeaders("the stream of header blocks has ended")
        return decode_pairs(plain)


def encode_pairs(headers: Mapping[str, str]) -> bytes:
    """The plain block."""
    parts = [len(headers).to_bytes(4, "big")]
    for name, value in headers.items():
        for text in (name.lower(), value):
            raw = text.encode("utf-8", "surrogateescape")
            parts += [len(raw).to_bytes(4, "big"), raw]
    return b"".join(parts)


def decode_pairs(plain: bytes) -> Headers:
    """The headers of a plain block, names in lower case. Raises MalformedHeaders."""
    count, at = _number(plain, 0), 4
    if count > PAIRS_MAX:
        raise MalformedHeaders(f"{count} headers are more than {PAIRS_MAX}")
    found: Headers = {}
    for _ in range(count):
        name, at = _text(plain, at)
        value, at = _text(plain, at)
        if not name:
            raise MalformedHeaders("a header has no name")
        if name in found:
            raise MalformedHeaders(f"the header {name[:80]!r} comes twice")
        found[name] = value
    if at != len(plain):
        raise MalformedHeaders(f"{len(plain) - at} bytes follow the last header")
    return found


def _number(plain: bytes, at: int) -> int:
    if at + 4 > len(plain):
        raise MalformedHeaders("a header block ends within a length")
    return int.from_bytes(plain[at : at + 4], "big")


def _text(plain: bytes, at: int) -> tuple[str, int]:
    size, start = _number(plain, at), at + 4
    if start + size > len(plain):
        raise MalformedHeaders("a header block ends within a header")
    return plain[start : start + size].decode("utf-8", "surrogateescape"), start + size
