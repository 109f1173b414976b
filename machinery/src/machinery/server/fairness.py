"""Seats for requests: who gets one now, who waits, who is told to come again (429, Retry-After: 1). Decisions: fairqueue.py.

A seat that is wanted is taken back from whoever has had it for `seat_s`: a client that reads or writes slowly would else keep
it. Nobody looks at that while nobody waits, so a free seat costs a dictionary's look-up.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from aiohttp import web

from machinery.kit.metrics import METRICS
from machinery.meta.errors import TooManyRequests
from machinery.server.fairqueue import FairQueue
from machinery.server.limits import Limits
from machinery.server.shares import SEATS, Share

_Waiter = asyncio.Future[None]


WAITING = METRICS.gauge(
    "apiserver_flowcontrol_current_inqueue_requests", "Requests that wait for a seat.", ["priority_level"]
)  # fmt: skip
REJECTED = METRICS.counter(
    "apiserver_flowcontrol_rejected_requests_total",
    "Requests that were answered 429.",
    ["priority_level", "reason"],
)


def too_many() -> TooManyRequests:
    """429 in upstream's words (apiserver/pkg/server/filters), as Status."""
    return TooManyRequests(
        "Too many requests, please try again later.", details={"retryAfterSeconds": 1}
    )


class Seat:
    """One request's seat; given back once, whoever does it first."""

    __slots__ = ("_flow", "_level", "since")

    def __init__(self, level: "_Level", flow: str, since: float) -> None:
        self._level: _Level | None = level
        self._flow = flow
        self.since = since

    def leave(self) -> None:
        """Give it back; again does nothing."""
        level, self._level = self._level, None
        if level is not None:
            level.left(self, self._flow)


SEAT = web.RequestKey("seat", Seat)
"""Where a request keeps its seat, for handlers that are done with it before they end."""


class _Level:
    """One level's queue, with the futures of those who wait."""

    def __init__(self, name: str, seats: int, limits: Limits) -> None:
        self.queue: FairQueue[_Waiter] = FairQueue(seats, limits.flow_waiting_max)
        self._waiting = WAITING.labels(name)
        self._full, self._late = (REJECTED.labels(name, why) for why in ("queue-full", "time-out"))
        self._limits = limits
        self._seats: dict[Seat, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def take(self, share: Share) -> Seat | None:
        """A seat, if one is free."""
        if not self.queue.take(share.flow, share.cost):
            return None
        seat = Seat(self, share.flow, monotonic())
        self._seats[seat] = None
        return seat

    async def wait(self, share: Share) -> Seat:
        """A seat when it is its turn. Raises TooManyRequests."""
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        if not self.queue.wait(share.flow, share.cost, waiter):
            self._full.inc()
            raise too_many()
        self._waiting.inc()
        try:
            await self._turn(loop, share, waiter)
        finally:
            self._waiting.dec()
        seat = Seat(self, share.flow, monotonic())
        self._seats[seat] = None
        return seat

    async def _turn(self, loop: asyncio.AbstractEventLoop, share: Share, waiter: _Waiter) -> None:
        if self._timer is None:
            self._timer = loop.call_later(self._limits.seat_s / 2, self._reclaim, loop)
        try:
            done, _ = await asyncio.wait((waiter,), timeout=self._limits.wait_s)
        except asyncio.CancelledError:
            if not self.queue.give_up(share.flow, waiter):
                self._seated(self.queue.leave(share.flow))
            raise
        if not done and self.queue.give_up(share.flow, waiter):
            self._late.inc()
            raise too_many()

    def left(self, seat: Seat, flow: str) -> None:
        """A seat is free."""
        del self._seats[seat]
        self._seated(self.queue.leave(flow))

    def _seated(self, waiters: list[_Waiter]) -> None:
        for waiter in waiters:
            waiter.set_result(None)

    def _reclaim(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take back what was had for long; look again while anybody waits."""
        self._timer = None
        if not self.queue.waiting:
            return
        latest = monotonic() - self._limits.seat_s
        for seat in [seat for seat in self._seats if seat.since <= latest]:
            seat.leave()
        self._timer = loop.call_later(self._limits.seat_s / 2, self._reclaim, loop)


class Fairness:
    """The levels of one server, and how many lasting requests each user has."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._levels = {name: _Level(name, seats, limits) for name, seats in SEATS.items()}
        self.lasting: Counter[str] = Counter()

    async def enter(self, share: Share) -> Seat:
        """A seat for the request; to be left. Raises TooManyRequests."""
        level = self._levels[share.level]
        return level.take(share) or await level.wait(share)

    def waiting(self, level: str) -> int:
        """Requests that wait in a level."""
        return self._levels[level].queue.waiting

    @contextmanager
    def lasts(self, user: str) -> Iterator[None]:
        """Count a lasting request while it lasts. Raises TooManyRequests."""
        if self.lasting[user] >= self._limits.lasting_max:
            REJECTED.labels("lasting", "too-many").inc()
            raise too_many()
        self.lasting[user] += 1
        try:
            yield
        finally:
            self.lasting[user] -= 1
            if not self.lasting[user]:
                del self.lasting[user]
