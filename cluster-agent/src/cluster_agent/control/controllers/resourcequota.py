"""Counts what is used of each ResourceQuota, so that what the API server has taken for new objects becomes what is there.

`status.hard` follows the spec, `status.used` what is found. The API server takes room by adding to `used` before it writes
an object, so the count may be ahead of what can be seen: it is lowered only when the quota has not changed for `QUIET_S`,
and raised at once. Writes that are refused do not change the quota, so a full one comes to rest and is lowered.

Counted again: when the quota changes, when something of a counted kind goes or a pod ends, and every `RESYNC_S`. Limit: an
object whose write takes the database longer than `QUIET_S` may be counted late; then `used` is above `hard` for a while.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cluster_agent.control.controllers.pods import has_ended
from machinery.api.core import PODS, Pod
from machinery.api.quota import amounts, scopes, usage
from machinery.api.quota.amounts import ZERO, Amounts
from machinery.api.scheme import ServedKind
from machinery.client.dynamic_kinds import DEFINITIONS, DynamicKinds
from machinery.client.interface import dynamic
from machinery.controller.action import Action, RequeueAfter, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.controllers.garbagecollector.controller import collected, metadata_resource
from machinery.meta.objectmeta import Object
from machinery.meta.resource import Document, ObjectKey, Resource

QUIET_S: Final = 1.0
"""How long a quota must have stood still before `used` is lowered."""
RESYNC_S: Final = 300.0
COUNT_EVERY_S: Final = 0.5
"""A namespace is not counted more often: much may go at once."""
RESOURCE_QUOTAS: Final = dynamic("", "v1", "resourcequotas", "ResourceQuota", True)
_READ: Final = frozenset({("", "Pod"), ("", "Service"), ("", "PersistentVolumeClaim")})
"""Kinds of which more is counted than their number."""


def plan(quota: Document, found: Amounts, still_s: float) -> list[Action]:
    """The status that the quota should have. `still_s`: for how long it has not changed."""
    status = quota.get("status") or {}
    hard = amounts.read((quota.get("spec") or {}).get("hard"))
    before = amounts.read(status.get("used"))
    used, ahead = {}, False
    for name in hard:
        now, then = found.get(name, ZERO), before.get(name)
        lower = then is not None and now.value < then.value
        ahead = ahead or (lower and still_s < QUIET_S)
        used[name] = then if lower and then is not None and still_s < QUIET_S else now
    wanted = {"hard": amounts.written(hard), "used": amounts.written(used)}
    again: list[Action] = [RequeueAfter(QUIET_S - still_s if ahead else RESYNC_S)]
    if all(_same(status.get(part) or {}, wanted[part]) for part in wanted):
        return again
    patch = {
        part: {**dict.fromkeys(status.get(part) or {}), **values} for part, values in wanted.items()
    }
    key = ObjectKey(quota["metadata"]["namespace"], quota["metadata"]["name"])
    version = quota["metadata"]["resourceVersion"]
    return [SetStatus(RESOURCE_QUOTAS, key, patch, resource_version=version), *again]


def _same(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    a, b = amounts.read(held), amounts.read(wanted)
    return a.keys() == b.keys() and all(a[name].value == b[name].value for name in a)


class QuotaReconciler:
    """Read, count, plan, act; the key is the quota's."""

    def __init__(self, manager: Manager, kinds: Iterable[ServedKind]) -> None:
        self._client, self._clock = manager.client, manager.clock
        self._executor = manager.executor
        self._quotas = manager.informer(RESOURCE_QUOTAS)
        self._kinds = [kind for kind in kinds if kind.namespaced]
        self._custom: dict[str, Resource[Object]] = {}
        self._since: dict[ObjectKey, tuple[str, float]] = {}
        """Each quota's version, and when it was first seen."""
        self._counted: dict[ObjectKey, float] = {}

    def custom(self, old: Resource[Document] | None, new: Resource[Document] | None) -> None:
        """A custom kind comes or goes."""
        if old is not None:
            self._custom.pop(usage.COUNT + old.group_resource, None)
        if new is not None and new.namespaced:
            view = Resource(new.group, new.version, new.plural, new.kind, True, Object)
            self._custom[usage.COUNT + new.group_resource] = view

    def of(self, namespace: str) -> list[ObjectKey]:
        """The quotas of a namespace."""
        found = self._quotas.list(namespace) if namespace else []
        return [ObjectKey(namespace, quota["metadata"]["name"]) for quota in found]

    async def reconcile(self, key: ObjectKey) -> Result:
        quota = self._quotas.get(key)
        if quota is None or quota["metadata"].get("deletionTimestamp"):
            self._since.pop(key, None)
            self._counted.pop(key, None)
            return Result()
        version, now = quota["metadata"]["resourceVersion"], self._clock.monotonic()
        held = self._since.get(key)
        if held is None or held[0] != version:
            held = self._since[key] = (version, now)
        last = self._counted.get(key)
        if last is not None and now - last < COUNT_EVERY_S:
            return Result(requeue_after=COUNT_EVERY_S - (now - last))
        self._counted[key] = now
        return await self._executor.apply(plan(quota, await self._count(quota), now - held[1]))

    async def _count(self, quota: Document) -> Amounts:
        """What is there of all that the quota limits."""
        namespace = quota["metadata"]["namespace"]
        hard = (quota.get("spec") or {}).get("hard") or {}
        found: Amounts = {}
        for kind in self._kinds:
            names = usage.matching(kind, hard)
            if names:
                found = amounts.add(
                    found, amounts.masked(await self._of_kind(kind, quota, namespace), names)
                )
        if not scopes.selectors(quota):
            for name in hard:
                if (resource := self._custom.get(name)) is not None:
                    items = (await self._client.list(resource, namespace)).items
                    found[name] = amounts.count(len(items))
        return found

    async def _of_kind(self, kind: ServedKind, quota: Document, namespace: str) -> Amounts:
        if kind.group_kind not in _READ:
            if scopes.selectors(quota):
                return {}
            items = (await self._client.list(metadata_resource(kind), namespace)).items
            number = amounts.count(len(items))
            return {usage.counted_name(kind): number, kind.plural: number}
        resource = dynamic(kind.group, kind.version, kind.plural, kind.kind, True)
        documents = (await self._client.list(resource, namespace)).items
        now = self._clock.now()
        return usage.total(
            [usage.of(kind, one, now) for one in documents if scopes.selects(quota, kind, one)]
        )


def frees(old: Object | None, new: Object | None) -> bool:
    """Whether a change may have given something back."""
    if new is None:
        return True
    if not isinstance(old, Pod) or not isinstance(new, Pod):
        return False
    return has_ended(old) != has_ended(new) or old.metadata.generation != new.metadata.generation


def setup(
    manager: Manager, kinds: Sequence[ServedKind], shared: Iterable[Resource[Any]] = ()
) -> None:
    """Watch quotas, and what goes of the kinds that they can count. `shared`: views that others hold anyway."""
    counted = [kind for kind in collected(kinds) if kind.namespaced]
    reconciler = QuotaReconciler(manager, counted)
    builder = manager.controller("resource-quota", reconciler, workers=2)
    builder.watches(RESOURCE_QUOTAS)

    def changed(old: Object | None, new: Object | None) -> None:
        item = new if new is not None else old
        if item is not None and frees(old, new):
            for key in reconciler.of(item.metadata.namespace):
                builder.enqueue(key)

    views = {(view.group, view.kind): view for view in (*shared, PODS)}
    for kind in counted:
        if kind.group_kind == ("", "ResourceQuota"):
            continue
        informer = manager.informer(views.get(kind.group_kind) or metadata_resource(kind))
        informer.on_change(changed)

    def custom(old: Resource[Document] | None, new: Resource[Document] | None) -> None:
        reconciler.custom(old, new)
        if new is not None and new.namespaced:
            view = Resource(new.group, new.version, new.plural, new.kind, True, Object)
            manager.informer(view).on_change(changed)

    if any(kind.kind == "CustomResourceDefinition" for kind in kinds):
        DynamicKinds(manager.informer(DEFINITIONS)).on_change(custom)
