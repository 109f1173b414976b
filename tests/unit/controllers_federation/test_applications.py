"""Application failover in virtual time: what breaks in one cluster leaves it, what is broken by itself stays."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.unit.controllers_federation.moving_fleet import BINDING, WEB, Fleet, play

from federation.propagation import moves
from federation.propagation.applications import ACCOUNT, CONDITION, account_of
from federation.propagation.departures import Cause, Due, ordered
from federation.propagation.templates import DEPLOYMENTS
from federation.simulator.member import Ref
from federation.simulator.workload import BROKEN_IMAGE, NEVER
from machinery.api.fleet.policy import PROPAGATION_POLICIES
from machinery.api.fleet.work import RESOURCE_BINDINGS, WORK_DOCUMENTS, ResourceBinding
from machinery.meta.objectmeta import condition

TOLERATED = 22


async def placed(
    fleet: Fleet,
    clusters: tuple[str, ...] = ("alpha", "beta"),
    groups: int = 1,
    image: str = "whoami:1",
    **application: Any,
) -> str:
    """A Deployment of two replicas in `groups` of the clusters, with application failover; the first cluster that it is in."""
    conditions = {"decisionConditions": {"tolerationSeconds": TOLERATED}}
    policy = {
        "apiVersion": PROPAGATION_POLICIES.api_version,
        "kind": PROPAGATION_POLICIES.kind,
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {
            "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}],
            "propagateDeps": True,
            "placement": {
                "clusterAffinity": {"clusterNames": list(clusters)},
                "spreadConstraints": [
                    {"spreadByField": "cluster", "minGroups": groups, "maxGroups": groups}
                ],
                "replicaScheduling": {
                    "replicaSchedulingType": "Divided",
                    "replicaDivisionPreference": "Weighted",
                    "weightPreference": {"dynamicWeight": "AvailableReplicas"},
                },
            },
            "failover": {"application": conditions | application},
        },
    }
    await fleet.client.create(PROPAGATION_POLICIES, policy)
    await fleet.deploy(2, containers=[{"name": "web", "image": image}])
    return min(await fleet.divided())


def turned(fleet: Fleet, name: str, ready_at: float) -> None:
    """The pods that run in the member now are ready from then on."""
    member, ref = fleet.members[name], Ref("Deployment", WEB)
    objects = member.objects
    running = objects[ref].running
    assert running is not None
    pods = tuple(replace(pod, ready_at=ready_at) for pod in running.pods)
    objects[ref] = replace(objects[ref], running=replace(running, pods=pods))
    member._pods_changed(objects[ref].work)


def broken(fleet: Fleet, name: str) -> None:
    turned(fleet, name, NEVER)


def mended(fleet: Fleet, name: str) -> None:
    turned(fleet, name, fleet.clock.monotonic())


async def said(fleet: Fleet) -> tuple[str, str]:
    held = condition((await fleet.binding()).status.conditions, CONDITION)
    return (held.status, held.reason) if held is not None else ("", "")


async def left_after(fleet: Fleet, name: str, limit_s: float) -> float:
    """Seconds until the placement has the cluster no more."""
    for step in range(int(limit_s * 2)):
        if name not in await fleet.divided():
            return step / 2
        await asyncio.sleep(0.5)
    return limit_s


def test_what_breaks_in_one_cluster_leaves_it_when_its_time_is_over() -> None:
    async def story(fleet: Fleet) -> None:
        home = await placed(fleet)
        assert await said(fleet) == ("True", "Healthy")
        broken(fleet, home)
        assert TOLERATED <= await left_after(fleet, home, 60) <= TOLERATED + 3
        (task,) = (await fleet.binding()).spec.graceful_eviction_tasks
        assert (task.reason, task.purge_mode, task.grace_period_seconds) == (
            moves.APPLICATION,
            "Gracefully",
            600,
        )
        assert await fleet.kept() == {home: 2}
        await asyncio.sleep(15)
        assert await fleet.kept() == {}, "the new copies are healthy"
        (now,) = await fleet.divided()
        assert (now != home, fleet.pods(home), fleet.ready()) == (True, 0, 2)
        assert {"EvictWorkload", "EvictionEnded"} <= await fleet.reasons(WEB)
        await asyncio.sleep(120)
        assert await fleet.divided() == {now: 2}, "it does not go back by itself"
        assert account_of((await fleet.binding()).metadata.annotations).left == ()

    play(story)


def test_a_version_that_was_healthy_nowhere_does_not_wander() -> None:
    async def story(fleet: Fleet) -> None:
        home = await placed(fleet, image=BROKEN_IMAGE)
        await asyncio.sleep(900)
        assert await fleet.divided() == {home: 2}
        assert await said(fleet) == ("False", "NeverHealthy")
        assert "EvictWorkload" not in await fleet.reasons(WEB)

    play(story)


def test_what_is_unhealthy_in_all_its_clusters_stays() -> None:
    async def story(fleet: Fleet) -> None:
        await placed(fleet, ("alpha", "beta", "gamma"), groups=2)
        where = await fleet.divided()
        assert len(where) == 2
        for name in where:
            broken(fleet, name)
        await asyncio.sleep(100)
        assert await fleet.divided() == where
        assert await said(fleet) == ("False", "UnhealthyEverywhere")
        mended(fleet, min(where))
        assert await left_after(fleet, max(where), 30) < 5, "the other one is to blame now"

    play(story)


def test_without_another_place_it_stays_and_says_so() -> None:
    async def story(fleet: Fleet) -> None:
        home = await placed(fleet, ("alpha",))
        broken(fleet, home)
        await asyncio.sleep(90)
        assert (await fleet.divided(), await fleet.kept()) == ({"alpha": 2}, {})
        assert "ApplicationFailoverHeld" in await fleet.reasons(WEB)
        assert await said(fleet) == ("False", "Unhealthy")

    play(story)


def test_a_stumble_moves_nothing_and_much_of_it_does() -> None:
    async def story(fleet: Fleet) -> None:
        home = await placed(fleet)
        for _ in range(6):  # half of the time
            broken(fleet, home)
            await asyncio.sleep(10)
            mended(fleet, home)
            await asyncio.sleep(12)
        assert await fleet.divided() == {home: 2}
        for _ in range(6):  # most of the time
            broken(fleet, home)
            if await left_after(fleet, home, 10) < 10:
                break
            mended(fleet, home)
            await asyncio.sleep(2)
        assert home not in await fleet.divided()

    play(story)


def test_what_is_not_seen_neither_ends_the_wait_nor_begins_it_anew() -> None:
    async def story(fleet: Fleet) -> None:
        home = await placed(fleet, decisionConditions={"tolerationSeconds": 40})
        broken(fleet, home)
        await asyncio.sleep(25)
        uncertain = fleet.members[home].link
        other = min({"alpha", "beta", "gamma"} - {home})
        reporting = fleet.reporting(other, **{home: "Direct"})
        await asyncio.sleep(1)
        uncertain.cut(fleet.clock.monotonic())
        await asyncio.sleep(120)
        assert await fleet.divided() == {home: 2}, "its link is cut: nobody knows its health"
        entry = account_of((await fleet.binding()).metadata.annotations).clusters[home]
        assert (entry.health, 25 <= entry.debt_s <= 40) == ("Unknown", True)
        uncertain.heal()
        assert 5 < await left_after(fleet, home, 60) < 30, "the rest of its time"
        reporting.cancel()

    play(story)


@pytest.mark.parametrize(
    ("switch", "told"), [("Frozen", False), ("DryRun", True)], ids=["frozen", "dry run"]
)
def test_while_the_operator_holds_failover_it_is_only_told(switch: str, told: bool) -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.configure(failover=switch)
        home = await placed(fleet)
        broken(fleet, home)
        await asyncio.sleep(60)
        assert await fleet.divided() == {home: 2}
        assert ("WouldEvict" in await fleet.reasons(WEB)) is told

    play(story)


def test_directly_the_old_copy_ends_at_once_and_its_state_goes_along() -> None:
    async def story(fleet: Fleet) -> None:
        state = {"rules": [{"aliasLabelName": "demo/seen", "jsonPath": "{.updatedReplicas}"}]}
        home = await placed(fleet, purgeMode="Directly", statePreservation=state)
        broken(fleet, home)
        await left_after(fleet, home, 60)
        await asyncio.sleep(1)
        binding = await fleet.binding()
        (task,) = binding.spec.graceful_eviction_tasks
        assert (task.purge_mode, task.preserved_label_state) == ("Directly", {"demo/seen": "2"})
        assert task.clusters_before_failover == (home,)
        (now,) = await fleet.divided()
        works = (await fleet.client.list(WORK_DOCUMENTS, f"karmada-es-{home}")).items
        alive = [w for w in works if not w["metadata"].get("deletionTimestamp")]
        kinds = [w["spec"]["workload"]["manifests"][0]["kind"] for w in alive]
        assert "Deployment" not in kinds
        (manifest,) = (await fleet.work(now))["spec"]["workload"]["manifests"]
        assert manifest["metadata"]["labels"]["demo/seen"] == "2"
        await asyncio.sleep(15)
        assert (await fleet.binding()).spec.graceful_eviction_tasks == ()

    play(story)


def test_never_the_old_copy_stays_until_somebody_says_so() -> None:
    async def story(fleet: Fleet) -> None:
        home = await placed(fleet, purgeMode="Never")
        broken(fleet, home)
        await left_after(fleet, home, 60)
        await asyncio.sleep(700)
        (task,) = (await fleet.binding()).spec.graceful_eviction_tasks
        assert (task.suppress_deletion, task.grace_period_seconds) == (True, None)
        assert fleet.pods(home) == 2
        held = await fleet.client.get(RESOURCE_BINDINGS, BINDING)
        wire = {
            "fromCluster": home,
            "reason": task.reason,
            "producer": task.producer,
            "purgeMode": "Never",
            "replicas": 2,
            "suppressDeletion": False,
        }
        patch = {"spec": {"gracefulEvictionTasks": [wire]}}
        await fleet.client.patch(RESOURCE_BINDINGS, held.key, patch)
        await asyncio.sleep(5)
        assert (fleet.pods(home), await fleet.kept()) == (0, {})

    play(story)


def test_without_the_policy_there_is_no_account() -> None:
    async def story(fleet: Fleet) -> None:
        await placed(fleet)
        assert ACCOUNT in (await fleet.binding()).metadata.annotations
        body = {"spec": {"failover": None}}
        key = WEB
        await fleet.client.patch(PROPAGATION_POLICIES, key, body)
        await asyncio.sleep(2)
        binding = await fleet.binding()
        assert ACCOUNT not in binding.metadata.annotations
        assert condition(binding.status.conditions, CONDITION) is None
        assert (await fleet.client.get(DEPLOYMENTS, WEB))["metadata"]["name"] == "web"

    play(story)


def test_of_equals_the_older_leaves_first() -> None:
    def due(name: str, created: str, priority: int = 0) -> Due:
        metadata = {"name": name, "namespace": "demo", "creationTimestamp": created}
        binding = msgspec.convert({"metadata": metadata}, ResourceBinding)
        return Due(binding, "alpha", Cause(moves.APPLICATION, "why"), priority)

    young, old = due("a", "2026-01-02T00:00:00Z"), due("b", "2026-01-01T00:00:00Z")
    twin, high = due("c", "2026-01-01T00:00:00Z"), due("z", "2026-01-03T00:00:00Z", 5)
    assert ordered([young, twin, old, high]) == [high, old, twin, young]
