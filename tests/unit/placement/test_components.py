"""Workloads of several components: how many sets a member holds, where a set goes, and clusters that get nothing."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from federation.placement import components
from federation.placement.explain import explain
from federation.placement.model import Candidate, Part, Request, Sets, Shape, Unselectable
from federation.placement.plan import place
from machinery.api.fleet.policy import Placement

GIB = 2**30
JOB = (Part("jobs", 1, {"cpu": 1000, "memory": GIB}), Part("tasks", 2, {"cpu": 2000}))
"""5 CPUs and 1 GiB in three pods."""
ONE = [{"spreadByField": "cluster", "minGroups": 1, "maxGroups": 1}]
BY_ROOM = {
    "replicaSchedulingType": "Divided",
    "replicaDivisionPreference": "Weighted",
    "weightPreference": {"dynamicWeight": "AvailableReplicas"},
}


def member(name: str, cpu: int = 20, pods: int = 110, **more: Any) -> Candidate:
    free = {"cpu": cpu * 1000, "memory": 64 * GIB, "pods": pods}
    return Candidate(name, free=free, **more)


def request(
    scheduling: Any = BY_ROOM, constraints: Any = ONE, parts: tuple[Part, ...] = JOB, **more: Any
) -> Request:
    placement = {"replicaScheduling": scheduling, "spreadConstraints": constraints}
    held = more.pop("held", {})
    return Request(
        "u", "x/v1", "Flink", msgspec.convert(placement, Placement), sets=Sets(parts, held), **more
    )


# ------------------------------------------------------------------------------------------------------------------ room
@pytest.mark.parametrize(
    ("candidate", "parts", "sets"),
    [
        pytest.param(member("a", cpu=14), JOB, 2, id="by the scarcest sum"),
        pytest.param(member("a", cpu=90, pods=8), JOB, 2, id="by pods"),
        pytest.param(member("a", pods=7), (Part("a", 2), Part("b", 1)), 2, id="nothing asked"),
        pytest.param(member("a"), (Part("a", 1, {"gpu": 1}), Part("b", 1)), 0, id="it has none"),
        pytest.param(member("a", cut=True), JOB, 0, id="nothing can be told there"),
        pytest.param(Candidate("a"), JOB, 0, id="it has not reported"),
        pytest.param(
            member("a", cpu=15, shapes=(Shape(5, {"cpu": 3000, "memory": GIB}),)),
            JOB,
            2,
            id="nodes hold two, their sum three",
        ),
        pytest.param(
            member("a", cpu=15, shapes=(Shape(10, {"cpu": 1500, "memory": GIB}),)),
            JOB,
            0,
            id="no node is large enough for a task",
        ),
        pytest.param(
            member("a", cpu=15, shapes=(Shape(3, {"cpu": 5000}),)),
            JOB,
            3,
            id="nodes do not tell of memory",
        ),
    ],
)
def test_sets_of_a_member(candidate: Candidate, parts: tuple[Part, ...], sets: int) -> None:
    assert components.available(candidate, parts) == sets


def test_many_sets_are_taken_by_their_sums() -> None:
    nodes = (Shape(400, {"cpu": 4000, "memory": 8 * GIB}),)
    wide = member("a", cpu=1600, pods=10_000, shapes=nodes)
    assert components.available(wide, JOB) == 64  # 64 GiB in all


def test_a_thousand_pods_on_one_kind_of_node() -> None:
    nodes = (Shape(100, {"cpu": 10_000}),)
    assert components.laid_out(nodes, (Part("many", 999, {"cpu": 1000}),), 9) == 1
    assert components.laid_out(nodes, (Part("many", 1001, {"cpu": 1000}),), 9) == 0


# ------------------------------------------------------------------------------------------------------------- decisions
def test_one_cluster_with_room_for_the_set() -> None:
    fleet = [member("alpha", cpu=4), member("beta", cpu=6)]
    assert dict(place(request(), fleet).targets) == {"beta": 1}


def test_the_set_is_not_torn_apart() -> None:
    with pytest.raises(Unselectable, match="no enough resource when selecting 1 clusters"):
        place(request(), [member("alpha", cpu=4), member("beta", cpu=4)])


def test_duplicated_asks_for_no_room() -> None:
    found = place(request({"replicaSchedulingType": "Duplicated"}), [member("alpha", cpu=1)])
    assert dict(found.targets) == {"alpha": 1}


def test_where_it_may_be_in_several_clusters_it_goes_whole_to_the_roomiest() -> None:
    two = [{"spreadByField": "cluster", "minGroups": 1, "maxGroups": 2}]
    fleet = [member("alpha", cpu=4), member("beta", cpu=6), member("gamma", cpu=9)]
    assert dict(place(request(constraints=two), fleet).targets) == {"beta": 0, "gamma": 0}


def test_it_stays_where_it_runs_though_nothing_is_free_there() -> None:
    fleet = [member("alpha", cpu=0), member("beta")]
    ran = request(previous={"alpha": 1}, held={"alpha": {"jobs": 1, "tasks": 2}})
    assert dict(place(ran, fleet).targets) == {"alpha": 1}


@pytest.mark.parametrize(
    ("free", "where"),
    [
        pytest.param(2, "alpha", id="the difference fits where it runs"),
        pytest.param(1, "beta", id="it does not, and another has room for all"),
    ],
)
def test_a_set_that_grows(free: int, where: str) -> None:
    grown = request(previous={"alpha": 1}, held={"alpha": {"jobs": 1, "tasks": 1}})
    found = place(grown, [member("alpha", cpu=free), member("beta")])
    assert dict(found.targets) == {where: 1}


def test_a_set_that_grows_and_has_no_room_anywhere_is_refused() -> None:
    grown = request(previous={"alpha": 1}, held={"alpha": {"jobs": 1, "tasks": 1}})
    with pytest.raises(Unselectable):
        place(grown, [member("alpha", cpu=1), member("beta", cpu=4)])


def test_why_it_is_there() -> None:
    report = explain(request(), [member("alpha", cpu=4), member("beta", cpu=11)])
    rooms = {c.name: c.room for c in report.clusters}
    assert rooms == {"alpha": 0, "beta": 2}
    assert any("a set (1 jobs, 2 tasks) counts as one" in text for text in report.sentences)


# --------------------------------------------------------------------------------------------------------------- empties
def plain(scheduling: Any, replicas: int, **more: Any) -> Request:
    placement = msgspec.convert({"replicaScheduling": scheduling}, Placement)
    return Request("u", "apps/v1", "Deployment", placement, replicas, {"cpu": 1000}, **more)


FLEET = [member("alpha", cpu=3), member("beta", cpu=9), member("gamma", cpu=1)]


def test_clusters_without_a_replica_are_left_out() -> None:
    aggregated = BY_ROOM | {"replicaDivisionPreference": "Aggregated"}
    assert dict(place(plain(aggregated, 5), FLEET).targets) == {"beta": 5}


def test_or_told_with_none() -> None:
    aggregated = BY_ROOM | {"replicaDivisionPreference": "Aggregated"}
    found = place(plain(aggregated, 5, empties=True), FLEET)
    assert dict(found.targets) == {"alpha": 0, "beta": 5, "gamma": 0}
    assert not found.left_out


def test_nothing_new_where_nothing_can_be_told() -> None:
    fleet = [msgspec.structs.replace(FLEET[0], cut=True), *FLEET[1:]]
    found = place(plain(BY_ROOM, 0, empties=True), fleet)
    assert dict(found.targets) == {"beta": 0, "gamma": 0}
    held = place(plain(BY_ROOM, 0, empties=True, previous={"alpha": 1}), fleet)
    assert "alpha" in held.targets


def test_the_sets_of_a_question_are_counted_once() -> None:
    once = components.as_one(request())
    assert components.as_one(once) == once
    assert replace(once, sets=None).asks == {"cpu": 5000, "memory": GIB}
