"""Which policy claims a template (Karmada's order).

A namespaced policy always beats a cluster policy. Then the higher `priority`; of equals the more precise selector (name,
then labels, then kind alone); then the lower name.
"""

from collections.abc import Iterable, Mapping

from machinery.api.core import LabelSelector
from machinery.api.fleet.policy import (
    ClusterPropagationPolicy,
    PropagationPolicy,
    ResourceSelector,
)
from machinery.meta.resource import Document
from machinery.scheduling.selection import compile_selector

Policy = PropagationPolicy | ClusterPropagationPolicy

BY_NAME, BY_LABEL, BY_KIND, NOT_AT_ALL = 3, 2, 1, 0


def precision(selector: ResourceSelector, document: Document, default_namespace: str) -> int:
    """How precisely the selector names the template; NOT_AT_ALL when it does not."""
    metadata = document["metadata"]
    namespace = selector.namespace or default_namespace
    if (selector.api_version, selector.kind) != (document["apiVersion"], document["kind"]):
        return NOT_AT_ALL
    if namespace and namespace != metadata.get("namespace", ""):
        return NOT_AT_ALL
    if selector.name:
        return BY_NAME if selector.name == metadata["name"] else NOT_AT_ALL
    if selector.label_selector is not None:
        matches = _matches(selector.label_selector, metadata.get("labels") or {})
        return BY_LABEL if matches else NOT_AT_ALL
    return BY_KIND


def _matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Nearly all selectors are pairs alone, and every policy is asked about every workload: those are not compiled."""
    if not selector.match_expressions:
        return selector.match_labels.items() <= labels.items()
    return compile_selector(selector)(labels)


def policy_precision(policy: Policy, document: Document) -> int:
    """The best of the policy's selectors."""
    namespace = policy.metadata.namespace
    if namespace and namespace != document["metadata"].get("namespace", ""):
        return NOT_AT_ALL
    selectors = policy.spec.resource_selectors
    return max((precision(s, document, namespace) for s in selectors), default=NOT_AT_ALL)


def claimant(
    document: Document,
    policies: Iterable[PropagationPolicy],
    cluster_policies: Iterable[ClusterPropagationPolicy],
) -> Policy | None:
    """The policy that decides about the template, or None."""
    return _best(document, policies) or _best(document, cluster_policies)


def _best(document: Document, policies: Iterable[Policy]) -> Policy | None:
    found = [
        ((-policy.spec.priority, -score, policy.metadata.name), policy)
        for policy in policies
        if not policy.deleting and (score := policy_precision(policy, document))
    ]
    return min(found, key=lambda item: item[0])[1] if found else None
