"""Members whose report of their room cannot be true, and what of a decision the ledger hears."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock
from tests.unit.controllers_federation.moving_fleet import WEB, Fleet, play

from federation.clusters.candidates import candidate, disbelief
from federation.clusters.estimates import NoEstimator
from federation.controllers import capacity, placer
from federation.controllers.reservations import (
    Decided,
    Reservations,
    demand,
    shown,
    standing,
    stands,
    written,
)
from federation.placement.model import Candidate
from federation.propagation import questions
from federation.propagation.templates import DEPLOYMENTS
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.controller.action import Emit, Patch, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.ids import SystemIds
from machinery.meta.objectmeta import condition
from machinery.meta.resource import ObjectKey

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
ROOM = {"cpu": "4", "pods": "110"}


def cluster(conditions: Any = (), **status: Any) -> Cluster:
    summary = {"allocatable": ROOM, "allocated": {"cpu": "1", "pods": "9"}} | status.pop("sums", {})
    return msgspec.convert(
        {
            "metadata": {"name": "alpha", "uid": "u", "resourceVersion": "7"},
            "status": {"resourceSummary": summary, "conditions": conditions} | status,
        },
        Cluster,
    )


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, ""),
        ({"sums": {"allocatable": {}}}, ""),
        ({"sums": {"allocated": {"cpu": "9"}}}, ""),
        ({"sums": {"allocatable": {"cpu": "-4"}}}, "allocatable cpu is -4, less than nothing"),
        ({"sums": {"allocated": {"pods": "-9"}}}, "allocated pods is -9, less than nothing"),
        ({"sums": {"allocating": {"memory": "-1Gi"}}}, "allocating memory is -1Gi, less than nothing"),
        ({"sums": {"allocatable": {"cpu": "1G"}}}, "allocatable cpu is 1G, more than any cluster has"),
        ({"sums": {"allocatable": {"pods": "1G"}}}, "allocatable pods is 1G, more than any cluster has"),
        ({"sums": {"allocatable": {"memory": "10000000Pi"}}}, "allocatable memory is 10000000Pi, more than any cluster has"),
        ({"sums": {"allocatable": {"cpu": "many"}}}, "allocatable cpu 'many' cannot be read: quantities must match"),
        ({"sums": {"allocatableModelings": [{"grade": 0, "count": -1}]}}, "allocatableModelings counts less than no node"),
        ({"nodePlatforms": [{"platform": "linux/arm64", "free": {"cpu": "-1"}}]}, "nodePlatforms linux/arm64 cpu is -1, less than nothing"),
    ],
    ids=["true", "nothing", "overcommitted, which may be", "offers less than nothing", "would make room", "waits for less",
         "CPUs", "pods", "memory", "no quantity", "nodes", "platforms"],
)  # fmt: skip
def test_lies(told: dict[str, Any], why: str) -> None:
    member = cluster(**told)
    assert disbelief(member).startswith(why) and bool(disbelief(member)) == bool(why)
    if why:
        seen = candidate(member)
        assert (seen.free, seen.shapes, seen.platforms) == (None, (), {})


def test_a_lie_is_told_once_and_its_end_too() -> None:
    lying = {"allocatable": {"cpu": "-4"}}
    status, said = capacity.plan(cluster(sums=lying), NOW)
    assert isinstance(status, SetStatus) and isinstance(said, Emit)
    (told,) = status.status["conditions"]
    assert (told["type"], told["status"], told["reason"]) == (
        "CapacityBelieved", "False", "Implausible",
    )  # fmt: skip
    assert "allocatable cpu is -4" in said.message
    assert status.resource_version == "7"
    assert capacity.plan(cluster([told], sums=lying), LATER) == []
    (status,) = capacity.plan(cluster([told]), LATER)
    assert isinstance(status, SetStatus)
    (told,) = status.status["conditions"]
    assert (told["status"], told["lastTransitionTime"]) == ("True", LATER)
    assert capacity.plan(cluster([told]), LATER) == []
    assert capacity.plan(cluster(), NOW) == []


def test_another_lie_is_told_with_the_time_of_the_first() -> None:
    (status, _) = capacity.plan(cluster(sums={"allocatable": {"cpu": "-4"}}), NOW)
    assert isinstance(status, SetStatus)
    held = [{"type": "Ready", "status": "True"}, *status.status["conditions"]]
    (status, _) = capacity.plan(cluster(held, sums={"allocatable": {"cpu": "-5"}}), LATER)
    assert isinstance(status, SetStatus)
    ready, told = status.status["conditions"]
    assert (ready["type"], told["lastTransitionTime"]) == ("Ready", NOW)


# --------------------------------------------------------------------------------------------- what the ledger hears
def binding(**given: Any) -> ResourceBinding:
    spec = {
        "resource": {"kind": "Deployment", "name": "web", "namespace": "demo", "uid": "w"},
        "replicas": 6,
        "replicaRequirements": {"resourceRequest": {"cpu": "500m"}},
        "placement": {"replicaScheduling": {"replicaSchedulingType": "Divided"}},
        "clusters": [{"name": "a", "replicas": 4}, {"name": "b", "replicas": 2}],
    } | given.pop("spec", {})
    metadata = {"name": "web", "namespace": "demo", "resourceVersion": "1"} | given
    items = metadata.pop("told", ())
    status = {"aggregatedStatus": items}
    return msgspec.convert({"metadata": metadata, "spec": spec, "status": status}, ResourceBinding)


def test_what_stands() -> None:
    kept = {"gracefulEvictionTasks": [
        {"fromCluster": "a", "reason": "Rebalanced", "producer": "p", "replicas": 1},
        {"fromCluster": "c", "reason": "ClusterUnreachable", "producer": "p", "replicas": 3},
    ]}  # fmt: skip
    told = [
        {"clusterName": "a", "status": {"replicas": 5}},
        {"clusterName": "b", "status": {"observedGeneration": 1}},
    ]
    found = standing(binding(spec=kept, told=told), stands(binding(spec=kept)))
    assert found.asked == {"a": 5, "b": 2, "c": 3}
    assert found.shown == {"a": 5}
    assert (found.asks, found.counted, found.held) == ({"cpu": 500}, True, False)
    assert [found.owed(name) for name in "abc"] == [0, 2, 3]


def test_a_kind_that_tells_no_replicas_and_one_that_is_held() -> None:
    job = binding(spec={"resource": {"kind": "Job", "name": "x", "namespace": "demo", "uid": "j"},
                        "suspension": {"dispatching": True}})  # fmt: skip
    assert shown(job) == ({}, False)
    assert standing(job, stands(job)).held


@pytest.mark.parametrize(
    ("wanted", "still", "owed"),
    [
        (6, {"clusters": [{"name": "c", "replicas": 4}]}, {"pods": 4, "cpu": 2000}),
        (0, {"clusters": [{"name": "c", "replicas": 4}]}, {"pods": 4, "cpu": 2000}),
        (0, {"clusters": [], "gracefulEvictionTasks": [{"fromCluster": "c", "reason": "R", "producer": "p", "replicas": 3}]}, {"pods": 3, "cpu": 1500}),
        (0, {"clusters": [{"name": "c"}]}, {}),
    ],
    ids=["of replicas", "of none, and one that could not be told", "of none, and one that is left", "of none anywhere"],
)  # fmt: skip
async def test_what_a_server_that_starts_reserves(wanted: int, still: Any, owed: Any) -> None:
    """Simulator, seed 1888: what was scaled to nothing while a cluster was cut off is owed there until it is told so."""
    client, clock = FakeClient(), LoopClock()
    document = msgspec.to_builtins(binding(spec={"replicas": wanted} | still))
    await client.create(RESOURCE_BINDINGS, document, "demo")
    manager = Manager(client, clock, SystemIds(), component="federation")
    room = Reservations(manager, NoEstimator())
    await manager.start()
    try:
        assert room.ledger.reserved("c", clock.monotonic()) == owed
    finally:
        await manager.stop()


def test_one_platform_is_asked_for_by_name() -> None:
    marked = binding(annotations={"ubernetes.io/platforms": "linux/arm64"})
    assert standing(marked, stands(marked)).asks == {
        "cpu": 500, "linux/arm64:cpu": 500, "linux/arm64:pods": 1,
    }  # fmt: skip


def test_what_a_decision_writes() -> None:
    key = ObjectKey("demo", "web")
    spec = {
        "clusters": [{"name": "a", "replicas": 3}, {"name": "b"}],
        "gracefulEvictionTasks": [{"fromCluster": "c", "replicas": 2}, {"fromCluster": "a"}],
    }
    told = Emit(RESOURCE_BINDINGS, key, "u", "Normal", "Said", "so")
    found = written([told, Patch(RESOURCE_BINDINGS, key, {"spec": spec})])
    assert found == Decided({"a": 3, "b": 0}, {"c": 2, "a": 0})
    assert found.running == {"a": 3, "b": 0, "c": 2}
    assert written([Patch(RESOURCE_BINDINGS, key, {"metadata": {}}), told]) is None
    assert written([Patch(CLUSTERS, key, [{"op": "remove", "path": "/spec"}])]) is None


@pytest.mark.parametrize(
    ("given", "clusters", "lost"),
    [
        ({}, {"a": 4, "b": 2}, 0),
        ({"spec": {"clusters": [{"name": "b", "replicas": 2}],
                   "gracefulEvictionTasks": [{"fromCluster": "a", "reason": "ClusterUnreachable",
                                              "producer": "p", "replicas": 4}]}}, {"b": 2}, 4),
        ({"spec": {"clusters": []}}, {}, 0),
    ],
    ids=["placed", "a cluster is lost", "never placed: nothing was promised"],
)  # fmt: skip
def test_headroom_demands(given: dict[str, Any], clusters: dict[str, int], lost: int) -> None:
    mark = {"ubernetes.io/resilience": '{"headroom":"N-1 zone"}'}
    asked = binding(annotations=mark, **given)
    found = demand(asked, stands(asked))
    assert found is not None
    assert (found.by, found.clusters, found.lost, found.asks) == (
        "zone",
        clusters,
        lost,
        {"cpu": 500},
    )


def test_no_headroom_is_demanded() -> None:
    assert demand(binding(), stands(binding())) is None
    mark = {"ubernetes.io/resilience": '{"headroom":"N-1 zone"}'}
    everywhere = {"placement": {"replicaScheduling": {"replicaSchedulingType": "Duplicated"}}}
    duplicated = binding(annotations=mark, spec=everywhere)
    assert demand(duplicated, stands(duplicated)) is None


# ------------------------------------------------------------------------------------------------ platforms of images
def test_platforms_are_part_of_the_question() -> None:
    plain, marked = binding(), binding(annotations={"ubernetes.io/platforms": "linux/arm64"})
    assert questions.question(plain) != questions.question(marked)
    assert questions.request_of(marked, fresh=False).platforms == {"linux/arm64"}
    assert questions.request_of(plain, fresh=False).platforms == frozenset()


def test_platforms_that_cannot_be_read_are_told_and_do_not_matter() -> None:
    spoiled = binding(annotations={"ubernetes.io/platforms": "arm64"}, spec={"clusters": []})
    fleet = [Candidate("a", free={"cpu": 9000, "pods": 9}, platforms={"linux/amd64": {}})]
    actions = placer.plan(spoiled, fleet, NOW)
    told = [a.message for a in actions if isinstance(a, Emit) and a.reason == "BadPlatforms"]
    assert told and told[0] == (
        "ubernetes.io/platforms cannot be read, any platform will do: "
        '"arm64" is no platform: they are like linux/amd64'
    )
    assert written(actions) == Decided({"a": 6}, {})


def test_a_member_that_lies_gets_nothing_and_what_fits_goes_where_nodes_fit() -> None:
    async def story(fleet: Fleet) -> None:
        async def say(name: str, **status: Any) -> None:
            key = ObjectKey("", name)
            await fleet.client.patch(CLUSTERS, key, {"status": status}, subresource="status")

        arm = [{"platform": "linux/arm64", "readyNum": 1, "free": {"pods": "4"}}]
        amd = [{"platform": "linux/amd64", "readyNum": 1, "free": {"pods": "30"}}]
        await say("alpha", resourceSummary={"allocatable": {"pods": "-5"}})
        await say("beta", nodePlatforms=amd)
        await say("gamma", nodePlatforms=[*amd, *arm])
        await asyncio.sleep(1)
        lying = await fleet.client.get(CLUSTERS, ObjectKey("", "alpha"))
        told = condition(lying.status.conditions, capacity.BELIEVED)
        assert told is not None and told.status == "False"
        assert "CapacityImplausible" in await fleet.reasons(ObjectKey("", "alpha"))
        await fleet.deploy(3)
        assert (await fleet.divided()).keys() == {"beta", "gamma"}
        marks = {"metadata": {"annotations": {"ubernetes.io/platforms": "linux/arm64"}}}
        await fleet.client.patch(DEPLOYMENTS, WEB, marks | {"spec": {"replicas": 5}})
        await asyncio.sleep(8)
        there = await fleet.divided()
        assert sum(there.values()) == 5 and there["gamma"] >= 3

    play(story)
