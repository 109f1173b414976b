"""What every server holds from its first second: namespaces, roles and bindings, priority classes.

Missing ones are created at each start, existing ones left alone: an operator may change them. Only roles get the rules that a newer
release gives them, as upstream reconciles its default roles, unless their annotation `rbac.authorization.kubernetes.io/autoupdate`
is "false". The roles are upstream's as far as the kinds built here go; admin, edit and view are aggregated by label, so that a
program's own kinds join them.
"""

import functools
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from machinery.api.scheme import Scheme
from machinery.meta.errors import AlreadyExists
from machinery.meta.resource import Document, split_api_version
from machinery.server import codec
from machinery.server.call import Call
from machinery.server.rbac import GROUP as RBAC
from machinery.server.rbac import Rule, uncovered
from machinery.server.registry import Registry
from machinery.server.user import LOOPBACK

log = logging.getLogger(__name__)

READ = ("get", "list", "watch")
WRITE = ("create", "delete", "deletecollection", "patch", "update")
ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
BOOTSTRAPPING = {"kubernetes.io/bootstrapping": "rbac-defaults"}
AGGREGATE = f"{RBAC}/aggregate-to-"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
MULTICLUSTER = "multicluster.x-k8s.io"
_IMPORTS = ("serviceimports", "serviceimports/status")
_ROLES = ("ClusterRole", "Role")
_OLDER = "replicationcontrollers"
_WORKLOADS = ("deployments", "replicasets", "statefulsets")
_TEMPLATES = {
    "apps": ("daemonsets",),
    "autoscaling": ("horizontalpodautoscalers",),
    "batch": ("cronjobs", "jobs"),
    "networking.k8s.io": ("ingresses", "networkpolicies"),
    "policy": ("poddisruptionbudgets",),
}
"""Kinds that only some servers serve; a role that names an absent kind gives nothing."""


def rule(groups: Sequence[str], resources: Sequence[str], verbs: Sequence[str]) -> Document:
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}


def urls(paths: Sequence[str], verbs: Sequence[str] = ("get",)) -> Document:
    return {"nonResourceURLs": list(paths), "verbs": list(verbs)}


def cluster_role(name: str, rules: Sequence[Document], **labels: str) -> Document:
    """A ClusterRole of ours."""
    marks = {**BOOTSTRAPPING, **{f"{AGGREGATE}{into}": "true" for into in labels.values()}}
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": name,
            "labels": marks,
            "annotations": {AUTOUPDATE: "true"},
        },
        "rules": list(rules),
    }


def aggregated(name: str, *, into: str = "") -> Document:
    """A ClusterRole that gathers others by label."""
    role = cluster_role(name, ())
    if into:
        role["metadata"]["labels"][f"{AGGREGATE}{into}"] = "true"
    selector = {"matchLabels": {f"{AGGREGATE}{name}": "true"}}
    return {**role, "aggregationRule": {"clusterRoleSelectors": [selector]}}


def cluster_binding(role: str, *groups: str, name: str = "") -> Document:
    """A ClusterRoleBinding of groups to a role."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {
            "name": name or role,
            "labels": BOOTSTRAPPING,
            "annotations": {AUTOUPDATE: "true"},
        },
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group} for group in groups],
    }


def _namespaces() -> Iterable[Document]:
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _roles() -> Iterable[Document]:
    paths = ("/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/")
    yield cluster_role("cluster-admin", [rule("*", "*", "*"), urls("*", "*")])
    yield cluster_role("system:discovery", [urls(("/api", "/api/*", "/apis", "/apis/*", *paths))])
    yield cluster_role("system:public-info-viewer", [urls(paths[:2] + paths[4:])])
    yield cluster_role(
        "system:monitoring", [urls(("/metrics", "/metrics/*", "/healthz", "/readyz", "/livez"))]
    )
    yield cluster_role(
        "system:basic-user",
        [
            rule(
                ("authorization.k8s.io",),
                ("selfsubjectaccessreviews", "selfsubjectrulesreviews"), ("create",),
            ),
            rule(("authentication.k8s.io",), ("selfsubjectreviews",), ("create",)),
        ],
    )  # fmt: skip
    yield from _user_roles()
    yield from _component_roles()


def _user_roles() -> Iterable[Document]:
    """admin ⊃ edit ⊃ view, by aggregation."""
    yield aggregated("admin")
    yield aggregated("edit", into="admin")
    yield aggregated("view", into="edit")
    yield cluster_role(
        "system:aggregate-to-view",
        [
            rule(
                ("",),
                (
                    "configmaps", "endpoints", "events", "pods", "pods/log", "pods/status", "serviceaccounts",
                    "services", "services/status", "namespaces",
                ),
                READ,
            ),
            rule(("apps",), (*_WORKLOADS, *(f"{w}/{s}" for w in _WORKLOADS for s in ("scale", "status"))), READ),
            rule(("apps",), ("controllerrevisions",), READ),
            rule(("coordination.k8s.io",), ("leases",), READ),
            rule(("events.k8s.io",), ("events",), READ),
            rule(("discovery.k8s.io",), ("endpointslices",), READ),
            rule((MULTICLUSTER,), ("serviceexports", "serviceexports/status", *_IMPORTS), READ),
            rule(("",), ("limitranges", "persistentvolumeclaims", "persistentvolumeclaims/status"), READ),
            rule(("",), (_OLDER, f"{_OLDER}/scale", f"{_OLDER}/status"), READ),
            rule(("",), ("resourcequotas", "resourcequotas/status"), READ),
            *(rule((g,), (*names, *(f"{n}/status" for n in names)), READ) for g, names in _TEMPLATES.items()),
        ],
        into="view",
    )  # fmt: skip
    yield cluster_role(
        "system:aggregate-to-edit",
        [
            rule(("",), ("pods/attach", "pods/exec", "pods/portforward", "pods/proxy"), READ[:1] + WRITE),
            rule(("",), ("secrets", "services/proxy"), READ),
            rule(("",), ("serviceaccounts",), ("impersonate",)),
            rule(("",), ("configmaps", "events", "pods", "secrets", "serviceaccounts", "services"), WRITE),
            rule(("",), ("services/proxy", _OLDER, f"{_OLDER}/scale"), WRITE),
            rule(("",), ("pods/eviction", "serviceaccounts/token"), ("create",)),
            rule(("apps",), (*_WORKLOADS, *(f"{w}/scale" for w in _WORKLOADS)), WRITE),
            rule(("coordination.k8s.io",), ("leases",), WRITE),
            rule(("events.k8s.io",), ("events",), WRITE),
            rule((MULTICLUSTER,), ("serviceexports",), WRITE),  # imports are written by controllers only
            rule(("",), ("persistentvolumeclaims",), WRITE),
            *(rule((group,), names, WRITE) for group, names in _TEMPLATES.items()),
        ],
        into="edit",
    )  # fmt: skip
    yield cluster_role(
        "system:aggregate-to-admin",
        [
            rule(("authorization.k8s.io",), ("localsubjectaccessreviews",), ("create",)),
            rule((RBAC,), ("rolebindings", "roles"), ALL),
        ],
        into="admin",
    )


def metrics_reader() -> Document:
    """What a server of metrics.k8s.io adds: whoever may view may see metrics, as with metrics-server."""
    reads = rule(("metrics.k8s.io",), ("pods", "nodes"), READ)
    into = {role: role for role in ("view", "edit", "admin")}
    return cluster_role("system:aggregated-metrics-reader", [reads], **into)


def _component_roles() -> Iterable[Document]:
    yield cluster_role(
        "system:node-bootstrapper",
        [rule(("certificates.k8s.io",), ("certificatesigningrequests",), ("create", "get", "list", "watch"))],
    )  # fmt: skip
    csr = ("certificates.k8s.io",)
    for name, sub in (("nodeclient", "nodeclient"), ("selfnodeclient", "selfnodeclient")):
        yield cluster_role(
            f"system:certificates.k8s.io:certificatesigningrequests:{name}",
            [rule(csr, (f"certificatesigningrequests/{sub}",), ("create",))],
        )
    yield cluster_role(
        "system:node-proxier",
        [rule(("",), ("nodes", "services"), READ), rule(("discovery.k8s.io",), ("endpointslices",), READ)],
    )  # fmt: skip


def _bindings() -> Iterable[Document]:
    yield cluster_binding("cluster-admin", "system:masters")
    yield cluster_binding("system:monitoring", "system:monitoring")
    for role in ("system:basic-user", "system:discovery", "system:public-info-viewer"):
        yield cluster_binding(role, "system:authenticated")
    yield cluster_binding("system:node-bootstrapper", "system:bootstrappers")


def _priorities() -> Iterable[Document]:
    for name, value, text in (
        (
            "system-cluster-critical", 2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical", 2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ):  # fmt: skip
        yield {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": text,
        }


def documents() -> list[Document]:
    """All of it, in an order in which each may be created."""
    return [*_namespaces(), *_roles(), *_bindings(), *_priorities()]


def extended(live: Document, wanted: Document) -> Document:
    """A role with what it lacks of our rules; the same object where it lacks none, or is not to be touched."""
    marks = live["metadata"].get("annotations") or {}
    if wanted.get("aggregationRule") or marks.get(AUTOUPDATE) == "false":
        return live
    rules: list[Document] = live.get("rules") or []
    held = [Rule.read(rule) for rule in rules]
    missing = [rule for rule in wanted["rules"] if uncovered(held, [Rule.read(rule)])]
    return {**live, "rules": [*rules, *missing]} if missing else live


async def ensure(registry: Registry, scheme: Scheme, wanted: Iterable[Document]) -> int:
    """Create what is missing of the kinds that are served, and extend roles; how many writes that was."""
    call = Call(LOOPBACK, "ubernetes-apiserver", field_validation="Ignore")
    written = 0
    for document in wanted:
        group, version = split_api_version(document["apiVersion"])
        kind = scheme.by_gvk(group, version, document["kind"])
        if kind is None:
            continue
        metadata: dict[str, Any] = document["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        row = registry.store.get(codec.storage_key(kind, namespace, name))
        if row is not None:
            if kind.kind not in _ROLES:
                continue
            live = codec.decode(row.value, row.revision)
            if extended(live, document) is live:
                continue
            change = functools.partial(extended, wanted=document)
            _ = await registry.change(kind, namespace, name, change, call)
            written += 1
            continue
        try:
            await registry.create(kind, document, namespace, call)
            written += 1
        except AlreadyExists:
            continue
    if written:
        log.info("bootstrap objects written", extra={"count": written})
    return written
