"""At most one leader at any moment, whatever the clocks, the network and the processes do."""

import asyncio
import random

import pytest
from tests.support.fake_client import FakeClient
from tests.support.loopclock import LoopClock

from machinery.api.coordination import LEASES
from machinery.client.leaderelection import LeaderElector
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import ObjectKey

pytestmark = pytest.mark.looptime
KEY = ObjectKey("kube-system", "control")


class Link:
    """A client whose connection can be cut, or made to hang."""

    def __init__(self, server: FakeClient) -> None:
        self.server, self.up, self.hangs = server, True, False

    def __getattr__(self, verb: str):
        async def call(*args, **kwargs):
            if not self.up:
                raise ConnectionError("cut")
            if self.hangs:
                await asyncio.sleep(10_000)
            return await getattr(self.server, verb)(*args, **kwargs)

        return call


def candidates(count):
    server = FakeClient()
    links = [Link(server) for _ in range(count)]
    electors = [LeaderElector(link, LoopClock(), KEY, f"c{i}") for i, link in enumerate(links)]
    return server, links, electors


async def test_the_first_leads_and_renews_and_the_second_waits():
    server, _, (one, two) = candidates(2)
    owner, started = TaskOwner(), []
    owner.spawn(one.run(lambda: started.append("c0")), "one")
    await asyncio.sleep(0.1)
    owner.spawn(two.run(lambda: started.append("c1")), "two")
    await asyncio.sleep(600)
    assert started == ["c0"]
    assert (one.leading, two.leading, two.holder) == (True, False, "c0")
    lease = await server.get(LEASES, KEY)
    assert (lease.spec.lease_duration_seconds, lease.spec.lease_transitions) == (15, 0)
    await owner.close()


@pytest.mark.parametrize("fault", ["cut", "hang"])
async def test_a_cut_leader_stops_before_another_starts(fault):
    _, (link, _), (one, two) = candidates(2)
    clock, owner = LoopClock(), TaskOwner()
    ended, started = [], []

    async def first() -> None:
        await one.run(lambda: None)
        ended.append(clock.monotonic())

    owner.spawn(first(), "one")
    await asyncio.sleep(1)
    owner.spawn(two.run(lambda: started.append(clock.monotonic())), "two")
    await asyncio.sleep(20)
    link.up, link.hangs = fault != "cut", fault == "hang"
    cut_at = clock.monotonic()
    await asyncio.sleep(60)
    assert len(ended) == len(started) == 1
    assert cut_at + 8 <= ended[0] <= cut_at + 10.01
    assert ended[0] + 2 <= started[0] <= cut_at + 20
    await owner.close()


async def test_a_released_lease_is_taken_at_once():
    server, _, (one, two) = candidates(2)
    clock, owner, started = LoopClock(), TaskOwner(), []
    running = owner.spawn(one.run(lambda: None), "one")
    await asyncio.sleep(1)
    owner.spawn(two.run(lambda: started.append(clock.monotonic())), "two")
    await asyncio.sleep(10)
    running.cancel()
    await one.release()
    released = clock.monotonic()
    await asyncio.sleep(30)
    assert started[0] - released <= 2.5
    assert (await server.get(LEASES, KEY)).spec.lease_transitions == 1
    await one.release()  # no longer ours: must not disturb the holder
    assert (await server.get(LEASES, KEY)).spec.holder_identity == "c1"
    await owner.close()


async def test_a_lost_race_for_a_free_lease_has_one_winner():
    _, _, electors = candidates(5)
    results = []

    async def attempt(elector) -> None:
        results.append(await elector.try_once())

    async with asyncio.TaskGroup() as group:
        for elector in electors:
            group.create_task(attempt(elector))
    assert results.count(True) == 1
    assert [e.leading for e in electors].count(True) == 1


@pytest.mark.parametrize("seed", range(15))
async def test_never_two_leaders_in_a_storm(seed):
    roll = random.Random(seed)
    _, links, electors = candidates(3)
    owner, led = TaskOwner(), set()

    async def candidate(elector) -> None:
        while True:
            await elector.run(lambda: None)

    for elector in electors:
        owner.spawn(candidate(elector), elector.identity)
    for _ in range(300):
        await asyncio.sleep(roll.uniform(0.1, 3))
        if roll.random() < 0.2:
            link = roll.choice(links)
            link.up, link.hangs = roll.random() < 0.6, roll.random() < 0.2
        leaders = [e.identity for e in electors if e.leading]
        assert len(leaders) <= 1, leaders
        led.update(leaders)
    assert led, "nobody ever led"
    await owner.close()
