"""Followers: Services and ServiceExports go wherever something of their namespace goes.

A Service has no replicas and needs no policy: it stands in every cluster that was chosen for any workload of its
namespace, so that its name means the same there. What a cluster gives it (addresses, node ports) is that cluster's own
and does not travel. When the last workload leaves a cluster, the Service leaves it too. A ServiceExport goes with the Service
that it names. Override policies change it for a cluster as they do a workload.

A policy that selects a Service gives it a binding, and the binding's clusters are the dispatcher's: what stands there already is
handed over as it is, by writing on its Work whose it is, so that no member ever deletes a Service because a policy was written.
In the other clusters of the namespace it stands as ever.
"""

from collections import Counter
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
from machinery.client.informer import Informer
from machinery.controller.action import Action, RequeueAfter, Result
from machinery.controller.manager import Manager
from machinery.controller.predicates import wish_changed
from machinery.meta.objectmeta import Object
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

BY_FOLLOWER = "follower"
LEAVING_S = 1.0
"""How soon to look again for a Work that its binding lets go."""


class Occupied:
    """Clusters in which something of a namespace runs, counted as bindings change: a look costs the same with ten bindings and with ten
    thousand, and followers hear only of a cluster that is new to the namespace or left it.

    A Service is nothing that runs.
    """

    def __init__(self, bindings: Informer[ResourceBinding]) -> None:
        self._held: dict[ObjectKey, frozenset[str]] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._listeners: list[Callable[[str], None]] = []
        bindings.on_change(self._changed)

    def on_moved(self, listener: Callable[[str], None]) -> None:
        """Have it told the namespace whose clusters are others now."""
        self._listeners.append(listener)

    def of(self, namespace: str) -> frozenset[str]:
        """The clusters of a namespace."""
        return frozenset(self._counts.get(namespace, ()))

    def _changed(self, old: ResourceBinding | None, new: ResourceBinding | None) -> None:
        either = new or old
        assert either is not None
        key = ObjectKey(either.metadata.namespace, either.metadata.name)
        before, after = self._held.get(key, frozenset()), runs_in(new)
        if before == after:
            return
        if after:
            self._held[key] = after
        else:
            del self._held[key]
        counts = self._counts.setdefault(key.namespace, Counter())
        known = len(counts)
        counts.update(after - before)
        fresh = len(counts) > known
        for name in before - after:
            counts[name] -= 1
            if not counts[name]:
                del counts[name]
                fresh = True
        if not counts:
            del self._counts[key.namespace]
        for tell in self._listeners if fresh else ():
            tell(key.namespace)


def runs_in(binding: ResourceBinding | None) -> frozenset[str]:
    """Clusters in which a binding runs something."""
    if binding is None or binding.deleting or binding.spec.resource.kind == SERVICES.kind:
        return frozenset()
    return frozenset(dispatcher.asked(binding))


def chosen(
    occupied: Iterable[str], known: Iterable[str], exported: ResourceBinding | None = None
) -> list[str]:
    """Members that run something of the namespace; and where the Service that is `exported` stands by a binding of its own counts
    for its export."""
    wanted = set(occupied)
    if exported is not None and not exported.deleting:
        wanted |= dispatcher.asked(exported).keys()
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

    def __init__(self, manager: Manager, resource: Resource[Document], occupied: Occupied) -> None:
        self._resource, self._occupied = resource, occupied
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
        service = self._bindings.get(service_binding(key))
        exported = None if self._resource == SERVICES else service
        clusters = chosen(self._occupied.of(key.namespace), fleet, exported)
        held = self._works.by_index(BY_FOLLOWER, (self._resource.kind, *key))
        document = self._objects.get(key)
        bound = self._own(document) if self._resource == SERVICES else None
        actions = plan(document, clusters, held, overrides, fleet, bound, self._leaving)
        return await self._executor.apply(actions)

    def _own(self, service: Document | None) -> ResourceBinding | None:
        """The binding that a policy gave it."""
        if service is None:
            return None
        binding: ResourceBinding | None = self._bindings.get(service_binding(document_key(service)))
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


def service_binding(service: ObjectKey) -> ObjectKey:
    """The binding of a Service that a policy selects."""
    return ObjectKey(service.namespace, binding_name(SERVICES.kind, service.name))


def setup(manager: Manager) -> None:
    """The objects, their Works, Services' own bindings, and namespaces that run in other clusters than before."""
    occupied = Occupied(manager.informer(RESOURCE_BINDINGS))
    for resource in FOLLOWERS:
        objects = manager.informer(resource)
        controller = manager.controller(
            f"followers-{resource.plural}", FollowerReconciler(manager, resource, occupied)
        )
        controller.watches(resource)
        controller.watches(RESOURCE_BINDINGS, _of_service, when=wish_changed)
        controller.watches(OVERRIDE_POLICIES, _of_namespace(objects))
        controller.watches(CLUSTER_OVERRIDE_POLICIES, _of_namespace(objects))
        own, alone = _of_work(resource), f"!{BINDING_LABEL}"
        controller.watches(WORK_DOCUMENTS, own, label_selector=alone, when=wish_changed)
        occupied.on_moved(_all_in(objects, controller.enqueue))


def _all_in(objects: Any, enqueue: Callable[[ObjectKey], None]) -> Callable[[str], None]:
    def moved(namespace: str) -> None:
        for found in objects.list(namespace):
            enqueue(document_key(found))

    return moved


def _of_service(binding: ResourceBinding) -> list[ObjectKey]:
    """The Service that a binding is of, and the export of its name."""
    source = binding.spec.resource
    return [ObjectKey(source.namespace, source.name)] if source.kind == SERVICES.kind else []


def _of_namespace(objects: Any) -> Any:
    def keys(item: Object) -> list[ObjectKey]:
        """Those in the namespace of a policy; of a cluster policy, all."""
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
