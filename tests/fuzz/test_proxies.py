"""Proxies between hostile ends: backends that answer anything, names and paths of any form. Nothing breaks but that one request."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import strategies as st
from tests.fuzz.arena import Arena, arena
from tests.fuzz.inputs import mangled
from tests.fuzz.rounds import fuzzed

from machinery.meta.errors import BadRequest
from machinery.server.app import Extensions
from machinery.server.proxy import forwarding, places
from machinery.server.proxy.places import Place
from machinery.wire.splice import Streams

pytestmark = pytest.mark.integration
POD = "/api/v1/namespaces/default/pods"
_held: list[Arena] = []
_answer = b""
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://10.9.9.9:80/x?y#z\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX: \xff\xfe\r\n\r\n",
    b"HTTP/1.0 500 No\r\nContent-Encoding: gzip\r\n\r\nnot zipped",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nbytes",
]


class _Sink(asyncio.Transport):
    """Takes what is written, and is gone when it is closed."""

    closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert data is not None

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False


async def reach(_place: Place) -> Streams:
    """A backend that has said what it says before it was asked."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    reader.feed_data(_answer)
    reader.feed_eof()
    return reader, asyncio.StreamWriter(_Sink(), asyncio.StreamReaderProtocol(reader), reader, loop)


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with arena(extensions=Extensions(reach=reach)) as found:
        spec = {"containers": [{"name": "c", "image": "x"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}
        found.tried("POST", POD, json.dumps(pod).encode())
        status = json.dumps({"status": {"podIP": "10.9.9.9"}}).encode()
        merge = {"Content_Type": "application/merge-patch+json"}
        assert found.tried("PATCH", f"{POD}/web/status", status, **merge) == 200
        _held.append(found)
        yield
        _held.clear()


@fuzzed(
    60,
    raw=mangled(st.sampled_from(ANSWERS)),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    upgrade=st.booleans(),
)
def test_a_backend_may_answer_anything(raw: bytes, method: str, upgrade: bool) -> None:
    global _answer  # noqa: PLW0603 - what the backend says is the input
    _answer = raw
    found = _held[0]
    headers = {"Connection": "Upgrade", "Upgrade": "x"} if upgrade else {}
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        found.runner.run(found.ask(method, f"{POD}/web/proxy/", b"" if method == "POST" else None, headers))  # fmt: skip
    assert found.tried("GET", f"{POD}/web") == 200, "the next client is served, nothing was logged"


@fuzzed(
    30,
    name=st.text(st.characters(codec="ascii", exclude_characters="/?# %\r\n\t"), min_size=1, max_size=20),
    rest=st.text(st.sampled_from("/.a%2Fé?=&"), max_size=20),
)  # fmt: skip
def test_names_and_paths_of_any_form(name: str, rest: str) -> None:
    global _answer  # noqa: PLW0603 - what the backend says is the input
    _answer = ANSWERS[0]
    found = _held[0]
    target = f"{POD}/{quote(name, safe=':')}/proxy/{quote(rest, safe='/?=&%')}"
    with contextlib.suppress(aiohttp.ClientError):
        status, _, _ = found.runner.run(found.ask("GET", target, None, {}))
        assert status < 500, (target, status)


@fuzzed(200, text=st.text(max_size=40))
def test_a_name_is_taken_apart_or_refused(text: str) -> None:
    with contextlib.suppress(BadRequest):
        assert ":".join(places.split(text, "pod")).strip(":").endswith(text.strip(":"))


@fuzzed(200, text=st.text(max_size=60))
def test_a_redirect_is_never_an_error(text: str) -> None:
    assert isinstance(forwarding.redirected(text, "/p/proxy", ("a:1", "b")), str)
