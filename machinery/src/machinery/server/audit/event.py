"""One Event of audit.k8s.io/v1 as a line of JSON. Pure: a Trail is what is known of a request, an Event what is told of it."""

import datetime as dt
import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from machinery.kit.clock import rfc3339_micro
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document
from machinery.server.audit.policy import API_VERSION, NAMES, NOTHING, Decision, Level
from machinery.server.request import RequestInfo
from machinery.server.user import UserInfo

HEADER = "Audit-Id"
USER_AGENT_MAX = 1024
_LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
EVENT_BYTES_MAX = 1 << 20
"""A longer event is recorded without its bodies, and says so in an annotation, as upstream's truncating backend does."""
TRUNCATED = "audit.k8s.io/truncated"
PATCHES = "patch.webhook.admission.k8s.io/"
"""Annotations that tell what webhooks have changed, which are as good as a body."""
DECISION, REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"
_SECRETIVE = frozenset({"secrets", "tokenreviews", "serviceaccounts/token"})
"""A refusal of such a body may quote it."""


class Trail:
    """What is known of one request so far. Without a decision it is only an id, as most are."""

    decision: Decision = NOTHING
    user: UserInfo | None = None
    impersonated: UserInfo | None = None
    uri = agent = ""
    sources: Sequence[str] = ()
    namespace = name = uid = version = ""
    """Of the object that was meant, where its path does not say it."""
    verdict = reason = ""
    request: Document | None = None
    response: Document | None = None
    annotations: Mapping[str, str] = {}
    """What admission tells of it."""
    code = 0
    """Of a long answer whose head is on its way."""

    def __init__(
        self,
        audit_id: str,
        info: RequestInfo,
        received: dt.datetime,
        on_start: "Callable[[Trail, int], None]",
    ) -> None:
        self.audit_id = audit_id
        self.info = info
        self.received = received
        self.on_start = on_start

    @property
    def recorded(self) -> bool:
        return self.decision.level is not Level.NONE

    @property
    def whole(self) -> bool:
        """Whether the answer itself is recorded."""
        return self.decision.level is Level.REQUEST_RESPONSE

    def header(self) -> bytes:
        """The line that tells the client."""
        return f"{HEADER}: {self.audit_id}\r\n".encode("utf-8", "surrogateescape")

    def begun(self, code: int) -> None:
        """The head of a long answer goes out; only the first time counts."""
        if not self.code and self.recorded:
            self.code = code
            self.on_start(self, code)

    def asked(self, document: Mapping[str, Any]) -> None:
        """The object that was sent says which it is, where the path does not."""
        metadata = document.get("metadata")
        if isinstance(metadata, dict):
            self.version = self.version or _text(metadata, "resourceVersion")
            self.found(metadata)

    def found(self, metadata: Mapping[str, Any]) -> None:
        """The metadata of the object that was meant."""
        self.name = self.name or _text(metadata, "name")
        self.namespace = self.namespace or _text(metadata, "namespace")
        self.uid = self.uid or _text(metadata, "uid")


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    return value if isinstance(value, str) else ""


def line(trail: Trail, stage: str, moment: dt.datetime, status: Document | None) -> bytes:
    """The event, in upstream's order of fields, with its newline."""
    event = _event(trail, stage, moment, status)
    encoded = _encoded(event)
    if len(encoded) <= EVENT_BYTES_MAX:
        return encoded
    event.pop("requestObject", None)
    event.pop("responseObject", None)
    event["annotations"] = {**event.get("annotations", {}), TRUNCATED: "true"}
    return _encoded(event)


def _encoded(event: Document) -> bytes:
    try:
        return orjson.dumps(event, option=_LINE)
    except orjson.JSONEncodeError:  # bytes that are no text in a path, numbers beyond 64 bits
        text = json.dumps(event, ensure_ascii=False, default=_plain)
        return text.encode("utf-8", "replace") + b"\n"


def _plain(value: object) -> str:
    return rfc3339_micro(value) if isinstance(value, dt.datetime) else str(value)


def _micro(moment: dt.datetime) -> dt.datetime | str:
    """MicroTime. The encoder writes it so by itself and sooner than we, but for a whole second's missing zeros."""
    return moment if moment.microsecond else rfc3339_micro(moment)


def _event(trail: Trail, stage: str, moment: dt.datetime, status: Document | None) -> Document:
    level = trail.decision.level
    event: Document = {
        "kind": "Event", "apiVersion": API_VERSION, "level": NAMES[level],
        "auditID": trail.audit_id, "stage": stage, "requestURI": trail.uri,
        "verb": trail.info.verb if trail.info.is_resource else trail.info.method.lower(),
        "user": user_document(trail.user),
    }  # fmt: skip
    if trail.impersonated is not None:
        event["impersonatedUser"] = user_document(trail.impersonated)
    event["sourceIPs"] = trail.sources
    if trail.agent:
        event["userAgent"] = trail.agent
    if trail.info.is_resource:
        event["objectRef"] = reference(trail)
    if status is not None:
        event["responseStatus"] = status
    if trail.request is not None and level >= Level.REQUEST:
        event["requestObject"] = trail.request
    if trail.response is not None and level >= Level.REQUEST_RESPONSE:
        event["responseObject"] = trail.response
    event["requestReceivedTimestamp"] = _micro(trail.received)
    event["stageTimestamp"] = _micro(moment)
    if trail.verdict:
        event["annotations"] = {DECISION: trail.verdict, REASON: trail.reason}
    if trail.annotations:
        told = {
            key: value
            for key, value in trail.annotations.items()
            if level >= Level.REQUEST or not key.startswith(PATCHES)
        }
        event["annotations"] = {**event.get("annotations", {}), **told}
    return event


def user_document(user: UserInfo | None) -> Document:
    """authentication/v1 UserInfo; empty for somebody unknown."""
    if user is None:
        return {}
    found: Document = {"username": user.name}
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = list(user.groups)
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra.items()}
    return found


def reference(trail: Trail) -> Document:
    """ObjectReference: what is empty is left out."""
    info = trail.info
    found: Document = {"resource": info.resource}
    if namespace := info.namespace or trail.namespace:
        found["namespace"] = namespace
    if name := info.name or trail.name:
        found["name"] = name
    if trail.uid:
        found["uid"] = trail.uid
    if info.group:
        found["apiGroup"] = info.group
    found["apiVersion"] = info.version
    if trail.version:
        found["resourceVersion"] = trail.version
    if info.subresource:
        found["subresource"] = info.subresource
    return found


def status_of(code: int) -> Document:
    """The status of an answer that is no metav1.Status."""
    return {"metadata": {}, "code": code}


def failure(error: StatusError, info: RequestInfo) -> Document:
    """The status of a refusal. What may quote a secret body is kept back: its message and its causes."""
    status: Document = {"metadata": {}, "status": "Failure"}
    where = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if error.status_code not in (400, 422) or where not in _SECRETIVE:
        status["message"] = error.message
        if error.details:
            status["details"] = error.details
    if error.status_reason:
        status["reason"] = error.status_reason
    status["code"] = error.status_code
    return status


# ------------------------------------------------------------------------------------------------------------ circumstances
def sources(headers: Mapping[str, str], remote: str) -> tuple[str, ...]:
    """Addresses that a request came by: as proxies tell them, then the one that we see, which nobody can feign."""
    forwarded, real = headers.get("X-Forwarded-For"), headers.get("X-Real-Ip")
    if not forwarded and not real:
        return (remote,) if remote else ()
    found = [ip for part in (forwarded or "").split(",") if (ip := _address(part.strip()))]
    if real and (ip := _address(real.strip())) and ip not in found:
        found.append(ip)
    if remote and found[-1:] != [remote]:
        found.append(remote)
    return tuple(found)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def user_agent(headers: Mapping[str, str]) -> str:
    """As it was told, cut where it is too long."""
    told = headers.get("User-Agent", "")
    if len(told) > USER_AGENT_MAX:
        told = told[:USER_AGENT_MAX] + "...TRUNCATED"
    return told


def without_managers(document: Document) -> Document:
    """The object, each item of the list, or each row's object, without managedFields."""
    found = document
    metadata = document.get("metadata")
    if isinstance(metadata, dict) and "managedFields" in metadata:
        kept = {key: value for key, value in metadata.items() if key != "managedFields"}
        found = {**found, "metadata": kept}
    if isinstance(items := document.get("items"), list):
        found = {**found, "items": [_bare(item) for item in items]}
    if isinstance(rows := document.get("rows"), list):
        found = {
            **found,
            "rows": [
                {**row, "object": _bare(row["object"])} if isinstance(row, dict) and "object" in row else row
                for row in rows
            ],
        }  # fmt: skip
    return found


def _bare(value: Any) -> Any:
    return without_managers(value) if isinstance(value, dict) else value
