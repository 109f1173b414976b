"""SPDY/3.1: bytes as the specification draws them, the rules of streams and windows, and what is refused."""

import struct
import zlib
from collections.abc import Callable

import pytest

from machinery.wire.spdy import frames, session
from machinery.wire.spdy.frames import (
    CONTROL_BYTES_MAX,
    Data,
    FrameReader,
    GoAway,
    MalformedFrame,
    More,
    Ping,
    Reset,
    Settings,
    Status,
    SynReply,
    SynStream,
    WindowUpdate,
    encode,
)
from machinery.wire.spdy.headers import (
    BLOCK_BYTES_MAX,
    DICTIONARY,
    PAIRS_MAX,
    MalformedHeaders,
    Packer,
    Unpacker,
    decode_pairs,
    encode_pairs,
)
from machinery.wire.spdy.session import (
    WINDOW_BYTES,
    Ended,
    Failed,
    Leaving,
    Opened,
    Received,
    Replied,
    Session,
    WasReset,
    Widened,
)

ALL = [
    SynStream(1, b"block", True, False, 0, 3),
    SynStream(3, b"", False, True, 1, 0),
    SynReply(1, b"block", True),
    More(5, b"more"),
    Reset(1, Status.CANCEL),
    Settings(((4, 100), (7, 1 << 20))),
    Ping(7),
    GoAway(9, 0),
    WindowUpdate(0, 1000),
    Data(1, b"hello", True),
    Data(2**31 - 1, b""),
]


# ------------------------------------------------------------------------------------------------------------- frames
@pytest.mark.parametrize("frame", ALL, ids=lambda f: type(f).__name__)
def test_frames_there_and_back(frame: frames.Frame) -> None:
    assert list(FrameReader().feed(encode(frame))) == [frame]


@pytest.mark.parametrize(
    ("frame", "raw"),
    [
        (Ping(1), "80030006 00000004 00000001"),
        (Reset(3, 5), "80030003 00000008 00000003 00000005"),
        (GoAway(1, 0), "80030007 00000008 00000001 00000000"),
        (WindowUpdate(1, 2), "80030009 00000008 00000001 00000002"),
        (Settings(((4, 100),)), "80030004 0000000c 00000001 00000004 00000064"),
        (SynStream(1, b"", fin=True), "80030001 0100000a 00000001 00000000 0000"),
        (SynReply(1, b""), "80030002 00000004 00000001"),
        (Data(1, b"ab", fin=True), "00000001 01000002 6162"),
    ],
    ids=lambda f: type(f).__name__,
)
def test_frames_look_as_the_specification_draws_them(frame: frames.Frame, raw: str) -> None:
    assert encode(frame) == bytes.fromhex(raw)


def test_one_byte_at_a_time_gives_the_same_control_frames_and_all_data() -> None:
    reader = FrameReader()
    found = [f for byte in b"".join(map(encode, ALL)) for f in reader.feed(bytes((byte,)))]
    assert [f for f in found if not isinstance(f, Data)] == ALL[:-2]
    pieces = [f for f in found if isinstance(f, Data) and f.stream == 1]
    assert b"".join(p.data for p in pieces) == b"hello"
    assert [p.fin for p in pieces] == [False] * 4 + [True]
    assert reader.held == 0


def test_a_large_data_frame_is_never_held() -> None:
    reader = FrameReader()
    size = (1 << 24) - 1
    assert list(reader.feed(struct.pack(">II", 1, frames.FIN << 24 | size))) == []
    seen = 0
    while seen < size:
        (piece,) = reader.feed(bytes(min(1 << 20, size - seen)))
        assert isinstance(piece, Data)
        seen += len(piece.data)
        assert (piece.fin, reader.held) == (seen == size, 0)


@pytest.mark.parametrize(
    "raw",
    [
        "80020006 00000004 00000001",  # version 2
        f"80030001 00{CONTROL_BYTES_MAX + 1:06x}",
        "80030006 00000003 000001",
        "80030006 00000005 0000000100",
        "80030001 00000009 00000001 00000000 00",
        "80030002 00000003 000000",
        "80030003 00000004 00000001",
        "80030004 00000004 00000001",
        "80030004 0000000c 00000002 00000004 00000064",
        "80030004 00000004 ffffffff",
        "80030007 00000004 00000001",
        "80030009 00000004 00000001",
    ],
)
def test_malformed_frames(raw: str) -> None:
    with pytest.raises(MalformedFrame):
        list(FrameReader().feed(bytes.fromhex(raw)))


def test_a_frame_of_an_unknown_type_is_passed_over() -> None:
    raw = bytes.fromhex("800300ff 00000003 616263") + encode(Ping(1))
    assert list(FrameReader().feed(raw)) == [Ping(1)]


# ------------------------------------------------------------------------------------------------------------ headers
def test_the_dictionary_is_spdys() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_blocks_share_one_compression() -> None:
    packer, unpacker = Packer(), Unpacker()
    headers = {"streamType": "error", "port": "8080", "requestID": "0", "x": "ü\0y"}
    blocks = [packer.pack(headers) for _ in range(3)]
    assert [unpacker.unpack(block) for block in blocks] == [
        {name.lower(): value for name, value in headers.items()}
    ] * 3
    assert len(blocks[2]) < len(blocks[0])


def test_a_block_of_gos_spdystream_is_read() -> None:
    """What kubectl sends first: `streamType: error`, deflated with Go's defaults."""
    deflate = zlib.compressobj(9, zdict=DICTIONARY)
    block = deflate.compress(encode_pairs({"streamtype": "error"}))
    block += deflate.flush(zlib.Z_SYNC_FLUSH)
    assert Unpacker().unpack(block) == {"streamtype": "error"}


def compressed(plain: bytes, finish: int = zlib.Z_SYNC_FLUSH) -> bytes:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    return deflate.compress(plain) + deflate.flush(finish)


@pytest.mark.parametrize(
    "block",
    [
        b"nothing",
        compressed(bytes(BLOCK_BYTES_MAX + 1)),
        compressed(bytes(50_000_000)),
        compressed(encode_pairs({"a": "b"}), zlib.Z_FINISH),
        zlib.compress(encode_pairs({"a": "b"})),
        compressed(b""),
        compressed(b"\0\0\0\2" + encode_pairs({"a": "b"})[4:]),
        compressed(encode_pairs({"a": "b"}) + b"x"),
        compressed(b"\0\0\0\1\xff\xff\xff\xffa"),
        compressed(encode_pairs({"": "b"})),
        compressed(b"\0\0\0\2" + 2 * encode_pairs({"a": "b"})[4:]),
        compressed((PAIRS_MAX + 1).to_bytes(4, "big")),
    ],
    ids=[
        "no-zlib", "large", "bomb", "finished", "no-dictionary", "empty", "count", "rest", "length", "nameless", "twice", "many",
    ],
)  # fmt: skip
def test_malformed_blocks(block: bytes) -> None:
    with pytest.raises(MalformedHeaders):
        Unpacker().unpack(block)


def test_pairs_there_and_back() -> None:
    headers = {f"n{i}": "v" * i for i in range(PAIRS_MAX)}
    assert decode_pairs(encode_pairs(headers)) == headers


# ------------------------------------------------------------------------------------------------------------ session
class Peer:
    """Makes the bytes of a client that has our own packer."""

    def __init__(self) -> None:
        self.server = Session(client=False, streams_max=4)
        self._packer, self._unpacker = Packer(), Unpacker()

    def opens(self, number: int, *, fin: bool = False, **headers: str) -> list[session.Event]:
        return self.says(SynStream(number, self._packer.pack(headers), fin))

    def says(self, *said: frames.Frame) -> list[session.Event]:
        return self.server.receive(b"".join(map(encode, said)))

    def hears(self) -> list[frames.Frame]:
        return list(FrameReader().feed(self.server.take()))


def test_a_stream_from_its_opening_to_its_end() -> None:
    peer = Peer()
    assert peer.opens(1, streamtype="data") == [Opened(1, {"streamtype": "data"})]
    peer.server.reply(1)
    peer.server.reply(1)
    (reply,) = peer.hears()
    assert isinstance(reply, SynReply)
    assert peer.says(Data(1, b"ab"), Data(1, b"c", fin=True)) == [
        Received(1, b"ab"), Received(1, b"c"), Ended(1),
    ]  # fmt: skip
    assert peer.server.knows(1), "it may still be written"
    peer.server.send(1, b"x")
    peer.server.send(1, b"", fin=True)
    assert peer.hears() == [Data(1, b"x"), Data(1, b"", fin=True)]
    assert not peer.server.knows(1)
    peer.server.send(1, b"late")
    assert peer.server.pending == 0


def test_two_sessions_understand_each_other() -> None:
    client, server = Session(client=True), Session(client=False)
    number = client.open({"streamType": "stdin"})
    assert server.receive(client.take()) == [Opened(number, {"streamtype": "stdin"})]
    server.reply(number, {"x": "y"})
    assert client.receive(server.take()) == [Replied(number, {"x": "y"})]
    client.send(number, b"z" * 100_000, fin=True)
    events = server.receive(client.take())
    assert b"".join(e.data for e in events if isinstance(e, Received)) == b"z" * 100_000
    assert events[-1] == Ended(number)
    server.leave()
    assert client.receive(server.take()) == [Leaving(number)]
    with pytest.raises(ConnectionError):
        client.open({})


def test_pings_of_the_peer_are_answered_and_answers_are_not() -> None:
    peer = Peer()
    assert peer.says(Ping(1), Ping(2), Ping(3)) == []
    assert peer.hears() == [Ping(1), Ping(3)]


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ([Data(7, b"x")], [Reset(7, Status.INVALID_STREAM)]),
        ([Data(1, b"x", fin=True), Data(1, b"y")], [Reset(1, Status.STREAM_ALREADY_CLOSED)]),
        ([Reset(1, 5), Data(1, b"late"), Reset(1, 5)], []),
        ([WindowUpdate(1, 0)], [Reset(1, Status.FLOW_CONTROL_ERROR)]),
        ([WindowUpdate(1, 2**31 - 1)], [Reset(1, Status.FLOW_CONTROL_ERROR)]),
        ([WindowUpdate(9, 5), Reset(9, 1)], []),
        ([GoAway(0, 0)], []),
    ],
)
def test_faults_of_a_stream_leave_the_others(
    said: list[frames.Frame], heard: list[frames.Frame]
) -> None:
    peer = Peer()
    peer.opens(1)
    peer.says(*said)
    assert peer.hears() == heard
    assert not peer.server.failed
    assert peer.opens(3) == [Opened(3, {})]


@pytest.mark.parametrize(
    "fault",
    [
        lambda peer: peer.opens(2),
        lambda peer: peer.opens(1),
        lambda peer: peer.opens(0),
        lambda peer: peer.says(SynStream(3, b"nothing")),
        lambda peer: peer.says(SynReply(1, b"nothing")),
        lambda peer: peer.says(WindowUpdate(0, 0)),
        lambda peer: peer.says(WindowUpdate(0, 2**31 - 1)),
        lambda peer: peer.says(Settings(((7, 2**32 - 1),))),
        lambda peer: peer.server.receive(b"\x80\x02" + bytes(9)),
    ],
    ids=["even", "again", "zero", "block", "reply", "no-window", "window", "initial", "version"],
)
def test_faults_of_the_connection_end_it(fault: Callable[[Peer], list[session.Event]]) -> None:
    peer = Peer()
    peer.opens(1)
    peer.server.take()
    if isinstance((fault(peer) or [None])[-1], Failed):
        assert [type(f) for f in peer.hears()][-1:] == [GoAway]
        assert peer.server.failed
        assert peer.says(Ping(1)) == []
        assert peer.server.pending == 0
    else:
        pytest.fail("the connection goes on")


def test_more_streams_than_the_limit_are_refused_and_there_is_room_again() -> None:
    peer = Peer()
    for number in (1, 3, 5, 7):
        peer.opens(number)
    assert peer.opens(9) == []
    assert peer.hears() == [Reset(9, Status.REFUSED_STREAM)]
    peer.says(Reset(1, 5))
    assert peer.opens(11) == [Opened(11, {})]
    assert peer.server.open_streams == 4


def test_a_peer_that_never_speaks_of_windows_has_none() -> None:
    peer = Peer()
    peer.opens(1)
    peer.server.send(1, b"x" * 10 * WINDOW_BYTES)
    assert peer.server.room(1) > WINDOW_BYTES


def test_windows_of_a_peer_that_keeps_them_are_kept() -> None:
    peer = Peer()
    peer.opens(1)
    assert peer.says(Settings(((7, 1000),))) == [Widened()]
    assert peer.server.room(1) == 1000
    peer.server.send(1, b"x" * 1000)
    assert peer.server.room(1) == 0
    peer.says(WindowUpdate(1, WINDOW_BYTES * 2), WindowUpdate(0, 500))
    assert peer.server.room(1) == WINDOW_BYTES + 500 - 1000, "the connection has a window too"
    peer.says(Settings(((7, 500),)))
    peer.opens(3)
    assert peer.server.room(3) == 500


def test_windows_are_granted_as_data_is_used() -> None:
    peer = Peer()
    peer.opens(1)
    peer.says(Data(1, bytes(WINDOW_BYTES // 2)))
    assert peer.hears() == [], "nothing is granted before it is used"
    peer.server.consumed(1, WINDOW_BYTES // 2)
    assert peer.hears() == [WindowUpdate(0, WINDOW_BYTES // 2), WindowUpdate(1, WINDOW_BYTES // 2)]


def test_a_reset_of_ours_is_said_once() -> None:
    peer = Peer()
    peer.opens(1)
    peer.server.reset(1, Status.CANCEL)
    peer.server.reset(1, Status.CANCEL)
    assert peer.hears() == [Reset(1, Status.CANCEL)]


def test_replies_to_what_was_not_asked() -> None:
    client = Session(client=True)
    number = client.open({})
    client.take()
    packer = Packer()
    first = encode(SynReply(number, packer.pack({})))
    assert client.receive(first) == [Replied(number, {})]
    again = encode(SynReply(number, packer.pack({})))
    assert client.receive(again) == [WasReset(number, Status.STREAM_IN_USE)]
    assert client.receive(encode(SynReply(99, packer.pack({})))) == []
