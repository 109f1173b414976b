"""Pod garbage collection: what no kubelet will ever finish is finished here.

Four kinds of leftovers: ended pods above a threshold, oldest first; pods of a node that is gone, after a while in
which it may come back; pods that were deleted before they had a node; and pods that hang in deletion on a node which
the operator has declared out of service.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster_agent.control.controllers import conditions
from cluster_agent.control.controllers.pods import has_ended
from machinery.api.core import NODES, PODS, Node, Pod
from machinery.controller.action import Action, Delete, SetStatus
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.controllers.events import executor_for
from machinery.controllers.mirrors import is_mirror
from machinery.meta.errors import Conflict, NotFound
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import ObjectKey

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
REASON = "DeletionByPodGC"


@dataclass(frozen=True, slots=True)
class PodGCConfig:
    """When leftovers are taken away."""

    period_s: float = 20.0
    """Between two passes."""
    terminated_max: int = 12_500
    """Ended pods that are kept for people to look at; 0 keeps all."""
    quarantine_s: float = 40.0
    """How long a node must be gone before its pods are."""


def plan(
    pods: Iterable[Pod],
    nodes: Mapping[str, Node],
    gone: Iterable[str],
    now: dt.datetime,
    terminated_max: int,
) -> list[list[Action]]:
    """What to do, a short list for each pod. `gone` names nodes that are known to be gone for good."""
    pods = [pod for pod in pods if not is_mirror(pod)]
    lost = set(gone)
    chores = [_forced(pod, "") for pod in _surplus(pods, terminated_max)]
    for pod in pods:
        name = pod.spec.node_name
        node = nodes.get(name)
        if name in lost:
            chores.append(_fail(pod, "PodGC: node no longer exists", now))
        elif not name and pod.deleting:
            chores.append(_forced(pod, ""))
        elif node is not None and pod.deleting and _is_out_of_service(node):
            chores.append(_forced(pod, "Failed"))
    return chores


def missing_nodes(pods: Iterable[Pod], nodes: Mapping[str, Node]) -> set[str]:
    """Names of nodes that pods are bound to and that are not there."""
    names = {pod.spec.node_name for pod in pods if pod.spec.node_name and not is_mirror(pod)}
    return names - nodes.keys()


def _surplus(pods: Iterable[Pod], terminated_max: int) -> list[Pod]:
    """The oldest ended pods above the threshold, evicted ones before all others."""
    ended = [pod for pod in pods if has_ended(pod)]
    if terminated_max <= 0 or len(ended) <= terminated_max:
        return []

    def order(pod: Pod) -> tuple[bool, float, str]:
        created = pod.metadata.creation_timestamp
        age = created.timestamp() if created is not None else 0.0
        return (pod.status.reason != "Evicted", age, pod.metadata.name)

    return sorted(ended, key=order)[: len(ended) - terminated_max]


def _is_out_of_service(node: Node) -> bool:
    marked = any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints)
    return marked and not is_true(node.status.conditions, "Ready")


def _fail(pod: Pod, why: str, now: dt.datetime) -> list[Action]:
    fresh = conditions.disruption_target(REASON, why, now)
    body = {"conditions": conditions.replaced(pod.status.conditions, fresh)}
    return _end(pod, body | ({} if has_ended(pod) else {"phase": "Failed"}))


def _forced(pod: Pod, phase: str) -> list[Action]:
    return _end(pod, {"phase": phase} if phase and not has_ended(pod) else {})


def _end(pod: Pod, status: Mapping[str, object]) -> list[Action]:
    delete = Delete(PODS, pod.key, uid=pod.metadata.uid, grace_period_seconds=0)
    if not status:
        return [delete]
    version = pod.metadata.resource_version
    return [SetStatus(PODS, pod.key, status, resource_version=version), delete]


class PodCollector:
    """A pass over all pods; `run_once` is one."""

    def __init__(self, manager: Manager, executor: Executor, config: PodGCConfig) -> None:
        self._client, self._clock = manager.client, manager.clock
        self._executor, self._config = executor, config
        self._pods, self._nodes = manager.informer(PODS), manager.informer(NODES)
        self._missing: dict[str, float] = {}

    async def run(self) -> None:
        """Collect for ever."""
        while True:
            await self.run_once()
            await self._clock.sleep(self._config.period_s)

    async def run_once(self) -> None:
        """One pass. A pod that changes under our hands is left to the next."""
        pods = self._pods.list()
        nodes = {node.metadata.name: node for node in self._nodes.list()}
        gone = await self._gone(missing_nodes(pods, nodes))
        limit = self._config.terminated_max
        for chore in plan(pods, nodes, gone, self._clock.now(), limit):
            try:
                await self._executor.apply(chore)
            except (Conflict, NotFound):
                continue

    async def _gone(self, missing: set[str]) -> list[str]:
        """Of the missing nodes those that were missing long enough, and that the server does not know either."""
        now = self._clock.monotonic()
        self._missing = {name: self._missing.get(name, now) for name in missing}
        gone = []
        for name, since in self._missing.items():
            if now - since >= self._config.quarantine_s and not await self._exists(name):
                gone.append(name)
        return gone

    async def _exists(self, name: str) -> bool:
        try:
            await self._client.get(NODES, ObjectKey("", name))
        except NotFound:
            return False
        return True


def setup(manager: Manager, config: PodGCConfig = PodGCConfig()) -> None:
    """Run the collector beside the controllers."""
    executor = executor_for(manager, "pod-garbage-collector")
    manager.runnable("pod-gc", PodCollector(manager, executor, config).run)
