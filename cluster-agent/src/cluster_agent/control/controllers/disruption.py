"""PodDisruptionBudgets: how many of the protected pods may be disrupted now.

Healthy are pods that are ready, not going, and not just evicted. What is wanted comes from the budget: a number of pods, or
a share of what the pods' controllers want, which is asked of their scale. An eviction takes from the status (the API server
does, `machinery.server.budgets`) and names its pod in `disruptedPods`; a name is dropped when its pod goes, or when it has
not gone after two minutes. A budget that cannot be worked out allows nothing, and its condition says why.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cluster_agent.control.controllers.pods import is_ready
from cluster_agent.control.controllers.workloads import DEPLOYMENTS, REPLICASETS
from machinery.api import disruption
from machinery.api.core import PODS, Pod
from machinery.api.scheme import ServedKind
from machinery.client.interface import dynamic
from machinery.controller.action import Action, Emit, RequeueAfter, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.controllers.events import executor_for
from machinery.kit.clock import parse_time, rfc3339
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import Object, OwnerReference, controller_of
from machinery.meta.resource import Document, ObjectKey, Resource, split_api_version
from machinery.meta.selectors import SelectorError

DELETION_S: Final = 120.0
"""How long an evicted pod may take to begin to go."""
PODDISRUPTIONBUDGETS: Final = dynamic(
    "policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True
)


@dataclass(frozen=True, slots=True)
class Scales:
    """What the controllers of the pods want together, or why that is not known."""

    total: int = 0
    failure: str = ""


def plan(budget: Document, pods: Sequence[Pod], scales: Scales, now: dt.datetime) -> list[Action]:
    """The status that the budget should have, and words about what is odd. `pods` are those it is about."""
    metadata, spec = budget["metadata"], budget.get("spec") or {}
    status = budget.get("status") or {}
    key = ObjectKey(metadata["namespace"], metadata["name"])

    def tell(kind: str, reason: str, text: str) -> Emit:
        return Emit(PODDISRUPTIONBUDGETS, key, metadata["uid"], kind, reason, text)

    if scales.failure:
        stopped = _failed(budget, scales.failure, now)
        if _same(status, stopped):
            return []
        why = f"Failed to calculate the number of expected pods: {scales.failure}"
        return [
            tell("Warning", "CalculateExpectedPodCountFailed", why),
            _set(budget, key, stopped),
        ]
    said: list[Action] = [] if pods else [tell("Normal", "NoPods", "No matching pods found")]
    evicted, late = _evicted(pods, status, now)
    said += [
        tell("Warning", "NotDeleted", f"Pod was expected by PDB {key.namespace}/{key.name} to be deleted but it wasn't")
        for _ in late
    ]  # fmt: skip
    expected, desired = disruption.wanted(spec, len(pods), scales.total)
    healthy = sum(1 for pod in pods if _is_healthy(pod, evicted))
    allowed = max(0, healthy - desired) if expected > 0 else 0
    generation = metadata.get("generation", 0)
    fresh = {
        "observedGeneration": generation,
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "conditions": disruption.with_condition(status, allowed, generation, rfc3339(now)),
        "disruptedPods": _replacing(status, {n: rfc3339(when) for n, when in evicted.items()}),
    }
    if evicted:
        first = min(evicted.values()) + dt.timedelta(seconds=DELETION_S)
        said.append(RequeueAfter(max(1.0, (first - now).total_seconds())))
    if _same(status, fresh):
        return [one for one in said if isinstance(one, RequeueAfter)]
    return [*said, _set(budget, key, fresh)]


def _set(budget: Document, key: ObjectKey, status: Document) -> SetStatus:
    version = budget["metadata"]["resourceVersion"]
    return SetStatus(PODDISRUPTIONBUDGETS, key, status, resource_version=version)


def _failed(budget: Document, why: str, now: dt.datetime) -> Document:
    status, generation = budget.get("status") or {}, budget["metadata"].get("generation", 0)
    conditions = disruption.with_condition(status, 0, generation, rfc3339(now), why)
    return {
        "observedGeneration": generation,
        "disruptionsAllowed": 0,
        "conditions": conditions,
    }


def _replacing(status: Document, wanted: Mapping[str, str]) -> Document | None:
    """A merge patch of the evicted pods; None takes the whole map away."""
    if not wanted:
        return None
    return {**dict.fromkeys(status.get("disruptedPods") or {}), **wanted}


def _same(held: Document, wanted: Document) -> bool:
    for name, value in wanted.items():
        if isinstance(value, dict):
            value = {key: one for key, one in value.items() if one is not None}
        if held.get(name, 0 if isinstance(value, int) else None) != value:
            return False
    return True


def _evicted(
    pods: Iterable[Pod], status: Document, now: dt.datetime
) -> tuple[dict[str, dt.datetime], list[str]]:
    """Pods that were evicted and do not go yet, with when; and those that should have gone by now."""
    names: Mapping[str, str] = status.get("disruptedPods") or {}
    waiting: dict[str, dt.datetime] = {}
    late: list[str] = []
    for pod in pods:
        name = pod.metadata.name
        if pod.deleting or name not in names:
            continue
        when = parse_time(names[name])
        if now > when + dt.timedelta(seconds=DELETION_S):
            late.append(name)
        else:
            waiting[name] = when
    return waiting, late


def _is_healthy(pod: Pod, evicted: Mapping[str, dt.datetime]) -> bool:
    return not pod.deleting and pod.metadata.name not in evicted and is_ready(pod)


class DisruptionReconciler:
    """Read, plan, act; the key is the budget's."""

    def __init__(self, manager: Manager, kinds: Iterable[ServedKind]) -> None:
        self._client, self._clock = manager.client, manager.clock
        self._executor = executor_for(manager, "controllermanager")
        self._budgets = manager.informer(PODDISRUPTIONBUDGETS)
        self._pods = manager.informer(PODS)
        self._sets, self._deployments = manager.informer(REPLICASETS), manager.informer(DEPLOYMENTS)
        self._scaled = {
            kind.group_kind: dynamic(kind.group, kind.version, kind.plural, kind.kind, True)
            for kind in kinds
            if kind.subresource("scale") is not None
        }

    def of(self, item: Object) -> list[ObjectKey]:
        """The budgets of the namespace that are about a pod."""
        labels = item.metadata.labels
        return [
            _key(budget)
            for budget in self._budgets.list(item.metadata.namespace)
            if _takes(budget, labels)
        ]

    def all_of(self, item: Object) -> list[ObjectKey]:
        """The budgets of a namespace."""
        return [_key(budget) for budget in self._budgets.list(item.metadata.namespace)]

    async def reconcile(self, key: ObjectKey) -> Result:
        budget = self._budgets.get(key)
        if budget is None or budget["metadata"].get("deletionTimestamp"):
            return Result()
        pods = [p for p in self._pods.list(key.namespace) if _takes(budget, p.metadata.labels)]
        needed = disruption.needs_scale(budget.get("spec") or {})
        scales = await self._scales(key.namespace, pods) if needed else Scales()
        return await self._executor.apply(plan(budget, pods, scales, self._clock.now()))

    async def _scales(self, namespace: str, pods: Iterable[Pod]) -> Scales:
        """The sum over the pods' controllers; pods without one do not count."""
        wanted: dict[str, int] = {}
        for pod in pods:
            owner = controller_of(pod.metadata)
            if owner is None:
                continue
            above = self._above(namespace, owner)
            if above.uid in wanted:
                continue
            scale = await self._scale(namespace, above)
            if scale is None:
                return Scales(failure=f'found no controllers for pod "{pod.metadata.name}"')
            wanted[above.uid] = scale
        return Scales(sum(wanted.values()))

    def _above(self, namespace: str, owner: OwnerReference) -> OwnerReference:
        """The Deployment above a ReplicaSet."""
        if (_group(owner), owner.kind) != (REPLICASETS.group, REPLICASETS.kind):
            return owner
        found = self._sets.get(ObjectKey(namespace, owner.name))
        return (controller_of(found.metadata) if found is not None else None) or owner

    async def _scale(self, namespace: str, owner: OwnerReference) -> int | None:
        key, kind = ObjectKey(namespace, owner.name), (_group(owner), owner.kind)
        known: Any = None
        if kind == (DEPLOYMENTS.group, DEPLOYMENTS.kind):
            known = self._deployments.get(key)
        elif kind == (REPLICASETS.group, REPLICASETS.kind):
            known = self._sets.get(key)
        if known is not None and known.metadata.uid == owner.uid:
            return int(known.spec.replicas)
        resource: Resource[Document] | None = self._scaled.get(kind)
        if resource is None:
            return None
        try:
            scale = await self._client.get(resource, key, subresource="scale")
        except NotFound:
            return 0
        return int((scale.get("spec") or {}).get("replicas", 0))


def _group(owner: OwnerReference) -> str:
    return split_api_version(owner.api_version)[0]


def _key(budget: Document) -> ObjectKey:
    return ObjectKey(budget["metadata"]["namespace"], budget["metadata"]["name"])


def _takes(budget: Document, labels: Mapping[str, str]) -> bool:
    selector = (budget.get("spec") or {}).get("selector")
    try:
        return selector is not None and disruption.selects(selector, labels)
    except SelectorError:
        return False  # validation lets none in


def setup(manager: Manager, kinds: Iterable[ServedKind]) -> None:
    """Watch budgets, the pods that they are about, and what the pods' controllers want."""
    reconciler = DisruptionReconciler(manager, kinds)
    builder = manager.controller("disruption", reconciler, workers=2)
    builder.watches(PODDISRUPTIONBUDGETS)
    builder.watches(PODS, reconciler.of)
    builder.watches(REPLICASETS, reconciler.all_of)
    builder.watches(DEPLOYMENTS, reconciler.all_of)
