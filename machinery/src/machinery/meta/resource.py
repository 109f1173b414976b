"""Which kind of object, and which one of them.

`Resource[T]` names a kind of the API (group, version, plural) together with the typed view `T` that deciders read.
A view leaves out what we do not decide on; it never goes back over the wire as a PUT.
"""

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

Document: TypeAlias = dict[str, Any]
"""A JSON object of the API in its wire shape (camelCase). The generic path's type; never mutated once shared."""

T = TypeVar("T")


class ObjectKey(NamedTuple):
    """Namespace and name; the namespace of a cluster-scoped object is the empty string."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class GroupVersionKind(NamedTuple):
    """`("apps", "v1", "Deployment")`; the core group is the empty string."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """One served kind and the view it is read through."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    view: type[T]

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def gvk(self) -> GroupVersionKind:
        return GroupVersionKind(self.group, self.version, self.kind)

    @property
    def group_resource(self) -> str:
        """`deployments.apps`, or `pods` in the core group: how upstream's messages name a resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, the object or its subresource."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [base]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)

    def __str__(self) -> str:
        return self.group_resource


def split_api_version(api_version: str) -> tuple[str, str]:
    """`apps/v1` -> (`apps`, `v1`); `v1` -> (``, `v1`)."""
    group, _, version = api_version.rpartition("/")
    return group, version


def document_key(document: Document) -> ObjectKey:
    """The key of an object in wire shape."""
    metadata = document.get("metadata") or {}
    return ObjectKey(metadata.get("namespace", ""), metadata.get("name", ""))
