"""What our user may do in a foreign cluster: the manifest that gives it, and the question whether it was given.

Least rights: the kinds that Works carry, reading of the kinds that the federation shows, the nodes' Leases, and speaking
for the users that the cluster's owner names. Nothing on RBAC and custom kinds (a Role or a custom resource that a policy
sends there is refused until the owner gives the right, and its Work says so), nodes, or the users' system:masters. Creating Deployments
and Secrets everywhere is much; it is what a member is for. All pure but `missing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster_agent.link.foreign_proxy import FOREIGN_MASTERS
from machinery.client.interface import Client, dynamic
from machinery.meta.resource import Document

RBAC = "rbac.authorization.k8s.io"
NAME = "ubernetes:link"
NAMESPACE = "ubernetes-link"
ACCOUNT = "link"
TOKEN_SECRET = "link-token"  # noqa: S105 - a name
NODE_LEASES = "kube-node-lease"
AUTHENTICATED = "system:authenticated"
ADMINISTRATOR = "kubernetes-admin"
"""The user of the federation's own administrator."""

READ = ("get", "list", "watch")
WRITE = (*READ, "create", "patch", "delete")
REVIEWS = dynamic(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False
)


@dataclass(frozen=True, slots=True)
class Right:
    """Verbs on some resources of a group."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    namespace: str = ""
    """Empty: in all of them."""
    names: tuple[str, ...] = ()
    """Empty: of any name."""


CARRIED = (
    Right("", ("configmaps", "namespaces", "secrets", "serviceaccounts", "services"), WRITE),
    Right(
        "",
        ("limitranges", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas"),
        WRITE,
    ),
    Right("apps", ("daemonsets", "deployments", "statefulsets"), WRITE),
    Right("autoscaling", ("horizontalpodautoscalers",), WRITE),
    Right("batch", ("cronjobs", "jobs"), WRITE),
    Right("networking.k8s.io", ("ingresses", "networkpolicies"), WRITE),
    Right("policy", ("poddisruptionbudgets",), WRITE),
)
"""What Works carry."""
SHOWN = (
    Right("", ("events", "nodes", "pods"), READ),
    Right("apps", ("replicasets",), READ),
    Right("metrics.k8s.io", ("nodes", "pods"), ("get", "list")),
)
"""What the federation mirrors, and asks for its FederatedHPAs and `kubectl top`; the agent counts nodes and pods itself."""
ASKED = Right("coordination.k8s.io", ("leases",), ("get", "list"), NODE_LEASES)
MASTERS_MAY = (
    Right("", ("pods",), (*READ, "delete")),
    Right("", ("pods/log",), ("get",)),
    Right("", ("pods/attach", "pods/exec", "pods/portforward"), ("create", "get")),
    Right("", ("pods/eviction",), ("create",)),
    Right("", ("pods/proxy", "services/proxy"), ("create", "delete", "get", "patch", "update")),
)
"""What an administrator of the federation may do to the cluster's pods through it."""
ESSENTIAL = (Right("", ("nodes", "pods"), ("list", "watch")), Right("", ("namespaces",), ("get",)))
"""Without these there is nothing to report."""


def rule(right: Right) -> Document:
    """As RBAC writes it."""
    document: Document = {
        "apiGroups": [right.group],
        "resources": list(right.resources),
        "verbs": list(right.verbs),
    }
    return document | ({"resourceNames": list(right.names)} if right.names else {})


def impersonation(users: Sequence[str] = (), groups: Sequence[str] = ()) -> tuple[Right, ...]:
    """Speaking for the federation's administrators and exactly these besides; `*` among them lifts the limit."""
    told = []
    for resource, names in (
        ("users", (ADMINISTRATOR, *users)),
        ("groups", (AUTHENTICATED, FOREIGN_MASTERS, *groups)),
    ):
        limit = () if "*" in names else tuple(dict.fromkeys(names))
        told.append(Right("", (resource,), ("impersonate",), names=limit))
    return tuple(told)


def manifest(users: Sequence[str] = (), groups: Sequence[str] = ()) -> list[Document]:
    """Everything to apply in the foreign cluster: account, token, roles, bindings.

    `users` and `groups` may ask through the federation besides its administrator; what they may do there is for the
    cluster's own RBAC to say.
    """
    account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}
    masters = {"apiGroup": RBAC, "kind": "Group", "name": FOREIGN_MASTERS}
    rules = [rule(right) for right in (*CARRIED, *SHOWN, *impersonation(users, groups))]
    return [
        _object("v1", "Namespace", NAMESPACE),
        _object("v1", "ServiceAccount", ACCOUNT, NAMESPACE),
        _object("v1", "Secret", TOKEN_SECRET, NAMESPACE, {"kubernetes.io/service-account.name": ACCOUNT})
        | {"type": "kubernetes.io/service-account-token"},
        _object(f"{RBAC}/v1", "ClusterRole", NAME) | {"rules": rules},
        _bound("ClusterRoleBinding", "ClusterRole", NAME, account),
        _object(f"{RBAC}/v1", "Role", NAME, NODE_LEASES) | {"rules": [rule(ASKED)]},
        _bound("RoleBinding", "Role", NAME, account, NODE_LEASES),
        _object(f"{RBAC}/v1", "ClusterRole", FOREIGN_MASTERS) | {"rules": [rule(r) for r in MASTERS_MAY]},
        _bound("ClusterRoleBinding", "ClusterRole", FOREIGN_MASTERS, masters),
    ]  # fmt: skip


def _object(
    api_version: str,
    kind: str,
    name: str,
    namespace: str = "",
    annotations: Mapping[str, str] | None = None,
) -> Document:
    metadata: Document = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _bound(kind: str, role: str, name: str, subject: Document, namespace: str = "") -> Document:
    return _object(f"{RBAC}/v1", kind, name, namespace) | {
        "roleRef": {"apiGroup": RBAC, "kind": role, "name": name},
        "subjects": [subject],
    }


# ------------------------------------------------------------------------------------------------------------- asking
def questions(rights: Sequence[Right]) -> list[Document]:
    """resourceAttributes, one for every verb of every resource."""
    return [
        {"group": right.group, "resource": resource, "verb": verb}
        | ({"namespace": right.namespace} if right.namespace else {})
        | ({"name": name} if name else {})
        for right in rights
        for resource in right.resources
        for verb in right.verbs
        for name in right.names or ("",)
    ]


def wording(refused: Sequence[Document]) -> str:
    """`create, patch deployments.apps; list leases.coordination.k8s.io in kube-node-lease`."""
    verbs: dict[str, list[str]] = {}
    for asked in refused:
        what = asked["resource"] + (f".{asked['group']}" if asked["group"] else "")
        if asked.get("name"):
            what += f" {asked['name']}"
        if asked.get("namespace"):
            what += f" in {asked['namespace']}"
        verbs.setdefault(what, []).append(asked["verb"])
    return "; ".join(f"{', '.join(those)} {what}" for what, those in verbs.items())


EVERYTHING = (*CARRIED, *SHOWN, ASKED, *impersonation())
"""All that the agent needs; further users are between the cluster's owner and them."""


async def missing(client: Client, rights: Sequence[Right]) -> list[Document]:
    """The questions that the cluster answers with no. Raises StatusError, ConnectionError."""
    refused = []
    for attributes in questions(rights):
        review = {
            "apiVersion": REVIEWS.api_version,
            "kind": REVIEWS.kind,
            "spec": {"resourceAttributes": attributes},
        }
        answer = await client.create(REVIEWS, review)
        if not (answer.get("status") or {}).get("allowed"):
            refused.append(attributes)
    return refused
