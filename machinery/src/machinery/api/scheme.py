"""Which kinds a server serves, and what each of them is.

A `ServedKind` says what discovery, routing and the codec must know of a kind; a `Scheme` is the set of them that one
process serves. The built kinds of Kubernetes stand in `kinds.py`; the federation brings its own with their schema, which
then behave like custom resources (`custom=True`: no strategic merge patch, no protobuf). The scheme holds no behaviour:
defaults, strategies and validation are looked up by group and kind in their own modules.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

ALL_VERBS: tuple[str, ...] = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
)
UPDATE_VERBS: tuple[str, ...] = ("get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A path below an object. `group` and `version` name the body's kind where it is not the parent's own."""

    name: str
    kind: str
    group: str = ""
    version: str = ""
    verbs: tuple[str, ...] = UPDATE_VERBS


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column of an own kind, as a CustomResourceDefinition states it."""

    name: str
    type: str
    json_path: str
    priority: int = 0
    description: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True)
class ServedKind:
    """One kind as it is served."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    schema_name: str
    """Key of the schema data, e.g. `io.k8s.api.apps.v1.Deployment`; own kinds choose a name below `io.ubernetes`."""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    schema: Mapping[str, Any] | None = field(default=None, hash=False, compare=False)
    """The OpenAPI v3 schema of an own kind; built kinds have theirs in the data file."""
    custom: bool = False
    columns: tuple[Column, ...] = ()
    has_status: bool = False
    """Whether `status` is an endpoint of its own."""
    relaxed: bool = False
    """Losing the last seconds of writes in a crash is acceptable (heartbeats, events)."""

    deprecated: str = ""
    """The warning that every answer about the kind carries."""

    stored_as: tuple[str, str] | None = None
    """(group, version) of the kind as which the objects lie in the store, where this one is another face of it."""

    @property
    def list_kind(self) -> str:
        return self.kind + "List"

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`deployments.apps`, or `pods` in the core group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def group_kind(self) -> tuple[str, str]:
        return (self.group, self.kind)

    @property
    def storable(self) -> bool:
        """Whether objects of the kind are kept; reviews and bindings are answered and forgotten."""
        return "get" in self.verbs

    def subresource(self, name: str) -> Subresource | None:
        """The subresource of that name, or None."""
        return next((s for s in self.subresources if s.name == name), None)


def face(kind: ServedKind, version: str) -> ServedKind:
    """The own kind under one more version of its group: same schema, same objects. Register it after `kind`, which stays
    the preferred one."""
    assert kind.schema is not None, "a built kind has a schema of its own for each version"
    gvk = {"group": kind.group, "version": version, "kind": kind.kind}
    return replace(
        kind,
        version=version,
        schema_name=kind.schema_name.replace(f".{kind.version}.", f".{version}."),
        schema={**kind.schema, "x-kubernetes-group-version-kind": [gvk]},
        stored_as=(kind.group, kind.version),
    )


class Scheme:
    """The kinds of one process; grows while it runs when a custom kind is registered."""

    def __init__(self, kinds: Iterable[ServedKind]) -> None:
        self._by_plural: dict[tuple[str, str, str], ServedKind] = {}
        self._by_gvk: dict[tuple[str, str, str], ServedKind] = {}
        for kind in kinds:
            self.register(kind)

    @property
    def kinds(self) -> tuple[ServedKind, ...]:
        return tuple(self._by_plural.values())

    def register(self, kind: ServedKind) -> None:
        """Serve one more kind. Raises ValueError when its path or its kind is taken."""
        path = (kind.group, kind.version, kind.plural)
        gvk = (kind.group, kind.version, kind.kind)
        if path in self._by_plural or gvk in self._by_gvk:
            raise ValueError(f"already served: {kind.api_version} {kind.plural} ({kind.kind})")
        self._by_plural[path] = kind
        self._by_gvk[gvk] = kind

    def by_plural(self, group: str, version: str, plural: str) -> ServedKind | None:
        """The kind behind a URL, or None."""
        return self._by_plural.get((group, version, plural))

    def by_gvk(self, group: str, version: str, kind: str) -> ServedKind | None:
        """The kind of a body, or None."""
        return self._by_gvk.get((group, version, kind))

    def stored(self, kind: ServedKind) -> ServedKind:
        """The kind under which objects of `kind` lie in the store: itself, but for faces."""
        if kind.stored_as is None:
            return kind
        found = self._by_plural.get((*kind.stored_as, kind.plural))
        assert found is not None, f"{kind.api_version} {kind.plural} is a face of nothing"
        return found

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group -> its versions, in the order of registration; the core group is the empty string."""
        found: dict[str, dict[str, None]] = {}
        for kind in self._by_plural.values():
            found.setdefault(kind.group, {})[kind.version] = None
        return {group: tuple(versions) for group, versions in found.items()}
