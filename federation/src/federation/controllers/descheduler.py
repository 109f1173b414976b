"""Descheduler: replicas that a member has had no room for over five minutes are moved to where there is room, surge first.

A decision goes by reported room, and that may be wrong: nodes are fuller than their sum says, a quota or an affinity inside the member
refuses pods, nodes were lost since. Pods that a member's scheduler calls Unschedulable are then no replicas but wishes. The
planner is asked as if they were not placed and their cluster had no more room; what it can place elsewhere moves, the rest stays, and
so does every replica that runs. How long a pod is stuck is measured by this server's own clock from when it first saw it so.

Only what is divided by room moves (`dynamicWeight`, `Aggregated`): static weights and duplicates are the user's word. Workloads that
may not go back by themselves stay, and everything does while the operator holds failover or the server is cut off. Overflow tiers, later
affinity groups and federation v1's preferences come back by the placer itself.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from federation.clusters.candidates import candidates
from federation.controllers import placer
from federation.controllers.domains import EVERYTHING
from federation.controllers.reservations import Reservations
from federation.domains.names import cluster_verdict
from federation.domains.settings import Settings
from federation.domains.verdict import Finding
from federation.placement.capacity import PODS as POD_COUNT
from federation.placement.journal import MOST, PLACE, Asked
from federation.placement.model import Candidate, Decision, NoFit, Request
from federation.placement.plan import most, place
from federation.propagation import moves, questions
from federation.propagation.replays import Note, noted
from federation.propagation.resilience import grant_s, resilience
from federation.propagation.sources import Sources
from machinery.api.core import PODS, Pod
from machinery.api.fleet.cluster import CLUSTERS, MANAGED_LABEL
from machinery.api.fleet.resilience import FAILURE_DOMAINS, RESILIENCE_POLICIES, ResilienceSpec
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.controller.action import Action, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta import selectors
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey

BY_SHORT: Final = "descheduler-short"
STUCK_S: Final = 300.0
LOOK_S: Final = 30.0
MOVES_MAX: Final = 30
"""Workloads that begin to move in one pass."""


# ------------------------------------------------------------------------------------------------------------ who is looked at
def short(binding: ResourceBinding) -> list[str]:
    """Index of bindings that nothing moves, are divided by room, and have too few replicas ready somewhere."""
    if not by_room(binding) or binding.deleting or binding.spec.graceful_eviction_tasks:
        return []
    ready = {
        item.cluster_name: (item.status or {}).get("readyReplicas") or 0
        for item in binding.status.aggregated_status
    }
    lacks = any(ready.get(t.name, 0) < t.replicas for t in binding.spec.clusters)
    return ["yes"] if lacks else []


def by_room(binding: ResourceBinding) -> bool:
    """Whether the planner divides it by the room that there is."""
    placement = binding.spec.placement
    scheduling = placement.replica_scheduling if placement is not None else None
    if scheduling is None or scheduling.replica_scheduling_type != "Divided":
        return False
    if questions.stated_preferences(binding):
        return False
    weights = scheduling.weight_preference
    dynamic = weights is not None and bool(weights.dynamic_weight)
    return dynamic or scheduling.replica_division_preference == "Aggregated"


def unschedulable(pod: Pod) -> bool:
    """Whether its cluster's scheduler has found no node for it."""
    held = condition(pod.status.conditions, "PodScheduled")
    waits = held is not None and held.status == "False" and held.reason == "Unschedulable"
    return waits and not pod.deleting


class Stuck:
    """Since when pods have been seen unschedulable, on this server's monotonic clock."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def look(self, pods: Iterable[Pod], now: float) -> list[Pod]:
        """Those that have been so for long enough; whoever is not in `pods` is forgotten."""
        waiting = {pod.metadata.uid: pod for pod in pods if unschedulable(pod)}
        self._since = {uid: self._since.get(uid, now) for uid in waiting}
        return [pod for uid, pod in waiting.items() if now - self._since[uid] >= STUCK_S]


def counted(pods: Iterable[Pod], selector: Document) -> dict[str, int]:
    """Pods of a workload by cluster."""
    matches = selectors.from_object(selector).matches
    found: dict[str, int] = {}
    for pod in pods:
        name = pod.metadata.labels.get(MANAGED_LABEL, "")
        if name and matches(pod.metadata.labels):
            found[name] = found.get(name, 0) + 1
    return found


# ------------------------------------------------------------------------------------------------------------------- plan
@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What the planner found: it was asked for all that is stuck (PLACE), or as much of it as fits (MOST)."""

    asked: Asked
    decision: Decision


def plan(
    binding: ResourceBinding, stuck: Mapping[str, int], fleet: Sequence[Candidate], now: str
) -> list[Action]:
    """The move of what is stuck, as far as there is room. `stuck`: replicas by cluster."""
    state = moves.state_of(binding)
    held = {n: min(c, state.clusters[n]) for n, c in stuck.items() if state.clusters.get(n)}
    idle = state.tasks or state.displaced is not None or questions.open_question(binding)
    if not held or idle or not questions.placeable(binding):
        return []
    rest = {n: c - held.get(n, 0) for n, c in state.clusters.items() if c > held.get(n, 0)}
    request = replace(questions.request_of(binding, fresh=False), previous=rest)
    found = _elsewhere(request, [_full(c) if c.name in held else c for c in fleet])
    if found is None:
        return []
    target = _with_the_rest(found.decision.targets, held, sum(state.clusters.values()))
    if target == dict(state.clusters):
        return []
    after = moves.decided(state, target, now)
    text = (
        f"{sum(held.values())} replicas found no node in {', '.join(sorted(held))} for "
        f"{STUCK_S:g} s: {_shown(state.clusters)} becomes {_shown(target)}"
    )
    actions: list[Action] = [
        moves.patch(binding, after),
        *placer.say(binding, "Normal", "Descheduled", text),
    ]
    before = dict(state.clusters)
    note = Note("descheduler", found.asked, found.decision, before, questions.question(binding))
    return noted(actions, note)


def _full(candidate: Candidate) -> Candidate:
    """A cluster that has no room for this workload, whatever it reports."""
    none = dict.fromkeys((*(candidate.free or {}), POD_COUNT), 0)
    return msgspec.structs.replace(candidate, free=none, shapes=(), reserved={})


def _elsewhere(request: Request, fleet: list[Candidate]) -> Elsewhere | None:
    try:
        return Elsewhere(Asked(PLACE, request, fleet), place(request, fleet))
    except NoFit:
        part = most(request, fleet)
        return None if part is None else Elsewhere(Asked(MOST, request, fleet), part)


def _with_the_rest(
    found: Mapping[str, int], held: Mapping[str, int], wanted: int
) -> dict[str, int]:
    """What has no place elsewhere goes on waiting where it waits."""
    target = dict(found)
    left = wanted - sum(target.values())
    for name in sorted(held):
        if left > 0:
            waits = min(left, held[name])
            target[name] = target.get(name, 0) + waits
            left -= waits
    return target


def _shown(clusters: Mapping[str, int]) -> str:
    return "{" + ", ".join(f"{name}:{count}" for name, count in sorted(clusters.items())) + "}"


class DeschedulerReconciler:
    """The whole fleet at once, every half minute while somebody is short."""

    def __init__(
        self, manager: Manager, settings: Callable[[], Settings], room: Reservations
    ) -> None:
        self._clock, self._client, self._executor = manager.clock, manager.client, manager.executor
        self._settings, self._room, self._stuck = settings, room, Stuck()
        self._clusters = manager.informer(CLUSTERS)
        self._domains = manager.informer(FAILURE_DOMAINS)
        self._policies = manager.informer(RESILIENCE_POLICIES)
        self._sources = Sources(manager.informer)
        self._bindings = manager.informer(RESOURCE_BINDINGS)
        self._bindings.add_index(BY_SHORT, short)
        self.awake = False
        """Whether it looks again by itself: then a change of a binding need not wake it."""

    async def reconcile(self, _: ObjectKey) -> Result:
        bindings = sorted(self._bindings.by_index(BY_SHORT, "yes"), key=lambda b: b.key)
        pods = await self._pods({b.metadata.namespace for b in bindings})
        stuck = self._stuck.look(pods, self._clock.monotonic())
        actions: list[Action] = []
        moved = 0
        for binding in bindings if stuck and not self._cut_off() else []:
            found = self._move(binding, stuck)
            moved += bool(found)
            actions += found
            if moved == MOVES_MAX:
                break
        self.awake = bool(bindings)
        result = await self._executor.apply(actions)
        return replace(result, requeue_after=LOOK_S) if bindings else result

    async def _pods(self, namespaces: Iterable[str]) -> list[Pod]:
        """Of members, as they are shown here."""
        found: list[Pod] = []
        for namespace in sorted(namespaces):
            listed = await self._client.list(PODS, namespace)
            found += [pod for pod in listed.items if unschedulable(pod)]
        return found

    def _move(self, binding: ResourceBinding, stuck: Iterable[Pod]) -> list[Action]:
        template = self._sources.placed_by(binding)
        own = resilience(template, self._policies.list())
        if template is None or not placer.may_return(own, self._settings()):
            return []
        if self._room.busy_s(binding.key):
            return []
        home = [p for p in stuck if p.metadata.namespace == binding.metadata.namespace]
        selector = (template.get("spec") or {}).get("selector") or {}
        counts = counted(home, selector) if selector else {}
        fleet = self._fleet(binding, own)
        actions = plan(binding, counts, fleet, rfc3339(self._clock.now()))
        self._room.remember(binding, actions)
        return actions

    def _fleet(self, binding: ResourceBinding, own: ResilienceSpec) -> list[Candidate]:
        fleet = candidates(self._clusters.list(), granted=grant_s(own) is not None)
        others = [
            (other, self._room.lately.clusters(other))
            for other in self._bindings.list(binding.metadata.namespace)
            if other.key != binding.key
        ]
        return placer.barred(binding, self._room.left(fleet, binding), others, self._sources)

    def _cut_off(self) -> bool:
        return cluster_verdict(self._domains.get(EVERYTHING)) == Finding.CUT_OFF.value


def setup(manager: Manager, settings: Callable[[], Settings], room: Reservations) -> None:
    """Bindings that are short of ready replicas; then by the clock."""
    reconciler = DeschedulerReconciler(manager, settings, room)

    def of_binding(binding: ResourceBinding) -> list[ObjectKey]:
        return [EVERYTHING] if not reconciler.awake and short(binding) else []

    controller = manager.controller("descheduler", reconciler, workers=1)
    controller.watches(RESOURCE_BINDINGS, of_binding)
