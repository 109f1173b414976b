"""Two plain sockets joined: bytes, ends and breaks pass through."""

import asyncio
from contextlib import asynccontextmanager

from machinery.wire.splice import splice


@asynccontextmanager
async def joined():
    """A client and a server with a splicing middle between them."""
    arrived: asyncio.Queue = asyncio.Queue()
    spliced = []

    async def serve(reader, writer):
        await arrived.put((reader, writer))

    async def middle(reader, writer):
        there = await asyncio.open_connection("127.0.0.1", back.sockets[0].getsockname()[1])
        await splice((reader, writer), there)
        spliced.append(True)

    back = await asyncio.start_server(serve, "127.0.0.1", 0)
    front = await asyncio.start_server(middle, "127.0.0.1", 0)
    client = await asyncio.open_connection("127.0.0.1", front.sockets[0].getsockname()[1])
    server = await arrived.get()
    try:
        yield client, server, spliced
    finally:
        for _, writer in (client, server):
            writer.close()
        back.close()
        front.close()
        await asyncio.sleep(0.02)


async def test_a_half_close_passes_and_the_other_way_stays_open():
    async with joined() as ((reader, writer), (server_reader, server_writer), spliced):
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        assert len(await server_reader.read()) == 1_000_000
        assert spliced == []
        server_writer.write(b"y" * 1_000_000)
        server_writer.close()
        assert len(await reader.read()) == 1_000_000
        await asyncio.sleep(0.05)
        assert spliced == [True]


async def test_a_break_closes_both_ends():
    async with joined() as ((_, writer), (server_reader, server_writer), spliced):
        writer.write(b"hello")
        assert await server_reader.read(5) == b"hello"
        writer.transport.abort()
        assert await server_reader.read() == b""
        server_writer.close()
        await asyncio.sleep(0.05)
        assert spliced == [True]
