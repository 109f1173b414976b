"""Jobs over a real API server: whose pods they are, what happens to them when the Job goes, and what stops one from being made."""

import asyncio
import datetime as dt

import pytest
from tests.support.jobs import (
    CRONJOB,
    EVENT,
    JOB,
    POD,
    Document,
    World,
    condition,
    cron_job,
    job,
    world,
)
from tests.support.loopclock import LoopClock

from machinery.client.interface import DeleteOptions, PatchType, dynamic
from machinery.meta.errors import NotFound
from machinery.meta.resource import ObjectKey

pytestmark = [pytest.mark.integration, pytest.mark.looptime]
QUOTA = dynamic("", "v1", "resourcequotas", "ResourceQuota", namespaced=True)
TRACKING = "batch.kubernetes.io/job-tracking"
MINE = {"matchLabels": {"mine": "yes"}}


def runs_on(pod: Document, before: int) -> int | None:
    return None


async def active(made: World, name: str, wanted: int) -> None:
    for _ in range(60):
        status = (await made.job(name)).get("status") or {}
        if status.get("active", 0) == wanted:
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"not {wanted} active: {await made.job(name)}")


async def allow(made: World, name: str, pods: str) -> None:
    """What the quota's controller would write."""
    key, hard = ObjectKey(name, "q"), {"hard": {"pods": pods}}
    await made.client.patch(QUOTA, key, {"spec": hard}, PatchType.MERGE)
    used = str(len(await made.pods(name)))
    status = {"status": {**hard, "used": {"pods": used}}}
    await made.client.patch(QUOTA, key, status, PatchType.MERGE, subresource="status")


async def gone(made: World, name: str) -> bool:
    try:
        await made.job(name)
    except NotFound:
        return True
    return False


async def test_pods_go_with_their_job() -> None:
    async with world() as made, made.kubelet(runs_on), made.controllers():
        name = await made.namespace("demo")
        await made.client.create(JOB, job(parallelism=3), name)
        await active(made, name, 3)
        options = DeleteOptions(propagation_policy="Background")
        await made.client.delete(JOB, ObjectKey(name, "j"), options)
        await asyncio.sleep(10)
        assert await gone(made, name)
        assert await made.pods(name) == []


@pytest.mark.parametrize("policy", ["Orphan", None], ids=["asked for", "by default"])
async def test_orphans_stay_and_are_free(policy: str | None) -> None:
    async with world() as made, made.kubelet(runs_on), made.controllers():
        name = await made.namespace("demo")
        await made.client.create(JOB, job(parallelism=2), name)
        await active(made, name, 2)
        options = DeleteOptions(propagation_policy=policy)
        await made.client.delete(JOB, ObjectKey(name, "j"), options)
        await asyncio.sleep(10)
        assert await gone(made, name)
        pods = await made.pods(name)
        assert [pod["status"]["phase"] for pod in pods] == ["Running", "Running"]
        for pod in pods:
            assert not pod["metadata"].get("finalizers")
            assert not pod["metadata"].get("ownerReferences")


async def test_a_job_that_another_manages_is_left_alone() -> None:
    async with world() as made, made.kubelet(runs_on), made.controllers():
        name = await made.namespace("demo")
        await made.client.create(JOB, job("theirs", managedBy="acme.io/queue"), name)
        await made.client.create(JOB, job("ours", managedBy="kubernetes.io/job-controller"), name)
        await asyncio.sleep(5)
        owners = {pod["metadata"]["ownerReferences"][0]["name"] for pod in await made.pods(name)}
        assert owners == {"ours"}
        assert (await made.job(name, "theirs"))["status"] == {}


async def test_a_pod_is_taken_up_and_let_go_by_its_labels() -> None:
    orphan = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "found", "labels": {"mine": "yes"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    template = {
        "metadata": {"labels": {"mine": "yes"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
    }
    wish = job(template=template, parallelism=1, selector=MINE, manualSelector=True)
    async with world() as made, made.kubelet(runs_on), made.controllers():
        name = await made.namespace("demo")
        await made.client.create(POD, orphan, name)
        await made.client.create(JOB, wish, name)
        await active(made, name, 1)
        (found,) = await made.pods(name)
        assert found["metadata"]["name"] == "found"
        assert found["metadata"]["finalizers"] == [TRACKING]
        assert found["metadata"]["ownerReferences"][0]["name"] == "j"
        key, other = ObjectKey(name, "found"), {"metadata": {"labels": {"mine": "no"}}}
        await made.client.patch(POD, key, other, PatchType.MERGE)
        await asyncio.sleep(10)
        free = await made.client.get(POD, key)
        assert not free["metadata"].get("finalizers")
        assert not free["metadata"].get("ownerReferences")
        assert len(await made.pods(name)) == 2, "and another takes its place"
        assert "failed" not in (await made.job(name))["status"]


async def test_a_quota_holds_a_job_back_until_it_gives() -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q"},
        "spec": {"hard": {"pods": "1"}},
    }
    async with world() as made, made.kubelet(runs_on), made.controllers():
        name = await made.namespace("demo")
        await made.client.create(QUOTA, quota, name)
        await allow(made, name, "1")
        await made.client.create(JOB, job(parallelism=3), name)
        await active(made, name, 1)
        told = [e["message"] for e in (await made.client.list(EVENT, name)).items]
        assert any(message.startswith("Error creating: pods") for message in told)
        await allow(made, name, "9")
        await made.clock.sleep(60)
        await active(made, name, 3)


async def test_who_is_replaced_only_after_its_end_is_counted_once() -> None:
    async with world() as made, made.controllers():
        name = await made.namespace("demo")
        async with made.kubelet(runs_on):
            wish = job(parallelism=1, completions=1, podReplacementPolicy="Failed")
            await made.client.create(JOB, wish, name)
            await active(made, name, 1)
        (first,) = await made.pods(name)
        key = ObjectKey(name, first["metadata"]["name"])
        await made.client.patch(
            POD, key, {"metadata": {"finalizers": [TRACKING, "x/held"]}}, PatchType.MERGE
        )
        await made.client.delete(POD, key)
        await asyncio.sleep(5)
        assert len(await made.pods(name)) == 1
        assert (await made.job(name))["status"]["terminating"] == 1
        ended = {"status": {"phase": "Failed"}}
        await made.client.patch(POD, key, ended, PatchType.MERGE, subresource="status")
        await asyncio.sleep(15)
        status = (await made.job(name))["status"]
        assert (status["failed"], status["active"], status["terminating"]) == (1, 1, 0)


async def test_after_its_deadline_a_job_waits_for_pods_that_are_held() -> None:
    held = {"metadata": {"finalizers": [TRACKING, "x/held"]}}
    async with world() as made, made.kubelet(runs_on), made.controllers():
        name = await made.namespace("demo")
        await made.client.create(JOB, job(parallelism=1, activeDeadlineSeconds=9), name)
        await active(made, name, 1)
        (pod,) = await made.pods(name)
        key = ObjectKey(name, pod["metadata"]["name"])
        await made.client.patch(POD, key, held, PatchType.MERGE)
        await asyncio.sleep(30)
        status = (await made.job(name))["status"]
        assert condition(status, "FailureTarget")["reason"] == "DeadlineExceeded"
        assert (status["failed"], status["terminating"]) == (1, 1)
        assert not condition(status, "Failed"), "a pod is still there"
        free = {"metadata": {"finalizers": None}}
        await made.client.patch(POD, key, free, PatchType.MERGE)
        await asyncio.sleep(10)
        assert condition((await made.job(name))["status"], "Failed")


class Set(LoopClock):
    """A clock that somebody sets."""

    ahead = dt.timedelta()

    def now(self) -> dt.datetime:
        return super().now() + self.ahead


async def test_a_clock_that_is_set_is_noticed() -> None:
    clock = Set()
    async with world(clock) as made, made.controllers():
        name = await made.namespace("demo")
        noon = cron_job(schedule="0 12 * * *")
        await made.client.create(CRONJOB, noon, name)
        await clock.sleep(5)
        clock.ahead = dt.timedelta(hours=12)
        await clock.sleep(15 * 60)
        assert len(await made.jobs(name)) == 1


async def test_hundreds_of_pods_are_counted() -> None:
    async with world() as made, made.kubelet(lambda pod, before: 0), made.controllers():
        name = await made.namespace("demo")
        await made.client.create(JOB, job(parallelism=120, completions=300), name)
        status = await made.ended(name, wait_s=120)
        assert condition(status, "Complete")
        assert status["succeeded"] == 300
        assert len(await made.pods(name)) == 300
