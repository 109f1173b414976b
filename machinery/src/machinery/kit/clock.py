"""Time is handed in, never read: a seed then replays a whole fleet.

Two clocks in one door, because they answer different questions. `now()` is the wall clock that objects carry
(creationTimestamp, lease renewTime); it may jump. `monotonic()` measures durations on this machine (failure clock,
grants, back-off); it never jumps. The simulator and the tests hand in their own implementation.
"""

import asyncio
import datetime as dt
import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> dt.datetime:
        """Wall time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock's time."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class FakeClock:
    """A clock that stands still until it is told to move (tests and planners' tables)."""

    def __init__(self, now: dt.datetime | None = None) -> None:
        self._now = now or dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self._monotonic = 1_000.0

    def now(self) -> dt.datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Move both clocks on."""
        self._now += dt.timedelta(seconds=seconds)
        self._monotonic += seconds


def rfc3339(moment: dt.datetime) -> str:
    """`2026-01-31T07:08:09Z`: metav1.Time, whole seconds."""
    return _utc(moment).isoformat(timespec="seconds")[:-6] + "Z"


def rfc3339_micro(moment: dt.datetime) -> str:
    """`2026-01-31T07:08:09.000010Z`: metav1.MicroTime."""
    return _utc(moment).isoformat(timespec="microseconds")[:-6] + "Z"


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo is dt.UTC else moment.astimezone(dt.UTC)


def parse_time(text: str) -> dt.datetime:
    """An RFC 3339 time with or without a fraction. Raises ValueError on anything else."""
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r}")
    return moment
