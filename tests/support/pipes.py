"""Two ends of a pipe in memory, for whatever speaks over `machinery.wire.spdy.connection.Pipe`."""

import asyncio


class MemoryPipe:
    """One end. A write waits while the other end holds `held_max` bytes unread."""

    def __init__(self, held_max: int) -> None:
        self.other: MemoryPipe = self
        self.held = bytearray()
        self.most_held = 0
        self.written = 0
        self._held_max = held_max
        self._ended = False
        self.refuses = False
        """Whether writes fail, as they do when the other machine has gone; reads just wait."""
        self._changed = asyncio.Condition()

    async def read(self) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self.held or self._ended)
            data = bytes(self.held[: 64 * 1024])
            del self.held[: 64 * 1024]
            self._changed.notify_all()
            return data

    async def write(self, data: bytes) -> None:
        other = self.other
        async with other._changed:
            if other._ended or self.refuses:
                raise ConnectionResetError("the other end is closed")
            other.held += data
            self.written += len(data)
            other.most_held = max(other.most_held, len(other.held))
            other._changed.notify_all()
            await other._changed.wait_for(lambda: len(other.held) < self._held_max or other._ended)

    async def close(self) -> None:
        for end in (self, self.other):
            async with end._changed:
                end._ended = True
                end._changed.notify_all()


def pipe_pair(held_max: int = 256 * 1024) -> tuple[MemoryPipe, MemoryPipe]:
    """Both ends."""
    left, right = MemoryPipe(held_max), MemoryPipe(held_max)
    left.other, right.other = right, left
    return left, right
