"""The newest events, and those who watch them.

A ring keeps the events that a watch may start from. Each watcher holds its own list of events it has not taken yet;
the events in it are shared, so a lagging watcher costs pointers, and one that lags by more than the ring holds ends
with Compacted. Watchers are found by the prefixes of the event's key (five look-ups for a pod), never by asking each.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from machinery.store.interface import Compacted, Event, FutureRevision, StoreError

HISTORY_EVENTS_MAX = 10_000
"""Events kept for watchers, and how far a watcher may lag."""
HISTORY_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of values kept for watchers, whatever their number."""


class PrefixWatch:
    """One reader's stream. It is read by one task at a time."""

    def __init__(self, history: "History", prefix: str, backlog: list[Event]) -> None:
        self.prefix = prefix
        self._history = history
        self._pending = backlog
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._error: StoreError | None = None

    def __aiter__(self) -> AsyncIterator[Sequence[Event]]:
        return self

    async def __anext__(self) -> Sequence[Event]:
        while not self._pending:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        batch, self._pending = self._pending, []
        return batch

    def close(self) -> None:
        """End the stream for its reader; what it has not taken is dropped."""
        self._history.forget(self)
        self._pending = []
        self.end(None)

    def feed(self, events: Sequence[Event], limit: int) -> bool:
        """Take one commit round's events; False when the reader has fallen behind."""
        self._pending += events
        if len(self._pending) > limit:
            self._pending = []
            return False
        self._wake()
        return True

    def end(self, error: StoreError | None) -> None:
        """Stop after what is pending, with `error` if there is one."""
        self._ended = True
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class History:
    """The ring and its watchers. `oldest` is the oldest revision after which nothing is missing."""

    def __init__(
        self, events_max: int = HISTORY_EVENTS_MAX, bytes_max: int = HISTORY_BYTES_MAX
    ) -> None:
        assert events_max > 0
        assert bytes_max > 0
        self.oldest = 0
        self.events_max = events_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._ring: deque[Event] = deque()
        self._watches: dict[str, set[PrefixWatch]] = {}

    def publish(self, events: Sequence[Event]) -> None:
        """Keep one commit round's events, trim to the bounds, hand them to the watchers."""
        self._ring.extend(events)
        self._bytes += sum(len(event.row.value) for event in events)
        while len(self._ring) > self.events_max or self._bytes > self._bytes_max:
            self._drop_first()
        if not self._watches:
            return
        for watch, mine in self._addressed(events).items():
            if not watch.feed(mine, self.events_max):
                self.forget(watch)
                watch.end(Compacted(mine[0].row.revision, self.oldest))

    def _drop_first(self) -> None:
        first = self._ring.popleft()
        self._bytes -= len(first.row.value)
        self.oldest = max(self.oldest, first.row.revision)

    def _addressed(self, events: Sequence[Event]) -> dict[PrefixWatch, list[Event]]:
        by_prefix: dict[str, list[Event]] = {}
        for event in events:
            key = event.row.key
            slash = key.find("/")
            while slash >= 0:
                prefix = key[: slash + 1]
                if prefix in self._watches:
                    by_prefix.setdefault(prefix, []).append(event)
                slash = key.find("/", slash + 1)
        return {
            watch: mine for prefix, mine in by_prefix.items() for watch in self._watches[prefix]
        }

    def watch(self, prefix: str, after_revision: int, current: int) -> PrefixWatch:
        """A stream of what comes after `after_revision`, beginning with what the ring holds."""
        if after_revision > current:
            raise FutureRevision(after_revision, current)
        if after_revision < self.oldest:
            raise Compacted(after_revision, self.oldest)
        backlog: list[Event] = []
        for event in reversed(self._ring):
            if event.row.revision <= after_revision:
                break
            if event.row.key.startswith(prefix):
                backlog.append(event)
        backlog.reverse()
        watch = PrefixWatch(self, prefix, backlog)
        self._watches.setdefault(prefix, set()).add(watch)
        return watch

    def forget(self, watch: PrefixWatch) -> None:
        """Take a watcher out of the fan-out."""
        if mine := self._watches.get(watch.prefix):
            mine.discard(watch)
            if not mine:
                del self._watches[watch.prefix]

    def compact(self, revision: int) -> None:
        """Forget the events up to `revision`."""
        while self._ring and self._ring[0].row.revision <= revision:
            self._drop_first()
        self.oldest = max(self.oldest, revision)

    def restart(self, revision: int) -> None:
        """Nothing before `revision` can be told any more: every watcher starts again from a list."""
        self.compact(revision)
        self.end(Compacted(revision - 1, revision))

    def end(self, error: StoreError | None = None) -> None:
        """End every watcher."""
        watches = [watch for mine in self._watches.values() for watch in mine]
        self._watches.clear()
        for watch in watches:
            watch.end(error)
