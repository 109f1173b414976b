"""Namespace sync: every user namespace of the federation exists in every member, and goes everywhere when it is deleted.

A namespace travels as a Work without a binding. Deleting it at the federation deletes its Works; each member's link
then deletes the namespace there, with what is in it. Cluster override policies may change it for a member; where one cannot
be applied, that member's Work stays as it is. One that is labelled so stays at home.

A ClusterPropagationPolicy that selects a namespace gives it a binding, and brings it to its clusters also where the label keeps
it from all others. No member deletes a namespace because a policy was written: it goes on standing everywhere, unless labelled.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from federation.controllers import dispatcher, followers
from federation.controllers.dispatcher import Rendered
from federation.placement.model import Candidate
from federation.propagation.overrides.policies import NO_OVERRIDES, Overrides
from federation.propagation.scopes import OF_CLUSTERS
from federation.propagation.templates import NAMESPACES, STAYS, propagatable, unsynced_namespace
from federation.propagation.works import binding_name
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.policy import CLUSTER_OVERRIDE_POLICIES
from machinery.api.fleet.work import BINDING_LABEL, WORK_DOCUMENTS, ResourceBinding
from machinery.controller.action import Action, Result
from machinery.controller.manager import Manager
from machinery.controller.predicates import wish_changed
from machinery.meta.resource import Document, ObjectKey

BY_NAMESPACE = "namespace"


def wanted_works(
    namespace: Document | None,
    name: str,
    clusters: Iterable[str],
    overrides: Overrides = NO_OVERRIDES,
    fleet: Mapping[str, Candidate] = {},
) -> Rendered:
    """A Work for each cluster; none when the namespace is gone, going or not to be synced."""
    if namespace is None or namespace["metadata"].get("deletionTimestamp"):
        return Rendered()
    labels = namespace["metadata"].get("labels") or {}
    if unsynced_namespace(name) or labels.get(STAYS) == "true":
        return Rendered()
    body = {k: v for k, v in namespace.items() if k != "spec"}
    return dispatcher.unbound(body, clusters, overrides, fleet, conflict_resolution="Overwrite")


def plan(
    namespace: Document | None,
    name: str,
    clusters: Iterable[str],
    held: Iterable[Document],
    overrides: Overrides = NO_OVERRIDES,
    fleet: Mapping[str, Candidate] = {},
    bound: ResourceBinding | None = None,
    leaving: Callable[[ObjectKey], bool] = lambda _: False,
) -> list[Action]:
    """As the dispatcher's, for a namespace. `bound`: its own binding; `leaving`: whether a Work of that name is still the
    dispatcher's."""
    given = Rendered()
    if bound is not None and namespace is not None and propagatable(namespace):
        given = dispatcher.rendered(bound, namespace, fleet, overrides=overrides.of(namespace))
    found = wanted_works(namespace, name, followers.without(clusters, given), overrides, fleet)
    told = [] if namespace is None else dispatcher.complaints(NAMESPACES, namespace, found)
    return [*followers.beside(given, found, held, leaving), *told]


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
        self._overrides = manager.informer(CLUSTER_OVERRIDE_POLICIES)
        self._works = manager.informer(WORK_DOCUMENTS, label_selector=f"!{BINDING_LABEL}")
        self._works.add_index(BY_NAMESPACE, namespace_keys)
        self._bindings = manager.informer(OF_CLUSTERS.bindings)
        self._bound = manager.informer(WORK_DOCUMENTS, label_selector=OF_CLUSTERS.label)

    async def reconcile(self, key: ObjectKey) -> Result:
        overrides = Overrides(tuple(self._overrides.list()))
        fleet = dispatcher.members(self._clusters.list(), judged=overrides != NO_OVERRIDES)
        namespace = self._namespaces.get(key)
        actions = plan(
            namespace,
            key.name,
            sorted(fleet),
            self._works.by_index(BY_NAMESPACE, key),
            overrides,
            fleet,
            self._own(namespace),
            lambda work: self._bound.get(work) is not None,
        )
        return await self._executor.apply(actions)

    def _own(self, namespace: Document | None) -> ResourceBinding | None:
        """The binding that a policy gave it."""
        if namespace is None:
            return None
        name = binding_name(NAMESPACES.kind, namespace["metadata"]["name"])
        binding: ResourceBinding | None = self._bindings.get(ObjectKey("", name))
        if binding is None or binding.spec.resource.uid != namespace["metadata"]["uid"]:
            return None
        return None if binding.deleting else binding


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
    controller.watches(CLUSTER_OVERRIDE_POLICIES, _all_of(namespaces))
    alone = f"!{BINDING_LABEL}"
    controller.watches(WORK_DOCUMENTS, namespace_keys, label_selector=alone, when=wish_changed)
    controller.watches(OF_CLUSTERS.bindings, _placed_by)


def _placed_by(binding: ResourceBinding) -> list[ObjectKey]:
    source = binding.spec.resource
    return [ObjectKey("", source.name)] if source.kind == NAMESPACES.kind else []


def _all_of(namespaces: Any) -> Any:
    def keys(_: object) -> list[ObjectKey]:
        return [ObjectKey("", n["metadata"]["name"]) for n in namespaces.list()]

    return keys
