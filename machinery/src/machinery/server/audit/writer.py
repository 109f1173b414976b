"""The file of the audit log: lines are gathered for a moment and written by a thread, so that no request waits for a disk.

The file is only appended to and has mode 0600. One that has grown to its size is put aside: audit.log becomes audit.log.1,
that audit.log.2, and the oldest goes. Several servers on one data directory may write the same file: each write is made
under the directory's lock, and who finds the file put aside by another opens the new one.

Limits: lines that wait are bounded; what finds no room, or cannot be written, is dropped, counted and logged. A process that
is killed loses what it had gathered (FLUSH_S); nothing is synced to the disk by us.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Iterator, Sequence

from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner

log = logging.getLogger(__name__)

FLUSH_S = 0.25
WAITING_BYTES_MAX = 8 << 20
"""Lines that may wait for the disk."""
FILE_MODE = 0o600


class RotatingFile:
    """Lines at the end of a file; older files beside it. For one thread at a time."""

    def __init__(self, path: str, bytes_max: int, backups_max: int) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._backups_max = backups_max
        self._file = -1
        self._directory = -1
        self._torn = False

    def open(self) -> None:
        """Make what is missing. Raises OSError."""
        directory = os.path.dirname(os.path.abspath(self.path))
        os.makedirs(directory, 0o700, exist_ok=True)
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open_file()

    def _open_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self.path, flags, FILE_MODE)

    def write(self, lines: Sequence[bytes]) -> None:
        """Append whole lines. Raises OSError; then some may be in the file."""
        with self._locked():
            self._follow()
            size = os.fstat(self._file).st_size
            batch: list[bytes] = []
            for line in lines:
                if size and size + len(line) > self._bytes_max:
                    self._append(b"".join(batch))
                    self._rotate()
                    batch, size = [], 0
                batch.append(line)
                size += len(line)
            self._append(b"".join(batch))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._directory, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._directory, fcntl.LOCK_UN)

    def _follow(self) -> None:
        """The file of that name, if ours is it no more."""
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            self._open_file()
            return
        if self._file < 0 or not os.path.samestat(named, os.fstat(self._file)):
            self._open_file()

    def _append(self, data: bytes) -> None:
        rest = memoryview(b"\n" + data if self._torn else data)
        if not data:
            return
        while rest:
            done = os.write(self._file, rest)
            rest, self._torn = rest[done:], True  # a disk that is full may take half a line
        self._torn = False

    def _rotate(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{self.path}.{self._backups_max}")
        for number in range(self._backups_max - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.replace(self.path, f"{self.path}.1")
        self._open_file()

    def close(self) -> None:
        """Nothing can be written afterwards."""
        for number in (self._file, self._directory):
            if number >= 0:
                os.close(number)
        self._file = self._directory = -1


class AuditLog:
    """Takes lines without waiting, writes them in batches."""

    def __init__(self, file: RotatingFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._tasks = TaskOwner()
        self._wake = asyncio.Event()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._told = 0
        self._fault = ""
        self.written = 0
        """Lines in the file."""
        self.dropped = 0
        """Lines that found no room or could not be written."""

    def start(self) -> None:
        """Open the file. Raises OSError."""
        self._file.open()
        _ = self._tasks.spawn(self._run(), "audit-log")

    def add(self, line: bytes) -> None:
        """One more line, if there is room."""
        if self._waiting_bytes + len(line) > WAITING_BYTES_MAX:
            self.dropped += 1
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if not self._wake.is_set():
            self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._clock.sleep(FLUSH_S)
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write what waits; what cannot be written is dropped, as more comes all the time."""
        lines, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if lines:
            await asyncio.get_running_loop().run_in_executor(None, self._put, lines)
        if self.dropped > self._told:
            lost, self._told = self.dropped - self._told, self.dropped
            reason, self._fault = self._fault or "more came than could be written", ""
            log.error("audit events were dropped", extra={"events": lost, "reason": reason})

    def _put(self, lines: Sequence[bytes]) -> None:
        with self._lock:
            try:
                self._file.write(lines)
                self.written += len(lines)
            except OSError as error:
                self._fault = f"{self._file.path}: {error.strerror or error}"
                self.dropped += len(lines)

    async def stop(self) -> None:
        """Write what is left, close the file."""
        await self._tasks.close()
        await self.flush()
        with self._lock:
            self._file.close()
