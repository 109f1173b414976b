"""Moves: how replicas leave one cluster for others without a moment in which fewer run than are wanted. Pure.

A move is written in the binding: `spec.clusters` says where replicas shall be, and each entry of
`spec.gracefulEvictionTasks` (Karmada's shape) says how many a cluster keeps besides, for the time being.

    ClusterUnreachable   the cluster is dead: nobody can see what runs there, so all of it is kept until it is seen again
    ClusterDrained       it is being emptied: what it has is kept until as many are ready elsewhere
    ApplicationFailure   the workload is unhealthy there: all of it is kept until the others are healthy, or its grace is over
    Rebalanced           it has too many: the surplus is kept until as many are ready elsewhere

All but the last take the cluster out of placement. Every function takes a whole state and gives a whole state back, so
that a crash between any two leaves something that the next pass goes on from. When tasks of others end, and ours that the
policy gave another manner (`purgeMode`), is told in `federation.propagation.evictions`.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from federation.propagation import components
from machinery.api.fleet.work import GracefulEvictionTask, ResourceBinding, binding_resource
from machinery.controller.action import Patch
from machinery.kit.clock import rfc3339
from machinery.meta.resource import Document

UNREACHABLE, DRAINED, REBALANCED = "ClusterUnreachable", "ClusterDrained", "Rebalanced"
APPLICATION = "ApplicationFailure"
GRACEFULLY, DIRECTLY, NEVER = "Gracefully", "Directly", "Never"
PRODUCER = "ubernetes-failover"
BEFORE = "ubernetes.io/placed-before"
"""Annotation of a binding: by evicted cluster, the placement that stood before, and the question it answered."""
DISPLACED = "ubernetes.io/displaced"
"""Annotation of a binding: the placement before the first move that failover made; failback looks at it."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one cluster keeps. `created` is a wire time."""

    cluster: str
    replicas: int
    reason: str
    created: str = ""
    message: str = ""
    producer: str = PRODUCER
    grace_s: int | None = None
    """With no replicas kept: how long those that ran may take to end. Else: how long the healthy are waited for."""
    purge: str = GRACEFULLY
    """Empty where others say nothing."""
    suppress: bool | None = None
    """True: kept until somebody says False."""
    preserved: Mapping[str, str] = field(default_factory=dict)
    """The state that travels: labels for the workload where it goes."""
    was: tuple[str, ...] = ()
    """The clusters before the move."""
    as_it_is: bool = False
    """Others' tasks say no number: what the cluster was told to run stays as it is."""

    @property
    def kept(self) -> int:
        """Replicas that the cluster runs besides the decision."""
        return 0 if self.purge == DIRECTLY else self.replicas


@dataclass(frozen=True, slots=True)
class Manner:
    """How a cluster is left, by the policy."""

    purge: str = GRACEFULLY
    grace_s: int | None = None
    preserved: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Before:
    """A placement to go back to while its question stands. `since`: since when the workload ran well in the cluster that
    was left, in that cluster's own words."""

    question: str
    clusters: Mapping[str, int]
    since: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """Where replicas shall be, what is kept besides, and where they came from."""

    clusters: Mapping[str, int]
    tasks: tuple[Task, ...] = ()
    before: Mapping[str, Before] = field(default_factory=dict)
    displaced: Mapping[str, int] | None = None

    def kept(self, cluster: str) -> int:
        return sum(t.kept for t in self.tasks if t.cluster == cluster)

    @property
    def running(self) -> dict[str, int]:
        """What each cluster is asked to run."""
        counts = dict(self.clusters)
        for task in self.tasks:
            if task.purge != DIRECTLY:
                counts[task.cluster] = counts.get(task.cluster, 0) + task.kept
        return counts

    @property
    def evicting(self) -> frozenset[str]:
        """Clusters that get nothing."""
        return frozenset(t.cluster for t in self.tasks if t.reason != REBALANCED)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the workload in one cluster. `ready` is what it reports, `running_since` when it got well; `counts`
    is whether it reports ready replicas at all."""

    ready: int = 0
    running_since: str = ""
    counts: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """The present, for `settle`. `seen`: clusters whose reports count (heard of, inventory made)."""

    question: str
    seen: Mapping[str, Seen]
    drained: frozenset[str] = frozenset()
    known: frozenset[str] | None = None
    """Clusters that have not left; None: all."""
    rejoin: str = "keepReplacement"
    zone_of: Mapping[str, str] = field(default_factory=dict)
    fenced: bool = False
    """Mode consistency: what was left behind has stopped, and is never taken back."""
    grace_s: int = 0
    """How long its replicas may take to end."""
    stopped: bool = False
    """Of a fenced workload: nothing of what was drained runs or ends any more (`stopping_s` is 0)."""
    settled: bool = True
    """Whether the clusters in the spec answer the question that is asked now."""
    healthy: frozenset[str] = frozenset()
    """Clusters that call the workload Healthy."""
    waiting: bool = False
    """Dispatching is suspended to a cluster of the decision: what shall replace the old is not brought there yet."""
    now: str = ""


# ---------------------------------------------------------------------------------------------------- reading
def suspended(binding: ResourceBinding, cluster: str) -> bool:
    """Whether nothing is brought to the cluster for now."""
    suspension = binding.spec.suspension
    if suspension is None:
        return False
    only = suspension.dispatching_on_clusters
    return suspension.dispatching or (only is not None and cluster in only.cluster_names)


def kept(binding: ResourceBinding) -> dict[str, int]:
    """Replicas that clusters keep besides the decision."""
    counts: dict[str, int] = {}
    for task in binding.spec.graceful_eviction_tasks:
        if task.purge_mode != DIRECTLY:
            counts[task.from_cluster] = counts.get(task.from_cluster, 0) + (task.replicas or 0)
    return counts


def untouched(binding: ResourceBinding) -> frozenset[str]:
    """Clusters whose Work stays as it is: others took them out and did not say how many replicas they keep."""
    decided = {t.name for t in binding.spec.clusters}
    return frozenset(
        t.from_cluster
        for t in binding.spec.graceful_eviction_tasks
        if t.replicas is None
        and t.producer != PRODUCER
        and t.purge_mode != DIRECTLY
        and t.from_cluster not in decided
    )


def running(binding: ResourceBinding) -> dict[str, int]:
    """What each cluster is asked to run: decided, and kept."""
    counts = components.placed(binding)
    for cluster, count in kept(binding).items():
        counts[cluster] = counts.get(cluster, 0) + count
    return counts


def evicting(binding: ResourceBinding) -> frozenset[str]:
    """Clusters that may get nothing; tasks of others than us count as Karmada means them."""
    tasks = binding.spec.graceful_eviction_tasks
    return frozenset(t.from_cluster for t in tasks if t.reason != REBALANCED)


def state_of(binding: ResourceBinding) -> State:
    """The binding's move."""
    annotations = binding.metadata.annotations
    before = {
        cluster: Before(held["question"], held["clusters"], held.get("since", ""))
        for cluster, held in _read(annotations.get(BEFORE, "")).items()
    }
    displaced = _read(annotations.get(DISPLACED, ""))
    return State(
        components.placed(binding),
        tuple(_task(t) for t in binding.spec.graceful_eviction_tasks),
        before,
        displaced or None,
    )


def _task(task: GracefulEvictionTask) -> Task:
    created = rfc3339(task.creation_timestamp) if task.creation_timestamp is not None else ""
    return Task(
        task.from_cluster,
        task.replicas or 0,
        task.reason,
        created,
        task.message,
        task.producer,
        task.grace_period_seconds,
        task.purge_mode,
        task.suppress_deletion,
        task.preserved_label_state,
        task.clusters_before_failover,
        task.replicas is None and task.producer != PRODUCER,
    )


def _read(text: str) -> dict[str, Any]:
    """Our own annotation; one that somebody spoiled counts as none."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def reported(binding: ResourceBinding, seen: frozenset[str]) -> dict[str, Seen]:
    """What those clusters say of the workload; one that says nothing has none ready. A set of components is ready if healthy."""
    found = {name: Seen() for name in seen}
    sets = components.counted(binding)
    for item in binding.status.aggregated_status:
        if item.cluster_name in seen and item.status is not None:
            status = item.status
            ready = int(item.health == "Healthy") if sets else status.get("readyReplicas")
            found[item.cluster_name] = (
                Seen(ready, _since(status), counts=True)
                if isinstance(ready, int)
                else Seen(0, _since(status))
            )
    return found


def _since(status: Mapping[str, Any]) -> str:
    """When the workload became available there, by the member's clock; empty when it is not."""
    for held in status.get("conditions") or ():
        if held.get("type") == "Available" and held.get("status") == "True":
            return str(held.get("lastTransitionTime", ""))
    return ""


# ---------------------------------------------------------------------------------------------------- writing
def patch(
    binding: ResourceBinding, new: State, annotations: Mapping[str, str | None] | None = None
) -> Patch:
    """The whole state as one compare-and-swap."""
    before = {
        cluster: {"question": held.question, "clusters": dict(held.clusters)}
        | ({"since": held.since} if held.since else {})
        for cluster, held in new.before.items()
    }
    marks: dict[str, str | None] = {
        BEFORE: json.dumps(before, sort_keys=True) if before else None,
        DISPLACED: json.dumps(dict(new.displaced), sort_keys=True) if new.displaced else None,
    }
    held = binding.metadata.annotations
    changed = {k: v for k, v in marks.items() if held.get(k) != v} | dict(annotations or {})
    fields = spec(binding, new)
    if not binding.spec.graceful_eviction_tasks and not new.tasks:
        del fields["gracefulEvictionTasks"]
    body: Document = {"spec": fields}
    if changed:
        body["metadata"] = {"annotations": changed}
    version = binding.metadata.resource_version
    return Patch(binding_resource(binding.key), binding.key, body, resource_version=version)


def spec(binding: ResourceBinding, state: State) -> Document:
    """`clusters` and `gracefulEvictionTasks` in wire shape; null removes."""
    clusters = components.written(binding, sorted(state.clusters.items()))
    tasks = [wire(task) for task in state.tasks]
    return {"clusters": clusters or None, "gracefulEvictionTasks": tasks or None}


def wire(task: Task) -> Document:
    """One task."""
    document: Document = {
        "fromCluster": task.cluster,
        "reason": task.reason,
        "producer": task.producer,
    }
    if task.purge:
        document["purgeMode"] = task.purge
    if not task.as_it_is:
        document["replicas"] = task.replicas
    if task.suppress is not None:
        document["suppressDeletion"] = task.suppress
    if task.preserved:
        document["preservedLabelState"] = dict(task.preserved)
    if task.was:
        document["clustersBeforeFailover"] = list(task.was)
    if task.message:
        document["message"] = task.message
    if task.grace_s is not None:
        document["gracePeriodSeconds"] = task.grace_s
    if task.created:
        document["creationTimestamp"] = task.created
    return document


# ---------------------------------------------------------------------------------------------------- moving
AS_EVER = Manner()


def evict(
    state: State, cluster: str, reason: str, why: str, facts: Facts, manner: Manner = AS_EVER
) -> State:
    """Take the cluster out of the placement; what it runs is kept. The planner decides where the replicas go.

    In a dead cluster nothing is purged Directly: it is not seen. What left for its own health does not go back by itself.
    """
    if cluster in state.evicting or cluster not in state.running:
        return state
    clusters = {name: n for name, n in state.clusters.items() if name != cluster}
    tasks = tuple(t for t in state.tasks if t.cluster != cluster)
    task = _begun(state, cluster, reason, why, facts, manner)
    if cluster not in state.clusters:
        return replace(state, tasks=(*tasks, task))
    whole = Before(facts.question, dict(state.clusters))
    if not facts.settled:  # the planner has not made good for an earlier loss: that one's placement was the last whole one
        whole = next(
            (b for b in reversed(list(state.before.values())) if cluster in b.clusters),
            Before("", {}),
        )
    whole = replace(whole, since=facts.seen.get(cluster, Seen()).running_since)
    before = dict(state.before) | ({cluster: whole} if whole.clusters else {})
    displaced = state.displaced
    if reason != APPLICATION:
        displaced = displaced or dict(state.clusters)
    return State(clusters, (*tasks, task), before, displaced)


def _begun(state: State, cluster: str, reason: str, why: str, facts: Facts, manner: Manner) -> Task:
    """The task of an eviction."""
    task = Task(cluster, state.running[cluster], reason, facts.now, why)
    if manner.preserved:
        was = tuple(sorted(state.clusters))
        task = replace(task, preserved=dict(manner.preserved), was=was)
    if reason == UNREACHABLE:
        return task
    if facts.fenced:  # stops first, starts elsewhere then
        return replace(task, replicas=0, grace_s=facts.grace_s)
    if manner.purge == NEVER:
        return replace(task, purge=NEVER, suppress=True)
    return replace(task, purge=manner.purge, grace_s=manner.grace_s)


def shift(state: State, target: Mapping[str, int], now: str, why: str) -> State:
    """Replicas go where `target` says, surge first: who has more than that keeps it for the time being."""
    asked = state.running
    stuck = tuple(t for t in state.tasks if t.reason != REBALANCED and t.cluster not in target)
    held = {t.cluster for t in stuck}
    old = {t.cluster: t for t in state.tasks if t.reason == REBALANCED}
    tasks = list(stuck)
    for cluster in sorted(asked):
        surplus = asked[cluster] - target.get(cluster, 0)
        if cluster in held or surplus <= 0:
            continue
        known = old.get(cluster)
        tasks.append(
            replace(known, replicas=surplus)
            if known is not None
            else Task(cluster, surplus, REBALANCED, now, why)
        )
    before = {name: held for name, held in state.before.items() if name not in target}
    return replace(state, clusters=dict(target), tasks=tuple(tasks), before=before)


def decided(state: State, new: Mapping[str, int], now: str) -> State:
    """A new decision of the planner. What clusters lose beyond what is wanted less in all is kept for the time being."""
    target = dict(new)
    less = max(0, sum(state.clusters.values()) - sum(target.values()))
    asked, out = state.running, state.evicting
    for cluster in sorted(asked):
        if cluster in out:
            continue
        surplus = asked[cluster] - new.get(cluster, 0)
        free = min(max(0, surplus), less)
        less -= free
        asked[cluster] -= free
    counts = {name: count for name, count in asked.items() if name not in out}
    why = "kept until as many replicas are ready in the other clusters"
    others = tuple(t for t in state.tasks if t.reason != REBALANCED)
    old = {t.cluster: t for t in state.tasks if t.reason == REBALANCED}
    tasks = [
        replace(
            old.get(name, Task(name, 0, REBALANCED, now, why)), replicas=count - target.get(name, 0)
        )
        for name, count in sorted(counts.items())
        if count > target.get(name, 0)
    ]
    return replace(state, clusters=target, tasks=(*others, *tasks))


# ---------------------------------------------------------------------------------------------------- settling
def settle(state: State, facts: Facts) -> State:
    """What is due now: clusters that are back rejoin, and what is kept is let go as far as it is ready elsewhere."""
    state = _departed(state, facts)
    for task in state.tasks:
        if _back(task, facts):
            state = _rejoin(state, task, facts)
    return _release(state, facts)


def _back(task: Task, facts: Facts) -> bool:
    """Whether the cluster that the task took out may be used again."""
    if task.cluster not in facts.seen:
        return False
    if task.reason == UNREACHABLE:
        return True
    if task.reason == APPLICATION:  # nothing else has room for it, and it is well again
        well = task.cluster in facts.healthy
        return well and task.producer == PRODUCER and not facts.settled and not facts.fenced
    # A fenced workload that was drained has stopped already: it starts anew wherever the planner says.
    return task.reason == DRAINED and task.cluster not in facts.drained and not facts.fenced


def _departed(state: State, facts: Facts) -> State:
    """A cluster that has left keeps nothing."""
    if facts.known is None:
        return state
    known = facts.known
    tasks = tuple(t for t in state.tasks if t.cluster in known)
    before = {name: held for name, held in state.before.items() if name in known}
    return replace(state, tasks=tasks, before=before)


def arrived(state: State, facts: Facts) -> bool:
    """Whether every replica of the decision is ready where it was decided to be."""
    if not facts.settled:
        return False
    return all(
        name in facts.seen and facts.seen[name].ready >= count
        for name, count in state.clusters.items()
    )


def _rejoin(state: State, task: Task, facts: Facts) -> State:
    """The cluster is back: the old placement comes back, or its replicas are given up surge first."""
    if facts.fenced:
        tasks = tuple(t for t in state.tasks if t != task)
        before = {name: b for name, b in state.before.items() if name != task.cluster}
        return replace(state, tasks=tasks, before=before)
    held = state.before.get(task.cluster)
    if held is not None and _restorable(state, held, facts) and _original(state, task, held, facts):
        why = f"{task.cluster} is back: its replicas stay, their replacements go"
        restored = shift(state, held.clusters, facts.now, why)
        same = restored.displaced == held.clusters
        return replace(restored, displaced=None if same else restored.displaced)
    why = f"{task.cluster} is back: its replicas were replaced"
    surplus = Task(task.cluster, task.kept, REBALANCED, task.created, why, task.producer)
    given_up = (surplus,) if task.kept > 0 else ()
    tasks = tuple(found for t in state.tasks for found in (given_up if t == task else (t,)))
    before = {name: b for name, b in state.before.items() if name != task.cluster}
    return replace(state, tasks=tasks, before=before)


def _restorable(state: State, held: Before, facts: Facts) -> bool:
    """Whether the old placement can stand today: the same question, and every cluster of it may be used."""
    return held.question == facts.question and all(
        name in facts.seen and name not in facts.drained for name in held.clusters
    )


def _original(state: State, task: Task, held: Before, facts: Facts) -> bool:
    """Whether the replicas that were left behind are the ones to keep."""
    grown = any(count > held.clusters.get(name, 0) for name, count in state.clusters.items())
    if not grown or not arrived(state, facts):
        return True  # a move that was not finished is taken back
    if facts.seen[task.cluster].ready < task.replicas:
        return False
    match facts.rejoin:
        case "keepOriginal":
            return True
        case "bestScore":
            return skew(held.clusters, facts) < skew(state.clusters, facts)
        case "longestRunning":
            since = facts.seen[task.cluster].running_since
            return (
                bool(since) and since == held.since
            )  # one clock's words, which nobody compares with another's
        case _:
            return False


def skew(clusters: Mapping[str, int], facts: Facts) -> int:
    """How unevenly replicas stand over all zones that are seen: the most less the fewest."""
    counts = {facts.zone_of.get(name, name): 0 for name in facts.seen}
    for name, count in clusters.items():
        zone = facts.zone_of.get(name, name)
        counts[zone] = counts.get(zone, 0) + count
    return max(counts.values(), default=0) - min(counts.values(), default=0)


def _release(state: State, facts: Facts) -> State:
    """Let go what is kept, as far as at least the wanted number stays ready without it.

    A replica that is not ready is no loss. Ready ones count up to what the cluster is asked to run now, so that a report
    that is older than the last release is not believed twice.
    """
    if facts.fenced:
        return _stopped(state, facts)
    if not facts.settled or not any(_releasable(t, facts) for t in state.tasks):
        return state
    asked = state.running
    ready = {
        name: min(facts.seen[name].ready, count) if name in facts.seen else 0
        for name, count in asked.items()
    }
    spare = sum(ready.values()) - sum(state.clusters.values())
    tasks: list[Task] = []
    for task in state.tasks:
        if not _releasable(task, facts):
            tasks.append(task)
            continue
        name = task.cluster
        idle = max(0, asked[name] - ready[name])
        count = min(task.replicas, idle + max(0, spare))
        lost = max(0, count - idle)
        spare -= lost
        ready[name] -= lost
        asked[name] -= count
        if count < task.replicas:
            tasks.append(replace(task, replicas=task.replicas - count))
    left = {t.cluster for t in tasks}
    before = {name: held for name, held in state.before.items() if name in left}
    return replace(state, tasks=tuple(tasks), before=before)


def _stopped(state: State, facts: Facts) -> State:
    """Mode consistency keeps nothing for the time being: what is left over stops, a drain is over when it is placed anew.

    It is over as well when the cluster is drained no more and nothing runs there: it may be the only one that has room.
    """

    def over(task: Task) -> bool:
        usable = task.cluster in facts.seen and task.cluster not in facts.drained
        left = task.reason in (DRAINED, APPLICATION)
        stopped = left and (facts.settled or (facts.stopped and usable))
        return task.producer == PRODUCER and (task.reason == REBALANCED or stopped)

    tasks = tuple(t for t in state.tasks if not over(t))
    left = {t.cluster for t in tasks}
    before = {name: held for name, held in state.before.items() if name in left}
    return replace(state, tasks=tasks, before=before)


def stopping_s(binding: ResourceBinding, now: dt.datetime) -> float | None:
    """Seconds to wait before a drained workload of mode consistency may start elsewhere; None: until its report changes.

    Its task keeps nothing and says how long what ran may take to end; a member that heard of it late tells that pods are
    still terminating.
    """
    wait = 0.0
    told = {item.cluster_name: item.status or {} for item in binding.status.aggregated_status}
    for task in binding.spec.graceful_eviction_tasks:
        if task.reason not in (DRAINED, APPLICATION) or task.replicas:
            continue
        if task.producer != PRODUCER or task.grace_period_seconds is None:
            continue
        last = told.get(task.from_cluster, {})
        if last.get("replicas") or last.get("terminatingReplicas"):
            return None
        if task.creation_timestamp is not None:
            passed = (now - task.creation_timestamp).total_seconds()
            wait = max(wait, task.grace_period_seconds - passed)
    return wait


def _releasable(task: Task, facts: Facts) -> bool:
    if task.producer != PRODUCER or task.cluster not in facts.seen or task.purge != GRACEFULLY:
        return False
    return task.reason == REBALANCED or (task.reason == DRAINED and task.cluster in facts.drained)
