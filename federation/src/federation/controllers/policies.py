"""Policies: a propagation policy that is being deleted is let go when no binding is claimed by it any more.

Admission gives policies Karmada's finalizer, so that nobody finds a claim by a policy that is gone. The detector ends the
claims of a policy as soon as its deletion begins; what ran goes on where it runs.
"""

from collections.abc import Iterable
from typing import Any

from federation.propagation.admission.defaults import CLUSTER_POLICY_FINALIZER, POLICY_FINALIZER
from federation.propagation.claims import CLUSTER_POLICY_NAME, POLICY_NAME
from federation.propagation.matching import Policy
from federation.propagation.scopes import SCOPES
from machinery.api.fleet.policy import (
    CLUSTER_PROPAGATION_POLICIES,
    PROPAGATION_POLICIES,
)
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Patch, Result
from machinery.controller.manager import Manager
from machinery.meta.resource import ObjectKey, Resource

BY_POLICY = "claimed-by"


def claimed_by(binding: ResourceBinding) -> list[ObjectKey]:
    """The key of the policy that the binding names; a cluster policy's has no namespace."""
    marks = binding.metadata.annotations
    if own := marks.get(POLICY_NAME):
        return [ObjectKey(binding.metadata.namespace, own)]
    return [ObjectKey("", of_all)] if (of_all := marks.get(CLUSTER_POLICY_NAME)) else []


def plan(policy: Policy | None, claims: Iterable[ResourceBinding]) -> list[Action]:
    """`claims`: the bindings that name the policy."""
    if policy is None or not policy.deleting:
        return []
    namespaced = bool(policy.metadata.namespace)
    own = POLICY_FINALIZER if namespaced else CLUSTER_POLICY_FINALIZER
    if own not in policy.metadata.finalizers or any(not b.deleting for b in claims):
        return []
    kept = [f for f in policy.metadata.finalizers if f != own]
    resource: Resource[Any] = PROPAGATION_POLICIES if namespaced else CLUSTER_PROPAGATION_POLICIES
    version = policy.metadata.resource_version
    patch = {"metadata": {"finalizers": kept or None}}
    return [Patch(resource, policy.key, patch, resource_version=version)]


class PolicyReconciler:
    """Policies of one kind."""

    def __init__(self, manager: Manager, resource: Resource[Any]) -> None:
        self._executor = manager.executor
        self._policies = manager.informer(resource)
        self._bindings = [manager.informer(scope.bindings) for scope in SCOPES]

    async def reconcile(self, key: ObjectKey) -> Result:
        claims = [b for informer in self._bindings for b in informer.by_index(BY_POLICY, key)]
        return await self._executor.apply(plan(self._policies.get(key), claims))


def setup(manager: Manager) -> None:
    """Both kinds; a binding that changes may have been the last one of a policy that goes."""
    for scope in SCOPES:
        manager.informer(scope.bindings).add_index(BY_POLICY, claimed_by)
    kinds: tuple[Resource[Any], ...] = (PROPAGATION_POLICIES, CLUSTER_PROPAGATION_POLICIES)
    for resource in kinds:
        policies = manager.informer(resource)
        controller = manager.controller(
            f"policies-{resource.plural}", PolicyReconciler(manager, resource)
        )
        controller.watches(resource)
        for scope in SCOPES:
            controller.watches(scope.bindings, _going(policies))


def _going(policies: Any) -> Any:
    """Which policies a changed binding may let go: those that are being deleted. Ordinarily there are none."""

    def keys(binding: ResourceBinding) -> list[ObjectKey]:
        return [p.key for p in policies.list() if p.deleting]

    return keys
