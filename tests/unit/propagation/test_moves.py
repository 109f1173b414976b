"""Moves of replicas: tables, and every state that random faults can lead to."""

import datetime as dt
import json
import random
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest

from federation.propagation import moves
from federation.propagation.moves import (
    DRAINED,
    REBALANCED,
    UNREACHABLE,
    Before,
    Facts,
    Seen,
    State,
    Task,
)
from machinery.api.fleet.work import ResourceBinding
from machinery.kit.clock import parse_time

Q = "question"
EVEN = {"alpha": 2, "beta": 2, "gamma": 2}
TWO = {"beta": 3, "gamma": 3}
ZONES = {name: f"zone-{name}" for name in EVEN}


def facts(ready: Mapping[str, int], **more: object) -> Facts:
    seen = {name: Seen(count) for name, count in ready.items()}
    return replace(Facts(Q, seen, zone_of=ZONES, now="2026-01-01T00:00:09Z"), **more)  # type: ignore[arg-type]


def lost(reason: str = UNREACHABLE, state: State | None = None) -> State:
    """Alpha was left."""
    return moves.evict(state or State(EVEN), "alpha", reason, "why", facts({}))


def moved(reason: str = UNREACHABLE) -> State:
    """Alpha was left and the planner has decided."""
    return moves.decided(lost(reason), TWO, "now")


def test_an_evicted_cluster_is_out_and_keeps_what_it_runs() -> None:
    state = lost()
    assert state.clusters == {"beta": 2, "gamma": 2}
    assert state.tasks == (Task("alpha", 2, UNREACHABLE, "2026-01-01T00:00:09Z", "why"),)
    assert state.running == EVEN
    assert state.evicting == {"alpha"}
    assert state.before == {"alpha": Before(Q, EVEN)}
    assert state.displaced == EVEN
    both = moves.evict(state, "beta", UNREACHABLE, "why", facts({}, settled=False))
    assert both.before["beta"] == Before(Q, EVEN), "the last placement that was whole"
    assert lost(state=state) == state
    assert moves.evict(state, "delta", UNREACHABLE, "", facts({})) == state


READY_ELSEWHERE = {"beta": 3, "gamma": 3}


@pytest.mark.parametrize(
    ("state", "known", "clusters", "kept"),
    [
        (moved(), facts(READY_ELSEWHERE), TWO, {"alpha": 2}),
        (moved(), facts({}), TWO, {"alpha": 2}),
        (moved(), facts({"alpha": 2, "beta": 2, "gamma": 3}), EVEN, {}),
        (moved(), facts({"alpha": 2, "beta": 2, "gamma": 2}), EVEN, {"beta": 0, "gamma": 0}),
        (moved(), facts({"alpha": 0, "beta": 3, "gamma": 2}), EVEN, {"beta": 1}),
        (lost(), facts({"alpha": 2, "beta": 2, "gamma": 2}, settled=False), EVEN, {}),
        (moved(), facts({"alpha": 2, **READY_ELSEWHERE}), TWO, {}),
        (moved(), facts({"alpha": 2, **READY_ELSEWHERE}, rejoin="keepOriginal"), EVEN, {}),
        (moved(), facts({"alpha": 2, **READY_ELSEWHERE}, rejoin="bestScore"), EVEN, {}),
        (moved(), facts({"alpha": 1, **READY_ELSEWHERE}, rejoin="keepOriginal"), TWO, {}),
        (moved(), facts({"alpha": 2, **READY_ELSEWHERE}, rejoin="longestRunning"), TWO, {}),
        (moved(), facts({"alpha": 2, "beta": 2, "gamma": 3}, question="other"), TWO, {"alpha": 1}),
        (moved(), facts({"alpha": 2, "gamma": 3}), TWO, {"alpha": 2}),
        (moved(), facts({"beta": 3, "gamma": 3}, known=frozenset({"beta", "gamma"})), TWO, {}),
        (moved(DRAINED), facts({"alpha": 2, "beta": 2, "gamma": 2}, drained=frozenset({"alpha"})), TWO, {"alpha": 2}),
        (moved(DRAINED), facts({"alpha": 2, "beta": 3, "gamma": 2}, drained=frozenset({"alpha"})), TWO, {"alpha": 1}),
        (moved(DRAINED), facts({"alpha": 2, **READY_ELSEWHERE}, drained=frozenset({"alpha"})), TWO, {}),
        (moved(DRAINED), facts(READY_ELSEWHERE, drained=frozenset({"alpha"})), TWO, {"alpha": 2}),
        (lost(DRAINED), facts({"alpha": 2, "beta": 2, "gamma": 2}, drained=frozenset({"alpha"}), settled=False), {"beta": 2, "gamma": 2}, {"alpha": 2}),
        (moved(DRAINED), facts({"alpha": 2, "beta": 2, "gamma": 2}), EVEN, {}),
    ],
    ids=[
        "nobody sees the dead cluster: all is kept",
        "nobody sees anything: nothing changes",
        "back before the move is over: as it was, what was ready more may go",
        "back before the move is over: what was not ready yet costs nothing",
        "back with nothing ready: the replacement stays until it is",
        "back before anything was decided",
        "back after the move: replaced ones are given up",
        "keepOriginal",
        "bestScore prefers even zones",
        "keepOriginal, but the originals are not well",
        "longestRunning, but the originals were not available all the time",
        "the question changed: no way back, surge first",
        "another cluster is not seen: nothing is given up",
        "the cluster has left",
        "drain: nothing is ready elsewhere",
        "drain: one is ready elsewhere",
        "drain: all are ready elsewhere",
        "drain: the drained cluster is not seen",
        "drain: nothing fits elsewhere",
        "uncordon before the drain is over",
    ],
)  # fmt: skip
def test_settle(
    state: State, known: Facts, clusters: Mapping[str, int], kept: Mapping[str, int]
) -> None:
    after = moves.settle(state, known)
    assert after.clusters == clusters
    found = {t.cluster: t.replicas for t in after.tasks}
    assert found == {name: count for name, count in kept.items() if count}
    assert moves.settle(after, known) == after, "settling twice changes nothing"


def test_a_return_ends_no_other_eviction_though_that_one_keeps_nothing() -> None:
    """Two clusters that ran nothing of it were lost; only one of them was seen again."""
    nothing = State({"alpha": 0, "beta": 0, "gamma": 0})
    both = lost(state=moves.evict(nothing, "beta", UNREACHABLE, "why", facts({})))
    settled = moves.settle(replace(both, clusters={"gamma": 8}), facts({"alpha": 0, "gamma": 8}))
    assert {(t.cluster, t.reason) for t in settled.tasks} == {("beta", UNREACHABLE)}


@pytest.mark.parametrize(
    ("says", "stays"),
    [("2031-01-01T00:00:00Z", True), ("2031-01-01T00:20:00Z", False), ("", False)],
    ids=["ran on, by a clock years ahead", "started anew", "does not run"],
)
def test_longest_running_keeps_originals_that_never_stopped(says: str, stays: bool) -> None:
    """By what the cluster itself says now and said when it was left: no two clocks are compared."""
    then = {"alpha": Seen(2, "2031-01-01T00:00:00Z")}
    left = moves.evict(State(EVEN), "alpha", UNREACHABLE, "why", replace(facts({}), seen=then))
    state = moves.decided(left, TWO, "now")
    known = facts(READY_ELSEWHERE, rejoin="longestRunning")
    seen = dict(known.seen) | {"alpha": Seen(2, says)}
    found = moves.settle(state, replace(known, seen=seen))
    assert found.clusters == (EVEN if stays else TWO)
    assert moves.state_of(bound(state)).before == state.before, "the words are kept in the binding"


def test_what_was_replaced_is_remembered_until_it_is_balanced() -> None:
    after = moves.settle(moved(), facts({"alpha": 2, **READY_ELSEWHERE}))
    assert (after.displaced, after.before) == (EVEN, {})
    back = moves.settle(moved(), facts({"alpha": 2, "beta": 2, "gamma": 2}))
    assert (back.displaced, back.before) == (None, {})


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (EVEN, EVEN, {}),
        (EVEN, {"alpha": 3, "beta": 3, "gamma": 3}, {}),
        (EVEN, {"alpha": 1, "beta": 1, "gamma": 1}, {}),
        (TWO, EVEN, {"beta": 1, "gamma": 1}),
        (TWO, {"alpha": 3, "beta": 2, "gamma": 2}, {"beta": 1, "gamma": 1}),
        (TWO, {"alpha": 1, "beta": 2, "gamma": 2}, {"gamma": 1}),
        ({"alpha": 6}, {"beta": 6}, {"alpha": 6}),
        ({"alpha": 6}, {}, {}),
    ],
)
def test_a_new_decision_keeps_what_it_only_shifts(
    old: Mapping[str, int], new: Mapping[str, int], kept: Mapping[str, int]
) -> None:
    after = moves.decided(State(old), new, "now")
    assert after.clusters == new
    assert {t.cluster: t.replicas for t in after.tasks} == kept
    assert all(t.reason == REBALANCED for t in after.tasks)


def test_a_decision_that_gives_back_takes_the_kept_ones() -> None:
    kept = State(TWO, (Task("alpha", 2, REBALANCED),))
    after = moves.decided(kept, EVEN, "now")
    assert {t.cluster: t.replicas for t in after.tasks} == {"beta": 1, "gamma": 1}
    assert after.running == {"alpha": 2, "beta": 3, "gamma": 3}


def bound(state: State) -> ResourceBinding:
    """A binding in which the state is written."""
    binding = msgspec.convert({"metadata": {"name": "web", "namespace": "demo"}}, ResourceBinding)
    patch = moves.patch(binding, state).patch
    assert isinstance(patch, dict)
    document = {
        "metadata": {"annotations": patch["metadata"]["annotations"]},
        "spec": patch["spec"],
    }
    return msgspec.convert(document, ResourceBinding)


def test_a_state_survives_the_binding() -> None:
    state = moves.settle(moved(), facts(READY_ELSEWHERE))
    assert moves.state_of(bound(state)) == state


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7"])
def test_a_spoiled_annotation_counts_as_none(text: str) -> None:
    document = {"metadata": {"annotations": {moves.BEFORE: text, moves.DISPLACED: text}}}
    state = moves.state_of(msgspec.convert(document, ResourceBinding))
    assert (state.before, state.displaced) == ({}, None)


# ---------------------------------------------------------------------------------------------------- any history
NAMES = ("alpha", "beta", "gamma", "delta")
WANTED = 6


class World:
    """Clusters that run what they are asked to run after a while; a planner that divides evenly."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.state = State({"alpha": 2, "beta": 2, "gamma": 1, "delta": 1})
        self.up = set(NAMES)
        self.ready = dict(self.state.clusters)
        self.drained: set[str] = set()
        self.open = False

    def facts(self) -> Facts:
        seen = {name: Seen(self.ready.get(name, 0)) for name in sorted(self.up)}
        drained = frozenset(self.drained)
        return Facts(Q, seen, drained, frozenset(NAMES), settled=not self.open, now="now")

    def place(self) -> None:
        if not self.open:
            return
        names = [n for n in NAMES if n in self.up - self.drained and n not in self.state.evicting]
        if names:
            new = {n: WANTED // len(names) + (i < WANTED % len(names)) for i, n in enumerate(names)}
            self.state = moves.decided(self.state, new, "now")
            self.open = False

    def step(self) -> None:
        match self.random.choice(
            ("down", "up", "drain", "undrain", "place", "grow", "settle", "evict")
        ):
            case "down" if len(self.up) > 2:
                self.up.discard(self.random.choice(sorted(self.up)))
            case "up":
                self.up.add(self.random.choice(NAMES))
            case "drain" if len(self.drained) < 2:
                self.drained.add(self.random.choice(NAMES))
            case "undrain" if self.drained:
                self.drained.discard(self.random.choice(sorted(self.drained)))
            case "evict":
                for name in NAMES:
                    if name in self.state.clusters and (
                        name not in self.up or name in self.drained
                    ):
                        reason = DRAINED if name in self.up else UNREACHABLE
                        self.state = moves.evict(self.state, name, reason, "", self.facts())
                        self.open = True
            case "place":
                self.place()
            case "grow":
                self.run()
            case _:
                self.settle()

    def run(self) -> None:
        """Members that are heard bring up what they are asked; the others go on as they were."""
        for name in self.up:
            self.ready[name] = self.state.running.get(name, 0)

    def shrink(self) -> None:
        """What a member is no longer asked to run goes at once."""
        for name in self.up:
            self.ready[name] = min(self.ready.get(name, 0), self.state.running.get(name, 0))

    def standing(self) -> int:
        return sum(self.ready.get(name, 0) for name in self.up)

    def settle(self) -> None:
        before, was = self.standing(), self.state
        after = moves.settle(was, self.facts())
        assert moves.settle(after, self.facts()) == after
        for task in was.tasks:
            if task.cluster not in self.up:
                assert after.running.get(task.cluster, 0) >= task.replicas, (
                    "the unseen lose nothing"
                )
        if after.clusters != was.clusters:
            self.open = False  # what is taken back answers the question
        self.state = after
        self.shrink()
        assert self.standing() >= min(before, WANTED), "a move never takes what is needed"


@pytest.mark.parametrize("seed", range(150))
def test_no_history_of_faults_takes_what_is_needed_and_all_end_well(seed: int) -> None:
    world = World(seed)
    for _ in range(80):
        world.step()
    world.up, world.drained = set(NAMES), set()
    for _ in range(12):
        world.settle()
        world.place()
        world.run()
    assert world.state.tasks == (), world.state
    assert world.state.before == {}
    assert sum(world.state.clusters.values()) == WANTED
    assert world.standing() == WANTED


@pytest.mark.parametrize("seed", range(60))
def test_a_cancelled_move_restores_the_exact_placement(seed: int) -> None:
    chance = random.Random(seed)
    placed = {name: chance.randint(1, 5) for name in NAMES[: chance.randint(2, 4)]}
    gone = chance.choice(sorted(placed))
    others = {name: count for name, count in placed.items() if name != gone}
    state = moves.evict(State(placed), gone, UNREACHABLE, "", facts({}))
    if chance.random() < 0.7:
        first = sorted(others)[0]
        state = moves.decided(state, others | {first: others[first] + placed[gone]}, "now")
    back = moves.settle(state, facts(placed))
    assert back.clusters == placed
    assert back.displaced is None
    assert json.dumps(back.before) == "{}"


@pytest.mark.parametrize(
    ("told", "late_s", "wait"),
    [
        ({"replicas": 1}, 60, None),
        ({"terminatingReplicas": 1}, 60, None),
        ({"terminatingReplicas": 0}, 60, 0.0),
        ({}, 3, 4.0),
    ],
    ids=["runs", "told late: still ending", "gone", "told at once: its grace"],
)
def test_a_drained_workload_of_mode_consistency_starts_elsewhere_when_the_last_pod_has_ended(
    told: dict[str, int], late_s: float, wait: float | None
) -> None:
    task = moves.wire(Task("alpha", 0, DRAINED, "2026-01-01T00:00:00Z", grace_s=7))
    document = {
        "metadata": {"name": "one", "namespace": "demo"},
        "spec": {"gracefulEvictionTasks": [task]},
        "status": {"aggregatedStatus": [{"clusterName": "alpha", "status": told}]},
    }
    binding = msgspec.convert(document, ResourceBinding)
    now = parse_time("2026-01-01T00:00:00Z") + dt.timedelta(seconds=late_s)
    assert moves.stopping_s(binding, now) == wait


@pytest.mark.parametrize(
    ("present", "over"),
    [
        ({"stopped": True}, True),
        ({"stopped": False}, False),
        ({"stopped": True, "drained": frozenset({"alpha"})}, False),
        ({"stopped": True, "seen": {}}, False),
        ({"stopped": False, "settled": True}, True),
    ],
    ids=["stopped and usable again", "may still run", "still drained", "not seen", "placed anew"],
)
def test_a_drain_of_mode_consistency_is_over_when_its_cluster_may_be_used_again(
    present: dict[str, object], over: bool
) -> None:
    """The drained cluster may be the only one with room: held out for ever, the workload would start nowhere."""
    state = State({}, (Task("alpha", 0, DRAINED, "2026-01-01T00:00:00Z", grace_s=7),))
    after = moves.settle(
        state, facts({"alpha": 0}, **{"fenced": True, "settled": False, **present})
    )
    assert (after.tasks == ()) is over
