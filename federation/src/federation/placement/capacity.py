"""How many more replicas a member can hold, by what it reported.

By its sums: free resources over what one replica asks. By its node shapes, where it tells them (Karmada's resource models:
so many nodes with at least so much free): a node's worth is what its shape surely holds, so that ten half-full nodes do not
count as five empty ones. Shapes that lack a resource which is asked say nothing, and the sums are taken. Where the member's
own scheduler was asked (`estimate`), its answer counts instead of shapes, and never more than the sums.

Nobody knows on which nodes that will stand which is reserved and not reported yet, so it takes from the nodes' worth as many
replicas as would need the scarcest part of it.
"""

from collections.abc import Iterable, Mapping

from federation.placement.model import MAX_REPLICAS, Candidate, Shape

PODS = "pods"


def available(candidate: Candidate, asks: Mapping[str, int]) -> int:
    """Replicas that the member's free resources hold; 0 when it reported none."""
    return rooms((candidate,), asks)[candidate.name]


def rooms(candidates: Iterable[Candidate], asks: Mapping[str, int]) -> dict[str, int]:
    """The same of several members, by name; 0 where a link is cut: no more can be told there."""
    needed = _needed(asks)
    found = {}
    for c in candidates:
        free, count = c.free, 0
        if free is not None and not c.cut:
            if c.estimate is None and not c.shapes:
                count = _by_sums(free, needed)
            else:
                count = _balance(c, free, needed)
        found[c.name] = count if count > 0 else 0
    return found


def balance(candidate: Candidate, asks: Mapping[str, int]) -> int:
    """Of a member that reports its room; below 0 where more is asked already than there is."""
    assert candidate.free is not None, f"{candidate.name} reports no room"
    return _balance(candidate, candidate.free, _needed(asks))


def _needed(asks: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(name, asked) for name, asked in asks.items() if asked > 0]


def _balance(candidate: Candidate, free: Mapping[str, int], needed: list[tuple[str, int]]) -> int:
    shapes, estimate = candidate.shapes, candidate.estimate
    if estimate is not None:
        left = estimate - equivalent(candidate.reserved, needed)
        return min(_by_sums(free, needed), left)
    if shapes and needed and all(name in shape.least for shape in shapes for name, _ in needed):
        fits = min(free.get(PODS, MAX_REPLICAS), MAX_REPLICAS)
        return min(fits, by_shape(shapes, needed) - equivalent(candidate.reserved, needed))
    return _by_sums(free, needed)


def by_sums(candidate: Candidate, asks: Mapping[str, int]) -> int:
    """By free resources alone; 0 when it reported none."""
    return max(0, _by_sums(candidate.free, _needed(asks))) if candidate.free is not None else 0


def _by_sums(free: Mapping[str, int], needed: list[tuple[str, int]]) -> int:
    fits = free.get(PODS, MAX_REPLICAS)
    if fits > MAX_REPLICAS:
        fits = MAX_REPLICAS
    for name, asked in needed:
        room = free.get(name, 0)
        count = room // asked if room >= 0 else -(-room // asked)
        if count < fits:
            fits = count
    return fits


def by_shape(shapes: tuple[Shape, ...], needed: list[tuple[str, int]]) -> int:
    """What nodes of these shapes hold; a shape that is too small for one replica holds none."""
    return sum(
        shape.count * min(shape.least[name] // asked for name, asked in needed) for shape in shapes
    )


def equivalent(reserved: Mapping[str, int], needed: list[tuple[str, int]]) -> int:
    """How many of these replicas have the room of what is reserved."""
    return max((-(-reserved.get(name, 0) // asked) for name, asked in needed), default=0)
