"""A silent cluster that its peers still reach: what is said of it, what stays, and what moves all the same."""

import asyncio

import pytest
from tests.unit.controllers_federation.moving_fleet import EVEN, TWO, WEB, Fleet, play

from federation.controllers.health import UNREACHABLE_TAINT
from federation.propagation import moves
from federation.propagation.departures import Cause, silence_wait_s
from federation.propagation.resilience import stopped_s
from machinery.api.fleet.cluster import CLUSTERS, READY
from machinery.api.fleet.resilience import (
    FAILURE_DOMAINS,
    GRANT_SECONDS,
    WITHHELD,
    ResilienceSpec,
)
from machinery.meta.objectmeta import condition
from machinery.meta.resource import ObjectKey

DEAD = Cause(moves.UNREACHABLE, "dead")
CUT = Cause(moves.UNREACHABLE, "cut", serves=True)
FENCE_S = (30 + 30) * 1.02 + 5


@pytest.mark.parametrize(
    ("spec", "cause", "silent_s", "wait"),
    [
        (ResilienceSpec(), DEAD, 10, 0),
        (ResilienceSpec(), CUT, 10, None),
        (ResilienceSpec(), CUT, 86400, None),
        (ResilienceSpec(stop_after_disconnect=60), DEAD, 10, 0),
        (ResilienceSpec(stop_after_disconnect=60), CUT, 10, (60 + 30) * 1.02 + 5 - 10),
        (ResilienceSpec(stop_after_disconnect=60), CUT, 97, 0),
        (ResilienceSpec(mode="consistency"), DEAD, 10, FENCE_S - 10),
        (ResilienceSpec(mode="consistency"), CUT, 10, FENCE_S - 10),
        (ResilienceSpec(mode="consistency"), CUT, 67, 0),
        (ResilienceSpec(mode="consistency", grant_seconds=20), CUT, 0, (20 + 30) * 1.02 + 5),
        (ResilienceSpec(mode="consistency", failover="Disabled"), CUT, 600, None),
        (ResilienceSpec(failover="Disabled"), DEAD, 600, None),
    ],
)
def test_what_leaves_a_silent_cluster_and_when(
    spec: ResilienceSpec, cause: Cause, silent_s: float, wait: float | None
) -> None:
    found = silence_wait_s(cause, spec, None, silent_s)
    assert found == (None if wait is None else pytest.approx(wait))


def test_without_grants_nothing_stops_by_itself() -> None:
    assert stopped_s(ResilienceSpec(), None) is None


async def cut(fleet: Fleet, name: str) -> list[asyncio.Task[None]]:
    """The member's link is cut, and the others reach it."""
    others = [n for n in EVEN if n != name]
    told = [fleet.reporting(n, **{name: "Direct"}) for n in others]
    await asyncio.sleep(1)
    fleet.members[name].link.cut(fleet.clock.monotonic())
    return told


def test_a_cluster_whose_link_is_cut_keeps_its_replicas_and_gets_nothing_new() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        told = await cut(fleet, "alpha")
        await asyncio.sleep(60)
        assert await fleet.verdict("cluster.alpha") == "LinkCut"
        assert await fleet.verdict("zone.zone-a") == "LinkCut"
        assert await fleet.verdict("fleet") == "Degraded"
        assert (await fleet.divided(), await fleet.kept()) == (EVEN, {})
        domain = await fleet.client.get(FAILURE_DOMAINS, ObjectKey("", "cluster.alpha"))
        assert [(e.cluster, e.verdict, e.message) for e in domain.status.evidence] == [
            ("beta", "Direct", "beta reaches it directly."),
            ("gamma", "Direct", "gamma reaches it directly."),
        ]
        alpha = await fleet.client.get(CLUSTERS, ObjectKey("", "alpha"))
        ready = condition(alpha.status.conditions, READY)
        assert ready is not None
        assert (ready.status, ready.reason) == ("Unknown", "ClusterLinkCut")
        assert "beta and gamma reach it: only its link is cut" in ready.message
        assert [(t.key, t.effect) for t in alpha.spec.taints] == [(UNREACHABLE_TAINT, "NoSchedule")]
        await fleet.deploy(2, "new")
        fleet.members["alpha"].link.heal()
        await asyncio.sleep(10)
        assert await fleet.verdict("cluster.alpha") == "Healthy"
        assert (await fleet.divided(), await fleet.kept()) == (EVEN, {})
        assert {"VerdictLinkCut", "VerdictHealthy"} <= await fleet.reasons(ObjectKey("", "alpha"))
        assert "EvictWorkload" not in await fleet.reasons(WEB)
        for task in told:
            task.cancel()

    play(story)


def test_when_the_peers_lose_it_as_well_it_is_dead() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        told = await cut(fleet, "alpha")
        await asyncio.sleep(60)
        for task in told:
            task.cancel()
        await fleet.report("beta", alpha="Unreachable")
        await asyncio.sleep(30)
        assert await fleet.verdict("cluster.alpha") == "LinkCut", "gamma still reaches it"
        await fleet.report("gamma", alpha="Unreachable")
        await asyncio.sleep(9)
        assert await fleet.verdict("cluster.alpha") == "Suspect"
        await asyncio.sleep(5)
        assert await fleet.verdict("cluster.alpha") == "Dead"
        assert await fleet.divided() == TWO

    play(story)


def test_peers_that_lost_it_cost_no_time() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        await fleet.report("beta", alpha="Direct")
        await fleet.report("gamma", alpha="Direct")
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(7)
        await fleet.report("beta", alpha="Unreachable")
        await fleet.report("gamma", alpha="Unreachable")
        await asyncio.sleep(6)
        assert await fleet.verdict("cluster.alpha") == "Dead"

    play(story)


def test_a_report_that_nobody_keeps_fresh_says_nothing() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        await fleet.report("beta", alpha="Direct")
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(80)
        assert await fleet.verdict("cluster.alpha") == "LinkCut"
        await asyncio.sleep(15)
        assert await fleet.verdict("cluster.alpha") == "Dead"

    play(story)


def test_witnesses_that_fall_silent_are_no_loss_of_life() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        told = await cut(fleet, "alpha")
        await asyncio.sleep(60)
        for name in ("beta", "gamma"):
            fleet.members[name].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(40)
        assert await fleet.verdict("cluster.alpha") == "LinkCut"
        assert await fleet.verdict("fleet") == "ServerCutOff"
        for name in ("beta", "gamma"):
            fleet.members[name].link.heal()
        await asyncio.sleep(40)
        assert await fleet.verdict("cluster.alpha") == "LinkCut"
        assert (await fleet.divided(), await fleet.kept()) == (EVEN, {})
        for task in told:
            task.cancel()

    play(story)


def test_a_restarted_server_finds_the_link_cut_again() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        told = await cut(fleet, "alpha")
        await asyncio.sleep(30)
        await fleet.server.stop()
        await fleet.server.start()
        await asyncio.sleep(40)
        assert await fleet.verdict("cluster.alpha") == "LinkCut"
        assert (await fleet.divided(), await fleet.kept()) == (EVEN, {})
        assert "VerdictDead" not in await fleet.reasons(ObjectKey("", "alpha"))
        for task in told:
            task.cancel()

    play(story)


def test_the_operators_limit_gives_it_up() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.configure(clock={"linkCutSeconds": 60})
        await fleet.deploy()
        told = await cut(fleet, "alpha")
        await asyncio.sleep(57)
        assert await fleet.divided() == EVEN
        await asyncio.sleep(8)
        assert await fleet.verdict("cluster.alpha") == "Dead"
        assert await fleet.divided() == TWO
        for task in told:
            task.cancel()

    play(story)


def test_consistency_moves_when_the_copy_in_the_cut_cluster_has_stopped() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(mode="consistency")
        await fleet.deploy(1)
        (home,) = await fleet.divided()
        told = await cut(fleet, home)
        await asyncio.sleep(FENCE_S - 3)
        assert await fleet.verdict(f"cluster.{home}") == "LinkCut"
        assert await fleet.divided() == {home: 1}
        await asyncio.sleep(6)
        assert home not in await fleet.divided()
        assert (await fleet.work(home))["metadata"]["annotations"][WITHHELD] == "true"
        for task in told:
            task.cancel()

    play(story)


def test_what_stops_without_the_federation_moves_when_it_has_stopped_there() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(stopAfterDisconnect=60)
        await fleet.deploy()
        work = await fleet.work("alpha")
        pods = work["spec"]["workload"]["manifests"][0]["spec"]["template"]["metadata"]
        assert pods["annotations"][GRANT_SECONDS] == "60"
        told = await cut(fleet, "alpha")
        await asyncio.sleep((60 + 30) * 1.02 + 5 - 3)
        assert await fleet.divided() == EVEN
        await asyncio.sleep(6)
        assert await fleet.divided() == TWO
        assert WITHHELD not in (await fleet.work("alpha"))["metadata"]["annotations"]
        for task in told:
            task.cancel()

    play(story)


def test_what_stops_without_the_federation_leaves_a_dead_cluster_at_once() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(stopAfterDisconnect=60)
        await fleet.deploy()
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(16)
        assert await fleet.divided() == TWO

    play(story)


def test_a_cut_cluster_that_is_drained_is_copied_elsewhere_and_kept() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy()
        told = await cut(fleet, "alpha")
        await asyncio.sleep(20)
        await fleet.taint("alpha", "NoSchedule", "NoExecute")
        await asyncio.sleep(20)
        assert (await fleet.divided(), await fleet.kept()) == (TWO, {"alpha": 2})
        for task in told:
            task.cancel()

    play(story)
