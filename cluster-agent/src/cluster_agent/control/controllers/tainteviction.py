"""Taint eviction: a pod that does not tolerate a NoExecute taint of its node is deleted, at once or when its time is up.

A pod that tolerates for some seconds is counted from the moment its node's taint was first seen here; when the taint
goes in time, the deletion is cancelled. Before the deletion the pod is marked with the condition DisruptionTarget.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster_agent.control.controllers import conditions
from machinery.api.core import NODES, PODS, Node, Pod, Taint, Toleration
from machinery.controller.action import Action, Delete, Emit, RequeueAfter, Result, SetStatus
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.controllers.events import executor_for
from machinery.controllers.mirrors import is_mirror
from machinery.meta.errors import NotFound
from machinery.meta.resource import ObjectKey

NO_EXECUTE = "NoExecute"
NODE_INDEX = "node"
REASON = "DeletionByTaintManager"
MESSAGE = "Taint manager: deleting due to NoExecute taint"


@dataclass(frozen=True, slots=True)
class Pending:
    """A pod whose time runs."""

    uid: str
    since: float
    marked: bool = False


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Upstream's matching: an empty effect or key takes all."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


def tolerated_s(tolerations: Sequence[Toleration], taints: Iterable[Taint]) -> float | None:
    """Seconds for which all taints are tolerated: 0 when one is not at all, None for ever."""
    shortest: float | None = None
    for taint in taints:
        used = next((t for t in tolerations if tolerates(t, taint)), None)
        if used is None:
            return 0.0
        if used.toleration_seconds is not None:
            seconds = max(0.0, float(used.toleration_seconds))
            shortest = seconds if shortest is None else min(shortest, seconds)
    return shortest


def evicting(node: Node) -> list[Taint]:
    """The node's taints that empty it."""
    return [taint for taint in node.spec.taints if taint.effect == NO_EXECUTE]


def plan(
    pod: Pod, taints: Sequence[Taint], pending: Pending | None, monotonic: float, now: dt.datetime
) -> tuple[list[Action], Pending | None]:
    """What to do with the pod now, and what is to be remembered of it."""
    allowed = tolerated_s(pod.spec.tolerations, taints) if taints else None
    if allowed is None:
        waiting = pending is not None and not pending.marked
        return ([_emit(pod, "Cancelling deletion of Pod")] if waiting else []), None
    pending = pending or Pending(pod.metadata.uid, monotonic)
    left = pending.since + allowed - monotonic
    if left > 0 and not pending.marked:
        return [RequeueAfter(left)], pending
    if pending.marked:
        return [], pending
    return _evict(pod, now), Pending(pending.uid, pending.since, marked=True)


def _evict(pod: Pod, now: dt.datetime) -> list[Action]:
    fresh = conditions.disruption_target(REASON, MESSAGE, now)
    body = {"conditions": conditions.replaced(pod.status.conditions, fresh)}
    version = pod.metadata.resource_version
    return [
        _emit(pod, "Marking for deletion Pod"),
        SetStatus(PODS, pod.key, body, resource_version=version),
        Delete(PODS, pod.key, uid=pod.metadata.uid),
    ]


def _emit(pod: Pod, words: str) -> Emit:
    text = f"{words} {pod.key}"
    return Emit(PODS, pod.key, pod.metadata.uid, "Normal", "TaintManagerEviction", text)


class TaintEvictionReconciler:
    """Read, plan, act; the key is the pod's."""

    def __init__(self, manager: Manager, executor: Executor) -> None:
        self._clock, self._executor = manager.clock, executor
        self._pods, self._nodes = manager.informer(PODS), manager.informer(NODES)
        self._pods.add_index(NODE_INDEX, node_index)
        self._pending: dict[ObjectKey, Pending] = {}

    async def reconcile(self, key: ObjectKey) -> Result:
        pod, pending = self._pods.get(key), self._pending.pop(key, None)
        if pod is None or is_mirror(pod):
            return Result()
        if pending is not None and pending.uid != pod.metadata.uid:
            pending = None
        node = self._nodes.get(ObjectKey("", pod.spec.node_name))
        taints = evicting(node) if node is not None else []
        now, monotonic = self._clock.now(), self._clock.monotonic()
        actions, after = plan(pod, taints, pending, monotonic, now)
        if pending is not None:
            self._pending[key] = pending
        try:
            result = await self._executor.apply(actions)
        except NotFound:
            self._pending.pop(key, None)
            return Result()
        if after is not None:
            self._pending[key] = after
        else:
            self._pending.pop(key, None)
        return result

    def concerns(self, pod: Pod) -> list[ObjectKey]:
        """The pod itself, when its node is being emptied or it is waiting to go."""
        if pod.key in self._pending:
            return [pod.key]
        node = self._nodes.get(ObjectKey("", pod.spec.node_name)) if pod.spec.node_name else None
        return [pod.key] if node is not None and evicting(node) else []

    def concerned(self, node: Node) -> list[ObjectKey]:
        """The pods of a node that is being emptied, or was until now."""
        pods = self._pods.by_index(NODE_INDEX, node.metadata.name)
        emptied = bool(evicting(node))
        return [pod.key for pod in pods if emptied or pod.key in self._pending]


def node_index(pod: Pod) -> tuple[str, ...]:
    """Index: the pod's node."""
    return (pod.spec.node_name,) if pod.spec.node_name else ()


def setup(manager: Manager) -> None:
    """Watch nodes, and the pods of those that are being emptied."""
    executor = executor_for(manager, "taint-eviction-controller")
    reconciler = TaintEvictionReconciler(manager, executor)
    builder = manager.controller("taint-eviction", reconciler)
    builder.watches(PODS, reconciler.concerns).watches(NODES, reconciler.concerned)
