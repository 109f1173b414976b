"""The kinds of Kubernetes that are served, as data: one literal row a kind, in the order of discovery.

Only kinds with behaviour behind them stand here, and those that are data in Kubernetes as well (`data_kinds`). A kind that would merely be stored (Ingress without a controller) is absent,
so that clients hear NotFound instead of waiting for something that never happens.
"""

from machinery.api.data_kinds import APPS_DATA, CORE_DATA, INGRESS_CLASS, STORAGE_DATA
from machinery.api.policy_kinds import POLICY_KINDS
from machinery.api.scheme import ALL_VERBS, ServedKind, Subresource
from machinery.api.webhook_kinds import WEBHOOK_KINDS

CREATE_ONLY: tuple[str, ...] = ("create",)
CONNECT: tuple[str, ...] = ("create", "get")
PROXY: tuple[str, ...] = ("create", "delete", "get", "patch", "update")

CORE = "io.k8s.api.core.v1."
RBAC = "rbac.authorization.k8s.io"
AUTHN = "authentication.k8s.io"
AUTHZ = "authorization.k8s.io"


def _status(kind: str) -> Subresource:
    return Subresource("status", kind)


def _scale() -> Subresource:
    return Subresource("scale", "Scale", "autoscaling", "v1")


def _rbac(kind: str, namespaced: bool) -> ServedKind:
    name = kind.lower()
    return ServedKind(
        RBAC, "v1", kind, name + "s", name, namespaced, f"io.k8s.api.rbac.v1.{kind}"
    )  # fmt: skip


def _review(group: str, kind: str, *, namespaced: bool = False) -> ServedKind:
    name = kind.lower()
    schema = f"io.k8s.api.{group.split('.', 1)[0]}.v1.{kind}"
    return ServedKind(
        group, "v1", kind, name + "s", name, namespaced, schema, verbs=CREATE_ONLY
    )  # fmt: skip


NAMESPACE = ServedKind(
    "", "v1", "Namespace", "namespaces", "namespace", False, CORE + "Namespace", ("ns",),
    verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
    subresources=(Subresource("finalize", "Namespace", verbs=("update",)), _status("Namespace")),
    has_status=True,
)  # fmt: skip
NODE = ServedKind(
    "", "v1", "Node", "nodes", "node", False, CORE + "Node", ("no",),
    subresources=(Subresource("proxy", "NodeProxyOptions", verbs=PROXY), _status("Node")),
    has_status=True,
)  # fmt: skip
POD = ServedKind(
    "", "v1", "Pod", "pods", "pod", True, CORE + "Pod", ("po",), ("all",),
    subresources=(
        Subresource("attach", "PodAttachOptions", verbs=CONNECT),
        Subresource("binding", "Binding", verbs=CREATE_ONLY),
        Subresource("ephemeralcontainers", "Pod"),
        Subresource("eviction", "Eviction", "policy", "v1", CREATE_ONLY),
        Subresource("exec", "PodExecOptions", verbs=CONNECT),
        Subresource("log", "Pod", verbs=("get",)),
        Subresource("portforward", "PodPortForwardOptions", verbs=CONNECT),
        Subresource("proxy", "PodProxyOptions", verbs=PROXY),
        Subresource("resize", "Pod"),
        _status("Pod"),
    ),
    has_status=True,
)  # fmt: skip
SERVICE_ACCOUNT = ServedKind(
    "", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", True,
    CORE + "ServiceAccount", ("sa",),
    subresources=(Subresource("token", "TokenRequest", AUTHN, "v1", CREATE_ONLY),),
)  # fmt: skip
SERVICE = ServedKind(
    "", "v1", "Service", "services", "service", True, CORE + "Service", ("svc",), ("all",),
    subresources=(Subresource("proxy", "ServiceProxyOptions", verbs=PROXY), _status("Service")),
    has_status=True,
)  # fmt: skip
ENDPOINTS = ServedKind(
    "", "v1", "Endpoints", "endpoints", "endpoints", True, CORE + "Endpoints", ("ep",),
    deprecated="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
)  # fmt: skip
ENDPOINT_SLICE = ServedKind(
    "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice", True,
    "io.k8s.api.discovery.v1.EndpointSlice",
)  # fmt: skip
CSR = ServedKind(
    "certificates.k8s.io", "v1", "CertificateSigningRequest",
    "certificatesigningrequests", "certificatesigningrequest", False,
    "io.k8s.api.certificates.v1.CertificateSigningRequest", ("csr",),
    subresources=(
        Subresource("approval", "CertificateSigningRequest"), _status("CertificateSigningRequest"),
    ),
    has_status=True,
)  # fmt: skip

CUSTOM_RESOURCE_DEFINITION = ServedKind(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition",
    "customresourcedefinitions", "customresourcedefinition", False,
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    ("crd", "crds"), ("api-extensions",),
    subresources=(_status("CustomResourceDefinition"),), has_status=True,
)  # fmt: skip


def _workload(kind: str, short: str) -> ServedKind:
    name = kind.lower()
    return ServedKind(
        "apps", "v1", kind, name + "s", name, True, f"io.k8s.api.apps.v1.{kind}", (short,),
        ("all",), subresources=(_scale(), _status(kind)), has_status=True,
    )  # fmt: skip


BUILTIN: tuple[ServedKind, ...] = (
    ServedKind(
        "", "v1", "Binding", "bindings", "binding", True, CORE + "Binding", verbs=CREATE_ONLY
    ),  # fmt: skip
    ServedKind(
        "", "v1", "ConfigMap", "configmaps", "configmap", True, CORE + "ConfigMap", ("cm",)
    ),  # fmt: skip
    ENDPOINTS,
    ServedKind(
        "", "v1", "Event", "events", "event", True, CORE + "Event", ("ev",), relaxed=True
    ),  # fmt: skip
    ServedKind(
        "", "v1", "LimitRange", "limitranges", "limitrange", True, CORE + "LimitRange", ("limits",)
    ),
    NAMESPACE,
    NODE,
    *CORE_DATA,
    POD,
    ServedKind(
        "", "v1", "ResourceQuota", "resourcequotas", "resourcequota", True,
        CORE + "ResourceQuota", ("quota",), subresources=(_status("ResourceQuota"),),
        has_status=True,
    ),
    ServedKind("", "v1", "Secret", "secrets", "secret", True, CORE + "Secret"),
    SERVICE_ACCOUNT,
    SERVICE,
    *APPS_DATA,
    _workload("Deployment", "deploy"),
    _workload("ReplicaSet", "rs"),
    ServedKind(
        "events.k8s.io", "v1", "Event", "events", "event", True,
        "io.k8s.api.events.v1.Event", ("ev",), relaxed=True, stored_as=("", "v1"),
    ),
    _review(AUTHN, "SelfSubjectReview"),
    _review(AUTHN, "TokenReview"),
    _review(AUTHZ, "LocalSubjectAccessReview", namespaced=True),
    _review(AUTHZ, "SelfSubjectAccessReview"),
    _review(AUTHZ, "SelfSubjectRulesReview"),
    _review(AUTHZ, "SubjectAccessReview"),
    CSR,
    INGRESS_CLASS,
    ServedKind(
        "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget", True,
        "io.k8s.api.policy.v1.PodDisruptionBudget", ("pdb",),
        subresources=(_status("PodDisruptionBudget"),), has_status=True,
    ),
    *STORAGE_DATA,
    *WEBHOOK_KINDS,
    *POLICY_KINDS,
    CUSTOM_RESOURCE_DEFINITION,
    _rbac("ClusterRoleBinding", namespaced=False),
    _rbac("ClusterRole", namespaced=False),
    _rbac("RoleBinding", namespaced=True),
    _rbac("Role", namespaced=True),
    ServedKind(
        "coordination.k8s.io", "v1", "Lease", "leases", "lease", True,
        "io.k8s.api.coordination.v1.Lease",
    ),
    ENDPOINT_SLICE,
    ServedKind(
        "node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclass", False,
        "io.k8s.api.node.v1.RuntimeClass",
    ),
    ServedKind(
        "scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "priorityclass", False,
        "io.k8s.api.scheduling.v1.PriorityClass", ("pc",),
    ),
)  # fmt: skip

SUBRESOURCE_KINDS: dict[tuple[str, str, str], str] = {
    ("", "v1", "Binding"): CORE + "Binding",
    ("policy", "v1", "Eviction"): "io.k8s.api.policy.v1.Eviction",
    ("autoscaling", "v1", "Scale"): "io.k8s.api.autoscaling.v1.Scale",
    (AUTHN, "v1", "TokenRequest"): "io.k8s.api.authentication.v1.TokenRequest",
}
"""Bodies that arrive only below another kind: (group, version, kind) -> schema name."""


def subresource_body(parent: ServedKind, sub: Subresource) -> ServedKind:
    """What the body posted to a subresource is: the parent itself, or a kind that exists only there."""
    if sub.kind == parent.kind:
        return parent
    group, version = sub.group or parent.group, sub.version or parent.version
    schema = SUBRESOURCE_KINDS[group, version, sub.kind]
    name = sub.kind.lower()
    return ServedKind(
        group, version, sub.kind, parent.plural, name, parent.namespaced, schema, verbs=sub.verbs
    )
