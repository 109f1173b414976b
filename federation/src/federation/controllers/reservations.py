"""The fleet's room as decisions may use it: reports of members, less what was decided since, less what is kept free.

The edge of `federation.placement.ledger` and `federation.placement.headroom`. It hears of bindings and clusters as the informers
do and is told of every decision at once, since the next one may come before any watch shows the last. Placer, evictor
and failback share one. It writes nothing: after a restart it is what the bindings say, by the time of their last decision.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from federation.clusters.estimates import Estimates, Estimator
from federation.controllers.health import Heartbeats
from federation.placement import platforms
from federation.placement.headroom import Demand, Demands
from federation.placement.ledger import Book, Ledger, Standing, less
from federation.placement.model import Candidate
from federation.propagation import components, moves
from federation.propagation.resilience import demands
from federation.propagation.scopes import Bindings
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Patch
from machinery.controller.manager import Manager
from machinery.meta.resource import Document, ObjectKey

COUNTED = frozenset({"Deployment", "ReplicaSet", "ReplicationController", "StatefulSet"})
"""Kinds whose status tells how many pods there are; none means 0."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision writes on a binding."""

    clusters: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)

    @property
    def running(self) -> Mapping[str, int]:
        """What each cluster is asked to run."""
        if not self.kept:
            return self.clusters
        names = self.clusters.keys() | self.kept.keys()
        return {n: self.clusters.get(n, 0) + self.kept.get(n, 0) for n in names}


def stands(binding: ResourceBinding) -> Decided:
    """As the binding itself says."""
    return Decided(components.placed(binding), moves.kept(binding))


def written(actions: Iterable[Action]) -> Decided | None:
    """As these actions will make it; None when they change no clusters."""
    for action in actions:
        if not isinstance(action, Patch) or not isinstance(action.patch, Mapping):
            continue
        spec: Document = action.patch.get("spec") or {}
        if "clusters" in spec:
            kept: dict[str, int] = {}
            for task in spec.get("gracefulEvictionTasks") or ():
                name = task["fromCluster"]
                kept[name] = kept.get(name, 0) + (task.get("replicas") or 0)
            counts = {c["name"]: components.count_of(c) for c in spec["clusters"] or ()}
            return Decided(counts, kept)
    return None


def shown(binding: ResourceBinding) -> tuple[dict[str, int], bool]:
    """Pods that each cluster reports of the workload, and whether its kind tells them at all."""
    counted = binding.spec.resource.kind in COUNTED
    told: dict[str, int] = {}
    for item in binding.status.aggregated_status:
        count = (item.status or {}).get("replicas")
        if isinstance(count, int):
            counted = True
            told[item.cluster_name] = count
    return told, counted


def standing(binding: ResourceBinding, decided: Decided) -> Standing:
    """The binding for the ledger."""
    told, counted = shown(binding)
    suspension, source = binding.spec.suspension, binding.spec.resource
    asks, required = components.asks_of(binding), binding.spec.replica_requirements
    built, _ = platforms.read(binding.metadata.annotations)
    only = platforms.only_one(built, required.node_claim if required is not None else None)
    return Standing(
        binding.key,
        source.uid or binding.metadata.uid,
        asks | platforms.asks_of(asks, only),
        decided.running,
        told,
        counted,
        held=suspension is not None and suspension.dispatching,
    )


def demand(binding: ResourceBinding, decided: Decided) -> Demand | None:
    """The room that is to be kept free for it; None where none is. A cluster that runs all replicas needs nobody's room."""
    by, placement = demands(binding.metadata.annotations).headroom_key, binding.spec.placement
    scheduling = placement.replica_scheduling if placement is not None else None
    divided = scheduling is not None and scheduling.replica_scheduling_type == "Divided"
    if not by or placement is None or not divided or binding.deleting:
        return None
    lost = 0
    if moves.evicting(binding):
        lost = max(0, components.wanted(binding) - sum(decided.clusters.values()))
    return Demand(by, placement, components.asks_of(binding), dict(decided.clusters), lost)


def _asks(binding: ResourceBinding) -> bool:
    """Whether there is anything to reserve room for: also of a workload that shall run no more, in clusters that could not
    be told so."""
    spec = binding.spec
    wanted = spec.replicas or spec.components or spec.graceful_eviction_tasks
    return bool(wanted) or any(target.replicas for target in spec.clusters)


def _counts_as(old: ResourceBinding, new: ResourceBinding) -> bool:
    """Whether both take the same room: most changes of a binding are of its conditions."""
    return (
        old.spec == new.spec
        and old.status.aggregated_status == new.status.aggregated_status
        and old.metadata.annotations == new.metadata.annotations
        and old.deleting == new.deleting
    )


class Lately:
    """Decisions that no watch has shown yet, by the version of the binding that they were made on."""

    def __init__(self) -> None:
        self._decided: dict[ObjectKey, tuple[str, Decided]] = {}

    def remember(self, binding: ResourceBinding, actions: Iterable[Action]) -> Decided | None:
        """The clusters that these actions write on the binding as it was read."""
        decided = written(actions)
        if decided is not None:
            self._decided[binding.key] = (binding.metadata.resource_version, decided)
        return decided

    def lost(self, binding: ResourceBinding) -> bool:
        """Whether the last decision on it has not been written, as another one had written before."""
        version, decided = self._decided.get(binding.key, ("", None))
        unseen = decided is not None and version != binding.metadata.resource_version
        return unseen and decided != stands(binding)

    def decided(self, binding: ResourceBinding) -> Decided:
        """How the binding is decided to be; another version of it knows better."""
        self.outdate(binding)
        _, decided = self._decided.get(binding.key, ("", None))
        return stands(binding) if decided is None else decided

    def outdate(self, binding: ResourceBinding) -> None:
        """Forget what was decided on another version of it."""
        if (held := self._decided.get(binding.key)) and held[
            0
        ] != binding.metadata.resource_version:
            self.forget(binding.key)

    def pending(self, binding: ResourceBinding) -> bool:
        """Whether this very version of it was decided otherwise before."""
        self.outdate(binding)
        return binding.key in self._decided and self._decided[binding.key][1] != stands(binding)

    def clusters(self, binding: ResourceBinding) -> frozenset[str]:
        """Where the binding is decided to be."""
        return frozenset(self.decided(binding).clusters)

    def forget(self, key: ObjectKey) -> None:
        """The binding is gone, or another one by now."""
        _ = self._decided.pop(key, None)


class Reservations:
    """One for all controllers that decide by room."""

    def __init__(
        self, manager: Manager, estimator: Estimator, beats: Heartbeats | None = None
    ) -> None:
        """Without the members' heartbeats all of them count as heard."""
        self._clock = manager.clock
        self.estimates = Estimates(manager.clock, estimator)
        self.lately = Lately()
        self.ledger = Ledger(listening=beats is not None)
        self.demands = Demands()
        self._made: dict[str, tuple[Candidate, int, Candidate]] = {}
        if beats is not None:
            beats.on_word(self._heard)
        manager.informer(CLUSTERS).on_change(self._cluster)
        Bindings(manager.informer).on_change(self._binding)

    def remember(self, binding: ResourceBinding, actions: Iterable[Action]) -> None:
        """A decision on the binding as it was read, which is about to be written."""
        again = self.lately.pending(binding)
        decided = self.lately.remember(binding, actions)
        if decided is not None:
            if again:  # the same version of it was decided before: that failed
                self.ledger.void(binding.key)
            self._stand(binding, decided, None)

    def left(self, fleet: Iterable[Candidate], binding: ResourceBinding) -> list[Candidate]:
        """The fleet with the room that a decision on the binding may use."""
        found = self.unreserved(fleet)
        if not self.demands:
            return found
        kept = self.demands.kept(found, but=binding.key)
        return [less(c, kept.get(c.name, {})) for c in found]

    def unreserved(self, fleet: Iterable[Candidate]) -> list[Candidate]:
        """The fleet without what decisions have given away; what is kept free for losses is in it."""
        now = self._clock.monotonic()
        return [self._unreserved(c, self.ledger.book(c.name, now)) for c in fleet]

    def _unreserved(self, candidate: Candidate, book: Book | None) -> Candidate:
        """The same object again while nothing has changed: a decision of a burst changes few members."""
        if book is None:
            return candidate
        made = self._made.get(candidate.name)
        if made is not None and made[0] is candidate and made[1] == book.version:
            return made[2]
        left = less(candidate, book.sums)
        self._made[candidate.name] = (candidate, book.version, left)
        return left

    def busy_s(self, key: ObjectKey) -> float:
        """Seconds until the binding's own replicas are counted once, in the members' reports."""
        return self.ledger.busy_s(key, self._clock.monotonic())

    # -------------------------------------------------------------------------------------------------- hearing
    def _binding(self, old: ResourceBinding | None, new: ResourceBinding | None) -> None:
        if new is None:
            if old is not None:
                self.lately.forget(old.key)
                self.ledger.gone(old.key, self._clock.monotonic())
                self.demands.put(old.key, None)
            return
        if self.lately.lost(new):
            self.ledger.void(new.key)
        elif old is not None and _counts_as(old, new):
            self.lately.outdate(new)
            return
        if _asks(new) or (old is not None and _asks(old)):
            self._stand(new, self.lately.decided(new), self._since(new) if old is None else None)

    def _stand(self, binding: ResourceBinding, decided: Decided, since: float | None) -> None:
        self.ledger.stand(standing(binding, decided), self._clock.monotonic(), since)
        self.demands.put(binding.key, demand(binding, decided))

    def _since(self, binding: ResourceBinding) -> float | None:
        """When a binding that is new to us was decided, by our clock."""
        last = binding.status.last_scheduled_time
        if last is None:
            return None
        age = (self._clock.now() - last).total_seconds()
        return self._clock.monotonic() - max(0.0, age)

    def _cluster(self, old: Cluster | None, new: Cluster | None) -> None:
        if new is None and old is not None:
            self.ledger.left(old.metadata.name)
            _ = self._made.pop(old.metadata.name, None)

    def _heard(self, cluster: str, away: bool) -> None:
        self.ledger.heard(cluster, self._clock.monotonic(), away=away)
