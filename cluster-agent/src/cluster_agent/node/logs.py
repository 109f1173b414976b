"""Container logs: files in CRI's line format, read the way `kubectl logs` asks, and rotated.

A line is `2026-01-31T07:08:09.000010000Z stdout F text`; `P` instead of `F` marks a piece of a longer line, which is
joined again here. Rotation renames `0.log` to `0.log.<time>` and lets the runtime open it anew; a reader that follows
finishes the renamed file and goes on with the new one, so nothing is lost or told twice.
"""

import datetime as dt
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from machinery.kit.clock import Clock, parse_time

POLL_S = 0.2
BLOCK_BYTES = 64 * 1024


class LogOptionError(ValueError):
    """A query parameter of a log request makes no sense."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """PodLogOptions, as they come in the query."""

    follow: bool = False
    timestamps: bool = False
    previous: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: dt.datetime | None = None
    stream: str = ""
    """`stdout` or `stderr`; empty is both."""


def options_of(query: Mapping[str, str], now: dt.datetime) -> LogOptions:
    """Raises LogOptionError."""
    try:
        tail = _count(query, "tailLines")
        limit = _count(query, "limitBytes")
        since_s = _count(query, "sinceSeconds")
        since = parse_time(query["sinceTime"]) if query.get("sinceTime") else None
    except ValueError as error:
        raise LogOptionError(str(error)) from None
    if since is not None and since_s is not None:
        raise LogOptionError("at most one of `sinceTime` or `sinceSeconds` may be specified")
    if limit == 0:
        raise LogOptionError("limitBytes: must be greater than 0")
    if since_s is not None:
        since = now - dt.timedelta(seconds=since_s)
    stream = query.get("stream", "")
    return LogOptions(
        follow=_flag(query, "follow"),
        timestamps=_flag(query, "timestamps"),
        previous=_flag(query, "previous"),
        tail_lines=tail,
        limit_bytes=limit,
        since=since,
        stream="" if stream in ("", "All") else stream.lower(),
    )


def _count(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    number = int(text)
    if number < 0:
        raise LogOptionError(f"{name}: must be greater than or equal to 0")
    return number


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "true")


class Formatter:
    """Turns CRI lines into what the reader wants to see; keeps the state of a line in pieces and of the byte limit."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._open = False
        self._left = options.limit_bytes
        self._since = _comparable(options.since) if options.since is not None else b""

    def full(self) -> bool:
        """The limit is reached."""
        return self._left is not None and self._left <= 0

    def line(self, raw: bytes) -> bytes:
        """The output for one raw line (with its newline)."""
        stamp, _, rest = raw.partition(b" ")
        stream, _, rest = rest.partition(b" ")
        tag, _, text = rest.partition(b" ")
        if not text and not tag:
            return b""
        if self._options.stream and stream.decode("ascii", "replace") != self._options.stream:
            return b""
        if self._since and _sortable(stamp) < self._since:
            return b""
        body = text.removesuffix(b"\n")
        result = body
        if self._options.timestamps and not self._open:
            result = stamp + b" " + body
        partial = tag.split(b":", 1)[0] == b"P"
        self._open = partial
        if not partial:
            result += b"\n"
        if self._left is not None:
            result = result[: max(self._left, 0)]
            self._left -= len(result)
        return result


def _comparable(moment: dt.datetime) -> bytes:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").encode()


def _sortable(stamp: bytes) -> bytes:
    """The stamps are UTC (`Z`) or carry +00:00; cut to microseconds they compare as text."""
    return stamp[:26].rstrip(b"Z")


def log_files(path: Path) -> list[Path]:
    """Rotated files, oldest first, then the current one."""
    rotated = sorted(p for p in path.parent.glob(path.name + ".*") if not p.name.endswith(".new"))
    return [*rotated, path]


def tail(path: Path, lines: int, end: int) -> list[bytes]:
    """The last `lines` raw lines over all files of the log; pieces of one line count as one.

    Of the current file only the first `end` bytes count: what comes after is told by the reader that follows.
    """
    result: list[bytes] = []
    if lines <= 0:
        return result
    whole = 0
    for file in reversed(log_files(path)):
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            continue
        if file == path:
            content = content[:end]
        for raw in reversed(content.splitlines(keepends=True)):
            whole += _is_whole(raw)
            if whole > lines:
                return result[::-1]
            result.append(raw)
    return result[::-1]


def _is_whole(raw: bytes) -> bool:
    parts = raw.split(b" ", 3)
    return len(parts) > 2 and parts[2].split(b":", 1)[0] != b"P"


async def read_log(
    path: Path, options: LogOptions, clock: Clock, alive: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The log as chunks of output. With `follow` it goes on until `alive()` is false and everything was read."""
    formatter = Formatter(options)
    reader = _Reader(path)
    try:
        if options.tail_lines is not None:
            lines = tail(path, options.tail_lines, reader.skip_to_end())
            for chunk in _format(formatter, lines):
                yield chunk
        while not formatter.full():
            ended = not alive()
            for chunk in _format(formatter, reader.lines()):
                yield chunk
            if formatter.full() or not options.follow or ended:
                return
            await clock.sleep(POLL_S)
    finally:
        reader.close()


def _format(formatter: Formatter, lines: Iterator[bytes] | list[bytes]) -> Iterator[bytes]:
    pieces: list[bytes] = []
    size = 0
    for raw in lines:
        if formatter.full():
            break
        piece = formatter.line(raw)
        pieces.append(piece)
        size += len(piece)
        if size >= BLOCK_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    if size:
        yield b"".join(pieces)


class _Reader:
    """Whole lines of a log in order, across rotation. Remembers where it is by inode, not by name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._inode = 0
        self._rest = b""

    def skip_to_end(self) -> int:
        """Go on after what is there now; how many bytes that is."""
        if not self._open(self._path) or self._file is None:
            return 0
        return os.lseek(self._file, 0, os.SEEK_END)

    def lines(self) -> Iterator[bytes]:
        """All whole lines that are there now."""
        if self._file is None and not self._open_oldest():
            return
        while True:
            yield from self._drain()
            if not self._next_file():
                return

    def _drain(self) -> Iterator[bytes]:
        assert self._file is not None
        while block := os.read(self._file, BLOCK_BYTES):
            lines = (self._rest + block).splitlines(keepends=True)
            self._rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            yield from lines

    def _open(self, path: Path) -> bool:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        self.close()
        self._file, self._inode = file, os.fstat(file).st_ino
        return True

    def _open_oldest(self) -> bool:
        return any(self._open(path) for path in log_files(self._path))

    def _next_file(self) -> bool:
        """Move on to the file after the one just finished; False when it is the newest."""
        files = log_files(self._path)
        inodes = [_inode(path) for path in files]
        if self._inode not in inodes:
            return self._open_oldest()
        position = inodes.index(self._inode)
        return any(self._open(path) for path in files[position + 1 :])

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


# -------------------------------------------------------------------------------------------------------- rotation
def needs_rotation(path: Path, max_bytes: int) -> bool:
    try:
        return path.stat().st_size > max_bytes
    except FileNotFoundError:
        return False


def rotate(path: Path, now: dt.datetime, max_files: int) -> Path:
    """Rename the current file and drop the oldest, so that with the new one there are `max_files`."""
    rotated = path.with_name(f"{path.name}.{now.astimezone(dt.UTC).strftime('%Y%m%d-%H%M%S.%f')}")
    path.rename(rotated)
    old = log_files(path)[:-1]
    for surplus in old[: max(len(old) - (max_files - 1), 0)]:
        surplus.unlink(missing_ok=True)
    return rotated
