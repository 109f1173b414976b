"""Failure domains: what is held to be true of every cluster, every zone and the server itself, said in FailureDomain.

Verdicts are made by `federation.domains.verdict` from the heartbeats that this server received. Whoever moves workloads
reads the objects. A cluster that is judged dead is asked for an inventory (a word on its Lease): until it has answered,
nothing that it reports counts for those who decide about its replicas.

In memory only: when each member was judged dead (damping), and since when the server is back after it was cut off itself;
both are forgiven by a restart, after which every silence counts anew.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from federation.controllers.health import Heartbeats
from federation.domains.clock import FailureClock
from federation.domains.verdict import (
    Evidence,
    Finding,
    FleetVerdict,
    Verdict,
    judge_fleet,
    next_look,
)
from machinery.api.coordination import LEASES, Lease
from machinery.api.fleet.cluster import CLUSTER_LEASES, CLUSTERS, INVENTORY_WANTED, Cluster
from machinery.api.fleet.resilience import FAILURE_DOMAINS, FEDERATION_CONFIGS, FailureDomain
from machinery.controller.action import (
    Action,
    Create,
    Delete,
    Emit,
    Patch,
    RequeueAfter,
    Result,
    SetStatus,
)
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339, rfc3339_micro
from machinery.meta.resource import Document, ObjectKey

EVERYTHING = ObjectKey("", "fleet")
MEMORY_S = 600.0
"""How long a verdict is held against a member."""
QUIET = (Finding.HEALTHY, Finding.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Domain:
    """One FailureDomain as it should be."""

    level: str
    verdict: Verdict
    evidence: tuple[tuple[str, Verdict], ...] = ()


def domain_name(level: str, name: str) -> str:
    """`cluster.alpha`, `zone.zone-a`; a name that no object may have loses what is odd about it."""
    clean = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in name.lower())
    return f"{level.lower()}.{clean.strip('-.') or 'x'}"


def cluster_verdict(domain: FailureDomain | None) -> str:
    """The verdict that an object holds."""
    return domain.status.verdict if domain is not None else Finding.UNKNOWN.value


def wanted(verdict: FleetVerdict) -> dict[str, Domain]:
    """Every domain, by object name."""
    every = {
        EVERYTHING.name: Domain("Fleet", verdict.fleet, tuple(sorted(verdict.clusters.items())))
    }
    for zone, found in verdict.zones.items():
        parts = tuple((name, verdict.clusters[name]) for name in sorted(verdict.members[zone]))
        every[domain_name("Zone", zone)] = Domain("Zone", found, parts)
    for cluster, found in verdict.clusters.items():
        every[domain_name("Cluster", cluster)] = Domain("Cluster", found)
    return every


def plan(
    verdict: FleetVerdict,
    stood: Mapping[str, str],
    held: Mapping[str, FailureDomain],
    clusters: Mapping[str, Cluster],
    now: str,
    word: str,
) -> list[Action]:
    """What changed is written and told. `stood`: clusters' verdicts till now; `word` is asked of the newly dead."""
    actions: list[Action] = []
    for cluster, found in verdict.clusters.items():
        before = stood.get(cluster, Finding.UNKNOWN.value)
        if before != found.finding.value:
            actions += _told(clusters[cluster], found, before, word)
    every = wanted(verdict)
    for name, domain in sorted(every.items()):
        actions += _written(name, domain, held.get(name), now)
    gone = [held[name] for name in sorted(held.keys() - every.keys())]
    return actions + [Delete(FAILURE_DOMAINS, d.key, uid=d.metadata.uid) for d in gone]


def _told(cluster: Cluster, found: Verdict, before: str, word: str) -> list[Action]:
    actions: list[Action] = []
    if found.finding is Finding.DEAD:
        mark = {"metadata": {"annotations": {INVENTORY_WANTED: word}}}
        actions.append(Patch(LEASES, ObjectKey(CLUSTER_LEASES, cluster.metadata.name), mark))
    news = found.finding not in QUIET or before not in {f.value for f in QUIET}
    if news and found.finding is not Finding.SUSPECT:
        kind = "Normal" if found.finding in QUIET else "Warning"
        reason = f"Verdict{found.finding.value}"
        uid = cluster.metadata.uid
        actions.append(Emit(CLUSTERS, cluster.key, uid, kind, reason, found.message))
    return actions


def _written(name: str, domain: Domain, held: FailureDomain | None, now: str) -> list[Action]:
    found = domain.verdict
    key = ObjectKey("", name)
    evidence = [
        {"cluster": cluster, "verdict": v.finding.value, "message": v.message}
        for cluster, v in domain.evidence
    ]
    actions: list[Action] = []
    since = now
    if held is None:
        document: Document = {
            "apiVersion": FAILURE_DOMAINS.api_version,
            "kind": FAILURE_DOMAINS.kind,
            "metadata": {"name": name},
        }
        actions.append(Create(FAILURE_DOMAINS, document, exists_ok=True))
    else:
        status = held.status
        told = [
            {"cluster": e.cluster, "verdict": e.verdict, "message": e.message}
            for e in status.evidence
        ]
        same = (status.level, status.verdict, status.message) == (
            domain.level,
            found.finding.value,
            found.message,
        )
        if same and told == evidence:
            return []
        if status.verdict == found.finding.value and status.since is not None:
            since = rfc3339(status.since)
        elif found.finding not in QUIET or status.verdict not in {f.value for f in QUIET}:
            kind = "Normal" if found.finding in QUIET else "Warning"
            reason = f"Verdict{found.finding.value}"
            uid = held.metadata.uid
            actions.append(Emit(FAILURE_DOMAINS, key, uid, kind, reason, found.message))
    body: Document = {
        "level": domain.level,
        "verdict": found.finding.value,
        "message": found.message,
        "since": since,
        "evidence": evidence or None,
    }
    return [*actions, SetStatus(FAILURE_DOMAINS, key, body)]


@dataclass(slots=True)
class Memory:
    """What this server remembers of its own verdicts. Times are its monotonic clock."""

    found: dict[str, str] = field(default_factory=dict)
    """Cluster -> the last verdict."""
    judged: dict[str, deque[float]] = field(default_factory=dict)
    forgiven: dict[str, float] = field(default_factory=dict)
    """Cluster -> when the server was back; silence before that was the server's."""

    def verdicts(self, cluster: str, now: float) -> int:
        times = self.judged.get(cluster, deque())
        while times and times[0] < now - MEMORY_S:
            times.popleft()
        return len(times)

    def forgive(self, verdict: FleetVerdict, now: float) -> bool:
        """Whether the server was cut off until now: then those that are still silent get their whole time anew."""
        was = {name for name, found in self.found.items() if found == Finding.CUT_OFF.value}
        still = {n for n, v in verdict.clusters.items() if v.finding is Finding.CUT_OFF}
        silent = {
            n for n, v in verdict.clusters.items() if v.finding in (Finding.DEAD, Finding.SUSPECT)
        }
        dead = {name for name, found in self.found.items() if found == Finding.DEAD.value}
        if not was or still or not silent - dead:
            return False
        self.forgiven.update(dict.fromkeys(silent - dead, now))
        self.found = {name: found for name, found in self.found.items() if name not in was}
        return True

    def note(self, verdict: FleetVerdict, now: float) -> None:
        """Remember what was just found."""
        for cluster, found in verdict.clusters.items():
            if found.finding is Finding.DEAD and self.found.get(cluster) != Finding.DEAD.value:
                self.judged.setdefault(cluster, deque()).append(now)
        self.found = {name: v.finding.value for name, v in verdict.clusters.items()}


def evidence_of(
    clusters: Iterable[Cluster],
    beats: Heartbeats,
    memory: Memory,
    before: Mapping[str, str],
    now: float,
) -> list[Evidence]:
    """What is known of each member that is not leaving, by name."""
    found = []
    for cluster in sorted(clusters, key=lambda c: c.metadata.name):
        if cluster.deleting:
            continue
        name, spec = cluster.metadata.name, cluster.spec
        silent, heard = beats.silent_s(name), beats.heard_s(name)
        if silent is not None and name in memory.forgiven:
            away = now - memory.forgiven[name]
            silent = min(silent, away)
            heard = heard if heard is not None and heard <= away else None
        found.append(
            Evidence(
                name,
                spec.zones or ((spec.zone,) if spec.zone else ()),
                silent,
                heard is not None,
                before.get(name)
                in (Finding.DEAD.value, Finding.CUT_OFF.value, Finding.SUSPECT.value),
                memory.verdicts(name, now),
            )
        )
    return found


class DomainsReconciler:
    """The whole fleet at once: a verdict needs all of its evidence."""

    def __init__(
        self, manager: Manager, clock: Callable[[], FailureClock], beats: Heartbeats
    ) -> None:
        self._clock, self._failure_clock, self._beats = manager.clock, clock, beats
        self._executor = manager.executor
        self._clusters = manager.informer(CLUSTERS)
        self._domains = manager.informer(FAILURE_DOMAINS)
        self._memory = Memory()
        self.awaited: frozenset[str] = frozenset()
        """Members whose next heartbeat changes a verdict."""

    async def reconcile(self, _: ObjectKey) -> Result:
        clusters = {c.metadata.name: c for c in self._clusters.list()}
        held = {d.metadata.name: d for d in self._domains.list()}
        before = {
            name: cluster_verdict(held.get(domain_name("Cluster", name))) for name in clusters
        }
        now, clock = self._clock.monotonic(), self._failure_clock()
        before |= self._memory.found  # newer than the informer's copy
        evidence = evidence_of(clusters.values(), self._beats, self._memory, before, now)
        verdict = judge_fleet(evidence, clock)
        if self._memory.forgive(verdict, now):
            evidence = evidence_of(clusters.values(), self._beats, self._memory, before, now)
            verdict = judge_fleet(evidence, clock)
        self.awaited = frozenset(
            name for name, v in verdict.clusters.items() if v.finding is not Finding.HEALTHY
        )
        wall = self._clock.now()
        actions = plan(verdict, before, held, clusters, rfc3339(wall), rfc3339_micro(wall))
        wait = next_look(evidence, clock)
        result = await self._executor.apply(
            [*actions, RequeueAfter(wait)] if wait is not None else actions
        )
        self._memory.note(verdict, now)
        return result


def setup(manager: Manager, clock: Callable[[], FailureClock], beats: Heartbeats) -> None:
    """Members that come, go or move; heartbeats of those that were not heard of; the operator's settings."""
    reconciler = DomainsReconciler(manager, clock, beats)
    places: dict[str, object] = {}

    def of_cluster(cluster: Cluster) -> list[ObjectKey]:
        place = (cluster.metadata.uid, cluster.spec.zone, cluster.spec.zones, cluster.deleting)
        if places.get(cluster.metadata.name) == place:
            return []
        places[cluster.metadata.name] = place
        return [EVERYTHING]

    def of_lease(lease: Lease) -> list[ObjectKey]:
        return [EVERYTHING] if lease.metadata.name in reconciler.awaited else []

    controller = manager.controller("domains", reconciler, workers=1)
    controller.watches(CLUSTERS, of_cluster)
    controller.watches(LEASES, of_lease, namespace=CLUSTER_LEASES)
    controller.watches(FEDERATION_CONFIGS, lambda _: [EVERYTHING])
