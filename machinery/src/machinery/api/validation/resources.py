"""Requests, limits and quantities of resources."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from machinery.api.validation.causes import Causes
from machinery.meta import names, quantity
from machinery.meta.resource import Document

NOT_NEGATIVE: Final = "must be greater than or equal to 0"
_CONTAINER: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_STANDARD: Final = _CONTAINER | frozenset(
    {
        "pods", "services", "resourcequotas", "replicationcontrollers", "secrets", "configmaps",
        "persistentvolumeclaims", "storage", "requests.cpu", "requests.memory", "requests.storage",
        "requests.ephemeral-storage", "limits.cpu", "limits.memory", "limits.ephemeral-storage",
        "services.nodeports", "services.loadbalancers",
    }
)  # fmt: skip
_HUGE: Final = "hugepages-"


def is_extended(name: str) -> bool:
    """A device or other countable resource of a vendor's domain."""
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")


def resource_name(name: str, field: str, causes: Causes) -> None:
    causes.invalid_each(field, name, names.qualified_name(name))
    if "/" not in name and name not in _STANDARD and not name.startswith(_HUGE):
        causes.invalid(field, name, "must be a standard resource type or fully qualified")


def _container_resource_name(name: str, field: str, causes: Causes) -> None:
    if name in _CONTAINER:
        return
    resource_name(name, field, causes)
    if "/" not in name:
        if not name.startswith(_HUGE):
            causes.invalid(field, name, "must be a standard resource for containers")
    elif "kubernetes.io/" not in name and name.startswith("requests."):
        causes.invalid(field, name, "doesn't follow extended resource name standard")


def resource_quantity(name: str, value: Any, field: str, causes: Causes) -> None:
    """Not negative; whole where a resource can only be counted."""
    for shown, detail in _faults(name, value):
        causes.invalid(field, shown, detail)


@lru_cache(maxsize=4096)
def _faults(name: str, raw: str | int | float) -> tuple[tuple[str, str], ...]:
    parsed = quantity.quantity_of(raw)
    found = [(str(parsed), NOT_NEGATIVE)] if parsed.value < 0 else []
    if is_extended(name) and not parsed.integral:
        found.append((str(parsed), "must be an integer"))
    return tuple(found)


def requirements(
    resources: Document, field: str, causes: Causes, claims: frozenset[str] = frozenset()
) -> None:
    """`resources` of a container. `claims` are the pod's resource claims."""
    limits: Mapping[str, Any] = resources.get("limits") or {}
    requests: Mapping[str, Any] = resources.get("requests") or {}
    huge = main = False
    for name, value in limits.items():
        where = f"{field}.limits[{name}]"
        _container_resource_name(name, where, causes)
        resource_quantity(name, value, where, causes)
        huge, main = huge or name.startswith(_HUGE), main or name in ("cpu", "memory")
    for name, value in requests.items():
        where = f"{field}.requests[{name}]"
        _container_resource_name(name, where, causes)
        resource_quantity(name, value, where, causes)
        _against_limit(name, value, limits, field, causes)
        huge, main = huge or name.startswith(_HUGE), main or name in ("cpu", "memory")
    if huge and not main:
        causes.forbidden(field, "HugePages require cpu or memory")
    if found := resources.get("claims"):
        _claims(found, f"{field}.claims", claims, causes)


def _against_limit(
    name: str, value: Any, limits: Mapping[str, Any], field: str, causes: Causes
) -> None:
    where = f"{field}.requests"
    fixed = is_extended(name) or name.startswith(_HUGE)
    if name not in limits:
        if fixed:
            causes.required(f"{field}.limits", "Limit must be set for non overcommitable resources")
        return
    if value == limits[name]:
        return
    request, limit = quantity.quantity_of(value), quantity.quantity_of(limits[name])
    if fixed and request.value != limit.value:
        causes.invalid(where, str(request), f"must be equal to {name} limit of {limit}")
    elif not fixed and request.value > limit.value:
        causes.invalid(
            where, str(request), f"must be less than or equal to {name} limit of {limit}"
        )


def _claims(found: list[Document], field: str, known: frozenset[str], causes: Causes) -> None:
    seen: set[str] = set()
    for index, claim in enumerate(found):
        name = claim.get("name", "")
        where = f"{field}[{index}]"
        if not name:
            causes.required(f"{where}.name")
        elif name in seen:
            causes.duplicate(where, name)
        elif name not in known:
            detail = "must be one of the names in pod.spec.resourceClaims"
            causes.not_found(where, name, detail + ("" if known else " which is empty"))
        seen.add(name)


def amounts(found: Mapping[str, Any], field: str, causes: Causes) -> None:
    """A plain list of resources: capacity, overhead."""
    for name, value in found.items():
        where = f"{field}[{name}]"
        resource_name(name, where, causes)
        resource_quantity(name, value, where, causes)
