"""ControllerRevisions: the pod templates that a StatefulSet or DaemonSet ever had, numbered. Pure.

A revision holds the patch that brings its template back, as `kubectl rollout undo` sends it. A template that is set
again has its old revision with a new number, so that the highest number is always the present template.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from cluster_agent.control.controllers.deployment.revisions import template_hash
from cluster_agent.control.controllers.sets import (
    REVISION_HASH_LABEL,
    REVISIONS,
    ControllerRevision,
    DaemonSet,
    StatefulSet,
    set_document,
    typed,
)
from cluster_agent.control.controllers.workloads import template_labels
from machinery.controller.action import Action, Delete, Patch
from machinery.meta.objectmeta import owner_reference
from machinery.meta.resource import Document

HASH_LABEL = "controller.kubernetes.io/hash"
"""On a StatefulSet's revision; a DaemonSet's carries the label of its pods."""
_NAME_CHARS_MAX = 223

Owner: TypeAlias = StatefulSet | DaemonSet


@dataclass(frozen=True, slots=True)
class Keep:
    """The present template has the highest number already."""

    revision: ControllerRevision


@dataclass(frozen=True, slots=True)
class Renumber:
    """The present template was there before: its revision gets the highest number."""

    revision: ControllerRevision
    number: int


@dataclass(frozen=True, slots=True)
class Make:
    """The present template is new."""

    document: Document


Step: TypeAlias = Keep | Renumber | Make


def by_number(revisions: Collection[ControllerRevision]) -> list[ControllerRevision]:
    """Oldest first."""

    def order(one: ControllerRevision) -> tuple[int, float, str]:
        created = one.metadata.creation_timestamp
        return one.revision, created.timestamp() if created else 0.0, one.metadata.name

    return sorted(revisions, key=order)


def data_of(owner: Owner) -> Document:
    """The patch that brings the present template back."""
    return {"spec": {"template": {**owner.spec.template, "$patch": "replace"}}}


def template_of(revision: ControllerRevision) -> Document:
    """The pod template that the revision holds; empty where somebody else wrote it, of anything."""
    found: Any = revision.data
    for name in ("spec", "template"):
        found = found.get(name) if isinstance(found, dict) else None
    return {k: v for k, v in found.items() if k != "$patch"} if isinstance(found, dict) else {}


def is_same(revision: ControllerRevision, owner: Owner) -> bool:
    """Whether the revision holds the present template."""
    return revision.data == data_of(owner)


def step(owner: Owner, revisions: Collection[ControllerRevision], collisions: int) -> Step:
    """What makes the present template the one with the highest number."""
    ordered = by_number(revisions)
    number = ordered[-1].revision + 1 if ordered else 1
    same = [one for one in ordered if is_same(one, owner)]
    if not same:
        return Make(_document(owner, number, collisions))
    if same[-1] is ordered[-1]:
        return Keep(same[-1])
    return Renumber(same[-1], number)


def renumber(chosen: Renumber) -> Patch:
    """Give the revision its new number."""
    meta = chosen.revision.metadata
    patch = {"revision": chosen.number}
    return Patch(
        REVISIONS,
        chosen.revision.key,
        patch,
        resource_version=meta.resource_version,
        uid=meta.uid,
    )


def idle(
    revisions: Collection[ControllerRevision], living: Collection[str]
) -> list[ControllerRevision]:
    """Those that are not among the names in use, oldest first."""
    return [one for one in by_number(revisions) if one.metadata.name not in living]


def trim(idle_ones: Sequence[ControllerRevision], surplus: int) -> list[Action]:
    """Forget the oldest of those that nobody uses."""
    gone = idle_ones[: max(0, surplus)]
    return [Delete(REVISIONS, one.key, uid=one.metadata.uid) for one in gone]


def hash_of(revision: ControllerRevision) -> str:
    """What a DaemonSet's pods of this revision carry; the name where the label is lost."""
    return revision.metadata.labels.get(REVISION_HASH_LABEL) or revision.metadata.name


def _document(owner: Owner, number: int, collisions: int) -> Document:
    label = HASH_LABEL if isinstance(owner, StatefulSet) else REVISION_HASH_LABEL
    digest = template_hash(owner.spec.template, collisions or None)
    metadata: Document = {
        "name": f"{owner.metadata.name[:_NAME_CHARS_MAX]}-{digest}",
        "namespace": owner.metadata.namespace,
        "labels": {**template_labels(owner.spec.template), label: digest},
        "ownerReferences": [owner_reference(typed(owner))],
    }
    if owner.metadata.annotations:
        metadata["annotations"] = dict(owner.metadata.annotations)
    return set_document(REVISIONS, metadata, data=data_of(owner), revision=number)
