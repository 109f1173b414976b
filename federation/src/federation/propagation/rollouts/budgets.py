"""Disruption budgets over clusters: may one more cluster be disturbed on purpose. Pure.

A cluster is available when it is heard of, all of its replicas are ready, and nobody is changing it. A dead cluster uses up
the budget as anything does that is away, but no budget holds back what is done about it: rollouts, drains and failback
ask, failover does not. To disturb what is not available anyway costs nothing. Percentages are of what is wanted, and are
rounded up, as PodDisruptionBudgets do it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from federation.propagation.matching import precision
from federation.propagation.resilience import FLEET_WIDE
from federation.propagation.rollouts import shares
from federation.propagation.rollouts.sights import Sight
from machinery.api.fleet.rollouts import PlacementDisruptionBudget
from machinery.meta.resource import Document

CLUSTERS, REPLICAS = "Clusters", "Replicas"


@dataclass(frozen=True, slots=True)
class Away:
    """What would be, and what is, of one workload. `disturbed`: clusters that count as away whatever they report."""

    sights: Mapping[str, Sight]
    disturbed: Collection[str] = ()

    def available(self, cluster: str) -> int:
        """Ready replicas that count."""
        sight = self.sights[cluster]
        if cluster in self.disturbed or not sight.seen:
            return 0
        return min(sight.ready, sight.wanted)

    def whole(self, cluster: str) -> bool:
        """Whether all of the cluster's replicas count."""
        return self.available(cluster) >= self.sights[cluster].wanted


def of(
    document: Document | None, budgets: Iterable[PlacementDisruptionBudget]
) -> list[PlacementDisruptionBudget]:
    """Those that speak of the workload: all of them hold."""
    if document is None:
        return []
    home = document["metadata"].get("namespace", "")
    found = []
    for budget in budgets:
        place = budget.metadata.namespace
        if budget.deleting or place not in (home, FLEET_WIDE):
            continue
        default = home if place == home else ""
        if any(precision(s, document, default) for s in budget.spec.resource_selectors):
            found.append(budget)
    return sorted(found, key=lambda b: b.key)


def refusal(budgets: Sequence[PlacementDisruptionBudget], away: Away, cluster: str) -> str:
    """Why the cluster may not be disturbed now, or the empty string."""
    if not budgets or cluster not in away.sights or not away.available(cluster):
        return ""
    for budget in budgets:
        why = _refused(budget, away, cluster)
        if why:
            return f"disruption budget {budget.metadata.namespace}/{budget.metadata.name}: {why}"
    return ""


def _refused(budget: PlacementDisruptionBudget, away: Away, cluster: str) -> str:
    spec = budget.spec
    running = {name: s for name, s in away.sights.items() if s.wanted}
    if spec.of == REPLICAS:
        wanted = sum(s.wanted for s in running.values())
        available = sum(away.available(name) for name in running)
        cost, noun = away.available(cluster), "replicas"
    else:
        wanted, available = len(running), sum(away.whole(name) for name in running)
        cost, noun = (1 if away.whole(cluster) else 0), "clusters"
    if not cost:
        return ""
    least = _least(budget, wanted)
    if available - cost >= least:
        return ""
    return (
        f"{available} of {wanted} {noun} are available, {least} must stay so, and {cluster} is "
        f"{cost} of them"
    )


def _least(budget: PlacementDisruptionBudget, wanted: int) -> int:
    """How many must stay available."""
    spec = budget.spec
    if spec.min_available is not None:
        return shares.rounded_up(spec.min_available, wanted)
    if spec.max_unavailable is not None:
        return wanted - shares.rounded_up(spec.max_unavailable, wanted)
    return 0
