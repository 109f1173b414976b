"""Volumes made of folders, from the claim to the folder's end: scheduler, binder and a node's cleaner on a real server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control import binder
from cluster_agent.control.controllers import volumeprotection
from cluster_agent.control.controllers.persistentvolume import controller as persistentvolume
from cluster_agent.control.controllers.persistentvolume.provision import default_class
from cluster_agent.control.controllers.volumeprotection import CLAIMS, POD_DOCUMENTS, VOLUMES
from cluster_agent.node.volumes.local import LocalVolumes
from machinery.api.kinds import BUILTIN
from machinery.api.local_volumes import FOLDER_FINALIZER, LOCAL_FOLDER, SELECTED_NODE
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.client.interface import Client, DeleteOptions, dynamic
from machinery.controller.manager import Manager
from machinery.kit.ids import SeededIds
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import Forbidden, NotFound
from machinery.meta.resource import Document, ObjectKey
from machinery.server.admission.nodevolumes import NodeVolumes
from machinery.server.admission.protection import StorageObjectInUseProtection
from machinery.server.app import Extensions

pytestmark = pytest.mark.integration
KINDS = (*BUILTIN, *RUN_BY_MEMBERS)
CLASSES = dynamic("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
NODE_DOCUMENTS = dynamic("", "v1", "nodes", "Node", False)
DATA, POD = ObjectKey("default", "data"), ObjectKey("default", "p")
GONE = DeleteOptions(grace_period_seconds=0)


def claim(name: str = "data", **spec: Any) -> Document:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {**wanted, **spec}}


def pod(name: str = "p", node: str = "", claimed: str = "data") -> Document:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": claimed}}]
    spec: Document = {"containers": [{"name": "c", "image": "x"}], "volumes": volumes}
    if node:
        spec["nodeName"] = node
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def add_node(client: Client, name: str, folder: str = "/state/local-volumes") -> None:
    notes = {LOCAL_FOLDER: folder} if folder else {}
    labels = {"kubernetes.io/hostname": name}
    document = {"metadata": {"name": name, "labels": labels, "annotations": notes}}
    await client.create(NODE_DOCUMENTS, document)
    room = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}
    await client.patch(NODE_DOCUMENTS, ObjectKey("", name), {"status": room}, subresource="status")


@asynccontextmanager
async def world(*nodes: str) -> AsyncIterator[tuple[RunningServer, LoopClock]]:
    clock, tasks = LoopClock(), TaskOwner()
    extensions = Extensions(
        admission=[StorageObjectInUseProtection(), NodeVolumes()], bootstrap=[default_class()]
    )
    async with running_server(
        kinds=KINDS, extensions=extensions, clock=clock, ids=SeededIds(1)
    ) as server:
        manager = Manager(server.local, clock, SeededIds(2), component="test")
        persistentvolume.setup(manager, KINDS)
        volumeprotection.setup(manager, KINDS)
        _ = binder.setup(manager, volumes=True)
        await manager.start()
        cleaner = LocalVolumes(server.local, clock, nodes, "/state/local-volumes", hollow=True)
        _ = tasks.spawn(cleaner.run(), "cleaner")
        try:
            yield server, clock
        finally:
            await tasks.close()
            await manager.stop()


async def phase(client: Client, key: ObjectKey = DATA) -> str:
    return str((await client.get(CLAIMS, key))["status"]["phase"])


async def is_gone(get: Callable[[], Any]) -> bool:
    try:
        await get()
    except NotFound:
        return True
    return False


@pytest.mark.looptime
async def test_a_claim_gets_its_volume_with_its_pod_and_both_go_together() -> None:
    async with world("n1") as (server, clock):
        client = server.local
        await add_node(client, "n0", folder="")
        await add_node(client, "n1")
        made = await client.create(CLAIMS, claim())
        assert made["spec"]["storageClassName"] == "local-path", "the default class"
        await clock.sleep(2)
        assert await phase(client) == "Pending"
        await client.create(POD_DOCUMENTS, pod())
        await clock.sleep(2)
        assert (await client.get(POD_DOCUMENTS, POD))["spec"]["nodeName"] == "n1"
        assert await phase(client) == "Bound"
        held = await client.get(CLAIMS, DATA)
        volume = ObjectKey("", held["spec"]["volumeName"])
        found = await client.get(VOLUMES, volume)
        assert found["spec"]["local"]["path"] == f"/state/local-volumes/{volume.name}"
        assert found["status"]["phase"] == "Bound"
        await client.delete(CLAIMS, DATA)
        await clock.sleep(2)
        assert await phase(client) == "Bound", "its pod has it"
        await client.delete(POD_DOCUMENTS, POD, GONE)
        await clock.sleep(2)
        assert await is_gone(lambda: client.get(CLAIMS, DATA))
        assert await is_gone(lambda: client.get(VOLUMES, volume))


@pytest.mark.looptime
async def test_a_second_pod_goes_where_the_volume_is() -> None:
    async with world("n1", "n2") as (server, clock):
        client = server.local
        await add_node(client, "n1")
        await client.create(CLAIMS, claim())
        await client.create(POD_DOCUMENTS, pod())
        await clock.sleep(2)
        await add_node(client, "n2")
        await client.create(POD_DOCUMENTS, pod("q"))
        await clock.sleep(2)
        second = await client.get(POD_DOCUMENTS, ObjectKey("default", "q"))
        assert second["spec"]["nodeName"] == "n1", "the emptier node has not its data"


@pytest.mark.looptime
async def test_a_pod_waits_until_some_node_makes_volumes() -> None:
    async with world("n1") as (server, clock):
        client = server.local
        await add_node(client, "n1", folder="")
        await client.create(CLAIMS, claim())
        await client.create(POD_DOCUMENTS, pod())
        await clock.sleep(2)
        waiting = await client.get(POD_DOCUMENTS, POD)
        (told,) = waiting["status"]["conditions"]
        assert "didn't find available persistent volumes to bind" in told["message"]
        notes = {"metadata": {"annotations": {LOCAL_FOLDER: "/state/local-volumes"}}}
        await client.patch(NODE_DOCUMENTS, ObjectKey("", "n1"), notes)
        await clock.sleep(20)
        assert (await client.get(POD_DOCUMENTS, POD))["spec"]["nodeName"] == "n1"


@pytest.mark.looptime
async def test_a_choice_that_does_not_hold_is_made_anew() -> None:
    """The claim was promised to a node that is no more."""
    async with world("n1") as (server, clock):
        client = server.local
        await add_node(client, "n1")
        document = claim()
        document["metadata"]["annotations"] = {SELECTED_NODE: "n9"}
        await client.create(CLAIMS, document)
        await client.create(POD_DOCUMENTS, pod())
        await clock.sleep(20)
        assert (await client.get(POD_DOCUMENTS, POD))["spec"]["nodeName"] == "n1"
        assert await phase(client) == "Bound"


@pytest.mark.looptime
async def test_a_pod_that_goes_while_it_waits_takes_no_room() -> None:
    """Its class is somebody else's, who makes no volume; the next pod needs all that the node has."""
    async with world("n1") as (server, clock):
        client = server.local
        await add_node(client, "n1")
        foreign = {**default_class(), "provisioner": "csi.example.com", "metadata": {"name": "csi"}}
        await client.create(CLASSES, foreign)
        await client.create(CLAIMS, claim(storageClassName="csi"))
        waits = pod()
        waits["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "4"}}
        await client.create(POD_DOCUMENTS, waits)
        await clock.sleep(2)
        held = await client.get(CLAIMS, DATA)
        assert held["metadata"]["annotations"][SELECTED_NODE] == "n1"
        assert not (await client.get(POD_DOCUMENTS, POD))["spec"].get("nodeName")
        await client.delete(POD_DOCUMENTS, POD, GONE)
        await client.create(CLAIMS, claim("other"))
        after = pod("q", claimed="other")
        after["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "4"}}
        await client.create(POD_DOCUMENTS, after)
        await clock.sleep(20)
        second = await client.get(POD_DOCUMENTS, ObjectKey("default", "q"))
        assert second["spec"]["nodeName"] == "n1"


@pytest.mark.looptime
async def test_the_folder_of_a_lost_node_holds_nothing_up() -> None:
    async with world() as (server, clock):
        client = server.local
        await add_node(client, "n1")
        await client.create(CLAIMS, claim())
        await client.create(POD_DOCUMENTS, pod())
        await clock.sleep(2)
        volume = ObjectKey("", (await client.get(CLAIMS, DATA))["spec"]["volumeName"])
        await client.delete(POD_DOCUMENTS, POD, GONE)
        await client.delete(CLAIMS, DATA)
        await clock.sleep(2)
        waiting = await client.get(VOLUMES, volume)
        assert waiting["metadata"]["finalizers"] == [FOLDER_FINALIZER], (
            "the node has its part to do"
        )
        await client.delete(NODE_DOCUMENTS, ObjectKey("", "n1"))
        await clock.sleep(2)
        assert await is_gone(lambda: client.get(VOLUMES, volume))


@pytest.mark.looptime
async def test_a_node_has_its_hands_tied() -> None:
    async with world() as (server, clock):
        client = server.local
        for name in ("n1", "n2"):
            await add_node(client, name)
            await client.create(CLAIMS, claim(f"of-{name}"))
            await client.create(POD_DOCUMENTS, pod(f"of-{name}", claimed=f"of-{name}"))
            await clock.sleep(2)
        node = server.rest_as("system:node:n1", ["system:nodes"])
        assert await phase(node, ObjectKey("default", "of-n1")) == "Bound"
        with pytest.raises(Forbidden):
            await node.get(CLAIMS, ObjectKey("default", "of-n2"))
        held = {}
        for name in ("n1", "n2"):
            found = await client.get(CLAIMS, ObjectKey("default", f"of-{name}"))
            held[name] = ObjectKey("", found["spec"]["volumeName"])
        free = {"metadata": {"finalizers": []}}
        keep = {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}
        for body in (free, keep, {"metadata": {"labels": {"a": "b"}}}):
            with pytest.raises(Forbidden, match="can only take its finalizer"):
                await node.patch(VOLUMES, held["n1"], body)
        for name in ("n1", "n2"):
            await client.delete(POD_DOCUMENTS, ObjectKey("default", f"of-{name}"), GONE)
            await client.delete(CLAIMS, ObjectKey("default", f"of-{name}"))
        await clock.sleep(2)
        with pytest.raises(Forbidden, match="can only take its finalizer"):
            await node.patch(VOLUMES, held["n2"], free)
        with pytest.raises(Forbidden):
            await node.delete(VOLUMES, held["n1"])
        await node.patch(VOLUMES, held["n1"], free)
        assert await is_gone(lambda: client.get(VOLUMES, held["n1"]))
