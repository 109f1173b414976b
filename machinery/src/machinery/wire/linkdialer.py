"""The member's half of the reversed link: dials the federation and serves what comes back on the dialled sockets.

Two unused connections are kept ready, so that a request never waits for a handshake across the ocean; when one is
taken, another is dialled, up to the limit. A dial that fails, and an unused connection that breaks, is followed by a
pause that grows and is jittered by up to its double: a federation that comes back is not met by all members at once. Whoever
hears of it by another way says so (`hurry`), and the pause ends within two seconds.
Several URLs (replicas) are tried in turn. See `link` for the protocol.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.wire.link import (
    CONNECTIONS_MAX,
    DIAL_TIMEOUT_S,
    HEAD_BYTES_MAX,
    IDLE_TARGET,
    LINK_PATH,
    OURS,
    PING_PATH,
    UPGRADE_TOKEN,
    VIA_LINK,
    LinkDown,
    LinkRefused,
    LinkVersion,
    MalformedHead,
    ResponseHead,
    content_length,
    incompatible,
    request_head,
    watch_the_path,
)

log = logging.getLogger(__name__)

REDIAL_BACKOFF = Backoff(base_s=0.2, cap_s=30.0, jitter=1.0)
CLOSE_TIMEOUT_S = 5.0
FULL_POLL_S = 0.5
HURRY_POLL_S = 1.0

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Dialled(asyncio.Protocol):
    """One connection until its first request: sends the dial, reads the 101, then waits."""

    def __init__(self, dialer: "LinkDialer", head: bytes) -> None:
        self._dialer, self._head = dialer, head
        self._buffer = b""
        self._open = self._taken = False
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # a dial given up in the middle has nobody left to hear how it ended
        self.accepted.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but ancestry
        watch_the_path(transport)
        self.transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        if self._open:
            self._take(data)
            return
        self._buffer += data
        head, end, tail = self._buffer.partition(b"\r\n\r\n")
        try:
            if end:
                self._answered(ResponseHead.parse(head), tail)
            elif len(self._buffer) > HEAD_BYTES_MAX:
                self._refuse("not a federation server: the head of its answer is too long")
        except MalformedHead as error:
            self._refuse(f"not a federation server: {error}")

    def _answered(self, head: ResponseHead, tail: bytes) -> None:
        if head.status != 101:
            if len(tail) >= content_length(head.headers, HEAD_BYTES_MAX):
                self._refuse(_refusal(head.status, tail))
        elif why := incompatible(self._dialer.version, head.headers, "the federation server"):
            self._refuse(why)
        elif not self.accepted.done():
            self._open, self._buffer = True, b""
            self._dialer.opened(self)
            self.accepted.set_result(None)
            if tail:
                self._take(tail)

    def _take(self, data: bytes) -> None:
        """The first request arrives: from now on the connection is the server's."""
        assert self.transport is not None
        self._taken = True
        self._dialer.taken(self)
        server = self._dialer.new_protocol()
        self.transport.set_protocol(server)
        server.connection_made(self.transport)
        server.data_received(data)

    def _refuse(self, why: str) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(LinkRefused(why))
        assert self.transport is not None
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(LinkDown("the federation server hung up"))
        elif self._open:
            self._dialer.unused_lost(self)


@dataclass(frozen=True, slots=True)
class DialTarget:
    """Whom to dial."""

    urls: Sequence[str]
    """`https://host:port` of the federation's replicas; tried in turn."""
    query: str = ""
    """What the dial says about the member, encoded."""
    version: LinkVersion = OURS


class LinkDialer:
    """Keeps the member linked while `run` runs; `handler` serves the requests that come."""

    def __init__(
        self,
        target: DialTarget,
        handler: Handler,
        clock: Clock,
        *,
        tls: Callable[[], ssl.SSLContext | None],
        headers: Callable[[], Mapping[str, str]] = dict,
        roll: Callable[[], float] = lambda: 0.0,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        """`tls` and `headers` (a bearer token) are asked at each dial, so rotated ones are used."""
        assert target.urls, "a link needs at least one URL to dial"
        self.version, self._urls, self._handler = target.version, list(target.urls), handler
        self._clock, self._tls, self._headers, self._roll = clock, tls, headers, roll
        self._path = LINK_PATH + (f"?{target.query}" if target.query else "")
        self._on_change = on_change
        self._server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        self._live: set[asyncio.Transport] = set()
        self._unused: set[_Dialled] = set()
        self._wake = asyncio.Event()
        self._broke = self._hurried = False
        self._was_connected = False
        self.last_error = ""

    @property
    def connected(self) -> bool:
        """Whether at least one connection is up."""
        self._prune()
        return bool(self._live)

    @property
    def connections(self) -> int:
        """All, used or not."""
        self._prune()
        return len(self._live)

    # --------------------------------------------------------------------------------------------------- running
    async def run(self) -> None:
        """Keep connections ready until cancelled."""
        failures = 0
        while True:
            self._prune()
            self._tell()
            wanted = min(IDLE_TARGET - len(self._unused), CONNECTIONS_MAX - len(self._live))
            if len(self._live) >= CONNECTIONS_MAX:
                await self._clock.sleep(FULL_POLL_S)  # a used connection ends without telling us
            elif wanted <= 0:
                await self._wake.wait()
            elif self._broke or not await self._dial_some(wanted):
                self._broke = False
                failures += 1
                self._prune()
                self._tell()
                if await self._pause(REDIAL_BACKOFF.delay(failures, self._roll)):
                    failures = 0
                continue
            else:
                failures = 0
            self._wake.clear()

    def hurry(self) -> None:
        """The federation answers otherwise: an outage that made the pauses long is over."""
        self._hurried = True

    async def _pause(self, seconds: float) -> bool:
        """Before the next dial; whether it was cut short."""
        self._hurried = False
        while seconds > 0 and not self._hurried:
            step = min(seconds, HURRY_POLL_S * (1 + self._roll()))
            await self._clock.sleep(step)
            seconds -= step
        return self._hurried

    async def _dial_some(self, count: int) -> bool:
        """Dial `count` connections side by side; whether all came up."""
        errors: list[Exception] = []

        async def one() -> None:
            try:
                await self._dial()
            except (OSError, TimeoutError, LinkRefused) as error:
                errors.append(error)

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                _ = group.create_task(one())
        if errors:
            self.last_error = str(errors[0]) or type(errors[0]).__name__
            log.warning("link not dialled", extra={"url": self._urls[0], "error": self.last_error})
            self._urls.append(self._urls.pop(0))
        return not errors

    async def _dial(self) -> None:
        url = urlsplit(self._urls[0])
        host = url.hostname or ""
        context = self._tls() if url.scheme == "https" else None
        head = request_head(
            "GET",
            self._path,
            {
                "Host": url.netloc,
                "Connection": "Upgrade",
                "Upgrade": UPGRADE_TOKEN,
                **self.version.headers(),
                **self._headers(),
            },
        )
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            _, protocol = await loop.create_connection(
                lambda: _Dialled(self, head),
                host,
                url.port or (443 if context else 80),
                ssl=context,
                server_hostname=host if context else None,
            )
            try:
                await protocol.accepted
            except BaseException:
                if protocol.transport is not None:
                    protocol.transport.abort()
                raise

    async def close(self) -> None:
        """End all connections; requests in progress are cancelled."""
        for transport in list(self._live):
            transport.close()
        self._live.clear()
        self._unused.clear()
        await self._server.shutdown(CLOSE_TIMEOUT_S)
        self._tell()

    # ----------------------------------------------------------------------------------- told by the connections
    def opened(self, dialled: _Dialled) -> None:
        assert dialled.transport is not None
        self._live.add(dialled.transport)
        self._unused.add(dialled)
        self.last_error = ""

    def taken(self, dialled: _Dialled) -> None:
        self._unused.discard(dialled)
        self._wake.set()

    def unused_lost(self, dialled: _Dialled) -> None:
        """Broken before it was of use: a reason to wait before the next dial."""
        self._unused.discard(dialled)
        self._broke = True
        self._wake.set()

    def new_protocol(self) -> asyncio.Protocol:
        return self._server()

    # ---------------------------------------------------------------------------------------------------- inside
    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        request[VIA_LINK] = True
        if request.path == PING_PATH:
            return web.Response(text="pong")
        return await self._handler(request)

    def _prune(self) -> None:
        self._live = {transport for transport in self._live if not transport.is_closing()}

    def _tell(self) -> None:
        connected = bool(self._live)
        if connected != self._was_connected:
            self._was_connected = connected
            log.info("link changed", extra={"connected": connected})
            if self._on_change is not None:
                self._on_change(connected)


def _refusal(status: int, body: bytes) -> str:
    """What the federation said, from its Status or its text."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if isinstance(answer, dict) and answer.get("message"):
        return f"{answer['message']} ({status})"
    text = body[:200].decode(errors="replace").strip()
    return f"the federation server answered {status}" + (f": {text}" if text else "")
