"""What admission refuses of strategies, runs and budgets, beyond their schemas. Pure."""

from collections.abc import Callable, Iterator
from typing import Any

from federation.propagation.rollouts import durations, shares
from federation.propagation.rollouts.snapshots import STAGED
from machinery.api.fleet.rollouts import AUTOMATIC, MANUAL, STRATEGY, TRIGGER
from machinery.meta.resource import Document

Fault = tuple[str, Any, str]
"""Field, value, what is wrong with it."""
PERCENT = "must be a whole number from 0 on, or a percentage such as 25%"


def strategy(document: Document) -> Iterator[Fault]:
    """Faults of a StagedUpdateStrategy."""
    spec = document.get("spec") or {}
    gate = spec.get("healthGate") or {}
    yield from _duration(
        "spec.healthGate.progressDeadline", gate.get("progressDeadline"), durations.limit
    )
    yield from _duration("spec.healthGate.minSuccessTime", gate.get("minSuccessTime"))
    names: set[str] = set()
    for i, stage in enumerate(spec.get("stages") or ()):
        field = f"spec.stages[{i}]"
        if stage.get("name") in names:
            yield f"{field}.name", stage.get("name"), "another stage has this name"
        names.add(stage.get("name"))
        most = stage.get("maxConcurrency", 1)
        if not shares.valid(most) or most in (0, "0%"):
            yield f"{field}.maxConcurrency", most, "must be a number from 1 on, or a percentage"
        for when in ("beforeStageTasks", "afterStageTasks"):
            yield from _tasks(f"{field}.{when}", stage.get(when) or ())


def _tasks(field: str, tasks: Any) -> Iterator[Fault]:
    kinds = [task.get("type") for task in tasks]
    if len(set(kinds)) < len(kinds):
        yield field, kinds, "a task type may stand here once"
    for i, task in enumerate(tasks):
        where, wait = f"{field}[{i}].waitTime", task.get("waitTime")
        if task.get("type") == "TimedWait":
            yield from _duration(where, wait or "")
        elif wait is not None:
            yield where, wait, "only a TimedWait has a waitTime"


def _duration(
    field: str, text: str | None, read: Callable[[str], Any] = durations.seconds
) -> Iterator[Fault]:
    if text is None:
        return
    try:
        read(text)
    except ValueError as error:
        yield field, text, str(error)


def budget(document: Document) -> Iterator[Fault]:
    """Faults of a PlacementDisruptionBudget."""
    spec = document.get("spec") or {}
    given = [name for name in ("minAvailable", "maxUnavailable") if spec.get(name) is not None]
    if len(given) != 1:
        yield "spec", given, "exactly one of minAvailable and maxUnavailable is needed"
    for name in given:
        if not shares.valid(spec[name]):
            yield f"spec.{name}", spec[name], PERCENT


def idle(workload: Document) -> Iterator[str]:
    """Warnings on annotations of a workload that mean nothing."""
    marks = (workload.get("metadata") or {}).get("annotations") or {}
    kind = workload.get("kind", "")
    if marks.get(STRATEGY) and kind not in {name for _, name in STAGED}:
        yield (
            f"metadata.annotations[{STRATEGY}]: only Deployments, StatefulSets and DaemonSets are updated in stages; "
            f"changes of this {kind} go everywhere at once"
        )
    trigger = marks.get(TRIGGER, AUTOMATIC)
    if trigger not in (AUTOMATIC, MANUAL):
        yield f"metadata.annotations[{TRIGGER}]: {trigger!r} is not Manual, and counts as Automatic"


def run_changed(new: Document, old: Document) -> Iterator[Fault]:
    """Faults of a change of a StagedUpdateRun: only its state and what it skips may change."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    for name in ("workload", "stagedRolloutStrategyName", "resourceSnapshotIndex"):
        if before.get(name) != after.get(name):
            yield f"spec.{name}", after.get(name), "field is immutable"
