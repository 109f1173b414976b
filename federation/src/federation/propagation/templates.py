"""Which objects of users are propagated at all.

Users apply ordinary objects; what belongs to the federation itself, to a controller or to one cluster only stays. Objects of a
cluster (`CLUSTER_WIDE`) and of kinds that users define are followed while a policy selects their kind (`demand`). What is
known of a kind besides is the interpreter's. Pods and ReplicaSets are no templates: at the federation Pods mirror members' pods
and ReplicaSets record revisions, and admission refuses others. Services follow what their namespace runs, without a policy;
one that selects a Service brings it to its clusters as well.
"""

from machinery.api.core import ObjectReference
from machinery.api.fleet.cluster import MANAGED_LABEL as MIRROR_LABEL
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.client.dynamic_kinds import CUSTOM_RESOURCE_DEFINITIONS
from machinery.client.interface import dynamic
from machinery.meta.resource import Document, Resource

DEPLOYMENTS = dynamic("apps", "v1", "deployments", "Deployment", True)
CONFIGMAPS = dynamic("", "v1", "configmaps", "ConfigMap", True)
SECRETS = dynamic("", "v1", "secrets", "Secret", True)
SERVICEACCOUNTS = dynamic("", "v1", "serviceaccounts", "ServiceAccount", True)
NAMESPACES = dynamic("", "v1", "namespaces", "Namespace", False)
SERVICES = dynamic("", "v1", "services", "Service", True)
SERVICE_EXPORTS = dynamic(
    "multicluster.x-k8s.io", "v1beta1", "serviceexports", "ServiceExport", True
)
STATEFULSETS = dynamic("apps", "v1", "statefulsets", "StatefulSet", True)
DAEMONSETS = dynamic("apps", "v1", "daemonsets", "DaemonSet", True)
REPLICATION_CONTROLLERS = dynamic("", "v1", "replicationcontrollers", "ReplicationController", True)
JOBS = dynamic("batch", "v1", "jobs", "Job", True)
CRONJOBS = dynamic("batch", "v1", "cronjobs", "CronJob", True)
VOLUME_CLAIMS = dynamic("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True)
LIMIT_RANGES = dynamic("", "v1", "limitranges", "LimitRange", True)
RESOURCE_QUOTAS = dynamic("", "v1", "resourcequotas", "ResourceQuota", True)
AUTOSCALERS = dynamic(
    "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True
)
INGRESSES = dynamic("networking.k8s.io", "v1", "ingresses", "Ingress", True)
NETWORK_POLICIES = dynamic("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True)
BUDGETS = dynamic("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True)
ROLES = dynamic("rbac.authorization.k8s.io", "v1", "roles", "Role", True)
ROLE_BINDINGS = dynamic("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", True)

PRIORITY_CLASSES = dynamic("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
STORAGE_CLASSES = dynamic("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
INGRESS_CLASSES = dynamic("networking.k8s.io", "v1", "ingressclasses", "IngressClass", False)
VOLUMES = dynamic("", "v1", "persistentvolumes", "PersistentVolume", False)

CLUSTER_ROLES = dynamic("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False)
CLUSTER_ROLE_BINDINGS = dynamic(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False
)

WORKLOADS: tuple[Resource[Document], ...] = (
    DEPLOYMENTS,
    STATEFULSETS,
    DAEMONSETS,
    JOBS,
    CRONJOBS,
    REPLICATION_CONTROLLERS,
)
"""Kinds that make pods."""
DEPENDENCIES: tuple[Resource[Document], ...] = (
    CONFIGMAPS,
    SECRETS,
    SERVICEACCOUNTS,
    VOLUME_CLAIMS,
)
"""Kinds that follow what refers to them."""
DEPENDANTS: tuple[Resource[Document], ...] = (*WORKLOADS, INGRESSES)
"""Kinds that refer to others."""
TEMPLATES: tuple[Resource[Document], ...] = (
    *WORKLOADS,
    *DEPENDENCIES,
    INGRESSES,
    AUTOSCALERS,
    BUDGETS,
    NETWORK_POLICIES,
    LIMIT_RANGES,
    RESOURCE_QUOTAS,
    ROLES,
    ROLE_BINDINGS,
    SERVICES,
)
"""Kinds that a policy can select."""

CLUSTER_WIDE: tuple[Resource[Document], ...] = (
    CLUSTER_ROLES,
    CLUSTER_ROLE_BINDINGS,
    PRIORITY_CLASSES,
    STORAGE_CLASSES,
    INGRESS_CLASSES,
    VOLUMES,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
)
"""Kinds without a namespace that a ClusterPropagationPolicy can select; they are followed once one does."""

FOLLOWERS: tuple[Resource[Document], ...] = (SERVICES, SERVICE_EXPORTS)
"""Kinds that stand wherever something of their namespace stands, also where no policy selects them."""

_FIXED_GROUPS = frozenset(kind.group for kind in (*BUILTIN, *TEMPLATE_KINDS))
"""Groups whose kinds no user defines."""

STAYS = "namespace.karmada.io/skip-auto-propagation"
"""Label: `true` keeps a namespace at home, but for clusters that a policy brings it to."""

OWN_GROUPS = ("karmada.io", "ubernetes.io")
"""Groups (their ends) whose objects speak to the federation itself."""
OWN_NAMES = ("system:", "system-", "ubernetes:", "karmada:")
"""Beginnings of names of objects of a cluster that every cluster has of itself, or that hold the federation together."""
DEFAULT_ROLES = "kubernetes.io/bootstrapping"
"""Label of the roles that every API server makes."""
OWN_NAMESPACES = ("kube-", "ubernetes-", "karmada-")
UNSHARED_SECRET_TYPES = frozenset(
    {
        "kubernetes.io/service-account-token",
        "bootstrap.kubernetes.io/token",
        "helm.sh/release.v1",
    }
)


def resource_of(api_version: str, kind: str) -> Resource[Document] | None:
    """The template kind, or None when it is not one."""
    return next((r for r in TEMPLATES if (r.api_version, r.kind) == (api_version, kind)), None)


def subject(document: Document) -> Resource[Document]:
    """The object's kind, as far as an Event names it."""
    namespace = document["metadata"].get("namespace", "")
    return _subject(document["apiVersion"], document["kind"], namespaced=bool(namespace))


def named(source: ObjectReference) -> Resource[Document]:
    """The kind that a binding places, as far as an Event names it."""
    return _subject(source.api_version, source.kind, namespaced=bool(source.namespace))


def _subject(api_version: str, kind: str, *, namespaced: bool) -> Resource[Document]:
    group, _, version = api_version.rpartition("/")
    known = resource_of(api_version, kind)
    return known or dynamic(group, version, kind.lower(), kind, namespaced)


def why_unselectable(api_version: str, kind: str) -> str:
    """Why a policy that selects the kind sends nothing of it; empty when it does."""
    if resource_of(api_version, kind) is not None:
        return ""
    if is_wide(api_version, kind):
        return ""
    group, _, _ = api_version.rpartition("/")
    if any((r.group, r.kind) == (group, kind) for r in FOLLOWERS):
        return f"a {kind} goes wherever something of its namespace goes, without a policy"
    if (group, kind) == (SERVICE_EXPORTS.group, "ServiceImport"):
        return "the federation makes ServiceImports itself, of what is exported"
    if is_own_group(group):
        return f"a {kind} speaks to the federation itself"
    # Whatever else users define is selected from the moment on when its definition is there.
    return f"{api_version} {kind} is not propagated" if group in _FIXED_GROUPS else ""


def is_wide(api_version: str, kind: str) -> bool:
    """Whether it is a built-in kind of objects without a namespace that can be selected."""
    return any((r.api_version, r.kind) == (api_version, kind) for r in CLUSTER_WIDE)


def unsynced_namespace(name: str) -> bool:
    """Namespaces that every cluster has of itself, or that belong to the system."""
    return name == "default" or name.startswith(OWN_NAMESPACES)


def _is_of_every_cluster(document: Document, metadata: Document) -> bool:
    """Whether an object without a namespace belongs to the cluster that has it."""
    if DEFAULT_ROLES in (metadata.get("labels") or {}):
        return True
    if document.get("kind") == CUSTOM_RESOURCE_DEFINITIONS.kind:
        return is_own_group((document.get("spec") or {}).get("group", ""))
    return str(metadata.get("name", "")).startswith(OWN_NAMES)


def is_own_group(group: str) -> bool:
    """Whether the group's objects speak to the federation itself."""
    return any(group == own or group.endswith(f".{own}") for own in OWN_GROUPS)


def propagatable(document: Document) -> bool:
    """Whether the object may leave the federation."""
    metadata = document.get("metadata") or {}
    if metadata.get("namespace", "").startswith(OWN_NAMESPACES):
        return False
    if not metadata.get("namespace") and _is_of_every_cluster(document, metadata):
        return False
    if metadata.get("deletionTimestamp") or MIRROR_LABEL in (metadata.get("labels") or {}):
        return False
    if any(owner.get("controller") for owner in metadata.get("ownerReferences") or ()):
        return False
    match document.get("kind"):
        case "Namespace":
            return not unsynced_namespace(metadata.get("name", ""))
        case "ConfigMap":
            return metadata.get("name") != "kube-root-ca.crt"
        case "ServiceAccount":
            return metadata.get("name") != "default"
        case "Service":
            in_default = metadata.get("namespace") == "default"
            return not (in_default and metadata.get("name") == "kubernetes")
        case "Secret":
            return document.get("type") not in UNSHARED_SECRET_TYPES
        case _:
            return True
