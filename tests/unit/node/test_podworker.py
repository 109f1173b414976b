"""Pods live their lives over the hollow runtime, in virtual time."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.unit.node.kubelets import Bench
from tests.unit.node.worlds import T0, after, container, pod

from cluster_agent.node.cri.hollow import HollowRuntime
from cluster_agent.node.kubelet.checkpoint import Checkpoints
from cluster_agent.node.kubelet.hooks import Hook, HookFault
from machinery.api.core import Pod

pytestmark = pytest.mark.looptime


def noted(*containers: dict[str, object], notes: dict[str, str], **spec: object) -> Pod:
    return pod(*containers, meta={"annotations": notes}, **spec)


def deleted(wanted: Pod, grace: int) -> Pod:
    meta = msgspec.structs.replace(
        wanted.metadata, deletion_timestamp=after(grace), deletion_grace_period_seconds=grace
    )
    return msgspec.structs.replace(wanted, metadata=meta)


async def test_a_pod_comes_up_and_reports_its_way() -> None:
    async with Bench() as bench:
        bench.kubelet.apply(pod())
        await asyncio.sleep(1)
        assert bench.statuses.phases() == ["Pending", "Running"]
        assert bench.statuses.last["podIP"] == "10.1.0.2"
        assert bench.events.reasons() == ["Pulled", "Created", "Started"]


async def test_a_quiet_node_writes_one_status_for_a_pod_that_starts() -> None:
    async with Bench(quiet=True) as bench:
        bench.kubelet.apply(pod(container("a"), container("b")))
        await asyncio.sleep(1)
        assert [d["phase"] for d in bench.statuses.written] == ["Running"]


async def test_a_crashing_container_backs_off_10_20_40_seconds() -> None:
    async with Bench() as bench:
        bench.kubelet.apply(
            noted(
                notes={"hollow.ubernetes.io/run-seconds": "1", "hollow.ubernetes.io/exit-code": "3"}
            )
        )
        await asyncio.sleep(100)
        worker = bench.kubelet.workers["uid-1"]
        starts = [c.started_at for c in worker.observed.of("c")]
        assert worker.observed.of("c")[-1].attempt == 4
        assert len(starts) == 2, "older attempts are removed"
        last = bench.statuses.last["containerStatuses"][0]
        assert last["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        assert last["restartCount"] == 4
        assert bench.events.reasons().count("BackOff") == 4


async def test_a_job_like_pod_succeeds_and_is_left_for_its_logs() -> None:
    async with Bench() as bench:
        notes = {"hollow.ubernetes.io/run-seconds": "2"}
        bench.kubelet.apply(noted(notes=notes, restartPolicy="Never"))
        await asyncio.sleep(5)
        assert bench.statuses.last["phase"] == "Succeeded"
        assert bench.statuses.finished == []
        observed = await bench.runtime.observe("uid-1")
        assert len(observed.containers) == 1
        sandbox = observed.sandbox
        assert sandbox is not None and not sandbox.ready


async def test_a_deleted_pod_is_stopped_removed_and_reported() -> None:
    async with Bench() as bench:
        wanted = pod()
        bench.kubelet.apply(wanted)
        await asyncio.sleep(1)
        bench.kubelet.apply(deleted(wanted, 30))
        await asyncio.sleep(1)
        assert bench.statuses.finished == ["uid-1"]
        assert bench.statuses.last["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143
        assert await bench.runtime.observe_all() == {}
        bench.kubelet.gone(wanted)
        assert bench.kubelet.workers == {}


async def test_a_shorter_grace_overtakes_a_longer_one() -> None:
    async with Bench() as bench:
        wanted = noted(notes={"hollow.ubernetes.io/stop-seconds": "500"})
        bench.kubelet.apply(wanted)
        await asyncio.sleep(1)
        bench.kubelet.apply(deleted(wanted, 300))
        await asyncio.sleep(5)
        assert bench.statuses.finished == []
        bench.kubelet.apply(deleted(wanted, 1))
        await asyncio.sleep(3)
        assert bench.statuses.finished == ["uid-1"]


async def test_pre_stop_sleep_is_part_of_the_grace() -> None:
    async with Bench() as bench:
        wanted = pod(container("c", lifecycle={"preStop": {"sleep": {"seconds": 8}}}))
        bench.kubelet.apply(wanted)
        await asyncio.sleep(1)
        bench.kubelet.apply(deleted(wanted, 30))
        await asyncio.sleep(7)
        assert bench.statuses.finished == []
        await asyncio.sleep(3)
        assert bench.statuses.finished == ["uid-1"]


async def test_init_containers_run_one_after_another() -> None:
    async with Bench() as bench:
        notes = {"hollow.ubernetes.io/run-seconds": "2"}
        bench.kubelet.apply(noted(notes=notes, initContainers=[container("i1"), container("i2")]))
        await asyncio.sleep(1)
        statuses = bench.statuses.last["initContainerStatuses"]
        assert ["running" in s["state"] for s in statuses] == [True, False]
        await asyncio.sleep(5)
        observed = bench.kubelet.workers["uid-1"].observed
        begun = [observed.of(n)[0].created_at for n in ("i1", "i2", "c")]
        assert begun == sorted(begun)


async def test_a_deadline_ends_the_pod_but_not_the_object() -> None:
    async with Bench() as bench:
        bench.kubelet.apply(pod(activeDeadlineSeconds=5))
        await asyncio.sleep(10)
        last = bench.statuses.last
        assert (last["phase"], last["reason"]) == ("Failed", "DeadlineExceeded")
        assert bench.statuses.finished == []


async def test_a_failed_sandbox_is_tried_again_and_told() -> None:
    async with Bench() as bench:
        bench.kubelet.apply(noted(notes={"hollow.ubernetes.io/fail": "sandbox"}))
        await asyncio.sleep(10)
        reasons = bench.events.reasons()
        assert 2 < reasons.count("FailedCreatePodSandBox") < 10
        assert bench.statuses.last["phase"] == "Pending"


async def test_a_failed_probe_restarts_the_container() -> None:
    async with Bench() as bench:
        probe = {"periodSeconds": 1, "failureThreshold": 2}
        notes = {"hollow.ubernetes.io/probe": "fail"}
        bench.kubelet.apply(noted(container("c", livenessProbe=probe), notes=notes))
        await asyncio.sleep(5)
        assert ("Killing", "Container c failed liveness probe, will be restarted") in (
            bench.events.told
        )
        assert bench.statuses.last["containerStatuses"][0]["restartCount"] >= 1


async def test_readiness_comes_after_its_delay() -> None:
    async with Bench() as bench:
        probe = {"initialDelaySeconds": 5}
        bench.kubelet.apply(pod(container("c", readinessProbe=probe)))
        await asyncio.sleep(3)
        assert bench.statuses.last["containerStatuses"][0]["ready"] is False
        await asyncio.sleep(5)
        assert bench.statuses.last["containerStatuses"][0]["ready"] is True


async def test_a_changed_image_replaces_the_container() -> None:
    async with Bench() as bench:
        bench.kubelet.apply(pod())
        await asyncio.sleep(1)
        newer = pod(container("c") | {"image": "local/app:2"}, meta={"generation": 2})
        bench.kubelet.apply(newer)
        await asyncio.sleep(2)
        assert bench.statuses.last["containerStatuses"][0]["image"] == "local/app:2"
        text = "Container c definition changed, will be restarted"
        assert ("Killing", text) in bench.events.told


class Missing(Hook):
    """A hook that lacks something for a while."""

    def __init__(self) -> None:
        self.missing = True
        self.calls: list[str] = []

    async def prepare(self, pod: Pod) -> None:
        self.calls.append("prepare")
        if self.missing:
            raise HookFault("FailedMount", 'configmap "settings" not found')

    async def release(self, pod: Pod, *, forget: bool) -> None:
        self.calls.append(f"release {forget}")


async def test_a_missing_object_holds_the_pod_back_until_it_comes() -> None:
    hook = Missing()
    async with Bench(hooks=[hook]) as bench:
        wanted = pod()
        bench.kubelet.apply(wanted)
        await asyncio.sleep(5)
        assert bench.statuses.last["phase"] == "Pending"
        assert "FailedMount" in bench.events.reasons()
        hook.missing = False
        bench.kubelet.workers["uid-1"].retry()
        await asyncio.sleep(1)
        assert bench.statuses.last["phase"] == "Running"
        bench.kubelet.apply(deleted(wanted, 0))
        await asyncio.sleep(1)
        assert hook.calls[-1] == "release True"


class Slow(Hook):
    async def prepare(self, pod: Pod) -> None:
        await asyncio.sleep(1000)


async def test_a_pod_that_is_deleted_while_it_is_set_up_goes_at_once() -> None:
    async with Bench(hooks=[Slow()]) as bench:
        wanted = pod()
        bench.kubelet.apply(wanted)
        await asyncio.sleep(2)
        bench.kubelet.apply(deleted(wanted, 30))
        await asyncio.sleep(1)
        assert bench.statuses.finished == ["uid-1"]


# ------------------------------------------------------------------------------------------------ restarts of ours
async def _restarted(first: Bench, wanted: Pod) -> Bench:
    """A second kubelet over the runtime that a first one left."""
    return Bench(runtime=first.runtime)


async def test_a_new_process_finds_its_containers_and_restarts_none() -> None:
    async with Bench() as first:
        first.kubelet.apply(pod())
        await asyncio.sleep(1)
        before = await first.runtime.observe("uid-1")
    async with await _restarted(first, pod()) as second:
        second.kubelet.apply(pod())
        await second.kubelet.synced()
        await asyncio.sleep(60)
        after_ = await second.runtime.observe("uid-1")
        assert [(c.id, c.started_at) for c in after_.containers] == [
            (c.id, c.started_at) for c in before.containers
        ]
        assert second.statuses.last["phase"] == "Running"


async def test_a_new_process_goes_on_with_the_back_off() -> None:
    notes = {"hollow.ubernetes.io/run-seconds": "1", "hollow.ubernetes.io/exit-code": "3"}
    async with Bench() as first:
        first.kubelet.apply(noted(notes=notes))
        await asyncio.sleep(60)
        attempts = (await first.runtime.observe("uid-1")).of("c")[-1].attempt
    async with await _restarted(first, pod()) as second:
        second.kubelet.apply(noted(notes=notes))
        await asyncio.sleep(2)
        assert (await second.runtime.observe("uid-1")).of("c")[-1].attempt == attempts


async def test_a_new_process_without_the_api_keeps_and_heals_its_pods(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    async with Bench(checkpoints=checkpoints) as first:
        first.kubelet.apply(pod())
        await asyncio.sleep(1)
    async with Bench(runtime=first.runtime, checkpoints=checkpoints) as second:
        second.kubelet.restore()
        await asyncio.sleep(60)
        record = (await second.runtime.observe("uid-1")).of("c")[-1]
        assert record.running and record.attempt == 0
        second.runtime.crash(record.id)
        await asyncio.sleep(5)
        assert (await second.runtime.observe("uid-1")).of("c")[-1].attempt == 1


async def test_a_pod_that_was_deleted_while_we_were_away_is_ended(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    async with Bench(checkpoints=checkpoints) as first:
        first.kubelet.apply(pod())
        await asyncio.sleep(1)
    async with Bench(runtime=first.runtime, checkpoints=checkpoints) as second:
        second.kubelet.restore()
        await second.kubelet.synced()
        await asyncio.sleep(60)
        assert await second.runtime.observe_all() == {}
        assert second.kubelet.workers == {}
        assert second.statuses.finished == [], "there is no object to be removed"
        assert list(tmp_path.glob("*.json")) == []


async def test_a_pod_that_only_the_runtime_knows_is_ended() -> None:
    async with Bench() as first:
        first.kubelet.apply(pod())
        await asyncio.sleep(1)
    async with await _restarted(first, pod()) as second:
        await asyncio.sleep(40)
        assert len(await second.runtime.observe_all()) == 1, "not before the API has been heard"
        await second.kubelet.synced()
        await asyncio.sleep(40)
        assert await second.runtime.observe_all() == {}


async def test_a_machine_that_was_switched_off_starts_its_pods_anew() -> None:
    async with Bench() as first:
        first.kubelet.apply(pod())
        await asyncio.sleep(1)
        status = first.statuses.last
    async with Bench() as second:
        assert isinstance(second.runtime, HollowRuntime)
        second.kubelet.apply(pod(status=status))
        await asyncio.sleep(1)
        assert second.statuses.last["containerStatuses"][0]["restartCount"] == 1
        assert second.statuses.last["startTime"] == T0.strftime("2026-01-01T00:00:0") + "0Z"


class Broken(Hook):
    """Fails in ways that nobody foresaw, three times."""

    def __init__(self, error: Exception) -> None:
        self.left, self.error = 3, error

    async def prepare(self, pod: Pod) -> None:
        if self.left:
            self.left -= 1
            raise self.error


@pytest.mark.parametrize("error", [OSError("disk full"), KeyError("a bug")], ids=["os", "bug"])
async def test_a_pod_outlives_unforeseen_errors(error: Exception) -> None:
    async with Bench(hooks=[Broken(error)]) as bench:
        bench.kubelet.apply(pod())
        await asyncio.sleep(1)
        assert bench.statuses.last["phase"] == "Pending"
        await asyncio.sleep(20)
        assert bench.statuses.last["phase"] == "Running"
