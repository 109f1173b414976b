"""Failure domains: what is held to be true of every cluster, every zone and the server itself, said in FailureDomain.

Verdicts are made by `federation.domains.verdict` from the heartbeats that this server received, and from what members that
are heard say of the others (ClusterNetwork). Whoever moves workloads reads the objects. A cluster that is judged dead, or
whose link is cut, is asked for an inventory (a word on its Lease): until it has answered, nothing that it reports counts for
those who decide about its replicas.

In memory only: when each member was judged dead (damping), since when the server is back after it was cut off itself, which
links are cut since when, and when each report and each return was seen; all are forgiven by a restart, after which every
silence counts anew.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from federation.controllers.health import Heartbeats
from federation.domains import peers
from federation.domains.clock import LOOK_LATE_S, FailureClock
from federation.domains.names import cluster_verdict, domain_name
from federation.domains.verdict import (
    Evidence,
    Finding,
    FleetVerdict,
    Verdict,
    judge_fleet,
    next_look,
    reached,
    words_on,
)
from machinery.api.coordination import LEASES, Lease
from machinery.api.fleet.cluster import CLUSTER_LEASES, CLUSTERS, INVENTORY_WANTED, Cluster
from machinery.api.fleet.multicluster import CLUSTER_NETWORKS, ClusterNetwork
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
SETTLE_S = 6.0
"""A member that was away has told by then what has changed for it meanwhile."""
STALE_S = 90.0
"""A report is written again every 30 s: one that is older than three of those is of nobody who still looks."""
QUIET = (Finding.HEALTHY, Finding.UNKNOWN)


SILENT = (Finding.DEAD, Finding.CUT_OFF, Finding.SUSPECT, Finding.LINK_CUT)
"""Verdicts that silence gives."""
HEARD = (Finding.HEALTHY, Finding.DEGRADED)
OVER = (*HEARD, Finding.DEAD)
"""Verdicts that end what is known of a cut link."""
ASKED = (Finding.DEAD, Finding.LINK_CUT)
"""Whoever is judged so is to make an inventory before it is believed."""


@dataclass(frozen=True, slots=True)
class Domain:
    """One FailureDomain as it should be. `evidence`: cluster, verdict or path, sentence."""

    level: str
    verdict: Verdict
    evidence: tuple[tuple[str, str, str], ...] = ()


def wanted(verdict: FleetVerdict) -> dict[str, Domain]:
    """Every domain, by object name. The evidence of a cluster is what its peers say of it."""

    def parts(names: Iterable[str]) -> tuple[tuple[str, str, str], ...]:
        found = ((name, verdict.clusters[name]) for name in sorted(names))
        return tuple((name, v.finding.value, v.message) for name, v in found)

    every = {EVERYTHING.name: Domain("Fleet", verdict.fleet, parts(verdict.clusters))}
    for zone, found in verdict.zones.items():
        every[domain_name("Zone", zone)] = Domain("Zone", found, parts(verdict.members[zone]))
    for cluster, found in verdict.clusters.items():
        said = verdict.words.get(cluster, {})
        told = tuple(
            (who, path, peers.SAYS[path].format(who)) for who, path in sorted(said.items())
        )
        every[domain_name("Cluster", cluster)] = Domain("Cluster", found, told)
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
    if found.finding in ASKED:
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
        {"cluster": cluster, "verdict": word, "message": message}
        for cluster, word, message in domain.evidence
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
    cuts: dict[str, peers.Cut] = field(default_factory=dict)
    """Clusters whose links are cut."""

    def verdicts(self, cluster: str, now: float) -> int:
        """Those of the last while; the one that stands is not held against itself."""
        times = self.judged.get(cluster, deque())
        while times and times[0] < now - MEMORY_S:
            times.popleft()
        stands = self.found.get(cluster) == Finding.DEAD.value
        return max(0, len(times) - stands)

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
        cut = {n for n, v in verdict.clusters.items() if v.finding is Finding.LINK_CUT}
        over = {n for n, v in verdict.clusters.items() if v.finding in OVER}
        stays = verdict.clusters.keys() - over
        self.cuts = {name: held for name, held in self.cuts.items() if name in stays}
        self.cuts |= {name: peers.Cut(now) for name in cut - self.cuts.keys()}

    def remembered(
        self, evidence: Iterable[Evidence], clock: FailureClock, now: float
    ) -> list[Evidence]:
        """The evidence with what is known of cut links, after a look at what peers say now."""
        fleet = list(evidence)
        said = {name: words_on(name, fleet, clock) for name in self.cuts}
        seen = {name for name, words in said.items() if reached(words)}
        lost = {name for name, words in said.items() if words} - seen
        self.cuts = peers.follow(self.cuts, seen, lost, now, clock.unreachable_s)
        return [
            replace(item, cut=True, lost_s=None if cut.lost_at is None else now - cut.lost_at)
            if (cut := self.cuts.get(item.cluster)) is not None
            else item
            for item in fleet
        ]


class Reports:
    """What members say of their peers, and when this server saw them say it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._told: dict[str, tuple[dict[str, str], float]] = {}

    def observe(self, old: ClusterNetwork | None, new: ClusterNetwork | None) -> None:
        """Informer handler."""
        if new is None:
            if old is not None:
                self._told.pop(old.metadata.name, None)
        elif old is None or old.status != new.status:
            self._told[new.metadata.name] = (peers.words(new), self._now())

    def words(self, cluster: str) -> dict[str, str]:
        """Peer -> path; a report that is not kept fresh says nothing."""
        return self._told[cluster][0] if self.fresh_s(cluster) else {}

    def fresh_s(self, cluster: str) -> float:
        """Seconds until what it says is too old to count, unless it says it again; 0 when it is, or there is none."""
        if cluster not in self._told:
            return 0.0
        return max(0.0, self._told[cluster][1] + STALE_S - self._now())

    def counts_in_s(self, cluster: str, heard_for_s: float | None) -> float:
        """Seconds until what it says counts."""
        if cluster not in self._told or heard_for_s is None:
            return 0.0
        told_since = self._told[cluster][1] >= self._now() - heard_for_s
        return peers.counts_in_s(heard_for_s, told_since, SETTLE_S)


def evidence_of(
    clusters: Iterable[Cluster],
    beats: Heartbeats,
    reports: Reports,
    memory: Memory,
    before: Mapping[str, str],
    now: float,
) -> list[Evidence]:
    """What is known of each member that is not leaving, by name; cut links are the memory's."""
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
                before.get(name) in {f.value for f in SILENT},
                memory.verdicts(name, now),
                None if reports.counts_in_s(name, beats.heard_for_s(name)) else reports.words(name),
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
        self.reports = Reports(manager.clock.monotonic)
        manager.informer(CLUSTER_NETWORKS).on_change(self.reports.observe)
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
        evidence = self._evidence(clusters, before, clock, now)
        verdict = judge_fleet(evidence, clock)
        if self._memory.forgive(verdict, now):
            evidence = self._evidence(clusters, before, clock, now)
            verdict = judge_fleet(evidence, clock)
        self.awaited = frozenset(
            name for name, v in verdict.clusters.items() if v.finding not in HEARD
        )
        wall = self._clock.now()
        actions = plan(verdict, before, held, clusters, rfc3339(wall), rfc3339_micro(wall))
        wait = self._next_look(evidence, clock)
        result = await self._executor.apply(
            [*actions, RequeueAfter(wait)] if wait is not None else actions
        )
        self._memory.note(verdict, now)
        return result

    def _evidence(
        self,
        clusters: Mapping[str, Cluster],
        before: Mapping[str, str],
        clock: FailureClock,
        now: float,
    ) -> list[Evidence]:
        known = evidence_of(clusters.values(), self._beats, self.reports, self._memory, before, now)
        return self._memory.remembered(known, clock, now)

    def _next_look(self, evidence: Iterable[Evidence], clock: FailureClock) -> float | None:
        """When silence alone, or a report that counts by then, could change a verdict."""
        fleet = list(evidence)
        settling = [
            self.reports.counts_in_s(e.cluster, self._beats.heard_for_s(e.cluster)) + LOOK_LATE_S
            for e in fleet
            if e.peers is None
        ]
        fresh = [
            s + LOOK_LATE_S for e in fleet if e.peers and (s := self.reports.fresh_s(e.cluster))
        ]
        waits = [
            *settling,
            *fresh,
            *([wait] if (wait := next_look(fleet, clock)) is not None else []),
        ]
        return min(waits, default=None)


def setup(manager: Manager, clock: Callable[[], FailureClock], beats: Heartbeats) -> None:
    """Members that come, go or move; heartbeats of those that were not heard of; peers' words; the operator's settings."""
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

    told: dict[str, dict[str, str]] = {}

    def of_network(network: ClusterNetwork) -> list[ObjectKey]:
        said = peers.words(network)
        if told.get(network.metadata.name) == said:
            return []
        told[network.metadata.name] = said
        return [EVERYTHING]

    controller = manager.controller("domains", reconciler, workers=1)
    controller.watches(CLUSTERS, of_cluster)
    controller.watches(CLUSTER_NETWORKS, of_network)
    controller.watches(LEASES, of_lease, namespace=CLUSTER_LEASES)
    controller.watches(FEDERATION_CONFIGS, lambda _: [EVERYTHING])
