"""Descheduler: which replicas are stuck, where they go, and what stays."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.unit.controllers_federation.moving_fleet import BINDING, EVEN, TWO, Fleet, play

from federation.controllers import descheduler
from federation.placement.model import Candidate
from federation.propagation import moves, questions
from federation.simulator.workload import BROKEN_IMAGE
from machinery.api.core import PODS, Pod
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Emit, Patch
from machinery.meta.resource import Document

NOW = "2026-01-01T00:10:00Z"
ROOM = {"alpha": 10, "beta": 10, "gamma": 10}


def binding(
    clusters: dict[str, int],
    *,
    scheduling: Document | None = None,
    ready: dict[str, int] | None = None,
    tasks: list[Document] | None = None,
    annotations: Document | None = None,
) -> ResourceBinding:
    by_room = {
        "replicaSchedulingType": "Divided",
        "replicaDivisionPreference": "Weighted",
        "weightPreference": {"dynamicWeight": "AvailableReplicas"},
    }
    told = [
        {"clusterName": name, "status": {"readyReplicas": count}}
        for name, count in (ready or {}).items()
    ]
    document = {
        "metadata": {
            "name": "web-deployment",
            "namespace": "demo",
            "resourceVersion": "3",
            "annotations": annotations or {},
        },
        "spec": {
            "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "demo", "name": "web", "uid": "u"},
            "replicas": sum(clusters.values()),
            "placement": {"replicaScheduling": scheduling or by_room},
            "clusters": [{"name": n, "replicas": c} for n, c in clusters.items()],
            "gracefulEvictionTasks": tasks or [],
        },
        "status": {"aggregatedStatus": told},
    }  # fmt: skip
    return msgspec.convert(document, ResourceBinding)


def decided(held: ResourceBinding) -> ResourceBinding:
    """With its question answered."""
    marks = held.metadata.annotations | {questions.QUESTION: questions.question(held)}
    metadata = msgspec.structs.replace(held.metadata, annotations=marks)
    return msgspec.structs.replace(held, metadata=metadata)


def fleet(**free: int) -> list[Candidate]:
    return [Candidate(n, free={"pods": count, "cpu": 99_000}) for n, count in free.items()]


def target(actions: list[Action]) -> dict[str, int] | None:
    for action in actions:
        if isinstance(action, Patch) and isinstance(action.patch, dict):
            assert action.resource_version == "3"
            found = action.patch["spec"]["clusters"]
            return {one["name"]: one.get("replicas", 0) for one in found}
    return None


@pytest.mark.parametrize(
    ("why", "clusters", "stuck", "room", "wanted"),
    [
        ("all of a cluster's", {"alpha": 4, "beta": 2}, {"alpha": 4}, ROOM, {"beta": 4, "gamma": 2}),
        ("some of it", {"alpha": 4, "beta": 2}, {"alpha": 2}, {"alpha": 10, "beta": 10}, {"alpha": 2, "beta": 4}),
        ("its own reported room is not believed", {"alpha": 4}, {"alpha": 4}, {"alpha": 99, "beta": 4}, {"beta": 4}),
        ("as many as there is room for", {"alpha": 4, "beta": 2}, {"alpha": 4}, {"alpha": 9, "beta": 1}, {"alpha": 3, "beta": 3}),
        ("no room anywhere", {"alpha": 4, "beta": 2}, {"alpha": 4}, {"alpha": 9, "beta": 0}, None),
        ("stuck in two", {"alpha": 2, "beta": 2}, {"alpha": 2, "beta": 1}, ROOM, {"beta": 1, "gamma": 3}),
        ("more pods than replicas: a rollout's", {"alpha": 2, "beta": 4}, {"alpha": 3}, {"alpha": 0, "beta": 9}, {"beta": 6}),
        ("in a cluster that it left", {"beta": 4}, {"alpha": 3}, ROOM, None),
        ("none", {"alpha": 2, "beta": 2}, {}, ROOM, None),
    ],
)  # fmt: skip
def test_where_stuck_replicas_go(
    why: str, clusters: dict[str, int], stuck: dict[str, int], room: dict[str, int], wanted: Any
) -> None:
    held = decided(binding(clusters))
    actions = descheduler.plan(held, stuck, fleet(**room), NOW)
    assert target(actions) == wanted, why
    assert any(isinstance(a, Emit) and a.reason == "Descheduled" for a in actions) == bool(wanted)


def test_the_old_ones_are_kept_until_the_new_ones_are_ready() -> None:
    held = decided(binding({"alpha": 4, "beta": 2}))
    (patch, *_) = descheduler.plan(held, {"alpha": 4}, fleet(**ROOM), NOW)
    assert isinstance(patch, Patch)
    assert isinstance(patch.patch, dict)
    (task,) = patch.patch["spec"]["gracefulEvictionTasks"]
    assert (task["fromCluster"], task["replicas"], task["reason"]) == (
        "alpha",
        4,
        moves.REBALANCED,
    )


@pytest.mark.parametrize(
    ("why", "held"),
    [
        ("its question is open", binding({"alpha": 4})),
        ("it moves already", decided(binding({"alpha": 4}, tasks=[
            {"fromCluster": "beta", "reason": "Rebalanced", "producer": "x", "replicas": 1}]))),
        ("failover moved it", decided(binding({"alpha": 4}, annotations={moves.DISPLACED: '{"beta": 4}'}))),
    ],
)  # fmt: skip
def test_what_is_left_to_others(why: str, held: ResourceBinding) -> None:
    assert descheduler.plan(held, {"alpha": 4}, fleet(**ROOM), NOW) == [], why


STATIC = {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted"}
AGGREGATED = {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Aggregated"}
PREFERENCES = {"federation.kubernetes.io/deployment-preferences": "{}"}


@pytest.mark.parametrize(
    ("why", "held", "wanted"),
    [
        ("ready", binding({"alpha": 2}, ready={"alpha": 2}), False),
        ("one is not", binding({"alpha": 2}, ready={"alpha": 1}), True),
        ("nothing is told", binding({"alpha": 2}), True),
        ("aggregated", binding({"alpha": 2}, scheduling=AGGREGATED), True),
        ("static weights are the user's word", binding({"alpha": 2}, scheduling=STATIC), False),
        ("duplicates too", binding({"alpha": 2}, scheduling={"replicaSchedulingType": "Duplicated"}), False),
        ("preferences are the placer's", binding({"alpha": 2}, annotations=PREFERENCES), False),
        ("nothing is placed", binding({}), False),
    ],
)  # fmt: skip
def test_who_is_looked_at(why: str, held: ResourceBinding, wanted: bool) -> None:
    assert descheduler.short(held) == (["yes"] if wanted else []), why


def pod(name: str, cluster: str = "alpha", reason: str = "Unschedulable") -> Document:
    scheduled = {"type": "PodScheduled", "status": "False", "reason": reason}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}.{cluster}",
            "namespace": "demo",
            "uid": f"u-{name}",
            "labels": {"app": "web", "ubernetes.io/cluster": cluster},
        },
        "spec": {"containers": [{"name": "web", "image": "whoami:1"}]},
        "status": {"phase": "Pending", "conditions": [scheduled]},
    }


def test_how_long_a_pod_is_stuck_is_counted_from_when_it_was_first_seen_so() -> None:
    stuck = descheduler.Stuck()
    first, second = (msgspec.convert(pod(name), Pod) for name in ("a", "b"))
    gated = msgspec.convert(pod("c", reason="SchedulingGated"), Pod)
    assert stuck.look([first, gated], 0.0) == []
    assert stuck.look([first, second, gated], 200.0) == []
    assert stuck.look([first, second, gated], 300.0) == [first]
    assert stuck.look([second], 400.0) == []
    assert stuck.look([first, second], 500.0) == [second], "found a node in between: counted anew"


def test_pods_are_counted_by_cluster() -> None:
    pods = [msgspec.convert(pod(n, c), Pod) for n, c in (("a", "alpha"), ("b", "alpha"), ("c", "beta"))]  # fmt: skip
    assert descheduler.counted(pods, {"matchLabels": {"app": "web"}}) == {"alpha": 2, "beta": 1}
    assert descheduler.counted(pods, {"matchLabels": {"app": "api"}}) == {}


def test_replicas_leave_a_cluster_whose_scheduler_has_no_node_for_them() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy(containers=[{"name": "web", "image": BROKEN_IMAGE}])
        assert await fleet.divided() == EVEN
        api = fleet.server.api
        assert api is not None
        kind = api.scheme.by_gvk(*PODS.gvk)
        assert kind is not None
        for name in ("web-1", "web-2"):
            await api.mirror.put(kind, pod(name))
        await asyncio.sleep(descheduler.STUCK_S - 5)
        assert await fleet.divided() == EVEN
        await asyncio.sleep(2 * descheduler.LOOK_S + 10)
        assert await fleet.divided() == TWO
        assert await fleet.kept() == {}, "what never ran is no loss"
        assert "Descheduled" in await fleet.reasons(BINDING)

    play(story)
