"""Clusters as the planner sees them."""

from collections.abc import Iterable

from federation.domains.clock import State
from federation.placement.model import Candidate
from machinery.api.fleet.cluster import READY, Cluster
from machinery.meta.objectmeta import condition
from machinery.scheduling.resources import amounts


def candidate(cluster: Cluster) -> Candidate:
    """Free room is what nodes offer less what pods placed and waiting ask for."""
    summary = cluster.status.resource_summary
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
    )


def link_cut(cluster: Cluster) -> bool:
    """Whether the verdict on the cluster is that only its link is cut."""
    ready = condition(cluster.status.conditions, READY)
    return ready is not None and ready.reason == State.LINK_CUT.value


def candidates(clusters: Iterable[Cluster]) -> list[Candidate]:
    """Every member that is not leaving, by name."""
    staying = [c for c in clusters if not c.deleting]
    return [candidate(c) for c in sorted(staying, key=lambda c: c.metadata.name)]
