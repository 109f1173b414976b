"""One dialer for each federation server.

The federation's servers announce themselves in a ConfigMap; where there is none, the one URL that the member was given
is dialled. A server that comes is dialled at once, one that goes is let go.
"""

import asyncio
from collections.abc import Callable, Iterable

from machinery.api.core import CONFIGMAPS, ConfigMap
from machinery.api.fleet.servers import SERVERS
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner, cancel_all
from machinery.meta.errors import StatusError
from machinery.wire.linkdialer import LinkDialer


class Dialers:
    """The member's links to all servers."""

    def __init__(self, make: Callable[[str], LinkDialer], common: str) -> None:
        """`make` gives a dialer of a URL; `common` is dialled where no server is announced."""
        self._make, self._common = make, common
        self._running: dict[str, tuple[LinkDialer, asyncio.Task[None]]] = {}
        self._tasks = TaskOwner()

    @property
    def connected(self) -> bool:
        """Whether a server can reach the member now."""
        return any(dialer.connected for dialer, _ in self._running.values())

    @property
    def urls(self) -> frozenset[str]:
        """Who is dialled."""
        return frozenset(self._running)

    def hurry(self) -> None:
        """The federation was heard of: dial what is not linked, without a long pause."""
        for dialer, _ in self._running.values():
            if not dialer.connected:
                dialer.hurry()

    async def follow(self, federation: Client, clock: Clock) -> None:
        """Dial whoever is announced, for as long as this runs."""
        try:
            self.turn_to((await federation.get(CONFIGMAPS, SERVERS)).data.values())
        except (StatusError, ConnectionError):
            self.turn_to(())
        informer = Informer(
            federation,
            CONFIGMAPS,
            clock,
            namespace=SERVERS.namespace,
            field_selector=f"metadata.name={SERVERS.name}",
        )

        def changed(_: ConfigMap | None, new: ConfigMap | None) -> None:
            self.turn_to(new.data.values() if new is not None else ())

        informer.on_change(changed)
        await informer.run()

    def turn_to(self, announced: Iterable[str]) -> None:
        """Start and stop dialers so that exactly these servers are dialled."""
        wanted = set(announced) or {self._common}
        for url in wanted - self._running.keys():
            dialer = self._make(url)
            task = self._tasks.spawn(dialer.run(), f"link-dialer-{url}")
            self._running[url] = (dialer, task)
        for url in self._running.keys() - wanted:
            dialer, task = self._running.pop(url)
            _ = self._tasks.spawn(_end(dialer, task), f"link-end-{url}")

    async def close(self) -> None:
        """End all links."""
        await self._tasks.close()
        for dialer, _ in self._running.values():
            await dialer.close()
        self._running.clear()


async def _end(dialer: LinkDialer, task: "asyncio.Task[None]") -> None:
    await cancel_all([task])
    await dialer.close()
