"""What Karmada recorded of WorkloadRebalancers, ClusterTaintPolicies and FederatedResourceQuotas, played through the plans of our controllers.

Of the former are compared the status, which workloads are asked for, and the end of the object; of the latter the cluster's
taints, step by step, in their order. The policies `a` and `b` of the recording were made before its first line, which tells
nothing of them; what they say is read off the recorded taints and notes. Karmada's own taints of clusters that are not
Ready come from another controller there, as here, and are left out.
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import msgspec

from federation.controllers import quotas, rebalancer, taints
from machinery.api.fleet.cluster import Cluster
from machinery.api.fleet.operations import (
    ClusterTaintPolicy,
    FederatedResourceQuota,
    WorkloadRebalancer,
    WorkloadReference,
)
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Create, Delete, Patch, SetStatus
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


# ---------------------------------------------------------------------------------------------------------------- taints
LIFECYCLE = ("cluster.karmada.io/not-ready", "cluster.karmada.io/unreachable")
READY_AT = {"type": "Ready", "status": "True", "reason": "ClusterReady"}


def match(kind: str, *values: str, operator: str = "In") -> Document:
    return {"conditionType": kind, "operator": operator, "statusValues": list(values)}


A = {
    "taints": [
        {"key": "net", "value": "bad", "effect": "NoSchedule"},
        {"key": "net2", "effect": "NoSchedule"},
    ],
    "addOnConditions": [match("Network", "False")],
    "removeOnConditions": [match("Network", "True")],
    "targetClusters": {"clusterNames": ["m1"]},
}
B = {
    "taints": [{"key": "two", "effect": "NoSchedule"}],
    "addOnConditions": [match("Network", "False"), match("Disk", "False")],
}


def policy(name: str, spec: Document, created: int) -> ClusterTaintPolicy:
    made = rfc3339(NOW + dt.timedelta(seconds=created))
    return msgspec.convert(
        {"metadata": {"name": name, "creationTimestamp": made}, "spec": spec}, ClusterTaintPolicy
    )


def test_taints_follow_conditions_as_karmadas() -> None:
    policies = [policy("b", B, 2), policy("a", A, 1)]
    held: list[Document] = []
    conditions: list[Document] = [READY_AT]
    played = 0
    for case in group("taintpolicy"):
        step = case["input"]["step"]
        if isinstance(step, dict):
            policies.append(policy(step["create"], step["spec"], 3))
        elif step is not None:
            conditions = step
        cluster = msgspec.convert(
            {
                "metadata": {"name": "m1"},
                "spec": {"taints": held},
                "status": {"conditions": conditions},
            },
            Cluster,
        )
        for action in taints.plan(cluster, policies, NOW):
            if isinstance(action, Patch) and isinstance(action.patch, dict):
                held = action.patch["spec"]["taints"] or []
        wanted = [t for t in case["output"]["taints"] if t["key"] not in LIFECYCLE]
        assert [t | {"timeAdded": "<time>"} for t in held] == wanted, case["id"]
        played += 1
    assert played >= 11


# ----------------------------------------------------------------------------------------------------------------- quotas
def test_parts_of_a_quota_are_karmadas() -> None:
    """Names and labels of the Works, what they carry, the status; annotations of Works are another test's."""
    (case,) = group("quota")
    held = msgspec.convert(
        {
            "metadata": {"name": "q", "namespace": "divide-003", "resourceVersion": "1"},
            "spec": case["input"],
        },
        FederatedResourceQuota,
    )
    members = dict.fromkeys(case["output"]["works"], True)
    actions = quotas.plan(held, quotas.Seen(members=members))
    works: dict[str, list[Document]] = {name: [] for name in members}
    for action in actions:
        if isinstance(action, Create):
            cluster = quotas.cluster_of(dict(action.document))
            works[cluster].append(carried(dict(action.document)))
    assert works == {
        name: [work | {"manifests": [bare(m) for m in work["manifests"]]} for work in found]
        for name, found in case["output"]["works"].items()
    }
    (status,) = (a.status for a in actions if isinstance(a, SetStatus))
    assert {k: v for k, v in status.items() if v} == case["output"]["status"]


def carried(work: Document) -> Document:
    return {
        "name": work["metadata"]["name"],
        "labels": sorted(work["metadata"]["labels"]),
        "manifests": [bare(m) for m in work["spec"]["workload"]["manifests"]],
    }


def bare(manifest: Document) -> Document:
    held = manifest["metadata"]
    metadata = {
        "name": held["name"],
        "namespace": held["namespace"],
        "labels": sorted(held["labels"]),
    }
    return manifest | {"metadata": metadata}
