"""Who owns a claim of a StatefulSet, and so when it goes: with the set, with its pod's number, or never. Pure.

`whenDeleted: Delete` makes the set the owner. `whenScaled: Delete` makes a pod the owner that is about to go for good; a pod
of the same name that comes later must wait until that claim is collected, or it would get a volume that is being taken
from under it.
"""

from collections.abc import Mapping

from cluster_agent.control.controllers.sets import (
    CLAIMS,
    PersistentVolumeClaim,
    StatefulSet,
    typed,
)
from cluster_agent.control.controllers.statefulset.identity import claim_names
from machinery.api.core import Pod
from machinery.controller.action import Action, Patch
from machinery.meta.objectmeta import Object, OwnerReference, owner_reference, to_document
from machinery.meta.resource import Document

DELETE = "Delete"


def keeps_all(set_: StatefulSet) -> bool:
    """Whether claims stay whatever happens, as is the default."""
    policy = set_.spec.persistent_volume_claim_retention_policy
    return DELETE not in (policy.when_deleted, policy.when_scaled)


def first_owners(set_: StatefulSet) -> list[Document]:
    """The owners of a claim that is made for a pod of the set's present size."""
    policy = set_.spec.persistent_volume_claim_retention_policy
    return [owner_reference(typed(set_))] if policy.when_deleted == DELETE else []


def is_stale(claim: PersistentVolumeClaim, pod_name: str) -> bool:
    """Whether it belongs to a pod of that name that is gone. Asked where no such pod is."""
    return any(
        owner.kind == "Pod" and owner.name == pod_name for owner in claim.metadata.owner_references
    )


def amend(
    set_: StatefulSet,
    pod: Pod,
    ordinal: int,
    claims: Mapping[str, PersistentVolumeClaim],
    *,
    condemned: bool,
) -> list[Action]:
    """Give the claims of a pod the owners that the policy asks for."""
    actions: list[Action] = []
    for name in claim_names(set_, ordinal):
        claim = claims.get(name)
        if claim is None:
            continue
        present = list(claim.metadata.owner_references)
        wanted = _wanted(set_, pod, present, condemned=condemned)
        if wanted != [to_document(owner) for owner in present]:
            meta = claim.metadata
            patch = {"metadata": {"ownerReferences": wanted or None}}
            actions.append(
                Patch(
                    CLAIMS,
                    claim.key,
                    patch,
                    resource_version=meta.resource_version,
                    uid=meta.uid,
                )
            )
    return actions


def _wanted(
    set_: StatefulSet, pod: Pod, present: list[OwnerReference], *, condemned: bool
) -> list[Document]:
    """What others own stays; ours is as the policy says. A claim that another controller has is left to it."""
    policy = set_.spec.persistent_volume_claim_retention_policy
    ours = (set_.metadata.uid, pod.metadata.uid)
    others = [owner for owner in present if owner.uid not in ours]
    kept = [to_document(owner) for owner in others]
    if any(owner.controller for owner in others):
        return kept
    if condemned and policy.when_scaled == DELETE:
        owner = Object(api_version="v1", kind="Pod", metadata=pod.metadata)
        return [*kept, owner_reference(owner)]
    if policy.when_deleted == DELETE:
        return [*kept, owner_reference(typed(set_))]
    return kept
