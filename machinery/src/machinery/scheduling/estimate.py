"""How many replicas of one shape the nodes of a snapshot would take, by the scheduler's own filters. Pure.

Each node takes as many as fit beside what is on it: its taints, cordon, name, labels and affinity are the scheduler's static
filters, its resources and pod count are divided. Replicas of one shape do not get into each other's way but by what they ask
for, so nothing is placed one by one. What is not in the shape (ports, volumes, spread, affinity between pods) cannot be counted.
Nobody is preempted.

Pods that wait for a node are owed room as well, but nobody knows where: as many replicas are taken off as would need the
scarcest part of what they ask for together.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from machinery.api.core import Pod
from machinery.scheduling.decide import NO_NODES
from machinery.scheduling.filters import StaticFilter, class_key, fit_rejection
from machinery.scheduling.resources import PODS, pod_requests
from machinery.scheduling.snapshot import Ints, PodInfo, Snapshot

MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """The answer. `by_node` has the nodes that take any, in their order, before what waiting pods are owed."""

    replicas: int
    by_node: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""


def estimate(
    snapshot: Snapshot, pod: Pod, waiting: Iterable[Pod] = (), wanted: int | None = None
) -> Estimate:
    """For replicas like `pod`. `wanted`: no more are counted."""
    limit = MOST if wanted is None else min(wanted, MOST)
    if not len(snapshot):
        return Estimate(0, reason=NO_NODES if limit else "")
    info = PodInfo(pod)
    verdict = StaticFilter()(pod, class_key(pod), snapshot)
    rooms = np.where(verdict.mask, _rooms(snapshot, info), 0)
    total = min(int(rooms.sum()), MOST)
    replicas = min(limit, max(0, total - _owed(info, waiting)))
    by_node: dict[str, int] = {}
    left = limit
    for row in np.flatnonzero(rooms):
        count = min(left, int(rooms[row]))
        if not count:
            break
        by_node[snapshot.names[row]] = count
        left -= count
    reason = ""
    if replicas < limit:
        rejections = [
            ("node(s) took what fits",)
            if rooms[row]
            else (fit_rejection(info, snapshot, row) if passes else verdict.reason(row)).reasons
            for row, passes in enumerate(verdict.mask)
        ]
        counted = Counter(text for reasons in rejections for text in reasons)
        parts = ", ".join(sorted(f"{count} {text}" for text, count in counted.items()))
        reason = f"{replicas} replicas fit, of {len(snapshot)} nodes: {parts}."
        if total > replicas:
            reason += f" Room for {total - replicas} is left to pods that wait for a node."
    return Estimate(replicas, by_node, reason)


def _rooms(snapshot: Snapshot, info: PodInfo) -> Ints:
    """How often the pod's requests fit, by row."""
    column = snapshot.columns[PODS]
    rooms: Ints = snapshot.allocatable[:, column] - snapshot.used[:, column]
    for name, asked in info.requests.items():
        if asked <= 0:
            continue
        known = snapshot.columns.get(name)
        if known is None:
            return np.zeros(len(snapshot), np.int64)
        free = snapshot.allocatable[:, known] - snapshot.used[:, known]
        rooms = np.minimum(rooms, free // asked)
    rooms[rooms < 0] = 0
    return rooms


def _owed(info: PodInfo, waiting: Iterable[Pod]) -> int:
    """How many of the replicas have the room of what waits."""
    sums: dict[str, int] = {}
    for pod in waiting:
        for name, value in (pod_requests(pod) | {PODS: 1}).items():
            sums[name] = sums.get(name, 0) + value
    needed = [(name, asked) for name, asked in info.requests.items() if asked > 0]
    return max(
        (-(-sums.get(name, 0) // asked) for name, asked in needed), default=sums.get(PODS, 0)
    )
