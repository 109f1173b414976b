"""DaemonSet controller, the acting half.

A node concerns a DaemonSet when a pod is to come or go there; a change of a node's heartbeat or of its running pods' numbers
does not. Pods' events of a large DaemonSet are gathered as a ReplicaSet's are. Until the informer shows what the last pass
made or deleted, no pass makes or deletes more.
"""

from typing import Any

from cluster_agent.control.controllers import history
from cluster_agent.control.controllers.api_errors import is_namespace_terminating
from cluster_agent.control.controllers.daemonset import status
from cluster_agent.control.controllers.daemonset.backoff import FailedPods
from cluster_agent.control.controllers.daemonset.placement import Placement, facts, node_of
from cluster_agent.control.controllers.daemonset.plan import (
    BURST_PODS_MAX,
    Changes,
    Sight,
    by_node,
    emit,
    is_cut,
    plan,
    to_actions,
)
from cluster_agent.control.controllers.histories import Histories
from cluster_agent.control.controllers.ownership import Ownership, concerned
from cluster_agent.control.controllers.pods import (
    CONTROLLER_INDEX,
    ORPHANS,
    controller_index,
    has_ended,
    is_active,
)
from cluster_agent.control.controllers.replicaset.controller import BURST_PAUSE_S, gather_s
from cluster_agent.control.controllers.selectors import is_empty
from cluster_agent.control.controllers.sets import (
    DAEMONSETS,
    REVISION_HASH_LABEL,
    REVISIONS,
    DaemonSet,
)
from machinery.api.core import NODES, PODS, Node, Pod
from machinery.controller.action import Action, Create, Delete, Result
from machinery.controller.expectations import Expectations
from machinery.controller.manager import Manager
from machinery.controllers.events import SpeakingExecutor, executor_for
from machinery.meta.errors import Forbidden, StatusError
from machinery.meta.objectmeta import controller_of
from machinery.meta.resource import ObjectKey

PLACE_INDEX = "daemon-place"
SELECTS_ALL = "This daemon set is selecting all pods. A non-empty selector is required."


class DaemonSetReconciler:
    """Read, plan, act."""

    def __init__(self, manager: Manager, executor: SpeakingExecutor) -> None:
        self._clock, self._executor = manager.clock, executor
        self._sets = manager.informer(DAEMONSETS)
        self._nodes = manager.informer(NODES)
        self._pods = manager.informer(PODS)
        self._pods.add_index(CONTROLLER_INDEX, controller_index)
        self._pods.add_index(PLACE_INDEX, _places)
        self._histories = Histories(manager, executor, DAEMONSETS)
        self._ownership = Ownership(manager.client, executor, DAEMONSETS)
        self._expectations = Expectations(self._pods, manager.clock)
        self._failed: dict[ObjectKey, FailedPods] = {}
        self._placements: dict[ObjectKey, tuple[DaemonSet, Placement]] = {}

    def gather_s(self, key: ObjectKey) -> float:
        """How long events of the pods may be gathered."""
        return gather_s(len(self._nodes)) if self._sets.get(key) is not None else 0.0

    def cares(self, key: ObjectKey, node: Node) -> bool:
        """Whether a pod is to come to the node or to leave it."""
        ds = self._sets.get(key)
        if ds is None:
            return False
        placement = self._placement(ds)
        if self._has_pods(ds, node.metadata.name):
            return not placement.keeps(node)
        return placement.wants(node)

    async def reconcile(self, key: ObjectKey) -> Result:
        ds = self._sets.get(key)
        if ds is None:
            self._expectations.forget(key)
            for kept in (self._failed, self._placements):
                _ = kept.pop(key, None)
            return Result()
        if is_empty(ds.spec.selector):
            return await self._executor.apply([emit(ds, "Warning", "SelectingAll", SELECTS_ALL)])
        if ds.deleting:
            return Result()
        known = await self._histories.of(ds)
        try:
            present, collisions = await self._histories.present(ds, known)
        except Forbidden as error:
            if is_namespace_terminating(error):
                return Result()
            raise
        pods = await self._claimed(ds)
        digest = history.hash_of(present)
        waits = self._failures(key).waits(self._clock.monotonic())
        now = self._clock.now()
        sight = Sight(ds, digest, self._nodes.list(), by_node(pods), now, waits)
        result = await self._act(sight, collisions)
        hashes = {pod.metadata.labels.get(REVISION_HASH_LABEL) for pod in pods}
        living = {one.metadata.name for one in known if history.hash_of(one) in hashes}
        idle = history.idle(known, {*living, present.metadata.name})
        others = sum(1 for one in known if one.metadata.name != present.metadata.name)
        surplus = others - ds.spec.revision_history_limit
        _ = await self._executor.apply(history.trim(idle, surplus))
        return result

    async def _act(self, sight: Sight, collisions: int) -> Result:
        """Make and delete what the plan says, then report."""
        ds = sight.ds
        placement = self._placement(ds)
        acting = self._expectations.satisfied(ds.key)
        changes, error = Changes(), None
        if acting:
            changes = plan(sight, placement)
            error = await self._apply(sight, changes)
        count = collisions or ds.status.collision_count
        fresh = status.counted(sight, placement, count, acted=acting)
        result = await self._executor.apply(status.plan_status(sight, fresh))
        if error is not None:
            raise error
        waits = [result.requeue_after, changes.again_s, BURST_PAUSE_S if is_cut(changes) else None]
        return Result(min((w for w in waits if w is not None), default=None), result.applied)

    async def _apply(self, sight: Sight, changes: Changes) -> StatusError | None:
        """Make and delete; the first error, unless the namespace is on its way out."""
        ds = sight.ds
        expect = self._expectations.note(ds.key)
        failed = {pod.key for pod in changes.delete if pod.status.phase == "Failed"}
        nodes = {pod.key: node for node, pods in sight.pods.items() for pod in pods}
        left = len(changes.make_on[:BURST_PODS_MAX])

        def on_done(action: Action, answer: Any) -> None:
            nonlocal left
            expect(action, answer)
            if isinstance(action, Create):
                left -= 1
                text = f"Created pod: {answer.metadata.name}"
                self._executor.emit(emit(ds, "Normal", "SuccessfulCreate", text))
            elif isinstance(action, Delete):
                if action.key in failed:
                    now_s = self._clock.monotonic()
                    self._failures(ds.key).failed(nodes[action.key], now_s)
                text = f"Deleted pod: {action.key.name}"
                self._executor.emit(emit(ds, "Normal", "SuccessfulDelete", text))

        try:
            _ = await self._executor.apply(to_actions(ds, changes, sight.digest), on_done=on_done)
        except StatusError as error:
            if isinstance(error, Forbidden) and is_namespace_terminating(error):
                return None
            creating = left > 0
            reason = "FailedCreate" if creating else "FailedDelete"
            text = f"Error {'creating' if creating else 'deleting'}: {error.message}"
            self._executor.emit(emit(ds, "Warning", reason, text))
            return error
        return None

    async def _claimed(self, ds: DaemonSet) -> list[Pod]:
        """The pods that are the DaemonSet's, after it has adopted and let go what it should."""
        orphans = self._pods.by_index(CONTROLLER_INDEX, ORPHANS + ds.metadata.namespace)
        candidates = self._pods.by_index(CONTROLLER_INDEX, ds.metadata.uid)
        candidates += [pod for pod in orphans if is_active(pod)]
        return await self._ownership.of(ds, PODS, candidates)

    def _placement(self, ds: DaemonSet) -> Placement:
        """Compiled once for each version of the DaemonSet."""
        known = self._placements.get(ds.key)
        if known is None or known[0] is not ds:
            known = self._placements[ds.key] = (ds, Placement(ds))
        return known[1]

    def _failures(self, key: ObjectKey) -> FailedPods:
        return self._failed.setdefault(key, FailedPods())

    def _has_pods(self, ds: DaemonSet, node: str) -> bool:
        pods = self._pods.by_index(PLACE_INDEX, (ds.metadata.uid, node))
        return any(not (has_ended(pod) and pod.metadata.deletion_timestamp) for pod in pods)


def _places(pod: Pod) -> tuple[tuple[str, str], ...]:
    """The DaemonSet and the node of a daemon pod."""
    owner = controller_of(pod.metadata)
    if owner is None or owner.kind != DAEMONSETS.kind:
        return ()
    return ((owner.uid, node_of(pod)),)


def setup(manager: Manager) -> None:
    """Watch DaemonSets, their pods and revisions, and the nodes where they would do something."""
    reconciler = DaemonSetReconciler(manager, executor_for(manager, "daemonset-controller"))
    sets, nodes = manager.informer(DAEMONSETS), manager.informer(NODES)
    builder = manager.controller("daemonset", reconciler)

    def on_pod(old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            for key in concerned(sets, pod) if pod is not None else ():
                builder.queue.add_after(key, reconciler.gather_s(key))

    def on_node(old: Node | None, new: Node | None) -> None:
        if new is None or (old is not None and facts(old) == facts(new)):
            return
        for ds in sets.list():
            if reconciler.cares(ds.key, new):
                builder.enqueue(ds.key)

    _ = builder.watches(DAEMONSETS).owns(REVISIONS, DAEMONSETS)
    manager.informer(PODS).on_change(on_pod)
    nodes.on_change(on_node)
