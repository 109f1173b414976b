"""A client certificate that ends while its connection lives is believed no longer, whatever way requests take."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest
from tests.support.apiserver import RunningServer, running_server

from machinery.kit.clock import SystemClock
from machinery.server.authn import peer_end
from machinery.server.pki import client_context
from machinery.server.user import MASTERS

pytestmark = pytest.mark.integration


class Later(SystemClock):
    """The machine's clock, some hours ahead if told so."""

    ahead = dt.timedelta()

    def now(self) -> dt.datetime:
        return super().now() + self.ahead


@pytest.fixture
async def clock() -> Later:
    return Later()


@pytest.fixture
async def server(clock: Later) -> AsyncIterator[RunningServer]:
    async with running_server(clock=clock) as running:
        yield running


class Wire:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, path: str, method: str = "GET", body: bytes = b"") -> int:
        """The status."""
        lines = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n\r\n".encode() + body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lengths = [
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        await self.reader.readexactly(lengths[0])
        return int(head.split(b" ")[1])


async def connect(server: RunningServer, days: float) -> Wire:
    pair = server.api.client_pair("jane", (MASTERS,), days)
    tls = client_context(server.api.ca_pem, pair)
    return Wire(*await asyncio.open_connection("127.0.0.1", server.api.port, ssl=tls))


@pytest.mark.parametrize(
    ("path", "method", "body", "good"),
    [
        ("/api/v1/namespaces/default", "GET", b"", 200),
        ("/api/v1/namespaces", "GET", b"", 200),
        (
            "/api/v1/namespaces/default/configmaps?dryRun=All",
            "POST",
            b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}',
            201,
        ),
        ("/version", "GET", b"", 200),
    ],
    ids=["get", "list", "create", "plain"],
)
async def test_it_is_believed_until_its_end(
    server: RunningServer, clock: Later, path: str, method: str, body: bytes, good: int
) -> None:
    wire = await connect(server, days=2)
    assert await wire.ask(path, method, body) == good
    clock.ahead = dt.timedelta(days=1)
    assert await wire.ask(path, method, body) == good
    clock.ahead = dt.timedelta(days=3)
    assert await wire.ask(path, method, body) == 401
    assert await wire.reader.read() == b"", "the client is to come again with another certificate"
    wire.writer.close()


async def test_who_needs_to_be_nobody_is_answered(server: RunningServer, clock: Later) -> None:
    wire = await connect(server, days=2)
    assert await wire.ask("/api/v1/namespaces") == 200
    clock.ahead = dt.timedelta(days=3)
    assert await wire.ask("/healthz") == 200, "which asks for nobody"


def test_the_end_of_a_certificate() -> None:
    assert peer_end({"notAfter": "Jan  2 03:04:05 2027 GMT"}) == dt.datetime(
        2027, 1, 2, 3, 4, 5, tzinfo=dt.UTC
    )
    assert peer_end({}) is None
    assert peer_end(None) is None
