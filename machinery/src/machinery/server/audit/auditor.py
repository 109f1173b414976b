"""The auditor of one server: asked at the beginning, in the middle and at the end of each request, it writes the Events.

A request has a Trail as soon as it is seen, which has its Audit-Id and, where the policy records nothing of it, nothing
else. The order is upstream's: identity first, then the policy, then impersonation and rights.
"""

from collections.abc import Mapping

from aiohttp import web

from machinery.api.scheme import Scheme
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document
from machinery.server.audit import bodies
from machinery.server.audit.config import AuditConfig
from machinery.server.audit.event import (
    HEADER,
    Trail,
    failure,
    line,
    sources,
    status_of,
    user_agent,
    without_managers,
)  # fmt: skip
from machinery.server.audit.policy import (
    NOTHING,
    PANIC,
    REQUEST_RECEIVED,
    RESPONSE_COMPLETE,
    RESPONSE_STARTED,
    Decision,
    Level,
)  # fmt: skip
from machinery.server.audit.writer import AuditLog, RotatingFile
from machinery.server.authz import Authorizer
from machinery.server.rbac import Attributes, Index
from machinery.server.request import RequestInfo
from machinery.server.user import MASTERS, UserInfo

ID_LENGTH_MAX = 64
"""A longer id of a client's is cut."""
REASONS_MAX = 10_000
TRAIL = web.RequestKey("TRAIL", Trail)
"""Where handlers of long answers find it."""
LONG_SUBRESOURCES = frozenset({"attach", "exec", "proxy", "log", "portforward"})
CLOSED_EARLY: Document = {
    "metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200,
}  # fmt: skip


class Auditor:
    """Records requests of one server."""

    def __init__(
        self, config: AuditConfig, scheme: Scheme, authorizer: Authorizer, clock: Clock, ids: Ids
    ) -> None:
        self._policy = config.policy
        self._scheme = scheme
        self._authorizer = authorizer
        self._clock = clock
        self._ids = ids
        self._index: Index | None = None
        self._reasons: dict[tuple[str, tuple[str, ...], Attributes], str] = {}
        self.log = AuditLog(RotatingFile(config.path, config.bytes_max, config.backups_max), clock)

    def start(self) -> None:
        """Open the file. Raises OSError."""
        self.log.start()

    async def stop(self) -> None:
        """Everything that was recorded is in the file afterwards."""
        await self.log.stop()

    # ------------------------------------------------------------------------------------------------- beginning
    def audit_id(self, headers: Mapping[str, str]) -> str:
        """The client's own, else a new one."""
        told = headers.get(HEADER)
        return told[:ID_LENGTH_MAX] if told else self._ids.uid()

    def decide(self, user: UserInfo | None, info: RequestInfo) -> Decision:
        """How much is recorded of this request."""
        return self._policy.decide(user, info)

    def seen(self, info: RequestInfo, headers: Mapping[str, str]) -> Trail:
        """A request has come; who asks is not known yet."""
        trail = Trail(self.audit_id(headers), info, self._clock.now(), self._started)
        info.audit = trail
        return trail

    def identified(
        self, trail: Trail, user: UserInfo, headers: Mapping[str, str], uri: str, remote: str
    ) -> None:
        """It is known who asks: the policy decides, and the request has been received."""
        self.begin(trail, self._policy.decide(user, trail.info), user, headers, uri, remote)

    def begin(
        self,
        trail: Trail,
        decision: Decision,
        user: UserInfo | None,
        headers: Mapping[str, str],
        uri: str,
        remote: str,
    ) -> None:
        """The same, where the policy has decided."""
        trail.decision, trail.user = decision, user
        if decision.level is Level.NONE:
            return
        trail.uri = uri
        trail.sources, trail.agent = sources(headers, remote), user_agent(headers)
        self.received(trail)

    def unknown(self, trail: Trail, headers: Mapping[str, str], uri: str, remote: str) -> None:
        """Nobody that we know: upstream tells one event of it, when the answer starts."""
        decision = self._policy.decide(None, trail.info)
        silent = Decision(decision.level, decision.omit | {REQUEST_RECEIVED}, decision.bare)
        self.begin(trail, silent, None, headers, uri, remote)
        if decision.level is Level.NONE or RESPONSE_STARTED in decision.omit:
            return
        bearer = headers.get("Authorization", "")[:7].lower() == "bearer "
        told = "attempted: bearer" if bearer else "no credentials provided"
        status = {"metadata": {}, "message": f"Authentication failed, {told}", "code": 401}
        self.log.add(line(trail, RESPONSE_STARTED, self._clock.now(), status))
        trail.decision = NOTHING

    def local(self, user: UserInfo, info: RequestInfo, manager: str) -> Trail | None:
        """A request of a client in this process; None where nothing is recorded of it."""
        decision = self._policy.decide(user, info)
        if decision.level is Level.NONE:
            return None
        trail = Trail(self._ids.uid(), info, self._clock.now(), self._started)
        trail.decision, trail.user, trail.agent = decision, user, manager
        asked = Attributes(
            info.verb, info.group, info.resource, info.subresource, info.namespace, info.name
        )
        self.judged(trail, user, asked, allowed=self._authorizer.allows(user, asked))
        return trail

    def received(self, trail: Trail) -> None:
        """Everything is known of it but its end."""
        if REQUEST_RECEIVED not in trail.decision.omit:
            self.log.add(line(trail, REQUEST_RECEIVED, trail.received, None))

    # ------------------------------------------------------------------------------------------------- middle
    def judged(self, trail: Trail, user: UserInfo, asked: Attributes, *, allowed: bool) -> None:
        """The authorizer has spoken."""
        if trail.decision.level is Level.NONE:
            return
        trail.verdict = "allow" if allowed else "forbid"
        if allowed and MASTERS not in user.groups:
            trail.reason = self._reason(user, asked)

    def _reason(self, user: UserInfo, asked: Attributes) -> str:
        index = self._authorizer.index
        if index is not self._index or len(self._reasons) >= REASONS_MAX:
            self._index, self._reasons = index, {}
        key = (user.name, user.groups, asked)
        found = self._reasons.get(key)
        if found is None:
            found = self._reasons[key] = index.reason(user, asked)
        return found

    def _started(self, trail: Trail, code: int) -> None:
        if RESPONSE_STARTED not in trail.decision.omit:
            self.log.add(line(trail, RESPONSE_STARTED, self._clock.now(), status_of(code)))

    # ------------------------------------------------------------------------------------------------- end
    def wants_bodies(self, trail: Trail) -> bool:
        """Whether what was sent is recorded."""
        return trail.decision.level >= Level.REQUEST

    def bodies(
        self, trail: Trail, headers: Mapping[str, str], body: bytes | None, reply: object
    ) -> None:
        """What was sent, and what is answered, as far as the policy wants them."""
        level, bare = trail.decision.level, trail.decision.bare
        if level >= Level.REQUEST:
            sent = bodies.sent(self._scheme, trail.info, headers, body)
            trail.request = without_managers(sent) if bare and isinstance(sent, dict) else sent
        if level >= Level.REQUEST_RESPONSE:
            got = bodies.got(reply)
            trail.response = without_managers(got) if bare and got is not None else got

    def completed(self, trail: Trail, code: int, error: StatusError | None = None) -> None:
        """The answer is ready, or the stream has ended."""
        if trail.decision.level is Level.NONE:
            return
        code = trail.code or code
        status = status_of(code) if error is None else failure(error, trail.info)
        self._end(trail, code, status)

    def broken(self, trail: Trail) -> None:
        """The client went away, or the server stopped."""
        if trail.decision.level is not Level.NONE:
            self._end(trail, 200, CLOSED_EARLY)

    def _end(self, trail: Trail, code: int, status: Document) -> None:
        if is_long(trail.info):
            trail.begun(code)
        if RESPONSE_COMPLETE not in trail.decision.omit:
            self.log.add(line(trail, RESPONSE_COMPLETE, self._clock.now(), status))

    def panicked(self, trail: Trail, error: Exception) -> None:
        """A fault of ours; nothing more is told of the request."""
        decision = trail.decision
        if decision.level is Level.NONE or PANIC in decision.omit:
            trail.decision = NOTHING
            return
        status = {
            "metadata": {}, "status": "Failure", "message": f"APIServer panic'd: {type(error).__name__}",
            "reason": "InternalError", "code": 500,
        }  # fmt: skip
        self.log.add(line(trail, PANIC, self._clock.now(), status))
        trail.decision = NOTHING

    def metrics(self) -> list[str]:
        """Its counters, as upstream names them."""
        return [
            "# TYPE apiserver_audit_event_total counter",
            f"apiserver_audit_event_total {self.log.written}",
            "# TYPE apiserver_audit_error_total counter",
            f'apiserver_audit_error_total{{plugin="log"}} {self.log.dropped}',
        ]


def is_long(info: RequestInfo) -> bool:
    """Requests whose answers may last: they tell of their start."""
    return info.is_resource and (info.verb == "watch" or info.subresource in LONG_SUBRESOURCES)


def begun(request: web.BaseRequest, code: int) -> dict[str, str]:
    """To be called when the head of a long answer goes out: what it has to carry for the audit log."""
    trail = request.get(TRAIL)
    if trail is None:
        return {}
    trail.begun(code)
    return {HEADER: trail.audit_id}
