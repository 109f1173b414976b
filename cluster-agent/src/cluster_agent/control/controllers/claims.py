"""Adoption and release: a controller owns what its selector takes, and nothing else.

Pure. An orphan that matches is adopted, a child that no longer matches is released. Both patches carry the child's
uid, so that a namesake created meanwhile is left alone. The caller must look at the living owner before it adopts: a
controller that works from an old cache must not adopt for an owner that is gone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cluster_agent.control.controllers.selectors import matches
from machinery.api.core import LabelSelector
from machinery.client.interface import PatchType
from machinery.controller.action import Action, Patch
from machinery.meta.objectmeta import Object, controller_of, owner_reference
from machinery.meta.resource import Resource

T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True)
class Claims(Generic[T]):
    """What is owned already, what is to be adopted, and what is to be let go."""

    owned: tuple[T, ...]
    adoptable: tuple[T, ...]
    released: tuple[T, ...]


def claim(owner: Object, selector: LabelSelector, candidates: Iterable[T]) -> Claims[T]:
    """Sort the candidates of the owner's namespace. A deleting owner adopts nothing and releases nothing."""
    owned: list[T] = []
    adoptable: list[T] = []
    released: list[T] = []
    deleting, uid = owner.deleting, owner.metadata.uid
    before: dict[str, str] | None = None
    taken = False
    for child in candidates:
        meta = child.metadata
        if meta.labels != before:  # thousands of siblings carry the same labels
            before = meta.labels
            taken = matches(selector, before)
        reference = controller_of(meta) if meta.owner_references else None
        if reference is not None:
            if reference.uid != uid:
                continue
            if taken:
                owned.append(child)
            elif not deleting:
                released.append(child)
        elif taken and not deleting and not child.deleting:
            adoptable.append(child)
    return Claims(tuple(owned), tuple(adoptable), tuple(released))


def adopt(owner: Object, resource: Resource[Any], child: Object) -> Action:
    """Write the controller reference into the child."""
    patch = {
        "metadata": {"ownerReferences": [owner_reference(owner)], "uid": child.metadata.uid},
    }
    return Patch(resource, child.key, patch, PatchType.STRATEGIC, uid=child.metadata.uid)


def release(owner: Object, resource: Resource[Any], child: Object) -> Action:
    """Take the owner's reference out of the child."""
    reference = {"$patch": "delete", "uid": owner.metadata.uid}
    patch = {"metadata": {"ownerReferences": [reference], "uid": child.metadata.uid}}
    return Patch(resource, child.key, patch, PatchType.STRATEGIC, uid=child.metadata.uid)
