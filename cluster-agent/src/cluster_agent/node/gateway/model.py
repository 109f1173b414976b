"""What a node's gateway is told and what it answers, as values.

A plan is complete: what it does not name is not served. Names on the wire (server names, certificates) are those of
`machinery.api.fleet.multicluster`. IPv4 and TCP only: other families and protocols have no field here, so whoever makes
a plan has to say that they are not supported.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from machinery.api.fleet.multicluster import GATEWAY_PORT, GatewayAddress, NodeRange

EGRESS_ADDRESS = "169.254.20.11"
"""On the loopback of every real node: where its own pods reach other clusters' Services."""
EGRESS_PORTS = range(20_000, 30_000)
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""DNS names in lower case: all that may be written into HAProxy's files."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """An IPv4 address and a port. Raises ValueError for anything else."""

    ip: str
    port: int

    def __post_init__(self) -> None:
        _check_target(self.ip, self.port)

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class Ingress:
    """One exported port of this cluster: its TLS server name (`port_name`), and its ready endpoints here.

    No targets: the name is known, and a connection to it is closed at once.
    """

    server_name: str
    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        _check_name(self.server_name, "server name")


@dataclass(frozen=True, slots=True, order=True)
class EgressKey:
    """A TCP port of a Service as one peer cluster exports it; each has a listener of its own on the node."""

    namespace: str
    service: str
    port: int
    cluster: str

    def __post_init__(self) -> None:
        for name, what in (
            (self.namespace, "namespace"),
            (self.service, "service"),
            (self.cluster, "cluster"),
        ):
            _check_name(name, what)
        _check_port(self.port)


@dataclass(frozen=True, slots=True)
class PeerSites:
    """Where a peer cluster can be reached: `ClusterNetwork.spec` of it. No nodes: direct routes are not probed."""

    cluster: str
    gateways: tuple[GatewayAddress, ...] = ()
    nodes: tuple[NodeRange, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.cluster, "cluster")
        for gateway in self.gateways:
            _check_target(gateway.address, gateway.port)
        for node in self.nodes:
            _check_name(node.node, "node")
            _check_target(node.probe, GATEWAY_PORT)


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """Everything a node's gateway serves. An egress whose cluster is no peer is closed at once."""

    cluster: str
    """This cluster."""
    ingress: tuple[Ingress, ...] = ()
    egress: tuple[EgressKey, ...] = ()
    peers: tuple[PeerSites, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.cluster, "cluster")
        _unique((item.server_name for item in self.ingress), "server name")
        _unique(self.egress, "egress")
        _unique((peer.cluster for peer in self.peers), "peer")


@dataclass(frozen=True, slots=True)
class PeerState:
    """What of a peer answers with that peer's certificate. What was never probed yet is False."""

    gateways: Mapping[str, bool] = field(default_factory=dict)
    """By `address:port`."""
    nodes: Mapping[str, bool] = field(default_factory=dict)
    """By node: its probe address answers, so its pod range is routed from here to that cluster."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM texts: a gateway's certificate, its key, and the CA that peers' certificates must come from."""

    certificate: str
    key: str = field(repr=False)
    ca: str


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """What one node's gateway must know of its node."""

    cluster: str
    directory: Path
    """In the node's state directory; made with mode 0700."""
    binary: str = "haproxy"
    address: str = EGRESS_ADDRESS
    port: int = GATEWAY_PORT
    """Where ingress and probes are answered, on every IPv4 address of the host."""
    probe: str = ""
    """This node's own `NodeRange.probe`: made an address of the host's loopback, so that it answers also before the
    first pod. Empty: none, or somebody else's care."""
    connections_max: int = 4_096
    """At the same time, in one process of HAProxy; more wait in the kernel's queue."""
    threads: int = 1
    debounce_s: float = 0.3
    """Changes within this time share one reload."""
    poll_s: float = 0.5
    """How often HAProxy is asked for the states of peers."""
    reload_gap_s: float = 1.0
    """From one reload to the next, at least: each leaves a process behind that serves its open connections."""
    draining_max: int = 6
    """Such processes; the oldest is ended when there are more, whatever it still serves."""
    drain_s: int = 600
    """How long connections of an older process go on after a reload, also those to what is no longer exported."""

    def __post_init__(self) -> None:
        _check_name(self.cluster, "cluster")
        _check_target(self.address, self.port)
        if self.probe:
            _check_target(self.probe, self.port)


def _check_name(name: str, what: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r} is not a DNS name in lower case")


def _check_port(port: int) -> None:
    if not 1 <= port <= 65_535:
        raise ValueError(f"port {port} is not between 1 and 65535")


def _check_target(ip: str, port: int) -> None:
    _ = ipaddress.IPv4Address(ip)
    _check_port(port)


def _unique(values: Iterable[object], what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{what} {value!r} is there twice")
        seen.add(value)
