"""Virtual time: an asyncio loop whose clock jumps to the next timer instead of waiting for it.

A loop with nothing ready and no timer would wait for ever: here that is an error with a name, for in a closed world it
is always a deadlock. Callbacks run in the order in which they became ready, as in any asyncio loop, so one seed gives
one history.
"""

import asyncio
import datetime as dt
import heapq
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from machinery.kit.clock import rfc3339
from machinery.kit.tasks import cancel_all

T = TypeVar("T")

EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
"""The wall clock when a history begins."""

ROUNDING_S = 1e-6
"""A sleep by another clock is so much longer: one that ends a rounding error too early would be repeated for ever."""
JUMP_MAX_S = 86_400.0
CANCELLED_MIN, CANCELLED_SHARE = 100, 0.5
"""As asyncio has them: the longest wait of a pass, and of how many timers what share is cancelled when they are cleared away."""
CLOSED = "Event loop is closed"
INSTANT_MAX = 100_000
"""Passes of the loop in which time may stand still; more of them is a loop that never waits."""


class Deadlock(Exception):
    """Nothing is ready and nothing is due, or somebody is ready for ever: the world stands still."""


class _NoFiles(selectors.BaseSelector):
    """Keeps what asyncio registers of itself. No file is ever ready in a closed world, and nobody asks."""

    def __init__(self) -> None:
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, number, events, data)
        self._keys[number] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        return self._keys.pop(number)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._keys.clear()


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `time()` is seconds of the history.

    A pass does what asyncio's own does, in the same order, without its questions about files, debugging and threads: a
    history makes twenty thousand passes and sixty thousand handles. It leans on names that asyncio keeps to itself.
    """

    _ready: "deque[asyncio.Handle]"
    _scheduled: "list[tuple[float, asyncio.TimerHandle]]"
    """A heap. The pair of a time and its timer compares as the timer does, and much faster."""
    _closed: bool
    _stopping: bool
    _clock_resolution: float
    _timer_cancelled_count: int

    def __init__(self) -> None:
        self._now = 0.0
        self._still = 0
        super().__init__(_NoFiles())

    def time(self) -> float:
        return self._now

    def forgive(self) -> None:
        """Count anew how long time stands still."""
        self._still = 0

    def call_soon(  # type: ignore[override]  # the stub has a type variable for the arguments
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        if self._closed:
            raise RuntimeError(CLOSED)
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        if self._closed:
            raise RuntimeError(CLOSED)
        timer: Any = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, (when, timer))
        timer._scheduled = True  # noqa: SLF001 - asyncio counts cancelled timers by it
        return timer

    def _run_once(self) -> None:
        """One pass: the clock jumps if nothing is ready, then what is ready at its beginning is called."""
        if self._timer_cancelled_count:
            self._forget_cancelled()
        scheduled, ready = self._scheduled, self._ready
        self._still += 1
        if not ready and not self._stopping:
            self._jump()
        if self._still > INSTANT_MAX:
            raise Deadlock(f"time stands still at {self._now:.3f}: some task never waits")
        due = self._now + self._clock_resolution
        while scheduled and scheduled[0][0] < due:
            timer: Any = heapq.heappop(scheduled)[1]
            timer._scheduled = False  # noqa: SLF001 - as above
            ready.append(timer)
        for _ in range(len(ready)):
            handle: Any = ready.popleft()
            if not handle._cancelled:  # noqa: SLF001 - a method would cost as much as the call
                handle._run()  # noqa: SLF001 - as asyncio does

    def _jump(self) -> None:
        """To the first timer. Raises Deadlock when there is none."""
        if not self._scheduled:
            raise Deadlock("every task waits for another one, and no timer runs")
        left = min(self._scheduled[0][0] - self._now, JUMP_MAX_S)
        if left > 0:
            self._now += left
            self._still = 0

    def _forget_cancelled(self) -> None:
        """Drop cancelled timers as asyncio does: all of them when they are many, otherwise those that are first."""
        scheduled: list[tuple[float, Any]] = self._scheduled
        if (
            len(scheduled) > CANCELLED_MIN
            and self._timer_cancelled_count / len(scheduled) > CANCELLED_SHARE
        ):
            for _, timer in scheduled:
                timer._scheduled = not timer._cancelled  # noqa: SLF001 - as above
            scheduled[:] = [entry for entry in scheduled if entry[1]._scheduled]  # noqa: SLF001
            heapq.heapify(scheduled)
            self._timer_cancelled_count = 0
            return
        while scheduled and scheduled[0][1]._cancelled:  # noqa: SLF001 - as above
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)[1]._scheduled = False  # noqa: SLF001 - as above


class VirtualClock:
    """Both clocks of `machinery.kit.clock.Clock`, by a loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._read, self._read_at = EPOCH, 0.0

    def now(self) -> dt.datetime:
        seconds = self._loop.time()
        if seconds != self._read_at:
            self._read_at, self._read = seconds, EPOCH + dt.timedelta(seconds=seconds)
        return self._read

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class MemberClock:
    """A member's own clock: its wall clock is `offset_s` wrong, and `rate` of its seconds pass in one of ours.

    Only the kubelet's grants are allowed to hang on the rate (`federation.propagation.resilience.DRIFT`); nothing at all may
    hang on the offset.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, offset_s: float = 0.0, rate: float = 1.0
    ) -> None:
        self._loop = loop
        self.offset_s, self.rate = offset_s, rate

    def now(self) -> dt.datetime:
        return EPOCH + dt.timedelta(seconds=self._loop.time() + self.offset_s)

    def monotonic(self) -> float:
        return self._loop.time() * self.rate

    def wall(self, monotonic: float) -> str:
        """What the wall clock shows at that time, if nobody sets it until then."""
        return rfc3339(EPOCH + dt.timedelta(seconds=monotonic / self.rate + self.offset_s))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.rate + ROUNDING_S)

    def call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """A timer of this machine."""
        return self._loop.call_later(seconds / self.rate, call)


def run(history: Coroutine[Any, Any, T]) -> T:
    """Run one history to its end in a loop of its own."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(history)
    finally:
        _end(loop)


def _end(loop: VirtualLoop) -> None:
    """Cancel what a broken history left behind, so that the next one starts clean."""
    try:
        loop.forgive()
        loop.run_until_complete(cancel_all(asyncio.all_tasks(loop)))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
