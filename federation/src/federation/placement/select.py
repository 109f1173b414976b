"""Which of the members that passed the filters are used: Karmada's spread by cluster, and groups for every other field.

Karmada spreads by cluster and region and refuses the rest; here zone, provider, region and any label make groups the same
way: as many groups as `maxGroups` allows, at least `minGroups`, the roomiest first.

Where the workload scores clusters, those with the higher score come before the roomier, as far as they have room, and one that
has to give way to a roomier one gives way to the best that is roomy enough.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from federation.placement.filter import field_of
from federation.placement.model import Candidate, Unselectable
from federation.placement.scores import Scores
from machinery.api.fleet.policy import Placement, SpreadConstraint

T = TypeVar("T")
TOO_FEW_CLUSTERS = (
    "failed to select clusters: the number of feasible clusters is less than "
    "spreadConstraint.MinGroups"
)


def cluster_constraint(placement: Placement) -> SpreadConstraint | None:
    """The constraint that counts members themselves."""
    return next(
        (
            c
            for c in placement.spread_constraints
            if c.spread_by_field == "cluster" or not (c.spread_by_field or c.spread_by_label)
        ),
        None,
    )


def group_constraint(placement: Placement) -> SpreadConstraint | None:
    """The first constraint that groups members: by region, zone, provider or a label."""
    return next(
        (
            c
            for c in placement.spread_constraints
            if c.spread_by_label or c.spread_by_field in ("region", "zone", "provider")
        ),
        None,
    )


def group_of(constraint: SpreadConstraint, candidate: Candidate) -> str:
    """The group that a member counts into."""
    if constraint.spread_by_label:
        return candidate.labels.get(constraint.spread_by_label, "")
    return field_of(candidate, constraint.spread_by_field)


def ranked(
    candidates: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
    tiers: Mapping[str, int] | None = None,
    scores: Scores | None = None,
) -> list[Candidate]:
    """By tier where there are any, then members that hold the workload first, then the roomiest, then by name.

    With scores these come before the room, and say themselves whether members that hold the workload come first.
    """
    tier = tiers or {}
    if scores is not None:
        return _by_score(candidates, room, held, tier, scores)

    def key(c: Candidate) -> tuple[int, bool, int, str]:
        space = room[c.name] + held.get(c.name, 0)
        return tier.get(c.name, 0), c.name not in held, -space, c.name

    return sorted(candidates, key=key)


def _by_score(
    candidates: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
    tier: Mapping[str, int],
    scores: Scores,
) -> list[Candidate]:
    def key(c: Candidate) -> tuple[int, tuple[bool, bool, int], int, str]:
        space = room[c.name] + held.get(c.name, 0)
        return tier.get(c.name, 0), scores.rank(c.name, space, c.name in held), -space, c.name

    return sorted(candidates, key=key)


def select_clusters(
    constraint: SpreadConstraint,
    candidates: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
    needed: int | None,
    tiers: Mapping[str, int] | None = None,
    scores: Scores | None = None,
) -> list[Candidate]:
    """Up to maxGroups members. `needed` replicas must fit into them together; None: each holds all by itself."""
    if len(candidates) < constraint.min_groups:
        raise Unselectable(TOO_FEW_CLUSTERS)
    order = ranked(candidates, room, held, tiers, scores)
    count = min(len(order), constraint.max_groups or len(order))
    chosen, rest = order[:count], order[count:]
    if needed is None:
        return chosen

    def space(candidate: Candidate) -> int:
        return room[candidate.name] + held.get(candidate.name, 0)

    chosen = _roomy(chosen, rest, space, needed, choosy=scores is not None)
    if sum(map(space, chosen)) < needed:
        raise Unselectable(
            f"failed to select clusters: no enough resource when selecting {count} clusters"
        )
    return chosen


def _roomy(
    chosen: Sequence[T], rest: Sequence[T], space: Callable[[T], int], needed: int, *, choosy: bool
) -> list[T]:
    """`chosen` with those at its end exchanged for roomier ones, until together they have the room or nothing helps.

    `choosy`: for the first of the rest that is roomy enough, where one is, instead of the roomiest.
    """
    found, left = list(chosen), sorted(rest, key=lambda one: -space(one))
    for position in range(len(found) - 1, -1, -1):
        missing = needed - sum(map(space, found))
        if missing <= 0 or not left:
            break
        least = space(found[position]) + missing
        better = left[0]
        if choosy:
            better = next((one for one in rest if one in left and space(one) >= least), better)
        if space(better) > space(found[position]):
            found[position] = better
            left.remove(better)
    return found


def select_groups(
    constraint: SpreadConstraint,
    candidates: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
    needed: int | None = None,
    scores: Scores | None = None,
) -> dict[str, list[Candidate]]:
    """Groups by name: those that hold the workload first, then the roomiest, up to maxGroups.

    With scores the better groups come first; `needed` replicas, where it is said, must fit into them together.
    """
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[group_of(constraint, candidate)].append(candidate)
    field = constraint.spread_by_field or constraint.spread_by_label
    if len(groups) < constraint.min_groups:
        raise Unselectable(
            f"failed to select clusters: the number of feasible {field} is less than "
            "spreadConstraint.MinGroups"
        )

    def rank(name: str) -> tuple[int, int, str]:
        members = groups[name]
        holding = sum(held.get(c.name, 0) for c in members) if held else 0
        return (-holding, -sum(room[c.name] for c in members), name)

    limit = constraint.max_groups or len(groups)
    if scores is None:
        chosen = sorted(groups, key=rank)[:limit]
    else:
        spaces = {c.name: room[c.name] + held.get(c.name, 0) for c in candidates}
        chosen = _best_groups(groups, limit, spaces, rank, needed, scores)
    return {name: groups[name] for name in chosen}


def _best_groups(
    groups: Mapping[str, Sequence[Candidate]],
    limit: int,
    spaces: Mapping[str, int],
    rank: Callable[[str], tuple[int, int, str]],
    needed: int | None,
    scores: Scores,
) -> list[str]:
    """Those that hold most where they come first, then by the score of what they can run, then as without scores."""

    def space(name: str) -> int:
        return sum(spaces[c.name] for c in groups[name])

    def key(name: str) -> tuple[int, int, tuple[int, int, str]]:
        usual = rank(name)
        return usual[0] if scores.stays else 0, -scores.of_group(groups[name], spaces), usual

    order = sorted(groups, key=key)
    chosen = order[:limit]
    if needed is None:
        return chosen
    return _roomy(chosen, order[limit:], space, needed, choosy=True)
