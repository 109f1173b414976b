"""What is seen of a workload in each cluster of its placement, out of the binding's summed status. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from machinery.api.fleet.reflect import HEALTHY
from machinery.api.fleet.work import AggregatedStatusItem, ResourceBinding


@dataclass(frozen=True, slots=True)
class Sight:
    """The workload in one cluster. `template` is the hash that its agent reports; empty: it has not said."""

    wanted: int
    seen: bool = True
    template: str = ""
    healthy: bool = False
    ready: int = 0
    failing: str = ""
    """Why the change cannot come to anything there, in the cluster's words."""
    complaint: str = ""
    """Why the cluster could not apply what it was sent; its agent tries again."""


def sights(binding: ResourceBinding, heard: Collection[str]) -> dict[str, Sight]:
    """By cluster of the placement; `heard` are those whose heartbeat stands."""
    told = {item.cluster_name: item for item in binding.status.aggregated_status}
    return {
        target.name: _sight(target.replicas, told.get(target.name), target.name in heard)
        for target in binding.spec.clusters
    }


def _sight(wanted: int, item: AggregatedStatusItem | None, seen: bool) -> Sight:
    if item is None or not seen:
        return Sight(wanted, seen)
    status: Mapping[str, Any] = item.status or {}
    nodes = status.get("desiredNumberScheduled")
    return Sight(
        wanted
        if nodes is None
        else int(nodes),  # a DaemonSet has as many as there are nodes for it
        template=str(status.get("templateHash", "")),
        healthy=item.applied and item.health == HEALTHY,
        ready=int(status.get("availableReplicas") or status.get("numberAvailable") or 0),
        failing=_failing(status),
        complaint="" if item.applied else item.applied_message,
    )


def _failing(status: Mapping[str, Any]) -> str:
    if status.get("observedGeneration") != status.get("generation"):
        return ""
    for held in status.get("conditions") or ():
        if held.get("type") == "Progressing" and held.get("status") == "False":
            return str(held.get("message") or held.get("reason") or "the rollout does not go on")
    return ""
