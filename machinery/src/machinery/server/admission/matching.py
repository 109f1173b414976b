"""Which requests a webhook or a policy is about: rules, match policy, selectors. Pure; upstream's answers.

    rules        operations, groups, versions, resources (`pods`, `pods/status`, `*`, `*/scale`, `*/*`), scope
    matchPolicy  Equivalent also takes a request to another version of a resource, which is then shown in the rule's version
    selectors    the labels of the request's namespace; those of the object before or after

A `Criteria` is read from a webhook or from the `matchConstraints` (`matchResources`) of a policy or a binding once, and
asked for each request. Selectors are asked first, as upstream does: a request that they leave out never fails for want of its
namespace, and one that only they could tell does.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from machinery.api.scheme import Scheme, ServedKind
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document
from machinery.meta.selectors import EVERYTHING, Selector, from_object

T = TypeVar("T")
CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"
EQUIVALENT, EXACT = "Equivalent", "Exact"
ANY: Final = "*"
REMEMBERED_MAX: Final = 4096
GROUP: Final = "admissionregistration.k8s.io"
_NAMESPACES: Final = ("", "namespaces")
_EXEMPT: Final = frozenset(
    {
        "validatingwebhookconfigurations", "mutatingwebhookconfigurations",
        "validatingadmissionpolicies", "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as rules see it. `namespace` is empty for what has none; a Namespace has its own name there."""

    operation: str
    """CREATE, UPDATE, DELETE or CONNECT."""
    kind: ServedKind
    """As the client named it: group, version and resource are its."""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    """Empty where the server is still to make one."""

    @property
    def of_namespace(self) -> bool:
        """Whether it is about a Namespace itself."""
        return (self.kind.group, self.kind.plural) == _NAMESPACES


Labels = Callable[[str], Mapping[str, str] | None]
"""The labels of a namespace, None where it is absent."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One of `rules`, `resourceRules` or `excludeResourceRules`."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    """(resource, subresource), each maybe `*`."""
    scope: str = ANY
    names: frozenset[str] = frozenset()
    """`resourceNames`; empty: all."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Rule":
        """Read from a RuleWithOperations or NamedRuleWithOperations."""
        split = [str(text).partition("/") for text in document.get("resources") or ()]
        return cls(
            frozenset(document.get("operations") or ()),
            frozenset(document.get("apiGroups") or ()),
            frozenset(document.get("apiVersions") or ()),
            tuple((resource, below) for resource, _, below in split),
            document.get("scope") or ANY,
            frozenset(document.get("resourceNames") or ()),
        )

    def matches(self, asked: Asked, kind: ServedKind | None = None) -> bool:
        """Whether the request is meant; as one to `kind`, an equivalent of the kind that was asked for."""
        kind = kind or asked.kind
        return (
            _holds(self.operations, asked.operation)
            and _holds(self.groups, kind.group)
            and _holds(self.versions, kind.version)
            and any(
                resource in (ANY, kind.plural) and below in (ANY, asked.subresource)
                for resource, below in self.resources
            )
            and self._in_scope(asked)
            and (not self.names or asked.name in self.names)
        )

    def _in_scope(self, asked: Asked) -> bool:
        if self.scope == ANY:
            return True
        namespaced = bool(asked.namespace) and not asked.of_namespace
        return namespaced == (self.scope == "Namespaced")


def _holds(names: frozenset[str], name: str) -> bool:
    return name in names or ANY in names


class Equivalents:
    """The other kinds under which the objects of one are served."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._generation = -1
        self._found: dict[ServedKind, tuple[ServedKind, ...]] = {}

    @property
    def generation(self) -> int:
        """Another one when the answers may be others."""
        return self._scheme.generation

    def of(self, kind: ServedKind) -> tuple[ServedKind, ...]:
        """Without the kind itself, in the order of registration."""
        if self._generation != self._scheme.generation:
            self._generation, self._found = self._scheme.generation, {}
        found = self._found.get(kind)
        if found is None:
            key = _family(kind)
            found = tuple(
                other
                for other in self._scheme.kinds
                if _family(other) == key and other.api_version != kind.api_version
            )
            self._found[kind] = found
        return found


def _family(kind: ServedKind) -> tuple[str, ...]:
    """The same for kinds that show the same objects."""
    if kind.dynamic is not None:
        return ("", kind.dynamic.definition)
    return (*(kind.stored_as or (kind.group, kind.version)), kind.plural)


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a webhook, a policy or a binding says of the requests that it is about."""

    rules: tuple[Rule, ...]
    excluded: tuple[Rule, ...] = ()
    policy: str = EXACT
    namespaces: Selector = EVERYTHING
    objects: Selector = EVERYTHING
    every: bool = field(default=False)
    """Without rules all requests are meant: of a policy's `matchResources`, not of a webhook."""

    @classmethod
    def of_webhook(cls, webhook: Mapping[str, Any]) -> "Criteria":
        """Read from a webhook of a configuration, with its defaults. Raises SelectorError."""
        return cls(_rules(webhook, "rules"), **_common(webhook))

    @classmethod
    def of_policy(cls, resources: Mapping[str, Any]) -> "Criteria":
        """Read from `matchConstraints` or `matchResources`, with their defaults. Raises SelectorError."""
        excluded = _rules(resources, "excludeResourceRules")
        return cls(
            _rules(resources, "resourceRules"), excluded, every=True, **_common(resources)
        )  # fmt: skip

    def matched(
        self,
        asked: Asked,
        document: Document | None,
        old: Document | None,
        labels: Labels,
        equivalents: Equivalents,
    ) -> ServedKind | None:
        """The kind as which the request is meant, or None. Raises NotFound where its namespace would have to be known."""
        missing = False
        try:
            if not self._in_namespace(asked, document, labels):
                return None
        except NotFound:
            missing = True
        if self.objects and not (_labelled(self.objects, document) or _labelled(self.objects, old)):
            return None
        if self._first(self.excluded, asked, equivalents) is not None:
            return None
        every = self.every and not self.rules
        found = asked.kind if every else self._first(self.rules, asked, equivalents)
        if found is not None and missing:
            raise _no_namespace(asked.namespace)
        return found

    def _first(
        self, rules: Sequence[Rule], asked: Asked, equivalents: Equivalents
    ) -> ServedKind | None:
        """The request's own kind before its equivalents, earlier rules before later ones."""
        if any(rule.matches(asked) for rule in rules):
            return asked.kind
        if self.policy != EQUIVALENT or not rules:
            return None
        others = equivalents.of(asked.kind)
        return next(
            (kind for rule in rules for kind in others if rule.matches(asked, kind)), None
        )  # fmt: skip

    def _in_namespace(self, asked: Asked, document: Document | None, labels: Labels) -> bool:
        """What is in no namespace is never left out by the selector. A Namespace is judged by the labels that it is to have."""
        if not self.namespaces or not (asked.namespace or asked.of_namespace):
            return True
        written = asked.operation in (CREATE, UPDATE) and not asked.subresource
        if asked.of_namespace and written:
            return _labelled(self.namespaces, document)
        found = labels(asked.namespace)
        if found is None:
            raise _no_namespace(asked.namespace)
        return self.namespaces.matches(found)


def exempt(kind: ServedKind) -> bool:
    """Whether neither webhooks nor policies ever judge it: who made a mistake must be able to mend it."""
    return kind.group == GROUP and kind.plural in _EXEMPT


def _rules(document: Mapping[str, Any], name: str) -> tuple[Rule, ...]:
    found: Iterable[Mapping[str, Any]] = document.get(name) or ()
    return tuple(Rule.of(one) for one in found)


def _common(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "policy": document.get("matchPolicy") or EXACT,
        "namespaces": from_object(document.get("namespaceSelector") or {}),
        "objects": from_object(document.get("objectSelector") or {}),
    }


def _labelled(selector: Selector, document: Document | None) -> bool:
    """Of an object; what carries no metadata (the options of an exec) is never selected."""
    metadata = (document or {}).get("metadata")
    if not isinstance(metadata, Mapping):
        return False
    return selector.matches(metadata.get("labels"))


def _no_namespace(name: str) -> NotFound:
    return NotFound(f'namespaces "{name}" not found', details={"name": name, "kind": "namespaces"})


class Remembered(Generic[T]):
    """Whom a kind and an operation may concern, by rules alone: looked for once, until rules or kinds change."""

    def __init__(self, equivalents: "Equivalents", look: Callable[[Asked], T]) -> None:
        self._equivalents, self._look = equivalents, look
        self._found: dict[tuple[object, ...], T] = {}
        self._generation = -1

    def forget(self) -> None:
        """The rules are other ones."""
        self._found = {}

    def concerned(self, asked: Asked) -> T:
        """Whom the request may concern."""
        if self._generation != self._equivalents.generation or len(self._found) > REMEMBERED_MAX:
            self._generation, self._found = self._equivalents.generation, {}
        kind = asked.kind
        key = (
            kind.group, kind.version, kind.plural, asked.operation, asked.subresource,
            bool(asked.namespace),
        )  # fmt: skip
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._look(asked)
        return found
