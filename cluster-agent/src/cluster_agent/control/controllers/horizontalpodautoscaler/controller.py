"""HorizontalPodAutoscaler controller, the acting half: every 15 s a look at the target and at what its pods use.

The number is written through the target's scale, as a compare-and-swap; the status tells what came of it. What was recommended and
done before is remembered by the leading control plane alone, as upstream: another one begins with the number that it finds.
"""

import datetime as dt
from collections.abc import Iterable
from typing import Final

from cluster_agent.control.controllers.horizontalpodautoscaler.plan import Seen, plan
from cluster_agent.control.controllers.horizontalpodautoscaler.targets import (
    NOT_SERVED,
    Target,
    TargetError,
    Targets,
)
from machinery.api.autoscaling import HORIZONTAL_POD_AUTOSCALERS, HorizontalPodAutoscaler
from machinery.api.core import PODS, Pod
from machinery.api.metrics_kinds import POD_METRICS
from machinery.api.scheme import ServedKind
from machinery.autoscaling.deciding import LOOK_S, Decision, Said, conditions, outcome, status_of
from machinery.autoscaling.rates import Past
from machinery.client.interface import ListOptions, dynamic
from machinery.controller.action import Action, Emit, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.controllers.events import executor_for
from machinery.meta import selectors
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document, ObjectKey
from machinery.meta.selectors import Selector, SelectorError

METRICS: Final = dynamic(
    POD_METRICS.group, POD_METRICS.version, POD_METRICS.plural, POD_METRICS.kind, True
)
NO_SCALE: Final = "the HPA controller was unable to get the target's current scale: "


class AutoscalerReconciler:
    """Read, plan, act, tell; the key is the autoscaler's."""

    def __init__(self, manager: Manager, kinds: Iterable[ServedKind], period_s: float) -> None:
        self._client, self._clock, self._period_s = manager.client, manager.clock, period_s
        self._executor = executor_for(manager, "horizontal-pod-autoscaler")
        self._held = manager.informer(HORIZONTAL_POD_AUTOSCALERS)
        self._pods = manager.informer(PODS)
        self._targets = Targets(manager, list(kinds))
        self._past: dict[ObjectKey, tuple[str, Past]] = {}
        self._due: dict[ObjectKey, float] = {}
        self._selectors: dict[ObjectKey, Selector] = {}

    async def reconcile(self, key: ObjectKey) -> Result:
        held = self._held.get(key)
        if held is None or held.deleting:
            for memory in (self._past, self._due, self._selectors):
                memory.pop(key, None)
            return Result()
        now = self._clock.monotonic()
        # the first look too is a period away: who is made with his target finds it then
        left = self._due.setdefault(key, now + self._period_s) - now
        if left > 0:
            return Result(requeue_after=left)
        self._due[key] = now + self._period_s
        await self._look(held)
        return Result(requeue_after=self._period_s)

    async def _look(self, held: HorizontalPodAutoscaler) -> None:
        try:
            target = await self._targets.find(held)
        except TargetError as error:
            await self._lost(held, str(error))
            return
        uid, past = self._past.get(held.key, ("", Past()))
        if uid != held.metadata.uid:
            past = Past()
        seen = await self._see(held, target)
        now = self._clock.now()
        decision = plan(held, target, seen, past, now)
        if decision.rescales:
            decision = await self._scale(held, target, decision, now)
        self._past[held.key] = (held.metadata.uid, decision.past)
        told: list[Action] = [
            _emit(held, "Warning", one.reason, one.message) for one in decision.warned
        ]
        status = status_of(held.status, decision, held.metadata.generation, now)
        await self._executor.apply([*told, *_changed(held, status)])

    async def _lost(self, held: HorizontalPodAutoscaler, why: str) -> None:
        """There is nothing to scale."""
        said = Said("AbleToScale", "False", "FailedGetScale", f"{NO_SCALE}{why}")
        status = {
            "conditions": conditions(held.status.get("conditions"), [said], self._clock.now()),
        }
        warned = _emit(held, "Warning", "FailedGetScale", why)
        await self._executor.apply([warned, *_changed(held, status)])

    async def _scale(
        self, held: HorizontalPodAutoscaler, target: Target, decision: Decision, now: dt.datetime
    ) -> Decision:
        """Write the number: the decision with what came of it."""
        assert decision.replicas is not None, "it rescales"
        try:
            document = target.resized(decision.replicas)
            await self._client.update(target.resource, document, subresource="scale")
        except StatusError as error:
            return outcome(decision, now, error.message)
        text = f"New size: {decision.replicas}; reason: {decision.why}"
        self._executor.emit(_emit(held, "Normal", "SuccessfulRescale", text))
        return outcome(decision, now)

    # -------------------------------------------------------------------------------------------------------- reading
    async def _see(self, held: HorizontalPodAutoscaler, target: Target) -> Seen:
        """The pods, and what they use, where that is asked."""
        within = held.spec.min_replicas <= target.replicas <= held.spec.max_replicas
        if not within or not target.selector:
            return Seen()
        try:
            selector = selectors.parse(target.selector)
        except SelectorError as error:
            return Seen(selector_fault=str(error))
        self._selectors[held.key] = selector
        namespace = held.metadata.namespace
        pods = [p for p in self._pods.list(namespace) if selector.matches(p.metadata.labels)]
        rivals = self._owners(namespace, pods)
        try:
            options = ListOptions(label_selector=target.selector)
            metrics = (await self._client.list(METRICS, namespace, options)).items
        except StatusError as error:
            return Seen(pods, unread=_told(error), rivals=rivals)
        return Seen(pods, metrics, rivals=rivals)

    def _owners(self, namespace: str, pods: Iterable[Pod]) -> list[str]:
        """Every autoscaler whose target selects one of the pods."""
        near = {k: s for k, s in self._selectors.items() if k.namespace == namespace}
        labels = [pod.metadata.labels for pod in pods]
        return sorted(str(key) for key, s in near.items() if any(map(s.matches, labels)))


def _told(error: StatusError) -> str:
    """As clients in Go tell it: an API that is not served is named."""
    if error.message == NOT_SERVED:
        return f"{NOT_SERVED} (get {METRICS.group_resource})"
    return error.message


def _emit(held: HorizontalPodAutoscaler, kind: str, reason: str, text: str) -> Emit:
    return Emit(HORIZONTAL_POD_AUTOSCALERS, held.key, held.metadata.uid, kind, reason, text)


def _changed(held: HorizontalPodAutoscaler, status: Document) -> list[SetStatus]:
    """The write, if there is anything new."""

    if all(held.status.get(name) == wanted for name, wanted in status.items()):
        return []
    return [SetStatus(HORIZONTAL_POD_AUTOSCALERS, held.key, status)]


def setup(manager: Manager, kinds: Iterable[ServedKind], period_s: float = LOOK_S) -> None:
    """Watch autoscalers; what they scale is looked at by the clock. `kinds`: every kind that the server stores."""
    reconciler = AutoscalerReconciler(manager, kinds, period_s)
    builder = manager.controller("horizontalpodautoscaler", reconciler, workers=2)
    builder.watches(HORIZONTAL_POD_AUTOSCALERS)
