"""Services over clusters, as values: ServiceExport and ServiceImport (SIG Multicluster, KEP-1645), ClusterProperty
(KEP-2149), and ours that carry them.

A member's link reports each exported Service with its endpoints as an ExportedService in the member's own namespace at the
federation; the federation merges them into ServiceImports and sends those, with the endpoints of the other clusters,
into every member as Works. ClusterNetwork says how a cluster can be reached: its gateways, and the pod ranges of its nodes.
"""

import datetime as dt
import hashlib

from machinery.api.discovery_kinds import Endpoint, EndpointPort
from machinery.api.service_kinds import SessionAffinityConfig
from machinery.meta.objectmeta import Condition, Object, View
from machinery.meta.resource import ObjectKey, Resource

SERVICE_NAME_LABEL = "multicluster.kubernetes.io/service-name"
SOURCE_CLUSTER_LABEL = "multicluster.kubernetes.io/source-cluster"
SLICE_MANAGER = "clusterset.ubernetes.io"
"""`endpointslice.kubernetes.io/managed-by` of slices that belong to a ServiceImport."""
EXPORTING_CLUSTERS = "ubernetes.io/exporting-clusters"
"""On a member's ServiceImport, by the federation: names of the exporting clusters, parted by commas, in order of precedence."""
CONFLICTS = "ubernetes.io/export-conflicts"
"""On a member's ServiceImport, by the federation: the Conflict condition of every ServiceExport of this name, as JSON
`{"status", "reason", "message"}`."""
GATEWAY_NODE = "ubernetes.io/gateway"
"""On a Node, by its node process while it runs a gateway: JSON `{"address", "port", "cidrs", "probe"}` as GatewayAddress
and NodeRange have them. Which nodes become the cluster's gateways is the link's choice."""
GATEWAY_SECRET = ObjectKey("kube-system", "ubernetes-gateway")
"""In a member, by its link: `tls.crt`, `tls.key` and `ca.crt` of its gateways."""
GATEWAY_SIGNER = "ubernetes.io/gateway"
GATEWAY_USER_PREFIX = "ubernetes:gateway:"
"""Common name of a gateway's certificate; as a user of the API it has no rights."""
PEERS = "ubernetes.io/peers"
"""On a Node, by its node process: how it reaches each other cluster, as JSON, a list of `Peer`."""
CLUSTER_ID_PROPERTY = "cluster.clusterset.k8s.io"
CLUSTERSET_PROPERTY = "clusterset.k8s.io"

RESERVED_DOMAINS = ("ubernetes.io", "karmada.io")
GATEWAY_PORT = 15443
"""Where gateways listen (TLS, client certificates required, the Service by server name)."""
CLUSTERSET_IP, HEADLESS = "ClusterSetIP", "Headless"
DIRECT, GATEWAY, UNREACHABLE = "Direct", "Gateway", "Unreachable"
"""Ways to a peer: its pods' own addresses, its gateways, none that answers."""


def gateway_name(cluster: str) -> str:
    """The DNS name in the certificate of a cluster's gateways; nobody resolves it. A wildcard, because HAProxy checks a
    peer's certificate against the server name that it sends: every name below must be the cluster's own."""
    return f"*.{_zone(cluster)}"


def gateway_uri(cluster: str) -> str:
    """The same name as a SPIFFE ID, in the same certificate."""
    return f"spiffe://ubernetes/cluster/{cluster}"


def port_name(cluster: str, namespace: str, service: str, port: int, protocol: str = "TCP") -> str:
    """The TLS server name of one exported port at a cluster's gateway. One label stands for the Service, because a
    wildcard covers one and a namespace and a name may be longer than a label: theirs is a hash."""
    digest = hashlib.sha256(f"{namespace}/{service}".encode()).hexdigest()[:32]
    return f"{protocol.lower()}-{port}-{digest}.{_zone(cluster)}"


def probe_name(cluster: str) -> str:
    """The TLS server name that any gateway of the cluster answers itself."""
    return f"probe.{_zone(cluster)}"


def _zone(cluster: str) -> str:
    return f"{cluster}.gateway.ubernetes.internal"


def reserved(key: str) -> bool:
    """Whether a label or annotation is the federation's own, and may not be exported."""
    domain = key.rpartition("/")[0]
    return any(domain == one or domain.endswith(f".{one}") for one in RESERVED_DOMAINS)


class ServiceExportSpec(View):
    exported_labels: dict[str, str] = {}
    exported_annotations: dict[str, str] = {}


class ServiceExportStatus(View):
    conditions: tuple[Condition, ...] = ()


class ServiceExport(Object):
    spec: ServiceExportSpec = ServiceExportSpec()
    status: ServiceExportStatus = ServiceExportStatus()


class ImportPort(View):
    """A port by which consumers reach the import; there is no target port."""

    port: int = 0
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None


class ServiceImportSpec(View):
    ports: tuple[ImportPort, ...] = ()
    ips: tuple[str, ...] = ()
    ip_families: tuple[str, ...] = ()
    type: str = CLUSTERSET_IP
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str = ""
    traffic_distribution: str = ""

    @property
    def headless(self) -> bool:
        return self.type == HEADLESS


class ExportingCluster(View):
    cluster: str = ""


class ServiceImportStatus(View):
    clusters: tuple[ExportingCluster, ...] = ()
    conditions: tuple[Condition, ...] = ()


class ServiceImport(Object):
    """`spec.ips` is each member's own; everything else of `spec` is the federation's."""

    spec: ServiceImportSpec = ServiceImportSpec()
    status: ServiceImportStatus = ServiceImportStatus()


class ClusterPropertySpec(View):
    value: str = ""


class ClusterProperty(Object):
    spec: ClusterPropertySpec = ClusterPropertySpec()


class ServiceKey(View):
    namespace: str = ""
    name: str = ""


class ExportedSlice(View):
    """Endpoints that share their ports, as an EndpointSlice has them."""

    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class ExportedServiceSpec(View):
    """`exported_at` is the creation time of the ServiceExport: the oldest wins conflicts."""

    service: ServiceKey = ServiceKey()
    exported_at: dt.datetime | None = None
    type: str = CLUSTERSET_IP
    ports: tuple[ImportPort, ...] = ()
    ip_families: tuple[str, ...] = ()
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str = ""
    traffic_distribution: str = ""
    exported_labels: dict[str, str] = {}
    exported_annotations: dict[str, str] = {}
    slices: tuple[ExportedSlice, ...] = ()


class ExportedService(Object):
    """`<service>.<namespace>` in `karmada-es-<cluster>`, written by that cluster's link alone."""

    spec: ExportedServiceSpec = ExportedServiceSpec()


class GatewayAddress(View):
    """One gateway: the node that runs it, its address there, and its port."""

    node: str = ""
    address: str = ""
    port: int = GATEWAY_PORT


class NodeRange(View):
    """The pods of one node, and the address in that range that answers probes on the gateway's port."""

    node: str = ""
    cidrs: tuple[str, ...] = ()
    probe: str = ""


class ClusterNetworkSpec(View):
    gateways: tuple[GatewayAddress, ...] = ()
    nodes: tuple[NodeRange, ...] = ()
    direct_routes: str = "Enabled"
    """`Disabled` by FederationConfig: only gateways are used. Set on the copies that members get."""


class Peer(View):
    """How one cluster is reached from a node, or (in a cluster's status) from all of its nodes."""

    cluster: str = ""
    path: str = UNREACHABLE
    reason: str = ""
    """One sentence."""
    gateways_up: int = 0
    gateways: int = 0
    nodes_up: int = 0
    """Nodes of the peer whose pods answer directly."""
    nodes: int = 0


class ClusterNetworkStatus(View):
    peers: tuple[Peer, ...] = ()
    summary: str = ""
    """`beta=Direct gamma=Gateway`, for people."""
    observed_at: dt.datetime | None = None


class ClusterNetwork(Object):
    """Named after its cluster. At the federation written by the member's link; in members a Work brings all of them."""

    spec: ClusterNetworkSpec = ClusterNetworkSpec()
    status: ClusterNetworkStatus = ClusterNetworkStatus()


_MCS = ("multicluster.x-k8s.io", "v1beta1")
_OURS = ("ubernetes.io", "v1alpha1")
SERVICE_EXPORTS: Resource[ServiceExport] = Resource(
    *_MCS, "serviceexports", "ServiceExport", True, ServiceExport
)
SERVICE_IMPORTS: Resource[ServiceImport] = Resource(
    *_MCS, "serviceimports", "ServiceImport", True, ServiceImport
)
CLUSTER_PROPERTIES: Resource[ClusterProperty] = Resource(
    "about.k8s.io", "v1", "clusterproperties", "ClusterProperty", False, ClusterProperty
)
EXPORTED_SERVICES: Resource[ExportedService] = Resource(
    *_OURS, "exportedservices", "ExportedService", True, ExportedService
)
CLUSTER_NETWORKS: Resource[ClusterNetwork] = Resource(
    *_OURS, "clusternetworks", "ClusterNetwork", False, ClusterNetwork
)
