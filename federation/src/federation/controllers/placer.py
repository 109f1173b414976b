"""Placer: decides the clusters of every binding that has a placement, and says why.

A decision is made when the question changes (replicas, placement, requests), when the last one failed and the fleet has
changed, or when someone asks for a fresh one (`spec.rescheduleTriggeredAt`). It is not made again because a cluster got
busier or lost its heartbeat: what runs, stays; moving it is failover's business.

Spread and headroom of the workload's ResiliencePolicy are part of the question. What of them the decision could not give is
told as Events and in the binding's condition `Resilient`: as it was at the decision, and where failover or failback put other
clusters in its place, as it is when the binding changes.

What stands somewhere only for want of room is looked at again, and goes where it belongs when there is room: replicas in an
overflow tier or in a later affinity group, replicas that wait in a full cluster, and all of those whose preferences say
`rebalance`. Surge first, like every decision, and not before the members have told of the last one. Workloads that may not
go back by themselves (`failback.mode: Never`, and mode consistency, which has no surge) stay, and so does everything while
the operator holds failover (`FederationConfig.failover` DryRun or Frozen) or the server is cut off.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import msgspec

from federation.clusters.candidates import candidates
from federation.controllers.domains import EVERYTHING
from federation.controllers.quotas import Quotas, eased
from federation.controllers.reservations import Reservations
from federation.domains.names import cluster_verdict
from federation.domains.settings import ENABLED, Settings
from federation.domains.verdict import Finding
from federation.placement import platforms
from federation.placement.journal import MOST, PLACE, Asked
from federation.placement.model import Candidate, Decision, NoFit
from federation.placement.plan import assess, most, place, spoken_for
from federation.placement.preferences import ANNOTATIONS
from federation.placement.scores import ADVICE
from federation.propagation import affinity, components, moves
from federation.propagation.demand import demand_of
from federation.propagation.priority import by_priority
from federation.propagation.questions import (
    AFFINITY,
    QUESTION,
    WAITING,
    in_group,
    in_later_group,
    open_question,
    placeable,
    preferences_of,
    question,
    request_of,
    short_of_room,
    wants_fresh,
)
from federation.propagation.quota import QuotaExceeded
from federation.propagation.replays import Note, by_quota, noted
from federation.propagation.resilience import (
    CONSISTENCY,
    DEMANDS,
    grant_s,
    resilience,
)
from federation.propagation.scopes import IN_NAMESPACES, SCOPES, Scope
from federation.propagation.sources import Sources
from federation.propagation.templates import named
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.operations import FEDERATED_RESOURCE_QUOTAS, FederatedResourceQuota
from machinery.api.fleet.resilience import (
    FAILURE_DOMAINS,
    FEDERATION_CONFIGS,
    RESILIENCE_POLICIES,
    ResilienceSpec,
)
from machinery.api.fleet.work import ResourceBinding, binding_resource
from machinery.controller.action import Action, Emit, Patch, RequeueAfter, Result, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.clock import parse_time, rfc3339
from machinery.meta.objectmeta import View, condition, condition_document
from machinery.meta.resource import Document, ObjectKey

SCHEDULED = "Scheduled"
SUCCESS = "Binding has been scheduled successfully."

WARNED = "ubernetes.io/placed-warning"
"""Annotation of a binding: a decision's clusters, and reason and message of what it does not give, as JSON."""
RESILIENT = "Resilient"

PARTLY = "ubernetes.io/placed-partly"
"""Annotation of a binding: when only a part of what was lost could be placed."""
AGAIN_S = 30.0
"""A placement that was not decided as it stands, and lacks something, or lacks room, is looked at again."""
BACK_S = 300.0
"""A placement in a later affinity group looks back to the earlier ones, as long as failback waits by default."""
BAD_PREFERENCES = "BadPreferences"
BAD_PLATFORMS = "BadPlatforms"
REPORTS_S = 8.0
"""By then every member has told of the pods that a decision brought it."""
WORKERS = 32
"""Decisions on their way to the store at once, which writes them together. Each is made in one step, from what is left
of the room to what it takes of it (`Reservations.remember`), so that two never give the same room away."""
BY_NEED, OPEN, ROOM = "placer-need", "open", "room"
"""Index of bindings: those with an open question, and those that would stand better elsewhere. A fleet of hundreds reports
often, and tens of thousands of bindings are not to be asked each time."""
SPOKEN_FOR = "Room that is free there now is promised to other workloads."


def plan(
    binding: ResourceBinding,
    fleet: list[Candidate],
    now: str,
    *,
    returns: bool = True,
    empties: bool = False,
) -> list[Action]:
    """Decide and write the decision; once it is written, say so in the status.

    `returns`: it may go back by itself to where it belongs; `empties`: clusters without a replica get the workload, too. Two steps, so that each write is a compare-and-swap on what was read, and a crash between them loses nothing.
    """
    if not placeable(binding):
        return _withdrawn(binding)
    if not open_question(binding):
        told = _confirm(binding, fleet, now)
        return told or (_again(binding, fleet, now, empties=empties) if returns else [])
    stopping = moves.stopping_s(binding, parse_time(now))
    if stopping is None:
        return []
    wait = max(stopping, _settling_s(binding, now))
    if wait > 0:
        return [RequeueAfter(wait)]
    request = request_of(binding, fresh=wants_fresh(binding), empties=empties)
    asked = Asked(PLACE, request, fleet)
    try:
        decision = place(request, fleet)
    except NoFit as error:
        partial = most(request, fleet) if request.evicting else None
        taken = spoken_for(request, fleet)
        later: list[Action] = [RequeueAfter(REPORTS_S)] if taken else []
        if partial is not None:
            short = _note(binding, Asked(MOST, request, fleet), partial)
            return noted(_partly(binding, partial, now) + later, short)
        why = type(error)(f"{error} {SPOKEN_FOR}", error.left_out) if taken else error
        return noted(_refused(binding, why, now) + later, _note(binding, asked, error))
    return noted(_decided(binding, decision, now), _note(binding, asked, decision))


def looks_at_fleet(binding: ResourceBinding) -> bool:
    """Whether `plan` looks at any member; what is decided and stays is most of what the placer sees."""
    if not placeable(binding):
        return False
    unsaid = DEMANDS in binding.metadata.annotations and told_by_decision(binding) is None
    return unsaid or open_question(binding) or in_later_group(binding) or short_of_room(binding)


def _note(binding: ResourceBinding, asked: Asked, came_to: Decision | NoFit) -> Note:
    before = components.placed(binding)
    return Note("placer", asked, came_to, before, question(binding))


def waits_for(binding: ResourceBinding) -> Iterator[str]:
    """What the binding waits for."""
    if placeable(binding) and open_question(binding):
        yield OPEN
    if short_of_room(binding) or in_later_group(binding):
        yield ROOM


def _again(
    binding: ResourceBinding, fleet: list[Candidate], now: str, *, empties: bool
) -> list[Action]:
    """Ask the standing question anew, when nothing moves and the last answer has settled.

    What failover displaced is failback's, which knows how long clusters have been well.
    """
    last, later, short = (
        binding.status.last_scheduled_time,
        in_later_group(binding),
        short_of_room(binding),
    )
    moving = binding.spec.graceful_eviction_tasks or moves.DISPLACED in binding.metadata.annotations
    if last is None or moving or not (later or short):
        return []
    pause = BACK_S if later else AGAIN_S
    wait = pause - (parse_time(now) - last).total_seconds()
    if wait > 0:
        return [RequeueAfter(wait)]
    request = request_of(binding, fresh=False, empties=empties)
    asked = Asked(PLACE, replace(request, affinity_name="") if later else request, fleet)
    try:
        decision = place(asked.values, fleet)
    except NoFit:
        return [RequeueAfter(pause)]
    stays = decision.affinity_name == request.affinity_name and not short
    if stays or decision.targets == request.previous:
        return [RequeueAfter(pause)]
    return noted(_decided(binding, decision, now), _note(binding, asked, decision))


def _partly(binding: ResourceBinding, decision: Decision, now: str) -> list[Action]:
    """Some of what was lost; the question stays open, and the placer comes back when the fleet changes.

    The question that was answered before is forgotten: should it be asked again, these clusters are no answer to it.
    """
    state = moves.decided(moves.state_of(binding), decision.targets, now)
    placed, wanted = sum(decision.targets.values()), binding.spec.replicas
    result = ", ".join(f"{name}:{count}" for name, count in decision.targets.items())
    text = f"only {placed} of {wanted} replicas fit into the clusters that are left: {{{result}}}"
    return [
        moves.patch(
            binding,
            state,
            {PARTLY: now, QUESTION: None}
            | _warning(binding, decision)
            | _waiting(binding, decision),
        ),
        *say(binding, "Warning", "FailoverShortOfRoom", text),
        *_warned(binding, decision),
    ]


class Told(View):
    """What was found wanting when these clusters were decided."""

    clusters: dict[str, int] = {}
    warnings: tuple[tuple[str, str], ...] = ()


def _warning(binding: ResourceBinding, decision: Decision) -> dict[str, str | None]:
    """The annotation of what the decision does not give."""
    annotations = binding.metadata.annotations
    if DEMANDS not in annotations:
        return {WARNED: None} if WARNED in annotations else {}
    told = tuple((w.reason, w.message) for w in decision.warnings)
    return {WARNED: msgspec.json.encode(Told(dict(decision.targets), told)).decode()}


def _waiting(binding: ResourceBinding, decision: Decision) -> dict[str, str | None]:
    """The annotation of what has no room yet."""
    if decision.waiting:
        return {WAITING: msgspec.json.encode(dict(decision.waiting)).decode()}
    return {WAITING: None} if WAITING in binding.metadata.annotations else {}


def _warned(binding: ResourceBinding, decision: Decision) -> list[Action]:
    told = [(w.reason, w.message) for w in decision.warnings]
    if wrong := preferences_of(binding)[1]:
        name = ANNOTATIONS[binding.spec.resource.kind]
        text = f"{name} cannot be read, the policy's own division is used: {wrong}"
        told.append((BAD_PREFERENCES, text))
    if wrong := platforms.read(binding.metadata.annotations)[1]:
        told.append(
            (BAD_PLATFORMS, f"{platforms.ANNOTATION} cannot be read, any platform will do: {wrong}")
        )
    return [a for reason, text in told for a in say(binding, "Warning", reason, text)]


def told_by_decision(binding: ResourceBinding) -> tuple[tuple[str, str], ...] | None:
    """What the decision on the present clusters found wanting; None when they are another's choice."""
    try:
        told = msgspec.json.decode(binding.metadata.annotations.get(WARNED) or "{}", type=Told)
    except msgspec.MsgspecError:
        told = Told()
    clusters = components.placed(binding)
    return told.warnings if told.clusters == clusters else None


def warnings(binding: ResourceBinding, fleet: list[Candidate]) -> tuple[tuple[str, str], ...]:
    """What the present clusters do not give."""
    told = told_by_decision(binding)
    if told is not None:
        return told
    found = assess(request_of(binding, fresh=False), fleet)
    return tuple((w.reason, w.message) for w in found)


def resilient(binding: ResourceBinding, fleet: list[Candidate], now: str) -> Document | None:
    """The condition of a binding that is to outlive failures; None where nothing is asked."""
    if DEMANDS not in binding.metadata.annotations:
        return None
    told = warnings(binding, fleet)
    lacking = [reason for reason, _ in told if reason not in ADVICE]
    status, reason = ("False", lacking[0]) if lacking else ("True", "AsAsked")
    kept = [] if lacking else ["The placement keeps the spread and headroom that are asked for"]
    message = ". ".join([*kept, *(text for _, text in told)])
    held = condition(binding.status.conditions, RESILIENT)
    since = now
    if held is not None and held.status == status and held.last_transition_time is not None:
        since = rfc3339(held.last_transition_time)
    return {
        "type": RESILIENT,
        "status": status,
        "reason": reason,
        "message": f"{message}.",
        "lastTransitionTime": since,
    }


def _settling_s(binding: ResourceBinding, now: str) -> float:
    """Seconds until members have told what a partial decision took: room that is told twice would be given twice."""
    since = binding.metadata.annotations.get(PARTLY)
    if not since:
        return 0.0
    try:
        passed = (parse_time(now) - parse_time(since)).total_seconds()
    except ValueError:
        return 0.0
    return REPORTS_S - passed if 0 <= passed < REPORTS_S else 0.0


def _withdrawn(binding: ResourceBinding) -> list[Action]:
    """A binding that no policy places any more keeps no clusters of its own."""
    if binding.deleting or binding.spec.placement is not None or not binding.spec.clusters:
        return []
    patch = {"metadata": {"annotations": {QUESTION: None}}, "spec": {"clusters": None}}
    version = binding.metadata.resource_version
    return [Patch(binding_resource(binding.key), binding.key, patch, resource_version=version)]


def _decided(binding: ResourceBinding, decision: Decision, now: str) -> list[Action]:
    annotations: dict[str, str | None] = {QUESTION: question(binding)}
    annotations |= in_group(binding, decision.affinity_name)
    annotations |= _warning(binding, decision) | _waiting(binding, decision)
    if PARTLY in binding.metadata.annotations:
        annotations[PARTLY] = None
    state = moves.decided(moves.state_of(binding), decision.targets, now)
    result = ", ".join(f"{name}:{count}" for name, count in decision.targets.items())
    return [
        moves.patch(binding, state, annotations),
        *say(binding, "Normal", "ScheduleBindingSucceed", f"{SUCCESS} Result: {{{result}}}"),
        *_warned(binding, decision),
    ]


def _confirm(binding: ResourceBinding, fleet: list[Candidate], now: str) -> list[Action]:
    """The decision stands in the spec: the status says so."""
    held = condition(binding.status.conditions, SCHEDULED)
    observed = binding.status.scheduler_observed_generation == binding.metadata.generation
    outlives = resilient(binding, fleet, now)
    same = _told(binding) == _words(outlives)
    again: list[Action] = []
    if outlives is not None and outlives["status"] != "True" and told_by_decision(binding) is None:
        again = [RequeueAfter(AGAIN_S)]
    if observed and held is not None and held.status == "True" and same:
        return again
    status = _status(binding, "True", "Success", SUCCESS, now, outlives)
    status["lastScheduledTime"] = now
    status["schedulerObservingAffinityName"] = binding.metadata.annotations.get(AFFINITY)
    version = binding.metadata.resource_version
    return [
        SetStatus(binding_resource(binding.key), binding.key, status, resource_version=version),
        *again,
    ]


def _told(binding: ResourceBinding) -> tuple[str, str, str] | None:
    """The condition Resilient as it stands."""
    held = condition(binding.status.conditions, RESILIENT)
    return None if held is None else (held.status, held.reason, held.message)


def _words(wanted: Document | None) -> tuple[str, str, str] | None:
    return None if wanted is None else (wanted["status"], wanted["reason"], wanted["message"])


def _refused(binding: ResourceBinding, error: NoFit, now: str) -> list[Action]:
    held = condition(binding.status.conditions, SCHEDULED)
    if held is not None and (held.status, held.reason, held.message) == (
        "False",
        error.reason,
        str(error),
    ):
        return []
    status = _status(binding, "False", error.reason, str(error), now)
    version = binding.metadata.resource_version
    return [
        SetStatus(binding_resource(binding.key), binding.key, status, resource_version=version),
        *say(binding, "Warning", "ScheduleBindingFailed", str(error)),
    ]


def _status(
    binding: ResourceBinding,
    status: str,
    reason: str,
    message: str,
    now: str,
    outlives: Document | None = None,
) -> Document:
    """The conditions of the placer; nothing is said of what the placement outlives while there is no decision."""
    held = condition(binding.status.conditions, SCHEDULED)
    since = now
    if held is not None and held.status == status and held.last_transition_time is not None:
        since = rfc3339(held.last_transition_time)
    own = (SCHEDULED, RESILIENT)
    others = [condition_document(c) for c in binding.status.conditions if c.type not in own]
    scheduled = {
        "type": SCHEDULED,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }
    return {
        "conditions": [scheduled, *([outlives] if outlives is not None else []), *others],
        "schedulerObservedGeneration": binding.metadata.generation,
    }


def say(binding: ResourceBinding, kind: str, reason: str, message: str) -> list[Action]:
    """The same Event on the binding and on what it places."""
    own, source = binding_resource(binding.key), binding.spec.resource
    said: list[Action] = [Emit(own, binding.key, binding.metadata.uid, kind, reason, message)]
    if source.kind:
        key = ObjectKey(source.namespace, source.name)
        said.append(Emit(named(source), key, source.uid, kind, reason, message))
    return said


def barred(
    binding: ResourceBinding,
    fleet: Sequence[Candidate],
    others: Iterable[tuple[ResourceBinding, Iterable[str]]],
    sources: Sources,
) -> list[Candidate]:
    """The fleet as the binding's affinity to others of its namespace leaves it."""

    def groups(of: ResourceBinding) -> affinity.Groups:
        if of.spec.placement is None or of.spec.placement.workload_affinity is None:
            return affinity.NONE
        template = sources.get(of.spec.resource) or {}
        return affinity.groups(of.spec.placement, template.get("metadata", {}).get("labels") or {})

    own = groups(binding)
    if own == affinity.NONE:
        return list(fleet)
    return affinity.barred(fleet, own, [(groups(other), where) for other, where in others])


def may_return(own: ResilienceSpec, settings: Settings) -> bool:
    """Whether replicas may go back by themselves: the workload's word, and the operator's, who can stop every move."""
    automatic = own.failback.mode != "Never" and settings.failback
    return automatic and settings.failover == ENABLED and own.mode != CONSISTENCY


class PlacerReconciler:
    """Bindings."""

    def __init__(
        self,
        manager: Manager,
        settings: Callable[[], Settings],
        room: Reservations,
        scope: Scope = IN_NAMESPACES,
    ) -> None:
        self._clock, self._settings, self._room = manager.clock, settings, room
        self._executor, self._quotas = manager.executor, Quotas(manager)
        self._domains = manager.informer(FAILURE_DOMAINS)
        self._bindings = manager.informer(scope.bindings)
        self._clusters = manager.informer(CLUSTERS)
        self._sources = Sources(manager.informer, demand=demand_of(manager.informer))
        self._policies = manager.informer(RESILIENCE_POLICIES)

    async def reconcile(self, key: ObjectKey) -> Result:
        binding = self._bindings.get(key)
        if binding is None:
            return Result()
        now = rfc3339(self._clock.now())
        fleet, returns = [], False
        if looks_at_fleet(binding):
            own = self._resilience(binding)
            cut_off = cluster_verdict(self._domains.get(EVERYTHING)) == Finding.CUT_OFF.value
            returns = may_return(own, self._settings()) and not cut_off
            fleet = await self._fleet(binding, granted=grant_s(own) is not None)
        empties = self._settings().empties
        actions = plan(binding, fleet, now, returns=returns, empties=empties)
        verdict = self._quotas.judge(binding, actions)
        if verdict.refusal:
            error = QuotaExceeded(verdict.refusal)
            actions = by_quota(actions, _refused(binding, error, now), error)
        self._room.remember(binding, actions)
        return await self._executor.apply([*verdict.actions, *actions])

    async def _fleet(self, binding: ResourceBinding, *, granted: bool) -> list[Candidate]:
        """The members with the room that is left for it. Nothing is waited for after the room has been looked at."""
        fleet = candidates(self._clusters.list(), granted=granted)
        if placeable(binding) and open_question(binding):
            fleet = await self._room.estimates.told(request_of(binding, fresh=False), fleet)
        fleet = self._room.left(fleet, binding)
        return barred(binding, fleet, self._others(binding), self._sources)

    def _others(self, binding: ResourceBinding) -> Iterator[tuple[ResourceBinding, frozenset[str]]]:
        """The namespace's other bindings and their clusters: found when they are asked for, which few bindings do."""
        for other in self._bindings.list(binding.metadata.namespace):
            if other.key != binding.key:
                yield other, self._room.lately.clusters(other)

    def _resilience(self, binding: ResourceBinding) -> ResilienceSpec:
        """How it shall outlive failures; pods on grants are not for every cluster's kubelets."""
        template = self._sources.get(binding.spec.resource)
        return resilience(template, self._policies.list())


def setup(manager: Manager, settings: Callable[[], Settings], room: Reservations) -> None:
    """Bindings by themselves; a change of the fleet wakes those whose question is open, the operator's word those that
    wait to go back. The same for both scopes."""
    for scope in SCOPES:
        _place(manager, settings, room, scope)


def _place(
    manager: Manager, settings: Callable[[], Settings], room: Reservations, scope: Scope
) -> None:
    bindings = manager.informer(scope.bindings)
    bindings.add_index(BY_NEED, waits_for)

    def open_questions(_: Cluster) -> list[ObjectKey]:
        return by_priority(bindings.by_index(BY_NEED, OPEN))

    def waiting(_: object) -> list[ObjectKey]:
        return [b.key for b in bindings.by_index(BY_NEED, ROOM)]

    def waiting_for_quota(quota: FederatedResourceQuota) -> list[ObjectKey]:
        found = bindings.by_index(BY_NEED, OPEN) if changed(quota) else []
        return by_priority(b for b in found if b.metadata.namespace == quota.metadata.namespace)

    changed = eased()
    reconciler = PlacerReconciler(manager, settings, room, scope)
    workers = WORKERS if scope.namespaced else 1  # there are few of the others
    controller = manager.controller(scope.named("placer"), reconciler, workers=workers)

    def itself_and_who_waits_for_it(changed: ResourceBinding) -> list[ObjectKey]:
        placement = changed.spec.placement
        if placement is None or placement.workload_affinity is None:
            return [changed.key]
        waiting = (b.key for b in bindings.by_index(BY_NEED, OPEN))
        near = [k for k in waiting if k.namespace == changed.key.namespace and k != changed.key]
        return [changed.key, *near]

    controller.watches(scope.bindings, itself_and_who_waits_for_it)
    controller.watches(CLUSTERS, open_questions)
    controller.watches(FEDERATED_RESOURCE_QUOTAS, waiting_for_quota)
    controller.watches(FEDERATION_CONFIGS, waiting)
    controller.watches(FAILURE_DOMAINS, lambda d: waiting(d) if d.key == EVERYTHING else [])
