"""What the link's two halves agree on, without a socket."""

import pytest

from machinery.wire.link import (
    LinkVersion,
    MalformedHead,
    ResponseHead,
    incompatible,
    request_head,
)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        pytest.param((1, 1), (1, 1), "", id="equal"),
        pytest.param((5, 3), (3, 1), "", id="two-behind"),
        pytest.param((5, 3), (7, 5), "", id="two-ahead"),
        pytest.param((5, 3), (2, 1), "upgrade the agent", id="three-behind"),
        pytest.param((5, 3), (8, 6), "upgrade this side", id="three-ahead"),
    ],
)
def test_versions(ours, theirs, words):
    why = incompatible(LinkVersion(*ours), LinkVersion(*theirs).headers(), "the agent")
    assert (why == "") if not words else words in why


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"Ubernetes-Link-Version": "1"}, id="one"),
        pytest.param({"Ubernetes-Link-Version": "x", "Ubernetes-Link-Oldest": "1"}, id="no-number"),
    ],
)
def test_missing_versions_are_named(headers):
    assert "Ubernetes-Link-Version" in incompatible(LinkVersion(), headers, "the agent")


def test_response_head():
    head = ResponseHead.parse(
        b"HTTP/1.1 101 Switching Protocols\r\nA: 1\r\na:2\r\nB:  x y \r\n\r\n"
    )
    assert (head.status, head.headers.getall("A"), head.headers["b"]) == (101, ["1", "2"], "x y")


@pytest.mark.parametrize(
    "raw", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nnocolon\r\n"]
)
def test_what_is_no_response_head(raw):
    with pytest.raises(MalformedHead):
        ResponseHead.parse(raw)


def test_request_head_and_smuggling():
    assert request_head("GET", "/a?b=c", {"X": "1"}) == b"GET /a?b=c HTTP/1.1\r\nX: 1\r\n\r\n"
    for target, value in (("/a\r\nX: 1", "1"), ("/a", "1\nY: 2")):
        with pytest.raises(ValueError, match="line break"):
            request_head("GET", target, {"X": value})
