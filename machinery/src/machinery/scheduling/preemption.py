"""Preemption: which pods of lower priority would have to go (KEP-268), and the words when none can.

Victims are chosen on a copy of one row: all lower pods are taken out, then put back from the most important down as
long as the pod still fits. Among nodes: lowest top victim, smallest sum of priorities, fewest victims, latest start.
"""

import datetime as dt
from collections import Counter
from dataclasses import dataclass

from machinery.scheduling.decide import Decider, Refused
from machinery.scheduling.filters import Rejection
from machinery.scheduling.scores import Context
from machinery.scheduling.snapshot import PodInfo, Snapshot

NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NEVER = "preemption: not eligible due to preemptionPolicy=Never."
ON_ITS_WAY = "preemption: not eligible due to a terminating pod on the nominated node."
PRIORITY_OFFSET = 2**31
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Nominated:
    """The node that becomes free once the victims are gone."""

    node: str
    victims: tuple[PodInfo, ...]


@dataclass(frozen=True, slots=True)
class Helpless:
    """Nothing to gain; `message` goes behind the filter's sentence."""

    message: str


def preempt(
    info: PodInfo, refused: Refused, decider: Decider, context: Context
) -> Nominated | Helpless:
    """The victims that make room for a pod that fits nowhere."""
    snapshot = decider.snapshot
    if info.pod.spec.preemption_policy == "Never":
        return Helpless(NEVER)
    if not refused.rejections:
        return Helpless("")
    if _waits(info, snapshot):
        return Helpless(ON_ITS_WAY)
    candidates: list[Nominated] = []
    words: Counter[str] = Counter()
    for name, rejection in refused.rejections.items():
        found = _on_node(info, name, rejection, decider, context)
        if isinstance(found, Nominated):
            candidates.append(found)
        else:
            words.update(found)
    if candidates:
        return min(candidates, key=_cost)
    parts = sorted(f"{count} {text}" for text, count in words.items())
    total = len(refused.rejections)
    return Helpless(f"preemption: 0/{total} nodes are available: {', '.join(parts)}.")


def _waits(info: PodInfo, snapshot: Snapshot) -> bool:
    row = snapshot.row(info.pod.status.nominated_node_name)
    if row is None:
        return False
    return any(
        other.terminating and other.pod.spec.priority < info.pod.spec.priority
        for other in snapshot.pods[row].values()
    )


def _on_node(
    info: PodInfo, name: str, rejection: Rejection, decider: Decider, context: Context
) -> Nominated | tuple[str, ...]:
    snapshot = decider.snapshot
    row = snapshot.row(name)
    if row is None or not rejection.resolvable:
        return (NOT_HELPFUL,)
    lower = [p for p in snapshot.pods[row].values() if p.pod.spec.priority < info.pod.spec.priority]
    if not lower:
        return (NO_VICTIMS,)
    lower.sort(key=_importance)
    removed: list[PodInfo] = []
    try:
        for pod in lower:
            snapshot.remove_pod(pod.uid)
            removed.append(pod)
        still = _rejection(info, row, decider, context)
        if still is not None:
            return still.reasons
        victims = []
        for pod in lower:
            snapshot.add_pod(pod, name)
            removed.remove(pod)
            if _rejection(info, row, decider, context) is not None:
                snapshot.remove_pod(pod.uid)
                removed.append(pod)
                victims.append(pod)
        return Nominated(name, tuple(victims))
    finally:
        for pod in removed:
            snapshot.add_pod(pod, name)


def _rejection(info: PodInfo, row: int, decider: Decider, context: Context) -> Rejection | None:
    for verdict in decider.verdicts(info, context):
        if not verdict.mask[row]:
            return verdict.reason(row)
    return None


def _started(pod: PodInfo) -> dt.datetime:
    return pod.pod.status.start_time or EPOCH


def _importance(pod: PodInfo) -> tuple[int, dt.datetime]:
    """The more important first: priority, then the longer running."""
    return -pod.pod.spec.priority, _started(pod)


def _cost(candidate: Nominated) -> tuple[int, int, int, float]:
    priorities = [victim.pod.spec.priority for victim in candidate.victims]
    top = max(priorities)
    earliest = min(_started(v) for v in candidate.victims if v.pod.spec.priority == top)
    total = sum(priority + PRIORITY_OFFSET for priority in priorities)
    return top, total, len(priorities), -earliest.timestamp()
