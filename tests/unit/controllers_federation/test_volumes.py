"""Snapshots of volumes in virtual time: in time, before planned moves, and what new copies begin with."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.controllers_federation.moving_fleet import BINDING, WEB, Fleet, play

from federation.clusters.commands import Command, Outcome
from federation.controllers import registry
from federation.propagation import checkpoints, volumes
from federation.propagation.restores import CONTAINER, Restore, records_of
from federation.propagation.volumes import shelf_of
from federation.simulator.server import STABILIZATION_S
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.controller.manager import Manager
from machinery.meta.errors import Invalid
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey
from machinery.server.app import ApiServer

SNAP, RESTORE, DISCARD = "/bin/snap", "/bin/restore", "/bin/discard"


class Pods:
    """Members' pods that make snapshots, numbered through: when, and what is wrong in a cluster."""

    def __init__(self, running: Callable[[str], int]) -> None:
        self._running = running
        self.made: list[tuple[str, str, float]] = []
        """(identifier, cluster, when)."""
        self.discarded: list[str] = []
        self.broken: dict[str, str] = {}
        self.took_s = 0.5

    async def __call__(self, command: Command) -> Outcome:
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(self.took_s)
        if not self._running(command.cluster):
            return Outcome(False, "no ready pod is there")
        if command.command[0] == DISCARD:
            self.discarded.append(command.command[1])
            return Outcome(True, "gone")
        if why := self.broken.get(command.cluster, ""):
            return Outcome(False, why)
        identifier = f"s{len(self.made) + 1}"
        self.made.append((identifier, command.cluster, now))
        return Outcome(True, f"saved {identifier}", f"saved\n{identifier}\n")

    def newest(self, cluster: str) -> tuple[str, float]:
        return next((i, t) for i, c, t in reversed(self.made) if c == cluster)


def copies(fleet: Fleet, name: str) -> int:
    """What runs or ends in the member, on grants or without."""
    return fleet.pods(name) + fleet.members[name].node.pods


async def with_pods(fleet: Fleet, mode: str = "availability", **more: Any) -> tuple[Pods, str]:
    """The fleet's server anew with pods that make snapshots, one copy of a workload that has them, and where it is."""
    pods = Pods(lambda name: copies(fleet, name))

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
    hook = {
        "snapshot": {"command": [SNAP]},
        "restore": {"command": [RESTORE]},
        "intervalSeconds": 30,
    }
    await fleet.policy(mode=mode, volumes={k: v for k, v in (hook | more).items() if v is not None})
    await fleet.deploy(1, terminationGracePeriodSeconds=10)
    (home,) = await fleet.divided()
    for _ in range(60):  # mode consistency waits for a grant
        if copies(fleet, home):
            break
        await asyncio.sleep(0.5)
    assert copies(fleet, home)
    return pods, home


async def records(fleet: Fleet) -> dict[str, Restore]:
    found = records_of((await fleet.binding()).metadata.annotations)
    assert found is not None
    return found


async def init(fleet: Fleet, cluster: str) -> Document | None:
    """The init container of the copy there."""
    body = (await fleet.work(cluster))["spec"]["workload"]["manifests"][0]
    found = body["spec"]["template"]["spec"].get("initContainers") or ()
    return next((c for c in found if c["name"] == CONTAINER), None)


async def said(fleet: Fleet, kind: str) -> tuple[str, str, str]:
    held = condition((await fleet.binding()).status.conditions, kind)
    assert held is not None
    return held.status, held.reason, held.message


async def moved(fleet: Fleet, home: str, seconds: int = 60) -> str:
    """Wait until a copy runs elsewhere; where."""
    for _ in range(seconds * 2):
        await asyncio.sleep(0.5)
        others = [n for n in fleet.members if n != home and copies(fleet, n)]
        if others:
            return others[0]
    raise AssertionError(f"it is still where it was: {await fleet.divided()}")


def test_a_dead_cluster_costs_what_came_after_its_newest_snapshot() -> None:
    async def story(fleet: Fleet) -> None:
        pods, home = await with_pods(fleet)
        assert await init(fleet, home) is None
        await asyncio.sleep(50)
        crashed = fleet.clock.monotonic()
        await fleet.members[home].crash(power=True)
        there = await moved(fleet, home)
        identifier, at = pods.newest(home)
        given = await init(fleet, there)
        assert given is not None
        assert given["command"] == [RESTORE]
        assert given["env"][0] == {"name": "UBERNETES_SNAPSHOT", "value": identifier}
        await asyncio.sleep(2)
        lost = (await records(fleet))[there].lost_s
        assert lost is not None
        assert abs(crashed - at - lost) <= 3, "from its beginning to the last heartbeat"
        assert await said(fleet, checkpoints.CONDITION) == (
            "True",
            "Measured",
            f"What runs in {there} began from snapshot {identifier} of {home} and may lack the last {lost:g} s of it: "
            "the snapshot is as old.",
        )
        assert {"EvictWorkload", "RecoveryPoint"} <= await fleet.reasons(WEB)
        (task,) = (await fleet.binding()).spec.graceful_eviction_tasks
        assert f"its newest snapshot is {lost:g} s old" in task.message

    play(story)


def test_a_drained_copy_goes_on_until_the_snapshot_that_the_new_one_begins_with() -> None:
    async def story(fleet: Fleet) -> None:
        pods, home = await with_pods(fleet, intervalSeconds=None)
        assert pods.made == []
        pods.took_s = 4.0
        await fleet.taint(home, "NoSchedule", "NoExecute")
        await asyncio.sleep(3)
        (there,) = await fleet.divided()
        assert (there != home, copies(fleet, home), copies(fleet, there)) == (True, 1, 0)
        assert await moved(fleet, home) == there
        given = await init(fleet, there)
        assert given is not None
        assert given["env"][0]["value"] == pods.newest(home)[0]
        assert (await records(fleet))[there].lost_s is None, "the old copy still runs"
        await asyncio.sleep(30)
        lost = (await records(fleet))[there].lost_s
        assert lost is not None
        assert 0 < lost < 30
        assert await fleet.kept() == {}

    play(story)


def test_consistency_saves_then_stops_then_restores() -> None:
    async def story(fleet: Fleet) -> None:
        pods, home = await with_pods(fleet, "consistency", intervalSeconds=None)
        await fleet.taint(home, "NoSchedule", "NoExecute")
        stopped = 0.0
        for _ in range(600):
            await asyncio.sleep(0.1)
            running = sum(copies(fleet, name) for name in fleet.members)
            assert running <= 1
            stopped = stopped or (0.0 if running else fleet.clock.monotonic())
            if stopped and running:
                break
        there = await moved(fleet, home, 1)
        (only,) = pods.made
        assert only[1:] == (home, only[2])
        assert only[2] < stopped, "while the old copy served"
        given = await init(fleet, there)
        assert given is not None
        assert given["env"][0]["value"] == only[0]
        lost = (await records(fleet))[there].lost_s
        assert lost is not None
        assert abs(stopped - only[2] - lost) <= 3
        assert volumes.WANTED not in (await fleet.binding()).metadata.annotations

    play(story)


@pytest.mark.parametrize("mode", ["availability", "consistency"])
@pytest.mark.parametrize(("on_failure", "goes"), [("Continue", True), ("Abort", False)])
def test_a_drain_whose_snapshot_fails(mode: str, on_failure: str, goes: bool) -> None:
    async def story(fleet: Fleet) -> None:
        pods, home = await with_pods(fleet, mode, intervalSeconds=None, onFailure=on_failure)
        pods.broken[home] = "disk full"
        await fleet.taint(home, "NoSchedule", "NoExecute")
        await asyncio.sleep(45)
        assert (copies(fleet, home) == 0) is goes
        status, reason, message = await said(fleet, volumes.CONDITION)
        if goes:
            there = await moved(fleet, home, 1)
            assert (await said(fleet, checkpoints.CONDITION))[:2] == ("False", "NotRestored")
            assert await init(fleet, there) is None
        else:
            assert (status, "disk full" in message) == ("False", True), reason
        assert "SnapshotFailed" in await fleet.reasons(BINDING)
        pods.broken.clear()
        await asyncio.sleep(checkpoints.RETRY_S + 30)
        assert copies(fleet, home) == 0, "it is tried again"

    play(story)


@pytest.mark.parametrize(("oldest", "goes"), [(600, True), (30, False)])
def test_a_dead_cluster_is_not_left_with_too_old_a_snapshot(oldest: int, goes: bool) -> None:
    async def story(fleet: Fleet) -> None:
        pods, home = await with_pods(fleet, maxAgeSeconds=oldest)
        await asyncio.sleep(20)
        pods.broken[home] = "disk full"
        await asyncio.sleep(60)
        await fleet.members[home].crash(power=True)
        await asyncio.sleep(40)
        assert (home not in await fleet.divided()) is goes
        assert ("RecoveryPointHeld" in await fleet.reasons(WEB)) is not goes

    play(story)


def test_only_so_many_are_kept_and_the_others_are_discarded() -> None:
    async def story(fleet: Fleet) -> None:
        discard = {"command": [DISCARD, "$(UBERNETES_SNAPSHOT)"]}
        await with_pods(fleet, intervalSeconds=10, retain=2, discard=discard)
        await asyncio.sleep(55)
        kept = [s.identifier for s in shelf_of((await fleet.binding()).metadata.annotations).kept]
        assert len(kept) == 2
        pods = [f"s{n}" for n in range(1, int(kept[0][1:]))]
        assert len(pods) >= 3

    play(story)


def test_what_was_discarded_is_what_is_kept_no_more() -> None:
    async def story(fleet: Fleet) -> None:
        discard = {"command": [DISCARD, "$(UBERNETES_SNAPSHOT)"]}
        pods, _ = await with_pods(fleet, intervalSeconds=10, retain=2, discard=discard)
        await asyncio.sleep(55)
        kept = {s.identifier for s in shelf_of((await fleet.binding()).metadata.annotations).kept}
        made = [identifier for identifier, _, _ in pods.made]
        assert pods.discarded == made[: len(pods.discarded)]
        assert set(pods.discarded) == set(made) - kept

    play(story)


def test_failback_takes_the_newest_state_home() -> None:
    async def story(fleet: Fleet) -> None:
        pods, home = await with_pods(fleet)
        await asyncio.sleep(40)
        await fleet.members[home].crash(power=True)
        there = await moved(fleet, home)
        await asyncio.sleep(20)
        fleet.members[home].start()
        least = await fleet.pass_time(STABILIZATION_S + 60)
        assert least == 1
        assert await fleet.divided() == {home: 1}
        given = await init(fleet, home)
        assert given is not None
        assert given["env"][0]["value"] in {i for i, cluster, _ in pods.made if cluster == there}
        assert (await records(fleet))[home].source == there

    play(story)


def test_a_policy_that_changes_or_goes_makes_no_pod_anew() -> None:
    async def story(fleet: Fleet) -> None:
        _, home = await with_pods(fleet)
        await asyncio.sleep(40)
        await fleet.members[home].crash(power=True)
        there = await moved(fleet, home)
        before = (await fleet.work(there))["spec"]
        key = ObjectKey("demo", "web")
        other = {"spec": {"volumes": {"restore": {"command": ["/bin/other"]}}}}
        await fleet.client.patch(RESILIENCE_POLICIES, key, other)
        await asyncio.sleep(5)
        assert (await fleet.work(there))["spec"] == before
        await fleet.client.patch(RESILIENCE_POLICIES, key, {"spec": {"volumes": None}})
        await asyncio.sleep(5)
        assert (await fleet.work(there))["spec"] == before
        assert volumes.SNAPSHOTS not in (await fleet.binding()).metadata.annotations

    play(story)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"maxAgeSeconds": 60}, "without spec.volumes.intervalSeconds"),
        ({"requireRecoveryPoint": True}, "without spec.volumes.intervalSeconds"),
        ({"intervalSeconds": 60, "maxAgeSeconds": 30}, "a snapshot is made every 60 s"),
        ({"retain": 0}, "spec.volumes.retain"),
        ({"restore": {"command": []}}, "spec.volumes.restore.command"),
    ],
    ids=["an age without snapshots", "a point without snapshots", "too young", "none kept", "no words"],
)  # fmt: skip
def test_what_can_never_be_kept_is_refused(fields: dict[str, Any], why: str) -> None:
    async def story(fleet: Fleet) -> None:
        hook = {"snapshot": {"command": [SNAP]}, "restore": {"command": [RESTORE]}}
        with pytest.raises(Invalid, match=why):
            await fleet.policy(volumes=hook | fields)

    play(story)
