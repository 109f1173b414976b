"""Virtual time: an asyncio loop whose clock jumps to the next timer instead of waiting for it.

A loop with nothing ready and no timer would wait for ever: here that is an error with a name, for in a closed world it
is always a deadlock. Callbacks run in the order in which they became ready, as in any asyncio loop, so one seed gives
one history.
"""

import asyncio
import datetime as dt
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from machinery.kit.clock import rfc3339
from machinery.kit.tasks import cancel_all

T = TypeVar("T")

EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
"""The wall clock when a history begins."""

ROUNDING_S = 1e-6
"""A sleep by another clock is so much longer: one that ends a rounding error too early would be repeated for ever."""
INSTANT_MAX = 100_000
"""Passes of the loop in which time may stand still; more of them is a loop that never waits."""


class Deadlock(Exception):
    """Nothing is ready and nothing is due, or somebody is ready for ever: the world stands still."""


class _JumpingSelector(selectors.BaseSelector):
    """Never waits: what asyncio would sleep is added to the clock. No file is ever ready in a closed world."""

    def __init__(self) -> None:
        self.now = 0.0
        self.still = 0
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
        if timeout is None:
            raise Deadlock("every task waits for another one, and no timer runs")
        self.still += 1
        if timeout > 0:
            self.now += timeout
            self.still = 0
        elif self.still > INSTANT_MAX:
            raise Deadlock(f"time stands still at {self.now:.3f}: some task never waits")
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._keys.clear()


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `time()` is seconds of the history."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def forgive(self) -> None:
        """Count anew how long time stands still."""
        self._jumping.still = 0


class VirtualClock:
    """Both clocks of `machinery.kit.clock.Clock`, by a loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> dt.datetime:
        return EPOCH + dt.timedelta(seconds=self._loop.time())

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
