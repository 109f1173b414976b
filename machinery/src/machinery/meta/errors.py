"""Errors of the API.

    StatusError                 any answer that is a metav1.Status of failure
    ├── BadRequest              400 BadRequest
    ├── Unauthorized            401 Unauthorized
    ├── Forbidden               403 Forbidden
    ├── NotFound                404 NotFound
    ├── MethodNotAllowed        405 MethodNotAllowed
    ├── NotAcceptable           406 NotAcceptable
    ├── AlreadyExists           409 AlreadyExists
    ├── Conflict                409 Conflict
    ├── Expired                 410 Expired / Gone
    ├── TooLarge                413 RequestEntityTooLarge
    ├── UnsupportedMediaType    415 UnsupportedMediaType
    ├── Invalid                 422 Invalid
    ├── TooManyRequests         429 TooManyRequests
    ├── InternalError           500 InternalError
    ├── ServiceUnavailable      503 ServiceUnavailable
    └── Timeout                 504 Timeout / ServerTimeout

The server raises them, the wire carries them as Status, the client raises them again. Wording is upstream's
(k8s.io/apimachinery pkg/api/errors), because people and tools parse it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from machinery.meta.resource import Document


class StatusError(Exception):
    """A failed request. `details` has the shape of metav1.StatusDetails."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        code: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] | None = dict(details) if details is not None else None
        self.status_code = code if code is not None else self.code
        self.status_reason = reason if reason is not None else self.reason

    def to_status(self) -> Document:
        """The metav1.Status that travels."""
        status: Document = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.status_reason:
            status["reason"] = self.status_reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.status_code
        return status


class BadRequest(StatusError):
    code, reason = 400, "BadRequest"


class Unauthorized(StatusError):
    code, reason = 401, "Unauthorized"


class Forbidden(StatusError):
    code, reason = 403, "Forbidden"


class NotFound(StatusError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(StatusError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(StatusError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(StatusError):
    code, reason = 409, "AlreadyExists"


class Conflict(StatusError):
    code, reason = 409, "Conflict"


class Expired(StatusError):
    code, reason = 410, "Expired"


class TooLarge(StatusError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(StatusError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(StatusError):
    code, reason = 422, "Invalid"


class TooManyRequests(StatusError):
    code, reason = 429, "TooManyRequests"


class InternalError(StatusError):
    code, reason = 500, "InternalError"


class ServiceUnavailable(StatusError):
    code, reason = 503, "ServiceUnavailable"


class Timeout(StatusError):
    code, reason = 504, "Timeout"


_BY_REASON: dict[str, type[StatusError]] = {
    cls.reason: cls
    for cls in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable, AlreadyExists, Conflict,
        Expired, TooLarge, UnsupportedMediaType, Invalid, TooManyRequests, InternalError, ServiceUnavailable, Timeout,
    )
}  # fmt: skip
_BY_REASON |= {"Gone": Expired, "ServerTimeout": Timeout}
_BY_CODE: dict[int, type[StatusError]] = {cls.code: cls for cls in _BY_REASON.values()} | {
    409: Conflict
}


def from_status(status: Mapping[str, Any]) -> StatusError:
    """The error that a metav1.Status carries, for a client to raise."""
    code = int(status.get("code") or 500)
    reason = status.get("reason") or ""
    cls = _BY_REASON.get(reason) or _BY_CODE.get(code, StatusError)
    return cls(status.get("message", ""), details=status.get("details"), code=code, reason=reason)


def not_found(plural: str, group: str, name: str) -> NotFound:
    """`deployments.apps "x" not found`."""
    where = f"{plural}.{group}" if group else plural
    return NotFound(f'{where} "{name}" not found', details=_details(name, group, plural))


def already_exists(plural: str, group: str, name: str) -> AlreadyExists:
    """`pods "x" already exists`."""
    where = f"{plural}.{group}" if group else plural
    return AlreadyExists(f'{where} "{name}" already exists', details=_details(name, group, plural))


def conflict(plural: str, group: str, name: str, why: str = "") -> Conflict:
    """`Operation cannot be fulfilled on …`."""
    where = f"{plural}.{group}" if group else plural
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    return Conflict(
        f'Operation cannot be fulfilled on {where} "{name}": {why}',
        details=_details(name, group, plural),
    )


def invalid(kind: str, group: str, name: str, causes: Sequence[Mapping[str, str]]) -> Invalid:
    """`Deployment.apps "x" is invalid: field: message`; several causes stand in brackets.

    `causes` are metav1.StatusCause: reason, message (starting with e.g. `Required value`), field.
    """
    where = f"{kind}.{group}" if group else kind
    texts = list(dict.fromkeys(f"{c['field']}: {c['message']}" for c in causes))
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details: dict[str, Any] = {"name": name} if name else {}
    details |= ({"group": group} if group else {}) | {
        "kind": kind,
        "causes": [dict(c) for c in causes],
    }
    return Invalid(f'{where} "{name}" is invalid: {text}', details=details)


def internal(why: str) -> InternalError:
    """`Internal error occurred: …`."""
    return InternalError(f"Internal error occurred: {why}", details={"causes": [{"message": why}]})


def _details(name: str, group: str, plural: str) -> dict[str, Any]:
    return {"name": name} | ({"group": group} if group else {}) | {"kind": plural}
