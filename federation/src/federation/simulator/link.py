"""The rope between a member and the federation: it can be cut, healed and slow, and the server behind it can go away.

A request travels, is done, and its answer travels back. A cut in between loses it: on the way there nothing was done, on
the way back it was, and the member cannot tell which. Open watches break with the cut. Events keep their order however
slow the link is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from machinery.client.interface import (
    Client,
    DeleteOptions,
    Listing,
    ListOptions,
    PatchType,
    WatchEvent,
)
from machinery.kit.tasks import TaskOwner, cancel_all
from machinery.meta.errors import StatusError
from machinery.meta.resource import ObjectKey, Resource

T = TypeVar("T")

_EVERYTHING, _AS_USUAL = ListOptions(), DeleteOptions()
FAST_S = (0.001, 0.02)
SLOW_S = (0.3, 1.5)
ORDER_S = 1e-6
"""Between two events of one stream: timers of the same instant have no order."""


class Link:
    """State of one member's link. `roll` gives numbers in [0, 1)."""

    def __init__(self, member: str, roll: Callable[[], float]) -> None:
        self.member = member
        self.cut_since: float | None = None
        self.slow = False
        self._roll = roll
        self._watches: set[_Watch] = set()
        self._tasks = TaskOwner()

    @property
    def up(self) -> bool:
        return self.cut_since is None

    @property
    def streaming(self) -> bool:
        """Whether a watch is open: an informer that lost it waits up to 45 s before it tries again."""
        return bool(self._watches)

    def delay(self) -> float:
        """How long one message takes."""
        least, most = SLOW_S if self.slow else FAST_S
        return least + (most - least) * self._roll()

    def cut(self, now: float) -> None:
        """Both ways, at once."""
        if self.cut_since is None:
            self.cut_since = now
            self.break_watches("the link is cut")

    def heal(self) -> None:
        self.cut_since = None
        self.slow = False

    def break_watches(self, why: str) -> None:
        """What was streaming ends."""
        for watch in sorted(self._watches, key=lambda w: w.number):
            watch.fail(ConnectionError(why))

    def check(self) -> None:
        """Raises ConnectionError while cut."""
        if not self.up:
            raise ConnectionError(f"the link of {self.member} is cut")

    async def travel(self) -> None:
        """One message, one way."""
        self.check()
        await asyncio.sleep(self.delay())
        self.check()

    def open(self, source: AsyncIterator[WatchEvent[Any]]) -> "_Watch":
        """A stream over this link."""
        watch = _Watch(self, source)
        self._watches.add(watch)
        watch.start(self._tasks)
        return watch

    def closed(self, watch: "_Watch") -> None:
        self._watches.discard(watch)

    async def close(self) -> None:
        """The history is over."""
        await self._tasks.close()


class _Watch:
    """Events of one watch on their way; the reader gets them in order, each as late as the link is slow."""

    _numbers = 0

    def __init__(self, link: Link, source: AsyncIterator[WatchEvent[Any]]) -> None:
        _Watch._numbers += 1
        self.number = _Watch._numbers
        self._link, self._source = link, source
        self._arrived: asyncio.Queue[WatchEvent[Any] | Exception | None] = asyncio.Queue()
        self._due = 0.0
        self._pump: asyncio.Task[None] | None = None

    def start(self, owner: TaskOwner) -> None:
        self._pump = owner.spawn(self._run(), f"watch-{self._link.member}")

    async def _run(self) -> None:
        end: Exception | None = None
        try:
            async for event in self._source:
                self._deliver(event)
        except (StatusError, ConnectionError) as error:
            end = error
        self._deliver(end)

    def _deliver(self, item: WatchEvent[Any] | Exception | None) -> None:
        loop = asyncio.get_running_loop()
        self._due = max(self._due + ORDER_S, loop.time() + self._link.delay())
        loop.call_at(self._due, self._arrive, item)

    def _arrive(self, item: WatchEvent[Any] | Exception | None) -> None:
        if self in self._link._watches:  # noqa: SLF001 - one thing in two classes
            self._arrived.put_nowait(item)

    def fail(self, error: ConnectionError) -> None:
        """Lose what is on its way, and tell the reader."""
        self._link.closed(self)
        while not self._arrived.empty():
            self._arrived.get_nowait()
        self._arrived.put_nowait(error)

    async def events(self) -> AsyncIterator[WatchEvent[Any]]:
        """What arrives. Raises what the source raised, or ConnectionError."""
        try:
            while (item := await self._arrived.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self._link.closed(self)
            if self._pump is not None:
                await cancel_all([self._pump])


class LinkedClient:
    """A Client over the link; `server` gives the client of the server that runs now, or raises ConnectionError."""

    def __init__(self, link: Link, server: Callable[[], Client]) -> None:
        self._link, self._server = link, server

    async def _call(self, request: Callable[[Client], Awaitable[T]]) -> T:
        await self._link.travel()
        answer = await request(self._server())
        await self._link.travel()
        return answer

    async def get(self, resource: Resource[T], key: ObjectKey, *, subresource: str = "") -> T:
        return await self._call(lambda c: c.get(resource, key, subresource=subresource))

    async def list(
        self, resource: Resource[T], namespace: str = "", options: ListOptions = _EVERYTHING
    ) -> Listing[T]:
        return await self._call(lambda c: c.list(resource, namespace, options))

    async def watch(
        self, resource: Resource[T], namespace: str = "", options: ListOptions = _EVERYTHING
    ) -> AsyncIterator[WatchEvent[T]]:
        await self._link.travel()
        watch = self._link.open(self._server().watch(resource, namespace, options))
        async for event in watch.events():
            yield event

    async def create(
        self,
        resource: Resource[T],
        document: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> T:
        return await self._call(
            lambda c: c.create(resource, document, namespace, name=name, subresource=subresource)
        )

    async def update(
        self, resource: Resource[T], document: Mapping[str, Any], *, subresource: str = ""
    ) -> T:
        return await self._call(lambda c: c.update(resource, document, subresource=subresource))

    async def patch(
        self,
        resource: Resource[T],
        key: ObjectKey,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        *,
        subresource: str = "",
        force: bool = False,
    ) -> T:
        return await self._call(
            lambda c: c.patch(
                resource, key, patch, patch_type, subresource=subresource, force=force
            )
        )

    async def delete(
        self, resource: Resource[Any], key: ObjectKey, options: DeleteOptions = _AS_USUAL
    ) -> None:
        await self._call(lambda c: c.delete(resource, key, options))

    async def close(self) -> None:
        return None
