"""Deployment: one step of a rollout, as a function of what is there.

A pass takes one step and no more: it makes the new ReplicaSet, or grows it, or shrinks old ones; the next event brings
the next step. Scaling goes before rolling, a paused Deployment is only scaled, and history is trimmed when a rollout
is complete. Applied again and again from any state it comes to rest with every pod of the new template, never below
the available pods that are promised and never above the surge.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster_agent.control.controllers.deployment import revisions, scaling, status
from cluster_agent.control.controllers.deployment.limits import NO_LIMIT, has_deadline, is_rolling
from cluster_agent.control.controllers.deployment.scaling import Sizes
from cluster_agent.control.controllers.selectors import is_empty
from cluster_agent.control.controllers.workloads import (
    DEPLOYMENTS,
    REPLICASETS,
    Deployment,
    ReplicaSet,
    ReplicaSetSpec,
)
from machinery.api.apps import ReplicaSetStatus
from machinery.controller.action import (
    Action,
    Create,
    Delete,
    Emit,
    Patch,
    RequeueAfter,
    SetStatus,
)
from machinery.meta.objectmeta import ObjectMeta, condition
from machinery.meta.resource import Document

SELECTS_ALL = "This deployment is selecting all pods. A non-empty selector is required."


@dataclass(slots=True)
class _Pass:
    """One pass in the making."""

    deployment: Deployment
    sizes: Sizes
    now: dt.datetime
    conditions: status.Conditions
    annotations: dict[str, dict[str, str]] = field(default_factory=dict)
    resized: set[str] = field(default_factory=set)
    """Names of ReplicaSets that must learn the Deployment's size even when theirs stays."""
    spec: dict[str, Document] = field(default_factory=dict)
    created: Document | None = None
    revision: str = ""
    deletes: list[Action] = field(default_factory=list)


def plan(
    deployment: Deployment,
    replica_sets: Sequence[ReplicaSet],
    living_pods: Mapping[str, int],
    now: dt.datetime,
) -> list[Action]:
    """The next step. `living_pods` counts, per ReplicaSet uid, pods that have not ended (asked for Recreate only)."""
    if is_empty(deployment.spec.selector):
        return _select_all(deployment)
    new = revisions.find_new(deployment, replica_sets)
    old = [rs for rs in replica_sets if new is None or rs.metadata.uid != new.metadata.uid]
    work = _Pass(deployment, Sizes(old, new), now, deployment.status.conditions)
    if deployment.deleting:
        return _finish(work, rolling=False)
    work.conditions = status.pause_conditions(deployment, now)
    _sync_revision(work)
    if deployment.spec.paused or scaling.is_scaling(deployment, work.sizes):
        work.resized = {rs.metadata.name for rs in scaling.scale(deployment, work.sizes)}
        if deployment.spec.paused:
            _trim_history(work)
        return _finish(work, rolling=False)
    if is_rolling(deployment):
        _roll(work)
    else:
        _recreate(work, living_pods)
    return _finish(work, rolling=True)


def plan_collision(deployment: Deployment) -> list[Action]:
    """The new ReplicaSet's name is taken by another template: count up, which gives another name."""
    count = (deployment.status.collision_count or 0) + 1
    return [_set_status(deployment, {"collisionCount": count})]


def plan_create_failed(
    deployment: Deployment, name: str, why: str, now: dt.datetime
) -> list[Action]:
    """The new ReplicaSet could not be made: say so."""
    text = f'Failed to create new replica set "{name}": {why}'
    actions: list[Action] = []
    if has_deadline(deployment):
        fresh = status.made(status.PROGRESSING, "False", status.CREATE_ERROR, text, now)
        conditions = status.put(deployment.status.conditions, fresh)
        if conditions != deployment.status.conditions:
            wire = {"conditions": [status.condition_document(c) for c in conditions]}
            actions.append(_set_status(deployment, wire))
    return [*actions, _emit(deployment, "Warning", status.CREATE_ERROR, text)]


def _select_all(deployment: Deployment) -> list[Action]:
    actions: list[Action] = [_emit(deployment, "Warning", "SelectingAll", SELECTS_ALL)]
    if deployment.status.observed_generation < deployment.metadata.generation:
        seen = {"observedGeneration": deployment.metadata.generation}
        actions.append(_set_status(deployment, seen))
    return actions


def _sync_revision(work: _Pass) -> None:
    """Bring the revision and the annotations of the new ReplicaSet, where there is one, up to date."""
    new = work.sizes.new
    if new is None:
        return
    changes = revisions.annotation_changes(work.deployment, new, work.sizes.old)
    if changes:
        work.annotations[new.metadata.name] = changes
    if new.spec.min_ready_seconds != work.deployment.spec.min_ready_seconds:
        ready = {"minReadySeconds": work.deployment.spec.min_ready_seconds}
        work.spec[new.metadata.name] = ready
    work.revision = changes.get(
        revisions.REVISION, new.metadata.annotations.get(revisions.REVISION, "")
    )
    if has_deadline(work.deployment) and condition(work.conditions, status.PROGRESSING) is None:
        text = f'Found new replica set "{new.metadata.name}"'
        fresh = status.made(status.PROGRESSING, "True", status.NEW_FOUND, text, work.now)
        work.conditions = status.put(work.conditions, fresh)


def _make_new(work: _Pass) -> None:
    """The ReplicaSet of the present template, where it is missing."""
    deployment, sizes = work.deployment, work.sizes
    if sizes.new is not None:
        return
    replicas = scaling.new_size(deployment, sizes, 0)
    document = revisions.new_replica_set(deployment, sizes.old, replicas)
    metadata = document["metadata"]
    work.created = document
    work.revision = metadata["annotations"][revisions.REVISION]
    sizes.new = ReplicaSet(
        metadata=ObjectMeta(name=metadata["name"], annotations=metadata["annotations"]),
        spec=ReplicaSetSpec(replicas=replicas),
        status=ReplicaSetStatus(terminating_replicas=0),
    )
    if has_deadline(deployment):
        text = f'Created new replica set "{metadata["name"]}"'
        fresh = status.made(status.PROGRESSING, "True", status.NEW_CREATED, text, work.now)
        work.conditions = status.put(work.conditions, fresh)


def _roll(work: _Pass) -> None:
    _make_new(work)
    if scaling.roll_new(work.deployment, work.sizes):
        return
    if scaling.roll_old(work.deployment, work.sizes):
        return
    if status.is_complete(work.deployment, work.deployment.status):
        _trim_history(work)


def _recreate(work: _Pass, living_pods: Mapping[str, int]) -> None:
    sizes = work.sizes
    stopped = [rs for rs in sizes.old if sizes.set(rs, 0)]
    if stopped or _old_pods_live(sizes, living_pods):
        return
    _make_new(work)
    if sizes.new is not None:
        sizes.set(sizes.new, work.deployment.spec.replicas)
    if status.is_complete(work.deployment, work.deployment.status):
        _trim_history(work)


def _old_pods_live(sizes: Sizes, living_pods: Mapping[str, int]) -> bool:
    if any(rs.status.replicas > 0 for rs in sizes.old):
        return True
    new = sizes.new.metadata.uid if sizes.new is not None else ""
    return any(count > 0 for uid, count in living_pods.items() if uid != new)


def _trim_history(work: _Pass) -> None:
    """Forget the oldest empty ReplicaSets beyond the limit."""
    limit = work.deployment.spec.revision_history_limit
    if limit == NO_LIMIT:
        return
    alive = [rs for rs in work.sizes.old if not rs.deleting]
    by_age = sorted(alive, key=lambda rs: (revisions.revision_of(rs), revisions.creation_order(rs)))
    for rs in by_age[: max(0, len(alive) - limit)]:
        idle = rs.status.replicas == 0 and work.sizes.of(rs) == 0 == rs.spec.replicas
        if idle and rs.metadata.generation <= rs.status.observed_generation:
            work.deletes.append(Delete(REPLICASETS, rs.key, uid=rs.metadata.uid))


# ------------------------------------------------------------------------------------------------- to actions
def _finish(work: _Pass, *, rolling: bool) -> list[Action]:
    """Writes to ReplicaSets first, then the status, then the revision on the Deployment itself."""
    actions = _replica_set_actions(work) + work.deletes
    fresh = status.counted(work.deployment, work.sizes, work.conditions, work.now)
    if rolling:
        fresh = status.with_progress(work.deployment, work.sizes, fresh, work.now)
    if fresh != work.deployment.status:
        actions.append(_set_status(work.deployment, status.to_wire(fresh)))
    have = work.deployment.metadata.annotations.get(revisions.REVISION)
    if work.revision and have != work.revision:
        patch = {"metadata": {"annotations": {revisions.REVISION: work.revision}}}
        uid = work.deployment.metadata.uid
        actions.append(Patch(DEPLOYMENTS, work.deployment.key, patch, uid=uid))
    if rolling and (wait := status.deadline_in(work.deployment, fresh, work.now)) is not None:
        actions.append(RequeueAfter(wait))
    return actions


def _replica_set_actions(work: _Pass) -> list[Action]:
    actions: list[Action] = []
    if work.created is not None:
        actions += _creation(work, work.created)
    order = list(work.sizes.decided)
    for rs in sorted(work.sizes.all, key=lambda rs: _place(order, rs.metadata.name)):
        if rs.metadata.uid:
            actions += _change(work, rs)
    return actions


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _creation(work: _Pass, document: Document) -> list[Action]:
    replicas = document["spec"]["replicas"]
    actions: list[Action] = [Create(REPLICASETS, document)]
    if replicas > 0:
        name = document["metadata"]["name"]
        text = f"Scaled up replica set {name} from 0 to {replicas}"
        actions.append(_emit(work.deployment, "Normal", "ScalingReplicaSet", text))
    return actions


def _change(work: _Pass, rs: ReplicaSet) -> list[Action]:
    """The one patch that brings a ReplicaSet to what was decided, and the word to the user if its size changes."""
    name, size = rs.metadata.name, work.sizes.of(rs)
    annotations = dict(work.annotations.get(name, {}))
    spec: Document = dict(work.spec.get(name, {}))
    resized = size != rs.spec.replicas
    if resized:
        spec["replicas"] = size
    if resized or name in work.resized:
        annotations |= revisions.size_annotations(work.deployment)
    annotations = {k: v for k, v in annotations.items() if rs.metadata.annotations.get(k) != v}
    patch: Document = {}
    if annotations:
        patch["metadata"] = {"annotations": annotations}
    if spec:
        patch["spec"] = spec
    if not patch:
        return []
    version = rs.metadata.resource_version
    actions: list[Action] = [
        Patch(REPLICASETS, rs.key, patch, resource_version=version, uid=rs.metadata.uid)
    ]
    for moved, before, after in work.sizes.moves:
        if moved == name:
            way = "up" if after > before else "down"
            text = f"Scaled {way} replica set {name} from {before} to {after}"
            actions.append(_emit(work.deployment, "Normal", "ScalingReplicaSet", text))
    return actions


def _set_status(deployment: Deployment, wire: Document) -> SetStatus:
    version = deployment.metadata.resource_version
    return SetStatus(DEPLOYMENTS, deployment.key, wire, resource_version=version)


def _emit(deployment: Deployment, kind: str, reason: str, message: str) -> Emit:
    return Emit(DEPLOYMENTS, deployment.key, deployment.metadata.uid, kind, reason, message)
