"""Applications: the binding says how long its workload has been unhealthy where, and whether that moves it.

For workloads whose policy has `spec.failover.application`. The account (`federation.propagation.applications`) is an annotation
of the binding, the condition `ApplicationHealthy` its words. Moving is the evictor's business, which paces and orders it beside
everything else that leaves a cluster.
"""

import datetime as dt
from collections.abc import Callable

from federation.controllers import dispatcher
from federation.propagation import applications, conditions, interpreter
from federation.propagation.applications import ACCOUNT, CONDITION, Limits
from federation.propagation.demand import Demand, demand_of
from federation.propagation.resilience import resilience
from federation.propagation.scopes import IN_NAMESPACES, SCOPES, Scope
from federation.propagation.sources import Sources
from federation.propagation.templates import TEMPLATES
from machinery.api.fleet.resilience import RESILIENCE_POLICIES, ResiliencePolicy
from machinery.api.fleet.work import ResourceBinding, binding_resource
from machinery.controller.action import Action, Patch, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey, Resource

BY_ACCOUNT = "application-account"


def concerned(binding: ResourceBinding) -> bool:
    """Whether the binding has an account, or shall have one."""
    asked = applications.policy_of(binding) is not None
    return not binding.deleting and (asked or ACCOUNT in binding.metadata.annotations)


def failing(binding: ResourceBinding) -> list[str]:
    """Index of bindings whose workload may be unhealthy somewhere."""
    text = binding.metadata.annotations.get(ACCOUNT, "")
    return ["yes"] if applications.UNHEALTHY in text and not binding.deleting else []


def plan(
    binding: ResourceBinding, template: Document | None, tolerated: Limits | None, now: dt.datetime
) -> list[Action]:
    """The account first, its words when it is written. `tolerated` None: the workload does not move for its health."""
    if not concerned(binding):
        return []
    counts = template is not None and (interpreter.is_workload(template) or binding.spec.replicas)
    if tolerated is None or template is None or not counts:
        return _forgotten(binding)
    account = applications.observed(binding, template, tolerated, now)
    if account != applications.account_of(binding.metadata.annotations):
        return [_noted(binding, applications.written(account))]
    wanted = applications.told(binding, account, tolerated, rfc3339(now))
    held = condition(binding.status.conditions, CONDITION)
    words = (wanted["status"], wanted["reason"], wanted["message"])
    if held is not None and (held.status, held.reason, held.message) == words:
        return []
    return [conditions.told(binding, CONDITION, wanted)]


def _noted(binding: ResourceBinding, text: str | None) -> Action:
    patch = {"metadata": {"annotations": {ACCOUNT: text}}}
    version = binding.metadata.resource_version
    return Patch(binding_resource(binding.key), binding.key, patch, resource_version=version)


def _forgotten(binding: ResourceBinding) -> list[Action]:
    """The policy says nothing any more."""
    if condition(binding.status.conditions, CONDITION) is not None:
        return [conditions.told(binding, CONDITION, None)]
    return [_noted(binding, None)] if ACCOUNT in binding.metadata.annotations else []


class ApplicationsReconciler:
    """Bindings of one scope whose policy has application failover."""

    def __init__(self, manager: Manager, demand: Demand, scope: Scope = IN_NAMESPACES) -> None:
        self._clock, self._executor = manager.clock, manager.executor
        self._bindings = manager.informer(scope.bindings)
        self._policies = manager.informer(RESILIENCE_POLICIES)
        self._sources = Sources(manager.informer, demand=demand)

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None or not concerned(binding):
            return Result()
        template = self._sources.placed_by(binding)
        policy = applications.policy_of(binding)
        tolerated = None
        if template is not None and policy is not None:
            own = resilience(template, self._policies.list())
            tolerated = applications.limits(policy, own, template)
        return await self._executor.apply(plan(binding, template, tolerated, self._clock.now()))


def setup(manager: Manager) -> None:
    """Bindings that have an account, their templates, and the policies that say how long a start may take."""
    demand = demand_of(manager.informer)
    for scope in SCOPES:
        _account(manager, demand, scope)


def _account(manager: Manager, demand: Demand, scope: Scope) -> None:
    bindings = manager.informer(scope.bindings)
    bindings.add_index("template", dispatcher.template_key)
    bindings.add_index(BY_ACCOUNT, lambda b: ["yes"] if concerned(b) else [])
    reconciler = ApplicationsReconciler(manager, demand, scope)
    controller = manager.controller(scope.named("applications"), reconciler)
    controller.watches(scope.bindings, lambda b: [b.key] if concerned(b) else [])

    def of_policy(_: ResiliencePolicy) -> list[ObjectKey]:
        return [b.key for b in bindings.by_index(BY_ACCOUNT, "yes")]

    def of_template(resource: Resource[Document]) -> Callable[[Document], list[ObjectKey]]:
        def keys(template: Document) -> list[ObjectKey]:
            metadata = template["metadata"]
            value = (resource.kind, metadata.get("namespace", ""), metadata["name"])
            return [b.key for b in bindings.by_index("template", value) if concerned(b)]

        return keys

    def come(resource: Resource[Document]) -> None:
        if resource.namespaced == scope.namespaced:
            controller.watches(resource, of_template(resource))

    controller.watches(RESILIENCE_POLICIES, of_policy)
    for resource in TEMPLATES:
        come(resource)
    demand.follow(come)
