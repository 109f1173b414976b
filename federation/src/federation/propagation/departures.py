"""Departures: which workload leaves which cluster, why, and when. Pure.

What is due here is begun by the evictor (`federation.controllers.evictor`), which knows the pace, the budgets and the hooks.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from federation.domains.clock import FailureClock
from federation.domains.names import cluster_verdict
from federation.domains.verdict import Finding
from federation.propagation import applications, interpreter, moves
from federation.propagation.components import wanted
from federation.propagation.resilience import CONSISTENCY, stop_s, stopped_s
from machinery.api.core import Toleration
from machinery.api.fleet.cluster import READY, Cluster, enforces_grants
from machinery.api.fleet.resilience import Checkpoint, FailureDomain, ResilienceSpec, Volumes
from machinery.api.fleet.work import ResourceBinding
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document
from machinery.scheduling.tolerations import tolerates

YOUNGEST = dt.datetime.max.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a cluster is to be left: dead (`reason` UNREACHABLE) or drained, with its NoExecute taints."""

    reason: str
    why: str
    since: str = ""
    serves: bool = False
    """Whether its pods are known to serve: only its link is cut."""
    drain: "Cause | None" = None
    """With `serves`: it is to be emptied besides, which then holds for what does not need to have stopped first."""


@dataclass(frozen=True, slots=True)
class Due:
    """One binding that is to leave one cluster, `wait_s` from now."""

    binding: ResourceBinding
    cluster: str
    cause: Cause
    priority: int = 0
    wait_s: float = 0.0
    fenced: bool = False
    stop_s: float = 0.0
    """Mode consistency: how long its replicas may take to end."""
    hook: Checkpoint | None = None
    silent_s: float = 0.0
    """Since the cluster was last heard."""
    volumes: Volumes | None = None
    recovery: str = ""
    """What leaving costs, in words."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What a binding places: its template (None: gone), how it shall outlive failures, and how much it matters."""

    template: Document | None
    spec: ResilienceSpec
    priority: int = 0


def ordered(due: Iterable[Due]) -> list[Due]:
    """The highest priority first; of equals the older binding, then by name."""
    return sorted(
        due,
        key=lambda d: (
            -d.priority,
            d.binding.metadata.creation_timestamp or YOUNGEST,
            d.binding.metadata.namespace,
            d.binding.metadata.name,
            d.cluster,
        ),
    )


def mark(due: Due) -> tuple[str, str, str]:
    """What is told once in a dry run."""
    return due.binding.metadata.uid, due.cluster, due.cause.since


# ---------------------------------------------------------------------------------------------------- what is due
def cause_of(cluster: Cluster, domain: FailureDomain | None) -> Cause | None:
    """Why workloads shall leave the cluster; None: they stay."""
    if domain is not None and not is_true(cluster.status.conditions, READY):
        since = rfc3339(domain.status.since) if domain.status.since is not None else ""
        verdict = cluster_verdict(domain)
        if verdict == Finding.DEAD.value:
            message = f"the cluster is dead: {domain.status.message}"
            return Cause(moves.UNREACHABLE, message, since)
        if verdict == Finding.LINK_CUT.value:
            message = (
                "the cluster's link is cut, and there the workload stops without the federation"
            )
            return Cause(moves.UNREACHABLE, message, since, serves=True, drain=_drain(cluster))
    return _drain(cluster)


def witnessed(silent_s: float | None, clock: FailureClock) -> bool:
    """Whether this server has seen the silence of a verdict itself: one before it may have judged, or a heartbeat has come."""
    return silent_s is not None and silent_s >= clock.unreachable_s


def _drain(cluster: Cluster) -> Cause | None:
    if drained(cluster):
        names = ", ".join(sorted(t.key for t in cluster.spec.taints if t.effect == "NoExecute"))
        return Cause(moves.DRAINED, f"the cluster is drained (taint {names})", names)
    return None


def drained(cluster: Cluster) -> bool:
    """Whether the cluster has a taint that drives workloads away."""
    return any(t.effect == "NoExecute" for t in cluster.spec.taints)


def toleration_s(
    cluster: Cluster, tolerations: tuple[Toleration, ...], now: dt.datetime
) -> float | None:
    """Seconds until the workload must leave a drained cluster; None: never."""
    waits: list[float] = []
    for taint in cluster.spec.taints:
        if taint.effect != "NoExecute":
            continue
        matching = [t for t in tolerations if tolerates((t,), taint)]
        if not matching:
            waits.append(0.0)
            continue
        limits = [t.toleration_seconds for t in matching if t.toleration_seconds is not None]
        if len(limits) < len(matching):
            continue
        since = taint.time_added or now
        waits.append(max(0.0, min(limits) - (now - since).total_seconds()))
    return min(waits, default=None)


def checkpoint_of(workload: Workload) -> Checkpoint | None:
    """What it does before it moves: a command in one of its pods, so what has none of its own has no checkpoint to wait for."""
    template = workload.template
    return workload.spec.checkpoint if template and interpreter.has_pods(template) else None


def volumes_of(workload: Workload) -> Volumes | None:
    """How what its volumes hold moves with it; what has no pods of its own has none."""
    template = workload.template
    return workload.spec.volumes if template and interpreter.has_pods(template) else None


def due_of(
    binding: ResourceBinding,
    workload: Workload,
    name: str,
    cluster: Cluster | None,
    cause: Cause,
    now: dt.datetime,
    silent_s: float = 0.0,
) -> Due | None:
    """Whether and when the binding leaves the cluster; `cluster` None: it has left the federation.

    `silent_s`: since the cluster was last heard, or since this server's start.
    """
    placement, spec = binding.spec.placement, workload.spec
    if binding.deleting or placement is None or not wanted(binding):
        return None
    if name not in {t.name for t in binding.spec.clusters} or name in moves.evicting(binding):
        return None
    fenced = spec.mode == CONSISTENCY
    why = cause if cause.drain is None or fenced else cause.drain
    wait: float | None = 0.0
    if cluster is None:
        pass
    elif why.reason == moves.UNREACHABLE:
        if (fenced or why.serves) and not enforces_grants(cluster):
            return None  # no grant runs out there: what runs may run for ever
        wait = silence_wait_s(why, spec, workload.template, silent_s)
    else:
        wait = toleration_s(cluster, placement.cluster_tolerations, now)
    if wait is None:
        return None
    ends = stop_s(workload.template)
    hook = checkpoint_of(workload)
    item = Due(binding, name, why, workload.priority, wait, fenced, ends, hook, silent_s)
    return replace(item, volumes=volumes_of(workload))


def silence_wait_s(
    cause: Cause, spec: ResilienceSpec, document: Document | None, silent_s: float
) -> float | None:
    """Seconds until the workload leaves a cluster that is not heard; None: it stays."""
    if spec.failover == "Disabled":
        return None
    if not cause.serves and spec.mode != CONSISTENCY:
        return 0.0
    stopped = stopped_s(spec, document)
    return None if stopped is None else max(0.0, stopped - silent_s)


# ------------------------------------------------------------------------------------------------ for its own health
def dues_of_health(
    binding: ResourceBinding,
    workload: Workload,
    settled_s: Mapping[str, float],
    now: dt.datetime,
    since: dt.datetime,
) -> list[Due]:
    """Clusters that the binding leaves for its health, and when. `settled_s`: how long clusters have been heard of that are
    not to be left anyway."""
    policy, spec, template = applications.policy_of(binding), workload.spec, workload.template
    if policy is None or template is None or spec.failover == "Disabled":
        return []
    account = applications.account_of(binding.metadata.annotations)
    tolerated = applications.limits(policy, spec, template)
    found: list[Due] = []
    for target in binding.spec.clusters:
        name = target.name
        wait = applications.wait_s(account, name, tolerated, now, since)
        if wait is None or name not in settled_s or name in moves.evicting(binding):
            continue
        wait = max(wait, applications.SETTLE_S - settled_s[name])
        entry = account.clusters[name]
        cause = Cause(moves.APPLICATION, applications.why(entry, tolerated), entry.at)
        fenced = spec.mode == CONSISTENCY
        ends, hook = stop_s(template), checkpoint_of(workload)
        item = Due(binding, name, cause, workload.priority, wait, fenced, ends, hook)
        found.append(replace(item, volumes=volumes_of(workload)))
    return found
