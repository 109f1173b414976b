"""Three planners over one question: how many of `total` replicas does each cluster get?

    v1       federation v1's ReplicaSet planner, exactly: minimum, then what runs is kept, then rounds by weight
    v2       the same, mended: see below
    webster  seats by Sainte-Laguë, as Karmada divides by static weights, within minimum, maximum and capacity

What v1 gets wrong and v2 does right:
- Shrinking with rebalance off, v1 keeps what runs in order of its tie-break, so 10 and 70 replicas of equal weight shrunk
  to 50 become 0 and 50 (kubernetes#31816). v2 takes from those above their share only: 10 and 40.
- A round of v1 gives ceil(rest x weight / weights), so the last of the order go short: 4 replicas over 3 equal clusters
  become 2, 2, 0. v2 rounds by Sainte-Laguë: 2, 1, 1.

The order, and so who gets the odd replica: the heavier first, then by FNV-1 (32 bits, not 1a) of the cluster's name and the
workload's key, so that workloads of one replica do not all land on one cluster.

`overflow` is what a cluster was due and has no room for. With rebalance it is told as it is; without, never more than what
found no place anywhere. Federation v1 asks the cluster for it all the same, so that pods wait there for room.

Sources: Kubernetes federation v1, its planner and published vectors; Karmada's division by static weights.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from federation.placement.divide import fnv1a_32, sainte_lague
from federation.placement.preferences import ANY, EQUAL, Preference

PRIME = 0x01000193
NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class Question:
    """`current` and `capacity` by cluster; a cluster without a capacity is not known to have a limit."""

    total: int
    clusters: Sequence[str]
    preferences: Mapping[str, Preference] = field(default_factory=lambda: dict(EQUAL))
    rebalance: bool = False
    current: Mapping[str, int] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    key: str = ""
    """The workload's, as namespace/name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Replicas of every cluster that was asked about, and what of its due a cluster has no room for."""

    plan: dict[str, int]
    overflow: dict[str, int]


# ------------------------------------------------------------------------------------------------------- the order
@lru_cache(maxsize=8192)
def _name_state(name: str) -> bytes:
    """FNV-1 of the name, as a lane of 64 bits."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = ((value * PRIME) & 0xFFFFFFFF) ^ byte
    return value.to_bytes(8, "little")


@lru_cache(maxsize=64)
def _ones(lanes: int) -> int:
    """1 in every lane."""
    return int.from_bytes((b"\1" + bytes(7)) * lanes, "little")


def hashes(names: Sequence[str], key: str) -> tuple[int, ...]:
    """FNV-1 (32 bits) of each name followed by `key`.

    All of them go on at once, each in its lane of one large number: a byte costs the same for a thousand clusters as
    a thousandth of it would one by one. A 32-bit value times the prime stays below 2^57, so lanes do not touch.
    """
    ones = _ones(len(names))
    mask = ones * 0xFFFFFFFF
    lanes = int.from_bytes(b"".join(map(_name_state, names)), "little")
    for byte in key.encode():
        lanes = ((lanes * PRIME) & mask) ^ (ones * byte)
    return struct.unpack(f"<{len(names)}Q", lanes.to_bytes(8 * len(names), "little"))


def _ordered(question: Question) -> tuple[list[str], list[Preference]]:
    """Clusters that have a preference, the heavier first, then by hash, then by name."""
    own, any_ = question.preferences.get, question.preferences.get(ANY)
    known = [(name, p) for name in question.clusters if (p := own(name, any_)) is not None]
    if not known:
        return [], []
    ranks = hashes([name for name, _ in known], question.key)
    order = sorted(
        [(-p.weight, rank, name, p) for (name, p), rank in zip(known, ranks, strict=True)]
    )
    return [name for _, _, name, _ in order], [p for _, _, _, p in order]


def _limits(question: Question, names: list[str], known: list[Preference]) -> list[int]:
    """The most that each may hold."""
    most = [NO_LIMIT if p.max_replicas is None else p.max_replicas for p in known]
    room = question.capacity.get
    if not question.capacity:
        return most
    return [min(limit, room(name, NO_LIMIT)) for name, limit in zip(names, most, strict=True)]


def _minima(question: Question, names: list[str], known: list[Preference]) -> list[int]:
    """The minimum of each, in order, while replicas and room last."""
    given = [p.min_replicas for p in known]
    if not any(given):
        return given
    left, capacity = question.total, question.capacity
    for i, name in enumerate(names):
        given[i] = min(given[i], left, capacity.get(name, NO_LIMIT))
        left -= given[i]
    return given


def _answer(question: Question, given: Mapping[str, int], overflow: Mapping[str, int]) -> Plan:
    plan = {**dict.fromkeys(question.clusters, 0), **given}
    if not question.rebalance:
        left = question.total - sum(given.values())
        overflow = {name: min(count, left) for name, count in overflow.items()}
    return Plan(plan, {name: count for name, count in sorted(overflow.items()) if count > 0})


# ------------------------------------------------------------------------------------------------------------- v1
def v1(question: Question) -> Plan:
    """Federation v1's, with its warts."""
    names, known = _ordered(question)
    given = _minima(question, names, known)
    left = question.total - sum(given)
    kept = [0] * len(names)
    if question.current and not question.rebalance:
        limits = _limits(question, names, known)
        for i, name in enumerate(names):
            held = question.current.get(name, 0)
            if held > given[i]:
                kept[i] = max(0, min(min(held, limits[i]) - given[i], left))
                given[i] += kept[i]
                left -= kept[i]
    overflow = _rounds(question, names, known, given, kept)
    return _answer(question, dict(zip(names, given, strict=True)), overflow)


def _rounds(
    question: Question,
    names: list[str],
    known: list[Preference],
    given: list[int],
    kept: list[int],
) -> dict[str, int]:
    """Rounds by weight over those that are not full; `given` grows. What was kept counts against what is due."""
    left, overflow = question.total - sum(given), {}
    room, most = question.capacity, [p.max_replicas for p in known]
    active, changed = list(range(len(names))), True
    while changed and left > 0:
        changed = False
        weights, due = sum([known[i].weight for i in active]), left
        if not weights:
            break
        still = []
        for i in active:
            start = count = given[i]
            extra = -(-due * known[i].weight // weights)
            if extra > left:
                extra = left
            if kept[i]:
                used = min(extra, kept[i])
                kept[i] -= used
                extra -= used
                changed = changed or used > 0
            count += extra
            full, limit = False, most[i]
            if limit is not None and count > limit:
                count, full = limit, True
            if room and count > (space := room.get(names[i], count)):
                overflow[names[i]] = count - space
                count, full = space, True
            if not full:
                still.append(i)
            left -= count - start
            given[i] = count
            changed = changed or count > start
        active = still
    return overflow


# ------------------------------------------------------------------------------------------------------------- v2
def v2(question: Question) -> Plan:
    """v1 with fair rounding, and shrinking that takes only from those above their share."""
    names, known = _ordered(question)
    base = _minima(question, names, known)
    limits = _limits(question, names, known)
    left = question.total - sum(base)
    least = [0] * len(names)
    most = [max(0, limit - count) for limit, count in zip(limits, base, strict=True)]
    held = [0] * len(names)
    weights = [p.weight for p in known]
    if question.current and not question.rebalance:
        held = [
            max(0, min(question.current.get(name, 0) - count, room))
            for name, count, room in zip(names, base, most, strict=True)
        ]
        if sum(held) < left:
            least = held
        else:
            most = held
    given = _within(left, weights, least, most)
    if most is held:  # clusters without a weight are the last to keep what runs there
        left -= sum(given)
        for i, weight in enumerate(weights):
            if not weight:
                given[i] = min(held[i], left)
                left -= given[i]
    counts = {n: b + g for n, b, g in zip(names, base, given, strict=True)}
    return _answer(question, counts, _due_beyond(question, names, known, base, least, counts))


def _due_beyond(
    question: Question,
    names: list[str],
    known: list[Preference],
    base: list[int],
    least: list[int],
    given: Mapping[str, int],
) -> dict[str, int]:
    """What each would get if it had the room, less the room. Nothing where only that is told which found no place."""
    limited = {name for name in names if name in question.capacity}
    placed = not question.rebalance and sum(given.values()) == question.total
    if placed or not limited:
        return {}
    most = [
        NO_LIMIT if p.max_replicas is None else max(0, p.max_replicas - count)
        for p, count in zip(known, base, strict=True)
    ]
    due = _within(question.total - sum(base), [p.weight for p in known], least, most)
    return {
        name: count + more - question.capacity[name]
        for name, count, more in zip(names, base, due, strict=True)
        if name in limited
    }


def _within(seats: int, weights: list[int], least: list[int], most: list[int]) -> list[int]:
    """Sainte-Laguë with bounds; where nobody may have more, seats are left. Needs sum(least) <= seats, least <= most.

    Whoever comes out below its bound, or above, is fixed at it and the others divide the rest anew; of the two kinds the one
    that is further off goes first. Without a weight one gets its least.
    """
    given = list(least)
    active = [i for i, weight in enumerate(weights) if weight]
    rest = seats - sum(count for count, weight in zip(least, weights, strict=True) if not weight)
    while active:
        shares = sainte_lague(rest, [weights[i] for i in active])
        low, high = [least[i] for i in active], [most[i] for i in active]
        short = sum([a - n for a, n in zip(low, shares, strict=True) if n < a])
        over = sum([n - z for z, n in zip(high, shares, strict=True) if n > z])
        still: list[int] = []
        for i, n in zip(active, shares, strict=True):
            if n < least[i] and short >= over:
                n = least[i]
            elif n > most[i] and over >= short:
                n = most[i]
            else:
                still.append(i)
            given[i] = n
        if len(still) == len(active):
            break
        rest -= sum(given[i] for i in set(active).difference(still))
        active = still
    return given


# -------------------------------------------------------------------------------------------------------- webster
def webster(question: Question) -> Plan:
    """By weight alone, as Karmada's static weights: what runs has no say. Bounds are kept, and room that is told of."""
    forwards = fnv1a_32(question.key) % 2 == 0
    own, any_ = question.preferences.get, question.preferences.get(ANY)
    chosen = {name: p for name in question.clusters if (p := own(name, any_)) is not None}
    names = sorted(chosen, reverse=not forwards)
    known = [chosen[name] for name in names]
    weights = [p.weight for p in known]
    limits, least = _limits(question, names, known), _minima(question, names, known)
    given = _within(question.total, weights, least, limits)
    nothing = [0] * len(names)
    counts = dict(zip(names, given, strict=True))
    overflow = _due_beyond(question, names, known, nothing, least, counts)
    return _answer(question, counts, overflow)


PLANNERS = {"v1": v1, "v2": v2, "webster": webster}
