"""What must hold after every single write, whatever happened before: the first breach ends the history.

sum         an answered binding gives out exactly the replicas it was asked for
steady      a decision changes only when its question does, or a move begins or ends: suspicion alone moves nothing
verdict     replicas leave a cluster for its silence only after 10 s of it, and never when most fell silent together
surge       a move lets go only what is ready elsewhere, by what was reported when it was decided
believed    an eviction ends only when the cluster is Ready and has answered with an inventory
zones       zones differ by at most one, unless one is full or was not reachable when it was decided
cluster     no Work for a cluster that is not known
kept        a Work is deleted only when its template, its binding or its place in the decision is gone
clock       not Ready no earlier than 10 s and no later than 13 s after the last heartbeat; Ready soon after it
hands off   a member deletes nothing that it was not told to delete, and is told nothing while it is cut off
"""

from collections.abc import Iterable

import msgspec

from federation.controllers.dispatcher import asked
from federation.controllers.placer import QUESTION, question
from federation.domains.clock import FailureClock
from federation.propagation import moves
from federation.simulator.member import Member
from federation.simulator.seen import Seen, Written, ready
from machinery.api.fleet.cluster import (
    CLUSTER_LEASES,
    EXECUTION_PREFIX,
    INVENTORY,
    INVENTORY_WANTED,
)
from machinery.api.fleet.work import BINDING_NAME, BINDING_NAMESPACE, ResourceBinding
from machinery.meta.resource import Document, ObjectKey

CLOCK = FailureClock()
LATE_S = 3.0
"""How much later than the clock says a verdict may stand."""
AT_ONCE_S = 1.0
"""What changed less than this long ago may have been seen or not."""


class Broken(Exception):
    """A rule does not hold."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"{rule}: {message}")
        self.rule = rule


def view(binding: Document) -> ResourceBinding:
    """The binding as the controllers read it."""
    return msgspec.convert(binding, ResourceBinding)


def answered(binding: ResourceBinding) -> bool:
    """Whether the clusters in the spec answer the question in the spec."""
    return binding.metadata.annotations.get(QUESTION) == question(binding)


def adds_up(binding: ResourceBinding, given: dict[str, int]) -> bool:
    """Divided: the sum is what was asked. Duplicated: each runs all of it."""
    scheduling = binding.spec.placement.replica_scheduling if binding.spec.placement else None
    if scheduling is not None and scheduling.replica_scheduling_type == "Divided":
        return sum(given.values()) == binding.spec.replicas
    return all(count == binding.spec.replicas for count in given.values())


def by_zone(binding: ResourceBinding) -> bool:
    """Whether the placement spreads over zones."""
    placement = binding.spec.placement
    constraints = placement.spread_constraints if placement is not None else ()
    return any(constraint.spread_by_field == "zone" for constraint in constraints)


def _left(binding: ResourceBinding) -> frozenset[str]:
    """Clusters that the binding was made to leave for their silence."""
    tasks = binding.spec.graceful_eviction_tasks
    return frozenset(t.from_cluster for t in tasks if t.reason == moves.UNREACHABLE)


def _annotation(document: Document, name: str) -> str:
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(name, ""))


class Rules:
    """The judge of writes. `server_since` is when the present server started, None while it is down."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.server_since: float | None = None
        self._retargeted: dict[ObjectKey, float] = {}
        self._judged: dict[str, int] = {}

    def on_write(self, written: Written) -> None:
        """Raises Broken."""
        match written.plural:
            case "resourcebindings":
                self._binding(written)
            case "works":
                self._work(written)
            case "clusters":
                self._cluster(written)
            case _:
                pass

    # ------------------------------------------------------------------------------------------------- placement
    def _binding(self, written: Written) -> None:
        if written.new is None:
            self._retargeted[written.key] = written.at
            return
        new = view(written.new)
        old = view(written.old) if written.old is not None else None
        if old is None or asked(old) != asked(new):
            self._retargeted[written.key] = written.at
        self._moves(written, old, new)
        if new.spec.placement is None or not answered(new):
            return
        given = {t.name: t.replicas for t in new.spec.clusters}
        if not adds_up(new, given):
            raise Broken("sum", f"{written.key} gives {given} for {new.spec.replicas} replicas")
        if old is not None and old.metadata.uid == new.metadata.uid and answered(old):
            before = {t.name: t.replicas for t in old.spec.clusters}
            if question(old) == question(new):
                moved = old.spec.graceful_eviction_tasks != new.spec.graceful_eviction_tasks
                self._surge(written, old, new)
                back = moves.DISPLACED in old.metadata.annotations
                if before != given and not moved and not back:
                    raise Broken("steady", f"{written.key} went from {before} to {given} unasked")
                return  # what failover takes back or gives back was balanced when it was decided
        if old is not None and _left(old) - _left(new):
            return  # taken back: as it was before the cluster was lost
        held = {t.name: t.replicas for t in old.spec.clusters} if old is not None else {}
        if given != held and by_zone(new):
            self._zones(written, given, held, moves.evicting(new))

    def _moves(self, written: Written, old: ResourceBinding | None, new: ResourceBinding) -> None:
        before = _left(old) if old is not None else frozenset()
        for name in _left(new) - before:
            self._dead(name, written)
        clusters = self._seen.of("clusters")
        for name in before - _left(new):
            cluster = clusters.get(ObjectKey("", name))
            if cluster is None:
                continue
            lease = self._seen.of("leases").get(ObjectKey(CLUSTER_LEASES, name), {})
            word = _annotation(lease, INVENTORY_WANTED)
            if ready(cluster) != "True" or _annotation(cluster, INVENTORY) != word:
                raise Broken("believed", f"{written.key} believes {name} before its inventory")

    def _surge(self, written: Written, old: ResourceBinding, new: ResourceBinding) -> None:
        """The question is the same, so whatever is asked less of a cluster is let go by a move. Raises Broken."""
        before, after = moves.running(old), moves.running(new)
        if any(t.reason == moves.UNREACHABLE for t in old.spec.graceful_eviction_tasks):
            return  # what the returned cluster had counted for nothing until now
        told = {
            item.cluster_name: int((item.status or {}).get("readyReplicas") or 0)
            for item in old.status.aggregated_status
            if self._standing(item.cluster_name, written.at)
        }
        stood = sum(min(count, before.get(name, 0)) for name, count in told.items())
        stands = sum(min(count, after.get(name, 0)) for name, count in told.items())
        wanted = sum(t.replicas for t in new.spec.clusters)
        if stands < min(stood, wanted):
            raise Broken("surge", f"{written.key} goes from {before} to {after} with {told} ready")

    def _standing(self, name: str, now: float) -> bool:
        """Whether what the cluster reports counts; in doubt it does."""
        cluster = self._seen.of("clusters").get(ObjectKey("", name))
        if cluster is None:
            return False
        return ready(cluster) == "True" or now - self._seen.facts[name].standing_since < AT_ONCE_S

    def _dead(self, name: str, written: Written) -> None:
        """Whether the cluster may be called dead. Raises Broken."""
        beats = {n: f.last_beat for n, f in self._seen.facts.items() if f.last_beat is not None}
        silent = {n: written.at - at for n, at in beats.items()}
        if silent.get(name, 0.0) < CLOCK.unreachable_s - 0.05:
            raise Broken("verdict", f"{written.key} leaves {name} after {silent.get(name)} s")
        lost = [
            n
            for n, s in silent.items()
            if s > CLOCK.suspect_s + AT_ONCE_S
            and abs(s - silent[name]) < CLOCK.unreachable_s - AT_ONCE_S
        ]
        heard = [n for n, s in silent.items() if s < silent[name] + CLOCK.unreachable_s + AT_ONCE_S]
        if len(lost) >= 2 and 2 * len(lost) >= len(heard):
            raise Broken(
                "verdict", f"{written.key} leaves {name} though {sorted(lost)} fell silent together"
            )

    def _zones(
        self,
        written: Written,
        given: dict[str, int],
        held: dict[str, int],
        out: frozenset[str],
    ) -> None:
        clusters = self._seen.of("clusters")
        zone_of = {key.name: c["spec"]["zones"][0] for key, c in clusters.items()}
        counts = dict.fromkeys(zone_of.values(), 0)
        for name, count in given.items():
            counts[zone_of[name]] += count
        most = max(counts.values(), default=0)
        for zone, count in counts.items():
            members = [name for name, where in zone_of.items() if where == zone]
            if count >= most - 1 or not all(
                n not in out and self._steady(n, written.at, held) for n in members
            ):
                continue
            room = sum(self._least_room(n) + held.get(n, 0) for n in members)
            if count < room:
                raise Broken(
                    "zones", f"{written.key} gives {given}, though {zone} has room for {room}"
                )

    def _steady(self, name: str, now: float, held: dict[str, int]) -> bool:
        """Whether nobody can doubt that the member may get replicas."""
        facts = self._seen.facts[name]
        if name in held:
            return True
        cluster = self._seen.of("clusters")[ObjectKey("", name)]
        usable = ready(cluster) == "True" and not cluster["spec"].get("taints")
        return usable and now - facts.standing_since > AT_ONCE_S

    def _least_room(self, name: str) -> int:
        return min((room for _, room in self._seen.facts[name].room), default=0)

    # ------------------------------------------------------------------------------------------------- Works
    def _work(self, written: Written) -> None:
        cluster = written.key.namespace.removeprefix(EXECUTION_PREFIX)
        if written.old is None and ObjectKey("", cluster) not in self._seen.of("clusters"):
            raise Broken("cluster", f"Work {written.key} is for a cluster that is not known")
        marked = written.new is None or written.new["metadata"].get("deletionTimestamp")
        was_marked = written.old is not None and written.old["metadata"].get("deletionTimestamp")
        if not marked or was_marked or written.old is None:
            return
        why = self._still_wanted(written.old, cluster, written.at)
        if why:
            raise Broken("kept", f"Work {written.key} is deleted, but {why}")

    def _still_wanted(self, work: Document, cluster: str, now: float) -> str:
        annotations = work["metadata"].get("annotations") or {}
        name = annotations.get(BINDING_NAME)
        (manifest,) = work["spec"]["workload"]["manifests"]
        if name is None:
            held = self._seen.of("namespaces").get(ObjectKey("", manifest["metadata"]["name"]))
            living = held is not None and not held["metadata"].get("deletionTimestamp")
            return "its namespace lives" if living else ""
        key = ObjectKey(annotations.get(BINDING_NAMESPACE, ""), name)
        document = self._seen.of("resourcebindings").get(key)
        if document is None or document["metadata"].get("deletionTimestamp"):
            return ""
        if now - self._retargeted.get(key, 0.0) < AT_ONCE_S:
            return ""
        return "its binding still names the cluster" if cluster in asked(view(document)) else ""

    # ------------------------------------------------------------------------------------------------- the clock
    def _cluster(self, written: Written) -> None:
        if written.new is None or written.old is None or self.server_since is None:
            return
        before, after = ready(written.old), ready(written.new)
        if before == "True" and after != "True":
            silent = written.at - self._counted_from(written.key.name)
            if silent < CLOCK.unreachable_s - 0.05:
                raise Broken("clock", f"{written.key.name} is not Ready after {silent:.2f} s")

    def _counted_from(self, name: str) -> float:
        """A server counts from its own start at the earliest."""
        assert self.server_since is not None
        facts = self._seen.facts[name]
        return max(self.server_since, facts.created_at, facts.last_beat or 0.0)

    def on_time(self, now: float) -> None:
        """What is due by now. Raises Broken."""
        if self.server_since is None:
            return
        for name, facts in self._seen.facts.items():
            state = ready(self._seen.of("clusters")[ObjectKey("", name)])
            silent = now - self._counted_from(name)
            if state == "True" and silent > CLOCK.unreachable_s + LATE_S:
                raise Broken("clock", f"{name} is Ready after {silent:.2f} s of silence")
            since = max(self.server_since, facts.created_at, facts.beating_since or now)
            heard = facts.last_beat is not None and now - facts.last_beat < CLOCK.heartbeat_s
            if state != "True" and heard and now - since > LATE_S:
                raise Broken("clock", f"{name} is {state or 'nothing'} though heartbeats arrive")

    # ------------------------------------------------------------------------------------------------- members
    def on_members(self, members: Iterable[Member]) -> None:
        """What members deleted since the last look. Raises Broken."""
        for member in members:
            start = self._judged.get(member.name, 0)
            self._judged[member.name] = len(member.removals)
            for removal in member.removals[start:]:
                what = f"{member.name} deleted {removal.ref.kind} {removal.ref.key}"
                if removal.told_at is None:
                    raise Broken("hands off", f"{what}, which nobody asked for")
                cut = removal.cut_since
                if cut is not None and removal.told_at > cut:
                    raise Broken("hands off", f"{what} while it was cut off")
