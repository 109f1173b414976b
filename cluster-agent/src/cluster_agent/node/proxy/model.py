"""What the proxy is told: Services with their endpoints, as values of its own.

Not the API's views: the same engine serves ClusterIPs, ClusterSetIPs and whatever else has an address and endpoints.
`inputs` turns views into these. Load balancer source ranges, health check node ports and topology hints have no field
here: whoever reads the API refuses them or resolves them into endpoints and weights.
"""

import ipaddress
from dataclasses import dataclass

PROTOCOLS = ("tcp", "udp", "sctp")
AFFINITY_S = 10_800
"""sessionAffinityConfig.clientIP.timeoutSeconds where nothing is said."""
AFFINITY_MAX_S = 86_400


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address behind a service port."""

    ip: str
    port: int
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    zone: str = ""
    cluster: str = ""
    weight: int = 1
    """Share of new connections against the other endpoints of the port; 0 gets none."""

    @property
    def target(self) -> str:
        """As the kernel's maps have it."""
        return f"{self.ip} . {self.port}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service and what stands behind it."""

    port: int
    protocol: str = "tcp"
    name: str = ""
    node_port: int = 0
    endpoints: tuple[Endpoint, ...] = ()

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r} is not one of {', '.join(PROTOCOLS)}")
        for number in (self.port, self.node_port):
            if not 0 <= number <= 65_535:
                raise ValueError(f"port {number} is not between 0 and 65535")


@dataclass(frozen=True, slots=True)
class Service:
    """Addresses, ports and policies. Headless services never come here: they have no address to serve."""

    cluster_ips: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    external_ips: tuple[str, ...] = ()
    """spec.externalIPs and the addresses a load balancer sends to this node unchanged."""
    affinity_s: int = 0
    """Seconds that a client keeps its endpoint after its last new connection; 0 is no affinity."""
    internal_local: bool = False
    """internalTrafficPolicy Local."""
    external_local: bool = False
    """externalTrafficPolicy Local."""

    def __post_init__(self) -> None:
        if not 0 <= self.affinity_s <= AFFINITY_MAX_S:
            raise ValueError(
                f"affinity of {self.affinity_s} s is not between 0 and {AFFINITY_MAX_S}"
            )
        for address in (*self.cluster_ips, *self.external_ips):
            _ = ipaddress.ip_address(address)


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """What one node's proxy must know of its node."""

    node: str
    """The Node's name: endpoints on it are local."""

    pod_cidrs: tuple[str, ...]
    """The ranges of this node's own pods, one a family at least; they decide which families are served."""

    service_cidrs: tuple[str, ...] = ()
    """Whole ranges of service addresses: what nobody owns in them is dropped, not routed away. None: no such rule."""

    egress_except: tuple[str, ...] = ()
    """Pods that leave for an address outside these ranges take the node's address. None: the proxy leaves egress alone."""

    bridge_filters: bool | None = None
    """Whether bridged packets pass the IP hooks (br_netfilter). None: read it from the kernel when rules are loaded."""

    debounce_s: float = 0.05
    check_s: float = 30.0
    """How often the table is looked at, in case somebody else took it away."""

    def __post_init__(self) -> None:
        if not self.pod_cidrs:
            raise ValueError(
                "the proxy needs the pod range of its node to know whose address to keep"
            )
        for cidr in (*self.pod_cidrs, *self.service_cidrs, *self.egress_except):
            _ = ipaddress.ip_network(cidr)

    def families(self) -> tuple[str, ...]:
        """`ip`, `ip6` or both, by the pod ranges."""
        versions = {ipaddress.ip_network(cidr).version for cidr in self.pod_cidrs}
        return tuple(name for name, version in (("ip", 4), ("ip6", 6)) if version in versions)


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a Service that its owner should read: for an Event."""

    service: str
    reason: str
    message: str


def family_of(address: str) -> str:
    """`ip` or `ip6`, for an address or a range."""
    return "ip6" if ":" in address else "ip"
