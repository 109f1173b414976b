"""HorizontalPodAutoscalers, the deciding half: what is read of the metrics, and what becomes of it (`machinery.autoscaling`)."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cluster_agent.control.controllers.horizontalpodautoscaler.targets import Target
from machinery.api.autoscaling import ForeignSource, HorizontalPodAutoscaler, MetricSpec
from machinery.api.core import Pod
from machinery.autoscaling.deciding import Decision, Refusal, Warned, decide
from machinery.autoscaling.rates import Past
from machinery.autoscaling.replicas import NO_TARGET, MetricError, Proposal, propose, sample_of
from machinery.meta.resource import Document

CUSTOM = "no custom metrics API (custom.metrics.k8s.io) registered"


@dataclass(frozen=True, slots=True)
class Seen:
    """What an autoscaler is judged by: the pods that its target selects, and their PodMetrics."""

    pods: Sequence[Pod] = ()
    metrics: Sequence[Document] = ()
    unread: str = ""
    """Why there are no metrics."""
    selector_fault: str = ""
    """Why the target's selector cannot be read."""
    rivals: Sequence[str] = ()
    """All autoscalers that these pods belong to, `namespace/name`, if they are several."""


def plan(
    held: HorizontalPodAutoscaler, target: Target, seen: Seen, past: Past, now: dt.datetime
) -> Decision:
    """What the target should have, and what is said of it."""

    def read(metric: MetricSpec, tolerance: tuple[Fraction, Fraction]) -> Proposal:
        return _by(held.metadata.namespace, metric, tolerance, target.replicas, seen, now)

    refusal = _refused(target, seen)
    return decide(held.spec, target.replicas, refusal or read, past, now)


def _refused(target: Target, seen: Seen) -> Refusal | None:
    """Where it is not known whose pods count."""
    if not target.selector:
        said = "the HPA target's scale is missing a selector"
        return Refusal("InvalidSelector", said, Warned("SelectorRequired", "selector is required"))
    if seen.selector_fault:
        text = f"couldn't convert selector into a corresponding internal selector object: {seen.selector_fault}"
        return Refusal("InvalidSelector", text, Warned("InvalidSelector", text))
    if len(seen.rivals) > 1:
        text = f"pods by selector {target.selector} are controlled by multiple HPAs: [{' '.join(seen.rivals)}]"
        return Refusal("AmbiguousSelector", text, Warned("AmbiguousSelector", text))
    return None


def _by(  # noqa: PLR0913
    namespace: str,
    metric: MetricSpec,
    tolerance: tuple[Fraction, Fraction],
    current: int,
    seen: Seen,
    now: dt.datetime,
) -> Proposal:
    """Raises MetricError."""
    source = metric.of_pods
    if source is None:
        raise MetricError(_foreign(namespace, metric))
    target = source.target
    if target.average_value is None and target.average_utilization is None:
        raise MetricError(NO_TARGET)
    what = "utilization" if target.average_value is None else "usage"
    try:
        _check(source.name, source.container, seen)
        samples = {
            one["metadata"]["name"]: sample
            for one in seen.metrics
            if (sample := sample_of(one)) is not None
        }
        return propose(current, source, seen.pods, samples, now, tolerance)
    except MetricError as error:
        raise MetricError(f"failed to get {source.name} {what}: {error}") from None


def _check(resource: str, container: str, seen: Seen) -> None:
    """Whether the metrics say anything. Raises MetricError."""
    head = f"unable to get metrics for resource {resource}: "
    if seen.unread:
        raise MetricError(f"{head}unable to fetch metrics from resource metrics API: {seen.unread}")
    if not seen.metrics:
        raise MetricError(f"{head}no metrics returned from resource metrics API")
    if not container:
        return
    for one in seen.metrics:
        names = {each.get("name") for each in one.get("containers") or ()}
        if container not in names:
            metadata = one["metadata"]
            raise MetricError(
                f"{head}failed to get container metrics: container {container} not present in metrics "
                f"for pod {metadata['namespace']}/{metadata['name']}"
            )


# ------------------------------------------------------------------------------------------ metrics that nobody serves
def _foreign(namespace: str, metric: MetricSpec) -> str:
    """Why there is no number by metrics of APIs that are not served here."""
    match metric.type:
        case "Pods" if metric.pods is not None:
            name = metric.pods.metric.name
            return f"unable to get metric {name}: unable to fetch metrics from custom metrics API: {CUSTOM}"
        case "Object" if metric.object is not None:
            return _of_object(namespace, metric.object)
        case "External" if metric.external is not None:
            return _external(namespace, metric.external)
    return f'unknown metric source type "{metric.type}"'


def _of_object(namespace: str, source: ForeignSource) -> str:
    # upstream puts kind and error at each other's place
    about = source.described_object
    why = f"unable to fetch metrics from custom metrics API: {CUSTOM}"
    return (
        f"unable to get metric {source.metric.name}: {about.kind} on {namespace} {about.name}/{why}"
    )


def _external(namespace: str, source: ForeignSource) -> str:
    name = source.metric.name
    why = f"the server could not find the requested resource (get {name}.external.metrics.k8s.io)"
    told = _go_selector(source.metric.selector)
    return (
        f"unable to get external metric {namespace}/{name}/{told}: "
        f"unable to fetch metrics from external metrics API: {why}"
    )


def _go_selector(selector: Mapping[str, Any] | None) -> str:
    """As Go prints a LabelSelector."""
    if selector is None:
        return "nil"
    labels = "".join(f"{k}: {v}," for k, v in sorted((selector.get("matchLabels") or {}).items()))
    terms = "".join(
        "LabelSelectorRequirement{"
        f"Key:{one['key']},Operator:{one['operator']},Values:[{' '.join(one.get('values') or ())}],}},"
        for one in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{terms}}},}}"
    )
