"""Views of Service and Endpoints: a name and an address for a set of pods, and who answers for it."""

import msgspec

from machinery.api.core import ObjectReference
from machinery.meta.objectmeta import Condition, Object, View
from machinery.meta.resource import Resource


class ServicePort(View):
    """`target_port` is a number, or the name of a container port; 0 when absent."""

    port: int = 0
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str = 0
    node_port: int = 0
    app_protocol: str | None = None


class ClientIPConfig(View):
    timeout_seconds: int = 10800


class SessionAffinityConfig(View):
    client_ip: ClientIPConfig = msgspec.field(name="clientIP", default=ClientIPConfig())


class ServiceSpec(View):
    """`cluster_ip` is empty (none yet), `None` (headless) or an address."""

    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] = msgspec.field(name="clusterIPs", default=())
    external_ips: tuple[str, ...] = msgspec.field(name="externalIPs", default=())
    external_name: str = ""
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str = ""
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str = "Cluster"
    external_traffic_policy: str = ""
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    traffic_distribution: str = ""

    @property
    def headless(self) -> bool:
        return self.cluster_ip == "None"


class LoadBalancerIngress(View):
    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(View):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(View):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] = ()


class Service(Object):
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class EndpointAddress(View):
    ip: str = ""
    hostname: str = ""
    node_name: str = ""
    target_ref: ObjectReference | None = None


class EndpointPort(View):
    port: int = 0
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None


class EndpointSubset(View):
    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(Object):
    """The old form of EndpointSlices, for clients that have not moved on."""

    subsets: tuple[EndpointSubset, ...] = ()


SERVICES: Resource[Service] = Resource("", "v1", "services", "Service", True, Service)
ENDPOINTS: Resource[Endpoints] = Resource("", "v1", "endpoints", "Endpoints", True, Endpoints)
