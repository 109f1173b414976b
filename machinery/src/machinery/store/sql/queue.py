"""Group commit: writes gather while the last batch is on its way, and a little longer under load.

One fsync serves every write of a batch. A lone writer is not kept waiting: the queue lingers (at most a millisecond)
only when the batch before held several writes and fewer have come back so far.
"""

import asyncio

from machinery.store.log import Write

BATCH_WRITES_MAX = 250
"""Superseded rows are trimmed 500 a commit, so trimming always outruns writing."""
LINGER_S = 0.001
LINGER_FROM_WRITES = 4


class WriteQueue:
    """Writes on their way to the one task that commits them."""

    def __init__(self) -> None:
        self._writes: list[Write] = []
        self._nudged = False
        self._waiter: asyncio.Future[None] | None = None
        self._last = 0

    def put(self, write: Write) -> None:
        """Add a write."""
        self._writes.append(write)
        self._wake()

    def nudge(self) -> None:
        """Let `take` return though there may be nothing to write."""
        self._nudged = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Write]:
        """The next batch; empty after a nudge."""
        while not self._writes and not self._nudged:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._nudged = False
        if self._writes and self._last >= LINGER_FROM_WRITES:
            await asyncio.sleep(0)
            if len(self._writes) < self._last // 2:
                await asyncio.sleep(LINGER_S)
        return self.take_now()

    def take_now(self) -> list[Write]:
        """What is queued, up to a batch."""
        batch = self._writes[:BATCH_WRITES_MAX]
        del self._writes[:BATCH_WRITES_MAX]
        if batch:
            self._last = len(batch)
        return batch

    def __len__(self) -> int:
        return len(self._writes)
