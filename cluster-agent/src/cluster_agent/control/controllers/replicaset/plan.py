"""ReplicaSet and ReplicationController: which pods to make or delete, and what to report. Pure.

Making and reporting are two plans because the report tells of a failure to make. Both look at the pods as they were
before the pass; what the pass itself did is seen in the next one, when the informer shows it.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from cluster_agent.control.controllers.pods import ENDED, available_in, is_ready
from cluster_agent.control.controllers.replicaset.ranking import first_to_go
from cluster_agent.control.controllers.workloads import (
    REPLICASETS,
    Replicated,
    template_labels,
)
from machinery.api.apps import ReplicaSetStatus
from machinery.api.core import PODS, Pod
from machinery.api.fleet.resilience import GRANT_SECONDS
from machinery.controller.action import Action, Create, Delete, RequeueAfter, SetStatus
from machinery.kit.clock import rfc3339
from machinery.meta.names import dns_subdomain
from machinery.meta.objectmeta import Condition, Object, condition, owner_reference
from machinery.meta.resource import Document, Resource

BURST_PODS_MAX = 500
"""Pods made or deleted in one pass."""

REPLICA_FAILURE = "ReplicaFailure"
Owners: TypeAlias = Resource[Any]
"""Of which kind the owner is."""


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods that belong to one ReplicaSet."""

    active: Sequence[Pod]
    terminating: Sequence[Pod]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why pods could not be made or deleted."""

    reason: str
    message: str


def sort_out(pods: Iterable[Pod]) -> Pods:
    """Those that count, those that are going; ended ones are neither."""
    active: list[Pod] = []
    terminating: list[Pod] = []
    for pod in pods:
        if pod.status.phase in ENDED:
            continue
        (active if pod.metadata.deletion_timestamp is None else terminating).append(pod)
    return Pods(active, terminating)


def one_at_a_time(rs: Replicated) -> bool:
    """Whether a pod may start only when the one before it has ended: in mode consistency (upstream: TerminationComplete)."""
    metadata = rs.spec.template.get("metadata") or {}
    return GRANT_SECONDS in (metadata.get("annotations") or {})


def plan(
    rs: Replicated,
    active: Sequence[Pod],
    siblings: Iterable[Pod],
    now: dt.datetime,
    terminating: int = 0,
    *,
    owners: Owners = REPLICASETS,
) -> list[Action]:
    """Creates or Deletes that bring the number of active pods to spec.replicas.

    `siblings` are the active pods of all ReplicaSets with the same owner, this one's included; none without an owner.
    `terminating` pods of this one count only where no two copies may run.
    """
    missing = rs.spec.replicas - len(active)
    if missing > 0:
        missing -= terminating if one_at_a_time(rs) else 0
        create = Create(PODS, pod_document(rs, owners))
        return [create] * min(max(0, missing), BURST_PODS_MAX)
    if missing < 0:
        on_node = Counter(pod.spec.node_name for pod in siblings)
        going = first_to_go(active, min(-missing, BURST_PODS_MAX), on_node, now)
        return [Delete(PODS, pod.key, uid=pod.metadata.uid) for pod in going]
    return []


def plan_status(
    rs: Replicated,
    pods: Pods,
    failure: Failure | None,
    now: dt.datetime,
    owners: Owners = REPLICASETS,
) -> list[Action]:
    """The counts, written only when they differ, and a look later when a ready pod will turn available."""
    fresh, wait = _counted(rs, pods, failure, now)
    if owners is not REPLICASETS:  # the older kind does not tell of pods that are going
        fresh = msgspec.structs.replace(fresh, terminating_replicas=None)
    actions: list[Action] = []
    if fresh != rs.status:
        actions.append(SetStatus(owners, rs.key, _to_wire(fresh)))
    if wait is not None:
        actions.append(RequeueAfter(wait))
    return actions


def failure_reason(rs: Replicated, active: Sequence[Pod]) -> str:
    """What a pass that failed was about to do."""
    return "FailedCreate" if len(active) < rs.spec.replicas else "FailedDelete"


def pod_document(rs: Replicated, owners: Owners = REPLICASETS) -> Document:
    """A pod of the template, to be named by the server."""
    template = rs.spec.template
    given = template.get("metadata") or {}
    owner = Object(api_version=owners.api_version, kind=owners.kind, metadata=rs.metadata)
    metadata: Document = {
        "generateName": pod_prefix(rs.metadata.name),
        "namespace": rs.metadata.namespace,
        "ownerReferences": [owner_reference(owner)],
    }
    metadata |= {k: given[k] for k in ("labels", "annotations", "finalizers") if given.get(k)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template.get("spec") or {},
    }


def pod_prefix(name: str) -> str:
    """`name-`, or the bare name where that leaves no room."""
    return f"{name}-" if not dns_subdomain(f"{name}-x") else name


def _counted(
    rs: Replicated, pods: Pods, failure: Failure | None, now: dt.datetime
) -> tuple[ReplicaSetStatus, float | None]:
    labels = template_labels(rs.spec.template).items()
    min_ready_s = rs.spec.min_ready_seconds
    ready = available = labelled = 0
    wait: float | None = None
    before: dict[str, str] | None = None
    has_labels = False
    for pod in pods.active:
        if pod.metadata.labels != before:
            before = pod.metadata.labels
            has_labels = labels <= before.items()
        labelled += has_labels
        if not is_ready(pod):
            continue
        ready += 1
        left = available_in(pod, min_ready_s, now) if min_ready_s else 0.0
        if left == 0.0:
            available += 1
        elif left is not None:
            wait = left if wait is None else min(wait, left)
    status = ReplicaSetStatus(
        observed_generation=rs.metadata.generation,
        replicas=len(pods.active),
        fully_labeled_replicas=labelled,
        ready_replicas=ready,
        available_replicas=available,
        terminating_replicas=len(pods.terminating),
        conditions=_conditions(rs, failure, now),
    )
    return status, wait


def _conditions(rs: Replicated, failure: Failure | None, now: dt.datetime) -> tuple[Condition, ...]:
    """The first failure stands, with its message, until a pass succeeds."""
    present = condition(rs.status.conditions, REPLICA_FAILURE)
    if failure is not None and present is None:
        fresh = Condition(
            type=REPLICA_FAILURE,
            status="True",
            reason=failure.reason,
            message=failure.message,
            last_transition_time=now.replace(microsecond=0),
        )
        return (*rs.status.conditions, fresh)
    if failure is None and present is not None:
        return tuple(c for c in rs.status.conditions if c.type != REPLICA_FAILURE)
    return rs.status.conditions


def _to_wire(status: ReplicaSetStatus) -> Document:
    """The status as a merge patch: what upstream leaves out is null."""
    return {
        "observedGeneration": status.observed_generation or None,
        "replicas": status.replicas,
        "fullyLabeledReplicas": status.fully_labeled_replicas or None,
        "readyReplicas": status.ready_replicas or None,
        "availableReplicas": status.available_replicas or None,
        "terminatingReplicas": status.terminating_replicas,
        "conditions": [_condition_document(c) for c in status.conditions] or None,
    }


def _condition_document(c: Condition) -> Document:
    document: Document = {"type": c.type, "status": c.status}
    if c.last_transition_time is not None:
        document["lastTransitionTime"] = rfc3339(c.last_transition_time)
    return document | {"reason": c.reason, "message": c.message}
