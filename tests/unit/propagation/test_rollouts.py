"""Tables of staged updates: what happens in the fleet, and what a run, its record and its budgets come to."""

import datetime as dt
from typing import Any

import msgspec
import pytest
from tests.unit.propagation.staged_story import NEW, OLD, START, Story, budget, candidate, strategy

from federation.propagation.rollouts import budgets, durations, plan, rules, shares, stages
from federation.propagation.rollouts.record import Record, encoded, projected
from federation.propagation.rollouts.sights import Sight, sights
from federation.propagation.rollouts.snapshots import hash_of
from federation.propagation.rollouts.staged import Staged
from machinery.api.fleet.rollouts import (
    STRATEGY,
    TEMPLATE_HASH,
    TRIGGER,
    ClusterUpdate,
    StagedUpdateRunStatus,
    StageStatus,
)
from machinery.api.fleet.work import ResourceBinding

BY_ZONE = strategy()
BACK = strategy(failureAction="Rollback")
ASKED = [{"type": "Approval"}]
WAIT = [{"type": "TimedWait", "waitTime": "1m"}]
RINGS = strategy(
    stages=[
        {
            "name": "canary",
            "labelSelector": {"matchLabels": {"ring": "6"}},
            "afterStageTasks": ASKED,
        },
        {"name": "rest", "groupBy": "zone", "maxConcurrency": "100%", "beforeStageTasks": WAIT},
    ],
    healthGate={"progressDeadline": "None"},
)
ALL = strategy(stages=[{"name": "all", "maxConcurrency": "50%", "sortingLabelKey": "ring"}])
BOTH = strategy(stages=[{"name": "all", "beforeStageTasks": [*ASKED, *WAIT]}])
GUARDED = strategy(stages=[{"name": "all", "beforeStageTasks": ASKED}], failureAction="Rollback")
ONE_AWAY = [budget(maxUnavailable=1)]
FOUR = "well a; tick 5; well b; tick 5; well c; tick 5; well d; tick 5"

STORIES: list[tuple[str, Any, str, str]] = [
    # ---- order and gates
    ("the first cluster of the first zone is told", BY_ZONE, "", "Progressing a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("well is not enough: it has to stay so", BY_ZONE, "well a; tick 4", "Progressing a:s b:. c:. d:. | a=new b=old c=old d=old"),
    ("the next one of the zone follows", BY_ZONE, "well a; tick 5", "Progressing a:Y b:u c:. d:. | a=new b=new c=old d=old"),
    ("the next zone follows when all of it is well", BY_ZONE, "well a; tick 5; well b; tick 5", "Progressing a:Y b:Y c:u d:. | a=new b=new c=new d=old"),
    ("all through", BY_ZONE, FOUR, "Succeeded a:Y b:Y c:Y d:Y | a=new b=new c=new d=new"),
    ("another zone being well helps nobody", BY_ZONE, "well c; well d; tick 30", "Progressing a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("half at once, by the sorting label", ALL, "", "Progressing d:u c:u b:. a:. | a=old b=old c=new d=new"),
    ("one that is through makes room for one", ALL, "well c; tick 5", "Progressing d:u c:Y b:u a:. | a=old b=new c=new d=new"),
    # ---- failures
    ("a second before the deadline", BY_ZONE, "ill a; tick 59", "Progressing a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("the deadline is over", BY_ZONE, "ill a; tick 60", "Failed a:F b:. c:. d:. | a=new b=old c=old d=old"),
    ("it says itself that it cannot", BY_ZONE, "stuck a", "Failed a:F b:. c:. d:. | a=new b=old c=old d=old"),
    ("it turns ill while it soaks", BY_ZONE, "well a; tick 4; dip a", "Failed a:F b:. c:. d:. | a=new b=old c=old d=old"),
    ("ill after it was through is others' business", BY_ZONE, "well a; tick 5; ill a; well b; tick 5", "Progressing a:Y b:Y c:u d:. | a=new b=new c=new d=old"),
    ("a failure leaves what is well updated", BY_ZONE, "well a; tick 5; stuck b", "Failed a:Y b:F c:. d:. | a=new b=new c=old d=old"),
    ("a failure stops what is beside it", ALL, "stuck d; well c; tick 5", "Failed d:F c:u b:. a:. | a=old b=old c=new d=new"),
    ("a failure that takes everything back", BACK, "well a; tick 5; stuck b", "RolledBack a:R b:R c:. d:. | a=old b=old c=old d=old"),
    ("a failure in the last zone takes the first one back", BACK, "well a; tick 5; well b; tick 5; well c; tick 5; stuck d", "RolledBack a:R b:R c:R d:R | a=old b=old c=old d=old"),
    ("nothing revives a failed run", BY_ZONE, "stuck a; well a; tick 5", "Failed a:F b:. c:. d:. | a=new b=old c=old d=old"),
    ("without a deadline it may take for ever", RINGS, "ill d; tick 99999", "Progressing d:u a:. b:. c:. | a=old b=old c=old d=new"),
    # ---- replicas move meanwhile
    ("growing while it soaks is no failure", BY_ZONE, "well a; grow a; tick 5", "Progressing a:Y b:u c:. d:. | a=new b=new c=old d=old"),
    ("nor is shrinking", BY_ZONE, "well a; shrink a; tick 5", "Progressing a:Y b:u c:. d:. | a=new b=new c=old d=old"),
    ("failover grows a cluster that is not updated: it has the old template", BY_ZONE, "grow c", "Progressing a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("a cluster that is left is left out", BY_ZONE, "gone a", "Progressing a:- b:u c:. d:. | b=new c=old d=old"),
    ("so is one whose turn it is not yet", BY_ZONE, "gone c; well a; tick 5; well b; tick 5", "Progressing a:Y b:Y c:- d:u | a=new b=new d=new"),
    ("it comes back in its turn", BY_ZONE, "gone c; come c", "Progressing a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("it comes back when its zone is over: beside the present one", BY_ZONE, "gone b; well a; tick 5; come b; well c; tick 5", "Progressing a:Y b:u c:Y d:. | a=new b=new c=new d=old"),
    ("and the run does not end without it", BY_ZONE, "gone b; well a; tick 5; come b; well c; tick 5; well b; tick 5; well d; tick 5", "Succeeded a:Y b:Y c:Y d:Y | a=new b=new c=new d=new"),
    # ---- clusters that are not heard of
    ("not heard of: waited for, and no time runs", BY_ZONE, "lost a; tick 999", "Waiting a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("heard again: its time begins anew", BY_ZONE, "lost a; tick 999; back a; tick 59", "Progressing a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("and ends", BY_ZONE, "lost a; tick 999; back a; tick 60", "Failed a:F b:. c:. d:. | a=new b=old c=old d=old"),
    ("lost while it soaks: it has to be well anew", BY_ZONE, "well a; lost a; tick 5; back a", "Progressing a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("lost before its turn: not told", BY_ZONE, "lost b; well a; tick 5", "Waiting a:Y b:. c:. d:. | a=new b=old c=old d=old"),
    ("lost in a zone whose turn comes: passed over by others of it", ALL, "lost d; well c; tick 5; well b; tick 5", "Progressing d:u c:Y b:Y a:u | a=new b=new c=new d=new"),
    ("lost in a later zone stops nobody yet", BY_ZONE, "lost d; well a; tick 5", "Progressing a:Y b:u c:. d:. | a=new b=new c=old d=old"),
    ("its zone dies, failover takes it out: the run goes on", BY_ZONE, "lost a; tick 20; gone a; lost b; gone b", "Progressing a:- b:- c:u d:. | c=new d=old"),
    ("skipped when asked for", BY_ZONE, "lost a; skip", "Progressing a:- b:u c:. d:. | a=new b=new c=old d=old"),
    ("a skipped one is back: it is judged after all", BY_ZONE, "lost a; skip; well b; tick 5; back a; well c; tick 5; well a; tick 5", "Progressing a:Y b:Y c:Y d:u | a=new b=new c=new d=new"),
    ("skipped for good: the run ends without it", BY_ZONE, "lost d; skip; well a; tick 5; well b; tick 5; well c; tick 5", "Succeeded a:Y b:Y c:Y d:- | a=new b=new c=new d=new"),
    ("skipped by the strategy", strategy(skipUnreachable=True), "lost a", "Progressing a:- b:u c:. d:. | a=new b=new c=old d=old"),
    # ---- people
    ("stopped: what was begun is judged", BY_ZONE, "state Stop; well a; tick 5", "Stopped a:Y b:. c:. d:. | a=new b=old c=old d=old"),
    ("stopped: it can fail", BY_ZONE, "state Stop; tick 60", "Failed a:F b:. c:. d:. | a=new b=old c=old d=old"),
    ("resumed", BY_ZONE, "state Stop; well a; tick 5; state Run", "Progressing a:Y b:u c:. d:. | a=new b=new c=old d=old"),
    ("taken back by hand", BY_ZONE, "well a; tick 5; state Rollback", "RolledBack a:R b:R c:. d:. | a=old b=old c=old d=old"),
    ("taken back by hand after it failed", BY_ZONE, "well a; tick 5; stuck b; state Rollback", "RolledBack a:R b:R c:. d:. | a=old b=old c=old d=old"),
    ("taken back, and one that was left meanwhile too", BY_ZONE, "gone a; state Rollback; come a", "RolledBack a:R b:R c:. d:. | a=old b=old c=old d=old"),
    ("taken back, and one that was told, left, and waits for its turn again", BACK, "gone a; come a; stuck b", "RolledBack a:R b:R c:. d:. | a=old b=old c=old d=old"),
    ("nothing is taken back from a run that is through", BY_ZONE, f"{FOUR}; state Rollback", "Succeeded a:Y b:Y c:Y d:Y | a=new b=new c=new d=new"),
    ("an approval after the canary", RINGS, "well d", "Waiting d:Y a:. b:. c:. | a=old b=old c=old d=new"),
    ("approved: then a wait before the next", RINGS, "well d; approve web-1-after-canary; tick 59", "Waiting d:Y a:. b:. c:. | a=old b=old c=old d=new"),
    ("waited: the whole zone at once", RINGS, "well d; approve web-1-after-canary; tick 60", "Progressing d:Y a:u b:u c:. | a=new b=new c=old d=new"),
    ("a wait before each zone", RINGS, "well d; approve web-1-after-canary; tick 60; well a; well b; tick 59", "Waiting d:Y a:Y b:Y c:. | a=new b=new c=old d=new"),
    ("refused: stopped", RINGS, "well d; deny web-1-after-canary", "Failed d:Y a:. b:. c:. | a=old b=old c=old d=new"),
    ("refused before anything began: nothing to take back", GUARDED, "deny web-1-before-all", "RolledBack a:. b:. c:. d:. | a=old b=old c=old d=old"),
    ("two tasks: one is not enough", BOTH, "approve web-1-before-all; tick 59", "Waiting a:. b:. c:. d:. | a=old b=old c=old d=old"),
    ("two tasks: nor is the other", BOTH, "tick 60", "Waiting a:. b:. c:. d:. | a=old b=old c=old d=old"),
    ("two tasks: both", BOTH, "tick 60; approve web-1-before-all", "Progressing a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("an approval of another name is none", BOTH, "tick 60; approve web-1-after-all", "Waiting a:. b:. c:. d:. | a=old b=old c=old d=old"),
    ("a stage of which everybody left asks nobody", GUARDED, "gone a; gone b; gone c; gone d", "Waiting a:- b:- c:- d:- | "),
    ("who comes in its place is asked about", GUARDED, "gone a; gone b; gone c; gone d; come b", "Waiting a:- b:. c:- d:- | b=old"),
    ("the last cluster dies: its replacement is updated too", BY_ZONE, "well a; tick 5; well b; tick 5; well c; tick 5; lost d; open; gone d", "Waiting a:Y b:Y c:Y d:- | a=new b=new c=new"),
    ("and only then the run ends", BY_ZONE, "gone a; well b; tick 5; well c; tick 5; lost d; open; gone d; come a; decided", "Progressing a:u b:Y c:Y d:- | a=new b=new c=new"),
    ("the last zone is gone, one of the first is late: not the end", BY_ZONE, "gone b; well a; tick 5; well c; tick 5; gone d; come b", "Succeeded a:Y b:- c:Y d:- | a=new b=new c=new"),
    ("the last zone is about to go, one of the first is late", BY_ZONE, "gone b; well a; tick 5; well c; tick 4; come b; gone d; tick 1", "Progressing a:Y b:u c:Y d:- | a=new b=new c=new"),
    ("paused: nothing begins, and no time runs", BY_ZONE, "pause; well a; tick 999", "Stopped a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("resumed: its time begins anew", BY_ZONE, "pause; tick 999; resume; tick 59", "Progressing a:u b:. c:. d:. | a=new b=old c=old d=old"),
    ("paused: it can be taken back", BY_ZONE, "pause; state Rollback", "RolledBack a:R b:. c:. d:. | a=old b=old c=old d=old"),
    ("stopped while it waits for an approval", BOTH, "tick 60; state Stop; approve web-1-before-all", "Stopped a:. b:. c:. d:. | a=old b=old c=old d=old"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "words", "shown"), [row[1:] for row in STORIES], ids=[row[0] for row in STORIES]
)
def test_a_run(spec: Any, words: str, shown: str) -> None:
    assert Story(spec).tell(words).show() == shown


BUDGETED = [
    ("nobody is away: one may go", ONE_AWAY, "", "Progressing d:u c:. b:. a:. | a=old b=old c=old d=new"),
    ("one is dead: its place is taken", ONE_AWAY, "lost a; well d; tick 5", "Waiting d:Y c:. b:. a:. | a=old b=old c=old d=new"),
    ("back again: it goes on", ONE_AWAY, "lost a; well d; tick 5; back a", "Progressing d:Y c:u b:. a:. | a=old b=old c=new d=new"),
    ("updating what is ill anyway costs nothing", ONE_AWAY, "ill c; dip c; dip c; well d; tick 5", "Progressing d:Y c:u b:. a:. | a=old b=old c=new d=new"),
    ("a budget of none at all waits for ever", [budget(minAvailable="100%")], "tick 999", "Waiting d:. c:. b:. a:. | a=old b=old c=old d=old"),
    ("replicas: two of eight are too many for one", [budget(of="Replicas", maxUnavailable=1)], "", "Waiting d:. c:. b:. a:. | a=old b=old c=old d=old"),
    ("replicas: a quarter is one cluster", [budget(of="Replicas", maxUnavailable="25%")], "", "Progressing d:u c:. b:. a:. | a=old b=old c=old d=new"),
    ("two budgets: the stricter one", [budget(maxUnavailable=2), budget(minAvailable=3)], "", "Progressing d:u c:. b:. a:. | a=old b=old c=old d=new"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("held", "words", "shown"), [row[1:] for row in BUDGETED], ids=[row[0] for row in BUDGETED]
)
def test_a_run_keeps_budgets(held: Any, words: str, shown: str) -> None:
    """Half of the clusters might be updated at once."""
    assert Story(ALL, budgets=held).tell(words).show() == shown


def test_a_step_says_when_to_look_again() -> None:
    assert Story(BY_ZONE).wait_s == 60
    assert Story(BY_ZONE).tell("tick 20").wait_s == 40
    assert Story(BY_ZONE).tell("well a; tick 2").wait_s == 3
    assert Story(BOTH).wait_s == 60
    assert Story(BY_ZONE).tell("lost a").wait_s is None


def test_what_has_to_last_never_ends_early_though_objects_carry_whole_seconds() -> None:
    story = Story(BY_ZONE).tell("tick 0.9; well a")
    assert story.run.status.stages[0].clusters[0].healthy_time == START + dt.timedelta(seconds=1)
    assert story.wait_s == pytest.approx(5.1)
    assert story.tell("tick 5.0").show().startswith("Progressing a:s")
    assert story.tell("tick 0.1").show().startswith("Progressing a:Y")
    at_once = Story(strategy(healthGate={})).tell("tick 0.9; well a")
    assert at_once.show().startswith("Progressing a:Y b:u")


def test_what_has_the_template_already_is_through_when_it_is_well() -> None:
    """A second run after one that failed: c alone was left."""
    held = Record(stable=OLD, seen=NEW, run="web-1", open=True, clusters=dict.fromkeys("abd", NEW))
    story = Story(strategy(healthGate={"progressDeadline": "60s"}), record=held)
    assert story.show() == "Progressing a:u b:. c:. d:. | a=new b=new c=old d=new"
    story.tell("well a; well b")
    assert story.show() == "Progressing a:Y b:Y c:u d:. | a=new b=new c=new d=new"
    # What it goes back to is what was rolled out everywhere last, not what the failed run left there; d, of which this
    # run has not come to speak yet, too.
    shown = story.tell("state Rollback").show()
    assert shown == "RolledBack a:R b:R c:R d:. | a=old b=old c=old d=old"


def test_approvals_are_asked_for_once_their_stage_comes() -> None:
    story = Story(RINGS)
    assert story.asked == set()
    assert story.tell("well d").asked == {"web-1-after-canary"}


def test_the_message_says_who_is_waited_for_and_why() -> None:
    def message(story: Story) -> str:
        return story.run.status.message

    assert message(Story(BY_ZONE).tell("lost a")) == "not heard of, waited for: a"
    assert message(Story(BOTH)) == (
        "stage all waits for the approval of web-1-before-all; stage all waits for 1m"
    )
    assert message(Story(ALL, budgets=[budget(minAvailable=4)])) == (
        "disruption budget demo/b: 4 of 4 clusters are available, 4 must stay so, and d is 1 of them"
    )
    told = message(Story(BY_ZONE).tell("ill a; tick 60"))
    assert told == "a: not well after 60 s: 2 of 2 replicas are ready"


# ------------------------------------------------------------------------------------------------------------- stages
def laid_out(names: str, **spec: Any) -> str:
    fleet = [candidate(name) for name in names]
    found = stages.layout(strategy(**spec), fleet)
    return " ".join(f"{s.stage_name}={','.join(c.cluster_name for c in s.clusters)}" for s in found)


def selected(key: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}


LAYOUTS: list[tuple[str, list[dict[str, Any]], str]] = [
    ("one stage for all", [{"name": "all"}], "all=a,b,c,d"),
    ("a stage a zone", [{"name": "z", "groupBy": "zone"}], "z-zone-1=a,b z-zone-2=c z-zone-3=d"),
    ("zones in the order of a label", [{"name": "z", "groupBy": "zone", "sortingLabelKey": "ring"}], "z-zone-3=d z-zone-2=c z-zone-1=b,a"),
    ("a stage a cluster", [{"name": "c", "groupBy": "cluster"}], "c-a=a c-b=b c-c=c c-d=d"),
    ("the whole region", [{"name": "r", "groupBy": "region"}], "r-region=a,b,c,d"),
    ("a selected one first, the zones get the rest", [{"name": "first", "labelSelector": selected("ring", "9")}, {"name": "z", "groupBy": "zone"}], "first=a z-zone-1=b z-zone-2=c z-zone-3=d"),
    ("the order is that of the strategy, whoever selects", [{"name": "z", "groupBy": "zone"}, {"name": "last", "labelSelector": selected("ring", "9")}], "z-zone-1=b z-zone-2=c z-zone-3=d last=a"),
    ("groups of a selection", [{"name": "z", "groupBy": "zone", "labelSelector": selected("zone", "zone-1")}, {"name": "rest", "labelSelector": selected("zone", "zone-2", "zone-3")}], "z-zone-1=a,b rest=c,d"),
    ("a stage that selects nobody is empty", [{"name": "none", "labelSelector": selected("ring", "1")}, {"name": "z", "groupBy": "region"}], "none= z-region=a,b,c,d"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "shown"), [row[1:] for row in LAYOUTS], ids=[row[0] for row in LAYOUTS]
)
def test_stages(spec: list[dict[str, Any]], shown: str) -> None:
    assert laid_out("dcba", stages=spec) == shown


UNSTAGEABLE: list[tuple[list[dict[str, Any]], str, str]] = [
    ([{"name": "one", "labelSelector": selected("zone", "zone-1")}], "ClusterInNoStage", "no stage selects the cluster c, d"),
    ([{"name": "one"}, {"name": "two"}], "ClusterInManyStages", "cluster a is in the stages one, two"),
    ([{"name": "z", "groupBy": "zone"}, {"name": "r", "groupBy": "region"}], "ClusterInManyStages", "cluster a is in the stages z, r"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "reason", "message"), UNSTAGEABLE)
def test_strategies_that_do_not_fit_the_fleet(
    spec: list[dict[str, Any]], reason: str, message: str
) -> None:
    with pytest.raises(stages.Unstageable) as caught:
        laid_out("abcd", stages=spec)
    assert (caught.value.reason, caught.value.message) == (reason, message)


def test_clusters_without_a_zone_come_last() -> None:
    fleet = [candidate("a"), type(candidate("a"))("aa"), candidate("d")]
    found = stages.layout(BY_ZONE, fleet)
    assert [s.stage_name for s in found] == ["z-zone-1", "z-zone-3", "z-none"]


JOINING = [
    (BY_ZONE, "abd", "c", "a:u b:. d:. c:."),
    (BY_ZONE, "cd", "a", "c:u d:. a:."),
    (BY_ZONE, "acd", "b", "a:u b:. c:. d:."),
]


@pytest.mark.parametrize(("spec", "names", "late", "shown"), JOINING)
def test_a_cluster_that_comes_late(spec: Any, names: str, late: str, shown: str) -> None:
    """Into its own stage; where there is none, into the last one."""
    story = Story(spec, names).tell(f"come {late}")
    assert story.show().partition(" | ")[0] == f"Progressing {shown}"


def test_concurrency_of_a_stage_is_at_least_one() -> None:
    def most(value: int | str) -> int:
        spec = strategy(stages=[{"name": "all", "maxConcurrency": value}])
        return stages.layout(spec, [candidate(n) for n in "abcd"])[0].max_concurrency

    assert [most(v) for v in ("1%", "49%", "50%", "100%", 7)] == [1, 1, 2, 4, 7]


# ------------------------------------------------------------------------------------------------------------- records
def status_of(state: str, **clusters: str) -> StagedUpdateRunStatus:
    updates = tuple(ClusterUpdate(n, s, from_template=OLD) for n, s in clusters.items())
    stage = StageStatus(
        "all", "Succeeded" if state == "Succeeded" else "Updating", clusters=updates
    )
    return StagedUpdateRunStatus(state=state, message="why", target_template=NEW, stages=(stage,))


HELD = Record(stable=OLD, seen=NEW, run="web-1", open=True, clusters={"z": "older"})
PROJECTED = [
    ("told", status_of("Progressing", a="Updating", b="Pending"), '"clusters":{"a":"new","z":"older"},"open":true,"run":"web-1","seen":"new","stable":"old","updating":["a"]'),
    ("through", status_of("Succeeded", a="Succeeded", b="Skipped"), '"run":"web-1","seen":"new","stable":"new"'),
    ("failed: it can be rolled back, so it stays open", status_of("Failed", a="Updating", b="Failed"), '"clusters":{"a":"new","b":"new","z":"older"},"failed":"why","open":true,"run":"web-1","seen":"new","stable":"old"'),
    ("rolled back", status_of("RolledBack", a="RolledBack", b="Pending"), '"clusters":{"z":"older"},"failed":"why","run":"web-1","seen":"new","stable":"old"'),
    ("superseded: clusters keep what they have", status_of("Superseded", a="Succeeded", b="Soaking"), '"clusters":{"a":"new","b":"new","z":"older"},"run":"web-1","seen":"new","stable":"old"'),
    ("not laid out yet", StagedUpdateRunStatus(), '"clusters":{"z":"older"},"open":true,"run":"web-1","seen":"new","stable":"old"'),
]  # fmt: skip


def test_a_cluster_that_has_the_bad_template_from_before_loses_it_too() -> None:
    """It was told in an earlier run, died, and is not in the placement of this one."""
    held = msgspec.structs.replace(HELD, clusters={"dead": NEW, "z": "older"})
    found = projected(held, status_of("RolledBack", a="RolledBack"))
    assert found.clusters == {"z": "older"}


@pytest.mark.parametrize(
    ("status", "text"), [row[1:] for row in PROJECTED], ids=[row[0] for row in PROJECTED]
)
def test_the_record_follows_from_the_status(status: StagedUpdateRunStatus, text: str) -> None:
    found = projected(HELD, status)
    assert encoded(found) == f"{{{text}}}"
    assert projected(found, status) == found, "a second pass changes nothing"


def deployment(image: str) -> dict[str, Any]:
    inner = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "demo", "annotations": {"team": "x"}},
        "spec": {"replicas": 3, "template": inner},
    }


def test_each_cluster_gets_the_template_of_the_record() -> None:
    old, new = deployment("whoami:1"), deployment("whoami:2")
    record = Record(
        stable=hash_of(old), seen=hash_of(new), clusters={"a": hash_of(new), "lost": "gone"}
    )
    works = {"karmada-es-lost": {"the": "Work"}}
    held = Staged(record, hash_of(new), {hash_of(old): old["spec"]["template"]}, works)

    def image(cluster: str) -> str:
        given = held.given(new, cluster)
        digest = given["metadata"]["annotations"][TEMPLATE_HASH]
        assert digest == hash_of(given)
        assert given["spec"]["replicas"] == 3
        return str(given["spec"]["template"]["spec"]["containers"][0]["image"])

    assert [image(name) for name in ("a", "b", "another")] == ["whoami:2", "whoami:1", "whoami:1"]
    assert new["metadata"]["annotations"] == {"team": "x"}, "the user's object stays as it is"
    # Somebody deleted the snapshot: a Work that is there stays, where there is none the newest goes.
    assert held.kept("lost") == {"the": "Work"}
    assert held.kept("a") is None and held.kept("b") is None
    lonely = Staged(record, hash_of(new), {}, {})
    assert lonely.kept("lost") is None
    assert lonely.given(new, "lost")["spec"] == new["spec"]


REPORTS: list[tuple[str, dict[str, Any], Sight]] = [
    ("well", {"applied": True, "health": "Healthy", "status": {"templateHash": "h", "availableReplicas": 2}}, Sight(2, True, "h", True, 2)),
    ("not applied", {"applied": False, "appliedMessage": "no namespace", "health": "Healthy"}, Sight(2, complaint="no namespace")),
    ("its rollout does not go on", {"applied": True, "health": "Unhealthy", "status": {"generation": 2, "observedGeneration": 2, "conditions": [{"type": "Progressing", "status": "False", "message": "late"}]}}, Sight(2, failing="late")),
    ("that was said of an older generation", {"applied": True, "health": "Unhealthy", "status": {"generation": 3, "observedGeneration": 2, "conditions": [{"type": "Progressing", "status": "False", "message": "late"}]}}, Sight(2)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "sight"), [row[1:] for row in REPORTS], ids=[row[0] for row in REPORTS]
)
def test_what_is_seen_of_a_cluster(item: dict[str, Any], sight: Sight) -> None:
    document = {
        "spec": {"clusters": [{"name": "a", "replicas": 2}, {"name": "b", "replicas": 1}]},
        "status": {"aggregatedStatus": [item | {"clusterName": "a"}]},
    }
    binding = msgspec.convert(document, ResourceBinding)
    assert sights(binding, {"a", "b"}) == {"a": sight, "b": Sight(1)}
    assert sights(binding, ())["a"] == Sight(2, seen=False)


NEWEST = [
    (Record(stable=NEW, seen=NEW), True, "nothing is on its way"),
    (Record(stable=OLD, seen=OLD), False, "the change has not been looked at"),
    (Record(stable=NEW, seen=OLD), True, "changed back before anything happened"),
    (Record(stable=OLD, seen=NEW, open=True, clusters={"a": NEW}), False, "not accepted yet"),
    (Record(stable=OLD, seen=NEW, open=True, clusters={"a": NEW}, accepted=("a",)), True, "accepted"),
    (Record(stable=OLD, seen=NEW, clusters={"a": NEW}, failed="why"), False, "rolled back"),
    (Record(stable=OLD, seen=NEW), False, "waits for a run by hand"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "counts", "why"), NEWEST, ids=[row[2] for row in NEWEST])
def test_whether_a_cluster_counts_as_updated(record: Record, counts: bool, why: str) -> None:
    assert record.newest_in("a", NEW) is counts, why


# ------------------------------------------------------------------------------------------------------------- budgets
def away(disturbed: str = "", **ready: int) -> budgets.Away:
    """Clusters of two replicas, so many of them ready; -1: not heard of."""
    seen = {n: Sight(2, seen=r >= 0, ready=max(0, r)) for n, r in ready.items()}
    return budgets.Away(seen, tuple(disturbed))


REFUSED = [
    (budget(maxUnavailable=1), away(a=2, b=2, c=2), ""),
    (budget(maxUnavailable=1), away("b", a=2, b=2, c=2), "2 of 3 clusters are available, 2 must stay so, and a is 1 of them"),
    (budget(maxUnavailable=1), away(a=2, b=1, c=2), "2 of 3 clusters are available, 2 must stay so, and a is 1 of them"),
    (budget(maxUnavailable=1), away(a=2, b=-1, c=2), "2 of 3 clusters are available, 2 must stay so, and a is 1 of them"),
    (budget(maxUnavailable=1), away(a=1, b=-1, c=2), ""),
    (budget(maxUnavailable=0), away(a=2), "1 of 1 clusters are available, 1 must stay so, and a is 1 of them"),
    (budget(maxUnavailable="34%"), away("b", a=2, b=2, c=2), ""),
    (budget(maxUnavailable="33%"), away("b", a=2, b=2, c=2), "2 of 3 clusters are available, 2 must stay so, and a is 1 of them"),
    (budget(minAvailable=2), away(a=2, b=2, c=2), ""),
    (budget(minAvailable="51%"), away(a=2, b=2, c=2), ""),
    (budget(minAvailable="67%"), away(a=2, b=2, c=2), "3 of 3 clusters are available, 3 must stay so, and a is 1 of them"),
    (budget(of="Replicas", minAvailable=4), away(a=2, b=2, c=1), "5 of 6 replicas are available, 4 must stay so, and a is 2 of them"),
    (budget(of="Replicas", minAvailable=4), away(a=1, b=2, c=2), ""),
    (budget(of="Replicas", maxUnavailable="50%"), away(a=2, b=2, c=1), ""),
]  # fmt: skip


@pytest.mark.parametrize(("held", "seen", "why"), REFUSED)
def test_may_a_be_disturbed(held: Any, seen: budgets.Away, why: str) -> None:
    found = budgets.refusal([held], seen, "a")
    assert found == (f"disruption budget demo/b: {why}" if why else "")


def test_budgets_of_a_workload() -> None:
    web = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "demo"},
    }
    other = web | {"metadata": {"name": "web", "namespace": "other"}}
    held = budget(maxUnavailable=1)
    assert budgets.of(web, [held]) == [held]
    assert budgets.of(other, [held]) == []
    assert budgets.of(None, [held]) == []


# ------------------------------------------------------------------------------------------------------------- admission
STRATEGIES: list[tuple[dict[str, Any], list[str]]] = [
    ({"stages": [{"name": "a"}]}, []),
    ({"stages": [{"name": "a"}, {"name": "a"}]}, ["spec.stages[1].name"]),
    ({"stages": [{"name": "a", "maxConcurrency": 0}]}, ["spec.stages[0].maxConcurrency"]),
    ({"stages": [{"name": "a", "maxConcurrency": "0%"}]}, ["spec.stages[0].maxConcurrency"]),
    ({"stages": [{"name": "a", "maxConcurrency": "half"}]}, ["spec.stages[0].maxConcurrency"]),
    ({"stages": [{"name": "a", "afterStageTasks": [{"type": "TimedWait"}]}]}, ["spec.stages[0].afterStageTasks[0].waitTime"]),
    ({"stages": [{"name": "a", "afterStageTasks": [{"type": "TimedWait", "waitTime": "1 h"}]}]}, ["spec.stages[0].afterStageTasks[0].waitTime"]),
    ({"stages": [{"name": "a", "beforeStageTasks": [{"type": "Approval", "waitTime": "1h"}]}]}, ["spec.stages[0].beforeStageTasks[0].waitTime"]),
    ({"stages": [{"name": "a", "beforeStageTasks": [{"type": "Approval"}, {"type": "Approval"}]}]}, ["spec.stages[0].beforeStageTasks"]),
    ({"stages": [], "healthGate": {"progressDeadline": "None", "minSuccessTime": "0"}}, []),
    ({"stages": [], "healthGate": {"progressDeadline": "soon", "minSuccessTime": "None"}}, ["spec.healthGate.progressDeadline", "spec.healthGate.minSuccessTime"]),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "fields"), STRATEGIES)
def test_strategies_are_judged(spec: dict[str, Any], fields: list[str]) -> None:
    assert [field for field, _, _ in rules.strategy({"spec": spec})] == fields


BUDGETS: list[tuple[dict[str, Any], list[str]]] = [
    ({"minAvailable": 1}, []),
    ({"maxUnavailable": "25%"}, []),
    ({}, ["spec"]),
    ({"minAvailable": 1, "maxUnavailable": 1}, ["spec"]),
    ({"minAvailable": -1}, ["spec.minAvailable"]),
    ({"maxUnavailable": True}, ["spec.maxUnavailable"]),
    ({"maxUnavailable": "25"}, ["spec.maxUnavailable"]),
]


@pytest.mark.parametrize(("spec", "fields"), BUDGETS)
def test_budgets_are_judged(spec: dict[str, Any], fields: list[str]) -> None:
    assert [field for field, _, _ in rules.budget({"spec": spec})] == fields


def test_a_run_keeps_its_workload_and_strategy() -> None:
    spec = {"workload": {"name": "web"}, "stagedRolloutStrategyName": "s", "state": "Run"}
    other = spec | {"workload": {"name": "x"}, "state": "Stop", "skipUnreachable": True}
    found = [field for field, _, _ in rules.run_changed({"spec": other}, {"spec": spec})]
    assert found == ["spec.workload"]


IDLE = [
    ("Deployment", {STRATEGY: "s"}, ""),
    ("Deployment", {TRIGGER: "Manual"}, ""),
    ("Deployment", {}, ""),
    ("Deployment", {TRIGGER: "manual"}, "'manual' is not Manual, and counts as Automatic"),
    ("Job", {STRATEGY: "s"}, "changes of this Job go everywhere at once"),
]


@pytest.mark.parametrize(("kind", "marks", "said"), IDLE)
def test_annotations_that_mean_nothing_are_warned_of(
    kind: str, marks: dict[str, str], said: str
) -> None:
    found = list(rules.idle({"kind": kind, "metadata": {"annotations": marks}}))
    assert len(found) == bool(said)
    assert all(text.endswith(said) for text in found)


DURATIONS = [("1h30m", 5400.0), ("45s", 45.0), ("1.5m", 90.0), ("500ms", 0.5), ("0", 0.0)]


@pytest.mark.parametrize(("text", "value"), DURATIONS)
def test_durations(text: str, value: float) -> None:
    assert durations.seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "1d", "s", "-1s", "1h 30m", "1h30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="time: invalid duration"):
        durations.seconds(text)


def test_percentages_of_budgets_are_rounded_up_those_of_stages_down() -> None:
    assert shares.rounded_up("34%", 3) == 2
    assert shares.rounded_down("34%", 3) == 1
    assert plan.approval_name("web-1", "after", "zone/A", 2) == "web-1-after-stage-2"
