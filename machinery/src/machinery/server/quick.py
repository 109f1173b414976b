"""Requests without a task: answered between two bytes, or begun there, where nothing has to be waited for.

aiohttp wakes a task for every request and starts another; for a GET of a stored object that is more work than the answer,
and for a write it is a tenth of it. So the connection's parser is watched, and a plain request that is first in line is
taken at once: a GET by name is answered from memory; a create or a patch is judged, handed to the store, and answered when the
store has it (quick_write.py). Whatever is not plain (another form, a refusal, an absent object, an upgrade, a slow reader, a body
that is not here yet) is left to the usual way, which alone words refusals; here nothing is decided but `yes, and these are
the bytes`. Identity and rights are asked exactly as there.

Only for stores that see every committed write without asking anybody (`reads_are_current`).
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Protocol

from aiohttp.http import HttpVersion11, RawRequestMessage

from machinery.api.kinds import CUSTOM_RESOURCE_DEFINITION
from machinery.api.scheme import Scheme, ServedKind
from machinery.meta.errors import StatusError
from machinery.server import codec, impersonation
from machinery.server.audit.auditor import Auditor
from machinery.server.audit.policy import Level
from machinery.server.authn import Authenticator
from machinery.server.authz import Authorizer
from machinery.server.negotiate import Accepted, negotiate
from machinery.server.rbac import Attributes
from machinery.server.replies import BROWSERS
from machinery.server.request import RequestInfo, parse_target
from machinery.server.user import UserInfo
from machinery.store.interface import Store

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b\n"
_OK_AUDITED = _OK.replace(b"\r\n\r\n", b"\r\nAudit-Id: %b\r\n\r\n")
_PLAIN = Accepted()
WHOLE = frozenset({""})
"""No subresource."""
Message = tuple[RawRequestMessage, Any]
Counts = dict[tuple[str, str, int], int]
"""Answered requests by (verb, resource, status)."""


class Quick(NamedTuple):
    """What a connection asks before aiohttp sees a request; each is given the user of its certificate."""

    answer: Callable[[RawRequestMessage, UserInfo | None], bytes | None]
    """The whole answer to a request without a body, or None to go the usual way."""
    begin: Callable[[RawRequestMessage, bytes, UserInfo | None, str, Callable[[bytes], None]], bool]
    """Whether a request with a body (from that address) was taken; the function is then called once, later, with the
    whole answer."""
    counts: Counts
    """Where both count, and the front as well."""


class Parser(Protocol):
    """What aiohttp's connection needs of its parser."""

    def feed_data(self, data: bytes, /) -> tuple[Sequence[Message], bool, bytes]: ...

    def message_consumed(self) -> None: ...


class WatchedParser:
    """aiohttp's parser, which hands each request to `first` before the connection sees it.

    `whole` is told the body of the last request whose head is here, `part` the size of what completed none.
    """

    def __init__(
        self,
        parser: Parser,
        first: Callable[[RawRequestMessage, Any], bool],
        whole: Callable[[Any], None],
        part: Callable[[int], None],
    ) -> None:
        self._parser = parser
        self._first = first
        self._whole = whole
        self._part = part

    def feed_data(self, data: bytes) -> tuple[Sequence[Message], bool, bytes]:
        """The requests that are still to be answered, in order."""
        messages, upgraded, tail = self._parser.feed_data(data)
        if messages:
            self._whole(messages[-1][1])
        else:
            self._part(len(data))
        for number, (message, payload) in enumerate(messages):
            if message.upgrade or not self._first(message, payload):
                return messages[number:], upgraded, tail
            self._parser.message_consumed()
        return (), upgraded, tail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class Admitted(NamedTuple):
    """A plain request that its user may make."""

    info: RequestInfo
    kind: ServedKind
    user: UserInfo
    asked: Attributes


class Gate:
    """Which requests are plain, and whether they may pass."""

    def __init__(
        self,
        scheme: Scheme,
        authenticator: Authenticator,
        authorizer: Authorizer,
        intercepted: Collection[tuple[str, str, str]],
        raw_routes: Collection[str],
    ) -> None:
        self._scheme = scheme
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._intercepted = frozenset(intercepted)
        self._raw_routes = frozenset(raw_routes)

    def admitted(
        self,
        message: RawRequestMessage,
        peer: UserInfo | None,
        verb: str,
        parts: Collection[str] = WHOLE,
    ) -> Admitted | None:
        """The request as `verb` on a stored kind's objects, or on one of these subresources. None for anything else, and
        for all that is refused."""
        path, headers = message.path, message.headers
        if message.version != HttpVersion11 or message.should_close or path in self._raw_routes:
            return None
        info = parse_target(message.method, path)
        if info.verb != verb or not info.is_resource or info.subresource not in parts or info.rest:
            return None
        if headers.get("User-Agent", "").startswith(BROWSERS) or impersonation.is_asked(headers):
            return None
        kind = self._kind(info)
        if kind is None:
            return None
        try:
            if negotiate(headers.get("Accept", "")) != _PLAIN:
                return None
            user = self._authenticator.known(headers, peer)
        except StatusError:
            return None
        if user is None:
            return None
        asked = Attributes(
            verb, info.group, info.resource, info.subresource, info.namespace, info.name
        )
        return Admitted(info, kind, user, asked) if self._authorizer.allows(user, asked) else None

    def _kind(self, info: RequestInfo) -> ServedKind | None:
        """The kind behind the path, if nothing about it is special."""
        kind = self._scheme.by_plural(info.group, info.version, info.resource)
        if kind is None or kind.deprecated:
            return None
        plural, verbs = kind.plural, kind.verbs
        if info.subresource:
            part = kind.subresource(info.subresource)
            plural, verbs = f"{plural}/{info.subresource}", () if part is None else part.verbs
        if info.verb not in verbs:
            return None
        if kind.stored_as is not None or not kind.storable:
            return None
        if kind.dynamic is not None or kind is CUSTOM_RESOURCE_DEFINITION:
            return None
        in_namespace = bool(info.namespace) and info.resource != "namespaces"
        if kind.namespaced != in_namespace:
            return None
        return None if (info.verb, kind.group, plural) in self._intercepted else kind


class QuickGet:
    """Answers a GET by name from memory, unless it is to be recorded."""

    def __init__(
        self,
        gate: Gate,
        store: Store,
        bytes_max: int,
        counts: Counts,
        auditor: Auditor | None = None,
    ) -> None:
        self._gate = gate
        self._store = store
        self._bytes_max = bytes_max
        self._counts = counts
        self._auditor = auditor
        self.answered = 0
        """Those that were answered here."""

    def answer(self, message: RawRequestMessage, peer: UserInfo | None) -> bytes | None:
        """The whole answer, or None."""
        if message.method != "GET" or "?" in message.path:
            return None
        admitted = self._gate.admitted(message, peer, "get")
        if admitted is None:
            return None
        info, kind, user, _ = admitted
        auditor = self._auditor
        if auditor is not None and auditor.decide(user, info).level is not Level.NONE:
            return None
        namespace = info.namespace if kind.namespaced else ""
        row = self._store.get(codec.storage_key(kind, namespace, info.name))
        if row is None or len(row.value) >= self._bytes_max:
            return None
        self.answered += 1
        key = ("get", info.resource, 200)
        self._counts[key] = self._counts.get(key, 0) + 1
        value = codec.splice(row.value, row.revision, codec.head_size(kind))
        if auditor is None:
            return _OK % (len(value) + 1, value)
        audit_id = auditor.audit_id(message.headers).encode("utf-8", "surrogateescape")
        return _OK_AUDITED % (len(value) + 1, audit_id, value)
