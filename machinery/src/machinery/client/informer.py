"""A live local copy of one kind of object: LIST, then WATCH, then LIST again whenever the thread was lost.

Readers get typed views out of memory and handlers hear of every difference, also of those that fell between two
lists: after a 410 the new list is compared with the copy, and what is missing from it is reported as deleted. An
object that was deleted and created anew under its name is reported as both. A handler runs in place, inside the event;
it should do no more than put a key into a queue.

Documents of a server in the same process are held packed (`interface.Packed`) and decoded when they are asked for: the
server has their bytes anyway, and decoded they are four times as big. Two readings may so give two equal documents.

Handlers are level-triggered: intermediate versions may be skipped, the last one never is. The copy may lag behind the
server; `resource_version` tells how far it is, which `controller.expectations` relies on.
"""

import asyncio
import builtins
import logging
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

from machinery.client.interface import (
    Client,
    EventType,
    Listing,
    ListOptions,
    Packed,
    WatchEvent,
)
from machinery.client.objects import key_of, status_of, uid_of, version_of
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.kit.metrics import METRICS
from machinery.meta.errors import (
    Expired,
    ServiceUnavailable,
    StatusError,
    Timeout,
    TooManyRequests,
)
from machinery.meta.resource import Document, ObjectKey, Resource

log = logging.getLogger(__name__)
T = TypeVar("T")

Handler = Callable[[T | None, T | None], None]
"""(old, new): (None, new) was created, (old, new) changed, (old, None) is gone."""

RETRY_BACKOFF = Backoff(base_s=0.2, cap_s=6.0, jitter=0.5)
"""Short: after a healed cut the copy is behind by at most so long. A server that comes back is shielded by the jitter."""
SHORT_WATCH_S = 1.0
"""A watch that ends sooner and brought nothing counts as a failure: otherwise a confused server is hammered."""

_KEEP_POSITION = (ConnectionError, TimeoutError, TooManyRequests, ServiceUnavailable, Timeout)

RELISTS = METRICS.counter("informer_lists_total", "Full lists made.", ["resource"])
EVENTS = METRICS.counter("informer_events_total", "Watch events taken.", ["resource"])


class _Index(Generic[T]):
    """value -> the keys of the objects that have it, in the order in which they came to have it.

    What an object is filed under is kept: most changes leave it as it is, and then there is nothing to do.
    """

    def __init__(self, keys_of: Callable[[T], Iterable[Hashable]]) -> None:
        self._keys_of = keys_of
        self._keys: dict[Hashable, ObjectKey | dict[ObjectKey, None]] = {}
        """One key stands by itself: most indexes are of what only one object has, and a dict is five times as big."""
        self._values: dict[ObjectKey, tuple[Hashable, ...]] = {}

    def put(self, key: ObjectKey, new: T | None) -> None:
        held = self._values.get(key, ())
        values = tuple(self._keys_of(new)) if new is not None else ()
        if values == held:
            return
        for value in held:
            self._take_out(value, key)
        if not values:
            del self._values[key]
            return
        self._values[key] = values
        for value in values:
            self._put_in(value, key)

    def _put_in(self, value: Hashable, key: ObjectKey) -> None:
        bucket = self._keys.get(value)
        if bucket is None:
            self._keys[value] = key
        elif isinstance(bucket, dict):
            bucket[key] = None
        elif bucket != key:
            self._keys[value] = {bucket: None, key: None}

    def _take_out(self, value: Hashable, key: ObjectKey) -> None:
        bucket = self._keys.get(value)
        if isinstance(bucket, dict):
            bucket.pop(key, None)
        if not bucket or bucket == key:
            self._keys.pop(value, None)

    def get(self, value: Hashable) -> Iterable[ObjectKey]:
        bucket = self._keys.get(value, ())
        return (bucket,) if isinstance(bucket, ObjectKey) else bucket


class Informer(Generic[T]):
    """The copy of one resource, maybe of one namespace or selector only."""

    def __init__(
        self,
        client: Client,
        resource: Resource[T],
        clock: Clock,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        backoff: Backoff = RETRY_BACKOFF,
        roll: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.resource = resource
        self._client, self._clock, self._namespace = client, clock, namespace
        self._labels, self._fields = label_selector, field_selector
        self._backoff, self._roll = backoff, roll
        self._objects: dict[str, dict[str, T | Packed]] = {}
        self._count = 0
        self._indexes: dict[str, _Index[T]] = {}
        self._handlers: list[Handler[T]] = []
        self._version = ""
        self._synced = asyncio.Event()
        self._must_list = True
        self._lists = RELISTS.labels(resource.group_resource)
        self._events = EVENTS.labels(resource.group_resource)

    # ------------------------------------------------------------------------------------------------ reading
    def get(self, key: ObjectKey) -> T | None:
        """The object as last heard of; never to be mutated."""
        names = self._objects.get(key.namespace)
        held = None if names is None else names.get(key.name)
        return None if held is None else _read(held)

    def status(self, key: ObjectKey) -> Document:
        """The status of a document, never to be mutated: of one that is packed nothing else is decoded. Empty: it has none."""
        held = self._objects.get(key.namespace, {}).get(key.name)
        found = held.status() if isinstance(held, Packed) else status_of(held)
        return found or {}

    def list(self, namespace: str = "") -> builtins.list[T]:
        """All objects, or those of one namespace."""
        if namespace:
            return [_read(held) for held in self._objects.get(namespace, {}).values()]
        return [_read(held) for names in self._objects.values() for held in names.values()]

    def __len__(self) -> int:
        return self._count

    def by_index(self, name: str, value: Hashable) -> builtins.list[T]:
        """The objects for which the index function gave `value`."""
        return [
            _read(self._objects[key.namespace][key.name]) for key in self._indexes[name].get(value)
        ]

    @property
    def synced(self) -> bool:
        """Whether the first list has been taken in, handlers included."""
        return self._synced.is_set()

    @property
    def resource_version(self) -> str:
        """The revision that the copy has reached; empty before the first list."""
        return self._version

    async def wait_synced(self) -> None:
        """Return once `synced`."""
        await self._synced.wait()

    # ----------------------------------------------------------------------------------------------- wiring up
    def add_index(self, name: str, keys_of: Callable[[T], Iterable[Hashable]]) -> None:
        """Keep `by_index(name, …)`; adding the same name again is allowed and changes nothing."""
        if name in self._indexes:
            return
        index = self._indexes[name] = _Index(keys_of)
        for item in self.list():
            index.put(key_of(item), item)

    def on_change(self, handler: Handler[T]) -> None:
        """Call `handler` for every difference from now on, and at once for what is known already."""
        self._handlers.append(handler)
        for item in self.list():
            self._call(handler, None, item)

    # ------------------------------------------------------------------------------------------------- running
    async def run(self) -> None:
        """Keep the copy fresh until cancelled."""
        failures = 0
        while True:
            before, started = self._version, self._clock.monotonic()
            broke = await self._list_and_watch()
            progress = self._version != before
            short = self._clock.monotonic() - started < SHORT_WATCH_S
            if broke or (short and not progress):
                failures = 1 if progress else failures + 1
                await self._clock.sleep(self._backoff.delay(failures, self._roll))
            else:
                failures = 0

    async def _list_and_watch(self) -> bool:
        """One list, where needed, and one watch; whether it broke off and deserves a pause."""
        try:
            if self._must_list:
                await self.list_once()
            await self._watch()
        except (StatusError, ConnectionError, TimeoutError) as error:
            self._on_error(error)
            return not isinstance(error, Expired)
        return False

    async def list_once(self) -> None:
        """One full list, compared with the copy. The unit of work of a `--once` pass."""
        self._lists.inc()
        options = ListOptions(label_selector=self._labels, field_selector=self._fields, packed=True)
        listing = await self._client.list(self.resource, self._namespace, options)
        items = list(listing.items)
        while listing.continue_:
            listing = await self._next_page(listing)
            items += listing.items
        self._replace(items)
        self._version = listing.resource_version
        self._must_list = False
        self._synced.set()

    async def _next_page(self, listing: Listing[T]) -> Listing[T]:
        options = ListOptions(
            label_selector=self._labels,
            field_selector=self._fields,
            continue_=listing.continue_,
            packed=True,
        )
        return await self._client.list(self.resource, self._namespace, options)

    async def _watch(self) -> None:
        options = ListOptions(
            label_selector=self._labels,
            field_selector=self._fields,
            resource_version=self._version,
            packed=True,
        )
        async for event in self._client.watch(self.resource, self._namespace, options):
            self._take(event)

    def _on_error(self, error: Exception) -> None:
        self._must_list = self._must_list or not isinstance(error, _KEEP_POSITION)
        extra = {
            "resource": self.resource.group_resource,
            "resource_version": self._version,
            "error": str(error) or type(error).__name__,
        }
        if isinstance(error, Expired):
            log.info("watch expired, listing again", extra=extra)
        else:
            log.warning("list or watch failed", extra=extra)

    # -------------------------------------------------------------------------------------------- taking it in
    def _take(self, event: WatchEvent[T]) -> None:
        if event.type is not EventType.BOOKMARK:
            self._events.inc()
            key = _key_of(event.object)
            self._put(key, None if event.type is EventType.DELETED else event.object)
        self._version = event.resource_version or self._version

    def _replace(self, items: Iterable[T]) -> None:
        if not self._objects:
            for item in items:
                self._fill(_key_of(item), item)
            return
        fresh = {_key_of(item): item for item in items}
        held = [ObjectKey(space, name) for space, names in self._objects.items() for name in names]
        gone = [key for key in held if key not in fresh]
        for key in gone:
            self._put(key, None)
        for key, item in fresh.items():
            self._put(key, item)

    def _fill(self, key: ObjectKey, given: T | Packed) -> None:
        """One of a list while the copy is empty: with what nobody knows yet nothing is compared."""
        names = self._objects.get(key.namespace)
        if names is None:
            names = self._objects[key.namespace] = {}
        elif key.name in names:  # a handler has listed meanwhile
            self._put(key, given)
            return
        names[key.name] = given
        self._count += 1
        if isinstance(given, Packed) and not self._indexes and not self._handlers:
            return
        new = _read(given)
        for index in self._indexes.values():
            index.put(key, new)
        self._notify(None, new)

    def _put(self, key: ObjectKey, given: T | Packed | None) -> None:
        held = self._objects.get(key.namespace, {}).get(key.name)
        if isinstance(held, Packed) and isinstance(given, Packed) and held.version == given.version:
            return  # of one process and so of one store, where a revision is one state of one object
        if isinstance(given, Packed) and not self._indexes and not self._handlers:
            self._objects.setdefault(key.namespace, {})[key.name] = given
            self._count += held is None
            return  # nobody has asked yet what changes, so that nothing is decoded to find it out
        old = None if held is None else _read(held)
        if given is None:
            if old is not None:
                self._drop(key, old)
            return
        new = _read(given)
        if old is not None and uid_of(old) != uid_of(new):
            self._drop(key, old)
            old = None
        elif old is not None and version_of(old) == version_of(new) != "":
            return
        self._objects.setdefault(key.namespace, {})[key.name] = given
        self._count += old is None
        for index in self._indexes.values():
            index.put(key, new)
        self._notify(old, new)

    def _drop(self, key: ObjectKey, old: T) -> None:
        names = self._objects[key.namespace]
        del names[key.name]
        if not names:
            del self._objects[key.namespace]
        self._count -= 1
        for index in self._indexes.values():
            index.put(key, None)
        self._notify(old, None)

    def _notify(self, old: T | None, new: T | None) -> None:
        for handler in self._handlers:
            self._call(handler, old, new)

    def _call(self, handler: Handler[T], old: T | None, new: T | None) -> None:
        try:
            handler(old, new)
        except Exception:  # noqa: BLE001 - one handler's fault must not stop the copy or its other handlers
            extra: dict[str, Any] = {"resource": self.resource.group_resource}
            log.exception("informer handler failed", extra=extra)


def _read(held: T | Packed) -> T:
    """The object itself; only informers of documents hold packed ones."""
    if isinstance(held, Packed):
        found: Any = held.read()
        return found  # type: ignore[no-any-return]
    return held


def _key_of(item: Any) -> ObjectKey:
    return item.key if isinstance(item, Packed) else key_of(item)
