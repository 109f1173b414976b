"""Which kinds a server serves, and what each of them is.

A `ServedKind` says what discovery, routing and the codec must know of a kind; a `Scheme` is the set of them that one
process serves. The built kinds of Kubernetes stand in `kinds.py`; the federation brings its own with their schema, which
then behave like custom resources (`custom=True`: no strategic merge patch, no protobuf). The scheme holds no behaviour:
defaults, strategies and validation are looked up by group and kind in their own modules.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

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
class ScalePaths:
    """Where an object of a custom kind has what its Scale shows: JSON paths such as `.spec.replicas`."""

    spec_replicas: str
    status_replicas: str
    label_selector: str = ""


class Convert(Protocol):
    """How the objects of one definition are converted where its strategy is not None."""

    @property
    def config(self) -> Mapping[str, Any]:
        """`spec.conversion`: two of the same are the same."""
        ...

    def __call__(self, document: dict[str, Any], api_version: str) -> dict[str, Any]:
        """The object in that version. Raises ConversionWanted (`api.customresources.conversion`) where it is not known."""
        ...

    async def all(
        self, documents: Sequence[dict[str, Any]], api_version: str
    ) -> list[dict[str, Any]]:
        """The objects in that version, in order, after asking for those that are not known. Raises InternalError."""
        ...


@dataclass(frozen=True, slots=True)
class Custom:
    """What only a kind of a CustomResourceDefinition has; the same value for all versions of one."""

    definition: str
    """The definition's name."""
    storage_version: str
    schemas: Mapping[str, Mapping[str, Any]] = field(hash=False, compare=False)
    """By version, served or not: objects may lie in the store in any of them."""
    selectable: tuple[str, ...] = ()
    """Paths by which the objects can be selected in any of the versions."""
    terminating: bool = False
    """The definition is being deleted: nothing may be created any more."""
    convert: "Convert | None" = field(default=None, hash=False, compare=False)
    """Who turns objects of one version into another; None: only their apiVersion changes."""


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
    dynamic: Custom | None = None
    """Set where a CustomResourceDefinition made the kind: it may change and go while the server runs."""
    selectable: tuple[str, ...] = ()
    """JSON paths of a dynamic kind by which its objects can be selected, without the leading dot."""
    scale: ScalePaths | None = None
    list_name: str = ""
    """The kind of its lists, where it is not the kind's name and `List`."""
    computed: bool = False
    """Objects are made when they are asked for, by an extension of the server; nothing is kept, nothing is watched."""

    @property
    def list_kind(self) -> str:
        return self.list_name or self.kind + "List"

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
        """Whether objects of the kind are kept; reviews, bindings and metrics are answered and forgotten."""
        return "get" in self.verbs and not self.computed

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
        self.generation = 0
        """Counts the changes; what is computed from the kinds is good for one value."""
        for kind in kinds:
            self.register(kind)

    @property
    def kinds(self) -> tuple[ServedKind, ...]:
        return tuple(self._by_plural.values())

    def own(self) -> "Scheme":
        """A scheme of the same kinds for one server to change: without those that another's definitions made."""
        return Scheme(kind for kind in self.kinds if kind.dynamic is None)

    def register(self, kind: ServedKind) -> None:
        """Serve one more kind. Raises ValueError when its path or its kind is taken."""
        path = (kind.group, kind.version, kind.plural)
        gvk = (kind.group, kind.version, kind.kind)
        if path in self._by_plural or gvk in self._by_gvk:
            raise ValueError(f"already served: {kind.api_version} {kind.plural} ({kind.kind})")
        self._by_plural[path] = kind
        self._by_gvk[gvk] = kind
        self.generation += 1

    def unregister(self, kind: ServedKind) -> None:
        """Serve a kind no more. Raises KeyError when it is not served."""
        del self._by_plural[kind.group, kind.version, kind.plural]
        del self._by_gvk[kind.group, kind.version, kind.kind]
        self.generation += 1

    def by_plural(self, group: str, version: str, plural: str) -> ServedKind | None:
        """The kind behind a URL, or None."""
        return self._by_plural.get((group, version, plural))

    def by_gvk(self, group: str, version: str, kind: str) -> ServedKind | None:
        """The kind of a body, or None."""
        return self._by_gvk.get((group, version, kind))

    def is_fixed(self, group: str) -> bool:
        """Whether the group has kinds that no definition made."""
        return any(k.group == group and k.dynamic is None for k in self._by_plural.values())

    def stored(self, kind: ServedKind) -> ServedKind:
        """The kind under which objects of `kind` are written: itself, but for faces. A dynamic kind judges for itself."""
        if kind.stored_as is None or kind.dynamic is not None:
            return kind
        found = self._by_plural.get((*kind.stored_as, kind.plural))
        assert found is not None, f"{kind.api_version} {kind.plural} is a face of nothing"
        return found

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group -> its versions, in the order of registration, those of dynamic kinds behind by priority; core is empty."""
        found: dict[str, dict[str, bool]] = {}
        for kind in self._by_plural.values():
            versions = found.setdefault(kind.group, {})
            versions[kind.version] = versions.get(kind.version, True) and kind.dynamic is not None
        return {group: _ordered(versions) for group, versions in found.items()}


_KUBE_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")
_STAGES = {"": 2, "beta": 1, "alpha": 0}


def version_priority(version: str) -> tuple[Any, ...]:
    """Sorts versions from the most to the least preferred: v2, v1, v1beta2, v1alpha1, then other names by the alphabet."""
    found = _KUBE_VERSION.fullmatch(version)
    if found is None:
        return (1, version)
    major, stage, minor = found.groups()
    return (0, -_STAGES[stage or ""], -int(major), -int(minor or 0))


def _ordered(versions: Mapping[str, bool]) -> tuple[str, ...]:
    fixed = [version for version, dynamic in versions.items() if not dynamic]
    moving = [version for version, dynamic in versions.items() if dynamic]
    return (*fixed, *sorted(moving, key=version_priority))
