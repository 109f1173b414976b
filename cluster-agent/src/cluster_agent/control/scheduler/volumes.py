"""Pods with claims: where their volumes can be reached, and which volumes their claims get there. Pure.

A claim that is bound holds its pod to the nodes of its volume. One whose class waits for the first consumer goes with the pod:
the free volume that suits it best on that node, or one that is made there. All other claims have to be bound first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from cluster_agent.control.controllers.persistentvolume.binding import claim_volume
from cluster_agent.control.controllers.volumeprotection import CLAIMS
from machinery.api.core import Node, Pod
from machinery.api.local_volumes import LOCAL_FOLDER, LOCAL_PROVISIONER, SELECTED_NODE, notes_of
from machinery.controller.action import Action, Patch
from machinery.meta.resource import Document, ObjectKey, document_key
from machinery.scheduling.claims import (
    NO_PROVISIONER,
    class_of,
    find_volume,
    has_volume_for,
    is_bound_claim,
    is_delayed,
    is_on_node,
)
from machinery.scheduling.decide import NO_NODES, Decider, Placed, Refused
from machinery.scheduling.filters import Rejection, Verdict
from machinery.scheduling.scores import Context
from machinery.scheduling.snapshot import PodInfo

UNBOUND_IMMEDIATE: Final = "pod has unbound immediate PersistentVolumeClaims"
ELSEWHERE: Final = "node(s) didn't match PersistentVolume's node affinity"
NONE_FREE: Final = "node(s) didn't find available persistent volumes to bind"
OTHER_ZONE: Final = "node(s) had no available volume zone"
NO_SUCH_VOLUME: Final = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
ONE_POD_ONLY: Final = (
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
)
_PLACES: Final = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


def claim_keys(pod: Pod) -> list[ObjectKey]:
    """The claims that a pod names."""
    return [
        ObjectKey(pod.metadata.namespace, volume.persistent_volume_claim.claim_name)
        for volume in pod.spec.volumes
        if volume.persistent_volume_claim is not None
    ]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the claims of a pod get on its node: free volumes, or volumes that are made there."""

    found: Sequence[tuple[Document, Document]] = ()
    """(claim, volume)."""
    made: Sequence[Document] = ()
    """Claims."""

    def actions(self, node: str) -> list[Action]:
        """The writes that say so; the binder of volumes does the rest."""
        marks = {"metadata": {"annotations": {SELECTED_NODE: node}}}
        return [
            *(one for claim, volume in self.found for one in claim_volume(claim, volume)),
            *(
                Patch(CLAIMS, document_key(claim), marks, uid=claim["metadata"]["uid"])
                for claim in self.made
                if notes_of(claim).get(SELECTED_NODE) != node
            ),
        ]


@dataclass(slots=True)
class _Wants:
    """The claims of one pod, sorted by what they ask of a node."""

    bound: list[Document] = field(default_factory=list)
    """Volumes."""
    delayed: list[Document] = field(default_factory=list)
    """Claims that get their volume with the node."""
    fault: str = ""
    """Why no node will do."""
    missing: bool = False
    """A volume that is bound is not there."""


class Volumes:
    """Claims, volumes, classes and nodes as they are now; kept up by whoever watches them."""

    def __init__(self) -> None:
        self.claims: dict[ObjectKey, Document] = {}
        self.volumes: dict[str, Document] = {}
        self.classes: dict[str, Document] = {}
        self._nodes: dict[str, tuple[Mapping[str, str], str]] = {}
        self._assumed: dict[str, str] = {}
        """Volume -> uid of the claim that is to have it."""

    def set_node(self, name: str, node: Node | None) -> bool:
        """Whether something that volumes depend on has changed."""
        before = self._nodes.get(name)
        if node is None:
            self._nodes.pop(name, None)
            return before is not None
        metadata = node.metadata
        fresh = self._nodes[name] = (metadata.labels, metadata.annotations.get(LOCAL_FOLDER, ""))
        return before != fresh

    def assume(self, choice: Choice) -> None:
        """Give these volumes to nobody else."""
        for claim, volume in choice.found:
            self._assumed[volume["metadata"]["name"]] = claim["metadata"]["uid"]

    def forget(self, choice: Choice) -> None:
        """They are written down, or free again."""
        for _, volume in choice.found:
            self._assumed.pop(volume["metadata"]["name"], None)

    # -------------------------------------------------------------------------------------------------------- deciding
    def refusal(self, pod: Pod) -> str:
        """Why no node will do; empty if some may."""
        return self._wants(pod).fault

    def _wants(self, pod: Pod) -> _Wants:
        wants = _Wants()
        for key in claim_keys(pod):
            claim = self.claims.get(key)
            fault = self._fault(key, claim)
            if claim is None or fault:
                return _Wants(fault=fault)
            if is_bound_claim(claim):
                volume = self.volumes.get(claim["spec"]["volumeName"])
                if volume is None:
                    wants.missing = True
                else:
                    wants.bound.append(volume)
            elif claim["spec"].get("volumeName") or not is_delayed(self._class(claim)):
                wants.fault = UNBOUND_IMMEDIATE
            else:
                wants.delayed.append(claim)
        return wants

    def _fault(self, key: ObjectKey, claim: Document | None) -> str:
        named = f'persistentvolumeclaim "{key.name}"'
        if claim is None:
            return f"{named} not found"
        if claim["metadata"].get("deletionTimestamp"):
            return f"{named} is being deleted"
        if (claim.get("status") or {}).get("phase") == "Lost":
            volume = claim["spec"].get("volumeName") or ""
            return f'{named} bound to non-existent persistentvolume "{volume}"'
        return ""

    def _class(self, claim: Document) -> Document | None:
        return self.classes.get(class_of(claim))

    def rejections(self, pod: Pod, names: Sequence[str]) -> list[Rejection | None]:
        """For each node why the pod's volumes keep it out."""
        wants = self._wants(pod)
        return [self._rejection(wants, name) for name in names]

    def _rejection(self, wants: _Wants, name: str) -> Rejection | None:
        labels, _ = self._nodes.get(name, ({}, ""))
        reasons = []
        if wants.missing:
            reasons.append(NO_SUCH_VOLUME)
        if any(not is_on_node(volume, name, labels) for volume in wants.bound):
            reasons.append(ELSEWHERE)
        if wants.delayed and self._choose(wants, name) is None:
            reasons.append(NONE_FREE)
        if not reasons and any(_other_zone(volume, labels) for volume in wants.bound):
            reasons.append(OTHER_ZONE)
        return Rejection(tuple(reasons)) if reasons else None

    def choose(self, pod: Pod, node: str) -> Choice | None:
        """What the pod's claims get on the node; None if they get nothing there (any more)."""
        return self._choose(self._wants(pod), node)

    def _choose(self, wants: _Wants, name: str) -> Choice | None:
        labels, _ = self._nodes.get(name, ({}, ""))
        found: list[tuple[Document, Document]] = []
        made: list[Document] = []
        for claim in wants.delayed:
            chosen = notes_of(claim).get(SELECTED_NODE)
            if chosen and chosen != name:
                return None  # being made somewhere else
            uid = claim["metadata"]["uid"]
            taken = {one for one, whose in self._assumed.items() if whose != uid}
            taken |= {volume["metadata"]["name"] for _, volume in found}
            volume = None
            if not chosen:
                volumes = self.volumes.values()
                volume = find_volume(claim, volumes, node=(name, labels), delayed=True, taken=taken)
            if volume is not None:
                found.append((claim, volume))
            elif self._can_make(claim, name):
                made.append(claim)
            else:
                return None
        return Choice(tuple(found), tuple(made))

    def _can_make(self, claim: Document, name: str) -> bool:
        """Whether a volume can be made on the node."""
        found = self._class(claim)
        if found is None or found["provisioner"] == NO_PROVISIONER:
            return False
        labels, folder = self._nodes.get(name, ({}, ""))
        if found["provisioner"] == LOCAL_PROVISIONER and not folder:
            return False
        terms = found.get("allowedTopologies") or ()
        return not terms or any(_is_in(term, labels) for term in terms)

    # --------------------------------------------------------------------------------------------------------- waiting
    def unbound(self, choice: Choice) -> Iterator[Document | None]:
        """The claims of a choice that are not bound yet, as they are now; None: one is gone."""
        for claim in (*(claim for claim, _ in choice.found), *choice.made):
            now = self.claims.get(document_key(claim))
            if now is None or now["metadata"]["uid"] != claim["metadata"]["uid"]:
                yield None
            elif not is_bound_claim(now):
                yield now

    def is_lost(self, choice: Choice) -> bool:
        """Whether a volume that was found has become somebody else's."""
        found = ((self.volumes.get(v["metadata"]["name"]), claim) for claim, v in choice.found)
        return any(
            now is not None and now["spec"].get("claimRef") and not has_volume_for(now, claim)
            for now, claim in found
        )


def _other_zone(volume: Document, labels: Mapping[str, str]) -> bool:
    """Whether the volume's labels name zones or regions that a node with such labels is not in (`a__b`: either)."""
    if not any(key in labels for key in _PLACES):
        return False
    held = volume["metadata"].get("labels") or {}
    return any(key in held and labels.get(key) not in held[key].split("__") for key in _PLACES)


def _is_in(term: Document, labels: Mapping[str, str]) -> bool:
    return all(
        labels.get(one["key"]) in one["values"] for one in term.get("matchLabelExpressions") or ()
    )


class VolumeDecider(Decider):
    """Decides pods with claims as well; all others exactly as the decider that it is made of."""

    volumes: Volumes | None = None

    def decide(self, info: PodInfo, context: Context, *, explain: bool = False) -> Placed | Refused:
        volumes = self.volumes
        if volumes is None or not claim_keys(info.pod):
            return super().decide(info, context, explain=explain)
        if not len(self.snapshot):
            return Refused(NO_NODES)
        if fault := volumes.refusal(info.pod):
            rejection = Rejection((fault,))
            names = self.snapshot.names
            message = f"0/{len(names)} nodes are available: {fault}."
            return Refused(message, dict.fromkeys(names, rejection))
        return self.decide_by(self.verdicts(info, context), info, context, explain=explain)

    def decide_by(
        self, verdicts: list[Verdict], info: PodInfo, context: Context, *, explain: bool
    ) -> Placed | Refused:
        """What the verdicts leave."""
        feasible = np.logical_and.reduce([verdict.mask for verdict in verdicts])
        if not feasible.any():
            return self._refuse(verdicts)
        return self._pick(info, feasible, context, explain=explain)

    def verdicts(self, info: PodInfo, context: Context) -> list[Verdict]:
        """In kube-scheduler's order: volumes after resources, before spreading and affinity."""
        found = super().verdicts(info, context)
        if self.volumes is None or not claim_keys(info.pod):
            return found
        behind = 3 if info.ports else 2
        mine = [self._one_pod_only(info), self._reachable(info, self.volumes)]
        return [*found[:behind], *(one for one in mine if one is not None), *found[behind:]]

    def _reachable(self, info: PodInfo, volumes: Volumes) -> Verdict:
        rejections = volumes.rejections(info.pod, self.snapshot.names)
        mask = np.fromiter((r is None for r in rejections), np.bool_, len(rejections))
        return Verdict(mask, lambda row: rejections[row] or Rejection((NONE_FREE,)))

    def _one_pod_only(self, info: PodInfo) -> Verdict | None:
        """ReadWriteOncePod: no second pod anywhere."""
        assert self.volumes is not None
        exclusive = {
            key
            for key in claim_keys(info.pod)
            if (claim := self.volumes.claims.get(key)) is not None
            and "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ())
        }
        if not exclusive:
            return None
        taken = any(
            exclusive.intersection(claim_keys(other.pod))
            for pods in self.snapshot.pods
            for other in pods.values()
            if other.uid != info.uid
        )
        mask = np.full(len(self.snapshot), not taken, np.bool_)
        return Verdict(mask, lambda _row: Rejection((ONE_POD_ONLY,), True))
