"""Namespace sync: every user namespace of the federation exists in every member, and goes everywhere when it is deleted.

A namespace travels as a Work without a binding. Deleting it at the federation deletes its Works; each member's link
then deletes the namespace there, with what is in it.
"""

from collections.abc import Iterable

from federation.controllers import dispatcher
from federation.propagation.templates import NAMESPACES, unsynced_namespace
from federation.propagation.works import work
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.work import BINDING_LABEL, WORK_DOCUMENTS
from machinery.controller.action import Action, Result
from machinery.controller.manager import Manager
from machinery.meta.resource import Document, ObjectKey

BY_NAMESPACE = "namespace"


def wanted_works(
    namespace: Document | None, name: str, clusters: Iterable[str]
) -> dict[str, Document]:
    """A Work for each cluster; none when the namespace is gone, going or not to be synced."""
    if namespace is None or namespace["metadata"].get("deletionTimestamp"):
        return {}
    if unsynced_namespace(name):
        return {}
    body = {k: v for k, v in namespace.items() if k != "spec"}
    return {cluster: work(body, cluster, conflict_resolution="Overwrite") for cluster in clusters}


def plan(
    namespace: Document | None, name: str, clusters: Iterable[str], held: Iterable[Document]
) -> list[Action]:
    """As the dispatcher's, for a namespace."""
    return dispatcher.plan(wanted_works(namespace, name, clusters), held)


def namespace_keys(document: Document) -> list[ObjectKey]:
    """The namespace that a Work without a binding carries."""
    manifests = document["spec"].get("workload", {}).get("manifests") or ()
    return [ObjectKey("", m["metadata"]["name"]) for m in manifests if m.get("kind") == "Namespace"]


class NamespaceReconciler:
    """Namespaces of the federation."""

    def __init__(self, manager: Manager) -> None:
        self._executor = manager.executor
        self._namespaces = manager.informer(NAMESPACES)
        self._clusters = manager.informer(CLUSTERS)
        self._works = manager.informer(WORK_DOCUMENTS, label_selector=f"!{BINDING_LABEL}")
        self._works.add_index(BY_NAMESPACE, namespace_keys)

    async def reconcile(self, key: ObjectKey) -> Result:
        members = [c.metadata.name for c in self._clusters.list() if not c.deleting]
        actions = plan(
            self._namespaces.get(key),
            key.name,
            sorted(members),
            self._works.by_index(BY_NAMESPACE, key),
        )
        return await self._executor.apply(actions)


def setup(manager: Manager) -> None:
    """Namespaces; all of them when a member joins or leaves."""
    namespaces = manager.informer(NAMESPACES)
    seen: dict[str, bool] = {}

    def everything(cluster: Cluster) -> list[ObjectKey]:
        if seen.get(cluster.metadata.name) == cluster.deleting:
            return []
        seen[cluster.metadata.name] = cluster.deleting
        return [ObjectKey("", n["metadata"]["name"]) for n in namespaces.list()]

    controller = manager.controller("namespace-sync", NamespaceReconciler(manager))
    controller.watches(NAMESPACES)
    controller.watches(CLUSTERS, everything)
    controller.watches(WORK_DOCUMENTS, namespace_keys, label_selector=f"!{BINDING_LABEL}")
