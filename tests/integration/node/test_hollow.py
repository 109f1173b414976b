"""Hollow nodes against a real API server: joining, running, logs and exec, deletion, many nodes in one process."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.node.clusters import TOKEN, Cluster, cluster, eventually, node

from cluster_agent.node.config import NodeConfig
from machinery.api.coordination import LEASES
from machinery.api.core import NODES, PODS
from machinery.client.interface import DeleteOptions
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import ObjectKey

pytestmark = pytest.mark.integration
NODE = ObjectKey("", "hollow-1")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def config(home: Cluster, tmp_path: Path) -> NodeConfig:
    return NodeConfig(
        node_name="hollow-1",
        state_dir=str(tmp_path / "state"),
        api_server=home.server.api.url,
        ca_file=home.ca_file(),
        bootstrap_token=TOKEN,
        runtime="hollow",
        zone="zone-a",
        region="region-1",
        kubelet_port=0,
        health_port=0,
        capacity={"cpu": "8", "memory": "32Gi"},
        hollow_sandbox_s=0.02,
        hollow_start_s=0.02,
        labels={"pool": "test"},
    )


async def test_a_node_joins_by_token_registers_and_keeps_its_lease(
    home: Cluster, tmp_path: Path
) -> None:
    async with node(config(home, tmp_path)) as process:
        await eventually(lambda: process.ready)
        found = await home.rest.get(NODES, NODE)
        labels = found.metadata.labels
        assert labels["topology.kubernetes.io/zone"] == "zone-a"
        assert labels["kubernetes.io/hostname"] == "hollow-1"
        assert labels["pool"] == "test"
        assert is_true(found.status.conditions, "Ready")
        assert found.status.capacity["cpu"] == "8"
        assert found.status.allocatable["memory"] == str(32 * 1024 - 100) + "Mi"
        assert found.status.node_info.kubelet_version == "v1.36.2+ubernetes"
        endpoint = found.status.daemon_endpoints.kubelet_endpoint
        assert endpoint is not None and process.server is not None
        assert endpoint.port == process.server.port
        lease = await home.rest.get(LEASES, ObjectKey("kube-node-lease", "hollow-1"))
        assert lease.spec.holder_identity == "hollow-1"
        assert lease.spec.lease_duration_seconds == 40
        key = tmp_path / "state" / "client.pem"
        assert key.stat().st_mode & 0o777 == 0o600


async def test_a_node_that_was_deleted_registers_again(home: Cluster, tmp_path: Path) -> None:
    async with node(config(home, tmp_path)):
        before = await eventually(lambda: _node(home))
        await home.rest.delete(NODES, NODE)
        after = await eventually(lambda: _node(home))
        assert after.metadata.uid != before.metadata.uid


async def _node(home: Cluster) -> object:
    listing = await home.rest.list(NODES)
    return listing.items[0] if listing.items else None


async def test_a_pod_runs_answers_and_goes(home: Cluster, tmp_path: Path) -> None:
    async with node(config(home, tmp_path)) as process:
        await eventually(lambda: process.ready)
        await home.pod("web", "hollow-1")
        found = await eventually(lambda: home.ready("web"))
        assert found.status.phase == "Running"
        assert found.status.pod_ip
        log = await home.rest.request("GET", "/api/v1/namespaces/demo/pods/web/log")
        assert b"no process runs here" in log
        await home.rest.delete(PODS, ObjectKey("demo", "web"))
        await eventually(lambda: home.gone("web"))
        assert process.parts["hollow-1"].kubelet.workers == {}


async def test_a_restarted_node_needs_no_token(home: Cluster, tmp_path: Path) -> None:
    settings = config(home, tmp_path)
    async with node(settings) as process:
        await eventually(lambda: process.ready)
    async with node(replace(settings, bootstrap_token="")) as process:
        await eventually(lambda: process.ready)


async def test_the_endpoint_lets_only_the_api_server_in(home: Cluster, tmp_path: Path) -> None:
    import ssl

    import aiohttp

    async with node(config(home, tmp_path)) as process:
        await eventually(lambda: process.ready)
        assert process.server is not None
        url = f"https://127.0.0.1:{process.server.port}/pods"
        masters = home.server.tls(home.server.api.client_pair("boss", ("system:masters",)))
        stranger = home.server.tls(home.server.api.client_pair("system:node:x", ("system:nodes",)))
        anonymous = ssl.create_default_context(cadata=home.server.api.ca_pem)
        async with aiohttp.ClientSession() as session:
            async with session.get(url, ssl=masters) as answer:
                assert answer.status == 200
            async with session.get(url, ssl=stranger) as answer:
                assert answer.status == 403
            with pytest.raises(aiohttp.ClientError):
                async with session.get(url, ssl=anonymous) as answer:
                    pass
            async with session.get(f"http://127.0.0.1:{process.server.health_port}/readyz") as ok:
                assert ok.status == 200


async def test_many_hollow_nodes_in_one_process(home: Cluster, tmp_path: Path) -> None:
    settings = replace(
        config(home, tmp_path),
        node_name="h",
        hollow_count=5,
        kubeconfig=home.server.write_kubeconfig(tmp_path),
        bootstrap_token="",
    )
    async with node(settings) as process:
        await eventually(lambda: process.ready)
        names = [f"h-{i}" for i in range(1, 6)]
        listing = await home.rest.list(NODES)
        assert sorted(n.metadata.name for n in listing.items) == names
        for number in range(20):
            await home.pod(f"p-{number}", names[number % 5])

        async def running() -> bool:
            pods = (await home.rest.list(PODS, "demo")).items
            return sum(p.status.phase == "Running" for p in pods) == 20

        await eventually(running)
        addresses = {p.status.pod_ip for p in (await home.rest.list(PODS, "demo")).items}
        assert len(addresses) == 20
        log = await home.rest.request("GET", "/api/v1/namespaces/demo/pods/p-3/log")
        assert b"hollow container c of pod demo/p-3" in log
        options = DeleteOptions(grace_period_seconds=1)
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                key = ObjectKey("demo", f"p-{number}")
                group.create_task(home.rest.delete(PODS, key, options))

        async def empty() -> bool:
            return not (await home.rest.list(PODS, "demo")).items

        await eventually(empty)
