"""Membership: a cluster that may join has its namespace and rights, one that has left leaves nothing behind.

Rights are made for every Cluster, and for every certificate request of an agent that is about to be approved, so that
an agent's first steps are never refused. A server that begins to lead writes them once more: an older version may have
made them. When a Cluster is deleted its Works are let go (nobody is there any more to do so), then its namespace with its
exports, its rights, network and heartbeat are removed.
"""

from collections.abc import Callable

from federation.clusters import access
from machinery.api.coordination import LEASES
from machinery.api.fleet.cluster import CLUSTER_LEASES, CLUSTERS, Cluster, execution_namespace
from machinery.api.fleet.multicluster import CLUSTER_NETWORKS
from machinery.api.fleet.work import WORKS, Work
from machinery.client.interface import dynamic
from machinery.controller.action import Action, Create, Delete, Patch, Result
from machinery.controller.manager import Manager
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

FINALIZER = "karmada.io/cluster-controller"
RBAC = "rbac.authorization.k8s.io"
KINDS: dict[str, Resource[Document]] = {
    "Namespace": dynamic("", "v1", "namespaces", "Namespace", False),
    "ClusterRole": dynamic(RBAC, "v1", "clusterroles", "ClusterRole", False),
    "ClusterRoleBinding": dynamic(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False),
    "Role": dynamic(RBAC, "v1", "roles", "Role", True),
    "RoleBinding": dynamic(RBAC, "v1", "rolebindings", "RoleBinding", True),
}


def grant(cluster: str) -> list[Action]:
    """Make namespace and rights, where missing."""
    return [Create(KINDS[d["kind"]], d, exists_ok=True) for d in access.of_member(cluster)]


def renew(cluster: str) -> list[Action]:
    """The rights as this version has them, over those that an older one made."""
    rules: list[Action] = [
        Patch(KINDS[d["kind"]], document_key(d), {"rules": d["rules"]})
        for d in access.of_member(cluster)
        if "rules" in d
    ]
    return [*grant(cluster), *rules]


def plan(cluster: Cluster, works: list[Work]) -> list[Action]:
    """Joining: rights and our finalizer. Leaving: Works let go, traces removed, finalizer last."""
    name = cluster.metadata.name
    held = FINALIZER in cluster.metadata.finalizers
    if not cluster.deleting:
        if held:
            return []
        finalizers = [*cluster.metadata.finalizers, FINALIZER]
        patch = {"metadata": {"finalizers": finalizers}}
        version = cluster.metadata.resource_version
        return [*grant(name), Patch(CLUSTERS, cluster.key, patch, resource_version=version)]
    if not held:
        return []
    actions: list[Action] = []
    for work in works:
        actions.append(Patch(WORKS, work.key, {"metadata": {"finalizers": None}}))
        if not work.deleting:
            actions.append(Delete(WORKS, work.key))
    actions.append(Delete(LEASES, ObjectKey(CLUSTER_LEASES, name)))
    actions.append(Delete(CLUSTER_NETWORKS, ObjectKey("", name)))
    for document in reversed(access.of_member(name)):
        metadata = document["metadata"]
        key = ObjectKey(metadata.get("namespace", ""), metadata["name"])
        actions.append(Delete(KINDS[document["kind"]], key))
    left = [f for f in cluster.metadata.finalizers if f != FINALIZER]
    last = {"metadata": {"finalizers": left or None}}
    return [*actions, Patch(CLUSTERS, cluster.key, last, uid=cluster.metadata.uid)]


class MembershipReconciler:
    """Clusters. `left` hears of each that is gone."""

    def __init__(self, manager: Manager, left: Callable[[str], None]) -> None:
        self._executor = manager.executor
        self._clusters = manager.informer(CLUSTERS)
        self._works = manager.informer(WORKS)
        self._left = left
        self._renewed: set[str] = set()

    async def reconcile(self, key: ObjectKey) -> Result:
        cluster = self._clusters.get(key)
        if cluster is None:
            self._left(key.name)
            return Result()
        works = self._works.list(execution_namespace(key.name))
        result = await self._executor.apply(plan(cluster, works))
        if not cluster.deleting and key.name not in self._renewed:
            _ = await self._executor.apply(renew(key.name))
            self._renewed.add(key.name)
        return result


def setup(manager: Manager, left: Callable[[str], None] = lambda _: None) -> None:
    """Clusters."""
    manager.controller("membership", MembershipReconciler(manager, left)).watches(CLUSTERS)
