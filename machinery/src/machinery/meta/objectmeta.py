"""Typed views of metadata, and the few questions that everybody asks of it."""

import datetime as dt
from typing import Any

import msgspec

from machinery.kit.clock import rfc3339
from machinery.meta.resource import Document, ObjectKey

_FROZEN: dict[str, Any] = {"frozen": True}
"""Apart, since msgspec inherits `frozen` and the type checker's rule for dataclasses wants it repeated."""


class View(msgspec.Struct, rename="camel", **_FROZEN):
    """A read-only view of a part of an object: unknown fields are ignored, absent ones have their default."""


class OwnerReference(View):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(View):
    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: dt.datetime | None = None
    deletion_timestamp: dt.datetime | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class Object(View):
    """Any object: what garbage collection and the generic controllers read."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.metadata.namespace, self.metadata.name)

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None


class Condition(View):
    """metav1.Condition and its older cousins of Pod, Node and Deployment."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: dt.datetime | None = None
    last_update_time: dt.datetime | None = None
    last_heartbeat_time: dt.datetime | None = None
    last_probe_time: dt.datetime | None = None
    observed_generation: int = 0


def condition(conditions: tuple[Condition, ...], kind: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.type == kind), None)


def is_true(conditions: tuple[Condition, ...], kind: str) -> bool:
    """Whether the condition stands at True."""
    found = condition(conditions, kind)
    return found is not None and found.status == "True"


def condition_document(held: Condition) -> Document:
    """A metav1.Condition in wire shape, for a list of conditions that is written whole."""
    document: Document = {
        "type": held.type,
        "status": held.status,
        "reason": held.reason,
        "message": held.message,
    }
    if held.last_transition_time is not None:
        document["lastTransitionTime"] = rfc3339(held.last_transition_time)
    if held.observed_generation:
        document["observedGeneration"] = held.observed_generation
    return document


def controller_of(meta: ObjectMeta) -> OwnerReference | None:
    """The one owner that manages the object, or None."""
    for (
        owner
    ) in meta.owner_references:  # a plain loop: asked of every pod in every pass of its ReplicaSet
        if owner.controller:
            return owner
    return None


def owner_reference(owner: Object, *, controller: bool = True) -> Document:
    """The reference that a child carries, in wire shape."""
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": controller,
        "blockOwnerDeletion": True,
    }


def to_document(view: msgspec.Struct) -> Any:
    """A view in wire shape; for embedding a part that was read (a template, a taint) in something written."""
    return msgspec.to_builtins(view)
