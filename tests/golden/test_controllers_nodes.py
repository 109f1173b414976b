"""Node lifecycle, taint eviction and pod collection: the real controllers' transcripts, in virtual time.

A recording is a timeline; what is compared is where each node and pod stands at the end of a step, and what was told.
DIFFERENCES.md says what differs on purpose.
"""

import asyncio
import json
import re
from collections import Counter
from typing import Any

import pytest
from tests.golden.controllers_replay import EVENT, PATCHES, RESOURCES, kubelet_status, transcripts
from tests.support.apiserver import running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers import podgc, tainteviction
from cluster_agent.control.controllers.nodelifecycle import controller as nodelifecycle
from cluster_agent.control.controllers.nodelifecycle.controller import LifecycleConfig
from cluster_agent.control.controllers.nodelifecycle.zones import Pace
from cluster_agent.control.controllers.podgc import PodGCConfig
from machinery.client.interface import Client, DeleteOptions, PatchType
from machinery.controller.manager import Manager
from machinery.kit.clock import Clock, rfc3339, rfc3339_micro
from machinery.kit.ids import SeededIds
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey

LEASE_NAMESPACE = "kube-node-lease"
NS = "recorded"
DELIBERATE = {
    "node-zone-partial-3of4": "no node is emptied before its zone is known to be disrupted",
    "node-zone-all": "no node is emptied before its zone is known to be disrupted",
    "node-out-of-service": "the only node of the cluster is not emptied: nothing else is ready",
    "node-podgc": "ended pods of other recordings pushed this one's over the threshold",
}
NODE, POD, LEASE = RESOURCES["Node"], RESOURCES["Pod"], RESOURCES["Lease"]


class Fleet:
    """Kubelets that renew their Leases, and one transcript's steps."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.client, self.clock = client, clock
        self.silent: set[str] = set()
        self.told: Counter[str] = Counter()
        self.expected: dict[str, Any] = {}

    async def renew(self) -> None:
        while True:
            for node in (await self.client.list(NODE)).items:
                name = node["metadata"]["name"]
                if name not in self.silent:
                    await self._renew(name)
            await asyncio.sleep(1)

    async def _renew(self, name: str) -> None:
        spec = {"holderIdentity": name, "renewTime": rfc3339_micro(self.clock.now())}
        try:
            key = ObjectKey(LEASE_NAMESPACE, name)
            await self.client.patch(LEASE, key, {"spec": spec}, PatchType.MERGE)
        except NotFound:
            metadata = {"name": name, "namespace": LEASE_NAMESPACE}
            document = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": metadata,
                "spec": spec,
            }
            await self.client.create(LEASE, document, LEASE_NAMESPACE)

    async def play(self, transcript: dict[str, Any]) -> list[str]:
        """The differences, step by step."""
        found: list[str] = []
        for index, step in enumerate(transcript["steps"]):
            for op in step["do"]:
                await self._do(op)
            await asyncio.sleep(0.2)
            for change in step["then"]["timeline"]:
                self.expected |= {k: v for k, v in change.items() if k != "about_s"}
            ours = await self._state()
            for name, wanted in self.expected.items():
                mine = ours.get(name, "removed")
                if _same(mine) != _same(wanted):
                    found.append(f"step {index} {name}\n  recorded {wanted}\n  ours     {mine}")
            fresh = await self._events()
            recorded = Counter(e.rpartition(" | x")[0] for e in step["then"]["events"])
            if fresh != recorded:
                difference = (dict(recorded - fresh), dict(fresh - recorded))
                found.append(f"step {index} events {difference}")
        return found

    async def _do(self, op: dict[str, Any]) -> None:
        match op.get("op"):
            case None:
                await asyncio.sleep(op.get("seconds", 0))
            case "create":
                await self._create(op["obj"])
            case "patch":
                body = json.loads(json.dumps(op["body"]).replace("TIME", rfc3339(self.clock.now())))
                key = ObjectKey("" if op["kind"] == "Node" else NS, op["name"].lower())
                part = op.get("subresource", "")
                kind = RESOURCES[op["kind"]]
                await self.client.patch(kind, key, body, PATCHES[op["type"]], subresource=part)
            case "delete":
                key = ObjectKey("" if op["kind"] == "Node" else NS, op["name"].lower())
                options = DeleteOptions(grace_period_seconds=op.get("gracePeriodSeconds"))
                await self.client.delete(RESOURCES[op["kind"]], key, options)
            case "kubelet":
                status = {"status": kubelet_status(op, self.clock.now())}
                key = ObjectKey(NS, op["pod"])
                await self.client.patch(POD, key, status, PatchType.STRATEGIC, subresource="status")
            case "lease-stops":
                self.silent |= {name.lower() for name in op["nodes"]}
            case "lease-resumes":
                self.silent.discard(op["node"].lower())
            case other:
                pytest.fail(f"unknown operation {other}")

    async def _create(self, obj: dict[str, Any]) -> None:
        text = json.dumps(obj).replace("TIME", rfc3339(self.clock.now()))
        document = json.loads(text.replace('"NS-', '"ns-'))
        if obj["kind"] == "Node":
            await self._renew(document["metadata"]["name"])
            await self.client.create(NODE, document)
            return
        document["metadata"]["namespace"] = NS
        await self.client.create(POD, document, NS)
        if document["spec"].get("nodeName"):
            status = kubelet_status(
                {"phase": "Running", "ready": True, "since": 60}, self.clock.now()
            )
            key = ObjectKey(NS, document["metadata"]["name"])
            await self.client.patch(
                POD, key, {"status": status}, PatchType.STRATEGIC, subresource="status"
            )

    async def _state(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for node in (await self.client.list(NODE)).items:
            name = node["metadata"]["name"].replace("ns-", "NS-")
            told[f"node/{name}"] = {
                "taints": sorted(
                    f"{t['key']}={t.get('value', '')}:{t['effect']}"
                    for t in node["spec"].get("taints") or ()
                ),
                "conditions": sorted(
                    f"{c['type']} | {c['status']} | {c['reason']} | {c['message']}"
                    for c in node["status"]["conditions"]
                ),
            }
            if node["spec"].get("unschedulable"):
                told[f"node/{name}"]["unschedulable"] = True
        for pod in (await self.client.list(POD, NS)).items:
            told[f"pod/{pod['metadata']['name']}"] = _pod(pod)
        return told

    async def _events(self) -> Counter[str]:
        now: Counter[str] = Counter()
        for event in (await self.client.list(EVENT)).items:
            about = event["involvedObject"]
            if event["reason"] == "EvictionsPaused" or about["kind"] not in ("Node", "Pod"):
                continue
            words = (f"{about['kind']}/{about['name']}", event["type"], event["reason"])
            text = " | ".join((*words, event["message"]))
            now[text.replace("ns-", "NS-").replace(f"{NS}/", "NS/")] += event["count"]
        fresh = now - self.told
        self.told = now
        return Counter(fresh.keys())


def _same(state: Any) -> Any:
    """A pod that a kubelet has not reported yet may be told either way; who saw it last does not matter."""
    return "gone" if state in ("removed", "absent") else state


def _pod(pod: Document) -> str:
    conditions = {c["type"]: c for c in pod["status"].get("conditions") or ()}
    ready = conditions.get("Ready", {}).get("status", "-")
    words = [f"{pod['status']['phase']} Ready={ready}"]
    if pod["metadata"].get("deletionTimestamp"):
        words.append("terminating")
    if target := conditions.get("DisruptionTarget"):
        words.append(f"DisruptionTarget({target['status']},{target['reason']},{target['message']})")
    return " ".join(words)


@pytest.mark.looptime
@pytest.mark.timeout(120)
@pytest.mark.parametrize("transcript", list(transcripts("node")), ids=lambda t: t["id"])
async def test_transcript(transcript: dict[str, Any]) -> None:
    """With the recorder's flags: monitor 1 s, grace 7 s, startup grace 8 s, one eviction a second, threshold 3."""
    clock = LoopClock()
    config = LifecycleConfig(1.0, 7.0, 8.0, Pace(rate_per_s=1.0))
    async with running_server(clock=clock, ids=SeededIds(1)) as server:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}}
        await server.local.create(RESOURCES["Namespace"], namespace)
        manager = Manager(server.local, clock, SeededIds(2), component="test")
        nodelifecycle.setup(manager, config)
        tainteviction.setup(manager)
        podgc.setup(manager, PodGCConfig(terminated_max=3))
        await manager.start()
        fleet = Fleet(server.local, clock)
        task = asyncio.ensure_future(fleet.renew())
        try:
            found = await fleet.play(transcript)
        finally:
            task.cancel()
            await manager.stop()
    if transcript["id"] in DELIBERATE:
        evictions = [f for f in found if not re.search(r"NoExecute|TaintManager|orphan", f)]
        assert not evictions, "\n".join(evictions)
    else:
        assert not found, "\n".join(found)
