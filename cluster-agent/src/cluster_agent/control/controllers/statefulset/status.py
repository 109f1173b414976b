"""What a StatefulSet reports of its pods. Pure."""

import datetime as dt
from collections.abc import Iterable

from cluster_agent.control.controllers.pods import available_in, is_ready, is_terminating
from cluster_agent.control.controllers.sets import STATEFULSETS, StatefulSet, StatefulSetStatus
from cluster_agent.control.controllers.statefulset.identity import revision_of
from machinery.api.core import Pod
from machinery.controller.action import Action, RequeueAfter, SetStatus
from machinery.meta.resource import Document


def is_running_ready(pod: Pod) -> bool:
    return pod.status.phase == "Running" and is_ready(pod)


def is_available(pod: Pod, min_ready_s: int, now: dt.datetime) -> bool:
    """Running and ready for long enough."""
    return pod.status.phase == "Running" and available_in(pod, min_ready_s, now) == 0.0


def counted(
    set_: StatefulSet,
    pods: Iterable[Pod],
    revisions: tuple[str, str],
    collisions: int,
    now: dt.datetime,
) -> StatefulSetStatus:
    """The counts; `revisions` are the names of the current and the update revision.

    When every pod is of the update revision and ready, the rollout is over and that revision is the current one.
    """
    current, update = revisions
    total = ready = available = of_current = of_update = 0
    for pod in pods:
        total += 1
        if is_running_ready(pod):
            ready += 1
            available += is_available(pod, set_.spec.min_ready_seconds, now)
        if not is_terminating(pod):
            of_current += revision_of(pod) == current
            of_update += revision_of(pod) == update
    if is_rolling(set_) and of_update == ready == total == set_.spec.replicas:
        current, of_current = update, of_update
    return StatefulSetStatus(
        observed_generation=set_.metadata.generation,
        replicas=total,
        ready_replicas=ready,
        current_replicas=of_current,
        updated_replicas=of_update,
        available_replicas=available,
        current_revision=current,
        update_revision=update,
        collision_count=collisions,
    )


def is_rolling(set_: StatefulSet) -> bool:
    return set_.spec.update_strategy.type == "RollingUpdate"


def plan_status(
    set_: StatefulSet, fresh: StatefulSetStatus, pods: Iterable[Pod], now: dt.datetime
) -> list[Action]:
    """The status, written only when it differs, and a look later when a ready pod will turn available."""
    actions: list[Action] = []
    if fresh != set_.status:
        actions.append(SetStatus(STATEFULSETS, set_.key, _to_wire(fresh)))
    waits = [available_in(pod, set_.spec.min_ready_seconds, now) for pod in pods]
    if left := [wait for wait in waits if wait]:
        actions.append(RequeueAfter(min(left)))
    return actions


def _to_wire(status: StatefulSetStatus) -> Document:
    """The status as a merge patch: what upstream leaves out is null."""
    return {
        "observedGeneration": status.observed_generation or None,
        "replicas": status.replicas,
        "readyReplicas": status.ready_replicas or None,
        "currentReplicas": status.current_replicas or None,
        "updatedReplicas": status.updated_replicas or None,
        "availableReplicas": status.available_replicas,
        "currentRevision": status.current_revision or None,
        "updateRevision": status.update_revision or None,
        "collisionCount": status.collision_count,
    }
