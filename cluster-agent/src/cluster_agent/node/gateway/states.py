"""What HAProxy's checks say about peers. Pure.

After a reload a server is unchecked for a moment; then it counts as it did before. One that never was checked is down.
"""

from collections.abc import Iterable, Mapping

from cluster_agent.node.gateway.model import GatewayPlan, PeerState
from cluster_agent.node.gateway.render import gateways_of, nodes_of
from cluster_agent.node.gateway.runtime import Row

Up = Mapping[tuple[str, str], bool]
"""(backend, server) -> whether it answers."""


def backends(plan: GatewayPlan) -> tuple[str, ...]:
    """Whose servers are checked."""
    return tuple(
        name for peer in plan.peers for name in (gateways_of(peer.cluster), nodes_of(peer.cluster))
    )


def merged(before: Up, rows: Iterable[Row]) -> dict[tuple[str, str], bool]:
    """The states by what HAProxy says now."""
    return {
        (row.proxy, row.server): row.up
        if row.checked
        else before.get((row.proxy, row.server), False)
        for row in rows
        if row.server not in ("FRONTEND", "BACKEND")
    }


def peer_states(plan: GatewayPlan, up: Up) -> dict[str, PeerState]:
    """Every gateway and every node of every peer of the plan."""
    return {
        peer.cluster: PeerState(
            {
                f"{g.address}:{g.port}": up.get(
                    (gateways_of(peer.cluster), f"{g.address}:{g.port}"), False
                )
                for g in peer.gateways
            },
            {n.node: up.get((nodes_of(peer.cluster), n.node), False) for n in peer.nodes},
        )
        for peer in plan.peers
    }
