"""Mode consistency at the federation: never started elsewhere before the last possible grant has ended."""

import asyncio

from tests.unit.controllers_federation.moving_fleet import (
    EVEN,
    Fleet,
    epoch,
    play,
)

from federation.simulator.server import STABILIZATION_S
from machinery.api.fleet.resilience import (
    EPOCH,
    GRANT_SECONDS,
    GRANT_WORK,
    WITHHELD,
)

# ------------------------------------------------------------------------------------------------- consistency
FENCE_S = (30 + 30) * 1.02 + 5
"""Grant, grace, drift, and a margin."""


def test_consistency_waits_for_the_last_possible_grant() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(mode="consistency")
        await fleet.deploy(1)
        (home,) = await fleet.divided()
        work = await fleet.work(home)
        pods = work["spec"]["workload"]["manifests"][0]["spec"]["template"]["metadata"]
        assert pods["annotations"][GRANT_SECONDS] == "30"
        assert pods["annotations"][GRANT_WORK] == work["metadata"]["name"]
        assert pods["annotations"][EPOCH] == work["metadata"]["annotations"][EPOCH]
        fleet.members[home].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(FENCE_S - 3)
        assert await fleet.divided() == {home: 1}
        assert WITHHELD not in (await fleet.work(home))["metadata"]["annotations"]
        await asyncio.sleep(6)
        (second,) = await fleet.divided()
        assert second != home
        old, new = await fleet.work(home), await fleet.work(second)
        assert old["metadata"]["annotations"][WITHHELD] == "true"
        assert WITHHELD not in new["metadata"]["annotations"]
        assert int(epoch(new)) > int(epoch(old)) == int(epoch(work))
        fleet.members[home].link.heal()
        await asyncio.sleep(STABILIZATION_S + 20)
        assert (await fleet.divided(), await fleet.kept()) == ({second: 1}, {})
        assert fleet.pods(home) == 0
        assert epoch(await fleet.work(second)) == epoch(new), "what runs keeps its epoch"

    play(story)


def test_consistency_counts_anew_after_a_restart_of_the_server() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(mode="consistency")
        await fleet.deploy(1)
        (home,) = await fleet.divided()
        fleet.members[home].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(FENCE_S - 10)
        await fleet.server.stop()
        await fleet.server.start()
        await asyncio.sleep(FENCE_S - 3)
        assert await fleet.divided() == {home: 1}
        await asyncio.sleep(6)
        assert home not in await fleet.divided()

    play(story)


def test_consistency_is_drained_by_stopping_first() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(mode="consistency")
        await fleet.deploy(1, terminationGracePeriodSeconds=10)
        (home,) = await fleet.divided()
        await fleet.taint(home, "NoSchedule", "NoExecute")
        stopped = None
        for _ in range(600):
            await asyncio.sleep(0.1)
            running = sum(fleet.pods(name) for name in EVEN)
            assert running <= 1
            if running == 0 and stopped is None:
                stopped = fleet.clock.monotonic()
            if stopped is not None and running == 1:
                break
        assert stopped is not None
        assert fleet.clock.monotonic() - stopped >= 10, "what was told to end has had its grace"
        await asyncio.sleep(5)
        (second,) = await fleet.divided()
        assert second != home
        assert await fleet.kept() == {}

    play(story)
