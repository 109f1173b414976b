"""Connections of the HTTPS front: whose they are, what they may send and for how long, and requests that need no task.

Certificates are read once per connection and believed until their end. aiohttp's protocol is kept, and what it does not offer
is added below it: limits on heads, connections of one address, requests that are answered where they arrive.
"""

import asyncio
import datetime as dt
import logging
import resource
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from machinery.kit.clock import Clock, SystemClock
from machinery.server.arrivals import Addresses, Arriving
from machinery.server.authn import peer_end, peer_user
from machinery.server.limits import LIMITS, Limits
from machinery.server.quick import Parser, Quick, WatchedParser
from machinery.server.user import UserInfo

log = logging.getLogger(__name__)

_UNKNOWN = UserInfo("")
BUFFERED_BYTES_MAX = 1 << 16
"""A client that leaves more than this unread is answered by a task, which waits for it."""


TOO_MANY_HEADERS = "Too many headers received"
"""What aiohttp's parser says then; it has no exception of its own for it."""


class HeadTooLong(BadHttpMessage):
    """More has come than a head may have."""


class Connection(RequestHandler):
    """One client's connection; remembers who its certificate belongs to and whom to tell when it is lost.

    While a request is under way without a task (`_at_once`), the future that aiohttp's loop sleeps on is kept aside: what
    comes behind gathers in aiohttp's queue, with its limits, as behind any request, and the loop goes on after the answer.
    """

    __slots__ = (
        "_addresses", "_arriving", "_asleep", "_clock", "_good_until", "_limits", "_quick", "_remote",
        "on_lost", "peer",
    )  # fmt: skip

    def __init__(
        self,
        *args: Any,
        quick: Quick | None = None,
        limits: Limits = LIMITS,
        addresses: Addresses | None = None,
        clock: Clock | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._clock = clock or SystemClock()
        self._good_until: dt.datetime | None = None
        self._limits = limits
        self._addresses = addresses
        self._arriving = Arriving(self._loop.time())
        self.peer: UserInfo | None = _UNKNOWN
        self._quick = quick
        self._remote: str | None = None
        self._asleep: asyncio.Future[None] | None = None
        parser, arriving = cast("Parser", self._parser), self._arriving
        watched = WatchedParser(parser, self._at_once, arriving.whole, self._partly)
        self._parser = cast("Any", watched)
        self.on_lost: Callable[[], None] | None = None

    def identity(self) -> UserInfo | None:
        """The user of the client certificate, if one was given and is still good.

        When it ends nobody is believed any more here: the connection goes with the answer, and the client comes again with
        the certificate that it has by then.
        """
        if self.peer is _UNKNOWN:
            tls = self.transport.get_extra_info("ssl_object") if self.transport else None
            certificate = tls.getpeercert() if tls is not None else None
            self.peer, self._good_until = peer_user(certificate), peer_end(certificate)
        if self._good_until is not None and self._clock.now() > self._good_until:
            self.peer = self._good_until = None
            self._close = True
        return self.peer

    def remote(self) -> str:
        """The client's address; empty where it has none."""
        if self._remote is None:
            peer = self.transport.get_extra_info("peername") if self.transport else None
            self._remote = str(peer[0]) if isinstance(peer, tuple) else ""
        return self._remote

    def _at_once(self, message: RawRequestMessage, payload: StreamReader) -> bool:
        """Take it without a task, if no other request is before this one and the client reads what it asked for."""
        waiter, transport, quick = self._waiter, self.transport, self._quick
        if waiter is None or waiter.done() or self._messages or transport is None or quick is None:
            return False
        if transport.get_write_buffer_size() > BUFFERED_BYTES_MAX:
            return False
        if payload is EMPTY_PAYLOAD:
            answer = quick.answer(message, self.identity())
            if answer is None:
                return False
            transport.write(answer)
        else:
            body = None if self._reading_paused else _whole(payload)
            if body is None:
                return False
            if not quick.begin(message, body, self.identity(), self.remote(), self._reply):
                return False
            self._asleep, self._waiter = waiter, None
            self._request_in_progress = True
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def _reply(self, answer: bytes) -> None:
        """The answer to what `_at_once` began; aiohttp's loop wakes if more has come, or if the end has."""
        waiter, self._asleep = self._asleep, None
        self._request_in_progress = False
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer)
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if waiter is None or waiter.done():
            return
        if self._force_close or self._close:
            waiter.cancel()
            return
        self._waiter = waiter
        if self._messages:
            waiter.set_result(None)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp calls it for every piece of a body that is read; there is work only after a pause."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A client that sends no HTTP, or hangs up in the middle, is no error of ours and fills no log."""
        error = kw.get("exc_info")
        if isinstance(error, (HttpProcessingError, ConnectionError, RequestPayloadError)):
            log.debug("a request was broken", extra={"error": str(error).partition("\n")[0]})
            return
        super().log_exception(*args, **kw)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._addresses is not None and not self._addresses.come(self.remote()):
            log.debug("an address has too many connections", extra={"address": self.remote()})
            self.force_close()

    def _partly(self, size: int) -> None:
        """Bytes have come that complete no head. Raises BadHttpMessage when the head is too long."""
        if self._arriving.part(size) > self._limits.head_bytes_max and not self._messages:
            raise HeadTooLong("the request's head is too long")

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """As aiohttp answers it; a head that is too long in Go's words."""
        if isinstance(exc, (LineTooLong, HeadTooLong)) or message == TOO_MANY_HEADERS:
            status, message = 431, "431 Request Header Fields Too Large"
        return super().handle_error(request, status, exc, message)

    def lasts(self) -> None:
        """The request that is being answered may last."""
        self._arriving.lasts = True

    def sweep(self, now: float) -> None:
        """End it, if what it began to send does not come."""
        if self._upgraded or self.transport is None:
            return
        busy = self._request_in_progress or bool(self._messages)
        paused = self._reading_paused
        late = self._arriving.overdue(now, self._limits, busy=busy, unread=paused)
        if late:
            log.debug("a request did not come", extra={"address": self.remote(), "part": late})
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._addresses is not None:
            self._addresses.gone(self.remote())
            self._addresses = None
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()


def _whole(payload: StreamReader) -> bytes | None:
    """The body, if all of it is here; left in its place for the usual way."""
    if not payload.is_eof() or payload.exception() is not None:
        return None
    return b"".join(payload._buffer)  # noqa: SLF001 - there is no public look without taking


class Server(web.Server):
    """aiohttp's low-level server with our connections and our limits."""

    def __init__(
        self,
        handler: Any,
        quick: Quick | None,
        limits: Limits = LIMITS,
        clock: Clock | None = None,
    ) -> None:
        # bodies are what they are, as upstream: whoever compresses one is told that it is no JSON
        super().__init__(
            handler, access_log=None, keepalive_timeout=3600, auto_decompress=False,
            max_line_size=limits.line_bytes_max, max_field_size=limits.line_bytes_max,
            max_headers=limits.headers_max,
        )  # fmt: skip
        self._quick = quick
        self._limits = limits
        self._clock = clock
        self._addresses = Addresses(min(limits.address_connections_max, _files() * 3 // 4))

    def __call__(self) -> RequestHandler:
        return Connection(
            self, loop=self._loop, quick=self._quick, limits=self._limits,
            addresses=self._addresses, clock=self._clock, **self._kwargs,
        )  # fmt: skip

    def sweep(self) -> None:
        """End the connections whose requests do not come."""
        now = self._loop.time()
        for connection in self.connections:
            if isinstance(connection, Connection):
                connection.sweep(now)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: Any,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, self._loop,
            client_max_size=self._limits.body_bytes_max,
        )  # fmt: skip


def _files() -> int:
    """How many the process may have open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if files == resource.RLIM_INFINITY else files
