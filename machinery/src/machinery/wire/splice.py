"""Joins two byte streams until both have ended.

An end of stream is passed on as an end, where the transport can say so (plain TCP); over TLS, which has no half-close,
the other side is closed once everything read so far has been delivered. When one side breaks, both are closed.
"""

import asyncio

from machinery.kit.tasks import TaskOwner

CHUNK = 64 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def splice(left: Streams, right: Streams) -> None:
    """Return when both directions have ended; both writers are closed then."""
    tasks = TaskOwner(on_death=lambda _name, _error: None)
    pumps = [
        tasks.spawn(pump(left[0], right[1]), "splice-right"),
        tasks.spawn(pump(right[0], left[1]), "splice-left"),
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


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, with the reader held back by the writer; then pass the end on."""
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
