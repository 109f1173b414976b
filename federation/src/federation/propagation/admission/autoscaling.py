"""What Karmada's webhooks refuse of `autoscaling.karmada.io`, in their words. Pure but for the machine's list of time zones."""

import zoneinfo
from collections.abc import Iterator, Mapping
from typing import Final

from federation.propagation.admission.rules import denial, part, parts
from federation.propagation.admission.shape import roundtrip
from machinery.api.fleet.autoscaling import FEDERATED_HPA
from machinery.api.fleet.autoscaling_kinds import FEDERATED_HPA_SPEC
from machinery.api.validation.causes import Causes
from machinery.kit import cron
from machinery.meta.quantity import canonical_of, quantity_of
from machinery.meta.resource import Document

_INT_MAX: Final = 2**31 - 1
_BOTH: Final = (
    "targetMinReplicas and targetMaxReplicas cannot be nil at the same time if you want to scale "
    "FederatedHPA"
)


def cron_federated_hpa(document: Document) -> str:
    """Why a CronFederatedHPA is refused; empty: it is not."""
    causes = Causes()
    spec = document.get("spec") or {}
    target = part(spec, "scaleTargetRef")
    kind, (version, scaler) = str(target.get("kind", "")), FEDERATED_HPA
    limits = target.get("apiVersion") == version
    if limits and kind != scaler:
        why = f"invalid scaleTargetRef kind: {kind}, only support {scaler}"
        causes.invalid("spec.scaleTargetRef.kind", kind, why)
        return denial(causes)
    target_reference(target, "spec.scaleTargetRef", causes)
    seen: set[str] = set()
    for index, rule in parts(spec.get("rules")):
        where = f"spec.rules[{index}]"
        name = str(rule.get("name", ""))
        if name in seen:
            causes.duplicate(f"{where}.name", name)
        seen.add(name)
        _when(rule, where, causes)
        if limits:
            _limits(rule, where, causes)
        else:
            _replicas(rule, kind, where, causes)
    return denial(causes)


def target_reference(target: Document, where: str, causes: Causes) -> None:
    """What is scaled must have a kind and a name that can stand in a path."""
    for field in ("kind", "name"):
        text = str(target.get(field, ""))
        if not text:
            causes.required(f"{where}.{field}")
        elif text in (".", ".."):
            causes.invalid(f"{where}.{field}", text, f"may not be '{text}'")
        else:
            found = [sign for sign in ("/", "%") if sign in text]
            causes.invalid_each(
                f"{where}.{field}", text, (f"may not contain '{sign}'" for sign in found)
            )


def zone_of(name: str | None) -> zoneinfo.ZoneInfo:
    """The time zone of that name; none and the empty name mean UTC. Raises ValueError."""
    try:
        return zoneinfo.ZoneInfo(name or "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name}") from error


def _when(rule: Document, where: str, causes: Causes) -> None:
    schedule = str(rule.get("schedule", ""))
    try:
        _ = cron.parse(schedule)
    except ValueError:
        causes.invalid(f"{where}.schedule", schedule, "invalid cron format")
    name = rule.get("timeZone")
    if name is None:
        return
    try:
        _ = zone_of(str(name))
    except ValueError as error:
        causes.invalid(f"{where}.timeZone", name, str(error))


def _limits(rule: Document, where: str, causes: Causes) -> None:
    least, most = rule.get("targetMinReplicas"), rule.get("targetMaxReplicas")
    if least is None and most is None:
        causes.invalid(f"{where}.targetMaxReplicas", "", _BOTH)
    if least is not None and least <= 0:
        causes.invalid(
            f"{where}.targetMinReplicas", "", "targetMinReplicas should be larger than 0"
        )
    if most is not None and most <= 0:
        causes.invalid(
            f"{where}.targetMaxReplicas", "", "targetMaxReplicas should be larger than 0"
        )
    if (1 if least is None else least) > (_INT_MAX if most is None else most):
        causes.invalid(
            f"{where}.targetMinReplicas",
            "",
            "targetMaxReplicas should be larger than or equal to targetMinReplicas",
        )


def _replicas(rule: Document, kind: str, where: str, causes: Causes) -> None:
    wanted = rule.get("targetReplicas")
    if wanted is None:
        why = f"targetReplicas cannot be nil if you want to scale {kind}"
        causes.invalid(f"{where}.targetReplicas", "", why)
    elif wanted < 0:
        why = "targetReplicas should be larger than or equal to 0"
        causes.invalid(f"{where}.targetReplicas", "", why)


# ----------------------------------------------------------------------------------------------------------- FederatedHPA
_METRICS: Final = [
    {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
]
_UP: Final[Document] = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_DOWN: Final[Document] = {
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}
_SOURCES: Final[Mapping[str, str]] = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
_TARGETS: Final = ("Utilization", "Value", "AverageValue")
_WINDOW_MAX: Final = 3600
_PERIOD_MAX: Final = 1800
_READ: Final = ("Resource", "ContainerResource")
"""Sources that members are asked for."""


def filled(document: Document) -> Document:
    """A FederatedHPA with its defaults, written by its struct."""
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return document
    whole = {"minReplicas": 1} | {k: v for k, v in spec.items() if v is not None}
    if not whole.get("metrics"):
        whole["metrics"] = _METRICS
    behavior = whole.get("behavior")
    if isinstance(behavior, dict):
        whole["behavior"] = {
            "scaleUp": _UP | _stated(behavior, "scaleUp"),
            "scaleDown": _DOWN | _stated(behavior, "scaleDown"),
        }
    return document | {"spec": roundtrip(FEDERATED_HPA_SPEC, whole)}


def _stated(behavior: Document, field: str) -> Document:
    return {key: value for key, value in part(behavior, field).items() if value is not None}


def idle_metrics(document: Document) -> Iterator[str]:
    """Warnings on what of a FederatedHPA nothing reads."""
    for index, metric in parts((document.get("spec") or {}).get("metrics")):
        if metric.get("type") not in _READ:
            yield f"spec.metrics[{index}]: members are asked for resources of pods alone; this metric counts as missing"


def federated_hpa(document: Document) -> str:
    """Why a FederatedHPA is refused, in the words of Kubernetes' own autoscalers; empty: it is not."""
    causes = Causes()
    spec = document.get("spec") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        causes.invalid("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        causes.invalid("spec.maxReplicas", most, "must be greater than 0")
    if least is not None and most < least:
        causes.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    target_reference(part(spec, "scaleTargetRef"), "spec.scaleTargetRef", causes)
    for index, metric in parts(spec.get("metrics")):
        _metric(metric, f"spec.metrics[{index}]", causes)
    behavior = part(spec, "behavior")
    for field in ("scaleUp", "scaleDown"):
        if field in behavior:
            _scaling_rules(part(behavior, field), f"spec.behavior.{field}", causes)
    return denial(causes)


def _metric(metric: Document, where: str, causes: Causes) -> None:
    kind = str(metric.get("type", ""))
    if not kind:
        causes.required(f"{where}.type", "must specify a metric source type")
    elif kind not in _SOURCES:
        causes.unsupported(f"{where}.type", kind, sorted(_SOURCES))
    present = [field for field in _SOURCES.values() if metric.get(field) is not None]
    if len(present) == 1:
        _source(present[0], part(metric, present[0]), f"{where}.{present[0]}", causes)
    expected = _SOURCES.get(kind, "")
    if expected and expected not in present:
        detail = "must populate information for the given metric source"
        causes.required(f"{where}.{expected}", detail)
    for field in sorted(present) if len(present) > 1 else ():
        if field != expected:
            causes.forbidden(f"{where}.{field}", "must populate the given metric source only")


def _source(field: str, source: Document, where: str, causes: Causes) -> None:
    target = part(source, "target")
    if field == "object":
        target_reference(part(source, "describedObject"), f"{where}.describedObject", causes)
    if field in ("object", "pods"):
        name = str(part(source, "metric").get("name", ""))
        if not name:
            causes.required(f"{where}.metric.name", "must specify a metric name")
    else:
        if not source.get("name"):
            causes.required(f"{where}.name", "must specify a resource name")
        if field == "containerResource" and not source.get("container"):
            causes.required(f"{where}.container", "must specify a container")
    _target(target, f"{where}.target", causes)
    _wanted(field, target, f"{where}.target", causes)


def _target(target: Document, where: str, causes: Causes) -> None:
    kind = str(target.get("type", ""))
    if not kind:
        causes.required(f"{where}.type", "must specify a metric target type")
    elif kind not in _TARGETS:
        why = "must be either Utilization, Value, or AverageValue"
        causes.invalid(f"{where}.type", kind, why)
    for field in ("value", "averageValue"):
        raw = target.get(field)
        if raw is not None and quantity_of(raw).value <= 0:
            causes.invalid(f"{where}.{field}", canonical_of(raw), "must be positive")
    percent = target.get("averageUtilization")
    if percent is not None and percent < 1:
        causes.invalid(f"{where}.averageUtilization", percent, "must be greater than 0")


def _wanted(field: str, target: Document, where: str, causes: Causes) -> None:
    """What a source needs of its target."""
    average, percent = target.get("averageValue"), target.get("averageUtilization")
    if field == "object":
        if average is None and target.get("value") is None:
            causes.required(f"{where}.averageValue", "must set either a value or averageValue")
    elif field == "pods":
        if average is None or quantity_of(average).value <= 0:
            causes.required(f"{where}.averageValue", "must specify a positive target averageValue")
    elif percent is None and average is None:
        detail = "must set either a target raw value or a target utilization"
        causes.required(f"{where}.averageUtilization", detail)
    elif percent is not None and average is not None:
        detail = "may not set both a target raw value and a target utilization"
        causes.forbidden(f"{where}.averageValue", detail)


def _scaling_rules(rules: Document, where: str, causes: Causes) -> None:
    window = rules.get("stabilizationWindowSeconds")
    field = f"{where}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        causes.invalid(field, window, "must be greater than or equal to zero")
    if window is not None and window > _WINDOW_MAX:
        causes.invalid(field, window, f"must be less than or equal to {_WINDOW_MAX}")
    selected = rules.get("selectPolicy")
    if selected is not None:
        causes.one_of(f"{where}.selectPolicy", selected, ("Disabled", "Max", "Min"))
    policies = list(parts(rules.get("policies")))
    if not policies:
        causes.required(f"{where}.policies", "must specify at least one Policy")
    for index, policy in policies:
        _policy(policy, f"{where}.policies[{index}]", causes)
    tolerance = rules.get("tolerance")
    if tolerance is not None and quantity_of(tolerance).value < 0:
        field = f"{where}.tolerance"
        causes.invalid(field, canonical_of(tolerance), "must be greater than or equal to zero")


def _policy(policy: Document, where: str, causes: Causes) -> None:
    causes.one_of(f"{where}.type", policy.get("type", ""), ("Pods", "Percent"))
    value, period = policy.get("value", 0), policy.get("periodSeconds", 0)
    if value <= 0:
        causes.invalid(f"{where}.value", value, "must be greater than zero")
    if period <= 0:
        causes.invalid(f"{where}.periodSeconds", period, "must be greater than zero")
    if period > _PERIOD_MAX:
        why = f"must be less than or equal to {_PERIOD_MAX}"
        causes.invalid(f"{where}.periodSeconds", period, why)
