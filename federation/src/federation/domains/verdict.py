"""From evidence to verdicts: which clusters and zones are dead, and whether it is the server that is cut off. Pure.

    Healthy        heard of
    Suspect        silent, but not long enough, or others turn silent right now and will be judged together with it
    LinkCut        silent, but a member that is heard reaches it on the data path: its pods serve, it can be told nothing;
                   nothing that runs there is moved, and nothing new is placed there
    Dead           silent for the whole time, and no peer reaches it; its replicas may be moved
    ServerCutOff   at least two members, and at least half of those that were heard, fell silent within one window: the
                   server is the suspect, and nothing moves until they are heard again
    Degraded       of a cluster: heard, but none of its peers reaches it; nothing is moved. Of a zone or the fleet: a part
    Unknown        never heard of

What peers say (`federation.domains.peers`) meets silence like this, for a cluster that is silent long enough:

    some peer that is heard reaches it                       LinkCut, also when others do not (a cut between two of them)
                                                             and when it cannot reach them (a one-way cut)
    peers that are heard have all lost it                    Dead or ServerCutOff, as without them
    nobody says anything, and never did                      Dead or ServerCutOff, as without them
    its link was cut, and those who reached it are silent    LinkCut still: a witness that is gone is no loss of life
    a peer came back just now, and nobody else says it       Suspect, for the few seconds until its report counts
    its link was cut, and its peers lose it                  its silence counts anew from then
    others' links are cut, and now nobody is heard           ServerCutOff, however long ago each of them fell silent

Several that fell silent together and are reached by one that is heard are not lost: each is LinkCut. Whether they reach
each other is not known, for they are not heard.

A cut link stays one for ever unless the operator sets `linkCutSeconds`. Users of such a cluster notice nothing, while
moving would run everything twice, and evictions of healthy clusters are what made operators switch failover off elsewhere.
Who must be able to change what runs within some time sets the limit. The same is found where only the control plane of a
cluster is down: its peers cannot tell, and its pods serve, but what fails in it is not mended meanwhile.

A member that was judged dead several times lately must be silent for longer before it is again (damping).
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from federation.domains.clock import LOOK_LATE_S, FailureClock
from federation.domains.peers import REACHES, verb

CALM_VERDICTS = 2
"""So many verdicts in the memory of a member cost it nothing."""
DAMPING_MAX = 8
MASS_MEMBERS, MASS_SHARE = 2, 0.5


class Finding(enum.Enum):
    """What is held to be true of a domain."""

    HEALTHY = "Healthy"
    SUSPECT = "Suspect"
    LINK_CUT = "LinkCut"
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
    peers: Mapping[str, str] | None = field(default_factory=dict)
    """What it says of the others: cluster -> path. None: it has something to say that does not count yet."""
    cut: bool = False
    """Whether its link was found to be cut, and it was not heard since."""
    lost_s: float | None = None
    """With `cut`: since when its peers do not reach it any more."""


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
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Cluster -> what each peer that counts says of it."""


def patience_s(evidence: Evidence, clock: FailureClock) -> float:
    """Silence that makes a verdict."""
    extra = max(0, evidence.verdicts - CALM_VERDICTS)
    return float(clock.unreachable_s * min(DAMPING_MAX, 2**extra))


def judge_fleet(evidence: Sequence[Evidence], clock: FailureClock) -> FleetVerdict:
    """All verdicts."""
    words = _words(evidence, clock)
    clusters = {e.cluster: _cluster(e, words[e.cluster], evidence, clock) for e in evidence}
    members: dict[str, list[str]] = {}
    for item in evidence:
        for zone in item.zones:
            members.setdefault(zone, []).append(item.cluster)
    zones = {zone: _zone(zone, names, clusters, evidence, clock) for zone, names in members.items()}
    return FleetVerdict(
        clusters,
        zones,
        _fleet(clusters),
        {zone: tuple(names) for zone, names in members.items()},
        words,
    )


def witness(evidence: Evidence, clock: FailureClock) -> bool:
    """Whether the member is heard now, so that what it says of others is of now."""
    silent = evidence.silent_s
    return silent is not None and silent < clock.suspect_s and evidence.heard


def words_on(cluster: str, fleet: Sequence[Evidence], clock: FailureClock) -> dict[str, str]:
    """What the members that are heard say of one: who -> path."""
    return {
        e.cluster: e.peers[cluster]
        for e in fleet
        if e.peers and cluster in e.peers and e.cluster != cluster and witness(e, clock)
    }


def _words(fleet: Sequence[Evidence], clock: FailureClock) -> dict[str, dict[str, str]]:
    """`words_on` of every member, for the price of what is said."""
    found: dict[str, dict[str, str]] = {e.cluster: {} for e in fleet}
    for speaker in fleet:
        if not speaker.peers or not witness(speaker, clock):
            continue
        for peer, path in speaker.peers.items():
            if peer != speaker.cluster and peer in found:
                found[peer][speaker.cluster] = path
    return found


def reached(words: Mapping[str, str]) -> list[str]:
    """Those who reach it."""
    return sorted(who for who, path in words.items() if path in REACHES)


def gone_s(evidence: Evidence) -> float:
    """Seconds since the last sign of life: a heartbeat, or its peers' reach where that was all there was."""
    assert evidence.silent_s is not None
    lost = evidence.lost_s
    return evidence.silent_s if lost is None else min(evidence.silent_s, lost)


def _cluster(
    own: Evidence, words: Mapping[str, str], fleet: Sequence[Evidence], clock: FailureClock
) -> Verdict:
    if own.silent_s is None:
        return Verdict(Finding.UNKNOWN, "The agent has not sent a heartbeat yet.")
    patience = patience_s(own, clock)
    if own.silent_s < patience and own.was_silent and not own.heard:
        return Verdict(
            Finding.SUSPECT,
            "Not heard of since this server itself was away: its silence counts from then.",
        )
    if own.silent_s < clock.suspect_s:
        return _heard(words)
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
    others = [e for e in fleet if e is not own]
    too_long = bool(clock.link_cut_s) and own.silent_s >= clock.link_cut_s
    seen_by = reached(words)
    if not too_long and (seen_by or (own.cut and not words and _mute(others, clock))):
        return _link_cut(seen_by, patience)
    if not words and not too_long and any(e.peers is None and witness(e, clock) for e in others):
        return Verdict(Finding.SUSPECT, "Silent, and those who came back just now may know more.")
    gone = gone_s(own)
    if gone < patience and not too_long:
        return Verdict(
            Finding.SUSPECT,
            f"Not heard, and {verb(words, 'does', 'do') if words else 'its peers do'} not reach it any more; "
            f"dead after {patience:g} s of that.",
        )
    if alone := _alone(own, others, clock):
        return Verdict(
            Finding.CUT_OFF,
            f"Nobody is heard any more, though the pods of {', '.join(alone)} served when last seen: "
            "this server is the one that is cut off, nothing is moved.",
        )
    lost = fell_together(own, fleet, clock)
    if lost:
        return Verdict(
            Finding.CUT_OFF,
            f"{', '.join(lost)} fell silent together: this server is the one that is cut off, nothing is moved.",
        )
    if too_long and (seen_by or own.cut):
        return Verdict(
            Finding.DEAD,
            f"Only its link is cut, but for more than {clock.link_cut_s:g} s: given up (linkCutSeconds).",
        )
    waiting = sorted(e.cluster for e in others if _turning(e, clock))
    if waiting and gone < patience + clock.zone_s - clock.unreachable_s:
        return Verdict(Finding.SUSPECT, f"Silent, and judged together with {', '.join(waiting)}.")
    how = f"{verb(words, 'does', 'do')} not reach it" if words else "other members are heard"
    return Verdict(
        Finding.DEAD,
        f"No heartbeat for more than {patience:g} s, {'and' if words else 'while'} {how}.",
    )


def _heard(words: Mapping[str, str]) -> Verdict:
    """Heartbeats arrive; what peers say is told, and moves nothing: who of them is cut off is not known."""
    if words and not reached(words):
        return Verdict(
            Finding.DEGRADED,
            f"Heartbeats arrive, but {verb(words, 'does', 'do')} not reach it: "
            "its Services are cut off from theirs; nothing is moved.",
        )
    return Verdict(Finding.HEALTHY, "Heartbeats arrive.")


def _link_cut(seen_by: Sequence[str], patience: float) -> Verdict:
    how = (
        f"{verb(seen_by, 'reaches', 'reach')} it" if seen_by else "those who reached it are silent"
    )
    return Verdict(
        Finding.LINK_CUT,
        f"No heartbeat for more than {patience:g} s, but {how}: only its link is cut; "
        "nothing that runs there is moved.",
    )


def _mute(others: Sequence[Evidence], clock: FailureClock) -> bool:
    """Whether somebody who might reach the member cannot say so now."""
    return any(e.peers is None or not witness(e, clock) for e in others)


def _alone(own: Evidence, others: Sequence[Evidence], clock: FailureClock) -> list[str]:
    """Those whose links were cut, if nobody at all is heard now: then ours is."""
    known = [e for e in others if e.silent_s is not None]
    if any((e.silent_s or 0.0) < clock.suspect_s for e in known):
        return []
    return sorted(e.cluster for e in known if e.cut)


def _turning(other: Evidence, clock: FailureClock) -> bool:
    """Whether the member fell silent just now and cannot be judged yet."""
    return other.silent_s is not None and clock.suspect_s <= gone_s(other) < clock.unreachable_s


def fell_together(own: Evidence, fleet: Sequence[Evidence], clock: FailureClock) -> list[str]:
    """The members that fell silent with this one, if they are so many that the server must doubt itself.

    One whose silence is counted anew, since the server doubted itself before, was never heard meanwhile: it is silent.
    """
    since = gone_s(own)
    before = [
        e for e in fleet if e.silent_s is not None and gone_s(e) <= since + clock.unreachable_s
    ]
    lost = sorted(
        e.cluster
        for e in before
        if (gone_s(e) >= clock.suspect_s or (e.was_silent and not e.heard))
        and abs(gone_s(e) - since) <= clock.unreachable_s
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
    if dead and len(dead) == len(names):
        silent = {e.cluster: 0.0 if e.silent_s is None else gone_s(e) for e in evidence}
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
    cut = sorted(name for name, finding in findings.items() if finding is Finding.LINK_CUT)
    if len(cut) == len(names):
        return Verdict(
            Finding.LINK_CUT, f"All of its clusters serve with a cut link: {', '.join(cut)}."
        )
    apart = sorted(name for name, finding in findings.items() if finding is Finding.DEGRADED)
    if cut or apart:
        return Verdict(Finding.DEGRADED, _partly(cut, apart))
    return Verdict(Finding.HEALTHY, f"Heard of: {', '.join(sorted(names))}.")


def _partly(cut: Sequence[str], apart: Sequence[str]) -> str:
    parts = [f"Only the link is cut: {', '.join(cut)}."] if cut else []
    return " ".join([*parts, *([f"Not reached by peers: {', '.join(apart)}."] if apart else [])])


def _fleet(clusters: Mapping[str, Verdict]) -> Verdict:
    cut = [v for v in clusters.values() if v.finding is Finding.CUT_OFF]
    if cut:
        return cut[0]
    dead, link_cut, apart = (
        sorted(name for name, v in clusters.items() if v.finding is finding)
        for finding in (Finding.DEAD, Finding.LINK_CUT, Finding.DEGRADED)
    )
    if dead or link_cut or apart:
        gone = [f"Dead: {', '.join(dead)}."] if dead else []
        rest = [_partly(link_cut, apart)] if link_cut or apart else []
        return Verdict(Finding.DEGRADED, " ".join([*gone, *rest]))
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
        silent = [limit - item.silent_s for limit in (*limits, clock.link_cut_s)]
        lost = [limit - item.lost_s for limit in limits] if item.lost_s is not None else []
        waits += [wait for wait in (*silent, *lost) if wait > 0]
    return max(LOOK_LATE_S, min(waits) + LOOK_LATE_S) if waits else None
