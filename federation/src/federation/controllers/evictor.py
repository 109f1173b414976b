"""Evictor: replicas leave clusters that are dead or being drained, the most important first, as fast as there is room.

It only says so in the binding (`federation.propagation.moves`): the cluster is out, what it runs is kept, the question
is open again; the placer decides where the replicas go. Nothing is deleted in a dead cluster: its Work stays. Nothing
begins while the server itself is cut off, or while the operator has frozen failover; in a dry run it is only told.

A cluster whose link alone is cut keeps what it serves. What does not outlive the loss of the federation there leaves it when
it has stopped by itself, for then no copy runs at all:

    mode           stopAfterDisconnect   dead                      only its link is cut
    availability   none                  at once                   stays
    availability   N                     at once                   after N, its grace and drift: when it has stopped
    consistency    (grantSeconds)        after the last grant      after the last grant
    any, failover Disabled               stays                     stays

An operator who drains such a cluster gets what is asked for: new copies elsewhere, and the old ones until they are seen.

A workload whose policy has `spec.failover.application` leaves a cluster for its own health too, when its account there says so
(`federation.propagation.applications`) and another cluster has room for it; until then it stays, which is told.

A drain, which is done on purpose, waits where a PlacementDisruptionBudget of the workload says so; a dead cluster waits for none.

The pace follows the survivors: with twice the room that is needed up to 50 bindings a second, with less in proportion,
never less than one. Room that was given away since the survivors' last reports is not counted
(`federation.controllers.reservations`), so a burst slows down as it fills them.
"""

import datetime as dt
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from federation.clusters.candidates import candidates
from federation.controllers import domains, placer, volumes
from federation.controllers.applications import failing
from federation.controllers.checkpoints import held_back, lost
from federation.controllers.health import Heartbeats, ready_s
from federation.controllers.reservations import Reservations
from federation.controllers.rollouts import guard
from federation.domains.clock import LOOK_LATE_S
from federation.domains.names import cluster_verdict, domain_name
from federation.domains.settings import DRY_RUN, ENABLED, Settings
from federation.domains.verdict import Finding
from federation.placement.model import Candidate, NoFit
from federation.placement.plan import place
from federation.propagation import components, evictions, interpreter, moves, questions
from federation.propagation.demand import demand_of
from federation.propagation.departures import (
    Cause,
    Due,
    Workload,
    cause_of,
    due_of,
    dues_of_health,
    mark,
    ordered,
    witnessed,
)
from federation.propagation.replays import Eviction, evicted, noted
from federation.propagation.resilience import resilience
from federation.propagation.scopes import SCOPES, Bindings
from federation.propagation.sources import Sources
from machinery.api.fleet.cluster import CLUSTERS, READY, Cluster
from machinery.api.fleet.resilience import (
    FAILURE_DOMAINS,
    FEDERATION_CONFIGS,
    RESILIENCE_POLICIES,
    ResiliencePolicy,
    Volumes,
)
from machinery.api.fleet.rollouts import DISRUPTION_BUDGETS
from machinery.api.fleet.work import ResourceBinding
from machinery.client.interface import dynamic
from machinery.controller.action import Action, RequeueAfter, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import parse_time, rfc3339
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document, ObjectKey

EVERYTHING = ObjectKey("", "fleet")
PRIORITY_CLASSES = dynamic("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False)
BY_CLUSTER = "evictor-cluster"
BY_FAILING = "evictor-failing"
RATE_MAX, RATE_MIN = 50.0, 1.0
"""Bindings a second."""
ROUND_S = 0.5
LOOKED_AT = int(RATE_MAX * ROUND_S)
"""Workloads that want to leave for their health, of which is found out in a round whether they have room elsewhere."""
HELD_S = 30.0
"""Those that have none are looked at again after so long."""
PODS = "pods"


@dataclass(frozen=True, slots=True)
class Round:
    """What is known at one moment."""

    due: Sequence[Due]
    survivors: Sequence[Candidate]
    settings: Settings
    cut_off: bool = False
    now: str = ""
    told: frozenset[tuple[str, str, str]] = field(default=frozenset())
    """(binding uid, cluster, since) of dry runs that were told already."""


def rate(due: Iterable[Due], survivors: Iterable[Candidate]) -> float:
    """Bindings a second, by the scarcest resource of the survivors."""
    need: dict[str, int] = {}
    for item in due:
        count = components.wanted(item.binding)
        asks = components.asks_of(item.binding)
        for name, value in (asks | {PODS: 1}).items():
            need[name] = need.get(name, 0) + value * count
    free: dict[str, int] = {}
    for survivor in survivors:
        for name, value in (survivor.free or {}).items():
            free[name] = free.get(name, 0) + max(0, value)
    shares = [free[name] / wanted for name, wanted in need.items() if wanted and name in free]
    return max(RATE_MIN, RATE_MAX * min([1.0, *(share / 2 for share in shares)]))


def plan(round_: Round) -> list[Action]:
    """Evictions of this round, in order, and when the next one is."""
    ready = ordered(d for d in round_.due if d.wait_s <= 0)
    waits = [d.wait_s for d in round_.due if d.wait_s > 0]
    later: list[Action] = [RequeueAfter(min(waits) + LOOK_LATE_S)] if waits else []
    if round_.cut_off or round_.settings.failover not in (ENABLED, DRY_RUN):
        return []
    if round_.settings.failover == DRY_RUN:
        return [a for d in ready if mark(d) not in round_.told for a in _would(d)] + later
    pace = rate(ready, round_.survivors)
    count = max(1, int(pace * ROUND_S))
    actions = [a for d in ready[:count] for a in _evicted(d, round_.now)]
    if len(ready) > count:
        later.append(RequeueAfter(max(ROUND_S, 1 / pace)))
    return actions + later


def within_budgets(
    due: Iterable[Due],
    refusal: Callable[[ResourceBinding, str, frozenset[str]], str],
) -> tuple[list[Due], list[Action]]:
    """What disruption budgets let happen now; of drains that must wait it is told why. `refusal` knows the budgets."""
    passed: list[Due] = []
    held: list[Action] = []
    disturbed: dict[str, frozenset[str]] = {}
    for item in ordered(due):
        binding, name = item.binding, item.cluster
        others = disturbed.get(binding.metadata.uid, frozenset())
        planned = item.cause.reason == moves.DRAINED and item.wait_s <= 0
        why = refusal(binding, name, others) if planned else ""
        if why:
            text = f"it stays in {name}, which is drained, for now: {why}"
            held += placer.say(binding, "Warning", "DrainHeld", text)
            continue
        passed.append(item)
        if item.wait_s <= 0:
            disturbed[binding.metadata.uid] = others | {name}
    return passed, [*held, RequeueAfter(guard.LOOK_S)] if held else []


def after_checkpoints(due: Iterable[Due]) -> tuple[list[Due], list[Action]]:
    """Planned moves wait for a last checkpoint; those whose last one is still to be made ask for it."""
    passed: list[Due] = []
    actions: list[Action] = []
    for item in due:
        planned = item.wait_s <= 0 and item.cause.reason != moves.UNREACHABLE
        word = f"{item.cause.reason} {item.cause.since}"
        wait = planned and item.hook and held_back(item.binding, item.cluster, item.hook, word)
        if isinstance(wait, list):
            actions += wait
        else:
            passed.append(item)
    return passed, actions


def after_snapshots(due: Iterable[Due], now: dt.datetime) -> tuple[list[Due], list[Action]]:
    """Where the old copy stops at once a planned move waits for a last snapshot; none goes without what its policy asks for."""
    passed: list[Due] = []
    actions: list[Action] = []
    for item in due:
        wait = _snapshot_first(item, item.volumes, now) if item.volumes is not None else None
        if wait is not None:
            actions += wait
        elif item.volumes is None or item.wait_s > 0:
            passed.append(item)
        else:
            words = volumes.cost(item.binding, item.cluster, now, item.silent_s)
            passed.append(replace(item, recovery=words))
    return passed, actions


def _snapshot_first(due: Due, hook: Volumes, now: dt.datetime) -> list[Action] | None:
    """What is done while the workload waits for its snapshot; None: it may go."""
    binding, name, cause = due.binding, due.cluster, due.cause
    if due.wait_s > 0:
        return None
    if cause.reason == moves.UNREACHABLE:
        return volumes.refused(binding, name, hook, now, due.silent_s)
    at_once = evictions.manner_of(binding, name, cause.reason).manner.purge == moves.DIRECTLY
    if not due.fenced and not at_once:
        return None  # it goes on until the new copy is ready: the snapshot is made when that one's place is known
    return volumes.held_back(binding, name, hook, f"{cause.reason} {cause.since}", now)


def _would(due: Due) -> list[Action]:
    count = moves.running(due.binding).get(due.cluster, 0)
    text = f"would evict {count} replicas from {due.cluster} (dry run): {due.cause.why}"
    return placer.say(due.binding, "Warning", "WouldEvict", text)


def _evicted(due: Due, now: str) -> list[Action]:
    binding, cause = due.binding, due.cause
    state = moves.state_of(binding)
    settled = not questions.open_question(binding)
    facts = moves.Facts(
        questions.question(binding),
        moves.reported(binding, frozenset({due.cluster})),
        fenced=due.fenced,
        grace_s=math.ceil(due.stop_s),
        settled=settled,
        now=now,
    )
    told = evictions.manner_of(binding, due.cluster, cause.reason)
    why = f"{cause.why.rstrip('.')}; {due.recovery}" if due.recovery else cause.why
    asked = Eviction(state, due.cluster, cause.reason, why, facts, told.manner)
    after = asked.after()
    if after == state:
        return []
    count = state.running[due.cluster]
    text = f"{count} replicas leave {due.cluster}: {why}"
    problems = [
        a
        for problem in told.problems
        for a in placer.say(
            binding, "Warning", "StateNotPreserved", f"from {due.cluster}: {problem}"
        )
    ]
    notes: dict[str, str | None] = {questions.QUESTION: None}
    notes |= volumes.done(binding, due.cluster)
    if due.hook is not None:
        marks, said = lost(binding, due.cluster, parse_time(now), due.silent_s)
        notes |= marks
        problems += said
    actions = [
        moves.patch(binding, after, notes),
        *placer.say(binding, "Warning", "EvictWorkload", text),
        *problems,
    ]
    return noted(actions, evicted(binding, asked))


def elsewhere(due: Due, fleet: Sequence[Candidate]) -> str:
    """Why the workload has no place but in the cluster that it is to leave; empty: it has one."""
    asked = questions.request_of(due.binding, fresh=False)
    previous = {name: count for name, count in asked.previous.items() if name != due.cluster}
    try:
        place(replace(asked, previous=previous, evicting=asked.evicting | {due.cluster}), fleet)
    except NoFit as error:
        return str(error)
    return ""


def _held(due: Due, why: str) -> list[Action]:
    text = f"it stays in {due.cluster}, though {due.cause.why}: {why}"
    return placer.say(due.binding, "Warning", "ApplicationFailoverHeld", text)


class EvictorReconciler:
    """The whole fleet at once: order and pace need to know everything that waits."""

    def __init__(
        self,
        manager: Manager,
        settings: Callable[[], Settings],
        beats: Heartbeats,
        room: Reservations,
    ) -> None:
        self._clock, self._settings, self._beats = manager.clock, settings, beats
        self._room = room
        self._executor = manager.executor
        self._guard = guard.Guard(manager)
        self._clusters = manager.informer(CLUSTERS)
        self._domains = manager.informer(FAILURE_DOMAINS)
        self._policies = manager.informer(RESILIENCE_POLICIES)
        self._priorities = manager.informer(PRIORITY_CLASSES)
        self._sources = Sources(manager.informer, demand=demand_of(manager.informer))
        self._bindings = Bindings(manager.informer)
        self._bindings.add_index(BY_CLUSTER, lambda b: [t.name for t in b.spec.clusters])
        self._bindings.add_index(BY_FAILING, failing)
        self._since: dt.datetime | None = None
        self._held: dict[tuple[str, str, str], float] = {}
        self._names: set[str] | None = None
        self._told: set[tuple[str, str, str]] = set()
        self.leaving: frozenset[str] = frozenset()
        """Clusters that are dead or drained."""

    async def reconcile(self, _: ObjectKey) -> Result:
        wall = self._clock.now()
        self._since = self._since or wall
        clusters = {c.metadata.name: c for c in self._clusters.list() if not c.deleting}
        causes = self._causes(clusters)
        self.leaving = frozenset(causes)
        unwell = self._bindings.by_index(BY_FAILING, "yes")
        if not causes and not unwell:
            self._told.clear()
            self._held.clear()
            return Result()
        settings = self._settings()
        survivors = self._room.unreserved(
            candidates(c for name, c in clusters.items() if name not in causes)
        )
        cut_off = cluster_verdict(self._domains.get(domains.EVERYTHING)) == Finding.CUT_OFF.value
        due = self._due(clusters, causes, wall)
        if unwell and not cut_off and settings.failover in (ENABLED, DRY_RUN):
            staying = {n: c for n, c in clusters.items() if n not in causes}
            more, actions = self._unwell(unwell, staying, survivors, wall)
            due += more
        else:
            actions = []
        if settings.failover == ENABLED and not cut_off:
            due, held = within_budgets(due, self._refusal)
            due, asked = after_checkpoints(due)
            due, saved = after_snapshots(due, wall)
            actions += [*held, *asked, *saved]
        told = frozenset(self._told)
        actions += plan(Round(due, survivors, settings, cut_off, rfc3339(wall), told))
        if settings.failover == DRY_RUN:
            self._told.update(mark(d) for d in due if d.wait_s <= 0)
        return await self._executor.apply(actions)

    def _causes(self, clusters: Mapping[str, Cluster]) -> dict[str, Cause]:
        causes: dict[str, Cause] = {}
        clock = self._settings().clock
        for name, cluster in clusters.items():
            domain = self._domains.get(ObjectKey("", domain_name("Cluster", name)))
            known = domain if witnessed(self._beats.silent_s(name), clock) else None
            if cause := cause_of(cluster, known):
                causes[name] = cause
        for name in self._left(clusters.keys()):
            causes[name] = Cause(moves.UNREACHABLE, "the cluster has left the federation", "left")
        return causes

    def _unwell(
        self,
        bindings: Iterable[ResourceBinding],
        staying: Mapping[str, Cluster],
        survivors: Sequence[Candidate],
        wall: dt.datetime,
    ) -> tuple[list[Due], list[Action]]:
        """Who leaves for its own health and has a place elsewhere; those that have none are told, and looked at later."""
        policies, now = self._policies.list(), self._clock.monotonic()
        settled = {
            name: ready_s(cluster, wall)
            for name, cluster in staying.items()
            if is_true(cluster.status.conditions, READY)
        }
        self._held = {m: until for m, until in self._held.items() if until > now}
        found: list[Due] = []
        for binding in bindings:
            workload = self._workload(binding, policies)
            found += dues_of_health(binding, workload, settled, wall, self._since or wall)
        ready = ordered(d for d in found if d.wait_s <= 0 and mark(d) not in self._held)
        due = [d for d in found if d.wait_s > 0]
        actions: list[Action] = []
        for item in ready[:LOOKED_AT]:
            if why := elsewhere(item, survivors):
                self._held[mark(item)] = now + HELD_S
                actions += _held(item, why)
            else:
                due.append(item)
        if self._held:
            actions.append(RequeueAfter(min(self._held.values()) - now))
        if len(ready) > LOOKED_AT:
            actions.append(RequeueAfter(ROUND_S))
        return due, actions

    def _workload(
        self, binding: ResourceBinding, policies: Collection[ResiliencePolicy]
    ) -> Workload:
        template = self._template(binding)
        return Workload(template, resilience(template, policies), self._priority(template))

    def _left(self, present: Collection[str]) -> list[str]:
        """Clusters that bindings may still name though they are gone; all bindings are looked at once."""
        if self._names is None:
            self._names = {t.name for b in self._bindings.list() for t in b.spec.clusters}
        self._names |= set(present)
        gone = sorted(self._names - set(present))
        self._names -= {name for name in gone if not self._bindings.by_index(BY_CLUSTER, name)}
        return [name for name in gone if name in self._names]

    def _due(
        self, clusters: Mapping[str, Cluster], causes: Mapping[str, Cause], wall: dt.datetime
    ) -> list[Due]:
        policies = self._policies.list()
        found: list[Due] = []
        for name, cause in causes.items():
            for binding in self._bindings.by_index(BY_CLUSTER, name):
                workload = self._workload(binding, policies)
                silent = self._beats.silent_s(name) or 0.0
                cluster = clusters.get(name)
                item = due_of(binding, workload, name, cluster, cause, wall, silent)
                if item is not None:
                    found.append(item)
        return found

    def _refusal(self, binding: ResourceBinding, cluster: str, disturbed: frozenset[str]) -> str:
        return self._guard.refusal(binding, self._template(binding), cluster, disturbed)

    def _template(self, binding: ResourceBinding) -> Document | None:
        return self._sources.get(binding.spec.resource)

    def _priority(self, template: Document | None) -> int:
        if template is None or not interpreter.has_pods(template):
            return 0
        name = interpreter.template_of(template)["spec"].get("priorityClassName")
        found = self._priorities.get(ObjectKey("", name)) if name else None
        return int(found.get("value", 0)) if found is not None else 0


def setup(
    manager: Manager, settings: Callable[[], Settings], beats: Heartbeats, room: Reservations
) -> None:
    """Verdicts, taints, policies, and bindings that name a cluster which is to be left."""
    reconciler = EvictorReconciler(manager, settings, beats, room)
    states: dict[str, object] = {}

    def of_cluster(cluster: Cluster) -> list[ObjectKey]:
        state = (is_true(cluster.status.conditions, READY), cluster.spec.taints, cluster.deleting)
        if states.get(cluster.metadata.name) == state:
            return []
        states[cluster.metadata.name] = state
        return [EVERYTHING]

    def of_binding(binding: ResourceBinding) -> list[ObjectKey]:
        named = {t.name for t in binding.spec.clusters}
        return [EVERYTHING] if named & reconciler.leaving or failing(binding) else []

    controller = manager.controller("evictor", reconciler, workers=1)
    controller.watches(FAILURE_DOMAINS, lambda _: [EVERYTHING])
    controller.watches(CLUSTERS, of_cluster)
    for scope in SCOPES:
        controller.watches(scope.bindings, of_binding)
    controller.watches(RESILIENCE_POLICIES, lambda _: [EVERYTHING])
    controller.watches(FEDERATION_CONFIGS, lambda _: [EVERYTHING])
    controller.watches(DISRUPTION_BUDGETS, lambda _: [EVERYTHING])
