"""Capacity: a Cluster says when nothing that it reports of its room is believed, and why.

Numbers that cannot be (less than nothing, more than any cluster has, no quantities at all) are a fault or a lie. Decisions take
such a member for one that reports no room (`federation.clusters.candidates`): what it runs stays, and it gets nothing
more that is divided by room. Without this condition nobody would know why.
"""

from federation.clusters.candidates import BELIEVED, disbelief
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.controller.action import Action, Emit, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition, condition_document
from machinery.meta.resource import Document, ObjectKey

IMPLAUSIBLE, PLAUSIBLE = "Implausible", "Plausible"


def plan(cluster: Cluster, now: str) -> list[Action]:
    """The condition, where there is or was something to say, and a Warning when it begins."""
    why, held = disbelief(cluster), condition(cluster.status.conditions, BELIEVED)
    if held is None and not why:
        return []
    message = f"What the cluster reports of its room is not believed: {why}." if why else ""
    wanted: Document = {
        "type": BELIEVED,
        "status": "False" if why else "True",
        "reason": IMPLAUSIBLE if why else PLAUSIBLE,
        "message": message or "What the cluster reports of its room may be true.",
        "lastTransitionTime": now,
    }
    if held is not None and (held.status, held.message) == (wanted["status"], wanted["message"]):
        return []
    if held is not None and held.status == wanted["status"] and held.last_transition_time:
        wanted["lastTransitionTime"] = rfc3339(held.last_transition_time)
    others = [condition_document(c) for c in cluster.status.conditions if c.type != BELIEVED]
    status = {"conditions": [*others, wanted]}
    key, metadata = ObjectKey("", cluster.metadata.name), cluster.metadata
    actions: list[Action] = [
        SetStatus(CLUSTERS, key, status, resource_version=metadata.resource_version)
    ]
    if why:
        actions.append(Emit(CLUSTERS, key, metadata.uid, "Warning", "CapacityImplausible", message))
    return actions


class CapacityReconciler:
    """Clusters."""

    def __init__(self, manager: Manager) -> None:
        self._clock, self._executor = manager.clock, manager.executor
        self._clusters = manager.informer(CLUSTERS)

    async def reconcile(self, key: ObjectKey) -> Result:
        cluster = self._clusters.get(key)
        if cluster is None or cluster.deleting:
            return Result()
        return await self._executor.apply(plan(cluster, rfc3339(self._clock.now())))


def setup(manager: Manager) -> None:
    """Clusters whose report is not believed, or was not."""

    def doubtful(cluster: Cluster) -> list[ObjectKey]:
        told = condition(cluster.status.conditions, BELIEVED) is not None
        return [ObjectKey("", cluster.metadata.name)] if told or disbelief(cluster) else []

    controller = manager.controller("capacity", CapacityReconciler(manager))
    controller.watches(CLUSTERS, doubtful)
