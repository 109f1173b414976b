"""Bytes to the port of a server: broken requests, bombs, half requests. It answers or hangs up, and goes on."""

import gzip
import json
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from tests.fuzz.arena import Arena, arena
from tests.fuzz.inputs import mangled
from tests.fuzz.raw import everything, exchange, first
from tests.fuzz.rounds import fuzzed, light, quick

pytestmark = pytest.mark.integration
_held: list[Arena] = []
MAPS = "/api/v1/namespaces/default/configmaps"
BODY = b'{"metadata":{"generateName":"g-"}}'
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def post(*lines: bytes, body: bytes = b"") -> bytes:
    head = [f"POST {MAPS} HTTP/1.1".encode(), b"Host: a", b"Content-Type: application/json", *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


SOUND = [
    post(b"Content-Length: %d" % len(BODY), b"Connection: close", body=BODY),
    post(b"Transfer-Encoding: chunked", b"Connection: close", body=CHUNKED),
    f"GET {MAPS}?limit=1 HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nConnection: close\r\n\r\n".encode(),
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /api/v1/namespaces/default/pods/p/exec?command=a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
    b"GET /ubernetes/v1/link HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: ubernetes-link\r\n\r\n",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with arena() as found:
        _held.append(found)
        yield
        _held.clear()


def alive() -> None:
    """The next client is served, and nothing was logged."""
    assert _held[0].tried("GET", f"{MAPS}?limit=1") == 200


@fuzzed(60, raw=mangled(st.sampled_from(SOUND)))
def test_broken_requests(raw: bytes) -> None:
    found = _held[0]
    told = found.runner.run(everything(found.server, raw, timeout_s=0.05))
    status, _, body = first(told)
    assert status < 500, (raw, body)
    alive()


def deflated(raw: bytes) -> bytes:
    return zlib.compress(raw)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(b"0" * 300_000_000, 9)),
        ("deflate", deflated(b" " * 300_000_000)),
        ("gzip", b"\x1f\x8b" + b"x" * 100),
        ("gzip", gzip.compress(BODY)[:-9]),
        ("deflate", b"nothing"),
        ("br", b"nothing"),
        ("zstd", b"nothing"),
        ("x", BODY),
    ],
    ids=[
        "small",
        "bomb",
        "deflate-bomb",
        "broken",
        "cut",
        "deflate-broken",
        "br",
        "zstd",
        "unknown",
    ],
)
def test_compressed_bodies(encoding: str, body: bytes) -> None:
    found = _held[0]
    with quick(3), light(64):
        sent = post(
            b"Content-Encoding: " + encoding.encode(),
            b"Content-Length: %d" % len(body),
            b"Connection: close",
            body=body,
        )
        status, headers, raw = found.runner.run(exchange(found.server, sent))
    assert status in (201, 400), raw
    if status >= 400:
        assert json.loads(raw)["kind"] == "Status"
    found.check(status, headers, raw)
    alive()


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_beyond_the_limit(chunked: bool) -> None:
    found = _held[0]
    body = b'{"a":"' + b"x" * (4 << 20) + b'"}'
    if chunked:
        pieces = b"".join(
            b"%x\r\n%b\r\n" % (len(body[i : i + 65536]), body[i : i + 65536])
            for i in range(0, len(body), 65536)
        )
        sent = post(b"Transfer-Encoding: chunked", b"Connection: close", body=pieces + b"0\r\n\r\n")
    else:
        sent = post(b"Content-Length: %d" % len(body), b"Connection: close", body=body)
    status, headers, raw = found.runner.run(exchange(found.server, sent))
    told = json.loads(raw)
    assert (status, told["reason"]) == (413, "RequestEntityTooLarge")
    found.check(status, headers, raw)
    alive()


@pytest.mark.parametrize(
    "sent",
    [
        post(b"Content-Length: 10", body=b"{"),
        post(b"Transfer-Encoding: chunked", body=b"5\r\nab"),
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000,
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
        b"GET " + f"{MAPS}?".encode() + b"&a=b" * 1_500 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"",
    ],
    ids=["half", "half-chunk", "long-header", "long-target", "many-headers", "many-parameters", "http2", "tls", "nothing"],
)  # fmt: skip
def test_odd_requests(sent: bytes) -> None:
    found = _held[0]
    with quick(), light(64):
        status, _, raw = found.runner.run(exchange(found.server, sent, timeout_s=0.5))
    assert status < 500, raw
    alive()
