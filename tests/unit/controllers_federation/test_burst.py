"""Many workloads at once, through the real controllers: no member is promised more than it has, and headroom is kept free."""

import asyncio
from collections.abc import Iterable
from typing import Any

from tests.support.placing import deployment
from tests.unit.controllers_federation.moving_fleet import BINDING, Fleet, play

from federation.controllers.placer import SPOKEN_FOR
from federation.propagation import moves
from federation.propagation.templates import DEPLOYMENTS
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.meta.objectmeta import condition
from machinery.meta.resource import ObjectKey

ROOM = 30
"""Pods of each of the three members."""


async def bindings(fleet: Fleet) -> list[ResourceBinding]:
    return list((await fleet.client.list(RESOURCE_BINDINGS, "demo")).items)


def promised(found: Iterable[ResourceBinding]) -> dict[str, int]:
    """Pods that each member is asked to run."""
    sums: dict[str, int] = {}
    for binding in found:
        for name, count in moves.running(binding).items():
            sums[name] = sums.get(name, 0) + count
    return sums


def scheduled(binding: ResourceBinding) -> str:
    held = condition(binding.status.conditions, "Scheduled")
    return "" if held is None else f"{held.status}: {held.message}"


def test_fifteen_workloads_that_leave_a_member_at_once() -> None:
    async def story(fleet: Fleet) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(15):
                document = deployment(4, name=f"web-{number}")
                _ = group.create_task(fleet.client.create(DEPLOYMENTS, document))
        await asyncio.sleep(10)
        before = promised(await bindings(fleet))
        assert sum(before.values()) == 60
        assert max(before.values()) <= ROOM
        await fleet.members["alpha"].crash(power=True)
        for _ in range(60):
            await asyncio.sleep(1)
            found = await bindings(fleet)
            now = promised(found)
            assert max(now["beta"], now["gamma"]) <= ROOM
        assert {(t.name) for b in found for t in b.spec.clusters} == {"beta", "gamma"}
        assert sum(t.replicas for b in found for t in b.spec.clusters) == 60

    play(story)


def test_a_burst_beyond_the_room_is_refused_and_placed_when_there_is_some() -> None:
    async def story(fleet: Fleet) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                document = deployment(10, name=f"web-{number:02}")
                _ = group.create_task(fleet.client.create(DEPLOYMENTS, document))
        await asyncio.sleep(2)
        found = await bindings(fleet)
        assert promised(found) == {"alpha": ROOM, "beta": ROOM, "gamma": ROOM}
        (refused,) = [b for b in found if not b.spec.clusters]
        assert scheduled(refused).startswith("False: ")
        placed = next(b for b in found if b.spec.clusters)
        source = placed.spec.resource
        await fleet.client.delete(DEPLOYMENTS, ObjectKey(source.namespace, source.name))
        await asyncio.sleep(40)
        found = await bindings(fleet)
        assert len(found) == 9
        assert sum(promised(found).values()) == 90
        assert all(scheduled(b).startswith("True: ") for b in found)

    play(story)


def test_headroom_is_kept_from_others() -> None:
    """Nine replicas, three a zone: the loss of one needs 3 pods, so 2 of each member's 27 stay free (1.5, rounded up)."""

    async def story(fleet: Fleet) -> None:
        await fleet.policy(headroom="N-1 zone", resourceSelectors=[
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        ])  # fmt: skip
        await fleet.deploy(9)
        await fleet.client.create(DEPLOYMENTS, deployment(78, name="greedy"))
        await asyncio.sleep(10)
        greedy = await fleet.client.get(RESOURCE_BINDINGS, ObjectKey("demo", "greedy-deployment"))
        assert SPOKEN_FOR in scheduled(greedy)
        await scale(fleet, "greedy", 75)
        await asyncio.sleep(10)
        assert promised(await bindings(fleet)) == {"alpha": 28, "beta": 28, "gamma": 28}
        await fleet.members["alpha"].crash(power=True)
        await asyncio.sleep(60)
        web = await fleet.client.get(RESOURCE_BINDINGS, BINDING)
        held = {t.name: t.replicas for t in web.spec.clusters}
        assert sum(held.values()) >= 7 and "alpha" not in held

    play(story)


async def scale(fleet: Fleet, name: str, replicas: int) -> None:
    patch: dict[str, Any] = {"spec": {"replicas": replicas}}
    await fleet.client.patch(DEPLOYMENTS, ObjectKey("demo", name), patch)
