"""Which keys are to be looked at: the queue between events and reconcilers.

Three promises, and everything here serves them. A key that is waiting is waiting once, however often it was added. A
key that is being worked on is never handed to a second worker; when it is added meanwhile it is *dirty*, and comes up
again after `done`. And a key that fails comes back later and later, by its own count of failures, so one bad object
costs nothing to its neighbours.

Delays are one heap and one timer, not a task per key: thirty thousand keys asleep cost thirty thousand tuples. An
earlier due time wins over a later one; adding a key at once leaves its delayed entry in place, as upstream does.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.kit.metrics import METRICS
from machinery.kit.tasks import TaskOwner

K = TypeVar("K", bound=Hashable)

RETRY_BACKOFF = Backoff(base_s=0.005, cap_s=1000.0, jitter=0.2)
TIMER_S_MIN = 0.001
"""The shortest sleep of the timer: a clock of a coarser grain than a float would not move, and the timer would spin."""

_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0)
DEPTH = METRICS.gauge("workqueue_depth", "Keys waiting.", ["name"])
ADDS = METRICS.counter("workqueue_adds_total", "Keys added.", ["name"])
RETRIES = METRICS.counter("workqueue_retries_total", "Keys added again after a failure.", ["name"])
QUEUE_SECONDS = METRICS.histogram(
    "workqueue_queue_duration_seconds", "Wait.", ["name"], buckets=_SECONDS
)
WORK_SECONDS = METRICS.histogram(
    "workqueue_work_duration_seconds", "Work.", ["name"], buckets=_SECONDS
)


class ShutDown(Exception):
    """The queue was shut down; the worker ends."""


class WorkQueue(Generic[K]):
    """A deduplicating, delaying, rate-limiting queue of keys for several workers of one event loop."""

    def __init__(
        self,
        clock: Clock,
        *,
        name: str = "",
        backoff: Backoff = RETRY_BACKOFF,
        roll: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._clock, self._backoff, self._roll = clock, backoff, roll
        self._ready: deque[K] = deque()
        self._dirty: dict[K, float] = {}
        self._processing: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._delayed: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._sequence = 0
        self._timer: asyncio.Task[None] | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._owner = TaskOwner()
        self._closed = False
        self._depth, self._adds = DEPTH.labels(name), ADDS.labels(name)
        self._retries, self._waited = RETRIES.labels(name), QUEUE_SECONDS.labels(name)
        self._worked = WORK_SECONDS.labels(name)

    def __len__(self) -> int:
        """Keys that a worker could take now."""
        return len(self._ready)

    @property
    def delayed(self) -> int:
        """Keys that come up later."""
        return len(self._due)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is worked on; delayed keys do not count."""
        return not self._ready and not self._processing

    def next_due(self) -> float | None:
        """When, on the monotonic clock, the earliest delayed key comes up."""
        self._drop_superseded()
        return self._delayed[0][0] if self._delayed else None

    # ------------------------------------------------------------------------------------------------- adding
    def add(self, key: K) -> None:
        """Have `key` looked at; a key that waits already is not added twice."""
        if self._closed or key in self._dirty:
            return
        self._adds.inc()
        self._dirty[key] = self._clock.monotonic()
        if key not in self._processing:
            self._enqueue(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have `key` looked at after `seconds`; of several delays the shortest counts."""
        if self._closed:
            return
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        if (known := self._due.get(key)) is not None and known <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._delayed, (due, self._sequence, key))
        if self._delayed[0][2] == key:
            self._restart_timer()

    def add_within(self, key: K, seconds: float) -> None:
        """Have `key` looked at after `seconds`, or sooner where it comes up anyhow: one look for all that happens meanwhile."""
        if key not in self._dirty or key in self._processing:
            self.add_after(key, seconds)

    def add_rate_limited(self, key: K) -> None:
        """Have `key` looked at again after a pause that grows with its failures in a row."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._retries.inc()
        self.add_after(key, self._backoff.delay(failures, self._roll))

    def forget(self, key: K) -> None:
        """The key's failures are over; its next one is its first."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """Failures in a row."""
        return self._failures.get(key, 0)

    @property
    def failing(self) -> Collection[K]:
        """Keys whose last look failed and that will be tried again."""
        return self._failures.keys()

    # ------------------------------------------------------------------------------------------------- taking
    async def get(self) -> K:
        """The next key; the caller owes a `done`. Raises ShutDown once the queue is closed."""
        while not self._ready:
            if self._closed:
                raise ShutDown
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise
        return self._take()

    def get_nowait(self) -> K | None:
        """The next key or None; the caller owes a `done`."""
        return self._take() if self._ready else None

    def done(self, key: K) -> None:
        """The work on `key` is over; if it was added meanwhile it waits again."""
        started = self._processing.pop(key)
        self._worked.observe(self._clock.monotonic() - started)
        if key in self._dirty and not self._closed:
            self._enqueue(key)

    async def close(self) -> None:
        """Take no more keys, hand out no more, end the timer."""
        self._closed = True
        self._ready.clear()
        self._dirty.clear()
        self._delayed.clear()
        self._due.clear()
        self._depth.set(0)
        while self._waiters:
            self._wake()
        await self._owner.close()

    # ------------------------------------------------------------------------------------------------- inside
    def _take(self) -> K:
        key = self._ready.popleft()
        now = self._clock.monotonic()
        self._waited.observe(now - self._dirty.pop(key))
        self._processing[key] = now
        self._depth.set(len(self._ready))
        return key

    def _enqueue(self, key: K) -> None:
        self._ready.append(key)
        self._depth.set(len(self._ready))
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._owner.spawn(self._run_timer(), "workqueue-timer")

    async def _run_timer(self) -> None:
        while (due := self.next_due()) is not None:
            now = self._clock.monotonic()
            if due > now:
                await self._clock.sleep(max(due - now, TIMER_S_MIN))
            self.release_due()
        self._timer = None

    def release_due(self) -> None:
        """Move every key whose time has come to the waiting ones."""
        now = self._clock.monotonic()
        while (due := self.next_due()) is not None and due <= now:
            _, _, key = heapq.heappop(self._delayed)
            del self._due[key]
            self.add(key)

    def _drop_superseded(self) -> None:
        while self._delayed and self._due.get(self._delayed[0][2]) != self._delayed[0][0]:
            heapq.heappop(self._delayed)
