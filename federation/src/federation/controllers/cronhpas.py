"""Cron HPAs: at the times of its rules a CronFederatedHPA sets the replicas of its target, or the limits of a FederatedHPA.

The status holds when each rule is due next, so what became due while no server ran is done when one is back: once, for the last
of the times that were missed, as a CronJob does it. A rule that is new, was suspended, or whose schedule no longer names
the stored time, begins with the next time from now. Time zones are the machine's own list; a rule without one means UTC.

A target takes a number, not a change, so that a rule that is carried out twice (a crash before its status is written) does no harm.
What the API refuses is a failed execution and waits for the next time; when the API is away, the pass is repeated.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from federation.propagation.admission.autoscaling import zone_of
from machinery.api.autoscaling import TargetReference
from machinery.api.fleet.autoscaling import (
    CRON_FEDERATED_HPAS,
    FEDERATED_HPA,
    CronFederatedHPA,
    CronFederatedHPARule,
    ExecutionHistory,
    FailedExecution,
    SuccessfulExecution,
)
from machinery.api.scheme import ServedKind
from machinery.client.interface import dynamic
from machinery.controller.action import Action, Emit, Patch, RequeueAfter, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit import cron
from machinery.kit.clock import rfc3339
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document, ObjectKey, Resource

Scalable = Mapping[tuple[str, str], Resource[Document]]
"""Kinds that have replicas, or a FederatedHPA's limits, by version and kind."""
LATE_S = 60.0
SERVER_FAULT = 500


@dataclass(frozen=True, slots=True)
class Due:
    """A rule, and the time of its schedule that is to be carried out."""

    rule: CronFederatedHPARule
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one rule; `failure` empty: it is done."""

    due: Due
    failure: str = ""


# -------------------------------------------------------------------------------------------------------------- what is due
def due(held: CronFederatedHPA, now: dt.datetime) -> list[Due]:
    """The rules that are to be carried out now."""
    if held.deleting:
        return []
    told = {one.rule_name: one for one in held.status.execution_histories}
    found = []
    for rule in held.spec.rules:
        stored = told[rule.name].next_execution_time if rule.name in told else None
        if rule.suspend or stored is None or stored > now:
            continue
        schedule = _read(rule)
        if schedule is None or schedule[0].preceding(stored, schedule[1]) != stored:
            continue
        last = schedule[0].preceding(now, schedule[1])
        found.append(Due(rule, last or stored))
    return found


def following(rule: CronFederatedHPARule, now: dt.datetime) -> dt.datetime | None:
    """When the rule is due next; None while it is suspended, and where it never is."""
    schedule = None if rule.suspend else _read(rule)
    return None if schedule is None else schedule[0].following(now, schedule[1])


def _read(rule: CronFederatedHPARule) -> tuple[cron.Schedule, dt.tzinfo] | None:
    """Admission lets nothing else in; a time zone may be missing on another machine."""
    try:
        return cron.parse(rule.schedule), zone_of(rule.time_zone)
    except ValueError:
        return None


def scaling(held: CronFederatedHPA, rule: CronFederatedHPARule, kinds: Scalable) -> Patch | str:
    """The write that carries the rule out, or why there is none."""
    target: TargetReference = held.spec.scale_target_ref
    kind = (target.api_version, target.kind)
    resource = kinds.get(kind)
    if resource is None:
        return f'no kind "{target.kind}" in version "{target.api_version}" is served that can be scaled'
    key = ObjectKey(held.metadata.namespace, target.name)
    if kind != FEDERATED_HPA:
        return Patch(resource, key, {"spec": {"replicas": rule.target_replicas}})
    limits = {"minReplicas": rule.target_min_replicas, "maxReplicas": rule.target_max_replicas}
    return Patch(resource, key, {"spec": {k: v for k, v in limits.items() if v is not None}})


# ------------------------------------------------------------------------------------------------------------ what is told
def plan(
    held: CronFederatedHPA | None, outcomes: Sequence[Outcome], now: dt.datetime
) -> list[Action]:
    """Status, Events, and when to look again."""
    if held is None or held.deleting:
        return []
    told = {one.rule_name: one for one in held.status.execution_histories}
    done = {one.due.rule.name: one for one in outcomes}
    histories = [
        _history(rule, told.get(rule.name), done.get(rule.name), now) for rule in held.spec.rules
    ]
    actions: list[Action] = []
    before = [wire(one) for one in held.status.execution_histories]
    if (after := [wire(one) for one in histories]) != before:
        version = held.metadata.resource_version
        status = {"executionHistories": after or None}
        actions.append(SetStatus(CRON_FEDERATED_HPAS, held.key, status, resource_version=version))
    actions += [_said(held, one, now) for one in outcomes]
    if waits := [t for one in histories if (t := one.next_execution_time) is not None]:
        actions.append(RequeueAfter(max(0.1, (min(waits) - now).total_seconds())))
    return actions


def _history(
    rule: CronFederatedHPARule,
    held: ExecutionHistory | None,
    outcome: Outcome | None,
    now: dt.datetime,
) -> ExecutionHistory:
    good = held.successful_executions if held is not None else ()
    bad = held.failed_executions if held is not None else ()
    if outcome is not None and outcome.failure:
        bad = (FailedExecution(outcome.due.at, now, outcome.failure), *bad)
    elif outcome is not None:
        good = (_success(rule, outcome.due.at, now), *good)
    return ExecutionHistory(
        rule.name,
        following(rule, now),
        good[: rule.successful_history_limit],
        bad[: rule.failed_history_limit],
    )


def _success(rule: CronFederatedHPARule, at: dt.datetime, now: dt.datetime) -> SuccessfulExecution:
    return SuccessfulExecution(
        at, now, rule.target_replicas, rule.target_min_replicas, rule.target_max_replicas
    )


def wire(one: ExecutionHistory) -> Document:
    """An entry of the status; what is empty is left out."""
    document: Document = {"ruleName": one.rule_name}
    if one.next_execution_time is not None:
        document["nextExecutionTime"] = rfc3339(one.next_execution_time)
    good = [
        _times(e)
        | _given(
            appliedReplicas=e.applied_replicas,
            appliedMinReplicas=e.applied_min_replicas,
            appliedMaxReplicas=e.applied_max_replicas,
        )
        for e in one.successful_executions
    ]
    bad = [_times(e) | {"message": e.message} for e in one.failed_executions]
    return document | _given(successfulExecutions=good or None, failedExecutions=bad or None)


def _times(execution: SuccessfulExecution | FailedExecution) -> Document:
    return {
        "scheduleTime": rfc3339(execution.schedule_time),
        "executionTime": rfc3339(execution.execution_time),
    }


def _given(**fields: Any) -> Document:
    return {name: value for name, value in fields.items() if value is not None}


def _said(held: CronFederatedHPA, outcome: Outcome, now: dt.datetime) -> Emit:
    target, rule = held.spec.scale_target_ref, outcome.due.rule
    what = f"rule {rule.name} of {rfc3339(outcome.due.at)}"
    if outcome.failure:
        limits = (target.api_version, target.kind) == FEDERATED_HPA
        reason = "ScaleFederatedHPAFailed" if limits else "ScaleReplicasFailed"
        return _event(held, "Warning", reason, f"{what}: {outcome.failure}")
    numbers = {
        "replicas": rule.target_replicas,
        "minReplicas": rule.target_min_replicas,
        "maxReplicas": rule.target_max_replicas,
    }
    set_to = ", ".join(f"{name} {n}" for name, n in numbers.items() if n is not None)
    late = (now - outcome.due.at).total_seconds() > LATE_S
    after = ", late: no server ran when it was due" if late else ""
    text = f"{what}: {target.kind} {target.name} has {set_to} now{after}"
    return _event(held, "Normal", "ScaledBySchedule", text)


def _event(held: CronFederatedHPA, kind: str, reason: str, text: str) -> Emit:
    return Emit(CRON_FEDERATED_HPAS, held.key, held.metadata.uid, kind, reason, text)


class CronReconciler:
    """CronFederatedHPAs."""

    def __init__(self, manager: Manager, kinds: Scalable) -> None:
        self._clock, self._executor = manager.clock, manager.executor
        self._held = manager.informer(CRON_FEDERATED_HPAS)
        self._kinds = kinds

    async def reconcile(self, key: ObjectKey) -> Result:
        held = self._held.get(key)
        if held is None:
            return Result()
        now = self._clock.now()
        outcomes = [await self._carry_out(held, one) for one in due(held, now)]
        return await self._executor.apply(plan(held, outcomes, now))

    async def _carry_out(self, held: CronFederatedHPA, one: Due) -> Outcome:
        """Raises ConnectionError, and StatusError where it is the server's fault."""
        write = scaling(held, one.rule, self._kinds)
        if isinstance(write, str):
            return Outcome(one, write)
        try:
            _ = await self._executor.apply([write])
        except StatusError as error:
            if error.status_code >= SERVER_FAULT:
                raise
            return Outcome(one, str(error))
        return Outcome(one)


def scalable(kinds: Iterable[ServedKind]) -> dict[tuple[str, str], Resource[Document]]:
    """Of the served kinds, what a CronFederatedHPA can be for."""
    found = {}
    for kind in kinds:
        mark = (kind.api_version, kind.kind)
        if mark == FEDERATED_HPA or any(sub.name == "scale" for sub in kind.subresources):
            found[mark] = dynamic(kind.group, kind.version, kind.plural, kind.kind, kind.namespaced)
    return found


def setup(manager: Manager, kinds: Iterable[ServedKind]) -> None:
    """CronFederatedHPAs alone: their targets are looked at when they are due. `kinds`: every kind that is served."""
    controller = manager.controller("cronhpas", CronReconciler(manager, scalable(kinds)))
    controller.watches(CRON_FEDERATED_HPAS)
