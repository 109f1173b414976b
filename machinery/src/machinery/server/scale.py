"""The scale subresource: replicas of a workload seen and set without knowing its kind."""

from typing import Any

from machinery.api import strategy
from machinery.api.scheme import ServedKind
from machinery.meta import errors
from machinery.meta.resource import Document

SCALE = ServedKind(
    "autoscaling", "v1", "Scale", "scales", "scale", True, "io.k8s.api.autoscaling.v1.Scale"
)


def scale_of(document: Document) -> Document:
    """The Scale of a workload."""
    selector = (document.get("spec") or {}).get("selector") or {}
    return strategy.to_scale(document, selector_text(selector))


def scaled(kind: ServedKind, live: Document, scale: Document, name: str) -> Document:
    """The workload as the Scale wants it. Raises Invalid."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        cause = {
            "reason": "FieldValueInvalid",
            "message": f"Invalid value: {replicas}: must be greater than or equal to 0",
            "field": "spec.replicas",
        }
        raise errors.invalid("Scale", "autoscaling", name, [cause])
    return strategy.from_scale(live, scale)


def selector_text(selector: Document) -> str:
    """A LabelSelector in text form, keys sorted."""
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for requirement in selector.get("matchExpressions") or ():
        terms.append(_expression(requirement))
    return ",".join(terms)


def _expression(requirement: dict[str, Any]) -> str:
    key, values = requirement["key"], ",".join(sorted(requirement.get("values") or ()))
    match requirement.get("operator"):
        case "In":
            return f"{key} in ({values})"
        case "NotIn":
            return f"{key} notin ({values})"
        case "DoesNotExist":
            return f"!{key}"
        case _:
            return str(key)
