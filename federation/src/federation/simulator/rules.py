"""What must hold after every single write, whatever happened before: the first breach ends the history.

sum         an answered binding gives out exactly the replicas it was asked for
steady      a decision changes only when its question does, or a move begins or ends: suspicion alone moves nothing
verdict     replicas leave a cluster for its silence only after 10 s of it (no flap is that long), and never when most of the
            members that were heard fell silent together and nobody sees them live
serves      nothing of mode availability leaves a cluster that other members reached all the time: only its link is cut
asked       before replicas leave a dead cluster it is asked for an inventory that it has not made
frozen      nothing leaves a cluster and nothing goes back while the operator has frozen failover or rehearses it
surge       a move lets go only what is ready elsewhere, by what was reported when it was decided
believed    an eviction ends only when the cluster is Ready and has answered with an inventory
calm        nothing goes back to a cluster that has not been Ready for the whole stabilisation window, or is tainted
usable      a decision gives no cluster more than it had while the cluster is not Ready, cordoned or drained
driven      only a taint NoExecute that the workload does not tolerate drains it
overbooked  a decision gives a cluster no more than its reported room less what others are owed there
zones       zones differ by at most one, unless one is full or was not reachable when it was decided
one         of a workload of one replica in mode consistency no two copies run at any time, in the whole fleet
cluster     no Work for a cluster that is not known
live        a Work is made only for a template that is there and a place that its binding gives it
kept        a Work is deleted only when its template, its binding or its place in the decision is gone
clock       not Ready no earlier than 10 s and no later than 13 s after the last heartbeat; Ready soon after it
best        a decision that is made by scores follows them (`federation.simulator.preferred`)
replays     a Decision of the journal comes out the same when it is decided again from what it holds
hands off   a member deletes nothing that it was not told to delete, and is told nothing while it hears nothing
alive       no task of the server dies

At a quiet point `federation.simulator.quiet` asks more, and:

lost        what a user was told is written stands until a user changes it
rest        the fleet comes to rest
"""

from collections.abc import Iterable

import msgspec

from federation.controllers.dispatcher import asked
from federation.domains.clock import FailureClock
from federation.domains.settings import ENABLED
from federation.propagation import moves
from federation.propagation.questions import QUESTION, question
from federation.propagation.replays import replays
from federation.simulator import preferred
from federation.simulator.member import Member
from federation.simulator.peers import DataPath
from federation.simulator.pledges import DOUBT_S, Pledges
from federation.simulator.seen import REGULAR_S, Seen, Written, condition_of, is_beat, ready
from federation.simulator.server import STABILIZATION_S
from machinery.api.core import Taint
from machinery.api.fleet.cluster import (
    CLUSTER_LEASES,
    EXECUTION_PREFIX,
    INVENTORY,
    INVENTORY_WANTED,
)
from machinery.api.fleet.resilience import CONFIG_NAME
from machinery.api.fleet.work import (
    BINDING_NAME,
    BINDING_NAMESPACE,
    CLUSTER_BINDING_NAME,
    ResourceBinding,
)
from machinery.kit.clock import parse_time
from machinery.meta.resource import Document, ObjectKey, document_key
from machinery.scheduling.tolerations import tolerates

CLOCK = FailureClock()
LATE_S = 3.0
"""How much later than the clock says a verdict may stand."""
EVERYWHERE = {"Namespace": "namespaces", "ClusterNetwork": "clusternetworks"}
"""What goes to every member without a binding: kind -> plural."""
WITNESS_S = 20.0
"""Who was heard and saw all that for so long has told it, and is believed."""
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


def divided_by_room(binding: ResourceBinding) -> bool:
    """Whether the planner is free to say who gets how many: not by fixed weights, and not all of it everywhere."""
    scheduling = binding.spec.placement.replica_scheduling if binding.spec.placement else None
    if scheduling is None or scheduling.replica_scheduling_type != "Divided":
        return False
    weights = scheduling.weight_preference
    return weights is None or not weights.static_weight_list


def by_zone(binding: ResourceBinding) -> bool:
    """Whether the placement spreads over zones."""
    placement = binding.spec.placement
    constraints = placement.spread_constraints if placement is not None else ()
    return any(constraint.spread_by_field == "zone" for constraint in constraints)


def _leaving(binding: ResourceBinding) -> frozenset[tuple[str, str]]:
    """(cluster, reason) of evictions."""
    tasks = binding.spec.graceful_eviction_tasks
    return frozenset((t.from_cluster, t.reason) for t in tasks if t.reason != moves.REBALANCED)


def _left(binding: ResourceBinding) -> frozenset[str]:
    """Clusters that the binding was made to leave for their silence."""
    tasks = binding.spec.graceful_eviction_tasks
    return frozenset(t.from_cluster for t in tasks if t.reason == moves.UNREACHABLE)


def _annotation(document: Document, name: str) -> str:
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(name, ""))


def _placed_by(work: Document) -> ObjectKey | None:
    """The binding that a Work is of; None: it goes everywhere."""
    annotations = work["metadata"].get("annotations") or {}
    if (name := annotations.get(CLUSTER_BINDING_NAME)) is not None:
        return ObjectKey("", name)
    name = annotations.get(BINDING_NAME)
    return None if name is None else ObjectKey(annotations.get(BINDING_NAMESPACE, ""), name)


class Rules:
    """The judge of writes. `server_since` is when the present server started, None while it is down."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.server_since: float | None = None
        self._frozen_since: float | None = None
        self._reached_since: dict[str, float] = {}
        self._unreached_since: dict[str, float | None] = {}
        self._retargeted: dict[ObjectKey, float] = {}
        self._judged: dict[str, int] = {}
        self._pledges = Pledges()
        self._viewed: dict[ObjectKey, tuple[Document | None, ResourceBinding | None]] = {}
        """Bindings by key: the document that was written last, and what it was converted to."""

    def on_write(self, written: Written) -> None:
        """Raises Broken."""
        match written.plural:
            case "resourcebindings" | "clusterresourcebindings":
                self._binding(written)
            case "works":
                self._work(written)
            case "clusters":
                self._cluster(written)
            case "federationconfigs":
                self._switched(written)
            case "leases" if written.key.namespace == CLUSTER_LEASES and is_beat(written):
                self._pledges.heard(written.key.name, written.at)
            case "decisions" if written.new is not None:
                self._replays(written.key, written.new)
            case _:
                pass

    # ------------------------------------------------------------------------------------------------- placement
    def _binding(self, written: Written) -> None:
        old, new = self._views(written)
        self._pledges.take(written, new)
        if new is None:
            self._retargeted[written.key] = written.at
            return
        if old is None or asked(old) != asked(new):
            self._retargeted[written.key] = written.at
        self._moves(written, old, new)
        self._returns(written, old, new)
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
        if old is not None and _leaving(old) - _leaving(new):
            return  # taken back: as it was before the cluster was lost or drained
        held = {t.name: t.replicas for t in old.spec.clusters} if old is not None else {}
        if given != held and divided_by_room(new):
            self._usable(written, given, held)
            self._booked(written, given, held)
        if given != held and by_zone(new):
            self._zones(written, given, held, moves.evicting(new))

    def _views(self, written: Written) -> tuple[ResourceBinding | None, ResourceBinding | None]:
        """The binding before and after, each document converted once: what was new is old at the next write."""
        document, old = self._viewed.pop(written.key, (None, None))
        if document is not written.old:
            old = view(written.old) if written.old is not None else None
        if written.new is None:
            return old, None
        new = view(written.new)
        self._viewed[written.key] = (written.new, new)
        return old, new

    def _usable(self, written: Written, given: dict[str, int], held: dict[str, int]) -> None:
        for name, count in given.items():
            why = self._unusable(name, written.at)
            if count > held.get(name, 0) and why:
                raise Broken(
                    "usable", f"{written.key} gives {count} to {name}, which {why}: {given}"
                )

    def _booked(self, written: Written, given: dict[str, int], held: dict[str, int]) -> None:
        """Whether there is room for what a cluster gets more. Raises Broken."""
        for name, count in given.items():
            more = count - held.get(name, 0)
            if more <= 0 or name not in self._seen.facts:
                continue
            room = max((room for _, room in self._seen.facts[name].room), default=0)
            owed = self._pledges.least(name, written.key, written.at)
            if more + owed > room:
                raise Broken(
                    "overbooked",
                    f"{written.key} gives {name} {more} more: it has room for {room} and owes {owed}",
                )

    def _unusable(self, name: str, now: float) -> str:
        """Why nothing new may be placed there; empty also while it may not be known yet."""
        cluster = self._seen.of("clusters").get(ObjectKey("", name))
        if cluster is None or now - self._seen.facts[name].standing_since < AT_ONCE_S:
            return ""
        taints = [t["key"] for t in cluster["spec"].get("taints") or ()]
        return f"is tainted {taints}" if taints else ""

    def _moves(self, written: Written, old: ResourceBinding | None, new: ResourceBinding) -> None:
        begun = _leaving(new) - (_leaving(old) if old is not None else frozenset())
        if begun and self._frozen(written.at):
            raise Broken("frozen", f"{written.key} leaves {sorted(begun)} while failover is frozen")
        for name, reason in begun:
            if reason == moves.DRAINED:
                self._driven(name, written, new)
        before = _left(old) if old is not None else frozenset()
        for name in _left(new) - before:
            self._dead(name, written)
            self._serves(name, written, new)
            if ObjectKey("", name) in self._seen.of("clusters") and self._believed(name):
                raise Broken("asked", f"{written.key} leaves {name}, which owes no inventory")
        for name in before - _left(new):
            known = ObjectKey("", name) in self._seen.of("clusters")
            if known and not self._believed(name):
                raise Broken("believed", f"{written.key} believes {name} before its inventory")

    def _driven(self, name: str, written: Written, new: ResourceBinding) -> None:
        """Whether a taint drives the workload out of the cluster. Raises Broken."""
        cluster = self._seen.of("clusters").get(ObjectKey("", name))
        if cluster is None:
            return
        facts = self._seen.facts[name]
        lately = facts.taints_before if written.at - facts.standing_since < AT_ONCE_S else ()
        placement = new.spec.placement
        tolerations = placement.cluster_tolerations if placement is not None else ()
        carried = (*(cluster["spec"].get("taints") or ()), *lately)
        taints = msgspec.convert(carried, tuple[Taint, ...])
        if all(t.effect != "NoExecute" or tolerates(tolerations, t) for t in taints):
            raise Broken(
                "driven", f"{written.key} is drained from {name}, whose taints are {taints}"
            )

    def _believed(self, name: str) -> bool:
        """Whether what the cluster reports counts."""
        cluster = self._seen.of("clusters")[ObjectKey("", name)]
        lease = self._seen.of("leases").get(ObjectKey(CLUSTER_LEASES, name), {})
        word = _annotation(lease, INVENTORY_WANTED)
        return ready(cluster) == "True" and _annotation(cluster, INVENTORY) == word

    def rewired(self, path: DataPath, now: float) -> None:
        """The network between members is another one from now on."""
        for name in path.members:
            well = name not in path.dark and all(name not in pair for pair in path.cuts)
            if not well:
                self._reached_since.pop(name, None)
            else:
                self._reached_since.setdefault(name, now)
            if any(path.reaches(other, name) for other in path.members if other != name):
                self._unreached_since[name] = None
            elif self._unreached_since.get(name) is None:
                self._unreached_since[name] = now

    def _unseen(self, name: str, now: float) -> bool:
        """Whether no other member can have told that the silent one is alive."""
        if name not in self._unreached_since:
            return True  # nobody probes
        since = self._unreached_since[name]
        return since is not None and now - since > WITNESS_S

    def _serves(self, name: str, written: Written, new: ResourceBinding) -> None:
        """Whether others are known to reach the cluster. Raises Broken."""
        if self._fenced(new) or name not in self._reached_since:
            return
        since = self._reached_since[name]
        witnesses = [
            other
            for other, facts in self._seen.facts.items()
            if other in self._reached_since
            and facts.beating_since is not None
            and facts.last_beat is not None
            and written.at - facts.last_beat < CLOCK.suspect_s
            and written.at - max(since, self._reached_since[other], facts.beating_since) > WITNESS_S
        ]
        cluster = self._seen.of("clusters").get(ObjectKey("", name), {})
        drained = any(
            t["effect"] == "NoExecute" for t in (cluster.get("spec") or {}).get("taints") or ()
        )
        up_s = written.at - self.server_since if self.server_since is not None else 0.0
        if witnesses and not drained and up_s > WITNESS_S:
            raise Broken("serves", f"{written.key} leaves {name}, which {witnesses} reach")

    def _switched(self, written: Written) -> None:
        if written.key.name != CONFIG_NAME:
            return
        spec = (written.new or {}).get("spec") or {}
        frozen = spec.get("failover", ENABLED) != ENABLED
        if not frozen:
            self._frozen_since = None
        elif self._frozen_since is None:
            self._frozen_since = written.at

    def _replays(self, key: ObjectKey, decision: Document) -> None:
        records = self._seen.of("fleetrecords")
        other = replays(decision, lambda name: records.get(ObjectKey("", name)))
        if other:
            raise Broken("replays", f"{key}: {other}")
        name = decision["spec"]["binding"]["name"]
        binding = self._seen.of("resourcebindings").get(ObjectKey(key.namespace, name))
        if preferred.scored(binding):
            record = records.get(ObjectKey("", decision["spec"]["inputs"].get("fleet", "")))
            if other := preferred.misjudged(decision, record):
                raise Broken("best", f"{key}: {other}")

    def _frozen(self, now: float) -> bool:
        return self._frozen_since is not None and now - self._frozen_since > AT_ONCE_S

    def _returns(self, written: Written, old: ResourceBinding | None, new: ResourceBinding) -> None:
        """Failback: nothing moved, and now something does though nobody asked anything. Raises Broken."""
        if old is None or old.metadata.uid != new.metadata.uid or question(old) != question(new):
            return
        if old.spec.graceful_eviction_tasks or not answered(old) or not answered(new):
            return
        before = {t.name: t.replicas for t in old.spec.clusters}
        gaining = [t.name for t in new.spec.clusters if t.replicas > before.get(t.name, 0)]
        if gaining and self._frozen(written.at):
            raise Broken("frozen", f"{written.key} goes back to {gaining} while failover is frozen")
        for name in gaining:
            cluster = self._seen.of("clusters").get(ObjectKey("", name))
            if cluster is None or written.at - self._seen.facts[name].standing_since < AT_ONCE_S:
                continue
            since = condition_of(cluster, "Ready").get("lastTransitionTime")
            well = (self._seen.wall(written.at) - parse_time(since)).total_seconds() if since else 0
            if ready(cluster) != "True" or well < STABILIZATION_S - AT_ONCE_S:
                raise Broken("calm", f"{written.key} goes back to {name}, well for {well:.1f} s")
            if taints := cluster["spec"].get("taints"):
                raise Broken("calm", f"{written.key} goes back to {name}, tainted {taints}")

    def _surge(self, written: Written, old: ResourceBinding, new: ResourceBinding) -> None:
        """The question is the same, so whatever is asked less of a cluster is let go by a move. Raises Broken."""
        if self._fenced(new):
            return  # one copy stops before the next one starts
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

    def _fenced(self, binding: ResourceBinding) -> bool:
        source = binding.spec.resource
        template = self._seen.of("deployments").get(ObjectKey(source.namespace, source.name), {})
        labels = (template.get("metadata") or {}).get("labels") or {}
        return bool(labels.get("mode") == "consistency")

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
            if self._unseen(n, written.at)
            and s > CLOCK.suspect_s + AT_ONCE_S
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
        if min(counts.values(), default=0) >= most - 1:
            return
        inside: dict[str, list[str]] = {}
        for name, zone in zone_of.items():
            inside.setdefault(zone, []).append(name)
        for zone, count in counts.items():
            members = inside[zone]
            if count >= most - 1 or not all(
                n not in out and self._steady(n, written.at, held) for n in members
            ):
                continue
            room = sum(
                self._least_room(n, written) + self._stood(n, written, held) for n in members
            )
            if count < room:
                raise Broken(
                    "zones", f"{written.key} gives {given}, though {zone} has room for {room}"
                )

    def _steady(self, name: str, now: float, held: dict[str, int]) -> bool:
        """Whether nobody can doubt that the member may get replicas."""
        cluster = self._seen.of("clusters")[ObjectKey("", name)]
        facts = self._seen.facts[name]
        if facts.last_beat is None or now - facts.last_beat > REGULAR_S:
            return False
        if now - max(facts.standing_since, facts.beating_since or now) <= DOUBT_S:
            return False  # what it owed while it was silent is owed for a moment more; also one that has replicas: uncordoned in this moment, it may still be known as cordoned
        return not cluster["spec"].get("taints") and (name in held or ready(cluster) == "True")

    def _least_room(self, name: str, written: Written) -> int:
        """Room for this binding that nobody can doubt."""
        reported = min((room for _, room in self._seen.facts[name].room), default=0)
        return max(0, reported - self._pledges.most(name, written.key, written.at))

    def _stood(self, name: str, written: Written, held: dict[str, int]) -> int:
        """Of what the binding held there, how much the member's report contains without doubt."""
        owed = self._pledges.own(name, written.key, written.at)
        return max(0, held.get(name, 0) - owed)

    # ------------------------------------------------------------------------------------------------- Works
    def _work(self, written: Written) -> None:
        cluster = written.key.namespace.removeprefix(EXECUTION_PREFIX)
        if written.old is None and ObjectKey("", cluster) not in self._seen.of("clusters"):
            raise Broken("cluster", f"Work {written.key} is for a cluster that is not known")
        if written.old is None and written.new is not None:
            self._born(written.new, cluster, written.at)
        marked = written.new is None or written.new["metadata"].get("deletionTimestamp")
        was_marked = written.old is not None and written.old["metadata"].get("deletionTimestamp")
        if not marked or was_marked or written.old is None:
            return
        why = self._still_wanted(written.old, cluster, written.at)
        if why:
            raise Broken("kept", f"Work {written.key} is deleted, but {why}")

    def _source(self, manifest: Document) -> Document | None:
        """What a Work without a binding carries, as it stands here."""
        return self._seen.of(EVERYWHERE[manifest["kind"]]).get(document_key(manifest))

    def _born(self, work: Document, cluster: str, now: float) -> None:
        """A new Work. Raises Broken."""
        (manifest,) = work["spec"]["workload"]["manifests"]
        key = _placed_by(work)
        what = f"a Work for {manifest['kind']} {manifest['metadata']['name']} in {cluster} is made"
        if key is None:
            if self._source(manifest) is None:
                raise Broken("live", f"{what}, but there is no such object")
            return
        if now - self._retargeted.get(key, 0.0) < AT_ONCE_S:
            return
        document = self._seen.binding(key)
        if document is None:
            raise Broken("live", f"{what}, but there is no binding {key}")
        if cluster not in asked(view(document)):
            raise Broken("live", f"{what}, but {key} gives it no place there")

    def _still_wanted(self, work: Document, cluster: str, now: float) -> str:
        key = _placed_by(work)
        (manifest,) = work["spec"]["workload"]["manifests"]
        if key is None:
            held = self._source(manifest)
            living = held is not None and not held["metadata"].get("deletionTimestamp")
            return f"its {manifest['kind']} lives" if living else ""
        document = self._seen.binding(key)
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
            state = facts.ready
            silent = now - max(self.server_since, facts.created_at, facts.last_beat or 0.0)
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
