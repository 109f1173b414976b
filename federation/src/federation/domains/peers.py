"""What members say of each other on the data path, as evidence about one that is silent. Pure.

Each member's gateways probe those of every other member, and its link reports each flip within about a second
(ClusterNetwork `status.peers`), and says the same again every 30 s. That way does not touch the federation's server, so it tells a cluster that is gone from
one whose link is cut. A word counts only from a member that is heard, and after it was away only once it has written
anew or has been back for a while. Where nothing is there to be probed (no gateway, no node with a range), nobody says anything.

A cut link is remembered (`Cut`): when the peers lose the cluster later, its silence counts from then, as that of a
heartbeat would. Words that turn within the first seconds of the verdict were merely late, and cost no extra time.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from machinery.api.fleet.multicluster import DIRECT, GATEWAY, UNREACHABLE, ClusterNetwork

REACHES = (DIRECT, GATEWAY)
SAYS = {
    DIRECT: "{} reaches it directly.",
    GATEWAY: "{} reaches it through its gateways.",
    UNREACHABLE: "{} does not reach it.",
}


@dataclass(frozen=True, slots=True)
class Cut:
    """A link that is cut: since when that is the verdict, and when the peers lost the cluster too. Monotonic seconds."""

    since: float
    lost_at: float | None = None


def words(network: ClusterNetwork | None) -> dict[str, str]:
    """Peer -> path, of one member's report."""
    if network is None:
        return {}
    return {
        peer.cluster: peer.path
        for peer in network.status.peers
        if peer.path in SAYS and (peer.gateways or peer.nodes)
    }


def counts_in_s(heard_for_s: float, told_since: bool, settle_s: float) -> float:
    """Seconds until a member's report counts: at once when it was written since the member came back."""
    return 0.0 if told_since else max(0.0, settle_s - heard_for_s)


def follow(
    cuts: Mapping[str, Cut],
    reached: Collection[str],
    lost: Collection[str],
    now: float,
    late_s: float,
) -> dict[str, Cut]:
    """The cuts after a look at the words; where nobody says anything now, nothing was lost."""
    found: dict[str, Cut] = {}
    for name, cut in cuts.items():
        if name not in lost or name in reached:
            found[name] = Cut(cut.since)
        elif cut.lost_at is not None:
            found[name] = cut
        elif now - cut.since >= late_s:
            found[name] = Cut(cut.since, now)
    return found


def joined(names: Collection[str]) -> str:
    """`alpha`, `alpha and beta`, `alpha, beta and gamma`."""
    ordered = sorted(names)
    head, last = ", ".join(ordered[:-1]), ordered[-1] if ordered else ""
    return f"{head} and {last}" if head else last


def verb(names: Collection[str], one: str, many: str) -> str:
    """The names with the form of the verb that suits their number."""
    return f"{joined(names)} {one if len(names) == 1 else many}"
