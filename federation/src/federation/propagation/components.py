"""Workloads of several components on their bindings: what moves count, and what is written. Pure, on values of the binding.

Moves count replicas. A set of components that is in one cluster counts as one (`spec.clusters[].components` says of what); one
that goes whole to several clusters counts as nothing, as everything without replicas does: it is in all of them anyway.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from federation.placement import components
from federation.placement.model import Part, Sets
from machinery.api.fleet.work import ResourceBinding, TargetCluster
from machinery.meta.resource import Document
from machinery.scheduling.resources import amounts


def several(binding: ResourceBinding) -> bool:
    """Whether the workload has more than one component."""
    return len(binding.spec.components) > 1


def counted(binding: ResourceBinding) -> bool:
    """Whether the workload is a set of components that belongs into exactly one cluster."""
    placement = binding.spec.placement
    return several(binding) and placement is not None and components.single(placement)


def wanted(binding: ResourceBinding) -> int:
    """Replicas that the workload is to have, a set as one; 0: there are none to count."""
    if binding.spec.components and several(binding):
        return 1 if counted(binding) else 0
    return binding.spec.replicas


def placed(binding: ResourceBinding) -> dict[str, int]:
    """Clusters and what counts in each: replicas, or one set."""
    spec = binding.spec
    if spec.components:
        return {t.name: _count(t) for t in spec.clusters}
    return {t.name: t.replicas for t in spec.clusters}


def _count(target: TargetCluster) -> int:
    return target.replicas or (1 if target.components else 0)


def sets(binding: ResourceBinding, counts: Mapping[str, int]) -> Mapping[str, int]:
    """How many times the workload's pods are in each cluster: what goes whole to several clusters is in all of them."""
    if several(binding):
        return {name: max(1, count) for name, count in counts.items()}
    return counts


def count_of(target: Mapping[str, Any]) -> int:
    """The same of one entry of `spec.clusters` as it is written."""
    return target.get("replicas") or (1 if target.get("components") else 0)


def sets_of(binding: ResourceBinding) -> Sets | None:
    """The workload's components for the planner; None where it has not several."""
    spec = binding.spec
    if not several(binding):
        return None
    parts = []
    for component in spec.components:
        required = component.replica_requirements
        asks = amounts(required.resource_request) if required is not None else {}
        parts.append(Part(component.name, component.replicas, asks))
    held = {
        t.name: {c.name: c.replicas for c in t.components} for t in spec.clusters if t.components
    }
    return Sets(tuple(parts), held)


def asks_of(binding: ResourceBinding) -> dict[str, int]:
    """What one replica asks, or one set."""
    sets, required = sets_of(binding), binding.spec.replica_requirements
    if sets is not None:
        return components.asks(sets.parts)
    return amounts(required.resource_request) if required is not None else {}


def written(binding: ResourceBinding, counts: Iterable[tuple[str, int]]) -> list[Document]:
    """`spec.clusters` for these counts."""
    if counted(binding):
        parts = [{"name": c.name, "replicas": c.replicas} for c in binding.spec.components]
        return [{"name": n, "components": parts} if count else {"name": n} for n, count in counts]
    return [{"name": n, "replicas": count} if count else {"name": n} for n, count in counts]
