"""Admission policies and their bindings (admissionregistration.k8s.io): the kinds, and what is filled in when a client leaves it out."""

from dataclasses import replace
from typing import Any, Final

from machinery.api.scheme import ServedKind, Subresource
from machinery.api.webhook_kinds import registration_kind
from machinery.meta.resource import Document


def _with_status(kind: ServedKind) -> ServedKind:
    return replace(kind, subresources=(Subresource("status", kind.kind),), has_status=True)


VALIDATING_POLICY = _with_status(
    registration_kind("ValidatingAdmissionPolicy", "validatingadmissionpolicies")
)
VALIDATING_BINDING = registration_kind(
    "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"
)
MUTATING_POLICY = registration_kind("MutatingAdmissionPolicy", "mutatingadmissionpolicies")
MUTATING_BINDING = registration_kind(
    "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"
)
POLICY_KINDS: tuple[ServedKind, ...] = (
    MUTATING_BINDING, MUTATING_POLICY, VALIDATING_BINDING, VALIDATING_POLICY,
)  # fmt: skip
GROUP_KINDS: Final = frozenset(kind.group_kind for kind in POLICY_KINDS)


# ------------------------------------------------------------------------------------------------------------- defaults
def policy_defaults(document: Document) -> Document:
    """A policy of either sort."""
    spec = _filled(document.get("spec") or {}, {"failurePolicy": "Fail"})
    if (constraints := spec.get("matchConstraints")) is not None:
        spec["matchConstraints"] = _match_resources(constraints)
    return {**document, "spec": spec}


def binding_defaults(document: Document) -> Document:
    """A binding of either sort."""
    spec = document.get("spec") or {}
    if (resources := spec.get("matchResources")) is not None:
        spec = {**spec, "matchResources": _match_resources(resources)}
    return {**document, "spec": spec}


def _match_resources(resources: Document) -> Document:
    filled = _filled(
        resources, {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
    )
    for key in ("resourceRules", "excludeResourceRules"):
        if rules := filled.get(key):
            filled[key] = [_filled(rule, {"scope": "*"}) for rule in rules]
    return filled


def _filled(document: Document, values: dict[str, Any]) -> Document:
    missing = {key: value for key, value in values.items() if document.get(key) is None}
    return {**document, **missing}


DEFAULTS: Final = {
    VALIDATING_POLICY.group_kind: policy_defaults,
    MUTATING_POLICY.group_kind: policy_defaults,
    VALIDATING_BINDING.group_kind: binding_defaults,
    MUTATING_BINDING.group_kind: binding_defaults,
}
