"""Followers: Services and ServiceExports go wherever something of their namespace goes.

A Service has no replicas and needs no policy: it stands in every cluster that was chosen for any workload of its
namespace, so that its name means the same there. What a cluster gives it (addresses, node ports) is that cluster's own
and does not travel. When the last workload leaves a cluster, the Service leaves it too. A ServiceExport goes with the Service
that it names. Override policies change it for a cluster as they do a workload.

A policy that selects a Service gives it a binding, and the binding's clusters are the dispatcher's: what stands there already is
handed over as it is, by writing on its Work whose it is, so that no member ever deletes a Service because a policy was written.
In the other clusters of the namespace it stands as ever.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from federation.controllers import dispatcher
from federation.controllers.dispatcher import Rendered
from federation.placement.model import Candidate
from federation.propagation import interpreter
from federation.propagation.overrides.policies import NO_OVERRIDES, Overrides
from federation.propagation.scopes import IN_NAMESPACES
from federation.propagation.templates import FOLLOWERS, SERVICES, propagatable
from federation.propagation.works import binding_name
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.policy import CLUSTER_OVERRIDE_POLICIES, OVERRIDE_POLICIES
from machinery.api.fleet.work import (
    BINDING_LABEL,
    RESOURCE_BINDINGS,
    WORK_DOCUMENTS,
    ResourceBinding,
)
from machinery.controller.action import Action, RequeueAfter, Result
from machinery.controller.manager import Manager
from machinery.meta.objectmeta import Object
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

BY_FOLLOWER = "follower"
LEAVING_S = 1.0
"""How soon to look again for a Work that its binding lets go."""


def chosen(
    bindings: Iterable[ResourceBinding], known: Iterable[str], exported: str = ""
) -> list[str]:
    """Clusters that run something of the namespace. A Service is nothing that runs; where the one that is `exported` stands
    counts for its export."""
    wanted = {
        name
        for binding in bindings
        if not binding.deleting
        and (binding.spec.resource.kind != SERVICES.kind or binding.spec.resource.name == exported)
        for name in dispatcher.asked(binding)
    }
    return sorted(wanted & set(known))


def plan(
    document: Document | None,
    clusters: Iterable[str],
    held: Iterable[Document],
    overrides: Overrides = NO_OVERRIDES,
    fleet: Mapping[str, Candidate] = {},
    bound: ResourceBinding | None = None,
    leaving: Callable[[ObjectKey], bool] = lambda _: False,
) -> list[Action]:
    """A Work for each cluster, and no other. `bound`: the object's own binding, whose clusters are the dispatcher's; `leaving`:
    whether a Work of that name is still the dispatcher's."""
    held = list(held)
    if document is None or not propagatable(document):
        return dispatcher.plan({}, held)
    given = Rendered()
    if bound is not None:
        given = dispatcher.rendered(bound, document, fleet, overrides=overrides.of(document))
    found = dispatcher.unbound(
        interpreter.portable(document), without(clusters, given), overrides, fleet
    )
    resource = next(r for r in FOLLOWERS if r.kind == document["kind"])
    told = dispatcher.complaints(resource, document, found)
    return [*beside(given, found, held, leaving), *told]


def without(clusters: Iterable[str], given: Rendered) -> list[str]:
    """Clusters that are not the dispatcher's."""
    return [c for c in clusters if c not in given.works and c not in given.failed]


def beside(
    given: Rendered,
    found: Rendered,
    held: Iterable[Document],
    leaving: Callable[[ObjectKey], bool],
) -> list[Action]:
    """Works without a binding (`found`; `held` are there) beside those of the object's binding (`given`): what is there in a
    cluster of the binding becomes the binding's; one that the binding lets go is waited for."""
    held = list(held)
    waits = {c for c, work in found.works.items() if leaving(document_key(work))}
    wanted = {c: work for c, work in found.works.items() if c not in waits}
    there = {document_key(work) for work in held}
    wanted |= {c: work for c, work in given.works.items() if document_key(work) in there}
    actions = dispatcher.plan(wanted, held, found.failed.keys() | given.failed.keys())
    return [*actions, RequeueAfter(LEAVING_S)] if waits else actions


class FollowerReconciler:
    """One kind of follower."""

    def __init__(self, manager: Manager, resource: Resource[Document]) -> None:
        self._resource = resource
        self._executor = manager.executor
        self._objects = manager.informer(resource)
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._clusters = manager.informer(CLUSTERS)
        self._overrides = manager.informer(OVERRIDE_POLICIES)
        self._cluster_overrides = manager.informer(CLUSTER_OVERRIDE_POLICIES)
        self._works = manager.informer(WORK_DOCUMENTS, label_selector=f"!{BINDING_LABEL}")
        self._works.add_index(BY_FOLLOWER, follower_keys)
        self._bound = manager.informer(WORK_DOCUMENTS, label_selector=IN_NAMESPACES.label)

    async def reconcile(self, key: ObjectKey) -> Result:
        overrides = Overrides(
            tuple(self._cluster_overrides.list()), tuple(self._overrides.list(key.namespace))
        )
        fleet = dispatcher.members(self._clusters.list(), judged=overrides != NO_OVERRIDES)
        exported = "" if self._resource == SERVICES else key.name
        clusters = chosen(self._bindings.list(key.namespace), fleet, exported)
        held = self._works.by_index(BY_FOLLOWER, (self._resource.kind, *key))
        document = self._objects.get(key)
        bound = self._own(document) if self._resource == SERVICES else None
        actions = plan(document, clusters, held, overrides, fleet, bound, self._leaving)
        return await self._executor.apply(actions)

    def _own(self, service: Document | None) -> ResourceBinding | None:
        """The binding that a policy gave it."""
        if service is None:
            return None
        about = document_key(service)
        name = ObjectKey(about.namespace, binding_name(SERVICES.kind, about.name))
        binding: ResourceBinding | None = self._bindings.get(name)
        if binding is None or binding.spec.resource.uid != service["metadata"]["uid"]:
            return None
        return None if binding.deleting else binding

    def _leaving(self, work: ObjectKey) -> bool:
        return self._bound.get(work) is not None


def follower_keys(document: Document) -> list[tuple[str, str, str]]:
    """(kind, namespace, name) of what a Work without a binding carries."""
    manifests = document["spec"].get("workload", {}).get("manifests") or ()
    return [
        (m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]) for m in manifests
    ]


def setup(manager: Manager) -> None:
    """The objects, their Works, and the namespace's bindings whose clusters changed."""
    for resource in FOLLOWERS:
        objects = manager.informer(resource)
        controller = manager.controller(
            f"followers-{resource.plural}", FollowerReconciler(manager, resource)
        )
        controller.watches(resource)
        controller.watches(RESOURCE_BINDINGS, _of_namespace(objects))
        controller.watches(OVERRIDE_POLICIES, _of_namespace(objects))
        controller.watches(CLUSTER_OVERRIDE_POLICIES, _of_namespace(objects))
        controller.watches(WORK_DOCUMENTS, _of_work(resource), label_selector=f"!{BINDING_LABEL}")


def _of_namespace(objects: Any) -> Any:
    def keys(item: Object) -> list[ObjectKey]:
        """Those in the namespace of a binding or a policy; of a cluster policy, all."""
        found = objects.list(item.metadata.namespace)
        return [ObjectKey(o["metadata"]["namespace"], o["metadata"]["name"]) for o in found]

    return keys


def _of_work(resource: Resource[Document]) -> Any:
    def keys(document: Document) -> list[ObjectKey]:
        return [
            ObjectKey(namespace, name)
            for kind, namespace, name in follower_keys(document)
            if kind == resource.kind
        ]

    return keys
