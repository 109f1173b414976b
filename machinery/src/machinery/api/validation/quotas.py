"""ResourceQuotas: what can be limited, and which scopes go with it."""

from collections.abc import Mapping
from typing import Any, Final

from machinery.api.validation import resources
from machinery.api.validation.causes import Causes
from machinery.api.validation.metadata import IMMUTABLE
from machinery.meta import names, quantity
from machinery.meta.resource import Document

_COUNTED: Final = frozenset(
    {
        "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps",
        "persistentvolumeclaims", "services.nodeports", "services.loadbalancers",
    }
)  # fmt: skip
_COMPUTE: Final = frozenset(
    {"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}
)
_STANDARD: Final = _COUNTED | _COMPUTE | frozenset(
    {
        "ephemeral-storage", "requests.storage", "requests.ephemeral-storage",
        "limits.ephemeral-storage",
    }
)  # fmt: skip
_HUGE: Final = ("hugepages-", "requests.hugepages-")
_POD_SCOPES: Final = (
    "Terminating", "NotTerminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity",
)  # fmt: skip
_SCOPES: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(_POD_SCOPES, _COMPUTE | {"pods"}),
    "BestEffort": frozenset({"pods"}),
    "VolumeAttributesClass": frozenset({"persistentvolumeclaims", "requests.storage"}),
}
"""Scope -> the standard resources that it goes with."""
_ONLY_EXIST: Final = (
    "Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity",
)  # fmt: skip
_OPPOSED: Final = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_MUST_EXIST: Final = (
    "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)


def resource_quota(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    hard = spec.get("hard") or {}
    _amounts(hard, "spec.hard", causes)
    if scopes := spec.get("scopes"):
        _scopes(scopes, hard, causes)
    if (selector := spec.get("scopeSelector")) is not None:
        _selector(selector, hard, causes)


def resource_quota_update(new: Document, old: Document, causes: Causes) -> None:
    resource_quota(new, causes)
    scopes = [(one.get("spec") or {}).get("scopes") or [] for one in (new, old)]
    if set(scopes[0]) != set(scopes[1]):
        causes.invalid("spec.scopes", scopes[0] or None, IMMUTABLE)


def resource_quota_status(new: Document, old: Document, causes: Causes) -> None:
    status = new.get("status") or {}
    for part in ("hard", "used"):
        _amounts(status.get(part) or {}, f"status.{part}", causes)


def _amounts(found: Mapping[str, Any], field: str, causes: Causes) -> None:
    for name, value in found.items():
        where = f"{field}[{name}]"
        causes.invalid_each(where, name, names.qualified_name(name))
        if "/" not in name and name not in _STANDARD and not name.startswith(_HUGE):
            causes.invalid(where, name, "must be a standard resource for quota")
        amount = quantity.quantity_of(value)
        if amount.value < 0:
            causes.invalid(where, str(amount), resources.NOT_NEGATIVE)
        if (name in _COUNTED or resources.is_extended(name)) and not amount.integral:
            causes.invalid(where, str(amount), "must be an integer")


def _misfit(scope: str, hard: Mapping[str, Any]) -> int:
    """How many of the limited standard resources the scope does not go with."""
    return sum(1 for name in hard if name in _STANDARD and name not in _SCOPES.get(scope, ()))


def _scopes(scopes: list[str], hard: Mapping[str, Any], causes: Causes) -> None:
    field = "spec.scopes"
    for scope in scopes:
        if scope not in _SCOPES:
            causes.invalid(field, scopes, "unsupported scope")
            continue
        for _ in range(_misfit(scope, hard)):
            causes.invalid(field, scopes, "unsupported scope applied to resource")
    for pair in _OPPOSED:
        if set(pair) <= set(scopes):
            causes.invalid(field, scopes, "conflicting scopes")


def _selector(selector: Document, hard: Mapping[str, Any], causes: Causes) -> None:
    field = "spec.scopeSelector"
    found = selector.get("matchExpressions") or []
    for index, requirement in enumerate(found):
        where, scope = f"{field}.matchExpressions[{index}]", requirement.get("scopeName", "")
        if scope not in _SCOPES:
            causes.invalid(f"{where}.scopeName", scope, "unsupported scope")
        else:
            for _ in range(_misfit(scope, hard)):
                causes.invalid(field, selector, "unsupported scope applied to resource")
        _operator(requirement, scope, where, causes)
    chosen = {requirement.get("scopeName") for requirement in found}
    for pair in _OPPOSED:
        if set(pair) <= chosen:
            causes.invalid(field, selector, "conflicting scopes")


def _operator(requirement: Document, scope: str, where: str, causes: Causes) -> None:
    operator, values = requirement.get("operator", ""), requirement.get("values") or []
    if scope in _ONLY_EXIST and operator != "Exists":
        causes.invalid(f"{where}.operator", operator, _MUST_EXIST)
    if operator in ("In", "NotIn"):
        if not values:
            causes.required(
                f"{where}.values",
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            causes.invalid(
                f"{where}.values",
                values,
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            )
    else:
        causes.invalid(f"{where}.operator", operator, "not a valid selector operator")
