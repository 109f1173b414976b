"""Taints: ClusterTaintPolicies give clusters taints when their conditions say so, and take them away again.

The older policy speaks first. Where both its lists match a cluster, the taint goes. A taint stays when its policy
goes, when the cluster is no target any more, and while neither list matches: only a match takes it away (Karmada's rules).
A list names conditions by type; a condition that the cluster does not have matches nothing, NotIn neither.

A taint is told apart by key and effect. The taint `cluster.karmada.io/unreachable` is the failure clock's and is left alone; with
NoExecute (if the server's settings allow it) a taint drains the cluster, at the evictor's pace and surge first.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from federation.clusters.candidates import candidate
from federation.placement.filter import matches
from machinery.api.core import Taint
from machinery.api.fleet.cluster import CLUSTERS, UNREACHABLE_TAINT, Cluster, taint_document
from machinery.api.fleet.operations import (
    CLUSTER_TAINT_POLICIES,
    ClusterTaintPolicy,
    MatchCondition,
)
from machinery.controller.action import Action, Emit, Patch, Result
from machinery.controller.manager import Manager
from machinery.meta.objectmeta import Condition, condition
from machinery.meta.resource import ObjectKey

RESERVED = frozenset({UNREACHABLE_TAINT})
"""Keys that another controller writes."""
BEGINNING = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Change:
    """What a cluster's taints become, and by whom."""

    taints: tuple[Taint, ...]
    policies: tuple[str, ...]


def plan(
    cluster: Cluster, policies: Iterable[ClusterTaintPolicy], now: dt.datetime
) -> list[Action]:
    """One compare-and-swap, so that a cordon of this moment is kept, and an Event."""
    if cluster.deleting:
        return []
    change = changed(cluster, policies, now)
    if change.taints == cluster.spec.taints:
        return []
    named = ", ".join(f"{t.key}:{t.effect}" for t in change.taints) or "none"
    text = f"taints by ClusterTaintPolicy {', '.join(change.policies)}: now {named}"
    return [
        Patch(
            CLUSTERS,
            cluster.key,
            {"spec": {"taints": [taint_document(t) for t in change.taints] or None}},
            resource_version=cluster.metadata.resource_version,
            uid=cluster.metadata.uid,
        ),
        Emit(CLUSTERS, cluster.key, cluster.metadata.uid, "Normal", "TaintClusterSucceed", text),
    ]


def changed(cluster: Cluster, policies: Iterable[ClusterTaintPolicy], now: dt.datetime) -> Change:
    """The cluster's taints as its conditions want them."""
    taints, by = cluster.spec.taints, []
    for policy in sorted(policies, key=_age):
        after = _applied(policy, cluster, taints, now)
        if after != taints:
            by.append(policy.metadata.name)
        taints = after
    return Change(taints, tuple(by))


def _age(policy: ClusterTaintPolicy) -> tuple[dt.datetime, str]:
    return policy.metadata.creation_timestamp or BEGINNING, policy.metadata.name


def _applied(
    policy: ClusterTaintPolicy, cluster: Cluster, taints: tuple[Taint, ...], now: dt.datetime
) -> tuple[Taint, ...]:
    spec = policy.spec
    if policy.deleting or not matches(spec.target_clusters, candidate(cluster)):
        return taints
    own = [t for t in spec.taints if t.key not in RESERVED]
    marks = {(t.key, t.effect) for t in own}
    if all_match(spec.remove_on_conditions, cluster.status.conditions):
        return tuple(t for t in taints if (t.key, t.effect) not in marks)
    if not all_match(spec.add_on_conditions, cluster.status.conditions):
        return taints
    held = {(t.key, t.effect) for t in taints}
    more = (Taint(t.key, t.effect, t.value, now) for t in own if (t.key, t.effect) not in held)
    return (*taints, *more)


def all_match(wanted: Sequence[MatchCondition], held: tuple[Condition, ...]) -> bool:
    """Whether every one of `wanted` holds; nothing wanted is no match."""
    return bool(wanted) and all(_match(one, held) for one in wanted)


def _match(wanted: MatchCondition, held: tuple[Condition, ...]) -> bool:
    found = condition(held, wanted.condition_type)
    if found is None:
        return False
    match wanted.operator:
        case "In":
            return found.status in wanted.status_values
        case "NotIn":
            return found.status not in wanted.status_values
        case _:
            return False


class TaintReconciler:
    """Clusters."""

    def __init__(self, manager: Manager) -> None:
        self._clock, self._executor = manager.clock, manager.executor
        self._clusters = manager.informer(CLUSTERS)
        self._policies = manager.informer(CLUSTER_TAINT_POLICIES)

    async def reconcile(self, key: ObjectKey) -> Result:
        cluster = self._clusters.get(key)
        if cluster is None:
            return Result()
        actions = plan(cluster, self._policies.list(), self._clock.now())
        return await self._executor.apply(actions)


def setup(manager: Manager) -> None:
    """Clusters whose conditions, taints, labels or place change, and all of them when a policy does."""
    clusters = manager.informer(CLUSTERS)
    states: dict[str, object] = {}

    def of_cluster(cluster: Cluster) -> list[ObjectKey]:
        name, spec = cluster.metadata.name, cluster.spec
        said = tuple((c.type, c.status) for c in cluster.status.conditions)
        place = (spec.provider, spec.region, spec.zone, spec.zones, cluster.metadata.labels)
        state = (cluster.metadata.uid, said, spec.taints, place)
        if states.get(name) == state:
            return []
        states[name] = state
        return [cluster.key]

    controller = manager.controller("taints", TaintReconciler(manager))
    controller.watches(CLUSTERS, of_cluster)
    controller.watches(CLUSTER_TAINT_POLICIES, lambda _: [c.key for c in clusters.list()])
