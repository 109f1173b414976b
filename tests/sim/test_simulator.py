"""Histories of a fleet in virtual time: a few seeds as they are, and broken parts that must be caught."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import pytest
from msgspec import structs

from federation.clusters.candidates import candidates
from federation.clusters.estimates import NoEstimator
from federation.controllers import placer, registry
from federation.controllers.reservations import Reservations
from federation.domains.clock import FailureClock
from federation.domains.settings import Settings as Operator
from federation.propagation import questions
from federation.simulator.__main__ import main, play, play_apart
from federation.simulator.apart import Lost, apart
from federation.simulator.fleets import LOPSIDED, SHAPES, SMALL, fleet, zones_of
from federation.simulator.member import Member, Ref
from federation.simulator.nodes import Nodes
from federation.simulator.scenario import ENDS, Scenario
from federation.simulator.server import Setup, controllers
from federation.simulator.virtual import Deadlock, VirtualClock, run
from federation.simulator.world import Options
from machinery.api.fleet.cluster import READY
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.controller.action import Patch, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document, ObjectKey
from machinery.server.app import ApiServer

pytestmark = [pytest.mark.sim, pytest.mark.timeout(300)]

SEEDS = range(1, 6)
BROKEN_SEEDS = range(1, 6)
"""A breach is found in one of these histories, not in every one."""


@pytest.mark.parametrize("seed", SEEDS)
def test_every_rule_holds(seed: int) -> None:
    outcome = play(seed)
    assert outcome.broken == "", "\n".join(outcome.story[-40:])
    assert outcome.events >= 200


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    """Also where strings hash otherwise: nothing may hang on the order of a set."""
    program = (
        "import hashlib; from federation.simulator.__main__ import play;"
        "from federation.simulator.world import Options; o = play(7, Options(chapters=1, events=25));"
        "print(hashlib.sha256(repr((o.story, o.writes, o.digest, o.virtual_s)).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": number},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(digests) == 1


def test_a_history_apart_is_the_one_that_is_played_here() -> None:
    options = Options(chapters=1, events=12)
    here, other = play(7, options), play(8, options)
    assert replace(play_apart(7, options), cpu_s=here.cpu_s) == here
    assert here.digest != other.digest


def test_a_child_that_ends_without_an_answer_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Lost, match="ended with 1"):
        apart(divmod, 1, 0)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_scenarios_are_pure_and_differ() -> None:
    zones = zones_of(SMALL)
    assert Scenario(1, zones).steps() == Scenario(1, zones).steps()
    assert Scenario(1, zones).steps() != Scenario(2, zones).steps()


@pytest.mark.parametrize("seed", range(1, 30))
def test_a_history_has_five_members_three_zones_and_two_hundred_events(seed: int) -> None:
    zones = zones_of(SMALL)
    steps = Scenario(seed, zones).steps()
    assert (len(SMALL), len(zones), max(map(len, zones.values()))) == (5, 3, 2)
    assert sum(step.events for step in steps) >= 200
    faults = {step.verb for step in steps} & {*ENDS, "flap", "skew", "kill-server", "switch"}
    assert len(faults) >= 5


@pytest.mark.parametrize("clusters", [5, 200, 500])
def test_a_loss_of_many_is_no_chapter_of_its_own(clusters: int) -> None:
    """Users go on to write in a big fleet too, and nobody stays ill for want of turns."""
    for seed in range(1, 10):
        steps = Scenario(seed, zones_of(fleet(clusters))).steps()
        faults = sum(step.faults for step in steps)
        assert 200 <= sum(step.events for step in steps) <= 230
        assert 0.3 < faults / sum(step.events for step in steps) < 0.8


def test_every_fault_is_in_every_few_histories() -> None:
    verbs = {step.verb for seed in range(1, 6) for step in Scenario(seed, zones_of(SMALL)).steps()}
    assert {*ENDS, *ENDS.values(), "flap", "skew", "kill-server", "restart-server", "pass"} <= verbs


def test_no_clock_of_a_member_is_believed() -> None:
    """The same history with and without wall clocks that are minutes wrong."""
    told = [play(11, Options(chapters=1, skewed=skewed)) for skewed in (True, False)]
    assert [(t.story, t.writes, t.virtual_s) for t in told[:1]] == [
        (t.story, t.writes, t.virtual_s) for t in told[1:]
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("clusters", [5, 40, 300])
def test_a_fleet_of_any_shape(clusters: int, shape: str) -> None:
    places = fleet(clusters, shape)
    zones = zones_of(places)
    assert len({place.name for place in places}) == clusters
    most = max(map(len, zones.values()))
    wanted = {
        "even": -(-clusters // 9),
        "lopsided": -(-clusters // 2),
        "islands": 1,
        "single": clusters,
    }
    assert most == wanted[shape]


@pytest.mark.parametrize(("clusters", "shape"), [(4, "even"), (40, "heap")])
def test_a_fleet_that_is_none_is_refused(clusters: int, shape: str) -> None:
    with pytest.raises(ValueError, match=r"fleet has 5|unknown shape"):
        fleet(clusters, shape)


def test_a_bigger_fleet_holds_every_rule() -> None:
    outcome = play(3, Options(fleet(30, LOPSIDED), chapters=1, events=40))
    assert outcome.broken == "", "\n".join(outcome.story[-40:])


@pytest.mark.parametrize("writes", [1, 2, 12, 24, 35])
def test_a_server_that_dies_after_any_write(writes: int) -> None:
    """`--restarts` plays them all."""
    outcome = play(5, Options(chapters=1, events=12, kill_after=writes))
    assert outcome.broken == "", "\n".join(outcome.story[-40:])
    assert sum("the server is killed" in line for line in outcome.story) == 1


def test_a_member_runs_no_more_pods_than_its_nodes_hold() -> None:
    nodes = Nodes(3, lambda: 0.5)
    assert [nodes.bind(f"pod-{number}") for number in range(4)] == [True, True, True, False]
    assert nodes.bind("pod-0"), "who has a node keeps it"
    assert nodes.release("pod-1")
    assert not nodes.release("pod-1"), "it has gone already"
    assert nodes.bind("pod-3")
    nodes.resize(1)
    assert (nodes.bound, nodes.bind("pod-4")) == (3, False)


# ------------------------------------------------------------------------------------------------- broken parts
class Hasty(Member):
    """Takes silence for a wish: deletes its Deployments when the link is cut."""

    def apply(self, work: ObjectKey, manifest: Document) -> str:
        if not self.link.up:
            for ref in [r for r in self.objects if r.key.name.startswith("web-")]:
                self._drop(ref, self.told.get(work))
        return super().apply(work, manifest)


class Forgetful(Member):
    """Says that it has applied what it has not."""

    def apply(self, work: ObjectKey, manifest: Document) -> str:
        error = super().apply(work, manifest)
        self.objects.pop(Ref("ConfigMap", ObjectKey("demo-0", "settings-0")), None)
        for ref, held in list(self.objects.items()):
            if held.running is not None and held.running.generation > 1:
                older = held.manifest | {"spec": held.manifest["spec"] | {"replicas": 1}}
                self.objects[ref] = replace(held, manifest=older)
        return error


class ZoneBlind(placer.PlacerReconciler):
    """A placer that sees no zones: divides by room alone."""

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None:
            return Result()
        fleet = [structs.replace(c, zones=("all",)) for c in candidates(self._clusters.list())]
        return await self._executor.apply(placer.plan(binding, fleet, rfc3339(self._clock.now())))


class Helpless(placer.PlacerReconciler):
    """A placer that fails at every binding that asks for more than five."""

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is not None and binding.spec.replicas > 5:
            raise RuntimeError("too many for me")
        return await super().reconcile(key)


def asked(binding: ResourceBinding) -> bool:
    return questions.placeable(binding) and questions.open_question(binding)


class Stingy(placer.PlacerReconciler):
    """A placer that keeps one replica back."""

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None or binding.spec.replicas < 2 or not asked(binding):
            return await super().reconcile(key)
        fleet = candidates(self._clusters.list())
        actions = placer.plan(binding, fleet, rfc3339(self._clock.now()))
        for action in actions:
            if isinstance(action, Patch) and isinstance(action.patch, Mapping):
                action.patch["spec"]["clusters"][0]["replicas"] -= 1
        return await self._executor.apply(actions)


class Mover(placer.PlacerReconciler):
    """A placer that moves away from members which are not Ready."""

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        ready = [c for c in self._clusters.list() if is_true(c.status.conditions, READY)]
        if binding is None or asked(binding) or not ready:
            return await super().reconcile(key)
        names = {c.metadata.name for c in ready}
        if all(t.name in names for t in binding.spec.clusters):
            return Result(requeue_after=1.0)
        clusters = [{"name": ready[0].metadata.name, "replicas": binding.spec.replicas}]
        patch = Patch(RESOURCE_BINDINGS, key, {"spec": {"clusters": clusters}})
        return await self._executor.apply([patch])


def with_placer(kind: type[placer.PlacerReconciler]) -> Setup:
    def setup(manager: Manager, api: ApiServer) -> None:
        controllers(manager, api)
        for controller in manager._controllers:
            if controller.name == "placer":
                controller._reconciler = kind(
                    manager, Operator, Reservations(manager, NoEstimator())
                )

    return setup


def impatient(manager: Manager, api: ApiServer) -> None:
    """A failure clock that gives up a member after 5 s."""
    kinds = [kind for kind in api.scheme.kinds if kind.storable]
    clock = FailureClock(suspect_s=3.0, unreachable_s=5.0)
    registry.setup_all(manager, registry.Settings(kinds, api.authority, clock))


def without_health(manager: Manager, api: ApiServer) -> None:
    """A clock that never strikes."""
    kinds = [kind for kind in api.scheme.kinds if kind.storable]
    clock = FailureClock(suspect_s=3000.0, unreachable_s=5000.0)
    registry.setup_all(manager, registry.Settings(kinds, api.authority, clock))


def deaf(manager: Manager, api: ApiServer) -> None:
    """Nobody sends namespaces to members."""
    controllers(manager, api)
    for controller in manager._controllers:
        if controller.name == "namespace-sync":
            manager._controllers.remove(controller)
            return


def first_breach(options: Options) -> str:
    """The rule that the first broken history breaks."""
    for seed in BROKEN_SEEDS:
        if broken := play(seed, options).broken:
            return broken.partition(":")[0]
    return ""


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (Options(member=Hasty), "hands off"),
        (Options(member=Forgetful), "members"),
        (Options(setup=impatient), "clock"),
        (Options(setup=without_health), "clock"),
        (Options(setup=deaf), "works"),
        (Options(setup=with_placer(ZoneBlind)), "zones"),
        (Options(setup=with_placer(Stingy)), "sum"),
        (Options(setup=with_placer(Mover)), "steady"),
        (Options(setup=with_placer(Helpless)), "alive"),
    ],
    ids=[
        "a member that deletes while it is cut off",
        "a member that lies about what it applied",
        "a clock that strikes early",
        "a clock that never strikes",
        "nobody sends namespaces",
        "a placer that sees no zones",
        "a placer that keeps one back",
        "a placer that moves what runs",
        "a placer that fails for ever",
    ],
)
def test_a_broken_part_is_caught(options: Options, rule: str) -> None:
    assert first_breach(options) == rule


# ------------------------------------------------------------------------------------------------- virtual time
def test_a_day_passes_in_no_time() -> None:
    async def day() -> float:
        clock = VirtualClock(asyncio.get_running_loop())
        before = clock.now()
        await clock.sleep(86_400)
        return (clock.now() - before).total_seconds()

    assert run(day()) == 86_400


def test_a_world_that_waits_for_itself_is_an_error() -> None:
    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match="no timer"):
        run(never())


def test_a_task_that_never_waits_is_an_error() -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110 - that it never waits is the point
            await asyncio.sleep(0)

    with pytest.raises(Deadlock, match="time stands still"):
        run(spin())


def test_the_command_plays_seeds_and_sums_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "1", "--from", "7", "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert "1 seeds hold every rule: 20" in said
    assert "5 members" in said


def test_the_command_tells_the_story_of_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "4", "--verbose"]) == 0
    told = capsys.readouterr().out
    assert "create-namespace" in told
    assert "seed 4 holds every rule" in told
