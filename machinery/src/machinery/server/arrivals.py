"""Requests that do not come: a head or a body that is sent byte by byte would hold its connection for ever. Pure.

A connection notes what has arrived; a sweep asks each from time to time whether what it began is overdue. Nothing is timed
for a request that comes whole. Idle connections between two requests are aiohttp's business (an hour), and how many
one address has is limited.
"""

from collections import Counter
from typing import Protocol

from machinery.server.limits import Limits


class Body(Protocol):
    """What is looked at of a request's body."""

    total_bytes: int

    def is_eof(self) -> bool: ...


class Arriving:
    """What of a request is on its way on one connection. Seconds are of any one monotonic clock."""

    __slots__ = ("_began", "_body", "head_bytes", "lasts", "since")

    def __init__(self, now: float) -> None:
        self.since: float | None = now
        """Since when a head is awaited: from the start, and from its first part on; None between two requests."""
        self.head_bytes = 0
        self.lasts = False
        """The request may last, and so may its body: it is a stream."""
        self._body: Body | None = None
        self._began: float | None = None

    def whole(self, body: Body) -> None:
        """A head is complete; its body may not be."""
        self.since, self.head_bytes, self.lasts = None, 0, False
        self._body, self._began = (None, None) if body.is_eof() else (body, None)

    def part(self, size: int) -> int:
        """Bytes that completed no head; how many of one head there are now."""
        body = self._body
        if body is None:
            self.head_bytes += size
        elif body.is_eof():
            self._body = None
        return self.head_bytes

    def overdue(self, now: float, limits: Limits, *, busy: bool, unread: bool) -> str:
        """What should have come by now: `head`, `body`, or nothing.

        `busy`: an earlier request is being answered, so that no head is read. `unread`: we have stopped reading.
        """
        body = self._body
        if body is not None and not body.is_eof():
            if self._began is None or unread or self.lasts:
                self._began = now
            age = now - self._began
            slow = body.total_bytes < (age - limits.body_grace_s) * limits.body_bytes_s_min
            return "body" if age > limits.body_grace_s and (slow or not body.total_bytes) else ""
        if self.since is None:
            if not self.head_bytes or busy:
                return ""
            self.since = now
        if busy:
            self.since = now
        return "head" if now - self.since > limits.head_s else ""


class Addresses:
    """How many connections each address has."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count: Counter[str] = Counter()

    def come(self, address: str) -> bool:
        """One more; whether that is allowed. It is counted either way, until it goes."""
        self.count[address] += 1
        return self.count[address] <= self.most

    def gone(self, address: str) -> None:
        """One less."""
        self.count[address] -= 1
        if self.count[address] <= 0:
            del self.count[address]
