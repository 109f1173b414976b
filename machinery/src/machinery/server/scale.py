"""The scale subresource: replicas of a workload seen and set without knowing its kind."""

from collections.abc import Iterable
from typing import Any

from machinery.api import strategy
from machinery.api.scheme import ServedKind
from machinery.meta import errors
from machinery.meta.resource import Document

SCALE = ServedKind(
    "autoscaling", "v1", "Scale", "scales", "scale", True, "io.k8s.api.autoscaling.v1.Scale"
)


def scale_of(kind: ServedKind, document: Document) -> Document:
    """The Scale of a workload."""
    paths = kind.scale
    if paths is None:
        selector = (document.get("spec") or {}).get("selector") or {}
        if kind.group_kind == ("", "ReplicationController"):
            selector = {"matchLabels": selector}
        return strategy.to_scale(document, selector_text(selector))
    shown = {
        "metadata": document["metadata"],
        "spec": {"replicas": _at(document, paths.spec_replicas) or 0},
        "status": {"replicas": _at(document, paths.status_replicas) or 0},
    }
    return strategy.to_scale(shown, str(_at(document, paths.label_selector) or ""))


def scaled(kind: ServedKind, live: Document, scale: Document, name: str) -> Document:
    """The workload as the Scale wants it. Raises Invalid."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if (
        kind.scale is not None
    ):  # that it is no negative number is the object's own validation's business
        wanted = strategy.from_scale({"metadata": live["metadata"]}, scale)
        steps = kind.scale.spec_replicas.removeprefix(".").split(".")
        return {**_with(live, steps, replicas), "metadata": wanted["metadata"]}
    if replicas < 0:
        cause = {
            "reason": "FieldValueInvalid",
            "message": f"Invalid value: {replicas}: must be greater than or equal to 0",
            "field": "spec.replicas",
        }
        raise errors.invalid("Scale", "autoscaling", name, [cause])
    return strategy.from_scale(live, scale)


def _at(document: Document, path: str) -> Any:
    """The value at a path such as `.spec.replicas`, or None."""
    value: Any = document if path else None
    for step in path.removeprefix(".").split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _with(value: Any, steps: Iterable[str], leaf: Any) -> Any:
    step, *rest = steps
    inner = value.get(step) if isinstance(value, dict) else None
    found = _with(inner or {}, rest, leaf) if rest else leaf
    return {**(value if isinstance(value, dict) else {}), step: found}


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
