"""Joins two byte streams until both have ended.

An end of stream is passed on as an end, where the transport can say so (plain TCP); over TLS, which has no half-close,
the other side is closed once everything read so far has been delivered. When one side breaks, both are closed.

Frames of a WebSocket may be kept apart towards the left, the client's side (`frames` says why).
"""

import asyncio
from collections.abc import Callable, Iterable

from machinery.kit.tasks import TaskOwner
from machinery.wire.frames import FrameEnds

CHUNK = 64 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Cut = Callable[[bytes], Iterable[bytes | memoryview]]
"""What is written for a chunk, a write each."""


async def splice(left: Streams, right: Streams, *, frames: bool = False) -> None:
    """Return when both directions have ended; both writers are closed then.

    `frames`: what comes from the right is a WebSocket's, from the first byte behind its head; each frame becomes a write,
    and so a TLS record, of its own.
    """
    apart = frames and left[1].get_extra_info("ssl_object") is not None
    tasks = TaskOwner(on_death=lambda _name, _error: None)
    pumps = [
        tasks.spawn(pump(left[0], right[1]), "splice-right"),
        tasks.spawn(pump(right[0], left[1], FrameEnds().cut if apart else _whole), "splice-left"),
    ]
    try:
        done, pending = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        broke = any(task.exception() is not None for task in done)
        half_closed = left[1].can_write_eof() and right[1].can_write_eof()
        if pending and half_closed and not broke:
            await asyncio.wait(pending)
    finally:
        await tasks.close()
        for _, writer in (left, right):
            writer.close()


def _whole(chunk: bytes) -> tuple[bytes]:
    return (chunk,)


async def pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Cut = _whole
) -> None:
    """Copy until the end, with the reader held back by the writer; then pass the end on."""
    while chunk := await reader.read(CHUNK):
        for piece in cut(chunk):
            writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
