"""The in-process client: the interface of the HTTP client without the wire, and the writer of mirrors.

Reads hand out typed views that are decoded once per state and shared by everybody in the process; writes take the same
way through admission, validation and field managers as over HTTP. A document given to a write is copied first, so the
caller may do with it what it likes.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import msgspec
import orjson

from machinery.api.scheme import Scheme, ServedKind
from machinery.client.interface import (
    DeleteOptions,
    EventType,
    Listing,
    ListOptions,
    Packed,
    PatchType,
    WatchEvent,
)  # fmt: skip
from machinery.kit.clock import rfc3339
from machinery.meta import errors
from machinery.meta.objectmeta import Object, ObjectMeta
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server import codec, faces, patching, render
from machinery.server.authz import Authorizer
from machinery.server.cache import Entry, KindCache
from machinery.server.call import Call, Deletion, Intercepted, Interceptor
from machinery.server.computed import ComputedKinds
from machinery.server.listing import Lister, ListQuery, parse_revision, selection_of, wait_until
from machinery.server.rbac import Attributes
from machinery.server.registry import Registry
from machinery.server.request import RequestInfo
from machinery.server.scale import SCALE, scale_of, scaled
from machinery.server.stored import Stored, unavailable
from machinery.server.subresources import Subresources
from machinery.server.unpacked import Unpacked
from machinery.server.user import MASTERS, UserInfo
from machinery.server.watch import BOOKMARK, LocalWatcher, Watches, classify, too_old
from machinery.server.webhooks.conversion import converting, converts, outward_all
from machinery.store.interface import (
    Durability,
    KeyExists,
    KeyNotFound,
    RevisionMismatch,
    Store,
    StoreUnavailable,
)

T = TypeVar("T")
ANNOTATIONS: ContextVar[dict[str, str] | None] = ContextVar("annotations", default=None)
"""What admission tells of the write that is under way goes there."""
_EVERYTHING, _AS_USUAL = ListOptions(), DeleteOptions()
LOCAL_LAG_EVENTS_MAX = 200_000
DECODE_SEGMENT = 500


class Local:
    """What all in-process clients of a server share."""

    def __init__(
        self,
        scheme: Scheme,
        registry: Registry,
        lister: Lister,
        watches: Watches,
        subresources: Subresources,
        authorizer: Authorizer,
        interceptors: Mapping[tuple[str, str, str], Interceptor],
        computed: ComputedKinds,
    ) -> None:
        self.scheme = scheme
        self.registry = registry
        self.lister = lister
        self.watches = watches
        self.subresources = subresources
        self.authorizer = authorizer
        self.interceptors = dict(interceptors)
        self.computed = computed
        self.decode = Unpacked().document


class LocalClient:
    """A Client bound to one user."""

    def __init__(self, local: Local, user: UserInfo, manager: str) -> None:
        self._local = local
        self._user = user
        self._manager = manager

    # ------------------------------------------------------------------------------------------------- reading
    async def get(self, resource: Resource[T], key: ObjectKey, *, subresource: str = "") -> T:
        kind = self._kind(resource)
        self._check("get", kind, key, subresource)
        if kind.computed:
            given = await self._local.computed.get(kind, key.namespace, key.name)
            return self._read(resource, given)
        found = await self._local.registry.get(self._stored_kind(kind), key.namespace, key.name)
        if subresource == "scale":
            whole = await self._local.registry.shown(kind, found)
            return self._read(resource, scale_of(kind, whole))
        return await self._shown(resource, kind, found, key)

    async def list(
        self, resource: Resource[T], namespace: str = "", options: ListOptions = _EVERYTHING
    ) -> Listing[T]:
        kind = self._kind(resource)
        self._check("list", kind, ObjectKey(namespace, ""))
        selection = selection_of(kind, namespace, options.label_selector, options.field_selector)
        if kind.computed:
            given = await self._local.computed.list(kind, selection)
            made = [self._read(resource, document) for document in given.items]
            return Listing(made, "", warnings=given.warnings)
        cache = self._cache(kind)
        query = ListQuery(
            selection, options.resource_version, options.resource_version_match, options.limit,
            options.continue_,
        )  # fmt: skip
        page = await self._local.lister.page(cache, query)
        items: list[T] = []
        waits = _waits(kind, resource)
        packed = self._packs(resource, kind, cache, options)
        for number, entry in enumerate(page.entries):
            if number % DECODE_SEGMENT == DECODE_SEGMENT - 1:
                await asyncio.sleep(0)
            if waits:
                if number % DECODE_SEGMENT == 0:
                    segment = page.entries[number : number + DECODE_SEGMENT]
                    _ = await outward_all(kind, [one.document() for one in segment])
                items.append(
                    await self._item(resource, kind, cache, entry, entry.revision, options)
                )
            elif packed:
                items.append(cast("T", Packed(entry, self._local.decode)))
            else:
                items.append(self._entry_view(resource, kind, cache, entry, entry.revision))
        return Listing(items, str(page.revision), page.continue_)

    @staticmethod
    def _packs(
        resource: Resource[Any], kind: ServedKind, cache: KindCache, options: ListOptions
    ) -> bool:
        """Whether documents are handed out as the bytes that they are stored as."""
        return (
            options.packed
            and resource.view is dict
            and kind is cache.kind
            and kind.dynamic is None
            and render.view_of(kind) is None
        )

    async def watch(
        self, resource: Resource[T], namespace: str = "", options: ListOptions = _EVERYTHING
    ) -> AsyncIterator[WatchEvent[T]]:
        kind = self._kind(resource)
        self._check("watch", kind, ObjectKey(namespace, ""))
        cache = self._cache(kind)
        selection = selection_of(kind, namespace, options.label_selector, options.field_selector)
        start = parse_revision(options.resource_version) if options.resource_version else 0
        if start:
            await wait_until(self._local.registry.cache, start)
        else:
            await self._local.registry.cache.fresh()
        hub = self._local.watches.hub(cache.kind)
        local = LocalWatcher(cache, selection, LOCAL_LAG_EVENTS_MAX)
        self._prefill(local, cache, start)
        hub.attach(local)
        try:
            while True:
                await local.wait()
                while local.queue:
                    name, entry, revision = local.queue.popleft()
                    yield await self._event(resource, kind, cache, name, entry, revision, options)
                if local.expired is not None:
                    raise local.expired
                if local.closed:
                    return
        finally:
            hub.detach(local)

    def _prefill(self, local: LocalWatcher, cache: KindCache, start: int) -> None:
        """What happened since `start`, or what is there; nothing may come between this and joining the hub."""
        if not start:
            for entry in cache.select(local.selection):
                local.push("ADDED", entry, entry.revision)
            return
        past = cache.since(start)
        if past is None:
            raise too_old(start, cache.floor)
        for event in past:
            seen = classify(local.selection, event, cache.kind)
            if seen is not None:
                local.push(seen[0], seen[1], event.revision)

    async def _event(
        self,
        resource: Resource[T],
        kind: ServedKind,
        cache: KindCache,
        name: str,
        entry: Entry | None,
        revision: int,
        options: ListOptions,
    ) -> WatchEvent[T]:
        if name == BOOKMARK or entry is None:
            mark = Object(metadata=ObjectMeta(resource_version=str(revision)))
            return WatchEvent(EventType.BOOKMARK, cast("T", mark), str(revision))
        item = await self._item(resource, kind, cache, entry, revision, options)
        return WatchEvent(EventType(name), item, str(revision))

    async def _item(
        self,
        resource: Resource[T],
        kind: ServedKind,
        cache: KindCache,
        entry: Entry,
        revision: int,
        options: ListOptions,
    ) -> T:
        if revision == entry.revision and self._packs(resource, kind, cache, options):
            return cast("T", Packed(entry, self._local.decode))
        if not _waits(kind, resource):
            return self._entry_view(resource, kind, cache, entry, revision)
        return await converting(lambda: self._entry_view(resource, kind, cache, entry, revision))

    # ------------------------------------------------------------------------------------------------- writing
    async def create(
        self,
        resource: Resource[T],
        document: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> T:
        kind = self._kind(resource)
        copy = _copy(document)
        namespace = namespace or (copy.get("metadata") or {}).get("namespace") or ""
        self._check("create", kind, ObjectKey(namespace, name), subresource)
        call = self._call()
        if subresource:
            return self._read(
                resource, await self._post(kind, copy, namespace, name, subresource, call)
            )
        if not kind.storable:
            answer = await self._local.subresources.review(kind, copy, namespace, call)
            return self._read(resource, answer)
        into = self._stored_kind(kind)
        copy = faces.inward(kind, copy)
        stored = await self._local.registry.create(into, copy, namespace, call)
        return await self._shown(resource, kind, stored)

    async def _post(
        self,
        kind: ServedKind,
        document: Document,
        namespace: str,
        name: str,
        subresource: str,
        call: Call,
    ) -> Document:
        sub = kind.subresource(subresource)
        if sub is None or "create" not in sub.verbs:
            raise errors.MethodNotAllowed(
                "the server does not allow this method on the requested resource", details={}
            )
        info = RequestInfo(
            "POST", "", {}, "create", True, kind.group, kind.version, kind.plural, subresource,
            namespace, name,
        )  # fmt: skip
        body = orjson.dumps(document)
        return await self._local.subresources.post(kind, sub, info, body, "application/json", call)

    async def update(
        self, resource: Resource[T], document: Mapping[str, Any], *, subresource: str = ""
    ) -> T:
        kind = self._kind(resource)
        copy = _copy(document)
        metadata = copy.get("metadata") or {}
        key = ObjectKey(metadata.get("namespace") or "", metadata.get("name") or "")
        self._check("update", kind, key, subresource)
        registry, call = self._local.registry, self._call()
        if subresource == "scale":
            stored = await registry.change(
                kind, key.namespace, key.name,
                lambda live: scaled(kind, live, copy, key.name), call, "scale",
            )  # fmt: skip
            return self._read(resource, scale_of(kind, await registry.shown(kind, stored)))
        into = self._stored_kind(kind)
        copy = faces.inward(kind, copy)
        stored = await registry.update(into, copy, key.namespace, key.name, call, subresource)
        return await self._shown(resource, kind, stored, key)

    async def patch(
        self,
        resource: Resource[T],
        key: ObjectKey,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        *,
        subresource: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> T:
        kind = self._kind(resource)
        self._check("patch", kind, key, subresource)
        call = self._call()
        call.dry_run = dry_run
        body = _encode(patch)
        registry = self._local.registry
        into = self._stored_kind(kind)
        if patch_type is PatchType.APPLY:
            stored = await self._apply(kind, key, body, call, subresource, force=force)
            return await self._shown(resource, kind, stored, key)
        if subresource == "scale":
            make = patching.patcher(SCALE, patch_type.value, body, key.name, call)
            stored = await registry.change(
                kind, key.namespace, key.name,
                lambda live: scaled(kind, live, make(scale_of(kind, live)), key.name), call, "scale",
            )  # fmt: skip
            return self._read(resource, scale_of(kind, await registry.shown(kind, stored)))
        make = faces.through(kind, patching.patcher(kind, patch_type.value, body, key.name, call))
        stored = await registry.change(into, key.namespace, key.name, make, call, subresource)
        return await self._shown(resource, kind, stored, key)

    async def _apply(
        self,
        kind: ServedKind,
        key: ObjectKey,
        body: bytes,
        call: Call,
        subresource: str,
        *,
        force: bool,
    ) -> Stored:
        registry = self._local.registry
        query = {"fieldManager": [self._manager]}
        info = RequestInfo("PATCH", "", query, "patch", name=key.name, namespace=key.namespace)
        applied = faces.inward(kind, self._local.subresources.applied(kind, body, info, call))
        into = self._stored_kind(kind)
        time = rfc3339(registry.clock.now())
        make = patching.applier(into, applied, call, force, time, subresource)
        try:
            return await registry.change(
                into, key.namespace, key.name, make, call, subresource, manage=False
            )
        except errors.NotFound:
            if subresource:
                raise
        return await registry.create(into, make(None), key.namespace, call, manage=False)

    async def delete(
        self, resource: Resource[Any], key: ObjectKey, options: DeleteOptions = _AS_USUAL
    ) -> None:
        kind = self._kind(resource)
        self._check("delete", kind, key)
        interceptor = self._local.interceptors.get(("delete", kind.group, kind.plural))
        if interceptor is not None:
            body = orjson.dumps(
                {"gracePeriodSeconds": options.grace_period_seconds}
                if options.grace_period_seconds is not None
                else {}
            )
            asked = Intercepted(
                "delete",
                kind,
                key.namespace,
                key.name,
                "",
                self._user,
                {},
                body,
                "application/json",
            )
            if await interceptor(asked) is not None:
                return
        await self._local.registry.deleter.delete(
            self._stored_kind(kind), key.namespace, key.name,
            Deletion(
                options.grace_period_seconds, options.propagation_policy or "", options.uid or "",
                options.resource_version or "",
            ),
            self._call(),
        )  # fmt: skip

    async def close(self) -> None:
        return None

    # ------------------------------------------------------------------------------------------------- helpers
    def _kind(self, resource: Resource[Any]) -> ServedKind:
        kind = self._local.scheme.by_plural(resource.group, resource.version, resource.plural)
        if kind is None:
            raise errors.NotFound("the server could not find the requested resource", details={})
        return kind

    def _stored_kind(self, kind: ServedKind) -> ServedKind:
        return self._local.scheme.stored(kind)

    def _cache(self, kind: ServedKind) -> KindCache:
        return self._local.registry.cache.of(self._stored_kind(kind))

    def _check(self, verb: str, kind: ServedKind, key: ObjectKey, subresource: str = "") -> None:
        if MASTERS not in self._user.groups:
            asked = Attributes(verb, kind.group, kind.plural, subresource, key.namespace, key.name)
            self._local.authorizer.check(self._user, asked)

    def _call(self) -> Call:
        call = Call(self._user, self._manager, field_validation="Ignore")
        if (notes := ANNOTATIONS.get()) is not None:
            call.annotations = notes
        return call

    def _entry_view(
        self, resource: Resource[T], kind: ServedKind, cache: KindCache, entry: Entry, revision: int
    ) -> T:
        view: Any = resource.view
        if view is dict or kind is not cache.kind or kind.dynamic is not None:
            document = codec.decode(entry.value, revision)
            change = _turn(kind, resource)
            return self._read(resource, change(document) if change is not None else document)
        if revision != entry.revision:
            raw = codec.splice(entry.value, revision, cache.head)
            return cast("T", msgspec.json.decode(raw, type=view))
        return cast("T", entry.view(view, cache.head))

    async def _shown(
        self, resource: Resource[T], kind: ServedKind, stored: Stored, key: ObjectKey | None = None
    ) -> T:
        if not _waits(kind, resource):
            return self._view(resource, kind, stored, key)
        return await converting(lambda: self._view(resource, kind, stored, key))

    def _view(
        self, resource: Resource[T], kind: ServedKind, stored: Stored, key: ObjectKey | None = None
    ) -> T:
        view: Any = resource.view
        change = _turn(kind, resource)
        if view is dict or change is not None:
            document = stored.read()
            return self._read(resource, change(document) if change is not None else document)
        if key is not None and (entry := self._watched(kind, stored, key)) is not None:
            return cast("T", entry.view(view, codec.head_size(kind)))
        return cast("T", msgspec.json.decode(stored.wire(), type=view))

    def _watched(self, kind: ServedKind, stored: Stored, key: ObjectKey) -> Entry | None:
        """What was stored, as the watch cache has it, where somebody in this process watches the kind and decodes it anyway."""
        cache = self._cache(kind)
        if kind is not cache.kind or not self._local.watches.hub(kind).locals:
            return None
        entry = cache.entries.get(f"{key.namespace}/{key.name}")
        if entry is None or entry.revision != stored.revision or entry.value != stored.value:
            return None
        return entry

    def _read(self, resource: Resource[T], document: Document) -> T:
        view: Any = resource.view
        if view is dict:
            return cast("T", document)
        return cast("T", msgspec.convert(document, view))


def _waits(kind: ServedKind, resource: Resource[Any]) -> bool:
    """Whether a webhook may have to be asked what an object looks like."""
    return converts(kind) and resource.view is not Object


def _turn(kind: ServedKind, resource: Resource[Any]) -> render.View | None:
    """How a stored document becomes what is read. Who looks at metadata alone needs no conversion, which leaves them alone but
    for labels and annotations: nobody is kept from collecting garbage by a webhook that is dead."""
    if kind.dynamic is None or resource.view is not Object:
        return render.view_of(kind)
    version = kind.api_version
    return lambda document: {**document, "apiVersion": version}


def _encode(document: Any) -> bytes:
    return orjson.dumps(document, default=msgspec.to_builtins)


def _copy(document: Mapping[str, Any]) -> Document:
    """A document of its own, in wire types: tuples and views become lists and dicts."""
    copy: Document = orjson.loads(_encode(document))
    return copy


class MirrorWriter:
    """Writes read-only images of others' objects: in RAM only, past admission, validation and garbage collection.

    Raises ServiceUnavailable while the store gives no revisions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, kind: ServedKind, document: Mapping[str, Any]) -> None:
        """Create or replace. Nothing happens if it is the same already."""
        copy = _copy(document)
        metadata = copy["metadata"]
        key = codec.storage_key(kind, metadata.get("namespace", ""), metadata["name"])
        value = codec.encode(kind, copy)
        while True:
            row = self._store.get(key)
            try:
                if row is None:
                    await self._store.create(key, value, Durability.MEMORY)
                elif row.value != value:
                    await self._store.update(key, value, row.revision, Durability.MEMORY)
            except (KeyExists, KeyNotFound, RevisionMismatch):
                continue
            except StoreUnavailable as error:
                raise unavailable(error) from error
            return

    async def remove(self, kind: ServedKind, key: ObjectKey) -> None:
        """Remove if it is there."""
        path = codec.storage_key(kind, key.namespace, key.name)
        while (row := self._store.get(path)) is not None:
            try:
                await self._store.delete(path, row.revision, None, Durability.MEMORY)
            except RevisionMismatch:
                continue
            except KeyNotFound:
                return
            except StoreUnavailable as error:
                raise unavailable(error) from error
            return
