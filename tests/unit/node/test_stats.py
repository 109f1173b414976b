"""Samples, rates and what is shown of them: pure, and over a hollow runtime in virtual time."""

import asyncio
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.loopclock import LoopClock
from tests.unit.node.kubelets import Bench

from cluster_agent.node import stats_cgroups, stats_hollow
from cluster_agent.node.stats import (
    ContainerRef,
    ContainerSample,
    NodeSample,
    PodRef,
    PodSample,
    Reading,
    Sampler,
    base_of,
    measure,
    rate,
)
from cluster_agent.node.stats_cgroups import CgroupMeter, GroupFiles
from cluster_agent.node.stats_hollow import HollowMeter
from cluster_agent.node.stats_views import resource_metrics, summary
from machinery.api.core import Container, Pod, PodSpec, ResourceRequirements
from machinery.meta.objectmeta import ObjectMeta

AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SECOND = 1_000_000_000


def pod(name: str = "web", **resources: dict[str, str]) -> Pod:
    container = Container(name="c", resources=ResourceRequirements(**resources))
    meta = ObjectMeta(name=name, namespace="demo", uid=f"uid-{name}")
    return Pod(metadata=meta, spec=PodSpec(containers=(container,)))


def ref(name: str = "web", container: str = "id-1") -> PodRef:
    return PodRef(pod(name), (ContainerRef("c", container, AT),))


def sample(
    monotonic: float, *pods: tuple[PodRef, int], node: int | None = 0, memory: int = 0
) -> NodeSample:
    """A sample with the CPU ns of pods of one container."""
    made = tuple(
        PodSample(one, ns, (ContainerSample(one.containers[0], Reading(ns, memory, memory)),))
        for one, ns in pods
    )
    at = AT + dt.timedelta(seconds=monotonic)
    return NodeSample("n", at, monotonic, AT, None if node is None else Reading(node), 1000, made)


# ------------------------------------------------------------------------------------------------------------------ rates
@pytest.mark.parametrize(
    ("before", "after", "seconds", "nanocores"),
    [
        pytest.param(0, 15 * SECOND, 15.0, SECOND, id="one core"),
        pytest.param(10 * SECOND, 10 * SECOND + 3, 2.0, 2, id="rounded"),
        pytest.param(7, 7, 10.0, 0, id="idle"),
        pytest.param(100, 99, 10.0, None, id="went back: started anew"),
        pytest.param(0, 100, 0.0, None, id="no time"),
        pytest.param(0, 100, -1.0, None, id="time went back"),
    ],
)
def test_rates(before: int, after: int, seconds: float, nanocores: int | None) -> None:
    assert rate(before, after, seconds) == nanocores


@pytest.mark.parametrize(
    ("kept", "base"),
    [
        pytest.param((), None, id="the first"),
        pytest.param((99.0, 100.0), None, id="too young"),
        pytest.param((80.0, 90.0, 97.0), 90.0, id="the newest that is old enough"),
        pytest.param((95.0,), 95.0, id="just old enough"),
        pytest.param((-21.0,), None, id="nobody asked for long"),
    ],
)
def test_what_rates_count_from(kept: Sequence[float], base: float | None) -> None:
    found = base_of([sample(at) for at in kept], sample(100.0))
    assert (found.monotonic if found is not None else None) == base


# ------------------------------------------------------------------------------------------------------------------ views
def test_summary_of_a_container_that_was_started_anew_has_no_rate() -> None:
    before = sample(0.0, (ref(container="old"), 9 * SECOND))
    shown = summary(sample(10.0, (ref(container="new"), SECOND)), before)
    (found,) = shown["pods"]
    assert "usageNanoCores" not in found["containers"][0]["cpu"]
    assert "usageNanoCores" not in found["cpu"]
    assert found["cpu"]["usageCoreNanoSeconds"] == SECOND


def test_summary_without_a_machine() -> None:
    shown = summary(sample(10.0, node=None), sample(0.0))
    assert shown == {"node": {"nodeName": "n", "startTime": "2026-01-01T12:00:00Z"}, "pods": []}


def test_summary_is_upstreams_shape() -> None:
    """The fields of stats/v1alpha1 that are measured, with their types."""
    web = ref()
    now = sample(10.0, (web, 12 * SECOND), node=50 * SECOND, memory=300)
    shown = summary(now, sample(0.0, (web, 2 * SECOND)))
    at = "2026-01-01T12:00:10Z"
    memory = {"time": at, "usageBytes": 300, "workingSetBytes": 300, "rssBytes": 0}
    cpu = {"time": at, "usageCoreNanoSeconds": 12 * SECOND, "usageNanoCores": SECOND}
    start = "2026-01-01T12:00:00Z"
    assert shown["pods"] == [
        {
            "podRef": {"name": "web", "namespace": "demo", "uid": "uid-web"},
            "startTime": start,
            "containers": [{"name": "c", "startTime": start, "cpu": cpu, "memory": memory}],
            "cpu": cpu,
            "memory": memory,
        }
    ]
    assert shown["node"] == {
        "nodeName": "n",
        "startTime": start,
        "cpu": {"time": at, "usageCoreNanoSeconds": 50 * SECOND, "usageNanoCores": 5 * SECOND},
        "memory": {
            "time": at,
            "usageBytes": 0,
            "workingSetBytes": 0,
            "rssBytes": 0,
            "availableBytes": 1000,
        },
    }


def test_resource_metrics() -> None:
    text = resource_metrics(sample(10.0, (ref(), 12_345_678_901), node=7, memory=4096))
    stamp = int(AT.timestamp()) * 1000 + 10_000
    labels = 'namespace="demo",pod="web"}'
    values = [line for line in text.splitlines() if not line.startswith("#")]
    assert values == [
        f'container_cpu_usage_seconds_total{{container="c",{labels} 12.345678901 {stamp}',
        f'container_memory_working_set_bytes{{container="c",{labels} 4096 {stamp}',
        f'container_start_time_seconds{{container="c",{labels} {AT.timestamp():.3f} {stamp}',
        f"node_cpu_usage_seconds_total 0.000000007 {stamp}",
        f"node_memory_working_set_bytes 0 {stamp}",
        f"pod_cpu_usage_seconds_total{{{labels} 12.345678901 {stamp}",
        f"pod_memory_working_set_bytes{{{labels} 4096 {stamp}",
        "resource_scrape_error 0",
    ]
    assert "# TYPE pod_cpu_usage_seconds_total counter" in text


def test_resource_metrics_say_what_could_not_be_measured() -> None:
    assert "\nresource_scrape_error 1\n" in resource_metrics(sample(1.0, node=None))


# ---------------------------------------------------------------------------------------------------------------- cgroups
MEMINFO = b"MemTotal:  1000 kB\nMemFree: 400 kB\nInactive(file): 100 kB\nAnonPages: 50 kB\n"


def test_names_are_whole_words_at_the_beginning_of_a_line() -> None:
    text = b"total_inactive_file 1\ninactive_file 22\ninactive_file_x 3\n"
    assert stats_cgroups.value_in(text, b"inactive_file") == 22
    with pytest.raises(ValueError, match="not found"):
        stats_cgroups.value_in(text, b"file")


def test_the_machines_time_has_no_idle_and_no_guests_twice() -> None:
    line = b"cpu  10 1 2 1000 500 3 4 5 9 9\ncpu0 1 1 1 1\n"
    assert stats_cgroups.machine_cpu_ns(line) == 25 * stats_cgroups.NS_A_TICK


def test_the_machines_memory() -> None:
    assert stats_cgroups.machine_memory(MEMINFO) == (600 * 1024, 500 * 1024, 50 * 1024)


def groups(mount: Path, *, v2: bool) -> None:
    """The groups of pod `web` with container `id-1`, as the kernel would show them."""

    def put(path: str, text: str) -> None:
        (mount / path).parent.mkdir(parents=True, exist_ok=True)
        (mount / path).write_text(text)

    if v2:
        put("kube/web/cpu.stat", "usage_usec 9\nuser_usec 1\n")
        put("kube/web/id-1/cpu.stat", "usage_usec 7\nuser_usec 1\n")
        put("kube/web/id-1/memory.current", "100\n")
        put("kube/web/id-1/memory.stat", "anon 20\nfile 60\ninactive_file 30\n")
        return
    put("cpu,cpuacct/kube/web/cpuacct.usage", "9000\n")
    put("cpu,cpuacct/kube/web/id-1/cpuacct.usage", "7000\n")
    put("memory/kube/web/id-1/memory.usage_in_bytes", "100\n")
    stat = "inactive_file 1\nrss 2\ntotal_rss 20\ntotal_inactive_file 30\n"
    put("memory/kube/web/id-1/memory.stat", stat)


@pytest.mark.parametrize("v2", [False, True], ids=["version 1", "version 2"])
def test_both_layouts_say_the_same(tmp_path: Path, v2: bool) -> None:
    groups(tmp_path, v2=v2)
    meter = CgroupMeter(str(tmp_path), lambda _: "/kube/web", v2=v2)
    (found,) = measure(meter, [ref()])
    assert found.cpu_ns == 9000
    assert found.containers[0].reading == Reading(7000, 100, 70, 20)


def test_without_the_memory_controller_there_is_cpu(tmp_path: Path) -> None:
    groups(tmp_path, v2=True)
    (tmp_path / "kube/web/id-1/memory.stat").unlink()
    meter = CgroupMeter(str(tmp_path), lambda _: "/kube/web", v2=True)
    assert meter.container(ref(), ref().containers[0]) == Reading(7000)


def test_a_container_that_went_meanwhile_is_left_out(tmp_path: Path) -> None:
    groups(tmp_path, v2=True)
    meter = CgroupMeter(str(tmp_path), lambda one: f"/kube/{one.metadata.name}", v2=True)
    assert [p.ref.uid for p in measure(meter, [ref("gone", "id-0"), ref("web")])] == ["uid-web"]


def test_files_stay_open_and_are_read_anew(tmp_path: Path) -> None:
    groups(tmp_path, v2=True)
    meter = CgroupMeter(str(tmp_path), lambda _: "/kube/web", v2=True)
    assert measure(meter, [ref()])[0].cpu_ns == 9000
    with (tmp_path / "kube/web/cpu.stat").open("r+") as file:
        _ = file.write("usage_usec 8\n")
    assert measure(meter, [ref()])[0].cpu_ns == 8000


def test_files_of_containers_that_are_gone_are_closed(tmp_path: Path) -> None:
    groups(tmp_path, v2=True)
    meter = CgroupMeter(str(tmp_path), lambda _: "/kube/web", v2=True)
    _ = measure(meter, [ref()])
    assert len(meter.files) == 4
    _ = measure(meter, [])
    assert len(meter.files) == 0


def test_no_more_files_stay_open_than_may(tmp_path: Path) -> None:
    files = GroupFiles(2)
    for name in "abcd":
        (tmp_path / name).write_text(name)
    for _ in range(2):
        assert b"".join(files.read(str(tmp_path / name)) for name in "abcd") == b"abcd"
        assert len(files) == 2


def test_this_machine_can_be_read() -> None:
    found = CgroupMeter("/sys/fs/cgroup", lambda _: "", v2=False).node()
    assert found is not None
    assert found.cpu_ns > 0
    assert 0 < found.working_set <= found.memory
    booted = stats_cgroups.boot_time()
    assert booted is not None
    assert booted < dt.datetime.now(dt.UTC)


# ----------------------------------------------------------------------------------------------------------------- hollow
@pytest.mark.parametrize(
    ("resources", "annotation", "nanocores"),
    [
        pytest.param({}, None, SECOND // 100, id="asks for nothing"),
        pytest.param({"requests": {"cpu": "500m"}}, None, SECOND // 4, id="half a request"),
        pytest.param({"requests": {"cpu": "500m"}}, "2", 2 * SECOND, id="annotated"),
        pytest.param({"limits": {"cpu": "1"}}, "2", SECOND, id="no more than the limit"),
        pytest.param({"requests": {"cpu": "500m"}}, "much", SECOND // 4, id="no quantity"),
        pytest.param({}, "-1", 0, id="less than nothing"),
    ],
)
def test_what_a_hollow_container_uses(
    resources: dict[str, dict[str, str]], annotation: str | None, nanocores: int
) -> None:
    made = pod(**resources)
    if annotation is not None:
        notes = {"hollow.ubernetes.io/cpu": annotation}
        made = replace_meta(made, notes)
    assert stats_hollow.used(made, "c", "cpu") == nanocores


def replace_meta(made: Pod, annotations: dict[str, str]) -> Pod:
    meta = made.metadata
    new = ObjectMeta(
        name=meta.name, namespace=meta.namespace, uid=meta.uid, annotations=annotations
    )
    return Pod(metadata=new, spec=made.spec)


@pytest.mark.looptime
async def test_samples_of_a_hollow_node() -> None:
    async with Bench() as bench:
        meter = HollowMeter(bench.clock)
        workers = bench.kubelet.workers.values
        sampler = Sampler("n", meter, workers, bench.clock, threaded=False, memory_total=1 << 40)
        bench.kubelet.apply(pod(requests={"cpu": "2", "memory": "1Gi"}))
        await asyncio.sleep(10.0)
        first, none = await sampler.now()
        assert none is None
        assert len(first.pods) == 1
        await asyncio.sleep(10.0)
        now, base = await sampler.now()
        shown = summary(now, base)
        assert shown["pods"][0]["cpu"]["usageNanoCores"] == SECOND
        assert shown["pods"][0]["memory"]["workingSetBytes"] == 1 << 29
        assert shown["node"]["cpu"]["usageNanoCores"] == SECOND + SECOND // 20
        again, _ = await sampler.now()
        assert again is now  # nobody pays for asking twice


@pytest.mark.looptime
async def test_the_load_of_a_hollow_pod_can_be_changed() -> None:
    clock = LoopClock()
    meter = HollowMeter(clock)
    one = PodRef(pod(), (ContainerRef("c", "id-1", clock.now()),))
    busy = PodRef(replace_meta(one.pod, {"hollow.ubernetes.io/cpu": "1"}), one.containers)
    counted = []
    for ref_now in (one, busy, one):
        await asyncio.sleep(10.0)
        (found,) = measure(meter, [ref_now])
        counted.append(found.cpu_ns / SECOND)
    assert counted == pytest.approx([0.1, 10.1, 10.2])


@pytest.mark.looptime
async def test_a_hollow_machines_counter_never_goes_back() -> None:
    meter = HollowMeter(LoopClock())
    one = PodRef(pod(), (ContainerRef("c", "id-1", LoopClock().now()),))
    await asyncio.sleep(100.0)
    _ = measure(meter, [one])
    before = meter.node()
    _ = measure(meter, [])
    after = meter.node()
    assert before is not None
    assert after is not None
    assert after.cpu_ns == before.cpu_ns
    assert after.memory < before.memory
