"""What a member's agent may do at the federation: its own Works, exports, Cluster, network and Lease, and read what
users say of kinds; nothing else. Pure.

Certificates name the cluster (`ubernetes:cluster:<name>`); every right is bound to that one user, and goes when the
cluster leaves: an agent that runs on afterwards can do nothing. Making a Cluster cannot be narrowed by name in RBAC, so
admission does it (`federation.clusters.admission`).
"""

from machinery.api.fleet.cluster import CLUSTER_LEASES, execution_namespace
from machinery.api.fleet.servers import SERVERS
from machinery.meta.resource import Document
from machinery.server.pki import AGENT_PREFIX, AGENTS
from machinery.server.user import AUTHENTICATED

RBAC = "rbac.authorization.k8s.io"
COMMON_ROLE = "ubernetes:cluster-agents"
REVIEWS_ROLE, DECISIONS_ROLE = "ubernetes:reviews", "ubernetes:aggregate-decisions-to-view"
READ = ["get", "list", "watch"]
EXPORTS = ("create", "delete", "get", "list", "patch", "update", "watch")
"""Verbs on the exports of its own Services."""


def _rule(
    group: str, resources: list[str], verbs: list[str], names: list[str] | None = None
) -> Document:
    rule: Document = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return rule | ({"resourceNames": names} if names else {})


def _role(kind: str, name: str, rules: list[Document], namespace: str = "") -> Document:
    metadata: Document = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules}


def _binding(
    kind: str, role_kind: str, name: str, subject: Document, namespace: str = ""
) -> Document:
    metadata: Document = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": role_kind, "name": name},
        "subjects": [{"apiGroup": RBAC} | subject],
    }


REVIEWS = ("placementplans", "placementexplanations", "decisionreplays")


def common() -> list[Document]:
    """Rights that hold in every federation: those of agents by their group (renew the certificate, dial the link, read which
    servers there are), and those of users to ask why. Reviews look for themselves at what the user may see."""
    rules = [
        _rule("certificates.k8s.io", ["certificatesigningrequests"], ["create", "get", "watch"]),
        {"nonResourceURLs": ["/ubernetes/v1/link"], "verbs": ["get"]},
    ]
    everybody: Document = {"kind": "Group", "name": AUTHENTICATED}
    journal = _role("ClusterRole", DECISIONS_ROLE, [_rule("ubernetes.io", ["decisions"], READ)])
    journal["metadata"]["labels"] = {f"{RBAC}/aggregate-to-view": "true"}
    return [
        _role("ClusterRole", REVIEWS_ROLE, [_rule("ubernetes.io", list(REVIEWS), ["create"])]),
        _binding("ClusterRoleBinding", "ClusterRole", REVIEWS_ROLE, everybody),
        journal,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SERVERS.namespace}},
        _role("ClusterRole", COMMON_ROLE, rules),
        _binding(
            "ClusterRoleBinding", "ClusterRole", COMMON_ROLE, {"kind": "Group", "name": AGENTS}
        ),
        _role(
            "Role",
            COMMON_ROLE,
            [_rule("", ["configmaps"], ["get", "list", "watch"], [SERVERS.name])],
            SERVERS.namespace,
        ),
        _binding(
            "RoleBinding", "Role", COMMON_ROLE, {"kind": "Group", "name": AGENTS}, SERVERS.namespace
        ),
    ]


def of_member(cluster: str) -> list[Document]:
    """Namespace, roles and bindings of one member's agent, in an order in which each may be created."""
    user = {"kind": "User", "name": AGENT_PREFIX + cluster}
    name = f"ubernetes:cluster:{cluster}"
    works = execution_namespace(cluster)
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": works}},
        _role(
            "ClusterRole",
            name,
            [
                _rule("cluster.karmada.io", ["clusters"], ["create"]),
                _rule("cluster.karmada.io", ["clusters"], ["get", "patch", "update"], [cluster]),
                _rule("cluster.karmada.io", ["clusters/status"], ["patch", "update"], [cluster]),
                _rule("ubernetes.io", ["clusternetworks"], ["create"]),
                _rule("ubernetes.io", ["clusternetworks"], ["get", "patch", "update"], [cluster]),
                _rule("ubernetes.io", ["clusternetworks/status"], ["patch", "update"], [cluster]),
                _rule("config.karmada.io", ["resourceinterpretercustomizations"], READ),
            ],
        ),
        _binding("ClusterRoleBinding", "ClusterRole", name, user),
        _role(
            "Role",
            name,
            [
                _rule("work.karmada.io", ["works"], ["get", "list", "watch", "patch", "update"]),
                _rule("work.karmada.io", ["works/status"], ["patch", "update"]),
                _rule("ubernetes.io", ["exportedservices"], list(EXPORTS)),
            ],
            works,
        ),
        _binding("RoleBinding", "Role", name, user, works),
        _role(
            "Role",
            name,
            [
                _rule("coordination.k8s.io", ["leases"], ["get", "patch", "update"], [cluster]),
                _rule("coordination.k8s.io", ["leases"], ["create"]),
            ],
            CLUSTER_LEASES,
        ),
        _binding("RoleBinding", "Role", name, user, CLUSTER_LEASES),
    ]
