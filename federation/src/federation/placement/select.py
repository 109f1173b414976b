"""Which of the members that passed the filters are used: Karmada's spread by cluster, and groups for every other field.

Karmada spreads by cluster and region and refuses the rest; here zone, provider, region and any label make groups the same
way: as many groups as `maxGroups` allows, at least `minGroups`, the roomiest first.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from federation.placement.filter import field_of
from federation.placement.model import Candidate, Unselectable
from machinery.api.fleet.policy import Placement, SpreadConstraint

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
) -> list[Candidate]:
    """By tier where there are any, then members that hold the workload first, then the roomiest, then by name."""
    tier = tiers or {}

    def key(c: Candidate) -> tuple[int, bool, int, str]:
        space = room[c.name] + held.get(c.name, 0)
        return tier.get(c.name, 0), c.name not in held, -space, c.name

    return sorted(candidates, key=key)


def select_clusters(
    constraint: SpreadConstraint,
    candidates: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
    needed: int | None,
    tiers: Mapping[str, int] | None = None,
) -> list[Candidate]:
    """Up to maxGroups members. `needed` replicas must fit into them together; None: each holds all by itself."""
    if len(candidates) < constraint.min_groups:
        raise Unselectable(TOO_FEW_CLUSTERS)
    order = ranked(candidates, room, held, tiers)
    count = min(len(order), constraint.max_groups or len(order))
    chosen, rest = order[:count], order[count:]
    if needed is None:
        return chosen

    def space(candidate: Candidate) -> int:
        return room[candidate.name] + held.get(candidate.name, 0)

    rest.sort(key=lambda c: -space(c))
    for position in range(count - 1, -1, -1):
        if sum(map(space, chosen)) >= needed or not rest:
            break
        if space(rest[0]) > space(chosen[position]):
            chosen[position], rest = rest[0], rest[1:]
    if sum(map(space, chosen)) < needed:
        raise Unselectable(
            f"failed to select clusters: no enough resource when selecting {count} clusters"
        )
    return chosen


def select_groups(
    constraint: SpreadConstraint,
    candidates: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
) -> dict[str, list[Candidate]]:
    """Groups by name: those that hold the workload first, then the roomiest, up to maxGroups."""
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

    chosen = sorted(groups, key=rank)[: constraint.max_groups or len(groups)]
    return {name: groups[name] for name in chosen}
