"""One request's circumstances, handed down from the wire to the registry."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document
from machinery.server.request import EMPTY_QUERY, Query, readable
from machinery.server.user import UserInfo


@dataclass(slots=True)
class Call:
    """Who writes, under which field manager, and whether it is only a rehearsal."""

    user: UserInfo
    manager: str = "unknown"
    dry_run: bool = False
    field_validation: str = "Warn"
    warnings: list[str] = field(default_factory=list)
    query: Query = field(default_factory=lambda: EMPTY_QUERY)
    """The options as the client gave them."""
    face: ServedKind | None = None
    """The kind that the client named, where it is another face of the stored one."""
    annotations: dict[str, str] = field(default_factory=dict)
    """For the audit log, by admission: a key is written once."""

    def __post_init__(self) -> None:
        self.manager = readable(self.manager)


@dataclass(frozen=True, slots=True)
class Deletion:
    """metav1.DeleteOptions, checked."""

    grace_period_seconds: int | None = None
    propagation_policy: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Intercepted:
    """A request that an extension may answer itself."""

    verb: str
    kind: ServedKind
    namespace: str
    name: str
    subresource: str
    user: UserInfo
    query: Query = field(default_factory=lambda: EMPTY_QUERY)
    body: bytes = b""
    content_type: str = ""


Interceptor = Callable[[Intercepted], Awaitable[tuple[int, Document] | None]]
"""Answers (HTTP status, document), or None to let the request take its usual way."""
