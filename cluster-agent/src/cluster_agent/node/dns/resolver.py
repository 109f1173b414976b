"""From a datagram to the bytes of its answer.

What our zones know is answered in place, without a task; whatever has to ask upstream comes back as a coroutine. The
encoded sections of an answer depend on the lower-case question alone, so they are kept until the names change: then an
answer is a header, the client's own question and known bytes. Address records of one answer all have the same shape,
a pointer to the question and four or sixteen bytes, and can be shuffled without being encoded again.
"""

from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.cache import Key, Reply
from cluster_agent.node.dns.directory import Directory, Result
from cluster_agent.node.dns.forward import Forwarder
from cluster_agent.node.dns.model import DnsConfig
from cluster_agent.node.dns.records import Found
from cluster_agent.node.dns.tally import Tally
from cluster_agent.node.dns.wire import Name, Query, Record, Sections

Answer: TypeAlias = bytes | Coroutine[Any, Any, bytes] | None

KEPT_RECORDS_MAX = 16_384
"""In all kept answers together: one of a thousand addresses counts as such."""
UNLIMITED = 1 << 30
ALIASES_MAX = 8
"""How long a chain of ExternalNames within our zones may be."""
HINFO_DATA = b"\x07RFC8482\0"
OUTSIDE = "."


@dataclass(slots=True)
class _Kept:
    """An encoded answer, good while the directory stays as it is."""

    generation: int
    rcode: int
    flags: int
    zone: str
    records: tuple[Record, ...]
    additional: tuple[Record, ...]
    authority: tuple[Record, ...]
    sections: Sections
    parts: list[bytes] | None
    """The records one by one, where their order is for us to choose."""


class _Call(NamedTuple):
    """A query and how it came."""

    query: Query
    source: str
    started: float
    udp: bool

    @property
    def limit(self) -> int:
        return wire.limit_of(self.query, udp=self.udp)

    def key(self, name: Name) -> Key:
        """The question for upstream."""
        query = self.query
        return Key(name, query.qtype, query.do, bool(query.flags & wire.CD))


class _Alias(NamedTuple):
    """ExternalNames that lead out of our zones."""

    records: tuple[Record, ...]
    name: Name


class Resolver:
    """Answers queries."""

    def __init__(
        self,
        config: DnsConfig,
        directory: Directory,
        forwarder: Forwarder,
        roll: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._config, self._directory, self._forwarder = config, directory, forwarder
        self._roll, self._monotonic = roll, monotonic
        self._kept: dict[tuple[Name, int], _Kept] = {}
        self._kept_records = 0
        self.waiting: Counter[str] = Counter()
        self._tally = Tally()

    # -------------------------------------------------------------------------------------------------- the one door
    def answer(self, data: bytes, source: str, *, udp: bool) -> Answer:
        """The answer, a coroutine that will have it, or None for what deserves none."""
        started = self._monotonic()
        try:
            query = wire.read_query(data)
        except wire.MalformedError:
            self._tally.dropped()
            return None
        except wire.RejectedError as error:
            self._tally.count(OUTSIDE, 0, error.rcode, self._monotonic() - started, udp=udp)
            return wire.error_reply(data, error.rcode)
        call = _Call(query, source, started, udp)
        if refusal := refused(query):
            return self._done(call, wire.EMPTY, refusal)
        kept = self._kept.get((query.name, query.qtype))
        if kept is None or kept.generation != self._directory.generation:
            found = self._look_up(query)
            if not isinstance(found, _Kept):
                return self._outside(call, found)
            kept = found
        return self._done(call, self._arranged(kept, call), kept.rcode, kept.flags, kept.zone)

    def _done(
        self, call: _Call, sections: Sections, rcode: int, flags: int = 0, zone: str = OUTSIDE
    ) -> bytes:
        if self._forwarder.available:
            flags |= wire.RA
        seconds = self._monotonic() - call.started
        self._tally.count(zone, call.query.qtype, rcode, seconds, udp=call.udp)
        return wire.reply(call.query, sections, rcode, flags)

    # ------------------------------------------------------------------------------------------------------ our zones
    def _look_up(self, query: Query) -> _Kept | _Alias:
        """From our zones: a whole answer, or the aliases so far and the name outside they lead to."""
        aliases: tuple[Record, ...] = ()
        name = query.name
        result: Result | None = None
        for _ in range(ALIASES_MAX):
            result = self._directory.lookup(name, query.qtype)
            if result is None:
                return _Alias(aliases, name)
            if result.found.chase is None:
                return self._keep(query, result, aliases)
            aliases += result.found.answer
            name = result.found.chase.lower()
        assert result is not None
        return self._keep(query, result._replace(found=Found(wire.SERVFAIL)), ())

    def _keep(self, query: Query, result: Result, aliases: tuple[Record, ...]) -> _Kept:
        found = result.found
        records = found.answer
        authority: tuple[Record, ...] = ()
        if query.qtype == wire.ANY and found.rcode == wire.NOERROR:
            records = (self._no_any(query),)
        elif not records and found.rcode != wire.SERVFAIL:
            authority = (self._directory.soa(result.zone),)
        own = not aliases and query.qtype in (wire.A, wire.AAAA) and len(records) > 1
        records = aliases + records
        limit = UNLIMITED if own else wire.TCP_MAX - wire.OPT_BYTES
        sections = wire.encode(query.question, records, authority, found.additional, limit=limit)
        size = len(sections.body) // len(records) if own else 0
        kept = _Kept(
            generation=self._directory.generation,
            rcode=found.rcode,
            flags=0 if found.rcode == wire.SERVFAIL else wire.AA,
            zone=result.zone_text,
            records=records,
            authority=authority,
            additional=found.additional,
            sections=sections,
            parts=[sections.body[i : i + size] for i in range(0, len(sections.body), size)]
            if own
            else None,
        )
        self._store(query, kept)
        return kept

    def _store(self, query: Query, kept: _Kept) -> None:
        self._kept_records += 1 + len(kept.records) + len(kept.additional)
        if self._kept_records > KEPT_RECORDS_MAX:
            self._kept.clear()
            self._kept_records = 0
        self._kept[query.name, query.qtype] = kept

    def _no_any(self, query: Query) -> Record:
        """RFC 8482: a friendly nothing for a question that serves attackers only."""
        return Record(query.name, wire.HINFO, self._config.ttl_s, HINFO_DATA)

    def _arranged(self, kept: _Kept, call: _Call) -> Sections:
        """The sections in the order of this answer, and as many records as fit."""
        limit, question = call.limit, call.query.question
        room = limit - wire.HEADER.size - len(question)
        if kept.parts is not None:
            parts = shuffled(kept.parts, self._roll)
            count = min(room // len(parts[0]), len(parts))
            return Sections(b"".join(parts[:count]), (count, 0, 0), count < len(parts))
        if len(kept.sections.body) <= room:
            return kept.sections
        return wire.encode(question, kept.records, kept.authority, kept.additional, limit=limit)

    # ------------------------------------------------------------------------------------------------------- upstream
    def _outside(self, call: _Call, alias: _Alias) -> Answer:
        if call.query.qtype == wire.ANY and not alias.records:
            sections = wire.encode(call.query.question, (self._no_any(call.query),))
            return self._done(call, sections, wire.NOERROR)
        if call.query.qtype == wire.ANY:
            return self._relay(call, Reply(wire.NOERROR), alias.records)
        cached = self._forwarder.cached(call.key(alias.name))
        if cached is not None:
            return self._relay(call, cached, alias.records)
        if not self._forwarder.available:
            rcode = wire.SERVFAIL if alias.records else wire.REFUSED
            return self._done(call, wire.EMPTY, rcode)
        if not self._admitted(call.source):
            return self._done(call, wire.EMPTY, wire.SERVFAIL)
        return self._wait(call, alias)

    def _admitted(self, source: str) -> bool:
        """Count one more waiting query of a client in; False when it, or all together, have too many."""
        config, waiting = self._config, self.waiting
        if (
            waiting.total() >= config.inflight_max
            or waiting[source] >= config.inflight_per_source_max
        ):
            self._tally.overloaded()
            return False
        waiting[source] += 1
        return True

    async def _wait(self, call: _Call, alias: _Alias) -> bytes:
        try:
            reply = await self._forwarder.resolve(call.key(alias.name))
        finally:
            self.waiting[call.source] -= 1
            if not self.waiting[call.source]:
                del self.waiting[call.source]
        return self._relay(call, reply, alias.records)

    def _relay(self, call: _Call, reply: Reply, aliases: tuple[Record, ...]) -> bytes:
        query = call.query
        if reply.rcode == wire.SERVFAIL:
            return self._done(call, wire.EMPTY, wire.SERVFAIL)
        sections = wire.encode(
            query.question,
            aliases + reply.answer,
            reply.authority,
            reply.additional,
            limit=call.limit,
        )
        wants_ad = query.do or query.flags & wire.AD
        flags = wire.AD if reply.authentic and wants_ad and not aliases else 0
        flags |= wire.AA if aliases else 0
        return self._done(call, sections, reply.rcode, flags)


def refused(query: Query) -> int:
    """The error for queries that nobody answers here; 0 for the others."""
    if query.version:
        return wire.BADVERS
    if query.qclass != wire.IN or query.qtype in (wire.AXFR, wire.IXFR):
        return wire.REFUSED
    if query.qtype in (wire.OPT, wire.TSIG):
        return wire.FORMERR
    return wire.NOERROR


def shuffled(parts: list[bytes], roll: Callable[[], float]) -> list[bytes]:
    """The same parts in an order of chance (Fisher and Yates)."""
    parts = parts.copy()
    for last in range(len(parts) - 1, 0, -1):
        other = int(roll() * (last + 1))
        parts[last], parts[other] = parts[other], parts[last]
    return parts
