"""Which way leads to a peer: its pods' own addresses, its gateways, or none that answers. Pure.

                     direct routes Enabled               Disabled, or no node answers
    a gateway up     Direct to the nodes that answer     Gateway
    none up          Direct to the nodes that answer     Unreachable

A node counts by its probe, which only that cluster's certificate satisfies: so a pod range that two clusters share leads
nobody astray. The gateway's checks have steadied what comes in here (seconds of silence before a "no"). On top of that a node
that was lost and answers again is trusted after `SETTLE_S` only: a zone that has just come back has other pods at its old
addresses until its slices arrive, and its gateways know better. A node that was lost beside others that answer is
taken for dead; one that never answered, or not for `UNROUTED_S`, is taken for not routed, and its pods are asked for at
the gateways. While our own gateway is gone nobody is asked, and direct ways stay as they were.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cluster_agent.node.gateway.model import PeerState
from machinery.api.fleet.multicluster import (
    DIRECT,
    GATEWAY,
    UNREACHABLE,
    ClusterNetworkSpec,
    NodeRange,
    Peer,
)

SETTLE_S = 10.0
UNROUTED_S = 60.0
"""Longer than a cluster takes to say of a dead node that its pods are not ready."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Whose pod range an address is in: one look a prefix length, whatever the number of nodes."""

    nodes: Mapping[tuple[int, int, int], str] = field(default_factory=dict)
    """(IP version, prefix length, network as a number) -> node."""
    lengths: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, nodes: tuple[NodeRange, ...]) -> "Ranges":
        """What is no range is left out."""
        found: dict[tuple[int, int, int], str] = {}
        for node in nodes:
            for cidr in node.cidrs:
                try:
                    network = ipaddress.ip_network(cidr)
                except ValueError:
                    continue
                key = (network.version, network.prefixlen, int(network.network_address))
                found[key] = node.node
        lengths = sorted({key[:2] for key in found}, reverse=True)
        return cls(found, tuple(lengths))

    def node(self, ip: str) -> str:
        """Empty where it is in nobody's."""
        address = ipaddress.ip_address(ip)
        number, bits = int(address), address.max_prefixlen
        for version, length in self.lengths:
            if version == address.version:
                shift = bits - length
                name = self.nodes.get((version, length, number >> shift << shift))
                if name is not None:
                    return name
        return ""


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """What has been seen of one node of a peer."""

    up: bool
    since: float
    """Monotonic: when it last turned, or was first looked at."""
    answered: bool
    """Whether it ever answered."""
    lost: bool = False
    """Whether it ever stopped answering."""

    def trusted(self, now: float) -> bool:
        return self.up and (not self.lost or now - self.since >= SETTLE_S)

    def dead(self, now: float) -> bool:
        return not self.up and self.answered and now - self.since < UNROUTED_S


@dataclass(frozen=True, slots=True)
class PeerPath:
    """The way to one peer, and what the next look has to know of this one."""

    cluster: str
    path: str
    reason: str
    gateways_up: int = 0
    gateways: int = 0
    nodes_up: int = 0
    direct: frozenset[str] = frozenset()
    """Nodes whose pods are reached directly."""
    dead: frozenset[str] = frozenset()
    """Nodes that are lost beside others that answer."""
    last_direct: frozenset[str] = frozenset()
    """Those of the last way that led there, for when no cluster is left at all; empty: its gateways."""
    sites: tuple[NodeRange, ...] = ()
    """What `ranges` was made of."""
    ranges: Ranges = Ranges()
    memory: Mapping[str, NodeMemory] = field(default_factory=dict)

    def told(self) -> Peer:
        """As the Node's annotation has it."""
        return Peer(
            cluster=self.cluster,
            path=self.path,
            reason=self.reason,
            gateways_up=self.gateways_up,
            gateways=self.gateways,
            nodes_up=self.nodes_up,
            nodes=len(self.memory),
        )

    def same_way(self, other: "PeerPath | None") -> bool:
        """Whether nobody's slots need to change from one to the other."""
        return other is not None and (
            (self.path, self.gateways_up > 0, self.direct, self.dead, self.last_direct, self.ranges)
            == (
                other.path, other.gateways_up > 0, other.direct, other.dead, other.last_direct, other.ranges,
            )
        )  # fmt: skip


def choose_path(
    cluster: str,
    spec: ClusterNetworkSpec,
    state: PeerState,
    before: PeerPath | None,
    now: float,
    lame: str = "",
) -> PeerPath:
    """The way to `cluster` from here. `lame`: why this node's own gateway cannot ask anybody, if so."""
    nodes = spec.nodes if spec.direct_routes == "Enabled" else ()
    memory = _remember(nodes, state, before.memory if before is not None else {}, now)
    up = frozenset(name for name, node in memory.items() if node.up)
    trusted = frozenset(name for name in up if memory[name].trusted(now))
    listed = [f"{g.address}:{g.port}" for g in spec.gateways]
    gateways_up = sum(state.gateways.get(name, False) for name in listed)
    direct = trusted or (up if not gateways_up else frozenset())
    path = DIRECT if direct else GATEWAY if gateways_up else UNREACHABLE
    dead = frozenset(n for n, node in memory.items() if direct and node.dead(now))
    last = before.last_direct if before is not None else frozenset()
    if path != UNREACHABLE:
        last = direct
    counts = _Counts(gateways_up, len(listed), len(up), len(nodes))
    return PeerPath(
        cluster=cluster,
        path=path,
        reason=_reason(path, counts, spec.direct_routes, lame),
        gateways_up=gateways_up,
        gateways=len(listed),
        nodes_up=len(up),
        direct=direct,
        dead=dead,
        last_direct=last & memory.keys(),
        sites=nodes,
        ranges=before.ranges if before is not None and before.sites == nodes else Ranges.of(nodes),
        memory=memory,
    )


def held_path(before: PeerPath | None, spec: ClusterNetworkSpec, lame: str) -> PeerPath | None:
    """The direct way as it was last seen, for when this node's own gateway is gone and nobody is asked any more.

    That is no word about the peer, and packets to its pods do not pass our gateway. None: choose.
    """
    if before is None or before.path != DIRECT or spec.direct_routes != "Enabled":
        return None
    if before.sites != spec.nodes:
        return None
    return replace(before, reason=f"as it was last seen, this node's gateway cannot ask: {lame}")


def _remember(
    nodes: tuple[NodeRange, ...], state: PeerState, before: Mapping[str, NodeMemory], now: float
) -> dict[str, NodeMemory]:
    found: dict[str, NodeMemory] = {}
    for node in nodes:
        up, old = state.nodes.get(node.node, False), before.get(node.node)
        if old is None:
            found[node.node] = NodeMemory(up, now, answered=up)
        elif old.up == up:
            found[node.node] = old
        else:
            lost = old.lost or not up
            found[node.node] = NodeMemory(up, now, answered=True, lost=lost)
    return found


@dataclass(frozen=True, slots=True)
class _Counts:
    gateways_up: int
    gateways: int
    nodes_up: int
    nodes: int


def _reason(path: str, counts: _Counts, direct_routes: str, lame: str) -> str:
    gateways = f"{counts.gateways_up} of {counts.gateways} gateways"
    pods = f"{counts.nodes_up} of {counts.nodes} nodes' pods"
    if path == DIRECT:
        return f"{pods} answer directly, {gateways} answer"
    if path == GATEWAY:
        if direct_routes != "Enabled":
            return f"direct routes are disabled, {gateways} answer"
        if counts.nodes_up:
            return f"{pods} answer again, but not for long yet; {gateways} answer"
        return f"no node's pods answer directly, {gateways} answer"
    if lame:
        return f"this node's gateway cannot ask: {lame}"
    if not counts.gateways and not counts.nodes:
        return "it has neither gateways nor nodes that could be asked"
    if direct_routes != "Enabled":
        return f"direct routes are disabled, {gateways} answer"
    return f"neither gateways (0 of {counts.gateways}) nor nodes' pods (0 of {counts.nodes}) answer"
