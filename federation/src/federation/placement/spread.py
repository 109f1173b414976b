"""Spread and headroom of a ResiliencePolicy: what a division has to keep beside its own method. Pure.

A rule `{key, maxSkew, minDomains, whenUnsatisfiable}` is that of a pod's topologySpreadConstraints, for replicas over
clusters: the domains of `key` (provider, region, zone, cluster or a label of clusters) may differ by at most `maxSkew`
replicas. The domains that count are those of the clusters that may be used now, so a domain that is lost shrinks the rule
instead of blocking the failover. The method of the policy divides first (static or dynamic weights, Aggregated, groups),
then replicas move from fuller domains to emptier ones until the rules hold: hard rules (DoNotSchedule) before
soft ones (ScheduleAnyway), and either before the zones of `default-spread`. A hard rule that still does not hold places
nothing; a soft one is told. The search never breaks a hard rule; where several rules cross each other it may miss a
division that exists, and then says that none was found.

`minDomains` asks for so many domains to be there. For the first placement a hard rule means it; a workload that runs
already, or has lost a cluster, keeps running in fewer, and it is told. (Kubernetes schedules a part of the pods instead.)

Headroom `N-1 KEY` asks that the replicas of each domain of KEY would find room in the other ones. The free room elsewhere
is the whole room elsewhere less the replicas there, so this holds for a division exactly if the others could hold all
replicas, whatever goes where: no division can mend it. So it does not move anything, it is told: how many replicas of
which domain would not find room, by the members' reports at the decision. What room there is, is kept from other workloads
(`federation.placement.headroom`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from federation.placement.filter import HARD, domain_of
from federation.placement.model import Candidate, Unschedulable, Unselectable, Warned
from machinery.api.fleet.resilience import SpreadRule

NOT_MET, SHORT = "SpreadNotMet", "HeadroomShort"

Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Pool:
    """The clusters that replicas may be divided over, and the most that each may hold."""

    candidates: Sequence[Candidate]
    caps: Counts
    held: Counts
    running: bool = False
    """Whether the workload was placed before, or lost a cluster."""
    groups: Sequence[SpreadRule] = ()
    """What the placement itself balances: kept where the rules leave a choice."""
    scores: Counts = field(default_factory=dict)
    """How well each suits, where the workload has a word in that: of clusters that no rule tells apart the better is taken."""


class _Rule:
    """A rule over a pool: which cluster counts into which of its domains."""

    def __init__(self, rule: SpreadRule, pool: Pool) -> None:
        self.rule = rule
        self.of = {c.name: domain_of(rule.key, c) for c in pool.candidates}
        self.domains = sorted({domain for domain in self.of.values() if domain})
        self.hard = rule.when_unsatisfiable == HARD

    def counts(self, targets: Counts) -> dict[str, int]:
        counts = dict.fromkeys(self.domains, 0)
        for name, count in targets.items():
            if self.of.get(name):
                counts[self.of[name]] += count
        return counts

    def excess(self, counts: Counts) -> int:
        """By how much the domains differ more than they may."""
        if not counts:
            return 0
        return max(0, max(counts.values()) - min(counts.values()) - self.rule.max_skew)

    def complaint(self, counts: Counts) -> str:
        most = max(counts, key=lambda d: (counts[d], d))
        least = min(counts, key=lambda d: (counts[d], d))
        return (
            f"spread over {self.rule.key}: {most} has {counts[most]} replicas and {least} {counts[least]}, "
            f"maxSkew is {self.rule.max_skew}"
        )


def settle(
    targets: Counts, rules: Sequence[SpreadRule], pool: Pool
) -> tuple[dict[str, int], list[Warned]]:
    """The division with the rules kept, and what is to be told. Raises Unselectable, Unschedulable for hard rules."""
    asked = [_Rule(rule, pool) for rule in rules]
    for rule in asked:
        _enough_domains(rule, pool)
    found = _even(targets, asked, [_Rule(rule, pool) for rule in pool.groups], pool)
    for rule in asked:
        counts = rule.counts(found)
        if rule.hard and rule.excess(counts):
            raise Unschedulable(f"failed to assign replicas: {rule.complaint(counts)}")
    return found, unmet(found, rules, pool)


def unmet(targets: Counts, rules: Sequence[SpreadRule], pool: Pool) -> list[Warned]:
    """What of the rules a placement does not give."""
    told: list[Warned] = []
    for rule in (_Rule(rule, pool) for rule in rules):
        key, there, wanted = rule.rule.key, len(rule.domains), rule.rule.min_domains
        if there < wanted:
            text = f"spread over {key}: {there} domains are left of minDomains {wanted}"
            told.append(Warned(NOT_MET, text))
        counts = rule.counts(targets)
        if rule.excess(counts):
            told.append(Warned(NOT_MET, rule.complaint(counts)))
    return told


def _enough_domains(rule: _Rule, pool: Pool) -> None:
    wanted, there = rule.rule.min_domains, len(rule.domains)
    if rule.hard and there < wanted and not pool.running:
        raise Unselectable(
            f"failed to select clusters: the number of feasible {rule.rule.key} domains is {there}, "
            f"less than minDomains {wanted}"
        )


Score = tuple[int, int, int, int]


def _even(
    targets: Counts, rules: Sequence[_Rule], groups: Sequence[_Rule], pool: Pool
) -> dict[str, int]:
    """Move replicas while that brings the rules nearer; each move lowers the score, so it ends."""
    found = {c.name: targets.get(c.name, 0) for c in pool.candidates}

    def score(counts: Counts) -> Score:
        hard = soft = uneven = balance = 0
        for rule in rules:
            held = rule.counts(counts)
            over = rule.excess(held)
            hard, soft = (hard + over, soft) if rule.hard else (hard, soft + over)
            uneven += sum(n * n for n in held.values()) if over else 0
        for group in groups:
            balance += sum(n * n for n in group.counts(counts).values())
        return hard, soft, uneven, balance

    best = score(found)
    while best[0] or best[1]:
        moves = [
            (
                score(_moved(found, source, sink, 1)),
                _reluctance(found, source, sink, pool),
                source,
                sink,
            )
            for source, sink in _pairs(found, [*rules, *groups], pool)
        ]
        if not moves:
            break
        after, _, source, sink = min(moves)
        if after[:3] >= best[:3]:
            break
        pace = max(1, (best[0] + best[1]) // 4)
        count, limit = 1, min(found[source], pool.caps[sink] - found[sink], pace)
        while (
            count * 2 <= limit and (more := score(_moved(found, source, sink, count * 2))) < after
        ):
            count, after = count * 2, more
        found, best = _moved(found, source, sink, count), after
    return {name: count for name, count in found.items() if count}


def _moved(counts: Counts, source: str, sink: str, count: int) -> dict[str, int]:
    return {**counts, source: counts[source] - count, sink: counts[sink] + count}


def _pairs(counts: Counts, rules: Sequence[_Rule], pool: Pool) -> list[tuple[str, str]]:
    """From whom to whom a replica might go: of clusters that no rule tells apart the one that suits best."""
    marks = {name: tuple(rule.of[name] for rule in rules) for name in counts}
    sources: dict[tuple[str, ...], str] = {}
    sinks: dict[tuple[str, ...], str] = {}
    for name in sorted(counts):
        mark, count = marks[name], counts[name]
        if count > 0 and (
            mark not in sources
            or _surplus(counts, name, pool) > _surplus(counts, sources[mark], pool)
        ):
            sources[mark] = name
        room = pool.caps[name] - count
        if room > 0 and (
            mark not in sinks or _welcome(counts, name, pool) > _welcome(counts, sinks[mark], pool)
        ):
            sinks[mark] = name
    return [(a, b) for m, a in sources.items() for n, b in sinks.items() if m != n]


def _surplus(counts: Counts, name: str, pool: Pool) -> tuple[int, int, int]:
    """More than it holds today first, then the one that suits less, then the fuller."""
    return counts[name] - pool.held.get(name, 0), -pool.scores.get(name, 0), counts[name]


def _welcome(counts: Counts, name: str, pool: Pool) -> tuple[int, int]:
    """The one that suits better, then the roomier."""
    return pool.scores.get(name, 0), pool.caps[name] - counts[name]


def _reluctance(counts: Counts, source: str, sink: str, pool: Pool) -> tuple[bool, bool, int, int]:
    """Prefer replicas that do not run yet, clusters that have them already, that suit better, and the roomier one."""
    return (
        counts[source] <= pool.held.get(source, 0),
        counts[sink] >= pool.held.get(sink, 0),
        -pool.scores.get(sink, 0),
        counts[sink] - pool.caps[sink],
    )


def headroom(key: str, targets: Counts, pool: Pool) -> list[Warned]:
    """The domain whose replicas would find least room elsewhere, if they do not find enough."""
    rule = _Rule(SpreadRule(key=key), pool)
    counts = rule.counts(targets)
    spare = {c.name: max(0, pool.caps[c.name] - targets.get(c.name, 0)) for c in pool.candidates}
    short: list[tuple[int, int, str, int]] = []
    for domain, count in counts.items():
        elsewhere = sum(room for name, room in spare.items() if rule.of[name] != domain)
        if count > elsewhere:
            short.append((count - elsewhere, count, domain, elsewhere))
    if not short:
        return []
    missing, count, domain, elsewhere = max(short)
    return [
        Warned(
            SHORT,
            f"N-1 {key}: of the {count} replicas of {domain} {elsewhere} would find room elsewhere, "
            f"{missing} would not",
        )
    ]
