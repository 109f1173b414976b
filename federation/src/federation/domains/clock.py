"""The failure clock: from heartbeats by receive time to a verdict on one member.

Times are seconds of this server's monotonic clock; a member's own clock is never compared with ours. A heartbeat is due
every 2 s; after 6 s without one the member is suspect (said, nothing done), after 10 s it is not heard of. A restarted
server counts every heartbeat as received at its start, so that its own absence is nobody's fault. Verdicts on whole
zones and on the server itself are `federation.domains.verdict`.
"""

import enum
from dataclasses import dataclass

LOOK_LATE_S = 0.01
"""How much after a limit to look: a wait that ends a rounding error too early would be followed by one of nothing."""


@dataclass(frozen=True, slots=True)
class FailureClock:
    """Limits in seconds."""

    heartbeat_s: float = 2.0
    suspect_s: float = 6.0
    unreachable_s: float = 10.0
    zone_s: float = 12.0
    """A verdict waits this long at most for others that are suspect too."""
    link_cut_s: float = 0.0
    """Silence after which a cluster is given up though peers reach it; 0: never."""


class State(enum.Enum):
    """How a member stands."""

    READY = "ClusterReady"
    SUSPECT = "ClusterSuspect"
    UNREACHABLE = "ClusterNotReachable"
    LINK_CUT = "ClusterLinkCut"
    NEVER_SEEN = "ClusterNeverSeen"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`status` is that of the condition Ready; the message says why in one sentence."""

    state: State
    status: str
    message: str

    @property
    def reason(self) -> str:
        return self.state.value


def judge(silent_s: float | None, clock: FailureClock, link_cut: str = "") -> Verdict:
    """`silent_s`: since the last heartbeat, None if there never was one.

    `link_cut` is the sentence of the verdict on the cluster, where that is LinkCut: it is no more ready than any other
    that is not heard, for nothing can be told to it, but the reason is another.
    """
    if silent_s is None:
        return Verdict(State.NEVER_SEEN, "Unknown", "The agent has not sent a heartbeat yet.")
    if silent_s >= clock.unreachable_s and link_cut:
        return Verdict(State.LINK_CUT, "Unknown", link_cut)
    if silent_s >= clock.unreachable_s:
        return Verdict(
            State.UNREACHABLE,
            "Unknown",
            f"No heartbeat for more than {clock.unreachable_s:g} s: the agent is stopped or cut off. "
            "Its workloads may well be running; nothing is deleted there.",
        )
    if silent_s >= clock.suspect_s:
        return Verdict(
            State.SUSPECT,
            "True",
            f"No heartbeat for more than {clock.suspect_s:g} s; not heard of after {clock.unreachable_s:g} s.",
        )
    return Verdict(State.READY, "True", "The agent's heartbeat stands.")


def next_look(silent_s: float | None, clock: FailureClock) -> float | None:
    """Seconds until silence alone could change the verdict; None when it cannot any more."""
    if silent_s is None or silent_s >= clock.unreachable_s:
        return None
    limit = clock.suspect_s if silent_s < clock.suspect_s else clock.unreachable_s
    return limit - silent_s + LOOK_LATE_S
