"""DaemonSet: which pods to make on which nodes, and which to delete. Pure.

`manage` keeps one pod on every node that takes one. `roll` replaces old ones: without surge by deleting as many as may be
unavailable, so that `manage` makes the new ones; with surge by making new ones beside them first. A pod that is not available
may always be replaced, so a broken template never holds up the one that mends it. Of equal nodes the first by name is taken.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cluster_agent.control.controllers.daemonset.limits import is_rolling, limits, may_surge
from cluster_agent.control.controllers.daemonset.placement import (
    GENERATION_LABEL,
    Placement,
    node_of,
    pod_document,
    template_generation,
)
from cluster_agent.control.controllers.pods import available_in, has_ended, is_ready
from cluster_agent.control.controllers.sets import DAEMONSETS, REVISION_HASH_LABEL, DaemonSet
from machinery.api.core import PODS, Node, Pod
from machinery.controller.action import Action, Create, Delete, Emit

BURST_PODS_MAX = 250
"""Pods made or deleted in one pass."""
FAILED = "FailedDaemonPod"


@dataclass(frozen=True, slots=True)
class Sight:
    """What a pass looks at."""

    ds: DaemonSet
    digest: str
    """The hash that pods of the present template carry."""
    nodes: Sequence[Node]
    pods: Mapping[str, Sequence[Pod]]
    """By the node that they are on or meant for, the oldest first."""
    now: dt.datetime
    waits: Mapping[str, float] = field(default_factory=dict)
    """Nodes whose last pods failed -> seconds until the next one may be taken away."""

    def is_new(self, pod: Pod) -> bool:
        """Whether it is of the present template."""
        labels = pod.metadata.labels
        generation = template_generation(self.ds)
        same_generation = bool(generation) and labels.get(GENERATION_LABEL) == generation
        return same_generation or labels.get(REVISION_HASH_LABEL) == self.digest

    def available(self, pod: Pod) -> bool:
        return available_in(pod, self.ds.spec.min_ready_seconds, self.now) == 0.0


@dataclass(slots=True)
class Changes:
    """What is to be done, node by node."""

    make_on: list[str] = field(default_factory=list)
    delete: list[Pod] = field(default_factory=list)
    words: list[Action] = field(default_factory=list)
    failed_on: list[str] = field(default_factory=list)
    """Nodes whose failed pod is deleted."""
    again_s: float | None = None
    """Seconds until a failed pod may be taken away."""

    def __bool__(self) -> bool:
        return bool(self.make_on or self.delete)


def by_node(pods: Sequence[Pod]) -> dict[str, list[Pod]]:
    """Pods by their node, bound ones before the others, then by age; ended ones that are being deleted are left out."""
    found: dict[str, list[Pod]] = {}
    for pod in sorted(pods, key=_age):
        if not (has_ended(pod) and pod.metadata.deletion_timestamp is not None):
            found.setdefault(node_of(pod), []).append(pod)
    return found


def _age(pod: Pod) -> tuple[bool, float, str]:
    created = pod.metadata.creation_timestamp
    return not pod.spec.node_name, created.timestamp() if created else 0.0, pod.metadata.name


def plan(sight: Sight, placement: Placement) -> Changes:
    """What a pass does: manage, and roll where there is nothing to manage."""
    changes = manage(sight, placement)
    if changes:
        return changes
    return replace(roll(sight, placement), again_s=changes.again_s)


# -------------------------------------------------------------------------------------------------------------- manage
def manage(sight: Sight, placement: Placement) -> Changes:
    """One pod on each node that takes one, none elsewhere."""
    changes = Changes()
    known = set()
    for node in sorted(sight.nodes, key=lambda one: one.metadata.name):
        name = node.metadata.name
        known.add(name)
        pods = sight.pods.get(name, ())
        if not pods:
            if placement.wants(node):
                changes.make_on.append(name)
        elif placement.keeps(node):
            _keep_one(sight, name, pods, changes)
        else:
            changes.delete += _staying(pods)
    for name, pods in sight.pods.items():
        if name not in known:
            changes.delete += [pod for pod in _staying(pods) if not pod.spec.node_name]
    return changes


def _staying(pods: Sequence[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod.metadata.deletion_timestamp is None]


def _keep_one(sight: Sight, node: str, pods: Sequence[Pod], changes: Changes) -> None:
    """Ended pods make room for a new one, and of several the oldest stays; with surge an old and a new one."""
    running: list[Pod] = []
    for pod in _staying(pods):
        if pod.status.phase == "Failed":
            _take_away(sight, node, pod, changes)
        elif pod.status.phase == "Succeeded":
            text = "Found succeeded daemon pod {} on node {}, will try to delete it"
            changes.words.append(_told(sight.ds, pod, node, "Normal", "SucceededDaemonPod", text))
            changes.delete.append(pod)
        else:
            running.append(pod)
    if not may_surge(sight.ds):
        changes.delete += running[1:]
    elif len(running) > 1:
        changes.delete += _surplus(sight, running)


def _take_away(sight: Sight, node: str, pod: Pod, changes: Changes) -> None:
    wait = sight.waits.get(node, 0.0)
    if wait > 0:
        changes.again_s = min(wait, changes.again_s if changes.again_s is not None else wait)
        return
    text = "Found failed daemon pod {} on node {}, will try to kill it"
    changes.words.append(_told(sight.ds, pod, node, "Warning", FAILED, text))
    changes.failed_on.append(node)
    changes.delete.append(pod)


def _surplus(sight: Sight, running: Sequence[Pod]) -> list[Pod]:
    """All but the oldest new and the oldest old pod; the old one goes when it is not ready or the new one is available."""
    new = next((pod for pod in running if _has_hash(sight, pod)), None)
    old = next((pod for pod in running if not _has_hash(sight, pod)), None)
    gone = [pod for pod in running if pod is not new and pod is not old]
    if new is not None and old is not None and (not is_ready(old) or sight.available(new)):
        gone.append(old)
    return gone


def _has_hash(sight: Sight, pod: Pod) -> bool:
    return pod.metadata.labels.get(REVISION_HASH_LABEL) == sight.digest


# ---------------------------------------------------------------------------------------------------------------- roll
def roll(sight: Sight, placement: Placement) -> Changes:
    """The next replacements of a rollout, when `manage` has nothing to do."""
    if not is_rolling(sight.ds):
        return Changes()
    wanted = sum(1 for node in sight.nodes if placement.wants(node))
    surge, unavailable = limits(sight.ds, wanted)
    return _surge(sight, placement, surge, wanted) if surge else _replace(sight, unavailable)


def _replace(sight: Sight, most: int) -> Changes:
    missing = 0
    broken: list[Pod] = []
    candidates: list[Pod] = []
    for _, pods in sorted(sight.pods.items()):
        pair = _pair(sight, pods)
        if pair is None:
            missing += 1
            continue
        new, old = pair
        if (new is None) == (old is None):
            missing += 1
        elif new is not None:
            missing += not sight.available(new)
        elif old is not None:
            (candidates if sight.available(old) else broken).append(old)
    left = most - missing - len(broken)
    return Changes(delete=[*broken, *candidates[: max(0, left)]])


def _surge(sight: Sight, placement: Placement, most: int, wanted: int) -> Changes:
    """A pod of a node that takes no new one goes only when so many others are available as are wanted."""
    nodes = {node.metadata.name: node for node in sight.nodes}
    surging = available = 0
    urgent: list[str] = []
    candidates: list[str] = []
    leaving: list[Pod] = []
    changes = Changes()
    for name, pods in sorted(sight.pods.items()):
        pair = _pair(sight, pods)
        if pair is None:
            surging += 1
            continue
        new, old = pair
        counts = old or new
        available += counts is not None and sight.available(counts)
        if old is None:
            continue
        if new is not None:
            if sight.available(new):
                changes.delete.append(old)
            else:
                surging += 1
        elif name in nodes:
            stays, well = placement.wants(nodes[name]), sight.available(old)
            if stays:
                (candidates if well else urgent).append(name)
            else:
                (leaving if well else changes.delete).append(old)
    changes.delete += leaving[: max(0, available - wanted)]
    changes.make_on = [*urgent, *candidates[: max(0, most - surging)]]
    return changes


def _pair(sight: Sight, pods: Sequence[Pod]) -> tuple[Pod | None, Pod | None] | None:
    """The new and the old pod of a node; None where there are several of one sort."""
    staying = _staying(pods)
    new = [pod for pod in staying if sight.is_new(pod)]
    old = [pod for pod in staying if not sight.is_new(pod)]
    if len(new) > 1 or len(old) > 1:
        return None
    return (new[0] if new else None, old[0] if old else None)


# ---------------------------------------------------------------------------------------------------------- to actions
def to_actions(ds: DaemonSet, changes: Changes, digest: str) -> list[Action]:
    """Words, then pods to make, then pods to delete, no more than one pass may."""
    made = [
        Create(PODS, pod_document(ds, node, digest)) for node in changes.make_on[:BURST_PODS_MAX]
    ]
    gone = [Delete(PODS, pod.key, uid=pod.metadata.uid) for pod in changes.delete[:BURST_PODS_MAX]]
    return [*changes.words, *made, *gone]


def is_cut(changes: Changes) -> bool:
    """Whether more is to be done than one pass may."""
    return max(len(changes.make_on), len(changes.delete)) > BURST_PODS_MAX


def _told(ds: DaemonSet, pod: Pod, node: str, kind: str, reason: str, text: str) -> Emit:
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    return emit(ds, kind, reason, text.format(name, node))


def emit(ds: DaemonSet, kind: str, reason: str, text: str) -> Emit:
    return Emit(DAEMONSETS, ds.key, ds.metadata.uid, kind, reason, text)
