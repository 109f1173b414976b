"""Divergence: where an object in a member is not the federation's, or was changed by somebody else, its owner hears of it here.

The members' links say it on their Works: `Drifted`, and `Applied=False` for an object that was there already. Here it is summed up on the
binding (conditions `Drifted` and `Conflicted`) and told as Events on the template, once for each change.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from federation.controllers import dispatcher
from federation.propagation.scopes import IN_NAMESPACES, SCOPES, Scope
from federation.propagation.templates import named
from machinery.api.fleet.cluster import EXECUTION_PREFIX
from machinery.api.fleet.work import (
    ALREADY_EXISTS,
    CONFLICTED,
    DRIFTED,
    WORKS,
    ResourceBinding,
    Work,
    binding_resource,
)
from machinery.controller.action import Action, Emit, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import Condition, condition, condition_document
from machinery.meta.resource import Document, ObjectKey

BY_BINDING: Final = "binding"
CLUSTERS_MAX: Final = 5
"""Clusters that one message tells of."""
TEXT_MAX: Final = 1024
"""Characters of one message: what an Event may hold."""
HOW: Final = (
    "; to take it over: conflictResolution: Overwrite in the policy, or the annotation work.karmada.io/conflict-resolution: "
    "overwrite or ifnodiff on this object"
)


def cluster_of(work: Work) -> str:
    """The member that a Work is for."""
    return work.metadata.namespace.removeprefix(EXECUTION_PREFIX)


def drifted(works: Sequence[Work]) -> Document | None:
    """The binding's condition: what stands of others' changes, else the latest repair; None when there never was any."""
    told = [(w, c) for w in works if (c := condition(w.status.conditions, DRIFTED)) is not None]
    stands = [(w, c) for w, c in told if c.status == "True"]
    if stands:
        return _summed(DRIFTED, "True", stands[0][1].reason, stands)
    latest = max((_when(c) for _, c in told), default="")
    newest = [(w, c) for w, c in told if _when(c) == latest]
    if not newest:
        return None
    return _summed(DRIFTED, "False", newest[0][1].reason, newest)


def conflicted(works: Sequence[Work]) -> Document | None:
    """The binding's condition: where the object is somebody else's; None when nowhere."""
    told = [
        (w, c)
        for w in works
        if (c := condition(w.status.conditions, "Applied")) is not None
        and c.status == "False"
        and ALREADY_EXISTS in c.message
    ]
    return _summed(CONFLICTED, "True", "AlreadyExists", told) if told else None


def _when(one: Condition) -> str:
    return rfc3339(one.last_transition_time) if one.last_transition_time is not None else ""


def _summed(
    kind: str, status: str, reason: str, told: Sequence[tuple[Work, Condition]]
) -> Document:
    ordered = sorted(told, key=lambda pair: cluster_of(pair[0]))
    parts = [f"cluster({cluster_of(w)}): {c.message}" for w, c in ordered[:CLUSTERS_MAX]]
    if len(ordered) > CLUSTERS_MAX:
        parts.append(f"and {len(ordered) - CLUSTERS_MAX} more clusters")
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": _cut("; ".join(parts), TEXT_MAX),
        "lastTransitionTime": max(_when(c) for _, c in told),
    }


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def plan(binding: ResourceBinding, works: Iterable[Work]) -> list[Action]:
    """Conditions of the binding and Events on its template, where the Works say something new."""
    if binding.deleting:
        return []
    current = [w for w in works if not w.deleting]
    wanted = {DRIFTED: drifted(current), CONFLICTED: conflicted(current)}
    held = {c.type: condition_document(c) for c in binding.status.conditions if c.type in wanted}
    if held == {kind: one for kind, one in wanted.items() if one is not None}:
        return []
    others = [condition_document(c) for c in binding.status.conditions if c.type not in wanted]
    fresh = [*others, *(one for one in wanted.values() if one is not None)]
    version = binding.metadata.resource_version
    status = SetStatus(
        binding_resource(binding.key),
        binding.key,
        {"conditions": fresh or None},
        resource_version=version,
    )
    news = [one for kind, one in wanted.items() if one is not None and held.get(kind) != one]
    return [status, *(event for one in news for event in _told(binding, one))]


def _told(binding: ResourceBinding, one: Document) -> list[Action]:
    source = binding.spec.resource
    if one["reason"] == "AsStated":
        return []
    resource = named(source)
    level, reason, message = "Warning", "Drifted", one["message"]
    if one["type"] == CONFLICTED:
        reason, message = "SyncFailed", _cut(message, TEXT_MAX - len(HOW)) + HOW
    elif one["status"] == "False":
        level, reason = "Normal", "DriftRepaired"
    elif one["reason"] == "RepairsPaused":
        reason = "RepairsPaused"
    about = ObjectKey(source.namespace, source.name)
    return [Emit(resource, about, source.uid, level, reason, message)]


class DivergenceReconciler:
    """Bindings of one scope."""

    def __init__(self, manager: Manager, scope: Scope = IN_NAMESPACES) -> None:
        self._executor = manager.executor
        self._bindings = manager.informer(scope.bindings)
        self._works = manager.informer(WORKS, label_selector=scope.label)
        self._works.add_index(BY_BINDING, dispatcher.binding_keys)

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None:
            return Result()
        return await self._executor.apply(plan(binding, self._works.by_index(BY_BINDING, key)))


def concerned(work: Work) -> list[ObjectKey]:
    """The binding of a Work that says, or said a moment ago, something of the kind: most never do, and wake nobody."""
    applied = condition(work.status.conditions, "Applied")
    exists = applied is not None and applied.status == "False" and ALREADY_EXISTS in applied.message
    if not exists and condition(work.status.conditions, DRIFTED) is None:
        return []
    return dispatcher.binding_keys(work)


def setup(manager: Manager) -> None:
    """Works that say so."""
    for scope in SCOPES:
        reconciler = DivergenceReconciler(manager, scope)
        controller = manager.controller(scope.named("divergence"), reconciler)
        controller.watches(WORKS, concerned, label_selector=scope.label)
