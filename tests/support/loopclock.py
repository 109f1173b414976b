"""The event loop's own time as a Clock: under looptime it is virtual, and a day passes in no time."""

import asyncio
import datetime as dt

EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class LoopClock:
    """Both clocks follow `loop.time()`; the wall clock starts at EPOCH when loop time is zero."""

    def now(self) -> dt.datetime:
        return EPOCH + dt.timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
