"""Whether an object may be stored: rules and words of a 1.36 server, for the built kinds.

Each function returns the causes of a 422, in the order in which the reference server finds them; an empty list means yes.
The caller has applied defaults and the strategy before. Checks that need other objects (does the PriorityClass exist) are
admission's; checks of one object alone are here.
"""

from collections.abc import Callable, Mapping
from typing import Final

from machinery.api import schemas
from machinery.api.policy_kinds import (
    MUTATING_BINDING,
    MUTATING_POLICY,
    POLICY_KINDS,
    VALIDATING_BINDING,
    VALIDATING_POLICY,
)
from machinery.api.scheme import ServedKind
from machinery.api.validation import (
    batch,
    claims,
    core,
    custom,
    dataobjects,
    definitions,
    endpoints,
    exports,
    fleet,
    limits,
    metadata,
    networking,
    others,
    pod,
    pod_update,
    policies,
    pv,
    quotas,
    ranges,
    rbac,
    scaling,
    services,
    sets,
    storage,
    webhooks,
    workloads,
)
from machinery.api.validation.causes import Causes
from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.meta.resource import Document

Check = Callable[[Document, Causes], None]
UpdateCheck = Callable[[Document, Document, Causes], None]
Kind = tuple[str, str]

RBAC: Final = "rbac.authorization.k8s.io"
NETWORKING: Final = "networking.k8s.io"
STORAGE: Final = "storage.k8s.io"
CSR: Final[Kind] = ("certificates.k8s.io", "CertificateSigningRequest")
DEFINITION: Final[Kind] = ("apiextensions.k8s.io", "CustomResourceDefinition")
POLICY: Final[Kind] = ("ubernetes.io", "ResiliencePolicy")
INTERPRETERS: Final[Kind] = ("config.karmada.io", "ResourceInterpreterCustomization")
SERVICE_EXPORT: Final[Kind] = ("multicluster.x-k8s.io", "ServiceExport")

_CREATE: Final[Mapping[Kind, Check]] = {
    ("", "Pod"): pod.validate_create,
    ("", "ConfigMap"): core.config_map,
    ("", "Secret"): core.secret,
    ("", "Namespace"): core.namespace,
    ("", "Node"): core.node,
    ("", "Service"): services.service,
    ("", "Endpoints"): endpoints.endpoints,
    ("discovery.k8s.io", "EndpointSlice"): endpoints.endpoint_slice,
    ("", "Event"): core.event,
    ("", "Binding"): core.binding,
    ("events.k8s.io", "Event"): core.new_event,
    ("apps", "Deployment"): workloads.deployment,
    ("apps", "ReplicaSet"): workloads.replica_set,
    ("", "ReplicationController"): workloads.replication_controller,
    (RBAC, "Role"): rbac.role,
    (RBAC, "ClusterRole"): rbac.cluster_role,
    (RBAC, "RoleBinding"): rbac.role_binding,
    (RBAC, "ClusterRoleBinding"): rbac.cluster_role_binding,
    ("coordination.k8s.io", "Lease"): others.lease,
    ("scheduling.k8s.io", "PriorityClass"): others.priority_class,
    ("node.k8s.io", "RuntimeClass"): others.runtime_class,
    CSR: others.signing_request,
    DEFINITION: definitions.definition,
    ("autoscaling", "Scale"): others.scale,
    ("authentication.k8s.io", "TokenRequest"): others.token_request,
    SERVICE_EXPORT: exports.service_export,
    POLICY: fleet.resilience_policy,
    INTERPRETERS: fleet.interpreter_customization,
    ("", "LimitRange"): limits.limit_range,
    ("", "ResourceQuota"): quotas.resource_quota,
    ("", "PersistentVolumeClaim"): claims.volume_claim,
    ("apps", "DaemonSet"): sets.daemon_set,
    ("apps", "StatefulSet"): sets.stateful_set,
    ("autoscaling", "HorizontalPodAutoscaler"): scaling.autoscaler,
    ("batch", "CronJob"): batch.cron_job,
    ("batch", "Job"): batch.job,
    (NETWORKING, "Ingress"): networking.new_ingress,
    (NETWORKING, "NetworkPolicy"): networking.network_policy,
    (NETWORKING, "IPAddress"): ranges.ip_address,
    (NETWORKING, "ServiceCIDR"): ranges.service_cidr,
    ("policy", "PodDisruptionBudget"): scaling.disruption_budget,
    ("", "PersistentVolume"): pv.persistent_volume,
    ("", "PodTemplate"): dataobjects.pod_template,
    ("apps", "ControllerRevision"): dataobjects.controller_revision,
    (NETWORKING, "IngressClass"): dataobjects.ingress_class,
    (STORAGE, "CSIDriver"): storage.csi_driver,
    (STORAGE, "CSINode"): storage.csi_node,
    (STORAGE, "CSIStorageCapacity"): storage.storage_capacity,
    (STORAGE, "StorageClass"): storage.storage_class,
    (STORAGE, "VolumeAttachment"): storage.volume_attachment,
    (STORAGE, "VolumeAttributesClass"): storage.attributes_class,
    MUTATING.group_kind: webhooks.mutating,
    VALIDATING.group_kind: webhooks.validating,
    **{kind.group_kind: policies.CREATE[kind.kind] for kind in POLICY_KINDS},
}
"""Own kinds are held against their schemas first; what is here are rules between fields."""
_NAMELESS: Final = frozenset({"TokenRequest", "Scale", "Eviction", "Binding"})
"""Bodies of subresources: the object they speak of is named by the URL."""


def _again(check: Check, *more: UpdateCheck) -> UpdateCheck:
    """An update check that runs the checks of create first."""

    def run(new: Document, old: Document, causes: Causes) -> None:
        check(new, causes)
        for one in more:
            one(new, old, causes)

    return run


_UPDATE: Final[Mapping[Kind, UpdateCheck]] = {
    ("", "Pod"): pod_update.validate_update,
    ("", "ConfigMap"): core.config_map_update,
    ("", "Secret"): core.secret_update,
    ("", "Node"): core.node_update,
    ("", "Service"): services.service_update,
    ("", "Endpoints"): _again(endpoints.endpoints),
    ("discovery.k8s.io", "EndpointSlice"): endpoints.endpoint_slice_update,
    ("", "Event"): _again(core.event),
    ("apps", "Deployment"): _again(workloads.deployment, workloads.selector_unchanged),
    ("apps", "ReplicaSet"): _again(workloads.replica_set, workloads.selector_unchanged),
    ("", "ReplicationController"): _again(workloads.replication_controller),
    (RBAC, "Role"): _again(rbac.role),
    (RBAC, "ClusterRole"): _again(rbac.cluster_role),
    (RBAC, "RoleBinding"): _again(rbac.role_binding, rbac.binding_update),
    (RBAC, "ClusterRoleBinding"): _again(rbac.cluster_role_binding, rbac.binding_update),
    ("coordination.k8s.io", "Lease"): _again(others.lease),
    ("scheduling.k8s.io", "PriorityClass"): others.priority_class_update,
    ("node.k8s.io", "RuntimeClass"): _again(others.runtime_class, others.runtime_class_update),
    CSR: others.signing_request_update,
    DEFINITION: definitions.definition_update,
    SERVICE_EXPORT: exports.service_export_update,
    POLICY: _again(fleet.resilience_policy),
    INTERPRETERS: _again(fleet.interpreter_customization),
    ("", "LimitRange"): _again(limits.limit_range),
    ("", "ResourceQuota"): quotas.resource_quota_update,
    ("", "PersistentVolumeClaim"): claims.volume_claim_update,
    ("apps", "DaemonSet"): _again(sets.daemon_set, sets.daemon_set_update),
    ("apps", "StatefulSet"): _again(sets.stateful_set, sets.stateful_set_update),
    ("autoscaling", "HorizontalPodAutoscaler"): _again(scaling.autoscaler),
    ("batch", "CronJob"): _again(batch.cron_job),
    ("batch", "Job"): batch.job_update,
    (NETWORKING, "Ingress"): _again(networking.ingress),
    (NETWORKING, "NetworkPolicy"): _again(networking.network_policy),
    (NETWORKING, "IPAddress"): ranges.ip_address_update,
    (NETWORKING, "ServiceCIDR"): ranges.service_cidr_update,
    ("policy", "PodDisruptionBudget"): _again(scaling.disruption_budget),
    ("", "PersistentVolume"): pv.persistent_volume_update,
    ("", "PodTemplate"): _again(dataobjects.pod_template),
    ("apps", "ControllerRevision"): dataobjects.controller_revision_update,
    (NETWORKING, "IngressClass"): dataobjects.ingress_class_update,
    (STORAGE, "CSIDriver"): storage.csi_driver_update,
    (STORAGE, "CSINode"): _again(storage.csi_node, storage.csi_node_update),
    (STORAGE, "CSIStorageCapacity"): _again(
        storage.storage_capacity, storage.storage_capacity_update
    ),
    (STORAGE, "StorageClass"): storage.storage_class_update,
    (STORAGE, "VolumeAttachment"): _again(
        storage.volume_attachment, storage.volume_attachment_update
    ),
    (STORAGE, "VolumeAttributesClass"): storage.attributes_class_update,
    MUTATING.group_kind: _again(webhooks.mutating),
    VALIDATING.group_kind: _again(webhooks.validating),
    VALIDATING_POLICY.group_kind: policies.validating_policy_update,
    MUTATING_POLICY.group_kind: policies.mutating_policy_update,
    VALIDATING_BINDING.group_kind: _again(policies.validating_binding),
    MUTATING_BINDING.group_kind: _again(policies.mutating_binding),
}


def _workload_status(new: Document, old: Document, causes: Causes) -> None:
    workloads.workload_status(new, causes)


_SUBRESOURCE: Final[Mapping[tuple[str, Kind], UpdateCheck]] = {
    ("status", ("", "Pod")): pod_update.validate_status,
    ("ephemeralcontainers", ("", "Pod")): pod_update.validate_ephemeral,
    ("resize", ("", "Pod")): pod_update.validate_resize,
    ("status", ("", "Namespace")): core.namespace_status,
    ("finalize", ("", "Namespace")): core.namespace_finalize,
    ("status", ("", "Node")): core.node_update,
    ("status", ("", "ResourceQuota")): quotas.resource_quota_status,
    ("status", ("apps", "Deployment")): _workload_status,
    ("status", ("apps", "ReplicaSet")): _workload_status,
    ("status", ("", "ReplicationController")): _workload_status,
    ("status", ("apps", "DaemonSet")): sets.set_status,
    ("status", ("apps", "StatefulSet")): sets.set_status,
    ("status", CSR): others.signing_request_update,
    ("approval", CSR): others.signing_request_update,
}


def validate_create(
    kind: ServedKind, document: Document, *, sound_metadata: bool = False
) -> list[Document]:
    """Causes against a new object. `sound_metadata` says that of its metadata only the name is not known to be right."""
    causes = Causes()
    if sound_metadata:
        metadata.validate_name(kind, document["metadata"], causes)
    elif kind.kind not in _NAMELESS and kind.storable:
        metadata.validate(kind, document, causes)
    if kind.dynamic is not None:
        custom.validate_dynamic(kind, document, causes)
        return causes
    if kind.custom:
        custom.validate(schemas.schema_of(kind), document, causes)
        if causes:
            return causes
    if (check := _CREATE.get(kind.group_kind)) is not None:
        check(document, causes)
    return causes


def validate_update(
    kind: ServedKind, new: Document, old: Document, subresource: str = ""
) -> list[Document]:
    """Causes against the change from `old` to `new` through the main endpoint or a subresource."""
    causes = Causes()
    metadata.validate_update(kind, new, old, causes)
    if kind.dynamic is not None:
        custom.validate_dynamic(kind, new, causes, old, subresource)
        return causes
    if kind.custom:
        custom.validate(schemas.schema_of(kind), new, causes, old)
        if causes:
            return causes
    if subresource and subresource != "scale":
        check = _SUBRESOURCE.get((subresource, kind.group_kind))
    else:
        check = _UPDATE.get(kind.group_kind)
    if check is not None:
        check(new, old, causes)
    return causes
