"""What a Deployment reports: counts, Available, Progressing, ReplicaFailure. `kubectl rollout status` reads these.

Wording and order of the decisions are upstream's. A condition keeps its time of transition while its status stays,
and its message while its reason stays, except that progress is reported anew each time.
"""

import datetime as dt
from collections.abc import Sequence

from cluster_agent.control.controllers.deployment.limits import (
    has_deadline,
    min_available,
)
from cluster_agent.control.controllers.deployment.scaling import Sizes
from cluster_agent.control.controllers.workloads import Deployment, ReplicaSet
from machinery.api.apps import DeploymentStatus
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import Condition, condition
from machinery.meta.resource import Document

AVAILABLE = "Available"
PROGRESSING = "Progressing"
REPLICA_FAILURE = "ReplicaFailure"

NEW_CREATED = "NewReplicaSetCreated"
NEW_FOUND = "FoundNewReplicaSet"
NEW_AVAILABLE = "NewReplicaSetAvailable"
UPDATED = "ReplicaSetUpdated"
CREATE_ERROR = "ReplicaSetCreateError"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"
RESUMED = "DeploymentResumed"

Conditions = tuple[Condition, ...]


def made(kind: str, status: str, reason: str, message: str, now: dt.datetime) -> Condition:
    """A fresh condition, in whole seconds as the wire has it."""
    moment = now.replace(microsecond=0)
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_update_time=moment,
        last_transition_time=moment,
    )


def put(conditions: Conditions, fresh: Condition) -> Conditions:
    """Set a condition; one with the same status and reason is left as it is."""
    current = condition(conditions, fresh.type)
    if current is not None and (current.status, current.reason) == (fresh.status, fresh.reason):
        return conditions
    if current is not None and current.status == fresh.status:
        fresh = _since(fresh, current)
    return (*without(conditions, fresh.type), fresh)


def without(conditions: Conditions, kind: str) -> Conditions:
    """All but that type."""
    return tuple(c for c in conditions if c.type != kind)


def pause_conditions(deployment: Deployment, now: dt.datetime) -> Conditions:
    """The conditions with a pause or its end noted, unless the rollout had already timed out."""
    conditions = deployment.status.conditions
    current = condition(conditions, PROGRESSING)
    if not has_deadline(deployment) or (current is not None and current.reason == TIMED_OUT):
        return conditions
    noted = current is not None and current.reason == PAUSED
    if deployment.spec.paused and not noted:
        return put(conditions, made(PROGRESSING, "Unknown", PAUSED, "Deployment is paused", now))
    if not deployment.spec.paused and noted:
        return put(conditions, made(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed", now))
    return conditions


def counted(
    deployment: Deployment, sizes: Sizes, conditions: Conditions, now: dt.datetime
) -> DeploymentStatus:
    """Counts over all ReplicaSets, and Available."""
    every = sizes.all
    new = [sizes.new] if sizes.new is not None else []
    available = sum(rs.status.available_replicas for rs in every)
    if available >= min_available(deployment):
        verdict = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        verdict = (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    return DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=sum(rs.status.replicas for rs in every),
        updated_replicas=sum(rs.status.replicas for rs in new),
        ready_replicas=sum(rs.status.ready_replicas for rs in every),
        available_replicas=available,
        unavailable_replicas=max(0, sizes.total() - available),
        terminating_replicas=_terminating(every),
        collision_count=deployment.status.collision_count,
        conditions=put(conditions, made(AVAILABLE, *verdict, now)),
    )


def with_progress(
    deployment: Deployment, sizes: Sizes, status: DeploymentStatus, now: dt.datetime
) -> DeploymentStatus:
    """The status of a rollout: how it gets on, and whether its pods can be made at all."""
    conditions = status.conditions
    if has_deadline(deployment):
        conditions = _progress(deployment, sizes, status, now)
    else:
        conditions = without(conditions, PROGRESSING)
    failure = _replica_failure(sizes)
    if failure is not None:
        conditions = put(conditions, made(REPLICA_FAILURE, *failure, now))
    else:
        conditions = without(conditions, REPLICA_FAILURE)
    return with_conditions(status, conditions)


def _progress(
    deployment: Deployment, sizes: Sizes, status: DeploymentStatus, now: dt.datetime
) -> Conditions:
    conditions = status.conditions
    current = condition(conditions, PROGRESSING)
    settled = current is not None and current.reason == NEW_AVAILABLE
    if settled and status.replicas == status.updated_replicas:
        return conditions
    subject = (
        f'ReplicaSet "{sizes.new.metadata.name}"'
        if sizes.new is not None
        else f'Deployment "{deployment.metadata.name}"'
    )
    if is_complete(deployment, status):
        text = f"{subject} has successfully progressed."
        return put(conditions, made(PROGRESSING, "True", NEW_AVAILABLE, text, now))
    if _has_progressed(deployment.status, status):
        fresh = made(PROGRESSING, "True", UPDATED, f"{subject} is progressing.", now)
        if current is not None and current.status == "True":
            fresh = _since(fresh, current)
        return (*without(conditions, PROGRESSING), fresh)
    if current is not None and _is_overdue(deployment, current, now):
        text = f"{subject} has timed out progressing."
        return put(conditions, made(PROGRESSING, "False", TIMED_OUT, text, now))
    return conditions


def is_complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    """Everything wanted is of the new template and available, and nothing else is left."""
    wanted = deployment.spec.replicas
    return (
        status.updated_replicas == status.replicas == status.available_replicas == wanted
        and status.observed_generation >= deployment.metadata.generation
    )


def deadline_in(deployment: Deployment, status: DeploymentStatus, now: dt.datetime) -> float | None:
    """Seconds until a rollout that stands still must be looked at again; None when none is under way."""
    current = condition(status.conditions, PROGRESSING)
    if not has_deadline(deployment) or deployment.spec.paused or current is None:
        return None
    if is_complete(deployment, status) or current.reason in (TIMED_OUT, NEW_AVAILABLE):
        return None
    since = current.last_update_time or now
    left = deployment.spec.progress_deadline_seconds - (now - since).total_seconds()
    return max(left, 0.0) + 1.0


def to_wire(status: DeploymentStatus) -> Document:
    """The status as a merge patch: what upstream leaves out is null."""
    return {
        "observedGeneration": status.observed_generation or None,
        "replicas": status.replicas or None,
        "updatedReplicas": status.updated_replicas or None,
        "readyReplicas": status.ready_replicas or None,
        "availableReplicas": status.available_replicas or None,
        "unavailableReplicas": status.unavailable_replicas or None,
        "terminatingReplicas": status.terminating_replicas,
        "collisionCount": status.collision_count,
        "conditions": [condition_document(c) for c in status.conditions] or None,
    }


def condition_document(c: Condition) -> Document:
    """One condition in wire shape."""
    document: Document = {"type": c.type, "status": c.status}
    if c.last_update_time is not None:
        document["lastUpdateTime"] = rfc3339(c.last_update_time)
    if c.last_transition_time is not None:
        document["lastTransitionTime"] = rfc3339(c.last_transition_time)
    return document | {"reason": c.reason, "message": c.message}


def with_conditions(status: DeploymentStatus, conditions: Conditions) -> DeploymentStatus:
    """The same status with other conditions."""
    return DeploymentStatus(
        observed_generation=status.observed_generation,
        replicas=status.replicas,
        updated_replicas=status.updated_replicas,
        ready_replicas=status.ready_replicas,
        available_replicas=status.available_replicas,
        unavailable_replicas=status.unavailable_replicas,
        terminating_replicas=status.terminating_replicas,
        collision_count=status.collision_count,
        conditions=conditions,
    )


def _since(fresh: Condition, current: Condition) -> Condition:
    return Condition(
        type=fresh.type,
        status=fresh.status,
        reason=fresh.reason,
        message=fresh.message,
        last_update_time=fresh.last_update_time,
        last_transition_time=current.last_transition_time,
    )


def _has_progressed(before: DeploymentStatus, after: DeploymentStatus) -> bool:
    return (
        after.updated_replicas > before.updated_replicas
        or after.replicas - after.updated_replicas < before.replicas - before.updated_replicas
        or after.ready_replicas > before.ready_replicas
        or after.available_replicas > before.available_replicas
    )


def _is_overdue(deployment: Deployment, current: Condition, now: dt.datetime) -> bool:
    if current.reason == NEW_AVAILABLE:
        return False
    if current.reason == TIMED_OUT:
        return True
    since = current.last_update_time or now
    return since + dt.timedelta(seconds=deployment.spec.progress_deadline_seconds) < now


def _replica_failure(sizes: Sizes) -> tuple[str, str, str] | None:
    """The failure of the new ReplicaSet, or of any."""
    order = ([sizes.new] if sizes.new is not None else []) + list(sizes.old)
    for rs in order:
        found = condition(rs.status.conditions, REPLICA_FAILURE)
        if found is not None:
            return found.status, found.reason, found.message
    return None


def _terminating(replica_sets: Sequence[ReplicaSet]) -> int | None:
    total = 0
    for rs in replica_sets:
        if rs.status.terminating_replicas is None:
            return None
        total += rs.status.terminating_replicas
    return total
