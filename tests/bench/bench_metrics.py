"""What metrics cost: a node's pass over 110 pods, and the control plane's part in reading and answering.

    .venv/bin/python tests/bench/bench_metrics.py

The node's pass reads real control groups where the machine lets us make some (version 1 or 2, as root), else files of the same
names; each pod has one container. CPU milliseconds of this process, the middle of several passes.
"""

import argparse
import contextlib
import datetime as dt
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
import orjson
from tests.bench.report import Figure, hand_over

from cluster_agent.control.metrics import Held
from cluster_agent.control.metrics_points import Point, Scrape, parse
from cluster_agent.node.stats import ContainerRef, NodeSample, PodRef, measure
from cluster_agent.node.stats_cgroups import CgroupMeter
from cluster_agent.node.stats_views import resource_metrics, summary
from machinery.api.core import Container, Pod, PodSpec
from machinery.kit.clock import SystemClock
from machinery.meta.objectmeta import ObjectMeta
from machinery.server.cache import Entry

PODS = 110
PASSES = 15
FLEET = 5000
ROOT = "/bench-metrics"
STAT = "total_rss 1\ntotal_inactive_file 1\nanon 1\ninactive_file 1\n"


def refs() -> list[PodRef]:
    """Pods as a kubelet knows them."""
    now, found = dt.datetime.now(dt.UTC), []
    for number in range(PODS):
        meta = ObjectMeta(name=f"web-5d4f8c7b9-{number:05}", namespace="demo", uid=f"uid-{number}")
        pod = Pod(metadata=meta, spec=PodSpec(containers=(Container(name="c"),)))
        found.append(PodRef(pod, (ContainerRef("c", f"{number:064x}", now),)))
    return found


def path_of(pod: Pod) -> str:
    return f"{ROOT}/pod{pod.metadata.uid}"


@contextlib.contextmanager
def groups(pods: list[PodRef]) -> Iterator[tuple[CgroupMeter, str]]:
    """(a meter over groups of these pods, what they are)."""
    mount = Path("/sys/fs/cgroup")
    v2 = (mount / "cgroup.controllers").exists()
    trees = [mount] if v2 else [mount / "cpuacct", mount / "memory"]
    wanted = [f"{path_of(ref.pod)}/{ref.containers[0].id}".strip("/") for ref in pods]
    if os.geteuid() == 0 and all(tree.is_dir() for tree in trees) and not v2:
        try:
            for tree in trees:
                for path in wanted:
                    (tree / path).mkdir(parents=True, exist_ok=True)
            yield CgroupMeter(str(mount), path_of, v2=v2), "control groups, version 1"
        finally:
            for tree in trees:
                for folder, _, _ in os.walk(tree / ROOT.strip("/"), topdown=False):
                    os.rmdir(folder)
        return
    with tempfile.TemporaryDirectory() as made:
        for path in wanted:
            for folder in (Path(made) / path, (Path(made) / path).parent):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "cpu.stat").write_text("usage_usec 1\n")
                (folder / "memory.current").write_text("1\n")
                (folder / "memory.stat").write_text(STAT)
        yield CgroupMeter(made, path_of, v2=True), "plain files"


def middle_ms(work: Callable[[], object]) -> float:
    """CPU of one run."""
    spent = []
    for _ in range(PASSES):
        began = time.process_time()
        _ = work()
        spent.append((time.process_time() - began) * 1000)
    return statistics.median(spent)


def of_the_node() -> list[Figure]:
    pods = refs()
    with groups(pods) as (meter, what):

        def look() -> NodeSample:
            found = measure(meter, pods)
            return NodeSample("n", dt.datetime.now(dt.UTC), 1.0, None, meter.node(), 0, found)

        sample = look()
        assert len(sample.pods) == PODS
        scraped = resource_metrics(sample)
        return [
            Figure(f"node: one look at {PODS} pods", middle_ms(look), "ms", most=5.0, note=what),
            Figure("node: /metrics/resource of it", middle_ms(lambda: resource_metrics(sample)), "ms"),
            Figure(
                "node: /stats/summary of it",
                middle_ms(lambda: msgspec.json.encode(summary(sample, sample))), "ms",
            ),
            Figure("member: reading it", middle_ms(lambda: parse(scraped)), "ms", most=5.0),
        ]  # fmt: skip


def of_the_member() -> list[Figure]:
    held, entries = Held(SystemClock()), []
    scrapes: dict[str, list[dict[tuple[str, str], dict[str, Point]]]] = {}
    for number in range(FLEET):
        name, node = f"web-{number:05}", f"node-{number // PODS}"
        document = {
            "metadata": {"name": name, "namespace": "demo", "labels": {"app": "web"}},
            "spec": {"nodeName": node},
        }
        entries.append(Entry(f"demo/{name}", orjson.dumps(document), 1, pod=True))
        both = scrapes.setdefault(node, [{}, {}])
        for turn, points in enumerate(both):
            point = Point(1000.0 + 15 * turn, 123_456_789 * (turn + 1), 4 << 20, 1.0)
            points["demo", name] = {"c": point}
    for node, turns in scrapes.items():
        for turn, points in enumerate(turns):
            held.heard(node, Scrape(Point(1000.0 + 15 * turn, 0, 0), points))
    made = [held.pod(entry) for entry in entries]
    assert all(made)
    spent = middle_ms(lambda: [held.pod(entry) for entry in entries])
    return [Figure(f"member: PodMetrics of {FLEET:,} pods", spent, "ms")]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    _ = options.add_argument("--json", default="")
    hand_over([*of_the_node(), *of_the_member()], options.parse_args().json)


if __name__ == "__main__":
    main()
