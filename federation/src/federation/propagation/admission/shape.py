"""Objects as Go's types write them, which is what Karmada's webhooks judge and store: a body goes through a struct and back.

What a struct always writes is there (empty, if nobody gave it), what it leaves out when empty is gone. Which is which stands
in the schema: required fields are always written. Values that are handed through are left as they are. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final

from machinery.meta.resource import Document

Schema = Mapping[str, Any]

POINTERS: Final = frozenset(
    (
        "priority", "preserveResourcesOnDeletion", "suspendDispatching", "dispatching", "scheduling",
        "tolerationSeconds", "gracePeriodSeconds", "suppressDeletion", "minReplicas",
        "stabilizationWindowSeconds", "averageUtilization",
    )
)  # fmt: skip
"""Fields that Go holds by pointer: nought and false are said, not empty."""
_KEPT: Final = "x-kubernetes-preserve-unknown-fields"
_ZERO: Final[Mapping[str, Any]] = {"string": "", "integer": 0, "boolean": False, "array": None}
_ABSENT: Final = object()


def roundtrip(schema: Schema, value: Any) -> Any:
    """`value` written again by its struct; what has the wrong type is left for validation to refuse."""
    properties = schema.get("properties")
    if properties is None or not isinstance(value, dict):
        if isinstance(value, list) and "items" in schema:
            return [roundtrip(schema["items"], one) for one in value]
        return value
    required = schema.get("required") or ()
    out: Document = {}
    for key, part in properties.items():
        one = value.get(key, _ABSENT)
        if key in required:
            out[key] = _zero(part) if one is _ABSENT or one is None else roundtrip(part, one)
        elif one is not _ABSENT and not _is_empty(key, part, one):
            out[key] = roundtrip(part, one)
    return out | {key: one for key, one in value.items() if key not in properties}


def _zero(part: Schema) -> Any:
    if "properties" in part:
        return roundtrip(part, {})
    return _ZERO.get(str(part.get("type")), {})


def _is_empty(key: str, part: Schema, value: Any) -> bool:
    """Whether `omitempty` leaves the field out. A struct behind a pointer is never empty."""
    if value is None:
        return True
    if part.get(_KEPT) or "properties" in part or key in POINTERS:
        return False
    return value in ("", [], {}) or value is False or (value == 0 and not isinstance(value, bool))


def shown(schema: Schema, value: Any) -> Any:
    """`value` with its fields in Go's order, as messages show it; patches always show their value."""
    if isinstance(value, list):
        return [shown(schema.get("items") or {}, one) for one in value]
    properties = schema.get("properties")
    if properties is None or not isinstance(value, dict):
        return value
    out: Document = {}
    for key, part in properties.items():
        if key in value:
            out[key] = shown(part, value[key])
        elif key == "value" and part.get(_KEPT):
            out[key] = None
    return out
