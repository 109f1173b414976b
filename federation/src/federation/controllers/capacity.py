"""Capacity: a Cluster says when nothing that it reports of its room is believed, or its price cannot be read, and why.

Numbers that cannot be (less than nothing, more than any cluster has, no quantities at all) are a fault or a lie. Decisions take
such a member for one that reports no room (`federation.clusters.candidates`): what it runs stays, and it gets nothing
more that is divided by room. A figure of cost or carbon that cannot be read counts as not told (`federation.placement.scores`).
Without these conditions nobody would know why.
"""

from collections.abc import Callable
from dataclasses import dataclass

from federation.clusters.candidates import BELIEVED, disbelief
from federation.placement.scores import misread
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.controller.action import Action, Emit, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition, condition_document
from machinery.meta.resource import Document, ObjectKey

IMPLAUSIBLE, PLAUSIBLE = "Implausible", "Plausible"
FIGURES_READ = "FiguresRead"
"""Condition of a Cluster: whether what its annotations say of cost and carbon can be read."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A condition of a Cluster that is there when there is, or was, something wrong with what is said of it."""

    condition: str
    wrong: Callable[[Cluster], str]
    """One sentence without its stop; empty: nothing."""
    reasons: tuple[str, str]
    """Of the condition: when something is, and when it is not any more."""
    event: str
    """Reason of the Warning when it begins."""
    complaint: str
    relief: str


DOUBTS = (
    Doubt(
        BELIEVED,
        disbelief,
        (IMPLAUSIBLE, PLAUSIBLE),
        "CapacityImplausible",
        "What the cluster reports of its room is not believed",
        "What the cluster reports of its room may be true.",
    ),
    Doubt(
        FIGURES_READ,
        lambda cluster: misread(cluster.metadata.annotations),
        ("Unreadable", "Readable"),
        "FiguresUnreadable",
        "What the cluster costs or emits is not known",
        "What the cluster says of cost and carbon can be read.",
    ),
)


def plan(cluster: Cluster, now: str) -> list[Action]:
    """The conditions, where there is or was something to say, and a Warning when it begins."""
    changed = [(doubt, found) for doubt in DOUBTS if (found := _changed(cluster, doubt, now))]
    if not changed:
        return []
    fresh = {doubt.condition for doubt, _ in changed}
    others = [condition_document(c) for c in cluster.status.conditions if c.type not in fresh]
    status = {"conditions": [*others, *(found for _, found in changed)]}
    key, metadata = ObjectKey("", cluster.metadata.name), cluster.metadata
    actions: list[Action] = [
        SetStatus(CLUSTERS, key, status, resource_version=metadata.resource_version)
    ]
    for doubt, found in changed:
        if found["status"] == "False":
            said = found["message"]
            actions.append(Emit(CLUSTERS, key, metadata.uid, "Warning", doubt.event, said))
    return actions


def _changed(cluster: Cluster, doubt: Doubt, now: str) -> Document | None:
    """The condition as it is to be; None where it is that already."""
    why, held = doubt.wrong(cluster), condition(cluster.status.conditions, doubt.condition)
    if held is None and not why:
        return None
    wrong, right = doubt.reasons
    wanted: Document = {
        "type": doubt.condition,
        "status": "False" if why else "True",
        "reason": wrong if why else right,
        "message": f"{doubt.complaint}: {why}." if why else doubt.relief,
        "lastTransitionTime": now,
    }
    if held is not None and (held.status, held.message) == (wanted["status"], wanted["message"]):
        return None
    if held is not None and held.status == wanted["status"] and held.last_transition_time:
        wanted["lastTransitionTime"] = rfc3339(held.last_transition_time)
    return wanted


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
    """Clusters whose word is doubted, or was."""

    def doubtful(cluster: Cluster) -> list[ObjectKey]:
        conditions = cluster.status.conditions
        doubted = any(condition(conditions, d.condition) or d.wrong(cluster) for d in DOUBTS)
        return [ObjectKey("", cluster.metadata.name)] if doubted else []

    controller = manager.controller("capacity", CapacityReconciler(manager))
    controller.watches(CLUSTERS, doubtful)
