"""Which endpoint holds which slot of a service port: shares, classes, and as few moves as possible.

A port of M slots sends a new connection to a random slot, so an endpoint's share is its number of slots. Classes keep
the maps small: the smallest M whose shares are all within 10 % of what the weights ask; the largest where none is. A
port grows at once and shrinks only after a quiet minute, because a rolling update walks through 3, 4, 3 endpoints, and
each step would otherwise rewrite everything. Beyond the largest class only a subset of endpoints is used; it is drawn
by weighted rendezvous hashing, so every change of the set moves next to nothing.
"""

import hashlib
import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster_agent.node.proxy.model import Endpoint

CLASSES = (1, 16, 128, 1_024)
ERROR_TENTHS = 1
"""Largest relative error of a share, in tenths."""
SHRINK_AFTER_S = 60.0

Bounds = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Slots:
    """The holders of one port's slots, by position."""

    holders: tuple[str, ...]
    smaller_since: float | None = None
    """Since when a smaller class would do."""
    left_out: int = 0
    """Endpoints that found no place."""

    @property
    def size(self) -> int:
        return len(self.holders)


def choose(endpoints: Iterable[Endpoint], node: str = "") -> dict[str, int]:
    """Targets with their weights: those that are ready, else those that still serve while they end. `node`: only there."""
    scope = [e for e in endpoints if e.weight > 0 and (not node or e.node == node)]
    chosen = [e for e in scope if e.ready]
    if not chosen:
        chosen = [e for e in scope if e.serving and e.terminating]
    return {e.target: e.weight for e in chosen}


def assign(previous: Slots | None, weights: Mapping[str, int], now: float, seed: str) -> Slots:
    """The slots for these targets (at least one), moving as few of `previous` as the shares allow."""
    assert weights, "a port without endpoints has no slots"
    used = subset(weights, seed)
    size, since = _size(previous, used, now)
    current = list(previous.holders) if previous is not None and previous.size == size else []
    held: dict[str, int] = {}
    for holder in current:
        held[holder] = held.get(holder, 0) + 1
    counts = apportion(used, size, held)
    holders = tuple(_place(current or [""] * size, counts))
    left_out = len(weights) - len(used)
    made = Slots(holders, since, left_out)
    return previous if previous == made else made


def subset(weights: Mapping[str, int], seed: str) -> Mapping[str, int]:
    """At most as many targets as the largest class has slots."""
    most = CLASSES[-1]
    if len(weights) <= most:
        return weights
    best = heapq.nsmallest(most, weights, key=lambda t: (_rank(seed, t, weights[t]), t))
    return {target: weights[target] for target in sorted(best)}


def _rank(seed: str, target: str, weight: int) -> float:
    digest = hashlib.blake2b(f"{seed} {target}".encode(), digest_size=8).digest()
    roll = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
    return -math.log(roll) / weight


def _size(
    previous: Slots | None, weights: Mapping[str, int], now: float
) -> tuple[int, float | None]:
    wanted = smallest(weights)
    if previous is None or wanted >= previous.size:
        return wanted, None
    since = previous.smaller_since if previous.smaller_since is not None else now
    return (wanted, None) if now - since >= SHRINK_AFTER_S else (previous.size, since)


def smallest(weights: Mapping[str, int]) -> int:
    """The smallest class that gives every target its share to 10 %; the largest where none does."""
    return next((size for size in CLASSES if exact_bounds(weights, size) is not None), CLASSES[-1])


def exact_bounds(weights: Mapping[str, int], size: int) -> Bounds | None:
    """How many slots each may hold so that all shares are within the error; None where that is impossible."""
    if len(weights) > size:
        return None
    total = sum(weights.values())
    bounds: dict[str, tuple[int, int]] = {}
    low_sum = high_sum = 0
    for target, weight in weights.items():
        ideal = size * weight  # in slots times total
        low, high = ideal // total, -(-ideal // total)
        if 10 * (ideal - low * total) > ERROR_TENTHS * ideal:
            low = high
        if 10 * (high * total - ideal) > ERROR_TENTHS * ideal:
            high = ideal // total
        if low > high:
            return None
        bounds[target] = (low, high)
        low_sum, high_sum = low_sum + low, high_sum + high
    return bounds if low_sum <= size <= high_sum else None


def apportion(weights: Mapping[str, int], size: int, held: Mapping[str, int]) -> dict[str, int]:
    """Slots for each target, at least one, `size` in all: close to the ideal, and close to what is held already."""
    assert len(weights) <= size
    total = sum(weights.values())
    bounds = exact_bounds(weights, size)
    if bounds is None:
        bounds = {
            t: (max(1, size * w // total), max(1, -(-size * w // total)))
            for t, w in weights.items()
        }
    counts = {t: min(max(held.get(t, 0), low), high) for t, (low, high) in bounds.items()}
    spare = size - sum(counts.values())
    step = 1 if spare > 0 else -1
    # A heap of (how far above the ideal after the step, in the step's direction): the least wrong goes first.
    heap = [(step * ((n + step) * total - size * weights[t]), t) for t, n in counts.items()]
    heapq.heapify(heap)
    waiting: list[tuple[int, str]] = []
    while spare:
        if not heap:
            heap, waiting, bounds = waiting, [], dict.fromkeys(counts, (1, size))
            heapq.heapify(heap)
        wrong, target = heapq.heappop(heap)
        low, high = bounds[target]
        if not low <= counts[target] + step <= high:
            waiting.append((wrong, target))
            continue
        counts[target] += step
        spare -= step
        heapq.heappush(heap, (wrong + total, target))
    return counts


def _place(current: list[str], counts: Mapping[str, int]) -> list[str]:
    """Holders keep their first slots as far as they may; what is free goes to those who lack, in order of name."""
    left = dict(counts)
    placed: list[str] = []
    for holder in current:
        if left.get(holder, 0) > 0:
            left[holder] -= 1
            placed.append(holder)
        else:
            placed.append("")
    lacking = (target for target in sorted(left) for _ in range(left[target]))
    return [holder or next(lacking) for holder in placed]
