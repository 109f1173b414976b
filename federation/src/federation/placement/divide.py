"""Seats for weights, and replicas over members.

`webster` is the method of Webster (Sainte-Laguë), as Karmada uses it: seats are given one by one to the largest
weight / (2 x seats + 1); of equals the one with fewer seats, then by name, forwards or backwards by the parity of a hash
of the template's uid, so that single-replica workloads do not all land on the first name. `balance` fills groups evenly:
no two differ by more than one unless a group is full.

Nothing here counts up to the number of replicas: a divisor method is a rounding, so the seats are rounded first and only
the few that rounding gave too many or too few are settled one by one. A billion replicas cost what ten do.
"""

import heapq
from collections.abc import Mapping, Sequence
from math import inf

from federation.placement.model import Unschedulable

ROUNDING = 1e-9
"""More than a quotient of floats may be wrong by, as a part of it."""
FLOAT_MAX = 2**1000
"""Weights whose sum is below it can be floats."""


def fnv1a_32(text: str) -> int:
    """FNV-1a, 32 bits."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def webster(seats: int, weights: Mapping[str, int], uid: str) -> dict[str, int]:
    """`seats` divided by weight; names with weight 0 get none."""
    forwards = fnv1a_32(uid) % 2 == 0
    names = sorted((name for name, weight in weights.items() if weight > 0), reverse=not forwards)
    given = sainte_lague(seats, [weights[name] for name in names])
    return dict(zip(names, given, strict=True))


def sainte_lague(seats: int, weights: Sequence[int]) -> list[int]:
    """Seats by position for weights > 0: of equal quotients the one with fewer seats comes first, then the lower position.

    The seats whose quotient weight / (2k - 1) is at least total / (2 x seats) are weight x seats / total rounded to the
    nearest, and they are the first that the one-by-one procedure gives. So it is continued from there, or taken back.
    """
    if not weights or seats <= 0:
        return [0] * len(weights)
    total = sum(weights)
    twice, double = 2 * seats, 2 * total
    given = [(weight * twice + total) // double for weight in weights]
    missing = seats - sum(given)
    if missing == 0:
        return given
    # Two quotients that differ do so by more than 1 / (largest divisor)²: scaled by more than that they compare as integers.
    scale = 2 * (2 * max(given) + 2 * abs(missing) + 3).bit_length()
    if missing > 0:
        following = [
            (
                -((weights[position] << scale) // (2 * given[position] + 1)),
                given[position],
                position,
            )
            for position in _nearest(weights, given, 1, missing)
        ]
        heapq.heapify(following)
        for _ in range(missing):
            _, held, position = following[0]
            given[position] = held + 1
            quotient = (weights[position] << scale) // (2 * held + 3)
            heapq.heapreplace(following, (-quotient, held + 1, position))
        return given
    last = [
        ((weights[position] << scale) // (2 * held - 1), 1 - held, -position)
        for position in _nearest(weights, given, -1, -missing)
        if (held := given[position])
    ]
    heapq.heapify(last)
    for _ in range(-missing):
        _, less, back = heapq.heappop(last)
        held, position = -less, -back
        given[position] = held
        if held:
            quotient = (weights[position] << scale) // (2 * held - 1)
            heapq.heappush(last, (quotient, 1 - held, -position))
    return given


def _nearest(weights: Sequence[int], given: Sequence[int], side: int, count: int) -> Sequence[int]:
    """Positions among which `count` seats are given (side 1) or taken back (-1): of many only those in question.

    Who gets one has one of the `count` largest quotients now, who loses one has one of the smallest. Floats find them,
    with room for their rounding.
    """
    if len(weights) <= 2 * count or sum(weights) >= FLOAT_MAX:
        return range(len(weights))
    if side > 0:
        quotients = [w / (2 * held + 1) for w, held in zip(weights, given, strict=True)]
        least = heapq.nlargest(count, quotients)[-1] * (1 - ROUNDING)
        return [position for position, q in enumerate(quotients) if q >= least]
    quotients = [
        w / (2 * held - 1) if held else inf for w, held in zip(weights, given, strict=True)
    ]
    most = heapq.nsmallest(count, quotients)[-1] * (1 + ROUNDING)
    return [position for position, q in enumerate(quotients) if q <= most]


def by_available(
    wanted: int, room: Sequence[tuple[str, int]], uid: str, *, what: str = ""
) -> dict[str, int]:
    """`wanted` replicas divided in proportion to room. Raises Unschedulable when the room is too small."""
    total = sum(count for _, count in room)
    if total < wanted:
        raise _too_few(total, what)
    return webster(wanted, dict(room), uid)


def _too_few(total: int, what: str) -> Unschedulable:
    return Unschedulable(
        f"failed to assign replicas: {what}Clusters available replicas {total} "
        "are not enough to schedule."
    )


def aggregated(
    wanted: int,
    room: Sequence[tuple[str, int]],
    held: Mapping[str, int],
    uid: str,
    *,
    what: str = "",
) -> dict[str, int]:
    """On as few members as hold it: those that hold some first, then the roomiest."""
    ranked = sorted(room, key=lambda item: (not held.get(item[0]), -item[1]))
    chosen: list[tuple[str, int]] = []
    total = 0
    for name, count in ranked:
        chosen.append((name, count))
        total += count
        if total >= wanted:
            break
    return by_available(wanted, chosen, uid, what=what)


def filled(wanted: int, room: Sequence[tuple[str, int]], *, what: str = "") -> dict[str, int]:
    """One after the other as they stand, each with what it has room for."""
    given: dict[str, int] = {}
    left = wanted
    for name, count in room:
        given[name] = max(0, min(count, left))
        left -= given[name]
    if left > 0:
        raise _too_few(wanted - left, what)
    return given


def by_score(
    wanted: int,
    room: Sequence[tuple[str, int]],
    scores: Mapping[str, int],
    uid: str,
    *,
    what: str = "",
) -> dict[str, int]:
    """In proportion to room times score, and never beyond the room: what one has none for, the others share likewise."""
    total = sum(count for _, count in room)
    if total < wanted:
        raise _too_few(total, what)
    given: dict[str, int] = {}
    left, rooms = wanted, dict(room)
    while True:
        weights = {n: count * scores[n] for n, count in rooms.items() if n not in given}
        shares = webster(left, weights, uid)
        full = {name: rooms[name] for name, count in shares.items() if count > rooms[name]}
        if not full:
            return given | shares
        given |= full
        left -= sum(full.values())


def balance(
    wanted: int, room: Mapping[str, int], held: Mapping[str, int], order: Sequence[str]
) -> dict[str, int]:
    """`wanted` spread evenly over groups, never above a group's room (which includes what it holds).

    The remainder goes to groups that hold more now (fewest moves), then by `order`. Room that is too small in one group
    is made up by the others.
    """
    given = dict.fromkeys(order, 0)
    rank = {name: position for position, name in enumerate(order)}
    left = min(wanted, sum(max(0, room[name]) for name in order))
    while left > 0:
        open_groups = [name for name in order if given[name] < room[name]]
        lowest = min(given[name] for name in open_groups)
        level = [name for name in open_groups if given[name] == lowest]
        higher = [given[name] for name in open_groups if given[name] > lowest]
        ceiling = min([room[name] for name in level] + higher)
        rounds = min(ceiling - lowest, left // len(level))
        if rounds > 0:
            for name in level:
                given[name] += rounds
            left -= rounds * len(level)
            continue
        level.sort(key=lambda name: (-min(held.get(name, 0), lowest + 1), rank[name]))
        for name in level[:left]:
            given[name] += 1
        left -= min(left, len(level))
    return given
