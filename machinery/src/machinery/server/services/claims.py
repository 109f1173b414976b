"""Claims: one store row per address or port in use, so that two servers can never give the same one twice.

A claim's key is the value itself; creating it is the compare-and-swap that decides a race, in whatever process the rivals
run. An address's claim is the IPAddress of that name, where the server has that kind, and one that a user has made is
respected as well; anything else's is a row of our own. It is made before the Service is written and carries the Service's namespace and name. When the write fails it is given
back, when the Service goes or changes it is given back after that. A claim found with our own namespace and name (a retry
after a crash, a type changed there and back) is taken over by rewriting it: whoever meant to delete the older revision then
finds that it has moved on.

A crash between the two writes leaves a claim without a Service. `orphans` and `repair` find those: a claim that nobody
uses in two passes, a minute apart and unchanged, is deleted. Limit: a server whose one write hangs longer than that in the
database may find its claim gone; the next repair then says that two Services hold one value.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

import orjson

from machinery.meta.resource import ObjectKey
from machinery.store.interface import (
    KeyExists,
    KeyNotFound,
    RevisionMismatch,
    Row,
    Store,
    StoreError,
)

log = logging.getLogger(__name__)


Written: TypeAlias = Callable[[str, ObjectKey], bytes]
"""The value of a claim: its key, and the Service that it is made for."""


def plain(_key: str, owner: ObjectKey) -> bytes:
    """A claim that is nothing but a claim."""
    return orjson.dumps({"metadata": {}, "namespace": owner.namespace, "name": owner.name})


class AllocationLost(Exception):
    """Somebody else took the value between choosing and claiming; choose again."""


class Claims:
    """The claims in one store."""

    def __init__(self, store: Store, written: Written = plain) -> None:
        self._store = store
        self._written = written
        self._pending: dict[str, asyncio.Event] = {}

    def taken(self, key: str, owner: ObjectKey) -> bool:
        """Whether another Service holds the key, as far as is known here."""
        row = self._store.get(key)
        return row is not None and owner_of(row) != owner

    def pending(self, key: str) -> bool:
        """Whether a request of this process is about to hold the key."""
        return key in self._pending

    async def take(self, keys: Iterable[str], owner: ObjectKey) -> list[Row]:
        """Claim all or nothing. Raises AllocationLost, StoreUnavailable."""
        wanted = list(keys)
        for key in wanted:
            if key in self._pending:
                _ = await self._pending[key].wait()
                raise AllocationLost(key)
        done = asyncio.Event()
        self._pending.update(dict.fromkeys(wanted, done))
        taken: list[Row] = []
        try:
            for key in wanted:
                taken.append(await self._take_one(key, owner))
        except (AllocationLost, StoreError):
            await self.give_back(taken)
            raise
        finally:
            for key in wanted:
                del self._pending[key]
            done.set()
        return taken

    async def _take_one(self, key: str, owner: ObjectKey) -> Row:
        try:
            return await self._store.create(key, self._written(key, owner))
        except KeyExists:
            await self._store.barrier()
        row = self._store.get(key)
        if row is None or owner_of(row) != owner:
            raise AllocationLost(key)
        try:
            return await self._store.update(key, row.value, row.revision)
        except (RevisionMismatch, KeyNotFound):
            raise AllocationLost(key) from None

    def rows(self, keys: Iterable[str]) -> list[Row]:
        """The claims that stand at these keys now."""
        found = (self._store.get(key) for key in keys)
        return [row for row in found if row is not None]

    async def give_back(self, rows: Iterable[Row]) -> None:
        """Delete claims that have not moved on. What the store does not take now is left to repair."""
        for row in rows:
            try:
                _ = await self._store.delete(row.key, row.revision)
            except (KeyNotFound, RevisionMismatch):
                continue
            except StoreError as error:
                log.warning(
                    "a service's value was not given back and is left to repair",
                    extra={"key": row.key, "error": str(error)},
                )

    async def holding(
        self,
        new: Iterable[str],
        old: Iterable[str],
        owner: ObjectKey,
        write: Callable[[], Awaitable[Row]],
        used_now: Callable[[], Iterable[str]],
    ) -> Row:
        """`write` a Service that goes from the keys `old` to `new`. `used_now` tells what the stored Service uses.

        Raises what `write` raises, and AllocationLost.
        """
        new, old = set(new), set(old)
        leaving = [row for row in self.rows(old - new) if owner_of(row) == owner]
        taken = await self.take(sorted(new - old), owner)
        try:
            row = await write()
        except StoreError:
            if taken:
                await self._undo(taken, used_now)
            raise
        await self.give_back(leaving)
        return row

    async def _undo(self, taken: list[Row], used_now: Callable[[], Iterable[str]]) -> None:
        """Give back, but for what a rival write of the same Service has come to use meanwhile."""
        try:
            await self._store.barrier()
        except StoreError:
            return  # repair will find them
        used = set(used_now())
        await self.give_back(row for row in taken if row.key not in used)

    # --------------------------------------------------------------------------------------------------------- repair
    def orphans(self, prefix: str, users: Mapping[str, ObjectKey]) -> dict[str, int]:
        """Key -> revision of the claims that no Service uses. `users` are the keys in use and by whom."""
        return {
            row.key: row.revision
            for row in self._store.list(prefix).rows
            if users.get(row.key) != (owner := owner_of(row)) and row.key not in self._pending
            if owner is not None
        }

    async def repair(self, prefix: str, users: Mapping[str, ObjectKey], seen: Mapping[str, int]) -> dict[str, int]:  # fmt: skip
        """Delete the orphans that were `seen` at the same revision before, claim what is used unclaimed; the other orphans."""
        found = self.orphans(prefix, users)
        for key, revision in list(found.items()):
            row = self._store.get(key)
            if seen.get(key) == revision and row is not None and row.revision == revision:
                await self.give_back([row])
                del found[key]
                log.info("leaked claim given back", extra={"key": key})
        for key, owner in users.items():
            if key.startswith(prefix) and self._store.get(key) is None and key not in self._pending:
                await self._reclaim(key, owner)
        return found

    async def _reclaim(self, key: str, owner: ObjectKey) -> None:
        try:
            _ = await self._take_one(key, owner)
        except AllocationLost:
            log.error("two services hold one value", extra={"key": key, "service": str(owner)})


def owner_of(row: Row) -> ObjectKey | None:
    """The Service that a claim was made for; None: it is a user's, for something else."""
    value = orjson.loads(row.value)
    parent = (value.get("spec") or {}).get("parentRef")
    if parent is None:
        return ObjectKey(value.get("namespace", ""), value.get("name", ""))
    if parent.get("group") or parent.get("resource") != "services":
        return None
    return ObjectKey(parent.get("namespace", ""), parent.get("name", ""))
