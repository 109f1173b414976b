"""Container logs: the line format, the options, following across rotation."""

import asyncio
import datetime as dt
from pathlib import Path

import pytest
from tests.support.loopclock import LoopClock

from cluster_agent.node import logs
from cluster_agent.node.logs import LogOptionError, LogOptions

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
LINES = (
    b"2026-01-01T11:59:00.000000001Z stdout F one\n"
    b"2026-01-01T11:59:10.000000001Z stderr F two\n"
    b"2026-01-01T11:59:20.000000001Z stdout P thr\n"
    b"2026-01-01T11:59:21.000000001Z stdout F ee\n"
    b"2026-01-01T11:59:30.000000001Z stdout F \n"
    b"2026-01-01T11:59:40.000000001Z stdout F  five\n"
)

OPTIONS: dict[str, tuple[dict[str, str], bytes]] = {
    "all": ({}, b"one\ntwo\nthree\n\n five\n"),
    "stamped": (
        {"timestamps": "true", "tailLines": "3"},
        b"2026-01-01T11:59:20.000000001Z three\n2026-01-01T11:59:30.000000001Z \n"
        b"2026-01-01T11:59:40.000000001Z  five\n",
    ),
    "last two": ({"tailLines": "2"}, b"\n five\n"),
    "last three, one of them in pieces": ({"tailLines": "3"}, b"three\n\n five\n"),
    "none": ({"tailLines": "0"}, b""),
    "more than there are": ({"tailLines": "99"}, b"one\ntwo\nthree\n\n five\n"),
    "since seconds": ({"sinceSeconds": "35"}, b"\n five\n"),
    "since a time": ({"sinceTime": "2026-01-01T11:59:30Z"}, b"\n five\n"),
    "limited": ({"limitBytes": "6"}, b"one\ntw"),
    "one stream": ({"stream": "Stderr"}, b"two\n"),
}


async def read(path: Path, options: LogOptions, alive: bool = False) -> bytes:
    return b"".join([c async for c in logs.read_log(path, options, LoopClock(), lambda: alive)])


@pytest.mark.parametrize(("query", "wanted"), OPTIONS.values(), ids=OPTIONS.keys())
async def test_options(tmp_path: Path, query: dict[str, str], wanted: bytes) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(LINES)
    assert await read(path, logs.options_of(query, NOW)) == wanted


@pytest.mark.parametrize(("query", "wanted"), OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("cut", range(1, 6))
async def test_rotation_makes_no_difference(
    tmp_path: Path, query: dict[str, str], wanted: bytes, cut: int
) -> None:
    lines = LINES.splitlines(keepends=True)
    (tmp_path / "0.log.20260101-115900.000000").write_bytes(b"".join(lines[:cut]))
    (tmp_path / "0.log").write_bytes(b"".join(lines[cut:]))
    assert await read(tmp_path / "0.log", logs.options_of(query, NOW)) == wanted


@pytest.mark.parametrize(
    "query",
    [
        {"tailLines": "x"},
        {"tailLines": "-1"},
        {"limitBytes": "0"},
        {"sinceTime": "yesterday"},
        {"sinceTime": "2026-01-01T00:00:00Z", "sinceSeconds": "3"},
    ],
    ids=str,
)
def test_senseless_options_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(LogOptionError):
        logs.options_of(query, NOW)


async def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await read(tmp_path / "0.log", LogOptions()) == b""


@pytest.mark.looptime
@pytest.mark.parametrize("tail", [None, 0, 2], ids=["whole", "new only", "tail"])
async def test_following_loses_and_repeats_nothing_over_rotations(
    tmp_path: Path, tail: int | None
) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"")
    running, written = True, 0

    def write(count: int) -> None:
        nonlocal written
        with path.open("ab") as file:
            for _ in range(count):
                file.write(b"2026-01-01T11:59:00.000000001Z stdout F %d\n" % written)
                written += 1

    async def writer() -> None:
        nonlocal running
        for round_ in range(8):
            await asyncio.sleep(0.3)
            write(3)
            logs.rotate(path, NOW + dt.timedelta(seconds=round_), 20)
            write(2)
        running = False

    write(5)
    options = LogOptions(follow=True, tail_lines=tail)
    found = []

    async def follow() -> None:
        found.extend([c async for c in logs.read_log(path, options, LoopClock(), lambda: running)])

    async with asyncio.TaskGroup() as group:
        _ = group.create_task(follow())
        _ = group.create_task(writer())
    first = 0 if tail is None else 5 - tail
    assert b"".join(found).split() == [str(n).encode() for n in range(first, written)]


def test_rotation_keeps_so_many_files(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    for number in range(7):
        path.write_bytes(b"x" * 100)
        assert logs.needs_rotation(path, 99)
        logs.rotate(path, NOW + dt.timedelta(seconds=number), 3)
    assert len(list(tmp_path.iterdir())) == 2, "two old ones, and the one that the runtime opens"
    assert not logs.needs_rotation(path, 99)
