"""Karmada's recorded failovers: taints, eviction tasks of others, applications that break, played as pure functions.

After each recorded step are compared: the clusters of the binding, its eviction tasks, the clusters that still hold
the workload, and the reason of the condition Scheduled. What differs does so on purpose, and is listed.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.golden.karmada_failover import Story

from federation.propagation import evictions

HERE = Path(__file__).parent / "karmada"
GROUPS = ("appfail", "appfail2", "taint", "evict")
STEPS = [
    step
    for step in map(json.loads, (HERE / "status.jsonl").read_text().splitlines())
    if step["group"] in GROUPS
]
GRACE_S = 12
"""The recorder's `--graceful-eviction-timeout`."""
REASONS = {"TaintUntolerated": "ClusterDrained"}
"""Of tasks that the server makes itself: Karmada's word, ours."""
MAKERS = ("TaintManager", "resource-binding-application-failover-controller")

NOT_TO_BLAME = (
    "a version that was healthy in no cluster yet is not moved: its fault would travel with it"
)
NOWHERE = "a workload that has no other place stays where it is"
KEPT = "a drained workload's last copies go only when as many are ready elsewhere, however long that takes"
WAITS = "what was displaced goes back when the fleet has been well for the stabilisation window, not at once"
DIFFERENT = {
    **dict.fromkeys([f"appfail-001.{step}" for step in range(5)], NOT_TO_BLAME),
    **dict.fromkeys([f"appfail-003.{step}" for step in range(4)], NOT_TO_BLAME),
    "appfail2-005.4": NOWHERE,
    "taint-007.4": WAITS,
    "taint-008.3": KEPT,
}


def shape(document: dict[str, Any], *, ours: bool) -> dict[str, Any]:
    """What is compared of a binding."""
    spec, status = document["spec"], document
    if ours:
        status = document.get("status") or {}
    tasks = []
    for task in spec.get("gracefulEvictionTasks") or ():
        told = {k: v for k, v in task.items() if k not in ("message", "creationTimestamp")}
        told["stamped"] = "creationTimestamp" in task
        own = told["producer"] == "ubernetes-failover" if ours else "purgeMode" in told
        told["producer"] = "the server" if own else told["producer"]
        if own and not ours:
            told["reason"] = REASONS.get(told["reason"], told["reason"])
        tasks.append(told)
    conditions = {c["type"]: c["reason"] for c in status.get("conditions") or ()}
    return {
        "clusters": {c["name"]: c.get("replicas", 0) for c in spec.get("clusters") or ()},
        "tasks": tasks,
        "holds": sorted(i["clusterName"] for i in status.get("aggregatedStatus") or ()),
        "scheduled": conditions.get("Scheduled"),
    }


@cache
def played(case: str) -> dict[str, dict[str, Any]]:
    """What stands after each step of a case."""
    story: Story | None = None
    found: dict[str, dict[str, Any]] = {}
    for step in STEPS:
        if step["id"].rpartition(".")[0] != case:
            continue
        said = step["input"]
        if story is None:
            story = Story(said["template"], said["policy"])
        story.play(said["step"])
        found[step["id"]] = shape(story.binding, ours=True)
    return found


@pytest.mark.parametrize("step", STEPS, ids=[step["id"] for step in STEPS])
def test_failover(step: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evictions, "GRACE_S", GRACE_S)
    found = played(step["id"].rpartition(".")[0])[step["id"]]
    (binding,) = step["output"]["bindings"]
    equal = found == shape(binding, ours=False)
    if step["id"] in DIFFERENT:
        assert not equal, "it has become equal: take it off the list"
    else:
        assert found == shape(binding, ours=False)


def test_nothing_is_listed_that_is_not_recorded() -> None:
    assert DIFFERENT.keys() <= {step["id"] for step in STEPS}
