"""Which groups of clusters are used where a policy counts groups and clusters at once: Karmada's search over regions.

A group is weighed by what it offers: 1000 for each replica that it holds of the share that a group should (the replicas
over the least number of groups), and the mean score of the clusters that this takes (100 for one that runs the workload).
Duplicated, 1000 for each cluster that holds all replicas. The workload's own scores (0 to 100) are part of a cluster's. Of all sets of groups that have enough clusters the heaviest
is found, of equal ones that with more clusters; then, if its heaviest groups alone are such a set, those are taken.

Then the best cluster of each group is in, and the roomiest of the others fill up to the policy's `maxGroups` clusters.

The sets of n groups are up to 2^n. Past a fixed number of steps the search stops with the best that it has seen, or takes
the groups with most clusters if that is nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from federation.placement.model import Candidate, Unselectable
from federation.placement.scores import Scores
from federation.placement.select import group_of, ranked
from machinery.api.fleet.policy import SpreadConstraint

HELD_SCORE = 100
UNIT = 1000
MOST_STEPS = 20_000

TOO_FEW_GROUPS = (
    "failed to select clusters: the number of feasible {field} is less than "
    "spreadConstraint.MinGroups"
)
TOO_FEW_INSIDE = (
    "failed to select clusters: the number of clusters is less than the cluster "
    "spreadConstraint.MinGroups"
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is to select from. `duplicated`: each cluster is to hold all `replicas` by itself."""

    candidates: Sequence[Candidate]
    room: Mapping[str, int]
    held: Mapping[str, int]
    replicas: int
    duplicated: bool = False
    scores: Scores | None = None

    def space(self, candidate: Candidate) -> int:
        """What the cluster could run of the workload."""
        return self.room[candidate.name] + self.held.get(candidate.name, 0)

    def score(self, candidate: Candidate) -> int:
        """Karmada's locality, and the mean of the workload's own scores."""
        scores = self.scores
        own = 0 if scores is None else scores.mean(candidate.name)
        stays = scores is None or scores.stays
        return own + (HELD_SCORE if stays and candidate.name in self.held else 0)

    def ranked(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Best first."""
        return ranked(candidates, self.room, self.held, scores=self.scores)


@dataclass(frozen=True, slots=True)
class Group:
    """Clusters that count as one, best first."""

    name: str
    clusters: tuple[Candidate, ...]
    weight: int


def select(by: SpreadConstraint, clusters: SpreadConstraint, offer: Offer) -> list[Candidate]:
    """The clusters, or Unselectable."""
    groups = weighed(by, clusters, offer)
    if len(groups) < by.min_groups:
        field = by.spread_by_field or by.spread_by_label
        raise Unselectable(TOO_FEW_GROUPS.format(field=field))
    found = best(groups, max(1, by.min_groups), by.max_groups or len(groups), clusters.min_groups)
    if not found:
        raise Unselectable(TOO_FEW_INSIDE)
    return _filled([group.clusters for group in found], clusters, offer)


def limited(
    groups: Mapping[str, Sequence[Candidate]], clusters: SpreadConstraint, offer: Offer
) -> dict[str, list[Candidate]]:
    """Groups that were selected already, with no more clusters than the policy lets; each keeps its best one."""
    if sum(map(len, groups.values())) < clusters.min_groups:
        raise Unselectable(TOO_FEW_INSIDE)
    best_first = [offer.ranked(members) for members in groups.values()]
    kept = {candidate.name for candidate in _filled(best_first, clusters, offer)}
    return {name: [c for c in members if c.name in kept] for name, members in groups.items()}


def _filled(
    groups: Sequence[Sequence[Candidate]], clusters: SpreadConstraint, offer: Offer
) -> list[Candidate]:
    """The best of each group, then the best of the others up to the limit."""
    first = [members[0] for members in groups]
    others = [candidate for members in groups for candidate in members[1:]]
    most = clusters.max_groups or len(first) + len(others)
    return first + offer.ranked(others)[: max(0, most - len(first))]


def weighed(by: SpreadConstraint, clusters: SpreadConstraint, offer: Offer) -> list[Group]:
    """The groups, heaviest first, then by name."""
    members: dict[str, list[Candidate]] = {}
    for candidate in offer.ranked(offer.candidates):
        members.setdefault(group_of(by, candidate), []).append(candidate)
    share = -(-offer.replicas // max(1, by.min_groups))
    groups = [
        Group(
            name,
            tuple(inside),
            _whole(offer, inside)
            if offer.duplicated
            else _part(offer, inside, share, clusters.min_groups),
        )
        for name, inside in members.items()
    ]
    return sorted(groups, key=_heaviest)


def _heaviest(group: Group) -> tuple[int, str]:
    return -group.weight, group.name


def _whole(offer: Offer, clusters: Sequence[Candidate]) -> int:
    """By the clusters that hold all replicas."""
    fit = [offer.score(c) for c in clusters if offer.space(c) >= offer.replicas]
    return len(fit) * UNIT + sum(fit) // len(fit) if fit else 0


def _part(offer: Offer, clusters: Sequence[Candidate], share: int, least: int) -> int:
    """By how much of the share its clusters hold, and how good those are that it takes for that and for `least`."""
    space = score = used = 0
    for candidate in clusters:
        space += offer.space(candidate)
        score += offer.score(candidate)
        used += 1
        if space >= share and used >= least:
            break
    return min(space, share) * UNIT + score // used


def best(groups: Sequence[Group], least: int, most: int, wanted: int) -> list[Group]:
    """The best set of `least` to `most` groups with `wanted` clusters, heaviest first; empty when there is none."""
    # Small groups first: a set that begins with them needs more groups, and is worth more.
    order = sorted(groups, key=lambda group: (len(group.clusters), *_heaviest(group)))
    paths = [
        sorted((order[i] for i in path), key=_heaviest)
        for path in _paths([len(group.clusters) for group in order], least, most, wanted)
    ]
    if not paths:
        return _roomiest(groups, least, most, wanted)

    def rank(path: Sequence[Group]) -> tuple[int, int]:
        return (
            -sum(group.weight for group in path),
            -sum(len(group.clusters) for group in path),
        )

    paths.sort(key=rank)
    chosen = paths[0]
    for path in paths[1:]:
        if len(path) < len(chosen) and chosen[: len(path)] == path:
            chosen = path
    return chosen


def _roomiest(groups: Sequence[Group], least: int, most: int, wanted: int) -> list[Group]:
    """For when the search found nothing in its time: the groups with most clusters, if they are enough."""
    found = sorted(groups, key=lambda group: -len(group.clusters))[:most]
    enough = len(found) >= least and sum(len(group.clusters) for group in found) >= wanted
    return sorted(found, key=_heaviest) if enough else []


def _paths(sizes: Sequence[int], least: int, most: int, wanted: int) -> list[tuple[int, ...]]:
    """Sets that satisfy both numbers and have no group too many at their end, in the order of the search."""
    found: list[tuple[int, ...]] = []
    steps = 0
    stack: list[tuple[tuple[int, ...], int]] = [((), 0)]
    while stack and steps < MOST_STEPS:
        steps += 1
        path, count = stack.pop()
        if len(path) >= least and count >= wanted:
            found.append(path)
        elif len(path) < most:
            start = path[-1] + 1 if path else 0
            stack.extend(
                ((*path, i), count + sizes[i]) for i in range(len(sizes) - 1, start - 1, -1)
            )
    return found
