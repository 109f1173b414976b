"""Namespace lifecycle: a namespace that is deleted empties, pods first, and then goes.

A namespace waits a few seconds after its DELETE, so that every replica of the API server has stopped taking new
objects in it. Pods are deleted and waited for before anything else, because what they use must outlive them. What is
left is told in the conditions, in upstream's words; while pods remain the conditions are those of an early return, as
upstream's are. Mirrors of other clusters' objects neither count nor are deleted.
"""

import contextlib
import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from machinery.api.core import NAMESPACES, PODS, Namespace, Pod
from machinery.api.scheme import ServedKind
from machinery.client.dynamic_kinds import DEFINITIONS, DynamicKinds
from machinery.client.interface import ListOptions, dynamic
from machinery.controller.action import Action, Delete, RequeueAfter, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.controllers.mirrors import MIRROR_LABEL
from machinery.kit.clock import rfc3339
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import Condition, Object, condition
from machinery.meta.resource import Document, ObjectKey, Resource

FINALIZER = "kubernetes"
DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")
GRACE_S = 5.0
LOOK_AGAIN_S = 2.0

REMAINING = "NamespaceContentRemaining"
FINALIZERS = "NamespaceFinalizersRemaining"
_DONE: dict[str, tuple[str, str]] = {
    REMAINING: ("ContentRemoved", "All content successfully removed"),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceDeletionDiscoveryFailure": (
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    FINALIZERS: ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


@dataclass(frozen=True, slots=True)
class Content:
    """What a namespace holds of one kind."""

    resource: Resource[Object]
    items: Sequence[Object]

    @property
    def is_pods(self) -> bool:
        return (self.resource.group, self.resource.plural) == ("", "pods")


def grace_left(namespace: Namespace, now: dt.datetime, grace_s: float) -> float:
    """Seconds until a deleted namespace may be emptied."""
    deleted = namespace.metadata.deletion_timestamp
    assert deleted is not None, "only a namespace that is deleted is emptied"
    return grace_s - (now - deleted).total_seconds()


def plan(
    namespace: Namespace, contents: Iterable[Content], now: dt.datetime
) -> list[Action] | None:
    """What a deleting namespace needs next; None when it is empty and may be finalized."""
    full = [content for content in contents if content.items]
    pods = [content for content in full if content.is_pods]
    told = [] if pods else full
    actions: list[Action] = []
    for content in pods or full:
        actions += [_delete(content.resource, item) for item in content.items if not item.deleting]
    actions += _report(namespace, told, now)
    return [*actions, RequeueAfter(LOOK_AGAIN_S)] if full else None


def _delete(resource: Resource[Object], item: Object) -> Action:
    policy = "Background"
    return Delete(resource, item.key, uid=item.metadata.uid, propagation_policy=policy)


def _report(namespace: Namespace, told: Sequence[Content], now: dt.datetime) -> list[Action]:
    """The conditions, where they differ."""
    texts = {kind: ("False", *words) for kind, words in _DONE.items()}
    if remaining := _remaining(told):
        text = f"Some resources are remaining: {remaining}"
        texts[REMAINING] = ("True", "SomeResourcesRemain", text)
    if held := _held(told):
        text = f"Some content in the namespace has finalizers remaining: {held}"
        texts[FINALIZERS] = ("True", "SomeFinalizersRemain", text)
    fresh = [_condition(namespace, kind, *words, now) for kind, words in texts.items()]
    present = {c.type: (c.status, c.reason, c.message) for c in namespace.status.conditions}
    if present == texts:
        return []
    version = namespace.metadata.resource_version
    return [SetStatus(NAMESPACES, namespace.key, {"conditions": fresh}, resource_version=version)]


def _remaining(told: Sequence[Content]) -> str:
    lines = [
        f"{c.resource.plural}.{c.resource.group} has {len(c.items)} resource instances"
        for c in told
    ]
    return ", ".join(sorted(lines))


def _held(told: Sequence[Content]) -> str:
    counts = Counter(f for c in told for item in c.items for f in item.metadata.finalizers)
    return ", ".join(f"{f} in {n} resource instances" for f, n in sorted(counts.items()))


def _condition(
    namespace: Namespace, kind: str, status: str, reason: str, message: str, now: dt.datetime
) -> Document:
    current: Condition | None = condition(namespace.status.conditions, kind)
    since = now
    if current is not None and current.status == status and current.last_transition_time:
        since = current.last_transition_time
    return {
        "type": kind,
        "status": status,
        "lastTransitionTime": rfc3339(since),
        "reason": reason,
        "message": message,
    }


class NamespaceReconciler:
    """Read, plan, act."""

    def __init__(
        self,
        manager: Manager,
        kinds: Sequence[ServedKind],
        grace_s: float,
        custom: DynamicKinds | None = None,
    ) -> None:
        self._client, self._clock = manager.client, manager.clock
        self._executor, self._grace_s = manager.executor, grace_s
        self._resources = [
            Resource(k.group, k.version, k.plural, k.kind, True, Object) for k in kinds
        ]
        self._custom = custom

    async def reconcile(self, key: ObjectKey) -> Result:
        try:
            namespace = await self._client.get(NAMESPACES, key)
        except NotFound:
            return Result()
        if not namespace.deleting or FINALIZER not in namespace.spec.finalizers:
            return Result()
        now = self._clock.now()
        if (wait := grace_left(namespace, now, self._grace_s)) > 0:
            return Result(requeue_after=wait)
        actions = plan(namespace, await self._contents(key.name), now)
        if actions is None:
            await self._finalize(key)
            return Result()
        return await self._executor.apply(actions)

    async def _contents(self, namespace: str) -> list[Content]:
        options = ListOptions(label_selector=f"!{MIRROR_LABEL}")
        contents = []
        for resource in self._resources:
            listing = await self._client.list(resource, namespace, options)
            contents.append(Content(resource, listing.items))
        for resource in self._custom_resources():
            with contextlib.suppress(NotFound):  # a kind that went with its last object
                listing = await self._client.list(resource, namespace, options)
                contents.append(Content(resource, listing.items))
        return contents

    def _custom_resources(self) -> list[Resource[Object]]:
        """The custom kinds that there are now."""
        known = self._custom.resources if self._custom is not None else []
        return [
            Resource(r.group, r.version, r.plural, r.kind, True, Object)
            for r in known
            if r.namespaced
        ]

    async def _finalize(self, key: ObjectKey) -> None:
        """Take our finalizer out of the spec; with the last one the server removes the namespace."""
        raw = dynamic("", "v1", "namespaces", "Namespace", namespaced=False)
        document = await self._client.get(raw, key)
        spec: dict[str, Any] = dict(document.get("spec") or {})
        spec["finalizers"] = [f for f in spec.get("finalizers") or () if f != FINALIZER]
        await self._client.update(raw, {**document, "spec": spec}, subresource="finalize")


def emptied(kinds: Iterable[ServedKind]) -> list[ServedKind]:
    """The namespaced kinds whose objects go with their namespace; each object once, whatever other faces it has."""
    return [
        kind
        for kind in kinds
        if kind.namespaced
        and {"list", "delete"} <= set(kind.verbs)
        and kind.stored_as is None
        and kind.dynamic is None
    ]


def setup(manager: Manager, kinds: Iterable[ServedKind], *, grace_s: float = GRACE_S) -> None:
    """Watch namespaces, and the end of pods in those that go."""
    namespaces = manager.informer(NAMESPACES)
    served = list(kinds)
    custom = None
    if any(kind.group_kind == DEFINITION for kind in served):
        custom = DynamicKinds(manager.informer(DEFINITIONS))
    reconciler = NamespaceReconciler(manager, emptied(served), grace_s, custom)
    builder = manager.controller("namespace", reconciler).watches(NAMESPACES)

    def on_pod(old: Pod | None, new: Pod | None) -> None:
        if new is not None or old is None:
            return
        key = ObjectKey("", old.metadata.namespace)
        namespace = namespaces.get(key)
        if namespace is not None and namespace.deleting:
            builder.enqueue(key)

    manager.informer(PODS).on_change(on_pod)
