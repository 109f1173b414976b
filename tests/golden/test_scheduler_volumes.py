"""Pods with claims: the real scheduler's and volume binder's recorded decisions, and ours on a server of our own.

What a pod's message is, is compared to the letter; ProvisioningFailed and the like are `test_controllers_volumes`' business.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.golden.volumes_replay import CLAIM, CLASS, KINDS, VOLUME
from tests.support.apiserver import running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control import binder
from cluster_agent.control.controllers import volumeprotection
from cluster_agent.control.controllers.persistentvolume import controller as persistentvolume
from machinery.api.local_volumes import SELECTED_NODE
from machinery.client.interface import Client, dynamic
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.kit.ids import SeededIds
from machinery.meta.resource import Document, ObjectKey
from machinery.server.admission.protection import StorageObjectInUseProtection
from machinery.server.app import Extensions

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "scheduler/volumes.jsonl").read_text().splitlines()
]
POD = dynamic("", "v1", "pods", "Pod", namespaced=True)
NODE = dynamic("", "v1", "nodes", "Node", namespaced=False)
RESOURCES = {"Pod": POD, "Node": NODE, "PersistentVolume": VOLUME, "PersistentVolumeClaim": CLAIM}
CLASSES = {"imm": "Immediate", "wait": "WaitForFirstConsumer"}
SETTLE_S = 3.0


async def do(client: Client, clock: LoopClock, op: dict[str, Any]) -> None:
    if op["op"] == "delete":
        resource = RESOURCES[op["kind"]]
        namespace = "default" if resource.namespaced else ""
        await client.delete(resource, ObjectKey(namespace, op["name"]))
        return
    document = json.loads(json.dumps(op["obj"]).replace('"TIME"', json.dumps(rfc3339(clock.now()))))
    resource = RESOURCES[document["kind"]]
    await client.create(resource, document, "default" if resource.namespaced else "")
    if document["kind"] == "Node":
        key = ObjectKey("", document["metadata"]["name"])
        await client.patch(NODE, key, {"status": document["status"]}, subresource="status")


def decision(pod: Document) -> Document:
    """As the recording has it: the node, and the condition when there is none."""
    found = next(c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
    said = [found.get(part) for part in ("status", "reason", "message")]
    return {"node": pod["spec"].get("nodeName"), "PodScheduled": said}


def claim_state(claim: Document) -> Document:
    return {
        "phase": claim["status"]["phase"],
        "volume": claim["spec"].get("volumeName"),
        "selected-node": (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE),
    }


@pytest.mark.looptime
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
async def test_recorded_decisions(case: dict[str, Any]) -> None:
    clock = LoopClock()
    extensions = Extensions(admission=[StorageObjectInUseProtection()])
    async with running_server(
        kinds=KINDS, clock=clock, ids=SeededIds(1), extensions=extensions
    ) as server:
        manager = Manager(server.local, clock, SeededIds(2), component="test")
        persistentvolume.setup(manager, KINDS)
        volumeprotection.setup(manager, KINDS)
        _ = binder.setup(manager, volumes=True)
        await manager.start()
        try:
            for name, mode in CLASSES.items():
                document = {
                    "metadata": {"name": name},
                    "provisioner": "kubernetes.io/no-provisioner",
                    "volumeBindingMode": mode,
                }
                await server.local.create(CLASS, document)
            for step in case["steps"]:
                for op in step["do"]:
                    await do(server.local, clock, op)
                    await clock.sleep(0.2)
                await clock.sleep(SETTLE_S)
                await compare(server.local, step["then"])
        finally:
            await manager.stop()


async def compare(client: Client, then: dict[str, Any]) -> None:
    pods = (await client.list(POD, "default")).items
    found = {one["metadata"]["name"]: one for one in pods}
    for name, recorded in then["decisions"].items():
        ours = decision(found[name])
        assert ours["PodScheduled"] == recorded["PodScheduled"]
        equal = then.get("scores", {}).get(name) or {recorded["node"]: {}}
        assert ours["node"] in equal
    claims = (await client.list(CLAIM, "default")).items
    states = {one["metadata"]["name"]: claim_state(one) for one in claims}
    for name, recorded in then.get("pvcs", {}).items():
        assert states[name] == {"volume": None, **recorded}
