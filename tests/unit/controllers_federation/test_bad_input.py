"""Bad input on the whole server: each gets a clear word, nothing is lost by it, and nothing moves on a lie."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.unit.controllers_federation.test_flow import BINDING, WEB, ZONES, Fleet, deployment

from federation.propagation.templates import DEPLOYMENTS
from federation.simulator.virtual import run
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.policy import PROPAGATION_POLICIES
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.meta.errors import Forbidden, Invalid, StatusError
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey

POLICY = ObjectKey("demo", "p")
DUPLICATED = {"replicaScheduling": {"replicaSchedulingType": "Duplicated"}}
BILLION = 1_000_000_000


def policy(placement: Document, name: str = "p", **spec: Any) -> Document:
    return {
        "apiVersion": PROPAGATION_POLICIES.api_version,
        "kind": "PropagationPolicy",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}],
            "placement": placement,
        }
        | spec,
    }


def played(story: Callable[[Fleet], Awaitable[None]]) -> None:
    async def play() -> None:
        fleet = Fleet()
        await fleet.start()
        try:
            await story(fleet)
        finally:
            await fleet.server.stop()

    run(play())


async def scheduled(fleet: Fleet) -> tuple[str, str, str]:
    found = condition((await fleet.binding()).status.conditions, "Scheduled")
    assert found is not None
    return found.status, found.reason, found.message


def weights(*pairs: tuple[str, int]) -> Document:
    listed = [
        {"targetCluster": {"clusterNames": [name]}, "weight": weight} for name, weight in pairs
    ]
    return {
        "replicaScheduling": {
            "replicaSchedulingType": "Divided",
            "replicaDivisionPreference": "Weighted",
            "weightPreference": {"staticWeightList": listed},
        }
    }  # fmt: skip


def spread(**constraint: Any) -> Document:
    return DUPLICATED | {"spreadConstraints": [constraint]}


DYNAMIC = {
    "replicaScheduling": {
        "replicaSchedulingType": "Divided",
        "replicaDivisionPreference": "Weighted",
        "weightPreference": {"dynamicWeight": "AvailableReplicas"},
    }
}
AGGREGATED = {
    "replicaScheduling": {
        "replicaSchedulingType": "Divided",
        "replicaDivisionPreference": "Aggregated",
    }
}


# --------------------------------------------------------------------------------------- what cannot be, is said so
@pytest.mark.parametrize(
    ("placement", "replicas", "reason", "words"),
    [
        ({"clusterAffinity": {"clusterNames": ["nowhere"]}}, 2, "NoClusterFit", "0/3 clusters are available"),
        ({"clusterAffinity": {"clusterNames": ["alpha"], "exclude": ["alpha"]}}, 2, "NoClusterFit", "0/3"),
        ({"clusterAffinity": {"exclude": list(ZONES)}}, 2, "NoClusterFit", "0/3"),
        ({"clusterAffinity": {"labelSelector": {"matchLabels": {"no": "such"}}}}, 2, "NoClusterFit", "0/3"),
        (
            {
                "clusterAffinity": {
                    "fieldSelector": {
                        "matchExpressions": [
                            {"key": "region", "operator": "In", "values": ["region-1"]},
                            {"key": "region", "operator": "NotIn", "values": ["region-1"]},
                        ]
                    }
                }
            },
            2,
            "NoClusterFit",
            "0/3",
        ),
        (spread(spreadByField="cluster", minGroups=9), 2, "", "less than spreadConstraint.MinGroups"),
        (DYNAMIC, BILLION, "", ""),
        (AGGREGATED, BILLION, "", ""),
    ],
    ids=[
        "a cluster that nobody knows",
        "named and excluded",
        "all are excluded",
        "labels that none has",
        "in and not in",
        "more groups than clusters",
        "a billion by room",
        "a billion together",
    ],
)  # fmt: skip
def test_what_cannot_be_placed_is_said_and_nothing_runs(
    placement: Document, replicas: int, reason: str, words: str
) -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(PROPAGATION_POLICIES, policy(placement))
        await asyncio.sleep(1)
        await fleet.client.create(DEPLOYMENTS, deployment(replicas))
        await asyncio.sleep(3)
        status, why, message = await scheduled(fleet)
        assert status == "False"
        assert not reason or why == reason
        assert words in message
        assert message
        assert (await fleet.binding()).spec.clusters == ()
        assert not [w for name in ZONES for w in await fleet.works(name, "Deployment")]

    played(story)


@pytest.mark.parametrize(
    "placement",
    [
        spread(spreadByField="cluster", minGroups=9),
        DYNAMIC,
    ],
    ids=["more groups than clusters", "more replicas than room"],
)
def test_what_runs_goes_on_where_a_change_cannot_be_placed(placement: Document) -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(PROPAGATION_POLICIES, policy(DUPLICATED))
        await asyncio.sleep(1)
        await fleet.client.create(DEPLOYMENTS, deployment(2))
        await asyncio.sleep(2)
        before = await fleet.divided()
        assert before == dict.fromkeys(ZONES, 2)
        change = {"spec": {"placement": placement}}
        if placement is DYNAMIC:
            await fleet.client.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": BILLION}})
        await fleet.client.patch(PROPAGATION_POLICIES, POLICY, change)
        await asyncio.sleep(3)
        status, _, message = await scheduled(fleet)
        assert status == "False"
        assert message
        assert set(await fleet.divided()) == set(before), "nothing is taken away"
        for name in ZONES:
            (work,) = await fleet.works(name, "Deployment")
            assert not work["metadata"].get("deletionTimestamp")

    played(story)


@pytest.mark.parametrize(
    ("placement", "replicas", "wanted"),
    [
        (DUPLICATED, 0, {"alpha": 0, "beta": 0, "gamma": 0}),
        (DUPLICATED, BILLION, dict.fromkeys(ZONES, BILLION)),
        (weights(("alpha", 1), ("beta", 1)), BILLION, {"alpha": BILLION // 2, "beta": BILLION // 2}),
        (weights(("alpha", 1), ("nowhere", 10**6)), 4, {"alpha": 4}),
        (weights(("alpha", 2**31 - 1), ("beta", 1)), 3, {"alpha": 3}),
    ],
    ids=["none", "a billion each", "a billion by weight", "a weight for nobody", "weights far apart"],
)  # fmt: skip
def test_odd_numbers_are_placed(placement: Document, replicas: int, wanted: dict[str, int]) -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(PROPAGATION_POLICIES, policy(placement))
        await asyncio.sleep(1)
        await fleet.client.create(DEPLOYMENTS, deployment(replicas))
        await asyncio.sleep(3)
        assert (await scheduled(fleet))[0] == "True"
        placed = {name: count for name, count in (await fleet.divided()).items()}
        assert {n: c for n, c in placed.items() if c or n in wanted} == wanted

    played(story)


# ------------------------------------------------------------------------------------ what contradicts itself is refused
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"placement": {"clusterAffinity": {}, "clusterAffinities": [{"affinityName": "a"}]}},
            "clusterAffinities cannot co-exist with clusterAffinity",
        ),
        ({"placement": spread(spreadByField="cluster", minGroups=3, maxGroups=2)}, "maxGroups"),
        ({"placement": spread(spreadByField="cluster", minGroups=-1)}, "minGroups"),
        ({"placement": weights(("alpha", 0))}, "weight"),
        ({"placement": weights(("alpha", -3))}, "weight"),
        (
            {"suspension": {"dispatching": True, "dispatchingOnClusters": {"clusterNames": ["alpha"]}}},
            "suspension",
        ),
        (
            {"placement": DUPLICATED | {"workloadAffinity": {
                "affinity": {"groupByLabelKey": "app"}, "antiAffinity": {"groupByLabelKey": "app"},
            }}},
            "must not use the same groupByLabelKey",
        ),
        ({"conflictResolution": "Perhaps"}, "conflictResolution"),
        ({"activationPreference": "Eager"}, "activationPreference"),
        ({"resourceSelectors": []}, "resourceSelectors"),
    ],
    ids=[
        "two kinds of affinity",
        "more than the most",
        "fewer than none",
        "a weight of zero",
        "a negative weight",
        "suspended all and some",
        "together and apart",
        "a resolution that is none",
        "a preference that is none",
        "nothing selected",
    ],
)  # fmt: skip
def test_a_policy_that_contradicts_itself_is_refused(spec: Document, words: str) -> None:
    async def story(fleet: Fleet) -> None:
        bad = policy(DUPLICATED)
        bad["spec"] |= spec
        with pytest.raises((Forbidden, Invalid)) as refused:
            await fleet.client.create(PROPAGATION_POLICIES, bad)
        assert words in refused.value.message

    played(story)


def test_two_policies_that_want_the_same_are_decided_once_for_all() -> None:
    async def story(fleet: Fleet) -> None:
        only = {"clusterAffinity": {"clusterNames": ["alpha"]}} | DUPLICATED
        other = {"clusterAffinity": {"clusterNames": ["beta"]}} | DUPLICATED
        await fleet.client.create(PROPAGATION_POLICIES, policy(other, "b"))
        await fleet.client.create(PROPAGATION_POLICIES, policy(only, "a"))
        await asyncio.sleep(1)
        await fleet.client.create(DEPLOYMENTS, deployment(2))
        await asyncio.sleep(2)
        assert set(await fleet.divided()) == {"alpha"}
        for _ in range(3):
            await fleet.client.patch(
                PROPAGATION_POLICIES, ObjectKey("demo", "b"), {"metadata": {"labels": {"x": "y"}}}
            )
            await asyncio.sleep(1)
        assert set(await fleet.divided()) == {"alpha"}, "and they do not fight over it"

    played(story)  # fmt: skip


def test_workloads_that_wait_for_one_another_do_not_wait_for_ever() -> None:
    async def story(fleet: Fleet) -> None:
        near = {"affinity": {"groupByLabelKey": "app"}}
        one = {"spreadConstraints": [{"spreadByField": "cluster", "maxGroups": 1, "minGroups": 1}]}
        await fleet.client.create(
            PROPAGATION_POLICIES, policy(DUPLICATED | one | {"workloadAffinity": near})
        )
        await asyncio.sleep(1)
        for name in ("web", "other"):
            body = deployment(1)
            body["metadata"] |= {"name": name, "labels": {"app": "one"}}
            await fleet.client.create(DEPLOYMENTS, body)
        await asyncio.sleep(4)
        second = await fleet.client.get(RESOURCE_BINDINGS, ObjectKey("demo", "other-deployment"))
        assert len(await fleet.divided()) == 1, "the first of a group is not kept waiting"
        assert {t.name for t in second.spec.clusters} == set(await fleet.divided())

    played(story)


def test_a_policy_that_waits_for_what_never_comes_takes_nothing() -> None:
    async def story(fleet: Fleet) -> None:
        waits = policy(
            {"clusterAffinity": {"clusterNames": ["alpha"]}}, dependentOverrides=["never"]
        )
        await fleet.client.create(PROPAGATION_POLICIES, waits)
        await asyncio.sleep(1)
        await fleet.client.create(DEPLOYMENTS, deployment(3))
        await asyncio.sleep(2)
        marks = (await fleet.binding()).metadata.annotations
        assert marks["clusterpropagationpolicy.karmada.io/name"] == "default-spread"
        assert set(await fleet.divided()) == set(ZONES)

    played(story)  # fmt: skip


# ----------------------------------------------------------------------------------------------- what members say
@pytest.mark.parametrize(
    "summary",
    [
        {"allocatable": {"cpu": "lots", "pods": "10"}},
        {"allocatable": {"cpu": "1e400", "pods": "10"}},
        {"allocatable": {"cpu": "-64", "pods": "-1"}},
        {"allocatable": {"cpu": "64", "pods": "100"}, "allocated": {"cpu": "-9999999", "pods": "-5"}},
        {"allocatable": {"cpu": "64", "pods": "100"}, "allocated": {"cpu": "", "pods": ""}},
        {"allocatable": {}},
    ],
    ids=["no quantity", "beyond numbers", "less than nothing", "less than nothing is used", "empty", "nothing at all"],
)  # fmt: skip
def test_a_member_that_talks_nonsense_harms_nobody_else(summary: Document) -> None:
    async def story(fleet: Fleet) -> None:
        report = {"status": {"resourceSummary": summary}}
        agent, key = fleet.server.agent("gamma"), ObjectKey("", "gamma")
        try:
            await agent.patch(CLUSTERS, key, report, subresource="status")
        except StatusError as error:
            assert "resourceSummary" in error.message
        await asyncio.sleep(1)
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(3)
        placed = await fleet.divided()
        assert sum(placed.values()) == 6, "the others are used"
        assert placed.get("alpha", 0) >= 1
        assert placed.get("beta", 0) >= 1

    played(story)


def test_a_report_on_another_template_moves_nothing() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(2)
        before = await fleet.divided()
        for name in ZONES:
            await fleet.report_work(
                name, resourceTemplateGeneration=99, readyReplicas=10**9, availableReplicas=10**9
            )
        await asyncio.sleep(3)
        assert await fleet.divided() == before
        held = await fleet.client.get(DEPLOYMENTS, WEB)
        assert "observedGeneration" not in (held.get("status") or {}), (
            "a version that is not there was not observed"
        )

    played(story)  # fmt: skip


def test_the_binding_is_the_planners() -> None:
    """Somebody writes a cluster that does not exist into a decision: nothing is sent there, nothing breaks."""

    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(2)
        clusters = [{"name": "nowhere", "replicas": 3}, {"name": "alpha", "replicas": 3}]
        await fleet.client.patch(RESOURCE_BINDINGS, BINDING, {"spec": {"clusters": clusters}})
        await asyncio.sleep(3)
        (work,) = await fleet.works("alpha", "Deployment")
        assert not work["metadata"].get("deletionTimestamp")
        assert await fleet.works("nowhere", "Deployment") == []

    played(story)
