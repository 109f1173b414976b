"""From hollow kubelets to metrics.k8s.io, over TLS: /stats/summary, /metrics/resource, gathering, and what clients see."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.node.clusters import Cluster, cluster, eventually, node
from tests.integration.node.test_hollow import config

from cluster_agent.control.metrics import MemberMetrics
from cluster_agent.control.metrics_gather import Gatherer
from machinery.api.kinds import BUILTIN
from machinery.api.metrics_kinds import METRICS
from machinery.client.interface import dynamic
from machinery.kit.clock import SystemClock
from machinery.meta.resource import ObjectKey
from machinery.server.app import ApiServer, Extensions

pytestmark = pytest.mark.integration
NODES = dynamic("metrics.k8s.io", "v1beta1", "nodes", "NodeMetrics", False)
PODS = dynamic("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", True)
BUSY = {"annotations": {"hollow.ubernetes.io/cpu": "750m", "hollow.ubernetes.io/memory": "64Mi"}}


class Home:
    """A member that gathers when it is told to."""

    def __init__(self, made: Cluster, metrics: MemberMetrics) -> None:
        self.cluster, self._metrics = made, metrics
        self._gatherer: Gatherer | None = None

    async def gather(self) -> None:
        """Twice, so far apart that there are two samples."""
        if self._gatherer is None:
            self._gatherer = self._metrics.gatherer()
        await self._gatherer.run_once()
        await asyncio.sleep(1.1)
        await self._gatherer.run_once()

    def close(self) -> None:
        if self._gatherer is not None:
            self._gatherer.close()


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    servers: list[ApiServer] = []
    metrics = MemberMetrics(lambda: servers[0], SystemClock())
    extensions = Extensions(computed=metrics.sources())
    async with cluster(tmp_path, kinds=(*BUILTIN, *METRICS), extensions=extensions) as made:
        servers.append(made.server.api)
        found = Home(made, metrics)
        try:
            yield found
        finally:
            found.close()


async def get(home: Home, path: str) -> Any:
    return msgspec.json.decode(await home.cluster.rest.request("GET", path))


async def test_a_nodes_summary_through_the_api_server(home: Home, tmp_path: Path) -> None:
    made = home.cluster
    async with node(config(made, tmp_path)) as process:
        await eventually(lambda: process.ready)
        await made.pod("web", "hollow-1", meta=BUSY)
        await eventually(lambda: made.ready("web"))
        proxy = "/api/v1/nodes/hollow-1/proxy"
        shown = await get(home, f"{proxy}/stats/summary")
        assert shown["node"]["nodeName"] == "hollow-1"
        assert shown["node"]["memory"]["availableBytes"] < 32 << 30
        (pod,) = shown["pods"]
        assert pod["podRef"]["name"] == "web"
        assert pod["containers"][0]["memory"]["workingSetBytes"] == 64 << 20
        text = (await made.rest.request("GET", f"{proxy}/metrics/resource")).decode()
        assert (
            'container_memory_working_set_bytes{container="c",namespace="demo",pod="web"}' in text
        )


async def test_metrics_of_a_pod_and_its_node(home: Home, tmp_path: Path) -> None:
    made = home.cluster
    async with node(config(made, tmp_path)) as process:
        await eventually(lambda: process.ready)
        await made.pod("web", "hollow-1", meta=BUSY | {"labels": {"app": "web"}})
        await eventually(lambda: made.ready("web"))
        await home.gather()
        found = await made.rest.get(PODS, ObjectKey("demo", "web"))
        (container,) = found["containers"]
        assert container["name"] == "c"
        assert container["usage"]["memory"] == "64Mi"
        assert 700_000_000 < nanocores(container["usage"]["cpu"]) < 800_000_000
        assert found["metadata"]["labels"] == {"app": "web"}
        listed = await made.rest.list(NODES)
        assert [one["metadata"]["name"] for one in listed.items] == ["hollow-1"]
        assert listed.items[0]["metadata"]["labels"]["pool"] == "test"
        assert 750_000_000 < nanocores(listed.items[0]["usage"]["cpu"]) < 850_000_000


def nanocores(text: str) -> int:
    scale = {"n": 1, "u": 1000, "m": 1_000_000}
    return int(text[:-1]) * scale[text[-1]] if text[-1] in scale else int(text) * 10**9


async def test_hollow_nodes_of_one_process_are_told_apart(home: Home, tmp_path: Path) -> None:
    made = home.cluster
    settings = replace(
        config(made, tmp_path),
        node_name="h",
        hollow_count=2,
        kubeconfig=made.server.write_kubeconfig(tmp_path),
        bootstrap_token="",
    )
    async with node(settings) as process:
        await eventually(lambda: process.ready)
        for name in ("a", "b"):
            await made.pod(name, f"h-{'12'['ab'.index(name)]}")
            await eventually(lambda name=name: made.ready(name))
        for number, pod in (("1", "a"), ("2", "b")):
            shown = await get(home, f"/api/v1/nodes/h-{number}/proxy/stats/summary")
            assert shown["node"]["nodeName"] == f"h-{number}"
            assert [one["podRef"]["name"] for one in shown["pods"]] == [pod]
        await home.gather()
        assert len((await made.rest.list(NODES)).items) == 2
        assert len((await made.rest.list(PODS)).items) == 2


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
async def test_kubectl_top(home: Home, tmp_path: Path) -> None:
    made = home.cluster
    kubeconfig = made.server.write_kubeconfig(tmp_path)

    async def kubectl(*words: str) -> list[list[str]]:
        command = ("kubectl", "--kubeconfig", kubeconfig, "--cache-dir", str(tmp_path), *words)
        run = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 0, run.stderr
        return [line.split() for line in run.stdout.splitlines()]

    async with node(config(made, tmp_path)) as process:
        await eventually(lambda: process.ready)
        await made.pod("web", "hollow-1", meta=BUSY)
        await eventually(lambda: made.ready("web"))
        await home.gather()
        head, row = await kubectl("top", "pods", "-n", "demo")
        assert head == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
        assert (row[0], row[2]) == ("web", "64Mi")
        assert 700 < int(row[1].removesuffix("m")) < 800
        (row,) = await kubectl("top", "nodes", "--no-headers")
        assert (row[0], row[3]) == ("hollow-1", "320Mi")
        assert 9 <= int(row[2].removesuffix("%")) <= 10
        head, row = await kubectl("get", "pods.metrics.k8s.io", "-n", "demo")
        assert head == ["NAME", "CPU", "MEMORY", "WINDOW"]
        assert (row[0], row[2]) == ("web", "64Mi")
