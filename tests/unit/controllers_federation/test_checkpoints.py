"""Checkpoints in virtual time: in time, before planned moves, and what is measured when a cluster is lost."""

import asyncio
from typing import Any

import pytest
from tests.unit.controllers_federation.moving_fleet import BINDING, EVEN, TWO, WEB, Fleet, play

from federation.clusters.commands import SAID_MAX, Command, Heard, Outcome, told
from federation.controllers import registry
from federation.propagation import checkpoints
from federation.propagation.checkpoints import CONDITION, Mark, marks_of, points_of
from federation.simulator.server import STABILIZATION_S
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.controller.manager import Manager
from machinery.meta.errors import Invalid
from machinery.meta.objectmeta import condition
from machinery.meta.resource import ObjectKey
from machinery.server.app import ApiServer

SAVE = ("/bin/save", "--now")


class Pods:
    """Members' pods that run commands: how often, and what comes of it in each cluster."""

    def __init__(self) -> None:
        self.asked: list[Command] = []
        self.broken: dict[str, str] = {}
        self.took_s = 0.5
        self.times: dict[str, list[float]] = {}

    async def __call__(self, command: Command) -> Outcome:
        self.asked.append(command)
        now = asyncio.get_running_loop().time()
        self.times.setdefault(command.cluster, []).append(now)
        await asyncio.sleep(self.took_s)
        why = self.broken.get(command.cluster, "")
        return Outcome(not why, why or "saved")

    def count(self, cluster: str) -> int:
        return sum(command.cluster == cluster for command in self.asked)


async def with_pods(fleet: Fleet, **hook: Any) -> Pods:
    """The fleet's server anew, with pods that run commands, and a Deployment with a checkpoint."""
    pods = Pods()

    def controllers(manager: Manager, api: ApiServer) -> None:
        kinds = [kind for kind in api.scheme.kinds if kind.storable]
        settings = registry.Settings(
            kinds, api.authority, stabilization_s=STABILIZATION_S, commands=pods
        )
        registry.setup_all(manager, settings)

    await fleet.server.stop()
    fleet.server._setup = controllers
    await fleet.server.start()
    await asyncio.sleep(5)
    await fleet.policy(checkpoint={"command": list(SAVE)} | hook)
    await fleet.deploy()
    assert await fleet.divided() == EVEN
    return pods


async def said(fleet: Fleet) -> tuple[str, str, str]:
    held = condition((await fleet.binding()).status.conditions, CONDITION)
    assert held is not None
    return held.status, held.reason, held.message


def test_a_dead_cluster_costs_what_came_after_its_last_checkpoint() -> None:
    async def story(fleet: Fleet) -> None:
        pods = await with_pods(fleet, intervalSeconds=30)
        await asyncio.sleep(70)
        assert {name: pods.count(name) for name in EVEN} == dict.fromkeys(EVEN, 3)
        (first, *_) = pods.asked
        assert (first.command, first.labels, first.limit_s) == (SAVE, {"app": "web"}, 30)
        marks = marks_of((await fleet.binding()).metadata.annotations)
        assert all(mark.ok and mark.took_s >= 0.5 for mark in marks.values())
        await asyncio.sleep(30)
        crashed = fleet.clock.monotonic()
        await fleet.members["alpha"].crash(power=True)
        await asyncio.sleep(20)
        assert await fleet.divided() == TWO
        (lost,) = points_of((await fleet.binding()).metadata.annotations).values()
        assert lost is not None
        last = max(pods.times["alpha"])
        assert abs(crashed - last - lost) <= 3, "from its beginning to the last heartbeat"
        assert await said(fleet) == (
            "True",
            "Measured",
            f"What runs elsewhere may lack the last {lost:g} s of alpha: its last checkpoint is as old.",
        )
        assert "RecoveryPoint" in await fleet.reasons(WEB)

    play(story)


def test_before_a_drain_one_more_is_made() -> None:
    async def story(fleet: Fleet) -> None:
        pods = await with_pods(fleet)
        assert pods.asked == []
        pods.took_s = 3.0
        await fleet.taint("alpha", "NoExecute")
        await asyncio.sleep(2)
        assert (await fleet.divided(), pods.count("alpha")) == (EVEN, 1), "it waits for it"
        await asyncio.sleep(5)
        assert "alpha" not in await fleet.divided()
        assert pods.count("alpha") == 1
        (lost,) = points_of((await fleet.binding()).metadata.annotations).values()
        assert lost is not None
        assert lost <= 6
        assert "Checkpoint" in await fleet.reasons(BINDING)
        assert checkpoints.WANTED not in (await fleet.binding()).metadata.annotations

    play(story)


@pytest.mark.parametrize(("on_failure", "goes"), [("Continue", True), ("Abort", False)])
def test_a_drain_whose_checkpoint_fails(on_failure: str, goes: bool) -> None:
    async def story(fleet: Fleet) -> None:
        pods = await with_pods(fleet, onFailure=on_failure)
        pods.broken["alpha"] = "disk full"
        await fleet.taint("alpha", "NoExecute")
        await asyncio.sleep(10)
        assert ("alpha" not in await fleet.divided()) is goes
        assert "CheckpointFailed" in await fleet.reasons(BINDING)
        assert ("MoveAborted" in await fleet.reasons(WEB)) is not goes
        pods.broken.clear()
        await asyncio.sleep(checkpoints.RETRY_S + 5)
        assert "alpha" not in await fleet.divided(), "it is tried again"
        if goes:
            assert (await said(fleet))[:2] == ("False", "NoCheckpoint")

    play(story)


def test_without_the_hook_nothing_stays_of_it() -> None:
    async def story(fleet: Fleet) -> None:
        await with_pods(fleet, intervalSeconds=30)
        key = ObjectKey("demo", "web")
        await fleet.client.patch(RESILIENCE_POLICIES, key, {"spec": {"checkpoint": None}})
        await asyncio.sleep(3)
        assert checkpoints.MARKS not in (await fleet.binding()).metadata.annotations

    play(story)


def test_snapshots_of_volumes_are_refused() -> None:
    async def story(fleet: Fleet) -> None:
        with pytest.raises(Invalid, match="say in spec.volumes"):
            await fleet.policy(checkpoint={"command": ["save"], "volumes": "Snapshot"})

    play(story)


@pytest.mark.parametrize(
    ("messages", "outcome"),
    [
        ([b"\x01", b"\x01saved\n", b'\x03{"status":"Success"}'], Outcome(True, "saved", "saved\n")),
        (
            [b"\x02no room\n", b'\x03{"status":"Failure","message":"exit code 1"}'],
            Outcome(False, "exit code 1: no room"),
        ),
        ([b"\x01half"], Outcome(False, "the connection ended before the command did")),
        ([b"\x03not a status"], Outcome(False, "not a status")),
        ([b"\x03[]"], Outcome(False, "")),
        (
            [b"", b"\x01\x1b[31mred\x00", b'\x03{"status":"Success"}'],
            Outcome(True, "[31mred", "\x1b[31mred\x00"),
        ),
    ],
)
def test_what_a_member_says_of_a_command(messages: list[bytes], outcome: Outcome) -> None:
    heard = Heard()
    for message in messages:
        heard.take(message)
    assert heard.outcome == outcome


def test_what_a_member_says_is_not_too_long() -> None:
    assert len(told("x" * 5000)) == SAID_MAX
    mark = checkpoints.marked(Mark(good="then"), Mark("now", 1.23456, False, "no"))
    assert (mark.good, mark.took_s) == ("then", 1.235)
