"""The queue of pods that wait for a node (kube-scheduler's active, back-off and unschedulable parts).

A pod that fits nowhere is not tried again until something happened that could help it, or five minutes have passed; a
pod that was tried in vain is paused 1, 2, 4 … 10 s first. Order is by priority, then by the time of arrival. The queue
reads no clock: `now` is seconds of a monotonic one.
"""

import heapq
from dataclasses import dataclass

from machinery.kit.backoff import Backoff
from machinery.meta.resource import ObjectKey

PAUSE = Backoff(base_s=1.0, cap_s=10.0)
UNSCHEDULABLE_MAX_S = 300.0


@dataclass(slots=True)
class _Waiting:
    priority: int
    arrived: float
    attempts: int = 0
    ready_at: float = 0.0
    parked_since: float | None = None
    active: bool = False


class SchedulingQueue:
    """Keys of unscheduled pods. One owner; no locking."""

    def __init__(self) -> None:
        self._pods: dict[ObjectKey, _Waiting] = {}
        self._active: list[tuple[int, float, ObjectKey]] = []
        self._resting: set[ObjectKey] = set()
        self._earliest = 0.0
        """No resting pod is due before this: most pops need not look at them."""
        self._moves = 0

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, key: ObjectKey) -> bool:
        return key in self._pods

    @property
    def moves(self) -> int:
        """Grows with `something_changed`: an attempt that began before it may be outdated."""
        return self._moves

    def add(self, key: ObjectKey, priority: int, now: float) -> None:
        """A pod appeared, or its spec changed: it may be tried at once, unless it is in a pause."""
        waiting = self._pods.get(key)
        if waiting is None:
            waiting = self._pods[key] = _Waiting(priority, now)
        waiting.priority = priority
        waiting.parked_since = None
        self._earliest = min(self._earliest, waiting.ready_at)
        self._activate(key, waiting, now)

    def remove(self, key: ObjectKey) -> None:
        """The pod is gone or has a node."""
        self._pods.pop(key, None)
        self._resting.discard(key)

    def pop(self, now: float) -> ObjectKey | None:
        """The next pod to try, or None. It stays known until `remove` or `park`."""
        self._release(now)
        while self._active:
            _, _, key = heapq.heappop(self._active)
            waiting = self._pods.get(key)
            if waiting is not None and waiting.active:
                waiting.active = False
                waiting.attempts += 1
                return key
        return None

    def park(self, key: ObjectKey, now: float, *, moves: int) -> None:
        """The pod fits nowhere. If something changed since its attempt began (`moves`), only a pause follows."""
        waiting = self._pods.get(key)
        if waiting is None:
            return
        self._rest(key, waiting, now)
        waiting.parked_since = now if moves == self._moves else None

    def retry(self, key: ObjectKey, now: float) -> None:
        """The attempt failed for a reason that will pass (a bind that raced): again after a pause."""
        waiting = self._pods.get(key)
        if waiting is not None:
            self._rest(key, waiting, now)
            waiting.parked_since = None

    def something_changed(self) -> None:
        """A node or a pod came, went or changed: every parked pod may have a chance again."""
        self._moves += 1
        self._earliest = 0.0
        for key in self._resting:
            self._pods[key].parked_since = None

    def next_due(self, now: float) -> float | None:
        """Seconds until a pod becomes ready; 0 when one is, None when all are parked or none is there."""
        if any(key in self._pods and self._pods[key].active for _, _, key in self._active):
            return 0.0
        times = [self._due(self._pods[key]) for key in self._resting]
        return max(0.0, min(times) - now) if times else None

    @staticmethod
    def _due(waiting: _Waiting) -> float:
        if waiting.parked_since is None:
            return waiting.ready_at
        return max(waiting.ready_at, waiting.parked_since + UNSCHEDULABLE_MAX_S)

    def _rest(self, key: ObjectKey, waiting: _Waiting, now: float) -> None:
        waiting.ready_at = now + PAUSE.delay(max(1, waiting.attempts))
        waiting.active = False
        self._resting.add(key)
        self._earliest = min(self._earliest, waiting.ready_at)

    def _release(self, now: float) -> None:
        if now < self._earliest:
            return
        self._earliest = float("inf")
        for key in list(self._resting):
            due = self._due(self._pods[key])
            if due <= now:
                self._activate(key, self._pods[key], now)
            else:
                self._earliest = min(self._earliest, due)

    def _activate(self, key: ObjectKey, waiting: _Waiting, now: float) -> None:
        if waiting.active or waiting.ready_at > now:
            return
        waiting.active = True
        self._resting.discard(key)
        heapq.heappush(self._active, (-waiting.priority, waiting.arrived, key))
