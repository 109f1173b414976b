"""Clusters as the planner sees them.

Every decision looks at the whole fleet, and between two of them few members change: what was made of a Cluster is kept as
long as that very object is the present one.
"""

from collections.abc import Iterable

import msgspec

from federation.domains.clock import State
from federation.placement import scores
from federation.placement.model import Candidate, Shape
from machinery.api.core import Taint
from machinery.api.fleet.cluster import (
    GRANTS_ENFORCED,
    READY,
    AllocatableModeling,
    Cluster,
    ResourceModel,
    ResourceSummary,
    enforces_grants,
)
from machinery.meta.objectmeta import condition
from machinery.scheduling.resources import amount, amounts

BELIEVED = "CapacityBelieved"
"""Condition of a Cluster: whether what it reports of its room can be true."""
KEPT_MAX = 20_000
_kept: dict[str, tuple[Cluster, Candidate]] = {}
"""By name: an object, which nobody changes, and what was made of it."""
_fleets: dict[bool, tuple[list[Cluster], list[Candidate]]] = {}
"""By `granted`: the whole fleet as it was asked about last, and what was made of it."""


def candidate(cluster: Cluster) -> Candidate:
    """Free room is what nodes offer less what pods placed and waiting ask for."""
    name = cluster.metadata.name
    kept = _kept.get(name)
    if kept is not None and kept[0] is cluster:
        return kept[1]
    if len(_kept) >= KEPT_MAX:
        _kept.clear()
    made = _candidate(cluster)
    _kept[name] = (cluster, made)
    return made


def _candidate(cluster: Cluster) -> Candidate:
    status, believed = cluster.status, not disbelief(cluster)
    summary = status.resource_summary if believed else ResourceSummary()
    offered = amounts(summary.allocatable)
    taken = [amounts(summary.allocated), amounts(summary.allocating)]
    free = {name: value - sum(t.get(name, 0) for t in taken) for name, value in offered.items()}
    kinds = frozenset(
        (enabled.group_version, resource.kind)
        for enabled in cluster.status.api_enablements
        for resource in enabled.resources
    )
    spec = cluster.spec
    return Candidate(
        cluster.metadata.name,
        cluster.metadata.labels,
        spec.provider,
        spec.region,
        spec.zones or ((spec.zone,) if spec.zone else ()),
        spec.taints,
        kinds or None,
        free if offered else None,
        link_cut(cluster),
        shapes=shapes(spec.resource_models, summary.allocatable_modelings),
        platforms={p.platform: amounts(p.free) for p in status.node_platforms} if believed else {},
        figures=scores.figures(cluster.metadata.annotations),
    )


MOST = {"cpu": 10**10, "pods": 10**8}
"""More than any cluster has: ten million CPUs, in thousandths, and a hundred million pods."""
MOST_ELSE = 2**63 - 1


def disbelief(cluster: Cluster) -> str:
    """Why nothing that the member reports of its room is believed: one sentence without its stop; empty: it may be true.

    A number that cannot be is a fault or a lie, and then the other ones are worth nothing either.
    """
    summary = cluster.status.resource_summary
    told = {
        "allocatable": summary.allocatable,
        "allocated": summary.allocated,
        "allocating": summary.allocating,
    } | {f"nodePlatforms {p.platform}": p.free for p in cluster.status.node_platforms}
    for where, quantities in told.items():
        for name, quantity in quantities.items():
            try:
                value = amount(name, quantity)
            except ValueError as error:
                return f"{where} {name} {quantity!r} cannot be read: {error}"
            if value < 0:
                return f"{where} {name} is {quantity}, less than nothing"
            if value > MOST.get(name, MOST_ELSE):
                return f"{where} {name} is {quantity}, more than any cluster has"
    if any(m.count < 0 for m in summary.allocatable_modelings):
        return "allocatableModelings counts less than no node"
    return ""


def shapes(
    models: Iterable[ResourceModel], counted: Iterable[AllocatableModeling]
) -> tuple[Shape, ...]:
    """The member's nodes by grade, as far as it counts them."""
    least = {m.grade: amounts({r.name: r.min for r in m.ranges}) for m in models}
    return tuple(Shape(c.count, least[c.grade]) for c in counted if c.grade in least)


def link_cut(cluster: Cluster) -> bool:
    """Whether the verdict on the cluster is that only its link is cut."""
    ready = condition(cluster.status.conditions, READY)
    return ready is not None and ready.reason == State.LINK_CUT.value


NO_GRANTS = Taint(GRANTS_ENFORCED, "NoSchedule", "false")
"""What a cluster whose kubelets enforce no grants has for a workload that runs on grants."""


def candidates(clusters: Iterable[Cluster], *, granted: bool = False) -> list[Candidate]:
    """Every member that is not leaving, by name; `granted`: for a workload whose pods run on grants."""
    asked = list(clusters)
    held = _fleets.get(granted)
    if (
        held is None or held[0] != asked
    ):  # of the same objects it is told in no time that they are equal
        held = _fleets[granted] = asked, _candidates(asked, granted=granted)
    return held[1].copy()


def _candidates(clusters: Iterable[Cluster], *, granted: bool) -> list[Candidate]:
    staying = sorted((c for c in clusters if not c.deleting), key=lambda c: c.metadata.name)
    return [
        msgspec.structs.replace(one, taints=(*one.taints, NO_GRANTS))
        if granted and not enforces_grants(cluster)
        else one
        for cluster, one in ((c, candidate(c)) for c in staying)
    ]
