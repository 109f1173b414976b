"""The judge of decisions by scores: it agrees with what is right, and sees what is not."""

from typing import Any

import pytest

from federation.placement.model import Candidate, Request
from federation.placement.plan import place
from federation.simulator.preferred import anew, passed_over, scored, worth
from machinery.api.fleet.policy import ClusterPreferences as Weights
from machinery.api.fleet.policy import Placement, ReplicaSchedulingStrategy, SpreadConstraint
from machinery.api.fleet.resilience import ScoreRule

COST = (ScoreRule(by="cost"),)
AGGREGATED = ReplicaSchedulingStrategy(
    replica_scheduling_type="Divided", replica_division_preference="Aggregated"
)
BY_ROOM = ReplicaSchedulingStrategy(
    replica_scheduling_type="Divided",
    replica_division_preference="Weighted",
    weight_preference=Weights(dynamic_weight="AvailableReplicas"),
)
DUPLICATED = ReplicaSchedulingStrategy(replica_scheduling_type="Duplicated")
BY_ZONE = (SpreadConstraint(spread_by_field="zone", min_groups=1),)


def member(name: str, pods: int, zone: str = "z", **figures: int) -> Candidate:
    return Candidate(name, zones=(zone,), free={"pods": pods}, figures=figures)


CHEAP, DEAR = member("cheap", 5, cost=1_000_000), member("dear", 9, cost=4_000_000)
BIG = member("big", 9, cost=1_000_000)
UNTOLD = member("untold", 9)


def request(
    replicas: int, scheduling: ReplicaSchedulingStrategy, *, zones: bool = False, **more: Any
) -> Request:
    placement = Placement(
        replica_scheduling=scheduling, spread_constraints=BY_ZONE if zones else ()
    )
    return Request("uid", "apps/v1", "Deployment", placement, replicas, **{"scores": COST} | more)


def spec(**given: int) -> dict[str, Any]:
    return {"clusters": [{"name": name, "replicas": count} for name, count in given.items()]}


@pytest.mark.parametrize("scheduling", [AGGREGATED, BY_ROOM], ids=["aggregated", "by room"])
@pytest.mark.parametrize("replicas", [1, 5, 7, 14])
def test_what_the_planner_decides_follows_its_scores(
    scheduling: ReplicaSchedulingStrategy, replicas: int
) -> None:
    asked, fleet = request(replicas, scheduling), [CHEAP, DEAR]
    assert passed_over(asked, fleet, spec(**place(asked, fleet).targets)) == ""


@pytest.mark.parametrize(
    ("asked", "fleet", "given", "wrong"),
    [
        (request(5, AGGREGATED), [CHEAP, DEAR], {"dear": 5}, True),
        (request(6, AGGREGATED), [CHEAP, DEAR], {"cheap": 4, "dear": 2}, True),
        (request(6, AGGREGATED), [CHEAP, DEAR], {"cheap": 5, "dear": 1}, False),
        (request(6, BY_ROOM), [BIG, DEAR], {"big": 2, "dear": 4}, True),
        (request(6, BY_ROOM), [BIG, DEAR], {"big": 3, "dear": 3}, False),
        (request(6, BY_ROOM), [CHEAP, DEAR], {"cheap": 2, "dear": 4}, False),
        (request(6, BY_ROOM, zones=True), [member("other", 9, "y", cost=1), DEAR], {"dear": 6}, False),
        (request(6, BY_ROOM), [UNTOLD, DEAR, BIG], {"untold": 4, "dear": 1, "big": 1}, True),
        (request(6, AGGREGATED, fresh=True, previous={"cheap": 2}), [CHEAP, DEAR], {"cheap": 5, "dear": 1}, True),
    ],
    ids=[
        "the dear one alone", "the cheap one is not full", "the cheap one is full", "less for the better one",
        "as much for both", "the better one has less room", "another zone has its own share",
        "who tells nothing counts as the mean", "divided anew, its room is what it holds besides",
    ],
)  # fmt: skip
def test_a_cluster_that_is_passed_over_is_seen(
    asked: Request, fleet: list[Candidate], given: dict[str, int], wrong: bool
) -> None:
    assert bool(passed_over(asked, fleet, spec(**given))) == wrong


def test_rules_are_weighed() -> None:
    rules = (ScoreRule(by="cost", weight=3), ScoreRule(by="capacity"), ScoreRule(by="locality"))
    asked = request(4, BY_ROOM, scores=rules, previous={"dear": 1})
    assert worth(asked, [CHEAP, DEAR], {"cheap": 5, "dear": 10}) == {"cheap": 350, "dear": 275}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request(4, AGGREGATED), True),
        (request(4, AGGREGATED, scores=()), False),
        (request(4, AGGREGATED, previous={"dear": 4}), False),
        (request(4, AGGREGATED, previous={"dear": 4}, fresh=True), True),
        (request(4, DUPLICATED), False),
    ],
    ids=["first", "no scores", "what stands stays", "rescheduled", "everywhere"],
)
def test_only_what_is_divided_anew_is_judged(asked: Request, said: bool) -> None:
    assert anew(asked) == said


def test_a_binding_says_whether_its_workload_prefers_clusters() -> None:
    told = '{"spread":[],"headroom":"","scores":[{"by":"cost","weight":1}]}'
    for text, wanted in ((told, True), ('{"spread":[],"headroom":"N-1 zone"}', False)):
        binding = {"metadata": {"annotations": {"ubernetes.io/resilience": text}}}
        assert scored(binding) is wanted
    assert scored(None) is False
