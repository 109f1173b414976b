"""LimitRanges."""

from collections.abc import Mapping
from typing import Any, Final

from machinery.api.validation import resources
from machinery.api.validation.causes import Causes
from machinery.meta import names, quantity
from machinery.meta.quantity import Quantity
from machinery.meta.resource import Document

_PARTS: Final = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def limit_range(document: Document, causes: Causes) -> None:
    seen: set[str] = set()
    for index, item in enumerate((document.get("spec") or {}).get("limits") or ()):
        where, kind = f"spec.limits[{index}]", item.get("type", "")
        causes.invalid_each(f"{where}.type", kind, names.qualified_name(kind))
        if kind in seen:
            causes.duplicate(f"{where}.type", kind)
            continue
        seen.add(kind)
        _item(item, kind, where, causes)


def _item(item: Document, kind: str, field: str, causes: Causes) -> None:
    parts: dict[str, Mapping[str, Any]] = {part: item.get(part) or {} for part in _PARTS}
    for part, amounts in parts.items():
        for name, value in amounts.items():
            resources.resource_name(name, f"{field}.{part}[{name}]", causes)
            resources.resource_quantity(name, value, f"{field}.{part}[{name}]", causes)
    if kind == "Pod":
        for part in ("default", "defaultRequest"):
            if parts[part]:
                causes.forbidden(f"{field}.{part}", "may not be specified when `type` is 'Pod'")
    if kind == "PersistentVolumeClaim" and not any("storage" in parts[p] for p in ("min", "max")):
        causes.required(
            f"{field}.limits",
            "either minimum or maximum storage value is required, but neither was provided",
        )
    for name in sorted({name for amounts in parts.values() for name in amounts}):
        _amounts(name, {p: parts[p].get(name) for p in _PARTS}, field, causes)


def _amounts(name: str, raw: Mapping[str, Any], field: str, causes: Causes) -> None:
    """The bounds of one resource against each other; what is shown of each fault is upstream's choice."""
    found = {p: quantity.quantity_of(v) for p, v in raw.items() if v is not None}
    rules = (
        ("min", "max", "min", "min", "min value {} is greater than max value {}"),
        (
            "min", "defaultRequest", "defaultRequest", "defaultRequest",
            "min value {} is greater than default request value {}",
        ),
        (
            "defaultRequest", "max", "defaultRequest", "defaultRequest",
            "default request value {} is greater than max value {}",
        ),
        (
            "defaultRequest", "default", "defaultRequest", "defaultRequest",
            "default request value {} is greater than default limit value {}",
        ),
        ("min", "default", "default", "min", "min value {} is greater than default value {}"),
        ("default", "max", "default", "max", "default value {} is greater than max value {}"),
    )  # fmt: skip
    for low, high, place, shown, detail in rules:
        if low in found and high in found and found[low].value > found[high].value:
            where = f"{field}.{place}[{name}]"
            text = detail.format(found[low], found[high])
            causes.invalid(where, str(found[shown]), text)
    _ratio(name, found, field, causes)


def _ratio(name: str, found: Mapping[str, Quantity], field: str, causes: Causes) -> None:
    ratio = found.get("maxLimitRequestRatio")
    if ratio is None:
        return
    where = f"{field}.maxLimitRequestRatio[{name}]"
    if ratio.value < 1:
        causes.invalid(where, str(ratio), f"ratio {ratio} is less than 1")
    least, most = found.get("min"), found.get("max")
    if least is not None and most is not None and least.value > 0:
        limit = most.value / least.value
        if ratio.value > limit:
            causes.invalid(
                where, str(ratio), f"ratio {ratio} is greater than max/min = {float(limit):f}"
            )
