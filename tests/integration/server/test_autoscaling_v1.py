"""HorizontalPodAutoscalers by autoscaling/v1 through a real server: the same objects as by v2."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from tests.support.apiserver import RunningServer, running_server

from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.client.interface import Client, PatchType, dynamic
from machinery.meta.errors import Invalid
from machinery.meta.resource import Document, ObjectKey

pytestmark = pytest.mark.integration
PLURAL, KIND = "horizontalpodautoscalers", "HorizontalPodAutoscaler"
OLD = dynamic("autoscaling", "v1", PLURAL, KIND, True)
NEW = dynamic("autoscaling", "v2", PLURAL, KIND, True)
WEB = ObjectKey("default", "web")
MEMORY = {
    "type": "Resource",
    "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 70}},
}
METRICS = "autoscaling.alpha.kubernetes.io/metrics"


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(kinds=(*BUILTIN, *TEMPLATE_KINDS)) as running:
        yield running


def autoscaler(version: str, **spec: Any) -> Document:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {
        "apiVersion": f"autoscaling/{version}",
        "kind": KIND,
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"scaleTargetRef": reference, "maxReplicas": 5, **spec},
    }


def cpu(share: int) -> Document:
    target = {"type": "Utilization", "averageUtilization": share}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


@pytest.mark.parametrize("way", ["http", "local"])
async def test_written_by_v1_and_read_by_v2(server: RunningServer, way: str) -> None:
    client: Client = {"http": server.rest, "local": server.local}[way]
    made = await client.create(OLD, autoscaler("v1", targetCPUUtilizationPercentage=55), "default")
    assert made["apiVersion"] == "autoscaling/v1"
    assert made["spec"]["targetCPUUtilizationPercentage"] == 55
    assert made["spec"]["minReplicas"] == 1
    assert made["status"] == {"currentReplicas": 0, "desiredReplicas": 0}
    new = await client.get(NEW, WEB)
    assert new["spec"]["metrics"] == [cpu(55)]
    assert "annotations" not in new["metadata"]
    listed = await client.list(OLD)
    assert [one["spec"]["targetCPUUtilizationPercentage"] for one in listed.items] == [55]
    patch = {"spec": {"targetCPUUtilizationPercentage": 66}}
    changed = await client.patch(OLD, WEB, patch, PatchType.STRATEGIC)
    assert changed["spec"]["targetCPUUtilizationPercentage"] == 66
    assert (await client.get(NEW, WEB))["spec"]["metrics"] == [cpu(66)]
    await client.delete(OLD, WEB)


async def test_without_a_target_the_default_of_v2_holds(server: RunningServer) -> None:
    made = await server.rest.create(OLD, autoscaler("v1"), "default")
    assert made["spec"]["targetCPUUtilizationPercentage"] == 80


async def test_who_writes_v1_back_loses_nothing(server: RunningServer) -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    given = autoscaler("v2", metrics=[MEMORY, cpu(50)], behavior=behavior)
    before = await server.rest.create(NEW, given, "default")
    old = await server.rest.get(OLD, WEB)
    assert METRICS in old["metadata"]["annotations"]
    old["spec"]["maxReplicas"] = 9
    old["metadata"]["labels"] = {"a": "b"}
    await server.rest.update(OLD, old)
    after = await server.rest.get(NEW, WEB)
    assert after["spec"] == before["spec"] | {"maxReplicas": 9}
    assert after["metadata"]["labels"] == {"a": "b"}
    assert "annotations" not in after["metadata"]


async def test_applied_by_v1(server: RunningServer) -> None:
    applied = autoscaler("v1", targetCPUUtilizationPercentage=40)
    made = await server.rest.patch(OLD, WEB, applied, PatchType.APPLY)
    assert made["spec"]["targetCPUUtilizationPercentage"] == 40
    again = await server.rest.patch(OLD, WEB, applied, PatchType.APPLY)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    fields = made["metadata"]["managedFields"][0]
    assert (fields["apiVersion"], fields["operation"]) == ("autoscaling/v2", "Apply")


async def test_status_by_v1(server: RunningServer) -> None:
    await server.rest.create(OLD, autoscaler("v1"), "default")
    status = {"currentReplicas": 2, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 12}
    patch = {"status": status}
    told = await server.rest.patch(OLD, WEB, patch, PatchType.MERGE, subresource="status")
    assert told["status"] == status
    current = {"name": "cpu", "current": {"averageUtilization": 12}}
    new = (await server.rest.get(NEW, WEB))["status"]
    assert new["currentMetrics"] == [{"type": "Resource", "resource": current}]


async def test_what_is_invalid_is_told_in_the_words_of_the_stored_form(
    server: RunningServer,
) -> None:
    with pytest.raises(Invalid) as refused:
        await server.rest.create(
            OLD, autoscaler("v1", targetCPUUtilizationPercentage=-1), "default"
        )
    assert "must be greater than 0" in str(refused.value)


async def test_a_table_and_a_watch_by_v1(server: RunningServer) -> None:
    await server.rest.create(OLD, autoscaler("v1", targetCPUUtilizationPercentage=30), "default")
    connector = aiohttp.TCPConnector(ssl=server.tls())
    path = f"{server.api.url}/apis/autoscaling/v1/namespaces/default/{PLURAL}"
    async with aiohttp.ClientSession(connector=connector) as session:
        accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        async with session.get(path, headers=accept) as answer:
            cells = orjson.loads(await answer.read())["rows"][0]["cells"]
        async with session.get(path, params={"watch": "1"}) as answer:
            event = orjson.loads(await answer.content.readline())
    assert cells[:4] == ["web", "Deployment/web", "cpu: <unknown>/30%", "1"]
    assert event["object"]["apiVersion"] == "autoscaling/v1"
    assert event["object"]["spec"]["targetCPUUtilizationPercentage"] == 30


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
async def test_kubectl(server: RunningServer, tmp_path: Path) -> None:
    kubeconfig = server.write_kubeconfig(tmp_path)

    async def kubectl(*words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", kubeconfig, *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0, said
        return said

    manifest = tmp_path / "hpa.json"
    manifest.write_bytes(orjson.dumps(autoscaler("v1", targetCPUUtilizationPercentage=20)))
    assert "created" in await kubectl("apply", "-f", str(manifest))
    assert "unchanged" in await kubectl("apply", "-f", str(manifest))
    assert "20%" in await kubectl("get", "hpa.v1.autoscaling", "web")
    explained = await kubectl("explain", "hpa.spec", "--api-version=autoscaling/v1")
    assert "targetCPUUtilizationPercentage" in explained
