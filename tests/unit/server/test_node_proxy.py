"""The pure half of the way to a kubelet, and the HTTP that it reads."""

import asyncio
from typing import Any

import pytest

from machinery.meta.errors import BadRequest, Invalid
from machinery.server.node_proxy import check_log_options, pick_container, refusal, stream_target
from machinery.server.nodehttp import open_body, read_head
from machinery.server.request import parse_target

POD = {
    "metadata": {"name": "p", "namespace": "a"},
    "spec": {"containers": [{"name": "c"}, {"name": "d"}], "initContainers": [{"name": "i"}]},
}
ONE: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
BASE = "/api/v1/namespaces/a/pods/p"


@pytest.mark.parametrize(
    ("pod", "asked", "expected"),
    [
        (ONE, "", "c"),
        (POD, "d", "d"),
        (POD, "i", "i"),
        ({**POD, "metadata": {"name": "p", "annotations": {"kubectl.kubernetes.io/default-container": "d"}}}, "", "d"),
    ],
)  # fmt: skip
def test_container(pod: dict[str, Any], asked: str, expected: str) -> None:
    assert pick_container(pod, asked) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("zz", "container zz is not valid for pod p"),
        ("", "choose one of: [c d] or one of the init containers: [i]"),
    ],
)
def test_no_container(asked: str, expected: str) -> None:
    with pytest.raises(BadRequest) as caught:
        pick_container(POD, asked)
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            f"{BASE}/exec?command=sh&command=-c&command=a%20b&container=c&stdin=true&stdout=true&tty=true",
            "/exec/a/p/c?input=1&output=1&tty=1&command=sh&command=-c&command=a+b",
        ),
        (f"{BASE}/attach?container=d&stdout=true&stderr=true&stdin=false", "/attach/a/p/d?output=1&error=1"),
        (f"{BASE}/portforward", "/portForward/a/p"),
        (f"{BASE}/portforward?ports=80", "/portForward/a/p?port=80"),
    ],
)  # fmt: skip
def test_stream_target(path: str, expected: str) -> None:
    assert stream_target(parse_target("GET", path), POD) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{BASE}/exec?container=c&stdout=true", "at least 1 command"),
        (f"{BASE}/exec?container=c&command=ls", "at least one of stdin, stdout, stderr"),
    ],
)
def test_stream_refused(path: str, expected: str) -> None:
    with pytest.raises(BadRequest) as caught:
        stream_target(parse_target("POST", path), POD)
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", "at most one of `sinceTime` or `sinceSeconds`"),
    ],
)  # fmt: skip
def test_log_options(query: str, expected: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_log_options(parse_target("GET", f"{BASE}/log?{query}"))
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("status", "code"), [(404, 404), (400, 400), (403, 403), (503, 503), (500, 500), (302, 500)]
)
def test_refusal_keeps_what_says_something(status: int, code: int) -> None:
    error = refusal(status, b"no such container\n")
    assert error.status_code == code
    assert error.message == "no such container"


async def _body(raw: bytes) -> tuple[int, bytes]:
    reader = asyncio.StreamReader()
    reader.feed_data(raw)
    reader.feed_eof()
    head = await read_head(reader)
    return head.status, b"".join([piece async for piece in open_body(head, reader)])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", (200, b"abc")),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcdef", (200, b"abcdef")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", (200, b"abcde")),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", (404, b"")),
    ],
)  # fmt: skip
async def test_answers_are_read(raw: bytes, expected: tuple[int, bytes]) -> None:
    assert await _body(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
async def test_broken_answers_are_errors(raw: bytes) -> None:
    with pytest.raises(ConnectionError):
        await _body(raw)
