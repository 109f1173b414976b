"""Deployments, ReplicaSets and pods for tables, and a small world in which plans are applied to values."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from cluster_agent.control.controllers.deployment import revisions
from cluster_agent.control.controllers.workloads import (
    Deployment,
    DeploymentSpec,
    ReplicaSet,
    ReplicaSetSpec,
)
from machinery.api.apps import (
    DeploymentStatus,
    DeploymentStrategy,
    ReplicaSetStatus,
    RollingUpdateDeployment,
)
from machinery.api.core import ContainerStatus, LabelSelector, Pod, PodSpec, PodStatus
from machinery.meta.objectmeta import Condition, ObjectMeta, OwnerReference

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


def template(image: str = "img:1") -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "d"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


def deployment(
    replicas: int = 3,
    *,
    image: str = "img:1",
    surge: int | str = "25%",
    unavailable: int | str = "25%",
    recreate: bool = False,
    status: DeploymentStatus = DeploymentStatus(),  # noqa: B008 - frozen
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> Deployment:
    rolling = RollingUpdateDeployment(max_surge=surge, max_unavailable=unavailable)
    strategy = (
        DeploymentStrategy(type="Recreate")
        if recreate
        else DeploymentStrategy(rolling_update=rolling)
    )
    return Deployment(
        metadata=ObjectMeta(
            name="d",
            namespace="ns",
            uid="d-uid",
            generation=1,
            resource_version="10",
            annotations=dict(annotations or {}),
        ),
        spec=DeploymentSpec(
            replicas=replicas,
            selector=LabelSelector(match_labels={"app": "d"}),
            template=template(image),
            strategy=strategy,
            **spec,
        ),
        status=status,
    )


def replica_set(
    name: str,
    replicas: int,
    *,
    image: str = "img:1",
    available: int | None = None,
    actual: int | None = None,
    age_s: float = 100.0,
    revision: int = 1,
    desired: int | None = None,
    most: int | None = None,
    owner: str = "d-uid",
    conditions: tuple[Condition, ...] = (),
    annotations: Mapping[str, str] | None = None,
) -> ReplicaSet:
    actual = replicas if actual is None else actual
    available = actual if available is None else available
    notes = {revisions.REVISION: str(revision)}
    if desired is not None:
        notes[revisions.DESIRED_REPLICAS] = str(desired)
    if most is not None:
        notes[revisions.MAX_REPLICAS] = str(most)
    labelled = template(image)
    labelled["metadata"] = {"labels": {"app": "d", revisions.HASH_LABEL: name}}
    reference = OwnerReference(
        api_version="apps/v1", kind="Deployment", name="d", uid=owner, controller=True
    )
    return ReplicaSet(
        metadata=ObjectMeta(
            name=name,
            namespace="ns",
            uid=f"{name}-uid",
            resource_version="20",
            generation=1,
            creation_timestamp=ago(age_s),
            labels={"app": "d", revisions.HASH_LABEL: name},
            annotations={**notes, **(annotations or {})},
            owner_references=(reference,) if owner else (),
        ),
        spec=ReplicaSetSpec(
            replicas=replicas,
            selector=LabelSelector(match_labels={"app": "d", revisions.HASH_LABEL: name}),
            template=labelled,
        ),
        status=ReplicaSetStatus(
            observed_generation=1,
            replicas=actual,
            ready_replicas=available,
            available_replicas=available,
            fully_labeled_replicas=actual,
            terminating_replicas=0,
            conditions=conditions,
        ),
    )


def pod(
    name: str,
    *,
    phase: str = "Running",
    ready_s: float | None = None,
    node: str = "n1",
    cost: str = "",
    restarts: int = 0,
    age_s: float = 1000.0,
    uid: str = "",
    owner: str = "rs-uid",
    labels: Mapping[str, str] | None = None,
    deleting: bool = False,
) -> Pod:
    conditions: tuple[Condition, ...] = ()
    if ready_s is not None:
        conditions = (Condition(type="Ready", status="True", last_transition_time=ago(ready_s)),)
    reference = OwnerReference(
        api_version="apps/v1", kind="ReplicaSet", name="rs", uid=owner, controller=True
    )
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="ns",
            uid=uid or f"{name}-uid",
            creation_timestamp=ago(age_s),
            deletion_timestamp=NOW if deleting else None,
            labels=dict(labels if labels is not None else {"app": "d"}),
            annotations={"controller.kubernetes.io/pod-deletion-cost": cost} if cost else {},
            owner_references=(reference,) if owner else (),
        ),
        spec=PodSpec(node_name=node),
        status=PodStatus(
            phase=phase,
            conditions=conditions,
            container_statuses=(ContainerStatus(name="c", restart_count=restarts),),
        ),
    )
