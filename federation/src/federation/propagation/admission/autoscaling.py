"""What Karmada's webhooks refuse of `autoscaling.karmada.io`, in their words. Pure but for the machine's list of time zones."""

import zoneinfo
from typing import Final

from federation.propagation.admission.rules import denial, part, parts
from machinery.api.fleet.autoscaling import FEDERATED_HPA
from machinery.api.validation.causes import Causes
from machinery.kit import cron
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
