"""The clusterset of a node beside an API that does not know it, and parts that fail."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from cluster_agent.node.annotations import Annotations
from cluster_agent.node.clusterset.feed import SOURCE
from cluster_agent.node.clusterset.service import ASK_S, Clusterset
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.dns.inputs import Sources
from cluster_agent.node.kubelet.events import Silent
from cluster_agent.node.proxy.conntrack import NoConntrack
from cluster_agent.node.proxy.model import ProxyConfig
from cluster_agent.node.proxy.nft_memory import MemoryNft
from cluster_agent.node.proxy.proxy import ServiceProxy
from cluster_agent.node.registration import Machine, NodeFacts, Registration
from machinery.api.core import NAMESPACES, NODES
from machinery.api.discovery_kinds import ENDPOINTSLICES
from machinery.api.fleet.multicluster import SERVICE_IMPORTS
from machinery.api.service_kinds import SERVICES
from machinery.client.informer import Informer
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import NotFound
from machinery.meta.resource import ObjectKey, Resource

pytestmark = pytest.mark.looptime
MACHINE = Machine("amd64", "6.1", "Linux", "m", "b", 4, 1 << 30, 1 << 30)


class OlderApi(FakeClient):
    """Does not serve imports until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.serves = False
        self.asked = 0

    async def list(self, resource: Resource[Any], *more: Any, **named: Any) -> Any:
        if resource.plural == SERVICE_IMPORTS.plural and not self.serves:
            self.asked += 1
            raise NotFound("the server could not find the requested resource")
        return await super().list(resource, *more, **named)


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    return NodeConfig(
        "here", str(tmp_path), api_server="https://a:1", cluster_name="alpha", pod_cidr="10.0.0.0/24",
        service_cidr="10.96.0.0/16", clusterset_cidr="10.99.0.0/16",
    )  # fmt: skip


def made(config: NodeConfig, client: FakeClient) -> Clusterset:
    clock = LoopClock()
    sources = Sources(
        Informer(client, SERVICES, clock),
        Informer(client, ENDPOINTSLICES, clock),
        Informer(client, NAMESPACES, clock),
    )
    proxy = ServiceProxy(
        ProxyConfig("here", ("10.0.0.0/24",), bridge_filters=True), clock,
        nft=MemoryNft(), conntrack=NoConntrack(), sources=("", SOURCE),
    )  # fmt: skip
    return Clusterset(config, client, clock, sources, proxy, None, Annotations(), Silent())


async def test_an_older_api_is_told_of_once_and_asked_again(
    config: NodeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    client = OlderApi()
    clusterset, tasks = made(config, client), TaskOwner()
    _ = tasks.spawn(clusterset.run(), "clusterset")
    try:
        await asyncio.sleep(ASK_S * 3.5)
        assert client.asked == 4
        told = [r for r in caplog.records if "does not serve us" in r.message]
        assert [getattr(r, "resource", "") for r in told] == [
            "serviceimports.multicluster.x-k8s.io"
        ]
        client.serves = True
        await asyncio.sleep(ASK_S)
        assert clusterset.inputs.imports.synced
    finally:
        await tasks.close()


async def test_a_part_that_fails_is_started_anew(
    config: NodeConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.CRITICAL)
    clusterset, tasks = made(config, FakeClient()), TaskOwner()
    runs: Iterator[int] = iter(range(3))

    async def run() -> None:
        if next(runs, None) is not None:
            raise RuntimeError("broken")
        await asyncio.Event().wait()

    monkeypatch.setattr(clusterset.feed, "run", run)
    _ = tasks.spawn(clusterset.run(), "clusterset")
    try:
        await asyncio.sleep(60.0)
        assert next(runs, None) is None
    finally:
        await tasks.close()


async def test_what_a_node_wants_to_say_is_on_its_node_within_a_second(config: NodeConfig) -> None:
    client, clock, tasks = FakeClient(), LoopClock(), TaskOwner()
    nodes, annotations = Informer(client, NODES, clock), Annotations()
    facts = NodeFacts("here", "192.0.2.1", 10_250, "containerd://1")
    registration = Registration(
        client,
        clock,
        config,
        MACHINE,
        nodes,
        lambda name: facts,
        annotations=lambda name: annotations,
    )
    annotations.on_change(registration.wake)
    _ = tasks.spawn(nodes.run(), "nodes")
    await registration.register_all()
    _ = tasks.spawn(registration.run_status(), "status")

    async def held() -> dict[str, str]:
        await asyncio.sleep(0.5)
        node = await client.get(NODES, ObjectKey("", "here"))
        found: dict[str, str] = node.metadata.annotations
        return found

    try:
        assert await held() == {}
        annotations.put("a", "1")
        assert await held() == {"a": "1"}
        await client.patch(NODES, ObjectKey("", "here"), {"metadata": {"annotations": {"b": "2"}}})
        annotations.put("a", None)
        assert await held() == {"b": "2"}
        writes = client.verbs().count("patch")
        await asyncio.sleep(60.0)
        assert client.verbs().count("patch") == writes, "only what changes is written"
    finally:
        await tasks.close()
