"""Rebalancer: every workload that a WorkloadRebalancer names is placed anew, once, and its status says so.

It only writes `spec.rescheduleTriggeredAt` of the binding; the placer then decides as if nothing ran, and what moves, moves
surge first. Successful means that the decision was asked for, as in Karmada. A later change of the list asks for what is
new in it and for what has failed; what was done before stays done, and stays told.

Karmada writes the time of the WorkloadRebalancer's creation, so a workload that was placed since, or was added later, is
called Successful and nothing happens. Here it is the time of asking, and one that is decided in this very second waits for
the next, since times in objects have whole seconds. A request counts as made if somebody made one since this one was created,
or since it was last finished: so a pass that is interrupted asks nobody twice.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from federation.controllers import placer
from federation.propagation.scopes import Bindings
from federation.propagation.works import binding_name
from machinery.api.fleet.operations import (
    WORKLOAD_REBALANCERS,
    ObservedWorkload,
    WorkloadRebalancer,
    WorkloadReference,
)
from machinery.api.fleet.work import ResourceBinding, binding_resource
from machinery.controller.action import Action, Delete, Patch, RequeueAfter, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.resource import Document, ObjectKey

SUCCESSFUL, FAILED = "Successful", "Failed"
NOT_FOUND = "ReferencedBindingNotFound"
SECOND_S = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of one workload, and what is to be done for it."""

    workload: ObservedWorkload
    actions: tuple[Action, ...] = ()


def binding_key(workload: WorkloadReference) -> ObjectKey:
    """The workload's binding; of an object of a cluster, which has no namespace, a ClusterResourceBinding."""
    return ObjectKey(workload.namespace, binding_name(workload.kind, workload.name))


def plan(
    rebalancer: WorkloadRebalancer,
    bindings: Mapping[ObjectKey, ResourceBinding],
    now: dt.datetime,
) -> list[Action]:
    """`bindings`: those of the named workloads, as far as there are any."""
    if rebalancer.deleting:
        return []
    status = rebalancer.status
    if status.observed_generation == rebalancer.metadata.generation and status.finish_time:
        return _expiry(rebalancer, status.finish_time, now)
    since = status.finish_time or rebalancer.metadata.creation_timestamp or now
    name = rebalancer.metadata.name
    asked = [
        Asked(one)
        if one.result == SUCCESSFUL
        else _ask(one.workload, bindings.get(binding_key(one.workload)), name, since, now)
        for one in observed(rebalancer)
    ]
    actions = [action for one in asked for action in one.actions]
    if any(not one.workload.result for one in asked):
        return [*actions, RequeueAfter(SECOND_S)]
    return [*actions, _finished(rebalancer, [one.workload for one in asked], now)]


def observed(rebalancer: WorkloadRebalancer) -> list[ObservedWorkload]:
    """What the status speaks of: every workload of the list, once, and whatever was done before; in Karmada's order."""
    told = {one.workload: one for one in rebalancer.status.observed_workloads}
    done = {workload for workload, one in told.items() if one.result == SUCCESSFUL}
    return sorted(
        (told.get(w, ObservedWorkload(w)) for w in {*rebalancer.spec.workloads, *done}),
        key=lambda one: (
            one.workload.api_version,
            one.workload.kind,
            one.workload.namespace,
            one.workload.name,
        ),
    )


def _ask(
    workload: WorkloadReference,
    binding: ResourceBinding | None,
    rebalancer: str,
    since: dt.datetime,
    now: dt.datetime,
) -> Asked:
    if binding is None or binding.deleting:
        return Asked(ObservedWorkload(workload, FAILED, NOT_FOUND))
    triggered = binding.spec.reschedule_triggered_at
    if triggered is not None and triggered >= since.replace(microsecond=0):
        return Asked(ObservedWorkload(workload, SUCCESSFUL))
    decided = binding.status.last_scheduled_time
    if decided is not None and decided >= now.replace(microsecond=0):
        return Asked(ObservedWorkload(workload))
    patch = {"spec": {"rescheduleTriggeredAt": rfc3339(now)}}
    text = f"WorkloadRebalancer {rebalancer} asks for a new decision, as if nothing ran yet"
    asking: list[Action] = [
        Patch(binding_resource(binding.key), binding.key, patch, uid=binding.metadata.uid),
        *placer.say(binding, "Normal", "RebalanceWorkload", text),
    ]
    return Asked(ObservedWorkload(workload, SUCCESSFUL), tuple(asking))


def _finished(
    rebalancer: WorkloadRebalancer, workloads: Iterable[ObservedWorkload], now: dt.datetime
) -> Action:
    status: Document = {
        "observedWorkloads": [wire(one) for one in workloads],
        "observedGeneration": rebalancer.metadata.generation,
        "finishTime": rfc3339(now),
    }
    version = rebalancer.metadata.resource_version
    return SetStatus(WORKLOAD_REBALANCERS, rebalancer.key, status, resource_version=version)


def wire(one: ObservedWorkload) -> Document:
    """An entry of the status; what is empty is left out."""
    workload = {
        "apiVersion": one.workload.api_version,
        "kind": one.workload.kind,
        "namespace": one.workload.namespace,
        "name": one.workload.name,
    }
    entry: Document = {"workload": {key: value for key, value in workload.items() if value}}
    return entry | {k: v for k, v in (("result", one.result), ("reason", one.reason)) if v}


def _expiry(
    rebalancer: WorkloadRebalancer, finished: dt.datetime, now: dt.datetime
) -> list[Action]:
    ttl_s = rebalancer.spec.ttl_seconds_after_finished
    if ttl_s is None:
        return []
    left_s = ttl_s - (now - finished).total_seconds()
    if left_s > 0:
        return [RequeueAfter(left_s)]
    meta = rebalancer.metadata
    return [
        Delete(
            WORKLOAD_REBALANCERS,
            rebalancer.key,
            uid=meta.uid,
            resource_version=meta.resource_version,
        )
    ]


class RebalancerReconciler:
    """WorkloadRebalancers."""

    def __init__(self, manager: Manager) -> None:
        self._clock, self._executor = manager.clock, manager.executor
        self._rebalancers = manager.informer(WORKLOAD_REBALANCERS)
        self._bindings = Bindings(manager.informer)

    async def reconcile(self, key: ObjectKey) -> Result:
        rebalancer = self._rebalancers.get(key)
        if rebalancer is None:
            return Result()
        named = (binding_key(w) for w in rebalancer.spec.workloads)
        found = {key: held for key in named if (held := self._bindings.get(key)) is not None}
        return await self._executor.apply(plan(rebalancer, found, self._clock.now()))


def setup(manager: Manager) -> None:
    """WorkloadRebalancers alone: a workload that has no binding has failed, and is not waited for."""
    controller = manager.controller("rebalancer", RebalancerReconciler(manager))
    controller.watches(WORKLOAD_REBALANCERS)
