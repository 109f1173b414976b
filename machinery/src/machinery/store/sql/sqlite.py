"""The store on one SQLite file: for one server, from a Raspberry Pi to a cluster of a thousand nodes.

One task takes batches from the queue, numbers them, has the writer thread commit them, and publishes. Relaxed and
memory rows get their numbers in the same batches but wait for no disk: their numbers are covered by a block that was
reserved durably before, so numbering after a crash resumes above any ever issued. What relaxed writes changed is
flushed every few minutes and at close; a crash loses the changes since the last flush, never the numbering.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from machinery.kit.clock import Clock, SystemClock
from machinery.kit.tasks import TaskOwner
from machinery.store.history import History
from machinery.store.interface import Change, Durability, StoreUnavailable
from machinery.store.log import LogStore, Write, lost
from machinery.store.sealing import Sealer
from machinery.store.sql.ledger import TRIM_ROWS_MAX, Ledger, Superseded
from machinery.store.sql.queue import WriteQueue
from machinery.store.sql.sqlite_file import Commit, LogRow, SqliteFile
from machinery.store.sql.values import Codec

log = logging.getLogger(__name__)
T = TypeVar("T")
Numbered = list[tuple[Write, int]]

RESERVE_REVISIONS = 10_000
"""Revisions reserved at once for rows that are not stored with their number."""
RETAIN_REVISIONS = 1_000
"""Superseded rows younger than this stay in the file; nothing reads them, they only make trimming come in bulk."""


class SqliteStore(LogStore):
    """A Store in a file."""

    def __init__(
        self,
        path: str,
        *,
        clock: Clock | None = None,
        relaxed_flush_s: float = 180.0,
        history: History | None = None,
        retain_revisions: int = RETAIN_REVISIONS,
        migrate_to: str = "store@head",
        connection_class: type[sqlite3.Connection] = sqlite3.Connection,
        sealer: Sealer | None = None,
    ) -> None:
        super().__init__(history)
        self._codec = Codec(sealer)
        self._file = SqliteFile(path, migrate_to, connection_class, self._codec)
        self._clock = clock or SystemClock()
        self._flush_s = relaxed_flush_s
        self._next_flush = 0.0
        self._retain = retain_revisions
        self._queue = WriteQueue()
        self._ledger = Ledger()
        self._issued = 0
        self._reserved = 0
        self._trim_to = 0
        self._thread: ThreadPoolExecutor | None = None
        self._owner = TaskOwner()
        self._closing = False

    @property
    def trim_backlog(self) -> int:
        """Superseded rows still in the file: the lag of compaction."""
        return self._ledger.backlog

    @property
    def stale(self) -> Sequence[str]:
        return list(self._codec.stale)

    async def start(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        try:
            opened = await self._in_thread(self._file.open)
        except BaseException:
            self._thread.shutdown(wait=False)
            self._thread = None
            raise
        self._ledger = opened.ledger
        self._issued = self._reserved = opened.revision
        self._view.restore(opened.rows, opened.revision, 0 if opened.fresh else opened.revision)
        self._next_flush = self._clock.monotonic() + self._flush_s
        self._refusal = ""
        self._owner = TaskOwner(self._give_up)
        self._closing = False
        _ = self._owner.spawn(self._run(), "store commit")
        _ = self._owner.spawn(self._tick(), "store flush timer")

    async def close(self) -> None:
        if self._thread is None:
            return
        self._refusal = "the store is closed"
        self._closing = True
        self._queue.nudge()
        await self._drained()
        await self._owner.close()
        while await self._flush():
            pass
        await self._in_thread(self._file.close)
        self._thread.shutdown()
        self._thread = None
        self._view.history.end()

    async def compact(self, revision: int) -> int:
        oldest = self._view.compact(revision)
        self._trim_to = max(self._trim_to, revision)
        self._queue.nudge()
        return oldest

    def _submit(self, write: Write) -> None:
        self._queue.put(write)

    # ------------------------------------------------------------------------------------------------ the task
    async def _run(self) -> None:
        while True:
            batch = await self._queue.take()
            if batch:
                await self._commit(batch)
            elif await self._trim():
                self._queue.nudge()
            if not self._closing and self._clock.monotonic() >= self._next_flush:
                await self._flush_all()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(max(0.05, self._flush_s))
            self._queue.nudge()

    async def _commit(self, batch: list[Write]) -> None:
        numbered = list(
            zip(batch, range(self._issued + 1, self._issued + len(batch) + 1), strict=True)
        )
        self._issued += len(batch)
        rows = [self._row(write, revision) for write, revision in numbered if _stored(write)]
        unstored = len(rows) < len(batch)
        reserve = (
            self._issued + RESERVE_REVISIONS if unstored and self._issued > self._reserved else 0
        )
        trim = self._ledger.due(max(self._issued - self._retain, self._trim_to)) if rows else []
        done = numbered
        if rows or reserve:
            commit = Commit(rows, [row.revision for row in trim], reserve)
            try:
                refused = await self._in_thread(self._file.commit, commit)
            except StoreUnavailable as error:
                done = self._drop(numbered, error)
            else:
                self._note(rows, trim, refused, reserve)
                done = self._without(numbered, refused)
        self._publish(done, self._issued)
        for write, revision in done:
            if write.durability is Durability.RELAXED:
                self._ledger.relaxed(write.event(revision))

    def _row(self, write: Write, revision: int) -> LogRow:
        current = 0 if write.previous is None else write.previous.revision
        previous = self._ledger.previous(write.key, current)
        created = revision if write.previous is None else write.previous.create_revision
        return LogRow(revision, write.key, write.change, write.value, created, previous)

    def _note(
        self, rows: list[LogRow], trim: list[Superseded], refused: frozenset[int], reserve: int
    ) -> None:
        """The transaction is on the disk."""
        self._ledger.trimmed(trim)
        self._reserved = max(self._reserved, reserve)
        for row in rows:
            if row.revision not in refused:
                self._ledger.stored(row.key, row.change, row.revision, row.previous_revision)

    def _drop(self, numbered: Numbered, error: StoreUnavailable) -> Numbered:
        """Fail what needed the disk; what did not, and has a reserved number, goes on."""
        log.error("store commit failed", extra={"reason": str(error), "writes": len(numbered)})
        kept: Numbered = []
        for write, revision in numbered:
            if _stored(write) or revision > self._reserved:
                self._fail(write, StoreUnavailable(str(error)))
            else:
                kept.append((write, revision))
        return kept

    def _without(self, numbered: Numbered, refused: frozenset[int]) -> Numbered:
        """Only another writer of the file can refuse a row; then the loser alone is told."""
        if not refused:
            return numbered
        log.error("store file has another writer", extra={"rows": len(refused)})
        for write, revision in numbered:
            if revision in refused:
                self._fail(write, lost(write, self._view.get(write.key)))
        return [(write, revision) for write, revision in numbered if revision not in refused]

    async def _trim(self) -> bool:
        """Trim one transaction's worth outside of a write; whether there was anything."""
        trim = self._ledger.due(max(self._issued - self._retain, self._trim_to), at_least=1)
        if not trim:
            return False
        try:
            await self._in_thread(self._file.commit, Commit(trim=[row.revision for row in trim]))
        except StoreUnavailable as error:
            log.error("store trim failed", extra={"reason": str(error)})
            return False
        self._ledger.trimmed(trim)
        return True

    # ------------------------------------------------------------------------------------------------ relaxed
    async def _flush_all(self) -> None:
        self._next_flush = self._clock.monotonic() + self._flush_s
        while await self._flush():
            if len(self._queue):
                await self._commit(self._queue.take_now())

    async def _flush(self) -> bool:
        """Store what relaxed writes changed, one transaction's worth; whether there may be more."""
        rows = []
        for key, revision, last in self._ledger.dirty(TRIM_ROWS_MAX):
            row = self._view.get(key)
            if row is not None:
                change = Change.UPDATE if last else Change.CREATE
                rows.append(LogRow(revision, key, change, row.value, row.create_revision, last))
            elif last:
                rows.append(LogRow(revision, key, Change.DELETE, None, 0, last))
            else:
                self._ledger.forget(key)
        if not rows:
            return False
        try:
            await self._in_thread(self._file.commit, Commit(rows))
        except StoreUnavailable as error:
            log.error("store flush failed", extra={"reason": str(error), "rows": len(rows)})
            return False
        self._note(rows, [], frozenset(), 0)
        return True

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        assert self._thread is not None
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _stored(write: Write) -> bool:
    return write.durability is Durability.DURABLE
