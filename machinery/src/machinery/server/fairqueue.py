"""A fair queue of requests for the seats of one level: start-time fair queueing over flows. Nothing here waits or knows a clock.

Every request has a cost and a start tag: where its flow's last request ends in virtual time, or now if that is past. Seats
go to the smallest tag, and virtual time is the tag of the one that was seated last. So flows with work get equal shares by
cost, whatever each has asked for, and a flow that was silent is next. A flow never has all the seats: however long its
requests last, another finds one.

Source: P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queuing", SIGCOMM 1996. Upstream's API Priority and Fairness shares
out by shuffle sharding instead, because it keeps a fixed number of queues; here each flow has its own while it has work.
"""

from collections import deque
from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")
FLOWS_KEPT = 1024
"""Above so many known flows, and twice those that were left the last time, the ones without work or debt are forgotten."""


class _Flow(Generic[T]):
    """One flow: seats it has, where its last request ends in virtual time, and who waits, with their start tags."""

    __slots__ = ("end", "listed", "seated", "waiting")

    def __init__(self) -> None:
        self.seated = 0
        self.end = 0.0
        self.waiting: deque[tuple[float, T]] = deque()
        self.listed = False
        """Whether it is among those that may get the next seat."""


class FairQueue(Generic[T]):
    """The seats of one level, who has one and who waits; `T` is what stands for a request that waits.

    While a seat is free, nobody waits but flows that have as many as one flow may have.
    """

    def __init__(self, seats: int, flow_waiting_max: int) -> None:
        assert seats > 1, "one seat cannot be shared"
        self.seats = seats
        self.flow_seats = seats - max(1, seats // 4)
        self._flow_waiting_max = flow_waiting_max
        self.seated = 0
        self.waiting = 0
        self._now = 0.0
        self._latest = 0.0
        """The latest end of all: where virtual time goes on when there is no more work."""
        self._flows: dict[str, _Flow[T]] = {}
        self._next: list[tuple[float, int, _Flow[T]]] = []
        self._order = 0
        self._flows_max = FLOWS_KEPT

    def take(self, name: str, cost: float) -> bool:
        """A request of the flow comes; whether it has a seat at once. One that has none may wait."""
        flow = self._flows.get(name)
        if flow is None:
            flow = self._flow(name)
        if self.seated >= self.seats or flow.seated >= self.flow_seats:
            return False
        if flow.end > self._now:
            self._now = flow.end
        flow.end = self._now + cost
        if flow.end > self._latest:
            self._latest = flow.end
        flow.seated += 1
        self.seated += 1
        return True

    def wait(self, name: str, cost: float, request: T) -> bool:
        """Whether a request that has no seat may wait; a later `leave` returns it when it has one."""
        flow = self._flows[name]
        if len(flow.waiting) >= self._flow_waiting_max:
            return False
        start = max(flow.end, self._now)
        flow.end = start + cost
        self._latest = max(self._latest, flow.end)
        flow.waiting.append((start, request))
        self.waiting += 1
        self._list(flow)
        return True

    def leave(self, name: str) -> list[T]:
        """A request of the flow gives its seat back; those that are seated now."""
        flow = self._flows[name]
        flow.seated -= 1
        self.seated -= 1
        if not self.waiting:
            if not self.seated:
                self._now = self._latest
            return []
        self._list(flow)
        return self._seat()

    def give_up(self, name: str, request: T) -> bool:
        """A request waits no longer; whether it still did."""
        flow = self._flows.get(name)
        for place, (_, each) in enumerate(() if flow is None else flow.waiting):
            if flow is not None and each == request:
                del flow.waiting[place]
                self.waiting -= 1
                return True
        return False

    def _flow(self, name: str) -> _Flow[T]:
        if len(self._flows) >= self._flows_max:
            self._flows = {
                known: flow
                for known, flow in self._flows.items()
                if flow.seated or flow.waiting or flow.end > self._now
            }
            self._flows_max = max(FLOWS_KEPT, 2 * len(self._flows))
        flow = self._flows[name] = _Flow()
        return flow

    def _list(self, flow: _Flow[T]) -> None:
        """Among those for the next seat, if it waits and may have one more."""
        if flow.waiting and not flow.listed and flow.seated < self.flow_seats:
            flow.listed = True
            self._order += 1
            heappush(self._next, (flow.waiting[0][0], self._order, flow))

    def _seat(self) -> list[T]:
        seated: list[T] = []
        while self._next and self.seated < self.seats:
            _, _, flow = heappop(self._next)
            flow.listed = False
            if not flow.waiting:
                continue
            self._now, request = flow.waiting.popleft()
            self.waiting -= 1
            flow.seated += 1
            self.seated += 1
            seated.append(request)
            self._list(flow)
        return seated
