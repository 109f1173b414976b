"""Job: which pods to make or to delete while it is undecided. Pure.

A pass either makes pods or deletes some, never both. Pods that are deleted here are no failures: they lose the finalizer first, so that
nobody counts them.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cluster_agent.control.controllers.job.backoff import Record, finished_at, pause_s
from cluster_agent.control.controllers.job.indexes import index_of, indexes_of
from cluster_agent.control.controllers.job.podmaking import pod_document
from cluster_agent.control.controllers.job.sight import (
    TRACKING,
    Sight,
    failures_of,
    is_tracked,
    replaces_failed_only,
)
from cluster_agent.control.controllers.pods import is_ready, is_terminating
from cluster_agent.control.controllers.replicaset.ranking import first_to_go
from machinery.api.core import PODS, Pod
from machinery.client.interface import PatchType
from machinery.controller.action import Action, Create, Delete, Patch

BURST_PODS_MAX = 500
"""Pods made or deleted in one pass."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to do to the pods, and what is true of them when it is done."""

    active: int
    ready: int
    terminating: int
    actions: Sequence[Action] = ()
    wait_s: float | None = None
    """No pod may be made before that."""

    @property
    def makes(self) -> int:
        """How many pods are made."""
        return sum(1 for action in self.actions if isinstance(action, Create))

    def without(self, unmade: int) -> "Order":
        """As it came out when that many pods could not be made."""
        return replace(self, active=self.active - unmade)


def idle(sight: Sight) -> Order:
    """All stays as it is."""
    return Order(len(sight.active), sight.ready, sight.terminating)


def plan(sight: Sight, record: Record, now: dt.datetime) -> Order:
    """Bring the active pods to as many as the Job may have."""
    job, active = sight.job, len(sight.active)
    if job.spec.suspend:
        return _removing(sight, _surplus(sight, active, now))
    wanted = _wanted(sight)
    surplus = _surplus(sight, max(0, active - wanted), now)[:BURST_PODS_MAX]
    if surplus:
        return _removing(sight, surplus)
    held = sight.terminating if replaces_failed_only(job) else 0
    missing = min(wanted - held - active, BURST_PODS_MAX)
    if missing <= 0:
        return idle(sight)
    per_index = job.spec.backoff_limit_per_index is not None
    wait_s = 0.0 if per_index else record.wait_s(now)
    if wait_s > 0:
        return _waiting(sight, wait_s)
    if not job.indexed:
        creates = [Create(PODS, pod_document(job))] * missing
        return replace(idle(sight), active=active + missing, actions=creates)
    indexes = _pending(sight, missing)
    if per_index:
        waits = {index: _index_wait_s(sight, index, now) for index in indexes}
        indexes = [index for index in indexes if waits[index] == 0.0]
        if not indexes and waits:
            return _waiting(sight, min(waits.values()))
    fresh = [
        Create(PODS, pod_document(job, index, sight.replaceable.get(index))) for index in indexes
    ]
    return replace(idle(sight), active=active + len(fresh), actions=fresh)


def _wanted(sight: Sight) -> int:
    """How many pods may be active."""
    spec = sight.job.spec
    if spec.completions is None:
        return len(sight.active) if sight.succeeded else spec.parallelism
    return max(0, min(spec.completions - sight.succeeded, spec.parallelism))


def _waiting(sight: Sight, wait_s: float) -> Order:
    """Nothing may be made yet. Upstream reports no active pod in such a pass, and clients see what they are used to."""
    return replace(idle(sight), active=0, wait_s=wait_s)


def _pending(sight: Sight, count: int) -> list[int]:
    """The first indexes that nobody works on and that are not decided."""
    taken = sight.completed | indexes_of(sight.active)
    if replaces_failed_only(sight.job):
        taken |= indexes_of(pod for pod in sight.pods if is_terminating(pod))
    if sight.failed_indexes is not None:
        taken |= sight.failed_indexes
    pending = taken.absent(sight.job.spec.completions or 0)
    return [index for index, _ in zip(pending, range(count), strict=False)]


def _index_wait_s(sight: Sight, index: int, now: dt.datetime) -> float:
    last = sight.replaceable.get(index)
    if last is None:
        return 0.0
    return pause_s(failures_of(last) + 1, finished_at(last), now)


def _surplus(sight: Sight, count: int, now: dt.datetime) -> list[Pod]:
    """At least `count` active pods: of an Indexed Job all that are there twice or work on no index of it."""
    left = list(sight.active)
    gone: list[Pod] = []
    if sight.job.indexed:
        completions = sight.job.spec.completions or 0
        by_index: dict[int | None, list[Pod]] = {}
        for pod in left:
            by_index.setdefault(index_of(pod), []).append(pod)
        left = []
        for index, pods in by_index.items():
            valid = index is not None and index < completions
            extra = first_to_go(pods, len(pods) - 1, {}, now) if valid else pods
            gone += extra
            going = {pod.metadata.uid for pod in extra}
            left += [pod for pod in pods if pod.metadata.uid not in going]
    if len(gone) < count:
        gone += first_to_go(left, count - len(gone), {}, now)
    return gone


def _removing(sight: Sight, pods: Sequence[Pod]) -> Order:
    """Delete pods that are wanted no more; they are not counted."""
    order = removal(sight, pods)
    return replace(order, actions=[*freeing(pods), *order.actions])


def removal(sight: Sight, pods: Sequence[Pod]) -> Order:
    """Delete pods; those with the finalizer stay until they are counted."""
    return Order(
        active=len(sight.active) - len(pods),
        ready=sight.ready - sum(1 for pod in pods if is_ready(pod)),
        terminating=sight.terminating + len(pods),
        actions=[Delete(PODS, pod.key, uid=pod.metadata.uid) for pod in pods],
    )


def freeing(pods: Iterable[Pod]) -> list[Action]:
    """Take our finalizer off, and nobody else's."""
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": [TRACKING]}}
    return [
        Patch(PODS, pod.key, patch, PatchType.STRATEGIC, uid=pod.metadata.uid)
        for pod in pods
        if is_tracked(pod)
    ]
