"""Answers as bytes: one buffer with head and body, written once.

aiohttp's own Response builds its head from a multidict and writes it apart from the body; for an API whose answers are
ready-made bytes that is half the cost of a GET. `Reply` keeps to aiohttp's protocol of a response (prepare, write_eof,
keep_alive), so that keep-alive and pipelining stay aiohttp's business.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Protocol, cast

import orjson
import yaml
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11
from isal import igzip, isal_zlib

from machinery.meta.errors import StatusError
from machinery.meta.resource import Document

JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain; charset=utf-8"
_HEADS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_JSON_HEAD = {
    code: head + b"Content-Type: application/json\r\nContent-Length: "
    for code, head in _HEADS.items()
}
Headers = Sequence[tuple[str, str]]
WARNING = "Warning"
WARNING_LENGTH_MAX, WARNINGS_LENGTH_MAX = 256, 4096
"""Letters of one and of all, where all of them together are too long."""
_BREAKS = {code: " " for code in (*range(32), 127)}
BROWSERS = ("curl/", "Wget/", "Mozilla/")
"""User agents of people, who get their JSON indented."""


class Reply(web.StreamResponse):
    """A whole answer. `body` is JSON unless `content_type` says otherwise."""

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: str = JSON_TYPE,
        headers: Headers = (),
    ) -> None:
        # StreamResponse.__init__ is not called on purpose: it builds what is replaced here.
        self._status = status
        self.payload = body
        self.content = content_type
        self.extra = headers
        self._keep_alive = True
        self._eof_sent = False
        self._req = None
        self._payload_writer = None
        self._state = {}
        self._body_length = 0

    @property
    def keep_alive(self) -> bool | None:
        return self._keep_alive

    @property
    def prepared(self) -> bool:
        return self._eof_sent

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        transport = request.transport
        keep = request.keep_alive
        self._keep_alive = keep
        if transport is None or transport.is_closing():
            raise ConnectionResetError("Cannot write to closing transport")
        transport.write(self.head(request.method, keep, request.version < HttpVersion11))
        if transport.get_write_buffer_size() > 1 << 16:
            await request.protocol._drain_helper()  # noqa: SLF001 - what StreamWriter.drain does
        return None

    def head(self, method: str, keep: bool | None, old: bool) -> bytes:
        """Head and body in one buffer."""
        body = self.payload
        if self.content == JSON_TYPE:
            parts = [_JSON_HEAD[self._status], str(len(body)).encode()]
        else:
            parts = [
                _HEADS[self._status],
                f"Content-Type: {self.content}\r\nContent-Length: {len(body)}".encode(),
            ]
        for name, value in _bounded(self.extra):
            parts.append(f"\r\n{name}: {value}".encode("utf-8", "surrogateescape"))
        if not keep:
            parts.append(b"\r\nConnection: close")
        elif old:
            parts.append(b"\r\nConnection: keep-alive")
        parts.append(b"\r\n\r\n")
        if method != "HEAD":
            parts.append(body)
        return b"".join(parts)

    async def write_eof(self, data: bytes = b"") -> None:
        self._eof_sent = True


def _bounded(headers: Headers) -> Iterator[tuple[str, str]]:
    """Headers as they may travel: one line each, and warnings (which quote what a client sent) cut as upstream cuts them."""
    told = sum(len(value) for name, value in headers if name == WARNING)
    room = WARNINGS_LENGTH_MAX
    for name, value in headers:
        line = value.translate(_BREAKS)
        if name == WARNING and told > WARNINGS_LENGTH_MAX:
            line = line if len(line) <= WARNING_LENGTH_MAX else line[:WARNING_LENGTH_MAX] + '"'
            room -= len(line)
            if room < 0:
                continue
        yield name, line


class Streamed(web.StreamResponse):
    """An answer that was written to the transport already, or whose connection was taken over."""

    def __init__(self, keep_alive: bool) -> None:
        self._status = 200
        self._keep_alive = keep_alive
        self._eof_sent = True
        self._req = None
        self._payload_writer = None
        self._state = {}
        self._body_length = 0

    @property
    def keep_alive(self) -> bool | None:
        return self._keep_alive

    @property
    def prepared(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def dumps(document: Any) -> bytes:
    """JSON as the API writes it: compact, one newline at the end."""
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def yaml_bytes(document: Any) -> bytes:
    """YAML as the API writes it: keys sorted, no aliases."""
    text: str = yaml.safe_dump(document, default_flow_style=False, allow_unicode=True)
    return text.encode()


def pretty(body: bytes) -> bytes:
    """The same JSON indented, for people at a terminal."""
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def error_reply(error: StatusError, headers: Headers = ()) -> Reply:
    """A failure as metav1.Status."""
    retry = (error.details or {}).get("retryAfterSeconds")
    if retry:
        headers = (*headers, ("Retry-After", str(retry)))
    return Reply(error.status_code, dumps(error.to_status()), JSON_TYPE, headers)


def success_status(details: Document | None = None, *, code: int = 0) -> Document:
    """A metav1.Status of success."""
    status: Document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details is not None:
        status["details"] = details
    if code:
        status["code"] = code
    return status


def compress(body: bytes) -> bytes:
    """gzip at isal's cheapest useful level: less CPU than the bytes it saves."""
    compressed: bytes = igzip.compress(body, compresslevel=1)
    return compressed


class Compressor(Protocol):
    """A streaming gzip encoder."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def compressor() -> Compressor:
    """A gzip stream at the same level."""
    return cast("Compressor", isal_zlib.compressobj(1, wbits=31))
