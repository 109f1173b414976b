"""Garbage collection, the deciding half: what happens to an object whose owners are gone or going.

An owner is its uid, not its name. While one solid owner is left the object stays, and references to the gone ones are
taken out. Without any it is deleted, under the policy that its own finalizers ask for. An owner that is deleted in
the foreground waits for those dependents that say they block it; an owner that is deleted as an orphaner first takes
its reference out of every dependent.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from machinery.controller.action import Action, Delete, Patch
from machinery.meta.objectmeta import Object, OwnerReference
from machinery.meta.resource import Document, Resource

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


class Standing(enum.Enum):
    """What became of an owner."""

    SOLID = "solid"
    WAITING = "waiting"
    """Being deleted in the foreground: it waits for its dependents."""
    ABSENT = "absent"
    UNKNOWN = "unknown"
    """Of a kind that is not served here, or one that this object cannot be owned by: nothing is concluded."""


@dataclass(frozen=True, slots=True)
class Item:
    """An object and its kind."""

    resource: Resource[Any]
    object: Object

    @property
    def deletes_dependents(self) -> bool:
        return self.object.deleting and FOREGROUND in self.object.metadata.finalizers

    @property
    def orphans_dependents(self) -> bool:
        return self.object.deleting and ORPHAN in self.object.metadata.finalizers


def plan(
    item: Item,
    owners: Sequence[tuple[OwnerReference, Standing]],
    dependents: Sequence[Item],
) -> list[Action]:
    """For an object as it is now: `owners` are its references and what is known of each."""
    if item.orphans_dependents:
        return [
            *(_without_owners(d, {item.object.metadata.uid}) for d in dependents),
            _without_finalizer(item, ORPHAN),
        ]
    if item.deletes_dependents:
        blocked = any(_blocks(item, dependent) for dependent in dependents)
        return [] if blocked else [_without_finalizer(item, FOREGROUND)]
    if item.object.deleting or not owners:
        return []
    return _plan_owned(item, owners, dependents)


def _plan_owned(
    item: Item,
    owners: Sequence[tuple[OwnerReference, Standing]],
    dependents: Sequence[Item],
) -> list[Action]:
    standings = {standing for _, standing in owners}
    if standings & {Standing.SOLID, Standing.UNKNOWN}:
        gone = {o.uid for o, s in owners if s in (Standing.ABSENT, Standing.WAITING)}
        return [_without_owners(item, gone)] if gone else []
    if Standing.WAITING in standings and dependents:
        actions: list[Action] = []
        if any(dependent.deletes_dependents for dependent in dependents):
            # a circle of foreground deletions would wait for itself for ever
            actions.append(_unblocking(item))
        return [*actions, _delete(item, "Foreground")]
    finalizers = item.object.metadata.finalizers
    if ORPHAN in finalizers:
        return [_delete(item, "Orphan")]
    return [_delete(item, "Foreground" if FOREGROUND in finalizers else "Background")]


def _blocks(owner: Item, dependent: Item) -> bool:
    return any(
        reference.uid == owner.object.metadata.uid and reference.block_owner_deletion
        for reference in dependent.object.metadata.owner_references
    )


def _delete(item: Item, policy: str) -> Action:
    meta = item.object.metadata
    return Delete(item.resource, item.object.key, uid=meta.uid, propagation_policy=policy)


def _without_owners(item: Item, uids: set[str]) -> Action:
    kept = [o for o in item.object.metadata.owner_references if o.uid not in uids]
    return _patch(item, {"ownerReferences": _wire(kept) or None})


def _unblocking(item: Item) -> Action:
    references = _wire(item.object.metadata.owner_references)
    for reference in references:
        reference.pop("blockOwnerDeletion", None)
    patch = {"metadata": {"ownerReferences": references}}
    return Patch(item.resource, item.object.key, patch, uid=item.object.metadata.uid)


def _without_finalizer(item: Item, finalizer: str) -> Action:
    kept = [f for f in item.object.metadata.finalizers if f != finalizer]
    return _patch(item, {"finalizers": kept or None})


def _patch(item: Item, metadata: Document) -> Action:
    """Lists are written whole, so the version that was read must still be there."""
    meta = item.object.metadata
    return Patch(
        item.resource,
        item.object.key,
        {"metadata": metadata},
        resource_version=meta.resource_version,
        uid=meta.uid,
    )


def _wire(references: Iterable[OwnerReference]) -> list[Document]:
    documents = []
    for o in references:
        document: Document = {
            "apiVersion": o.api_version,
            "kind": o.kind,
            "name": o.name,
            "uid": o.uid,
        }
        if o.controller:
            document["controller"] = True
        if o.block_owner_deletion:
            document["blockOwnerDeletion"] = True
        documents.append(document)
    return documents
