"""The client that asks users' webhooks: HTTPS only, kept connections, no redirects, bounded answers and time.

One for a server, for admission and for conversion. What it says of itself is its user agent; it shows no credentials.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult

from machinery.meta.resource import Document
from machinery.server.webhooks import faults
from machinery.server.webhooks.target import Target, Unresolved

USER_AGENT: Final = "ubernetes-apiserver-webhooks"
BODY_BYTES_MAX: Final = 16 << 20
"""Of an answer. What is asked may be twice an object, and a patch is in base64."""
CONNECTIONS_MAX: Final = 256
KEEP_S: Final = 30.0
Places = Callable[[str, str, int], list[tuple[str, int]]]
"""(namespace, name, port) of a service -> where its endpoints are. Raises Unresolved."""


class CallFailed(Exception):
    """No answer that could be read; the message is Go's. `status` is set where the webhook answered with a Status of its own."""


class WebhookClient:
    """Asks webhooks."""

    def __init__(self, places: Places) -> None:
        self._resolver = _Resolver(places)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End its connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, target: Target, document: Document, seconds: int) -> Document:
        """POST the document and read the answer. Raises CallFailed."""
        url = f"{target.url}?timeout={seconds}s"
        try:
            async with asyncio.timeout(seconds):
                code, body = await self._post(target, url, document)
        except TimeoutError:
            raise CallFailed(f'Post "{url}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(f'Post "{url}": {_words(target, error)}') from error
        if not 200 <= code < 300:
            raise CallFailed(_told(code, body))
        return _document(body)

    async def _post(self, target: Target, url: str, document: Document) -> tuple[int, bytes]:
        body = orjson.dumps(document)
        for attempt in (1, 2):
            try:
                return await self._once(target, url, body)
            except aiohttp.ServerDisconnectedError:
                # a kept connection that the other side was just closing
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    async def _once(self, target: Target, url: str, body: bytes) -> tuple[int, bytes]:
        if target.service is not None:
            self._resolver.known(target)
        async with self._opened().post(
            url, data=body, ssl=_context(target.ca_pem), allow_redirects=False
        ) as answer:
            return answer.status, await _bounded(answer.content)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=CONNECTIONS_MAX, keepalive_timeout=KEEP_S, resolver=self._resolver,
                use_dns_cache=False,
            )  # fmt: skip
            headers = {
                "User-Agent": USER_AGENT, "Content-Type": "application/json",
                "Accept": "application/json, */*",
            }  # fmt: skip
            self._session = aiohttp.ClientSession(
                connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(),
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False,
                skip_auto_headers=("Accept-Encoding",),
            )  # fmt: skip
        return self._session


class _Resolver(AbstractResolver):
    """Services by their endpoints, each time one more of them first; other names by the machine."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._services: dict[str, tuple[str, str, int]] = {}
        self._turn = 0

    def known(self, target: Target) -> None:
        """The target's host is a service."""
        assert target.service is not None, "only services are resolved here"
        self._services[f"{target.host}:{target.port}"] = target.service

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        service = self._services.get(f"{host}:{port}")
        if service is None:
            return await self._by_machine(host, host, port)
        found = self._places(*service)
        self._turn += 1
        first = self._turn % len(found)
        results: list[ResolveResult] = []
        for address, at in (*found[first:], *found[:first]):
            results += await self._by_machine(host, address, at)
        return results

    async def _by_machine(self, name: str, host: str, port: int) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        rows = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [
            ResolveResult(
                hostname=name, host=str(address[0]), port=int(address[1]), family=family,
                proto=proto, flags=socket.AI_NUMERICHOST,
            )
            for family, _, proto, _, address in rows
        ]  # fmt: skip

    async def close(self) -> None:
        return None


@lru_cache(maxsize=256)
def _context(ca_pem: bytes) -> ssl.SSLContext:
    """TLS that believes whom the bundle names alone. Raises ValueError."""
    if not ca_pem:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii", "replace"))
    except ssl.SSLError:
        raise ValueError("unable to load root certificates") from None
    return context


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """The body. Raises ValueError when there is no end of it."""
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_any():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise ValueError(f"the answer is larger than {BODY_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


def _words(target: Target, error: Exception) -> str:
    """What went wrong on the way."""
    host, port = target.host, target.port
    match error:
        case aiohttp.ClientConnectorDNSError():
            return faults.lookup(host)
        case aiohttp.ClientConnectorCertificateError():
            inner = error.certificate_error
            return (
                faults.certificate(host, inner) if isinstance(inner, ssl.SSLError) else str(inner)
            )
        case aiohttp.ClientConnectorError():
            inner = error.os_error
            if isinstance(inner, ssl.SSLError):
                return faults.certificate(host, inner)
            return faults.dial(host, port, inner)
        case aiohttp.ServerDisconnectedError():
            return "EOF"
        case OSError():
            return faults.broken(error)
        case aiohttp.ClientPayloadError():
            return "unexpected EOF"
        case aiohttp.ClientError():
            return f"malformed HTTP response: {error}"
        case _:
            return str(error)


def _told(code: int, body: bytes) -> str:
    """The webhook's own Status, or what its code means."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status" and status.get("message"):
        return str(status["message"])[: faults.TEXT_MAX]
    return faults.status(code, body)


def _document(body: bytes) -> Document:
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise CallFailed(f"couldn't get version/kind; json parse error: {error}") from None
    if not isinstance(found, dict):
        raise CallFailed("couldn't get version/kind; json parse error: the answer is no object")
    return found


def endless(_: str, name: str, __: int) -> list[tuple[str, int]]:
    """Places of a server that knows no services."""
    raise Unresolved(f'service "{name}" not found')
