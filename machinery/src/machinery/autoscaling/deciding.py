"""What an autoscaler does about its target, and what it says of it, in upstream's words. Pure.

    target's number -> (off | beyond the limits | by the metrics) -> rates -> number, conditions, warnings

The most that a metric asks for counts; while one cannot be read, nothing shrinks. A number beyond the limits is
brought within them whatever the metrics say. What a write of the number came to is told by `outcome`.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, TypeAlias

from machinery.api.autoscaling import MetricSpec, ScalingRules, ScalingSpec
from machinery.autoscaling.rates import Allowed, Past, allowed
from machinery.autoscaling.replicas import TOLERANCE, MetricError, Proposal
from machinery.kit.clock import rfc3339
from machinery.meta.quantity import Quantity, quantity_of
from machinery.meta.resource import Document

LOOK_S: Final = 15.0
"""Between two looks."""
FAILURES: Final = {
    "Resource": "FailedGetResourceMetric",
    "ContainerResource": "FailedGetContainerResourceMetric",
    "Pods": "FailedGetPodsMetric",
    "Object": "FailedGetObjectMetric",
    "External": "FailedGetExternalMetric",
}
DISABLED: Final = "scaling is disabled since the replica count of the target is zero"
GOT_SCALE: Final = "the HPA controller was able to get the target's current scale"

Read: TypeAlias = Callable[[MetricSpec, tuple[Fraction, Fraction]], Proposal]
"""By one metric, with the tolerance downwards and upwards. Raises MetricError."""


@dataclass(frozen=True, slots=True)
class Said:
    """A condition, without its time."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning to users."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the pods are not measured at all: a condition's reason and message, and what the warnings say."""

    reason: str
    message: str
    warned: Warned


@dataclass(frozen=True, slots=True)
class Decision:
    """`replicas` is what the target should have, None where nothing is known of it; the rest tells why."""

    current: int
    replicas: int | None
    past: Past
    why: str = ""
    said: tuple[Said, ...] = ()
    warned: tuple[Warned, ...] = ()
    metrics: tuple[Document, ...] = ()

    @property
    def rescales(self) -> bool:
        return self.replicas is not None and self.replicas != self.current


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the metrics ask for, by which; `replicas` None: nothing that could be followed."""

    replicas: int | None
    by: str
    said: Said
    warned: tuple[Warned, ...]
    metrics: tuple[Document, ...]


def decide(
    spec: ScalingSpec, current: int, read: Read | Refusal, past: Past, now: dt.datetime
) -> Decision:
    """`current`: the replicas that the target's scale wants."""
    past = past.begun(current, now)
    able = Said("AbleToScale", "True", "SucceededGetScale", GOT_SCALE)
    if not current and spec.min_replicas:
        off = Said("ScalingActive", "False", "ScalingDisabled", DISABLED)
        return Decision(current, current, past, said=(able, off))
    if current > spec.max_replicas:
        why = "Current number of replicas above Spec.MaxReplicas"
        return Decision(current, spec.max_replicas, past, why, (able,))
    if current < spec.min_replicas:
        why = "Current number of replicas below Spec.MinReplicas"
        return Decision(current, spec.min_replicas, past, why, (able,))
    if isinstance(read, Refusal):
        told = Said("ScalingActive", "False", read.reason, read.message)
        failed = Warned("FailedComputeMetricsReplicas", read.warned.message)
        return Decision(current, None, past, said=(able, told), warned=(read.warned, failed))
    wanted = by_metrics(spec, current, read)
    told = wanted.said
    if wanted.replicas is None:
        return Decision(current, None, past, "", (able, told), wanted.warned, wanted.metrics)
    why = f"{wanted.by} above target" if wanted.replicas > current else "All metrics below target"
    may = allowed(spec, current, wanted.replicas, past, now)
    paced = _paced(spec, current, wanted.replicas, may)
    said = (paced, told, _limited(may))
    return Decision(current, may.replicas, may.past, why, said, wanted.warned, wanted.metrics)


def _paced(spec: ScalingSpec, current: int, wanted: int, may: Allowed) -> Said:
    """Whether a window holds it back."""
    reason, text = "ReadyForNewScale", "recommended size matches current size"
    if may.steady and spec.behavior is not None and wanted >= current:
        reason = "ScaleUpStabilized"
        text = "recent recommendations were lower than current one, applying the lowest recent recommendation"
    elif may.steady:
        reason = "ScaleDownStabilized"
        text = "recent recommendations were higher than current one, applying the highest recent recommendation"
    return Said("AbleToScale", "True", reason, text)


def _limited(may: Allowed) -> Said:
    return Said("ScalingLimited", "True" if may.limited else "False", may.reason, may.message)


def outcome(decision: Decision, now: dt.datetime, error: str = "") -> Decision:
    """The decision after its number was written, or was refused with `error`."""
    replicas = decision.replicas
    assert replicas is not None, "a number was written"
    if not error:
        text = f"the HPA controller was able to update the target scale to {replicas}"
        done = Said("AbleToScale", "True", "SucceededRescale", text)
        past = decision.past.with_change(replicas - decision.current, now)
        return replace(decision, said=(*decision.said, done), past=past)
    text = f"the HPA controller was unable to update the target scale: {error}"
    failed = Said("AbleToScale", "False", "FailedUpdateScale", text)
    warned = Warned(
        "FailedRescale", f"New size: {replicas}; reason: {decision.why}; error: {error}"
    )
    return replace(
        decision, replicas=None, said=(*decision.said, failed), warned=(*decision.warned, warned)
    )


# --------------------------------------------------------------------------------------------------------------- metrics
def by_metrics(spec: ScalingSpec, current: int, read: Read) -> Wanted:
    """The most that a metric asks for."""
    found: list[tuple[Proposal, MetricSpec]] = []
    failed: list[tuple[MetricSpec, str]] = []
    metrics: list[Document] = []
    for metric in spec.metrics:
        try:
            proposal = read(metric, tolerance_of(spec))
        except MetricError as error:
            failed.append((metric, str(error)))
            metrics.append({"type": ""})  # upstream's empty entry: places are kept
        else:
            found.append((proposal, metric))
            metrics.append(_now(proposal, metric))
    warned = tuple(Warned(_failure(metric), text) for metric, text in failed)
    if not found or (failed and max(p.replicas for p, _ in found) < current):
        said, total = _failed(failed, len(spec.metrics))
        return Wanted(None, "", said, (*warned, total), tuple(metrics))
    best, metric = max(found, key=lambda pair: pair[0].replicas)
    name = _named(metric)
    text = f"the HPA was able to successfully calculate a replica count from {name}"
    said = Said("ScalingActive", "True", "ValidMetricFound", text)
    return Wanted(best.replicas, name, said, warned, tuple(metrics))


def tolerance_of(spec: ScalingSpec) -> tuple[Fraction, Fraction]:
    """Downwards and upwards."""

    def given(rules: ScalingRules) -> Fraction:
        return TOLERANCE if rules.tolerance is None else quantity_of(rules.tolerance).value

    if spec.behavior is None:
        return TOLERANCE, TOLERANCE
    return given(spec.behavior.scale_down), given(spec.behavior.scale_up)


def _failed(failed: Sequence[tuple[MetricSpec, str]], count: int) -> tuple[Said, Warned]:
    """Of the first that failed; without any metric there is none that could be followed."""
    if not failed:
        text = "no metrics are given"
        said = Said("ScalingActive", "False", "InvalidMetricSourceType", text)
        return said, Warned("FailedComputeMetricsReplicas", text)
    metric, text = failed[0]
    message = f"the HPA was unable to compute the replica count: {text}"
    said = Said("ScalingActive", "False", _failure(metric), message)
    first = f"first error is: {_what_failed(metric)}{text}"
    total = f"invalid metrics ({len(failed)} invalid out of {count}), {first}"
    return said, Warned("FailedComputeMetricsReplicas", total)


def _failure(metric: MetricSpec) -> str:
    return FAILURES.get(metric.type, "InvalidMetricSourceType")


def _what_failed(metric: MetricSpec) -> str:
    source = metric.of_pods
    match metric.type:
        case "Resource" if source is not None:
            return f"failed to get {source.name} resource metric value: "
        case "ContainerResource" if source is not None:
            return f"failed to get {source.container} container metric value: "
        case "Pods":
            return "failed to get pods metric value: "
        case "Object" if metric.object is not None:
            name = metric.object.metric.name
            average = metric.object.target.average_value is not None
            inner = f"failed to get {name} object metric: " if average else ""
            return f"failed to get object metric value: {inner}"
        case "External" if metric.external is not None:
            name = metric.external.metric.name
            average = metric.external.target.average_value is not None
            told = f"{name} external metric" if average else f"external metric {name}"
            return f"failed to get {name} external metric value: failed to get {told}: "
    return ""


def _named(metric: MetricSpec) -> str:
    """What is followed, as reasons name it."""
    source = metric.of_pods
    assert source is not None, "nothing else is read"
    if source.target.average_value is not None:
        return f"{source.name} resource"
    whose = "container resource" if metric.type == "ContainerResource" else "resource"
    return f"{source.name} {whose} utilization (percentage of request)"


def _now(proposal: Proposal, metric: MetricSpec) -> Document:
    """An entry of `currentMetrics`."""
    source = metric.of_pods
    assert source is not None, "nothing else is read"
    current: Document = {"averageValue": str(Quantity(proposal.average))}
    if proposal.percent is not None:
        current["averageUtilization"] = proposal.percent
    what: Document = {"name": source.name, "current": current}
    if metric.type == "ContainerResource":
        return {"type": metric.type, "containerResource": what | {"container": source.container}}
    return {"type": metric.type, "resource": what}


# ---------------------------------------------------------------------------------------------------------------- status
def status_of(
    held: Mapping[str, object], decision: Decision, generation: int, now: dt.datetime
) -> Document:
    """The status; `held` is the one that there is. Where no number is known, the wanted one stays as it was.

    `generation` is nought where a kind has none, as Kubernetes' own autoscalers.
    """
    replicas = decision.replicas
    status: Document = {
        "observedGeneration": generation or None,
        "currentReplicas": decision.current,
        "desiredReplicas": held.get("desiredReplicas", 0) if replicas is None else replicas,
        "currentMetrics": list(decision.metrics) or None,
        "conditions": conditions(held.get("conditions"), decision.said, now),
    }
    if decision.rescales:
        status["lastScaleTime"] = rfc3339(now)
    return status


def conditions(held: object, said: Iterable[Said], now: dt.datetime) -> list[Document]:
    """Those that there are, in their order, with what is said now; the last word about a condition counts."""
    found: dict[str, Document] = {}
    if isinstance(held, (list, tuple)):
        found = {one["type"]: one for one in held}
    before = dict(found)
    for one in said:
        known = before.get(one.type)
        since = rfc3339(now)
        if known is not None and known["status"] == one.status:
            since = known.get("lastTransitionTime") or since
        found[one.type] = {
            "type": one.type,
            "status": one.status,
            "reason": one.reason,
            "message": one.message,
            "lastTransitionTime": since,
        }
    return list(found.values())
