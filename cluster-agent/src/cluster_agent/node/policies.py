"""NetworkPolicies on a real node: what enforces them, fed by the API and told of by the kubelet.

Leaving takes the table not away: pods outlive the process, and so does what they may say to each other.
"""

import asyncio

from cluster_agent.node.config import NodeConfig
from cluster_agent.node.gateway.model import EGRESS_ADDRESS, EGRESS_PORTS
from cluster_agent.node.gateway.render import NOBODY
from cluster_agent.node.kubelet.events import EventSink, Subject
from cluster_agent.node.network import BRIDGE
from cluster_agent.node.policy.bridge import Bridge
from cluster_agent.node.policy.enforcer import Enforcer, PolicyConfig
from cluster_agent.node.policy.inputs import PolicyFeed
from cluster_agent.node.policy.layout import Gateway
from machinery.client.interface import Client
from machinery.kit.clock import Clock


class NodePolicies:
    """What makes NetworkPolicies hold on one node; `run` is its task."""

    def __init__(self, config: NodeConfig, client: Client, clock: Clock, events: EventSink) -> None:
        self._config, self._events = config, events
        self.enforcer = Enforcer(
            policy_config(config),
            clock,
            bridge=Bridge(bridge_of(config)),
            on_unseen=self._tell,
        )
        self.feed = PolicyFeed(self.enforcer, client, clock)

    async def run(self) -> None:
        """Enforce until cancelled."""
        async with asyncio.TaskGroup() as group:
            _ = group.create_task(self.enforcer.run_forever())
            _ = group.create_task(self.feed.run())

    async def close(self) -> None:
        """Let go; the table stays."""
        await self.enforcer.close()

    def _tell(self, why: str) -> None:
        name = self._config.node_name
        self._events.emit(
            Subject("Node", "", name, name), "Warning", "NetworkPolicyNotEnforced", why
        )


def policy_config(config: NodeConfig) -> PolicyConfig:
    """The enforcer's settings. Pure."""
    ports = EGRESS_PORTS
    gateway = Gateway(EGRESS_ADDRESS, ports.start, ports.stop - 1, NOBODY)
    return PolicyConfig(
        config.node_name,
        gateway if config.clusterset_cidr else None,
        bridge_of(config),
    )


def bridge_of(config: NodeConfig) -> str:
    """The name of the pods' bridge. Pure."""
    return config.cni_bridge or BRIDGE
