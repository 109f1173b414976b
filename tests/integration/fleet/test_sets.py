"""StatefulSets and DaemonSets of a whole member over hollow nodes, with real kubectl; and one that the federation places."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.fleet.test_services_over_clusters import eventually
from tests.integration.fleet.test_staged_update import (
    Fleet,
    fleet,
    has_room,
    node_config,
    node_token,
)
from tests.integration.node.clusters import node

from cluster_agent.cli import ControlFile, start_control
from machinery.api.core import NAMESPACES, PODS, SECRETS
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.client.interface import dynamic
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine"),
]
Kubectl = Callable[..., Awaitable[str]]
STATEFULSETS = dynamic("apps", "v1", "statefulsets", "StatefulSet", namespaced=True)


def workload(kind: str, name: str, image: str = "img:1", **spec: Any) -> Document:
    labels = {"app": name}
    container = {"name": "c", "image": image}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **spec,
        },
    }


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    """kubectl against a member with two hollow nodes."""
    async with contextlib.AsyncExitStack() as stack:
        file = ControlFile("alpha", str(tmp_path / "alpha"), listen=("127.0.0.1:0",))
        control, _ = await start_control(file)
        stack.push_async_callback(control.stop)
        assert control.server is not None
        await control.server.client(manager="test").create(SECRETS, node_token(), "kube-system")
        (tmp_path / "alpha-ca.crt").write_text(control.server.ca_pem)
        config = node_config("alpha", control.server.url, tmp_path)
        for name in ("one", "two"):
            own = replace(config, node_name=name, state_dir=str(tmp_path / name))
            _ = await stack.enter_async_context(node(own))

        async def run(*words: str, stdin: str = "", fails: bool = False) -> str:
            process = await asyncio.create_subprocess_exec(
                "kubectl", "--kubeconfig", str(tmp_path / "alpha" / "admin.kubeconfig"),
                "--cache-dir", str(tmp_path / "cache"), "-n", "demo", *words,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
            assert (process.returncode != 0) is fails, out.decode()
            return out.decode()

        _ = await run("create", "namespace", "demo")
        yield run


async def images(kubectl: Kubectl, app: str) -> str:
    path = "jsonpath={.items[*].spec.containers[0].image}"
    return await kubectl("get", "pods", "-l", f"app={app}", "-o", path)


@pytest.mark.timeout(120)
async def test_a_stateful_set_by_kubectl(kubectl: Kubectl) -> None:
    document = workload("StatefulSet", "db", replicas=2, serviceName="db")
    _ = await kubectl("apply", "-f", "-", stdin=json.dumps(document))
    assert "complete" in await kubectl("rollout", "status", "sts/db", "--timeout=40s")
    assert "2/2" in await kubectl("get", "sts")
    _ = await kubectl("scale", "sts/db", "--replicas=3")
    _ = await kubectl("rollout", "status", "sts/db", "--timeout=40s")
    names = "jsonpath={.items[*].metadata.name}"
    assert await kubectl("get", "pods", "-l", "app=db", "-o", names) == "db-0 db-1 db-2"

    _ = await kubectl("set", "image", "sts/db", "c=img:2")
    _ = await kubectl("rollout", "status", "sts/db", "--timeout=40s")
    assert await images(kubectl, "db") == "img:2 img:2 img:2"
    history = await kubectl("rollout", "history", "sts/db")
    assert [line.split()[0] for line in history.splitlines()[2:] if line.strip()] == ["1", "2"]
    assert "img:1" in await kubectl("rollout", "history", "sts/db", "--revision=1")
    _ = await kubectl("rollout", "undo", "sts/db")
    _ = await kubectl("rollout", "status", "sts/db", "--timeout=40s")
    assert await images(kubectl, "db") == "img:1 img:1 img:1"
    _ = await kubectl("rollout", "restart", "sts/db")
    _ = await kubectl("rollout", "status", "sts/db", "--timeout=40s")

    _ = await kubectl("delete", "sts", "db", "--cascade=orphan")
    assert await kubectl("get", "pods", "-l", "app=db", "-o", names) == "db-0 db-1 db-2"
    document["spec"]["replicas"] = 1
    document["spec"]["template"]["metadata"]["annotations"] = {"a": "b"}
    _ = await kubectl("apply", "-f", "-", stdin=json.dumps(document))
    _ = await kubectl("rollout", "status", "sts/db", "--timeout=40s")
    await eventually_text(kubectl, "db-0", "get", "pods", "-l", "app=db", "-o", names)
    _ = await kubectl("delete", "sts", "db")
    await eventually_text(kubectl, "", "get", "pods", "-l", "app=db", "-o", names)


async def eventually_text(kubectl: Kubectl, wanted: str, *words: str) -> None:
    async def said() -> bool:
        return await kubectl(*words) == wanted

    assert await eventually(said)


@pytest.mark.timeout(120)
async def test_a_daemon_set_by_kubectl(kubectl: Kubectl) -> None:
    document = workload("DaemonSet", "log")
    _ = await kubectl("apply", "-f", "-", stdin=json.dumps(document))
    _ = await kubectl("rollout", "status", "ds/log", "--timeout=40s")
    on = "jsonpath={.items[*].spec.nodeName}"
    found = await kubectl("get", "pods", "-l", "app=log", "-o", on)
    assert sorted(found.split()) == ["one", "two"]
    _ = await kubectl("set", "image", "ds/log", "c=img:2")
    _ = await kubectl("rollout", "status", "ds/log", "--timeout=40s")
    assert await images(kubectl, "log") == "img:2 img:2"
    _ = await kubectl("rollout", "undo", "ds/log")
    _ = await kubectl("rollout", "status", "ds/log", "--timeout=40s")
    assert await images(kubectl, "log") == "img:1 img:1"

    refused = await kubectl("drain", "one", "--timeout=20s", fails=True)
    assert "cannot delete DaemonSet-managed Pods" in refused
    drained = await kubectl("drain", "one", "--ignore-daemonsets", "--timeout=20s")
    assert "drained" in drained
    found = await kubectl("get", "pods", "-l", "app=log", "-o", on)
    assert sorted(found.split()) == ["one", "two"], "a daemon stays on a node that is cordoned"
    columns = (await kubectl("get", "ds", "log", "--no-headers")).split()
    assert columns[:6] == ["log", "2", "2", "2", "2", "2"]


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_stateful_set_that_the_federation_places(tmp_path: Path) -> None:
    async with fleet(tmp_path) as world:
        assert await eventually(lambda: has_room(world))
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await world.federation.create(NAMESPACES, namespace)
        document = workload("StatefulSet", "db", replicas=3, serviceName="db")
        await world.federation.create(STATEFULSETS, document)
        assert await eventually(lambda: is_healthy(world))
        assert await eventually(lambda: is_whole(world))
        binding = await world.federation.get(RESOURCE_BINDINGS, ObjectKey("demo", "db-statefulset"))
        (home,) = [t.name for t in binding.spec.clusters]
        pods = (await world.members[home].list(PODS, "demo")).items
        assert sorted(p.metadata.name for p in pods) == ["db-0", "db-1", "db-2"]


async def is_healthy(world: Fleet) -> bool:
    try:
        key = ObjectKey("demo", "db-statefulset")
        binding = await world.federation.get(RESOURCE_BINDINGS, key)
    except NotFound:
        return False
    told = binding.status.aggregated_status
    return bool(told) and all(one.health == "Healthy" for one in told)


async def is_whole(world: Fleet) -> bool:
    """Whether the template says that all its pods are there, and of one revision."""
    status = (await world.federation.get(STATEFULSETS, ObjectKey("demo", "db")))["status"]
    counts = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas")
    return all(status.get(count) == 3 for count in counts)
