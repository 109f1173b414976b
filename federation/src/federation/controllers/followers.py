"""Followers: Services and ServiceExports go wherever something of their namespace goes.

A Service has no replicas and no policy of its own: it stands in every cluster that was chosen for any workload of its
namespace, so that its name means the same there. What a cluster gives it (addresses, node ports) is that cluster's own
and does not travel. When the last workload leaves a cluster, the Service leaves it too. A ServiceExport goes with the Service
that it names. Override policies change it for a cluster as they do a workload.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from federation.controllers import dispatcher
from federation.placement.model import Candidate
from federation.propagation import interpreter
from federation.propagation.overrides.policies import NO_OVERRIDES, Overrides
from federation.propagation.templates import FOLLOWERS, propagatable
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.policy import CLUSTER_OVERRIDE_POLICIES, OVERRIDE_POLICIES
from machinery.api.fleet.work import (
    BINDING_LABEL,
    RESOURCE_BINDINGS,
    WORK_DOCUMENTS,
    ResourceBinding,
)
from machinery.controller.action import Action, Result
from machinery.controller.manager import Manager
from machinery.meta.objectmeta import Object
from machinery.meta.resource import Document, ObjectKey, Resource

BY_FOLLOWER = "follower"


def chosen(bindings: Iterable[ResourceBinding], known: Iterable[str]) -> list[str]:
    """Clusters that run something of the namespace."""
    wanted = {
        name for binding in bindings if not binding.deleting for name in dispatcher.asked(binding)
    }
    return sorted(wanted & set(known))


def plan(
    document: Document | None,
    clusters: Iterable[str],
    held: Iterable[Document],
    overrides: Overrides = NO_OVERRIDES,
    fleet: Mapping[str, Candidate] = {},
) -> list[Action]:
    """A Work for each cluster, and no other."""
    if document is None or not propagatable(document):
        return dispatcher.plan({}, held)
    found = dispatcher.unbound(interpreter.portable(document), clusters, overrides, fleet)
    resource = next(r for r in FOLLOWERS if r.kind == document["kind"])
    told = dispatcher.complaints(resource, document, found)
    return [*dispatcher.plan(found.works, held, found.failed), *told]


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

    async def reconcile(self, key: ObjectKey) -> Result:
        overrides = Overrides(
            tuple(self._cluster_overrides.list()), tuple(self._overrides.list(key.namespace))
        )
        fleet = dispatcher.members(self._clusters.list(), judged=overrides != NO_OVERRIDES)
        clusters = chosen(self._bindings.list(key.namespace), fleet)
        held = self._works.by_index(BY_FOLLOWER, (self._resource.kind, *key))
        actions = plan(self._objects.get(key), clusters, held, overrides, fleet)
        return await self._executor.apply(actions)


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
