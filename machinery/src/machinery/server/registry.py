"""The registry: create, get, update, patch and delete of stored objects, in the order upstream does them.

    create   default → record managers → admit → prepare → validate → store
    update   read → (patch) → default → record managers → admit → prepare → validate → store if anything changed
    delete   preconditions → grace and finalizers (deletion.py) → mark or remove

Managers are recorded of what the client asked for: nobody owns what admission and strategies add. Services are given
addresses and ports on the way, which nobody owns either; what was chosen is claimed round the write (services/).

Every write is a compare-and-swap on the row that was read. A request that names a resourceVersion loses with 409 when
the object has moved on; any other is tried again on the newer object. A write that changes nothing is not written.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from machinery.api import defaults, strategy
from machinery.api.quota import usage
from machinery.api.scheme import Scheme, ServedKind
from machinery.api.warnings import warnings_of
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server import codec, faces
from machinery.server.admission.interface import Admission, AdmissionRequest
from machinery.server.admission.matching import GROUP as REGISTRATION
from machinery.server.bursts import Bursts
from machinery.server.cache import WatchCache
from machinery.server.call import Call
from machinery.server.config import ServerConfig
from machinery.server.deletion import Deleter
from machinery.server.making import Maker, check_namespace
from machinery.server.quotas import Quotas
from machinery.server.rbac import GROUP as RBAC_GROUP
from machinery.server.services.addresses import AddressObjects
from machinery.server.services.allocator import AllocationLost, ServiceAllocator
from machinery.server.stored import Stored, unavailable
from machinery.server.unchanged import unchanged
from machinery.server.webhooks.conversion import converting
from machinery.store.interface import (
    Durability,
    KeyExists,
    KeyNotFound,
    RevisionMismatch,
    Row,
    Store,
    StoreUnavailable,
)

log = logging.getLogger(__name__)

GENERATED_TRIES = 8
ALLOCATION_TRIES = 16
CONFLICT_TRIES = 5
GENERATED_BASE_MAX = 58
Change = Callable[[Document], Document]
"""From the live object to the wanted one; called again when the live one has moved on."""
Begun = tuple[Document, asyncio.Future[Row]]
"""An object as it is being written, and the outcome."""
_SETTLED = (RBAC_GROUP, REGISTRATION)
"""What decides about others: a write is answered when it is in effect."""


class Registry:
    """All stored kinds of one server."""

    def __init__(
        self,
        store: Store,
        cache: WatchCache,
        scheme: Scheme,
        admission: Admission,
        config: ServerConfig,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self.store = store
        self.cache = cache
        self.scheme = scheme
        self.admission = admission
        self.clock = clock
        self.ids = ids
        self._heartbeat_namespaces = frozenset(config.heartbeat_namespaces)
        self.deleter = Deleter(self)
        self.bursts = Bursts()
        quotas = scheme.by_plural("", "v1", "resourcequotas")
        self.quotas = Quotas(self, None if quotas is None else cache.of(quotas), clock)
        self._services = scheme.by_plural("", "v1", "services")
        self.services = (
            ServiceAllocator(
                self._services, store, ids, config.service_cidr, config.node_ports,
                self._address_objects(), templates=config.service_templates,
            )
            if self._services is not None
            else None
        )  # fmt: skip
        self.maker = Maker(
            admission, self.services, self.bursts, clock, ids,
            track_managers=config.track_managed_fields,
        )  # fmt: skip

    def _address_objects(self) -> AddressObjects | None:
        """Claims as users see them, where the kinds are served."""
        addresses = self.scheme.by_plural("networking.k8s.io", "v1", "ipaddresses")
        cidrs = self.scheme.by_plural("networking.k8s.io", "v1", "servicecidrs")
        if addresses is None or cidrs is None:
            return None
        return AddressObjects(addresses, self.cache.of(cidrs), self.clock, self.ids)

    # ---------------------------------------------------------------------------------------------------- reads
    async def current(self) -> None:
        """Wait until every write that was committed anywhere is seen. Raises ServiceUnavailable."""
        try:
            await self.store.barrier()
        except StoreUnavailable as error:
            raise unavailable(error) from error

    async def row(self, kind: ServedKind, namespace: str, name: str) -> Row:
        """The newest committed row. Raises NotFound, ServiceUnavailable."""
        await self.current()
        return self._known(kind, namespace, name)

    def _known(self, kind: ServedKind, namespace: str, name: str) -> Row:
        row = self.store.get(codec.storage_key(kind, namespace, name))
        if row is None:
            raise errors.not_found(kind.plural, kind.group, name)
        return row

    async def get(self, kind: ServedKind, namespace: str, name: str) -> Stored:
        """The newest object; while the database is away the newest that is known here. Raises NotFound."""
        with contextlib.suppress(StoreUnavailable):
            await self.store.barrier()
        row = self._known(kind, namespace, name)
        return Stored(kind, row.value, row.revision)

    def stale(self) -> tuple[str, ...]:
        """What to warn readers of."""
        away = self.store.away
        return (f"{away}; this is what was known before",) if away else ()

    def peek(self, kind: ServedKind, namespace: str, name: str) -> Document | None:
        """The committed object without waiting; for admission and connects."""
        row = self.store.get(codec.storage_key(kind, namespace, name))
        return None if row is None else codec.decode(row.value, row.revision)

    # --------------------------------------------------------------------------------------------------- create
    async def create(
        self,
        kind: ServedKind,
        document: Document,
        namespace: str,
        call: Call,
        *,
        manage: bool = True,
    ) -> Stored:
        """POST to a collection. Raises AlreadyExists, Invalid, Forbidden …"""
        told = str((document.get("metadata") or {}).get("resourceVersion") or "")
        origin, document = document, self._begin(kind, document, namespace, call)
        generated = document["metadata"].get("generateName", "")
        named = bool(document["metadata"].get("name"))
        if kind is self._services:
            await self.current()
        for attempt in range(ALLOCATION_TRIES):
            final = await self.maker.created(
                kind, document, namespace, call, origin=origin, manage=manage
            )
            try:
                stored = await self._insert(kind, final, namespace, call)
            except KeyExists:
                if named or not generated or attempt >= GENERATED_TRIES - 1:
                    raise self._exists(kind, namespace, final) from None
            except AllocationLost as lost:
                log.debug("an address or port was taken by another", extra={"key": str(lost)})
            else:
                if call.dry_run and told.isdecimal():
                    stored.revision = int(told)
                return stored
        raise _never_free()

    def begin_create(
        self, kind: ServedKind, document: Document, namespace: str, call: Call
    ) -> Begun | None:
        """`create` without a task: what is written and its outcome, where nothing has to be waited for before.

        None where something has to, and nothing is done then. Raises StatusError as `create` does.
        """
        if kind is self._services or kind.group == RBAC_GROUP or call.dry_run:
            return None
        if self.quotas.concerns(kind, namespace):
            return None
        if self.maker.asks_outside("create", kind, namespace, "", "", call):
            return None
        begun = self._begin(kind, document, namespace, call)
        final = self.maker.final(self.maker.draft(kind, begun, namespace, call, origin=document))
        key = codec.storage_key(kind, namespace, final["metadata"]["name"])
        value = codec.encode(kind, final)
        write = self.store.begin_create(key, value, self.durability(kind, namespace))
        return None if write is None else (final, write)

    def begun(self, kind: ServedKind, document: Document, write: asyncio.Future[Row]) -> Row:
        """The row of a write that was begun and is done. Raises StatusError."""
        metadata = document["metadata"]
        try:
            return write.result()
        except KeyExists:
            raise self._exists(kind, metadata.get("namespace", ""), document) from None
        except RevisionMismatch:  # somebody else writes into the file
            raise errors.conflict(kind.plural, kind.group, metadata["name"]) from None
        except KeyNotFound:
            raise errors.not_found(kind.plural, kind.group, metadata["name"]) from None
        except StoreUnavailable as error:
            raise _unavailable(error) from error

    def _begin(self, kind: ServedKind, document: Document, namespace: str, call: Call) -> Document:
        """In its namespace. A rehearsal may carry a resourceVersion and gets it back, as upstream has it."""
        faces.check_lasting(kind)
        metadata = dict(document.get("metadata") or {})
        check_namespace(kind, metadata, namespace)
        given = metadata.get("namespace", "")
        if kind.namespaced:
            metadata["namespace"] = namespace
        elif given:
            metadata.pop("namespace")
        if metadata.pop("resourceVersion", "") not in ("", "0") and not call.dry_run:
            raise errors.BadRequest("resourceVersion should not be set on objects to be created")
        return {**document, "metadata": metadata}

    async def _insert(
        self, kind: ServedKind, document: Document, namespace: str, call: Call
    ) -> Stored:
        async with self.quotas.room(kind, document, None, call):
            return await self._inserted(kind, document, namespace, call)

    async def _inserted(
        self, kind: ServedKind, document: Document, namespace: str, call: Call
    ) -> Stored:
        name = document["metadata"]["name"]
        key = codec.storage_key(kind, namespace, name)
        value = await self.encoded(kind, document)
        if call.dry_run:
            await self.current()
            if self.store.get(key) is not None:
                raise KeyExists(key)
            return Stored(kind, value, 0, document, created=True)
        durability = self.durability(kind, namespace)
        row = await self.stored(
            self.held(kind, document, None, lambda: self.store.create(key, value, durability))
        )
        await self._settled(kind, row)
        return Stored(kind, row.value, row.revision, document, created=True)

    def _exists(self, kind: ServedKind, namespace: str, document: Document) -> errors.StatusError:
        name = document["metadata"]["name"]
        live = self.peek(kind, namespace, name)
        error = errors.already_exists(kind.plural, kind.group, name)
        if live is not None and live["metadata"].get("deletionTimestamp"):
            return errors.AlreadyExists(
                f"object is being deleted: {error.message}", details=error.details
            )
        return error

    # --------------------------------------------------------------------------------------------------- update
    async def update(
        self,
        kind: ServedKind,
        document: Document,
        namespace: str,
        name: str,
        call: Call,
        subresource: str = "",
    ) -> Stored:
        """PUT. metadata.resourceVersion in `document` makes it a compare-and-swap."""
        metadata = document.get("metadata") or {}
        given = metadata.get("name", "")
        if given != name:
            if not given:
                raise errors.BadRequest(
                    f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
                )
            raise errors.BadRequest(
                f"the name of the object ({given}) does not match the name on the URL ({name})"
            )
        check_namespace(kind, metadata, namespace)
        wanted = defaults.apply_defaults(kind, document)
        expected = str(metadata.get("resourceVersion") or "")
        if expected in ("", "0") and not strategy.allows_unconditional_update(kind):
            await self._must_name_revision(kind, namespace, name)
        try:
            return await self.change(
                kind, namespace, name, lambda _live: wanted, call, subresource,
                verb="update", expected=expected,
            )  # fmt: skip
        except errors.NotFound:
            if subresource or not strategy.creates_on_update(kind):
                raise
            if metadata.get("resourceVersion") not in (None, "", "0"):
                raise errors.conflict(
                    kind.plural,
                    kind.group,
                    name,
                    f"StorageError: invalid object, Code: 4, Key: {name}, ResourceVersion: 0, AdditionalErrorMsg: "
                    "Precondition failed: UID in precondition: , UID in object meta: ",
                ) from None
            return await self.create(kind, document, namespace, call)

    async def _must_name_revision(self, kind: ServedKind, namespace: str, name: str) -> None:
        """A PUT that is never unconditional: refused on an object that is there."""
        await self.current()
        if self.store.get(codec.storage_key(kind, namespace, name)) is not None:
            cause = {
                "reason": "FieldValueInvalid",
                "message": "Invalid value: 0: must be specified for an update",
                "field": "metadata.resourceVersion",
            }
            told = kind.kind if kind.dynamic is None else kind.plural  # upstream's oddity
            raise errors.invalid(told, kind.group, name, [cause])

    async def change(  # noqa: PLR0913 - a write has this many circumstances
        self,
        kind: ServedKind,
        namespace: str,
        name: str,
        make: Change,
        call: Call,
        subresource: str = "",
        *,
        verb: str = "patch",
        expected: str = "",
        manage: bool = True,
    ) -> Stored:
        """Read, change, write; again on a newer object unless a revision was expected."""
        for attempt in range(CONFLICT_TRIES):
            row = await self.row(kind, namespace, name)
            live = await self.live(kind, row)
            wanted = self._wanted(kind, namespace, name, row, make(live), expected)
            try:
                return await self._replace(
                    kind, row, live, wanted, call, subresource, verb=verb, manage=manage
                )
            except AllocationLost as lost:
                log.debug("an address or port was taken by another", extra={"key": str(lost)})
                if attempt == CONFLICT_TRIES - 1:
                    raise _never_free() from None
            except RevisionMismatch:
                if expected or attempt == CONFLICT_TRIES - 1:
                    raise errors.conflict(kind.plural, kind.group, name) from None
            except KeyNotFound:
                raise errors.not_found(kind.plural, kind.group, name) from None
        raise AssertionError("unreachable")

    def begin_change(  # noqa: PLR0913 - the same
        self,
        kind: ServedKind,
        namespace: str,
        name: str,
        make: Change,
        call: Call,
        subresource: str = "",
        *,
        bytes_max: int,
    ) -> Begun | None:
        """A patch by `change` without a task: what is written and its outcome, where nothing has to be waited for before.

        None where something has to, or where the object is larger than `bytes_max`, and nothing is done then. Raises
        StatusError as `change` does.
        """
        if kind is self._services or kind.group in _SETTLED or call.dry_run:
            return None
        key = codec.storage_key(kind, namespace, name)
        row = self.store.get(key)
        if row is None or len(row.value) > bytes_max or self.store.in_flight(key):
            return None
        if usage.changes_usage(kind, subresource) and self.quotas.concerns(kind, namespace):
            return None
        if self.maker.asks_outside("update", kind, namespace, name, subresource, call):
            return None
        live = codec.decode(row.value, row.revision)
        wanted = self._wanted(kind, namespace, name, row, make(live), "")
        request = self._request(kind, live, wanted, call, subresource, "patch")
        new = self.maker.revised(self.maker.revision(request, live))
        if self.deleter.finished(kind, new):
            return None
        if unchanged(live, new):
            same: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
            same.set_result(row)
            return live, same
        value, durability = codec.encode(kind, new), self.durability(kind, namespace)
        write = self.store.begin_update(key, value, row.revision, durability)
        if write is None:
            return None
        self._advise(kind, new, live, call, subresource)
        return new, write

    def _wanted(  # noqa: PLR0913 - the same
        self,
        kind: ServedKind,
        namespace: str,
        name: str,
        row: Row,
        wanted: Document,
        expected: str,
    ) -> Document:
        """What is to be, if it may be made of that row. Raises BadRequest, Conflict."""
        metadata = wanted.get("metadata") or {}
        check_namespace(kind, metadata, namespace)
        asked = expected or str(metadata.get("resourceVersion") or "")
        if asked and asked != "0" and asked != str(row.revision):
            raise errors.conflict(kind.plural, kind.group, name)
        return wanted

    def _request(  # noqa: PLR0913 - the same
        self,
        kind: ServedKind,
        live: Document,
        wanted: Document,
        call: Call,
        subresource: str,
        verb: str,
    ) -> AdmissionRequest:
        """The change as admission sees it. Raises Conflict, Invalid where another object is meant."""
        metadata = live["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        self._check_uid(kind, name, live, wanted, verb)
        return AdmissionRequest("update", kind, namespace, name, subresource, wanted, live, call)

    async def _replace(
        self,
        kind: ServedKind,
        row: Row,
        live: Document,
        wanted: Document,
        call: Call,
        subresource: str,
        *,
        verb: str,
        manage: bool,
    ) -> Stored:
        """`verb` bind is the scheduler's: it writes across endpoints and is trusted."""
        request = self._request(kind, live, wanted, call, subresource, verb)
        new = wanted
        if verb != "bind":
            new = await self.maker.updated(request, live, manage=manage)
        if self.deleter.finished(kind, new):
            return await self._remove(kind, row, new, call)
        if unchanged(live, new):
            return Stored(kind, row.value, row.revision, live)
        value = await self.encoded(kind, new)
        durability = self.durability(kind, request.namespace)
        async with self.quotas.room(kind, new, live, call, subresource):
            if call.dry_run:
                return Stored(kind, value, row.revision, new)
            written = await self.stored(
                self.held(
                    kind, new, live,
                    lambda: self.store.update(row.key, value, row.revision, durability),
                )
            )  # fmt: skip
        await self._settled(kind, written)
        self._advise(kind, new, live, call, subresource)
        return Stored(kind, written.value, written.revision, new)

    def _advise(
        self, kind: ServedKind, new: Document, live: Document, call: Call, subresource: str
    ) -> None:
        """Warnings on a changed wish; updates of pods are programs' business and get none, as upstream."""
        if subresource or not kind.group:
            return
        if live["metadata"].get("generation") != new["metadata"].get("generation"):
            call.warnings.extend(warnings_of(kind, new, creating=False))

    def _check_uid(
        self, kind: ServedKind, name: str, live: Document, wanted: Document, verb: str
    ) -> None:
        given = (wanted.get("metadata") or {}).get("uid", "")
        held = live["metadata"].get("uid", "")
        if not given or given == held:
            return
        if verb == "patch":
            cause = {
                "reason": "FieldValueInvalid",
                "message": f'Invalid value: "{given}": field is immutable',
                "field": "metadata.uid",
            }
            raise errors.invalid(kind.kind, kind.group, name, [cause, cause])
        raise errors.conflict(
            kind.plural, kind.group, name,
            f"StorageError: invalid object, Code: 4, Key: /{kind.plural}/{live['metadata'].get('namespace', '')}/{name}, "
            f"ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {given}, "
            f"UID in object meta: {held}",
        )  # fmt: skip

    async def _remove(self, kind: ServedKind, row: Row, final: Document, call: Call) -> Stored:
        """The last finalizer is gone: the same write removes the object."""
        value = await self.encoded(kind, final)
        if call.dry_run:
            return Stored(kind, value, row.revision, final)
        namespace = final["metadata"].get("namespace", "")
        durability = self.durability(kind, namespace)
        gone = await self.stored(
            self.held(
                kind,
                None,
                final,
                lambda: self.store.delete(row.key, row.revision, value, durability),
            )
        )
        await self._settled(kind, gone)
        return Stored(kind, value, row.revision, final)

    # ------------------------------------------------------------------------------------------------- services
    def held(
        self,
        kind: ServedKind,
        new: Document | None,
        live: Document | None,
        write: Callable[[], Awaitable[Row]],
    ) -> Awaitable[Row]:
        """The write, with the claims of a Service made before it and given back after it. Raises AllocationLost."""
        if kind is not self._services or self.services is None:
            return write()
        return self.services.holding(new, live, write)

    # -------------------------------------------------------------------------------------------------- helpers
    async def live(self, kind: ServedKind, row: Row) -> Document:
        """A stored object as the rules of `kind` see it. Raises InternalError where nobody converts it."""
        document = codec.decode(row.value, row.revision)
        if kind.dynamic is None:
            return document
        return await converting(lambda: faces.live(kind, document))

    async def shown(self, kind: ServedKind, stored: Stored) -> Document:
        """The same of what was read or written."""
        document = stored.read()
        if kind.dynamic is None:
            return document
        return await converting(lambda: faces.live(kind, document))

    async def encoded(self, kind: ServedKind, document: Document) -> bytes:
        """The value to store. Raises InternalError where nobody converts it."""
        if kind.dynamic is None:
            return codec.encode(kind, document)
        return await converting(lambda: codec.encode(kind, document))

    def durability(self, kind: ServedKind, namespace: str) -> Durability:
        """Heartbeats and Events may lose their last seconds in a crash; nothing else may."""
        if kind.plural == "leases":
            heartbeat = namespace in self._heartbeat_namespaces
            return Durability.RELAXED if heartbeat else Durability.DURABLE
        return Durability.RELAXED if kind.relaxed else Durability.DURABLE

    async def stored(self, write: Any) -> Row:
        try:
            row: Row = await write
        except StoreUnavailable as error:
            raise _unavailable(error) from error
        return row

    async def _settled(self, kind: ServedKind, row: Row) -> None:
        """Rights, webhooks and policies must count from the answer on: wait until the cache that decides them has the write."""
        if kind.group in _SETTLED:
            await self.cache.wait_for(row.revision)


def _unavailable(error: StoreUnavailable) -> errors.StatusError:
    log.error("the store refused a write", extra={"error": str(error)})
    return unavailable(error)


def _never_free() -> errors.StatusError:
    return errors.InternalError("failed to allocate an address or port: others were always faster")
