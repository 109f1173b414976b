"""What one ServiceImport and one ServiceExport mean on this node. Pure.

`import_plan` turns an import, its EndpointSlices and the ways to their clusters into a Service of the proxy: own
endpoints always, a peer's own addresses where its pods are routed from here, its listener of the gateway (with the weight
of all endpoints behind it) where they are not, nothing where it does not answer. When nothing at all would be left, the last
ways that led anywhere are kept: a probe that is wrong must not make an outage.
`ingress` says what this cluster's own gateway serves for an export.

Limits: gateways carry TCP over IPv4. A UDP or SCTP port, a headless import and an IPv6 address get no endpoints of a cluster
that is reached by gateways alone, and ClientIP affinity keeps a client's cluster there, not its endpoint; each is noted.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from cluster_agent.node.clusterset.paths import PeerPath
from cluster_agent.node.gateway.model import NAME, EgressKey, Ingress, PeerSites, Target
from cluster_agent.node.proxy.inputs import endpoints
from cluster_agent.node.proxy.model import Endpoint, Service, ServicePort, family_of
from machinery.api import discovery_kinds, service_kinds
from machinery.api.discovery_kinds import EndpointSlice
from machinery.api.fleet.multicluster import (
    GATEWAY,
    SERVICE_NAME_LABEL,
    SOURCE_CLUSTER_LABEL,
    UNREACHABLE,
    ClusterNetworkSpec,
    GatewayAddress,
    ImportPort,
    NodeRange,
    ServiceImport,
    port_name,
)
from machinery.meta.resource import ObjectKey

Listeners = Callable[[EgressKey], Target | None]
"""Where the gateway listens for a port of a peer; None: not yet."""


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    """Something about an import or export that its owner should read: for an Event."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import wants of proxy and gateway."""

    service: Service | None = None
    """None: it has no address (yet), or is headless."""
    egress: tuple[EgressKey, ...] = ()
    """Listeners to have ready, in use or not: a peer whose direct routes fail is reached by them at once."""
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class World:
    """What all imports share."""

    cluster: str
    """This one."""
    paths: Mapping[str, PeerPath]
    listener: Listeners


def import_of(piece: EndpointSlice) -> ObjectKey:
    """The import that a slice belongs to; without a name it belongs to none."""
    labels = piece.metadata.labels
    name = labels.get(SERVICE_NAME_LABEL, "") if labels.get(SOURCE_CLUSTER_LABEL) else ""
    return ObjectKey(piece.metadata.namespace, name)


def by_cluster(slices: Iterable[EndpointSlice]) -> dict[str, list[EndpointSlice]]:
    """By source cluster, in order of names; two clusters may use the same addresses."""
    found: dict[str, list[EndpointSlice]] = {}
    for piece in sorted(slices, key=lambda s: s.metadata.name):
        found.setdefault(piece.metadata.labels.get(SOURCE_CLUSTER_LABEL, ""), []).append(piece)
    return dict(sorted(found.items()))


# ------------------------------------------------------------------------------------------- imports, as the proxy has them
def import_plan(wanted: ServiceImport, slices: Iterable[EndpointSlice], world: World) -> ImportPlan:
    """What this node does for an import."""
    spec, pieces = wanted.spec, by_cluster(slices)
    if spec.headless or not spec.ips or wanted.deleting:
        return ImportPlan(remarks=_headless_remarks(pieces, world) if spec.headless else ())
    remarks: set[Remark] = set()
    egress: list[EgressKey] = []
    ports: list[ServicePort] = []
    for port in spec.ports:
        mixed = _Port(wanted.key, port, any(family_of(ip) == "ip6" for ip in spec.ips), world)
        ports.append(
            ServicePort(
                port=port.port,
                protocol=port.protocol.lower(),
                name=port.name,
                endpoints=mixed.endpoints(pieces),
            )
        )
        egress += mixed.egress
        remarks |= mixed.remarks
    affinity = 0
    if spec.session_affinity == "ClientIP":
        given = spec.session_affinity_config or service_kinds.SessionAffinityConfig()
        affinity = given.client_ip.timeout_seconds
        remarks |= _affinity_remarks(ports, egress, world)
    service = Service(
        cluster_ips=spec.ips,
        ports=tuple(ports),
        affinity_s=affinity,
        internal_local=spec.internal_traffic_policy == "Local",
    )
    return ImportPlan(service, tuple(egress), tuple(sorted(remarks)))


class _Port:
    """One port of an import while its endpoints are put together."""

    def __init__(self, key: ObjectKey, port: ImportPort, six: bool, world: World) -> None:
        self._key, self._port, self._six, self._world = key, port, six, world
        self.egress: list[EgressKey] = []
        self.remarks: set[Remark] = set()

    def endpoints(self, pieces: Mapping[str, Sequence[EndpointSlice]]) -> tuple[Endpoint, ...]:
        port, world = self._port, self._world
        chosen: list[Endpoint] = []
        away: list[tuple[PeerPath, tuple[Endpoint, ...]]] = []
        for cluster, mine in pieces.items():
            found = endpoints(mine, port.name, port.protocol)
            if cluster == world.cluster:
                chosen += found
                continue
            path = world.paths.get(cluster)
            if path is None or not found:
                continue
            # Names of nodes are each cluster's own: here they would pass for this one's.
            found = tuple(replace(e, node="", cluster=cluster) for e in found)
            if port.protocol == "TCP" and path.gateways:
                self.egress.append(self._listener(cluster))
            if path.path == UNREACHABLE:
                away.append((path, found))
            else:
                chosen += self._through(path, found, path.direct, gateway=path.gateways_up > 0)
        if away and not any(usable(e) for e in chosen):
            for path, found in away:
                chosen += self._through(path, found, path.last_direct, gateway=path.gateways > 0)
        return tuple(chosen)

    def _listener(self, cluster: str) -> EgressKey:
        return EgressKey(self._key.namespace, self._key.name, self._port.port, cluster)

    def _through(
        self,
        path: PeerPath,
        found: tuple[Endpoint, ...],
        nodes: frozenset[str],
        *,
        gateway: bool,
    ) -> list[Endpoint]:
        """A peer's endpoints by these nodes directly, the others by its gateways."""
        where = [(path.ranges.node(e.ip), e) for e in found] if nodes else []
        direct = [e for node, e in where if node in nodes]
        if not gateway:
            return direct
        if any(usable(e) for e in direct):
            rest = tuple(e for node, e in where if node not in nodes and node not in path.dead)
            return direct + self._by_gateway(path, rest)
        return self._by_gateway(path, found)

    def _by_gateway(self, path: PeerPath, found: tuple[Endpoint, ...]) -> list[Endpoint]:
        """The listener in place of the endpoints behind it."""
        ready = count(found)
        ending = 0 if ready else count(found, ending=True)
        if not ready and not ending:
            return []
        port, cluster = self._port, path.cluster
        if port.protocol != "TCP":
            what = f"port {port.port}/{port.protocol}"
            self.remarks.add(
                Remark(
                    "ProtocolNotSupported",
                    f"{what} gets no endpoints of cluster {cluster}: it is reached by gateways, and they carry TCP only",
                )
            )
            return []
        if self._six:
            self.remarks.add(
                Remark(
                    "FamilyNotSupported",
                    f"the IPv6 address gets no endpoints of cluster {cluster}: it is reached by gateways, by IPv4",
                )
            )
        target = self._world.listener(self._listener(cluster))
        if target is None:
            return []
        return [
            Endpoint(
                target.ip, target.port, ready=bool(ready), terminating=not ready,
                cluster=cluster, weight=ready or ending,
            )
        ]  # fmt: skip


def usable(endpoint: Endpoint) -> bool:
    """Whether a proxy would send anybody there, if need be."""
    return endpoint.weight > 0 and (endpoint.ready or (endpoint.serving and endpoint.terminating))


def count(found: Iterable[Endpoint], *, ending: bool = False) -> int:
    """How many backends are ready (or: only end); one with an address of each family counts once."""
    taken = [e for e in found if (e.serving and e.terminating if ending else e.ready)]
    families = [sum(family_of(e.ip) == family for e in taken) for family in ("ip", "ip6")]
    return max(families)


def _affinity_remarks(
    ports: Iterable[ServicePort], egress: Iterable[EgressKey], world: World
) -> set[Remark]:
    targets = {world.listener(key): key.cluster for key in egress}
    through = {
        name
        for port in ports
        for e in port.endpoints
        for target, name in targets.items()
        if target is not None and (e.ip, e.port) == (target.ip, target.port)
    }
    return {
        Remark(
            "AffinityByCluster",
            f"clients keep cluster {name}, but not one endpoint there: it is reached by gateways",
        )
        for name in through
    }


# ------------------------------------------------------------------------------------------------------------ headless
def shown(piece: EndpointSlice, siblings: Iterable[EndpointSlice], world: World) -> EndpointSlice:
    """A slice of a headless import with the endpoints that are reachable from here, for the name server.

    Gateways lead to no single pod. Where no cluster at all is left, the last direct ways count. `siblings`: all slices of
    the import, itself included.
    """
    cluster = piece.metadata.labels.get(SOURCE_CLUSTER_LABEL, "")
    if cluster == world.cluster or piece.address_type not in ("IPv4", "IPv6"):
        return piece
    path = world.paths.get(cluster)
    if path is None:
        return with_endpoints(piece, ())
    nodes = path.direct
    if not nodes and not any(_reachable(other, world) for other in siblings):
        nodes = path.last_direct
    return with_endpoints(piece, tuple(e for e in piece.endpoints if _on(e, path, nodes)))


def with_endpoints(
    piece: EndpointSlice, kept: tuple[discovery_kinds.Endpoint, ...]
) -> EndpointSlice:
    """The slice with these endpoints."""
    return piece if kept == piece.endpoints else msgspec.structs.replace(piece, endpoints=kept)


def _on(endpoint: discovery_kinds.Endpoint, path: PeerPath, nodes: frozenset[str]) -> bool:
    return bool(endpoint.addresses) and path.ranges.node(endpoint.addresses[0]) in nodes


def _reachable(piece: EndpointSlice, world: World) -> bool:
    cluster = piece.metadata.labels.get(SOURCE_CLUSTER_LABEL, "")
    ready = [e for e in piece.endpoints if e.ready]
    if cluster == world.cluster:
        return bool(ready)
    path = world.paths.get(cluster)
    return path is not None and any(_on(e, path, path.direct) for e in ready)


def _headless_remarks(
    pieces: Mapping[str, Sequence[EndpointSlice]], world: World
) -> tuple[Remark, ...]:
    return tuple(
        Remark(
            "HeadlessNotReachable",
            f"its names leave out the pods of cluster {cluster}: it is reached by gateways, which lead to no single pod",
        )
        for cluster in pieces
        if (path := world.paths.get(cluster)) is not None and path.path == GATEWAY
    )


# ------------------------------------------------------------------------------------------------------------- exports
def ingress(
    cluster: str, service: service_kinds.Service, slices: Iterable[EndpointSlice]
) -> tuple[Ingress, ...]:
    """What the gateway of this cluster serves for an exported Service: every TCP port, by exactly its ready endpoints,
    or those that still serve while they end."""
    if service.spec.type == "ExternalName":
        return ()
    pieces = sorted(slices, key=lambda s: s.metadata.name)
    namespace, name = service.key
    found: list[Ingress] = []
    for port in service.spec.ports:
        if port.protocol != "TCP":
            continue
        mine = [e for e in endpoints(pieces, port.name, "TCP") if family_of(e.ip) == "ip"]
        mine = [e for e in mine if e.ready] or [e for e in mine if usable(e)]
        targets = tuple(Target(e.ip, e.port) for e in mine)
        found.append(Ingress(port_name(cluster, namespace, name, port.port), targets))
    return tuple(found)


# --------------------------------------------------------------------------------------------------------------- peers
def sites(cluster: str, spec: ClusterNetworkSpec) -> PeerSites:
    """Where the gateway probes a peer: what it can ask (IPv4); nodes only where direct routes may be used."""
    gateways = tuple(g for g in spec.gateways if _is_target(g))
    nodes = spec.nodes if spec.direct_routes == "Enabled" else ()
    return PeerSites(cluster, gateways, tuple(n for n in nodes if _is_probed(n)))


def _is_target(gateway: GatewayAddress) -> bool:
    return _is_four(gateway.address) and 1 <= gateway.port <= 65_535


def _is_probed(node: NodeRange) -> bool:
    return bool(NAME.fullmatch(node.node)) and _is_four(node.probe)


def _is_four(text: str) -> bool:
    try:
        _ = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
