"""Services over clusters on a real node: informers, gateway and feed put together, and kept apart from everything else.

What is told here is this node's: a part that fails is started anew by itself, and the cluster's own Services and names go on
meanwhile. Where the API does not serve the kinds (an older control plane) or does not let us read them, that is said once
and asked again.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from cluster_agent.node.annotations import Annotations
from cluster_agent.node.clusterset.feed import ClustersetFeed, Inputs, Outputs
from cluster_agent.node.clusterset.plan import Remark
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.dns.inputs import DnsFeed, Sources, import_of
from cluster_agent.node.gateway.gateway import Gateway
from cluster_agent.node.gateway.model import GatewayConfig
from cluster_agent.node.kubelet.events import EventSink, Subject
from cluster_agent.node.proxy.proxy import ServiceProxy
from machinery.api.core import SECRETS
from machinery.api.fleet.multicluster import (
    CLUSTER_NETWORKS,
    GATEWAY_PORT,
    GATEWAY_SECRET,
    SERVICE_EXPORTS,
    SERVICE_IMPORTS,
    ServiceImport,
)
from machinery.client.informer import Informer
from machinery.client.interface import Client, ListOptions
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.meta.errors import StatusError

log = logging.getLogger(__name__)

ASK_S = 5.0
"""How often kinds are asked for that the API does not serve us."""
RESTART = Backoff(base_s=1.0, cap_s=30.0)


class Clusterset:
    """Everything about other clusters' Services on one node; `run` is its task."""

    def __init__(
        self,
        config: NodeConfig,
        client: Client,
        clock: Clock,
        sources: Sources,
        proxy: ServiceProxy,
        dns: DnsFeed | None,
        annotations: Annotations,
        events: EventSink,
    ) -> None:
        self._client, self._clock, self._events = client, clock, events
        self._node = Subject("Node", "", config.node_name, config.node_name)
        self._sources, self._dns = sources, dns
        self.inputs = Inputs(
            imports=Informer(client, SERVICE_IMPORTS, clock),
            exports=Informer(client, SERVICE_EXPORTS, clock),
            networks=Informer(client, CLUSTER_NETWORKS, clock),
            secret=Informer(
                client,
                SECRETS,
                clock,
                namespace=GATEWAY_SECRET.namespace,
                field_selector=f"metadata.name={GATEWAY_SECRET.name}",
            ),
            services=sources.services,
            slices=sources.slices,
        )
        self.gateway = Gateway(gateway_config(config), clock, on_note=self._on_note)
        self.feed = ClustersetFeed(
            config.cluster_name,
            site(config),
            clock,
            self.inputs,
            Outputs(proxy, dns, self.gateway, annotations, self.remark),
        )
        if dns is not None:
            dns.see_imports_as(self.feed.shown)
            dns.watch_imports(self.inputs.imports, import_of)

    async def run(self) -> None:
        """Until cancelled."""
        inputs = self.inputs
        async with asyncio.TaskGroup() as group:
            _ = group.create_task(self._kept("gateway", self.gateway.run))
            _ = group.create_task(self._kept("clusterset", self.feed.run))
            for informer in (inputs.imports, inputs.exports, inputs.networks, inputs.secret):
                _ = group.create_task(self._inform(informer))
            if self._dns is not None:
                _ = await self.feed.known.wait()
                await self._dns.run_imports(inputs.imports, self._sources)

    async def _kept(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        failures = 0
        while True:
            try:
                await work()
            except Exception:  # whatever it is, it must not take the cluster's own Services along
                failures += 1
                log.exception("part of the clusterset failed", extra={"part": name})
                await self._clock.sleep(RESTART.delay(failures))

    async def _inform(self, informer: Informer[Any]) -> None:
        """Run it once the API serves its kind to us."""
        resource, told = informer.resource, False
        secret = informer is self.inputs.secret
        namespace = GATEWAY_SECRET.namespace if secret else ""
        fields = f"metadata.name={GATEWAY_SECRET.name}" if secret else ""
        while True:
            try:
                await self._client.list(
                    resource, namespace, ListOptions(field_selector=fields, limit=1)
                )
            except StatusError as error:
                if not told and error.status_code in (403, 404):
                    log.warning(
                        "Services of other clusters need a kind that the API does not serve us",
                        extra={"resource": resource.group_resource, "error": str(error)},
                    )
                    told = True
            except (ConnectionError, TimeoutError):
                pass  # asked again
            else:
                break
            await self._clock.sleep(ASK_S)
        await informer.run()

    # ---------------------------------------------------------------------------------------------------------- telling
    def remark(self, view: ServiceImport, remark: Remark) -> None:
        """An Event on an import."""
        meta = view.metadata
        subject = Subject(
            "ServiceImport", meta.namespace, meta.name, meta.uid, meta.resource_version,
            api_version=SERVICE_IMPORTS.api_version,
        )  # fmt: skip
        self._events.emit(subject, "Warning", remark.reason, remark.message)

    def _on_note(self, reason: str, message: str) -> None:
        self._events.emit(self._node, "Warning", reason, message)


def gateway_config(config: NodeConfig) -> GatewayConfig:
    """The gateway's settings. Pure."""
    return GatewayConfig(
        config.cluster_name, Path(config.state_dir) / "gateway", probe=probe_of(config.pod_cidr)
    )


def site(config: NodeConfig) -> str:
    """What the Node's annotation says of its gateway: GatewayAddress and NodeRange in one. Pure."""
    document = {
        "address": config.node_ip,
        "port": GATEWAY_PORT,
        "cidrs": [config.pod_cidr],
        "probe": probe_of(config.pod_cidr),
    }
    return msgspec.json.encode(document).decode()


def probe_of(pod_cidr: str) -> str:
    """The address in the pods' range that answers probes: the first, which the bridge has as well; none for IPv6. Pure."""
    network = ipaddress.ip_network(pod_cidr)
    return str(network[1]) if network.version == 4 and network.num_addresses > 1 else ""
