"""Every pod of a Job is counted once, wherever its controller dies.

The controller is killed at its n-th write, just before it and just after it, for every n that a run has; a new one takes over. What
the Job comes to must be what it comes to when nobody dies.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest
from tests.support.jobs import CRONJOB, JOB, Document, Mortal, Script, World, cron_job, job, world

from cluster_agent.control.controllers.job import controller as job_controller
from machinery.client.interface import Client
from machinery.controller.manager import Manager
from machinery.kit.ids import SeededIds
from machinery.meta.resource import ObjectKey, Resource

pytestmark = [pytest.mark.integration, pytest.mark.slow]
WRITES_MAX = 80


def first_fails(pod: Document, before: int) -> int | None:
    return 1 if before == 0 else 0


def index_one_fails_once(pod: Document, before: int) -> int | None:
    index = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
    return 1 if index == "1" and before == 0 else 0


def first_fails_others_run(pod: Document, before: int) -> int | None:
    return 1 if before == 0 else None


def index_one_succeeds_others_run(pod: Document, before: int) -> int | None:
    index = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
    return 0 if index == "1" else None


ALL = "all pods that were ever made"
COUNT_ONE = {"rules": [{"succeededCount": 1}]}
CASES: dict[str, tuple[Document, Script, Mapping[str, Any]]] = {
    "each counted": (
        job(completions=3, parallelism=2),
        first_fails,
        {"Complete": True, "succeeded": 3, "failed": 1},
    ),
    "each index": (
        job(completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=1),
        index_one_fails_once,
        {"Complete": True, "succeeded": 3, "failed": 1, "completedIndexes": "0-2"},
    ),
    "all that a failed Job stops": (
        job(completions=3, parallelism=3, backoffLimit=0),
        first_fails_others_run,
        {"Failed": True, "succeeded": None, "failed": ALL},
    ),
    "none that success stops": (
        job(completions=3, parallelism=3, completionMode="Indexed", successPolicy=COUNT_ONE),
        index_one_succeeds_others_run,
        {"Complete": True, "succeeded": 1, "failed": None, "completedIndexes": "1"},
    ),
}


async def lived(made: World, case: str, at: int, *, after: bool) -> tuple[bool, Mapping[str, Any]]:
    """Whether the controller died, and what the Job came to."""
    wish, script, wanted = CASES[case]
    name = await made.namespace(f"n{at}-{'after' if after else 'before'}")
    mortal = Mortal(made.client, at, after=after)
    async with made.kubelet(script) as kubelet:
        async with made.controllers(mortal):  # type: ignore[arg-type] # a client but for its end
            await made.client.create(JOB, wish, name)
            while not mortal.dead and not over(await made.job(name)):
                await made.clock.sleep(0.5)
        async with made.controllers():
            status = await made.ended(name)
            assert status["uncountedTerminatedPods"] == {}
            assert (status.get("active"), status["terminating"]) == (None, 0)
            pods = await made.pods(name)
            assert not any(pod["metadata"].get("finalizers") for pod in pods)
    found = {c["type"]: True for c in status["conditions"]} | status
    if wanted.get("failed") == ALL and found["failed"] == kubelet.made(name):
        found["failed"] = ALL
    return mortal.dead, {key: found.get(key) for key in wanted}


def over(found: Document) -> bool:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(c["type"] in ("Complete", "Failed") for c in conditions)


@pytest.mark.looptime
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES)
async def test_a_pod_is_counted_once_wherever_the_controller_dies(case: str) -> None:
    wanted, deaths = CASES[case][2], 0
    async with world() as made:
        for at in range(1, WRITES_MAX):
            died = False
            for after in (False, True):
                died, found = await lived(made, case, at, after=after)
                assert found == wanted, f"dead at write {at}, {'after' if after else 'before'} it"
                deaths += died
            if not died:
                break
        else:
            raise AssertionError(f"a run has more than {WRITES_MAX} writes")
    assert deaths >= 12, "a run of a Job has more writes than that"


@pytest.mark.looptime
async def test_a_start_is_made_once_wherever_the_controller_dies() -> None:
    deaths = 0
    async with world() as made, made.kubelet(lambda pod, before: None):
        for at in range(1, 4):
            for after in (False, True):
                name = await made.namespace(f"c{at}-{'after' if after else 'before'}")
                mortal = Mortal(made.client, at, after=after, of=("cronjobs", "jobs"))
                second = made.clock.now().second
                await made.clock.sleep((50 - second) % 60)
                async with made.controllers(mortal):  # type: ignore[arg-type]
                    await made.client.create(CRONJOB, cron_job(), name)
                    await made.clock.sleep(15)
                async with made.controllers():
                    await made.clock.sleep(15)
                    jobs = [j["metadata"]["name"] for j in await made.jobs(name)]
                    cron = await made.client.get(CRONJOB, ObjectKey(name, "tick"))
                    active = [ref["name"] for ref in cron["status"].get("active", ())]
                    assert len(jobs) == 1
                    assert active == jobs
                    await made.client.delete(CRONJOB, ObjectKey(name, "tick"))
                    await made.clock.sleep(5)
                deaths += mortal.dead
    assert deaths >= 4


class Standby:
    """Stands for the lead, and gets it when it is told."""

    superseded = False

    def __init__(self) -> None:
        self.turn = asyncio.Event()

    async def run(self, lead: Callable[[], None]) -> None:
        await self.turn.wait()
        lead()
        await asyncio.Event().wait()

    async def release(self) -> None:
        return None


class Blind:
    """A client whose informers see nothing of certain kinds after their first list, until they may."""

    def __init__(self, client: Client, kinds: Collection[str]) -> None:
        self._client, self._kinds = client, kinds
        self.sight = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def watch(self, resource: Resource[Any], *given: Any, **named: Any) -> Any:
        async for event in self._client.watch(resource, *given, **named):
            if resource.plural in self._kinds:
                await self.sight.wait()
            yield event


def second_runs(pod: Document, before: int) -> int | None:
    return 0 if before == 0 else None


@pytest.mark.looptime
@pytest.mark.parametrize("kinds", [["pods"], ["jobs"], ["jobs", "pods"]], ids="-".join)
@pytest.mark.parametrize("seen", [0.2, 3.0], ids=["the beginning", "a part"])
async def test_who_takes_over_waits_until_it_sees(kinds: list[str], seen: float) -> None:
    """One pod has succeeded and is counted, another runs. The new leader knew less than that."""
    async with world() as made, made.kubelet(second_runs):
        name = await made.namespace("demo")
        blind, standby = Blind(made.client, kinds), Standby()
        heir = Manager(
            blind,  # type: ignore[arg-type] # a client but for what it sees
            made.clock,
            SeededIds(3),
            component="heir",
            elector=standby,  # type: ignore[arg-type]
        )
        job_controller.setup(heir)
        async with made.controllers():
            await made.client.create(JOB, job(completions=3, parallelism=1), name)
            await made.clock.sleep(seen)
            await heir.start()
            await made.clock.sleep(10)
        assert (await made.job(name))["status"]["succeeded"] == 1
        standby.turn.set()
        await made.clock.sleep(30)
        blind.sight.set()
        await made.clock.sleep(30)
        status = (await made.job(name))["status"]
        assert (status["succeeded"], status["active"]) == (1, 1), "counted once"
        assert len(await made.pods(name)) == 2, "and nobody was made beside it"
        await heir.stop(flush=False)
