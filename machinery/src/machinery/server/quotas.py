"""Room in the ResourceQuotas of a namespace, taken before an object is written: exact under races.

What a write takes is added to `status.used` of each quota by compare-and-swap, in whatever process the rivals run, and only
then is the object written; a write that fails gives it back. Writes of one namespace that come together share one change of
each quota. A rehearsal is judged and takes nothing. Nothing is given back here when an object goes: a member's controller
counts again (`used` is then what is there), and finds what a crash between the two writes has left.

A namespace without quotas costs a look at an empty table.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from machinery.api.quota import check, usage
from machinery.api.quota.amounts import Amounts
from machinery.api.scheme import ServedKind
from machinery.kit.clock import Clock
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server.admission.interface import forbidden
from machinery.server.cache import KindCache
from machinery.server.call import Call
from machinery.server.stored import Stored
from machinery.server.user import LOOPBACK
from machinery.store.interface import StoreUnavailable

log = logging.getLogger(__name__)

MANAGER = "kube-apiserver"
CHARGE_TRIES = 20
"""Each is five tries of a compare-and-swap."""
_FREE: AbstractAsyncContextManager[None] = contextlib.nullcontext()


class Changer(Protocol):
    """What quotas are read and changed by: the registry."""

    def peek(self, kind: ServedKind, namespace: str, name: str) -> Document | None: ...

    async def change(  # noqa: PLR0913 - as the registry has it
        self,
        kind: ServedKind,
        namespace: str,
        name: str,
        make: Callable[[Document], Document],
        call: Call,
        subresource: str = "",
    ) -> Stored: ...


@dataclass(slots=True)
class _Waiting:
    """One write that waits for room."""

    asked: check.Asked
    name: str
    done: asyncio.Future[None]
    refused: errors.StatusError | None = None
    wants: dict[str, Amounts] = field(default_factory=dict)
    """By quota, as it was last worked out."""
    taken: dict[str, Amounts] = field(default_factory=dict)
    """By quota, what is in its status."""


class Quotas:
    """The quotas of one server."""

    def __init__(self, changer: Changer, cache: KindCache | None, clock: Clock) -> None:
        self._changer = changer
        self._cache = cache
        self._clock = clock
        self._lines: dict[str, list[_Waiting]] = {}
        """By namespace, those that wait for the one that is at work there."""

    def concerns(self, kind: ServedKind, namespace: str) -> bool:
        """Whether a quota of the namespace counts objects of the kind."""
        cache = self._cache
        if cache is None or not cache.entries or not namespace:
            return False
        return any(
            usage.matching(kind, (quota.get("status") or {}).get("hard") or {})
            for quota in self._of(cache, namespace)
        )

    def _of(self, cache: KindCache, namespace: str) -> list[Document]:
        """As they are committed, by name."""
        found = (
            self._changer.peek(cache.kind, namespace, key.rpartition("/")[2])
            for key in cache.ordered(namespace)
        )
        return [quota for quota in found if quota is not None]

    def room(
        self,
        kind: ServedKind,
        new: Document,
        old: Document | None,
        call: Call,
        subresource: str = "",
    ) -> AbstractAsyncContextManager[None]:
        """Room for a write, while it is made. Raises Forbidden where there is none."""
        namespace = new["metadata"].get("namespace", "")
        if old is not None and not usage.changes_usage(kind, subresource):
            return _FREE
        if not self.concerns(kind, namespace):
            return _FREE
        return self._room(check.Asked(kind, new, old), namespace, call)

    @contextlib.asynccontextmanager
    async def _room(self, asked: check.Asked, namespace: str, call: Call) -> AsyncIterator[None]:
        assert asked.new is not None, "something is written"
        name = asked.new["metadata"].get("name", "")
        waiting = _Waiting(asked, name, asyncio.get_running_loop().create_future())
        if call.dry_run:
            self._judge(self._quotas(namespace), [waiting])
            if waiting.refused is not None:
                raise waiting.refused
            yield
            return
        await self._stand_in_line(namespace, waiting)
        try:
            yield
        except StoreUnavailable:
            raise  # nobody knows whether it was written: the next count will
        except BaseException:
            await self._give_back(namespace, waiting.taken)
            raise

    def _quotas(self, namespace: str) -> dict[str, Document]:
        assert self._cache is not None, "somebody is concerned"
        return {quota["metadata"]["name"]: quota for quota in self._of(self._cache, namespace)}

    # --------------------------------------------------------------------------------------------------------- charging
    async def _stand_in_line(self, namespace: str, waiting: _Waiting) -> None:
        """Wait for the one at work in the namespace, or be it: the whole line is then served together."""
        line = self._lines.get(namespace)
        if line is not None:
            line.append(waiting)
            await waiting.done
            return
        line = self._lines[namespace] = [waiting]
        batch: list[_Waiting] = []
        try:
            while line:
                batch = line[:]
                line.clear()
                await self._serve(namespace, batch)
        finally:
            del self._lines[namespace]
            _leave(batch + line)
        await waiting.done

    async def _serve(self, namespace: str, batch: list[_Waiting]) -> None:
        """Charge each quota once for all of them, and tell each how it went."""
        quotas = self._quotas(namespace)
        self._judge(quotas, batch)
        try:
            for name in quotas:
                if any(one.refused is None and one.wants.get(name) for one in batch):
                    await self._charge(namespace, name, batch)
        except errors.StatusError as error:
            for one in batch:
                one.refused = one.refused or error
        for one in batch:
            if one.refused is not None or one.done.cancelled():
                await self._give_back(namespace, one.taken)
            if one.done.done():
                continue
            if one.refused is not None:
                one.done.set_exception(one.refused)
            else:
                one.done.set_result(None)

    def _judge(self, quotas: Mapping[str, Document], batch: list[_Waiting]) -> None:
        """By what is known here, without a write: who is refused anyway, and which quotas each would take from."""
        for name, quota in quotas.items():
            for one in batch:
                quota = self._after(name, quota, one)

    def _after(self, name: str, quota: Document, one: _Waiting) -> Document:
        """The quota after one write more; the write is refused where there is no room."""
        if one.refused is not None:
            return quota
        try:
            took = check.charged(quota, one.asked, self._clock.now())
        except check.Refused as why:
            one.refused = forbidden(one.asked.kind, one.name, str(why))
            return quota
        one.wants[name] = took
        return check.with_used(quota, took, {}) if took else quota

    async def _charge(self, namespace: str, name: str, batch: list[_Waiting]) -> None:
        """One quota, for all of the batch that are not refused yet: by what is committed now."""
        asking = [one for one in batch if one.refused is None]

        def make(live: Document) -> Document:
            for one in asking:  # what an earlier try found is forgotten
                one.refused = None
                one.wants[name] = {}
            for one in asking:
                live = self._after(name, live, one)
            return live

        await self._change(namespace, name, make)
        for one in asking:
            if one.refused is None:
                one.taken[name] = one.wants[name]

    async def _give_back(self, namespace: str, taken: Mapping[str, Amounts]) -> None:
        for name, took in taken.items():
            if not took:
                continue

            def make(live: Document, less: Amounts = took) -> Document:
                return check.with_used(live, {}, less)

            try:
                await self._change(namespace, name, make)
            except errors.StatusError as error:
                log.warning(
                    "room in a quota was not given back and is left to the next count",
                    extra={"key": f"{namespace}/{name}", "error": str(error)},
                )

    async def _change(
        self, namespace: str, name: str, make: Callable[[Document], Document]
    ) -> None:
        """Compare-and-swap of the status. A quota that is gone counts nothing."""
        assert self._cache is not None, "it was found there"
        call = Call(LOOPBACK, MANAGER)
        for attempt in range(CHARGE_TRIES):
            try:
                await self._changer.change(self._cache.kind, namespace, name, make, call, "status")
            except errors.NotFound:
                return
            except errors.Conflict:
                if attempt == CHARGE_TRIES - 1:
                    raise
            else:
                return


def _leave(batch: list[_Waiting]) -> None:
    """Whoever was at work is gone before the others were served."""
    for one in batch:
        if not one.done.done():
            one.done.set_exception(
                errors.ServiceUnavailable("the request that counted for this one as well broke off")
            )
