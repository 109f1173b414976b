"""A sample as clients ask for it: upstream's Summary as JSON, and its resource metrics as text. Pure.

Only what is measured is there: CPU and memory. File systems, networks, processes and swap are absent, as upstream leaves out
what it cannot measure; `?only_cpu_and_memory=true` asks for no less.
"""

import datetime as dt
from collections.abc import Iterable, Iterator

from cluster_agent.node.stats import NodeSample, PodSample, Reading, rate
from machinery.kit.clock import rfc3339
from machinery.meta.resource import Document

TEXT_TYPE = "text/plain; version=0.0.4"


# --------------------------------------------------------------------------------------------------------------- summary
def summary(now: NodeSample, base: NodeSample | None) -> Document:
    """stats/v1alpha1 Summary; usageNanoCores where there is a sample to count from."""
    seconds = now.monotonic - base.monotonic if base is not None else 0.0
    at = rfc3339(now.at)
    node: Document = {"nodeName": now.node}
    if now.started_at is not None:
        node["startTime"] = rfc3339(now.started_at)
    if now.reading is not None:
        before = base.reading.cpu_ns if base is not None and base.reading is not None else None
        node["cpu"] = _cpu(at, before, now.reading.cpu_ns, seconds)
        node["memory"] = _memory(at, now.reading)
        if now.memory_total:
            free = max(0, now.memory_total - now.reading.working_set)
            node["memory"]["availableBytes"] = free
    earlier = {pod.ref.uid: pod for pod in base.pods} if base is not None else {}
    pods = [_pod(at, earlier.get(pod.ref.uid), pod, seconds) for pod in now.pods]
    return {"node": node, "pods": pods}


def _pod(at: str, before: PodSample | None, pod: PodSample, seconds: float) -> Document:
    metadata = pod.ref.pod.metadata
    earlier = {c.ref.id: c.reading.cpu_ns for c in before.containers} if before is not None else {}
    containers = [
        {
            "name": one.ref.name,
            "startTime": rfc3339(one.ref.started_at),
            "cpu": _cpu(at, earlier.get(one.ref.id), one.reading.cpu_ns, seconds),
            "memory": _memory(at, one.reading),
        }
        for one in pod.containers
    ]
    began = pod.ref.pod.status.start_time or min(c.ref.started_at for c in pod.containers)
    return {
        "podRef": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
        "startTime": rfc3339(began),
        "containers": containers,
        "cpu": _cpu(at, before.cpu_ns if before is not None else None, pod.cpu_ns, seconds),
        "memory": _memory(at, pod.memory),
    }


def _cpu(at: str, before: int | None, after: int, seconds: float) -> Document:
    found: Document = {"time": at, "usageCoreNanoSeconds": after}
    nanocores = None if before is None else rate(before, after, seconds)
    if nanocores is not None:
        found["usageNanoCores"] = nanocores
    return found


def _memory(at: str, reading: Reading) -> Document:
    return {
        "time": at,
        "usageBytes": reading.memory,
        "workingSetBytes": reading.working_set,
        "rssBytes": reading.rss,
    }


# -------------------------------------------------------------------------------------------------------------- /metrics
def resource_metrics(now: NodeSample) -> str:
    """The text of /metrics/resource; each value with the sample's moment, in ms."""
    at = int(now.at.timestamp() * 1000)
    lines: list[str] = []

    def family(name: str, kind: str, about: str, values: Iterable[str]) -> None:
        rows = list(values)
        if rows:
            lines.extend((f"# HELP {name} {about}", f"# TYPE {name} {kind}", *rows))

    family(
        "container_cpu_usage_seconds_total", "counter", "CPU time of a container, in core-seconds.",
        (f"container_cpu_usage_seconds_total{c} {_seconds(r.cpu_ns)} {at}" for c, _, r in _each(now)),
    )  # fmt: skip
    family(
        "container_memory_working_set_bytes", "gauge", "Working set of a container, in bytes.",
        (f"container_memory_working_set_bytes{c} {r.working_set} {at}" for c, _, r in _each(now)),
    )  # fmt: skip
    family(
        "container_start_time_seconds", "gauge", "When a container was started, in seconds of 1970.",
        (f"container_start_time_seconds{c} {start.timestamp():.3f} {at}" for c, start, _ in _each(now)),
    )  # fmt: skip
    if now.reading is not None:
        cpu = f"node_cpu_usage_seconds_total {_seconds(now.reading.cpu_ns)} {at}"
        held = f"node_memory_working_set_bytes {now.reading.working_set} {at}"
        family("node_cpu_usage_seconds_total", "counter", "CPU time of the node, in core-seconds.", [cpu])  # fmt: skip
        family("node_memory_working_set_bytes", "gauge", "Working set of the node, in bytes.", [held])  # fmt: skip
    family(
        "pod_cpu_usage_seconds_total", "counter", "CPU time of a pod, in core-seconds.",
        (f"pod_cpu_usage_seconds_total{_labels(p)} {_seconds(p.cpu_ns)} {at}" for p in now.pods),
    )  # fmt: skip
    family(
        "pod_memory_working_set_bytes", "gauge", "Working set of a pod, in bytes.",
        (f"pod_memory_working_set_bytes{_labels(p)} {p.memory.working_set} {at}" for p in now.pods),
    )  # fmt: skip
    failed = int(now.reading is None)
    about = "1 where something could not be measured, else 0."
    family("resource_scrape_error", "gauge", about, [f"resource_scrape_error {failed}"])
    return "\n".join(lines) + "\n"


def _each(now: NodeSample) -> Iterator[tuple[str, dt.datetime, Reading]]:
    """(labels, start, reading) of every container. Names are DNS labels: nothing in them is escaped."""
    for pod in now.pods:
        metadata = pod.ref.pod.metadata
        rest = f'namespace="{metadata.namespace}",pod="{metadata.name}"}}'
        for one in pod.containers:
            yield f'{{container="{one.ref.name}",{rest}', one.ref.started_at, one.reading


def _labels(pod: PodSample) -> str:
    metadata = pod.ref.pod.metadata
    return f'{{namespace="{metadata.namespace}",pod="{metadata.name}"}}'


def _seconds(ns: int) -> str:
    """Exact: a float of large counters would lose the nanoseconds."""
    return f"{ns // 1_000_000_000}.{ns % 1_000_000_000:09d}"
