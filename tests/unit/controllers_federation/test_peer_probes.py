"""Members that probe each other, all at once: crashed agents, cut links, power cuts and cut data paths, in virtual time."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from tests.unit.controllers_federation.moving_fleet import EVEN, TWO, Fleet, play

from federation.simulator.peers import PROBE_S, DataPath, PeerReporter, Probes
from machinery.meta.errors import StatusError


def test_packets_must_pass_both_ways() -> None:
    path = DataPath("abc", frozenset({("a", "b")}), frozenset({"c"}))
    ways = [(s, t) for s in "abc" for t in "abc" if s < t]
    assert [path.reaches(*way) for way in ways] == [False, False, False]
    assert not path.reaches("b", "a")
    assert DataPath("abc").reaches("a", "b")


def test_a_probe_that_fails_is_believed_after_a_while() -> None:
    probes, cut = Probes("a"), DataPath("ab", frozenset({("a", "b")}))
    assert probes.look(DataPath("ab"), 0.0) == {"b": "Direct"}
    assert probes.look(cut, 10.0) == {"b": "Direct"}
    assert probes.look(cut, 10.0 + PROBE_S) == {"b": "Unreachable"}
    assert probes.look(DataPath("ab"), 20.0) == {"b": "Direct"}


class Probing:
    """Every member's agent reports while it lives."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.path = fleet, DataPath(tuple(EVEN))
        self.reporters = {
            name: PeerReporter(name, member.client, fleet.clock, lambda: self.path)
            for name, member in fleet.members.items()
        }

    async def run(self) -> None:
        while True:
            for name, reporter in self.reporters.items():
                if self.fleet.members[name].alive:
                    with contextlib.suppress(StatusError, ConnectionError):
                        await asyncio.wait_for(reporter.run_once(), 1)
            await asyncio.sleep(1)


Story = Callable[[Fleet, Probing], Awaitable[None]]


def probed(story: Story) -> None:
    async def whole(fleet: Fleet) -> None:
        probing = Probing(fleet)
        task = asyncio.create_task(probing.run())
        await fleet.deploy()
        try:
            await story(fleet, probing)
        finally:
            task.cancel()

    play(whole)


@pytest.mark.parametrize("how", ["agent", "link"])
def test_without_its_agent_or_link_a_cluster_serves_and_keeps_what_it_has(how: str) -> None:
    async def story(fleet: Fleet, _: Probing) -> None:
        member = fleet.members["alpha"]
        if how == "agent":
            await member.crash(power=False)
        else:
            member.link.cut(fleet.clock.monotonic())
        await asyncio.sleep(120)
        assert await fleet.verdict("cluster.alpha") == "LinkCut"
        assert await fleet.divided() == EVEN
        if how == "agent":
            member.start()
        else:
            member.link.heal()
        await asyncio.sleep(20)
        assert await fleet.verdict("cluster.alpha") == "Healthy"
        assert (await fleet.divided(), await fleet.kept()) == (EVEN, {})

    probed(story)


def test_without_power_a_cluster_is_dead_as_soon_as_ever() -> None:
    async def story(fleet: Fleet, probing: Probing) -> None:
        await fleet.members["alpha"].crash(power=True)
        probing.path = replace(probing.path, dark=frozenset({"alpha"}))
        await asyncio.sleep(14)
        assert await fleet.verdict("cluster.alpha") == "Dead"
        assert await fleet.divided() == TWO

    probed(story)


def test_a_cluster_that_is_cut_off_from_its_peers_alone_moves_nothing() -> None:
    async def story(fleet: Fleet, probing: Probing) -> None:
        cuts = frozenset({("alpha", "beta"), ("gamma", "alpha")})
        probing.path = replace(probing.path, cuts=cuts)
        await asyncio.sleep(30)
        verdicts = [await fleet.verdict(f"cluster.{name}") for name in EVEN]
        assert verdicts == ["Degraded", "Healthy", "Healthy"]
        assert (await fleet.divided(), await fleet.kept()) == (EVEN, {})
        probing.path = DataPath(tuple(EVEN))
        await asyncio.sleep(5)
        assert await fleet.verdict("cluster.alpha") == "Healthy"

    probed(story)


def test_a_cut_between_two_members_decides_nothing() -> None:
    async def story(fleet: Fleet, probing: Probing) -> None:
        probing.path = replace(probing.path, cuts=frozenset({("beta", "alpha")}))
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(60)
        assert await fleet.verdict("cluster.alpha") == "LinkCut", "gamma reaches it"
        assert await fleet.divided() == EVEN

    probed(story)


def test_a_link_that_is_cut_and_a_zone_that_dies_later() -> None:
    async def story(fleet: Fleet, probing: Probing) -> None:
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(60)
        probing.path = replace(probing.path, dark=frozenset({"alpha"}))
        await asyncio.sleep(PROBE_S + 5)
        assert await fleet.divided() == EVEN
        await asyncio.sleep(12)
        assert await fleet.verdict("cluster.alpha") == "Dead"
        assert await fleet.divided() == TWO

    probed(story)


def test_while_one_link_is_cut_another_cluster_may_die() -> None:
    async def story(fleet: Fleet, probing: Probing) -> None:
        fleet.members["alpha"].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(60)
        await fleet.members["beta"].crash(power=True)
        probing.path = replace(probing.path, dark=frozenset({"beta"}))
        await asyncio.sleep(20)
        assert await fleet.verdict("cluster.alpha") == "LinkCut"
        assert await fleet.verdict("cluster.beta") == "Dead"
        assert await fleet.divided() == {"alpha": 2, "gamma": 4}, "and nothing new in alpha"

    probed(story)
