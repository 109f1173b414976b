"""Answers of upstream resolvers, taken apart; and the queries that fetch them.

Records are kept with every name written out, since an answer is put together anew for each client. Names inside record
data can be compressed in the types that RFC 1035 knew, and in the few that RFC 3597 section 4 lists; all other data
is opaque and passes as it is.
"""

import struct
from typing import Final, NamedTuple

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.wire import MalformedError, Name, Record

LAYOUTS: Final = {
    2: "n", 3: "n", 4: "n", 5: "n", 7: "n", 8: "n", 9: "n", 12: "n", 39: "n", 6: "nn.", 14: "nn", 17: "nn",
    15: "2n", 18: "2n", 21: "2n", 36: "2n", 26: "2nn", 33: "6n", 35: "4sssn",
}  # fmt: skip
"""Type -> its data: `n` a name, `s` a character string, a digit so many bytes, `.` the rest."""

RECORDS_MAX: Final = 4_096
"""The counts in a header are the sender's claim; a message of 65,535 bytes cannot hold more than this many useful ones."""


class Response(NamedTuple):
    """A whole message, OPT left out."""

    id: int
    flags: int
    rcode: int
    name: Name
    """In lower case."""
    qtype: int
    answer: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]

    @property
    def truncated(self) -> bool:
        return bool(self.flags & wire.TC)


def read_response(data: bytes) -> Response:
    """Raises MalformedError."""
    try:
        id_, flags, questions, *counts = wire.HEADER.unpack_from(data)
        if not flags & wire.QR or questions != 1:
            raise MalformedError("no answer to one question")
        name, at = wire.read_name(data, wire.HEADER.size)
        qtype, _ = wire.TYPE_CLASS.unpack_from(data, at)
        at += wire.TYPE_CLASS.size
        sections = []
        rcode = flags & 0xF
        for count in counts:
            records, at = _records(data, at, min(count, RECORDS_MAX), whole=not flags & wire.TC)
            rcode |= sum(r.ttl >> 24 << 4 for r in records if r.rtype == wire.OPT)
            sections.append(tuple(r for r in records if r.rtype not in (wire.OPT, wire.TSIG)))
    except (struct.error, IndexError):
        raise MalformedError("a message that ends too early") from None
    return Response(id_, flags, rcode, name.lower(), qtype, *sections)


def _records(data: bytes, at: int, count: int, *, whole: bool) -> tuple[list[Record], int]:
    records: list[Record] = []
    for _ in range(count):
        if at >= len(data) and not whole:
            break  # a truncated message may end before its counts do
        name, at = wire.read_name(data, at)
        rtype, rclass, ttl, length = wire.FIXED.unpack_from(data, at)
        start = at + wire.FIXED.size
        at = start + length
        if at > len(data):
            raise MalformedError("a record runs past the end")
        if ttl >> 31 and rtype != wire.OPT:
            ttl = 0  # RFC 2181 section 8
        records.append(Record(name, rtype, ttl, _rdata(data, rtype, start, at), rclass))
    return records, at


def _rdata(data: bytes, rtype: int, at: int, end: int) -> bytes:
    layout = LAYOUTS.get(rtype)
    if layout is None:
        return data[at:end]
    parts: list[bytes] = []
    for field in layout:
        if field == "n":
            name, at = wire.read_name(data, at)
            parts.append(name)
            continue
        after = end if field == "." else at + (data[at] + 1 if field == "s" else int(field))
        parts.append(data[at:after])
        at = after
    if at != end:
        raise MalformedError("record data of a wrong length")
    return b"".join(parts)


def query_bytes(
    id_: int, name: Name, qtype: int, *, edns: bool = True, do: bool = False, cd: bool = False
) -> bytes:
    """A recursive query."""
    flags = wire.RD | (wire.CD if cd else 0)
    header = wire.HEADER.pack(id_, flags, 1, 0, 0, int(edns))
    question = name + wire.TYPE_CLASS.pack(qtype, wire.IN)
    return header + question + (wire.opt_record(do=do) if edns else b"")
