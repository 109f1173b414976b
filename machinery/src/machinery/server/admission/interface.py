"""The shape of an admission plugin, and the chain of them.

A plugin looks at one write; `admit` may answer a changed object (by path-copy), `validate` may refuse it. Plugins read
committed state without waiting, so the chain costs no await on the hot path.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from machinery.api.scheme import ServedKind
from machinery.meta.errors import Forbidden
from machinery.meta.resource import Document
from machinery.server.call import Call, Deletion


@dataclass(slots=True)
class AdmissionRequest:
    """One write on its way. `verb` is create, update, delete or connect."""

    verb: str
    kind: ServedKind
    namespace: str
    name: str
    subresource: str
    document: Document
    old: Document | None
    call: Call
    options: Deletion | None = None
    """Of a delete."""
    generated: bool = False
    """The name was made by the server."""
    reinvoked: bool = False
    """All that may change the object is asked once more, since a webhook or policy has changed it."""
    again: bool = False
    """A policy has changed the object in the first round."""
    rounds: Any = None
    """What policies remember of the write from round to round."""


Kinds = frozenset[tuple[str, str]]
"""(group, kind)."""


class Plugin(Protocol):
    """Both methods see every write, or those of the kinds that an attribute `kinds: ClassVar[Kinds]` names."""

    def admit(self, request: AdmissionRequest) -> Document:
        """The object to go on with: request.document or a changed copy of it."""
        ...

    def validate(self, request: AdmissionRequest) -> None:
        """Raises StatusError to refuse."""
        ...


class Admission:
    """The plugins of one server, in order: all changes first, then all refusals. Users' policies are the last of them."""

    def __init__(self, plugins: Sequence[Plugin], policies: Sequence[Plugin] = ()) -> None:
        self._plugins = (*plugins, *policies)
        self.policies = Policies(policies)
        self._concerned: dict[tuple[str, str], tuple[Plugin, ...]] = {}

    def admit(self, request: AdmissionRequest) -> Document:
        plugins = self._of(request.kind)
        for plugin in plugins:
            request.document = plugin.admit(request)
        return _again(request, plugins) if request.again else request.document

    def validate(self, request: AdmissionRequest) -> None:
        for plugin in self._of(request.kind):
            plugin.validate(request)

    def _of(self, kind: ServedKind) -> tuple[Plugin, ...]:
        """The plugins that look at the kind."""
        key = kind.group_kind
        found = self._concerned.get(key)
        if found is None:
            found = tuple(p for p in self._plugins if key in getattr(p, "kinds", (key,)))
            self._concerned[key] = found
        return found


class Policies:
    """Users' policies alone: what judges bodies that only pass through (a Binding, an Eviction, the options of an exec)."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._plugins = tuple(plugins)

    def admit(self, request: AdmissionRequest) -> Document:
        for plugin in self._plugins:
            request.document = plugin.admit(request)
        return _again(request, self._plugins) if request.again else request.document

    def validate(self, request: AdmissionRequest) -> None:
        for plugin in self._plugins:
            plugin.validate(request)


def _again(request: AdmissionRequest, plugins: Sequence[Plugin]) -> Document:
    """The second round, behind a policy that has changed something."""
    request.again, request.reinvoked = False, True
    for plugin in plugins:
        request.document = plugin.admit(request)
    request.reinvoked = False
    return request.document


def refuse(request: AdmissionRequest, why: str) -> Forbidden:
    """`pods "x" is forbidden: why`."""
    return forbidden(request.kind, request.name, why)


def forbidden(kind: ServedKind, name: str, why: str) -> Forbidden:
    """The same for an object of that kind."""
    details = ({"name": name} if name else {}) | ({"group": kind.group} if kind.group else {})
    return Forbidden(
        f'{kind.group_resource} "{name}" is forbidden: {why}',
        details={**details, "kind": kind.plural},
    )
