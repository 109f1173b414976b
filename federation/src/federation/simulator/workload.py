"""A Deployment (or a Gadget) as a member runs it, in few words: pods that become ready after a while, or never. Pure.

Of the real controllers only what the federation sees is kept: generation and observedGeneration, the counts, the two
conditions; a rollout that makes one new pod above the wanted number, takes an old one away when the new one is ready, and may
do with a quarter less. A pod becomes ready some time after it has a node (`federation.simulator.nodes`), and without one never.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, NamedTuple

from federation.simulator.kinds import GADGET, SIZED
from machinery.meta.resource import Document

BROKEN_IMAGE = "whoami:broken"
"""An image whose pods never become ready."""
READY_S = (1.0, 4.0)
BEAT_S = 1.0
"""Pods become ready on a beat, as probes have it: several at once make one report."""
DEADLINE_S = 20.0
"""A rollout that takes longer is called failed (upstream's default is 600 s; histories are shorter)."""
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class ModelPod:
    """One pod: which template, from when it is ready, and what the member's wall clock shows then."""

    version: str
    ready_at: float
    ready_wall: str = ""
    uid: str = ""
    bound: bool = True
    """Whether it has a node."""

    def ready(self, now: float) -> bool:
        return self.ready_at <= now


@dataclass(frozen=True, slots=True)
class Running:
    """What the member's control plane knows of one Deployment. `manifest` is the spec as it was applied."""

    manifest: Document
    generation: int = 1
    observed: int = 0
    changed_at: float = 0.0
    pods: tuple[ModelPod, ...] = field(default=())

    @property
    def wanted(self) -> int:
        return wanted_of(self.manifest)

    @property
    def version(self) -> str:
        return image_of(self.manifest)


def wanted_of(manifest: Document) -> int:
    """How many replicas the object asks for."""
    return int(manifest["spec"].get(SIZED[manifest["kind"]], 1))


def image_of(manifest: Document) -> str:
    """The template's identity: in a history only the image changes."""
    if manifest["kind"] == GADGET:
        return str(manifest["spec"]["image"])
    return str(manifest["spec"]["template"]["spec"]["containers"][0]["image"])


def applied(held: Running | None, manifest: Document, now: float) -> Running:
    """After a server-side apply: the generation grows with the spec only."""
    if held is None:
        return Running(manifest, changed_at=now)
    if held.manifest["spec"] == manifest["spec"]:
        return replace(held, manifest=manifest)
    return replace(held, manifest=manifest, generation=held.generation + 1, changed_at=now)


def step(held: Running, now: float, uid: Callable[[], str]) -> Running:
    """One pass of the member's controllers. `uid` names a new pod."""
    wanted, version = held.wanted, held.version
    least = max(wanted - wanted // 4, 0)
    old = [pod for pod in held.pods if pod.version != version]
    new = [pod for pod in held.pods if pod.version == version][:wanted]
    while old and len(old) + sum(pod.ready(now) for pod in new) > least:
        old.pop()  # as many leave as new ones stand
    surge = 1 if old else wanted
    room = wanted + surge - len(old) - len(new)
    for _ in range(max(0, min(room, wanted - len(new)))):
        new.append(ModelPod(version, NEVER, uid=uid(), bound=False))
    return replace(held, observed=held.generation, pods=(*old, *new))


def bound(
    pod: ModelPod, now: float, roll: Callable[[], float], wall: Callable[[float], str]
) -> ModelPod:
    """The pod has a node now. `wall` is what the wall clock shows at a time of `now`'s kind."""
    at = _ready_at(pod.version, now, roll)
    return replace(pod, ready_at=at, ready_wall=wall(at) if at < NEVER else "", bound=True)


def _ready_at(version: str, now: float, roll: Callable[[], float]) -> float:
    if version == BROKEN_IMAGE:
        return NEVER
    least, most = READY_S
    due = now + least + (most - least) * roll()
    return ceil(due / BEAT_S) * BEAT_S


def power_lost(held: Running) -> Running:
    """All pods are gone; the member's store is not."""
    return replace(held, pods=())


class Counts(NamedTuple):
    """Pods, those of the newest version, ready ones; and those that are being deleted, which are in none of these."""

    pods: int
    newest: int
    ready: int
    terminating: int = 0


def counts_of(held: Running, now: float) -> Counts:
    """What stands of it."""
    newest = sum(pod.version == held.version for pod in held.pods)
    return Counts(len(held.pods), newest, sum(pod.ready(now) for pod in held.pods))


def next_change(held: Running, now: float, counts: Counts) -> float | None:
    """Seconds until a pod becomes ready or the rollout is called failed; None when nothing will happen."""
    times = [pod.ready_at - now for pod in held.pods if now < pod.ready_at < NEVER]
    late = held.changed_at + DEADLINE_S - now
    if late > 0 and not settled(held, counts):
        times.append(late)
    return max(0.01, min(times)) if times else None


def settled(held: Running, counts: Counts) -> bool:
    """Whether the newest version runs, ready, in the wanted number, and no other does."""
    return held.observed == held.generation and counts[:3] == (held.wanted,) * 3


def live(held: Running, now: float, counts: Counts) -> Document:
    """The object as the member's API shows it."""
    metadata = held.manifest["metadata"] | {"generation": held.generation}
    return held.manifest | {"metadata": metadata, "status": status(held, now, counts)}


def status(held: Running, now: float, counts: Counts) -> Document:
    """DeploymentStatus; of Gadgets the two counts that their controller tells."""
    pods, newest, ready, terminating = counts
    if held.manifest["kind"] == GADGET:
        return {"replicas": pods, "readyReplicas": ready}
    told = {
        "replicas": pods,
        "updatedReplicas": newest,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, held.wanted - ready),
        "terminatingReplicas": terminating,
    }
    return {
        "observedGeneration": held.observed,
        **{name: count for name, count in told.items() if count},
        "conditions": _conditions(held, counts, now),
    }


def _conditions(held: Running, counts: Counts, now: float) -> list[dict[str, Any]]:
    ready = counts.ready
    needed = held.wanted - max(1, held.wanted // 4) if held.wanted > 1 else held.wanted
    enough = ready >= needed
    if settled(held, counts):
        progressing = ("True", "NewReplicaSetAvailable")
    elif now >= held.changed_at + DEADLINE_S:
        progressing = ("False", "ProgressDeadlineExceeded")
    else:
        progressing = ("True", "ReplicaSetUpdated")
    available = {"type": "Available", "status": "True" if enough else "False", "reason": "Counted"}
    if enough and (since := sorted((p.ready_at, p.ready_wall) for p in held.pods if p.ready(now))):
        available["lastTransitionTime"] = since[min(len(since), max(1, needed)) - 1][1]
    return [
        available,
        {"type": "Progressing", "status": progressing[0], "reason": progressing[1]},
    ]
