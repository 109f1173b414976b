"""Federated HPAs: the replicas of a workload follow the load of its pods in all clusters together.

Every 15 s the members that run its pods are asked for their metrics over the links; the number is that of Kubernetes' own
autoscaler for one large cluster (`federation.propagation.scaling`), and is written into the template, whose policy divides it as
ever. A member that gives no metrics has pods that are not measured; where none gives any, nothing is scaled and the condition
ScalingActive says why. What was recommended and done before is remembered by the leading server alone, as upstream.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from federation.clusters.metrics import Answers, Metrics
from federation.clusters.mirroring import mirror_name
from federation.controllers.cronhpas import Scalable, scalable
from federation.propagation.scaling.rates import Allowed, Past, allowed
from federation.propagation.scaling.replicas import (
    TOLERANCE,
    MetricError,
    Proposal,
    Sample,
    propose,
    sample_of,
)
from machinery.api.core import PODS, Pod
from machinery.api.fleet.autoscaling import (
    FEDERATED_HPAS,
    FederatedHPA,
    MetricSpec,
    ResourceSource,
    ScalingRules,
)
from machinery.api.fleet.cluster import MANAGED_LABEL
from machinery.api.scheme import ServedKind
from machinery.controller.action import Action, Emit, Patch, RequeueAfter, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta import selectors
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import condition, condition_document
from machinery.meta.quantity import Quantity, quantity_of
from machinery.meta.resource import Document, ObjectKey, Resource

LOOK_S: Final = 15.0
FAILURES: Final = {
    "Resource": "FailedGetResourceMetric",
    "ContainerResource": "FailedGetContainerResourceMetric",
    "Pods": "FailedGetPodsMetric",
    "Object": "FailedGetObjectMetric",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What is scaled: its key, replicas as they are wanted, and the selector of its pods."""

    resource: Resource[Document]
    key: ObjectKey
    replicas: int
    selector: Document


@dataclass(frozen=True, slots=True)
class Seen:
    """What an autoscaler is judged by. `target` None: there is none, `missing` says why. `samples` by pod name."""

    target: Target | None
    missing: str = ""
    pods: Sequence[Pod] = ()
    samples: Mapping[str, Sample] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the metrics ask for: a number and by which; or none, and why."""

    replicas: int | None
    by: str = ""
    reason: str = "ValidMetricFound"
    message: str = ""
    current: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What is done, and what is remembered."""

    actions: list[Action]
    past: Past


# ------------------------------------------------------------------------------------------------------------------ plan
def plan(held: FederatedHPA, seen: Seen, past: Past, now: dt.datetime) -> Step:
    """Scale, and say so."""
    target = seen.target
    if target is None:
        say = [_condition(held, "AbleToScale", "False", "FailedGetScale", seen.missing, now)]
        said = _event(held, "Warning", "FailedGetScale", seen.missing)
        return Step([*_told(held, say, {}), said, RequeueAfter(LOOK_S)], past)
    able = _condition(held, "AbleToScale", "True", "ReadyForNewScale", "the target can be scaled", now)  # fmt: skip
    current = target.replicas
    if not current:
        text = "scaling is disabled since the replica count of the target is zero"
        off = _condition(held, "ScalingActive", "False", "ScalingDisabled", text, now)
        numbers = {"currentReplicas": 0, "desiredReplicas": 0}
        return Step([*_told(held, [able, off], numbers), RequeueAfter(LOOK_S)], past)
    if not held.spec.min_replicas <= current <= held.spec.max_replicas:
        bound = min(max(current, held.spec.min_replicas), held.spec.max_replicas)
        why = "above Spec.MaxReplicas" if current > bound else "below Spec.MinReplicas"
        return _scaled(held, target, bound, f"Current number of replicas {why}", [able], past, now)
    wanted = by_metrics(held, current, seen, now)
    active = "True" if wanted.replicas is not None else "False"
    told = [able, _condition(held, "ScalingActive", active, wanted.reason, wanted.message, now)]
    if wanted.replicas is None:
        said = _event(held, "Warning", wanted.reason, wanted.message)
        numbers = {"currentReplicas": current, "desiredReplicas": current}
        return Step([*_told(held, told, numbers), said, RequeueAfter(LOOK_S)], past)
    may = allowed(held.spec, current, wanted.replicas, past, now)
    told.append(_limits(held, may, now))
    counted: Document = {"currentMetrics": list(wanted.current)}
    if may.replicas == current:
        counted |= {"currentReplicas": current, "desiredReplicas": current}
        return Step([*_told(held, told, counted), RequeueAfter(LOOK_S)], may.past)
    return _scaled(held, target, may.replicas, wanted.by, told, may.past, now, counted)


def _scaled(  # noqa: PLR0913
    held: FederatedHPA,
    target: Target,
    replicas: int,
    why: str,
    told: list[Document],
    past: Past,
    now: dt.datetime,
    numbers: Mapping[str, object] | None = None,
) -> Step:
    current = target.replicas
    status = {
        **(numbers or {}),
        "currentReplicas": current,
        "desiredReplicas": replicas,
        "lastScaleTime": rfc3339(now),
    }
    text = f"New size: {replicas}; reason: {why}"
    actions: list[Action] = [
        Patch(target.resource, target.key, {"spec": {"replicas": replicas}}),
        *_told(held, told, status),
        _event(held, "Normal", "SuccessfulRescale", text),
        RequeueAfter(LOOK_S),
    ]
    return Step(actions, past.with_change(replicas - current, now))


def by_metrics(held: FederatedHPA, current: int, seen: Seen, now: dt.datetime) -> Wanted:
    """The most that a metric asks for; while one cannot be read, nothing shrinks."""
    found: list[tuple[Proposal, MetricSpec]] = []
    errors: list[tuple[str, str]] = []
    for metric in held.spec.metrics:
        try:
            found.append((_by(held, metric, current, seen, now), metric))
        except MetricError as error:
            reason = FAILURES.get(metric.type, "InvalidMetricSourceType")
            errors.append((reason, f"{error}{_silent(seen)}"))
    if not found or (errors and max(p.replicas for p, _ in found) < current):
        reason, text = errors[0]
        return Wanted(None, reason=reason, message=f"the HPA was unable to compute the replica count: {text}")  # fmt: skip
    best, metric = max(found, key=lambda pair: pair[0].replicas)
    name = _named(metric)
    side = "above" if best.replicas > current else "below"
    text = f"the HPA was able to successfully calculate a replica count from {name}"
    return Wanted(
        best.replicas,
        f"{name} {side} target",
        message=text,
        current=tuple(_now(p, m) for p, m in found),
    )


def _by(
    held: FederatedHPA, metric: MetricSpec, current: int, seen: Seen, now: dt.datetime
) -> Proposal:
    source = source_of(metric)
    if source is None:
        raise MetricError(f"metrics of type {metric.type} are not read from members")
    behavior = held.spec.behavior
    down = behavior.scale_down if behavior is not None else ScalingRules()
    up = behavior.scale_up if behavior is not None else ScalingRules()
    tolerance = (_tolerance(down), _tolerance(up))
    return propose(current, source, seen.pods, seen.samples, now, tolerance)


def source_of(metric: MetricSpec) -> ResourceSource | None:
    """What is measured of pods; None: something else."""
    return {"Resource": metric.resource, "ContainerResource": metric.container_resource}.get(
        metric.type
    )


def _tolerance(rules: ScalingRules) -> Fraction:
    return TOLERANCE if rules.tolerance is None else quantity_of(rules.tolerance).value


def _silent(seen: Seen) -> str:
    """Which members gave no metrics."""
    if not seen.failed:
        return ""
    return "; no metrics from " + ", ".join(
        f"{n} ({why})" for n, why in sorted(seen.failed.items())
    )


def _named(metric: MetricSpec) -> str:
    source = source_of(metric)
    assert source is not None
    if source.target.average_utilization is not None:
        return f"{source.name} resource utilization (percentage of request)"
    return f"{source.name} resource"


def _now(proposal: Proposal, metric: MetricSpec) -> Document:
    """An entry of `currentMetrics`."""
    source = source_of(metric)
    assert source is not None
    family = "binary" if source.name == "memory" else "decimal"
    average = proposal.average
    if source.name == "memory":
        average = Fraction(average.__floor__())
    current: Document = {"averageValue": str(Quantity(_milli(average), family))}
    if proposal.percent is not None:
        current["averageUtilization"] = proposal.percent
    what: Document = {"name": source.name, "current": current}
    if source.container:
        what["container"] = source.container
    field_ = "resource" if metric.type == "Resource" else "containerResource"
    return {"type": metric.type, field_: what}


def _milli(value: Fraction) -> Fraction:
    return Fraction((value * 1000).__floor__(), 1000)


# ------------------------------------------------------------------------------------------------------------ what is told
def _limits(held: FederatedHPA, may: Allowed, now: dt.datetime) -> Document:
    status = "True" if may.limited else "False"
    return _condition(held, "ScalingLimited", status, may.reason, may.message, now)


def _condition(  # noqa: PLR0913
    held: FederatedHPA, kind: str, status: str, reason: str, message: str, now: dt.datetime
) -> Document:
    before = condition(held.status.conditions, kind)
    since = now
    if before is not None and before.status == status and before.last_transition_time is not None:
        since = before.last_transition_time
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": rfc3339(since),
    }


def _told(held: FederatedHPA, own: Sequence[Document], numbers: Document) -> list[Action]:
    """The status; conditions that nothing is said of stay as they are."""
    said = {one["type"] for one in own}
    kept = [condition_document(c) for c in held.status.conditions if c.type not in said]
    status = {
        "conditions": [*own, *kept],
        "observedGeneration": held.metadata.generation,
        **numbers,
    }
    return [SetStatus(FEDERATED_HPAS, held.key, status)]


def _event(held: FederatedHPA, kind: str, reason: str, text: str) -> Emit:
    return Emit(FEDERATED_HPAS, held.key, held.metadata.uid, kind, reason, text)


# ----------------------------------------------------------------------------------------------------------------- edges
def read(answers: Answers) -> dict[str, Sample]:
    """Samples by the names that pods have at the federation."""
    found: dict[str, Sample] = {}
    for member, given in answers.given.items():
        for document in given:
            sample = sample_of(document)
            if sample is not None:
                found[mirror_name(document["metadata"]["name"], member)] = sample
    return found


class ScaleReconciler:
    """FederatedHPAs."""

    def __init__(self, manager: Manager, kinds: Scalable, metrics: Metrics) -> None:
        self._clock, self._executor, self._client = manager.clock, manager.executor, manager.client
        self._held = manager.informer(FEDERATED_HPAS)
        self._kinds, self._metrics = kinds, metrics
        self._past: dict[ObjectKey, tuple[str, Past]] = {}

    async def reconcile(self, key: ObjectKey) -> Result:
        held = self._held.get(key)
        if held is None or held.deleting:
            _ = self._past.pop(key, None)
            return Result()
        uid, past = self._past.get(key, ("", Past()))
        if uid != held.metadata.uid:
            past = Past()
        seen = await self._look(held)
        step = plan(held, seen, past, self._clock.now())
        result = await self._executor.apply(step.actions)
        self._past[key] = (held.metadata.uid, step.past)
        return result

    async def _look(self, held: FederatedHPA) -> Seen:
        target, why = await self._target(held)
        if target is None:
            return Seen(None, why)
        if not target.replicas:
            return Seen(target)
        matches = selectors.from_object(target.selector).matches
        listed = await self._client.list(PODS, held.metadata.namespace)
        pods = [pod for pod in listed.items if matches(pod.metadata.labels)]
        members = sorted({m for p in pods if (m := p.metadata.labels.get(MANAGED_LABEL, ""))})
        labels = target.selector.get("matchLabels") or {}
        answers = await self._metrics.read(held.metadata.namespace, labels, members)
        return Seen(target, "", pods, read(answers), answers.failed)

    async def _target(self, held: FederatedHPA) -> tuple[Target | None, str]:
        wanted = held.spec.scale_target_ref
        resource = self._kinds.get((wanted.api_version, wanted.kind))
        if resource is None or (wanted.api_version, wanted.kind) == _ITSELF:
            return None, f'no kind "{wanted.kind}" in version "{wanted.api_version}" is served that has replicas'  # fmt: skip
        key = ObjectKey(held.metadata.namespace, wanted.name)
        try:
            document = await self._client.get(resource, key)
        except NotFound as error:
            return None, str(error)
        spec = document.get("spec") or {}
        return Target(resource, key, spec.get("replicas", 1), spec.get("selector") or {}), ""


_ITSELF: Final = (FEDERATED_HPAS.api_version, FEDERATED_HPAS.kind)


def setup(manager: Manager, kinds: Iterable[ServedKind], metrics: Metrics) -> None:
    """FederatedHPAs when what they say changes; otherwise by the clock. `kinds`: every kind that is served."""
    controller = manager.controller(
        "federatedhpas", ScaleReconciler(manager, scalable(kinds), metrics)
    )
    controller.watches(FEDERATED_HPAS, _changed())


def _changed() -> Callable[[FederatedHPA], list[ObjectKey]]:
    """A status, which is written at each look, wakes nobody."""
    states: dict[ObjectKey, object] = {}

    def keys(held: FederatedHPA) -> list[ObjectKey]:
        state = (held.metadata.uid, held.metadata.generation, held.deleting)
        if states.get(held.key) == state:
            return []
        states[held.key] = state
        return [held.key]

    return keys
