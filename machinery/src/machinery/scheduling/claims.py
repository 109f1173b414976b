"""Which volume suits which claim, on documents as the API has them. The binder of volumes and the scheduler ask here.

Of the volumes that suit the smallest is taken, and of volumes with other modes of access those with the fewest first, as
upstream's index has them. One that names the claim in its `claimRef` goes before all others.
"""

from collections.abc import Collection, Iterable
from fractions import Fraction
from typing import Final

import msgspec

from machinery.api.core import LabelSelector, NodeSelector
from machinery.api.local_volumes import notes_of
from machinery.meta.quantity import quantity_of
from machinery.meta.resource import Document
from machinery.scheduling.selection import (
    Labels,
    Matcher,
    compile_selector,
    node_selector_matches,
)

BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER: Final = "pv.kubernetes.io/bound-by-controller"
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
WAIT: Final = "WaitForFirstConsumer"
_OLD_CLASS: Final = "volume.beta.kubernetes.io/storage-class"


def class_of(document: Document) -> str:
    """The class of a claim or a volume; empty: of none."""
    old = notes_of(document).get(_OLD_CLASS)
    if old is not None:
        return old
    return str((document.get("spec") or {}).get("storageClassName") or "")


def is_delayed(found: Document | None) -> bool:
    """Whether claims of this StorageClass wait for their first pod."""
    return found is not None and found.get("volumeBindingMode") == WAIT


def is_bound_claim(claim: Document) -> bool:
    """Whether the claim has its volume, and both have been written."""
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in notes_of(claim)


def has_volume_for(volume: Document, claim: Document) -> bool:
    """Whether the volume's `claimRef` means this claim: by name, and by uid if it has one."""
    reference, metadata = volume["spec"].get("claimRef"), claim["metadata"]
    if not reference:
        return False
    if (reference.get("namespace"), reference.get("name")) != (
        metadata["namespace"],
        metadata["name"],
    ):
        return False
    return not reference.get("uid") or bool(reference["uid"] == metadata["uid"])


def is_on_node(volume: Document, name: str, labels: Labels) -> bool:
    """Whether the volume can be reached from the node."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if not required:
        return True
    return node_selector_matches(msgspec.convert(required, NodeSelector), name, labels)


def unsuited(volume: Document, claim: Document) -> str:
    """Why a volume that a claim asks for by name cannot be its; empty if it can. Upstream's words."""
    if _size(volume["spec"].get("capacity")) < _asked(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _mode(volume) != _mode(claim):
        return "incompatible volumeMode"
    if not _has_modes(volume, claim):
        return "incompatible accessMode"
    return ""


def find_volume(
    claim: Document,
    volumes: Iterable[Document],
    *,
    node: tuple[str, Labels] | None = None,
    delayed: bool = False,
    taken: Collection[str] = (),
) -> Document | None:
    """The volume to bind the claim to, or None.

    `node` (name and labels): only what can be reached from there. `delayed` without a node: only what names the claim.
    `taken`: names of volumes that are given away already.
    """
    groups: dict[tuple[str, ...], list[Document]] = {}
    for volume in volumes:
        if volume["metadata"]["name"] not in taken and _has_modes(volume, claim):
            groups.setdefault(tuple(sorted(volume["spec"]["accessModes"])), []).append(volume)
    for modes in sorted(groups, key=lambda one: (len(one), one)):
        fitting = [one for one in groups[modes] if _fits(one, claim)]
        for volume in fitting:
            if has_volume_for(volume, claim):
                return volume if node is None or is_on_node(volume, *node) else None
        if delayed and node is None:
            continue
        free = [
            volume
            for volume in fitting
            if _is_free(volume, claim) and (node is None or is_on_node(volume, *node))
        ]
        if free:
            return min(free, key=_smallest)
    return None


def _smallest(volume: Document) -> tuple[Fraction, str]:
    return _size(volume["spec"].get("capacity")), volume["metadata"]["name"]


def _fits(volume: Document, claim: Document) -> bool:
    """Large enough, of the mode, and not on its way out."""
    large = _size(volume["spec"].get("capacity")) >= _asked(claim)
    going = volume["metadata"].get("deletionTimestamp")
    return large and not going and _mode(volume) == _mode(claim)


def _is_free(volume: Document, claim: Document) -> bool:
    """Nobody's, of the claim's class, and selected."""
    if volume["spec"].get("claimRef") or class_of(volume) != class_of(claim):
        return False
    phase = (volume.get("status") or {}).get("phase")
    return phase == "Available" and _selector(claim)(volume["metadata"].get("labels") or {})


def _selector(claim: Document) -> Matcher:
    wanted = claim["spec"].get("selector")
    return Matcher() if wanted is None else compile_selector(msgspec.convert(wanted, LabelSelector))


def _has_modes(volume: Document, claim: Document) -> bool:
    held = volume["spec"].get("accessModes") or ()
    return all(mode in held for mode in claim["spec"].get("accessModes") or ())


def _mode(document: Document) -> str:
    return str(document["spec"].get("volumeMode") or "Filesystem")


def _size(capacity: Document | None) -> Fraction:
    return quantity_of((capacity or {}).get("storage", 0)).value


def _asked(claim: Document) -> Fraction:
    return _size((claim["spec"].get("resources") or {}).get("requests"))
