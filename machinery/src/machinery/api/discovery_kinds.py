"""Views of group discovery.k8s.io: EndpointSlice, the addresses behind a Service in pieces of at most a hundred.

Proxy and DNS read these. Their two labels say whose they are: `kubernetes.io/service-name` and who keeps them,
`endpointslice.kubernetes.io/managed-by`.
"""

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from machinery.api.core import ObjectReference
from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import Resource

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
HEADLESS_LABEL = "service.kubernetes.io/headless"


class EndpointConditions(View):
    """Absent counts as: ready, serving as ready, not terminating; ask the properties of Endpoint."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForZone(View):
    name: str = ""


class EndpointHints(View):
    for_zones: tuple[ForZone, ...] = ()
    for_nodes: tuple[ForZone, ...] = ()


class Endpoint(View):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: ObjectReference | None = None
    hints: EndpointHints | None = None

    @property
    def ready(self) -> bool:
        """Takes new connections."""
        return self.conditions.ready is not False

    @property
    def serving(self) -> bool:
        """Answers, though it may be on its way out: the last resort of a proxy."""
        serving = self.conditions.serving
        return self.ready if serving is None else serving

    @property
    def terminating(self) -> bool:
        return self.conditions.terminating is True


class EndpointPort(View):
    """A port without a number stands for every port."""

    name: str = ""
    protocol: str = "TCP"
    port: int | None = None
    app_protocol: str | None = None


if TYPE_CHECKING:
    _Endpoints: TypeAlias = tuple[Endpoint, ...]
    _Ports: TypeAlias = tuple[EndpointPort, ...]
else:  # what the wire may say; readers never see the null
    _Endpoints = tuple[Endpoint, ...] | None
    _Ports = tuple[EndpointPort, ...] | None


class EndpointSlice(Object):
    """`endpoints` and `ports` are null on the wire when there are none, and read as empty."""

    address_type: str = "IPv4"
    endpoints: _Endpoints = ()
    ports: _Ports = ()

    def __post_init__(self) -> None:
        for name in ("endpoints", "ports"):
            if getattr(self, name) is None:
                msgspec.structs.force_setattr(self, name, ())

    @property
    def service_name(self) -> str:
        """The Service that the slice belongs to, or the empty string."""
        return self.metadata.labels.get(SERVICE_NAME_LABEL, "")


ENDPOINTSLICES: Resource[EndpointSlice] = Resource(
    "discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", True, EndpointSlice
)
