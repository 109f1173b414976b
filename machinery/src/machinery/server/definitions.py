"""CustomResourceDefinitions at work: their kinds served, their names judged, their objects removed before they go.

The watch cache of definitions is what decides, and every replica follows the store, so a kind appears and goes on all of
them whichever was asked. Serving is done within the event: when a watcher hears that a definition is established, its
kind is there.

    event → kinds in the scheme, cache and hub of their objects      at once, on each replica
    event → queue → conditions, acceptedNames                        written by compare-and-swap; all replicas would write the same
    event → queue → deleting: objects deleted, then the finalizer    the same

The queue runs on every replica, not only where controllers lead: a definition must become usable wherever the API is served.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from machinery.api.customresources.kinds import kinds_of
from machinery.api.customresources.naming import CLEANUP_FINALIZER, status_of, taken, terminating
from machinery.api.scheme import Scheme, ServedKind
from machinery.client.workqueue import ShutDown, WorkQueue
from machinery.kit.clock import Clock, rfc3339
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import Conflict, NotFound, StatusError
from machinery.meta.resource import Document
from machinery.server.cache import CacheEvent
from machinery.server.call import Call, Deletion
from machinery.server.registry import Registry
from machinery.server.user import LOOPBACK
from machinery.server.watch import Watches
from machinery.server.webhooks.conversion import Conversions
from machinery.store.interface import Change

log = logging.getLogger(__name__)

MANAGER = "kube-apiserver"
LOOK_AGAIN_S = 1.0
"""How often the objects of a definition that is being deleted are looked at."""
SETTLE_S = 0.5
"""How long an answer to a client waits at most for what follows from its write."""
DELETING = ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress")


class Definitions:
    """The custom kinds of one server."""

    def __init__(  # noqa: PLR0913 - what they need, handed in once
        self,
        kind: ServedKind,
        scheme: Scheme,
        registry: Registry,
        watches: Watches,
        clock: Clock,
        conversions: Conversions,
    ) -> None:
        self._kind, self._scheme, self._registry = kind, scheme, registry
        self._watches, self._clock, self._conversions = watches, clock, conversions
        self._cache = registry.cache.of(kind)
        self._served: dict[str, tuple[ServedKind, ...]] = {}
        self._named: dict[str, Document] = {}
        """The definitions without their versions, which are large: what names are judged by."""
        self._queue: WorkQueue[str] = WorkQueue(clock, name="customresourcedefinitions")
        self._tasks = TaskOwner()
        self._settled: dict[str, int] = {}
        self._waiters: list[tuple[str, int, asyncio.Future[None]]] = []
        self._cache.listeners.append(self._on_event)
        registry.cache.on_load.append(self._load)

    # ------------------------------------------------------------------------------------------------------ serving
    def _load(self) -> None:
        """Everything was read anew."""
        documents = {entry.name: entry.document() for entry in self._cache.entries.values()}
        for name in [*self._named.keys() - documents.keys(), *documents]:
            self._take(name, documents.get(name))

    def _on_event(self, event: CacheEvent) -> None:
        gone = event.change is Change.DELETE
        self._take(event.entry.name, None if gone else event.entry.document())

    def _take(self, name: str, definition: Document | None) -> None:
        if definition is None:
            self._named.pop(name, None)
            self._serve(name, ())
        else:
            spec = {**definition["spec"], "versions": []}
            self._named[name] = {**definition, "spec": spec}
            self._serve(name, kinds_of(definition, self._conversions.of(definition)))
        self._queue.add(name)

    def _serve(self, name: str, kinds: tuple[ServedKind, ...]) -> None:
        """Have exactly these kinds of a definition served."""
        before = self._served.get(name, ())
        if _same(before, kinds):
            return
        for kind in before:
            self._scheme.unregister(kind)
        kinds = tuple(self._registered(kinds))
        if kinds:
            self._served[name] = kinds
        else:
            self._served.pop(name, None)
        self._hold(before, kinds)
        log.info(
            "custom resource served" if kinds else "custom resource served no more",
            extra={"definition": name, "versions": [kind.version for kind in kinds]},
        )

    def _registered(self, kinds: tuple[ServedKind, ...]) -> Iterator[ServedKind]:
        for kind in kinds:
            try:
                self._scheme.register(kind)
            except ValueError:  # accepted by two replicas at once, or served by this program itself
                log.exception("custom resource conflicts", extra={"kind": kind.group_resource})
            else:
                yield kind

    def _hold(self, before: tuple[ServedKind, ...], now: tuple[ServedKind, ...]) -> None:
        """The objects: one cache and one hub for all versions."""
        cache = self._registry.cache
        if now and before:
            cache.of(now[0]).become(now[0])
            self._watches.end(now[0])
        elif now:
            self._watches.open(cache.add(now[0]))
        elif before:
            self._watches.shut(before[0])
            cache.remove(before[0])

    # ------------------------------------------------------------------------------------------------------ working
    def start(self) -> None:
        """Judge names and clean up from now on."""
        _ = self._tasks.spawn(self._work(), "custom-resource-definitions")

    async def stop(self) -> None:
        await self._queue.close()
        await self._tasks.close()

    async def _work(self) -> None:
        while True:
            try:
                name = await self._queue.get()
            except ShutDown:
                return
            try:
                await self._reconcile(name)
            except (Conflict, NotFound):  # another replica was first; its event is on the way
                self._queue.add_after(name, 0.01)
            except StatusError as error:
                log.warning(
                    "definition not handled", extra={"definition": name, "error": str(error)}
                )
                self._queue.add_rate_limited(name)
            else:
                self._queue.forget(name)
            finally:
                self._queue.done(name)

    async def _reconcile(self, name: str) -> None:
        entry = self._cache.entries.get(f"/{name}")
        if entry is None:
            self._settle(name, self._cache.changed)
            del self._settled[name]
            return
        definition = entry.document()
        if definition["metadata"].get("deletionTimestamp"):
            await self._clean(name, definition)
        elif await self._judge(name, definition):
            self._settle(name, entry.revision)

    async def _judge(self, name: str, definition: Document) -> bool:
        """Whether the status was right already."""
        now = rfc3339(self._clock.now())
        group = definition["spec"]["group"]
        held = taken(name, group, self._named.values(), self._scheme.kinds)
        status = status_of(definition, held, now)
        if status == definition.get("status"):
            return True
        await self._write(name, definition, {**definition, "status": status}, "status")
        return False

    async def _clean(self, name: str, definition: Document) -> None:
        """Objects first, then the finalizer."""
        finalizers = definition["metadata"].get("finalizers") or []
        if CLEANUP_FINALIZER not in finalizers:
            return
        if self._served.get(name) and await self._objects_left(name):
            status = terminating(definition["status"], DELETING, rfc3339(self._clock.now()))
            if status != definition["status"]:
                await self._write(name, definition, {**definition, "status": status}, "status")
            self._queue.add_after(name, LOOK_AGAIN_S)
            return
        left = [one for one in finalizers if one != CLEANUP_FINALIZER]
        metadata = {**definition["metadata"], "finalizers": left}
        await self._write(name, definition, {**definition, "metadata": metadata}, "")

    async def _objects_left(self, name: str) -> bool:
        kind = _unconverted(self._served[name][0])
        await self._registry.cache.fresh()
        call = Call(LOOPBACK, MANAGER)
        for entry in list(self._registry.cache.of(kind).entries.values()):
            with contextlib.suppress(NotFound, Conflict):
                await self._registry.deleter.delete(
                    kind, entry.namespace, entry.name, Deletion(), call, outside=False
                )
        await self._registry.cache.fresh()
        return bool(self._registry.cache.of(kind).entries)

    async def _write(
        self, name: str, definition: Document, wanted: Document, subresource: str
    ) -> None:
        call = Call(LOOPBACK, MANAGER, field_validation="Ignore")
        expected = definition["metadata"]["resourceVersion"]
        await self._registry.change(
            self._kind, "", name, lambda _live: wanted, call, subresource, expected=expected
        )

    # ------------------------------------------------------------------------------------------------------ waiting
    async def settled(self, name: str, revision: int) -> None:
        """Wait, for a moment at most, until what follows from a write is done here: names judged, kinds served or gone."""
        gone = f"/{name}" not in self._cache.entries and self._cache.changed >= revision
        if gone or self._settled.get(name, 0) >= revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (name, revision, future)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(SETTLE_S):
                await future
        except TimeoutError:
            return
        finally:
            self._waiters.remove(waiter)

    def _settle(self, name: str, revision: int) -> None:
        self._settled[name] = revision
        for waiting, wanted, future in self._waiters:
            if waiting == name and wanted <= revision and not future.done():
                future.set_result(None)


def _same(before: tuple[ServedKind, ...], now: tuple[ServedKind, ...]) -> bool:
    """Equal, schemas included, which the kinds' own comparison leaves out."""
    return before == now and all(
        a.schema == b.schema
        and (a.dynamic and a.dynamic.schemas) == (b.dynamic and b.dynamic.schemas)
        and _config(a) == _config(b)
        for a, b in zip(before, now, strict=True)
    )


def _config(kind: ServedKind) -> Mapping[str, Any] | None:
    """How it is converted."""
    convert = kind.dynamic and kind.dynamic.convert
    return convert.config if convert else None


def _unconverted(kind: ServedKind) -> ServedKind:
    """The kind for who only removes objects: a webhook that is dead keeps nobody from that."""
    assert kind.dynamic is not None, "only kinds of definitions are converted"
    return replace(kind, dynamic=replace(kind.dynamic, convert=None))
