"""The allocator of Services, as the registry sees it: choose values, hold them while the Service is written, repair.

Where no range of addresses is configured Services have no cluster address. Those of the federation are templates: the address
that one has there is out of a range that nobody routes, for clients that wait until it has some, and no member learns of it.
Where ServiceCIDRs are served, those that are ready add their ranges to the configured ones.
"""

import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable

from machinery.api import services
from machinery.api.scheme import ServedKind
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.meta.resource import Document, ObjectKey, document_key
from machinery.server import codec
from machinery.server.services.addresses import AddressObjects
from machinery.server.services.choosing import Choice, choose, keys_of
from machinery.server.services.claims import AllocationLost, Claims, plain
from machinery.server.services.families import with_families
from machinery.server.services.ranges import RANGES, ROOT, AddressRange, PortRange
from machinery.store.interface import Row, Store, StoreError

log = logging.getLogger(__name__)

REPAIR_FIRST_S = 60.0
"""Between the pass at start and the one that deletes what both saw unused."""
REPAIR_INTERVAL_S = 180.0

__all__ = ["AllocationLost", "ServiceAllocator"]


def parse_ranges(text: str, root: str = RANGES) -> tuple[AddressRange, ...]:
    """`10.96.0.0/16`, or one range of each family by a comma. Raises ValueError."""
    found = tuple(AddressRange.parse(part, root) for part in text.split(",") if part.strip())
    if len({held.family for held in found}) != len(found):
        raise ValueError(f"service_cidr: {text!r} has two ranges of one family")
    return found


class ServiceAllocator:
    """Addresses and ports of the Services in one store."""

    def __init__(  # noqa: PLR0913 - what a server has, handed in once
        self,
        kind: ServedKind,
        store: Store,
        ids: Ids,
        cidr: str,
        ports: str,
        objects: AddressObjects | None = None,
        *,
        templates: bool = False,
    ) -> None:
        self._kind, self._store, self._ids = kind, store, ids
        self._objects, self._templates = objects, templates
        self._root = RANGES if objects is None else objects.root
        self._own, self._ports = parse_ranges(cidr, self._root), PortRange.parse(ports)
        self._families = tuple(held.family for held in self._own) or ("IPv4", "IPv6")
        self._claimed = self._own if objects is None else tuple(objects.everything)
        self._claims = Claims(store, plain if objects is None else objects.claim)
        self._seen: dict[str, int] = {}

    @property
    def _ranges(self) -> tuple[AddressRange, ...]:
        """Those that were configured, then those that users have added."""
        if self._objects is None or not self._own:
            return self._own
        return (*self._own, *self._objects.ranges(self._own))

    @property
    def own_address(self) -> str:
        """The address of the Service `kubernetes`; empty where there is none."""
        return self._own[0].first if self._own and not self._templates else ""

    # --------------------------------------------------------------------------------------------------------- choose
    def choose(self, new: Document, old: Document | None, *, rehearsal: bool) -> Document:
        """The Service as it will be stored. Raises Invalid, InternalError."""
        before = None if old is None else old.get("spec") or {}
        if old is None:
            new = services.with_plural_addresses(new)
        else:
            new = services.prepare_update(new, old)
        key = document_key(new)
        spec = with_families(new.get("spec") or {}, before, self._families, key.name)
        choice = Choice(
            self._ranges,
            self._ports,
            lambda name: self._claims.taken(name, key),
            self._claims.pending,
            self._draw,
            rehearsal,
            self._claimed,
            self._templates,
        )
        return {**new, "spec": choose(spec, before, key.name, choice)}

    def _draw(self, below: int) -> int:
        return uuid.UUID(self._ids.uid()).int % below

    # ----------------------------------------------------------------------------------------------------------- hold
    async def holding(
        self, new: Document | None, old: Document | None, write: Callable[[], Awaitable[Row]]
    ) -> Row:
        """Claim what is new, write, give back what is left. Raises what `write` raises, and AllocationLost."""
        either = new if new is not None else old
        assert either is not None
        key = document_key(either)
        return await self._claims.holding(
            self._keys(new), self._keys(old), key, write, lambda: self._used_by(key)
        )

    def _keys(self, document: Document | None) -> Iterable[str]:
        spec = (document or {}).get("spec") or {}
        return keys_of(spec, self._claimed, self._ports)

    def _used_by(self, key: ObjectKey) -> Iterable[str]:
        row = self._store.get(codec.storage_key(self._kind, key.namespace, key.name))
        return () if row is None else self._keys(codec.decode(row.value, row.revision))

    # --------------------------------------------------------------------------------------------------------- repair
    async def repair(self) -> None:
        """One pass: give back what was unused in the last pass, too, and claim what is used unclaimed."""
        await self._store.barrier()
        users: dict[str, ObjectKey] = {}
        for row in self._store.list(codec.storage_prefix(self._kind)).rows:
            document = codec.decode(row.value, row.revision)
            for key in self._keys(document):
                owner = document_key(document)
                if users.setdefault(key, owner) != owner:
                    log.error(
                        "two services hold one value",
                        extra={"key": key, "service": str(owner), "other": str(users[key])},
                    )
        found = await self._claims.repair(ROOT, users, self._seen)
        if self._root != RANGES:
            found |= await self._claims.repair(self._root, users, self._seen)
        self._seen = found

    async def keep_repaired(self, clock: Clock) -> None:
        """Repair for ever; the first passes soon after the start, when a crash may have left something."""
        delay = REPAIR_FIRST_S
        while True:
            try:
                await self.repair()
            except StoreError as error:
                log.warning("services were not repaired", extra={"error": str(error)})
            await clock.sleep(delay)
            delay = REPAIR_INTERVAL_S if self._seen == {} else REPAIR_FIRST_S
