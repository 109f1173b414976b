"""Random histories of a staged workload: changes good and broken, members and servers that die anywhere, drains, scaling.

After every second holds: at most one cluster is in its gate, and a broken template is in no more living clusters than one and
those that died or were drained since it was made: of these nobody could say whether they took it well; those that have it from
an earlier run are besides. In the end, when everything is well again: the newest template is everywhere, or, where it
is a broken one, nowhere; every Work carries what the record says; and all replicas are ready.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from tests.unit.controllers_federation.moving_fleet import WEB, Fleet, play
from tests.unit.controllers_federation.test_rollouts import images, set_image, stage

from federation.propagation.rollouts.plan import ENDED
from federation.propagation.rollouts.record import Record, record_of
from federation.propagation.rollouts.snapshots import hash_of
from federation.propagation.templates import DEPLOYMENTS
from federation.simulator.member import Ref
from federation.simulator.workload import BROKEN_IMAGE, image_of
from machinery.api.fleet.rollouts import STAGED_UPDATE_RUNS, TEMPLATE_HASH
from machinery.meta.errors import StatusError

SEEDS = int(os.environ.get("UBERNETES_ROLLOUT_SEEDS", "6"))
STEPS = 14
T = TypeVar("T")


async def surely(what: Callable[[], Awaitable[T]]) -> T:
    """Until the server answers."""
    while True:
        with contextlib.suppress(ConnectionError, StatusError):
            return await what()
        await asyncio.sleep(1)


class History:
    """One fleet and what happens to it."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet, self.seed = fleet, seed
        self.random = random.Random(seed)  # noqa: S311 - the seed decides
        self.image, self.good = "whoami:1", "whoami:1"
        self.unjudged: set[str] = set()
        self.dead = asyncio.Event()
        self.story: list[str] = []

    async def go(self) -> None:
        reviver = asyncio.create_task(self.revive())
        watcher = asyncio.create_task(self.watch())
        try:
            for _ in range(STEPS):
                await self.step()
                await asyncio.sleep(self.random.uniform(0.2, 25))
                if watcher.done():
                    break
            await self.heal()
        finally:
            reviver.cancel()
            watcher.cancel()
            for task in (reviver, watcher):
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def revive(self) -> None:
        """A server that died comes back."""
        while True:
            await self.dead.wait()
            self.dead.clear()
            await self.fleet.server.kill()
            await asyncio.sleep(self.random.uniform(0.1, 4))
            await self.fleet.server.start()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            broken = {n for n, m in self.fleet.members.items() if m.alive and self.runs_broken(n)}
            assert len(broken) <= 1 + len(self.unjudged), self.tell(f"broken in {broken}")
            with contextlib.suppress(ConnectionError, StatusError):
                record = await self.record()
                assert record is None or len(record.updating) <= 1, self.tell(f"{record}")

    def runs_broken(self, name: str) -> bool:
        held = self.fleet.members[name].objects.get(Ref("Deployment", WEB))
        return held is not None and image_of(held.manifest) == BROKEN_IMAGE

    async def record(self) -> Record | None:
        return record_of(await self.fleet.binding())

    def tell(self, what: str) -> str:
        return f"seed {self.seed}: {what}; {' '.join(self.story)}"

    # ------------------------------------------------------------------------------------------------- what happens
    async def step(self) -> None:
        kinds = ("change", "change", "broken", "crash", "start", "kill", "kill", "scale", "drain")
        what = self.random.choice(kinds)
        self.story.append(what)
        await getattr(self, f"_{what}")()

    async def _change(self) -> None:
        self.unjudged = {n for n, m in self.fleet.members.items() if not m.alive}
        self.image = self.good = f"whoami:{len(self.story) + 1}"
        await surely(lambda: set_image(self.fleet, self.image))

    async def _broken(self) -> None:
        members = self.fleet.members.items()
        self.unjudged = {n for n, m in members if not m.alive or self.runs_broken(n)}
        self.image = BROKEN_IMAGE
        await surely(lambda: set_image(self.fleet, BROKEN_IMAGE))

    async def _crash(self) -> None:
        alive = [n for n, m in self.fleet.members.items() if m.alive]
        if len(alive) > 2:
            name = self.random.choice(alive)
            self.unjudged.add(name)
            await self.fleet.members[name].crash(power=self.random.random() < 0.5)

    async def _start(self) -> None:
        for member in self.fleet.members.values():
            if not member.alive:
                member.start()

    async def _kill(self) -> None:
        """The server dies after any of its next writes."""
        self.fleet.server.store.arm(self.random.randint(1, 12), self.dead.set)

    async def _scale(self) -> None:
        count = self.random.choice((3, 6, 9, 12))
        patch = {"spec": {"replicas": count}}
        await surely(lambda: self.fleet.client.patch(DEPLOYMENTS, WEB, patch))

    async def _drain(self) -> None:
        name = self.random.choice(list(self.fleet.members))
        self.unjudged.add(name)
        await surely(lambda: self.fleet.taint(name, "NoSchedule", "NoExecute"))
        await asyncio.sleep(self.random.uniform(1, 20))
        await surely(lambda: self.fleet.taint(name))

    # ------------------------------------------------------------------------------------------------- the end
    async def heal(self) -> None:
        self.fleet.server.store.disarm()
        await self._start()
        await asyncio.sleep(300)
        wanted = {} if self.image == BROKEN_IMAGE else dict.fromkeys(self.fleet.members, self.image)
        record = await self.record()
        template = await self.fleet.client.get(DEPLOYMENTS, WEB)
        assert record is not None, self.tell("no record")
        assert record.seen == hash_of(template), self.tell(f"{record}")
        divided = await self.fleet.divided()
        carried = {n: i for n, i in (await images(self.fleet)).items() if n in divided}
        if wanted:
            assert carried == {n: wanted[n] for n in divided}, self.tell(f"{carried} {record}")
            assert not record.open, self.tell(f"{record}")
            assert template["status"]["updatedReplicas"] == template["spec"]["replicas"]
        else:
            assert BROKEN_IMAGE not in carried.values(), self.tell(f"{carried} {record}")
            assert record.failed, self.tell(f"{record}")
        for name in divided:
            (manifest,) = (await self.fleet.work(name))["spec"]["workload"]["manifests"]
            given = manifest["metadata"]["annotations"][TEMPLATE_HASH]
            assert given == record.of(name), self.tell(f"{name} has {given}: {record}")
        assert self.fleet.ready() >= template["spec"]["replicas"], self.tell("replicas are away")
        runs = (await self.fleet.client.list(STAGED_UPDATE_RUNS, "demo")).items
        going = [r.metadata.name for r in runs if r.status.state not in ENDED]
        assert going == [], self.tell(f"{going} go on")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_history(seed: int) -> None:
    async def story(fleet: Fleet) -> None:
        gate = {"progressDeadline": "25s", "minSuccessTime": "2s"}
        await stage(fleet, healthGate=gate, failureAction="Rollback")
        await History(fleet, seed).go()

    play(story)
