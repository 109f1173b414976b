"""Services and EndpointSlices of the API, turned into what the proxy serves.

`served` is the rule, `ServiceFeed` keeps the proxy at it from two informers. Not served: headless and ExternalName
Services, endpoint ports without a number, addresses that are names. Of an endpoint's addresses the first counts, as
upstream. Topology hints and trafficDistribution are not read: every ready endpoint of the cluster takes its share.
"""

from collections.abc import Iterable

from cluster_agent.node.proxy.model import Endpoint, Service, ServicePort
from cluster_agent.node.proxy.proxy import ServiceProxy
from machinery.api import discovery_kinds, service_kinds
from machinery.client.informer import Informer
from machinery.meta.resource import ObjectKey

SOURCE_CLUSTER_LABEL = "multicluster.kubernetes.io/source-cluster"
INDEX = "proxy-service"
EXTERNAL_TYPES = ("NodePort", "LoadBalancer")


def served(
    service: service_kinds.Service, slices: Iterable[discovery_kinds.EndpointSlice]
) -> Service | None:
    """What the proxy does for a Service; None: nothing. Pure."""
    spec = service.spec
    addresses = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    if spec.headless or spec.type == "ExternalName" or not addresses:
        return None
    pieces = sorted(slices, key=lambda s: s.metadata.name)
    external = spec.type in EXTERNAL_TYPES
    balanced = [i.ip for i in service.status.load_balancer.ingress if i.ip]
    affinity = 0
    if spec.session_affinity == "ClientIP":
        given = spec.session_affinity_config or service_kinds.SessionAffinityConfig()
        affinity = given.client_ip.timeout_seconds
    return Service(
        cluster_ips=addresses,
        external_ips=(*spec.external_ips, *(balanced if spec.type == "LoadBalancer" else ())),
        ports=tuple(
            ServicePort(
                port=port.port,
                protocol=port.protocol.lower(),
                name=port.name,
                node_port=port.node_port if external else 0,
                endpoints=endpoints(pieces, port.name, port.protocol),
            )
            for port in spec.ports
        ),
        affinity_s=affinity,
        internal_local=spec.internal_traffic_policy == "Local",
        external_local=spec.external_traffic_policy == "Local",
    )


def endpoints(
    slices: Iterable[discovery_kinds.EndpointSlice], port_name: str, protocol: str
) -> tuple[Endpoint, ...]:
    """The endpoints of one service port, one for each address; a ready one hides its double in another slice."""
    found: dict[tuple[str, int], Endpoint] = {}
    for piece in slices:
        if piece.address_type not in ("IPv4", "IPv6"):
            continue
        numbers = [
            p.port for p in piece.ports if p.name == port_name and p.protocol == protocol and p.port
        ]
        cluster = piece.metadata.labels.get(SOURCE_CLUSTER_LABEL, "")
        for number in numbers:
            for one in piece.endpoints:
                if not one.addresses:
                    continue
                name = (one.addresses[0], number)
                if name not in found or (one.ready and not found[name].ready):
                    found[name] = Endpoint(
                        ip=one.addresses[0],
                        port=number,
                        ready=one.ready,
                        serving=one.serving,
                        terminating=one.terminating,
                        node=one.node_name,
                        zone=one.zone,
                        cluster=cluster,
                    )
    return tuple(found[name] for name in sorted(found))


class ServiceFeed:
    """Keeps a proxy at what two informers hold. Make it before the informers run."""

    def __init__(
        self,
        proxy: ServiceProxy,
        services: Informer[service_kinds.Service],
        slices: Informer[discovery_kinds.EndpointSlice],
    ) -> None:
        self._proxy, self._services, self._slices = proxy, services, slices
        self._fed = False
        slices.add_index(INDEX, lambda s: [_owner(s)])
        services.on_change(self._on_service)
        slices.on_change(self._on_slice)

    async def run(self) -> None:
        """Give the complete state once both informers have it; from then on each change at once."""
        await self._services.wait_synced()
        await self._slices.wait_synced()
        found = {str(key): self._served(key) for key in map(_key, self._services.list())}
        self._proxy.set_state({key: service for key, service in found.items() if service})
        self._fed = True

    def _served(self, key: ObjectKey) -> Service | None:
        service = self._services.get(key)
        return served(service, self._slices.by_index(INDEX, key)) if service is not None else None

    def _feed(self, key: ObjectKey) -> None:
        if self._fed and key.name:
            self._proxy.set_service(str(key), self._served(key))

    def _on_service(
        self, old: service_kinds.Service | None, new: service_kinds.Service | None
    ) -> None:
        service = new or old
        assert service is not None
        self._feed(_key(service))

    def _on_slice(
        self,
        old: discovery_kinds.EndpointSlice | None,
        new: discovery_kinds.EndpointSlice | None,
    ) -> None:
        for key in sorted({_owner(piece) for piece in (old, new) if piece is not None}):
            self._feed(key)


def _key(service: service_kinds.Service) -> ObjectKey:
    return ObjectKey(service.metadata.namespace, service.metadata.name)


def _owner(piece: discovery_kinds.EndpointSlice) -> ObjectKey:
    return ObjectKey(piece.metadata.namespace, piece.service_name)
