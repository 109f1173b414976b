"""A copy of a part of the federation in memory, with the controllers that place and dispatch: what they would do, is seen there.

Nothing is modelled: it is the API server's own registry over another store, and the controllers that run in the federation. They
run until nothing waits (`Manager.run_once`), and whatever they write stays in the copy. What takes time does not happen:
delays, moves that wait for readiness, failover.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from federation.clusters.estimates import NoEstimator
from federation.controllers import (
    dependencies,
    detector,
    dispatcher,
    followers,
    namespaces,
    placer,
    registry,
    volumes,
)
from federation.controllers.reservations import Reservations
from federation.propagation.replays import Note
from federation.propagation.scopes import SCOPES
from federation.reviews.plan import World
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.api.fleet.work import BINDING_NAMESPACE, WORKS, ResourceBinding
from machinery.api.scheme import Scheme, ServedKind
from machinery.controller.action import Action, Emit
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.controller.recorder import EventRecorder
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.meta.errors import TooLarge
from machinery.meta.objectmeta import View
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server import codec
from machinery.server.app import ApiServer, Extensions
from machinery.server.config import ServerConfig
from machinery.store.memory import MemoryStore

ROWS_MAX = 50_000
"""Objects that are copied; a plan that touches more is refused."""
FLEET_WIDE = "ubernetes-system"
WITHOUT = frozenset(
    {
        "decisions", "fleetrecords", "events", "leases", "pods", "nodes", "endpoints", "endpointslices",
        "controllerrevisions", "certificatesigningrequests", "exportedservices",
    }
)  # fmt: skip
"""Kinds that nothing here looks at, and of which there are most."""
CONFIG = ServerConfig(
    name="plan", track_managed_fields=False, service_accounts=False, service_templates=True
)


class _Named(View):
    namespace: str = ""
    name: str = ""
    annotations: dict[str, str] = {}


class _Manifest(View):
    kind: str = ""
    metadata: _Named = _Named()


class _Manifests(View):
    manifests: tuple[_Manifest, ...] = ()


class _Spec(View):
    workload: _Manifests = _Manifests()


class _Work(View):
    """As much of a Work as says whose it is."""

    metadata: _Named = _Named()
    spec: _Spec = _Spec()


class _Silent(EventRecorder):
    """Nobody is told of what did not happen."""

    def emit(self, emit: Emit) -> None:
        return


Rows = list[tuple[str, bytes]]
"""Objects as they are stored, by key."""


def rows(source: ApiServer, scope: frozenset[str] | None) -> Rows:
    """What there is in these namespaces, and of the whole federation; None: of all. Raises TooLarge."""
    found: Rows = []
    for kind in source.scheme.kinds:
        if not kind.storable or kind.stored_as is not None or kind.plural in WITHOUT:
            continue
        for entry in source.cache.of(kind).entries.values():
            if _within(kind, entry.namespace, entry.value, scope):
                key = codec.storage_key(kind, entry.namespace, entry.name)
                found.append((key, entry.value))
        if len(found) > ROWS_MAX:
            raise TooLarge(
                f"the plan touches more than {ROWS_MAX} objects: plan policies of one namespace at a time",
                details={},
            )
    return found


class Scratch:
    """`await seed(...)`, then `settle`; `notes` are the decisions since they were cleared, by binding."""

    def __init__(self, scheme: Scheme, clock: Clock, ids: Ids) -> None:
        self.store = MemoryStore()
        self.api = ApiServer(
            scheme,
            self.store,
            CONFIG,
            clock,
            ids,
            extensions=Extensions(admission=registry.admission(ids)),
        )
        client = self.api.client(manager="plan")
        self._manager = Manager(client, clock, ids, component="plan")
        self._manager.recorder = _Silent(client, clock, ids, component="plan")
        self._manager.executor = Executor(client, self._manager.recorder)
        self._manager.executor.listen(self._hear)
        self.notes: dict[ObjectKey, Note] = {}
        self._setup()

    def _setup(self) -> None:
        manager = self._manager
        kinds = [kind for kind in self.api.scheme.kinds if kind.storable]
        operator = registry.operator_settings(manager, registry.Settings(kinds, self.api.authority))
        placer.setup(manager, operator, Reservations(manager, NoEstimator()))
        for room in (detector, dependencies, dispatcher, namespaces, followers, volumes):
            room.setup(manager)

    def _hear(self, action: Action, answer: Any) -> None:
        note = getattr(action, "note", None)
        if isinstance(note, Note) and isinstance(answer, ResourceBinding):
            self.notes[answer.key] = note

    async def seed(self, copied: Rows) -> None:
        """Begin with these objects."""
        await self.store.start()
        for key, value in copied:
            _ = await self.store.create(key, value)
        await self.api.cache.start()

    async def settle(self) -> None:
        """The controllers run until nothing waits."""
        _ = await self._manager.run_once()
        await self.api.cache.fresh()

    async def close(self) -> None:
        """Forget it all."""
        await self.api.watches.stop()
        await self.api.webhooks.close()  # it may have asked for conversions
        await self.api.cache.stop()
        await self._manager.stop(flush=False)
        await self.store.close()

    # ---------------------------------------------------------------------------------------------------------- reading
    def revisions(self, resource: Resource[Any]) -> dict[ObjectKey, int]:
        """Which state of each object there is."""
        entries = self.api.cache.of(self.kind(resource)).entries.values()
        return {ObjectKey(e.namespace, e.name): e.revision for e in entries}

    def documents(
        self, resource: Resource[Any], keys: Iterable[ObjectKey]
    ) -> dict[ObjectKey, Document]:
        """Those that are there."""
        kind, found = self.kind(resource), {}
        for key in keys:
            document = self.api.registry.peek(kind, key.namespace, key.name)
            if document is not None:
                found[key] = document
        return found

    def kind(self, resource: Resource[Any]) -> ServedKind:
        """As it is served."""
        kind = self.api.scheme.by_gvk(*resource.gvk)
        assert kind is not None, f"{resource} is served"
        return kind

    def world(self) -> World:
        """All bindings, of both scopes, and Works."""
        bindings = {
            key: document
            for scope in SCOPES
            for key, document in self.documents(
                scope.bindings, self.revisions(scope.bindings)
            ).items()
        }
        return World(bindings, self.documents(WORKS, self.revisions(WORKS)))


def _within(kind: ServedKind, namespace: str, value: bytes, scope: frozenset[str] | None) -> bool:
    if scope is None or not kind.namespaced or namespace in scope:
        return True
    if namespace == FLEET_WIDE:
        return kind.plural == RESILIENCE_POLICIES.plural
    return kind.plural == WORKS.plural and kind.group == WORKS.group and _of_scope(value, scope)


def _of_scope(value: bytes, scope: frozenset[str]) -> bool:
    """Whether a Work is of one of these namespaces: by its binding, or by what it carries."""
    work = msgspec.json.decode(value, type=_Work)
    if work.metadata.annotations.get(BINDING_NAMESPACE) in scope:
        return True
    manifests = work.spec.workload.manifests
    return any(m.metadata.namespace in scope for m in manifests) or any(
        m.kind == "Namespace" for m in manifests
    )
