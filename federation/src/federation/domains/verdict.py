"""From evidence to verdicts: which clusters and zones are dead, and whether it is the server that is cut off. Pure.

    Healthy        heard of
    Suspect        silent, but not long enough, or others turn silent right now and will be judged together with it
    Dead           silent for the whole time; its replicas may be moved
    ServerCutOff   at least two members, and at least half of those that were heard, fell silent within one window: the
                   server is the suspect, and nothing moves until they are heard again
    Unknown        never heard of

A member that was judged dead several times lately must be silent for longer before it is again (damping). Today's
evidence is silence by receive time; probes by peers and agents' view of the server are more fields of `Evidence`.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from federation.domains.clock import LOOK_LATE_S, FailureClock

CALM_VERDICTS = 2
"""So many verdicts in the memory of a member cost it nothing."""
DAMPING_MAX = 8
MASS_MEMBERS, MASS_SHARE = 2, 0.5


class Finding(enum.Enum):
    """What is held to be true of a domain."""

    HEALTHY = "Healthy"
    SUSPECT = "Suspect"
    DEAD = "Dead"
    CUT_OFF = "ServerCutOff"
    DEGRADED = "Degraded"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of one member. `silent_s`: since the last heartbeat, by our clock; None if there never was one."""

    cluster: str
    zones: tuple[str, ...] = ()
    silent_s: float | None = None
    heard: bool = True
    """Whether this server heard a heartbeat itself; False after its start, until one arrives."""
    was_silent: bool = False
    """Whether the verdict that stands from before is one of silence."""
    verdicts: int = 0
    """How often it was judged dead lately."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding and why, in one sentence."""

    finding: Finding
    message: str


@dataclass(frozen=True, slots=True)
class FleetVerdict:
    """Everything that is held to be true at one moment."""

    clusters: Mapping[str, Verdict] = field(default_factory=dict)
    zones: Mapping[str, Verdict] = field(default_factory=dict)
    fleet: Verdict = Verdict(Finding.HEALTHY, "There are no members.")
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Zone -> its clusters."""


def patience_s(evidence: Evidence, clock: FailureClock) -> float:
    """Silence that makes a verdict."""
    extra = max(0, evidence.verdicts - CALM_VERDICTS)
    return float(clock.unreachable_s * min(DAMPING_MAX, 2**extra))


def judge_fleet(evidence: Sequence[Evidence], clock: FailureClock) -> FleetVerdict:
    """All verdicts."""
    clusters = {e.cluster: _cluster(e, evidence, clock) for e in evidence}
    members: dict[str, list[str]] = {}
    for item in evidence:
        for zone in item.zones:
            members.setdefault(zone, []).append(item.cluster)
    zones = {zone: _zone(zone, names, clusters, evidence, clock) for zone, names in members.items()}
    return FleetVerdict(
        clusters, zones, _fleet(clusters), {zone: tuple(names) for zone, names in members.items()}
    )


def _cluster(own: Evidence, fleet: Sequence[Evidence], clock: FailureClock) -> Verdict:
    if own.silent_s is None:
        return Verdict(Finding.UNKNOWN, "The agent has not sent a heartbeat yet.")
    patience = patience_s(own, clock)
    if own.silent_s < patience and own.was_silent and not own.heard:
        return Verdict(
            Finding.SUSPECT,
            "Not heard of since this server itself was away: its silence counts from then.",
        )
    if own.silent_s < clock.suspect_s:
        return Verdict(Finding.HEALTHY, "Heartbeats arrive.")
    if own.silent_s < patience:
        longer = (
            f" ({own.verdicts} verdicts lately: longer than usual)"
            if patience > clock.unreachable_s
            else ""
        )
        return Verdict(
            Finding.SUSPECT,
            f"No heartbeat for more than {clock.suspect_s:g} s; dead after {patience:g} s{longer}.",
        )
    lost = fell_together(own, fleet, clock)
    if lost:
        return Verdict(
            Finding.CUT_OFF,
            f"{', '.join(lost)} fell silent together: this server is the one that is cut off, nothing is moved.",
        )
    waiting = sorted(e.cluster for e in fleet if e is not own and _turning(e, clock))
    if waiting and own.silent_s < patience + clock.zone_s - clock.unreachable_s:
        return Verdict(Finding.SUSPECT, f"Silent, and judged together with {', '.join(waiting)}.")
    return Verdict(
        Finding.DEAD, f"No heartbeat for more than {patience:g} s, while other members are heard."
    )


def _turning(other: Evidence, clock: FailureClock) -> bool:
    """Whether the member fell silent just now and cannot be judged yet."""
    return other.silent_s is not None and clock.suspect_s <= other.silent_s < clock.unreachable_s


def fell_together(own: Evidence, fleet: Sequence[Evidence], clock: FailureClock) -> list[str]:
    """The members that fell silent with this one, if they are so many that the server must doubt itself.

    One whose silence is counted anew, since the server doubted itself before, was never heard meanwhile: it is silent.
    """
    assert own.silent_s is not None
    since = own.silent_s
    before = [
        e for e in fleet if e.silent_s is not None and e.silent_s <= since + clock.unreachable_s
    ]
    lost = sorted(
        e.cluster
        for e in before
        if e.silent_s is not None
        and (e.silent_s >= clock.suspect_s or (e.was_silent and not e.heard))
        and abs(e.silent_s - since) <= clock.unreachable_s
    )
    mass = len(lost) >= MASS_MEMBERS and len(lost) >= MASS_SHARE * len(before)
    return lost if mass else []


def _zone(
    zone: str,
    names: Sequence[str],
    clusters: Mapping[str, Verdict],
    evidence: Sequence[Evidence],
    clock: FailureClock,
) -> Verdict:
    findings = {name: clusters[name].finding for name in names}
    dead = sorted(name for name, finding in findings.items() if finding is Finding.DEAD)
    if Finding.CUT_OFF in findings.values():
        return Verdict(Finding.CUT_OFF, "The server is cut off: nothing can be said of this zone.")
    silent = {e.cluster: e.silent_s or 0.0 for e in evidence}
    if dead and len(dead) == len(names):
        if all(silent[name] >= clock.zone_s for name in names):
            return Verdict(Finding.DEAD, f"All of its clusters are dead: {', '.join(dead)}.")
        return Verdict(Finding.SUSPECT, f"All of its clusters are silent: {', '.join(dead)}.")
    if dead:
        living = sorted(set(names) - set(dead))
        return Verdict(Finding.DEGRADED, f"{', '.join(dead)} dead, {', '.join(living)} not.")
    if all(finding is Finding.UNKNOWN for finding in findings.values()):
        return Verdict(
            Finding.UNKNOWN, f"None of its clusters was heard of yet: {', '.join(sorted(names))}."
        )
    if Finding.SUSPECT in findings.values():
        ill = sorted(name for name, finding in findings.items() if finding is Finding.SUSPECT)
        return Verdict(Finding.SUSPECT, f"Silent: {', '.join(ill)}.")
    return Verdict(Finding.HEALTHY, f"Heard of: {', '.join(sorted(names))}.")


def _fleet(clusters: Mapping[str, Verdict]) -> Verdict:
    cut = [v for v in clusters.values() if v.finding is Finding.CUT_OFF]
    if cut:
        return cut[0]
    dead = sorted(name for name, v in clusters.items() if v.finding is Finding.DEAD)
    if dead:
        return Verdict(Finding.DEGRADED, f"Dead: {', '.join(dead)}.")
    if not clusters:
        return Verdict(Finding.HEALTHY, "There are no members.")
    return Verdict(Finding.HEALTHY, "No member is dead.")


def next_look(evidence: Sequence[Evidence], clock: FailureClock) -> float | None:
    """Seconds until silence alone could change a verdict; None when it cannot any more."""
    waits: list[float] = []
    for item in evidence:
        if item.silent_s is None:
            continue
        patience = patience_s(item, clock)
        limits = (
            clock.suspect_s,
            clock.unreachable_s,
            clock.zone_s,
            patience,
            patience + clock.zone_s - clock.unreachable_s,
        )
        waits += [limit - item.silent_s for limit in limits if limit > item.silent_s]
    return max(LOOK_LATE_S, min(waits) + LOOK_LATE_S) if waits else None
