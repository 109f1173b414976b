"""The codec: what is read is what was written, and nothing that comes over the network can break it."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.node.dns.dnsworld import World, many, question

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.response import read_response
from cluster_agent.node.dns.wire import MalformedError, Query, Record, RejectedError

LABEL = st.binary(min_size=1, max_size=20)
NAME = st.lists(LABEL, max_size=8).map(
    lambda labels: b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
)
OPAQUE = st.builds(
    Record, NAME, st.sampled_from([wire.A, wire.AAAA, wire.TXT, 65, 257]), st.integers(0, 2**31 - 1), st.binary(max_size=40), st.just(wire.IN)
)  # fmt: skip
NAMED = st.builds(
    Record,
    NAME,
    st.sampled_from([wire.CNAME, wire.PTR, wire.NS]),
    st.integers(0, 2**31 - 1),
    NAME,
    st.just(wire.IN),
)


def numbered(owner: bytes, kind: tuple[int, int], target: bytes) -> Record:
    """A name behind some bytes."""
    rtype, size = kind
    return Record(owner, rtype, 5, b"\1" * size + target)


NUMBERED = st.builds(numbered, NAME, st.sampled_from([(wire.MX, 2), (wire.SRV, 6)]), NAME)
START = st.builds(
    lambda owner, a, b: Record(owner, wire.SOA, 5, wire.soa_data(a, b, (1, 2, 3, 4, 5))),
    NAME, NAME, NAME,
)  # fmt: skip
RECORDS = st.lists(st.one_of(OPAQUE, NAMED, NUMBERED, START), max_size=6)


# -------------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("text", "raw"),
    [("", b"\0"), (".", b"\0"), ("a.bc.", b"\1a\2bc\0"), ("a.bc", b"\1a\2bc\0")],
)
def test_names(text: str, raw: bytes) -> None:
    assert wire.name_of(text) == raw
    assert wire.text_of(raw) == (text.removesuffix(".") + ".")


@pytest.mark.parametrize("text", ["a..b", "x" * 64, ".".join(["abcdefg"] * 33), "ä.de"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"label|longer|ascii"):
        wire.name_of(text)


def test_odd_letters_are_escaped() -> None:
    assert wire.text_of(b"\4a.\\\x07\0") == r"a\046\092\007."


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\3ab", id="cut off"),
        pytest.param(b"\3abc", id="without an end"),
        pytest.param(b"\x40a\0", id="unknown kind of label"),
        pytest.param(b"\xc0", id="half a pointer"),
        pytest.param(b"\xc0\x0c", id="pointer to itself"),
        pytest.param(b"\1a\xc0\x0c", id="pointer to its own name"),
        pytest.param(b"\xc0\x20", id="pointer ahead"),
        pytest.param(b"\xc0\x00", id="pointer into the header"),
        pytest.param(b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 3 + b"\0", id="too long"),
    ],
)
def test_names_that_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        wire.read_name(bytes(12) + data, 12)


def test_chains_of_pointers_end() -> None:
    data = bytearray(bytes(12) + b"\1a\0")
    for _ in range(
        200
    ):  # each one label and a pointer to the one before: too long, and no endless loop
        back = 12 if len(data) == 15 else len(data) - 4
        data += b"\1b" + (0xC000 | back).to_bytes(2, "big")
    with pytest.raises(MalformedError):
        wire.read_name(bytes(data), len(data) - 4)


# -------------------------------------------------------------------------------------------------------- there and back
@settings(max_examples=150, deadline=None)
@given(NAME, RECORDS, RECORDS, RECORDS, st.booleans())
def test_what_is_written_is_read(
    name: bytes, answer: list[Record], authority: list[Record], extra: list[Record], edns: bool
) -> None:
    asked = name + wire.TYPE_CLASS.pack(wire.A, wire.IN)
    query = Query(77, wire.RD, name.lower(), wire.A, wire.IN, asked, 1232 if edns else 0)
    message = wire.reply(
        query, wire.encode(asked, answer, authority, extra), wire.NXDOMAIN, wire.AA
    )
    got = read_response(message)
    assert (got.id, got.rcode, got.name, got.qtype) == (77, wire.NXDOMAIN, name.lower(), wire.A)
    assert got.flags & (wire.AA | wire.RD | wire.TC | wire.RA) == wire.AA | wire.RD
    for read, written in zip(
        (got.answer, got.authority, got.additional), (answer, authority, extra), strict=True
    ):
        assert [lowered(r) for r in read] == [lowered(r) for r in written]


def lowered(record: Record) -> Record:
    """Compression joins names that differ in case only."""
    named = record.rtype in (wire.CNAME, wire.PTR, wire.NS, wire.MX, wire.SRV, wire.SOA)
    rdata = record.rdata.lower() if named else record.rdata
    return record._replace(name=record.name.lower(), rdata=rdata)


def test_names_are_compressed() -> None:
    zone = wire.name_of("svc.cluster.local")
    asked = b"\3WEB" + zone + wire.TYPE_CLASS.pack(wire.A, wire.IN)
    records = [Record(b"\3web" + zone, wire.CNAME, 5, b"\5other" + zone)]
    records.append(Record(b"\5other" + zone, wire.A, 5, b"\1\2\3\4"))
    body = wire.encode(asked, records).body
    assert body.startswith(b"\xc0\x0c\0\5") and body.count(b"cluster") == 0
    assert len(body) == (2 + 10 + 8) + (2 + 10 + 4)


# ------------------------------------------------------------------------------------------------------------- queries
def asked_with(
    *extra: bytes, counts: tuple[int, int, int, int] = (1, 0, 0, 1), flags: int = 0
) -> bytes:
    name = wire.name_of("a.b") + wire.TYPE_CLASS.pack(wire.A, wire.IN)
    return wire.HEADER.pack(9, flags, *counts) + name + b"".join(extra)


def opt(size: int = 4096, ttl: int = 0, data: bytes = b"") -> bytes:
    return b"\0" + wire.FIXED.pack(wire.OPT, size, ttl, len(data)) + data


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        pytest.param(asked_with(counts=(1, 0, 0, 0)), (0, 0, False), id="plain"),
        pytest.param(asked_with(opt()), (4096, 0, False), id="EDNS"),
        pytest.param(asked_with(opt(size=100)), (512, 0, False), id="less than allowed"),
        pytest.param(asked_with(opt(ttl=0x8000)), (4096, 0, True), id="DO"),
        pytest.param(asked_with(opt(ttl=1 << 16)), (4096, 1, False), id="another version"),
        pytest.param(asked_with(opt(data=b"\0\x0a\0\x08abcdefgh")), (4096, 0, False), id="cookie"),
        pytest.param(asked_with(b"\xc0\x0c" + opt()[1:].replace(b"\0\x29", b"\0\1", 1), opt(), counts=(1, 0, 0, 2)), (4096, 0, False), id="another record"),
    ],
)  # fmt: skip
def test_extensions(data: bytes, wanted: tuple[int, int, bool]) -> None:
    query = wire.read_query(data)
    assert (query.udp_size, query.version, query.do) == wanted
    assert (query.name, query.qtype) == (b"\1a\1b\0", wire.A)


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        pytest.param(asked_with(counts=(1, 0, 0, 1)), wire.FORMERR, id="record missing"),
        pytest.param(asked_with(opt(), opt(), counts=(1, 0, 0, 2)), wire.FORMERR, id="two OPT"),
        pytest.param(asked_with(b"\1x" + opt()), wire.FORMERR, id="OPT with a name"),
        pytest.param(asked_with(opt(data=b"abc")[:-1]), wire.FORMERR, id="cut off"),
        pytest.param(asked_with(counts=(0, 0, 0, 0)), wire.FORMERR, id="no question"),
        pytest.param(asked_with(counts=(2, 0, 0, 0)), wire.FORMERR, id="two questions"),
        pytest.param(asked_with(counts=(1, 0, 0, 0))[:-1], wire.FORMERR, id="half a question"),
        pytest.param(asked_with(counts=(1, 0, 0, 0))[:12], wire.FORMERR, id="header alone"),
        pytest.param(asked_with(counts=(1, 0, 0, 0), flags=0x2800), wire.NOTIMP, id="update"),
        pytest.param(asked_with(counts=(1, 0, 0, 0), flags=0x2000), wire.NOTIMP, id="notify"),
    ],
)
def test_bad_queries_are_told_so(data: bytes, rcode: int) -> None:
    with pytest.raises(RejectedError) as caught:
        wire.read_query(data)
    assert caught.value.rcode == rcode
    answer = World().raw(data)
    assert answer is not None
    assert (answer[:2], answer[3] & 0xF, len(answer)) == (data[:2], rcode, 12)


@pytest.mark.parametrize("data", [b"", b"abc", bytes(11), asked_with(flags=wire.QR)])
def test_what_is_no_query_gets_no_answer(data: bytes) -> None:
    assert World().raw(data) is None


@pytest.mark.parametrize(
    ("qclass", "qtype", "rcode"),
    [(3, wire.TXT, wire.REFUSED), (255, wire.A, wire.REFUSED), (1, wire.IXFR, wire.REFUSED)],
)
def test_other_classes_and_transfers_are_refused(qclass: int, qtype: int, rcode: int) -> None:
    name = wire.name_of("web.demo.svc.cluster.local")
    data = wire.HEADER.pack(1, 0, 1, 0, 0, 0) + name + wire.TYPE_CLASS.pack(qtype, qclass)
    answer = World().raw(data)
    assert answer is not None and answer[3] & 0xF == rcode


def test_another_version_of_edns_is_refused_as_such() -> None:
    data = question("web.demo.svc.cluster.local", "A", edns=False)
    data = data[:10] + b"\0\1" + data[12:] + opt(ttl=1 << 16)
    answer = World().raw(data)
    assert answer is not None and read_response(answer).rcode == wire.BADVERS


# ------------------------------------------------------------------------------------------------------------- answers
def test_the_question_comes_back_as_it_was_spelled() -> None:
    data = question("WeB.dEmO.sVc.ClUsTeR.lOcAl", "A", id_=513)
    world = World()
    for _ in range(2):
        answer = world.raw(data)
        assert answer is not None
        asked = data[12:-11]
        assert answer[:2] == data[:2] and answer[12 : 12 + len(asked)] == asked
        assert answer.count(b"\3wEb") == 0 and answer.count(b"\3web") == 0


@pytest.mark.parametrize("edns", [True, False])
def test_opt_is_answered_by_opt(edns: bool) -> None:
    answer = World().raw(question("web.demo.svc.cluster.local", "A", edns=edns))
    assert answer is not None
    assert answer.endswith(b"\0\0\x29\x04\xd0\0\0\0\0\0\0") == edns


@pytest.mark.parametrize(
    ("qtype", "edns", "most"),
    [("A", False, 512), ("A", True, 1232), ("SRV", False, 512), ("SRV", True, 1232)],
)
@pytest.mark.parametrize("count", [1, 20, 28, 29, 30, 72, 73, 74, 75, 300])
def test_answers_that_do_not_fit(qtype: str, edns: bool, most: int, count: int) -> None:
    world = World(state=many(count))
    name = "big.demo.svc.cluster.local"
    whole = world.response(name, qtype, udp=False)
    assert len(whole.answer) == count and not whole.truncated
    for _ in range(3):
        raw = world.raw(question(name, qtype, edns=edns))
        assert raw is not None and len(raw) <= most
        part = read_response(raw)
        assert part.truncated == (len(part.answer) < count)
        assert set(part.answer) <= set(whole.answer)
        if part.truncated:
            step = 16 if qtype == "A" else 100
            assert len(raw) + step > most and not part.additional
            again = read_response(world.raw(question(name, qtype, edns=edns)) or b"")
            assert qtype != "A" or set(again.answer) != set(part.answer)


def test_more_than_tcp_can_carry() -> None:
    world = World(state=many(4_500))
    response = world.response("big.demo.svc.cluster.local", "A", udp=False)
    assert response.truncated and 4_000 < len(response.answer) < 4_100


# ---------------------------------------------------------------------------------------------------------------- fuzz
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_does_no_harm(data: bytes) -> None:
    answer = World(state=None).raw(data)
    assert answer is None or answer[:2] == data[:2]


def test_damaged_queries_do_no_harm() -> None:
    """Each byte of real queries changed at random; every answer is a message that can be read."""
    rng, world = random.Random(1), World()
    base = [
        question("_http._tcp.web.demo.svc.cluster.local", "SRV"),
        question("db.demo.svc.cluster.local", "A", edns=False),
        question("20.0.96.10.in-addr.arpa", "PTR", do=True),
    ]
    answered = 0
    for _ in range(6_000):
        data = bytearray(rng.choice(base))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice(
                (0, 1, 12, 41, 63, 64, 192, 255, rng.randrange(256))
            )
        cut = bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        answer = world.raw(cut)
        if answer is not None and len(answer) > 12:
            assert read_response(answer).id == int.from_bytes(cut[:2], "big")
            assert len(answer) <= 1232
            answered += 1
    assert answered > 1_000


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 3))
def test_noise_from_upstream_is_malformed(data: bytes, answers: int, extra: int) -> None:
    head = wire.HEADER.pack(1, wire.QR, 1, answers, 0, extra)
    asked = b"\1a\0" + wire.TYPE_CLASS.pack(wire.A, wire.IN)
    try:
        response = read_response(head + asked + data)
    except MalformedError:
        return
    message = wire.encode(asked, response.answer, response.authority, response.additional)
    assert message.counts[0] == len(response.answer)
