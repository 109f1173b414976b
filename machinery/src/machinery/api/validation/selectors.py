"""Label selectors as they stand in objects."""

from collections.abc import Sequence

from machinery.api.validation import metadata
from machinery.api.validation.causes import Causes
from machinery.meta import names
from machinery.meta.resource import Document


def label_selector(selector: Document | None, field: str, causes: Causes) -> None:
    """A metav1.LabelSelector."""
    if selector is None:
        return
    metadata.labels(selector.get("matchLabels") or {}, f"{field}.matchLabels", causes)
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        _requirement(expression, f"{field}.matchExpressions[{index}]", causes)


def set_operator(operator: str, values: Sequence[str], field: str, causes: Causes) -> bool:
    """The rule of values for In, NotIn, Exists and DoesNotExist; False when the operator is none of them."""
    if operator in ("In", "NotIn"):
        if not values:
            causes.required(
                f"{field}.values", "must be specified when `operator` is 'In' or 'NotIn'"
            )
        return True
    if operator in ("Exists", "DoesNotExist"):
        if values:
            causes.forbidden(
                f"{field}.values",
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )
        return True
    return False


def _requirement(requirement: Document, field: str, causes: Causes) -> None:
    operator, values = requirement.get("operator", ""), requirement.get("values") or []
    if not set_operator(operator, values, field, causes):
        causes.invalid(f"{field}.operator", operator, "not a valid selector operator")
    key = requirement.get("key", "")
    causes.invalid_each(f"{field}.key", key, names.qualified_name(key))
    for index, value in enumerate(values):
        causes.invalid_each(f"{field}.values[{index}]", value, names.label_value(value))


def is_empty(selector: Document | None) -> bool:
    """Whether it would select everything."""
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))
