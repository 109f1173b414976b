"""A member's autoscalers through a real server: targets of every sort, metrics that change, kubectl."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers.horizontalpodautoscaler import controller as autoscaler
from machinery.api.kinds import BUILTIN
from machinery.api.metrics_kinds import METRICS
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.client.interface import PatchType, dynamic
from machinery.controller.manager import Manager
from machinery.kit.clock import Clock, SystemClock, rfc3339
from machinery.kit.ids import SeededIds
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server.app import Extensions
from machinery.server.cache import Selection
from machinery.server.computed import Computed

pytestmark = pytest.mark.integration
KINDS = (*BUILTIN, *RUN_BY_MEMBERS, *METRICS)
NAMESPACE = "default"
HPA = dynamic("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True)
PODS = dynamic("", "v1", "pods", "Pod", True)
EVENTS = dynamic("", "v1", "events", "Event", True)
DEFINITIONS = dynamic(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)
DEPLOYMENTS = dynamic("apps", "v1", "deployments", "Deployment", True)
SETS = dynamic("apps", "v1", "statefulsets", "StatefulSet", True)
REPLICASETS = dynamic("apps", "v1", "replicasets", "ReplicaSet", True)
OLDER = dynamic("", "v1", "replicationcontrollers", "ReplicationController", True)
RINGS = dynamic("example.com", "v1", "rings", "Ring", True)


@dataclass
class Measured:
    """metrics.k8s.io: cores by pod."""

    clock: Clock
    cores: dict[str, str] = field(default_factory=dict)

    async def get(self, namespace: str, name: str) -> Document | None:
        cores = self.cores.get(name)
        return None if cores is None else self._of(name, cores)

    async def list(self, selection: Selection) -> Computed:
        return Computed([self._of(name, cores) for name, cores in self.cores.items()])

    def _of(self, name: str, cores: str) -> Document:
        labels = {"app": name.partition("-")[0]}
        return {
            "kind": "PodMetrics",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "timestamp": rfc3339(self.clock.now()),
            "window": "15s",
            "containers": [{"name": "c", "usage": {"cpu": cores, "memory": "10Mi"}}],
        }


@dataclass
class Member:
    """A server with the one controller, and hands for what others would do."""

    server: RunningServer
    measured: Measured
    clock: Clock

    async def pods(self, app: str, *cores: str) -> None:
        """Ready pods that request one core each, and what they use."""
        for index, used in enumerate(cores):
            name = f"{app}-{index}"
            container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
            document = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": app}},
                "spec": {"containers": [container]},
            }
            await self.server.local.create(PODS, document, NAMESPACE)
            long_ago = "2020-01-01T00:00:00Z"
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": long_ago}
            status = {"phase": "Running", "startTime": long_ago, "conditions": [ready]}
            key = ObjectKey(NAMESPACE, name)
            await self.server.local.patch(PODS, key, {"status": status}, subresource="status")
            self.measured.cores[name] = used

    async def make(self, resource: Resource[Document], document: Mapping[str, Any]) -> None:
        head = {"apiVersion": resource.api_version, "kind": resource.kind}
        await self.server.local.create(resource, head | dict(document), NAMESPACE)

    async def scaler(self, resource: Resource[Document], name: str = "web", **spec: Any) -> None:
        """An autoscaler of the same name: half of what is requested, one pod to nine."""
        target = {"apiVersion": resource.api_version, "kind": resource.kind, "name": name}
        metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
        limits = {"minReplicas": 1, "maxReplicas": 9}
        metrics = [{"type": "Resource", "resource": metric}]
        document = {"metadata": {"name": name}, "spec": limits | {"scaleTargetRef": target, "metrics": metrics} | spec}  # fmt: skip
        await self.make(HPA, document)

    async def wanted(self, resource: Resource[Document], name: str = "web") -> int:
        live = await self.server.local.get(resource, ObjectKey(NAMESPACE, name))
        return int(live["spec"]["replicas"])

    async def told(self, name: str = "web") -> dict[str, str]:
        live = await self.server.local.get(HPA, ObjectKey(NAMESPACE, name))
        conditions = live["status"].get("conditions") or ()
        return {c["type"]: f"{c['status']} {c['reason']}: {c['message']}" for c in conditions}

    async def events(self) -> set[str]:
        found = (await self.server.local.list(EVENTS, NAMESPACE)).items
        return {f"{e['reason']}: {e['message']}" for e in found}


@contextlib.asynccontextmanager
async def member(clock: Clock, period_s: float = 15.0) -> AsyncIterator[Member]:
    measured = Measured(clock)
    extensions = Extensions(computed={("metrics.k8s.io", "pods"): measured})
    async with running_server(clock=clock, kinds=KINDS, extensions=extensions) as server:
        manager = Manager(server.local, clock, SeededIds(2), component="test")
        stored = [kind for kind in server.api.scheme.kinds if kind.storable]
        autoscaler.setup(manager, stored, period_s)
        await manager.start()
        try:
            yield Member(server, measured, clock)
        finally:
            await manager.stop()


@pytest.fixture
async def here() -> AsyncIterator[Member]:
    async with member(LoopClock()) as running:
        yield running


def workload(replicas: int = 2, app: str = "web", **spec: Any) -> Document:
    """Of any kind that has a template."""
    container = {"name": "c", "image": "i"}
    template = {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container]}}
    selector = {"matchLabels": {"app": app}}
    inner = {"replicas": replicas, "selector": selector, "template": template} | spec
    return {"metadata": {"name": app}, "spec": inner}


RING_DEFINITION: Document = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "rings.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "rings", "kind": "Ring", "singular": "ring"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
            }
        ],
    },
}


@pytest.mark.looptime
@pytest.mark.parametrize("resource", [DEPLOYMENTS, SETS, REPLICASETS, OLDER], ids=str)
async def test_what_has_a_scale_follows_its_pods(here: Member, resource: Resource[Any]) -> None:
    own = {"selector": {"app": "web"}} if resource is OLDER else {}
    own |= {"serviceName": "web"} if resource is SETS else {}
    await here.make(resource, workload(**own))
    await here.pods("web", "750m", "750m")
    await here.scaler(resource)
    await asyncio.sleep(10)
    assert await here.told() == {}, "the first look is a period away"
    await asyncio.sleep(10)
    assert await here.wanted(resource) == 3
    told = await here.told()
    assert told["AbleToScale"].startswith("True SucceededRescale")
    assert told["ScalingActive"].startswith("True ValidMetricFound")
    assert told["ScalingLimited"].startswith("False DesiredWithinRange")
    why = "cpu resource utilization (percentage of request) above target"
    assert f"SuccessfulRescale: New size: 3; reason: {why}" in await here.events()
    status = (await here.server.local.get(HPA, ObjectKey(NAMESPACE, "web")))["status"]
    assert (status["currentReplicas"], status["desiredReplicas"]) == (2, 3)
    assert "lastScaleTime" in status


@pytest.mark.looptime
async def test_it_shrinks_when_the_window_is_over(here: Member) -> None:
    await here.make(DEPLOYMENTS, workload())
    await here.pods("web", "750m", "750m")
    await here.scaler(DEPLOYMENTS)
    await asyncio.sleep(20)
    here.measured.cores = dict.fromkeys(here.measured.cores, "100m")
    await asyncio.sleep(60)
    assert await here.wanted(DEPLOYMENTS) == 3
    assert (await here.told())["AbleToScale"].startswith("True ScaleDownStabilized")
    await asyncio.sleep(300)
    assert await here.wanted(DEPLOYMENTS) == 1
    assert "SuccessfulRescale: New size: 1; reason: All metrics below target" in await here.events()
    await asyncio.sleep(30)
    before = await here.server.local.get(HPA, ObjectKey(NAMESPACE, "web"))
    await asyncio.sleep(600)
    after = await here.server.local.get(HPA, ObjectKey(NAMESPACE, "web"))
    assert after == before, "a status that says nothing new is not written"


@pytest.mark.looptime
async def test_a_custom_resource_is_scaled_by_its_paths(here: Member) -> None:
    await here.server.local.create(DEFINITIONS, RING_DEFINITION)
    await asyncio.sleep(2)
    await here.make(RINGS, {"metadata": {"name": "web"}, "spec": {"replicas": 2}})
    key = ObjectKey(NAMESPACE, "web")
    await here.server.local.patch(
        RINGS, key, {"status": {"replicas": 2, "selector": "app=web"}}, subresource="status"
    )
    await here.pods("web", "1", "1")
    await here.scaler(RINGS)
    await asyncio.sleep(20)
    assert await here.wanted(RINGS) == 4


@pytest.mark.looptime
async def test_without_a_target(here: Member) -> None:
    config_maps = dynamic("", "v1", "configmaps", "ConfigMap", True)
    await here.scaler(DEPLOYMENTS)
    await here.scaler(dynamic("example.com", "v1", "stars", "Star", True), "star")
    await here.make(config_maps, {"metadata": {"name": "map"}})
    await here.scaler(config_maps, "map")
    await asyncio.sleep(20)
    head = "False FailedGetScale: the HPA controller was unable to get the target's current scale: "
    assert await here.told() == {"AbleToScale": f'{head}deployments.apps "web" not found'}
    no_kind = 'no matches for kind "Star" in group "example.com"'
    assert await here.told("star") == {"AbleToScale": head + no_kind}
    no_scale = "the server could not find the requested resource"
    assert await here.told("map") == {"AbleToScale": head + no_scale}
    assert f"FailedGetScale: {no_kind}" in await here.events()
    await here.make(DEPLOYMENTS, workload(replicas=0))
    await asyncio.sleep(20)
    told = await here.told()
    assert told["AbleToScale"].startswith("True SucceededGetScale")
    assert told["ScalingActive"].startswith("False ScalingDisabled")
    assert await here.wanted(DEPLOYMENTS) == 0, "who was scaled to nought by hand stays there"


@pytest.mark.looptime
async def test_two_autoscalers_of_the_same_pods(here: Member) -> None:
    await here.make(DEPLOYMENTS, workload())
    await here.make(DEPLOYMENTS, workload() | {"metadata": {"name": "twin"}})
    await here.pods("web", "1", "1")
    await here.scaler(DEPLOYMENTS, maxReplicas=2)
    await here.scaler(DEPLOYMENTS, "twin", maxReplicas=2)
    await asyncio.sleep(40)
    why = "pods by selector app=web are controlled by multiple HPAs: [default/twin default/web]"
    for name in ("web", "twin"):
        assert (await here.told(name))["ScalingActive"] == f"False AmbiguousSelector: {why}"
    await here.server.local.delete(HPA, ObjectKey(NAMESPACE, "twin"))
    await asyncio.sleep(20)
    assert (await here.told())["ScalingActive"].startswith("True ValidMetricFound")


@pytest.mark.looptime
async def test_a_number_that_is_refused_is_told(here: Member) -> None:
    webless = workload()
    await here.make(DEPLOYMENTS, webless)
    await here.pods("web", "1", "1")
    await here.scaler(DEPLOYMENTS)
    local, update = here.server.local, here.server.local.update

    async def overtaken(resource: Resource[Any], document: Any, *, subresource: str = "") -> Any:
        key = ObjectKey(NAMESPACE, "web")
        await local.patch(DEPLOYMENTS, key, {"spec": {"paused": True}}, PatchType.MERGE)
        return await update(resource, document, subresource=subresource)

    local.update = overtaken  # type: ignore[method-assign]
    await asyncio.sleep(20)
    local.update = update  # type: ignore[method-assign]
    told = await here.told()
    assert told["AbleToScale"].startswith(
        "False FailedUpdateScale: the HPA controller was unable to update the target scale: Operation cannot"
    )
    assert await here.wanted(DEPLOYMENTS) == 2
    await asyncio.sleep(15)
    assert await here.wanted(DEPLOYMENTS) == 4, "the next look takes the new version"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
async def test_kubectl(tmp_path: Path) -> None:
    async with member(SystemClock(), 0.2) as here:
        kubeconfig = here.server.write_kubeconfig(tmp_path)

        async def kubectl(*words: str) -> str:
            process = await asyncio.create_subprocess_exec(
                "kubectl", "--kubeconfig", kubeconfig, *words,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said = (await process.communicate())[0].decode()
            assert process.returncode == 0, said
            return said

        await here.make(DEPLOYMENTS, workload())
        await here.pods("web", "1", "1")
        made = await kubectl("autoscale", "deployment", "web", "--min=1", "--max=3", "--cpu-percent=50")  # fmt: skip
        assert "horizontalpodautoscaler.autoscaling/web autoscaled" in made
        while await here.wanted(DEPLOYMENTS) != 3 or "ScalingLimited" not in await here.told():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        columns = (await kubectl("get", "hpa", "web")).splitlines()
        assert columns[0].split() == [
            "NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE",
        ]  # fmt: skip
        assert "Deployment/web" in columns[1]
        assert "cpu: 100%/50%" in columns[1]
        described = await kubectl("describe", "hpa", "web")
        assert "(as a percentage of request):  100% (1) / 50%" in described
        assert "ScalingLimited  True" in described
        assert "TooManyReplicas" in described
        assert "SuccessfulRescale" in described
        assert "New size: 3; reason: cpu resource utilization" in described
