"""A run a step later: clusters are judged, stages begin, wait and end, and a failure stops everything. Pure.

    spec.state   Initialize   the stages are laid out, nothing happens
                 Run          goes on
                 Stop         nothing new begins; what was begun is judged
                 Rollback     every cluster goes back to what it had, all at once; also after a failure that only stopped
    stage        Pending > Waiting (tasks before) > Updating > Verifying (tasks after) > Succeeded

A rollback is done at once and not stage by stage: the old template is known to work, and each cluster rolls back by its own
strategy, one pod after another. Clusters that come into the placement late join their stage; where it is over they are
updated beside the present one, within its concurrency. A cluster that is not heard of when its turn comes is passed over, in its
gate it keeps its place; the stage does not end without it, unless such clusters are skipped.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from federation.placement.model import Candidate
from federation.propagation.rollouts import budgets, durations, gates, stages
from federation.propagation.rollouts.record import IN_FLIGHT, TOLD, Record
from federation.propagation.rollouts.sights import Sight
from machinery.api.fleet.rollouts import (
    APPROVAL,
    INITIALIZE,
    ROLLBACK,
    RUN,
    STOP,
    ClusterUpdate,
    PlacementDisruptionBudget,
    StagedUpdateRun,
    StagedUpdateRunStatus,
    StagedUpdateStrategySpec,
    StageStatus,
    TaskStatus,
)
from machinery.kit.clock import rfc3339
from machinery.meta.names import dns_label
from machinery.meta.objectmeta import Condition
from machinery.meta.resource import Document

FINAL = ("Succeeded", "RolledBack", "Superseded")
ENDED = (*FINAL, "Failed")
BEFORE, AFTER = "before", "after"
PAUSED = "the workload is paused: `kubectl rollout resume` lets it go on"
UNREACHABLE, PENDING, WAIT, BUDGET, REPLACED = (
    "ClusterUnreachable", "ApprovalPending", "TimedWait", "DisruptionBudget", "PlacementOpen",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """The present. `fleet`: the clusters of the placement as the planner sees them."""

    now: dt.datetime
    sights: Mapping[str, Sight]
    record: Record
    fleet: Mapping[str, Candidate] = field(default_factory=dict)
    budgets: Sequence[PlacementDisruptionBudget] = ()
    approved: frozenset[str] = frozenset()
    """Names of ApprovalRequests."""
    denied: Mapping[str, str] = field(default_factory=dict)
    """Names of those that somebody refused, and why."""
    paused: bool = False
    """Whether the user has paused the workload (`kubectl rollout pause`): clusters are told of it, so no time runs."""
    settled: bool = True
    """Whether the placement stands. One that is being decided anew may leave out clusters that are about to be replaced."""


@dataclass(frozen=True, slots=True)
class Step:
    """The status to write, the ApprovalRequests to make (name, stage), and when to look again at the latest."""

    status: StagedUpdateRunStatus
    requests: tuple[tuple[str, str], ...] = ()
    wait_s: float | None = None


def over(run: StagedUpdateRun) -> bool:
    """Whether nothing will happen in the run any more."""
    return run.status.state in FINAL or (
        run.status.state == "Failed" and run.spec.state != ROLLBACK
    )


def initialised(
    strategy: StagedUpdateStrategySpec, facts: Facts, target: str, revision: str
) -> StagedUpdateRunStatus:
    """The status of a run whose stages are laid out. Raises Unstageable."""
    try:
        _ = gates.Gate.of(strategy.health_gate)
        laid_out = stages.layout(strategy, [facts.fleet[n] for n in sorted(facts.sights)])
        for stage in laid_out:
            for task in (*stage.before_stage_tasks, *stage.after_stage_tasks):
                _ = _task_wait_s(task)
    except ValueError as error:
        raise stages.Unstageable("InvalidStrategy", str(error)) from error
    status = StagedUpdateRunStatus(
        target_template=target,
        resource_snapshot_index_used=revision,
        staged_update_strategy_snapshot=strategy,
        start_time=facts.now,
        stages=tuple(laid_out),
    )
    return _told(status, "Initialized", "", "the stages are laid out", facts.now)


def uninitialised(
    status: StagedUpdateRunStatus, reason: str, message: str, now: dt.datetime
) -> StagedUpdateRunStatus:
    """The status of a run that cannot begin."""
    held = _condition(status.conditions, "Initialized", "False", reason, message, now)
    return replace(status, state="Waiting", message=message, conditions=(held,))


def superseded(
    status: StagedUpdateRunStatus, message: str, now: dt.datetime
) -> StagedUpdateRunStatus:
    """The status of a run that another one has taken over from, or whose workload is staged no more."""
    return _told(replace(status, finish_time=now), "Superseded", "Superseded", message, now)


def advance(run: StagedUpdateRun, facts: Facts) -> Step:
    """What the run comes to. It has been initialised, and is the one that acts."""
    if over(run):
        return Step(run.status)
    course = _Course(run, facts)
    course.join()
    if run.spec.state == ROLLBACK:
        return course.back("it was asked for")
    course.judge()
    failure = course.failure()
    if failure:
        action = course.strategy.failure_action
        return course.back(failure) if action == "Rollback" else course.stopped(failure)
    if run.spec.state == RUN and not facts.paused:
        denied = course.go_on()
        if denied:
            action = course.strategy.failure_action
            return course.back(denied) if action == "Rollback" else course.stopped(denied)
    return course.told()


class _Course:
    """One step of a run while it is worked out."""

    def __init__(self, run: StagedUpdateRun, facts: Facts) -> None:
        self.run, self.facts = run, facts
        self.strategy = run.status.staged_update_strategy_snapshot or StagedUpdateStrategySpec()
        self.gate = gates.Gate.of(self.strategy.health_gate)
        wish = run.spec.skip_unreachable
        self.skip = self.strategy.skip_unreachable if wish is None else wish
        self.stages = list(run.status.stages)
        self.members = [{c.cluster_name: c for c in stage.clusters} for stage in self.stages]
        """Clusters by stage; `where` is the stage of each. The stages' own lists are written at the end."""
        self.where = {name: i for i, members in enumerate(self.members) for name in members}
        self.waits: list[float] = []
        self.reasons: list[tuple[str, str]] = []
        self.requests: list[tuple[str, str]] = []

    # ------------------------------------------------------------------------------------------------- clusters
    def updates(self, upto: int | None = None) -> Iterator[ClusterUpdate]:
        """Clusters of the stages up to that one; of all."""
        last = len(self.stages) if upto is None else upto + 1
        for members in self.members[:last]:
            yield from members.values()

    def put(self, update: ClusterUpdate) -> None:
        """The cluster as it is now."""
        name = update.cluster_name
        self.members[self.where[name]][name] = update

    def join(self) -> None:
        """Clusters come into the placement and leave it."""
        for update in list(self.updates()):
            sight = self.facts.sights.get(update.cluster_name)
            self.put(gates.present(update, sight, skip=self.skip))
        for name in sorted(self.facts.sights.keys() - self.where.keys()):
            at = stages.joining(self.strategy, self.stages, self.facts.fleet[name])
            if at >= 0:
                self.where[name] = at
                self.put(ClusterUpdate(name))

    def judge(self) -> None:
        """Clusters that were told are looked at."""
        target = self.run.status.target_template
        for update in list(self.updates()):
            if update.state not in IN_FLIGHT:
                continue
            if self.facts.paused:
                self.put(replace(update, suspended=True, message=PAUSED))
                continue
            sight = self.facts.sights[update.cluster_name]
            judged = gates.judge(update, sight, target, self.gate, self.facts.now)
            self.put(judged.update)
            if judged.wait_s is not None:
                self.waits.append(judged.wait_s)

    def failure(self) -> str:
        """Which cluster failed, and why."""
        found = (f"{u.cluster_name}: {u.message}" for u in self.updates() if u.state == "Failed")
        return next(found, "")

    # ------------------------------------------------------------------------------------------------- stages
    def go_on(self) -> str:
        """Every stage as far as it goes; answers a refusal of an approval."""
        for i in range(len(self.stages)):
            last = i == len(self.stages) - 1
            if self.stages[i].state == "Succeeded" and (not last or self.through(i)):
                continue
            denied = self.stage(i)
            if denied:
                return denied
            if self.stages[i].state != "Succeeded":
                break
        return ""

    def stage(self, at: int) -> str:
        """One stage as far as it goes."""
        now = self.facts.now
        if all(c.state == "Skipped" for c in self.members[at].values()):
            self.pass_by(at)
            return ""
        if self.stages[at].state == "Pending":
            self.stages[at] = replace(self.stages[at], state="Waiting", start_time=now)
        denied = self.tasks(at, BEFORE)
        if denied or not self.done_with(at, BEFORE):
            self.stages[at] = replace(self.stages[at], state="Waiting")
            return denied
        self.begin(at)
        if not self.through(at):
            self.stages[at] = replace(self.stages[at], state="Updating")
            return ""
        self.stages[at] = replace(self.stages[at], state="Verifying")
        denied = self.tasks(at, AFTER)
        if not denied and self.done_with(at, AFTER):
            self.stages[at] = replace(self.stages[at], state="Succeeded", finish_time=now)
        return denied

    def pass_by(self, at: int) -> None:
        """A stage in which there is nothing to do asks for nothing; clusters that came late are updated all the same."""
        self.begin(at)
        done, now = self.through(at), self.facts.now
        self.stages[at] = replace(
            self.stages[at],
            state="Succeeded" if done else "Updating",
            start_time=self.stages[at].start_time or now,
            finish_time=now if done else None,
        )

    def through(self, at: int) -> bool:
        """Whether every cluster up to this stage is done with."""
        return not any(u.state in gates.OPEN for u in self.updates(at))

    def begin(self, at: int) -> None:
        """Tell the next clusters, as many as may be in flight at once.

        Once a budget has refused one, only those go on that it costs nothing to disturb.
        """
        most, refused = self.stages[at].max_concurrency, False
        flying = {u.cluster_name for u in self.updates() if u.state in IN_FLIGHT}
        for update in [u for u in self.updates(at) if u.state == "Pending"]:
            name = update.cluster_name
            if not self.facts.sights[name].seen:
                self.put(replace(update, message=gates.UNHEARD))
                continue
            if len(flying) >= most:
                break
            if self.facts.record.of(name) != self.run.status.target_template:
                away = budgets.Away(self.facts.sights, flying)
                if refused and away.available(name):
                    continue
                why = budgets.refusal(self.facts.budgets, away, name)
                if why:
                    refused = True
                    self.reasons.append((BUDGET, why))
                    self.put(replace(update, message=why))
                    continue
            if self.tell(update):
                flying.add(name)

    def tell(self, pending: ClusterUpdate) -> bool:
        """The cluster gets the template; one that has it and is well is through at once. Whether it is in flight."""
        now, target = self.facts.now, self.run.status.target_template
        name, record = pending.cluster_name, self.facts.record
        known = record.of(name) == target
        before = pending.from_template or (record.stable if known else record.of(name))
        start = gates.stamp(now)
        update = ClusterUpdate(name, "Updating", from_template=before, start_time=start)
        judged = gates.judge(update, self.facts.sights[name], target, self.gate, now)
        told = judged.update if known and judged.update.state != "Failed" else update
        self.put(told)
        wait = judged.wait_s if known else self.gate.deadline_s
        if wait is not None:
            self.waits.append(wait)
        return told.state in IN_FLIGHT

    # ------------------------------------------------------------------------------------------------- tasks
    def tasks(self, at: int, when: str) -> str:
        """The stage's tasks before or after its clusters; answers a refusal."""
        stage = self.stages[at]
        looked: list[TaskStatus] = []
        refused = ""
        for task in _tasks(stage, when):
            fresh, why = self.task(at, when, task)
            looked.append(fresh)
            refused = refused or why
        tasks = tuple(looked)
        self.stages[at] = (
            replace(stage, before_stage_tasks=tasks)
            if when == BEFORE
            else replace(stage, after_stage_tasks=tasks)
        )
        return refused

    def task(self, at: int, when: str, task: TaskStatus) -> tuple[TaskStatus, str]:
        """One task."""
        if task.finish_time is not None:
            return task, ""
        now, stage = self.facts.now, self.stages[at].stage_name
        task = replace(task, start_time=task.start_time or gates.stamp(now))
        if task.type == APPROVAL:
            name = approval_name(self.run.metadata.name, when, stage, at)
            task = replace(task, approval_request_name=name)
            if name in self.facts.denied:
                return task, f"{name} was refused: {self.facts.denied[name]}"
            if name in self.facts.approved:
                return replace(task, finish_time=now), ""
            self.requests.append((name, stage))
            self.reasons.append((PENDING, f"stage {stage} waits for the approval of {name}"))
            return task, ""
        assert task.start_time is not None
        left = _task_wait_s(task) - (now - task.start_time).total_seconds()
        if left <= 0:
            return replace(task, finish_time=now), ""
        self.waits.append(left)
        self.reasons.append((WAIT, f"stage {stage} waits for {task.wait_time}"))
        return task, ""

    def done_with(self, at: int, when: str) -> bool:
        """Whether the stage's tasks are done."""
        return all(task.finish_time is not None for task in _tasks(self.stages[at], when))

    # ------------------------------------------------------------------------------------------------- telling
    def told(self) -> Step:
        """The run goes on, waits, is stopped, or is through."""
        now, status = self.facts.now, self.counted()
        through = all(s.state == "Succeeded" for s in status.stages)
        if through and not (self.facts.settled and self.facts.sights):
            self.reasons.append((REPLACED, "the placement is being decided"))
        elif through:
            text = f"{status.updated_clusters} clusters have the template"
            return Step(
                _told(replace(status, finish_time=now, current_stage=""), "Succeeded", "Succeeded", text, now)
            )  # fmt: skip
        wait = min(self.waits, default=None)
        match self.run.spec.state:
            case state if state == INITIALIZE:
                told = _told(status, "Initialized", "", "set spec.state to Run to begin", now)
            case state if state == STOP or self.facts.paused:
                text = PAUSED if self.facts.paused else "nothing new begins until spec.state is Run"
                told = _told(status, "Stopped", "Stopped", text, now)
            case _:
                told = self.going(status)
        return Step(told, tuple(self.requests), wait)

    def going(self, status: StagedUpdateRunStatus) -> StagedUpdateRunStatus:
        """Whether something is under way, and what is waited for."""
        now = self.facts.now
        lost = [u for u in self.updates(self.at(status)) if u.state in gates.OPEN and self.lost(u)]
        reasons = list(self.reasons)
        if lost:
            names = ", ".join(u.cluster_name for u in lost)
            reasons.append((UNREACHABLE, f"not heard of, waited for: {names}"))
        flying = [u.cluster_name for u in self.updates() if u.state in IN_FLIGHT]
        if any(not self.lost(u) for u in self.updates() if u.state in IN_FLIGHT) or not reasons:
            text = f"stage {status.current_stage}: {', '.join(flying) or 'goes on'}"
            return _told(status, "Progressing", "UpdateRunStarted", text, now)
        text = "; ".join(dict.fromkeys(message for _, message in reasons))
        return _told(status, "Waiting", reasons[0][0], text, now)

    def lost(self, update: ClusterUpdate) -> bool:
        return not self.facts.sights[update.cluster_name].seen

    def at(self, status: StagedUpdateRunStatus) -> int:
        names = [s.stage_name for s in status.stages]
        return names.index(status.current_stage) if status.current_stage in names else 0

    def counted(self) -> StagedUpdateRunStatus:
        """The status with its numbers."""
        updates = [u for u in self.updates() if u.state != "Skipped"]
        current = next((s for s in self.stages if s.state != "Succeeded"), None)
        return replace(
            self.run.status,
            stages=tuple(
                replace(stage, clusters=tuple(members.values()))
                for stage, members in zip(self.stages, self.members, strict=True)
            ),
            current_stage=current.stage_name if current is not None else "",
            updated_clusters=sum(u.state == "Succeeded" for u in updates),
            total_clusters=len(updates),
        )

    def stopped(self, why: str) -> Step:
        """The run is over; what is updated stays so."""
        status = replace(self.counted(), finish_time=self.facts.now)
        return Step(_told(status, "Failed", "Failed", why, self.facts.now))

    def back(self, why: str) -> Step:
        """Every cluster that was told goes back to what it had."""
        now = self.facts.now
        for update in list(self.updates()):
            if update.state in TOLD or update.from_template:  # it may have left since, and be back
                self.put(replace(update, state="RolledBack", finish_time=now))
        status = replace(self.counted(), finish_time=now)
        text = f"rolled back: {why}"
        return Step(_told(status, "RolledBack", "RolledBack", text, now))


def _tasks(stage: StageStatus, when: str) -> tuple[TaskStatus, ...]:
    return stage.before_stage_tasks if when == BEFORE else stage.after_stage_tasks


def _task_wait_s(task: TaskStatus) -> float:
    return 0.0 if task.type == APPROVAL else durations.seconds(task.wait_time)


def approval_name(run: str, when: str, stage: str, at: int) -> str:
    """Of the ApprovalRequest; a stage whose name is no name of objects (a zone's may be anything) goes by its number."""
    return f"{run}-{when}-{stage if not dns_label(stage) else f'stage-{at}'}"


def _told(
    status: StagedUpdateRunStatus, state: str, reason: str, message: str, now: dt.datetime
) -> StagedUpdateRunStatus:
    """The status with state, message and conditions; `reason` empty: it has not begun."""
    conditions = list(status.conditions)
    facts = [("Initialized", "True", "Initialized", "the stages are laid out")]
    if reason:
        under_way = "True" if state == "Progressing" else "False"
        facts.append(("Progressing", under_way, reason, message))
    if state in ENDED:
        facts.append(("Succeeded", "True" if state == "Succeeded" else "False", reason, message))
    for kind, truth, why, text in facts:
        fresh = _condition(status.conditions, kind, truth, why, text, now)
        conditions = [c for c in conditions if c.type != kind] + [fresh]
    return replace(status, state=state, message=message, conditions=tuple(conditions))


def _condition(  # noqa: PLR0913 - a condition has so many fields
    held: Sequence[Condition], kind: str, truth: str, reason: str, message: str, now: dt.datetime
) -> Condition:
    old = next((c for c in held if c.type == kind), None)
    since = old.last_transition_time if old is not None and old.status == truth else now
    return Condition(kind, truth, reason, message, last_transition_time=since)


def document(status: StagedUpdateRunStatus) -> Document:
    """The status in wire shape, for a merge patch: what is not set is removed."""
    whole = msgspec.to_builtins(status, builtin_types=(dt.datetime,))
    return {key: None if _empty(value) else _wire(value) for key, value in whole.items()}


def _wire(value: Any) -> Any:
    """Without what is not set, and with times as people write them."""
    if isinstance(value, dt.datetime):
        return rfc3339(value)
    if isinstance(value, dict):
        return {key: _wire(inner) for key, inner in value.items() if not _empty(inner)}
    if isinstance(value, list | tuple):
        return [_wire(inner) for inner in value]
    return value


def _empty(value: Any) -> bool:
    return value is None or value is False or value in ("", [], (), {})
