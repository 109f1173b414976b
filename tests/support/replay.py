"""Plays recorded API conversations (tests/golden/api) against a server and compares the answers.

A recording is one request with a real server's answer; lines of one `seq` run in order. Placeholders in a recorded
answer (`<uid:1>`, `<rv:3>`, `<continue:…>`) bind to what our server says and are put into later requests of the sequence;
`<time>` and `<age>` match anything of their form. Watches are not played here.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

_PLACE = re.compile(
    r"<(?P<kind>[A-Za-z][A-Za-z\-]*)(?::(?P<key>[^<>]*(?:\{[^<>]*\})?[^<>]*|\{.*?\}))?>"
)
_WORDS = frozenset(
    {"none", "unknown", "unset", "nil", "invalid", "input", "empty", "audience", "token", "absent", "name", "namespace"}
)  # fmt: skip
_FORMS = {
    "rv": r"\d+", "microtime": r"[0-9T:.\-Z+]+", "rand": r"[a-z0-9]+", "uid": r"[0-9a-f-]{36}",
    "time": r"[0-9T:.\-Z+]+", "age": r"[0-9smhdy<>a-z]+",
}  # fmt: skip
_NUMBER = "<nodePort:"
"""A placeholder that stands for a number."""
Bindings = dict[str, str]
ABSENT = "<absent>"


@dataclass(frozen=True)
class Outcome:
    """How one recorded request went."""

    id: str
    group: str
    request: Mapping[str, Any]
    want_status: int
    status: int
    differences: tuple[tuple[str, Any, Any], ...]

    @property
    def same_status(self) -> bool:
        return self.status == self.want_status

    @property
    def same_body(self) -> bool:
        """Apart from managedFields."""
        return self.same_status and not self.differences


@dataclass
class Score:
    """Counts over outcomes."""

    requests: int = 0
    statuses: int = 0
    bodies: int = 0
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.requests += 1
        self.statuses += outcome.same_status
        self.bodies += outcome.same_body
        if not outcome.same_body:
            self.failed.append(outcome)


def fill(value: Any, bound: Bindings) -> Any:
    """A recorded value with the bound placeholders put in; a continue token that nobody gave is made from its words."""
    if isinstance(value, str):
        if value.startswith(_NUMBER) and value in bound:
            return int(bound[value])
        return _PLACE.sub(lambda m: bound.get(m.group(0)) or _literal(m), value)
    if isinstance(value, list):
        return [fill(item, bound) for item in value]
    if isinstance(value, dict):
        return {fill(key, bound): fill(item, bound) for key, item in value.items()}
    return value


def _literal(place: re.Match[str]) -> str:
    if place["kind"] != "continue" or not (place["key"] or "").startswith("{"):
        return place.group(0)
    return base64.urlsafe_b64encode(place["key"].encode()).rstrip(b"=").decode()


def matches(want: str, got: str, bound: Bindings) -> bool:
    """Whether a text equals a recorded one, placeholders aside; binds what is new."""
    holes = [m for m in _PLACE.finditer(want) if m["kind"] not in _WORDS]
    if not holes:
        return want == got
    pattern, last, names = "", 0, []
    for hole in holes:
        pattern += re.escape(want[last : hole.start()])
        known = bound.get(hole.group(0)) if hole["key"] else None
        if known is None:
            pattern += f"({_FORMS.get(hole['kind'], '.+?')})"
            named = hole["key"] or hole["kind"] in ("time", "microtime")
            names.append(hole.group(0) if named else None)
        else:
            pattern += re.escape(known)
        last = hole.end()
    found = re.fullmatch(pattern + re.escape(want[last:]), got, re.DOTALL)
    if found is None:
        return False
    bound.update({name: text for name, text in zip(names, found.groups(), strict=True) if name})
    return True


def differ(want: Any, got: Any, bound: Bindings, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, wanted, got) of every difference, managedFields aside."""
    if isinstance(want, dict) and isinstance(got, dict):
        if not path and ("items" in want or "rows" in want):
            want = _list_at_least(want, got, bound)
        for key in sorted(want.keys() | got.keys()):
            if key == "managedFields":
                continue
            if key not in got:
                yield f"{path}.{key}", want[key], ABSENT
            elif key not in want:
                yield f"{path}.{key}", ABSENT, got[key]
            else:
                yield from differ(want[key], got[key], bound, f"{path}.{key}")
    elif isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            yield path, f"{len(want)} items", f"{len(got)} items"
        for number, (left, right) in enumerate(zip(want, got, strict=False)):
            yield from differ(left, right, bound, f"{path}[{number}]")
    elif isinstance(want, str) and (isinstance(got, str) or want.startswith(_NUMBER)):
        if not matches(want, str(got), bound):
            yield path, want, got
    elif want != got:
        yield path, want, got


def _list_at_least(want: Any, got: Any, bound: Bindings) -> Any:
    """A list may be newer than its items."""
    wanted = (want.get("metadata") or {}).get("resourceVersion", "")
    given = (got.get("metadata") or {}).get("resourceVersion", "")
    if _PLACE.fullmatch(wanted) and given.isdigit():
        bound.setdefault(wanted, given)
        return {**want, "metadata": {**want["metadata"], "resourceVersion": given}}
    return want


def sequences(records: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Records grouped by `seq`, which lie together."""
    current: list[Mapping[str, Any]] = []
    for record in records:
        if current and record["seq"] != current[0]["seq"]:
            yield current
            current = []
        current.append(record)
    if current:
        yield current


def playable(record: Mapping[str, Any]) -> bool:
    """Whether this can be sent and compared: no watch, no body that is only described."""
    answer = record["response"]
    return (
        "stream" not in answer
        and answer["status"] is not None
        and "body_note" not in record["request"]
    )


class Player:
    """Sends recorded requests to one server."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, tokens: Mapping[str, str]
    ) -> None:
        self._session = session
        self._base_url = base_url
        self._tokens = tokens

    async def play(self, records: Iterable[Mapping[str, Any]]) -> list[Outcome]:
        """One sequence, in order."""
        bound: Bindings = {}
        return [await self._one(record, bound) for record in records if playable(record)]

    async def _one(self, record: Mapping[str, Any], bound: Bindings) -> Outcome:
        request, answer = record["request"], record["response"]
        headers, body = _payload(request, bound)
        headers = {"Accept": "application/json", "User-Agent": "rec/1.0", **headers}
        token = self._tokens.get(request.get("user", "admin"))
        if token:
            headers.setdefault("Authorization", f"Bearer {token}")
        status, raw = await self.send(
            request["method"], fill(request["path"], bound), headers, body
        )
        try:
            got: Any = json.loads(raw)
        except ValueError:
            got = raw.decode("utf-8", "replace")
        found = tuple(differ(answer.get("body", ""), got, bound))
        return Outcome(record["id"], record["group"], request, answer["status"], status, found)

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        """One exchange."""
        url = URL(self._base_url + path, encoded=True)
        async with self._session.request(
            method, url, headers=headers, data=body, allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        ) as response:  # fmt: skip
            return response.status, await response.read()


def _payload(request: Mapping[str, Any], bound: Bindings) -> tuple[dict[str, str], bytes | None]:
    headers = dict(fill(request.get("headers") or {}, bound))
    if "body_raw" in request:
        raw = request["body_raw"]
        if raw.startswith("base64:"):
            return headers, base64.b64decode(raw[7:])
        return headers, fill(raw, bound).encode()
    if "body" not in request:
        return headers, None
    body = fill(request["body"], bound)
    headers.setdefault("Content-Type", "application/json")
    return headers, (body if isinstance(body, str) else json.dumps(body)).encode()
