"""Keeps service proxy, name server and gateway at what the API and the gateway's own probes say of other clusters.

Everything that happens marks what it touches, and one `step` after the other does what is marked. Ways are looked at in
every step, at least once a second. A slot points at a listener of the gateway only once HAProxy serves it; a listener is
there before it is needed. With the API away the last state goes on, and ways to peers are followed as before.

The proxy serves no Service before all of its sources have spoken. So that the cluster's own ones never wait for those of
the fleet, an empty word is given for them after `PATIENCE_S`, and taken back when the truth is known.
"""

import asyncio
import base64
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from cluster_agent.node.annotations import Annotations
from cluster_agent.node.clusterset.paths import PeerPath, choose_path, held_path
from cluster_agent.node.clusterset.plan import (
    ImportPlan,
    Remark,
    World,
    import_of,
    import_plan,
    ingress,
    shown,
    sites,
)
from cluster_agent.node.dns.inputs import DnsFeed
from cluster_agent.node.gateway.model import (
    EGRESS_PORTS,
    EgressKey,
    GatewayPlan,
    Ingress,
    PeerSites,
    PeerState,
    Target,
)
from cluster_agent.node.proxy.model import Service
from cluster_agent.node.proxy.proxy import ServiceProxy
from machinery.api import service_kinds
from machinery.api.core import Secret
from machinery.api.discovery_kinds import EndpointSlice
from machinery.api.fleet.multicluster import (
    GATEWAY_NODE,
    PEERS,
    ClusterNetwork,
    ServiceExport,
    ServiceImport,
)
from machinery.client.informer import Informer
from machinery.kit.clock import Clock
from machinery.meta.resource import ObjectKey

log = logging.getLogger(__name__)
T = TypeVar("T")

SOURCE = "clusterset"
"""Of Services, at the proxy."""
TICK_S = 1.0
DEBOUNCE_S = 0.02
PATIENCE_S = 5.0
FIRST_WORD_S = 3.0
"""How long a gateway that has just started is given to say which peers answer."""
LAME_S = 10.0
"""A gateway that serves nothing for shorter is being restarted: no reason to take it out of service."""
INDEX = "clusterset-import"
OWN = "clusterset-service"


class PeerGateway(Protocol):
    """The gateway, as far as it is needed here."""

    @property
    def ready(self) -> bool: ...

    @property
    def trouble(self) -> str: ...

    @property
    def states(self) -> Mapping[str, PeerState]: ...

    def apply(self, plan: GatewayPlan) -> None: ...

    def set_certificate(self, cert_pem: str, key_pem: str, ca_pem: str) -> None: ...

    def listener(self, key: EgressKey) -> Target: ...

    def serves(self, key: EgressKey) -> bool: ...

    def on_change(self, callback: Callable[[], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Inputs:
    """The informers that are read; those of Services and slices are shared with proxy and name server."""

    imports: Informer[ServiceImport]
    exports: Informer[ServiceExport]
    networks: Informer[ClusterNetwork]
    secret: Informer[Secret]
    """Of the gateway's certificate alone."""
    services: Informer[service_kinds.Service]
    slices: Informer[EndpointSlice]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Whom to tell."""

    proxy: ServiceProxy
    dns: DnsFeed | None
    gateway: PeerGateway
    annotations: Annotations
    remark: Callable[[ServiceImport, Remark], None]


class ClustersetFeed:
    """Make it before the informers run."""

    def __init__(
        self, cluster: str, site: str, clock: Clock, inputs: Inputs, outputs: Outputs
    ) -> None:
        """`site`: this node as a gateway, for its annotation."""
        self._cluster, self._site, self._clock = cluster, site, clock
        self._in, self._out = inputs, outputs
        self.paths: dict[str, PeerPath] = {}
        self.known = asyncio.Event()
        """The first step is done: names can be told."""
        self._wake = asyncio.Event()
        self._imports: set[ObjectKey] = set()
        self._exports: set[ObjectKey] = set()
        self._services: dict[ObjectKey, Service] = {}
        self._egress: dict[ObjectKey, tuple[EgressKey, ...]] = {}
        self._ingress: dict[ObjectKey, tuple[Ingress, ...]] = {}
        self._remarks: dict[ObjectKey, tuple[Remark, ...]] = {}
        self._applied: GatewayPlan | None = None
        self._replan = True
        self._served: frozenset[EgressKey] = frozenset()
        self._certificate: tuple[str, str, str] | None = None
        self._ready_at = clock.monotonic()
        self._blind_until = float("-inf")
        self._listen()

    def _listen(self) -> None:
        inputs = self._in
        inputs.slices.add_index(INDEX, lambda s: [import_of(s)])
        inputs.slices.add_index(OWN, lambda s: [ObjectKey(s.metadata.namespace, s.service_name)])
        inputs.imports.on_change(self._on_import)
        inputs.slices.on_change(self._on_slice)
        inputs.exports.on_change(self._on_export)
        inputs.services.on_change(self._on_export)
        inputs.networks.on_change(self._on_network)
        inputs.secret.on_change(self._on_secret)
        self._out.gateway.on_change(self._wake.set)

    # ------------------------------------------------------------------------------------------------- what happens
    def _on_import(self, old: ServiceImport | None, new: ServiceImport | None) -> None:
        self._imports |= {view.key for view in (old, new) if view is not None}
        self._wake.set()

    def _on_export(
        self,
        old: ServiceExport | service_kinds.Service | None,
        new: ServiceExport | service_kinds.Service | None,
    ) -> None:
        self._exports |= {view.key for view in (old, new) if view is not None}
        self._wake.set()

    def _on_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for piece in (old, new):
            if piece is None:
                continue
            key = import_of(piece)
            if key.name:
                self._imports.add(key)
            elif piece.service_name:
                self._exports.add(ObjectKey(piece.metadata.namespace, piece.service_name))
        self._wake.set()

    def _on_network(self, old: ClusterNetwork | None, new: ClusterNetwork | None) -> None:
        self._replan = True
        self._wake.set()

    def _on_secret(self, old: Secret | None, new: Secret | None) -> None:
        if new is None:
            return  # the certificate that the gateway has is good until it ends
        found = certificate(new)
        if found is None:
            log.warning(
                "Secret of the gateway holds no certificate", extra={"secret": str(new.key)}
            )
        elif found != self._certificate:
            self._certificate = found
            self._out.gateway.set_certificate(*found)
        self._wake.set()

    # ------------------------------------------------------------------------------------------------------- running
    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            unblock = group.create_task(self._unblock())
            for informer in self._informers():
                await informer.wait_synced()
            self._step()
            await self._first_word()
            self._step()
            self._out.proxy.set_state(
                {str(key): service for key, service in self._services.items()}, SOURCE
            )
            unblock.cancel()
            self.known.set()
            self._tell()
            while True:
                await self._pause()
                self._step()

    def _informers(self) -> Sequence[Informer[Any]]:
        inputs = self._in
        return inputs.imports, inputs.exports, inputs.networks, inputs.services, inputs.slices

    async def _unblock(self) -> None:
        await self._in.services.wait_synced()
        await self._in.slices.wait_synced()
        await self._clock.sleep(PATIENCE_S)
        log.warning(
            "Services of the fleet are not known yet, this cluster's own are served without them"
        )
        self._out.proxy.set_state({}, SOURCE)

    async def _first_word(self) -> None:
        """A restarted node process must not take peers out of use only because it has not asked yet."""
        try:
            async with asyncio.timeout(FIRST_WORD_S):
                while not self._heard():
                    self._wake.clear()
                    await self._pause(0.1)
        except TimeoutError:
            log.info("the gateway has not said yet which clusters answer")

    def _heard(self) -> bool:
        """Whether every peer that can be asked has answered."""
        states = self._out.gateway.states
        for peer in self._sites():
            state = states.get(peer.cluster, PeerState())
            if (peer.gateways or peer.nodes) and not _answers(state):
                return False
        return True

    async def _pause(self, longest_s: float = TICK_S) -> None:
        try:
            async with asyncio.timeout(longest_s):
                _ = await self._wake.wait()
        except TimeoutError:
            return
        await self._clock.sleep(DEBOUNCE_S)

    # ---------------------------------------------------------------------------------------------------------- a step
    def _step(self) -> None:
        """Do all that is marked."""
        self._wake.clear()
        known = self.known.is_set()
        if self._look() or not known:
            self._imports |= {view.key for view in self._in.imports.list()}
        if not known:
            self._exports |= {view.key for view in self._in.exports.list()}
        self._note_listeners()
        imports, self._imports = self._imports, set()
        exports, self._exports = self._exports, set()
        world = World(self._cluster, self.paths, self._listener)
        for key in sorted(imports):
            self._settle_import(key, world)
        for key in sorted(exports):
            self._settle_export(key)
        if imports or exports or self._replan:
            self._apply()
        if known:
            self._tell()

    def _networks(self) -> Iterable[ClusterNetwork]:
        return (n for n in self._in.networks.list() if n.metadata.name != self._cluster)

    def _look(self) -> bool:
        """Look at every way; whether one leads elsewhere now."""
        now, states, moved = self._clock.monotonic(), self._out.gateway.states, False
        lame = self._lame()
        blind = not any(_answers(state) for state in states.values())
        if blind and lame:
            self._blind_until = now + FIRST_WORD_S
        blind = blind and now < self._blind_until
        found: dict[str, PeerPath] = {}
        for network in self._networks():
            name = network.metadata.name
            before = self.paths.get(name)
            state = states.get(name) or PeerState()
            held = held_path(before, network.spec, lame) if blind else None
            path = held or choose_path(name, network.spec, state, before, now, lame)
            found[name] = path
            if not path.same_way(before):
                moved = True
                log.info(
                    "way to a cluster", extra={"peer": name, "path": path.path, "why": path.reason}
                )
        moved = moved or found.keys() != self.paths.keys()
        self.paths = found
        return moved

    def _lame(self) -> str:
        return "" if self._out.gateway.ready else self._out.gateway.trouble

    def _note_listeners(self) -> None:
        """Imports whose listeners have come up, or gone, since are looked at again."""
        wanted = self._applied.egress if self._applied is not None else ()
        served = frozenset(key for key in wanted if self._out.gateway.serves(key))
        for key in served ^ self._served:
            self._imports.add(ObjectKey(key.namespace, key.service))
        self._served = served

    def _listener(self, key: EgressKey) -> Target | None:
        return self._out.gateway.listener(key) if key in self._served else None

    def _settle_import(self, key: ObjectKey, world: World) -> None:
        view, plan = self._in.imports.get(key), ImportPlan()
        pieces = self._in.slices.by_index(INDEX, key)
        if view is not None:
            try:
                plan = import_plan(view, pieces, world)
            except ValueError as error:  # an address that is none, say
                plan = ImportPlan(remarks=(Remark("Invalid", str(error)),))
            for remark in plan.remarks:
                if remark not in self._remarks.get(key, ()):
                    self._out.remark(view, remark)
            if view.spec.headless and self._out.dns is not None:
                self._out.dns.show(pieces)
        _keep(self._remarks, key, plan.remarks)
        _keep(self._egress, key, plan.egress)
        _keep(self._services, key, plan.service)
        if self.known.is_set():
            self._out.proxy.set_service(str(key), plan.service, SOURCE)

    def _settle_export(self, key: ObjectKey) -> None:
        export, service = self._in.exports.get(key), self._in.services.get(key)
        found: tuple[Ingress, ...] = ()
        if export is not None and not export.deleting and service is not None:
            found = ingress(self._cluster, service, self._in.slices.by_index(OWN, key))
        _keep(self._ingress, key, found)

    def shown(self, piece: EndpointSlice) -> EndpointSlice:
        """A slice as the name server may know it."""
        key = import_of(piece)
        view = self._in.imports.get(key)
        if view is None or not view.spec.headless:
            return piece
        world = World(self._cluster, self.paths, self._listener)
        return shown(piece, self._in.slices.by_index(INDEX, key), world)

    # ---------------------------------------------------------------------------------------------------- telling others
    def _apply(self) -> None:
        self._replan = False
        egress = tuple(e for key in sorted(self._egress) for e in self._egress[key])
        if (more := len(egress) - len(EGRESS_PORTS)) > 0:
            log.error("the gateway has no ports for some imports", extra={"listeners": more})
        plan = GatewayPlan(
            self._cluster,
            ingress=tuple(i for key in sorted(self._ingress) for i in self._ingress[key]),
            egress=egress[: len(EGRESS_PORTS)],
            peers=tuple(sorted(self._sites(), key=lambda peer: peer.cluster)),
        )
        if plan != self._applied:
            self._applied = plan
            self._out.gateway.apply(plan)

    def _sites(self) -> Iterable[PeerSites]:
        return (sites(network.metadata.name, network.spec) for network in self._networks())

    def _tell(self) -> None:
        """What the cluster's link reads on our Node."""
        peers = [self.paths[name].told() for name in sorted(self.paths)]
        self._out.annotations.put(PEERS, msgspec.json.encode(peers).decode())
        now = self._clock.monotonic()
        if self._out.gateway.ready:
            self._ready_at = now
            self._out.annotations.put(GATEWAY_NODE, self._site)
        elif now - self._ready_at >= LAME_S:
            self._out.annotations.put(GATEWAY_NODE, None)


def _answers(state: PeerState) -> bool:
    return any((*state.gateways.values(), *state.nodes.values()))


def _keep(table: dict[ObjectKey, T], key: ObjectKey, value: T | None) -> None:
    """What is empty has no place in a table."""
    if value:
        table[key] = value
    else:
        table.pop(key, None)


def certificate(secret: Secret) -> tuple[str, str, str] | None:
    """Certificate, key and CA, as PEM; nothing where one is missing."""
    try:
        found = [
            base64.b64decode(secret.data.get(name, ""), validate=True).decode()
            for name in ("tls.crt", "tls.key", "ca.crt")
        ]
    except ValueError:
        return None
    return (found[0], found[1], found[2]) if all(found) else None
