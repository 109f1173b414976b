"""Federated HPAs: the replicas of a workload follow the load of its pods in all clusters together.

Every 15 s the members that run its pods are asked for their metrics over the links; the number is that of Kubernetes' own
autoscaler for one large cluster (`machinery.autoscaling`), and is written into the template, whose policy divides it as
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
from machinery.api.autoscaling import MetricSpec
from machinery.api.core import PODS, Pod
from machinery.api.fleet.autoscaling import FEDERATED_HPAS, FederatedHPA
from machinery.api.fleet.cluster import MANAGED_LABEL
from machinery.api.scheme import ServedKind
from machinery.autoscaling.deciding import LOOK_S, Said, conditions, decide, outcome, status_of
from machinery.autoscaling.rates import Past
from machinery.autoscaling.replicas import MetricError, Proposal, Sample, propose, sample_of
from machinery.controller.action import Action, Emit, Patch, RequeueAfter, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.meta import selectors
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import condition_document
from machinery.meta.resource import Document, ObjectKey, Resource


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
class Step:
    """What is done, and what is remembered."""

    actions: list[Action]
    past: Past


# ------------------------------------------------------------------------------------------------------------------ plan
def plan(held: FederatedHPA, seen: Seen, past: Past, now: dt.datetime) -> Step:
    """Scale, and say so."""
    before = {
        "desiredReplicas": held.status.desired_replicas,
        "conditions": [condition_document(c) for c in held.status.conditions],
    }
    target = seen.target
    if target is None:
        said = [Said("AbleToScale", "False", "FailedGetScale", seen.missing)]
        status: Document = {
            "conditions": conditions(before["conditions"], said, now),
            "observedGeneration": held.metadata.generation,
        }
        return _step(held, status, [_event(held, "Warning", "FailedGetScale", seen.missing)], past)

    def read(metric: MetricSpec, tolerance: tuple[Fraction, Fraction]) -> Proposal:
        return _by(metric, tolerance, target.replicas, seen, now)

    decision = decide(held.spec, target.replicas, read, past, now)
    actions: list[Action] = [
        _event(held, "Warning", one.reason, one.message) for one in decision.warned
    ]
    if decision.rescales:
        decision = outcome(decision, now)
        size = {"spec": {"replicas": decision.replicas}}
        text = f"New size: {decision.replicas}; reason: {decision.why}"
        done = _event(held, "Normal", "SuccessfulRescale", text)
        actions = [Patch(target.resource, target.key, size), done, *actions]
    status = status_of(before, decision, held.metadata.generation, now)
    return _step(held, status, actions, decision.past)


def _step(held: FederatedHPA, status: Document, actions: list[Action], past: Past) -> Step:
    told = SetStatus(FEDERATED_HPAS, held.key, status)
    return Step([*actions, told, RequeueAfter(LOOK_S)], past)


def _by(
    metric: MetricSpec,
    tolerance: tuple[Fraction, Fraction],
    current: int,
    seen: Seen,
    now: dt.datetime,
) -> Proposal:
    """Raises MetricError, which names the members that gave no metrics."""
    source = metric.of_pods
    if source is None:
        raise MetricError(f"metrics of type {metric.type} are not read from members")
    try:
        return propose(current, source, seen.pods, seen.samples, now, tolerance)
    except MetricError as error:
        raise MetricError(f"{error}{_silent(seen)}") from None


def _silent(seen: Seen) -> str:
    """Which members gave no metrics."""
    if not seen.failed:
        return ""
    return "; no metrics from " + ", ".join(
        f"{n} ({why})" for n, why in sorted(seen.failed.items())
    )


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
