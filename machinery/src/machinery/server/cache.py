"""The watch cache: every kind's committed objects as bytes, indexed, with a ring of its latest changes.

One task follows the store's log and applies each change to the kind it belongs to. An `Entry` is one state of one
object and never changes; lists, snapshots and events share it. Of an object only what indexes need is decoded (labels,
owners, spec.nodeName); fields for selectors and typed views are decoded when first asked for and kept with the entry.

The ring answers watches that resume and lists of an exact older revision: the state at revision N is the present one
with the changes after N undone. Older than the ring is 410.
"""

import asyncio
import logging
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from sys import intern
from typing import Any, TypeVar, cast

import msgspec
from msgspec.structs import force_setattr

from machinery.api.fieldselectors import fields_of
from machinery.api.scheme import ServedKind
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import Object, ObjectMeta
from machinery.meta.resource import Document
from machinery.meta.selectors import EVERYTHING, Requirement, Selector
from machinery.server import codec
from machinery.server.config import ServerConfig
from machinery.store.interface import Change, Compacted, Event, Row, Store, StoreUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

GAP_WAIT_S = 0.05
"""How long a reader waits for a revision that may be a gap in the numbering (a write that lost)."""


class _Owner(msgspec.Struct):
    uid: str = ""


class _Meta(msgspec.Struct):
    labels: dict[str, str] | None = None
    ownerReferences: list[_Owner] | None = None  # noqa: N815 - the wire's name


class _Spec(msgspec.Struct):
    nodeName: str | None = None  # noqa: N815 - the wire's name


class _Probe(msgspec.Struct):
    metadata: _Meta


class _PodProbe(msgspec.Struct):
    metadata: _Meta
    spec: _Spec | None = None


_probe = msgspec.json.Decoder(_Probe)
_pod_probe = msgspec.json.Decoder(_PodProbe)
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_NO_LABELS: dict[str, str] = {}
_NO_NODE = frozenset({""})


class Entry:
    """One committed state of one object."""

    __slots__ = (
        "_fields", "_views", "key", "labels", "name", "namespace", "node", "owners", "revision",
        "value",
    )  # fmt: skip

    def __init__(self, key: str, value: bytes, revision: int, *, pod: bool) -> None:
        self.key = key
        namespace, _, self.name = key.partition("/")
        self.namespace = intern(namespace)
        self.value = value
        self.revision = revision
        probe = (_pod_probe if pod else _probe).decode(value)
        meta = probe.metadata
        self.labels: Mapping[str, str] = (
            {intern(k): v for k, v in meta.labels.items()} if meta.labels else _NO_LABELS
        )
        self.owners = tuple(o.uid for o in meta.ownerReferences) if meta.ownerReferences else ()
        spec = probe.spec if isinstance(probe, _PodProbe) else None
        self.node = (spec.nodeName or "") if spec is not None else ""
        self._fields: Mapping[str, str] | None = None
        self._views: tuple[Any, ...] = ()

    def document(self) -> Document:
        """A fresh document; the caller may keep it and change it."""
        return codec.decode(self.value, self.revision)

    def fields(self, kind: ServedKind) -> Mapping[str, str]:
        """What field selectors see."""
        if self._fields is None:
            self._fields = fields_of(kind, self.document())
        return self._fields

    def forget_fields(self) -> None:
        """What field selectors see may be other fields now."""
        self._fields = None

    def view(self, cls: type[T], head: int) -> T:
        """The typed view, decoded once and shared by everybody in the process."""
        for held in self._views:
            if type(held) is cls:
                return held
        found: Any = self._metadata_view() if cls is Object else None
        if found is None:
            decoder = _decoders.get(cls)
            if decoder is None:
                decoder = _decoders[cls] = msgspec.json.Decoder(cls)
            found = decoder.decode(codec.splice(self.value, self.revision, head))
            self._share(found)
        self._views = (*self._views, found)
        return cast("T", found)

    def _metadata_view(self) -> Object | None:
        """The metadata alone, out of a view that has them decoded."""
        for held in self._views:
            if isinstance(held, Object) and type(held.metadata) is ObjectMeta:
                return Object(held.api_version, held.kind, held.metadata)
        return None

    def _share(self, view: Any) -> None:
        """Nobody changes a view, so what is equal in all of an object's views, or of a kind's, is there once."""
        if not isinstance(view, Object) or type(view.metadata) is not ObjectMeta:
            return
        force_setattr(view, "api_version", intern(view.api_version))
        force_setattr(view, "kind", intern(view.kind))
        for held in self._views:
            if isinstance(held, Object) and type(held.metadata) is ObjectMeta:
                force_setattr(view, "metadata", held.metadata)
                return
        meta = view.metadata
        force_setattr(meta, "name", self.name)
        force_setattr(meta, "namespace", self.namespace)
        force_setattr(meta, "labels", self.labels)
        if meta.annotations:
            force_setattr(meta, "annotations", {intern(k): v for k, v in meta.annotations.items()})


class CacheEvent:
    """One change of one kind. `previous` is the state before; for a delete `entry` is the final state."""

    __slots__ = ("change", "entry", "frames", "previous", "revision")

    def __init__(self, change: Change, entry: Entry, previous: Entry | None, revision: int) -> None:
        self.change = change
        self.entry = entry
        self.previous = previous
        self.revision = revision
        self.frames: dict[Any, bytes] = {}


class Selection:
    """Namespace, label and field selector of a list or watch, with the shortcut that an index can answer."""

    __slots__ = ("assigned", "fields", "labels", "name", "namespace", "node")

    def __init__(
        self, namespace: str, labels: Selector = EVERYTHING, fields: Selector = EVERYTHING
    ) -> None:
        self.namespace = namespace
        self.labels = labels.requirements
        self.name = ""
        self.node = ""
        self.assigned = False
        """Only pods that have a node: what a process of many nodes watches."""
        rest: list[Requirement] = []
        for term in fields.requirements:
            value = next(iter(term.values)) if term.operator == "in" else ""
            if term.key == "metadata.namespace" and value and not namespace:
                self.namespace = value
            elif term.key == "metadata.name" and value and not self.name:
                self.name = value
            elif term.key == "spec.nodeName" and value and not self.node:
                self.node = value
            elif (
                term.key == "spec.nodeName" and term.operator == "notin" and term.values == _NO_NODE
            ):
                self.assigned = True
            else:
                rest.append(term)
        self.fields = tuple(rest)

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.namespace, self.labels, self.fields, self.name, self.node, self.assigned)

    @property
    def everything(self) -> bool:
        """Whether no selector is given (the namespace aside)."""
        return not (self.labels or self.fields or self.name or self.node or self.assigned)

    def matches(self, entry: Entry, kind: ServedKind) -> bool:
        if self.namespace and entry.namespace != self.namespace:
            return False
        if self.name and entry.name != self.name:
            return False
        if self.node and entry.node != self.node:
            return False
        if self.assigned and not entry.node:
            return False
        if self.labels:
            labels = entry.labels
            for requirement in self.labels:
                if not requirement.matches(labels):
                    return False
        if self.fields:
            values = entry.fields(kind)
            return all(term.matches(values) for term in self.fields)
        return True


class KindCache:
    """All objects of one kind."""

    def __init__(self, kind: ServedKind, config: ServerConfig) -> None:
        self.kind = kind
        self.prefix = codec.storage_prefix(kind)
        self.head = len(codec.head_of(kind))
        self.pod = kind.plural == "pods" and not kind.group
        self._events_max = config.watch_ring_events_max
        self._bytes_max = config.watch_ring_bytes_max
        self.entries: dict[str, Entry] = {}
        self.listeners: list[Callable[[CacheEvent], None]] = []
        self._by_label: dict[tuple[str, str], dict[str, None]] = {}
        self._by_node: dict[str, dict[str, None]] = {}
        self._by_owner: dict[str, dict[str, None]] = {}
        self._ring: deque[CacheEvent] = deque()
        self._ring_bytes = 0
        self._order: list[str] = []
        self._order_stale = False
        self.floor = 0
        """Changes after this revision are in the ring; watches from before it are too old."""
        self.changed = 0
        """Revision of the latest change."""

    def become(self, kind: ServedKind) -> None:
        """The kind's definition has changed; the objects stay."""
        self.kind = kind
        for entry in self.entries.values():
            entry.forget_fields()

    def load(self, rows: Iterable[Row], revision: int) -> None:
        """Replace everything by the store's present rows."""
        self.entries = {}
        self._by_label, self._by_node, self._by_owner = {}, {}, {}
        self._ring.clear()
        self._ring_bytes = 0
        self.floor = self.changed = revision
        cut = len(self.prefix)
        for row in rows:
            entry = Entry(row.key[cut:], row.value, row.revision, pod=self.pod)
            self.entries[entry.key] = entry
            self._index(entry)
        self._order = sorted(self.entries)
        self._order_stale = False

    def apply(self, event: Event) -> CacheEvent | None:
        """One change of the log. None if it is older than what is here already."""
        row = event.row
        if row.revision <= self.changed:
            return None
        key = row.key[len(self.prefix) :]
        previous = self.entries.get(key)
        entry = Entry(key, row.value, row.revision, pod=self.pod)
        if previous is not None:
            self._unindex(previous)
        if event.change is Change.DELETE:
            self.entries.pop(key, None)
            self._order_stale = True
        else:
            self.entries[key] = entry
            self._index(entry)
            if previous is None:
                self._order.append(key)
                self._order_stale = True
        self.changed = row.revision
        happened = CacheEvent(event.change, entry, previous, row.revision)
        self._remember(happened)
        return happened

    def _remember(self, event: CacheEvent) -> None:
        self._ring.append(event)
        self._ring_bytes += len(event.entry.value)
        while len(self._ring) > self._events_max or self._ring_bytes > self._bytes_max:
            dropped = self._ring.popleft()
            self._ring_bytes -= len(dropped.entry.value)
            self.floor = dropped.revision

    def _index(self, entry: Entry) -> None:
        key = entry.key
        for pair in entry.labels.items():
            self._by_label.setdefault(pair, {})[key] = None
        if entry.node:
            self._by_node.setdefault(entry.node, {})[key] = None
        for uid in entry.owners:
            self._by_owner.setdefault(uid, {})[key] = None

    def _unindex(self, entry: Entry) -> None:
        for pair in entry.labels.items():
            _discard(self._by_label, pair, entry.key)
        if entry.node:
            _discard(self._by_node, entry.node, entry.key)
        for uid in entry.owners:
            _discard(self._by_owner, uid, entry.key)

    def ordered(self, namespace: str = "") -> list[str]:
        """The keys in list order, of one namespace or of all."""
        if self._order_stale:
            entries = self.entries
            self._order = sorted(key for key in dict.fromkeys(self._order) if key in entries)
            self._order_stale = False
        if not namespace:
            return self._order
        low = bisect_left(self._order, f"{namespace}/")
        return self._order[low : bisect_left(self._order, f"{namespace}0")]

    def select(self, selection: Selection) -> list[Entry]:
        """The matching entries in list order, by the narrowest index."""
        entries, kind = self.entries, self.kind
        if selection.everything:
            keys = self.ordered(selection.namespace)
            return [entries[key] for key in keys]
        candidates = self._candidates(selection)
        return [
            entry
            for key in candidates
            if (entry := entries.get(key)) is not None and selection.matches(entry, kind)
        ]

    def _candidates(self, selection: Selection) -> Iterable[str]:
        if selection.name and (selection.namespace or not self.kind.namespaced):
            return (f"{selection.namespace}/{selection.name}",)
        best: dict[str, None] | None = None
        if selection.node:
            best = self._by_node.get(selection.node, {})
        for term in selection.labels:
            if term.operator == "in" and len(term.values) == 1:
                found = self._by_label.get((term.key, next(iter(term.values))), {})
                if best is None or len(found) < len(best):
                    best = found
        return self.ordered(selection.namespace) if best is None else sorted(best)

    def on_node(self, node: str) -> list[Entry]:
        """The pods of a node."""
        return [self.entries[key] for key in self._by_node.get(node, ())]

    def labelled(self, label: str, value: str) -> list[Entry]:
        """The objects with this label."""
        return [self.entries[key] for key in self._by_label.get((label, value), ())]

    def owned_by(self, uid: str) -> list[Entry]:
        """The objects that name an owner with this uid."""
        return [self.entries[key] for key in self._by_owner.get(uid, ())]

    def since(self, revision: int) -> list[CacheEvent] | None:
        """The changes after `revision`, oldest first; None if the ring no longer reaches back."""
        if revision < self.floor:
            return None
        found: list[CacheEvent] = []
        for event in reversed(self._ring):
            if event.revision <= revision:
                break
            found.append(event)
        found.reverse()
        return found

    def state_at(self, revision: int) -> dict[str, Entry] | None:
        """All entries as of `revision`; None if the ring no longer reaches back. Not to be changed."""
        if revision >= self.changed:
            return self.entries
        events = self.since(revision) if revision > self.floor else None
        if events is None:
            return None
        state = dict(self.entries)
        for event in reversed(events):
            if event.previous is None:
                state.pop(event.entry.key, None)
            else:
                state[event.entry.key] = event.previous
        return state


class WatchCache:
    """The caches of all kinds and the task that feeds them."""

    def __init__(self, store: Store, kinds: Iterable[ServedKind], config: ServerConfig) -> None:
        self._store = store
        self._config = config
        self._kinds = {
            codec.storage_prefix(kind): KindCache(kind, config)
            for kind in kinds
            if kind.storable and kind.stored_as is None
        }
        self._tasks = TaskOwner()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.revision = 0
        """Everything up to this revision has been applied."""
        self.on_batch: list[Callable[[], None]] = []
        """Called after each batch of changes: watchers are flushed."""
        self.on_reset: list[Callable[[], None]] = []
        """Called when continuity was lost: watchers must start again."""
        self.on_load: list[Callable[[], None]] = []
        """Called when everything was read from the store: at the start, and when continuity was lost."""

    def of(self, kind: ServedKind) -> KindCache:
        """The cache of a kind that is stored. Raises NotFound where a dynamic kind is gone meanwhile."""
        found = self._kinds.get(codec.storage_prefix(kind))
        if found is None:
            raise NotFound("the server could not find the requested resource", details={})
        return found

    def all(self) -> Iterable[KindCache]:
        return tuple(self._kinds.values())

    def add(self, kind: ServedKind) -> KindCache:
        """Hold a kind from now on, as the store has it."""
        cache = KindCache(kind, self._config)
        cache.load(self._store.list(cache.prefix).rows, self._store.current_revision())
        self._kinds[cache.prefix] = cache
        return cache

    def remove(self, kind: ServedKind) -> None:
        """Hold a kind no more."""
        del self._kinds[codec.storage_prefix(kind)]

    async def start(self) -> None:
        """Load everything, then follow."""
        await self._store.barrier()
        self._load()
        _ = self._tasks.spawn(self._follow(), "watch-cache")

    async def stop(self) -> None:
        await self._tasks.close()

    def _load(self) -> None:
        revision = self._store.current_revision()
        for prefix, cache in tuple(self._kinds.items()):
            cache.load(self._store.list(prefix).rows, revision)
        self._advance(revision)
        for loaded in self.on_load:
            loaded()

    async def _follow(self) -> None:
        while True:
            watch = self._store.watch(codec.REGISTRY, self.revision)
            try:
                async for batch in watch:
                    self._apply(batch)
                return
            except Compacted:
                log.warning("watch cache fell behind the log and reads everything again")
                self._load()
                for reset in self.on_reset:
                    reset()
            finally:
                watch.close()

    def _apply(self, batch: Sequence[Event]) -> None:
        for event in batch:
            _, _, group, plural, _ = event.row.key.split("/", 4)
            cache = self._kinds.get(f"/registry/{group}/{plural}/")
            if cache is None:
                continue
            happened = cache.apply(event)
            if happened is not None:
                for listener in cache.listeners:
                    listener(happened)
        self._advance(batch[-1].row.revision)
        for flush in self.on_batch:
            flush()

    def _advance(self, revision: int) -> None:
        self.revision = revision
        if self._waiters:
            due = [waiter for waiter in self._waiters if waiter[0] <= revision]
            self._waiters = [waiter for waiter in self._waiters if waiter[0] > revision]
            for _, future in due:
                if not future.done():
                    future.set_result(None)

    async def wait_for(self, revision: int, timeout_s: float = GAP_WAIT_S) -> bool:
        """Wait until `revision` has been applied. False after `timeout_s`."""
        if self.revision >= revision:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, future))
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return self.revision >= revision
        finally:
            self._waiters = [waiter for waiter in self._waiters if waiter[1] is not future]
        return True

    async def fresh(self) -> int:
        """Wait until everything committed before this call is here; the revision then.

        While the database is away, what is here is all there is to know: readers are answered, and warned.
        """
        try:
            revision = await self._store.barrier()
        except StoreUnavailable:
            return self.revision
        if self.revision < revision and not await self.wait_for(revision):
            # the newest revisions are gaps: a write that lost its race took a number and left no row
            self._advance(max(revision, self.revision))
        return self.revision


def _discard(index: dict[Any, dict[str, None]], key: Any, member: str) -> None:
    members = index.get(key)
    if members is not None:
        members.pop(member, None)
        if not members:
            del index[key]
