"""Answers of upstream that may be given again: bounded, never longer than they allow, and stale ones for a rainy day.

An entry whose time is over is kept a little longer, to be served while no upstream answers (RFC 8767). Failures are
remembered for a moment as well (RFC 9520), or each of a thousand pods would wait for the same dead server by itself.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.wire import Name, Record

STALE_TTL_S = 5
FAILURE_S = 1.0
"""How long a failure without a stale answer is remembered."""
STALE_RETRY_S = 5.0
"""How long stale answers go out at once, before upstream is tried again."""


class Key(NamedTuple):
    """What can change an answer of upstream."""

    name: Name
    qtype: int
    do: bool = False
    cd: bool = False


class Reply(NamedTuple):
    """What came from upstream."""

    rcode: int
    answer: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    authentic: bool = False
    """The AD bit: a validating resolver stands behind it."""


FAILED = Reply(wire.SERVFAIL)


@dataclass(slots=True)
class _Entry:
    reply: Reply
    stored_at: float
    until: float
    retry_at: float = 0.0


def lifetime(reply: Reply, positive_max_s: int, negative_max_s: int) -> int:
    """Seconds an answer may be kept; a "no" says it in its SOA record, and without one it may not be kept."""
    ttls = [record.ttl for record in (*reply.answer, *reply.authority)]
    if reply.rcode == wire.NOERROR and any(r.rtype not in (wire.CNAME, 46) for r in reply.answer):
        return min([positive_max_s, *ttls])
    if reply.rcode not in (wire.NOERROR, wire.NXDOMAIN):
        return 0
    minimums = [
        min(record.ttl, int.from_bytes(record.rdata[-4:], "big"))
        for record in reply.authority
        if record.rtype == wire.SOA
    ]
    return min([negative_max_s, *ttls, *minimums]) if minimums else 0


class ReplyCache:
    """At most `entries_max` answers; the one not asked for the longest goes first."""

    def __init__(
        self, entries_max: int, positive_max_s: int, negative_max_s: int, stale_max_s: float
    ) -> None:
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._max, self._stale_max_s = entries_max, stale_max_s
        self._positive_max_s, self._negative_max_s = positive_max_s, negative_max_s

    def __len__(self) -> int:
        return len(self._entries)

    def fresh(self, key: Key, now: float) -> Reply | None:
        """An answer that may be given without asking anybody."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now < entry.until:
            self._entries.move_to_end(key)
            return aged(entry.reply, int(now - entry.stored_at))
        if now < entry.retry_at:
            return self.stale(key, now)
        return None

    def stale(self, key: Key, now: float) -> Reply | None:
        """An answer whose time is over, but not by much."""
        entry = self._entries.get(key)
        if entry is None or now >= entry.until + self._stale_max_s or entry.reply is FAILED:
            return None
        return with_ttl(entry.reply, STALE_TTL_S)

    def put(self, key: Key, reply: Reply, now: float) -> None:
        """Keep an answer as long as it allows."""
        seconds = lifetime(reply, self._positive_max_s, self._negative_max_s)
        if seconds > 0:
            self._store(key, _Entry(reply, now, now + seconds))

    def put_failure(self, key: Key, now: float) -> None:
        """Nobody answers: serve what is stale for a while, or fail at once for a moment."""
        if self.stale(key, now) is not None:
            self._entries[key].retry_at = now + STALE_RETRY_S
        else:
            self._store(key, _Entry(FAILED, now, now + FAILURE_S))

    def _store(self, key: Key, entry: _Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._max:
            _ = self._entries.popitem(last=False)


def aged(reply: Reply, seconds: int) -> Reply:
    """The same answer so many seconds later."""
    if seconds <= 0:
        return reply

    def older(records: Iterable[Record]) -> tuple[Record, ...]:
        return tuple(r._replace(ttl=max(0, r.ttl - seconds)) for r in records)

    return reply._replace(
        answer=older(reply.answer),
        authority=older(reply.authority),
        additional=older(reply.additional),
    )


def with_ttl(reply: Reply, ttl: int) -> Reply:
    """The same answer with another time to live."""

    def timed(records: Iterable[Record]) -> tuple[Record, ...]:
        return tuple(r._replace(ttl=ttl) for r in records)

    return reply._replace(
        answer=timed(reply.answer),
        authority=timed(reply.authority),
        additional=timed(reply.additional),
    )
