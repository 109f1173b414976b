"""Services on a real node: names, addresses and packets between real pods, in a private network."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.node.clusters import cluster, eventually
from tests.integration.node.containers import Containerd
from tests.integration.node.test_containers import Home, busy

from cluster_agent.control import binder
from cluster_agent.control.controllers.deployment import controller as deployment
from cluster_agent.control.controllers.endpointslice import controller as endpointslice
from cluster_agent.control.controllers.replicaset import controller as replicaset
from cluster_agent.control.controllers.workloads import DEPLOYMENTS
from cluster_agent.node.app import NodeProcess
from machinery.api.core import PODS, Pod
from machinery.api.service_kinds import SERVICES, Service
from machinery.controller.manager import Manager
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.resource import Document, ObjectKey

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]
WEB = ObjectKey("demo", "web")
LABELS = {"app": "web"}


@pytest_asyncio.fixture(loop_scope="module")
async def home(containerd: Containerd, tmp_path: Path) -> AsyncIterator[Home]:
    """A cluster whose Deployments, endpoints and scheduling work, and a node that serves Services."""
    async with cluster(tmp_path) as made:
        manager = Manager(made.server.local, SystemClock(), SystemIds(), component="test")
        for setup in (deployment.setup, replicaset.setup, endpointslice.setup):
            setup(manager)
        _ = binder.setup(manager)
        found = Home(made, containerd, tmp_path)
        found.config = replace(
            found.config, service_cidr="10.96.0.0/16", dns_address="169.254.20.10"
        )
        await manager.start()
        try:
            yield found
        finally:
            await manager.stop()
            await found.clear()


class Shell:
    """A pod from which the cluster is seen."""

    def __init__(self, process: NodeProcess, pod: Pod) -> None:
        self._runtime, self._uid = process.parts["node-1"].runtime, pod.metadata.uid

    async def run(self, line: str) -> tuple[int, str]:
        """Exit code and all that it said."""
        record = (await self._runtime.observe(self._uid)).latest("c")
        assert record is not None
        result = await self._runtime.exec_sync(record.id, ("sh", "-c", f"{{ {line}; }} 2>&1"), 20)
        return result.exit_code, result.output.decode()

    async def get(self, host: str) -> str:
        """The page at port 80; empty when there was none."""
        code, said = await self.run(f"timeout 5 wget -qO- http://{host}/")
        return said.strip() if code == 0 else ""

    async def addresses(self, name: str) -> set[str]:
        """What a name stands for, the name server's own address left out."""
        _, said = await self.run(f"nslookup -type=a {name}")
        answers = said.partition("\n\n")[2]
        return {line.split()[-1] for line in answers.splitlines() if line.startswith("Address")}


@contextlib.asynccontextmanager
async def shell(home: Home) -> AsyncIterator[Shell]:
    """The node at work, and a pod on it."""
    async with home.node() as process:
        pod = await home.cluster.pod("client", "node-1", containers=[busy()])
        await eventually(lambda: home.cluster.ready("client"))
        yield Shell(process, pod)


def service(name: str, **spec: object) -> Document:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": LABELS, "ports": ports, **spec},
    }


async def make_web(home: Home) -> Service:
    """Two pods behind a Service with an address and one without."""
    container = {"name": "c", "image": "docker.io/lab/whoami:1"}
    document: Document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": WEB.name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }
    rest = home.cluster.rest
    await rest.create(DEPLOYMENTS, document, WEB.namespace)
    await rest.create(SERVICES, service("web-pods", clusterIP="None"), WEB.namespace)
    return await rest.create(SERVICES, service(WEB.name), WEB.namespace)


async def scale(home: Home, replicas: int) -> None:
    rest = home.cluster.rest
    await rest.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": replicas}})


async def pods(home: Home) -> list[Pod]:
    """Those behind the Service."""
    listing = await home.cluster.rest.list(PODS, WEB.namespace)
    return [p for p in listing.items if p.metadata.labels.get("app") == WEB.name]


async def both_answer(home: Home, client: Shell, host: str) -> bool:
    """Every pod of the Deployment has answered at `host`, and nobody else."""
    answers = {(await client.get(host)).partition(" ")[0] for _ in range(8)}
    return len(answers) == 2 and answers == {p.metadata.name for p in await pods(home)}


async def test_a_service_answers_by_its_name_from_all_its_pods(home: Home) -> None:
    made = await make_web(home)
    async with shell(home) as client:
        await eventually(lambda: both_answer(home, client, "web.demo.svc.cluster.local"))
        assert await both_answer(home, client, "web"), "the short name"
        assert await client.addresses("web.demo.svc.cluster.local.") == {made.spec.cluster_ip}
        ips = {p.status.pod_ip for p in await pods(home)}
        assert await client.addresses("web-pods.demo.svc.cluster.local.") == ips
        code, said = await client.run("nslookup -type=a nobody.demo.svc.cluster.local.")
        assert code != 0
        assert "NXDOMAIN" in said

        await scale(home, 0)
        await eventually(lambda: refused(client))
        code, said = await client.run("nslookup -type=a web-pods.demo.svc.cluster.local.")
        assert not ips & set(said.split())
        await scale(home, 2)
        await eventually(lambda: both_answer(home, client, "web"))


async def refused(client: Shell) -> bool:
    """Turned away, instead of left to wait."""
    code, said = await client.run("timeout 5 wget -qO- http://web/")
    return code != 0 and "refused" in said


async def test_a_node_process_that_is_away_leaves_connections_alone_and_comes_back(
    home: Home,
) -> None:
    made = await make_web(home)
    async with shell(home) as client:
        await eventually(lambda: both_answer(home, client, "web"))
    runtime_only = await home.cluster.get("client")
    assert runtime_only.status.phase == "Running"
    async with home.node() as process:
        again = Shell(process, runtime_only)
        assert await both_answer(home, again, made.spec.cluster_ip), "without a moment's wait"
        await eventually(lambda: both_answer(home, again, "web.demo.svc.cluster.local"))
