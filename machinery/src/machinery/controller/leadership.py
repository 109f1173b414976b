"""A component's controllers where several processes share one store: made, started, and made anew after a lost lead.

    made → stands by → leads → no renewal within the deadline → stopped whole → made anew → stands by …

The lead is mostly lost because the store is away, and then the process has to live: it serves reads, and links hang on it.
A Manager starts once, so a lead that is won again begins with a new one, and nothing of a former leader goes on: no queue, no
expectation, no memory of a reconciler.

Where the lead was seen to be another's, `superseded` is called, if it is given, and no further manager is made.
"""

import asyncio
import logging
from collections.abc import Callable

from machinery.controller.manager import Manager
from machinery.kit.tasks import TaskOwner

log = logging.getLogger(__name__)

Build = Callable[[Callable[[], None]], Manager]
"""Makes a Manager, wired up and not started, that calls back when its lead is lost."""


class Leadership:
    """One component of one process."""

    def __init__(self, build: Build, superseded: Callable[[], None] | None = None) -> None:
        self._build, self._superseded = build, superseded
        self._manager: Manager | None = None
        self._lost = asyncio.Event()
        self._tasks = TaskOwner()

    @property
    def leading(self) -> bool:
        """Whether controllers run."""
        return self._manager is not None and self._manager.leading

    async def start(self) -> None:
        """Return once the informers are synced and, without an elector, everything runs."""
        await self._begin()
        _ = self._tasks.spawn(self._go_on(), "leadership")

    async def _begin(self) -> None:
        manager = self._manager = self._build(self._lost.set)
        await manager.start()

    async def _go_on(self) -> None:
        while True:
            await self._lost.wait()
            self._lost.clear()
            assert self._manager is not None
            await self._manager.stop()
            if self._manager.superseded and self._superseded is not None:
                self._superseded()
                return
            log.warning("standing by", extra={"component": self._manager.component})
            await self._begin()

    async def stop(self) -> None:
        """Stop what runs; give the lead up."""
        await self._tasks.close()
        if self._manager is not None:
            await self._manager.stop()
