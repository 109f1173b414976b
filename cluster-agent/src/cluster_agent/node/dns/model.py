"""What the name server is told: settings, and Services with their endpoints as values of its own.

Not the API's views: `inputs` turns those into these, for the cluster's own Services and for imported ones alike.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """Settings of one node's name server."""

    addresses: tuple[str, ...]
    """Where it listens: addresses of this host, never a wildcard (an answer must come from where the query went)."""

    port: int = 53
    """0 lets the system choose; UDP and TCP then share the number."""

    free_bind: bool = False
    """Listen on addresses that the host does not have yet."""

    cluster_domain: str = "cluster.local"
    clusterset_domain: str = "clusterset.local"
    """Empty: names of the clusterset are not ours and go upstream."""

    ttl_s: int = 5
    nameservers: tuple[str, ...] = ()
    """Addresses of `ns.dns.<domain>`; none: those it listens on."""

    reverse_cidrs: tuple[str, ...] = ()
    """Ranges whose reverse names are ours alone: what is unknown in them does not exist and is not asked upstream."""

    pods: str = "verified"
    """`a-b-c-d.<ns>.pod.<domain>`: `verified` (such a pod exists), `insecure` (whatever the name says), `disabled`."""

    headless_hosts_max: int = 1_000
    """An imported headless Service with more hosts is published as a stable subset: a message has 65,535 bytes."""

    upstreams: tuple[str, ...] = ()
    """`ip` or `ip#port`; none: those of resolv_conf."""

    resolv_conf: str = "/etc/resolv.conf"
    upstream_timeout_s: float = 1.0
    upstream_rounds: int = 2
    """How often each server is asked before we give up."""

    upstream_deadline_s: float = 4.0
    """Less than the five seconds after which a C library asks again."""

    cache_entries_max: int = 4_096
    cache_positive_max_s: int = 300
    cache_negative_max_s: int = 30
    stale_max_s: float = 30.0
    """How long past its time an answer may serve while no upstream does."""

    stale_wait_s: float = 1.0
    """How long to try upstream before a stale answer goes out."""

    inflight_max: int = 1_000
    inflight_per_source_max: int = 200
    """Queries that wait for upstream, in all and by client address; more are refused with SERVFAIL."""

    tcp_connections_max: int = 256
    tcp_idle_s: float = 10.0

    def __post_init__(self) -> None:
        if self.pods not in ("verified", "insecure", "disabled"):
            raise ValueError(f"pods {self.pods!r} is unknown: use verified, insecure or disabled")
        if not 0 <= self.ttl_s <= 3_600:
            raise ValueError(f"a TTL of {self.ttl_s} s is not between 0 and 3600")
        for address in (*self.addresses, *self.nameservers):
            if ipaddress.ip_address(address).is_unspecified:
                raise ValueError(f"{address} is a wildcard: name the addresses to listen on")
        for cidr in self.reverse_cidrs:
            _ = ipaddress.ip_network(cidr)
        if not self.cluster_domain:
            raise ValueError("a cluster needs a domain")
        domains = [f".{d.lower()}" for d in (self.cluster_domain, self.clusterset_domain) if d]
        if len(domains) == 2 and (
            domains[0].endswith(domains[1]) or domains[1].endswith(domains[0])
        ):
            raise ValueError(
                f"one of {self.cluster_domain} and {self.clusterset_domain} is inside the other"
            )


class ServiceName(NamedTuple):
    """Which Service, or which import of it."""

    namespace: str
    name: str
    imported: bool = False


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a Service or of a slice; the empty name is an unnamed one. Only named ports have names in DNS."""

    port: int
    protocol: str = "TCP"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Addresses of one backend, all of one family."""

    addresses: tuple[str, ...]
    hostname: str = ""
    ready: bool = True
    pod: str = ""
    """What stands behind it; two endpoints of the same pod, one a family, stay together when a subset is taken."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some endpoints of a Service. With a cluster, of the import of that Service."""

    namespace: str
    service: str
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[Port, ...] = ()
    cluster: str = ""

    @property
    def owner(self) -> ServiceName:
        return ServiceName(self.namespace, self.service, bool(self.cluster))


@dataclass(frozen=True, slots=True)
class Service:
    """A Service of this cluster, or a ServiceImport (`imported`, ips are the ClusterSetIPs)."""

    namespace: str
    name: str
    ips: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    headless: bool = False
    external_name: str = ""
    publish_not_ready: bool = False
    imported: bool = False

    @property
    def key(self) -> ServiceName:
        return ServiceName(self.namespace, self.name, self.imported)


class PodName(NamedTuple):
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class State:
    """Everything at once. `slices` are by namespace and name of the slice, pods give their addresses."""

    services: tuple[Service, ...] = ()
    slices: Mapping[tuple[str, str], Slice] = field(default_factory=dict)
    namespaces: frozenset[str] = frozenset()
    pods: Mapping[PodName, tuple[str, ...]] = field(default_factory=dict)
