"""Events of audit logs as `fedctl audit` reads them: from files, filtered, one row a request."""

import datetime as dt
import heapq
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import orjson

from federation.cli.errors import CliError
from machinery.kit.clock import parse_time
from machinery.meta.resource import Document
from machinery.server.audit.files import files

ENDED = ("ResponseComplete", "Panic")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Log:
    """One server's audit log."""

    server: str
    path: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event, and whose log it is from."""

    server: str
    event: Document
    line: bytes = b""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are asked for; what is empty matches all."""

    users: tuple[str, ...] = ()
    """Names, `*` for any text; who impersonated and who was impersonated both count."""
    verbs: frozenset[str] = frozenset()
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    since: str = ""
    """The earliest stageTimestamp, in UTC with microseconds, as the events have it."""
    until: str = ""
    failed: bool = False

    def matches(self, event: Document) -> bool:
        """Whether this event is asked for."""
        moment = event.get("stageTimestamp") or ""
        if (self.since and moment < self.since) or (self.until and moment > self.until):
            return False
        if self.verbs and event.get("verb") not in self.verbs:
            return False
        if self.failed and code(event) < 400:
            return False
        return self._about(event) and self._by(event)

    def _by(self, event: Document) -> bool:
        names = [(event.get(key) or {}).get("username", "") for key in ("user", "impersonatedUser")]
        return not self.users or any(fnmatchcase(n, u) for n in names if n for u in self.users)

    def _about(self, event: Document) -> bool:
        if not (self.resource or self.namespace or self.name):
            return True
        found = event.get("objectRef") or {}
        if self.resource and found.get("resource") != self.resource:
            return False
        if self.subresource and found.get("subresource") != self.subresource:
            return False
        if self.namespace and found.get("namespace", "") != self.namespace:
            return False
        every = event.get("verb") == "deletecollection"  # may have met the one that is asked about
        return not self.name or found.get("name", "") == self.name or every


def code(event: Document) -> int:
    """The status of the answer; 0 where there is none yet."""
    return int((event.get("responseStatus") or {}).get("code") or 0)


# ------------------------------------------------------------------------------------------------------------ reading
@dataclass(slots=True)
class Damage:
    """Lines that are no events: of a process that was killed while it wrote, or forged."""

    lines: int = 0
    where: set[str] = field(default_factory=set)


def read(logs: Iterable[Log], wanted: Wanted, damage: Damage) -> Iterator[Recorded]:
    """All that match, in the order of time, one held at a time. Raises CliError, PermissionError."""
    return heapq.merge(*(_of_log(log, wanted, damage) for log in logs), key=_moment)


def _moment(one: Recorded) -> str:
    return str(one.event.get("stageTimestamp") or "")


def _of_log(log: Log, wanted: Wanted, damage: Damage) -> Iterator[Recorded]:
    for path in existing(log):
        try:
            with open(path, "rb") as file:
                yield from _events(log, file, wanted, damage)
        except FileNotFoundError:  # put aside, or dropped as the oldest, in this moment
            continue


def existing(log: Log) -> list[str]:
    """Its files. Raises CliError when there is none."""
    try:
        found = files(log.path)
    except FileNotFoundError:
        found = []
    if not found:
        raise CliError(
            f"{log.path}: no audit log of {log.server} there: it has never served, "
            "or `audit` in its configuration says enabled: false or another path (give that by --file)"
        )
    return found


def _events(log: Log, lines: Iterable[bytes], wanted: Wanted, damage: Damage) -> Iterator[Recorded]:
    for line in lines:
        event = parsed(line)
        if event is None:
            if line.strip():
                damage.lines += 1
                damage.where.add(log.path)
        elif wanted.matches(event):
            yield Recorded(log.server, event, line)


def parsed(line: bytes) -> Document | None:
    """The event in a line."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    sound = isinstance(found, dict) and found.get("kind") == "Event"
    return found if sound else None


class Tail:
    """The end of a log as it grows, over its rotations."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._file = open(log.path, "rb")  # noqa: SIM115 - closed by `close`
        self._file.seek(0, os.SEEK_END)
        self._rest = b""

    def more(self, wanted: Wanted, damage: Damage) -> list[Recorded]:
        """What was appended since. A line that is not whole yet waits."""
        data = self._rest + self._file.read()
        if self._put_aside():
            data += self._file.read()  # what came before it was put aside
            self._file.close()
            self._file = open(self._log.path, "rb")  # noqa: SIM115
            data += self._file.read()
        *lines, self._rest = data.split(b"\n")
        return list(_events(self._log, (line + b"\n" for line in lines), wanted, damage))

    def _put_aside(self) -> bool:
        try:
            return not os.path.samestat(os.stat(self._log.path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """End."""
        self._file.close()


def follow(
    tails: Sequence[Tail], wanted: Wanted, damage: Damage, sleep: Callable[[float], None]
) -> Iterator[Recorded]:
    """What comes, for ever; `sleep` waits so many seconds."""
    while True:
        fresh = [one for tail in tails for one in tail.more(wanted, damage)]
        yield from sorted(fresh, key=_moment)
        sleep(POLL_S)


# ------------------------------------------------------------------------------------------------------------ rows
def requests(found: Iterable[Recorded]) -> list[Recorded]:
    """One event a request: its last. An id alone proves nothing, a client may choose it."""
    kept = list(found)
    ended = {_identity(one) for one in kept if one.event.get("stage") in ENDED}
    last: dict[Any, Recorded] = {}
    rows: list[Recorded] = []
    for one in kept:
        if one.event.get("stage") in ENDED:
            rows.append(one)
        elif (key := _identity(one)) not in ended:
            last[key] = one
    rows += last.values()
    return sorted(rows, key=_moment)


def _identity(one: Recorded) -> tuple[Any, ...]:
    event = one.event
    keys = ("auditID", "requestURI", "requestReceivedTimestamp", "verb")
    user = (event.get("user") or {}).get("username")
    return (one.server, user, *(event.get(key) for key in keys))


HEADINGS = ("WHEN", "WHO", "VERB", "WHAT", "RESULT")


def row(event: Document) -> tuple[str, ...]:
    """When, who, verb, what, result."""
    return (
        str(event.get("stageTimestamp") or "?").partition(".")[0] + "Z",
        shown(who(event)),
        shown(str(event.get("verb", ""))),
        shown(what(event)),
        shown(result(event)),
    )


def shown(text: str) -> str:
    """Fit for a terminal: names in requests are anybody's, and may hold what moves a cursor."""
    return text if text.isprintable() else json.dumps(text)[1:-1]


def who(event: Document) -> str:
    """`alice`, `alice as bob`, which of a server's own controllers, or that nobody is known."""
    name = (event.get("user") or {}).get("username") or "(unknown)"
    if not event.get("sourceIPs") and event.get("userAgent"):
        return f"{name} ({event['userAgent']})"
    acted = (event.get("impersonatedUser") or {}).get("username")
    return f"{name} as {acted}" if acted else str(name)


def what(event: Document) -> str:
    """`deployments/web -n demo`; of a path its text."""
    found = event.get("objectRef")
    if not found:
        return str(event.get("requestURI", "")).partition("?")[0]
    parts = [found.get("resource", ""), found.get("name", ""), found.get("subresource", "")]
    where = found.get("namespace", "")
    spaced = f" -n {where}" if where and found.get("resource") != "namespaces" else ""
    return "/".join(part for part in parts if part) + spaced


def result(event: Document) -> str:
    """`201`, `403 Forbidden: why`, or how far it has come."""
    status = event.get("responseStatus") or {}
    stage = event.get("stage")
    if stage not in ENDED and code(event) < 400:
        return f"{code(event)}, under way" if code(event) else "received"
    told = f"{code(event)} {status.get('reason', '')}".strip()
    failed = code(event) >= 400 and status.get("message")
    return f"{told}: {status['message']}" if failed else told


# ------------------------------------------------------------------------------------------------------------ times
def moment(text: str, now: dt.datetime) -> str:
    """`90m` ago, or a time or date (UTC where it names no zone), as events write it. Raises CliError."""
    found = _DURATION.fullmatch(text)
    if text and found is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        ago = dt.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        at = now - ago
    else:
        try:
            at = dt.datetime.fromisoformat(text)
            at = at.replace(tzinfo=dt.UTC) if at.tzinfo is None else parse_time(text)
        except ValueError as error:
            raise CliError(
                f"{text!r} is no time: say 90m, 2h or 3d for so long ago, or 2026-11-29T14:00:00Z"
            ) from error
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
