"""The part that all stores share: conflict checks, one write in flight per key, and the view.

What kine calls the head is here the view plus the set of keys with a write in flight. A write on such a key waits
for the outcome and is then judged against what was really committed. So nothing is ever judged by an uncommitted
value, and a failed commit needs no repair: its keys leave the set and the view never knew. A concrete store only says
how a batch of writes becomes durable and numbered.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence

from machinery.store.history import History
from machinery.store.interface import (
    Change,
    Durability,
    Event,
    KeyExists,
    KeyNotFound,
    RevisionMismatch,
    Row,
    Snapshot,
    StoreError,
    StoreUnavailable,
    Watch,
)
from machinery.store.view import View

log = logging.getLogger(__name__)


class Write:
    """A change that is asked for: in flight from `submit` until it is settled."""

    __slots__ = ("change", "durability", "future", "key", "previous", "value", "waiters")

    def __init__(
        self,
        change: Change,
        key: str,
        value: bytes | None,
        previous: Row | None,
        durability: Durability,
    ) -> None:
        self.change = change
        self.key = key
        self.value = value
        self.previous = previous
        self.durability = durability
        self.future: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self.waiters: list[asyncio.Future[None]] = []

    def event(self, revision: int) -> Event:
        """What watchers hear of it when it has this revision."""
        previous = self.previous
        created = revision if previous is None else previous.create_revision
        value = self.value
        if value is None:
            assert previous is not None
            value = previous.value
        return Event(self.change, Row(self.key, value, revision, created), previous)


class LogStore(ABC):
    """Everything of the Store protocol but durability. Subclasses give `_submit`, `start` and `close`."""

    def __init__(self, history: History | None = None) -> None:
        self._view = View(history)
        self._inflight: dict[str, Write] = {}
        self._memory_keys: set[str] = set()
        self._refusal = "the store is not started"

    @property
    def stale(self) -> Sequence[str]:
        return ()

    @abstractmethod
    async def start(self) -> None:
        """Open for reads and writes."""

    @abstractmethod
    async def close(self) -> None:
        """Refuse writes from now on and end the watchers."""

    # -------------------------------------------------------------------------------------------------- readers
    def current_revision(self) -> int:
        return self._view.revision

    def oldest_revision(self) -> int:
        return self._view.history.oldest

    @property
    def reads_are_current(self) -> bool:
        return True

    @property
    def away(self) -> str:
        return ""

    async def barrier(self) -> int:
        return self._view.revision

    def get(self, key: str) -> Row | None:
        return self._view.get(key)

    def list(self, prefix: str) -> Snapshot:
        return self._view.list(prefix)

    def watch(self, prefix: str, after_revision: int) -> Watch:
        return self._view.watch(prefix, after_revision)

    async def compact(self, revision: int) -> int:
        return self._view.compact(revision)

    # -------------------------------------------------------------------------------------------------- writers
    async def create(
        self, key: str, value: bytes, durability: Durability = Durability.DURABLE
    ) -> Row:
        await self._idle(key)
        if self._view.get(key) is not None:
            await (
                self.barrier()
            )  # a write is not refused by a view that lags behind other processes
            await self._idle(key)
            if self._view.get(key) is not None:
                raise KeyExists(key)
        return await self._write(Change.CREATE, key, _exact(value), None, durability)

    def begin_create(
        self, key: str, value: bytes, durability: Durability = Durability.DURABLE
    ) -> asyncio.Future[Row] | None:
        if self._refusal or key in self._inflight or self._view.get(key) is not None:
            return None
        return self._begin(Change.CREATE, key, _exact(value), None, durability)

    async def update(
        self,
        key: str,
        value: bytes,
        expected_revision: int,
        durability: Durability = Durability.DURABLE,
    ) -> Row:
        previous = await self._expected(key, expected_revision)
        return await self._write(Change.UPDATE, key, _exact(value), previous, durability)

    def begin_update(
        self,
        key: str,
        value: bytes,
        expected_revision: int,
        durability: Durability = Durability.DURABLE,
    ) -> asyncio.Future[Row] | None:
        row = self._view.get(key)
        if self._refusal or key in self._inflight or row is None:
            return None
        if row.revision != expected_revision:
            return None
        return self._begin(Change.UPDATE, key, _exact(value), row, durability)

    def in_flight(self, key: str) -> bool:
        return key in self._inflight

    async def delete(
        self,
        key: str,
        expected_revision: int,
        value: bytes | None = None,
        durability: Durability = Durability.DURABLE,
    ) -> Row:
        previous = await self._expected(key, expected_revision)
        last = None if value is None else _exact(value)
        return await self._write(Change.DELETE, key, last, previous, durability)

    async def _idle(self, key: str) -> None:
        """Wait until no write of `key` is in flight."""
        while (write := self._inflight.get(key)) is not None:
            waiter = asyncio.get_running_loop().create_future()
            write.waiters.append(waiter)
            await waiter

    async def _drained(self) -> None:
        """Wait until no write at all is in flight."""
        while self._inflight:
            await self._idle(next(iter(self._inflight)))

    async def _expected(self, key: str, revision: int) -> Row:
        """The row that the caller believes in. No await lies between the last check and the return."""
        await self._idle(key)
        row = self._view.get(key)
        if row is None or row.revision < revision:
            await (
                self.barrier()
            )  # a write is not refused by a view that lags behind other processes
            await self._idle(key)
            row = self._view.get(key)
        if row is None:
            raise KeyNotFound(key)
        if row.revision != revision:
            raise RevisionMismatch(key, row)
        return row

    async def _write(
        self,
        change: Change,
        key: str,
        value: bytes | None,
        previous: Row | None,
        durability: Durability,
    ) -> Row:
        if self._refusal:
            raise StoreUnavailable(self._refusal)
        return await self._begin(change, key, value, previous, durability)

    def _begin(
        self,
        change: Change,
        key: str,
        value: bytes | None,
        previous: Row | None,
        durability: Durability,
    ) -> asyncio.Future[Row]:
        if previous is not None:
            if key in self._memory_keys:
                durability = Durability.MEMORY
            elif durability is Durability.MEMORY:
                durability = Durability.DURABLE
        write = Write(change, key, value, previous, durability)
        self._inflight[key] = write
        self._submit(write)
        return write.future

    @abstractmethod
    def _submit(self, write: Write) -> None:
        """Take a write that passed the checks; settle it later with `_publish` or `_fail`."""

    # ------------------------------------------------------------------------------------------------- outcomes
    def _publish(self, done: Sequence[tuple[Write, int]], revision: int) -> None:
        """One commit round succeeded: readers and watchers see it, then its callers hear of it."""
        events = [write.event(number) for write, number in done]
        self._view.publish(events, revision)
        for (write, _), event in zip(done, events, strict=True):
            self._note_class(write)
            self._settle(write)
            if not write.future.done():
                write.future.set_result(event.row)

    def _note_class(self, write: Write) -> None:
        if write.durability is Durability.MEMORY and write.change is not Change.DELETE:
            self._memory_keys.add(write.key)
        elif self._memory_keys:
            self._memory_keys.discard(write.key)

    def _fail(self, write: Write, error: StoreError) -> None:
        """The write did not happen: the key is free again and judged by what is committed."""
        self._settle(write)
        if not write.future.done():
            write.future.set_exception(error)

    def _give_up(self, task: str, error: BaseException) -> None:
        """A task of the store died of a broken invariant: refuse everything rather than hang."""
        log.critical("store stopped", extra={"task": task}, exc_info=error)
        self._refusal = f"the store stopped: {error!r}"
        for write in list(self._inflight.values()):
            self._fail(write, StoreUnavailable(self._refusal))

    def _settle(self, write: Write) -> None:
        del self._inflight[write.key]
        for waiter in write.waiters:
            if not waiter.done():
                waiter.set_result(None)


def lost(write: Write, current: Row | None) -> StoreError:
    """The error of a write that another process beat, judged by the row that is there now."""
    if write.change is Change.CREATE:
        return KeyExists(write.key)
    return KeyNotFound(write.key) if current is None else RevisionMismatch(write.key, current)


def _exact(value: bytes) -> bytes:
    """A copy of exact size: orjson's results keep a block of 8 kB alive."""
    return bytes(memoryview(value))
