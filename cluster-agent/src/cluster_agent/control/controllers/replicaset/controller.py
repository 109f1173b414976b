"""ReplicaSet controller, the acting half; ReplicationControllers, which ReplicaSets come from, are kept by the same.

A ReplicaSet of thousands of pods hears thousands of events a second while it grows, and a pass looks at every pod. So
its pods' events are gathered for a moment that grows with its size and with what a pass costs here, so that passes take
no more than a small share of the time; the size asked for and the user's own changes are
acted on at once. Until the informer shows what the last pass made or deleted, no pass makes or deletes more.
"""

from collections.abc import Iterable
from typing import Any

from cluster_agent.control.controllers.api_errors import is_namespace_terminating
from cluster_agent.control.controllers.ownership import Ownership, concerned
from cluster_agent.control.controllers.pods import (
    CONTROLLER_INDEX,
    ORPHANS,
    controller_index,
    is_active,
)
from cluster_agent.control.controllers.replicaset.plan import (
    BURST_PODS_MAX,
    Failure,
    Owners,
    Pods,
    failure_reason,
    plan,
    plan_status,
    sort_out,
)
from cluster_agent.control.controllers.workloads import (
    REPLICASETS,
    REPLICATION_CONTROLLERS,
    Replicated,
)
from machinery.api.core import PODS, Pod
from machinery.client.informer import Informer
from machinery.controller.action import Action, Create, Delete, Emit, Result
from machinery.controller.executor import OnDone
from machinery.controller.expectations import Expectations
from machinery.controller.manager import Manager
from machinery.controllers.events import SpeakingExecutor, executor_for
from machinery.meta.errors import Forbidden, StatusError
from machinery.meta.objectmeta import controller_of
from machinery.meta.resource import ObjectKey

GATHER_ABOVE_PODS = 50
GATHER_S_PER_POD = 0.00004
GATHER_S_MAX = 0.25
GATHER_LOOKS = 30
"""Events are gathered for at least so many times as long as the last look at the pods took."""
GATHER_LOOKS_S_MAX = 1.0
BURST_PAUSE_S = 0.02
"""After a full burst the next one need not wait for gathered events: the informer is as fast as the answers."""


class ReplicaSetReconciler:
    """Read, plan, act."""

    def __init__(self, manager: Manager, executor: SpeakingExecutor, owners: Owners) -> None:
        self._clock, self._executor, self._owners = manager.clock, executor, owners
        self._ownership = Ownership(manager.client, executor, owners)
        self._replica_sets: Informer[Replicated] = manager.informer(owners)
        self._replica_sets.add_index(CONTROLLER_INDEX, _owner_uid)
        self._pods = manager.informer(PODS)
        self._pods.add_index(CONTROLLER_INDEX, controller_index)
        self._expectations = Expectations(self._pods, manager.clock)
        self._look_s: dict[ObjectKey, float] = {}
        """How long the last look at the pods took."""

    def gather_s(self, key: ObjectKey) -> float:
        """How long events of the pods may be gathered."""
        rs = self._replica_sets.get(key)
        return gather_s(rs.spec.replicas, self._look_s.get(key, 0.0)) if rs is not None else 0.0

    async def reconcile(self, key: ObjectKey) -> Result:
        rs = self._replica_sets.get(key)
        if rs is None:
            self._expectations.forget(key)
            self._look_s.pop(key, None)
            return Result()
        started = self._clock.monotonic()
        ready_to_act = self._expectations.satisfied(key)
        pods = await self._claimed(rs)
        self._look_s[key] = self._clock.monotonic() - started
        error: StatusError | None = None
        if ready_to_act and not rs.deleting:
            error = await self._manage(rs, pods)
        failure = None
        if error is not None:
            failure = Failure(failure_reason(rs, pods.active), error.message)
        told = plan_status(rs, pods, failure, self._clock.now(), self._owners)
        result = await self._executor.apply(told)
        if error is not None:
            raise error
        if ready_to_act and abs(rs.spec.replicas - len(pods.active)) > BURST_PODS_MAX:
            return Result(BURST_PAUSE_S, result.applied)
        return result

    async def _manage(self, rs: Replicated, pods: Pods) -> StatusError | None:
        """Make or delete pods; the first error, unless the namespace is on its way out."""
        siblings = self._siblings(rs) if len(pods.active) > rs.spec.replicas else ()
        now, ending = self._clock.now(), len(pods.terminating)
        actions = plan(rs, pods.active, siblings, now, ending, owners=self._owners)
        try:
            await self._executor.apply(actions, on_done=self._note(rs))
        except StatusError as error:
            if isinstance(error, Forbidden) and is_namespace_terminating(error):
                return None
            verb = "creating" if len(pods.active) < rs.spec.replicas else "deleting"
            reason = failure_reason(rs, pods.active)
            text = f"Error {verb}: {error.message}"
            await self._executor.apply([self._emit(rs, "Warning", reason, text)])
            return error
        return None

    def _note(self, rs: Replicated) -> OnDone:
        """Expect what was done, and tell the user of it."""
        expect = self._expectations.note(rs.key)
        emit = self._executor.emit

        def on_done(action: Action, answer: Any) -> None:
            expect(action, answer)
            if isinstance(action, Create):
                text = f"Created pod: {answer.metadata.name}"
                emit(self._emit(rs, "Normal", "SuccessfulCreate", text))
            elif isinstance(action, Delete):
                emit(
                    self._emit(rs, "Normal", "SuccessfulDelete", f"Deleted pod: {action.key.name}")
                )

        return on_done

    def _emit(self, rs: Replicated, kind: str, reason: str, message: str) -> Emit:
        return Emit(self._owners, rs.key, rs.metadata.uid, kind, reason, message)

    async def _claimed(self, rs: Replicated) -> Pods:
        """The pods that are the ReplicaSet's, after it has adopted and let go what it should."""
        orphans = self._pods.by_index(CONTROLLER_INDEX, ORPHANS + rs.metadata.namespace)
        candidates = self._pods.by_index(CONTROLLER_INDEX, rs.metadata.uid)
        candidates += [pod for pod in orphans if is_active(pod)]
        return sort_out(await self._ownership.of(rs, PODS, candidates))

    def _siblings(self, rs: Replicated) -> Iterable[Pod]:
        """Active pods of every ReplicaSet with the same owner; nobody's siblings without an owner."""
        owner = controller_of(rs.metadata)
        if owner is None:
            return
        for sibling in self._replica_sets.by_index(CONTROLLER_INDEX, owner.uid):
            for pod in self._pods.by_index(CONTROLLER_INDEX, sibling.metadata.uid):
                if is_active(pod):
                    yield pod


def _owner_uid(rs: Replicated) -> tuple[str, ...]:
    owner = controller_of(rs.metadata)
    return (owner.uid,) if owner is not None else ()


def gather_s(replicas: int, look_s: float = 0.0) -> float:
    """How long events of pods may be gathered before the ReplicaSet is looked at."""
    if replicas <= GATHER_ABOVE_PODS:
        return 0.0
    by_size = min(GATHER_S_MAX, replicas * GATHER_S_PER_POD)
    return max(by_size, min(GATHER_LOOKS_S_MAX, look_s * GATHER_LOOKS))


def _same_place(old: Pod, new: Pod) -> bool:
    """Whether both versions concern the same ReplicaSets."""
    a, b = old.metadata, new.metadata
    return a.owner_references == b.owner_references and a.labels == b.labels


def _only_status(old: Replicated, new: Replicated) -> bool:
    """Whether nothing has changed but what is reported."""
    a, b = old.metadata, new.metadata
    return (
        a.uid == b.uid
        and a.generation == b.generation
        and a.deletion_timestamp == b.deletion_timestamp
        and old.spec == new.spec
        and a.labels == b.labels
        and a.owner_references == b.owner_references
    )


def setup(manager: Manager) -> None:
    """Watch ReplicaSets and pods: a pod concerns its owner, an orphan everyone who would take it."""
    _wire(manager, REPLICASETS, "replicaset", "replicaset-controller")


def setup_replication_controllers(manager: Manager) -> None:
    """Watch ReplicationControllers and pods."""
    _wire(manager, REPLICATION_CONTROLLERS, "replicationcontroller", "replication-controller")


def _wire(manager: Manager, owners: Owners, name: str, component: str) -> None:
    """`component` is who Events say that it was."""
    reconciler = ReplicaSetReconciler(manager, executor_for(manager, component), owners)
    replica_sets: Informer[Replicated] = manager.informer(owners)
    pods = manager.informer(PODS)
    queue = manager.controller(name, reconciler).queue

    def on_replica_set(old: Replicated | None, new: Replicated | None) -> None:
        seen = new or old
        assert seen is not None
        if old is not None and new is not None and _only_status(old, new):
            queue.add_after(seen.key, reconciler.gather_s(seen.key))  # mostly our own last words
        else:
            queue.add(seen.key)

    def on_pod(old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is not None and _same_place(old, new):
            old = None
        for pod in (old, new):
            for key in concerned(replica_sets, pod) if pod is not None else ():
                queue.add_after(key, reconciler.gather_s(key))

    replica_sets.on_change(on_replica_set)
    pods.on_change(on_pod)
