"""StatefulSet and DaemonSet controllers against a real API server in virtual time: claims, refusals, names that are taken, back-off."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.apiserver import running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers.daemonset import controller as daemonset
from cluster_agent.control.controllers.sets import STATEFULSETS
from cluster_agent.control.controllers.statefulset import controller as statefulset
from machinery.api.core import NODES, PODS, Pod
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import ServedKind
from machinery.api.template_kinds import RUN_BY_MEMBERS, TEMPLATE_KINDS
from machinery.client.interface import Client, DeleteOptions, PatchType, dynamic
from machinery.controller.manager import Manager
from machinery.controllers.garbagecollector import controller as garbage
from machinery.kit.ids import SeededIds
from machinery.meta.resource import Document, ObjectKey

pytestmark = [pytest.mark.integration, pytest.mark.looptime]
SET = dynamic("apps", "v1", "statefulsets", "StatefulSet", namespaced=True)
DAEMON = dynamic("apps", "v1", "daemonsets", "DaemonSet", namespaced=True)
CLAIM = dynamic("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", namespaced=True)
REVISION = dynamic("apps", "v1", "controllerrevisions", "ControllerRevision", namespaced=True)
EVENT = dynamic("", "v1", "events", "Event", namespaced=True)
NAMESPACE = dynamic("", "v1", "namespaces", "Namespace", namespaced=False)
ALL = (*BUILTIN, *TEMPLATE_KINDS)
MEMBER = tuple(k for k in (*BUILTIN, *RUN_BY_MEMBERS) if k.kind != "PersistentVolumeClaim")
QUIET_S = 2.0


class World:
    """The API with both controllers, and a kubelet that says what a test wants."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def quiet(self) -> None:
        await asyncio.sleep(QUIET_S)

    async def pods(self) -> dict[str, Pod]:
        return {pod.metadata.name: pod for pod in (await self.client.list(PODS, "demo")).items}

    async def names(self, resource: Any) -> list[str]:
        found = (await self.client.list(resource, "demo")).items
        return sorted(one["metadata"]["name"] for one in found)

    async def say(self, name: str, phase: str = "Running") -> None:
        ready = "True" if phase == "Running" else "False"
        status = {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}
        await self.client.patch(
            PODS, ObjectKey("demo", name), {"status": status}, PatchType.MERGE, subresource="status"
        )

    async def run(self, *names: str) -> None:
        """Make pods ready, one after the other, as they come."""
        for name in names:
            await self.quiet()
            await self.say(name)
        await self.quiet()

    async def words(self, reason: str) -> list[str]:
        found = (await self.client.list(EVENT, "demo")).items
        return sorted(one["message"] for one in found if one["reason"] == reason)


@asynccontextmanager
async def world(kinds: Sequence[ServedKind] = ALL) -> AsyncIterator[World]:
    clock = LoopClock()
    async with running_server(clock=clock, ids=SeededIds(1), kinds=kinds) as server:
        manager = Manager(server.local, clock, SeededIds(2), component="test")
        statefulset.setup(manager, kinds)
        daemonset.setup(manager)
        garbage.setup(manager, kinds, (PODS, NODES))
        await manager.start()
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await server.local.create(NAMESPACE, document)
        try:
            yield World(server.local)
        finally:
            await manager.stop()


def workload(kind: str, image: str = "img:1", **spec: Any) -> Document:
    labels = {"app": "w"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "w", "namespace": "demo"},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def claiming(**keep: str) -> Document:
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    return workload(
        "StatefulSet",
        replicas=2,
        serviceName="w",
        volumeClaimTemplates=[claim],
        persistentVolumeClaimRetentionPolicy=keep,
    )


@pytest.mark.parametrize(
    ("deleted", "scaled", "when_small", "at_the_end"),
    [
        ("Retain", "Retain", ["data-w-0", "data-w-1"], ["data-w-0", "data-w-1"]),
        ("Retain", "Delete", ["data-w-0"], ["data-w-0", "data-w-1"]),
        ("Delete", "Retain", ["data-w-0", "data-w-1"], []),
        ("Delete", "Delete", ["data-w-0"], []),
    ],
)
async def test_claims_go_as_the_policy_says(
    deleted: str, scaled: str, when_small: list[str], at_the_end: list[str]
) -> None:
    async with world() as w:
        await w.client.create(SET, claiming(whenDeleted=deleted, whenScaled=scaled))
        await w.run("w-0", "w-1")
        key = ObjectKey("demo", "w")
        await w.client.patch(SET, key, {"spec": {"replicas": 1}}, PatchType.MERGE)
        await w.quiet()
        assert sorted(await w.pods()) == ["w-0"]
        assert await w.names(CLAIM) == when_small
        await w.client.patch(SET, key, {"spec": {"replicas": 2}}, PatchType.MERGE)
        await w.run("w-1")
        assert sorted(await w.pods()) == ["w-0", "w-1"]
        await w.client.delete(SET, key, DeleteOptions(propagation_policy="Background"))
        await w.quiet()
        assert await w.pods() == {}
        assert await w.names(CLAIM) == at_the_end


async def test_a_member_without_claims_says_so_and_makes_no_pod() -> None:
    async with world(MEMBER) as w:
        await w.client.create(SET, claiming())
        await w.quiet()
        assert await w.pods() == {}
        (word,) = await w.words("FailedCreate")
        assert word.startswith("Create Claim data-w-0 for Pod w-0 in StatefulSet w failed error: ")
        status = (await w.client.get(SET, ObjectKey("demo", "w")))["status"]
        assert status["replicas"] == 0


async def test_a_revision_whose_name_is_taken_gets_another() -> None:
    async with world() as w:
        document, key = workload("StatefulSet", replicas=1, serviceName="w"), ObjectKey("demo", "w")
        await w.client.create(SET, document)
        await w.quiet()
        (name,) = await w.names(REVISION)
        await w.client.delete(SET, key, DeleteOptions(propagation_policy="Background"))
        await w.quiet()
        assert await w.names(REVISION) == []
        other = {"metadata": {"name": name}, "data": {"other": True}, "revision": 1}
        await w.client.create(
            REVISION, {"apiVersion": "apps/v1", "kind": "ControllerRevision", **other}, "demo"
        )
        await w.client.create(SET, document)
        await w.quiet()
        live = await w.client.get(STATEFULSETS, key)
        assert live.status.collision_count == 1
        assert live.status.update_revision not in ("", name)
        assert sorted(await w.pods()) == ["w-0"]


async def test_an_update_on_delete_waits_for_the_user() -> None:
    async with world() as w:
        strategy = {"type": "OnDelete"}
        document = workload("StatefulSet", replicas=2, serviceName="w", updateStrategy=strategy)
        await w.client.create(SET, document)
        await w.run("w-0", "w-1")
        key = ObjectKey("demo", "w")
        await w.client.patch(SET, key, workload("StatefulSet", "img:2"), PatchType.STRATEGIC)
        await w.quiet()
        assert await _images(w) == ["img:1", "img:1"]
        await w.client.delete(PODS, ObjectKey("demo", "w-0"), DeleteOptions(grace_period_seconds=0))
        await w.run("w-0")
        assert await _images(w) == ["img:2", "img:1"]
        live = await w.client.get(STATEFULSETS, key)
        assert live.status.current_revision != live.status.update_revision


async def _images(w: World) -> list[str]:
    return [pod.spec.containers[0].image for _, pod in sorted((await w.pods()).items())]


async def node(w: World, name: str) -> None:
    document = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    await w.client.create(NODES, document)


async def until_changed(
    look: Callable[[], Awaitable[dict[str, Pod]]], before: set[str]
) -> tuple[str, float]:
    """The pod that is new, and when it came."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(120):
        while True:
            if fresh := (await look()).keys() - before:
                return fresh.pop(), loop.time()
            await asyncio.sleep(0.1)


async def test_a_node_where_daemons_fail_waits_longer_each_time() -> None:
    async with world() as w:
        await node(w, "n1")
        await w.client.create(DAEMON, workload("DaemonSet"))
        seen: set[str] = set()
        times = []
        for _ in range(6):
            name, at = await until_changed(w.pods, seen)
            seen.add(name)
            times.append(at)
            await w.say(name, "Failed")
        waits = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
        assert waits[0] < 1
        assert [round(wait) for wait in waits[1:]] == [1, 2, 4, 8]
        words = await w.words("FailedDaemonPod")
        assert words and all("on node n1, will try to kill it" in word for word in words)


async def test_a_daemon_set_that_is_updated_on_delete() -> None:
    async with world() as w:
        for name in ("n1", "n2"):
            await node(w, name)
        strategy = {"type": "OnDelete"}
        await w.client.create(DAEMON, workload("DaemonSet", updateStrategy=strategy))
        await w.quiet()
        first = await w.pods()
        await w.run(*first)
        key = ObjectKey("demo", "w")
        await w.client.patch(DAEMON, key, workload("DaemonSet", "img:2"), PatchType.STRATEGIC)
        await w.quiet()
        assert await _images(w) == ["img:1", "img:1"]
        gone = sorted(first)[0]
        await w.client.delete(PODS, ObjectKey("demo", gone), DeleteOptions(grace_period_seconds=0))
        await w.quiet()
        assert sorted(await _images(w)) == ["img:1", "img:2"]
        status = (await w.client.get(DAEMON, key))["status"]
        assert status["updatedNumberScheduled"] == 1
        assert len(await w.names(REVISION)) == 2
