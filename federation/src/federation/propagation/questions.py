"""What a binding asks of the planner, and whether its present decision still answers it. Pure, on values of the binding.

The placer answers; failover, failback, descheduling and staged updates leave alone what is asked anew.
"""

import hashlib

import msgspec

from federation.placement import platforms
from federation.placement.model import Request
from federation.placement.preferences import ANNOTATIONS, Preferences, parse
from federation.propagation import applications, components, interpreter, moves
from federation.propagation.resilience import DEMANDS, demands
from machinery.api.fleet.policy import Placement
from machinery.api.fleet.work import ResourceBinding, ResourceBindingSpec

SCHEDULER = "default-scheduler"
"""Bindings that name another scheduler are its business."""
QUESTION = "ubernetes.io/placed-question"
"""Annotation of a binding: hash of the question that the present decision answers."""
AFFINITY = "ubernetes.io/placed-affinity"
"""Annotation of a binding: the affinity group that the present decision used."""
WAITING = "ubernetes.io/placed-waiting"
"""Annotation of a binding: what the present decision gave clusters beyond their room, as JSON."""


_asked: list[tuple[ResourceBinding, str]] = []
"""The binding that was asked about last, which nobody changes, and its question: one pass asks half a dozen times."""


def question(binding: ResourceBinding) -> str:
    """A hash of everything in the binding that a decision depends on."""
    if _asked and _asked[0][0] is binding:
        return _asked[0][1]
    found = _question(binding)
    _asked[:] = [(binding, found)]
    return found


def _question(binding: ResourceBinding) -> str:
    spec = binding.spec
    asked: tuple[object, ...] = (
        spec.resource.uid,
        spec.replicas,
        spec.placement,
        spec.replica_requirements,
        spec.reschedule_triggered_at,
    )
    if spec.components:
        asked += (spec.components,)
    if demanded := binding.metadata.annotations.get(DEMANDS):
        asked += (demanded,)
    if stated := stated_preferences(binding):
        asked += (stated,)
    if built := binding.metadata.annotations.get(platforms.ANNOTATION):
        asked += (platforms.ANNOTATION, built)
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:16]


def stated_preferences(binding: ResourceBinding) -> str:
    """Federation v1's annotation of the workload, as the detector copied it."""
    name = ANNOTATIONS.get(binding.spec.resource.kind, "")
    return binding.metadata.annotations.get(name, "")


def preferences_of(binding: ResourceBinding) -> tuple[Preferences | None, str]:
    """The workload's preferences, or what is wrong with them."""
    text = stated_preferences(binding)
    try:
        return (parse(text), "") if text else (None, "")
    except ValueError as error:
        return None, str(error)


def waiting_of(binding: ResourceBinding) -> dict[str, int]:
    """What the present decision gave clusters beyond their room; an annotation that somebody spoiled counts as none."""
    try:
        text = binding.metadata.annotations.get(WAITING) or "{}"
        return msgspec.json.decode(text, type=dict[str, int])
    except msgspec.MsgspecError:
        return {}


def request_of(binding: ResourceBinding, *, fresh: bool, empties: bool | None = None) -> Request:
    """The binding as a question to the planner. `empties`: whether clusters that get no replica are in the answer; None: if
    they are in the present one."""
    spec = binding.spec
    assert spec.placement is not None
    required = spec.replica_requirements
    wanted = demands(binding.metadata.annotations)
    previous = components.placed(binding)
    if empties is None:
        empties = spec.replicas > 0 and 0 in previous.values()
    return Request(
        uid=spec.resource.uid,
        api_version=spec.resource.api_version,
        kind=spec.resource.kind,
        placement=_undivided(spec),
        replicas=spec.replicas,
        asks=components.asks_of(binding),
        node_claim=required.node_claim if required is not None else None,
        previous=previous,
        evicting=moves.evicting(binding) | applications.avoided(binding),
        fresh=fresh,
        affinity_name=binding.status.scheduler_observing_affinity_name,
        spread=wanted.spread,
        headroom=wanted.headroom_key,
        scores=wanted.scores,
        key=f"{spec.resource.namespace}/{spec.resource.name}",
        preferences=preferences_of(binding)[0],
        platforms=platforms.read(binding.metadata.annotations)[0],
        waiting=waiting_of(binding),
        sets=components.sets_of(binding),
        empties=empties,
    )


def _undivided(spec: ResourceBindingSpec) -> Placement:
    """The placement; what has no replicas to divide goes whole to every chosen cluster, whatever its policy says of replicas."""
    assert spec.placement is not None
    known = interpreter.counts(spec.resource.api_version, spec.resource.kind)
    if spec.replicas or known or len(spec.components) > 1:
        return spec.placement
    return msgspec.structs.replace(spec.placement, replica_scheduling=None)


def wants_fresh(binding: ResourceBinding) -> bool:
    """Whether someone asked for a decision from scratch since the last one."""
    triggered, last = binding.spec.reschedule_triggered_at, binding.status.last_scheduled_time
    return triggered is not None and (last is None or triggered > last)


def placeable(binding: ResourceBinding) -> bool:
    """Whether the binding is to be placed at all."""
    spec = binding.spec
    suspended = spec.suspension is not None and spec.suspension.scheduling
    ours = spec.scheduler_name in ("", SCHEDULER)
    return ours and not binding.deleting and spec.placement is not None and not suspended


def open_question(binding: ResourceBinding) -> bool:
    """Whether the present decision, if there is one, answers another question."""
    return binding.metadata.annotations.get(QUESTION) != question(binding)


def short_of_room(binding: ResourceBinding) -> bool:
    """Whether the present decision may be another one as soon as some cluster has more room."""
    wanted, _ = preferences_of(binding)
    if wanted is not None:
        return wanted.rebalance or bool(waiting_of(binding))
    placement, used = binding.spec.placement, binding.status.scheduler_observing_affinity_name
    terms = placement.cluster_affinities if placement is not None else ()
    return any(term.overflow_affinities for term in terms if term.affinity_name == used)


def in_group(binding: ResourceBinding, group: str) -> dict[str, str | None]:
    """The annotation for clusters of another affinity group than the noted one; empty: the next search begins at the first."""
    held = binding.metadata.annotations.get(AFFINITY, "")
    return {AFFINITY: group or None} if group != held else {}


def in_later_group(binding: ResourceBinding) -> bool:
    """Whether an affinity group before the used one did not fit at the last decision."""
    placement, used = binding.spec.placement, binding.status.scheduler_observing_affinity_name
    terms = placement.cluster_affinities if placement is not None else ()
    return used in [term.affinity_name for term in terms[1:]]
