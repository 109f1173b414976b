"""The load generator against a server of a few lines, the wire formats it reads, and what a report says of them."""

import asyncio
import struct
import xml.etree.ElementTree as ET

import pytest

from federation.lab import picture, report
from federation.lab.faults import Mark
from federation.lab.load import Generator, Load
from federation.lab.requests import (
    Answer,
    Request,
    Target,
    dns_query,
    http_request,
    parse_answer,
    parse_dns,
    parse_target,
)
from machinery.kit.clock import SystemClock

TARGETS = [
    ("10.0.0.1", Target("10.0.0.1", 80, "/")),
    ("10.0.0.1:8080", Target("10.0.0.1", 8080, "/")),
    ("http://web.demo.svc/a/b?c", Target("web.demo.svc", 80, "/a/b?c")),
]


@pytest.mark.parametrize(("text", "target"), TARGETS)
def test_targets(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", ":80", "a:b", "a:0", "a:70000", "/x"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no ADDRESS\[:PORT\]"):
        parse_target(text)


ANSWERS = [
    (b"", "closed without an answer", ""),
    (b"SSH-2.0-x\r\n", "no HTTP answer", ""),
    (b"HTTP/1.1 503 Busy\r\nA: b\r\n\r\nsorry", "HTTP 503", ""),
    (b"HTTP/1.0 200 OK\r\n\r\nweb-1 node-1 alpha zone-a\n", "", "zone-a"),
    (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nweb-1 node-1 alpha zone-a v2\n", "", "zone-a"),
    (b"HTTP/1.1 200 OK\r\n\r\nhello", "", ""),
    (b"HTTP/1.1 200 OK\r\nA: b", "no HTTP answer", ""),
]


@pytest.mark.parametrize(("raw", "error", "zone"), ANSWERS)
def test_answers(raw: bytes, error: str, zone: str) -> None:
    found = parse_answer(raw)
    assert (found.error, found.words[3]) == (error, zone)


def test_whoami_has_four_words() -> None:
    words = ("web-1", "node-1", "alpha", "zone-a")
    assert parse_answer(b"HTTP/1.1 200 OK\r\n\r\nweb-1 node-1 alpha zone-a") == Answer("", words)


def test_a_request_closes_its_connection() -> None:
    lines = http_request(Target("h", 80, "/x")).decode().split("\r\n")
    assert lines[0] == "GET /x HTTP/1.1"
    assert {"Host: h", "Connection: close"} <= set(lines)
    assert lines[-2:] == ["", ""]


QUESTION = dns_query("web.demo", 7)[12:]
RECORD = b"\xc0\x0c" + struct.pack("!2HIH", 1, 1, 5, 4) + bytes([10, 0, 0, 9])
ALIAS = b"\xc0\x0c" + struct.pack("!2HIH", 5, 1, 5, 2) + b"\xc0\x0c"


def dns_answer(*records: bytes, code: int = 0, identity: int = 7) -> bytes:
    return (
        struct.pack("!6H", identity, 0x8180 | code, 1, len(records), 0, 0)
        + QUESTION
        + b"".join(records)
    )


def test_dns() -> None:
    assert QUESTION == b"\x03web\x04demo\x00\x00\x01\x00\x01"
    assert parse_dns(dns_answer(ALIAS, RECORD, RECORD), 7) == ["10.0.0.9", "10.0.0.9"]


BROKEN = [
    (dns_answer(code=3), "NXDOMAIN"),
    (dns_answer(code=2), "SERVFAIL"),
    (dns_answer(), "no address"),
    (dns_answer(RECORD)[:-6], "cut short"),
    (dns_answer(RECORD, identity=8), "another question"),
]


@pytest.mark.parametrize(("raw", "said"), BROKEN)
def test_dns_errors(raw: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_dns(raw, 7)


async def generate(handler: str, rate: float = 200, number: int = 10) -> list[Request]:
    """Requests to a server that answers, is silent, or closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if handler == "silent":
            await reader.read()
        elif handler == "answer":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nweb-1 node-1 alpha zone-a\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found: list[Request] = []
    load = Load(Target("127.0.0.1", port, "/"), rate, number / rate, "zone-b", timeout_s=0.3)
    async with server:
        if handler == "nobody":
            server.close()
            await server.wait_closed()
        await Generator(load, SystemClock(), found.append).run()
    return found


async def test_every_request_is_recorded_with_who_answered() -> None:
    found = await generate("answer")
    assert len(found) == 10
    told = {(r.ok, r.source, r.pod, r.node, r.cluster, r.zone) for r in found}
    assert told == {(True, "zone-b", "web-1", "node-1", "alpha", "zone-a")}
    assert all(r.ms > 0 for r in found)
    assert len({r.t for r in found}) > 1


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        ("silent", "timeout"),
        ("closes", "closed without an answer"),
        ("nobody", "Connection refused"),
    ],
)
async def test_failures_are_recorded_with_their_kind(handler: str, error: str) -> None:
    found = await generate(handler)
    assert [(r.ok, r.error) for r in found] == [(False, error)] * 10


async def test_a_stall_does_not_slow_the_generator_down() -> None:
    """Open loop: all ten are under way before the first has timed out."""
    found = await generate("silent")
    assert max(r.t for r in found) < min(r.t for r in found) + 0.3


def answered(t: float, zone: str, ms: float = 1.0) -> Request:
    return Request(t, "zone-b", ms, True, zone=zone)


RECORDING = report.Recording(
    (
        answered(100.0, "zone-a", 3),
        answered(100.5, "zone-b", 1),
        Request(101.2, "zone-b", 1000, error="timeout"),
        answered(103.1, "zone-b", 2),
    ),
    (Mark(101.0, "kill zone-a"),),
)


def test_a_recording_is_read_back_without_a_line_that_was_cut() -> None:
    import msgspec

    lines = [*RECORDING.marks, *reversed(RECORDING.requests)]
    data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    assert report.parse(data + b'{"t": 104.0, "sou') == RECORDING
    with pytest.raises(msgspec.DecodeError):
        report.parse(b"x\n")


def test_a_summary_counts_by_zone_and_tells_when_it_failed() -> None:
    found = report.summarise(RECORDING)
    assert (found.total, found.errors, found.by_zone) == (
        4,
        {"timeout": 1},
        {"zone-a": 1, "zone-b": 2},
    )
    assert (found.first_error_s, found.last_error_s) == (1.2, 1.2)
    assert (found.p50_ms, found.p99_ms) == (2, 3)
    empty = report.summarise(report.Recording((), ()))
    assert (empty.total, empty.first_error_s, empty.p99_ms) == (0, None, 0.0)


def test_seconds() -> None:
    assert report.by_second(RECORDING) == [
        {"zone-a": 1, "zone-b": 1},
        {"errors": 1},
        {},
        {"zone-b": 1},
    ]


def test_text_bars() -> None:
    lines = report.text(RECORDING).splitlines()
    assert lines[0] == "   0 s |" + "a" * 30 + "b" * 30 + "|    2"
    assert lines[1] == "   1 s |" + "!" * 30 + " " * 30 + "|    1 1 failed  <- kill zone-a"
    assert lines[2] == "   2 s |" + " " * 60 + "|    0"
    assert "a zone-a  b zone-b  ! errors" in lines[4]
    assert "4 requests, 1 failed" in lines[6]
    assert "  first failure at 1.2 s, last at 1.2 s" in lines


def test_the_picture_stacks_a_bar_for_each_zone_and_second_with_errors_in_red() -> None:
    root = ET.fromstring(picture.svg(RECORDING, "a < b"))
    space = "{http://www.w3.org/2000/svg}"
    fills = [rect.get("fill") for rect in root.iter(f"{space}rect")]
    assert fills.count(picture.COLOURS[0]) == 1 + 1, "legend and one second"
    assert fills.count(picture.COLOURS[1]) == 1 + 2
    assert fills.count(picture.RED) == 1 + 1
    words = [text.text for text in root.iter(f"{space}text")]
    assert {"a < b", "kill zone-a", "requests (1/s)", "time since the first request (s)"} <= set(
        words
    )
    assert {"zone-a ", "zone-b ", "errors "} <= set(words), "the legend"
    assert "4 requests from zone-b; 1 failed, the last 0.0 s after the first" in words


@pytest.mark.parametrize(
    ("most", "top"),
    [(0, 1), (1, 1), (7, 8), (11, 12), (39, 40), (41, 50), (120, 120), (2001, 2500)],
)
def test_the_axis_ends_at_a_round_number(most: int, top: int) -> None:
    seconds = [answered(100.0 + i / (most + 1), "zone-a") for i in range(most)]
    root = ET.fromstring(picture.svg(report.Recording(tuple(seconds), ()), "x"))
    ticks = [
        t.text
        for t in root.iter("{http://www.w3.org/2000/svg}text")
        if t.get("text-anchor") == "end"
    ]
    assert ticks[-1] == str(top)


def test_flags_of_faults_close_together_stand_in_rows() -> None:
    marks = tuple(Mark(100.0 + i * 0.1, f"cut zone-{i}") for i in range(3))
    long = report.Recording((*RECORDING.requests, answered(160.0, "zone-a")), marks)
    root = ET.fromstring(picture.svg(long, "x"))
    flags = [
        t for t in root.iter("{http://www.w3.org/2000/svg}text") if t.get("class") == "flagged"
    ]
    assert len({t.get("y") for t in flags}) == 3


def test_an_empty_recording_is_drawn_too() -> None:
    empty = report.Recording((), ())
    assert "0 requests, 0 failed" in report.text(empty)
    assert ET.fromstring(picture.svg(empty, "nothing")).tag.endswith("svg")
