"""What the rollouts controller plans, from each state that a crash can leave, against objects in memory."""

import datetime as dt
from typing import Any

import pytest
from tests.unit.controllers_federation.staged_memory import (
    H1,
    H2,
    H3,
    ORDER,
    ZONES,
    Memory,
    seen_once,
    strategy_named,
    template,
)

from federation.controllers import revisions
from federation.controllers.rollouts.plan import OVER_MAX, World, plan
from federation.propagation.rollouts.record import RECORD, Record, encoded
from federation.propagation.rollouts.snapshots import hash_of
from machinery.api.fleet.resilience import EPOCH, GRANT_SECONDS, GRANT_WORK
from machinery.api.fleet.rollouts import (
    STRATEGY,
    TEMPLATE_HASH,
    TRIGGER,
)
from machinery.controller.action import Create, Delete, Patch
from machinery.meta.resource import Document


def test_nothing_is_dispatched_before_the_revision_is_recorded() -> None:
    fleet = Memory()
    assert plan(fleet.world()) == []
    fleet.settle()
    assert fleet.record() == Record(stable=H1, seen=H1)
    assert fleet.runs == {}


@pytest.mark.parametrize("fuse", range(-1, 14))
def test_a_crash_between_any_two_writes_loses_nothing(fuse: int) -> None:
    fleet = Memory()
    fleet.settle()
    fleet.fuse = fuse
    fleet.change("whoami:2")
    fleet.settle(5)
    assert seen_once(fleet.given) == ORDER
    assert fleet.states() == {"web-1": "Succeeded"}
    assert fleet.record() == Record(stable=H2, seen=H2, number=1, run="web-1")


def test_the_fuses_above_cover_every_write() -> None:
    fleet = Memory()
    fleet.settle()
    before = fleet.version
    fleet.change("whoami:2")
    fleet.settle(5)
    assert 10 <= fleet.version - before <= 13


@pytest.mark.parametrize("fuse", range(-1, 14))
def test_a_change_during_a_run_takes_over_from_any_state(fuse: int) -> None:
    fleet = Memory()
    fleet.settle()
    fleet.well = lambda name: name != "beta"
    fleet.change("whoami:2")
    fleet.settle(2)
    assert fleet.given[-1] == ORDER[2], "beta does not get well, gamma waits"
    fleet.fuse = fuse
    fleet.well = lambda _: True
    fleet.change("whoami:3")
    fleet.settle(6)
    assert fleet.states() == {"web-1": "Superseded", "web-2": "Succeeded"}
    assert fleet.given[-1] == dict.fromkeys(ZONES, H3)
    order = seen_once(fleet.given)[3:]
    assert {"alpha": H3, "beta": H2, "gamma": H1} in order, "each goes on from what it had"
    assert "StagedUpdateSuperseded" in fleet.events


@pytest.mark.parametrize("fuse", range(-1, 12))
def test_a_failure_rolls_back_from_any_state(fuse: int) -> None:
    fleet = Memory(failureAction="Rollback", healthGate={"progressDeadline": "2s"})
    fleet.settle()
    fleet.fuse = fuse
    record = fleet.record
    fleet.well = lambda name: name != "beta" or (r := record()) is None or r.of(name) == H1
    fleet.change("whoami:2")
    fleet.settle(8)
    assert fleet.states() == {"web-1": "RolledBack"}
    assert seen_once(fleet.given) == [*ORDER[:3], ORDER[0]]
    held = fleet.record()
    assert held is not None
    assert (held.open, held.clusters, held.stable, held.seen) == (False, {}, H1, H2)
    assert held.failed.startswith("rolled back: beta: not well after 2 s")
    # Going back to the old template needs no run, and the same change later is a change again.
    fleet.change("whoami:1")
    fleet.settle(1)
    assert list(fleet.runs) == ["web-1"]
    fleet.well = lambda _: True
    fleet.change("whoami:2")
    fleet.settle(6)
    assert fleet.states() == {"web-1": "RolledBack", "web-2": "Succeeded"}


def test_a_change_right_after_a_run_knows_that_it_succeeded() -> None:
    """Its status says so, and the controller died before the record did."""
    fleet = Memory()
    fleet.settle()
    fleet.change("whoami:2")
    fleet.settle(5)
    done = fleet.record()
    assert done is not None
    fleet.binding["metadata"]["annotations"][RECORD] = encoded(
        Record(
            stable=H1, seen=H2, number=1, run="web-1", open=True, clusters=dict.fromkeys(ZONES, H2)
        )
    )
    fleet.change("whoami:3")
    fleet.snapshot()
    fleet.apply(plan(fleet.world()))
    record = fleet.record()
    assert record is not None
    assert (record.stable, record.clusters, record.run) == (H2, {}, "web-2")


def test_undoing_a_run_half_way_is_a_run_of_those_that_have_it() -> None:
    fleet = Memory()
    fleet.settle()
    fleet.well = lambda name: name != "beta"
    fleet.change("whoami:2")
    fleet.settle(2)
    fleet.well = lambda _: True
    fleet.change("whoami:1")
    fleet.settle(6)
    assert fleet.states() == {"web-1": "Superseded", "web-2": "Succeeded"}
    assert seen_once(fleet.given)[-2:] == [{"alpha": H1, "beta": H2, "gamma": H1}, ORDER[0]]


def test_replicas_are_no_change() -> None:
    fleet = Memory()
    fleet.settle()
    assert fleet.template is not None
    fleet.template = fleet.template | {"spec": fleet.template["spec"] | {"replicas": 60}}
    fleet.settle(2)
    assert fleet.runs == {}


def test_a_workload_that_is_staged_no_more_lets_go() -> None:
    fleet = Memory()
    fleet.settle()
    fleet.well = lambda _: False
    fleet.change("whoami:2")
    fleet.settle(1)
    fleet.change("whoami:2", **{STRATEGY: ""})
    fleet.settle(1)
    assert fleet.states() == {"web-1": "Superseded"}
    assert RECORD not in fleet.binding["metadata"].get("annotations", {})


def test_a_deleted_workload_ends_its_runs() -> None:
    fleet = Memory()
    fleet.settle()
    fleet.well = lambda _: False
    fleet.change("whoami:2")
    fleet.settle(1)
    fleet.template = None
    fleet.settle(1)
    assert fleet.states() == {"web-1": "Superseded"}


def work(cluster: str, image: str, *, marked: bool = False, granted: bool = False) -> Document:
    """A Work as the dispatcher makes it."""
    inner = template(image)["spec"]["template"]
    marks = {TEMPLATE_HASH: hash_of(template(image))} if marked else {}
    if granted:
        inner["metadata"]["annotations"] = {EPOCH: "1", GRANT_SECONDS: "30", GRANT_WORK: "web"}
    manifest = {"metadata": {"annotations": marks}, "spec": {"template": inner}}
    return {
        "metadata": {"namespace": f"karmada-es-{cluster}"},
        "spec": {"workload": {"manifests": [manifest]}},
    }


CARRIED = [
    ("where nothing runs yet all have what was made", [], Record(stable=H2, seen=H2)),
    ("the change that brings the annotation", [work(c, "whoami:1") for c in ZONES], Record(stable=H1, seen=H1)),
    ("the same, of mode consistency", [work(c, "whoami:1", granted=True) for c in ZONES], Record(stable=H1, seen=H1)),
    ("overrides change what Works carry", [work(c, "mirror/whoami:1") for c in ZONES], Record(stable=H2, seen=H2)),
    ("a record that was spoiled half way", [work("alpha", "whoami:2", marked=True), *(work(c, "whoami:1", marked=True) for c in ("beta", "gamma"))], Record(stable=H1, seen=H1, clusters={"alpha": H2})),
]  # fmt: skip


@pytest.mark.parametrize(
    ("works", "record"), [row[1:] for row in CARRIED], ids=[row[0] for row in CARRIED]
)
def test_the_first_record_is_what_works_carry(works: list[Document], record: Record) -> None:
    fleet = Memory()
    fleet.settle()
    fleet.binding["metadata"]["annotations"] = {RECORD: "not JSON"}
    fleet.change("whoami:2")
    fleet.snapshot()
    (action,) = plan(with_works(fleet.world(), works))
    assert isinstance(action, Patch)
    fleet.write(action)
    assert fleet.record() == record


def with_works(world: World, works: list[Document]) -> World:
    """The same with Works."""
    names = [n for n in World.__dataclass_fields__ if n != "works"]
    return World(**{name: getattr(world, name) for name in names}, works=works)


# ------------------------------------------------------------------------------------------------- runs by hand
def test_with_a_manual_trigger_a_change_waits_for_a_run() -> None:
    fleet = Memory()
    fleet.settle()
    manual = {TRIGGER: "Manual"}
    fleet.change("whoami:2", **manual)
    fleet.settle(3)
    assert fleet.runs == {}
    assert fleet.given[-1] == ORDER[0]
    assert "StagedUpdateWaiting" in fleet.events
    fleet.by_hand("mine", state="Initialize")
    fleet.settle(1)
    assert fleet.states() == {"mine": "Initialized"}
    assert [s["stageName"] for s in fleet.runs["mine"]["status"]["stages"]] == [
        "z-zone-a", "z-zone-b", "z-zone-c",
    ]  # fmt: skip
    assert fleet.given[-1] == ORDER[0]
    fleet.runs["mine"]["spec"]["state"] = "Run"
    fleet.settle(6)
    assert fleet.states() == {"mine": "Succeeded"}
    assert seen_once(fleet.given) == ORDER


def test_a_preview_that_became_stale_is_laid_out_anew() -> None:
    fleet = Memory()
    fleet.settle()
    fleet.change("whoami:2", **{TRIGGER: "Manual"})
    fleet.by_hand("mine", state="Initialize")
    fleet.settle(1)
    fleet.change("whoami:3", **{TRIGGER: "Manual"})
    fleet.settle(1)
    assert fleet.runs["mine"]["status"]["targetTemplate"] == H3
    fleet.runs["mine"]["spec"]["state"] = "Run"
    fleet.settle(6)
    assert fleet.given[-1] == dict.fromkeys(ZONES, H3)


def test_a_run_by_hand_takes_over_and_one_to_an_old_revision_goes_there() -> None:
    fleet = Memory()
    fleet.settle()
    fleet.change("whoami:2")
    fleet.settle(6)
    fleet.by_hand("back", state="Run", resourceSnapshotIndex="1")
    fleet.settle(6)
    assert fleet.states() == {"web-1": "Succeeded", "back": "Succeeded"}
    assert fleet.given[-1] == ORDER[0]
    assert fleet.runs["back"]["status"]["resourceSnapshotIndexUsed"] == "1"
    # The template is still the new one; nobody starts a run for it again.
    fleet.settle(3)
    assert set(fleet.runs) == {"web-1", "back"}


def test_of_two_runs_by_hand_the_newer_one_acts() -> None:
    fleet = Memory()
    fleet.settle()
    fleet.well = lambda _: False
    fleet.change("whoami:2")
    fleet.settle(1)
    fleet.by_hand("one", state="Run")
    fleet.now += dt.timedelta(seconds=1)
    fleet.by_hand("two", state="Run")
    fleet.settle(1)
    assert fleet.states() == {"web-1": "Superseded", "one": "Superseded", "two": "Progressing"}


REFUSED = [
    ({"stagedRolloutStrategyName": "none"}, "Initialized=False StrategyNotFound"),
    ({"resourceSnapshotIndex": "7"}, "Initialized=False SnapshotNotFound"),
]


@pytest.mark.parametrize(("spec", "reason"), REFUSED)
def test_runs_that_cannot_begin_say_why(spec: dict[str, Any], reason: str) -> None:
    fleet = Memory()
    fleet.settle()
    fleet.by_hand("mine", **spec)
    fleet.settle()
    assert fleet.reason("mine") == reason


def test_a_run_of_a_workload_that_is_not_staged_says_so() -> None:
    fleet = Memory()
    fleet.change("whoami:1", **{STRATEGY: ""})
    fleet.by_hand("mine", state="Run")
    fleet.settle()
    assert fleet.reason("mine") == "Initialized=False NotStaged"
    fleet.template = None
    fleet.settle()
    assert fleet.reason("mine") == "Initialized=False WorkloadNotFound"


def test_a_workload_that_is_nowhere_yet_waits_and_a_bad_strategy_too() -> None:
    fleet = Memory()
    fleet.settle()
    placed = fleet.binding["spec"].pop("clusters")
    fleet.change("whoami:2")
    fleet.settle(1)
    assert fleet.reason("web-1") == "Initialized=False NotPlaced"
    fleet.binding["spec"]["clusters"] = placed
    good = fleet.strategies[:]
    fleet.strategies[:] = [strategy_named("by-zone", stages=[{"name": "one"}, {"name": "two"}])]
    fleet.settle(1)
    assert fleet.reason("web-1") == "Initialized=False ClusterInManyStages"
    fleet.strategies[:] = good
    fleet.settle(6)
    assert fleet.states() == {"web-1": "Succeeded"}


def test_a_run_does_not_end_while_the_placement_is_decided_anew() -> None:
    """A cluster that failover has just taken out is about to be replaced by one that must not be forgotten."""
    fleet = Memory()
    fleet.settle()
    fleet.settled = False
    fleet.change("whoami:2")
    fleet.settle(6)
    assert fleet.states() == {"web-1": "Waiting"}
    assert fleet.runs["web-1"]["status"]["message"] == "the placement is being decided"
    fleet.settled = True
    fleet.settle(1)
    assert fleet.states() == {"web-1": "Succeeded"}


def test_a_run_deleted_while_it_acts_begins_again() -> None:
    fleet = Memory()
    fleet.settle()
    fleet.well = lambda name: name != "beta"
    fleet.change("whoami:2")
    fleet.settle(2)
    del fleet.runs["web-1"]
    fleet.well = lambda _: True
    fleet.settle(6)
    assert fleet.states() == {"web-1": "Succeeded"}
    assert seen_once(fleet.given) == ORDER


def test_an_approval_is_asked_for_once_and_refused_by_its_condition() -> None:
    tasks = [{"name": "all", "beforeStageTasks": [{"type": "Approval"}]}]
    fleet = Memory(stages=tasks)
    fleet.settle()
    fleet.change("whoami:2")
    fleet.settle(2)
    assert list(fleet.requests) == ["web-1-before-all"]
    assert fleet.events.count("ApprovalRequested") == 1
    assert fleet.states() == {"web-1": "Waiting"}
    denied = {"type": "Approved", "status": "False", "message": "Friday"}
    fleet.requests["web-1-before-all"]["status"] = {"conditions": [denied]}
    fleet.settle(1)
    assert fleet.states() == {"web-1": "Failed"}
    assert fleet.runs["web-1"]["status"]["message"] == "web-1-before-all was refused: Friday"


def test_runs_that_are_over_are_forgotten_but_for_the_last_ones() -> None:
    fleet = Memory()
    fleet.settle()
    for number in range(2, OVER_MAX + 6):
        fleet.change(f"whoami:{number}")
        fleet.settle(5)
    assert len(fleet.runs) == OVER_MAX + 1
    assert "web-1" not in fleet.runs


def test_what_a_cluster_still_has_is_not_pruned() -> None:
    old, new = template("whoami:1"), template("whoami:2")
    for one in (old, new):
        one["spec"]["revisionHistoryLimit"] = 0
    (made, _) = revisions.plan(old, [])
    assert isinstance(made, Create)
    record = dict(made.document) | {}
    record["metadata"] = record["metadata"] | {"uid": "r"}
    assert any(isinstance(a, Delete) for a in revisions.plan(new, [record]))
    assert not any(isinstance(a, Delete) for a in revisions.plan(new, [record], {H1}))
