"""Garbage collection, the acting half: one queue per kind, and the informers together are the graph.

Every kind that can be listed, watched and deleted is watched by its metadata alone; custom kinds from when they are
established until they go. Informers lag and are not in step
with each other, so nothing is deleted on their word: that an owner is absent is asked of the server first (and then
remembered, for a ReplicaSet may leave thousands of pods), and so is the object itself. Mirrors are not seen at all.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from machinery.api.scheme import ServedKind
from machinery.client.dynamic_kinds import DEFINITIONS, DynamicKinds
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.controller.action import Emit, Result
from machinery.controller.executor import Executor
from machinery.controller.manager import ControllerBuilder, Manager
from machinery.controllers.events import executor_for
from machinery.controllers.garbagecollector.plan import (
    FOREGROUND,
    Item,
    Standing,
    plan,
)
from machinery.controllers.mirrors import is_mirror
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import Object, OwnerReference
from machinery.meta.resource import ObjectKey, Resource, split_api_version

log = logging.getLogger(__name__)

OWNER_INDEX = "owner-uid"
UID_INDEX = "uid"
ABSENT_OWNERS_MAX = 2048

DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")
NOT_COLLECTED = frozenset({("", "events")})
"""Events expire by themselves, and there are many."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A collected kind and its copy."""

    resource: Resource[Any]
    informer: Informer[Any]
    enqueue: Callable[[ObjectKey], None]


class Graph:
    """Who owns whom, over the informers of all kinds."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._absent: OrderedDict[tuple[str, ObjectKey], None] = OrderedDict()

    def add(self, kind: Kind) -> None:
        """Take in a kind; its changes are routed from now on."""
        self._kinds[kind.resource.group, kind.resource.kind] = kind
        kind.informer.add_index(OWNER_INDEX, owner_uids)
        kind.informer.add_index(UID_INDEX, lambda item: (item.metadata.uid,))
        kind.informer.on_change(lambda old, new: self._route(kind, old, new))

    def remove(self, resource: Resource[Any]) -> None:
        """Forget a kind that is served no more: of its objects nothing can be concluded."""
        self._kinds.pop((resource.group, resource.kind), None)

    def reconsider(self, resource: Resource[Any]) -> None:
        """Look again at whatever is owned by objects of a kind that was unknown until now."""
        for kind in list(self._kinds.values()):
            for item in kind.informer.list():
                owners = item.metadata.owner_references
                if any(_is_of(reference, resource) for reference in owners):
                    kind.enqueue(item.key)

    def dependents(self, uid: str) -> Iterator[tuple[Kind, Object]]:
        """Everything that names `uid` as an owner."""
        for kind in self._kinds.values():
            for item in kind.informer.by_index(OWNER_INDEX, uid):
                if not is_mirror(item):
                    yield kind, item

    async def standing(self, item: Object, reference: OwnerReference, namespaced: bool) -> Standing:
        """What became of an owner: by its copy where it is there, by the server where it is not."""
        kind = self._kind_of(reference)
        if kind is None or (kind.resource.namespaced and not namespaced):
            return Standing.UNKNOWN
        owner = self._copy_of(kind, item, reference)
        if owner is None:
            owner = await self._live(kind, _owner_key(kind, item, reference), reference.uid)
        if owner is None:
            return Standing.ABSENT
        return Standing.WAITING if _waits(owner) else Standing.SOLID

    def is_settled(self, item: Object) -> bool:
        """Whether the copies alone show that nothing is to be done: all owners there, none of them waiting."""
        if item.deleting:
            return False
        for reference in item.metadata.owner_references:
            kind = self._kind_of(reference)
            owner = self._copy_of(kind, item, reference) if kind is not None else None
            if owner is None or _waits(owner):
                return False
        return True

    def _kind_of(self, reference: OwnerReference) -> Kind | None:
        return self._kinds.get((split_api_version(reference.api_version)[0], reference.kind))

    def _copy_of(self, kind: Kind, item: Object, reference: OwnerReference) -> Object | None:
        owner: Object | None = kind.informer.get(_owner_key(kind, item, reference))
        return owner if owner is not None and owner.metadata.uid == reference.uid else None

    def lives_elsewhere(self, uid: str) -> bool:
        """Whether an object of that uid is there, if not where the reference says."""
        return any(kind.informer.by_index(UID_INDEX, uid) for kind in self._kinds.values())

    async def _live(self, kind: Kind, key: ObjectKey, uid: str) -> Object | None:
        if (uid, key) in self._absent:
            self._absent.move_to_end((uid, key))
            return None
        try:
            owner: Object = await self._client.get(kind.resource, key)
        except NotFound:
            owner = Object()
        if owner.metadata.uid == uid:
            return owner
        self._absent[uid, key] = None
        while len(self._absent) > ABSENT_OWNERS_MAX:
            self._absent.popitem(last=False)
        return None

    def _route(self, kind: Kind, old: Object | None, new: Object | None) -> None:
        """Which objects an event makes worth a look."""
        item = new or old
        assert item is not None
        if is_mirror(item):
            return
        if new is not None and _concerned(old, new) and not self.is_settled(new):
            kind.enqueue(new.key)
        if new is None or (_turned_foreground(old, new)):
            for other, dependent in self.dependents(item.metadata.uid):
                other.enqueue(dependent.key)
        if new is None or (old is not None and owner_uids(old) != owner_uids(new)):
            self._enqueue_waiting_owners(item.metadata.owner_references)
            self._enqueue_waiting_owners((old or item).metadata.owner_references)

    def _enqueue_waiting_owners(self, references: Iterable[OwnerReference]) -> None:
        for reference in references:
            kind = self._kind_of(reference)
            if kind is None:
                continue
            for owner in kind.informer.by_index(UID_INDEX, reference.uid):
                if owner.deleting:
                    kind.enqueue(owner.key)


class GarbageReconciler:
    """Read, plan, act, for one kind."""

    def __init__(
        self, graph: Graph, client: Client, executor: Executor, resource: Resource[Any]
    ) -> None:
        self._graph, self._client, self._executor = graph, client, executor
        self._resource = resource

    async def reconcile(self, key: ObjectKey) -> Result:
        try:
            live: Object = await self._client.get(self._resource, key)
        except NotFound:
            return Result()
        if is_mirror(live):
            return Result()
        item = Item(self._resource, live)
        owners: list[tuple[OwnerReference, Standing]] = []
        if not live.deleting:
            for reference in live.metadata.owner_references:
                owners.append((reference, await self._standing(live, reference)))
        dependents = [
            Item(kind.resource, dependent)
            for kind, dependent in self._graph.dependents(live.metadata.uid)
        ]
        return await self._executor.apply(plan(item, owners, dependents))

    async def _standing(self, live: Object, reference: OwnerReference) -> Standing:
        standing = await self._graph.standing(live, reference, self._resource.namespaced)
        if standing is Standing.ABSENT and self._graph.lives_elsewhere(reference.uid):
            await self._tell_invalid_namespace(live, reference)
        return standing

    async def _tell_invalid_namespace(self, live: Object, reference: OwnerReference) -> None:
        text = (
            f"ownerRef [{reference.api_version}/{reference.kind}, namespace: "
            f"{live.metadata.namespace}, name: {reference.name}, uid: {reference.uid}] "
            f'does not exist in namespace "{live.metadata.namespace}"'
        )
        uid = live.metadata.uid
        event = Emit(self._resource, live.key, uid, "Warning", "OwnerRefInvalidNamespace", text)
        await self._executor.apply([event])


def owner_uids(item: Object) -> tuple[str, ...]:
    """Index: the uids of all owners."""
    return tuple(o.uid for o in item.metadata.owner_references)


def _is_of(reference: OwnerReference, resource: Resource[Any]) -> bool:
    group = split_api_version(reference.api_version)[0]
    return (group, reference.kind) == (resource.group, resource.kind)


def _concerned(old: Object | None, new: Object) -> bool:
    """Whether an object's own change may ask for collection: not each of a pod's many status writes does."""
    if not new.metadata.owner_references and not new.deleting:
        return False
    return old is None or (
        old.deleting != new.deleting
        or old.metadata.finalizers != new.metadata.finalizers
        or old.metadata.owner_references != new.metadata.owner_references
    )


def _waits(owner: Object) -> bool:
    """Being deleted in the foreground."""
    return owner.deleting and FOREGROUND in owner.metadata.finalizers


def _turned_foreground(old: Object | None, new: Object) -> bool:
    return _waits(new) and not (old is not None and _waits(old))


def _owner_key(kind: Kind, item: Object, reference: OwnerReference) -> ObjectKey:
    """Where the owner is: in the object's own namespace, if it has one."""
    namespace = item.metadata.namespace if kind.resource.namespaced else ""
    return ObjectKey(namespace, reference.name)


def collected(kinds: Iterable[ServedKind]) -> list[ServedKind]:
    """The kinds that can be watched and deleted, without Events, other faces of a kind, and those that come and go."""
    return [
        kind
        for kind in kinds
        if {"list", "watch", "delete"} <= set(kind.verbs)
        and (kind.group, kind.plural) not in NOT_COLLECTED
        and kind.stored_as is None
        and kind.dynamic is None
    ]


def metadata_resource(kind: ServedKind) -> Resource[Object]:
    """The kind, read by its metadata alone."""
    return Resource(kind.group, kind.version, kind.plural, kind.kind, kind.namespaced, Object)


def setup(
    manager: Manager,
    kinds: Sequence[ServedKind],
    shared: Sequence[Resource[Any]] = (),
) -> None:
    """Collect `kinds`, and the custom kinds that there are from time to time.

    `shared` names views that other controllers hold anyway, to save a second copy.
    """
    executor = executor_for(manager, "garbage-collector-controller")
    graph = Graph(manager.client)
    views: Mapping[tuple[str, str], Resource[Any]] = {(r.group, r.kind): r for r in shared}
    for served in collected(kinds):
        resource = views.get((served.group, served.kind)) or metadata_resource(served)
        reconciler = GarbageReconciler(graph, manager.client, executor, metadata_resource(served))
        name = f"garbage-collector-{served.group_resource}"
        builder = manager.controller(name, reconciler, workers=2)
        graph.add(Kind(resource, manager.informer(resource), builder.enqueue))
    if any(kind.group_kind == DEFINITION for kind in kinds):
        custom = CustomKinds(manager, graph, executor)
        DynamicKinds(manager.informer(DEFINITIONS)).on_change(custom.changed)


class CustomKinds:
    """Takes custom kinds into the graph, and out of it."""

    def __init__(self, manager: Manager, graph: Graph, executor: Executor) -> None:
        self._manager, self._graph, self._executor = manager, graph, executor
        self._builders: dict[Resource[Any], ControllerBuilder] = {}

    def changed(self, old: Resource[Any] | None, new: Resource[Any] | None) -> None:
        if old is not None:
            self._end(replace(old, view=Object))
        if new is not None:
            self._begin(replace(new, view=Object))

    def _begin(self, resource: Resource[Any]) -> None:
        manager, graph = self._manager, self._graph
        reconciler = GarbageReconciler(graph, manager.client, self._executor, resource)
        name = f"garbage-collector-{resource.group_resource}"
        builder = self._builders[resource] = manager.controller(name, reconciler, workers=2)
        graph.add(Kind(resource, manager.informer(resource), builder.enqueue))
        graph.reconsider(resource)

    def _end(self, resource: Resource[Any]) -> None:
        self._graph.remove(resource)
        self._manager.withdraw(self._builders.pop(resource))
        self._manager.forget_informer(resource)
