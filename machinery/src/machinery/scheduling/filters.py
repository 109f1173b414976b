"""Which nodes a pod can run on, and the sentence for each that it cannot (wording of kube-scheduler 1.36).

A filter gives a mask over the rows and, on demand, the rejection of one row. `resolvable` tells whether evicting other
pods could help (Unschedulable) or could not (UnschedulableAndUnresolvable).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from machinery.api.core import Node, Pod, Taint
from machinery.scheduling.resources import CPU, MEMORY, PODS
from machinery.scheduling.selection import named_nodes, node_selector_matches
from machinery.scheduling.snapshot import Mask, PodInfo, Snapshot
from machinery.scheduling.tolerations import tolerates

CLASSES_KEPT_MAX = 512
UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a node is out."""

    reasons: tuple[str, ...]
    resolvable: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A filter's answer: True rows pass; `reason(row)` explains a False one."""

    mask: Mask
    reason: Callable[[int], Rejection]


UNSCHEDULABLE = Rejection(("node(s) were unschedulable",))
WRONG_NAME = Rejection(("node(s) didn't match the requested node name",))
UNTOLERATED = Rejection(("node(s) had untolerated taint(s)",))
WRONG_AFFINITY = Rejection(("node(s) didn't match Pod's node affinity/selector",))
NOT_NAMED = Rejection(("node(s) didn't satisfy plugin(s) [NodeAffinity]",))
PORTS_TAKEN = Rejection(("node(s) didn't have free ports for the requested pod ports",), True)


def class_key(pod: Pod) -> bytes:
    """Pods with the same key meet the same static filters and scores."""
    spec = pod.spec
    affinity = spec.affinity.node_affinity if spec.affinity is not None else None
    images = tuple(c.image for c in (*spec.init_containers, *spec.containers))
    return msgspec.msgpack.encode(
        (spec.node_name, spec.node_selector, affinity, spec.tolerations, images)
    )


def static_rejection(pod: Pod, node: Node) -> Rejection | None:
    """The filters that look at the node alone, in kube-scheduler's order."""
    spec = pod.spec
    if node.spec.unschedulable and not tolerates(
        spec.tolerations, Taint(key=UNSCHEDULABLE_TAINT, effect="NoSchedule")
    ):
        return UNSCHEDULABLE
    if spec.node_name and spec.node_name != node.metadata.name:
        return WRONG_NAME
    for taint in node.spec.taints:
        if taint.effect in ("NoSchedule", "NoExecute") and not tolerates(spec.tolerations, taint):
            return UNTOLERATED
    return None if matches_affinity(pod, node) else WRONG_AFFINITY


def matches_affinity(pod: Pod, node: Node) -> bool:
    """nodeSelector and the required node affinity."""
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return False
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    if affinity is None:
        return True
    required = affinity.required_during_scheduling_ignored_during_execution
    return required is None or node_selector_matches(required, node.metadata.name, labels)


class StaticFilter:
    """Masks of the static filters, one per class of pods, kept while no node's facts change."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[int, list[Rejection | None], Mask]] = OrderedDict()

    def __call__(self, pod: Pod, key: bytes, snapshot: Snapshot) -> Verdict:
        known = self._known.get(key)
        if known is None or known[0] != snapshot.generation:
            rejections = self._evaluate(pod, snapshot)
            mask = np.fromiter((r is None for r in rejections), np.bool_, len(rejections))
            known = self._known[key] = (snapshot.generation, rejections, mask)
            if len(self._known) > CLASSES_KEPT_MAX:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        _, rejections, mask = known
        return Verdict(mask, lambda row: rejections[row] or WRONG_AFFINITY)

    @staticmethod
    def _evaluate(pod: Pod, snapshot: Snapshot) -> list[Rejection | None]:
        affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
        required = (
            affinity.required_during_scheduling_ignored_during_execution if affinity else None
        )
        named = named_nodes(required)
        return [
            NOT_NAMED
            if named is not None and node.metadata.name not in named
            else static_rejection(pod, node)
            for node in snapshot.nodes
        ]


def ports_filter(info: PodInfo, snapshot: Snapshot) -> Verdict | None:
    """Host ports; None when the pod takes none."""
    if not info.ports:
        return None
    free = [
        not any(
            wanted.clashes(taken)
            for other in pods.values()
            for taken in other.ports
            for wanted in info.ports
        )
        for pods in snapshot.pods
    ]
    return Verdict(np.array(free, np.bool_), lambda row: PORTS_TAKEN)


def fit_filter(info: PodInfo, snapshot: Snapshot) -> Verdict:
    """Resources and the number of pods."""
    room = (
        snapshot.allocatable[:, snapshot.columns[PODS]] > snapshot.used[:, snapshot.columns[PODS]]
    )
    mask = room
    for name, asked in info.requests.items():
        if asked == 0:
            continue
        column = snapshot.columns.get(name)
        if column is None:
            mask = np.zeros(len(snapshot), np.bool_)
            break
        mask = mask & (snapshot.allocatable[:, column] - snapshot.used[:, column] >= asked)
    return Verdict(mask, lambda row: fit_rejection(info, snapshot, row))


def fit_rejection(info: PodInfo, snapshot: Snapshot, row: int) -> Rejection:
    """Every resource that is short on this row; unresolvable when even an empty node is too small."""
    reasons: list[str] = []
    resolvable = True
    pods = snapshot.columns[PODS]
    if snapshot.used[row, pods] + 1 > snapshot.allocatable[row, pods]:
        reasons.append("Too many pods")
    for name in sorted(info.requests, key=lambda n: (n != CPU, n != MEMORY, n)):
        asked = info.requests[name]
        column = snapshot.columns.get(name)
        offered = int(snapshot.allocatable[row, column]) if column is not None else 0
        used = int(snapshot.used[row, column]) if column is not None else 0
        if asked > 0 and asked > offered - used:
            reasons.append(f"Insufficient {name}")
            resolvable = resolvable and asked <= offered
    return Rejection(tuple(reasons), resolvable)


def claims_rejection(pod: Pod) -> str:
    """Pods wait for claims; where no claim is served, none is ever found."""
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            return f'persistentvolumeclaim "{volume.persistent_volume_claim.claim_name}" not found'
    return ""
