"""Mode consistency on a node: what runs without a grant is stopped, what has none waits, everything else is left alone."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.unit.node.kubelets import Bench
from tests.unit.node.worlds import pod

from cluster_agent.node.kubelet.grants import Grants, grant_seconds
from machinery.api.core import Pod
from machinery.api.fleet.resilience import GRANT, GRANT_SECONDS
from machinery.kit.clock import FakeClock


def granted(word: str | None = None, seconds: str = "30") -> Pod:
    notes = {GRANT_SECONDS: seconds} | ({GRANT: word} if word is not None else {})
    return pod(meta={"annotations": notes}, terminationGracePeriodSeconds=5)


@pytest.mark.parametrize(
    ("annotations", "seconds"),
    [
        ({}, None),
        ({GRANT_SECONDS: "30"}, 30.0),
        ({GRANT_SECONDS: "soon"}, 0.0),
        ({GRANT_SECONDS: "-1"}, 0.0),
    ],
)
def test_grant_seconds(annotations: dict[str, str], seconds: float | None) -> None:
    assert grant_seconds(pod(meta={"annotations": annotations})) == seconds


def test_a_grant_counts_from_when_its_word_was_written() -> None:
    clock = FakeClock()
    grants = Grants(clock)
    assert grants.left_s(pod()) is None
    assert grants.left_s(granted()) == 0
    assert grants.left_s(granted("w1")) == 0, "a word that this node never wrote grants nothing"
    grants.wrote("w1", clock.monotonic())
    clock.advance(12)
    assert grants.left_s(granted("w1")) == 18, "however late it arrives"
    grants.wrote("w2", clock.monotonic())
    assert grants.left_s(granted("w2")) == 30
    assert grants.left_s(granted("w1")) == 30, "an older word takes nothing back"
    clock.advance(31)
    assert (grants.left_s(granted("w2")) or 0) < 0
    grants.forget("uid-1")
    assert grants.left_s(granted("w0")) == 0


def test_old_words_are_forgotten() -> None:
    clock = FakeClock()
    grants = Grants(clock)
    for index in range(100):
        grants.wrote(f"w{index}", clock.monotonic())
    assert grants.left_s(granted("w10")) == 0
    assert grants.left_s(granted("w99")) == 30


@pytest.mark.parametrize(("boot", "left"), [("one", 20.0), ("two", 0.0)], ids=["restart", "reboot"])
def test_grants_outlive_the_process_but_not_the_boot(
    tmp_path: Path, boot: str, left: float
) -> None:
    clock = FakeClock()
    path = tmp_path / "grants.json"
    first = Grants(clock, "one", path)
    first.wrote("w1", clock.monotonic())
    assert first.left_s(granted("w1")) == 30
    clock.advance(10)
    assert Grants(clock, boot, path).left_s(granted("w1")) == left


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"boot": "one"}', '{"boot": "one", "until": {"a": "x"}}']
)
def test_a_spoiled_file_grants_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "grants.json"
    path.write_text(text)
    assert Grants(FakeClock(), "one", path).left_s(granted("w1")) == 0


@pytest.mark.looptime
async def test_a_pod_waits_for_its_grant_then_runs_then_stops_with_it() -> None:
    async with Bench() as bench:
        bench.kubelet.apply(granted())
        await asyncio.sleep(60)
        assert bench.statuses.phases() == ["Pending"]
        assert bench.events.reasons() == ["WaitingForGrant"]
        bench.grants.wrote("w1", bench.clock.monotonic())
        bench.kubelet.apply(granted("w1"))
        await asyncio.sleep(2)
        assert bench.statuses.phases() == ["Pending", "Running"]
        await asyncio.sleep(27)
        assert bench.statuses.phases()[-1] == "Running"
        await asyncio.sleep(8)
        assert bench.statuses.phases()[-1] == "Failed"
        assert bench.statuses.last["reason"] == "GrantExpired"
        assert "GrantExpired" in bench.events.reasons()
        assert all(c.ended for c in bench.kubelet.workers["uid-1"].observed.containers)
        bench.grants.wrote("w2", bench.clock.monotonic())
        bench.kubelet.apply(granted("w2"))
        await asyncio.sleep(10)
        assert bench.statuses.phases()[-1] == "Failed", "its successor runs, not itself"


@pytest.mark.looptime
async def test_renewed_grants_keep_a_pod_running() -> None:
    async with Bench() as bench:
        bench.grants.wrote("w0", bench.clock.monotonic())
        bench.kubelet.apply(granted("w0"))
        for index in range(1, 20):
            await asyncio.sleep(10)
            bench.grants.wrote(f"w{index}", bench.clock.monotonic())
            bench.kubelet.apply(granted(f"w{index}"))
        assert bench.statuses.phases() == ["Pending", "Running"]
        await asyncio.sleep(29)
        assert bench.statuses.phases()[-1] == "Running"
        await asyncio.sleep(10)
        assert bench.statuses.phases()[-1] == "Failed"


@pytest.mark.looptime
async def test_pods_without_the_annotation_are_left_alone() -> None:
    async with Bench() as bench:
        bench.kubelet.apply(pod())
        await asyncio.sleep(3600)
        assert bench.statuses.phases() == ["Pending", "Running"]


@pytest.mark.looptime
async def test_a_deleted_pod_ends_as_always() -> None:
    async with Bench() as bench:
        bench.kubelet.apply(granted())
        await asyncio.sleep(5)
        gone = granted()
        meta = msgspec.structs.replace(
            gone.metadata, deletion_timestamp=bench.clock.now(), deletion_grace_period_seconds=0
        )
        bench.kubelet.apply(msgspec.structs.replace(gone, metadata=meta))
        await asyncio.sleep(5)
        assert bench.kubelet.workers["uid-1"].finished
