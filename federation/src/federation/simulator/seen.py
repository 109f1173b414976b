"""What stands in the federation's store, and when it came to stand there, for those who judge.

The judge reads the store's own log, not the server's caches: it sees every write, in order, also while the server is
down. Documents are decoded once.
"""

import datetime as dt
from collections import deque
from dataclasses import dataclass, field

from federation.simulator.virtual import EPOCH
from machinery.api.fleet.cluster import CLUSTER_LEASES
from machinery.meta.resource import Document, ObjectKey
from machinery.server import codec
from machinery.store.interface import Change, Event

ROOM_MEMORY_S = 2.0
REGULAR_S = 3.0
"""Heartbeats are regular when they come one so soon after the other."""
ROOM = ("allocatable", "allocated", "allocating")
ROUTINE = frozenset({"clusternetworks"})
"""Written again and again with nothing new."""


@dataclass(frozen=True, slots=True)
class Written:
    """One write: the object before and after. `new` is None when it is gone."""

    plural: str
    key: ObjectKey
    old: Document | None
    new: Document | None
    at: float


@dataclass(slots=True)
class ClusterFacts:
    """What can be said of a member from the outside."""

    created_at: float
    last_beat: float | None = None
    beating_since: float | None = None
    """When the present run of regular heartbeats began."""
    standing_since: float = 0.0
    """When readiness or taints last changed."""
    ready: str = ""
    """Status of the condition Ready."""
    taints: tuple[str, ...] = ()
    """Their keys."""
    taints_before: tuple[Document, ...] = ()
    """The taints until then."""
    room: deque[tuple[float, int]] = field(default_factory=deque)


class Seen:
    """The present state by kind and key, and the facts of members."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[ObjectKey, Document]] = {}
        self.facts: dict[str, ClusterFacts] = {}
        self.beats: dict[str, float] = {}
        self.writes = 0
        self.last_write: dict[str, float] = {}
        """Plural -> time of the last write; heartbeats are not counted."""

    def wall(self, now: float) -> dt.datetime:
        """The server's wall clock at a moment of the history."""
        return EPOCH + dt.timedelta(seconds=now)

    def of(self, plural: str) -> dict[ObjectKey, Document]:
        """Every object of a kind."""
        return self.objects.setdefault(plural, {})

    def binding(self, key: ObjectKey) -> Document | None:
        """Of either kind."""
        plural = "resourcebindings" if key.namespace else "clusterresourcebindings"
        return self.of(plural).get(key)

    def take(self, event: Event, now: float) -> Written:
        """Note one write."""
        self.writes += 1
        _, _, _, plural, namespace, name = event.row.key.split("/", 5)
        key = ObjectKey(namespace, name)
        held = self.of(plural)
        old = held.get(key)
        new: Document | None = None
        if event.change is Change.DELETE:
            held.pop(key, None)
        else:
            new = held[key] = codec.decode(event.row.value, event.row.revision)
        heartbeat = plural == "leases" and namespace == CLUSTER_LEASES
        if not heartbeat and plural not in ROUTINE:
            self.last_write[plural] = now
        written = Written(plural, key, old, new, now)
        if heartbeat and is_beat(written):
            self._beat(name, now)
        if plural == "clusters":
            self._cluster(name, old, new, now)
        return written

    def _beat(self, name: str, now: float) -> None:
        facts = self.facts.get(name)
        last = self.beats.get(name)
        self.beats[name] = now
        if facts is not None:
            regular = (
                last is not None and now - last < REGULAR_S and facts.beating_since is not None
            )
            facts.beating_since = facts.beating_since if regular else now
            facts.last_beat = now

    def _cluster(self, name: str, old: Document | None, new: Document | None, now: float) -> None:
        if new is None:
            self.facts.pop(name, None)
            return
        facts = self.facts.get(name)
        if facts is None:
            facts = self.facts[name] = ClusterFacts(now, self.beats.get(name))
        standing = ready(new), tuple(t["key"] for t in new["spec"].get("taints") or ())
        if old is None or standing != (facts.ready, facts.taints):
            facts.standing_since = now
            facts.taints_before = tuple((old or {}).get("spec", {}).get("taints") or ())
            facts.ready, facts.taints = standing
        while facts.room and facts.room[0][0] < now - ROOM_MEMORY_S and len(facts.room) > 1:
            facts.room.popleft()
        facts.room.append((now, free_pods(new)))


def is_beat(written: Written) -> bool:
    """Whether the write of a cluster's Lease is a heartbeat."""
    old, new = written.old, written.new
    return new is not None and (old is None or renewed(old) != renewed(new))


def renewed(lease: Document) -> str:
    """When the holder says it renewed."""
    return str((lease.get("spec") or {}).get("renewTime", ""))


def condition_of(document: Document, kind: str) -> Document:
    """The condition, or an empty document."""
    conditions = (document.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind), {})


def ready(cluster: Document) -> str:
    """Status of the condition Ready."""
    return str(condition_of(cluster, "Ready").get("status", ""))


def free_pods(cluster: Document) -> int:
    """Room by what the member reported; none when it reported nothing."""
    summary = (cluster.get("status") or {}).get("resourceSummary") or {}
    count = {part: int((summary.get(part) or {}).get("pods", 0)) for part in ROOM}
    return max(0, count["allocatable"] - count["allocated"] - count["allocating"])
