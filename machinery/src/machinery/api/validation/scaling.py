"""HorizontalPodAutoscalers and PodDisruptionBudgets."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from machinery.api.validation import workloads
from machinery.api.validation.causes import Causes
from machinery.api.validation.selectors import label_selector
from machinery.meta import names, quantity
from machinery.meta.resource import Document

_TARGETS: Final = ("Utilization", "Value", "AverageValue")
_SELECT: Final = ("Disabled", "Max", "Min")
_POLICIES: Final = ("Percent", "Pods")
_PERIOD_MAX_S: Final = 1800
_WINDOW_MAX_S: Final = 3600


def autoscaler(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        causes.invalid("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        causes.required("spec.maxReplicas", "must be set and greater than 0")
    if least is not None and most < least:
        causes.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    _target(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef", causes)
    metrics = spec.get("metrics") or []
    for index, metric in enumerate(metrics):
        _metric(metric, f"spec.metrics[{index}]", causes)
    free = any(metric.get("type") in ("Object", "External") for metric in metrics)
    if least == 0 and not free:
        causes.forbidden(
            "spec.metrics",
            "must specify at least one Object or External metric to support scaling to zero replicas",
        )
    behaviour = spec.get("behavior") or {}
    for key in ("scaleUp", "scaleDown"):
        if (rules := behaviour.get(key)) is not None:
            _rules(rules, f"spec.behavior.{key}", causes)


def _target(reference: Document, field: str, causes: Causes) -> None:
    for key in ("kind", "name"):
        value = reference.get(key, "")
        if not value:
            causes.required(f"{field}.{key}")
        else:
            causes.invalid_each(f"{field}.{key}", value, names.path_segment(value))


# ------------------------------------------------------------------------------------------------------------- metrics
def _metric(metric: Document, field: str, causes: Causes) -> None:
    kind = metric.get("type", "")
    if not kind:
        causes.required(f"{field}.type", "must specify a metric source type")
    present = [key for key in _SOURCES if metric.get(key) is not None]
    if kind not in _TYPES:
        causes.unsupported(f"{field}.type", kind, _KINDS)
    if present:
        key = present[0]
        _SOURCES[key](metric[key], f"{field}.{key}", causes)
    if kind not in _TYPES:
        causes.unsupported(f"{field}.type", kind, _KINDS)
        return
    own = _TYPES[kind]
    if metric.get(own) is None:
        causes.required(f"{field}.{own}", "must populate information for the given metric source")
    if len(present) > 1:
        for key in present:
            if key != own:
                causes.forbidden(f"{field}.{key}", "must populate the given metric source only")


def _metric_name(source: Document, field: str, causes: Causes) -> None:
    metric = source.get("metric") or {}
    name = metric.get("name", "")
    if not name:
        causes.required(f"{field}.metric.name", "must specify a metric name")
    else:
        causes.invalid_each(f"{field}.metric.name", name, names.path_segment(name))
    label_selector(metric.get("selector"), f"{field}.metric.selector", causes)


def _amounts(target: Document, field: str, causes: Causes) -> None:
    kind = target.get("type", "")
    if not kind:
        causes.required(f"{field}.type", "must specify a metric target type")
    if kind not in _TARGETS:
        causes.invalid(f"{field}.type", kind, "must be either Utilization, Value, or AverageValue")
    for key in ("value", "averageValue"):
        amount = target.get(key)
        if amount is not None and quantity.quantity_of(amount).value <= 0:
            causes.invalid(f"{field}.{key}", quantity.canonical_of(amount), "must be positive")
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        causes.invalid(f"{field}.averageUtilization", share, "must be greater than 0")


def _object(source: Document, field: str, causes: Causes) -> None:
    _target(source.get("describedObject") or {}, f"{field}.describedObject", causes)
    _metric_name(source, field, causes)
    target = source.get("target") or {}
    _amounts(target, f"{field}.target", causes)
    if target.get("value") is None and target.get("averageValue") is None:
        causes.required(
            f"{field}.target.averageValue", "must set either a target value or averageValue"
        )


def _one_of(
    target: Document, field: str, names: tuple[str, str], both: str, causes: Causes
) -> None:
    """Exactly one of the two: the first is asked for where none is set, the second is too much where both are."""
    first, second = names
    unset = [target.get(name) is None for name in names]
    if all(unset):
        causes.required(f"{field}.{first}", f"must set either {both.replace(' and ', ' or ')}")
    if not any(unset):
        causes.forbidden(f"{field}.{second}", f"may not set both {both}")


def _external(source: Document, field: str, causes: Causes) -> None:
    _metric_name(source, field, causes)
    target = source.get("target") or {}
    _amounts(target, f"{field}.target", causes)
    both = "a target value for metric and a per-pod target"
    _one_of(target, f"{field}.target", ("averageValue", "value"), both, causes)


def _pods(source: Document, field: str, causes: Causes) -> None:
    _metric_name(source, field, causes)
    target = source.get("target") or {}
    _amounts(target, f"{field}.target", causes)
    if target.get("averageValue") is None:
        causes.required(
            f"{field}.target.averageValue", "must specify a positive target averageValue"
        )


def _resource(source: Document, field: str, causes: Causes) -> None:
    if not source.get("name"):
        causes.required(f"{field}.name", "must specify a resource name")
    target = source.get("target") or {}
    _amounts(target, f"{field}.target", causes)
    both = "a target raw value and a target utilization"
    _one_of(target, f"{field}.target", ("averageUtilization", "averageValue"), both, causes)


def _container(source: Document, field: str, causes: Causes) -> None:
    if not source.get("container"):
        causes.required(f"{field}.container", "must specify a container")
    _resource(source, field, causes)


_SOURCES: Final[Mapping[str, Callable[[Document, str, Causes], None]]] = {
    "object": _object,
    "external": _external,
    "pods": _pods,
    "resource": _resource,
    "containerResource": _container,
}
_TYPES: Final = {key[0].upper() + key[1:]: key for key in _SOURCES}
_KINDS: Final = tuple(sorted(_TYPES))


# ----------------------------------------------------------------------------------------------------------- behaviour
def _rules(rules: Document, field: str, causes: Causes) -> None:
    window = rules.get("stabilizationWindowSeconds")
    where = f"{field}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        causes.invalid(where, window, "must be greater than or equal to zero")
    if window is not None and window > _WINDOW_MAX_S:
        causes.invalid(where, window, f"must be less than or equal to {_WINDOW_MAX_S}")
    if (select := rules.get("selectPolicy")) is not None:
        causes.one_of(f"{field}.selectPolicy", select, _SELECT)
    policies = rules.get("policies") or []
    if not policies:
        causes.required(f"{field}.policies", "must specify at least one Policy")
    for index, policy in enumerate(policies):
        where = f"{field}.policies[{index}]"
        causes.one_of(f"{where}.type", policy.get("type", ""), _POLICIES)
        for key in ("value", "periodSeconds"):
            if policy.get(key, 0) <= 0:
                causes.invalid(f"{where}.{key}", policy.get(key, 0), "must be greater than zero")
        period = policy.get("periodSeconds", 0)
        if period > _PERIOD_MAX_S:
            causes.invalid(
                f"{where}.periodSeconds", period, f"must be less than or equal to {_PERIOD_MAX_S}"
            )


# ------------------------------------------------------------------------------------------------- PodDisruptionBudget
def disruption_budget(document: Document, causes: Causes) -> None:
    spec = document.get("spec") or {}
    least, away = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and away is not None:
        shown = {
            "MinAvailable": least,
            "Selector": spec.get("selector"),
            "MaxUnavailable": away,
            "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
        }
        causes.invalid("spec", shown, "minAvailable and maxUnavailable cannot be both set")
    for key, value in (("minAvailable", least), ("maxUnavailable", away)):
        if value is not None:
            workloads.int_or_percent(value, f"spec.{key}", causes)
            _at_most_all(value, f"spec.{key}", causes)
    label_selector(spec.get("selector"), "spec.selector", causes)
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None:
        causes.one_of("spec.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget"))


def _at_most_all(value: Any, field: str, causes: Causes) -> None:
    if isinstance(value, str) and not names.percent(value) and int(value[:-1]) > 100:
        causes.invalid(field, value, "must not be greater than 100%")
