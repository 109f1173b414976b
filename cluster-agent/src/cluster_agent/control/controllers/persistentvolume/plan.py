"""What to do about one claim, and about one volume. Pure; `binding` has the writes, `provision` the volumes of our own.

A claim without `bind-completed` looks for a volume: the one that it names, the one that names it, the smallest that suits, or
one that is made for it. A claim that has completed its binding never gets another volume: if its own is lost or somebody
else's, it is Lost. A volume follows its `claimRef`: Available without one, Bound while the claim is there and has it, and
Released when the claim is gone; then the reclaim policy says what becomes of it.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cluster_agent.control.controllers.persistentvolume.binding import (
    bind,
    claim_phase,
    tell,
    unbind,
    volume_phase,
)
from cluster_agent.control.controllers.persistentvolume.provision import (
    Place,
    let_go,
    provision,
)
from cluster_agent.control.controllers.volumeprotection import CLAIMS, VOLUMES, is_going
from machinery.api.local_volumes import PROVISIONED_BY, SELECTED_NODE, is_ours, notes_of
from machinery.controller.action import Action, Delete
from machinery.meta.resource import Document, document_key
from machinery.scheduling.claims import (
    BIND_COMPLETED,
    class_of,
    find_volume,
    has_volume_for,
    is_delayed,
    unsuited,
)

_GONE: Final = "Data on the volume is lost!"
_TEMPORARY: Final = "/tmp/"  # noqa: S108 - upstream's rule of what a deleter of hostPaths may delete


@dataclass(frozen=True, slots=True)
class Sight:
    """What a claim is decided on."""

    volumes: Mapping[str, Document]
    """By name."""
    class_: Document | None = None
    """The StorageClass that the claim names, if it is there."""
    place: Place | None = None
    """The node that the scheduler has chosen for it."""
    waiting: tuple[str, ...] = field(default=())
    """Names of pods that have the claim and no node yet."""


# -------------------------------------------------------------------------------------------------------------- claims
def plan(claim: Document, sight: Sight, now: dt.datetime) -> list[Action]:
    """The next steps of a claim."""
    if BIND_COMPLETED in notes_of(claim):
        return _bound(claim, sight, now)
    if is_going(claim):
        return []
    if name := claim["spec"].get("volumeName"):
        return _asks_for(claim, sight.volumes.get(name), now)
    # with a node chosen as well: which free volume can be reached from there, the scheduler has seen and would have said
    found = find_volume(claim, sight.volumes.values(), delayed=is_delayed(sight.class_))
    if found is not None:
        return bind(claim, found, now)
    return [*_unserved(claim, sight), *claim_phase(claim, "Pending")]


def _bound(claim: Document, sight: Sight, now: dt.datetime) -> list[Action]:
    name = claim["spec"].get("volumeName")
    if not name:
        return _lost(
            claim, "ClaimLost", f"Bound claim has lost reference to PersistentVolume. {_GONE}"
        )
    volume = sight.volumes.get(name)
    if volume is None:
        return _lost(claim, "ClaimLost", f"Bound claim has lost its PersistentVolume. {_GONE}")
    reference = volume["spec"].get("claimRef")
    if not reference or has_volume_for(volume, claim):
        return bind(claim, volume, now)
    return _lost(
        claim,
        "ClaimMisbound",
        "Two claims are bound to the same volume, this one is bound incorrectly",
    )


def _lost(claim: Document, reason: str, message: str) -> list[Action]:
    done = claim_phase(claim, "Lost")
    return [*done, tell(CLAIMS, claim, "Warning", reason, message)] if done else []


def _asks_for(claim: Document, volume: Document | None, now: dt.datetime) -> list[Action]:
    """A claim whose user has chosen the volume."""
    pending = claim_phase(claim, "Pending")
    if volume is None:
        return pending
    if not volume["spec"].get("claimRef"):
        if fault := unsuited(volume, claim):
            message = f'Cannot bind to requested volume "{volume["metadata"]["name"]}": {fault}'
            return [tell(CLAIMS, claim, "Warning", "VolumeMismatch", message), *pending]
        return bind(claim, volume, now)
    if has_volume_for(volume, claim):
        return bind(claim, volume, now)
    message = f'volume "{volume["metadata"]["name"]}" already bound to a different claim.'
    return [tell(CLAIMS, claim, "Warning", "FailedBinding", message), *pending]


def _unserved(claim: Document, sight: Sight) -> list[Action]:
    """No volume suits: one is made, or waited for, or the claim is told why not."""
    name = class_of(claim)
    if is_delayed(sight.class_) and sight.place is None:
        if sight.waiting:
            message = f"waiting for pod {','.join(sight.waiting)} to be scheduled"
            return [tell(CLAIMS, claim, "Normal", "WaitForPodScheduled", message)]
        message = "waiting for first consumer to be created before binding"
        return [tell(CLAIMS, claim, "Normal", "WaitForFirstConsumer", message)]
    if not name:
        message = "no persistent volumes available for this claim and no storage class is set"
        return [tell(CLAIMS, claim, "Normal", "FailedBinding", message)]
    if sight.class_ is None:
        message = f'storageclass.storage.k8s.io "{name}" not found'
        return [tell(CLAIMS, claim, "Warning", "ProvisioningFailed", message)]
    return provision(claim, sight.class_, sight.place)


# ------------------------------------------------------------------------------------------------------------- volumes
def plan_volume(
    volume: Document, claim: Document | None, now: dt.datetime, *, has_node: bool = True
) -> list[Action]:
    """The next steps of a volume. `claim`: the one that `claimRef` means by uid, if it is there.

    `has_node`: whether the Node of a volume of ours is there.
    """
    reference = volume["spec"].get("claimRef")
    if is_going(volume) and is_ours(volume) and not has_node:
        return let_go(volume)
    if not reference or not reference.get("uid"):
        return volume_phase(volume, "Available", now)
    if claim is None:
        return _released(volume, now)
    held = claim["spec"].get("volumeName")
    if held == volume["metadata"]["name"]:
        return volume_phase(volume, "Bound", now)
    if not held:
        return []  # the claim is looked at as well, and binds itself
    if is_ours(volume) and _policy(volume) == "Delete":
        return _released(volume, now)  # made for a claim that has found another
    return unbind(volume)


def _released(volume: Document, now: dt.datetime) -> list[Action]:
    phase = (volume.get("status") or {}).get("phase")
    if phase == "Failed":
        return []
    return [*volume_phase(volume, "Released", now), *_reclaimed(volume, now)]


def _reclaimed(volume: Document, now: dt.datetime) -> list[Action]:
    """What the reclaim policy asks for of a volume whose claim is gone."""
    policy = _policy(volume)
    if is_going(volume) or policy == "Retain":
        return []
    if policy == "Recycle":
        return _failed(
            volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!", now
        )
    metadata = volume["metadata"]
    delete = Delete(VOLUMES, document_key(volume), uid=metadata["uid"])
    if is_ours(volume):
        return [delete]
    if PROVISIONED_BY in notes_of(volume):
        return []  # whoever made it watches for it
    path = (volume["spec"].get("hostPath") or {}).get("path")
    if path is None:
        message = (
            f'error getting deleter volume plugin for volume "{metadata["name"]}": '
            "no deletable volume plugin matched"
        )
        return _failed(volume, "VolumeFailedDelete", message, now)
    if not path.startswith(_TEMPORARY) or path == _TEMPORARY:
        message = f'host_path deleter only supports /tmp/.+ but received provided "{path}"'
        return _failed(volume, "VolumeFailedDelete", message, now)
    return [delete]


def _failed(volume: Document, reason: str, message: str, now: dt.datetime) -> list[Action]:
    return [
        *volume_phase(volume, "Failed", now, message=message),
        tell(VOLUMES, volume, "Warning", reason, message),
    ]


def _policy(volume: Document) -> str:
    return str(volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain")


def chosen_node(document: Document) -> str:
    """The node that a claim was given, or that a volume of ours was made for."""
    return notes_of(document).get(SELECTED_NODE, "")
