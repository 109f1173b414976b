"""The real scheduler's recorded decisions, replayed against ours.

A transcript is a row of steps: nodes and pods made or changed, then the settled decisions. The player keeps the state an
API server would keep and lets our pure decider run as the binder does: by priority, then by age, until nothing moves.
Cases that need volumes, disruption budgets or Services wait for the issues that build those kinds.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from machinery.api.core import Node, Pod
from machinery.scheduling.decide import Decider, Placed
from machinery.scheduling.preemption import Nominated, preempt
from machinery.scheduling.scores import Context
from machinery.scheduling.snapshot import PodInfo, Snapshot

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "scheduler/scheduler.jsonl").read_text().splitlines()
]
PRIORITIES = {"low": -10, "mid": 500, "high": 1000, "high-never": 1000, "top": 5000}


class Player:
    """The cluster's objects, and one scheduler on them."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.pods: dict[str, dict[str, Any]] = {}
        self.namespaces: dict[str, dict[str, str]] = {}
        self.seen: dict[str, list[Any]] = {}
        self.nominated: dict[str, str] = {}
        self.victims: set[str] = set()
        self.scores: dict[str, dict[str, dict[str, int]]] = {}
        self.decider = Decider(self.snapshot, lambda n: 0)
        self.force: dict[str, str] = {}

    def do(self, op: dict[str, Any]) -> None:
        match op.get("op"):
            case "create":
                self._create(op["obj"])
            case "delete" | "kubelet-remove":
                name = op.get("pod") or op["name"]
                if op.get("kind", "Pod") == "Node":
                    self.snapshot.remove_node(name)
                else:
                    self._gone(name)
            case "patch":
                self._patch(op)
            case "kubelet":
                if op["phase"] in ("Succeeded", "Failed"):
                    self.snapshot.remove_pod(op["pod"])
                    self.pods[op["pod"]]["done"] = True

    def _create(self, obj: dict[str, Any]) -> None:
        name = obj["metadata"]["name"]
        if obj["kind"] == "Node":
            obj = msgspec.json.decode(msgspec.json.encode(obj).replace(b'"TIME"', b"null"))
            self.snapshot.set_node(msgspec.convert(obj, Node))
        elif obj["kind"] == "Namespace":
            self.namespaces[name] = obj["metadata"].get("labels", {})
        elif obj["kind"] == "Pod":
            self.pods[name] = obj = json.loads(json.dumps(obj))
            obj["metadata"]["uid"] = name
            obj["metadata"].setdefault("namespace", "NS")
            spec = obj["spec"]
            spec["priority"] = PRIORITIES.get(spec.get("priorityClassName", ""), 0)
            if spec.get("priorityClassName") == "high-never":
                spec["preemptionPolicy"] = "Never"
            if spec.get("nodeName"):
                self.snapshot.add_pod(self.info(name), spec["nodeName"])

    def _patch(self, op: dict[str, Any]) -> None:
        if op["kind"] == "Node":
            row = self.snapshot.row(op["name"])
            assert row is not None
            node = msgspec.to_builtins(self.snapshot.nodes[row])
            merge(node, op["body"])
            self.snapshot.set_node(msgspec.convert(node, Node))
        else:
            merge(self.pods[op["name"]], op["body"])

    def _gone(self, name: str) -> None:
        self.snapshot.remove_pod(name)
        self.pods.pop(name, None)
        self.nominated.pop(name, None)

    def info(self, name: str) -> PodInfo:
        document = dict(self.pods[name])
        document["status"] = {
            "nominatedNodeName": self.nominated.get(name, ""),
            "startTime": self.pods[name].get("start", "2026-01-01T00:00:00Z"),
        }
        if name in self.victims:
            document["metadata"] = document["metadata"] | {
                "deletionTimestamp": "2026-01-01T00:00:00Z"
            }
        return PodInfo(msgspec.convert(document, Pod))

    def settle(self) -> None:
        self.scores = {}
        for _ in range(6):
            waiting = [
                n
                for n, p in self.pods.items()
                if not p["spec"].get("nodeName")
                and n not in self.victims
                and not p.get("done")
                and not self.awaits_victims(n)
            ]
            waiting.sort(key=lambda n: -self.pods[n]["spec"]["priority"])
            before = json.dumps([self.seen, self.nominated, sorted(self.victims)], sort_keys=True)
            for name in waiting:
                self.schedule(name)
            after = json.dumps([self.seen, self.nominated, sorted(self.victims)], sort_keys=True)
            if before == after:
                return

    def awaits_victims(self, name: str) -> bool:
        """A nominated pod is tried again when a victim has gone, not while they all still end."""
        row = self.snapshot.row(self.nominated.get(name, ""))
        return row is not None and any(
            p.uid in self.victims for p in self.snapshot.pods[row].values()
        )

    def schedule(self, name: str) -> None:
        if self.pods[name]["spec"].get("schedulingGates"):
            self.seen[name] = [
                None,
                "SchedulingGated",
                "Scheduling is blocked due to non-empty scheduling gates",
            ]
            return
        info = self.info(name)
        context = Context(self.namespaces)
        reserved = [
            (self.info(other), node)
            for other, node in self.nominated.items()
            if other != name and self.pods[other]["spec"]["priority"] >= info.pod.spec.priority
        ]
        for other, node in reserved:
            self.snapshot.add_pod(other, node)
        try:
            answer = self.decider.decide(info, context, explain=True)
        finally:
            for other, _ in reserved:
                self.snapshot.remove_pod(other.uid)
        if isinstance(answer, Placed):
            node = answer.node
            want = self.force.get(name)
            if want and answer.totals.get(want) == answer.totals[answer.node]:
                node = want
            self.pods[name]["spec"]["nodeName"] = node
            self.nominated.pop(name, None)
            self.seen[name] = [node, None, None]
            self.scores[name] = answer.by_plugin
            self.snapshot.add_pod(self.info(name), node)
            return
        message = answer.message
        result = preempt(info, answer, self.decider, context)
        if isinstance(result, Nominated):
            self.nominated[name] = result.node
            for victim in result.victims:
                self.victims.add(victim.uid)
                self.snapshot.add_pod(self.info(victim.uid), result.node)
            for other in [
                o
                for o, n in self.nominated.items()
                if n == result.node and self.pods[o]["spec"]["priority"] < info.pod.spec.priority
            ]:
                del self.nominated[other]
        elif result.message:
            message = f"{message} {result.message}"
        self.seen[name] = [None, "Unschedulable", message]


def merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        elif value is None:
            into.pop(key, None)
        else:
            into[key] = value


def play(case: dict[str, Any]) -> Iterator[str]:
    """Differences of one transcript, as sentences."""
    player = Player()
    unstable = set(case.get("unstable_steps", ()))
    for number, step in enumerate(case["steps"]):
        wanted = step["then"].get("decisions", {})
        player.force = {name: d["node"] for name, d in wanted.items() if d.get("node")}
        for op in step["do"]:
            player.do(op)
        player.settle()
        if number in unstable:
            return
        for name, decision in wanted.items():
            if "PodScheduled" not in decision and "node" not in decision:
                continue
            yield from compare(number, name, decision, player)
        for name, nodes in step["then"].get("scores", {}).items():
            for node, by_plugin in nodes.items():
                got = player.scores.get(name, {}).get(node, {})
                for plugin, value in by_plugin.items():
                    if plugin != "total" and got.get(plugin, 0) != value:
                        yield f"step {number} {name} on {node} {plugin}: want {value} got {got.get(plugin)}"


def compare(number: int, name: str, decision: dict[str, Any], player: Player) -> Iterator[str]:
    pod = player.pods.get(name)
    if pod is None:
        yield f"step {number} {name}: gone"
        return
    got = pod["spec"].get("nodeName")
    if got != decision.get("node"):
        yield f"step {number} {name}: want node {decision.get('node')} got {got} {player.seen.get(name)}"
    scheduled = decision.get("PodScheduled")
    if (
        scheduled
        and scheduled[0] == "False"
        and player.seen.get(name, [None, None, None])[2] != scheduled[2]
    ):
        yield f"step {number} {name}: want {scheduled[2]!r} got {player.seen.get(name)}"
    if decision.get("nominatedNodeName") != player.nominated.get(name):
        yield f"step {number} {name}: want nominated {decision.get('nominatedNodeName')} got {player.nominated.get(name)}"
    if bool(decision.get("terminating")) != (name in player.victims):
        yield f"step {number} {name}: want terminating {decision.get('terminating')} got {name in player.victims}"


KNOWN: dict[str, str] = {}
"""Transcripts that differ, with the reason (also in DIFFERENCES.md)."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_decision_equals_the_recorded_one(case: dict[str, Any]) -> None:
    differences = list(play(case))
    if case["id"] in KNOWN:
        assert differences, "no longer different: take it off the list"
        return
    assert not differences, "\n".join([case.get("note") or "", *differences])
