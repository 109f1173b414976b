"""The Service `kubernetes` in namespace `default`: the API server's own address, for pods that talk to it.

Its cluster address is the first of the range. It has no selector; its one EndpointSlice names where the server listens, as
the program says. With several servers over one database the one whose controllers lead is named: the others are reached by
the operator's own load balancing, not by this Service.
"""

import ipaddress
from dataclasses import dataclass

from machinery.api.discovery_kinds import ENDPOINTSLICES, SERVICE_NAME_LABEL, EndpointSlice
from machinery.api.service_kinds import ENDPOINTS, SERVICES, Endpoints, Service
from machinery.controller.action import Action, Create, Patch, Result
from machinery.controller.manager import Manager
from machinery.meta.resource import Document, ObjectKey

KEY = ObjectKey("default", "kubernetes")
PORT = 443
LABELS = {"component": "apiserver", "provider": "kubernetes"}
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """Where pods find the API server."""

    cluster_ip: str
    host: str
    port: int

    @property
    def family(self) -> str:
        return "IPv6" if ":" in self.host else "IPv4"

    @property
    def reachable(self) -> bool:
        """Whether a pod could get there: a name is no address, and loopback means another host to each of them."""
        try:
            host = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return not host.is_loopback and not host.is_unspecified


def plan(
    address: ApiAddress,
    service: Service | None,
    endpoints: Endpoints | None,
    piece: EndpointSlice | None,
) -> list[Action]:
    """What is missing of Service, Endpoints and slice, or tells an old address."""
    actions: list[Action] = []
    if service is None and address.cluster_ip:
        actions.append(Create(SERVICES, service_document(address), exists_ok=True))
    if not address.reachable:
        return actions
    ports = [{"name": "https", "port": address.port, "protocol": "TCP"}]
    subsets = [{"addresses": [{"ip": address.host}], "ports": ports}]
    if endpoints is None:
        metadata = {**_metadata(), "labels": {SKIP_MIRROR: "true"}}
        document: Document = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
        actions.append(Create(ENDPOINTS, {**document, "subsets": subsets}, exists_ok=True))
    elif _told(endpoints) != (address.host, address.port):
        actions.append(Patch(ENDPOINTS, KEY, {"subsets": subsets}))
    content: Document = {
        "endpoints": [{"addresses": [address.host], "conditions": {"ready": True}}],
        "ports": ports,
    }
    if piece is None:
        metadata = {**_metadata(), "labels": {SERVICE_NAME_LABEL: KEY.name}}
        document = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": address.family,
        }
        actions.append(Create(ENDPOINTSLICES, {**document, **content}, exists_ok=True))
    elif _slice_told(piece) != (address.host, address.port):
        actions.append(Patch(ENDPOINTSLICES, KEY, content))
    return actions


def service_document(address: ApiAddress) -> Document:
    """The Service as upstream's API server makes it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**_metadata(), "labels": LABELS},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address.cluster_ip,
            "ports": [
                {"name": "https", "port": PORT, "protocol": "TCP", "targetPort": address.port}
            ],
            "sessionAffinity": "None",
        },
    }


def _metadata() -> Document:
    return {"name": KEY.name, "namespace": KEY.namespace}


def _told(endpoints: Endpoints) -> tuple[str, int]:
    for subset in endpoints.subsets:
        for one in subset.addresses:
            return one.ip, subset.ports[0].port if subset.ports else 0
    return "", 0


def _slice_told(piece: EndpointSlice) -> tuple[str, int | None]:
    host = next((text for one in piece.endpoints for text in one.addresses), "")
    return host, piece.ports[0].port if piece.ports else 0


class KubernetesServiceReconciler:
    """Read, plan, act; there is one key."""

    def __init__(self, manager: Manager, address: ApiAddress) -> None:
        self._executor, self._address = manager.executor, address
        self._services = manager.informer(SERVICES)
        self._endpoints = manager.informer(ENDPOINTS)
        self._slices = manager.informer(ENDPOINTSLICES)

    async def reconcile(self, key: ObjectKey) -> Result:
        return await self._executor.apply(
            plan(
                self._address,
                self._services.get(key),
                self._endpoints.get(key),
                self._slices.get(key),
            )
        )


def setup(manager: Manager, address: ApiAddress) -> None:
    """Watch the three objects of that name, and look once at the start."""
    reconciler = KubernetesServiceReconciler(manager, address)
    builder = manager.controller("kubernetes-service", reconciler, workers=1)

    def only_it(item: Service | Endpoints | EndpointSlice) -> list[ObjectKey]:
        return [KEY] if item.key == KEY else []

    builder.watches(SERVICES, only_it).watches(ENDPOINTS, only_it)
    builder.watches(ENDPOINTSLICES, only_it)
    builder.enqueue(KEY)
