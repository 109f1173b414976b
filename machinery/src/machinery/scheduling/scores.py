"""How well a pod fits: the scores of kube-scheduler 1.36, each 0..100, with their weights.

What of a score depends on the nodes' own facts alone is worked out once for a class of pods (`StaticScores`): a walk over
a thousand nodes is for the first pod of a ReplicaSet, not for each.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from machinery.api.core import Node, Pod
from machinery.scheduling import affinity, spread
from machinery.scheduling.affinity import NamespaceLabels
from machinery.scheduling.filters import CLASSES_KEPT_MAX, class_key
from machinery.scheduling.resources import CPU, MEMORY
from machinery.scheduling.selection import Matcher, term_matches
from machinery.scheduling.snapshot import Ints, Mask, PodInfo, Snapshot
from machinery.scheduling.tolerations import tolerates

WEIGHTS = {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "NodeResourcesFit": 1,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    "NodeResourcesBalancedAllocation": 1,
    "ImageLocality": 1,
}
MIB = 1024 * 1024
IMAGE_MIN_BYTES = 23 * MIB
IMAGE_MAX_BYTES = 1000 * MIB


@dataclass(frozen=True, slots=True)
class Context:
    """What a score may look at besides the nodes."""

    namespaces: NamespaceLabels = field(default_factory=dict)
    owner_selector: Matcher | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """By row: soft taints not tolerated, weight of preferred node affinity (None without terms), score of images."""

    generation: int
    intolerable: Ints
    preferred: Ints | None
    images: Ints


class StaticScores:
    """NodeFacts, one per class of pods, kept while no node's facts change."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, NodeFacts] = OrderedDict()

    def __call__(self, pod: Pod, snapshot: Snapshot) -> NodeFacts:
        key = class_key(pod)
        known = self._known.get(key)
        if known is None or known.generation != snapshot.generation:
            known = self._known[key] = NodeFacts(
                snapshot.generation,
                np.array([_intolerable(pod, node) for node in snapshot.nodes], np.int64),
                _preferred(pod, snapshot),
                _images(pod, snapshot),
            )
            if len(self._known) > CLASSES_KEPT_MAX:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return known


def scores(
    info: PodInfo, snapshot: Snapshot, feasible: Mask, context: Context, static: StaticScores
) -> dict[str, Ints]:
    """Weighted scores by plugin, one number a row; rows that are not feasible hold no meaning."""
    facts = static(info.pod, snapshot)
    found: dict[str, Ints | None] = {
        "TaintToleration": _taints(facts.intolerable, feasible),
        "NodeAffinity": _node_affinity(facts.preferred, feasible),
        "NodeResourcesFit": least_allocated(info, snapshot),
        "PodTopologySpread": spread.soft_score(info, snapshot, feasible, context.owner_selector),
        "InterPodAffinity": affinity.preferred_score(info, snapshot, feasible, context.namespaces),
        "NodeResourcesBalancedAllocation": balanced(info, snapshot),
        "ImageLocality": facts.images,
    }
    return {name: value * WEIGHTS[name] for name, value in found.items() if value is not None}


def least_allocated(info: PodInfo, snapshot: Snapshot) -> Ints:
    """The emptier the better: mean of free shares of CPU and memory."""
    offered = snapshot.allocatable[
        :, :2
    ]  # CPU and memory are the first two columns, as in `scored`
    free = np.maximum(offered - snapshot.scored - np.array(info.scored, np.int64), 0)
    shares = free * 100 // np.maximum(offered, 1)
    weight = (offered > 0).sum(axis=1)
    found: Ints = shares.sum(axis=1) // np.maximum(weight, 1)
    return found


def balanced(info: PodInfo, snapshot: Snapshot) -> Ints | None:
    """Nodes whose CPU and memory are used evenly with the pod, against how even they are without it."""
    if not info.requests.get(CPU) and not info.requests.get(MEMORY):
        return None
    with_pod = _evenness(info, snapshot, 1)
    return 50 + (50 + with_pod - _evenness(info, snapshot, 0)) // 2


def _evenness(info: PodInfo, snapshot: Snapshot, times: int) -> Ints:
    shares = []
    for name in (CPU, MEMORY):
        column = snapshot.columns[name]
        offered = snapshot.allocatable[:, column]
        used = snapshot.used[:, column] + times * info.requests.get(name, 0)
        shares.append(np.where(offered > 0, np.minimum(used / np.maximum(offered, 1), 1.0), np.nan))
    cpu, memory = shares
    deviation = np.abs(cpu - memory) / 2
    deviation = np.where(np.isnan(deviation), 0.0, deviation)
    return ((1 - deviation) * 100).astype(np.int64)


def _taints(soft: Ints, feasible: Mask) -> Ints:
    highest = int(soft[feasible].max()) if feasible.any() else 0
    if highest == 0:
        return np.full(len(soft), 100, np.int64)
    return 100 - 100 * soft // highest


def _intolerable(pod: Pod, node: Node) -> int:
    if not node.spec.taints:
        return 0
    relevant = tuple(
        t for t in pod.spec.tolerations if not t.effect or t.effect == "PreferNoSchedule"
    )
    return sum(
        1 for t in node.spec.taints if t.effect == "PreferNoSchedule" and not tolerates(relevant, t)
    )


def _preferred(pod: Pod, snapshot: Snapshot) -> Ints | None:
    node_affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    terms = (
        node_affinity.preferred_during_scheduling_ignored_during_execution if node_affinity else ()
    )
    if not terms:
        return None
    return np.array(
        [
            sum(
                t.weight
                for t in terms
                if term_matches(t.preference, node.metadata.name, node.metadata.labels)
            )
            for node in snapshot.nodes
        ],
        np.int64,
    )


def _node_affinity(raw: Ints | None, feasible: Mask) -> Ints | None:
    if raw is None:
        return None
    highest = int(raw[feasible].max()) if feasible.any() else 0
    return raw * 100 // highest if highest else np.zeros(len(raw), np.int64)


def _images(pod: Pod, snapshot: Snapshot) -> Ints:
    wanted = [normalised_image(c.image) for c in (*pod.spec.init_containers, *pod.spec.containers)]
    total = np.zeros(len(snapshot), np.float64)
    for image in wanted:
        sizes = np.array([_image_size(node, image) for node in snapshot.nodes], np.float64)
        holders = np.flatnonzero(sizes)
        if len(holders):
            # One image has one size: upstream keeps what the first node said of it.
            total[holders] += int(sizes[holders[0]] * (len(holders) / len(snapshot)))
    highest = IMAGE_MAX_BYTES * max(1, len(wanted))
    clipped = np.clip(total, IMAGE_MIN_BYTES, highest)
    return (100 * (clipped - IMAGE_MIN_BYTES) / (highest - IMAGE_MIN_BYTES)).astype(np.int64)


def _image_size(node: Node, image: str) -> int:
    for held in node.status.images:
        if image in held.names:
            return held.size_bytes
    return 0


def normalised_image(image: str) -> str:
    """A name without tag or digest means `:latest`."""
    tail = image.rsplit("/", 1)[-1]
    return image if ":" in tail or "@" in tail else image + ":latest"
