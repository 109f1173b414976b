"""What Karmada recorded of WorkloadRebalancers, played through the plan of our controller.

Compared are the status, which workloads are asked for, and the end of the object.
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import msgspec

from federation.controllers import rebalancer
from machinery.api.fleet.operations import WorkloadRebalancer, WorkloadReference
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Delete, Patch, SetStatus
from machinery.kit.clock import rfc3339
from machinery.meta.resource import Document

HERE = Path(__file__).parent / "karmada"
CASES = [json.loads(line) for line in (HERE / "status.jsonl").read_text().splitlines()]
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def group(name: str) -> list[dict[str, Any]]:
    found = sorted((c for c in CASES if c["group"] == name), key=lambda c: str(c["id"]))
    assert found
    return found


# ------------------------------------------------------------------------------------------------------------ rebalancer
class Rebalancing:
    """One WorkloadRebalancer and the bindings that there are: of every workload but those called `none`."""

    def __init__(self) -> None:
        self.now = NOW
        self.document: Document = {
            "metadata": {"name": "r", "generation": 0, "resourceVersion": "1"}
        }
        self.document["metadata"]["creationTimestamp"] = rfc3339(NOW)
        self.asked: list[str] = []

    def step(self, spec: Document) -> list[Action]:
        self.now += dt.timedelta(seconds=10)
        if spec:
            generation = self.document["metadata"]["generation"] + 1
            self.document["metadata"]["generation"] = generation
            self.document["spec"] = spec
        held = msgspec.convert(self.document, WorkloadRebalancer)
        actions = rebalancer.plan(held, bindings(self.document["spec"]["workloads"]), self.now)
        for action in actions:
            if isinstance(action, SetStatus):
                self.document["status"] = dict(action.status)
            if isinstance(action, Patch):
                self.asked.append(f"{action.key.namespace}/{action.key.name}")
        return actions


def bindings(workloads: list[Document]) -> dict[Any, ResourceBinding]:
    found = {}
    for workload in workloads:
        if workload["name"] != "none":
            key = rebalancer.binding_key(msgspec.convert(workload, WorkloadReference))
            metadata = {"name": key.name, "namespace": key.namespace}
            held = {"metadata": metadata, "spec": {"resource": workload}}
            found[key] = msgspec.convert(held, ResourceBinding)
    return found


def masked(status: Document) -> Document:
    return status | {"finishTime": "<time>"}


def test_rebalancers_end_as_karmadas() -> None:
    played = Rebalancing()
    for case in group("rebalancer"):
        actions = played.step(case["input"])
        if case["output"].get("gone"):
            assert [type(a) for a in actions] == [Delete]
        else:
            assert masked(played.document["status"]) == case["output"]["status"], case["id"]
        if case["output"].get("rb"):
            assert played.asked == ["divide-003/web-deployment", "match-001/web-deployment"]
