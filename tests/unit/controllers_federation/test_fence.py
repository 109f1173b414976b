"""The fence of mode consistency as a whole: from the last heartbeat to the start elsewhere, to a tenth of a second.

    word written by the node  <=  heartbeat received (t0)      the grant counts from the word
    grant ends, grace begins      t0 + 30 * 1.02               the member's clock may run 2 % slow
    containers have ended         t0 + (30 + 30) * 1.02        at the latest, and 5 s for the runtime
    start elsewhere               t0 + (30 + 30) * 1.02 + 5    = 66.2 s, not earlier

The federation's side are the real controllers in virtual time; the member's side is the real ledger of grants of a kubelet
whose clock runs as slowly as is allowed.
"""

import asyncio
from dataclasses import dataclass, field

import pytest
from tests.unit.controllers_federation.moving_fleet import EVEN, Fleet, play

from cluster_agent.link.grants import Prepared, due
from cluster_agent.node.kubelet.grants import Grants
from federation.propagation.resilience import DRIFT, GRANT_S, STOP_MARGIN_S, stopped_s
from machinery.api.coordination import LEASES
from machinery.api.core import Pod, PodSpec
from machinery.api.fleet.cluster import CLUSTER_LEASES, execution_namespace
from machinery.api.fleet.resilience import (
    EPOCH,
    GRANT,
    GRANT_SECONDS,
    GRANT_WORK,
    WITHHELD,
    ResilienceSpec,
)
from machinery.api.fleet.work import WORK_DOCUMENTS
from machinery.meta.objectmeta import ObjectMeta
from machinery.meta.resource import Document, ObjectKey

GRACE_S = 10
FENCE_S = (GRANT_S + GRACE_S) * (1 + DRIFT) + STOP_MARGIN_S
STEP_S, LATE_S = 0.02, 0.3
"""How often the test looks, and how late after the fence the start may be: a few passes of controllers."""


def test_the_arithmetic_of_the_defaults() -> None:
    assert stopped_s(ResilienceSpec(mode="consistency"), None) == pytest.approx(66.2)
    template = {"apiVersion": "apps/v1", "kind": "Deployment"} | {
        "spec": {"template": {"spec": {"terminationGracePeriodSeconds": GRACE_S}}}
    }
    assert stopped_s(ResilienceSpec(mode="consistency"), template) == pytest.approx(FENCE_S)


def on_time(waited_s: float) -> bool:
    """Whether the start came with the end of the fence: not before, and soon after."""
    return -STEP_S <= waited_s - FENCE_S <= LATE_S


class SlowClock:
    """A member's monotonic clock that loses as much as is allowed for: a second of it takes 1.02 s."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def monotonic(self) -> float:
        return self._fleet.clock.monotonic() / (1 + DRIFT)


@dataclass
class Copy:
    """The copy in the member that is cut off: its grants, renewed as link and node do it, and when it ends at the latest."""

    fleet: Fleet
    home: str
    grants: Grants = field(init=False)
    words: int = 0

    def __post_init__(self) -> None:
        self.grants = Grants(SlowClock(self.fleet))  # type: ignore[arg-type]

    async def keep(self) -> None:
        """Every heartbeat that the federation accepted grants anew, from the word that was read before it."""
        seen = None
        while True:
            await asyncio.sleep(STEP_S)
            if not self.fleet.server.up or self.fleet.members[self.home].link.cut_since is not None:
                continue
            lease = await self.fleet.client.get(LEASES, ObjectKey(CLUSTER_LEASES, self.home))
            if lease.spec.renew_time != seen:
                seen = lease.spec.renew_time
                await self._grant()

    async def _grant(self) -> None:
        self.words += 1
        word = f"word-{self.words}"
        self.grants.wrote(word, self.grants._clock.monotonic())
        work = await self.fleet.work(self.home)
        prepared = Prepared({"n": word}, {work["metadata"]["name"]: epoch(work)})
        for pod, grant in due([pod_of(work)], prepared):
            marks = pod.metadata.annotations | {GRANT: grant}
            self.pod = Pod(metadata=ObjectMeta(uid=pod.metadata.uid, annotations=marks))
            assert self.grants.left_s(self.pod) is not None

    def ends_in_s(self) -> float:
        """True seconds until its containers have ended at the latest: the grant, then the grace, by the slow clock."""
        left = self.grants.left_s(self.pod)
        assert left is not None
        return (left + GRACE_S) * (1 + DRIFT)


def epoch(work: Document) -> str:
    return str(work["metadata"]["annotations"][EPOCH])


def pod_of(work: Document) -> Pod:
    template = work["spec"]["workload"]["manifests"][0]["spec"]["template"]["metadata"]
    annotations = {k: template["annotations"][k] for k in (EPOCH, GRANT_SECONDS, GRANT_WORK)}
    return Pod(
        metadata=ObjectMeta(uid="copy", annotations=annotations), spec=PodSpec(node_name="n")
    )


async def last_heartbeat(fleet: Fleet, name: str) -> float:
    """Wait for a heartbeat, then cut the link: the time of the last one that was received."""
    key = ObjectKey(CLUSTER_LEASES, name)
    before = (await fleet.client.get(LEASES, key)).spec.renew_time
    now = before
    while now == before:
        await asyncio.sleep(STEP_S)
        now = (await fleet.client.get(LEASES, key)).spec.renew_time
    at = fleet.clock.monotonic()
    await asyncio.sleep(1)
    fleet.members[name].link.cut(fleet.clock.monotonic())
    return at


async def started(fleet: Fleet, home: str) -> tuple[str, float]:
    """Where and when the first Work of the workload stands in another cluster."""
    others = [name for name in EVEN if name != home]
    while True:
        for name in others:
            works = await fleet.client.list(WORK_DOCUMENTS, execution_namespace(name))
            kinds = [w["spec"]["workload"]["manifests"][0]["kind"] for w in works.items]
            if "Deployment" in kinds:
                return name, fleet.clock.monotonic()
        await asyncio.sleep(STEP_S)


async def begin(fleet: Fleet) -> tuple[str, Copy, asyncio.Task[None]]:
    await fleet.policy(mode="consistency")
    await fleet.deploy(1, terminationGracePeriodSeconds=GRACE_S)
    (home,) = await fleet.divided()
    copy = Copy(fleet, home)
    task = asyncio.create_task(copy.keep())
    await asyncio.sleep(5)
    return home, copy, task


@pytest.mark.parametrize("reached", [False, True], ids=["dead", "only its link is cut"])
def test_from_the_last_heartbeat_to_the_start_elsewhere(reached: bool) -> None:
    async def story(fleet: Fleet) -> None:
        home, copy, task = await begin(fleet)
        told = [fleet.reporting(n, **{home: "Direct"}) for n in EVEN if n != home and reached]
        at = await last_heartbeat(fleet, home)
        ends = fleet.clock.monotonic() + copy.ends_in_s()
        second, start = await started(fleet, home)
        assert second != home
        assert on_time(start - at)
        assert ends + STOP_MARGIN_S <= start + STEP_S, "the copy had ended, with its margin"
        assert await fleet.verdict(f"cluster.{home}") == ("LinkCut" if reached else "Dead")
        old, new = await fleet.work(home), await fleet.work(second)
        assert old["metadata"]["annotations"][WITHHELD] == "true"
        assert due([pod_of(old)], Prepared({"n": "w"}, {})) == []
        assert int(epoch(new)) > int(epoch(old))
        for one in (task, *told):
            one.cancel()

    play(story)


@pytest.mark.parametrize("away_s", [1, 30])
def test_a_restarted_server_waits_for_the_whole_fence_anew(away_s: float) -> None:
    async def story(fleet: Fleet) -> None:
        home, copy, task = await begin(fleet)
        at = await last_heartbeat(fleet, home)
        ends = fleet.clock.monotonic() + copy.ends_in_s()
        await asyncio.sleep(FENCE_S - 5 - (fleet.clock.monotonic() - at))
        assert await fleet.divided() == {home: 1}, "not yet"
        await fleet.server.stop()
        await asyncio.sleep(away_s)
        await fleet.server.start()
        back = fleet.clock.monotonic()
        _, start = await started(fleet, home)
        assert on_time(start - back)
        assert ends + STOP_MARGIN_S <= start
        task.cancel()

    play(story)


def test_a_heartbeat_before_the_end_takes_the_whole_fence_back() -> None:
    async def story(fleet: Fleet) -> None:
        home, copy, task = await begin(fleet)
        await last_heartbeat(fleet, home)
        await asyncio.sleep(FENCE_S - 5)
        fleet.members[home].link.heal()
        await asyncio.sleep(8)
        assert await fleet.divided() == {home: 1}
        at = await last_heartbeat(fleet, home)
        ends = fleet.clock.monotonic() + copy.ends_in_s()
        _, start = await started(fleet, home)
        assert on_time(start - at)
        assert ends + STOP_MARGIN_S <= start + STEP_S
        task.cancel()

    play(story)
