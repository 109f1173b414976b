"""What is known of a kind, with users' scripts before what is built in (`interpreter`, `aggregation`).

Each question raises InterpretationFailed where a script is asked and gives no answer. Scripts may `require("kube")`, which
offers what Karmada's offers to interpreters of workloads: what a pod template asks for, and what it refers to.
"""

from collections.abc import Sequence
from typing import Any, Final

from federation.propagation import aggregation, interpreter
from federation.propagation.aggregate import MemberStatus
from machinery.api.fleet.interpretation import (
    AGGREGATE,
    COMPONENT,
    DEPENDENCY,
    REPLICA,
    REVISE,
    ResourceInterpreterCustomization,
)
from machinery.client.informer import Informer
from machinery.meta import quantity
from machinery.meta.resource import Document, ObjectKey
from machinery.scripts.customizations import BUILT_IN, Customizations, InterpretationFailed, Kind
from machinery.scripts.lua import Library

__all__ = ["BUILT_IN", "Customizations", "InterpretationFailed"]


def _pod_dependencies(template: Document, namespace: str) -> list[Document]:
    return [
        {"apiVersion": "v1", "kind": kind, "namespace": key.namespace, "name": key.name}
        for kind, keys in interpreter.pod_dependencies(template, namespace).items()
        for key in sorted(keys)
    ]


def _resource_quantity(text: Any) -> float:
    return float(quantity.parse(str(text)).value)


class Followed:
    """What users say of kinds now, from a copy of their ResourceInterpreterCustomizations."""

    def __init__(self, held: Informer[ResourceInterpreterCustomization]) -> None:
        self._held = held
        self._now: Customizations | None = None
        held.on_change(self._forget)

    def __call__(self) -> Customizations:
        if self._now is None:
            self._now = Customizations(self._held.list())
        return self._now

    def _forget(self, *_: object) -> None:
        self._now = None


def target(one: ResourceInterpreterCustomization) -> Kind:
    """The kind of which it speaks."""
    return one.spec.target.api_version, one.spec.target.kind


KUBE: Final[Library] = {
    "accuratePodRequirements": interpreter.pod_requirements,
    "getPodDependencies": _pod_dependencies,
    "getResourceQuantity": _resource_quantity,
}


def is_workload(scripts: Customizations, document: Document) -> bool:
    """Whether the object has replicas to divide, or components."""
    told = scripts.answers(document, REPLICA) or scripts.answers(document, COMPONENT)
    return told or interpreter.is_workload(document)


def replicas(scripts: Customizations, document: Document) -> tuple[int, Document | None]:
    """How many the user asks for (0: none to divide), and ReplicaRequirements of one in wire shape."""
    if scripts.answers(document, REPLICA):
        return scripts.replicas(document, KUBE)
    return interpreter.replicas(document), interpreter.requirements(document)


def components(scripts: Customizations, document: Document) -> list[Document]:
    """Its components, where a script tells of them (no built-in kind has any): name, replicas, what one of them asks."""
    return scripts.components(document, KUBE) if scripts.answers(document, COMPONENT) else []


def revised(
    scripts: Customizations, document: Document, count: int, share: int | None = None
) -> Document:
    """The object with `count` replicas; a kind whose replicas a script counts and none revises stays as it is."""
    if scripts.answers(document, REVISE):
        return scripts.revised(document, count)
    return interpreter.revised(document, count, share)


def dependencies(scripts: Customizations, document: Document) -> dict[str, set[ObjectKey]]:
    """Objects of the kinds that may follow others which the object refers to, by kind."""
    if not scripts.answers(document, DEPENDENCY):
        return interpreter.dependencies(document)
    found: dict[str, set[ObjectKey]] = {kind: set() for kind in interpreter.DEPENDABLE}
    for one in scripts.dependencies(document, KUBE):
        if not unfollowed(document, one):
            found[one["kind"]].add(ObjectKey(one["namespace"], one["name"]))
    return found


def left_behind(scripts: Customizations, document: Document) -> list[str]:
    """What a user's script says that the object refers to, and that does not follow it, each with why."""
    asked = scripts.dependencies(document, KUBE)
    return [why for one in asked if (why := unfollowed(document, one))]


def unfollowed(document: Document, reference: Document) -> str:
    """Why nothing follows the object because of the reference; empty when it does."""
    home, name = reference.get("namespace", ""), reference.get("name", "")
    if reference["apiVersion"] != "v1" or reference["kind"] not in interpreter.DEPENDABLE:
        what = f"{reference['apiVersion']} {reference['kind']}"
        return f"{_named(what, home, name)}: its kind does not follow what refers to it"
    what = _named(reference["kind"], home, name)
    if not document["metadata"].get("namespace"):
        return f"{what}: nothing follows an object that is in no namespace"
    if home != document["metadata"]["namespace"]:
        return f"{what}: what is in another namespace does not follow"
    return "" if name else f"{what}: what is named by labels does not follow"


def _named(what: str, home: str, name: str) -> str:
    named = name or "by labels"
    return f"{what} {home}/{named}" if home and name else f"{what} {named}"


def summed(
    scripts: Customizations,
    template: Document,
    members: Sequence[MemberStatus],
    known: aggregation.Known,
) -> Document | None:
    """The template's status as a merge patch; None for kinds that have none, or of which nothing is known.

    A script gets the reports of members that are heard of: what is not seen counts for nothing, as everywhere.
    """
    if not scripts.answers(template, AGGREGATE):
        return aggregation.summed(template, members, known)
    items: list[Document] = [
        {"clusterName": m.cluster, "status": dict(m.status), "applied": True}
        for m in members
        if m.seen and m.status is not None
    ]
    fresh = scripts.aggregated(template, items).get("status") or {}
    held = template.get("status") or {}
    return {name: None for name in held if name not in fresh} | dict(fresh)
