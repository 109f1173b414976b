"""Room that is kept free for workloads with headroom `N-1 KEY`, from the decisions of all others. Pure.

A workload with headroom demands that the replicas of any one domain of KEY would find room in the other ones. The loss of
a domain hits everything in it at once, so what all such workloads have there is summed up; two domains are not lost at once,
so a cluster keeps the most that any one loss would bring it. Each survivor keeps a share in proportion to its free room:

    kept(cluster) = free(cluster) x max over domains of others: demand(domain) / free room outside of the domain

which suffices for every domain, and with equal domains is the least that does. Replicas that have lost their cluster and
stand nowhere yet are kept room for in any case, so that others do not take it while they wait for their turn.

Workloads that may use other clusters than others (affinity, tolerations) are counted by themselves, and the sum is kept:
more than is needed if their losses do not come together, never less. Where there is less free room than the demand, all of it is
kept; the workload itself is told so by `federation.placement.spread.headroom` (`HeadroomShort`). A member that reports no
room keeps none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from federation.placement.capacity import PODS
from federation.placement.filter import domain_of, matches, untolerated
from federation.placement.ledger import Amounts, times
from federation.placement.model import Candidate
from machinery.api.fleet.policy import ClusterAffinity, Placement
from machinery.meta.resource import ObjectKey


@dataclass(frozen=True, slots=True)
class Demand:
    """A workload with headroom over `by` (zone, region, provider, cluster), and where its replicas are."""

    by: str
    placement: Placement
    asks: Amounts
    clusters: Mapping[str, int]
    lost: int = 0
    """Replicas that stand nowhere."""


@dataclass(slots=True)
class _Class:
    """Demands of workloads that may use the same clusters, summed up by cluster."""

    placement: Placement
    count: int = 0
    clusters: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    """(by, cluster) -> amounts; the empty cluster holds what is lost."""

    def add(self, demand: Demand, sign: int) -> None:
        self.count += sign
        for cluster, replicas in (*demand.clusters.items(), ("", demand.lost)):
            if not replicas:
                continue
            sums = self.clusters.setdefault((demand.by, cluster), {})
            for name, value in (times(demand.asks, replicas) | {PODS: replicas}).items():
                sums[name] = sums.get(name, 0) + sign * value


class Demands:
    """All workloads with headroom. One owner."""

    def __init__(self) -> None:
        self._known: dict[ObjectKey, Demand] = {}
        self._classes: dict[bytes, _Class] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def put(self, key: ObjectKey, demand: Demand | None) -> None:
        """The binding demands this now."""
        before = self._known.get(key)
        if before == demand:
            return
        if before is not None:
            self._count(before, -1)
            del self._known[key]
        if demand is not None:
            self._count(demand, 1)
            self._known[key] = demand

    def _count(self, demand: Demand, sign: int) -> None:
        name = _class_of(demand.placement)
        known = self._classes.setdefault(name, _Class(demand.placement))
        known.add(demand, sign)
        if not known.count:
            del self._classes[name]

    def kept(
        self, candidates: Sequence[Candidate], *, but: ObjectKey | None = None
    ) -> dict[str, dict[str, int]]:
        """What each member keeps free. `but`: for whom the decision is; its own room is not kept from it."""
        own = self._known.get(but) if but is not None else None
        if own is not None:
            self._count(own, -1)
        kept: dict[str, dict[str, int]] = {}
        for known in self._classes.values():
            usable = [c for c in candidates if may_use(known.placement, c)]
            for cluster, amounts in _kept(known.clusters, candidates, usable).items():
                sums = kept.setdefault(cluster, {})
                for name, value in amounts.items():
                    sums[name] = sums.get(name, 0) + value
        if own is not None:
            self._count(own, 1)
        return kept


def _class_of(placement: Placement) -> bytes:
    """Placements with the same name may use the same clusters."""
    return msgspec.json.encode(
        (placement.cluster_affinity, placement.cluster_affinities, placement.cluster_tolerations)
    )


def may_use(placement: Placement, candidate: Candidate) -> bool:
    """Whether replicas might go to the member when they have to."""
    if candidate.free is None or candidate.cut:
        return False
    if untolerated(placement.cluster_tolerations, candidate.taints) is not None:
        return False
    terms: Iterable[ClusterAffinity | None] = placement.cluster_affinities or (
        placement.cluster_affinity,
    )
    return any(matches(term, candidate) for term in terms)


def _kept(
    clusters: Mapping[tuple[str, str], Amounts],
    candidates: Sequence[Candidate],
    usable: Sequence[Candidate],
) -> dict[str, dict[str, int]]:
    """Of one class."""
    kept: dict[str, dict[str, int]] = {c.name: {} for c in usable}
    every = {name for amounts in clusters.values() for name, value in amounts.items() if value > 0}
    for name in every:
        free = {c.name: max(0, (c.free or {}).get(name, 0)) for c in usable}
        lost = sum(amounts.get(name, 0) for (_, where), amounts in clusters.items() if not where)
        for by in {by for by, _ in clusters}:
            of = {c.name: domain_of(by, c) for c in candidates}
            demand = {"": lost}
            for (key, cluster), amounts in clusters.items():
                if key == by and (domain := of.get(cluster)):
                    demand[domain] = demand.get(domain, 0) + amounts.get(name, 0)
            for cluster, amount in _shares(demand, free, of).items():
                kept[cluster][name] = max(kept[cluster].get(name, 0), amount)
    return kept


def _shares(
    demand: Mapping[str, int], free: Mapping[str, int], of: Mapping[str, str]
) -> dict[str, int]:
    """Of one resource and key: the most that a loss brings each member. The empty domain has been lost already."""
    lost = demand[""]
    inside: dict[str, int] = {}
    for cluster, room in free.items():
        inside[of[cluster]] = inside.get(of[cluster], 0) + room
    total = sum(free.values())
    asked = [
        (domain, amount + lost, total - inside.get(domain, 0)) if domain else ("", lost, total)
        for domain, amount in demand.items()
    ]
    worst = sorted(asked, key=lambda item: (-item[1] / item[2] if item[2] else 0.0, item[0]))
    shares = {}
    for cluster, room in free.items():
        hit = next((i for i in worst if not i[0] or i[0] != of[cluster]), None)
        shares[cluster] = 0
        if hit is not None and hit[2]:
            shares[cluster] = min(room, -(-room * hit[1] // hit[2]))
    return shares
