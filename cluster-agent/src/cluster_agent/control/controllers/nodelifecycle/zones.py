"""How fast nodes may be emptied: slower the more of a zone is silent, and not at all when everything is.

When every node of every zone is silent, the fault is far more likely ours than theirs: nothing is evicted, and taints
that would evict are taken back. One zone alone that is wholly silent is believed. A zone of which more than half is
silent slows down when it is large and stops when it is small.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from machinery.api.core import Node

REGION_LABEL = "topology.kubernetes.io/region"
ZONE_LABEL = "topology.kubernetes.io/zone"


class Mode(enum.Enum):
    """The state of a zone."""

    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


@dataclass(frozen=True, slots=True)
class Pace:
    """The settings of eviction."""

    rate_per_s: float = 0.1
    """Nodes emptied per second in a healthy zone."""
    secondary_rate_per_s: float = 0.01
    """The same in a large zone most of which is silent."""
    large_zone_nodes: int = 50
    """A zone with more nodes than this is large."""
    unhealthy_share: float = 0.55
    """From this share of silent nodes on a zone is partially disrupted."""


@dataclass(slots=True)
class Bucket:
    """One eviction at once, then at the zone's rate."""

    rate_per_s: float
    tokens: float = 1.0
    at: float = 0.0

    def take(self, monotonic: float) -> bool:
        """Whether one more node may be emptied now."""
        if self.rate_per_s <= 0:
            return False
        self.tokens = min(1.0, self.tokens + max(0.0, monotonic - self.at) * self.rate_per_s)
        self.at = monotonic
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


def zone_of(node: Node) -> str:
    """Region and zone: zones of different regions may share a name."""
    labels = node.metadata.labels
    return f"{labels.get(REGION_LABEL, '')}/{labels.get(ZONE_LABEL, '')}"


def mode_of(ready: Iterable[bool], pace: Pace) -> Mode:
    """The state of a zone, told by which of its nodes are ready."""
    verdicts = list(ready)
    silent = verdicts.count(False)
    if silent and silent == len(verdicts):
        return Mode.FULL
    if silent > 2 and silent / len(verdicts) >= pace.unhealthy_share:
        return Mode.PARTIAL
    return Mode.NORMAL


def rate_of(mode: Mode, nodes: int, pace: Pace) -> float:
    """Nodes per second that may be emptied."""
    if mode is Mode.PARTIAL:
        return pace.secondary_rate_per_s if nodes > pace.large_zone_nodes else 0.0
    return pace.rate_per_s


class Zones:
    """The paces of all zones, kept from pass to pass."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._buckets: dict[str, Bucket] = {}
        self.modes: dict[str, Mode] = {}
        self.all_disrupted = False
        self._silent: set[str] = set()

    def update(self, nodes: Iterable[tuple[Node, bool]], monotonic: float) -> set[str]:
        """Take in who is ready; the zones whose pace changed."""
        by_zone: dict[str, list[bool]] = {}
        self._silent = set()
        for node, ready in nodes:
            if not ready:
                self._silent.add(node.metadata.name)
            by_zone.setdefault(zone_of(node), []).append(ready)
        modes = {zone: mode_of(ready, self._pace) for zone, ready in by_zone.items()}
        was = self.all_disrupted
        self.all_disrupted = bool(modes) and set(modes.values()) == {Mode.FULL}
        changed = {
            zone
            for zone, mode in modes.items()
            if was != self.all_disrupted or self.modes.get(zone) is not mode
        }
        for zone in changed:
            rate = (
                0.0 if self.all_disrupted else rate_of(modes[zone], len(by_zone[zone]), self._pace)
            )
            self._set_rate(zone, rate, monotonic)
        for zone in self._buckets.keys() - modes.keys():
            del self._buckets[zone]
        self.modes = modes
        return changed

    def _set_rate(self, zone: str, rate: float, monotonic: float) -> None:
        bucket = self._buckets.get(zone)
        if bucket is None or bucket.rate_per_s != rate:
            self._buckets[zone] = Bucket(rate, at=monotonic)

    def may_evict(self, node: Node, monotonic: float) -> bool:
        """Whether the node may be emptied now; takes the permission.

        Only a node whose silence was counted in its zone's mode: otherwise the first nodes of a zone that falls
        silent all at once would be emptied before the zone is known to be disrupted.
        """
        bucket = self._buckets.get(zone_of(node))
        counted = node.metadata.name in self._silent
        return counted and bucket is not None and bucket.take(monotonic)

    def is_paused(self, zone: str) -> bool:
        """Whether nothing in the zone is emptied until others come back."""
        bucket = self._buckets.get(zone)
        return bucket is not None and bucket.rate_per_s <= 0
