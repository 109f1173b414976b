"""Applications: the binding says how long its workload has been unhealthy where, and whether that moves it.

For workloads whose policy has `spec.failover.application`. The account (`federation.propagation.applications`) is an annotation
of the binding, the condition `ApplicationHealthy` its words. Moving is the evictor's business, which paces and orders it beside
everything else that leaves a cluster.
"""

import datetime as dt
from collections.abc import Callable

from federation.controllers import dispatcher
from federation.propagation import applications, interpreter
from federation.propagation.applications import ACCOUNT, CONDITION, Limits
from federation.propagation.resilience import resilience
from federation.propagation.templates import TEMPLATES
from machinery.api.fleet.resilience import RESILIENCE_POLICIES, ResiliencePolicy
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.controller.action import Action, Patch, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition, condition_document
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
    if tolerated is None or template is None or not interpreter.is_workload(template):
        return _forgotten(binding)
    account = applications.observed(binding, template, tolerated, now)
    if account != applications.account_of(binding.metadata.annotations):
        return [_noted(binding, applications.written(account))]
    wanted = applications.told(binding, account, tolerated, rfc3339(now))
    held = condition(binding.status.conditions, CONDITION)
    words = (wanted["status"], wanted["reason"], wanted["message"])
    if held is not None and (held.status, held.reason, held.message) == words:
        return []
    return [_said(binding, wanted)]


def _noted(binding: ResourceBinding, text: str | None) -> Action:
    patch = {"metadata": {"annotations": {ACCOUNT: text}}}
    version = binding.metadata.resource_version
    return Patch(RESOURCE_BINDINGS, binding.key, patch, resource_version=version)


def _said(binding: ResourceBinding, wanted: Document | None) -> Action:
    others = [condition_document(c) for c in binding.status.conditions if c.type != CONDITION]
    conditions = [*others, wanted] if wanted is not None else others
    version = binding.metadata.resource_version
    return SetStatus(
        RESOURCE_BINDINGS, binding.key, {"conditions": conditions}, resource_version=version
    )


def _forgotten(binding: ResourceBinding) -> list[Action]:
    """The policy says nothing any more."""
    if condition(binding.status.conditions, CONDITION) is not None:
        return [_said(binding, None)]
    return [_noted(binding, None)] if ACCOUNT in binding.metadata.annotations else []


class ApplicationsReconciler:
    """Bindings whose policy has application failover."""

    def __init__(self, manager: Manager) -> None:
        self._clock, self._executor = manager.clock, manager.executor
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._policies = manager.informer(RESILIENCE_POLICIES)
        self._templates = {r.kind: manager.informer(r) for r in TEMPLATES}

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None or not concerned(binding):
            return Result()
        template = self._template(binding)
        policy = applications.policy_of(binding)
        tolerated = None
        if template is not None and policy is not None:
            own = resilience(template, self._policies.list())
            tolerated = applications.limits(policy, own, template)
        return await self._executor.apply(plan(binding, template, tolerated, self._clock.now()))

    def _template(self, binding: ResourceBinding) -> Document | None:
        source = binding.spec.resource
        informer = self._templates.get(source.kind)
        found = informer.get(ObjectKey(source.namespace, source.name)) if informer else None
        return found if found is not None and found["metadata"]["uid"] == source.uid else None


def setup(manager: Manager) -> None:
    """Bindings that have an account, their templates, and the policies that say how long a start may take."""
    bindings = manager.informer(RESOURCE_BINDINGS)
    bindings.add_index("template", dispatcher.template_key)
    bindings.add_index(BY_ACCOUNT, lambda b: ["yes"] if concerned(b) else [])
    controller = manager.controller("applications", ApplicationsReconciler(manager))
    controller.watches(RESOURCE_BINDINGS, lambda b: [b.key] if concerned(b) else [])

    def of_policy(_: ResiliencePolicy) -> list[ObjectKey]:
        return [b.key for b in bindings.by_index(BY_ACCOUNT, "yes")]

    def of_template(resource: Resource[Document]) -> Callable[[Document], list[ObjectKey]]:
        def keys(template: Document) -> list[ObjectKey]:
            metadata = template["metadata"]
            value = (resource.kind, metadata.get("namespace", ""), metadata["name"])
            return [b.key for b in bindings.by_index("template", value) if concerned(b)]

        return keys

    controller.watches(RESILIENCE_POLICIES, of_policy)
    for resource in TEMPLATES:
        controller.watches(resource, of_template(resource))
