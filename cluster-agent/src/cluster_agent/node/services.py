"""Services on a real node: its proxy and its name server, fed by the same informers.

Each is there only where the settings say so. Both begin to serve once the first lists are in, and go on with what they
know while the API is away. Leaving takes neither the proxy's table nor the address away: connections and pods'
resolv.conf outlive the process, and the next one adopts both. Services of other clusters come on top (`clusterset`); without
a range for them nothing is imported, and the name server says so of their names instead of asking elsewhere.
"""

import asyncio
import logging
import random

from cluster_agent.node.addresses import own_address
from cluster_agent.node.annotations import Annotations
from cluster_agent.node.clusterset.feed import SOURCE
from cluster_agent.node.clusterset.plan import Remark
from cluster_agent.node.clusterset.service import Clusterset
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.dns.inputs import DnsFeed, Sources
from cluster_agent.node.dns.model import DnsConfig
from cluster_agent.node.dns.server import DnsServer
from cluster_agent.node.kubelet.events import EventSink, Subject
from cluster_agent.node.proxy.inputs import ServiceFeed
from cluster_agent.node.proxy.model import Note, ProxyConfig
from cluster_agent.node.proxy.proxy import ServiceProxy
from machinery.api.core import NAMESPACES
from machinery.api.discovery_kinds import ENDPOINTSLICES
from machinery.api.service_kinds import SERVICES
from machinery.client.informer import Informer
from machinery.client.interface import Client
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.meta.resource import ObjectKey

log = logging.getLogger(__name__)

LISTEN_RETRY = Backoff(base_s=0.2, cap_s=5.0)


class NodeServices:
    """What makes Services work on one node; `run` is its task."""

    def __init__(
        self,
        config: NodeConfig,
        client: Client,
        clock: Clock,
        events: EventSink,
        annotations: Annotations,
    ) -> None:
        self._config, self._clock, self._events = config, clock, events
        self.sources = Sources(
            services=Informer(client, SERVICES, clock),
            slices=Informer(client, ENDPOINTSLICES, clock),
            namespaces=Informer(client, NAMESPACES, clock),
        )
        self.proxy: ServiceProxy | None = None
        self.dns: DnsServer | None = None
        self._proxy_feed: ServiceFeed | None = None
        self._dns_feed: DnsFeed | None = None
        self.clusterset: Clusterset | None = None
        if config.service_cidr:
            told = ("", SOURCE) if config.clusterset_cidr else ("",)
            self.proxy = ServiceProxy(proxy_config(config), clock, on_note=self._tell, sources=told)
            self._proxy_feed = ServiceFeed(self.proxy, self.sources.services, self.sources.slices)
        if config.dns_address:
            self.dns = DnsServer(dns_config(config), clock, random.SystemRandom().random)
            self._dns_feed = DnsFeed(self.dns.directory)
            self._dns_feed.watch(self.sources)
        if config.clusterset_cidr and self.proxy is not None:
            self.clusterset = Clusterset(
                config, client, clock, self.sources, self.proxy, self._dns_feed, annotations, events
            )

    async def run(self) -> None:
        """Serve until cancelled."""
        sources = self.sources
        async with asyncio.TaskGroup() as group:
            if self.proxy is not None and self._proxy_feed is not None:
                _ = group.create_task(self.proxy.run_forever())
                _ = group.create_task(self._proxy_feed.run())
            if self.dns is not None and self._dns_feed is not None:
                _ = group.create_task(self._listen(self.dns))
                _ = group.create_task(self._dns_feed.run(sources))
                _ = group.create_task(sources.namespaces.run())
                if self.clusterset is None:
                    self.dns.directory.mark_ready(imported=True)
            if self.clusterset is not None:
                _ = group.create_task(self.clusterset.run())
            _ = group.create_task(sources.services.run())
            _ = group.create_task(sources.slices.run())

    async def _listen(self, dns: DnsServer) -> None:
        """Pods of this node ask nobody else, so an address that is still taken is tried again for ever."""
        failures = 0
        while True:
            try:
                await own_address(self._config.dns_address)
                await dns.start()
            except OSError as error:
                failures += 1
                log.error("name server cannot listen", extra={"error": str(error)})
                await self._clock.sleep(LISTEN_RETRY.delay(failures))
            else:
                return

    async def close(self) -> None:
        """Close the sockets; the table and the address stay."""
        if self.dns is not None:
            await self.dns.stop()
        if self.proxy is not None:
            await self.proxy.stop()

    def _tell(self, note: Note) -> None:
        """An Event on the Service or import that the proxy has something to say of."""
        source, _, key = note.service.rpartition(" ")
        place = ObjectKey(*key.split("/", 1))
        if source and self.clusterset is not None:
            view = self.clusterset.inputs.imports.get(place)
            if view is not None:
                self.clusterset.remark(view, Remark(note.reason, note.message))
            return
        service = self.sources.services.get(place)
        if service is None:
            return
        meta = service.metadata
        subject = Subject("Service", *place, meta.uid, meta.resource_version)
        self._events.emit(subject, "Warning", note.reason, note.message)


def proxy_config(config: NodeConfig) -> ProxyConfig:
    """The proxy's settings. Pure."""
    served = (*ranges(config.service_cidr), *ranges(config.clusterset_cidr))
    return ProxyConfig(config.node_name, (config.pod_cidr,), service_cidrs=served)


def dns_config(config: NodeConfig) -> DnsConfig:
    """The name server's settings. Pure.

    Names made of a pod's address are answered by what they say: to verify them every node would watch every pod.
    """
    return DnsConfig(
        addresses=(config.dns_address,),
        cluster_domain=config.cluster_domain,
        reverse_cidrs=ranges(config.service_cidr),
        pods="insecure",
    )


def ranges(text: str) -> tuple[str, ...]:
    """One range, or one of each family by a comma."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
