"""The member's part in services over clusters, put together: exports, network, gateways' certificate, properties.

Each part goes on by itself and tries again by itself; a federation that does not know these kinds yet costs a warning
and nothing else.
"""

import random

from cluster_agent.link import exports
from cluster_agent.link.gatewaycert import GatewayCertificate
from cluster_agent.link.network import Network
from cluster_agent.link.properties import Properties
from machinery.api.coordination import LEASES
from machinery.api.core import Node
from machinery.api.fleet.cluster import execution_namespace
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.controller.manager import Manager
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.kit.tasks import TaskOwner

NODE_LEASES = "kube-node-lease"


class Clusterset:
    """`start`, and `stop` once."""

    def __init__(  # noqa: PLR0913 - both sides, who we are, whom we trust
        self, federation: Client, member: Client, clock: Clock, ids: Ids, cluster: str, ca: bytes
    ) -> None:
        """`ca` is the federation's, PEM."""
        self._federation, self._member, self._clock = federation, member, clock
        self._cluster, self._ca = cluster, ca
        self._roll = random.Random(ids.uid()).random  # noqa: S311 - jitter
        self._manager = Manager(member, clock, ids, component="cluster-agent")
        self._tasks = TaskOwner()

    def start(self, nodes: Informer[Node]) -> None:
        """Begin, in the background. `nodes` are the member's; its owner runs it."""
        namespace = execution_namespace(self._cluster)
        reported = Informer(
            self._federation,
            exports.DOCUMENTS,
            self._clock,
            namespace=namespace,
            roll=self._roll,
        )
        exports.setup(self._manager, self._federation, reported, namespace)
        certificate = GatewayCertificate(
            self._federation, self._member, self._clock, self._cluster, self._ca, self._roll
        )
        leases = Informer(self._member, LEASES, self._clock, namespace=NODE_LEASES)
        network = Network(self._federation, self._clock, self._cluster, nodes, leases)
        properties = Properties(self._member, self._clock, self._cluster)
        spawn = self._tasks.spawn
        _ = spawn(reported.run(), "link-exports-reported")
        _ = spawn(self._manager.start(), "link-exports")
        _ = spawn(leases.run(), "link-node-leases")
        _ = spawn(network.run_forever(), "link-network")
        _ = spawn(certificate.run_forever(), "link-gateway-certificate")
        _ = spawn(properties.run_forever(), "link-properties")

    async def stop(self) -> None:
        """Let go of everything."""
        await self._tasks.close()
        await self._manager.stop()
