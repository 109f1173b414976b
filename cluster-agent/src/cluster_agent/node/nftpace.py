"""What keeps a table of nftables equal to a wish: a thread for the library, and the pace of the steps.

The service proxy and the NetworkPolicies each have one of both.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock

T = TypeVar("T")
RETRY = Backoff(base_s=0.2, cap_s=10.0)


class NftThread:
    """libnftables blocks, and its socket belongs to the thread that opened it."""

    def __init__(self, name: str, given: Executor | None = None) -> None:
        """`given` is somebody else's to end; without it a thread of that name is made when it is needed."""
        self._name, self._given = name, given
        self._own: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """What the call comes to."""
        executor = self._given or self._own
        if executor is None:
            executor = self._own = ThreadPoolExecutor(1, self._name)
        return await asyncio.get_running_loop().run_in_executor(executor, work, *arguments)

    async def close(self) -> None:
        """Let go of our own thread."""
        if self._own is not None:
            own, self._own = self._own, None
            await asyncio.to_thread(own.shutdown)


class Pace:
    """A step whenever something changed, gathered for a moment, and a look now and then whether the table is still there."""

    def __init__(
        self,
        clock: Clock,
        *,
        step: Callable[[], Awaitable[bool]],
        intact: Callable[[], Awaitable[bool]],
        debounce_s: float,
        check_s: float,
    ) -> None:
        """`step`: whether it succeeded; one that did not is tried again. `intact`: whether the table is as it was left."""
        self._clock, self._step, self._intact = clock, step, intact
        self._debounce_s, self._check_s = debounce_s, check_s
        self._changed = asyncio.Event()
        self._failures = 0
        self.complete = False
        """Whether all that is wanted is known; nothing is done before."""

    def wake(self) -> None:
        """Something changed."""
        self._changed.set()

    def taken(self) -> None:
        """A step has begun with everything that had changed."""
        self._changed.clear()

    async def run_forever(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._check_s):
                    _ = await self._changed.wait()
            except TimeoutError:
                if self.complete and not await self._intact():
                    await self._step_or_wait()
                continue
            if not self.complete:
                self._changed.clear()
                continue
            await self._clock.sleep(self._debounce_s)
            await self._step_or_wait()

    async def _step_or_wait(self) -> None:
        if await self._step():
            self._failures = 0
            return
        self._failures += 1
        await self._clock.sleep(RETRY.delay(self._failures))
        self._changed.set()
