"""The federation's half of the reversed link: the connections of one member, and requests over them.

`accept` answers the member's dial and keeps the connection. `request` and `connector` give ordinary aiohttp on top of
such connections, kept alive and shared by all clients of this member; `open_upgrade` gives one connection whole, for
splicing. With no connection at all a request fails at once (`LinkDown`); while others are merely busy it waits a
little for the member to dial another. See `link` for the protocol.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import orjson
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from machinery.kit.clock import Clock
from machinery.meta.errors import BadRequest, ServiceUnavailable, StatusError
from machinery.wire.handover import HandedOver, take_over
from machinery.wire.link import (
    CONNECTIONS_MAX,
    HEAD_BYTES_MAX,
    KEEPALIVE_S,
    OURS,
    PING_PATH,
    PING_TIMEOUT_S,
    TAKE_TIMEOUT_S,
    UPGRADE_TOKEN,
    LinkDown,
    LinkVersion,
    MalformedHead,
    ResponseHead,
    content_length,
    incompatible,
    request_head,
    watch_the_path,
)

log = logging.getLogger(__name__)

LINK_URL = "http://link"
"""Base URL of a client over `LinkPool.connector`; the name means nothing, the path everything."""

REFUSAL_BODY_MAX = 1024 * 1024


_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")


class UpgradeRefused(Exception):
    """The member answered an upgrade with an ordinary response, given here whole."""

    def __init__(self, status: int, headers: CIMultiDict[str], body: bytes) -> None:
        super().__init__(f"upgrade answered with {status}")
        self.status, self.headers, self.body = status, headers, body


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A connection after its 101; closing the writer ends it."""

    headers: CIMultiDict[str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Unused(asyncio.Protocol):
    """Holds a connection that waits in line. A member that speaks first breaks the rules."""

    def __init__(self, pool: "LinkPool") -> None:
        self._pool = pool
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        log.warning("member spoke first on its link", extra={"cluster": self._pool.cluster})
        assert self._transport is not None
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._transport is not None
        self._pool.lost(self._transport)


class _Responses(ResponseHandler):
    """aiohttp's client protocol, telling the pool of its end."""

    def __init__(self, pool: "LinkPool", loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._pool, self._own = pool, None  # type: tuple[LinkPool, asyncio.BaseTransport | None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._own = transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._own is not None:
            self._pool.lost(self._own)


class _Streams(asyncio.StreamReaderProtocol):
    """asyncio's stream protocol, telling the pool of its end."""

    def __init__(self, pool: "LinkPool", reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._pool = pool
        self._own: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._own = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._own is not None:
            self._pool.lost(self._own)


class _Connector(aiohttp.BaseConnector):
    """Where aiohttp would dial, takes a connection that the member dialled."""

    def __init__(self, pool: "LinkPool", limit: int) -> None:
        super().__init__(limit=limit, keepalive_timeout=KEEPALIVE_S)
        self._pool = pool

    async def _create_connection(
        self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        try:
            transport = await self._pool.take()
        except LinkDown as error:
            raise aiohttp.ClientConnectionError(str(error)) from error
        protocol = _Responses(self._pool, self._loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return protocol


class LinkPool:
    """All connections of one member."""

    def __init__(
        self,
        cluster: str,
        clock: Clock,
        *,
        version: LinkVersion = OURS,
        connections_max: int = CONNECTIONS_MAX,
        take_timeout_s: float = TAKE_TIMEOUT_S,
        on_change: Callable[[bool], None] | None = None,
        on_skew: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_change(connected)` is called when the first connection comes and when the last one goes.

        `on_skew(why)` is called when a dial is refused for its version.
        """
        self._on_skew = on_skew
        self.cluster = cluster
        self._clock, self._version, self._on_change = clock, version, on_change
        self._connections_max, self._take_timeout_s = connections_max, take_timeout_s
        self._live: set[asyncio.Transport] = set()
        self._unused: deque[asyncio.Transport] = deque()
        self._waiters: deque[asyncio.Future[asyncio.Transport]] = deque()
        self._shared: _Connector | None = None
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether the member holds at least one connection."""
        return bool(self._live)

    @property
    def connections(self) -> int:
        """All, used or not."""
        return len(self._live)

    @property
    def unused(self) -> int:
        """Those that wait in line."""
        return len(self._unused)

    # ----------------------------------------------------------------------------------------------- connections
    async def accept(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a member's dial, already authenticated; the handler returns what this returns."""
        try:
            self._check(request)
        except StatusError as error:
            log.warning("link refused", extra={"cluster": self.cluster, "reason": error.message})
            body = orjson.dumps(error.to_status())
            return web.Response(
                status=error.status_code, body=body, content_type="application/json"
            )
        transport = take_over(request, _Unused(self))
        watch_the_path(transport)
        headers = {"Connection": "Upgrade", "Upgrade": UPGRADE_TOKEN, **self._version.headers()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        transport.write(f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode())
        self._live.add(transport)
        if len(self._live) == 1:
            self._changed()
        self._offer(transport)
        return HandedOver()

    def _check(self, request: web.BaseRequest) -> None:
        if request.headers.get("Upgrade", "").lower() != UPGRADE_TOKEN:
            raise BadRequest(f"the link is dialled with Upgrade: {UPGRADE_TOKEN}")
        who = f'the agent of cluster "{self.cluster}"'
        if why := incompatible(self._version, request.headers, who):
            self._on_skew(why)
            raise BadRequest(why)
        if self._closed:
            raise ServiceUnavailable("this server is shutting down")
        if len(self._live) >= self._connections_max:
            raise ServiceUnavailable(
                f"{self._connections_max} link connections are open, which is the most allowed"
            )

    def _offer(self, transport: asyncio.Transport) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(transport)
                return
        self._unused.append(transport)

    async def take(self) -> asyncio.Transport:
        """A connection of one's own, still held by a protocol that must be replaced at once. Raises LinkDown."""
        while self._unused:
            transport = self._unused.popleft()
            if not transport.is_closing():
                return transport
        if not self._live:
            raise LinkDown(f'cluster "{self.cluster}" is not connected')
        waiter: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._take_timeout_s):
                return await waiter
        except TimeoutError:
            message = f'all link connections of cluster "{self.cluster}" are busy'
            raise LinkDown(message) from None
        finally:
            if waiter.cancelled() or not waiter.done():
                waiter.cancel()

    def lost(self, transport: asyncio.BaseTransport) -> None:
        """A connection ended; for the protocols of this module."""
        ended = cast("asyncio.Transport", transport)
        if ended not in self._live:
            return
        self._live.discard(ended)
        if ended in self._unused:
            self._unused.remove(ended)
        if not self._live:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_exception(LinkDown(f'cluster "{self.cluster}" disconnected'))
            self._waiters.clear()
            self._changed()

    def _changed(self) -> None:
        log.info("link changed", extra={"cluster": self.cluster, "connected": self.connected})
        if self._on_change is not None:
            self._on_change(self.connected)

    async def close(self) -> None:
        """End everything, streams in progress included."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
        if self._shared is not None:
            await self._shared.close()
        for transport in list(self._live):
            transport.close()

    def drop(self) -> None:
        """Cut every connection at once: the path is dead, and whoever waits on it should know."""
        for transport in list(self._live):
            transport.abort()

    # -------------------------------------------------------------------------------------------------- requests
    def connector(self) -> aiohttp.BaseConnector:
        """For clients of this member (`RestClient(LINK_URL, connector=pool.connector)`); shared, closed with the pool."""
        if self._shared is None:
            self._shared = _Connector(self, self._connections_max)
        return self._shared

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        """One request; the response streams and must be released (`async with`). Raises LinkDown.

        `path` carries its query, encoded. `body` is bytes or an async iterator of bytes. Redirects and compressed
        bodies are passed on as they are.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self.connector(),
                connector_owner=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        try:
            return await self._session.request(
                method,
                URL(LINK_URL + path, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                timeout=timeout or aiohttp.ClientTimeout(total=None),
            )
        except aiohttp.ClientError as error:
            raise LinkDown(f'cluster "{self.cluster}": {error or type(error).__name__}') from error

    async def open_upgrade(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Upgraded:
        """Ask for an upgrade; `headers` carry Connection and Upgrade. Raises LinkDown, UpgradeRefused.

        What the member sends right behind its 101 is in the reader.
        """
        sent = CIMultiDict(headers)
        sent.setdefault("Host", "link")
        if body:
            sent["Content-Length"] = str(len(body))
        head = request_head(method, path, sent)
        transport = await self.take()
        reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX)
        protocol = _Streams(self, reader)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
        try:
            writer.write(head + body)
            answer = ResponseHead.parse(await reader.readuntil(b"\r\n\r\n"))
            if answer.status == 101:
                return Upgraded(answer.headers, reader, writer)
            refusal = await read_refusal(reader, answer.headers)
        except (MalformedHead, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            writer.close()
            raise LinkDown(f'cluster "{self.cluster}" gave no answer: {error}') from error
        except BaseException:
            writer.close()
            raise
        writer.close()
        raise UpgradeRefused(answer.status, answer.headers, refusal)

    async def ping(self, timeout_s: float = PING_TIMEOUT_S) -> float:
        """The round trip in seconds. Raises LinkDown."""
        started = self._clock.monotonic()
        try:
            async with (
                asyncio.timeout(timeout_s),
                await self.request("GET", PING_PATH) as response,
            ):
                await response.read()
        except (TimeoutError, aiohttp.ClientError) as error:
            why = str(error) or f"no answer within {timeout_s:g} s"
            raise LinkDown(f'cluster "{self.cluster}": {why}') from error
        return self._clock.monotonic() - started


async def read_refusal(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """The body of a refusal, by its length or its chunks; at most REFUSAL_BODY_MAX bytes."""
    if "chunked" not in headers.get("Transfer-Encoding", "").lower():
        size = content_length(headers, REFUSAL_BODY_MAX)
        return await reader.readexactly(size)
    body = bytearray()
    while len(body) < REFUSAL_BODY_MAX:
        size_line = (await reader.readuntil(b"\r\n")).split(b";")[0].strip()
        if not _CHUNK_SIZE.fullmatch(size_line):
            raise MalformedHead(f"not a chunk size: {size_line[:20]!r}")
        size = int(size_line, 16)
        if size == 0:
            break
        if size > REFUSAL_BODY_MAX:
            raise MalformedHead(f"a chunk of {size} bytes is too large for a refusal")
        body += (await reader.readexactly(size + 2))[:-2]
    return bytes(body)
