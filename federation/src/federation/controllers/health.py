"""Health: the condition Ready of every Cluster follows the failure clock, and its taint follows the condition.

A heartbeat is a renewal of the Lease `karmada-cluster/<name>`; what counts is when this server received it. A cluster
that is not Ready carries the taint `unreachable` with effect NoSchedule: nothing new is placed there, and
what is there stays. One whose link alone is cut is not Ready either, with the reason ClusterLinkCut: it serves, but can
be told nothing. Each change is told as an Event on the Cluster.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from federation.domains.clock import FailureClock, State, Verdict, judge, next_look
from federation.domains.names import cluster_of, cluster_verdict, domain_name
from federation.domains.verdict import Finding
from machinery.api.coordination import LEASES, Lease
from machinery.api.fleet.cluster import (
    CLUSTER_LEASES,
    CLUSTERS,
    READY,
    UNREACHABLE_TAINT,
    Cluster,
    taint_document,
)
from machinery.api.fleet.resilience import FAILURE_DOMAINS, FailureDomain
from machinery.controller.action import Action, Emit, Patch, RequeueAfter, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import condition, condition_document
from machinery.meta.resource import ObjectKey

GAP_S = 6.0
"""A member that renews its Lease after a longer pause was away."""
PLACEABLE = (State.READY, State.SUSPECT)
DEFAULT_CLOCK = FailureClock()


class Heartbeats:
    """When each member's Lease was last seen to be renewed, on this server's monotonic clock."""

    def __init__(
        self, now: Callable[[], float], watching: Callable[[], bool] = lambda: False
    ) -> None:
        """`watching` is whether the first list is over, so that what appears is new."""
        self._now, self._watching = now, watching
        self._seen: dict[str, tuple[object, float]] = {}
        self._heard: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._listeners: list[Callable[[str, bool], None]] = []

    def on_word(self, listener: Callable[[str, bool], None]) -> None:
        """Call it with each renewal that arrives while we watch: the cluster, and whether a longer pause was before it."""
        self._listeners.append(listener)

    def observe(self, old: Lease | None, new: Lease | None) -> None:
        """Informer handler."""
        if new is None:
            if old is not None:
                self._seen.pop(old.metadata.name, None)
                self._heard.pop(old.metadata.name, None)
                self._since.pop(old.metadata.name, None)
            return
        name = new.metadata.name
        held = self._seen.get(name)
        if held is None or held[0] != new.spec.renew_time:
            self._seen[name] = (new.spec.renew_time, self._now())
            if held is not None or self._watching():
                self._word(name)

    def _word(self, name: str) -> None:
        now, last = self._now(), self._heard.get(name)
        away = last is not None and now - last >= GAP_S
        if away or last is None:
            self._since[name] = now
        self._heard[name] = now
        for listener in self._listeners:
            listener(name, away)

    def silent_s(self, cluster: str) -> float | None:
        """Seconds since the last heartbeat; None when there never was one."""
        held = self._seen.get(cluster)
        return None if held is None else self._now() - held[1]

    def heard_s(self, cluster: str) -> float | None:
        """Seconds since a renewal that arrived while we watched: the Lease as it was found at our start says nothing."""
        heard = self._heard.get(cluster)
        return None if heard is None else self._now() - heard

    def heard_for_s(self, cluster: str) -> float | None:
        """Seconds since the first of the renewals that came one soon after another; None when none was heard."""
        since = self._since.get(cluster)
        return None if since is None else self._now() - since


@dataclass(frozen=True, slots=True)
class Observation:
    """What a verdict is made of."""

    cluster: Cluster
    silent_s: float | None
    heard: bool = True
    link_cut: str = ""
    """Why the verdict on it is LinkCut; empty when that is another."""


def plan(seen: Observation, clock: FailureClock, now: str) -> list[Action]:
    """Condition, taint, Event, and when to look again."""
    cluster = seen.cluster
    if cluster.deleting:
        return []
    verdict = judge(seen.silent_s, clock, seen.link_cut)
    if not seen.heard and verdict.state in PLACEABLE and _held(cluster) in ("Unknown", "False"):
        # It was away when this server started; the grace for our own absence does not bring it back.
        return [RequeueAfter(next_look(seen.silent_s, clock) or clock.heartbeat_s)]
    # One write a pass: both stand on the version that was read, and the taint's own change brings the next pass.
    actions = _taint(cluster, verdict, now) or _condition(cluster, verdict, now)
    wait = next_look(seen.silent_s, clock)
    return [*actions, RequeueAfter(wait)] if wait is not None else actions


def _held(cluster: Cluster) -> str:
    held = condition(cluster.status.conditions, READY)
    return held.status if held is not None else ""


def _condition(cluster: Cluster, verdict: Verdict, now: str) -> list[Action]:
    held = condition(cluster.status.conditions, READY)
    if held is not None and (held.status, held.reason, held.message) == (
        verdict.status,
        verdict.reason,
        verdict.message,
    ):
        return []
    since = now
    if held is not None and held.status == verdict.status and held.last_transition_time:
        since = rfc3339(held.last_transition_time)
    ready = {
        "type": READY,
        "status": verdict.status,
        "reason": verdict.reason,
        "message": verdict.message,
        "lastTransitionTime": since,
    }
    others = [condition_document(c) for c in cluster.status.conditions if c.type != READY]
    kind = "Normal" if verdict.state is State.READY else "Warning"
    return [
        SetStatus(
            CLUSTERS,
            cluster.key,
            {"conditions": [ready, *others]},
            resource_version=cluster.metadata.resource_version,
        ),
        Emit(CLUSTERS, cluster.key, cluster.metadata.uid, kind, verdict.reason, verdict.message),
    ]


def _taint(cluster: Cluster, verdict: Verdict, now: str) -> list[Action]:
    wanted = verdict.state not in PLACEABLE
    if wanted == any(t.key == UNREACHABLE_TAINT for t in cluster.spec.taints):
        return []
    taints = [taint_document(t) for t in cluster.spec.taints if t.key != UNREACHABLE_TAINT]
    if wanted:
        taints.append({"key": UNREACHABLE_TAINT, "effect": "NoSchedule", "timeAdded": now})
    return [
        Patch(
            CLUSTERS,
            cluster.key,
            {"spec": {"taints": taints or None}},
            resource_version=cluster.metadata.resource_version,  # a cordon of this moment must not be lost
            uid=cluster.metadata.uid,
        )
    ]


class HealthReconciler:
    """Clusters."""

    def __init__(
        self, manager: Manager, clock: Callable[[], FailureClock], heartbeats: Heartbeats
    ) -> None:
        self._clock, self._failure_clock = manager.clock, clock
        self._executor = manager.executor
        self._clusters = manager.informer(CLUSTERS)
        self._domains = manager.informer(FAILURE_DOMAINS)
        self._heartbeats = heartbeats

    async def reconcile(self, key: ObjectKey) -> Result:
        cluster = self._clusters.get(key)
        if cluster is None:
            return Result()
        beats = self._heartbeats
        heard = beats.heard_s(key.name) is not None
        domain = self._domains.get(ObjectKey("", domain_name("Cluster", key.name)))
        seen = Observation(cluster, beats.silent_s(key.name), heard, link_cut(domain))
        now = rfc3339(self._clock.now())
        return await self._executor.apply(plan(seen, self._failure_clock(), now))


def heartbeats(manager: Manager) -> Heartbeats:
    """The members' heartbeats, for all who judge by them. To be asked for before anything watches the Leases."""
    leases = manager.informer(LEASES, CLUSTER_LEASES)
    beats = Heartbeats(manager.clock.monotonic, lambda: leases.synced)
    leases.on_change(beats.observe)
    return beats


def setup(
    manager: Manager,
    clock: Callable[[], FailureClock] = lambda: DEFAULT_CLOCK,
    beats: Heartbeats | None = None,
) -> None:
    """Clusters and their Leases, and the verdicts on them."""
    reconciler = HealthReconciler(manager, clock, beats or heartbeats(manager))
    controller = manager.controller("health", reconciler)
    controller.watches(CLUSTERS)
    controller.watches(LEASES, _cluster_of, namespace=CLUSTER_LEASES)
    controller.watches(FAILURE_DOMAINS, _judged)


def ready_s(cluster: Cluster, now: dt.datetime) -> float:
    """Seconds that the cluster has been Ready."""
    held = condition(cluster.status.conditions, READY)
    since = held.last_transition_time if held is not None else None
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def link_cut(domain: FailureDomain | None) -> str:
    """The sentence of a verdict LinkCut."""
    if domain is None or cluster_verdict(domain) != Finding.LINK_CUT.value:
        return ""
    return domain.status.message


def _judged(domain: FailureDomain) -> list[ObjectKey]:
    name = cluster_of(domain)
    return [ObjectKey("", name)] if name is not None else []


def _cluster_of(lease: Lease) -> list[ObjectKey]:
    return [ObjectKey("", lease.metadata.name)]
