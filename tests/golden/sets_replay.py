"""Plays the recorded transcripts of StatefulSets and DaemonSets, with what these have beside Deployments.

Pods of a StatefulSet keep their names. Pods of a DaemonSet are told apart by their node; of nodes that are equal to the
controller the real one takes any, so recorded nodes stand for ours of the same labels and taints, found anew in each state.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.golden.controllers_replay import (
    POD,
    RESOURCES,
    Difference,
    QuotaClient,
    Replay,
    StandIn,
    bind,
)
from tests.golden.told_events import FOLDED

from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.client.interface import Client, dynamic
from machinery.kit.clock import Clock, rfc3339
from machinery.meta.errors import Conflict, NotFound
from machinery.meta.resource import Document, ObjectKey

KINDS = (*BUILTIN, *TEMPLATE_KINDS)
SET, DAEMON = (
    dynamic("apps", "v1", "statefulsets", "StatefulSet", namespaced=True),
    dynamic("apps", "v1", "daemonsets", "DaemonSet", namespaced=True),
)
CLAIM = dynamic("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", namespaced=True)
REVISION = dynamic("apps", "v1", "controllerrevisions", "ControllerRevision", namespaced=True)
NODE = dynamic("", "v1", "nodes", "Node", namespaced=False)
ALL = {**RESOURCES, "StatefulSet": SET, "DaemonSet": DAEMON, "Node": NODE}


class DaemonStandIn(StandIn):
    """A scheduler that binds a daemon pod to the node that its affinity names."""

    async def _tend(self, pod: Document) -> None:
        term = _named_node(pod)
        if not term or pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
            await super()._tend(pod)
            return
        try:
            await bind(self._client, ObjectKey(self._namespace, pod["metadata"]["name"]), term)
        except (NotFound, Conflict):
            return


def _named_node(pod: Document) -> str:
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for one in term.get("matchFields") or ():
            return str(one["values"][0])
    return ""


class SetsReplay(Replay):
    """One transcript in one namespace."""

    SPEAKERS = ("StatefulSet", "DaemonSet")
    STAND_IN = DaemonStandIn

    def __init__(
        self, client: Client, transcript: dict[str, Any], quotas: QuotaClient, clock: Clock
    ) -> None:
        super().__init__(client, transcript, quotas, clock)
        text = re.sub(r"\bNS\b", self.namespace, json.dumps(transcript["steps"]))
        steps = [{**step, "do": step["do"] or [{"say": "a wait"}]} for step in json.loads(text)]
        self.transcript = {**transcript, "steps": steps}
        self.words = {w for w in ("image", "labels", "owner") if f"{w}=" in text}
        self.with_hash = " controller-revision-hash=" in text
        self.with_nodes = " node=" in text
        self.revisions: dict[str, str] = {}
        """ours -> recorded"""
        self.nodes: dict[str, str] = {}
        """recorded -> ours"""

    # ------------------------------------------------------------------------------------------------- doing
    async def _op_create(self, op: dict[str, Any]) -> None:
        text = json.dumps(op["obj"]).replace('"TIME"', json.dumps(rfc3339(self.clock.now())))
        obj = json.loads(text)
        if obj["kind"] == "Node":
            name = obj["metadata"]["name"]
            self.nodes[name] = name
            await self.client.create(NODE, obj)
            return
        await self.client.create(ALL[obj["kind"]], obj, self.namespace)

    async def _op_patch(self, op: dict[str, Any]) -> None:
        RESOURCES.setdefault(op["kind"], ALL[op["kind"]])
        await super()._op_patch(op)

    async def _op_delete(self, op: dict[str, Any]) -> None:
        RESOURCES.setdefault(op["kind"], ALL[op["kind"]])
        await super()._op_delete(op)

    def _key(self, kind: str, name: str) -> ObjectKey:
        if kind == "Node":
            return ObjectKey("", self.nodes.get(name, name))
        return super()._key(kind, name)

    # ----------------------------------------------------------------------------------------------- looking
    async def _look(self) -> None:
        for name, _ in await self._named(DAEMON):
            self.names.sets[name] = name
        await super()._look()
        revisions = (await self.client.list(REVISION, self.namespace)).items
        for one in sorted(revisions, key=lambda d: int(d["metadata"]["resourceVersion"])):
            name = one["metadata"]["name"]
            if name not in self.revisions:
                owner = name.rpartition("-")[0]
                self.revisions[name] = f"{owner}-REV{len(self.revisions) + 1}"

    async def _compare(self, index: int, then: dict[str, Any]) -> list[Difference]:
        await self._look()
        pods = (await self.client.list(POD, self.namespace)).items
        recorded_pods = then.get("pods", {})
        if self.with_nodes:
            await self._match_nodes(recorded_pods, pods)
        ours: dict[str, Any] = {
            "statefulsets": {n: self._set(d) for n, d in await self._named(SET)},
            "daemonsets": {n: self._set(d) for n, d in await self._named(DAEMON)},
            "pvcs": {n: d["status"]["phase"] for n, d in await self._named(CLAIM)},
            "controllerrevisions": {
                self.revisions[n]: d["revision"] for n, d in await self._named(REVISION)
            },
            "pods": self._pods(pods),
        }
        groups: dict[str, Counter[str]] = {}
        for name, state in recorded_pods.items():
            groups.setdefault(self._recorded_group(name), Counter())[self._recorded(state)] += 1
        recorded = {
            **{kind: then.get(kind, {}) for kind in ours},
            "pvcs": {n: d["phase"] for n, d in then.get("pvcs", {}).items()},
            "pods": groups,
        }
        self._match(recorded_pods, pods)
        return [
            Difference(index, kind, recorded[kind], ours[kind])
            for kind in ours
            if recorded[kind] != ours[kind]
        ]

    async def _named(self, resource: Any) -> list[tuple[str, Document]]:
        items = (await self.client.list(resource, self.namespace)).items
        return [(d["metadata"]["name"], d) for d in items]

    def _set(self, document: Document) -> Document:
        status = {k: v for k, v in document["status"].items() if k != "observedGeneration"}
        for key in ("currentRevision", "updateRevision"):
            if key in status:
                status[key] = self.revisions.get(status[key], status[key])
        told: Document = {"status": status}
        if "replicas" in document["spec"]:
            told["replicas"] = document["spec"]["replicas"]
        return told

    def _recorded_group(self, name: str) -> str:
        return name if self.transcript["kind"] == "statefulset" else name.rpartition("-p")[0]

    def _recorded(self, state: str) -> str:
        """A recorded state, its node as it is called here."""
        state = re.sub(r" PodScheduled\(.*?\)$", "", state)
        return re.sub(r"node=(\S+)", lambda m: f"node={self.nodes.get(m[1], m[1])}", state)

    def _pod(self, pod: Document) -> str:
        meta, spec = pod["metadata"], pod["spec"]
        self.with_owner = False
        words = [super()._pod(pod)]
        if "owner" in self.words:
            owners = [o for o in meta.get("ownerReferences") or () if o.get("controller")]
            words.append(
                f"owner={owners[0]['kind']}/{owners[0]['name']}" if owners else "owner=none"
            )
        if self.with_nodes and spec.get("nodeName"):
            words.append(f"node={spec['nodeName']}")
        labels = dict(meta.get("labels") or {})
        key = "controller-revision-hash"
        if key in labels:
            labels[key] = self.revisions.get(labels[key], labels[key])
        if "labels" in self.words:
            words.append(f"labels={json.dumps(labels, sort_keys=True)}")
        elif self.with_hash:
            words.append(f"{key}={labels.get(key)}")
        if "image" in self.words:
            words.append(f"image={spec['containers'][0]['image']}")
        return " ".join(words)

    def _match(self, recorded: Any, pods: Any) -> None:
        if self.transcript["kind"] == "daemonset":
            super()._match({name: self._recorded(state) for name, state in recorded.items()}, pods)

    async def _match_nodes(self, recorded: dict[str, str], pods: Iterable[Document]) -> None:
        """Let each recorded node stand for one of ours that holds the same pods and looks the same."""
        looks = {n: self._looks(d) for n, d in await self._named_nodes()}
        here = {
            name: self._held((self._pod(p), p["spec"].get("nodeName")) for p in pods)[name]
            for name in looks
        }
        there = self._held((state, _node(state)) for state in recorded.values())
        pairs = {
            rec: mine
            for rec, mine in self.nodes.items()
            if mine in looks and there[rec] == here[mine]
        }
        free = [name for name in looks if name not in pairs.values()]
        for rec in self.nodes:
            if rec in pairs:
                continue
            kin = [n for n in free if looks[n] == looks.get(self.nodes[rec])]
            same = [n for n in kin if here[n] == there[rec]] or kin
            if same:
                pairs[rec] = same[0]
                free.remove(same[0])
        self.nodes = {rec: pairs.get(rec, mine) for rec, mine in self.nodes.items()}

    async def _named_nodes(self) -> list[tuple[str, Document]]:
        items = (await self.client.list(NODE)).items
        mine = set(self.nodes.values())
        return [(d["metadata"]["name"], d) for d in items if d["metadata"]["name"] in mine]

    @staticmethod
    def _looks(node: Document) -> str:
        labels = dict(node["metadata"].get("labels") or {})
        _ = labels.pop("kubernetes.io/hostname", None)
        return json.dumps([labels, node["spec"].get("taints")], sort_keys=True)

    @staticmethod
    def _held(states: Iterable[tuple[str, str | None]]) -> dict[str, Counter[str]]:
        held: dict[str, Counter[str]] = {}
        for state, node in states:
            words = re.sub(r" node=\S+", "", state)
            held.setdefault(node or "", Counter())[words] += 1

        class Held(dict[str, Counter[str]]):
            def __missing__(self, _: str) -> Counter[str]:
                return Counter()

        return Held(held)

    def _our_event(self, text: str) -> str:
        return self._recorded_event(text)

    def _recorded_event(self, text: str) -> str:
        """A DaemonSet's pods and nodes without their names, which are not the same here; what was folded is unfolded."""
        text = text.replace(FOLDED, "")
        if text.startswith("StatefulSet/"):
            return text
        text = re.sub(r"on node \S+,", "on node N,", text)
        return re.sub(r"\ba-(p\d+|[a-z0-9]{5})\b", "a-p", text)

    def _same_events(self, recorded: Counter[str], ours: Counter[str], _: dict[str, Any]) -> bool:
        return recorded == ours


def _node(state: str) -> str | None:
    found = re.search(r" node=(\S+)", state)
    return found[1] if found else None
