"""SPDY streams over a pipe: bytes, ends, resets, bounds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.support.pipes import MemoryPipe, pipe_pair

from machinery.kit.tasks import TaskOwner
from machinery.wire.spdy import connection as c
from machinery.wire.spdy.connection import BUFFERED_BYTES_MAX, Connection, Stream, StreamReset
from machinery.wire.spdy.frames import (
    Data,
    FrameReader,
    GoAway,
    Ping,
    Status,
    SynReply,
    SynStream,
    WindowUpdate,
    encode,
)
from machinery.wire.spdy.headers import Packer


class Both:
    """A client and a server, and the streams that the server took."""

    def __init__(self, left: MemoryPipe, right: MemoryPipe) -> None:
        self.client = Connection(left, client=True)
        self.server = Connection(right, accept=self._accept)
        self.pipes = left, right
        self.taken: asyncio.Queue[Stream] = asyncio.Queue()

    def _accept(self, stream: Stream) -> Status | None:
        if stream.headers.get("kind") == "unwanted":
            return Status.REFUSED_STREAM
        self.taken.put_nowait(stream)
        return None

    async def stream(self) -> tuple[Stream, Stream]:
        ours = await self.client.open({"kind": "wanted"})
        return ours, await self.taken.get()


@asynccontextmanager
async def both() -> AsyncIterator[Both]:
    made = Both(*pipe_pair())
    owner = TaskOwner()
    for side in (made.client, made.server):
        owner.spawn(side.run(), "side")
    yield made
    await owner.close()


async def everything(stream: Stream) -> bytes:
    got = b""
    while data := await stream.read():
        got += data
    return got


async def test_bytes_and_ends_each_way_by_itself() -> None:
    async with both() as made:
        ours, theirs = await made.stream()
        await ours.write(b"question")
        ours.close()
        assert await everything(theirs) == b"question"
        await theirs.write(b"answer" * 10_000)
        theirs.close()
        assert await everything(ours) == b"answer" * 10_000
        with pytest.raises(StreamReset):
            await ours.write(b"more")


async def test_many_streams_at_once() -> None:
    async with both() as made:
        pairs = [await made.stream() for _ in range(50)]

        async def there_and_back(number: int, ours: Stream, theirs: Stream) -> None:
            sent = bytes([number]) * 60_000  # all of them fit into what is held unread
            await ours.write(sent)
            ours.close()
            await theirs.write(await everything(theirs))
            theirs.close()
            assert await everything(ours) == sent

        async with asyncio.TaskGroup() as group:
            for number, pair in enumerate(pairs):
                group.create_task(there_and_back(number, *pair))


async def test_a_refused_stream_and_a_reset_one() -> None:
    async with both() as made:
        with pytest.raises(StreamReset):
            await made.client.open({"kind": "unwanted"})
        ours, theirs = await made.stream()
        await ours.write(b"x")
        ours.reset()
        with pytest.raises(StreamReset):
            await everything(theirs)
        with pytest.raises(StreamReset):
            await theirs.write(b"y")
        ours, theirs = await made.stream()
        await ours.write(b"others go on")
        assert await theirs.read() == b"others go on"


async def test_a_lost_connection_resets_every_stream() -> None:
    async with both() as made:
        ours, theirs = await made.stream()
        await made.pipes[0].close()
        for stream in (ours, theirs):
            with pytest.raises(StreamReset):
                await stream.read()
        with pytest.raises(ConnectionError):
            await made.client.open({})


async def test_what_nobody_reads_is_bounded_and_flows_on_when_it_is_read() -> None:
    async with both() as made:
        ours, theirs = await made.stream()
        size = 3 * BUFFERED_BYTES_MAX
        writing = asyncio.ensure_future(ours.write(bytes(size)))
        before = -1
        while made.pipes[0].written != before:  # until nothing moves any more
            before = made.pipes[0].written
            for _ in range(200):
                await asyncio.sleep(0)
        assert before < BUFFERED_BYTES_MAX + 3 * c.READ_BYTES + 256 * 1024
        assert not writing.done()
        got = 0
        while got < size:
            got += len(await theirs.read())
        await writing


async def test_a_discarded_stream_holds_no_other_back() -> None:
    async with both() as made:
        ours, theirs = await made.stream()
        theirs.discard()
        await ours.write(bytes(3 * BUFFERED_BYTES_MAX))
        other, there = await made.stream()
        await other.write(b"still here")
        assert await there.read() == b"still here"


async def raw_server(
    taken: list[Stream], **options: float
) -> tuple[MemoryPipe, asyncio.Task[None], TaskOwner]:
    """The pipe's end of a peer of ours, and the server at the other."""
    near, far = pipe_pair()

    def accept(stream: Stream) -> Status | None:
        taken.append(stream)
        return None

    owner = TaskOwner()
    return near, owner.spawn(Connection(far, accept=accept, **options).run(), "server"), owner


async def test_a_flood_of_pings_that_reads_no_answer_is_not_read_on() -> None:
    near, task, owner = await raw_server([])
    flood = encode(Ping(1)) * 4096
    writing = asyncio.ensure_future(near.write(flood * 40))
    for _ in range(2000):
        await asyncio.sleep(0)
    assert near.other.most_held >= len(flood) * 30, "it is left in the pipe"
    assert not writing.done()
    assert not task.done()
    writing.cancel()
    await owner.close()


async def test_who_cancels_twice_leaves_no_pipe_open() -> None:
    """The last words cannot be said, since nobody reads them, and who ends it does not wait for that."""
    near, task, owner = await raw_server([])
    writing = asyncio.ensure_future(near.write(encode(Ping(1)) * 163_840))
    for _ in range(2000):
        await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
    assert task.cancelled()
    with pytest.raises(ConnectionResetError):
        await near.write(b"")
    writing.cancel()
    await owner.close()


async def test_who_breaks_the_rules_hears_goaway_and_is_closed() -> None:
    near, task, owner = await raw_server([])
    await near.write(b"\x80\x09garbage")
    await task
    said = await near.read()
    assert [type(frame) for frame in FrameReader().feed(said)] == [WindowUpdate, GoAway]
    await owner.close()


async def test_an_idle_connection_is_closed() -> None:
    _near, task, owner = await raw_server([], idle_s=0.01)
    async with asyncio.timeout(5):
        await task
    await owner.close()


async def test_a_stream_that_ended_before_the_connection_is_read_to_its_end() -> None:
    taken: list[Stream] = []
    near, task, owner = await raw_server(taken)
    await near.write(encode(SynStream(1, Packer().pack({}))) + encode(Data(1, b"all", fin=True)))
    heard = FrameReader()
    while not any(isinstance(frame, SynReply) for frame in heard.feed(await near.read())):
        continue
    await near.close()
    await task
    assert await taken[0].read() == b"all"
    assert await taken[0].read() == b""
    await owner.close()


async def test_a_peer_that_has_gone_is_noticed_though_nothing_is_read() -> None:
    """Nobody reads its stream: so the pipe is not read on, and says nothing of its end."""
    taken: list[Stream] = []
    near, task, owner = await raw_server(taken, ping_s=0.01)
    await near.write(encode(SynStream(1, Packer().pack({}))))
    writing = asyncio.ensure_future(near.write(encode(Data(1, bytes(2 * BUFFERED_BYTES_MAX)))))
    heard = FrameReader()
    while not any(isinstance(frame, Ping) for frame in heard.feed(await near.read())):
        continue
    near.other.refuses = True
    async with asyncio.timeout(10):
        await task
    with pytest.raises(StreamReset):
        while True:
            await taken[0].read()
    writing.cancel()
    await owner.close()
