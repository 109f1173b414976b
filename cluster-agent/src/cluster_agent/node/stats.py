"""What a node and its pods use: samples of counters, and rates between them.

A sample is one look at all counters of a node at one moment. Nothing is measured unless somebody asks: whoever does gets a
sample that is a second old at most, so that many who ask cost no more than one. The rate of CPU is the mean between two
samples; a counter that went back (a container that was started anew, a machine that was restarted) has none until the next.

Which counters there are, and what they are called in public, is upstream's (kubelet's stats/v1alpha1 Summary and its resource
metrics): see `stats_views`.
"""

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster_agent.node.kubelet.podworker import PodWorker
from machinery.api.core import Pod
from machinery.kit.clock import Clock

FRESH_S = 1.0
"""A sample that old is given again."""
BASE_MIN_S, BASE_MAX_S = 5.0, 120.0
"""How far back the sample lies that a rate is counted from."""
KEPT_MAX = 8
"""So a rate is known also to one who asks every second; 8 samples of 110 pods are a megabyte."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of one control group or machine."""

    cpu_ns: int
    """CPU time since it began."""
    memory: int = 0
    """Bytes, caches included."""
    working_set: int = 0
    """Bytes less the file pages that the kernel would take back first."""
    rss: int = 0
    """Bytes that belong to no file."""


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """A running container."""

    name: str
    id: str
    started_at: dt.datetime


@dataclass(frozen=True, slots=True)
class PodRef:
    """A pod with running containers."""

    pod: Pod
    containers: tuple[ContainerRef, ...]

    @property
    def uid(self) -> str:
        return self.pod.metadata.uid


@dataclass(frozen=True, slots=True)
class ContainerSample:
    """One container at the sample's moment."""

    ref: ContainerRef
    reading: Reading


@dataclass(frozen=True, slots=True)
class PodSample:
    """One pod; its memory is its containers'. `cpu_ns` counts those that have ended, too."""

    ref: PodRef
    cpu_ns: int
    containers: tuple[ContainerSample, ...]

    @property
    def memory(self) -> Reading:
        """The containers together."""
        readings = [one.reading for one in self.containers]
        return Reading(
            self.cpu_ns,
            sum(r.memory for r in readings),
            sum(r.working_set for r in readings),
            sum(r.rss for r in readings),
        )


@dataclass(frozen=True, slots=True)
class NodeSample:
    """Everything, at one moment. `monotonic` is the clock by which rates are counted."""

    node: str
    at: dt.datetime
    monotonic: float
    started_at: dt.datetime | None
    reading: Reading | None
    memory_total: int = 0
    pods: tuple[PodSample, ...] = ()


class Meter(Protocol):
    """Reads counters; may block, and is called in a thread. What cannot be read is None."""

    def node(self) -> Reading | None:
        """The machine."""
        ...

    def pod(self, ref: PodRef) -> int | None:
        """CPU time of the whole pod, in ns."""
        ...

    def container(self, pod: PodRef, ref: ContainerRef) -> Reading | None:
        """One container."""
        ...

    def settle(self, pods: Sequence[PodRef]) -> None:
        """After a pass over these pods: forget all others."""
        ...


# ------------------------------------------------------------------------------------------------------------------ pure
def rate(before: int, after: int, seconds: float) -> int | None:
    """Nanocores: ns of CPU a second. None where the counter went back, or no time has passed."""
    if after < before or seconds <= 0:
        return None
    return round((after - before) / seconds)


def base_of(kept: Iterable[NodeSample], now: NodeSample) -> NodeSample | None:
    """The newest sample that is old enough to count from, and not too old."""
    for one in sorted(kept, key=lambda s: -s.monotonic):
        if BASE_MIN_S <= now.monotonic - one.monotonic <= BASE_MAX_S:
            return one
    return None


def running(workers: Iterable[PodWorker]) -> tuple[PodRef, ...]:
    """The pods that have running containers, as their workers saw them last."""
    found = []
    for worker in workers:
        containers = tuple(
            ContainerRef(record.name, record.id, record.started_at)
            for record in worker.observed.containers
            if record.running and record.started_at is not None
        )
        if containers:
            found.append(PodRef(worker.pod, containers))
    return tuple(found)


def measure(meter: Meter, pods: Sequence[PodRef]) -> tuple[PodSample, ...]:
    """All counters of the pods. A container that went meanwhile is left out, and so is a pod without any."""
    found = []
    for ref in pods:
        containers = []
        for container in ref.containers:
            reading = meter.container(ref, container)
            if reading is not None:
                containers.append(ContainerSample(container, reading))
        if not containers:
            continue
        cpu = meter.pod(ref)
        total = sum(one.reading.cpu_ns for one in containers) if cpu is None else cpu
        found.append(PodSample(ref, total, tuple(containers)))
    meter.settle(pods)
    return tuple(found)


# ----------------------------------------------------------------------------------------------------------------- edges
class Sampler:
    """Samples of one node, taken when asked for."""

    def __init__(
        self,
        node: str,
        meter: Meter,
        workers: Callable[[], Iterable[PodWorker]],
        clock: Clock,
        *,
        started_at: dt.datetime | None = None,
        memory_total: int = 0,
        threaded: bool = True,
    ) -> None:
        """`threaded`: reading may block, so it is done beside the loop."""
        self._node, self._meter, self._workers, self._clock = node, meter, workers, clock
        self._started_at, self._memory_total = started_at, memory_total
        self._threaded = threaded
        self._kept: deque[NodeSample] = deque(maxlen=KEPT_MAX)
        self._turn = asyncio.Lock()

    async def now(self) -> tuple[NodeSample, NodeSample | None]:
        """A fresh sample, and the one that rates count from."""
        async with self._turn:
            newest = self._kept[-1] if self._kept else None
            if newest is None or self._clock.monotonic() - newest.monotonic >= FRESH_S:
                newest = await self._take()
                self._kept.append(newest)
            return newest, base_of(self._kept, newest)

    async def _take(self) -> NodeSample:
        pods = running(self._workers())
        if self._threaded:
            return await asyncio.to_thread(self._look, pods)
        return self._look(pods)

    def _look(self, pods: Sequence[PodRef]) -> NodeSample:
        at, monotonic = self._clock.now(), self._clock.monotonic()
        found = measure(self._meter, pods)
        reading = self._meter.node()
        return NodeSample(
            self._node, at, monotonic, self._started_at, reading, self._memory_total, found
        )
