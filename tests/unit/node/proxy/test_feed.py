"""From objects in the API to elements in the table, through informers."""

import asyncio
from typing import Any

from tests.support.fake_client import FakeClient
from tests.unit.node.proxy.nodes import CONFIG, contents

from cluster_agent.node.proxy.conntrack import NoConntrack
from cluster_agent.node.proxy.inputs import ServiceFeed
from cluster_agent.node.proxy.nft_memory import MemoryNft
from cluster_agent.node.proxy.proxy import ServiceProxy
from machinery.api.discovery_kinds import ENDPOINTSLICES
from machinery.api.service_kinds import SERVICES
from machinery.client.informer import Informer
from machinery.kit.clock import SystemClock
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import Document, ObjectKey

SERVICE: Document = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "demo", "name": "web"},
    "spec": {
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1"],
        "ports": [{"port": 80, "protocol": "TCP"}],
    },
}


def piece(*ips: str) -> Document:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "demo",
            "name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip]} for ip in ips],
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
    }


async def reaches(nft: MemoryNft, expected: dict[str, str], where: str = "vip1-tcp") -> None:
    found: Any = None
    for _ in range(1_000):
        found = contents(nft).get(where, {}) if nft.tables else None
        if found == expected:
            break
        await asyncio.sleep(0.005)
    assert found == expected


async def test_the_proxy_follows_services_and_slices() -> None:
    client, clock, nft = FakeClient(), SystemClock(), MemoryNft()
    proxy = ServiceProxy(CONFIG, clock, nft=nft, conntrack=NoConntrack())
    services, slices = Informer(client, SERVICES, clock), Informer(client, ENDPOINTSLICES, clock)
    feed = ServiceFeed(proxy, services, slices)
    _ = await client.create(SERVICES, SERVICE, "demo")
    tasks = TaskOwner()
    await proxy.start()
    for work in (services.run(), slices.run(), feed.run()):
        _ = tasks.spawn(work, "feed")
    try:
        await reaches(nft, {"10.96.0.1 . tcp . 80": "goto refuse"}, "closed-vip")
        _ = await client.create(ENDPOINTSLICES, piece("10.77.1.2"), "demo")
        await reaches(nft, {"10.96.0.1 . 80": "10.77.1.2 . 8080"})
        await client.delete(ENDPOINTSLICES, ObjectKey("demo", "web-1"))
        await reaches(nft, {})
        _ = await client.create(ENDPOINTSLICES, piece("10.77.1.3"), "demo")
        await reaches(nft, {"10.96.0.1 . 80": "10.77.1.3 . 8080"})
        await client.delete(SERVICES, ObjectKey("demo", "web"))
        await reaches(nft, {})
        assert contents(nft) == {}
    finally:
        await tasks.close()
        await proxy.stop()
