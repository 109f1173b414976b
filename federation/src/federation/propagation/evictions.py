"""When graceful eviction tasks end, and the state that a workload takes along. Pure.

Karmada's assessment of a task, which holds for tasks that others made, and for those of ours that follow a policy's `purgeMode`
or a workload's own health:

    no creationTimestamp                                            it is stamped, and looked at again
    suppressDeletion true                                           stays
    suppressDeletion false                                          ends
    older than its gracePeriodSeconds (600 s where it has none)     ends
    placed, and the workload is Healthy in every cluster of it      ends
    else                                                            stays

`suppressDeletion` counts before `gracePeriodSeconds` where somebody wrote both. Ours differ in what must never get lost: a task
for a cluster that is not seen stays until it is, and one that this server made ends only when the workload is placed elsewhere and its dispatching is not suspended there:
Karmada lets the last copy go when there is no other place for 10 minutes.

A workload drained from a cluster Gracefully is released replica by replica instead (`federation.propagation.moves`), with no
time limit.

State travels as Karmada has it: each rule's `jsonPath` is looked up in the workload's status in the cluster that it leaves, and
becomes a label of the workload in the cluster where it goes, if it runs in one cluster only and the copy that it leaves has ended
(purgeMode Directly, mode consistency) or is given up (a dead cluster).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from federation.propagation import moves
from federation.propagation.moves import Facts, Manner, State, Task
from machinery.api import jsonpath
from machinery.api.fleet.policy import FailoverBehavior, StateRule
from machinery.api.fleet.work import ResourceBinding
from machinery.kit.clock import parse_time
from machinery.meta import names

GRACE_S = 600
"""How long a task waits for the healthy where it says nothing itself."""
HEALTHY = "Healthy"


@dataclass(frozen=True, slots=True)
class Assessed:
    """The tasks that stay, why others ended, and in how many seconds to look again (None: when something changes)."""

    state: State
    news: tuple[tuple[str, str], ...] = ()
    again_s: float | None = None


def assess(state: State, facts: Facts) -> Assessed:
    """What is due now of the tasks that this rule is for."""
    if not facts.now:
        return Assessed(state)
    tasks: list[Task] = []
    news: list[tuple[str, str]] = []
    waits: list[float] = []
    for task in state.tasks:
        if not judged(task, facts):
            tasks.append(task)
            continue
        if not task.created:
            task = replace(task, created=facts.now)  # noqa: PLW2901
        why = ended(task, state, facts)
        if why:
            news.append(("EvictionEnded", f"what ran in {task.cluster} goes: {why}"))
            continue
        tasks.append(task)
        left = grace_left_s(task, facts.now)
        if task.suppress is None and left > 0:
            waits.append(left)
    standing = {t.cluster for t in tasks}
    before = {name: held for name, held in state.before.items() if name in standing}
    if len(tasks) == len(state.tasks):
        before = dict(state.before)
    return Assessed(
        replace(state, tasks=tuple(tasks), before=before), tuple(news), min(waits, default=None)
    )


def judged(task: Task, facts: Facts) -> bool:
    """Whether the rule is for this task."""
    if task.producer != moves.PRODUCER:
        return True
    if facts.fenced or task.reason in (moves.UNREACHABLE, moves.REBALANCED):
        return False
    return task.reason == moves.APPLICATION or task.purge != moves.GRACEFULLY


def ended(task: Task, state: State, facts: Facts) -> str:
    """Why the task ends now; empty: it does not."""
    if task.cluster not in facts.seen and task.purge != moves.DIRECTLY:
        return ""
    if task.suppress is not None:
        return "" if task.suppress else "its deletion is suppressed no more"
    placed = facts.settled and bool(state.clusters)
    if task.producer == moves.PRODUCER and (not placed or facts.waiting):
        return ""
    if grace_left_s(task, facts.now) <= 0:
        return f"its time of {grace_s(task)} s is over"
    if placed and all(_well(name, count, facts) for name, count in state.clusters.items()):
        return "the workload is healthy in all its clusters"
    return ""


def _well(cluster: str, count: int, facts: Facts) -> bool:
    """Healthy, and by a report on as many replicas as are decided, where it counts any."""
    seen = facts.seen.get(cluster)
    if seen is None or cluster not in facts.healthy:
        return False
    return not seen.counts or seen.ready >= count


def grace_s(task: Task) -> int:
    """How long the task waits at most."""
    return GRACE_S if task.grace_s is None else task.grace_s


def grace_left_s(task: Task, now: str) -> float:
    """Seconds until the task's time is over."""
    return grace_s(task) - (parse_time(now) - parse_time(task.created)).total_seconds()


def healthy(binding: ResourceBinding, seen: Iterable[str]) -> frozenset[str]:
    """Clusters of those seen that call the workload Healthy."""
    items = binding.status.aggregated_status
    return frozenset(i.cluster_name for i in items if i.health == HEALTHY) & frozenset(seen)


# ------------------------------------------------------------------------------------------------- how a cluster is left
@dataclass(frozen=True, slots=True)
class Told:
    """How a cluster is left, and what of the policy's state rules could not be kept."""

    manner: Manner
    problems: tuple[str, ...] = field(default=())


def manner_of(binding: ResourceBinding, cluster: str, reason: str) -> Told:
    """How the policy lets the workload leave this cluster for this reason."""
    policy = binding.spec.failover or FailoverBehavior()
    if reason == moves.APPLICATION:
        application = policy.application
        assert application is not None, "who leaves for its health has a policy that says so"
        purge, kept = application.purge_mode, application.state_preservation
        graceful = purge == moves.GRACEFULLY
        grace = (application.grace_period_seconds or GRACE_S) if graceful else None
    else:
        whole = policy.cluster
        purge = whole.purge_mode if whole is not None else moves.GRACEFULLY
        kept, grace = (whole.state_preservation if whole is not None else None), None
    if kept is None:
        return Told(Manner(purge, grace))
    status = next(
        (i.status for i in binding.status.aggregated_status if i.cluster_name == cluster), None
    )
    labels, problems = preserved(kept.rules, status or {})
    if len(binding.spec.clusters) > 1:
        labels, problems = {}, ["it runs in several clusters, and a state is of one"]
    return Told(Manner(purge, grace, labels), tuple(problems))


def preserved(
    rules: Iterable[StateRule], status: Mapping[str, object]
) -> tuple[dict[str, str], list[str]]:
    """Labels by the rules from a member's status, and what is wrong with the rest."""
    labels: dict[str, str] = {}
    problems: list[str] = []
    for rule in rules:
        try:
            value = jsonpath.compile_template(rule.json_path)(status)
        except ValueError as error:
            problems.append(f"{rule.alias_label_name}: {error}")
            continue
        if value is None:
            problems.append(f"{rule.alias_label_name}: {rule.json_path} is not in the status")
        elif wrong := names.label_value(value):
            problems.append(f"{rule.alias_label_name}: {value!r} is no label: {wrong[0]}")
        else:
            labels[rule.alias_label_name] = value
    return labels, problems


def carried(binding: ResourceBinding, cluster: str) -> Mapping[str, str]:
    """The state that the workload takes along into this cluster, as labels."""
    tasks = binding.spec.graceful_eviction_tasks
    last = next((t for t in reversed(tasks) if t.reason != moves.REBALANCED), None)
    if last is None or not last.preserved_label_state or len(binding.spec.clusters) != 1:
        return {}
    given_up = last.purge_mode == moves.DIRECTLY or last.reason == moves.UNREACHABLE
    if not given_up and last.replicas != 0:
        return {}
    return {} if cluster in last.clusters_before_failover else last.preserved_label_state
