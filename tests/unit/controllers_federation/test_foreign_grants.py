"""Clusters whose kubelets enforce no grants: nothing that needs them goes there, and nobody believes that one ran out there."""

import asyncio

from tests.unit.controllers_federation.moving_fleet import EVEN, Fleet, play

from machinery.api.fleet.cluster import CLUSTERS, GRANTS_ENFORCED
from machinery.meta.resource import ObjectKey

LONG_S = 600.0


async def foreign(fleet: Fleet, *names: str) -> None:
    """Their agents say that they run beside somebody else's cluster."""
    for name in names:
        patch = {"metadata": {"annotations": {GRANTS_ENFORCED: "false"}}}
        await fleet.client.patch(CLUSTERS, ObjectKey("", name), patch)


def test_consistency_is_placed_only_where_grants_are_enforced() -> None:
    async def story(fleet: Fleet) -> None:
        home, *others = fleet.members
        await foreign(fleet, *others)
        await fleet.policy(mode="consistency")
        await fleet.deploy(3)
        assert await fleet.divided() == {home: 3}

    play(story)


def test_availability_is_placed_anywhere() -> None:
    async def story(fleet: Fleet) -> None:
        await foreign(fleet, *fleet.members)
        await fleet.deploy(6)
        assert await fleet.divided() == EVEN

    play(story)


def test_consistency_never_starts_elsewhere_while_a_foreign_cluster_may_run_it() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(mode="consistency")
        await fleet.deploy(1)
        (home,) = await fleet.divided()
        await foreign(fleet, home)
        fleet.members[home].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(LONG_S)
        assert (await fleet.divided(), await fleet.kept()) == ({home: 1}, {})

    play(story)


def test_availability_leaves_a_dead_foreign_cluster_as_any_other() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy(6)
        home = next(iter(fleet.members))
        await foreign(fleet, home)
        fleet.members[home].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(60)
        assert home not in await fleet.divided()

    play(story)
