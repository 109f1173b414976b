"""Why a decision came out as it did: filters, scores, weights, room and tie-breaks, in sentences. Pure.

It takes the inputs of a decision and walks the same way as `federation.placement.plan`, with the same functions, and writes down
what it sees at each step; nothing of it is guessed from the outcome. A sentence ends without its stop where it may be joined.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from federation.placement import components, divide, scores, select, tiers
from federation.placement.filter import domain_of, filter_candidates
from federation.placement.model import Candidate, Decision, NoFit, Request
from federation.placement.plan import (
    chosen_of,
    closed,
    place,
    rooms_of,
    scores_of,
    static_weights,
    strategy_of,
    usable,
)
from federation.placement.preferences import ANY
from federation.placement.scores import Scores
from machinery.api.fleet.policy import ClusterAffinity, ClusterAffinityTerm, Placement

STRATEGIES = {
    "Duplicated": "every selected cluster runs all {replicas} replicas",
    "Static": "{replicas} replicas are divided by the policy's static weights (Webster)",
    "Dynamic": "{replicas} replicas are divided by free room (Webster)",
    "Aggregated": "{replicas} replicas go to as few clusters as hold them",
    "Preferences": "{replicas} replicas are divided by the preferences on the object (federation v1's planner {planner})",
}
FEW = 3
"""Clusters that share a fate are named up to so many."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster in the decision. `room` is how many more replicas it could hold; None: nobody asked."""

    name: str
    replicas: int = 0
    before: int = 0
    room: int | None = None
    weight: int | None = None
    group: str = ""
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The whole decision. `refusal` is why there is none."""

    decision: Decision | None
    refusal: str
    sentences: tuple[str, ...]
    clusters: tuple[Cluster, ...]


@dataclass(slots=True)
class _Notes:
    """What was seen so far."""

    request: Request
    targets: Mapping[str, int]
    whole: list[str] = field(default_factory=list)
    of: dict[str, list[str]] = field(default_factory=dict)

    def say(self, name: str, text: str) -> None:
        self.of.setdefault(name, []).append(text)


def explain(request: Request, fleet: Sequence[Candidate]) -> Report:
    """The report of `place(request, fleet)`."""
    decision: Decision | None = None
    refusal = ""
    try:
        decision = place(request, fleet)
    except NoFit as error:
        refusal = str(error)
    if decision is None or any(w.reason == scores.SET_ASIDE for w in decision.warnings):
        request = replace(request, scores=())  # the answer is that of the question without them
    notes = _Notes(request, decision.targets if decision is not None else {})
    if request.sets is not None:
        parts = ", ".join(f"{part.replicas} {part.name}" for part in request.sets.parts)
        notes.whole.append(f"it goes whole to a cluster: a set ({parts}) counts as one replica")
        notes.request = request = components.as_one(request)
    affinity = _affinity(request, fleet, decision, notes)
    ranks = () if strategy_of(request) == "Duplicated" else tiers.of(affinity)
    passed, left_out = _filtered(request, affinity, fleet, ranks)
    for name, why in left_out.items():
        notes.say(name, f"left out: {_one(why)}")
    _filters(notes, fleet, passed)
    room, weights, groups = _divided(notes, passed, ranks, refusal)
    if decision is not None:
        notes.whole += [f"{w.reason}: {w.message}" for w in decision.warnings]
    if refusal:
        notes.whole.append(f"refused: {refusal}")
    return Report(
        decision,
        refusal,
        tuple(notes.whole),
        tuple(_cluster(c.name, notes, room, weights, groups) for c in fleet),
    )


def _cluster(
    name: str,
    notes: _Notes,
    room: Mapping[str, int],
    weights: Mapping[str, int],
    groups: Mapping[str, str],
) -> Cluster:
    return Cluster(
        name,
        notes.targets.get(name, 0),
        notes.request.previous.get(name, 0),
        room.get(name),
        weights.get(name),
        groups.get(name, ""),
        tuple(notes.of.get(name, ())),
    )


def _one(why: str) -> str:
    """A reason of the filters, of one cluster."""
    return why.replace("cluster(s)", "it").strip()


# ----------------------------------------------------------------------------------------------------------- filters
def _affinity(
    request: Request, fleet: Sequence[Candidate], decision: Decision | None, notes: _Notes
) -> ClusterAffinity | None:
    """The affinity group that was used, and why those before it were not."""
    terms = request.placement.cluster_affinities
    if not terms:
        return request.placement.cluster_affinity
    names = [term.affinity_name for term in terms]
    used = decision.affinity_name if decision is not None else names[0]
    start = names.index(request.affinity_name) if request.affinity_name in names else 0
    if request.fresh:
        start = 0
    if start:
        skipped = ", ".join(names[:start])
        notes.whole.append(
            f"the search begins at affinity group {names[start]}, which was used last; {skipped} is not tried"
        )
    for term in terms[start:]:
        if term.affinity_name == used and decision is not None:
            notes.whole.append(f"affinity group {used} is used")
            break
        why = _fails(request, term, fleet)
        notes.whole.append(f"affinity group {term.affinity_name} does not do: {why}")
    return terms[names.index(used)]


def _fails(request: Request, term: ClusterAffinityTerm, fleet: Sequence[Candidate]) -> str:
    """Why the group alone is no answer."""
    alone: Placement = msgspec.structs.replace(request.placement, cluster_affinities=(term,))
    try:
        _ = place(replace(request, placement=alone, affinity_name=""), fleet)
    except NoFit as error:
        return str(error)
    return "it would do by itself"


def _filtered(
    request: Request,
    affinity: ClusterAffinity | None,
    fleet: Sequence[Candidate],
    ranks: Sequence[ClusterAffinity],
) -> tuple[list[Candidate], dict[str, str]]:
    try:
        return filter_candidates(request, affinity, fleet, ranks)
    except NoFit as error:
        return [], error.left_out


def _filters(notes: _Notes, fleet: Sequence[Candidate], passed: Sequence[Candidate]) -> None:
    notes.whole.insert(
        0, f"{len(passed)} of {len(fleet)} clusters may run the workload; the others are left out"
        if len(passed) < len(fleet) else f"all {len(fleet)} clusters may run the workload",
    )  # fmt: skip
    for candidate in passed:
        if candidate.cut:
            notes.say(candidate.name, "its link is cut: it keeps what it holds and gets no more")
        elif candidate.taints and closed(candidate, notes.request).cut:
            notes.say(
                candidate.name, "it is tainted since: it keeps what it holds and gets no more"
            )


# ---------------------------------------------------------------------------------------------------------- division
def _divided(
    notes: _Notes, passed: Sequence[Candidate], ranks: Sequence[ClusterAffinity], refusal: str
) -> tuple[dict[str, int], dict[str, int], dict[str, str]]:
    """Room, weight and group of the clusters that passed; what the steps after the filters did is said."""
    request = notes.request
    whole, passed = passed, usable(passed, request)
    for before, narrowed in zip(whole, passed, strict=True):
        if narrowed.free != before.free or narrowed.shapes != before.shapes:
            notes.say(before.name, "only its nodes of the workload's platforms count")
    room = rooms_of(request, passed)
    held = {c.name: request.previous[c.name] for c in passed if c.name in request.previous}
    if not passed:
        return room, {}, {}
    strategy = strategy_of(request)
    planner = request.preferences.planner if request.preferences is not None else ""
    notes.whole.append(STRATEGIES[strategy].format(replicas=request.replicas, planner=planner))
    _rooms(notes, passed, room, strategy)
    number = tiers.numbers(ranks, passed)
    scored = scores_of(request, passed, room, held)
    if scored is not None:
        _scored(notes, scored, strategy)
    try:
        chosen, _ = chosen_of(request, passed, room, held, number, scored)
    except NoFit:
        return room, {}, {}
    groups = _grouped(notes, passed, chosen, room, held, scored)
    for name, tier in number.items():
        notes.say(name, f"it is in tier {tier} of its affinity group, {_nth(tier)}")
    weights = _weights(notes, chosen, room, held, strategy, scored)
    if not refusal:
        _kept(notes, chosen, held, strategy)
        _spread(notes, chosen)
    return room, weights, groups


def _nth(tier: int) -> str:
    return (
        "which is filled first" if not tier else "which gets what the tiers before it cannot hold"
    )


def _scored(notes: _Notes, scored: Scores, strategy: str) -> None:
    """What the workload prefers, and how well each cluster suits."""
    wanted = ", ".join(f"{rule.by} x {rule.weight}" for rule in scored.rules)
    use = "where clusters are chosen, those with the higher score come first, as far as they have room"
    if strategy == "Dynamic":
        use += "; free room is weighed by the score"
    elif strategy == "Aggregated":
        use += ", and are filled one after the other"
    first = "; clusters that hold the workload come before all others" if scored.stays else ""
    notes.whole.append(f"clusters are scored by {wanted}: {use}{first}")
    for name, whole in scored.of.items():
        parts = ", ".join(_part(scored, rule.by, rule.weight, name) for rule in scored.rules)
        notes.say(name, f"its score is {whole}: {parts}")


def _part(scored: Scores, by: str, weight: int, name: str) -> str:
    untold = name in scored.untold.get(by, ())
    why = " (it does not tell, which counts as the mean of the others)" if untold else ""
    return f"{by} {scored.parts[by][name]} x {weight}{why}"


def _rooms(
    notes: _Notes, passed: Sequence[Candidate], room: Mapping[str, int], strategy: str
) -> None:
    if strategy == "Static":
        notes.whole.append("room has no say in a division by static weights")
    for candidate in passed:
        name = candidate.name
        if candidate.cut:
            continue
        if candidate.free is None:
            notes.say(name, "it has not reported its resources, which counts as no room")
            continue
        text = f"it has room for {room[name]} more replicas"
        if candidate.estimate is not None:
            text += ", by the word of its own scheduler"
        elif scarce := _scarcest(candidate, notes.request.asks, room[name]):
            text += f", {scarce} is the scarcest"
        if any(candidate.reserved.values()):
            text += "; what earlier decisions gave away and it has not reported yet is taken off"
        notes.say(name, text)


def _scarcest(candidate: Candidate, asks: Mapping[str, int], room: int) -> str:
    """The resource that ends the room, where one does by its sum."""
    free = candidate.free or {}
    for name, asked in asks.items():
        if asked > 0 and max(0, free.get(name, 0)) // asked == room:
            return name
    return "pods" if max(0, free.get("pods", -1)) == room else ""


def _grouped(
    notes: _Notes,
    passed: Sequence[Candidate],
    chosen: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
    scored: Scores | None,
) -> dict[str, str]:
    """What the spread constraints did: groups, and who was not selected."""
    constraint = select.group_constraint(notes.request.placement)
    by_cluster = select.cluster_constraint(notes.request.placement)
    groups: dict[str, str] = {}
    if constraint is not None:
        groups = {c.name: select.group_of(constraint, c) for c in passed}
        key = constraint.spread_by_field or constraint.spread_by_label
        _balanced(notes, key, groups, scored)
    inside = {c.name for c in chosen}
    if by_cluster is not None and by_cluster.max_groups:
        order = ["those that hold it first"] if scored is None or scored.stays else []
        order += ["then those with the higher score"] if scored is not None else []
        order += ["then the roomiest", "then by name"]
        shown = ", ".join(order).removeprefix("then ")
        notes.whole.append(f"the policy uses {by_cluster.max_groups} clusters at most: {shown}")
    for candidate in passed:
        name = candidate.name
        if name not in inside:
            space = room[name] + held.get(name, 0)
            notes.say(name, f"not selected by the spread constraints, with room for {space} in all")
    return groups


def _balanced(notes: _Notes, key: str, groups: Mapping[str, str], scored: Scores | None) -> None:
    counts = dict.fromkeys(sorted(set(groups.values())), 0)
    for name, count in notes.targets.items():
        if name in groups:
            counts[groups[name]] += count
    shown = ", ".join(f"{group}:{count}" for group, count in counts.items())
    text = f"replicas are balanced over {key}"
    if strategy_of(notes.request) in ("Static", "Duplicated"):
        text = f"clusters are selected over {key}"
    better = "" if scored is None else " then where the score is higher,"
    notes.whole.append(
        f"{text}: {shown or 'none'}; the odd ones go where more run already,{better} then to the roomier, then by name"
    )


def _weights(
    notes: _Notes,
    chosen: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
    strategy: str,
    scored: Scores | None,
) -> dict[str, int]:
    """The weights that replicas were divided by."""
    request = notes.request
    if strategy == "Static":
        weights = static_weights(request.placement, chosen)
        for name, weight in weights.items():
            notes.say(name, f"its weight is {weight} of {sum(weights.values())}")
        _ties(notes, weights, request.replicas)
        return weights
    if strategy == "Preferences":
        _preferred(notes, chosen)
        return {}
    if strategy == "Duplicated":
        return {}
    own = held if request.fresh else {}
    rooms = {c.name: room[c.name] + own.get(c.name, 0) for c in chosen}
    weights = rooms
    if scored is not None and strategy == "Dynamic":
        weights = {name: count * scored.of[name] for name, count in rooms.items()}
    grouped = select.group_constraint(request.placement) is not None
    if request.fresh or not any(held.values()):
        if not grouped and strategy == "Dynamic" and not request.spread and weights is rooms:
            _ties(notes, weights, request.replicas)
        if request.fresh:
            notes.whole.append("the division is made anew: what runs counts as room")
    return weights


def _ties(notes: _Notes, weights: Mapping[str, int], seats: int) -> None:
    """Who stood equal for the last replica."""
    given = divide.webster(seats, weights, notes.request.uid)
    lowest = [(weights[n], 2 * count - 1, n) for n, count in given.items() if count]
    highest = [(weights[n], 2 * count + 1, n) for n, count in given.items()]
    tied = sorted(
        {a for wa, da, a in lowest for wb, db, b in highest if a != b and wa * db == wb * da}
        | {b for wa, da, a in lowest for wb, db, b in highest if a != b and wa * db == wb * da}
    )
    if not tied:
        return
    forwards = divide.fnv1a_32(notes.request.uid) % 2 == 0
    way = "forwards" if forwards else "backwards"
    names = ", ".join(tied[:FEW]) + (f" and {len(tied) - FEW} more" if len(tied) > FEW else "")
    notes.whole.append(
        f"a tie for the last replica between {names}: fewer replicas first, then by name, {way} by the hash of the uid"
    )


def _preferred(notes: _Notes, chosen: Sequence[Candidate]) -> None:
    wanted = notes.request.preferences
    assert wanted is not None
    for candidate in chosen:
        own = wanted.clusters.get(candidate.name, wanted.clusters.get(ANY))
        if own is None:
            notes.say(candidate.name, "the preferences have no entry for it, and none for all")
            continue
        most = "no limit" if own.max_replicas is None else f"at most {own.max_replicas}"
        notes.say(
            candidate.name,
            f"the preferences want at least {own.min_replicas}, {most}, weight {own.weight}",
        )


def _kept(
    notes: _Notes, chosen: Sequence[Candidate], held: Mapping[str, int], strategy: str
) -> None:
    """What stands where it stood."""
    request = notes.request
    if strategy in ("Dynamic", "Aggregated") and not request.fresh and any(held.values()):
        placed = sum(held.values())
        missing = request.replicas - placed
        what = f"{missing} are missing" if missing > 0 else f"{-missing} are too many"
        if not missing:
            what = "nothing is missing"
        notes.whole.append(f"what is placed stays: {placed} of {request.replicas}, {what}")
    for candidate in chosen:
        name = candidate.name
        before, after = held.get(name, 0), notes.targets.get(name, 0)
        if name in notes.targets:
            notes.say(name, f"{before} before, {after} now" if before else "it is new there")
        elif before:
            notes.say(name, f"{before} before, none now")
        else:
            notes.say(name, "other clusters fit better")


def _spread(notes: _Notes, chosen: Sequence[Candidate]) -> None:
    """How the rules of the ResiliencePolicy stand."""
    for rule in notes.request.spread:
        counts: dict[str, int] = {}
        for candidate in chosen:
            domain = domain_of(rule.key, candidate)
            if domain:
                counts[domain] = counts.get(domain, 0) + notes.targets.get(candidate.name, 0)
        shown = ", ".join(f"{domain}:{count}" for domain, count in sorted(counts.items()))
        hard = "must" if rule.when_unsatisfiable == "DoNotSchedule" else "should"
        notes.whole.append(
            f"{rule.key} {hard} differ by at most {rule.max_skew}: {shown or 'no domain has any'}"
        )
