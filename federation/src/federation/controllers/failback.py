"""Failback: when the fleet has been well for a while, what failover displaced is balanced again, surge first.

The planner is asked for the placement that it would choose today if the one from before the failure still stood; so
a balanced workload comes out balanced, and a steady one goes back where it was. New copies start first, old ones go when
as many are ready (`federation.propagation.moves`), and only so many workloads a minute begin.

A move that would disturb a cluster beyond a PlacementDisruptionBudget of the workload waits until it does not.

A cluster counts as well when it has been Ready for the whole stabilisation window, is believed and carries no taint. Where there
are maintenance windows (the policy's, else the federation's), moves begin only while one is open, and no faster than the
policy's own rate, if it has one.
"""

import datetime as dt
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from federation.clusters.candidates import candidates
from federation.controllers import domains, evictor, failover, placer
from federation.controllers.health import ready_s
from federation.controllers.reservations import Reservations
from federation.controllers.rollouts import guard
from federation.domains.names import cluster_verdict
from federation.domains.settings import ENABLED, Settings
from federation.domains.verdict import Finding
from federation.placement.journal import PLACE, Asked
from federation.placement.ledger import less
from federation.placement.model import Candidate, NoFit
from federation.placement.plan import place
from federation.propagation import components, moves, questions, windows
from federation.propagation.demand import demand_of
from federation.propagation.moves import State
from federation.propagation.replays import Note, noted
from federation.propagation.resilience import DEFAULT, speaker
from federation.propagation.scopes import SCOPES, Bindings
from federation.propagation.sources import Sources
from machinery.api.coordination import LEASES
from machinery.api.fleet.cluster import CLUSTER_LEASES, CLUSTERS, INVENTORY, READY, Cluster
from machinery.api.fleet.resilience import (
    FAILURE_DOMAINS,
    FEDERATION_CONFIGS,
    RESILIENCE_POLICIES,
    Failback,
)
from machinery.api.fleet.rollouts import DISRUPTION_BUDGETS
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, RequeueAfter, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document, ObjectKey

EVERYTHING = ObjectKey("", "fleet")
BY_DISPLACED = "failback-displaced"
MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Health:
    """How long each usable cluster has been well, in seconds; the others are not in it."""

    well_s: Mapping[str, float]
    present: frozenset[str]
    """Clusters that have not left."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be done about one binding: `target` None and no wait means that nothing is displaced any more."""

    target: Mapping[str, int] | None = None
    group: str = ""
    """The affinity group of the target."""
    wait_s: float | None = None
    done: bool = False
    policy: str = ""
    """Of its ResiliencePolicy, if that has a rate of its own."""
    held: str = ""
    """Why a disruption budget makes it wait."""
    note: Note | None = field(default=None, compare=False, repr=False)
    """How the target was found."""


def room_without(
    fleet: Sequence[Candidate], state: State, supposed: Mapping[str, int], asks: Mapping[str, int]
) -> list[Candidate]:
    """Candidates whose room is told as if `supposed` stood instead of the present placement."""
    told = []
    for candidate in fleet:
        more = state.clusters.get(candidate.name, 0) - supposed.get(candidate.name, 0)
        if candidate.free is None or not more:
            told.append(candidate)
            continue
        one = dict(asks) | {evictor.PODS: 1}
        told.append(less(candidate, {name: -value * more for name, value in one.items()}))
    return told


def wish(
    binding: ResourceBinding, fleet: Sequence[Candidate], health: Health, window_s: float
) -> Wish:
    """Where the binding should go back to, if anywhere. `fleet`: usable clusters only."""
    state = moves.state_of(binding)
    if state.displaced is None or state.tasks or questions.open_question(binding):
        return Wish()
    usable = {c.name for c in fleet}
    supposed = {n: c for n, c in state.displaced.items() if n in usable}
    # From the first affinity group on: the failure may have pushed it into a later one.
    asked = questions.request_of(binding, fresh=False)
    request = replace(asked, previous=supposed, affinity_name="")
    told = Asked(PLACE, request, room_without(fleet, state, supposed, request.asks))
    try:
        decision = place(request, told.fleet)
    except NoFit:
        return Wish(wait_s=placer.REPORTS_S if any(c.reserved for c in fleet) else None)
    target = dict(decision.targets)
    if sum(target.values()) < sum(state.clusters.values()):
        return Wish()
    gaining = [name for name, count in target.items() if count > state.clusters.get(name, 0)]
    if not state.displaced.keys() & gaining:  # nothing goes back where it was
        away = (state.displaced.keys() - usable) & health.present
        return Wish(done=not away)
    youngest = min(health.well_s.get(name, 0.0) for name in gaining)
    if youngest < window_s:
        return Wish(wait_s=window_s - youngest)
    note = Note("failback", told, decision, state.clusters, questions.question(binding))
    return Wish(target, decision.affinity_name, note=note)


def returned(
    binding: ResourceBinding, target: Mapping[str, int], group: str, now: str
) -> list[Action]:
    """The move, and what is told of it."""
    state = moves.state_of(binding)
    why = "kept until as many replicas are ready where they move back to"
    after = moves.shift(state, target, now, why)
    result = ", ".join(f"{name}:{count}" for name, count in sorted(target.items()))
    before = ", ".join(f"{name}:{count}" for name, count in sorted(state.clusters.items()))
    text = f"balanced again, surge first: {{{before}}} becomes {{{result}}}"
    moved = moves.patch(binding, after, questions.in_group(binding, group))
    return [moved, *placer.say(binding, "Normal", "Failback", text)]


def forgotten(binding: ResourceBinding) -> list[Action]:
    """Nothing is displaced any more."""
    return [moves.patch(binding, replace(moves.state_of(binding), displaced=None))]


def allowed(starts: deque[float], now: float, per_minute: int) -> int:
    """How many workloads may begin now."""
    while starts and starts[0] <= now - MINUTE_S:
        starts.popleft()
    return max(0, per_minute - len(starts))


NO_QUOTAS: Mapping[str, tuple[int, float]] = {}
"""Of policies with a rate of their own: how many may begin now, and in how many seconds another one may."""


def begins(
    wishes: Sequence[tuple[ResourceBinding, Wish]],
    quota: int,
    own: Mapping[str, tuple[int, float]] = NO_QUOTAS,
) -> list[bool]:
    """Which of the wishes begin now: as many as all quotas have, in the given order."""
    left = {policy: count for policy, (count, _) in own.items()}
    found: list[bool] = []
    for _, wanted in wishes:
        may = wanted.target is not None and quota > 0 and left.get(wanted.policy, 1) > 0
        if may:
            quota -= 1
            if wanted.policy in left:
                left[wanted.policy] -= 1
        found.append(may)
    return found


def plan(
    wishes: Sequence[tuple[ResourceBinding, Wish]],
    quota: int,
    next_s: float,
    now: str,
    own: Mapping[str, tuple[int, float]] = NO_QUOTAS,
) -> list[Action]:
    """Moves within the quotas, in the given order; `next_s` is when there is quota again."""
    actions: list[Action] = []
    waits: list[float] = []
    for (binding, wanted), may in zip(wishes, begins(wishes, quota, own), strict=True):
        if wanted.done:
            actions += forgotten(binding)
        elif wanted.wait_s is not None:
            waits.append(wanted.wait_s)
            if wanted.held:
                actions += placer.say(binding, "Normal", "FailbackHeld", wanted.held)
        elif wanted.target is not None and may:
            back = returned(binding, wanted.target, wanted.group, now)
            actions += noted(back, wanted.note)
        elif wanted.target is not None:
            waits.append(max(next_s, own.get(wanted.policy, (1, 0.0))[1]))
    return [*actions, RequeueAfter(max(0.1, min(waits)))] if waits else actions


def rules(own: Failback, settings: Settings) -> tuple[bool, float]:
    """Whether the workload goes back, and after how long, by its policy over the federation's settings."""
    window = own.stabilization_seconds
    automatic = own.mode != "Never" and settings.failback
    return automatic, settings.stabilization_s if window is None else window


def opens_s(own: Failback, settings: Settings, now: dt.datetime) -> float:
    """Seconds until the workload may begin to go back, by its policy's maintenance windows or the federation's. Raises ValueError."""
    if own.windows:
        return windows.opens_s(own.windows, own.time_zone or settings.failback_time_zone, now)
    return windows.opens_s(settings.failback_windows, settings.failback_time_zone, now)


class FailbackReconciler:
    """The whole fleet at once: the pace is one for all."""

    def __init__(
        self, manager: Manager, settings: Callable[[], Settings], room: Reservations
    ) -> None:
        self._clock, self._settings, self._room = manager.clock, settings, room
        self._executor = manager.executor
        self._guard = guard.Guard(manager)
        self._clusters = manager.informer(CLUSTERS)
        self._leases = manager.informer(LEASES, CLUSTER_LEASES)
        self._domains = manager.informer(FAILURE_DOMAINS)
        self._policies = manager.informer(RESILIENCE_POLICIES)
        self._sources = Sources(manager.informer, demand=demand_of(manager.informer))
        self._bindings = Bindings(manager.informer)
        self._bindings.add_index(BY_DISPLACED, displaced)
        self._starts: deque[float] = deque()
        self._own_starts: dict[str, deque[float]] = {}
        self._rates: dict[str, int] = {}

    async def reconcile(self, _: ObjectKey) -> Result:
        bindings = self._bindings.by_index(BY_DISPLACED, "yes")
        settings = self._settings()
        fleet = self._domains.get(domains.EVERYTHING)
        cut_off = cluster_verdict(fleet) == Finding.CUT_OFF.value
        if not bindings or settings.failover != ENABLED or cut_off:
            return Result()
        wall, now = self._clock.now(), self._clock.monotonic()
        usable = [c for c in self._clusters.list() if self._usable(c)]
        health = Health(
            {c.metadata.name: ready_s(c, wall) for c in usable},
            frozenset(c.metadata.name for c in self._clusters.list() if not c.deleting),
        )
        ordered = sorted(bindings, key=lambda b: b.key)
        whole = candidates(usable)
        self._rates.clear()
        wishes = [(b, self._wish(b, self._room.left(whole, b), health, settings)) for b in ordered]
        quota = allowed(self._starts, now, settings.failback_per_minute)
        next_s = self._starts[0] + MINUTE_S - now if self._starts else 1.0
        own = self._own_quotas(now)
        result = await self._executor.apply(plan(wishes, quota, next_s, rfc3339(wall), own))
        for wanted, may in zip([w for _, w in wishes], begins(wishes, quota, own), strict=True):
            if may:
                self._starts.append(now)
                if wanted.policy in own:
                    self._own_starts[wanted.policy].append(now)
        return result

    def _own_quotas(self, now: float) -> dict[str, tuple[int, float]]:
        found: dict[str, tuple[int, float]] = {}
        for policy, rate in self._rates.items():
            starts = self._own_starts.setdefault(policy, deque())
            left = allowed(starts, now, rate)
            found[policy] = (left, starts[0] + MINUTE_S - now if starts and not left else 0.0)
        return found

    def _usable(self, cluster: Cluster) -> bool:
        lease = self._leases.get(ObjectKey(CLUSTER_LEASES, cluster.metadata.name))
        return failover.believed(cluster, lease) and not cluster.spec.taints

    def _wish(
        self,
        binding: ResourceBinding,
        fleet: Sequence[Candidate],
        health: Health,
        settings: Settings,
    ) -> Wish:
        template = self._sources.get(binding.spec.resource)
        policy = speaker(template, self._policies.list()) if template is not None else None
        own = policy.spec if policy is not None else DEFAULT
        automatic, window_s = rules(own.failback, settings)
        if not automatic or own.mode == "consistency" or not questions.placeable(binding):
            return Wish()
        if wait_s := self._room.busy_s(binding.key):
            return Wish(wait_s=wait_s)
        others = [
            (other, [t.name for t in other.spec.clusters])
            for other in self._bindings.beside(binding)
        ]
        allowed_there = placer.barred(binding, fleet, others, self._sources)
        found = wish(binding, allowed_there, health, window_s)
        if found.target is None:
            return found
        if held := self._closed(own.failback, settings):
            return held
        if policy is not None and own.failback.rate_per_minute is not None:
            self._rates[str(policy.key)] = own.failback.rate_per_minute
            found = replace(found, policy=str(policy.key))
        why = self._held(binding, template, found.target) if found.target is not None else ""
        return Wish(wait_s=guard.LOOK_S, held=why) if why else found

    def _closed(self, own: Failback, settings: Settings) -> Wish | None:
        """No maintenance window is open."""
        try:
            wait_s = opens_s(own, settings, self._clock.now())
        except ValueError as error:
            return Wish(wait_s=guard.LOOK_S, held=f"it goes back in no window: {error}")
        return Wish(wait_s=wait_s) if wait_s > 0 else None

    def _held(
        self, binding: ResourceBinding, template: Document | None, target: Mapping[str, int]
    ) -> str:
        """Why a cluster that is to give up replicas may not be disturbed now."""
        held = components.placed(binding)
        losing = [name for name, count in held.items() if target.get(name, 0) < count]
        why = (
            self._guard.refusal(binding, template, name, frozenset(losing[:i]))
            for i, name in enumerate(losing)
        )
        return next(filter(None, why), "")


def displaced(binding: ResourceBinding) -> list[str]:
    """Index of bindings that failover moved and that nothing moves now."""
    moved = moves.DISPLACED in binding.metadata.annotations
    return ["yes"] if moved and not binding.spec.graceful_eviction_tasks else []


def setup(manager: Manager, settings: Callable[[], Settings], room: Reservations) -> None:
    """Displaced bindings, clusters that become ready, believed or free of taints, and the operator's settings."""
    states: dict[str, object] = {}

    def of_cluster(cluster: Cluster) -> list[ObjectKey]:
        state = (
            is_true(cluster.status.conditions, READY),
            cluster.metadata.annotations.get(INVENTORY),
            cluster.spec.taints,
            cluster.deleting,
        )
        if states.get(cluster.metadata.name) == state:
            return []
        states[cluster.metadata.name] = state
        return [EVERYTHING]

    controller = manager.controller(
        "failback", FailbackReconciler(manager, settings, room), workers=1
    )
    for scope in SCOPES:
        controller.watches(scope.bindings, lambda b: [EVERYTHING] if displaced(b) else [])
    controller.watches(CLUSTERS, of_cluster)
    controller.watches(RESILIENCE_POLICIES, lambda _: [EVERYTHING])
    controller.watches(FEDERATION_CONFIGS, lambda _: [EVERYTHING])
    controller.watches(DISRUPTION_BUDGETS, lambda _: [EVERYTHING])
