"""Which objects of users are propagated at all.

Users apply ordinary objects; what belongs to the federation itself, to a controller or to one cluster only stays. What is
known of a kind besides is the interpreter's. Pods and ReplicaSets are no templates: at the federation Pods mirror members' pods
and ReplicaSets record revisions, and admission refuses others. Services follow what their namespace runs, without a policy.
"""

from machinery.api.fleet.cluster import MANAGED_LABEL as MIRROR_LABEL
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
JOBS = dynamic("batch", "v1", "jobs", "Job", True)
CRONJOBS = dynamic("batch", "v1", "cronjobs", "CronJob", True)
VOLUME_CLAIMS = dynamic("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True)
LIMIT_RANGES = dynamic("", "v1", "limitranges", "LimitRange", True)
AUTOSCALERS = dynamic(
    "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True
)
INGRESSES = dynamic("networking.k8s.io", "v1", "ingresses", "Ingress", True)
NETWORK_POLICIES = dynamic("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True)
BUDGETS = dynamic("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True)
ROLES = dynamic("rbac.authorization.k8s.io", "v1", "roles", "Role", True)
ROLE_BINDINGS = dynamic("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", True)

PRIORITY_CLASSES = dynamic("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
"""Not propagated: policies name them."""

WORKLOADS: tuple[Resource[Document], ...] = (DEPLOYMENTS, STATEFULSETS, DAEMONSETS, JOBS, CRONJOBS)
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
    ROLES,
    ROLE_BINDINGS,
)
"""Kinds that a policy can select."""

FOLLOWERS: tuple[Resource[Document], ...] = (SERVICES, SERVICE_EXPORTS)
"""Kinds that stand wherever something of their namespace stands."""

STAYS = "namespace.karmada.io/skip-auto-propagation"
"""Label: `true` keeps a namespace at home."""

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


def why_unselectable(api_version: str, kind: str) -> str:
    """Why a policy that selects the kind sends nothing of it; empty when it does."""
    if resource_of(api_version, kind) is not None:
        return ""
    if (api_version, kind) == (NAMESPACES.api_version, NAMESPACES.kind):
        return "Namespaces go into every cluster, without a policy"
    group, _, _ = api_version.rpartition("/")
    if any((r.group, r.kind) == (group, kind) for r in FOLLOWERS):
        return f"a {kind} goes wherever something of its namespace goes, without a policy"
    if (group, kind) == (SERVICE_EXPORTS.group, "ServiceImport"):
        return "the federation makes ServiceImports itself, of what is exported"
    return f"{api_version} {kind} is not propagated"


def unsynced_namespace(name: str) -> bool:
    """Namespaces that every cluster has of itself, or that belong to the system."""
    return name == "default" or name.startswith(OWN_NAMESPACES)


def propagatable(document: Document) -> bool:
    """Whether the object may leave the federation."""
    metadata = document.get("metadata") or {}
    if metadata.get("namespace", "").startswith(OWN_NAMESPACES):
        return False
    if metadata.get("deletionTimestamp") or MIRROR_LABEL in (metadata.get("labels") or {}):
        return False
    if any(owner.get("controller") for owner in metadata.get("ownerReferences") or ()):
        return False
    match document.get("kind"):
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
