"""How many more replicas a member can hold, by what it reported.

By its sums: free resources over what one replica asks. By its node shapes, where it tells them (Karmada's resource models:
so many nodes with at least so much free): a node's worth is what its shape surely holds, so that ten half-full nodes do not
count as five empty ones. Shapes that lack a resource which is asked say nothing, and the sums are taken.
"""

from collections.abc import Mapping

from federation.placement.model import MAX_REPLICAS, Candidate, Shape

PODS = "pods"


def available(candidate: Candidate, asks: Mapping[str, int]) -> int:
    """Replicas that the member's free resources hold; 0 when it reported none."""
    if candidate.free is None:
        return 0
    return max(0, balance(candidate.free, asks, candidate.shapes))


def balance(free: Mapping[str, int], asks: Mapping[str, int], shapes: tuple[Shape, ...]) -> int:
    """The same, below 0 where more is asked already than there is."""
    fits = MAX_REPLICAS
    if PODS in free:
        fits = free[PODS]
    needed = {name: asked for name, asked in asks.items() if asked > 0}
    if shapes and needed and all(name in shape.least for shape in shapes for name in needed):
        return min(fits, by_shape(shapes, needed))
    for name, asked in needed.items():
        room = free.get(name, 0)
        fits = min(fits, room // asked if room >= 0 else -(-room // asked))
    return fits


def by_shape(shapes: tuple[Shape, ...], needed: Mapping[str, int]) -> int:
    """What nodes of these shapes hold; a shape that is too small for one replica holds none."""
    return sum(
        shape.count * min(shape.least[name] // asked for name, asked in needed.items())
        for shape in shapes
    )
