"""eviction.yaml: when eviction tasks end, how clusters are left, what unhealthy workloads do, and which state goes along."""

import datetime as dt
from typing import Any

import msgspec
import pytest
from tests.support.tables import Row, cases

from federation.controllers import dispatcher
from federation.propagation import applications, checkpoints, evictions, moves
from federation.propagation.applications import Account
from federation.propagation.checkpoints import Mark
from federation.propagation.moves import APPLICATION, PRODUCER, Facts, Seen, State, Task
from federation.propagation.resilience import DEFAULT
from machinery.api.fleet.policy import ApplicationFailover
from machinery.api.fleet.resilience import Checkpoint
from machinery.api.fleet.work import ResourceBinding
from machinery.kit.clock import rfc3339
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def at(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


# -------------------------------------------------------------------------------------------------------- assessment
@pytest.mark.parametrize("row", cases("eviction", "assessment"))
def test_assessment(row: Row) -> None:
    said, ours = row["task"], row["task"].get("by") == "us"
    task = Task(
        "alpha",
        2,
        said.get("reason", "TaintUntolerated"),
        rfc3339(at(-said["age"])) if "age" in said else "",
        producer=PRODUCER if ours else "TaintManager",
        grace_s=said.get("grace"),
        purge=said.get("purge", "Gracefully"),
        suppress=said.get("suppress"),
    )
    seen = {
        name: Seen(ready or 0, counts=ready is not None)
        for name, (_, ready) in row["reports"].items()
    }
    facts = Facts(
        "question",
        seen,
        settled=row.get("placed", True),
        waiting=row.get("suspended", False),
        healthy=frozenset(n for n, (health, _) in row["reports"].items() if health == "Healthy"),
        now=rfc3339(NOW),
    )
    found = evictions.assess(State(row.get("clusters", {"beta": 2}), (task,)), facts)
    assert ("stays" if found.state.tasks else "ends") == row["then"]
    assert bool(found.news) is (row["then"] == "ends")
    assert all(t.created for t in found.state.tasks)
    if "again" in row.said:
        assert found.again_s == row["again"]


# ------------------------------------------------------------------------------------------------------------ manner
def binding(
    failover: Document | None,
    clusters: dict[str, int],
    status: Document | None = None,
    tasks: list[Document] | None = None,
) -> ResourceBinding:
    items = [{"clusterName": "alpha", "status": status, "health": "Unhealthy"}] if status else []
    wire = {
        "metadata": {"name": "web-deployment", "namespace": "demo"},
        "spec": {
            "replicas": 2,
            "clusters": [{"name": n, "replicas": c} for n, c in clusters.items()],
            "failover": failover,
            "gracefulEvictionTasks": tasks or [],
        },
        "status": {"aggregatedStatus": items},
    }
    return msgspec.convert(wire, ResourceBinding)


def left(
    before: ResourceBinding, reason: str, *, fenced: bool = False
) -> tuple[State, evictions.Told]:
    told = evictions.manner_of(before, "alpha", reason)
    facts = Facts("question", {}, fenced=fenced, grace_s=35, now=rfc3339(NOW))
    state = moves.state_of(before)
    return moves.evict(state, "alpha", reason, "why", facts, told.manner), told


@pytest.mark.parametrize("row", cases("eviction", "manner"))
def test_manner(row: Row) -> None:
    before = binding(row["failover"], {"alpha": 2})
    state, _ = left(before, row["reason"], fenced=row.get("fenced", False))
    (task,) = [moves.wire(t) for t in state.tasks]
    about = ("fromCluster", "reason", "producer", "message", "creationTimestamp")
    assert {k: v for k, v in task.items() if k not in about} == row["holds"]
    after = binding(row["failover"], dict(state.clusters), tasks=[task])
    assert dispatcher.asked(after).get("alpha", "none") == row["runs"]
    assert moves.evicting(after) == {"alpha"}


# ------------------------------------------------------------------------------------------------------------- state
@pytest.mark.parametrize("row", cases("eviction", "state"))
def test_state(row: Row) -> None:
    rules = [{"aliasLabelName": label, "jsonPath": path} for label, path in row["rules"]]
    how = {"purgeMode": row["purge"], "statePreservation": {"rules": rules}}
    reason = row.get("reason", APPLICATION)
    failover = {"application": how | {"decisionConditions": {}}, "cluster": how}
    before = binding(failover, row.get("from", {"alpha": 2}), row["status"])
    state, told = left(before, reason, fenced=row.get("fenced", False))
    tasks = [moves.wire(task) for task in state.tasks]
    after = binding(failover, row.get("to", {"beta": 2}), tasks=tasks)
    assert dict(evictions.carried(after, row.get("into", "beta"))) == row["labels"]
    assert len(told.problems) == row.get("told", 0)


# ------------------------------------------------------------------------------------------------------- application
class History:
    """A workload whose health in clusters is told; the account is kept as the controller keeps it."""

    def __init__(self, row: Row) -> None:
        self.policy = msgspec.convert(
            {"decisionConditions": {"tolerationSeconds": row.get("tolerated", 60)}},
            ApplicationFailover,
        )
        self.own = msgspec.structs.replace(DEFAULT, startup_toleration_seconds=row.get("startup"))
        self.image, self.generation, self.reported = 1, 1, 1
        self.deadline = row.get("deadline")
        self.health: dict[str, str] = {}
        self.account = Account()
        self.since = NOW

    @property
    def template(self) -> Document:
        spec: Document = {"replicas": 2, "template": {"image": self.image}}
        if self.deadline is not None:
            spec["progressDeadlineSeconds"] = self.deadline
        return {"metadata": {"generation": self.generation}, "spec": spec}

    @property
    def tolerated(self) -> applications.Limits:
        return applications.limits(self.policy, self.own, self.template)

    def step(self, seconds: float, what: Any) -> None:
        match what:
            case "new":
                self.image, self.generation, self.reported = 2, 2, 2
                self.health = dict.fromkeys(self.health, "Unknown")
            case "older":
                self.generation += 1
            case "restart":
                self.since = at(seconds)
            case _:
                self.health = what
        status = {"resourceTemplateGeneration": self.reported}
        items = [
            {"clusterName": name, "health": health, "status": status}
            for name, health in self.health.items()
        ]
        wire = {
            "metadata": {"annotations": {applications.ACCOUNT: applications.written(self.account)}},
            "spec": {"clusters": [{"name": name, "replicas": 1} for name in self.health]},
            "status": {"aggregatedStatus": items},
        }
        held = msgspec.convert(wire, ResourceBinding)
        self.account = applications.observed(held, self.template, self.tolerated, at(seconds))

    def leaves(self, seconds: float) -> float | None:
        """When alpha is left, if nothing changes any more."""
        moment = at(seconds)
        wait = applications.wait_s(self.account, "alpha", self.tolerated, moment, self.since)
        return None if wait is None else seconds + wait


@pytest.mark.parametrize("row", cases("eviction", "application"))
def test_application(row: Row) -> None:
    history, steps = History(row), row["history"]
    found: float | str = "never"
    for index, (seconds, what) in enumerate(steps):
        history.step(seconds, what)
        due = history.leaves(seconds)
        until = steps[index + 1][0] if index + 1 < len(steps) else float("inf")
        if due is not None and due < until:
            found = due
            break
    assert found == row["leaves"]
    blank = msgspec.convert({}, ResourceBinding)
    said = applications.told(blank, history.account, history.tolerated, rfc3339(NOW))
    assert said["reason"] == row["says"]


def test_what_left_for_its_health_and_has_no_other_place_is_taken_back_when_it_is_well() -> None:
    state, _ = left(binding({"application": {"decisionConditions": {}}}, {"alpha": 2}), APPLICATION)
    assert (dict(state.clusters), state.displaced) == ({}, None)
    unwell = Facts("question", {"alpha": Seen(0)}, settled=False, now=rfc3339(NOW))
    assert moves.settle(state, unwell) == state
    well = Facts(
        "question",
        {"alpha": Seen(2)},
        settled=False,
        healthy=frozenset({"alpha"}),
        now=rfc3339(NOW),
    )
    assert moves.settle(state, well) == State({"alpha": 2})
    decided = moves.decided(state, {"beta": 2}, rfc3339(NOW))
    going = Facts("question", {"alpha": Seen(2)}, healthy=frozenset({"alpha"}), now=rfc3339(NOW))
    assert moves.settle(decided, going) == decided


# -------------------------------------------------------------------------------------------- section checkpoint, played
@pytest.mark.parametrize("row", cases("eviction", "checkpoint"))
def test_checkpoint(row: Row) -> None:
    hook = Checkpoint(
        ("save",), interval_seconds=row.get("every"), on_failure=row.get("failure", "Continue")
    )
    mark, word = Mark(), row.get("move", "")
    if "age" in row.said:
        begun = rfc3339(at(-row["age"]))
        good = begun if row["ok"] else rfc3339(at(-row["good"])) if "good" in row.said else ""
        mark = Mark(begun, 1.0, row["ok"], "why", good, row.get("made_for", ""))
    wait = checkpoints.due_s(hook, mark, word, NOW)
    assert ("never" if wait is None else wait) == row["next"]
    if word:
        assert checkpoints.lets_go(hook, mark, word)[0] is row["begins"]
    lost = checkpoints.lost_s(mark, NOW, row.get("silent", 0.0))
    assert ("unknown" if lost is None else lost) == row["lost"]
