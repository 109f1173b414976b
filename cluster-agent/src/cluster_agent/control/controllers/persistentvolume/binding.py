"""The four writes that bind a claim and a volume, each only where it is missing. Pure.

The volume first (`claimRef`, then its phase), then the claim: whoever is interrupted goes on where it was. The writes of the
two specs name the version that was decided on, so that two claims that want one volume cannot both have it.
"""

import datetime as dt
from typing import Final

from cluster_agent.control.controllers.volumeprotection import CLAIMS, VOLUMES
from machinery.api.local_volumes import notes_of
from machinery.controller.action import Action, Emit, Patch, SetStatus
from machinery.kit.clock import rfc3339
from machinery.meta.resource import Document, Resource, document_key
from machinery.scheduling.claims import BIND_COMPLETED, BOUND_BY_CONTROLLER

YES: Final = "yes"


def bind(claim: Document, volume: Document, now: dt.datetime) -> list[Action]:
    """Whatever is missing until both are Bound to each other."""
    return [
        *claim_volume(claim, volume),
        *volume_phase(volume, "Bound", now),
        *_claim_spec(claim, volume),
        *_claim_status(claim, volume),
    ]


def claim_volume(claim: Document, volume: Document) -> list[Action]:
    """The volume's `claimRef`, with the uid of the claim."""
    held = volume["spec"].get("claimRef") or {}
    metadata = claim["metadata"]
    if held.get("uid") == metadata["uid"]:
        return []
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
    }
    patch: Document = {"spec": {"claimRef": reference}}
    if not held:  # who has named the claim himself keeps his claimRef when the claim goes elsewhere
        patch["metadata"] = {"annotations": {BOUND_BY_CONTROLLER: YES}}
    return [_guarded(VOLUMES, volume, patch)]


def _claim_spec(claim: Document, volume: Document) -> list[Action]:
    held, name = claim["spec"].get("volumeName"), volume["metadata"]["name"]
    notes: Document = {}
    patch: Document = {}
    if BIND_COMPLETED not in notes_of(claim):
        notes[BIND_COMPLETED] = YES
    if not held:
        patch["spec"] = {"volumeName": name}
        notes[BOUND_BY_CONTROLLER] = YES
    if notes:
        patch["metadata"] = {"annotations": notes}
    return [_guarded(CLAIMS, claim, patch)] if patch else []


def _claim_status(claim: Document, volume: Document) -> list[Action]:
    if (claim.get("status") or {}).get("phase") == "Bound":
        return []
    spec = volume["spec"]
    fresh = {"phase": "Bound", "accessModes": spec["accessModes"], "capacity": spec["capacity"]}
    return [SetStatus(CLAIMS, document_key(claim), fresh)]


def claim_phase(claim: Document, phase: str) -> list[Action]:
    """A claim that has no volume (any more)."""
    status = claim.get("status") or {}
    if status.get("phase") == phase:
        return []
    return [
        SetStatus(
            CLAIMS, document_key(claim), {"phase": phase, "accessModes": None, "capacity": None}
        )
    ]


def volume_phase(
    volume: Document, phase: str, now: dt.datetime, *, message: str = "", reason: str = ""
) -> list[Action]:
    """The phase, and since when; nothing if it is said already."""
    status = volume.get("status") or {}
    if (status.get("phase"), status.get("message") or "") == (phase, message):
        return []
    fresh = {"phase": phase, "message": message or None, "reason": reason or None}
    if status.get("phase") != phase:
        fresh["lastPhaseTransitionTime"] = rfc3339(now)
    return [SetStatus(VOLUMES, document_key(volume), fresh)]


def unbind(volume: Document) -> list[Action]:
    """Take back a `claimRef` that the binder has written; of one that a user wrote only the uid."""
    if BOUND_BY_CONTROLLER in notes_of(volume):
        patch: Document = {
            "spec": {"claimRef": None},
            "metadata": {"annotations": {BOUND_BY_CONTROLLER: None}},
        }
    else:
        patch = {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}}
    return [_guarded(VOLUMES, volume, patch)]


def tell(
    resource: Resource[Document], document: Document, kind: str, reason: str, message: str
) -> Emit:
    """An Event on a claim or a volume."""
    uid = document["metadata"]["uid"]
    return Emit(resource, document_key(document), uid, kind, reason, message)


def _guarded(resource: Resource[Document], document: Document, patch: Document) -> Patch:
    metadata = document["metadata"]
    return Patch(
        resource,
        document_key(document),
        patch,
        resource_version=metadata["resourceVersion"],
        uid=metadata["uid"],
    )
