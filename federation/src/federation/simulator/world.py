"""One history: a server, members, users and faults by one seed, and a judge that reads every write.

`play` returns what it cost, or raises Broken with the story. Everything random comes from the seed, everything timed
from the loop, so that the same seed tells the same story again.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from zlib import crc32

from federation.simulator import quiet
from federation.simulator.fleets import SMALL, meshed, zones_of
from federation.simulator.kubelet import Copies
from federation.simulator.link import Servers
from federation.simulator.member import Member, Place
from federation.simulator.peers import DataPath
from federation.simulator.rules import Broken, Rules
from federation.simulator.scenario import CHAPTERS, EVENTS, SKEW_S, Scenario, Step
from federation.simulator.seen import Seen
from federation.simulator.server import FederationServer, Setup, controllers
from federation.simulator.users import Users
from federation.simulator.virtual import MemberClock, VirtualClock
from machinery.kit.ids import SeededIds
from machinery.kit.tasks import TaskOwner
from machinery.server.codec import REGISTRY

RATE = 0.015
"""How much faster or slower than ours a member's clock may run; the federation allows 2 %."""
QUIET_S = 12.0
"""A fleet in which nothing but heartbeats was written for this long is at rest."""
RESTLESS_S = 180.0
"""A fleet that is not at rest after this long never will be."""
TICK_S = 0.5
KILLED_S = 1.5
"""How long a server is away that was killed after a given write."""
SERVERS = frozenset({"kill-server", "restart-server"})
ALOUD = 10
"""Every so manieth history writes its Events."""
CUSTOM, WIDE = 3, 2
"""In every so manieth history users bring a kind of their own, and write objects of a cluster."""

MakeMember = Callable[[Place, MemberClock, str, Servers, Copies], Member]


@dataclass(frozen=True, slots=True)
class Options:
    """What a history is made of; tests put in broken parts to see that they are caught."""

    places: Sequence[Place] = SMALL
    chapters: int = CHAPTERS
    events: int = EVENTS
    """Of a chapter."""
    setup: Setup = controllers
    member: MakeMember = Member
    skewed: bool = True
    """Whether members' wall clocks are wrong."""
    kill_after: int = 0
    """The server is killed after so many writes of the history, and by nothing else; 0: as the seed has it."""


@dataclass(slots=True)
class Told:
    """The story so far."""

    seed: int
    lines: list[str] = field(default_factory=list)
    events: int = 0
    faults: int = 0
    virtual_s: float = 0.0
    writes: int = 0
    digest: int = 0
    """Of all that was written, in order: two histories with the same one are the same."""
    copies: int = 0
    """Runs of workloads of mode consistency."""

    def say(self, now: float, text: str) -> None:
        self.lines.append(f"{now:9.3f}  {text}")


class _Faults(logging.Handler):
    """Errors that a supervisor logged: they end up in the story, and must stop in the end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._say = say
        self.count = 0
        self.fatal = ""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = f"{record.getMessage()}: {type(error).__name__ if error else ''} {error or ''}"
        where = getattr(record, "task", "") or getattr(record, "error", "")
        self._say(f"  ! {text} {where}")
        self.count += 1
        if record.getMessage() in ("background task died", "informer handler failed"):
            self.fatal = text


class World:
    """The parts of one history."""

    def __init__(self, seed: int, options: Options, told: Told) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock(self.loop)
        self.told = told
        self.options = options
        self.server = FederationServer(
            self.clock, SeededIds(seed), options.setup, aloud=seed % ALOUD == 0
        )
        self.copies = Copies()
        self.path: DataPath | None = None
        if seed % 2:
            self.path = DataPath(meshed(options.places))
        self.members = {place.name: self._member(place, seed) for place in options.places}
        self.custom, self.wide = seed % CUSTOM == 0, seed % WIDE == 0
        scenario = Scenario(
            seed,
            zones_of(options.places),
            paths=self.path is not None,
            custom=self.custom,
            wide=self.wide,
            spared=SERVERS if options.kill_after else frozenset(),
        )
        self.prices = scenario.prices()
        self.steps = scenario.steps(options.chapters, options.events)
        self.seen = Seen()
        self.rules = Rules(self.seen)
        if self.path is not None:
            self.rules.rewired(self.path, 0.0)
        self.users = Users(lambda: self.server.client("user"), lambda: self.server.run)
        self.faults = _Faults(self.say)
        self._tasks = TaskOwner()
        self._breach: BaseException | None = None
        self._history: asyncio.Task[None] | None = None
        self._reviving: asyncio.Task[None] | None = None

    def _member(self, place: Place, seed: int) -> Member:
        dice = random.Random(f"clock-{seed}-{place.name}")  # noqa: S311 - the seed decides
        offset, rate = dice.randint(-SKEW_S, SKEW_S), dice.uniform(1 - RATE, 1 + RATE)
        clock = MemberClock(self.loop, offset if self.options.skewed else 0.0, rate)
        part = self.options.member(place, clock, f"{seed}-{place.name}", self.server, self.copies)
        probes = self.path is not None and place.name in self.path.members
        part.path = self._path if probes else None
        return part

    def _path(self) -> DataPath:
        assert self.path is not None, "nobody probes where there is no network"
        return self.path

    def _rewire(self, cuts: frozenset[tuple[str, str]], dark: frozenset[str]) -> None:
        """The network between members is another one."""
        if self.path is not None:
            self.path = replace(self.path, cuts=cuts, dark=dark)
            self.rules.rewired(self.path, self.loop.time())

    def say(self, text: str) -> None:
        self.told.say(self.loop.time(), text)

    # ------------------------------------------------------------------------------------------------- the judge
    async def _judge(self) -> None:
        watch = self.server.store.watch(REGISTRY, 0)
        async for batch in watch:
            for event in batch:
                row, told = event.row, self.told
                told.digest = crc32(
                    row.value, crc32(f"{row.revision} {row.key}".encode(), told.digest)
                )
                self.rules.on_write(self.seen.take(event, self.loop.time()))

    def check(self) -> None:
        """What can be asked at any time. Raises Broken."""
        if self._breach is not None:
            raise self._breach
        self.rules.on_members(self.members.values())
        self.rules.on_time(self.loop.time())
        if self.copies.breach:
            raise Broken("one", self.copies.breach)
        if self.faults.fatal:
            raise Broken("alive", self.faults.fatal)

    async def wait(self, seconds: float) -> None:
        """Let time pass, looking on."""
        until = self.loop.time() + seconds
        while (left := until - self.loop.time()) > 0:
            await asyncio.sleep(min(TICK_S, left))
            self.check()
        await asyncio.sleep(0)
        self.check()

    # ------------------------------------------------------------------------------------------------- the history
    async def play(self) -> None:
        """Raises Broken."""
        logger = logging.getLogger()
        logger.addHandler(self.faults)
        self._history = asyncio.current_task()
        try:
            await self._start()
            for number, step in enumerate(self.steps, 1):
                await self.wait(step.wait)
                self.say(f"[{number}] {step}")
                await self._perform(step)
                self.told.events += step.events
                self.told.faults += step.faults
                self.check()
        except asyncio.CancelledError:
            if self._breach is None:
                raise
            raise self._breach from None
        finally:
            logger.removeHandler(self.faults)
            self.told.virtual_s, self.told.writes = self.loop.time(), self.seen.writes
            self.told.copies = self.copies.started
            await self._end()

    async def _start(self) -> None:
        await self.server.start()
        self.rules.server_since = self.loop.time()
        judge = self._tasks.spawn(self._judge(), "judge")
        judge.add_done_callback(self._judged)
        for name, part in self.members.items():
            await self.server.admit(name)
            part.start()
        await self.wait(3.0)
        await self.users.prepare(self.prices, custom=self.custom, wide=self.wide)
        if self.options.kill_after:
            self.server.store.arm(self.options.kill_after, lambda: self._died(KILLED_S))

    def _judged(self, judge: "asyncio.Task[None]") -> None:
        if judge.cancelled():
            return
        self._breach = judge.exception()
        if self._breach is not None and self._history is not None:
            self._history.cancel()  # it may be in an instant that never ends

    async def _end(self) -> None:
        await self._tasks.close()
        for part in self.members.values():
            await part.close()
        if self.server.up:
            await self.server.stop()
        await self.server.store.close()

    async def _perform(self, step: Step) -> None:
        part = self.members.get(step.where)
        match step.verb:
            case "quiet":
                await self._quiet()
            case "pass":
                return
            case "restart-server":
                await self._revived()
                await self._restart(float(step.value))
            case "kill-server":
                await self._revived()
                down_s = float(step.extra)
                self.server.store.arm(int(step.value), lambda: self._died(down_s))
            case "cordon" | "drain" | "uncordon" | "switch" | "price":
                await self._ask(step)
            case _ if part is not None:
                await self._disturb(part, step)
            case _:
                await self._ask(step)

    async def _ask(self, step: Step) -> None:
        refused = await self.users.perform(step)
        if refused:
            self.say(f"    refused: {refused}")

    async def _disturb(self, part: Member, step: Step) -> None:
        match step.verb:
            case "crash" | "power-loss":
                self._power(part.name, on=step.verb == "crash")
                await part.crash(power=step.verb == "power-loss")
            case "return":
                self._power(part.name, on=True)
                part.start()
            case "cut":
                part.link.cut(part.now())
            case "mute":
                part.link.mute()
            case "deafen":
                part.link.deafen(part.now())
            case "slow":
                part.link.slow = True
            case "heal":
                part.link.heal()
            case "flap":
                part.link.cut(part.now())
                _ = self._tasks.spawn(self._unflap(part, float(step.value)), f"flap-{part.name}")
            case "path-cut":
                lost = {(part.name, step.name)}
                self._cut_paths(added=lost)
                seconds = float(step.value)
                _ = self._tasks.spawn(self._heal_path(lost, seconds), f"path-{part.name}")
            case "skew":
                part.clock.offset_s = float(step.value) if self.options.skewed else 0.0
            case "resize":
                part.resize(int(step.value))
            case _:
                raise AssertionError(f"no such step: {step}")

    def _power(self, name: str, *, on: bool) -> None:
        if self.path is not None:
            dark = self.path.dark - {name} if on else self.path.dark | {name}
            self._rewire(self.path.cuts, dark)

    def _cut_paths(
        self, *, added: Iterable[tuple[str, str]] = (), healed: Iterable[tuple[str, str]] = ()
    ) -> None:
        if self.path is not None:
            self._rewire((self.path.cuts | set(added)) - set(healed), self.path.dark)

    async def _heal_path(self, lost: set[tuple[str, str]], seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.say(f"    packets pass again: {sorted(lost)}")
        self._cut_paths(healed=lost)

    async def _unflap(self, part: Member, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.say(f"    the link of {part.name} is back")
        part.link.heal()

    # ------------------------------------------------------------------------------------------------- the server
    async def _restart(self, down_s: float) -> None:
        self.rules.server_since = None
        await self.server.stop()
        for part in self.members.values():
            part.link.break_watches("the server went away")
        await self.wait(down_s)
        await self.server.start()
        self.rules.server_since = self.loop.time()

    def _died(self, down_s: float) -> None:
        """The fuse is blown, right after a write: the process is dead and comes back later."""
        self.say("    the server is killed")
        self.rules.server_since = None
        self._reviving = self._tasks.spawn(self._revive(down_s), "revive")

    async def _revive(self, down_s: float) -> None:
        await self.server.kill()
        for part in self.members.values():
            part.link.break_watches("the server went away")
        await asyncio.sleep(down_s)
        await self.server.start()
        self.rules.server_since = self.loop.time()
        self.say("    the server is back")

    async def _revived(self) -> None:
        """Wait until the server runs, and is not to die any more."""
        self.server.store.disarm()
        while self._reviving is not None and not self._reviving.done():
            await self.wait(TICK_S)

    # ------------------------------------------------------------------------------------------------- at rest
    async def _quiet(self) -> None:
        """Heal everything, wait until nothing moves, and look at the whole fleet. Raises Broken."""
        await self._revived()
        self._rewire(frozenset(), frozenset())
        for part in self.members.values():
            part.link.heal()
            if not part.alive:
                part.start()
            await self._ask(Step(0.0, "uncordon", part.name))
        await self._ask(Step(0.0, "switch", value="Enabled"))
        limit = self.loop.time() + RESTLESS_S
        errors, since = self.faults.count, self.loop.time()
        while not self._at_rest(since):
            if self.loop.time() > limit:
                late = {k: t for k, t in self.seen.last_write.items() if t > limit - QUIET_S}
                raise Broken("rest", f"the fleet never rests: writes of {sorted(late)}")
            await self.wait(1.0)
            if self.faults.count != errors or not self._streaming:
                errors, since = self.faults.count, self.loop.time()
        self.say(f"    at rest: {len(self.seen.of('works'))} Works")
        self._none_fails()
        quiet.check(self.seen, self.members)
        if lost := self.users.ledger.lost(self.seen.objects):
            raise Broken("lost", lost)

    def _none_fails(self) -> None:
        """No key waits for another try: what fails at rest fails for ever. Raises Broken."""
        managers = [self.server.manager, *(part.manager for part in self.members.values())]
        for manager in managers:
            for controller in manager.controllers if manager is not None else ():
                if failing := controller.queue.failing:
                    keys = ", ".join(sorted(map(str, failing)))
                    raise Broken("alive", f"{controller.name} still fails at {keys}")

    def _at_rest(self, since: float) -> bool:
        last = max([since, *self.seen.last_write.values()])
        return self._streaming and self.loop.time() - last >= QUIET_S

    @property
    def _streaming(self) -> bool:
        return all(part.link.streaming for part in self.members.values())


async def history(seed: int, options: Options, told: Told) -> None:
    """Play one seed. Raises Broken."""
    await World(seed, options, told).play()
