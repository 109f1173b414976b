"""StatefulSets, DaemonSets, their pods, revisions and nodes for tables."""

from collections.abc import Mapping
from typing import Any

from tests.unit.control.builders import NOW, ago, template

from cluster_agent.control.controllers.sets import (
    REVISION_HASH_LABEL,
    ClaimRetention,
    ControllerRevision,
    DaemonSet,
    DaemonSetSpec,
    DaemonSetStrategy,
    Ordinals,
    PersistentVolumeClaim,
    RollingUpdateDaemonSet,
    RollingUpdateStatefulSet,
    StatefulSet,
    StatefulSetSpec,
    StatefulSetStatus,
    StatefulSetStrategy,
)
from cluster_agent.control.controllers.statefulset.identity import identity_labels
from cluster_agent.control.controllers.statefulset.plan import Revisions
from machinery.api.core import (
    LabelSelector,
    Node,
    NodeSpec,
    Pod,
    PodSpec,
    PodStatus,
    Taint,
)
from machinery.meta.objectmeta import Condition, ObjectMeta, OwnerReference

OLD, NEW = "w-old", "w-new"
REVISIONS = Revisions(OLD, template("img:1"), NEW, template("img:2"))
SELECTOR = LabelSelector(match_labels={"app": "d"})
CLAIM = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}


def stateful_set(
    replicas: int = 3,
    *,
    partition: int = 0,
    most: int | str | None = None,
    parallel: bool = False,
    on_delete: bool = False,
    start: int = 0,
    keep: ClaimRetention = ClaimRetention(),  # noqa: B008 - frozen
    status: StatefulSetStatus = StatefulSetStatus(),  # noqa: B008 - frozen
    deleting: bool = False,
    **spec: Any,
) -> StatefulSet:
    rolling = RollingUpdateStatefulSet(partition=partition, max_unavailable=most)
    strategy = StatefulSetStrategy(rolling_update=rolling)
    if on_delete:
        strategy = StatefulSetStrategy(type="OnDelete")
    return StatefulSet(
        metadata=ObjectMeta(
            name="w",
            namespace="ns",
            uid="w-uid",
            generation=2,
            deletion_timestamp=NOW if deleting else None,
        ),
        spec=StatefulSetSpec(
            replicas=replicas,
            selector=SELECTOR,
            template=template("img:2"),
            service_name="svc",
            pod_management_policy="Parallel" if parallel else "OrderedReady",
            update_strategy=strategy,
            ordinals=Ordinals(start=start),
            persistent_volume_claim_retention_policy=keep,
            **spec,
        ),
        status=status,
    )


def member(
    ordinal: int,
    *,
    revision: str = NEW,
    phase: str = "Running",
    ready_s: float | None = 100.0,
    deleting: bool = False,
    labelled: bool = True,
) -> Pod:
    """A pod of the StatefulSet; `ready_s` None: not ready."""
    name = f"w-{ordinal}"
    mine = identity_labels(name, ordinal) if labelled else {}
    return _pod(name, {REVISION_HASH_LABEL: revision, **mine}, phase, ready_s, deleting=deleting)


def _pod(
    name: str,
    labels: Mapping[str, str],
    phase: str,
    ready_s: float | None,
    *,
    node: str = "n1",
    age_s: float = 1000.0,
    deleting: bool = False,
) -> Pod:
    conditions: tuple[Condition, ...] = ()
    if ready_s is not None:
        conditions = (Condition(type="Ready", status="True", last_transition_time=ago(ready_s)),)
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="ns",
            uid=f"{name}-uid",
            creation_timestamp=ago(age_s),
            deletion_timestamp=NOW if deleting else None,
            labels={"app": "d", **labels},
        ),
        spec=PodSpec(node_name=node),
        status=PodStatus(phase=phase, conditions=conditions),
    )


def volume_claim(
    ordinal: int, *owners: OwnerReference, deleting: bool = False
) -> PersistentVolumeClaim:
    return PersistentVolumeClaim(
        metadata=ObjectMeta(
            name=f"data-w-{ordinal}",
            namespace="ns",
            uid=f"claim-{ordinal}",
            resource_version="7",
            owner_references=owners,
            deletion_timestamp=NOW if deleting else None,
        )
    )


def revision(name: str, number: int, data: Mapping[str, Any], **labels: str) -> ControllerRevision:
    return ControllerRevision(
        metadata=ObjectMeta(
            name=name, namespace="ns", uid=f"{name}-uid", labels=labels, resource_version="3"
        ),
        data=dict(data),
        revision=number,
    )


def daemon_set(
    *,
    surge: int | str = 0,
    away: int | str = 1,
    on_delete: bool = False,
    pod_spec: Mapping[str, Any] | None = None,
    min_ready_s: int = 0,
) -> DaemonSet:
    made = template("img:2")
    made["spec"] |= pod_spec or {}
    strategy = DaemonSetStrategy(
        rolling_update=RollingUpdateDaemonSet(max_unavailable=away, max_surge=surge)
    )
    if on_delete:
        strategy = DaemonSetStrategy(type="OnDelete")
    return DaemonSet(
        metadata=ObjectMeta(name="a", namespace="ns", uid="a-uid", generation=2),
        spec=DaemonSetSpec(
            selector=SELECTOR,
            template=made,
            update_strategy=strategy,
            min_ready_seconds=min_ready_s,
        ),
    )


def daemon(  # noqa: PLR0913 - one pod's facts, spelled out
    node: str,
    *,
    name: str = "",
    digest: str = NEW,
    phase: str = "Running",
    ready_s: float | None = 100.0,
    age_s: float = 1000.0,
    deleting: bool = False,
) -> Pod:
    """A pod of the DaemonSet on that node."""
    return _pod(
        name or f"a-{node}",
        {REVISION_HASH_LABEL: digest},
        phase,
        ready_s,
        node=node,
        age_s=age_s,
        deleting=deleting,
    )


def machine(name: str, *taints: tuple[str, str], **labels: str) -> Node:
    """A node; taints as (key, effect)."""
    found = tuple(Taint(key=key, effect=effect) for key, effect in taints)
    return Node(metadata=ObjectMeta(name=name, labels=labels), spec=NodeSpec(taints=found))
