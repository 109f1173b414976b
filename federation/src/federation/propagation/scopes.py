"""The two kinds of bindings: of objects in a namespace, and of objects of a cluster. The same controllers handle both.

A controller is set up once for each scope. The key of a ClusterResourceBinding has no namespace, that of a ResourceBinding
always has one, so plans ask `binding_resource(binding.key)` which of the two they write.
"""

from dataclasses import dataclass
from typing import Any, Final

from machinery.api.fleet.work import (
    BINDING_DOCUMENTS,
    BINDING_LABEL,
    CLUSTER_BINDING_DOCUMENTS,
    CLUSTER_BINDING_LABEL,
    CLUSTER_RESOURCE_BINDINGS,
    RESOURCE_BINDINGS,
)
from machinery.meta.resource import Document, Resource


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
