"""POST of a new object, and PATCH of one or of its status, without a task: judged between two bytes, answered when the store has it.

What such a write does before it is stored waits for nothing: decode, patch, defaults, admission, validation (registry.py). So
it runs where the bytes arrive, and the store's outcome sends the answer. The client waits as long as ever, for the disk; what
is saved is the server's work round it: aiohttp's request, its tasks and their wake-ups.

Whatever is refused before the write is left untouched to the usual way, which works it out again and words it. Limit: only
bodies that came whole with their head, no rehearsals and no server-side apply.
"""

import asyncio
import logging
from collections.abc import Callable

from aiohttp.http import RawRequestMessage

from machinery.meta.errors import StatusError
from machinery.meta.resource import Document
from machinery.server import codec, patching
from machinery.server.audit.auditor import Auditor
from machinery.server.audit.event import HEADER
from machinery.server.audit.policy import NOTHING, Level
from machinery.server.call import Call
from machinery.server.negotiate import media_type
from machinery.server.options import call_of, warning_headers
from machinery.server.quick import WHOLE, Admitted, Counts, Gate
from machinery.server.registry import Begun, Registry
from machinery.server.replies import Reply, error_reply
from machinery.server.user import UserInfo
from machinery.store.interface import Row

log = logging.getLogger(__name__)

_HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b\n"
_STATUS_LINES = {200: b"200 OK", 201: b"201 Created"}
_PARAMETERS = frozenset({"fieldManager", "fieldValidation"})
_ANSWER_GROWTH = 8
"""An answer is longer than its wish: defaults, managers. This much, generously."""
_VERBS = {"POST": ("create", WHOLE), "PATCH": ("patch", frozenset({"", "status"}))}
"""Method -> verb and the subresources that it may name here."""
_PATCHES = frozenset({patching.JSON, patching.MERGE, patching.STRATEGIC})


class QuickWrite:
    """Begins what it can."""

    def __init__(
        self,
        gate: Gate,
        registry: Registry,
        bytes_max: int,
        counts: Counts,
        auditor: Auditor | None = None,
    ) -> None:
        self._gate = gate
        self._registry = registry
        self._bytes_max = bytes_max
        self._counts = counts
        self._auditor = auditor
        self.begun = 0
        """Those that were begun here."""

    def begin(
        self,
        message: RawRequestMessage,
        body: bytes,
        peer: UserInfo | None,
        remote: str,
        reply: Callable[[bytes], None],
    ) -> bool:
        """Whether the request was taken; `reply` is then called once, later, with the whole answer."""
        admitted = self._admitted(message, body, peer)
        if admitted is None:
            return False
        trail, decision = None, NOTHING
        if self._auditor is not None:
            decision = self._auditor.decide(admitted.user, admitted.info)
            if decision.level > Level.METADATA:
                return False
            trail = self._auditor.seen(admitted.info, message.headers)
        try:
            call = call_of(message.headers, admitted.info, admitted.user)
            if trail is not None:
                trail.annotations = call.annotations
            judged = self._created if admitted.info.verb == "create" else self._patched
            begun = judged(message, body, admitted, call)
        except StatusError:
            return False
        except Exception:
            # the supervisor of a request: the usual way meets the same fault and answers 500
            log.exception("quick write failed", extra={"path": admitted.info.path})
            return False
        if begun is None:
            return False
        self.begun += 1
        document, write = begun
        if self._auditor is not None and trail is not None:
            user, headers = admitted.user, message.headers
            self._auditor.begin(trail, decision, user, headers, message.path, remote)
            self._auditor.judged(trail, user, admitted.asked, allowed=True)
        write.add_done_callback(lambda done: reply(self._answer(admitted, call, document, done)))
        return True

    def _admitted(
        self, message: RawRequestMessage, body: bytes, peer: UserInfo | None
    ) -> Admitted | None:
        """A write of a form that is begun here, by somebody who may."""
        meant = _VERBS.get(message.method)
        if meant is None or len(body) * _ANSWER_GROWTH > self._bytes_max or message.compression:
            return None
        if "Expect" in message.headers:
            return None
        verb, parts = meant
        admitted = self._gate.admitted(message, peer, verb, parts)
        if admitted is None or bool(admitted.info.name) is (verb == "create"):
            return None
        return admitted if _PARAMETERS.issuperset(admitted.info.query) else None

    def _created(
        self, message: RawRequestMessage, body: bytes, admitted: Admitted, call: Call
    ) -> Begun | None:
        kind = admitted.kind
        media = media_type(message.headers.get("Content-Type", ""))
        decoded = self._registry.bursts.body(kind, body, media, call.field_validation)
        call.warnings.extend(decoded.warnings)
        namespace = admitted.info.namespace if kind.namespaced else ""
        return self._registry.begin_create(kind, decoded.document, namespace, call)

    def _patched(
        self, message: RawRequestMessage, body: bytes, admitted: Admitted, call: Call
    ) -> Begun | None:
        info, kind = admitted.info, admitted.kind
        media = media_type(message.headers.get("Content-Type", ""))
        if media not in _PATCHES:
            return None
        room = self._bytes_max - len(body) * _ANSWER_GROWTH
        make = patching.patcher(kind, media, body, info.name, call)
        namespace = info.namespace if kind.namespaced else ""
        return self._registry.begin_change(
            kind, namespace, info.name, make, call, info.subresource, bytes_max=room
        )

    def _answer(
        self, admitted: Admitted, call: Call, document: Document, write: asyncio.Future[Row]
    ) -> bytes:
        """The whole answer, as the usual way has it."""
        info, kind = admitted.info, admitted.kind
        status = 201 if info.verb == "create" else 200
        refused: StatusError | None = None
        headers = () if info.audit is None else ((HEADER, info.audit.audit_id),)
        try:
            row = self._registry.begun(kind, document, write)
            value = codec.splice(row.value, row.revision, codec.head_size(kind))
            if call.warnings:
                warned = (*warning_headers(call.warnings), *headers)
                answer = Reply(status, value + b"\n", headers=warned).head(info.method, True, False)
            else:
                line = b"" if info.audit is None else info.audit.header()
                answer = _HEAD % (_STATUS_LINES[status], len(value) + 1, line, value)
        except StatusError as error:
            refused, status = error, error.status_code
            answer = error_reply(error, headers).head(info.method, True, False)
        if self._auditor is not None and info.audit is not None and info.audit.recorded:
            info.audit.found(document["metadata"])
            self._auditor.completed(info.audit, status, refused)
        key = (info.verb, info.resource, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        return answer
