"""DNS messages: what a client asked, and the bytes of our answer (RFC 1035, 3597, 6891).

A name is kept as it is on the wire: length-prefixed labels and a final zero, never compressed, as `bytes`. Letters are
lowered by `bytes.lower()`, which is safe because a length is at most 63 and the first letter, `A`, is 65. So the key of
every table is a slice of the datagram and nothing is decoded that nobody looks at.

The question is copied into the answer byte for byte: clients mix upper and lower case to recognise forged answers.

Limits: one question a message, class IN; no TSIG, cookies, updates, zone transfers or DNSSEC signatures of our own.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

Name: TypeAlias = bytes
"""Uncompressed wire form, with the final zero."""

A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 41
TSIG, IXFR, AXFR, ANY = 250, 251, 252, 255
IN: Final = 1
TYPE_NAMES: Final = {
    A: "A", NS: "NS", CNAME: "CNAME", SOA: "SOA", PTR: "PTR", MX: "MX", TXT: "TXT", AAAA: "AAAA", SRV: "SRV",
    IXFR: "IXFR", AXFR: "AXFR", ANY: "ANY", 65: "HTTPS",
}  # fmt: skip

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
RCODE_NAMES: Final = {
    NOERROR: "NOERROR", FORMERR: "FORMERR", SERVFAIL: "SERVFAIL", NXDOMAIN: "NXDOMAIN", NOTIMP: "NOTIMP",
    REFUSED: "REFUSED", BADVERS: "BADVERS",
}  # fmt: skip

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE_MASK: Final = 0x7800
DO: Final = 0x8000

HEADER: Final = struct.Struct("!6H")
TYPE_CLASS: Final = struct.Struct("!HH")
FIXED: Final = struct.Struct("!HHIH")
"""Type, class, TTL and length of the data: what follows a record's name."""

NAME_MAX, LABEL_MAX = 255, 63
UDP_PLAIN_MAX, UDP_EDNS_MAX = 512, 1232
"""1232 bytes pass every path without fragments (the default of DNS flag day 2020)."""
TCP_MAX: Final = 65_535
POINTER: Final = 0xC0
POINTER_REACH: Final = 0x4000
OPT_BYTES: Final = 11


class MalformedError(ValueError):
    """Bytes that are no DNS message."""


class RejectedError(Exception):
    """A query that is answered with an error and nothing else."""

    def __init__(self, rcode: int) -> None:
        super().__init__(RCODE_NAMES[rcode])
        self.rcode = rcode


class Query(NamedTuple):
    """What a client asks. `udp_size` is 0 when it does not speak EDNS."""

    id: int
    flags: int
    name: Name
    """In lower case."""
    qtype: int
    qclass: int
    question: bytes
    """The question section as it came."""
    udp_size: int = 0
    version: int = 0
    do: bool = False
    """Wants signatures (RFC 3225)."""


class Record(NamedTuple):
    """One resource record; names inside `rdata` are not compressed."""

    name: Name
    rtype: int
    ttl: int
    rdata: bytes
    rclass: int = IN


class Sections(NamedTuple):
    """The encoded part of an answer between its question and its OPT record."""

    body: bytes
    counts: tuple[int, int, int]
    """Of answer, authority and additional records."""
    truncated: bool = False


# -------------------------------------------------------------------------------------------------------------- names
def name_of(text: str) -> Name:
    """`web.demo.` or `web.demo` on the wire. Raises ValueError where it is too long or not ASCII."""
    text = text.removesuffix(".")
    if not text:
        return b"\0"
    parts = bytearray()
    for label in text.encode("ascii").split(b"."):
        if not 0 < len(label) <= LABEL_MAX:
            raise ValueError(
                f"name {text!r} has a label of {len(label)} letters: 1 to 63 are allowed"
            )
        parts.append(len(label))
        parts += label
    parts.append(0)
    if len(parts) > NAME_MAX:
        raise ValueError(f"name {text!r} is longer than {NAME_MAX - 2} letters")
    return bytes(parts)


def labels_of(name: Name) -> list[bytes]:
    """The labels of a name, without the root."""
    labels, at = [], 0
    while length := name[at]:
        labels.append(name[at + 1 : at + 1 + length])
        at += length + 1
    return labels


def text_of(name: Name) -> str:
    """`web.demo.`, with dots and unprintable bytes inside labels escaped as in zone files."""
    return "".join(_label_text(label) + "." for label in labels_of(name)) or "."


def _label_text(label: bytes) -> str:
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte not in b'."\\' else f"\\{byte:03d}" for byte in label
    )  # fmt: skip


def read_name(data: bytes, at: int) -> tuple[Name, int]:
    """The name at `at`, pointers followed, and where the next field starts. Raises MalformedError.

    Every pointer must lead before the part it ends, so a loop is impossible.
    """
    parts: list[bytes] = []
    size, after, limit = 1, -1, at
    try:
        while length := data[at]:
            if length <= LABEL_MAX:
                end = at + 1 + length
                size += length + 1
                parts.append(data[at:end])
                at = end
            elif length >= POINTER:
                target = (length & ~POINTER) << 8 | data[at + 1]
                if not HEADER.size <= target < limit:
                    raise MalformedError("a compression pointer does not lead back")
                after = at + 2 if after < 0 else after
                at = limit = target
            else:
                raise MalformedError("a label of an unknown kind")
            if size > NAME_MAX:
                raise MalformedError("a name is too long")
    except IndexError:
        raise MalformedError("a name runs past the end") from None
    parts.append(b"\0")
    return b"".join(parts), at + 1 if after < 0 else after


# ------------------------------------------------------------------------------------------------------------ queries
def read_query(data: bytes) -> Query:
    """The query in a datagram. Raises MalformedError for what deserves no answer, RejectedError for the rest."""
    if len(data) < HEADER.size:
        raise MalformedError("shorter than a header")
    id_, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    if flags & QR:
        raise MalformedError("an answer, not a query")
    if flags & OPCODE_MASK:
        raise RejectedError(NOTIMP)
    if questions != 1:
        raise RejectedError(FORMERR)
    try:
        name, at = read_name(data, HEADER.size)
        qtype, qclass = TYPE_CLASS.unpack_from(data, at)
        question = data[HEADER.size : at + 4]
        query = Query(id_, flags, name.lower(), qtype, qclass, question)
        extra = answers + authorities + additionals
        return _with_edns(query, data, at + 4, extra) if extra else query
    except (MalformedError, struct.error):
        raise RejectedError(FORMERR) from None


def _with_edns(query: Query, data: bytes, at: int, count: int) -> Query:
    seen = False
    for _ in range(count):
        name, at = (b"\0", at + 1) if data[at : at + 1] == b"\0" else read_name(data, at)
        rtype, size, ttl, length = FIXED.unpack_from(data, at)
        at += FIXED.size + length
        if at > len(data):
            raise MalformedError("a record runs past the end")
        if rtype != OPT:
            continue
        if seen or name != b"\0":
            raise MalformedError("a second OPT record, or one with a name")
        seen = True
        query = query._replace(
            udp_size=max(size, UDP_PLAIN_MAX), version=ttl >> 16 & 0xFF, do=bool(ttl & DO)
        )
    return query


# ------------------------------------------------------------------------------------------------------------ answers
def limit_of(query: Query, *, udp: bool) -> int:
    """How many bytes the answer may have before its OPT record."""
    if not query.udp_size:
        return UDP_PLAIN_MAX if udp else TCP_MAX
    return (min(query.udp_size, UDP_EDNS_MAX) if udp else TCP_MAX) - OPT_BYTES


def encode(
    question: bytes,
    answer: Iterable[Record],
    authority: Iterable[Record] = (),
    additional: Iterable[Record] = (),
    *,
    limit: int = TCP_MAX,
) -> Sections:
    """Three sections that follow `question`, as much of them as `limit` allows.

    Answers that do not fit make the message truncated, though those that fit are sent: some resolvers never ask again
    over TCP. Additional records are a courtesy and are left out in silence.
    """
    writer = _Writer(question)
    answers, whole = writer.section(answer, limit)
    authorities, whole = writer.section(authority, limit) if whole else (0, False)
    additionals = writer.section(additional, limit)[0] if whole else 0
    body = bytes(writer.out[HEADER.size + len(question) :])
    return Sections(body, (answers, authorities, additionals), not whole)


def reply(query: Query, sections: Sections, rcode: int = NOERROR, flags: int = 0) -> bytes:
    """The message: header, question, sections and, if the client speaks EDNS, our OPT record."""
    answers, authorities, additionals = sections.counts
    bits = QR | query.flags & (RD | CD) | flags | rcode & 0xF
    if sections.truncated:
        bits |= TC
    edns = bool(query.udp_size)
    header = HEADER.pack(query.id, bits, 1, answers, authorities, additionals + edns)
    if not edns:
        return header + query.question + sections.body
    return header + query.question + sections.body + opt_record(rcode, do=query.do)


def opt_record(rcode: int = 0, *, do: bool = False) -> bytes:
    """How much we take, the upper bits of the result, and whether signatures are understood."""
    return b"\0" + FIXED.pack(OPT, UDP_EDNS_MAX, rcode >> 4 << 24 | (DO if do else 0), 0)


EMPTY: Final = Sections(b"", (0, 0, 0))


def error_reply(data: bytes, rcode: int) -> bytes:
    """The bare header for a query that could not be read; `data` holds at least a header."""
    id_, flags = TYPE_CLASS.unpack_from(data)
    return HEADER.pack(id_, QR | flags & (OPCODE_MASK | RD) | rcode, 0, 0, 0, 0)


class _Writer:
    """Grows a message behind its question and remembers where names stand."""

    def __init__(self, question: bytes) -> None:
        self.out = bytearray(HEADER.size) + question
        self._known: dict[bytes, int] = {}
        self._remember(question[:-4].lower(), HEADER.size)

    def _remember(self, name: bytes, start: int) -> None:
        at = 0
        while length := name[at]:
            self._known.setdefault(name[at:], start + at)
            at += length + 1

    def section(self, records: Iterable[Record], limit: int) -> tuple[int, bool]:
        """How many records were written, and whether these are all."""
        count = 0
        for record in records:
            start = len(self.out)
            self._record(record)
            if len(self.out) > limit:
                self._forget(start)
                return count, False
            count += 1
        return count, True

    def _forget(self, start: int) -> None:
        del self.out[start:]
        self._known = {name: at for name, at in self._known.items() if at < start}

    def _record(self, record: Record) -> None:
        self._name(record.name)
        out, rdata, rtype = self.out, record.rdata, record.rtype
        out += FIXED.pack(rtype, record.rclass, record.ttl, len(rdata))
        start = len(out)
        if rtype in (CNAME, PTR, NS):
            self._name(rdata)
        elif rtype == MX:
            out += rdata[:2]
            self._name(rdata[2:])
        elif rtype == SOA:
            middle = name_end(rdata, 0)
            end = name_end(rdata, middle)
            self._name(rdata[:middle])
            self._name(rdata[middle:end])
            out += rdata[end:]
        else:
            out += rdata
            return
        out[start - 2 : start] = (len(out) - start).to_bytes(2, "big")

    def _name(self, name: Name) -> None:
        out, known, at = self.out, self._known, 0
        while length := name[at]:
            suffix = name[at:].lower()
            if (target := known.get(suffix)) is not None:
                out += (POINTER << 8 | target).to_bytes(2, "big")
                return
            if len(out) < POINTER_REACH:
                known[suffix] = len(out)
            out += name[at : at + length + 1]
            at += length + 1
        out.append(0)


def name_end(data: bytes, at: int) -> int:
    """Where an uncompressed name ends."""
    while length := data[at]:
        at += length + 1
    return at + 1


# --------------------------------------------------------------------------------------------------------------- rdata
def txt_data(*texts: str) -> bytes:
    """Character strings of at most 255 bytes each."""
    return b"".join(bytes((len(raw),)) + raw for raw in (text.encode("ascii") for text in texts))


def srv_data(priority: int, weight: int, port: int, target: Name) -> bytes:
    return struct.pack("!HHH", priority, weight, port) + target


def soa_data(server: Name, mailbox: Name, numbers: Sequence[int]) -> bytes:
    """`numbers`: serial, refresh, retry, expire, minimum."""
    return server + mailbox + struct.pack("!5I", *numbers)
