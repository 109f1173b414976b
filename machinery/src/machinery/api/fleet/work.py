"""`work.karmada.io`: ResourceBinding (a decision) and Work (what one member shall run, and what came of it)."""

import datetime as dt
from typing import Any

from machinery.api.core import NodeSelector, ObjectReference, Toleration
from machinery.api.fleet.policy import FailoverBehavior, Placement, Suspension
from machinery.meta.objectmeta import Condition, Object, View
from machinery.meta.resource import Document, ObjectKey, Resource

BINDING_LABEL = "resourcebinding.karmada.io/permanent-id"
BINDING_NAME = "resourcebinding.karmada.io/name"
BINDING_NAMESPACE = "resourcebinding.karmada.io/namespace"
CLUSTER_BINDING_LABEL = "clusterresourcebinding.karmada.io/permanent-id"
CLUSTER_BINDING_NAME = "clusterresourcebinding.karmada.io/name"
WORK_ID = "work.karmada.io/permanent-id"
WORK_NAME = "work.karmada.io/name"
WORK_NAMESPACE = "work.karmada.io/namespace"
MANAGED_LABEL = "karmada.io/managed"
TEMPLATE_UID = "resourcetemplate.karmada.io/uid"
TEMPLATE_GENERATION = "resourcetemplate.karmada.io/generation"
CONFLICT_RESOLUTION = "work.karmada.io/conflict-resolution"
PRUNES = "ubernetes.io/prunes"
"""On a Work: kinds (`apiVersion/Kind`, parted by commas) of which the member deletes what stands in the Work no more."""
DRIFT = "ubernetes.io/drift"
"""On a template: `Report` has changes that somebody makes in a member told and left alone, instead of repaired."""
MANIFEST_DIGEST = "ubernetes.io/manifest-digest"
"""On a member's object: the hash of the manifest that was applied last, so that a change by others is told from a new wish."""
DRIFTED, CONFLICTED = "Drifted", "Conflicted"
"""Conditions: somebody changed the object in a member; it is there already and is not the federation's."""
ALREADY_EXISTS = "already exists in the cluster"
"""What a Work's condition `Applied` says of an object that is somebody else's (Karmada's words)."""
OVERWRITE, IF_NO_DIFF, ABORT = "overwrite", "ifnodiff", "abort"
"""What `CONFLICT_RESOLUTION` says; `ifnodiff` is ours: take an object over that already is as the manifest says."""
EXECUTION_FINALIZER = "karmada.io/execution-controller"
"""On a Work: the member's link removes it when the objects are gone there."""


class NodeClaim(View):
    hard_node_affinity: NodeSelector | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()


class ReplicaRequirements(View):
    node_claim: NodeClaim | None = None
    resource_request: dict[str, str | int] = {}
    namespace: str = ""
    priority_class_name: str = ""


class ComponentRequirements(View):
    node_claim: NodeClaim | None = None
    resource_request: dict[str, str | int] = {}
    priority_class_name: str = ""


class Component(View):
    """One of several pod templates of a workload, as it is asked for."""

    name: str
    replicas: int = 0
    replica_requirements: ComponentRequirements | None = None


class TargetComponent(View):
    """How many replicas of a component one cluster was given."""

    name: str
    replicas: int = 0


class TargetCluster(View):
    name: str
    replicas: int = 0
    components: tuple[TargetComponent, ...] = ()
    """Of a workload of several components that is in one cluster only."""


class BindingSnapshot(View):
    """A binding that needs this one: its clusters are this one's too."""

    namespace: str = ""
    name: str = ""
    clusters: tuple[TargetCluster, ...] = ()


class GracefulEvictionTask(View):
    from_cluster: str
    reason: str
    producer: str
    purge_mode: str = ""
    replicas: int | None = None
    message: str = ""
    grace_period_seconds: int | None = None
    suppress_deletion: bool | None = None
    """True: kept until somebody says False; it stands for a grace period."""
    preserved_label_state: dict[str, str] = {}
    clusters_before_failover: tuple[str, ...] = ()
    creation_timestamp: dt.datetime | None = None


class BindingPriority(View):
    """The value of the policy's PriorityClass."""

    priority: int = 0


class ResourceBindingSpec(View):
    resource: ObjectReference = ObjectReference()
    propagate_deps: bool = False
    replica_requirements: ReplicaRequirements | None = None
    replicas: int = 0
    components: tuple[Component, ...] = ()
    """Of a workload with several pod templates; `replicas` says nothing of it then."""
    clusters: tuple[TargetCluster, ...] = ()
    placement: Placement | None = None
    graceful_eviction_tasks: tuple[GracefulEvictionTask, ...] = ()
    required_by: tuple[BindingSnapshot, ...] = ()
    scheduler_name: str = "default-scheduler"
    conflict_resolution: str = "Abort"
    reschedule_triggered_at: dt.datetime | None = None
    suspension: Suspension | None = None
    preserve_resources_on_deletion: bool = False
    schedule_priority: BindingPriority | None = None
    failover: FailoverBehavior | None = None


class AggregatedStatusItem(View):
    cluster_name: str
    status: Document | None = None
    applied: bool = False
    applied_message: str = ""
    health: str = "Unknown"


class ResourceBindingStatus(View):
    scheduler_observed_generation: int = 0
    scheduler_observing_affinity_name: str = ""
    last_scheduled_time: dt.datetime | None = None
    conditions: tuple[Condition, ...] = ()
    aggregated_status: tuple[AggregatedStatusItem, ...] = ()


class ResourceBinding(Object):
    spec: ResourceBindingSpec = ResourceBindingSpec()
    status: ResourceBindingStatus = ResourceBindingStatus()


class ClusterResourceBinding(ResourceBinding):
    """The binding of a cluster-scoped template."""


class ManifestIdentifier(View):
    ordinal: int = 0
    group: str = ""
    version: str = ""
    kind: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""


class ManifestStatus(View):
    identifier: ManifestIdentifier = ManifestIdentifier()
    status: dict[str, Any] | None = None
    health: str = "Unknown"


class WorkStatus(View):
    conditions: tuple[Condition, ...] = ()
    manifest_statuses: tuple[ManifestStatus, ...] = ()


class Work(Object):
    """What is said of a Work. What it carries is most of its size, and is read as a document by the few that ask."""

    status: WorkStatus = WorkStatus()


RESOURCE_BINDINGS: Resource[ResourceBinding] = Resource(
    "work.karmada.io", "v1alpha2", "resourcebindings", "ResourceBinding", True, ResourceBinding
)
CLUSTER_RESOURCE_BINDINGS: Resource[ClusterResourceBinding] = Resource(
    "work.karmada.io", "v1alpha2", "clusterresourcebindings", "ClusterResourceBinding", False,
    ClusterResourceBinding,
)  # fmt: skip
WORKS: Resource[Work] = Resource("work.karmada.io", "v1alpha1", "works", "Work", True, Work)
BINDING_DOCUMENTS: Resource[Document] = Resource(
    "work.karmada.io", "v1alpha2", "resourcebindings", "ResourceBinding", True, dict
)
CLUSTER_BINDING_DOCUMENTS: Resource[Document] = Resource(
    "work.karmada.io", "v1alpha2", "clusterresourcebindings", "ClusterResourceBinding", False, dict
)
WORK_DOCUMENTS: Resource[Document] = Resource(
    "work.karmada.io", "v1alpha1", "works", "Work", True, dict
)
"""The same kinds as whole documents, for those who compare or hand on every field."""


def binding_resource(key: ObjectKey) -> Resource[Any]:
    """Which kind of binding has the key: only those of objects of a cluster have no namespace."""
    return RESOURCE_BINDINGS if key.namespace else CLUSTER_RESOURCE_BINDINGS
