"""The store on PostgreSQL: several servers, one log.

One task talks to the database, one thing at a time: append a batch, or read what others appended (the tail). So own
rows and those of others are published in the order of their revisions with no further bookkeeping: the answer to an
append says which revision the log had reached before it, and where the view is behind, that part is read first.
NOTIFY only says that reading is worth while; polling makes sure.

When the connection breaks, writes are refused, reads go on from memory, and the writes that were under way are
settled after the reconnect by looking whether their rows are there. A process that slept through a compaction reloads
everything and ends its watchers. Memory rows take their number from the common sequence and stay in this process.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Sequence

from machinery.kit.backoff import Backoff
from machinery.kit.tasks import TaskOwner
from machinery.store.history import History
from machinery.store.interface import Change, Durability, Event, Row, StoreUnavailable
from machinery.store.log import LogStore, Write, lost
from machinery.store.outcome import OutcomeUnknown
from machinery.store.sealing import Sealer
from machinery.store.sql.ledger import Ledger
from machinery.store.sql.postgres_connection import (
    LOST,
    NUMBER_ONLY,
    TAIL_ROWS_MAX,
    Asked,
    Logged,
    PostgresConnection,
    reason,
)
from machinery.store.sql.queue import WriteQueue
from machinery.store.sql.values import Codec

log = logging.getLogger(__name__)

RETAIN_REVISIONS = 10_000
"""Superseded rows younger than this stay, for the tails of other processes."""
RECONNECT = Backoff(base_s=0.1, cap_s=5.0)
UNKNOWN_WAIT_S = 10.0
"""So long a caller waits to learn the outcome of a write under which the connection broke."""


class PostgresStore(LogStore):
    """A Store in a database that others write to as well."""

    def __init__(
        self,
        url: str,
        *,
        history: History | None = None,
        poll_s: float = 1.0,
        retain_revisions: int = RETAIN_REVISIONS,
        unknown_wait_s: float = UNKNOWN_WAIT_S,
        migrate_to: str = "store@head",
        sealer: Sealer | None = None,
    ) -> None:
        super().__init__(history)
        self._connection = PostgresConnection(url, self._heard, self._lost)
        self._writer = secrets.randbits(63)
        self._poll_s = poll_s
        self._retain = retain_revisions
        self._unknown_wait_s = unknown_wait_s
        self._migrate_to = migrate_to
        self._queue = WriteQueue()
        self._codec = Codec(sealer)
        self._ledger = Ledger()
        self._barriers: list[asyncio.Future[int]] = []
        self._hinted = 0
        self._trim_to = 0
        self._running = False
        self._owner = TaskOwner()

    @property
    def trim_backlog(self) -> int:
        """Superseded rows still in the log: the lag of compaction."""
        return self._ledger.backlog

    @property
    def connected(self) -> bool:
        """Whether writes are taken now."""
        return not self._refusal

    async def start(self) -> None:
        await self._connection.open(self._migrate_to)
        try:
            await self._load()
        except LOST as error:
            await self._connection.close()
            raise StoreUnavailable(f"the log cannot be read: {reason(error)}") from error
        self._refusal = ""
        self._owner = TaskOwner(self._give_up)
        self._running = True
        _ = self._owner.spawn(self._run(), "store commit and tail")
        _ = self._owner.spawn(self._poll(), "store poll timer")

    async def close(self) -> None:
        if not self._running:
            return
        self._running = False
        if not self._refusal:
            self._refusal = "the store is closed"
            self._queue.nudge()
            with contextlib.suppress(TimeoutError):  # the database may go away just now
                await asyncio.wait_for(self._drained(), self._unknown_wait_s)
        await self._owner.close()
        for write in list(self._inflight.values()):
            self._fail(write, OutcomeUnknown("the store was closed while the database was away"))
        self._fail_barriers(self._barriers, "the store is closed")
        await self._connection.close()
        self._view.history.end()

    @property
    def stale(self) -> Sequence[str]:
        return list(self._codec.stale)

    @property
    def reads_are_current(self) -> bool:
        return False

    @property
    def away(self) -> str:
        return self._refusal

    async def barrier(self) -> int:
        if self._refusal:
            raise StoreUnavailable(self._refusal)
        reached: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._barriers.append(reached)
        self._queue.nudge()
        return await reached

    async def compact(self, revision: int) -> int:
        oldest = self._view.compact(revision)
        self._trim_to = max(self._trim_to, revision)
        self._queue.nudge()
        return oldest

    def _submit(self, write: Write) -> None:
        self._queue.put(write)

    # ----------------------------------------------------------------------------------------------- the task
    async def _run(self) -> None:
        while True:
            batch = await self._queue.take()
            barriers, self._barriers = self._barriers, []
            try:
                await self._round(batch)
            except (ValueError, *LOST) as error:  # ValueError: a row that does not open here
                self._refuse(reason(error))
                self._fail_barriers(barriers, self._refusal)
                await self._recover(batch)
                continue
            for barrier in barriers:
                if not barrier.done():
                    barrier.set_result(self._view.revision)

    async def _round(self, batch: list[Write]) -> None:
        """One append, or without one a look at the tail; then some trimming."""
        if not self._connection.connected:
            for write in batch:  # never sent: the outcome is known
                self._fail(write, StoreUnavailable("the database is away"))
            raise ConnectionError("the connection is closed")
        hinted = self._hinted
        if batch:
            await self._append(batch)
        else:
            await self._catch_up()
        if hinted > self._view.revision:
            self._view.publish([], hinted)
        await self._trim(at_least=100 if batch else 1)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            self._queue.nudge()

    def _heard(self, payload: str) -> None:
        """NOTIFY: "writer:revision"; every row up to that revision is committed by now."""
        writer, _, revision = payload.partition(":")
        if writer != str(self._writer) and revision.isdecimal():
            self._hinted = max(self._hinted, int(revision))
            self._queue.nudge()

    def _lost(self) -> None:
        self._queue.nudge()

    # ----------------------------------------------------------------------------------------------- appending
    async def _append(self, batch: list[Write]) -> None:
        appended = await self._connection.append(self._writer, [self._asked(w) for w in batch])
        whole = True
        if appended.base > self._view.revision:
            whole = await self._catch_up(appended.base)
        done = [(batch[place], number) for place, (number, _) in sorted(appended.accepted.items())]
        for place, (number, previous) in appended.accepted.items():
            write = batch[place]
            if whole and write.durability is not Durability.MEMORY:
                self._ledger.stored(write.key, write.change, number, previous)
        if not whole:
            self._settle_reloaded(done)
        elif done:
            self._publish(done, done[-1][1])
        for place, write in enumerate(batch):
            if place not in appended.accepted:
                self._fail(write, lost(write, self._view.get(write.key)))

    def _asked(self, write: Write) -> Asked:
        if write.durability is Durability.MEMORY:
            return Asked(write.key, NUMBER_ONLY, None, 0, 0)
        value = None if write.value is None else self._codec.pack(write.key, write.value)
        previous = write.previous
        if previous is None:
            return Asked(write.key, write.change, value, 0, 0)
        return Asked(write.key, write.change, value, previous.create_revision, previous.revision)

    def _settle_reloaded(self, done: list[tuple[Write, int]]) -> None:
        """The view was reloaded after these were appended: it has the stored ones, and no place for the others."""
        for write, number in done:
            if write.durability is Durability.MEMORY:
                self._fail(write, StoreUnavailable("the store was reloaded; try again"))
                continue
            self._settle(write)
            if not write.future.done():
                write.future.set_result(write.event(number).row)

    # ------------------------------------------------------------------------------------------------- the tail
    async def _catch_up(self, up_to: int = 2**63 - 1) -> bool:
        """Publish what the log has beyond the view; False if a gap made it reload instead."""
        while True:
            tail = await self._connection.tail(self._view.revision, up_to)
            if tail.compacted > self._view.revision:
                log.warning(
                    "store slept through a compaction",
                    extra={"revision": self._view.revision, "compacted": tail.compacted},
                )
                await self._load()
                return False
            self._ledger.trimmed_elsewhere(tail.compacted)
            if tail.rows:
                self._publish_tail(tail.rows)
            if len(tail.rows) < TAIL_ROWS_MAX:
                return True

    def _publish_tail(self, rows: list[Logged]) -> None:
        changed: dict[str, Row | None] = {}
        events: list[Event] = []
        for row in rows:
            change = Change(row.change)
            self._ledger.stored(row.key, change, row.revision, row.previous_revision)
            previous = changed[row.key] if row.key in changed else self._view.get(row.key)
            event = self._tail_event(row, change, previous)
            if event is not None:
                events.append(event)
                changed[row.key] = None if change is Change.DELETE else event.row
            self._memory_keys.discard(row.key)
        self._view.publish(events, rows[-1].revision)
        for row in rows:
            write = self._inflight.get(row.key)
            if row.writer == self._writer and write is not None:
                self._settle(write)
                if not write.future.done():
                    write.future.set_result(write.event(row.revision).row)

    def _tail_event(self, row: Logged, change: Change, previous: Row | None) -> Event | None:
        if change is Change.DELETE:
            if previous is None:
                return None
            value = previous.value if row.value is None else self._codec.unpack(row.key, row.value)
        else:
            change = Change.CREATE if previous is None else Change.UPDATE
            value = self._codec.unpack(row.key, row.value or b"")
        return Event(change, Row(row.key, value, row.revision, row.create_revision), previous)

    async def _load(self) -> None:
        """Read everything; memory rows of this process stay. Watchers start again from a list."""
        replay = await self._connection.replay()
        try:
            rows = replay.rows(self._codec.unpack)
        except ValueError as error:
            raise StoreUnavailable(str(error)) from error
        kept = [row for row in self._view.rows() if row.key in self._memory_keys]
        fresh = replay.empty and replay.revision == self._view.revision
        self._ledger = replay.ledger
        self._view.restore([*rows, *kept], replay.revision, 0 if fresh else replay.revision)

    async def _trim(self, at_least: int) -> None:
        horizon = max(self._view.revision - self._retain, self._trim_to)
        rows = self._ledger.due(horizon, at_least)
        if rows:
            await self._connection.trim([row.revision for row in rows], rows[-1].at - 1)
            self._ledger.trimmed(rows)
            if self._ledger.due(horizon, at_least=1):
                self._queue.nudge()

    # ------------------------------------------------------------------------------------------ broken connection
    def _refuse(self, why: str) -> None:
        self._refusal = f"the database is away: {why}"
        log.warning("store lost its database", extra={"reason": why})
        waiting, self._barriers = self._barriers, []
        self._fail_barriers(waiting, self._refusal)
        while queued := self._queue.take_now():
            for write in queued:
                self._fail(write, StoreUnavailable(self._refusal))

    async def _recover(self, batch: list[Write]) -> None:
        """Reconnect with back-off, then settle the writes whose outcome is unknown."""
        unknown = [write for write in batch if self._inflight.get(write.key) is write]
        timer = asyncio.get_running_loop().call_later(self._unknown_wait_s, _tell_unknown, unknown)
        failures = 0
        while True:
            await self._connection.drop()
            if failures:
                await asyncio.sleep(RECONNECT.delay(failures))
            try:
                await self._connection.open(None)
                whole = await self._catch_up()
                break
            except (StoreUnavailable, ValueError, *LOST) as error:
                failures += 1
                log.warning("store cannot reconnect", extra={"reason": str(error), "try": failures})
        timer.cancel()
        for write in unknown:
            if self._inflight.get(write.key) is write:
                self._fail(write, _not_taken() if whole else _unknown())
        if self._running:
            self._refusal = ""
        log.info("store has its database again", extra={"revision": self._view.revision})

    def _fail_barriers(self, barriers: list[asyncio.Future[int]], why: str) -> None:
        for barrier in barriers:
            if not barrier.done():
                barrier.set_exception(StoreUnavailable(why))


def _not_taken() -> StoreUnavailable:
    return StoreUnavailable("the database was lost before the write")


def _unknown() -> StoreUnavailable:
    return OutcomeUnknown("the write's outcome is unknown: the database was lost under it")


def _tell_unknown(writes: list[Write]) -> None:
    for write in writes:
        if not write.future.done():
            write.future.set_exception(_unknown())
