"""Preferences, overflow tiers and affinity groups in the detector and the placer: copied, honoured, told of, and looked at again."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from federation.controllers import detector, failback, placer
from federation.domains.settings import Settings
from federation.placement.model import Candidate
from federation.placement.preferences import DEPLOYMENT_PREFERENCES as STATED
from federation.propagation import moves, questions
from federation.propagation.claims import Claim
from machinery.api.fleet.policy import PropagationPolicy
from machinery.api.fleet.resilience import Failback, ResilienceSpec
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Create, Emit, Patch, RequeueAfter, SetStatus
from machinery.meta.resource import Document

NOW, SOON, LATER = "2026-01-01T00:01:00Z", "2026-01-01T00:01:10Z", "2026-01-01T00:02:00Z"
BURST = {"rebalance": True, "clusters": {"home": {"weight": 9999}, "cloud": {"weight": 1}}}
STEADY = {"clusters": {"home": {"weight": 9999}, "cloud": {"weight": 1}}}
DUPLICATED = {"replicaScheduling": {"replicaSchedulingType": "Duplicated"}}


def fleet(home: int, cloud: int) -> list[Candidate]:
    return [Candidate("cloud", free={"pods": cloud}), Candidate("home", free={"pods": home})]


def binding(
    stated: Any = None, replicas: int = 6, placement: Document | None = None, **spec: Any
) -> Document:
    marks = {}
    if stated is not None:
        marks[STATED] = stated if isinstance(stated, str) else json.dumps(stated)
    source = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "namespace": "demo",
        "name": "web",
        "uid": "u-1",
    }
    return {
        "metadata": {
            "name": "web-deployment",
            "namespace": "demo",
            "uid": "b-1",
            "generation": 1,
            "resourceVersion": "9",
            "annotations": marks,
        },
        "spec": {
            "resource": source,
            "replicas": replicas,
            "placement": placement or DUPLICATED,
            **spec,
        },
        "status": {},
    }


def view(document: Document) -> ResourceBinding:
    return msgspec.convert(document, ResourceBinding)


def after(document: Document, actions: Sequence[Action]) -> Document:
    """The binding once the actions are carried out."""
    for action in actions:
        if isinstance(action, Patch):
            marks = document["metadata"]["annotations"] | action.patch.get("metadata", {}).get(
                "annotations", {}
            )
            spec = document["spec"] | action.patch["spec"]
            document = document | {
                "metadata": document["metadata"]
                | {
                    "annotations": {k: v for k, v in marks.items() if v is not None},
                    "generation": document["metadata"]["generation"] + 1,
                },
                "spec": {k: v for k, v in spec.items() if v is not None},
            }
        if isinstance(action, SetStatus):
            document = document | {
                "status": {k: v for k, v in action.status.items() if v is not None}
            }
    return document


def clusters(document: Document) -> dict[str, int]:
    return {c["name"]: c["replicas"] for c in document["spec"].get("clusters", [])}


def decided(document: Document, members: list[Candidate], now: str = NOW) -> Document:
    """Placed, and confirmed."""
    document = after(document, placer.plan(view(document), members, now))
    return after(document, placer.plan(view(document), members, now))


# --------------------------------------------------------------------------------------------------------- detector
def template(**annotations: str) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "demo",
            "uid": "u-1",
            "annotations": annotations,
        },
        "spec": {"replicas": 6, "template": {"spec": {"containers": [{"name": "web"}]}}},
    }


POLICY = msgspec.convert(
    {
        "metadata": {"name": "all", "namespace": "demo"},
        "spec": {"resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}]},
    },
    PropagationPolicy,
)


def test_the_detector_copies_the_annotation() -> None:
    said = template(**{STATED: "{}"})
    create = detector.plan(said, Claim(POLICY), None, None)[0]
    assert isinstance(create, Create)
    held = create.document | {"status": {}}
    assert held["metadata"]["annotations"][STATED] == "{}"
    assert not [
        a for a in detector.plan(said, Claim(POLICY), view(held), held) if isinstance(a, Patch)
    ]
    (gone,) = [
        a
        for a in detector.plan(template(), Claim(POLICY), view(held), held)
        if isinstance(a, Patch)
    ]
    assert gone.patch["metadata"]["annotations"] == {STATED: None}


# ----------------------------------------------------------------------------------------------------------- placer
def test_preferences_divide_in_place_of_the_policy() -> None:
    held = decided(binding(STEADY), fleet(4, 9))
    assert clusters(held) == {"home": 4, "cloud": 2}
    assert clusters(decided(binding(), fleet(4, 9))) == {"home": 6, "cloud": 6}


def test_other_preferences_are_another_question() -> None:
    first = view(binding(STEADY))
    assert questions.question(first) != questions.question(view(binding(BURST)))
    assert questions.question(first) != questions.question(view(binding()))


def test_preferences_that_cannot_be_read_are_told_and_the_policy_divides() -> None:
    actions = placer.plan(view(binding('{"clusters": {"home": {"wieght": 1}}}')), fleet(9, 9), NOW)
    assert clusters(after(binding(), actions)) == {"home": 6, "cloud": 6}
    told = {a.reason: a.message for a in actions if isinstance(a, Emit)}
    assert STATED in told["BadPreferences"]
    assert "wieght" in told["BadPreferences"]


def test_what_burst_comes_back_when_there_is_room_surge_first() -> None:
    held = decided(binding(BURST), fleet(4, 9))
    assert clusters(held) == {"home": 4, "cloud": 2}
    assert placer.plan(view(held), fleet(0, 7), SOON) == [RequeueAfter(20.0)]
    assert placer.plan(view(held), fleet(0, 7), LATER) == [RequeueAfter(placer.AGAIN_S)]
    actions = placer.plan(view(held), fleet(3, 7), LATER)
    moved = after(held, actions)
    assert clusters(moved) == {"home": 6}
    (task,) = moved["spec"]["gracefulEvictionTasks"]
    assert (task["fromCluster"], task["replicas"]) == ("cloud", 2)
    moving = decided(moved, fleet(1, 7), LATER)
    assert placer.plan(view(moving), fleet(9, 9), "2026-01-01T01:00:00Z") == []


def test_without_rebalance_what_runs_stays() -> None:
    held = decided(binding(STEADY), fleet(4, 9))
    assert placer.plan(view(held), fleet(9, 9), LATER) == []


def test_what_waits_goes_where_room_is() -> None:
    held = decided(binding(STEADY), fleet(2, 1))
    assert sum(clusters(held).values()) == 6
    waiting = json.loads(held["metadata"]["annotations"][questions.WAITING])
    assert sum(waiting.values()) == 3
    full = fleet(2 - clusters(held)["home"], 1 - clusters(held).get("cloud", 0))
    assert placer.plan(view(held), full, LATER) == [RequeueAfter(placer.AGAIN_S)]
    room = [full[0], msgspec.structs.replace(full[1], free={"pods": 9})]
    freed = decided(held, room, LATER)
    assert questions.WAITING not in freed["metadata"]["annotations"]
    assert clusters(freed)["home"] >= 5


TIERS = {
    "clusterAffinities": [
        {
            "affinityName": "own",
            "clusterNames": ["home"],
            "overflowAffinities": [{"affinityName": "more", "clusterNames": ["cloud"]}],
        }
    ],
    "replicaScheduling": {
        "replicaSchedulingType": "Divided",
        "replicaDivisionPreference": "Weighted",
        "weightPreference": {"dynamicWeight": "AvailableReplicas"},
    },
}


def test_an_overflow_tier_contracts_when_there_is_room() -> None:
    held = decided(binding(placement=TIERS), fleet(4, 9))
    assert clusters(held) == {"home": 4, "cloud": 2}
    assert placer.plan(view(held), fleet(0, 7), LATER) == [RequeueAfter(placer.AGAIN_S)]
    moved = after(held, placer.plan(view(held), fleet(2, 7), LATER))
    assert clusters(moved) == {"home": 6}
    assert moved["spec"]["gracefulEvictionTasks"][0]["replicas"] == 2


@pytest.mark.parametrize("name", ["other-scheduler", "default-scheduler"])
def test_bindings_of_another_scheduler_are_left_alone(name: str) -> None:
    actions = placer.plan(view(binding(schedulerName=name)), fleet(9, 9), NOW)
    assert bool(actions) == (name == "default-scheduler")


# -------------------------------------------------------------------------------------------------- affinity groups
GROUPS = {
    "clusterAffinities": [
        {"affinityName": "first", "clusterNames": ["home"]},
        {"affinityName": "second", "clusterNames": ["cloud"]},
    ],
    "replicaScheduling": TIERS["replicaScheduling"],
}
LONG_AFTER = "2026-01-01T00:06:00Z"


def used(document: Document) -> str:
    return str(document["status"].get("schedulerObservingAffinityName"))


def test_a_later_group_goes_back_to_the_first_that_fits() -> None:
    held = decided(binding(placement=GROUPS), fleet(4, 9))
    assert (clusters(held), used(held)) == ({"cloud": 6}, "second")
    assert placer.plan(view(held), fleet(9, 3), LATER) == [RequeueAfter(240.0)]
    assert placer.plan(view(held), fleet(4, 3), LONG_AFTER) == [RequeueAfter(placer.BACK_S)]
    assert placer.plan(view(held), fleet(9, 3), LONG_AFTER, returns=False) == []
    moved = decided(held, fleet(9, 3), LONG_AFTER)
    assert (clusters(moved), used(moved)) == ({"home": 6}, "first")
    (task,) = moved["spec"]["gracefulEvictionTasks"]
    assert (task["fromCluster"], task["replicas"]) == ("cloud", 6)


def test_the_first_group_is_not_reshuffled() -> None:
    held = decided(binding(placement=GROUPS), fleet(9, 9))
    assert used(held) == "first"
    assert placer.plan(view(held), fleet(1, 9), LONG_AFTER) == []


def test_what_failover_displaced_is_left_to_failback_which_knows_the_group() -> None:
    held = decided(binding(placement=GROUPS), fleet(4, 9))
    held["metadata"]["annotations"][moves.DISPLACED] = json.dumps({"home": 6})
    assert placer.plan(view(held), fleet(9, 3), LONG_AFTER) == []
    health = failback.Health({"home": 400.0, "cloud": 400.0}, frozenset({"home", "cloud"}))
    wanted = failback.wish(view(held), fleet(9, 3), health, 300.0)
    assert wanted.target == {"home": 6}
    moved = after(held, failback.plan([(view(held), wanted)], 1, 0.0, LONG_AFTER))
    assert clusters(moved) == {"home": 6}
    confirmed = after(moved, placer.plan(view(moved), fleet(3, 3), LONG_AFTER))
    assert used(confirmed) == "first"


def test_a_placement_that_failover_took_back_forgets_the_group() -> None:
    held = decided(binding(placement=GROUPS), fleet(9, 9))
    assert questions.in_group(view(held), "") == {questions.AFFINITY: None}
    assert questions.in_group(view(held), "first") == {}
    assert questions.in_group(view(binding()), "") == {}


@pytest.mark.parametrize(
    ("own", "operator", "may"),
    [
        (ResilienceSpec(), Settings(), True),
        (ResilienceSpec(failback=Failback(mode="Never")), Settings(), False),
        (ResilienceSpec(mode="consistency"), Settings(), False),
        (ResilienceSpec(), Settings(failback=False), False),
        (ResilienceSpec(), Settings(failover="Frozen"), False),
        (ResilienceSpec(), Settings(failover="DryRun"), False),
    ],
    ids=["by itself", "never", "consistency", "no failback at all", "frozen", "dry run"],
)
def test_who_may_go_back_by_itself(own: ResilienceSpec, operator: Settings, may: bool) -> None:
    assert placer.may_return(own, operator) is may
