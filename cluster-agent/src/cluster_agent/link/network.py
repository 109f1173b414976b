"""How the member is reached, and how it reaches the others: its ClusterNetwork at the federation.

Nodes say in annotations what gateway they run and how they reach each other cluster. From that the link chooses the
cluster's gateways, two at most, and sums up the ways to every peer. Both are written as soon as they change, since
the federation takes them as evidence when it judges a silent cluster, and every OBSERVED_S in any case, so that
`status.observedAt` tells how fresh they are and a lost write is made good.

Only nodes that are Ready and renew their Lease count as witnesses. A node that falls silent stays Ready for its grace time
(50 s), and when it fell together with the cluster it speaks of, its old word would say for so long that all is well. So
its word ends WITNESS_S after its last renewal was seen here.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from machinery.api.coordination import Lease
from machinery.api.core import Node
from machinery.api.fleet.multicluster import (
    CLUSTER_NETWORKS,
    DIRECT,
    GATEWAY,
    GATEWAY_NODE,
    GATEWAY_PORT,
    PEERS,
    UNREACHABLE,
    ClusterNetworkSpec,
    GatewayAddress,
    NodeRange,
    Peer,
)
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.kit.clock import Clock, rfc3339
from machinery.meta.errors import AlreadyExists, NotFound, StatusError
from machinery.meta.objectmeta import View, is_true, to_document
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

GATEWAYS_MAX = 2
OBSERVED_S = 30.0
WITNESS_S = 15.0
"""A node renews its Lease every 10 s."""
LOOK_S = 1.0
GATHER_S = 0.1
"""From the first of a burst of changes to the write."""
RETRY_S = 1.0
ANSWER_S = 5.0
"""How long a write may take: a server that lost its power says nothing, and what stands at the others is the old word."""
PEERS_MAX = 256
"""Clusters of which a node's word is taken."""
PORTS = 65_536
PATHS = (DIRECT, GATEWAY, UNREACHABLE)
ZONE = "topology.kubernetes.io/zone"


class _GatewayNote(View):
    """What a node says of the gateway it runs."""

    address: str = ""
    port: int = GATEWAY_PORT
    cidrs: tuple[str, ...] = ()
    probe: str = ""


_NOTE = msgspec.json.Decoder(_GatewayNote)
_PEERS = msgspec.json.Decoder(tuple[Peer, ...])


@dataclass(frozen=True, slots=True)
class Site:
    """What a node says of itself, read."""

    node: str
    ready: bool = True
    zone: str = ""
    gateway: GatewayAddress | None = None
    range: NodeRange | None = None
    peers: tuple[Peer, ...] = ()


# ------------------------------------------------------------------------------------------------------------- deciding
def site_of(node: Node) -> Site | None:
    """None for a node that runs no gateway and knows no peers.

    What cannot be read counts as not said: one node's nonsense must not keep the others' word from the federation.
    """
    notes, name = node.metadata.annotations, node.metadata.name
    if node.deleting or not (GATEWAY_NODE in notes or PEERS in notes):
        return None
    note = _GatewayNote()
    peers: tuple[Peer, ...] = ()
    try:
        if GATEWAY_NODE in notes:
            note = _NOTE.decode(notes[GATEWAY_NODE])
        if PEERS in notes:
            peers = _PEERS.decode(notes[PEERS])
    except msgspec.MsgspecError as error:
        log.warning("a node's word cannot be read", extra={"node": name, "error": str(error)})
    sound = note.address and 0 < note.port < PORTS
    return Site(
        name,
        is_true(node.status.conditions, "Ready"),
        node.metadata.labels.get(ZONE, ""),
        GatewayAddress(name, note.address, note.port) if sound else None,
        NodeRange(name, note.cidrs, note.probe) if note.cidrs else None,
        tuple(peer for peer in peers if peer.cluster and peer.path in PATHS)[:PEERS_MAX],
    )


def gateways(sites: Iterable[Site], chosen: Iterable[str]) -> tuple[GatewayAddress, ...]:
    """The cluster's gateways: Ready nodes first, then those `chosen` now, then another zone, then by name."""
    held = frozenset(chosen)
    left = {site.node: site for site in sites if site.gateway is not None}
    found: list[Site] = []
    while left and len(found) < GATEWAYS_MAX:
        zones = {site.zone for site in found}
        best = min(
            left.values(), key=lambda s: (not s.ready, s.node not in held, s.zone in zones, s.node)
        )
        found.append(left.pop(best.node))
    ordered = sorted(found, key=lambda site: site.node)
    return tuple(site.gateway for site in ordered if site.gateway is not None)


def spec(sites: Sequence[Site], held: ClusterNetworkSpec) -> Document:
    """The fields of the spec that are the member's."""
    chosen = gateways(sites, (gateway.node for gateway in held.gateways))
    ranges = sorted((s.range for s in sites if s.range is not None), key=lambda r: r.node)
    return {
        "gateways": [to_document(gateway) for gateway in chosen],
        "nodes": [to_document(held) for held in ranges],
    }


def peers(sites: Iterable[Site], silent: Collection[str] = ()) -> tuple[Peer, ...]:
    """How the cluster as a whole reaches each other one, by the word of its Ready nodes that are not `silent`."""
    told: dict[str, list[Peer]] = {}
    for site in sites:
        for peer in site.peers if site.ready and site.node not in silent else ():
            told.setdefault(peer.cluster, []).append(peer)
    return tuple(_summed(told[cluster]) for cluster in sorted(told))


def _summed(said: Sequence[Peer]) -> Peer:
    """Direct if every node that gets there gets there directly; Unreachable only if none gets there."""
    reaching = [peer for peer in said if peer.path != UNREACHABLE]
    path = UNREACHABLE
    if reaching:
        path = DIRECT if all(peer.path == DIRECT for peer in reaching) else GATEWAY
    one = next((peer for peer in said if peer.path == path), said[0])
    counts = Counter(peer.path for peer in said)
    reason = one.reason
    if len(counts) > 1:
        parts = [
            f"{counts[way]} {word}"
            for way, word in (
                (DIRECT, "directly"),
                (GATEWAY, "by a gateway"),
                (UNREACHABLE, "not at all"),
            )
            if counts[way]
        ]
        reason = f"of {len(said)} nodes {', '.join(parts)}" + (f"; {reason}" if reason else "")
    return Peer(
        one.cluster,
        path,
        reason,
        gateways_up=max(peer.gateways_up for peer in said),
        gateways=max(peer.gateways for peer in said),
        nodes_up=max(peer.nodes_up for peer in said),
        nodes=max(peer.nodes for peer in said),
    )


def status(sites: Iterable[Site], silent: Collection[str] = ()) -> Document:
    """The status without the time of observation."""
    found = peers(sites, silent)
    summary = " ".join(f"{peer.cluster}={peer.path}" for peer in found)
    return {"peers": [to_document(peer) for peer in found], "summary": summary}


# ---------------------------------------------------------------------------------------------------------------- doing
class Network:
    """Keeps the member's ClusterNetwork; `run_once` is one look."""

    def __init__(
        self,
        federation: Client,
        clock: Clock,
        cluster: str,
        nodes: Informer[Node],
        leases: Informer[Lease],
    ) -> None:
        """`nodes` and their `leases` are the member's; their owner runs them."""
        self._federation, self._clock, self._nodes = federation, clock, nodes
        self._key = ObjectKey("", cluster)
        self._sites: dict[str, Site] = {}
        self._held: ClusterNetworkSpec | None = None
        self._written: tuple[Document, Document] | None = None
        self._observed = 0.0
        self._changed = asyncio.Event()
        self._renewed: dict[str, float] = {}
        nodes.on_change(self._on_node)
        leases.on_change(self._on_lease)

    def _on_lease(self, old: Lease | None, new: Lease | None) -> None:
        """When a renewal was seen, by our own clock: no two machines' clocks are compared."""
        if new is None:
            assert old is not None
            self._renewed.pop(old.metadata.name, None)
        elif old is None or old.spec.renew_time != new.spec.renew_time:
            self._renewed[new.metadata.name] = self._clock.monotonic()

    def _silent(self) -> frozenset[str]:
        """Nodes whose last renewal is too long ago; one that has no Lease is judged by its readiness alone."""
        oldest = self._clock.monotonic() - WITNESS_S
        return frozenset(n for n in self._sites if self._renewed.get(n, oldest) < oldest)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        either = new or old
        assert either is not None
        name = either.metadata.name
        site = site_of(new) if new is not None else None
        if site == self._sites.get(name):
            return
        if site is None:
            del self._sites[name]
        else:
            self._sites[name] = site
        self._changed.set()

    async def run_forever(self) -> None:
        """Write at every change, and every OBSERVED_S; who has fallen silent is looked for every LOOK_S."""
        await self._nodes.wait_synced()
        failing = False
        while True:
            self._changed.clear()
            try:
                await self.run_once()
                failing = False
            except (StatusError, ConnectionError, TimeoutError) as error:
                if not failing:
                    log.warning("cluster network not written", extra={"error": str(error)})
                failing = True
                await self._clock.sleep(RETRY_S)
                continue
            await self._wait()
            await self._clock.sleep(GATHER_S)

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._changed.wait()

    async def run_once(self) -> None:
        """Write what changed, and all of it when it is time. Raises StatusError, ConnectionError, TimeoutError."""
        async with asyncio.timeout(ANSWER_S):
            await self._brought_up_to_date()

    async def _brought_up_to_date(self) -> None:
        if self._held is None:
            self._held = await self._present()
        sites = [self._sites[name] for name in sorted(self._sites)]
        fresh = spec(sites, self._held), status(sites, self._silent())
        if fresh == self._written and self._clock.monotonic() < self._observed + OBSERVED_S:
            return
        moment, now = self._clock.monotonic(), rfc3339(self._clock.now())
        await self._write(*fresh, now)
        self._written, self._observed = fresh, moment
        self._held = msgspec.convert(fresh[0], ClusterNetworkSpec)

    async def _present(self) -> ClusterNetworkSpec:
        """What stands at the federation: gateways chosen before a restart stay."""
        try:
            return (await self._federation.get(CLUSTER_NETWORKS, self._key)).spec
        except NotFound:
            return ClusterNetworkSpec()

    async def _write(self, fresh: Document, state: Document, now: str) -> None:
        """The status first: it is evidence, the spec only where to go."""
        told = {"status": state | {"observedAt": now}}
        try:
            await self._federation.patch(CLUSTER_NETWORKS, self._key, told, subresource="status")
        except NotFound:
            await self._create(fresh)
            await self._federation.patch(CLUSTER_NETWORKS, self._key, told, subresource="status")
        if self._written is None or self._written[0] != fresh or self._due():
            await self._federation.patch(CLUSTER_NETWORKS, self._key, {"spec": fresh})

    def _due(self) -> bool:
        return self._clock.monotonic() >= self._observed + OBSERVED_S

    async def _create(self, fresh: Document) -> None:
        document = {
            "apiVersion": CLUSTER_NETWORKS.api_version,
            "kind": CLUSTER_NETWORKS.kind,
            "metadata": {"name": self._key.name},
            "spec": fresh,
        }
        try:
            await self._federation.create(CLUSTER_NETWORKS, document)
        except AlreadyExists:
            return
