"""LIST: which revision, which objects, which page.

    resourceVersion   resourceVersionMatch   meaning
    absent            -                      everything committed before the request
    0                 - / NotOlderThan       what the cache has; limit is ignored
    N                 - / NotOlderThan       at least N; too far ahead waits 3 s, then 504
    N                 Exact, or N + limit    the state at N, or 410
    -                 with continue          the state that the first page saw, or 410 with a token to go on inconsistently

A continue token is unpadded base64url of {"v":"meta.k8s.io/v1","rv":N,"start":"ns/name\\0"}. The state behind a started
list is kept for some minutes; all its entries are shared with the present.
"""

import base64
import binascii
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from machinery.api.fieldselectors import check
from machinery.api.patch import gotext
from machinery.api.scheme import ServedKind
from machinery.kit.clock import Clock
from machinery.meta.errors import BadRequest, Expired, InternalError, Invalid, Timeout, invalid
from machinery.meta.selectors import EVERYTHING, Selector, SelectorError, parse, parse_fields
from machinery.server import events_view
from machinery.server.cache import Entry, KindCache, Selection, WatchCache
from machinery.server.request import RequestInfo

AHEAD_WAIT_S = 3.0
SNAPSHOTS_MAX = 8
TOKEN_VERSION = "meta.k8s.io/v1"
INCONSISTENT = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


class ContinueExpired(Expired):
    """410 that carries a token for the rest."""

    def __init__(self, token: str) -> None:
        super().__init__(INCONSISTENT)
        self.token = token

    def to_status(self) -> dict[str, Any]:
        return {**super().to_status(), "metadata": {"continue": self.token}}


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A checked LIST request."""

    selection: Selection
    revision: str = ""
    match: str = ""
    limit: int = 0
    continue_: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What a LIST answers."""

    entries: list[Entry]
    revision: int
    continue_: str = ""
    remaining: int | None = None

    def metadata(self) -> dict[str, Any]:
        """The list's metadata."""
        found: dict[str, Any] = {"resourceVersion": str(self.revision)}
        if self.continue_:
            found["continue"] = self.continue_
        if self.remaining is not None:
            found["remainingItemCount"] = self.remaining
        return found


# ------------------------------------------------------------------------------------------------------ checking
def selection_of(
    kind: ServedKind, namespace: str, label_selector: str, field_selector: str
) -> Selection:
    """The selection of a list or watch. Raises BadRequest for what is not a selector or not a known field."""
    try:
        labels = parse(label_selector) if label_selector else EVERYTHING
        fields = parse_fields(field_selector) if field_selector else EVERYTHING
    except SelectorError as error:
        raise BadRequest(str(error)) from None
    check(kind, (term.key for term in fields.requirements))
    if kind.group == events_view.GROUP:
        fields = Selector(
            tuple(
                replace(term, key=events_view.FIELD_LABELS.get(term.key, term.key))
                for term in fields.requirements
            )
        )
    return Selection(namespace, labels, fields)


def list_query(kind: ServedKind, info: RequestInfo) -> ListQuery:
    """Raises BadRequest, Invalid."""
    limit = parse_int(info.first("limit"))
    parse_int(info.first("timeoutSeconds"))
    check_list_options(info)
    return ListQuery(
        selection_of(
            kind, info.namespace, info.first("labelSelector"), info.first("fieldSelector")
        ),
        info.first("resourceVersion"),
        info.first("resourceVersionMatch"),
        max(limit, 0),
        info.first("continue"),
    )


_INT: Final = re.compile(r"[+-]?[0-9]+")
_UINT: Final = re.compile(r"[0-9]+")
_DIGITS_MAX: Final = 20
"""More digits than a 64-bit number has, zeros in front aside."""


def parse_int(text: str) -> int:
    """A number in the query. Raises BadRequest in Go's words."""
    if not text:
        return 0
    if not _INT.fullmatch(text):
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    number = _within(text, -(1 << 63), (1 << 63) - 1)
    if number is None:
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": value out of range')
    return number


def _within(text: str, least: int, most: int) -> int | None:
    """The number, if it is in range; Python refuses to read very long ones."""
    if len(text.lstrip("+-0")) > _DIGITS_MAX:
        return None
    number = int(text)
    return number if least <= number <= most else None


def parse_revision(text: str) -> int:
    """A resourceVersion. Raises BadRequest in upstream's words."""
    number = parse_uint(text)
    if isinstance(number, str):
        raise BadRequest(
            f'invalid resource version: resourceVersion: Invalid value: "{text}": {number}'
        )
    return number


def parse_uint(text: str) -> int | str:
    """An unsigned number, or Go's complaint."""
    if not _UINT.fullmatch(text):
        return f'strconv.ParseUint: parsing "{text}": invalid syntax'
    number = _within(text, 0, (1 << 64) - 1)
    return f'strconv.ParseUint: parsing "{text}": value out of range' if number is None else number


def _forbidden(field: str, message: str) -> dict[str, str]:
    return {
        "reason": "FieldValueForbidden", "message": f"Forbidden: {message}", "field": field,
    }  # fmt: skip


def check_list_options(info: RequestInfo) -> None:
    """The combinations that upstream forbids on a list."""
    match, revision = info.first("resourceVersionMatch"), info.first("resourceVersion")
    causes: list[Mapping[str, str]] = []
    if "sendInitialEvents" in info.query:
        causes.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if match:
        causes += _match_causes(match, revision, info.first("continue"))
    if causes:
        raise list_options_invalid(causes)


def _match_causes(match: str, revision: str, token: str) -> list[Mapping[str, str]]:
    field = "resourceVersionMatch"
    causes: list[Mapping[str, str]] = []
    if not revision:
        causes.append(
            _forbidden(
                field, "resourceVersionMatch is forbidden unless resourceVersion is provided"
            )
        )
    if token:
        causes.append(
            _forbidden(field, "resourceVersionMatch is forbidden when continue is provided")
        )
    if match not in ("Exact", "NotOlderThan"):
        message = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
        causes.append({"reason": "FieldValueNotSupported", "message": message, "field": field})
    if match == "Exact" and revision == "0":
        causes.append(
            _forbidden(field, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
        )
    return causes


def check_watch_options(info: RequestInfo) -> bool:
    """Whether initial events are asked for; raises Invalid for what is forbidden on a watch."""
    match = info.first("resourceVersionMatch")
    initial = "sendInitialEvents" in info.query
    causes: list[Mapping[str, str]] = []
    if match and not initial:
        causes.append(
            _forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        )
    if initial and match != "NotOlderThan":
        if not match:
            causes.append(
                _forbidden(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                )
            )
        else:
            message = f'Unsupported value: "{match}": supported values: "NotOlderThan"'
            causes.append(
                {
                    "reason": "FieldValueNotSupported",
                    "message": message,
                    "field": "resourceVersionMatch",
                }
            )
    if causes:
        raise list_options_invalid(causes)
    return initial and info.first("sendInitialEvents").lower() not in ("false", "0")


def list_options_invalid(causes: list[Mapping[str, str]]) -> Invalid:
    return invalid("ListOptions", "meta.k8s.io", "", causes)


def too_large(revision: int, current: int, *, retry: bool = True) -> Timeout:
    """504: the asked revision has not been issued yet."""
    details: dict[str, Any] = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    }
    if retry:
        details["retryAfterSeconds"] = 1
    return Timeout(
        f"Timeout: Too large resource version: {revision}, current: {current}", details=details
    )


# --------------------------------------------------------------------------------------------------------- token
def encode_token(revision: int, start: str) -> str:
    """The token that continues after a page."""
    text = orjson.dumps({"v": TOKEN_VERSION, "rv": revision, "start": start})
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def decode_token(token: str) -> tuple[int, str]:
    """(revision, first key not yet sent). Raises BadRequest."""
    prefix = "invalid continue token: continue key is not valid: "
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        document = orjson.loads(raw)
    except (binascii.Error, ValueError):
        raise BadRequest(prefix + _go_json_error(token)) from None
    if not isinstance(document, dict) or document.get("v") != TOKEN_VERSION:
        version = document.get("v", "") if isinstance(document, dict) else ""
        raise BadRequest(f"{prefix}server does not recognize this encoded version {version}")
    revision, start = document.get("rv", 0), document.get("start", "")
    if type(revision) is not int:
        raise BadRequest(f"{prefix}{_not_go(revision, 'rv', 'int64')}")
    if not isinstance(start, str):
        raise BadRequest(f"{prefix}{_not_go(start, 'start', 'string')}")
    if revision == 0:
        raise BadRequest(
            f"{prefix}incorrect encoded start resourceVersion (version {TOKEN_VERSION})"
        )
    if not start:
        raise BadRequest(f"{prefix}continue token is empty")
    if ".." in start.split("/") or start.startswith("//"):
        raise BadRequest(f"{prefix}{start}")
    return revision, start


def _not_go(value: Any, field: str, wanted: str) -> str:
    return (
        f"json: cannot unmarshal {gotext.type_name(value)} into Go struct field "
        f"continueToken.{field} of type {wanted}"
    )


def _go_json_error(token: str) -> str:
    """What Go's JSON parser says of the first wrong character."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return "illegal base64 data at input byte 0"
    if not raw:
        return "unexpected end of JSON input"
    first = raw[:1].decode("latin-1")
    shown = first if first.isprintable() and first.isascii() else f"\\u{ord(first):04x}"
    return f"invalid character '{shown}' looking for beginning of value"


async def wait_until(cache: WatchCache, revision: int, wait_s: float = AHEAD_WAIT_S) -> None:
    """Wait until everything up to `revision` is here. Raises Timeout when it has not been issued yet."""
    if cache.revision >= revision or await cache.fresh() >= revision:
        return
    if not await cache.wait_for(revision, wait_s):
        raise too_large(revision, cache.revision)


# ---------------------------------------------------------------------------------------------------------- pages
class Lister:
    """Answers LISTs from the watch cache."""

    def __init__(
        self, cache: WatchCache, clock: Clock, ttl_s: float, ahead_wait_s: float = AHEAD_WAIT_S
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._ttl_s = ttl_s
        self._ahead_wait_s = ahead_wait_s
        self._snapshots: dict[tuple[str, int], tuple[float, dict[str, Entry]]] = {}

    async def page(self, kinds: KindCache, query: ListQuery) -> Page:
        """The page that was asked for. Raises BadRequest, Expired, Timeout."""
        if query.continue_:
            return await self._continued(kinds, query)
        revision = query.revision
        if revision in ("", "0"):
            if not revision:
                await self._cache.fresh()
            limit = query.limit if not revision else 0
            return self._first(kinds, query.selection, self._cache.revision, limit)
        asked = parse_revision(revision)
        exact = query.match == "Exact" or (query.limit and not query.match)
        if exact:
            return await self._exact(kinds, query, asked)
        await wait_until(self._cache, asked, self._ahead_wait_s)
        return self._first(kinds, query.selection, self._cache.revision, query.limit)

    async def reached(self, revision: str) -> None:
        """Wait until a GET may be answered that wants at least this revision. Raises InternalError, Timeout."""
        if revision in ("", "0"):
            return
        asked = parse_uint(revision)
        if isinstance(asked, str):
            text = f'resourceVersion: Invalid value: "{revision}": {asked}'
            raise InternalError(text, reason="")
        await wait_until(self._cache, asked, self._ahead_wait_s)

    async def _exact(self, kinds: KindCache, query: ListQuery, revision: int) -> Page:
        current = await self._cache.fresh()
        if revision > current:
            raise too_large(revision, current, retry=False)
        state = self._state(kinds, revision)
        if state is None:
            raise Expired("The resourceVersion for the provided list is too old.")
        return self._cut(kinds, state, query.selection, revision, query.limit, "")

    async def _continued(self, kinds: KindCache, query: ListQuery) -> Page:
        if query.revision not in ("", "0"):
            raise BadRequest("specifying resource version is not allowed when using continue")
        revision, start = decode_token(query.continue_)
        current = await self._cache.fresh()
        limit = 0 if query.revision == "0" else query.limit
        if revision < 0:
            return self._cut(kinds, kinds.entries, query.selection, current, limit, start)
        state = self._state(kinds, revision)
        if state is None:
            raise ContinueExpired(encode_token(-1, start))
        return self._cut(kinds, state, query.selection, revision, limit, start)

    def _first(self, kinds: KindCache, selection: Selection, revision: int, limit: int) -> Page:
        if not limit:
            return Page(kinds.select(selection), revision)
        return self._cut(kinds, kinds.entries, selection, revision, limit, "")

    def _cut(
        self,
        kinds: KindCache,
        state: Mapping[str, Entry],
        selection: Selection,
        revision: int,
        limit: int,
        start: str,
    ) -> Page:
        """The page of `state` from `start` on, and how to go on after it."""
        keys = self._keys(kinds, state, selection)
        prefix = f"{selection.namespace}/" if selection.namespace else ""
        # a token's start is relative to the list: "/name\0" in one namespace, "ns/name\0" in all
        first = prefix + start.lstrip("/") if start else ""
        keys = keys[bisect_left(keys, first) :] if first else keys
        found: list[Entry] = []
        for position, key in enumerate(keys):
            entry = state[key]
            if not selection.matches(entry, kinds.kind):
                continue
            if limit and len(found) == limit:
                left = len(keys) - position if selection.everything else None
                self._keep(kinds, state, revision)
                last = found[-1].key
                shown = "/" + last.removeprefix(prefix) if prefix else last
                token = encode_token(revision, shown + "\0")
                return Page(found, revision, token, left)
            found.append(entry)
        return Page(found, revision)

    def _keys(
        self, kinds: KindCache, state: Mapping[str, Entry], selection: Selection
    ) -> list[str]:
        if state is kinds.entries:
            return kinds.ordered(selection.namespace)
        keys = sorted(state)
        if not selection.namespace:
            return keys
        low = bisect_left(keys, f"{selection.namespace}/")
        return keys[low : bisect_left(keys, f"{selection.namespace}0")]

    def _state(self, kinds: KindCache, revision: int) -> Mapping[str, Entry] | None:
        kept = self._snapshots.get((kinds.prefix, revision))
        if kept is not None and kept[0] > self._clock.monotonic():
            return kept[1]
        return kinds.state_at(revision)

    def _keep(self, kinds: KindCache, state: Mapping[str, Entry], revision: int) -> None:
        key = (kinds.prefix, revision)
        if key in self._snapshots:
            return
        now = self._clock.monotonic()
        stale = [k for k, (until, _) in self._snapshots.items() if until <= now]
        mine = [k for k in self._snapshots if k[0] == kinds.prefix]
        for old in {*stale, *mine[: len(mine) - SNAPSHOTS_MAX + 1]}:
            del self._snapshots[old]
        self._snapshots[key] = (now + self._ttl_s, dict(state))
