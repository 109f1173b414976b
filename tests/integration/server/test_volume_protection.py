"""Storage that is used does not go: finalizers from the beginning, taken away when nobody uses what was deleted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.apiserver import running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers import volumeprotection
from cluster_agent.control.controllers.volumeprotection import (
    CLAIMS,
    CLASSES,
    POD_DOCUMENTS,
    VOLUMES,
    has_claim,
    names_class,
)
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.client.interface import Client, DeleteOptions, PatchType
from machinery.controller.manager import Manager
from machinery.kit.ids import SeededIds
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server.admission.protection import StorageObjectInUseProtection
from machinery.server.app import Extensions

pytestmark = pytest.mark.integration
KINDS = (*BUILTIN, *TEMPLATE_KINDS)
EXTENSIONS = Extensions(admission=[StorageObjectInUseProtection()])
DATA, DISK, FAST = ObjectKey("default", "data"), ObjectKey("", "disk"), ObjectKey("", "fast")


def claim(**spec: Any) -> Document:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {**wanted, **spec},
    }


VOLUME = {
    "apiVersion": "v1",
    "kind": "PersistentVolume",
    "metadata": {"name": "disk"},
    "spec": {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/d"},
    },
}
CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "VolumeAttributesClass",
    "metadata": {"name": "fast"},
    "driverName": "csi.example.com",
    "parameters": {"iops": "9"},
}


def pod(name: str, node: str = "n1") -> Document:
    spec = {
        "nodeName": node,
        "containers": [{"name": "c", "image": "x"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@asynccontextmanager
async def world(extensions: Extensions = EXTENSIONS) -> AsyncIterator[tuple[Client, LoopClock]]:
    clock = LoopClock()
    async with running_server(
        kinds=KINDS, extensions=extensions, clock=clock, ids=SeededIds(1)
    ) as server:
        manager = Manager(server.local, clock, SeededIds(2), component="test")
        volumeprotection.setup(manager, KINDS)
        await manager.start()
        try:
            yield server.local, clock
        finally:
            await manager.stop()


async def is_there(client: Client, resource: Resource[Document], key: ObjectKey) -> bool:
    try:
        await client.get(resource, key)
    except NotFound:
        return False
    return True


@pytest.mark.looptime
async def test_a_claim_stays_while_a_pod_has_it() -> None:
    async with world() as (client, clock):
        made = await client.create(CLAIMS, claim())
        assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
        await client.create(POD_DOCUMENTS, pod("a"))
        await clock.sleep(1)
        await client.delete(CLAIMS, DATA)
        await clock.sleep(60)
        assert await is_there(client, CLAIMS, DATA)
        gone = DeleteOptions(grace_period_seconds=0)
        await client.delete(POD_DOCUMENTS, ObjectKey("default", "a"), gone)
        await clock.sleep(1)
        assert not await is_there(client, CLAIMS, DATA)


@pytest.mark.looptime
async def test_a_volume_stays_while_it_is_bound() -> None:
    async with world() as (client, clock):
        made = await client.create(VOLUMES, VOLUME)
        assert made["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
        for phase in ("Bound", "Released"):
            status = {"status": {"phase": phase}}
            await client.patch(VOLUMES, DISK, status, PatchType.MERGE, subresource="status")
            await client.delete(VOLUMES, DISK)
            await clock.sleep(1)
            assert await is_there(client, VOLUMES, DISK) is (phase == "Bound")


@pytest.mark.looptime
async def test_a_class_stays_while_a_claim_names_it() -> None:
    async with world() as (client, clock):
        made = await client.create(CLASSES, CLASS)
        assert made["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
        await client.create(CLAIMS, claim(volumeAttributesClassName="fast"))
        await client.delete(CLASSES, FAST)
        await clock.sleep(1)
        assert await is_there(client, CLASSES, FAST)
        await client.delete(CLAIMS, DATA)
        await clock.sleep(1)
        assert not await is_there(client, CLASSES, FAST)


@pytest.mark.looptime
async def test_one_that_is_older_is_held_too() -> None:
    async with world(Extensions()) as (client, clock):
        await client.create(CLAIMS, claim())
        await clock.sleep(1)
        held = await client.get(CLAIMS, DATA)
        assert held["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
        await client.delete(CLAIMS, DATA)
        await clock.sleep(1)
        assert not await is_there(client, CLAIMS, DATA)


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], False),
        ([pod("a")], True),
        ([pod("a", node="")], False),
    ],
)
def test_who_has_a_claim(pods: list[Document], expected: bool) -> None:
    assert has_claim(pods, "data") is expected


def test_a_volume_of_a_pods_own() -> None:
    made = {"nodeName": "n", "volumes": [{"name": "data", "ephemeral": {}}]}
    assert has_claim([{"metadata": {"name": "web"}, "spec": made}], "web-data")


@pytest.mark.parametrize(
    "user",
    [
        {"spec": {"volumeAttributesClassName": "fast"}},
        {"status": {"currentVolumeAttributesClassName": "fast"}},
        {"status": {"modifyVolumeStatus": {"targetVolumeAttributesClassName": "fast"}}},
    ],
)
def test_who_names_a_class(user: Document) -> None:
    assert names_class([user], "fast")
    assert not names_class([user], "slow")
