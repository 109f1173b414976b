"""SPDY's bytes: any that a client may send. No exception, little memory, and what is accepted is what was meant."""

import asyncio
import zlib

import pytest
from hypothesis import strategies as st
from tests.fuzz.inputs import mangled
from tests.fuzz.rounds import fuzzed, light
from tests.support.pipes import pipe_pair

from machinery.kit.tasks import TaskOwner
from machinery.wire.spdy import frames, session
from machinery.wire.spdy.connection import BUFFERED_BYTES_MAX, READ_BYTES, Connection, Stream
from machinery.wire.spdy.frames import (
    CONTROL_BYTES_MAX,
    HEAD_BYTES,
    Data,
    FrameReader,
    GoAway,
    MalformedFrame,
    More,
    Ping,
    Reset,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
    encode,
)
from machinery.wire.spdy.headers import (
    BLOCK_BYTES_MAX,
    DICTIONARY,
    MalformedHeaders,
    Packer,
    Unpacker,
    encode_pairs,
)
from machinery.wire.upgrade import NoUpgrade, for_exec, for_port_forward

numbers = st.integers(0, 2**31 - 1)
streams = st.integers(0, 12) | numbers
texts = st.text(max_size=20)
header_sets = st.dictionaries(texts, texts, max_size=5) | st.sampled_from(
    [
        {"streamType": "data", "port": "80", "requestID": "0"},
        {"streamType": "error", "port": "80", "requestID": "0"},
        {"streamType": "stdin"},
    ]
)
others = st.one_of(
    st.builds(Reset, streams, st.integers(0, 2**32 - 1)),
    st.builds(Settings, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**32 - 1)), max_size=4).map(tuple)),
    st.builds(Ping, st.integers(0, 2**32 - 1)),
    st.builds(GoAway, streams, st.integers(0, 2**32 - 1)),
    st.builds(WindowUpdate, streams, numbers),
    st.builds(Data, streams, st.binary(max_size=300), st.booleans()),
)  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """What a client might say: mostly sound frames, its header blocks compressed as one."""
    packer, said, opened = Packer(), [], 1
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.booleans()):
            frame: frames.Frame = draw(others)
        else:
            make = draw(st.sampled_from([SynStream, SynStream, SynStream, SynReply, More]))
            number = opened if make is SynStream and draw(st.integers(0, 9)) else draw(streams)
            opened = max(opened, number + 2) if number < 1000 else opened
            frame = make(number, packer.pack(draw(header_sets)), draw(st.booleans()))
        said.append(encode(frame))
    return b"".join(said)


anything = st.binary(max_size=2000) | mangled(conversations()) | conversations()


def cut(raw: bytes, sizes: list[int]) -> list[bytes]:
    """The same bytes as they may arrive."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(raw[at : at + size])
        at += size
    return [piece for piece in [*pieces, raw[at:]] if piece]


@fuzzed(400, raw=anything, sizes=st.lists(st.integers(1, 60), max_size=10))
def test_frames_are_read_alike_however_they_arrive(raw: bytes, sizes: list[int]) -> None:
    def read(pieces: list[bytes]) -> tuple[list[frames.Frame], str]:
        reader, found = FrameReader(), []
        try:
            for piece in pieces:
                for frame in reader.feed(piece):
                    found.append(frame)
                assert reader.held <= HEAD_BYTES + CONTROL_BYTES_MAX
        except MalformedFrame as error:
            return found, str(error)
        return found, ""

    assert read([raw])[1] == read(cut(raw, sizes))[1]
    control = [
        [f for f in read(way)[0] if not isinstance(f, Data)] for way in ([raw], cut(raw, sizes))
    ]
    assert control[0] == control[1]
    for frame in control[0]:
        assert list(FrameReader().feed(encode(frame))) == [frame]


@fuzzed(400, raw=anything, sizes=st.lists(st.integers(1, 200), max_size=8), ours=st.booleans())
def test_a_session_survives_every_peer(raw: bytes, sizes: list[int], ours: bool) -> None:
    made = session.Session(client=ours, streams_max=8)
    if ours:
        made.open({"streamType": "stdin"})
    for piece in cut(raw, sizes):
        for event in made.receive(piece):
            match event:
                case session.Opened(stream, _):
                    made.reply(stream)
                    room = min(made.room(stream), 100)
                    made.send(stream, bytes(room))
                case session.Received(stream, data):
                    assert data
                    made.consumed(stream, len(data))
                case session.Ended(stream):
                    made.send(stream, b"", fin=True)
        assert made.open_streams <= 8
        said = made.take()
        assert len(said) <= 24 * len(piece) + 2000, (
            "an answer is not much larger than what asked for it"
        )
        list(FrameReader().feed(said))
    if made.failed:
        assert made.receive(encode(Ping(1))) == []


@fuzzed(300, plain=st.binary(max_size=300) | header_sets.map(encode_pairs), mangle=st.booleans())
def test_header_blocks(plain: bytes, mangle: bool) -> None:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    block = deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)
    try:
        found = Unpacker().unpack(block[3:] if mangle else block)
    except MalformedHeaders:
        return
    assert sum(len(name) + len(value) for name, value in found.items()) <= len(plain)


@pytest.mark.parametrize("size", [BLOCK_BYTES_MAX + 1, 100_000_000])
def test_a_bomb_of_headers_is_not_inflated(size: int) -> None:
    deflate = zlib.compressobj(9, zdict=DICTIONARY)
    block = b"".join(
        deflate.compress(bytes(min(size - at, 1 << 20))) for at in range(0, size, 1 << 20)
    )
    block += deflate.flush(zlib.Z_SYNC_FLUSH)
    with light(16), pytest.raises(MalformedHeaders):
        Unpacker().unpack(block)


@fuzzed(60, raw=anything)
def test_a_connection_survives_every_client(raw: bytes) -> None:
    """It ends when the client goes, whatever was said; nothing it took stays."""

    async def talk() -> None:
        near, far = pipe_pair()
        taken: list[Stream] = []
        connection = Connection(far, accept=lambda stream: taken.append(stream))
        owner = TaskOwner(on_death=lambda _name, error: died.append(error))
        died: list[BaseException] = []
        task = owner.spawn(connection.run(), "server")
        await near.write(raw)
        await near.close()
        async with asyncio.timeout(10):
            await asyncio.wait({task})
        assert not died
        assert connection.buffered <= BUFFERED_BYTES_MAX + READ_BYTES
        await owner.close()

    asyncio.run(talk())


@fuzzed(
    200,
    headers=st.dictionaries(
        st.sampled_from(["Upgrade", "Connection", "Sec-WebSocket-Protocol", "X-Stream-Protocol-Version"]),
        st.lists(texts | st.sampled_from(["SPDY/3.1", "websocket", "Upgrade", "v4.channel.k8s.io"]), max_size=3),
    ),
)  # fmt: skip
def test_negotiation(headers: dict[str, list[str]]) -> None:
    for choose in (for_exec, for_port_forward):
        try:
            choose(lambda name: headers.get(name, []))
        except NoUpgrade as refused:
            assert refused.status in (400, 403)
