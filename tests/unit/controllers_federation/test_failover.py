"""Failover end to end in virtual time: kills, cuts, flaps, doubt, drains, the operator's switches."""

import asyncio

import pytest
from tests.unit.controllers_federation.moving_fleet import (
    BINDING,
    EVEN,
    PLACES,
    TWO,
    WEB,
    Fleet,
    play,
)

from federation.cli import cordon, drain, leave, uncordon
from federation.cli.errors import CliError
from federation.controllers import domains
from federation.controllers.evictor import PRIORITY_CLASSES
from federation.domains.clock import FailureClock
from federation.propagation import departures, moves
from federation.propagation.templates import DEPLOYMENTS
from federation.simulator import workload
from federation.simulator.server import STABILIZATION_S
from machinery.api.fleet.cluster import (
    CLUSTERS,
    CORDON_TAINT,
    DRAIN_TAINT,
    INVENTORY,
)
from machinery.api.fleet.resilience import (
    CONFIG_NAME,
    FAILURE_DOMAINS,
    FEDERATION_CONFIGS,
)
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.controller.action import Result
from machinery.meta.errors import Invalid
from machinery.meta.resource import Document, ObjectKey


def test_a_killed_cluster_is_replaced_and_used_again_without_a_dip() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        assert await fleet.divided() == EVEN
        assert fleet.ready() == 6
        await fleet.members["alpha"].crash(power=True)
        await asyncio.sleep(20)
        assert (await fleet.divided(), await fleet.kept()) == (TWO, {"alpha": 2})
        assert fleet.ready() == 6
        assert await fleet.verdict("cluster.alpha") == "Dead"
        assert await fleet.verdict("zone.zone-a") == "Dead"
        assert "EvictWorkload" in await fleet.reasons(WEB)
        assert "EvictWorkload" in await fleet.reasons(BINDING)
        assert "VerdictDead" in await fleet.reasons(ObjectKey("", "alpha"))
        deployment = await fleet.client.get(DEPLOYMENTS, WEB)
        assert deployment["status"]["readyReplicas"] == 6
        assert deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
        fleet.members["alpha"].start()
        assert await fleet.pass_time(STABILIZATION_S + 25) == 6
        assert (await fleet.divided(), await fleet.kept()) == (EVEN, {})
        assert [fleet.pods(name) for name in EVEN] == [2, 2, 2]
        assert {"Rejoined", "Failback"} <= await fleet.reasons(WEB)
        assert moves.DISPLACED not in (await fleet.binding()).metadata.annotations

    play(story)


def test_a_cut_off_cluster_loses_nothing_before_its_inventory() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        for _ in range(60):
            await asyncio.sleep(1)
            assert fleet.pods("alpha") == 2
        assert await fleet.divided() == TWO
        fleet.members["alpha"].link.heal()
        answered = False
        while fleet.pods("alpha") == 2:
            await asyncio.sleep(0.05)
            cluster = await fleet.client.get(CLUSTERS, ObjectKey("", "alpha"))
            answered = bool(cluster.metadata.annotations.get(INVENTORY))
        assert answered, "what runs goes only after the inventory"
        assert await fleet.pass_time(STABILIZATION_S + 25) >= 6

    play(story)


def test_a_cluster_that_returns_in_time_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        monkeypatch.setattr(workload, "READY_S", (6.0, 8.0))  # longer than a return takes
        before = (await fleet.binding()).spec.clusters
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        for _ in range(400):
            await asyncio.sleep(0.05)
            if (await fleet.binding()).spec.clusters != before:
                break
        fleet.members["alpha"].link.heal()
        assert await fleet.pass_time(30) >= 6
        assert (await fleet.binding()).spec.clusters == before
        assert await fleet.kept() == {}
        assert "EvictionCancelled" in await fleet.reasons(WEB)

    play(story)


@pytest.mark.parametrize("silence_s", [4.0, 8.0])
def test_flaps_move_nothing(silence_s: float) -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        uid = (await fleet.binding()).metadata.resource_version
        for _ in range(10):
            fleet.members["alpha"].link.cut(fleet.clock.monotonic())
            await asyncio.sleep(silence_s - 2)
            fleet.members["alpha"].link.heal()
            await asyncio.sleep(4)
        binding = await fleet.binding()
        assert await fleet.divided() == EVEN
        assert binding.metadata.annotations.keys() & {moves.BEFORE, moves.DISPLACED} == set()
        assert uid
        assert "EvictWorkload" not in await fleet.reasons(WEB)

    play(story)


@pytest.mark.parametrize("names", [("alpha", "beta", "gamma"), ("alpha", "beta")])
def test_when_most_fall_silent_the_server_doubts_itself(names: tuple[str, ...]) -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        for name in names:
            fleet.members[name].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(600)
        assert await fleet.divided() == EVEN
        assert await fleet.verdict("fleet") == "ServerCutOff"
        assert "VerdictServerCutOff" in await fleet.reasons(ObjectKey("", names[0]))
        for name in names[1:]:
            fleet.members[name].link.heal()
        await asyncio.sleep(8)
        assert await fleet.divided() == EVEN, "the last one gets its whole time anew"
        fleet.members[names[0]].link.heal()
        await asyncio.sleep(30)
        assert await fleet.divided() == EVEN
        assert await fleet.verdict("fleet") == "Healthy"

    play(story)


def test_one_that_stays_away_after_the_server_was_cut_off_is_moved_then() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        for member in fleet.members.values():
            member.link.cut(fleet.clock.monotonic())
        await asyncio.sleep(60)
        for name in ("beta", "gamma"):
            fleet.members[name].link.heal()
        await asyncio.sleep(9)
        assert await fleet.divided() == EVEN
        await asyncio.sleep(11)
        assert await fleet.divided() == TWO

    play(story)


def test_a_restarted_server_gives_everybody_the_whole_time() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(6)
        await fleet.server.stop()
        await asyncio.sleep(5)
        await fleet.server.start()
        await asyncio.sleep(8)
        assert await fleet.divided() == EVEN
        await asyncio.sleep(8)
        assert await fleet.divided() == TWO

    play(story)


def test_a_restarted_server_does_not_take_the_dead_for_living() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        await fleet.members["alpha"].crash(power=True)
        await asyncio.sleep(25)
        await fleet.server.stop()
        await fleet.server.start()
        for _ in range(30):
            await asyncio.sleep(0.5)
            cluster = await fleet.client.get(CLUSTERS, ObjectKey("", "alpha"))
            assert {c.type: c.status for c in cluster.status.conditions}["Ready"] == "Unknown"
            assert (await fleet.divided(), await fleet.kept()) == (TWO, {"alpha": 2})

    play(story)


def test_a_verdict_that_a_server_found_when_it_started_drives_nobody_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server before it judged, and was gone before it acted; its own judgement is late."""

    async def late(*_: object) -> Result:
        return Result()

    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        await fleet.configure(failover="Frozen")
        await fleet.members["alpha"].crash(power=True)
        await asyncio.sleep(20)
        assert await fleet.verdict("cluster.alpha") == "Dead"
        await fleet.server.stop()
        monkeypatch.setattr(domains.DomainsReconciler, "reconcile", late)
        await fleet.server.start()
        on = {"spec": {"failover": "Enabled"}}
        await fleet.client.patch(FEDERATION_CONFIGS, ObjectKey("", CONFIG_NAME), on)
        await asyncio.sleep(8)
        assert await fleet.verdict("cluster.alpha") == "Dead"
        assert await fleet.divided() == EVEN

    play(story)


@pytest.mark.parametrize(
    ("silent_s", "witnessed"),
    [(None, False), (0.0, False), (9.9, False), (10.0, True), (600.0, True)],
    ids=["never heard", "just heard or just started", "not yet", "as long as it takes", "long"],
)
def test_whose_silence_a_server_has_seen(silent_s: float | None, witnessed: bool) -> None:
    assert departures.witnessed(silent_s, FailureClock()) is witnessed


@pytest.mark.parametrize(
    ("switch", "told"), [("Frozen", False), ("DryRun", True)], ids=["frozen", "dry run"]
)
def test_the_operators_switch(switch: str, told: bool) -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.configure(failover=switch)
        await fleet.deploy()
        await fleet.members["alpha"].crash(power=False)
        await asyncio.sleep(60)
        assert await fleet.divided() == EVEN
        assert ("WouldEvict" in await fleet.reasons(WEB)) == told
        assert "EvictWorkload" not in await fleet.reasons(WEB)
        patch = {"spec": {"failover": "Enabled"}}
        await fleet.client.patch(FEDERATION_CONFIGS, ObjectKey("", "default"), patch)
        await asyncio.sleep(5)
        assert await fleet.divided() == TWO

    play(story)


def test_the_clock_can_be_set_while_it_runs() -> None:
    async def story(fleet: Fleet) -> None:
        clock = {"suspectSeconds": 3, "unreachableSeconds": 4, "zoneSeconds": 5}
        await fleet.configure(clock=clock)
        await fleet.deploy()
        await fleet.members["alpha"].crash(power=False)
        await asyncio.sleep(5.5)
        assert await fleet.divided() == TWO

    play(story)


@pytest.mark.parametrize(
    ("spec", "away", "back"),
    [
        ({"failover": "Disabled"}, EVEN, EVEN),
        ({"rejoin": "keepOriginal"}, TWO, EVEN),
        ({"failback": {"mode": "Never"}}, TWO, TWO),
        ({"failback": {"stabilizationSeconds": 3600}}, TWO, TWO),
    ],
    ids=["disabled", "keepOriginal", "never back", "a long window"],
)
def test_policies(spec: Document, away: dict[str, int], back: dict[str, int]) -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(**spec)
        await fleet.deploy()
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(25)
        assert await fleet.divided() == away
        fleet.members["alpha"].link.heal()
        assert await fleet.pass_time(40) >= 6
        assert (await fleet.divided(), await fleet.kept()) == (back, {})

    play(story)


def test_a_drained_cluster_is_emptied_surge_first_and_used_again() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        await fleet.taint("beta", "NoSchedule", "NoExecute")
        assert await fleet.pass_time(30) == 6
        assert (await fleet.divided(), await fleet.kept()) == ({"alpha": 3, "gamma": 3}, {})
        assert fleet.pods("beta") == 0
        await fleet.taint("beta")
        assert await fleet.pass_time(40) == 6
        assert await fleet.divided() == EVEN

    play(story)


def test_the_verbs_of_a_cluster() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        await cordon.cordon(fleet.client, "beta")
        await fleet.client.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": 8}})
        await asyncio.sleep(8)
        assert (await fleet.divided())["beta"] == 2
        await drain.begin(fleet.client, "beta")
        assert await drain.emptied(fleet.client, "beta", fleet.clock, 0.5) == ["demo/web (2)"]
        assert await drain.emptied(fleet.client, "beta", fleet.clock, 60.0) == []
        assert await fleet.divided() == {"alpha": 4, "gamma": 4}
        await asyncio.sleep(3)
        assert (fleet.pods("beta"), fleet.ready()) == (0, 8)
        beta = await fleet.client.get(CLUSTERS, ObjectKey("", "beta"))
        assert {t.key for t in beta.spec.taints} == {CORDON_TAINT, DRAIN_TAINT}
        await uncordon.uncordon(fleet.client, "beta")
        assert await fleet.pass_time(40) == 8
        assert sorted((await fleet.divided()).values()) == [2, 3, 3]
        with pytest.raises(CliError, match="there is alpha, beta, gamma"):
            await cordon.cordon(fleet.client, "delta")

    play(story)


def test_leaving() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy(1)
        (home,) = await fleet.divided()
        assert await leave.leave(fleet.client, home, force=False) == ["Deployment demo/web"]
        assert await fleet.divided() == {home: 1}
        await drain.begin(fleet.client, home)
        assert await drain.emptied(fleet.client, home, fleet.clock, 60.0) == []
        assert await leave.leave(fleet.client, home, force=False) == []
        await fleet.members[home].crash(power=False)
        (second,) = await fleet.divided()
        assert await leave.leave(fleet.client, second, force=True) == ["Deployment demo/web"]
        await fleet.members[second].crash(power=False)
        await asyncio.sleep(10)
        (third,) = await fleet.divided()
        assert len({home, second, third}) == 3
        assert await fleet.kept() == {}
        known = {c.metadata.name for c in (await fleet.client.list(CLUSTERS)).items}
        assert known == {third}
        domains = {d.metadata.name for d in (await fleet.client.list(FAILURE_DOMAINS)).items}
        zone = next(p.zone for p in PLACES if p.name == third)
        assert domains == {"fleet", f"cluster.{third}", f"zone.{zone}"}

    play(story)


def test_a_drain_without_room_waits_and_can_be_taken_back() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy(66)
        await fleet.taint("beta", "NoExecute")
        assert await fleet.pass_time(30) == 66
        assert (await fleet.kept())["beta"] == 22
        await fleet.taint("beta")
        assert await fleet.pass_time(30) == 66
        assert (await fleet.kept(), sum((await fleet.divided()).values())) == ({}, 66)

    play(story)


def test_after_a_loss_as_many_run_as_fit() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy(66)
        await fleet.members["alpha"].crash(power=False)
        await asyncio.sleep(25)
        assert await fleet.divided() == {"beta": 30, "gamma": 30}
        assert "FailoverShortOfRoom" in await fleet.reasons(WEB)
        fleet.members["alpha"].start()
        assert await fleet.pass_time(40) >= 60
        assert await fleet.divided() == {"alpha": 22, "beta": 22, "gamma": 22}
        assert await fleet.kept() == {}

    play(story)


def test_scaling_while_a_cluster_is_away_never_dips() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(25)
        await fleet.client.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": 8}})
        await asyncio.sleep(10)
        assert await fleet.divided() == {"beta": 4, "gamma": 4}
        fleet.members["alpha"].link.heal()
        assert await fleet.pass_time(45) >= 8
        assert sorted((await fleet.divided()).values()) == [2, 3, 3]

    play(story)


def test_many_workloads_leave_by_priority() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(
            PRIORITY_CLASSES,
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": "high"},
                "value": 1000,
            },
        )
        for index in range(8):
            important = {"priorityClassName": "high"} if index == 5 else {}
            await fleet.deploy(3, f"web-{index}", **important)
        await fleet.members["alpha"].crash(power=False)
        await asyncio.sleep(25)
        bindings = (await fleet.client.list(RESOURCE_BINDINGS, "demo")).items
        placed = [{t.name for t in b.spec.clusters} for b in bindings]
        assert placed == [{"beta", "gamma"}] * 8

    play(story)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"mode": "eventually"}, "mode"),
        ({"rejoin": "random"}, "rejoin"),
        ({"failback": {"mode": "Sometimes"}}, "failback"),
        ({"resourceSelectors": []}, "resourceSelectors"),
        ({"failback": {"ratePerMinute": 0}}, "ratePerMinute"),
    ],
)
def test_a_policy_that_means_nothing_is_refused(spec: Document, why: str) -> None:
    async def story(fleet: Fleet) -> None:
        with pytest.raises(Invalid, match=why):
            await fleet.policy(**spec)

    play(story)
