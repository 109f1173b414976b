"""The two kinds of bindings: of objects in a namespace, and of objects of a cluster. The same controllers handle both.

A controller is set up once for each scope, or looks at the whole fleet through `Bindings`. The key of a ClusterResourceBinding
has no namespace, that of a ResourceBinding always has one, so plans ask `binding_resource(binding.key)` which of the two they
write.
"""

import builtins
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from machinery.api.fleet.work import (
    BINDING_DOCUMENTS,
    BINDING_LABEL,
    CLUSTER_BINDING_DOCUMENTS,
    CLUSTER_BINDING_LABEL,
    CLUSTER_RESOURCE_BINDINGS,
    RESOURCE_BINDINGS,
    ResourceBinding,
)
from machinery.client.informer import Informer
from machinery.meta.resource import Document, ObjectKey, Resource


@dataclass(frozen=True, slots=True)
class Scope:
    """What a controller watches of one scope."""

    bindings: Resource[Any]
    documents: Resource[Document]
    label: str
    """On Works: of which binding they are."""
    namespaced: bool

    def named(self, controller: str) -> str:
        """The name of the controller for this scope."""
        return controller if self.namespaced else f"{controller}-cluster"


IN_NAMESPACES: Final = Scope(RESOURCE_BINDINGS, BINDING_DOCUMENTS, BINDING_LABEL, True)
OF_CLUSTERS: Final = Scope(
    CLUSTER_RESOURCE_BINDINGS, CLUSTER_BINDING_DOCUMENTS, CLUSTER_BINDING_LABEL, False
)
SCOPES: Final = (IN_NAMESPACES, OF_CLUSTERS)


def scope_of(*, namespaced: bool) -> Scope:
    """Of templates that are in namespaces, or not."""
    return IN_NAMESPACES if namespaced else OF_CLUSTERS


class Bindings:
    """The copies of both kinds as one, for who orders or paces what happens in the whole fleet."""

    def __init__(self, informer: Callable[[Resource[Any]], Informer[Any]]) -> None:
        self._of: dict[bool, Informer[ResourceBinding]] = {
            scope.namespaced: informer(scope.bindings) for scope in SCOPES
        }

    def get(self, key: ObjectKey) -> ResourceBinding | None:
        """The binding of that key, whose namespace says of which kind it is."""
        return self._of[bool(key.namespace)].get(key)

    def list(self) -> list[ResourceBinding]:
        """All of them."""
        return [binding for informer in self._of.values() for binding in informer.list()]

    def beside(self, binding: ResourceBinding) -> builtins.list[ResourceBinding]:
        """The others of its namespace; of an object of a cluster, those of the other objects of a cluster."""
        home = self._of[bool(binding.key.namespace)].list(binding.key.namespace)
        return [other for other in home if other.key != binding.key]

    def add_index(
        self, name: str, keys_of: Callable[[ResourceBinding], Iterable[Hashable]]
    ) -> None:
        """As of an informer."""
        for informer in self._of.values():
            informer.add_index(name, keys_of)

    def by_index(self, name: str, value: Hashable) -> builtins.list[ResourceBinding]:
        """As of an informer."""
        return [b for informer in self._of.values() for b in informer.by_index(name, value)]

    def on_change(
        self, handler: Callable[[ResourceBinding | None, ResourceBinding | None], None]
    ) -> None:
        """As of an informer."""
        for informer in self._of.values():
            informer.on_change(handler)
