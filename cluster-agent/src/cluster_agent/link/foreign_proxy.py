"""What the federation asks over the link, handed on to a foreign API server with the kubeconfig's credentials.

Only headers that mean something there pass; through `pods/proxy` and its like, where a pod is the one who reads them, all but those
of the connection. Whom the federation speaks for is said by impersonation, which the foreign
cluster authorises for our user: it decides, and its answer, also a refusal, goes back as it came. One thing is changed: the
group `system:masters` of the federation's administrators becomes `ubernetes:federation-masters`, whose rights the foreign
cluster's owner sets. A link that could speak as system:masters would own the cluster.

Bodies and answers stream (watches, logs); an upgrade (exec, attach, port-forward) is a connection of its own, spliced.
"""

import asyncio
import logging
import re
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from machinery.client.kubeconfig import Access
from machinery.meta.errors import ServiceUnavailable
from machinery.wire.handover import HandedOver, streams
from machinery.wire.link import (
    HEAD_BYTES_MAX,
    MalformedHead,
    ResponseHead,
    request_head,
    watch_the_path,
)
from machinery.wire.linkpool import read_refusal
from machinery.wire.splice import splice

log = logging.getLogger(__name__)

MASTERS = "system:masters"
FOREIGN_MASTERS = "ubernetes:federation-masters"
"""The group that stands in a foreign cluster for the federation's administrators."""
CONNECT_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 256
PASSED = ("accept", "accept-encoding", "content-type", "content-encoding", "user-agent")
PASSED_PREFIXES = ("impersonate-",)
UPGRADES = (
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "x-stream-protocol-version",
)
_PROXIED = re.compile(
    r"/api/v1/(namespaces/[^/]+/)?(pods|services|nodes)/[^/]+/proxy([/?]|$)", re.ASCII
)
_CONNECTIONS = frozenset(
    {
        "host", "authorization", "connection", "content-length", "keep-alive", "proxy-authenticate",
        "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "expect",
    }
)  # fmt: skip
"""Headers of one connection, or of one hop's credentials."""
_FRONT_PROXYS = "x-remote-"
"""By these a front proxy says who asks; nobody else may."""
RETURNED = (
    "content-type",
    "content-encoding",
    "cache-control",
    "warning",
    "retry-after",
    "location",
    "vary",
)


def is_proxied(path: str) -> bool:
    """Whether the request is for what runs in the cluster, and not for its API."""
    return _PROXIED.match(path) is not None


def passed_on(
    headers: CIMultiDict[str], more: tuple[str, ...] = (), *, proxied: bool = False
) -> CIMultiDict[str]:
    """The headers that go to the foreign server; the federation's masters under their name there."""
    sent: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lowered = name.lower()
        known = lowered in (*PASSED, *more) or lowered.startswith(PASSED_PREFIXES)
        ours = lowered in _CONNECTIONS or lowered.startswith(_FRONT_PROXYS)
        if not known and (ours or not proxied):
            continue
        masters = lowered == "impersonate-group" and value == MASTERS
        sent.add(name, FOREIGN_MASTERS if masters else value)
    return sent


def returned(headers: Mapping[str, str], *, proxied: bool = False) -> CIMultiDict[str]:
    """The headers that go back."""
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if (name.lower() not in _CONNECTIONS if proxied else name.lower() in RETURNED)
    )


class ForeignApi:
    """`handle` serves one request of the link."""

    def __init__(self, access: Access, cluster: str) -> None:
        self._access, self._cluster = access, cluster
        self._ssl: ssl.SSLContext | None = access.ssl_context()
        self._bearer = access.bearer()
        self._session: aiohttp.ClientSession | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The foreign server's answer, or a Status 503 that says that it is not reached."""
        try:
            if "Upgrade" in request.headers:
                return await self._upgrade(request)
            return await self._plain(request)
        except (aiohttp.ClientError, TimeoutError, OSError, EOFError, MalformedHead) as error:
            return self._away(error)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _away(self, error: Exception) -> web.Response:
        why = str(error) or type(error).__name__
        log.info("foreign API not reached", extra={"cluster": self._cluster, "error": why})
        text = f'the API server of cluster "{self._cluster}" is not reached by its agent: {why}'
        body = orjson.dumps(ServiceUnavailable(text).to_status())
        return web.Response(status=503, body=body, content_type="application/json")

    def _authorise(self, headers: CIMultiDict[str]) -> None:
        token = self._bearer() if callable(self._bearer) else self._bearer
        if token:
            headers["Authorization"] = f"Bearer {token}"

    # ------------------------------------------------------------------------------------------------------ requests
    async def _plain(self, request: web.BaseRequest) -> web.StreamResponse:
        proxied = is_proxied(request.raw_path)
        headers = passed_on(CIMultiDict(request.headers), proxied=proxied)
        self._authorise(headers)
        url = URL(self._access.server + request.raw_path, encoded=True)
        async with self._client().request(
            request.method,
            url,
            headers=headers,
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            server_hostname=self._access.server_name or None,
        ) as answer:
            back = returned(answer.headers, proxied=proxied)
            response = web.StreamResponse(status=answer.status, headers=back)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = self._ssl if self._ssl is not None else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls, limit=CONNECTIONS_MAX),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session

    # ------------------------------------------------------------------------------------------------------ upgrades
    async def _upgrade(self, request: web.BaseRequest) -> web.StreamResponse:
        place = urlsplit(self._access.server)
        reader, writer = await self._dial(place.hostname or "", place.port)
        try:
            headers = CIMultiDict({"Host": place.netloc, "Connection": "Upgrade"})
            proxied = is_proxied(request.raw_path)
            headers.extend(passed_on(CIMultiDict(request.headers), UPGRADES, proxied=proxied))
            self._authorise(headers)
            writer.write(request_head(request.method, place.path + request.raw_path, headers))
            raw = await reader.readuntil(b"\r\n\r\n")
            head = ResponseHead.parse(raw)
            if head.status != 101:
                body = await read_refusal(reader, head.headers)
                return web.Response(status=head.status, body=body, headers=returned(head.headers))
            ours = streams(request)
            ours[1].write(raw)
            await splice(ours, (reader, writer))
        finally:
            writer.close()
        return HandedOver()

    async def _dial(
        self, host: str, port: int | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = (self._access.server_name or host) if self._ssl is not None else None
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                host,
                port or (443 if self._ssl is not None else 80),
                ssl=self._ssl,
                server_hostname=name,
                limit=HEAD_BYTES_MAX,
            )
        watch_the_path(writer.transport)
        return reader, writer
