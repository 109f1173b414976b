"""Workloads of several components (a job manager and its task managers): a set of them goes whole to a member, or not at all.

Karmada's MultiplePodTemplatesScheduling, `spec.components` of a binding. A set is placed as one replica that asks for what all
its pods ask for together. Where the policy wants exactly one cluster, a Divided workload needs room for the set there, and the
decision says how many of each component the cluster was given; else every selected cluster gets the set, roomiest first, and
nobody asks whether it fits, as with Duplicated.

How many sets a member holds: by its sums, and by its node shapes where it tells them, since no pod is spread over two nodes.
A member that holds the set needs room only for what the set has grown by; it is never asked for the whole of it again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from federation.placement import capacity
from federation.placement.model import MAX_REPLICAS, Candidate, Part, Request, Shape
from machinery.api.fleet.policy import ClusterPreferences, Placement, ReplicaSchedulingStrategy

SEARCHED_MAX = 16
"""Sets that are laid out on node shapes one by one; who holds so many is taken by its sums."""
GROWN_TOO_FAR = -1
"""The room of a member that holds a set and has none for what it has grown by: taken with what it holds, none is left."""
_BY_ROOM = ReplicaSchedulingStrategy(
    replica_scheduling_type="Divided",
    replica_division_preference="Weighted",
    weight_preference=ClusterPreferences(dynamic_weight="AvailableReplicas"),
)


def single(placement: Placement) -> bool:
    """Whether the policy wants exactly one cluster."""
    return any(
        c.spread_by_field == "cluster" and c.min_groups == 1 and c.max_groups == 1
        for c in placement.spread_constraints
    )


def as_one(request: Request) -> Request:
    """The question with a set as its one replica."""
    assert request.sets is not None
    given = request.placement.replica_scheduling
    divided = given is not None and given.replica_scheduling_type == "Divided"
    by_room = _BY_ROOM if divided and single(request.placement) else None
    return replace(
        request,
        placement=msgspec.structs.replace(request.placement, replica_scheduling=by_room),
        replicas=1,
        asks=asks(request.sets.parts),
        previous=dict.fromkeys(request.previous, 1),
        preferences=None,
    )


def asks(parts: Iterable[Part]) -> dict[str, int]:
    """What a set asks for."""
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part.asks.items():
            total[name] = total.get(name, 0) + value * part.replicas
    return total


def rooms(candidates: Iterable[Candidate], request: Request) -> dict[str, int]:
    """How many more sets each member holds, by name."""
    sets = request.sets
    assert sets is not None
    found: dict[str, int] = {}
    for candidate in candidates:
        more = grown(sets.parts, sets.held.get(candidate.name))
        if more and available(candidate, more) < 1:
            found[candidate.name] = GROWN_TOO_FAR
        else:
            found[candidate.name] = available(candidate, sets.parts)
    return found


def grown(parts: Iterable[Part], held: Mapping[str, int] | None) -> tuple[Part, ...]:
    """What is wanted beyond what a member was given; empty where it has nothing of it."""
    if not held:
        return ()
    more = (replace(p, replicas=p.replicas - held.get(p.name, 0)) for p in parts)
    return tuple(part for part in more if part.replicas > 0)


def available(candidate: Candidate, parts: Sequence[Part]) -> int:
    """Sets that the member's free resources hold."""
    free = candidate.free
    if free is None or candidate.cut:
        return 0
    pods = sum(part.replicas for part in parts)
    fits = min(free.get(capacity.PODS, MAX_REPLICAS), MAX_REPLICAS) // max(1, pods)
    needed = [(name, asked) for name, asked in asks(parts).items() if asked > 0]
    for name, asked in needed:
        fits = min(fits, free.get(name, 0) // asked)
    shapes = candidate.shapes
    if shapes and needed and all(name in shape.least for shape in shapes for name, _ in needed):
        count = laid_out(shapes, parts, min(fits, SEARCHED_MAX))
        if count < SEARCHED_MAX:
            fits = min(fits, count - capacity.equivalent(candidate.reserved, needed))
    return max(0, fits)


def laid_out(shapes: Sequence[Shape], parts: Sequence[Part], most: int) -> int:
    """Sets, up to `most`, that find nodes when the greediest pods are placed first, each on the first node that has room."""
    nodes = [(shape.count, dict(shape.least)) for shape in shapes if shape.count > 0]
    largest = {name: max(shape.least[name] for shape in shapes) for name in asks(parts)}

    def greed(part: Part) -> float:
        return max((asked / max(1, largest[name]) for name, asked in part.asks.items()), default=0)

    order = sorted(parts, key=greed, reverse=True)
    for count in range(most):
        for part in order:
            nodes, left = _placed(nodes, part)
            if left:
                return count
    return most


Nodes = list[tuple[int, dict[str, int]]]


def _placed(nodes: Nodes, part: Part) -> tuple[Nodes, int]:
    """The nodes with the component's pods on them, and how many found none."""
    left, after = part.replicas, Nodes()
    wanted = [(name, asked) for name, asked in part.asks.items() if asked > 0]
    for count, free in nodes:
        each = min((free[name] // asked for name, asked in wanted), default=left)
        if not left or each <= 0:
            after.append((count, free))
            continue
        full = min(count, left // each)
        rest = min(each, left - full * each) if full < count else 0
        for used, pods in ((full, each), (1 if rest else 0, rest)):
            if used:
                taken = {name: asked * pods for name, asked in wanted}
                after.append((used, {n: value - taken.get(n, 0) for n, value in free.items()}))
        untouched = count - full - (1 if rest else 0)
        if untouched:
            after.append((untouched, free))
        left -= full * each + rest
    return after, left
