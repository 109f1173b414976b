"""The address and host plan of a lab: what exists, under which name and address, as a function of what was asked.

A lab owns one of 32 slots of the benchmarking range 198.18.0.0/15 (RFC 2544: no real network uses it), so that two labs
on one machine never meet. Inside a slot the third octet says the cluster and the fourth the host, so an address in a log
is read without a table. Pod ranges repeat from lab to lab: they are never routed outside a lab's own namespaces.
Without root the same plan falls on loopback addresses (127.64.0.0/10) and no host is made.

Limits: 14 clusters, 240 nodes each, 8 federation servers, 1000 hollow nodes a cluster.
"""

import base64
import hashlib
import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Runtime = Literal["containerd", "hollow"]
Role = Literal["federation", "front", "control", "node", "hollow"]

SLOTS = 32
MAX_CLUSTERS = 14
MAX_NODES = 240
MAX_HOLLOW = 1000
MAX_SERVERS = 8
DEFAULT_CLUSTERS = ("alpha", "beta", "gamma")
API_PORT = 6443
KUBELET_PORT = 10250

_WAN_BASE = int(ipaddress.IPv4Address("198.18.0.0"))
_LOOPBACK_BASE = int(ipaddress.IPv4Address("127.64.0.0"))
_SLOT_SIZE = 4096
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?")


class PlanError(ValueError):
    """What was asked cannot be planned; the text says what to change."""


@dataclass(frozen=True, slots=True)
class LabSpec:
    """What the user asked for."""

    directory: str
    clusters: tuple[str, ...] = DEFAULT_CLUSTERS
    nodes: int = 1
    runtime: Runtime = "containerd"
    hollow_nodes: int = 0
    servers: int = 1
    server_zones: tuple[str, ...] = ()
    """Where each server stands, in their order; none: in a place of their own."""
    database_url: str = ""
    rooted: bool = True


@dataclass(frozen=True, slots=True)
class HostPlan:
    """One machine of the fleet. `address` is its place on the WAN; `pod_cidr` is empty where no pods run."""

    name: str
    role: Role
    address: str
    cluster: str = ""
    node: str = ""
    pod_cidr: str = ""
    zone: str = ""
    """Of a server that shares the fate of a zone."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """One member: its place in the world and its machines."""

    name: str
    zone: str
    region: str
    control: HostPlan
    nodes: tuple[HostPlan, ...]
    hollow: HostPlan | None
    hollow_count: int
    pod_cidr: str
    hollow_cidr: str
    service_cidr: str
    clusterset_cidr: str
    """Addresses that this member gives to Services of the whole fleet."""


@dataclass(frozen=True, slots=True)
class LabPlan:
    """Everything that `up` makes."""

    spec: LabSpec
    lab_id: str
    slot: int
    prefix: int
    root_address: str
    federation: tuple[HostPlan, ...]
    front: HostPlan | None
    clusters: tuple[ClusterPlan, ...]

    @property
    def entrance(self) -> HostPlan:
        """The host by whose address members and kubectl reach the federation."""
        return self.front or self.federation[0]

    @property
    def hosts(self) -> tuple[HostPlan, ...]:
        """Every machine, federation first."""
        found = [*self.federation, *([self.front] if self.front else [])]
        for cluster in self.clusters:
            found += [cluster.control, *cluster.nodes]
            if cluster.hollow is not None:
                found.append(cluster.hollow)
        return tuple(found)

    @property
    def root_link(self) -> str:
        """The one link that the machine itself sees."""
        return f"ub-{self.lab_id}"

    @property
    def cgroup(self) -> str:
        """The lab's directory in every cgroup hierarchy."""
        return f"ubernetes-{self.lab_id}"


def lab_id(directory: str) -> str:
    """Six letters that name the lab of `directory` (a link name has room for fifteen)."""
    digest = hashlib.sha256(directory.encode()).digest()
    return base64.b32encode(digest)[:6].decode().lower()


def preferred_slot(directory: str) -> int:
    """Where the search for a free slot starts."""
    return hashlib.sha256(directory.encode()).digest()[-1] % SLOTS


def slot_network(slot: int) -> ipaddress.IPv4Network:
    """The addresses a slot owns on the machine."""
    return ipaddress.IPv4Network((_WAN_BASE + slot * _SLOT_SIZE, 20))


def choose_slot(directory: str, taken: list[ipaddress.IPv4Network]) -> int:
    """The first slot from the preferred one on that overlaps none of the machine's networks."""
    first = preferred_slot(directory)
    for step in range(SLOTS):
        slot = (first + step) % SLOTS
        if not any(slot_network(slot).overlaps(network) for network in taken):
            return slot
    raise PlanError(
        f"all {SLOTS} address ranges under 198.18.0.0/15 are in use on this machine: "
        "stop another lab with `fedctl lab down` in its checkout, or remove the routes (see `ip route`)"
    )


def check_spec(spec: LabSpec) -> None:
    """Refuse what the address plan has no room for, in words the user can act on."""
    if not 1 <= len(spec.clusters) <= MAX_CLUSTERS:
        raise PlanError(f"--clusters: 1 to {MAX_CLUSTERS} clusters, not {len(spec.clusters)}")
    for name in spec.clusters:
        if not _NAME.fullmatch(name):
            raise PlanError(
                f"--clusters: {name!r} is not a cluster name: at most 30 of a-z, 0-9 and '-', "
                "with a letter or digit at both ends"
            )
    if len(set(spec.clusters)) != len(spec.clusters):
        raise PlanError("--clusters: a name is given twice")
    if "federation" in spec.clusters:
        raise PlanError("--clusters: 'federation' is the name of the federation's own context")
    _check_range("--nodes", spec.nodes, MAX_NODES)
    _check_range("--hollow-nodes", spec.hollow_nodes, MAX_HOLLOW)
    if not 1 <= spec.servers <= MAX_SERVERS:
        raise PlanError(f"--servers: 1 to {MAX_SERVERS}, not {spec.servers}")
    if spec.servers > 1 and not spec.database_url.startswith("postgresql"):
        raise PlanError(
            "--servers: several federation servers share one PostgreSQL: give --database-url postgresql://…"
        )
    if "," in urlsplit(spec.database_url).netloc:
        raise PlanError("--database-url: the lab's forwarders lead to one host, not to several")
    _check_zones(spec)


def _check_zones(spec: LabSpec) -> None:
    known = [zone_name(index) for index in range(len(spec.clusters))]
    if spec.server_zones and len(spec.server_zones) != spec.servers:
        raise PlanError(
            f"--server-zones: one for each of the {spec.servers} servers, not {len(spec.server_zones)}"
        )
    for zone in spec.server_zones:
        if zone not in known:
            raise PlanError(
                f"--server-zones: there is no zone {zone!r}; there is {', '.join(known)}"
            )


def _check_range(option: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise PlanError(f"{option}: 0 to {most}, not {value}")


def make_plan(spec: LabSpec, slot: int) -> LabPlan:
    """The whole fleet of `spec` in `slot`. Raises PlanError."""
    check_spec(spec)
    base = (_WAN_BASE if spec.rooted else _LOOPBACK_BASE) + slot * _SLOT_SIZE
    return LabPlan(
        spec=spec,
        lab_id=lab_id(spec.directory),
        slot=slot,
        prefix=20,
        root_address=_address(base + 1),
        federation=tuple(
            HostPlan(
                f"federation-{i + 1}",
                "federation",
                _address(base + 11 + i),
                zone=spec.server_zones[i] if spec.server_zones else "",
            )
            for i in range(spec.servers)
        ),
        front=HostPlan("front", "front", _address(base + 10)) if spec.servers > 1 else None,
        clusters=tuple(_cluster(spec, base, i) for i in range(len(spec.clusters))),
    )


def _cluster(spec: LabSpec, base: int, index: int) -> ClusterPlan:
    name = spec.clusters[index]
    ours = base + 256 * (index + 1)
    real = spec.nodes if spec.runtime == "containerd" else 0
    hollow_count = spec.hollow_nodes + (spec.nodes if spec.runtime == "hollow" else 0)
    nodes = tuple(
        HostPlan(
            name=f"{name}-node-{i + 1}",
            role="node",
            address=_address(ours + 11 + i),
            cluster=name,
            node=f"node-{i + 1}",
            pod_cidr=f"10.{100 + index}.{i + 1}.0/24",
        )
        for i in range(real)
    )
    # One process plays them all; the node's name is their stem: node-1, node-2, … where there are no real ones.
    stem = "hollow" if real else "node"
    hollow_name = f"{stem}-1" if hollow_count == 1 else stem
    hollow = HostPlan(
        f"{name}-hollow", "hollow", _address(ours + 2), cluster=name, node=hollow_name
    )
    return ClusterPlan(
        name=name,
        zone=zone_name(index),
        region=f"region-{index // 2 + 1}",
        control=HostPlan(f"{name}-control", "control", _address(ours + 1), cluster=name),
        nodes=nodes,
        hollow=hollow if hollow_count else None,
        hollow_count=hollow_count,
        pod_cidr=f"10.{100 + index}.0.0/16",
        hollow_cidr=f"10.{120 + index}.0.0/16",
        service_cidr=f"10.{200 + index}.0.0/16",
        clusterset_cidr=f"10.{220 + index}.0.0/16",
    )


def zone_name(index: int) -> str:
    """The zone of the cluster with this index."""
    return f"zone-{'abcdefghijklmnopqrstuvwxyz'[index]}"


def _address(number: int) -> str:
    return str(ipaddress.IPv4Address(number))
