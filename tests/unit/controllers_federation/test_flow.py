"""All controllers of the federation together on an in-process server, in virtual time; members are played by hand."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from federation.propagation.templates import CONFIGMAPS, DEPLOYMENTS, NAMESPACES
from federation.simulator.server import FederationServer
from federation.simulator.virtual import VirtualClock, run
from machinery.api.apps import REPLICASETS
from machinery.api.coordination import LEASES
from machinery.api.fleet.cluster import CLUSTER_LEASES, CLUSTERS, READY, execution_namespace
from machinery.api.fleet.work import (
    EXECUTION_FINALIZER,
    RESOURCE_BINDINGS,
    WORK_DOCUMENTS,
    ResourceBinding,
)
from machinery.client.interface import DeleteOptions
from machinery.controller.action import SetStatus
from machinery.kit.clock import rfc3339_micro
from machinery.kit.ids import SeededIds
from machinery.kit.metrics import METRICS
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey
from machinery.server.local import LocalClient

ZONES = {"alpha": "zone-a", "beta": "zone-b", "gamma": "zone-c"}
WEB = ObjectKey("demo", "web")
BINDING = ObjectKey("demo", "web-deployment")


def deployment(replicas: int, **pod: Any) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {
                            "name": "web",
                            "image": "whoami:1",
                            "envFrom": [{"configMapRef": {"name": "settings"}}],
                        }
                    ]
                }
                | pod,
            },
        },
    }


CONFIGMAP: Document = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": "demo"},
    "data": {"colour": "blue"},
}


class Fleet:
    """A server with three joined members whose hands are ours."""

    def __init__(self) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.server = FederationServer(self.clock, SeededIds(1))
        self.client: LocalClient

    async def start(self) -> None:
        await self.server.start()
        self.client = self.server.client("test")
        for name in ZONES:
            await self.server.admit(name)
        await asyncio.sleep(1)
        for name in ZONES:
            await self.join(name)
        await self.client.create(
            NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        )
        await asyncio.sleep(1)

    async def join(self, name: str) -> None:
        await self.client.create(
            CLUSTERS,
            {
                "apiVersion": CLUSTERS.api_version,
                "kind": "Cluster",
                "metadata": {"name": name},
                "spec": {"syncMode": "Pull", "zones": [ZONES[name]], "region": "region-1"},
            },
        )
        await self.report(name, 100)
        await self.beat(name)

    async def report(self, name: str, pods: int) -> None:
        status = {"resourceSummary": {"allocatable": {"pods": str(pods), "cpu": "64"}}}
        key = ObjectKey("", name)
        await self.client.patch(CLUSTERS, key, {"status": status}, subresource="status")

    async def beat(self, *names: str) -> None:
        for name in names:
            renewed = {"spec": {"renewTime": rfc3339_micro(self.clock.now())}}
            try:
                await self.client.patch(LEASES, ObjectKey(CLUSTER_LEASES, name), renewed)
            except NotFound:
                document = {
                    "apiVersion": LEASES.api_version,
                    "kind": "Lease",
                    "metadata": {"name": name, "namespace": CLUSTER_LEASES},
                } | renewed
                await self.client.create(LEASES, document, CLUSTER_LEASES)

    async def binding(self) -> ResourceBinding:
        return await self.client.get(RESOURCE_BINDINGS, BINDING)

    async def divided(self) -> dict[str, int]:
        return {t.name: t.replicas for t in (await self.binding()).spec.clusters}

    async def works(self, cluster: str, kind: str) -> list[Document]:
        found = await self.client.list(WORK_DOCUMENTS, execution_namespace(cluster))
        return [w for w in found.items if w["spec"]["workload"]["manifests"][0]["kind"] == kind]

    async def report_work(self, cluster: str, **status: Any) -> None:
        """What a member's link says of the Deployment."""
        (work,) = await self.works(cluster, "Deployment")
        manifest = work["spec"]["workload"]["manifests"][0]
        count = manifest["spec"]["replicas"]
        generation = manifest["metadata"]["annotations"]["resourcetemplate.karmada.io/generation"]
        reported = {
            "replicas": count,
            "readyReplicas": count,
            "availableReplicas": count,
            "updatedReplicas": count,
            "generation": 1,
            "observedGeneration": 1,
            "resourceTemplateGeneration": int(generation),
            "conditions": [{"type": "Available", "status": "True"}],
        } | status
        identifier = {"ordinal": 0, "version": "v1", "kind": "Deployment", "name": "web"}
        await self.client.patch(
            WORK_DOCUMENTS,
            ObjectKey(work["metadata"]["namespace"], work["metadata"]["name"]),
            {
                "status": {
                    "conditions": [
                        {
                            "type": "Applied",
                            "status": "True",
                            "reason": "AppliedSuccessful",
                            "message": "",
                            "lastTransitionTime": "2026-01-01T00:00:00Z",
                        }
                    ],
                    "manifestStatuses": [
                        {"identifier": identifier, "status": reported, "health": "Healthy"}
                    ],
                }
            },
            subresource="status",
        )

    async def release(self, works: Iterable[Document]) -> None:
        """A member took the objects away."""
        for work in works:
            assert work["metadata"]["finalizers"] == [EXECUTION_FINALIZER]
            assert work["metadata"]["deletionTimestamp"]
            key = ObjectKey(work["metadata"]["namespace"], work["metadata"]["name"])
            await self.client.patch(WORK_DOCUMENTS, key, {"metadata": {"finalizers": None}})


def fleet_story(story: Callable[[Fleet], Awaitable[None]]) -> None:
    async def whole() -> None:
        fleet = Fleet()
        await fleet.start()
        await story(fleet)
        await fleet.server.stop()

    run(whole())


def test_a_deployment_is_spread_over_zones_and_its_configmap_follows() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(CONFIGMAPS, CONFIGMAP)
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(1)
        assert await fleet.divided() == {"alpha": 2, "beta": 2, "gamma": 2}
        scheduled = condition((await fleet.binding()).status.conditions, "Scheduled")
        assert scheduled is not None
        assert (scheduled.status, scheduled.reason) == ("True", "Success")
        for cluster in ZONES:
            (work,) = await fleet.works(cluster, "Deployment")
            assert work["spec"]["workload"]["manifests"][0]["spec"]["replicas"] == 2
            (work,) = await fleet.works(cluster, "ConfigMap")
            assert work["spec"]["workload"]["manifests"][0]["data"] == {"colour": "blue"}

    fleet_story(story)


def test_a_configmap_that_comes_later_follows_too_and_its_change_arrives() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(3))
        await asyncio.sleep(1)
        assert await fleet.works("alpha", "ConfigMap") == []
        await fleet.client.create(CONFIGMAPS, CONFIGMAP)
        await asyncio.sleep(1)
        await fleet.client.patch(
            CONFIGMAPS, ObjectKey("demo", "settings"), {"data": {"colour": "red"}}
        )
        await asyncio.sleep(1)
        for cluster in ZONES:
            (work,) = await fleet.works(cluster, "ConfigMap")
            assert work["spec"]["workload"]["manifests"][0]["data"] == {"colour": "red"}

    fleet_story(story)


def test_statuses_are_summed() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(1)
        for cluster in ("alpha", "beta"):
            await fleet.report_work(cluster)
        await asyncio.sleep(1)
        status = (await fleet.client.get(DEPLOYMENTS, WEB))["status"]
        assert (status["replicas"], status["availableReplicas"]) == (4, 4)
        assert status["unavailableReplicas"] == 2
        assert "observedGeneration" not in status
        await fleet.report_work("gamma")
        await asyncio.sleep(1)
        document = await fleet.client.get(DEPLOYMENTS, WEB)
        status = document["status"]
        assert (status["replicas"], status["availableReplicas"]) == (6, 6)
        assert "unavailableReplicas" not in status
        assert status["observedGeneration"] == document["metadata"]["generation"]
        reasons = {c["type"]: c["reason"] for c in status["conditions"]}
        assert reasons == {
            "Available": "MinimumReplicasAvailable",
            "Progressing": "NewReplicaSetAvailable",
        }
        binding = await fleet.binding()
        assert [i.cluster_name for i in binding.status.aggregated_status] == sorted(ZONES)
        applied = condition(binding.status.conditions, "FullyApplied")
        assert applied is not None
        assert applied.status == "True"

    fleet_story(story)


def test_scaling_by_one_moves_nothing() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(1)
        await fleet.client.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": 7}})
        await asyncio.sleep(1)
        assert await fleet.divided() == {"alpha": 3, "beta": 2, "gamma": 2}
        (work,) = await fleet.works("alpha", "Deployment")
        assert work["spec"]["workload"]["manifests"][0]["spec"]["replicas"] == 3

    fleet_story(story)


def test_a_new_image_reaches_every_work_and_makes_a_revision() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(1)
        change = [
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "whoami:2"}
        ]
        from machinery.client.interface import PatchType

        await fleet.client.patch(DEPLOYMENTS, WEB, change, PatchType.JSON)
        await asyncio.sleep(1)
        for cluster in ZONES:
            (work,) = await fleet.works(cluster, "Deployment")
            manifest = work["spec"]["workload"]["manifests"][0]
            assert manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "whoami:2"
        records = (await fleet.client.list(REPLICASETS, "demo")).items
        revisions = sorted(
            r.metadata.annotations["deployment.kubernetes.io/revision"] for r in records
        )
        assert revisions == ["1", "2"]
        document = await fleet.client.get(DEPLOYMENTS, WEB)
        assert document["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"

    fleet_story(story)


def test_deleting_a_deployment_takes_its_works_along() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(CONFIGMAPS, CONFIGMAP)
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(1)
        await fleet.client.delete(DEPLOYMENTS, WEB, DeleteOptions(propagation_policy="Background"))
        await asyncio.sleep(1)
        for cluster in ZONES:
            await fleet.release(await fleet.works(cluster, "Deployment"))
            await fleet.release(await fleet.works(cluster, "ConfigMap"))
        await asyncio.sleep(1)
        for cluster in ZONES:
            assert await fleet.works(cluster, "Deployment") == []
            assert await fleet.works(cluster, "ConfigMap") == []
        with pytest.raises(NotFound):
            await fleet.binding()

    fleet_story(story)


def test_namespaces_are_everywhere_also_in_members_that_join_late() -> None:
    async def story(fleet: Fleet) -> None:
        for cluster in ZONES:
            (work,) = await fleet.works(cluster, "Namespace")
            assert work["spec"]["workload"]["manifests"][0]["metadata"]["name"] == "demo"
        ZONES_MORE = {"delta": "zone-a"}
        ZONES.update(ZONES_MORE)
        try:
            await fleet.server.admit("delta")
            await fleet.join("delta")
            await asyncio.sleep(1)
            assert len(await fleet.works("delta", "Namespace")) == 1
        finally:
            del ZONES["delta"]

    fleet_story(story)


def test_a_dead_member_is_tainted_its_replicas_move_and_its_works_stay() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        for _ in range(4):
            await fleet.beat("alpha", "beta")
            await asyncio.sleep(2)
        gamma = await fleet.client.get(CLUSTERS, ObjectKey("", "gamma"))
        ready = condition(gamma.status.conditions, READY)
        assert ready is not None
        assert (ready.status, ready.reason) == ("True", "ClusterSuspect")
        for _ in range(3):
            await fleet.beat("alpha", "beta")
            await asyncio.sleep(2)
        gamma = await fleet.client.get(CLUSTERS, ObjectKey("", "gamma"))
        ready = condition(gamma.status.conditions, READY)
        assert ready is not None
        assert ready.status == "Unknown"
        assert [t.key for t in gamma.spec.taints] == ["cluster.karmada.io/unreachable"]
        await asyncio.sleep(0.5)
        assert await fleet.divided() == {"alpha": 3, "beta": 3}
        (left,) = await fleet.works("gamma", "Deployment")
        assert "deletionTimestamp" not in left["metadata"]
        assert left["spec"]["workload"]["manifests"][0]["spec"]["replicas"] == 2
        await fleet.beat("gamma")
        await asyncio.sleep(1)
        gamma = await fleet.client.get(CLUSTERS, ObjectKey("", "gamma"))
        assert gamma.spec.taints == ()

    fleet_story(story)


def test_reports_are_summed_up_together_and_render_no_work_again() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(1)
        assert fleet.server.manager is not None
        written: list[Any] = []
        fleet.server.manager.executor.listen(lambda action, _: written.append(action))
        dispatched = reconciles("dispatcher")
        for cluster in ZONES:
            await fleet.report_work(cluster)
        await asyncio.sleep(1)
        sums = [a for a in written if isinstance(a, SetStatus) and "aggregatedStatus" in a.status]
        assert len(sums) == 1
        assert {i["clusterName"]: i["health"] for i in sums[0].status["aggregatedStatus"]} == {
            name: "Healthy" for name in ZONES
        }
        assert reconciles("dispatcher") == dispatched

    fleet_story(story)


def reconciles(controller: str) -> float:
    """Passes of a controller so far."""
    line = f'controller_runtime_reconcile_total{{controller="{controller}",result="success"}} '
    text = METRICS.render().decode()
    return next((float(x[len(line) :]) for x in text.splitlines() if x.startswith(line)), 0.0)
