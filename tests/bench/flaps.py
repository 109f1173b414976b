"""Part of bench_federation, in the simulator: links that flap for less than the grace; the real controllers must move nothing."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from federation.propagation import moves
from federation.simulator.scenario import FLAP_S, Step
from federation.simulator.virtual import run
from federation.simulator.world import Options, Told, World
from machinery.server.codec import REGISTRY
from machinery.store.interface import Event

SEED = 1
DEPLOYMENTS = 6
BETWEEN_S = (0.5, 3.0)


@dataclass(frozen=True)
class Flapped:
    """What came of it."""

    flaps: int
    evictions: int
    virtual_s: float
    cpu_s: float


class Counting(World):
    """A history that counts evictions instead of judging them."""

    evictions = 0

    async def _judge(self) -> None:
        watch = self.server.store.watch(REGISTRY, 0)
        async for batch in watch:
            for event in batch:
                self._count(event)

    def _count(self, event: Event) -> None:
        written = self.seen.take(event, self.loop.time())
        self.rules.on_write(written)
        if written.plural == "resourcebindings" and written.new is not None:
            tasks = written.new["spec"].get("gracefulEvictionTasks") or ()
            self.evictions += sum(t["reason"] == moves.UNREACHABLE for t in tasks)


def steps(flaps: int, members: Sequence[str]) -> list[Step]:
    dice = random.Random(SEED)
    history = [Step(0.0, "create-namespace", "demo-0")]
    history += [
        Step(0.1, "create-deployment", "demo-0", f"web-{n}", "6 whoami:1")
        for n in range(DEPLOYMENTS)
    ]
    history.append(Step(10.0, "pass"))
    for _ in range(flaps):
        seconds = round(dice.uniform(*FLAP_S), 2)
        member = dice.choice(members)
        history.append(Step(round(dice.uniform(*BETWEEN_S), 2), "flap", member, value=seconds))
        history.append(Step(seconds, "pass"))
    return [*history, Step(20.0, "pass")]


async def _play(flaps: int, told: Told) -> int:
    world = Counting(SEED, Options(), told)
    world.steps = steps(flaps, sorted(world.members))
    await world.play()
    return world.evictions


def flap(flaps: int) -> Flapped:
    """Raises Broken when a rule is broken besides."""
    told = Told(SEED)
    before = time.thread_time()
    evictions = run(_play(flaps, told))
    return Flapped(flaps, evictions, told.virtual_s, time.thread_time() - before)
