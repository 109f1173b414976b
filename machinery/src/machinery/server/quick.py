"""GET of one object without a task: answered between two bytes, where nothing has to be waited for.

aiohttp wakes a task for every request and starts another; for a GET of a stored object that is more work than the answer.
So the connection's parser is watched: a plain GET by name that is first in line is answered at once, from memory. Whatever
is not plain (a query, another form, a refusal, an absent object, a body, an upgrade, a slow reader) is left to the usual
way, which alone words refusals; here nothing is decided but `yes, and these are the bytes`. Identity and rights are asked
exactly as there.

Only for stores that see every committed write without asking anybody (`reads_are_current`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from machinery.api.scheme import Scheme
from machinery.meta.errors import StatusError
from machinery.server import codec
from machinery.server.authn import Authenticator
from machinery.server.authz import Authorizer
from machinery.server.negotiate import Accepted, negotiate
from machinery.server.rbac import Attributes
from machinery.server.replies import BROWSERS
from machinery.server.request import RequestInfo, parse_target
from machinery.server.user import UserInfo
from machinery.store.interface import Store

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b\n"
_PLAIN = Accepted()
Message = tuple[RawRequestMessage, Any]
Answer = Callable[[RawRequestMessage, UserInfo | None], bytes | None]
"""(request, the user of the connection's certificate) -> the whole answer, or None to go the usual way."""


class Parser(Protocol):
    """What aiohttp's connection needs of its parser."""

    def feed_data(self, data: bytes, /) -> tuple[Sequence[Message], bool, bytes]: ...

    def message_consumed(self) -> None: ...


class WatchedParser:
    """aiohttp's parser, which hands each request to `first` before the connection sees it."""

    def __init__(self, parser: Parser, first: Callable[[RawRequestMessage], bool]) -> None:
        self._parser = parser
        self._first = first

    def feed_data(self, data: bytes) -> tuple[Sequence[Message], bool, bytes]:
        """The requests that are still to be answered, in order."""
        messages, upgraded, tail = self._parser.feed_data(data)
        for number, (message, payload) in enumerate(messages):
            if payload is not EMPTY_PAYLOAD or message.upgrade or not self._first(message):
                return messages[number:], upgraded, tail
            self._parser.message_consumed()
        return (), upgraded, tail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class QuickGet:
    """Answers what it can."""

    def __init__(
        self,
        scheme: Scheme,
        store: Store,
        authenticator: Authenticator,
        authorizer: Authorizer,
        intercepted: Mapping[tuple[str, str, str], Any],
        raw_routes: Collection[str],
        bytes_max: int,
    ) -> None:
        self._scheme = scheme
        self._store = store
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._intercepted = {key[1:] for key in intercepted if key[0] == "get"}
        self._raw_routes = frozenset(raw_routes)
        self._bytes_max = bytes_max
        self.requests: dict[tuple[str, str, int], int] = {}
        """Answered requests by (verb, resource, status), as the front counts them."""
        self.answered = 0
        """Those that were answered here."""

    def answer(self, message: RawRequestMessage, peer: UserInfo | None) -> bytes | None:
        """The whole answer, or None."""
        if message.method != "GET" or "?" in message.path or message.version != HttpVersion11:
            return None
        if message.should_close or message.path in self._raw_routes:
            return None
        info = parse_target("GET", message.path)
        if info.verb != "get" or not info.is_resource or info.subresource or not info.name:
            return None
        headers = message.headers
        if headers.get("User-Agent", "").startswith(BROWSERS) or "Impersonate-User" in headers:
            return None
        if "Impersonate-Group" in headers or "Impersonate-Uid" in headers:
            return None
        try:
            if negotiate(headers.get("Accept", "")) != _PLAIN:
                return None
            user = self._authenticator.known(headers, peer)
        except StatusError:
            return None
        value = self._value(info, user) if user is not None else None
        if value is None or len(value) >= self._bytes_max:
            return None
        self.answered += 1
        key = ("get", info.resource, 200)
        self.requests[key] = self.requests.get(key, 0) + 1
        return _OK % (len(value) + 1, value)

    def _value(self, info: RequestInfo, user: UserInfo) -> bytes | None:
        """The object's JSON if it is there, plain, and the user may see it."""
        kind = self._scheme.by_plural(info.group, info.version, info.resource)
        if kind is None or "get" not in kind.verbs or kind.deprecated or kind.stored_as is not None:
            return None
        namespace = "" if info.resource == "namespaces" else info.namespace
        if kind.namespaced != bool(namespace):
            return None
        if (kind.group, kind.plural) in self._intercepted:
            return None
        asked = Attributes("get", info.group, info.resource, "", info.namespace, info.name)
        if not self._authorizer.allows(user, asked):
            return None
        row = self._store.get(codec.storage_key(kind, namespace, info.name))
        if row is None:
            return None
        return codec.splice(row.value, row.revision, codec.head_size(kind))
