"""The rope between a member and the federation: cut, cut one way, slow, lossy; and the server behind it can go away.

A request travels, is done, and its answer travels back. A cut in between loses it: on the way there nothing was done, on
the way back it was, and the member cannot tell which.

    cut    nothing passes; open watches break at once
    mute   what the member sends is lost: no heartbeat arrives, but open watches bring Works as before
    deaf   what the server sends is lost: heartbeats and reports are taken, but no answer and no event comes back; when it
           is over, open watches bring all that they missed, or break, as TCP would have it
    slow   every message is late, and now and then one must be sent again

Events of one watch keep their order however late they are.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

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
LOST_SHARE, AGAIN_S = 0.1, (1.0, 3.0)
"""Of a slow link: how many messages are lost, and how much later they arrive when they were sent again."""
TIMEOUT_S = 3.0
"""How long a request waits for an answer that is lost."""
ORDER_S = 1e-6
"""Between two events of one stream: timers of the same instant have no order."""


class Servers(Protocol):
    """Whoever answers at the other end."""

    run: int
    """Number of the server process that runs or ran last."""

    def agent(self, cluster: str) -> Client:
        """A member's client of the server that runs. Raises ConnectionError when none does."""
        ...


def _between(limits: tuple[float, float], part: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * part


class Link:
    """State of one member's link. `roll` gives numbers in [0, 1)."""

    def __init__(self, member: str, roll: Callable[[], float]) -> None:
        self.member = member
        self.there = self.back = True
        """Whether what the member sends arrives, and what the server sends."""
        self.cut_since: float | None = None
        """Since when nothing arrives here, by the member's clock."""
        self.slow = False
        self._roll = roll
        self._watches: set[_Watch] = set()
        self._tasks = TaskOwner()

    @property
    def up(self) -> bool:
        """Whether something passes both ways."""
        return self.there and self.back

    @property
    def streaming(self) -> bool:
        """Whether a watch is open: an informer that lost it waits up to 45 s before it tries again."""
        return bool(self._watches)

    def delay(self) -> float:
        """How long one message takes."""
        if not self.slow:
            return _between(FAST_S, self._roll())
        lost = self._roll() < LOST_SHARE
        return _between(SLOW_S, self._roll()) + (_between(AGAIN_S, self._roll()) if lost else 0.0)

    def cut(self, now: float) -> None:
        """Both ways, at once."""
        self.there = self.back = False
        self.cut_since = now if self.cut_since is None else self.cut_since
        self.break_watches("the link is cut")

    def mute(self) -> None:
        """What the member sends is lost."""
        self.there = False

    def deafen(self, now: float) -> None:
        """What the server sends is lost."""
        self.back = False
        self.cut_since = now if self.cut_since is None else self.cut_since

    def heal(self) -> None:
        deaf, self.there, self.back = not self.back, True, True
        self.cut_since = None
        self.slow = False
        for watch in self._ordered() if deaf else ():
            if self._roll() < 0.5:  # noqa: PLR2004 - a coin
                watch.release()
            else:
                watch.fail(ConnectionError("the connection was reset"))

    def break_watches(self, why: str) -> None:
        """What was streaming ends."""
        for watch in self._ordered():
            watch.fail(ConnectionError(why))

    def _ordered(self) -> "list[_Watch]":
        return sorted(self._watches, key=lambda w: w.number)

    async def go(self) -> None:
        """A request on its way. Raises ConnectionError when it is lost."""
        await self._pass(lambda: self.there)

    async def come(self) -> None:
        """An answer on its way. Raises ConnectionError when it is lost."""
        await self._pass(lambda: self.back)

    async def _pass(self, passes: Callable[[], bool]) -> None:
        if passes():
            await asyncio.sleep(self.delay())
            if passes():
                return
        if self.there or self.back:  # nobody says no: the member waits for nothing
            await asyncio.sleep(TIMEOUT_S)
        raise ConnectionError(f"the link of {self.member} is cut")

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
        self._held: list[WatchEvent[Any] | Exception | None] = []
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
        if self not in self._link._watches:  # noqa: SLF001 - one thing in two classes
            return
        if self._link.back:
            self._arrived.put_nowait(item)
        else:
            self._held.append(item)

    def release(self) -> None:
        """What was lost on the way has been sent again."""
        held, self._held = self._held, []
        for item in held:
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
    """A member's Client over its link. A server that dies before it has answered has not answered."""

    def __init__(self, link: Link, servers: Servers) -> None:
        self._link, self._servers = link, servers

    async def _call(self, request: Callable[[Client], Awaitable[T]]) -> T:
        await self._link.go()
        client, run = self._servers.agent(self._link.member), self._servers.run
        answer = await request(client)
        if self._servers.run != run:
            raise ConnectionError("the server went away")
        await self._link.come()
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
        await self._link.go()
        client = self._servers.agent(self._link.member)
        if not self._link.back:
            await self._link.come()
        watch = self._link.open(client.watch(resource, namespace, options))
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
        dry_run: bool = False,
    ) -> T:
        return await self._call(
            lambda c: c.patch(
                resource,
                key,
                patch,
                patch_type,
                subresource=subresource,
                force=force,
                dry_run=dry_run,
            )
        )

    async def delete(
        self, resource: Resource[Any], key: ObjectKey, options: DeleteOptions = _AS_USUAL
    ) -> None:
        await self._call(lambda c: c.delete(resource, key, options))

    async def close(self) -> None:
        return None
