"""One placement: filter, select, divide.

    Duplicated                 every selected member runs all replicas
    Divided, static weights    Webster over the weights of the policy
    Divided, dynamic weights   Webster over free room; what is placed stays, only the difference is divided (Steady)
    Divided, Aggregated        on as few members as possible
    preferences on the object      federation v1's planner, in place of what the policy says of division
    any Divided + a group      (zone, region, provider, label): groups are balanced, members inside a group by free room
    several components         a set of them is one replica (`federation.placement.components`)

What a ResiliencePolicy asks of the spread is kept over each of them (`federation.placement.spread`). Where it scores clusters
(`federation.placement.scores`), the better ones come first in each choice and weigh more in a division by room; scores that
leave no answer are set aside, never the placement. A cluster whose link
is cut, or that a taint keeps new workloads from, keeps what it holds and gets nothing more.

The affinity groups of a policy are tried in order, beginning with the one used last. Overflow tiers of a group get what the
tiers before them have no room for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec

from federation.placement import (
    capacity,
    components,
    divide,
    ledger,
    platforms,
    preferred,
    regions,
    scores,
    select,
    spread,
    tiers,
)
from federation.placement.filter import filter_candidates, matches, rejection, untolerated
from federation.placement.model import (
    MAX_REPLICAS,
    Candidate,
    Decision,
    NoFit,
    Request,
    Unschedulable,
    Warned,
)
from federation.placement.scores import Scores
from machinery.api.fleet.policy import ClusterAffinity, Placement, SpreadConstraint
from machinery.api.fleet.resilience import SpreadRule

Rooms = Sequence[tuple[str, int]]
Share = Callable[[int, Rooms, Mapping[str, int], str, str], dict[str, int]]
"""Of so many replicas, over clusters with room, which hold some already, for a uid; and what a refusal begins with."""
REGION = "region"
BEST_OF_EACH = SpreadConstraint(spread_by_field="cluster", max_groups=1)
"""Of a placement that counts regions alone, which admission refuses in policies: the best cluster of each, as in Karmada."""
SCALE_UP = "failed to scale up: "


def place(request: Request, candidates: Sequence[Candidate]) -> Decision:
    """The decision for one workload. Raises NoFit or one of its kinds, with the sentence for the condition."""
    if request.sets is not None:
        found = _placed(components.as_one(request), candidates)
        counted = components.single(request.placement)
        return found if counted else replace(found, targets=dict.fromkeys(found.targets, 0))
    return _placed(request, candidates)


def _placed(request: Request, candidates: Sequence[Candidate]) -> Decision:
    terms = request.placement.cluster_affinities
    if not terms:
        return _place_in(request, request.placement.cluster_affinity, candidates, "")
    names = [term.affinity_name for term in terms]
    start = names.index(request.affinity_name) if request.affinity_name in names else 0
    first: NoFit | None = None
    for term in terms[0 if request.fresh else start :]:
        try:
            return _place_in(request, term, candidates, term.affinity_name)
        except NoFit as error:
            first = first or error
    assert first is not None, "a policy with affinity groups has at least one"
    raise first


def most(request: Request, fleet: Sequence[Candidate]) -> Decision | None:
    """After a loss, as many replicas as fit are better than none: the largest number that can be placed, if it is more."""
    best: Decision | None = None
    least, limit = sum(request.previous.values()), request.replicas
    while limit - least > 1:
        count = (least + limit) // 2
        try:
            best, least = place(replace(request, replicas=count), fleet), count
        except NoFit:
            limit = count
    return best


def spoken_for(request: Request, candidates: Sequence[Candidate]) -> bool:
    """Whether what the members report as free would do: the rest of it is promised to others, and may be free again soon."""
    if not any(c.reserved for c in candidates):
        return False
    try:
        _ = place(request, [ledger.whole(c) for c in candidates])
    except NoFit:
        return False
    return True


def _place_in(
    request: Request,
    affinity: ClusterAffinity | None,
    candidates: Sequence[Candidate],
    affinity_name: str,
) -> Decision:
    """What is preferred never costs the placement: scores that leave no answer are set aside."""
    try:
        return _decide(request, affinity, candidates, affinity_name)
    except NoFit as error:
        if not request.scores:
            raise
        why = str(error)
    decision = _decide(replace(request, scores=()), affinity, candidates, affinity_name)
    aside = Warned(scores.SET_ASIDE, f"with its scores the workload has no placement: {why}")
    return replace(decision, warnings=(*decision.warnings, aside))


def _decide(
    request: Request,
    affinity: ClusterAffinity | None,
    candidates: Sequence[Candidate],
    affinity_name: str,
) -> Decision:
    strategy = strategy_of(request)
    ranks = () if strategy == "Duplicated" else tiers.of(affinity)
    passed, left_out = filter_candidates(request, affinity, candidates, ranks)
    passed = usable(passed, request)
    previous = request.previous
    held = {c.name: previous[c.name] for c in passed if c.name in previous} if previous else {}
    room = rooms_of(request, passed)
    scored = scores_of(request, passed, room, held) if request.scores else None
    chosen, groups = chosen_of(request, passed, room, held, tiers.numbers(ranks, passed), scored)
    shared = preferred.Shared({})
    if strategy == "Preferences":
        shared = preferred.divide(request, chosen)
        targets = shared.targets
    elif ranks:
        targets = _tiered(request, ranks, chosen, groups, room, held, scored)
    else:
        targets = _assigned(request, chosen, groups, room, held, strategy, scored)
    targets, warnings = _resilient(request, targets, chosen, passed, room, held, scored)
    if request.empties:
        targets = {c.name: 0 for c in chosen if not c.cut or c.name in held} | targets
    for candidate in passed:
        if candidate.name not in targets:
            left_out[candidate.name] = "other clusters fit better"
    return Decision(
        {name: targets[name] for name in sorted(targets)},
        left_out,
        affinity_name,
        (*shared.told, *warnings, *_preferred(request, scored)),
        shared.waiting,
    )


def rooms_of(request: Request, passed: Sequence[Candidate]) -> dict[str, int]:
    """How much more of the workload each member holds: replicas, or sets of its components."""
    if request.sets is not None:
        return components.rooms(passed, request)
    return capacity.rooms(passed, request.asks)


def usable(passed: Sequence[Candidate], request: Request) -> list[Candidate]:
    """Those that passed the filters, with what of them the workload can use."""
    return platforms.all_narrowed((closed(c, request) if c.taints else c for c in passed), request)


def scores_of(
    request: Request,
    passed: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
) -> Scores | None:
    """How well each cluster suits; None where nothing is preferred, or where that has no say."""
    if not request.scores or not _choosing(request):
        return None
    spaces = {c.name: room[c.name] + held.get(c.name, 0) for c in passed}
    need = request.replicas if strategy_of(request) == "Duplicated" else 1
    return scores.scored(request.scores, passed, spaces, held, fresh=request.fresh, need=need)


def _choosing(request: Request) -> bool:
    """Whether there is a choice between clusters: some are used and not others, or room is divided."""
    group = select.group_constraint(request.placement)
    constraint = select.cluster_constraint(request.placement)
    match strategy_of(request):
        case "Static":
            return group is not None and group.spread_by_field != REGION
        case "Duplicated" | "Preferences":
            return group is not None or constraint is not None
        case _:
            return True


def _preferred(request: Request, scored: Scores | None) -> list[Warned]:
    """What of its preferences a workload cannot have."""
    if not request.scores:
        return []
    if scored is None:
        text = f"scores have no say: the placement is {strategy_of(request)} and leaves no choice"
        return [Warned(scores.NO_SAY, text)]
    return scores.unsaid(scored)


Groups = Mapping[str, Sequence[Candidate]]


def chosen_of(
    request: Request,
    passed: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
    ranks: Mapping[str, int],
    scored: Scores | None = None,
) -> tuple[Sequence[Candidate], Groups | None]:
    """The clusters that are used, and the groups to balance over where the placement wants that.

    Karmada spreads over regions only and does not balance them; every other field it ignores beside a constraint over
    clusters, and refuses without. So what the two have in common is done as there, and the rest as it is meant.
    """
    strategy = strategy_of(request)
    constraint = select.cluster_constraint(request.placement)
    group = select.group_constraint(request.placement)
    by_region = group is not None and group.spread_by_field == REGION
    if strategy == "Static" and (group is None or by_region):
        return passed, None
    unlimited = strategy in ("Duplicated", "Preferences")
    if group is None:
        if constraint is None:
            return passed, None
        needed = None if unlimited else request.replicas
        chosen = select.select_clusters(constraint, passed, room, held, needed, ranks, scored)
        return chosen, None
    offer = regions.Offer(passed, room, held, request.replicas, strategy == "Duplicated", scored)
    if by_region and constraint is not None:
        return regions.select(group, constraint, offer), None
    if by_region:
        chosen = regions.select(group, BEST_OF_EACH, offer)
        return chosen, None if unlimited else {c.region: [c] for c in chosen}
    least = None if unlimited else request.replicas
    groups = select.select_groups(group, passed, room, held, least, scored)
    if constraint is not None:
        groups = regions.limited(groups, constraint, offer)
    return [c for members in groups.values() for c in members], None if unlimited else groups


def _assigned(
    request: Request,
    chosen: Sequence[Candidate],
    groups: Groups | None,
    room: Mapping[str, int],
    held: Mapping[str, int],
    strategy: str,
    scored: Scores | None,
) -> dict[str, int]:
    if groups is not None:
        return _divide_groups(request, groups, room, held, scored)
    return _divide(request, chosen, room, held, strategy, scored)


def _tiered(
    request: Request,
    ranks: Sequence[ClusterAffinity],
    chosen: Sequence[Candidate],
    groups: Groups | None,
    room: Mapping[str, int],
    held: Mapping[str, int],
    scored: Scores | None,
) -> dict[str, int]:
    """The first tier takes what it has room for, the next one the rest; so it contracts from the last to the first."""
    targets: dict[str, int] = {}
    left = request.replicas
    for members in tiers.split(ranks, chosen):
        count = min(left, sum(room[c.name] + held.get(c.name, 0) for c in members))
        if count <= 0:
            continue
        inside = {c.name for c in members}
        kept = {name: n for name, n in held.items() if name in inside}
        parts = groups and {
            name: part
            for name, cs in groups.items()
            if (part := [c for c in cs if c.name in inside])
        }
        share = replace(request, replicas=count)
        targets |= _assigned(share, members, parts, room, kept, strategy_of(request), scored)
        left -= count
    if left > 0:
        raise Unschedulable(
            "failed to assign replicas: Clusters available replicas are not enough to schedule."
        )
    return targets


def assess(request: Request, candidates: Sequence[Candidate]) -> list[Warned]:
    """What the workload asks for and the present placement (`request.previous`) does not give."""
    if request.sets is not None:
        request = components.as_one(request)
    passed = [
        candidate
        for candidate in candidates
        if not rejection(request, request.placement.cluster_affinity, candidate)
    ]
    held = {c.name: request.previous[c.name] for c in passed if c.name in request.previous}
    passed = platforms.all_narrowed((closed(c, request) for c in passed), request)
    room = rooms_of(request, passed)
    told = _unspreadable(request)
    if request.spread and request.replicas and not told:
        told = spread.unmet(held, request.spread, spread.Pool(passed, held, held))
    told += _headroom(request, held, passed, room, held)
    return told + _preferred(request, scores_of(request, passed, room, held))


def _resilient(
    request: Request,
    targets: dict[str, int],
    chosen: Sequence[Candidate],
    passed: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
    scored: Scores | None,
) -> tuple[dict[str, int], list[Warned]]:
    """The division as the workload's ResiliencePolicy wants it, and what of that it cannot have."""
    told = _unspreadable(request)
    if request.spread and request.replicas and not told:
        most = {c.name: room[c.name] + held.get(c.name, 0) for c in chosen}
        if strategy_of(request) == "Static":
            weights = static_weights(request.placement, chosen)
            chosen = [c for c in chosen if weights[c.name]]
            most = {c.name: held.get(c.name, 0) if c.cut else MAX_REPLICAS for c in chosen}
        if request.preferences is not None:
            most = preferred.capped(request.preferences, most)
        running = bool(request.previous or request.evicting)
        suits = scored.of if scored is not None else {}
        pool = spread.Pool(chosen, most, held, running, _groups(request.placement), suits)
        targets, told = spread.settle(targets, request.spread, pool)
    return targets, told + _headroom(request, targets, passed, room, held)


def _unspreadable(request: Request) -> list[Warned]:
    if not request.spread or strategy_of(request) != "Duplicated":
        return []
    text = "spread has no say: the placement is Duplicated, every cluster runs all replicas"
    return [Warned(spread.NOT_MET, text)]


def _headroom(
    request: Request,
    targets: Mapping[str, int],
    passed: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
) -> list[Warned]:
    if not request.headroom or strategy_of(request) == "Duplicated":
        return []
    caps = {c.name: room[c.name] + held.get(c.name, 0) for c in passed}
    return spread.headroom(request.headroom, targets, spread.Pool(passed, caps, held))


def _groups(placement: Placement) -> tuple[SpreadRule, ...]:
    group = select.group_constraint(placement)
    return (
        (SpreadRule(group.spread_by_label or group.spread_by_field),) if group is not None else ()
    )


def closed(candidate: Candidate, request: Request) -> Candidate:
    """A member that holds replicas in spite of a taint keeps them, and gets no more than one whose link is cut."""
    taint = untolerated(request.placement.cluster_tolerations, candidate.taints)
    return candidate if taint is None else msgspec.structs.replace(candidate, cut=True)


def strategy_of(request: Request) -> str:
    """Duplicated, Static, Dynamic, Aggregated, or Preferences, which the object itself states."""
    if request.preferences is not None:
        return "Preferences"
    scheduling = request.placement.replica_scheduling
    if scheduling is None or scheduling.replica_scheduling_type in ("", "Duplicated"):
        return "Duplicated"
    if scheduling.replica_division_preference == "Aggregated":
        return "Aggregated"
    preference = scheduling.weight_preference
    return "Dynamic" if preference is not None and preference.dynamic_weight else "Static"


def _divide(
    request: Request,
    chosen: Sequence[Candidate],
    room: Mapping[str, int],
    held: Mapping[str, int],
    strategy: str,
    scored: Scores | None,
) -> dict[str, int]:
    if request.replicas == 0:
        return {c.name: 0 for c in chosen} if not request.asks and strategy == "Duplicated" else {}
    if strategy == "Duplicated":
        return {c.name: request.replicas for c in chosen}
    if strategy == "Static":
        return _nonzero(_static(request, chosen, held))
    inside = {c.name: held[c.name] for c in chosen if held.get(c.name)}
    share = _shared(strategy == "Aggregated", scored)
    return _nonzero(_steady(request, chosen, room, inside, share))


def _static(
    request: Request, chosen: Sequence[Candidate], held: Mapping[str, int]
) -> dict[str, int]:
    """By weight alone; who can be told nothing keeps at most what it has, and the others share the rest."""
    weights = static_weights(request.placement, chosen)
    shares = divide.webster(request.replicas, weights, request.uid)
    over = {
        c.name: held.get(c.name, 0)
        for c in chosen
        if c.cut and shares.get(c.name, 0) > held.get(c.name, 0)
    }
    others = {name: weight for name, weight in weights.items() if name not in over and weight}
    if not over or not others:
        return shares
    rest = divide.webster(request.replicas - sum(over.values()), others, request.uid)
    return over | rest


def _steady(
    request: Request,
    chosen: Sequence[Candidate],
    room: Mapping[str, int],
    held: dict[str, int],
    share: Share,
) -> dict[str, int]:
    """Keep what is placed; divide only what is missing, or shrink in proportion."""
    wanted, placed = request.replicas, sum(held.values())
    spare = [(c.name, room[c.name]) for c in chosen]
    if request.fresh:
        spare = [(name, count + held.get(name, 0)) for name, count in spare]
        return share(wanted, spare, {}, request.uid, "")
    if placed > wanted:
        return share(wanted, list(held.items()), held, request.uid, "")
    if placed == wanted:
        return held
    more = share(wanted - placed, spare, held, request.uid, SCALE_UP)
    if not held:
        return more
    return {name: held.get(name, 0) + more.get(name, 0) for name in held | more}


def _by_room(
    wanted: int, spare: Rooms, held: Mapping[str, int], uid: str, what: str
) -> dict[str, int]:
    return divide.by_available(wanted, spare, uid, what=what)


def _aggregated(
    wanted: int, spare: Rooms, held: Mapping[str, int], uid: str, what: str
) -> dict[str, int]:
    order = sorted(spare, key=lambda item: -item[1])
    return divide.aggregated(wanted, order, held, uid, what=what)


def _shared(aggregate: bool, scored: Scores | None) -> Share:
    """How a division is made: by room, on few members, and either as the workload's scores have it."""
    if scored is None:
        return _aggregated if aggregate else _by_room

    def weighed(
        wanted: int, spare: Rooms, held: Mapping[str, int], uid: str, what: str
    ) -> dict[str, int]:
        if not aggregate:
            return divide.by_score(wanted, spare, scored.of, uid, what=what)

        def rank(item: tuple[str, int]) -> tuple[tuple[bool, bool, int], int, str]:
            return scored.rank(item[0], item[1], bool(held.get(item[0]))), -item[1], item[0]

        return divide.filled(wanted, sorted(spare, key=rank), what=what)

    return weighed


def _divide_groups(
    request: Request,
    groups: Mapping[str, Sequence[Candidate]],
    room: Mapping[str, int],
    held: Mapping[str, int],
    scored: Scores | None,
) -> dict[str, int]:
    """Groups balanced, members inside a group by room: zones differ by at most one unless one is full."""
    kept: Mapping[str, int] = {} if request.fresh else held
    space = {name: count + held.get(name, 0) for name, count in room.items()} if held else room
    spaces = {name: sum(space[c.name] for c in members) for name, members in groups.items()}
    if sum(spaces.values()) < request.replicas:
        missing = sum(spaces.values()) - sum(held.values())
        raise Unschedulable(
            f"failed to assign replicas: {SCALE_UP}Clusters available replicas {missing} "
            "are not enough to schedule."
        )
    holding = {n: sum(kept.get(c.name, 0) for c in ms) for n, ms in groups.items()} if kept else {}
    order = sorted(groups, key=lambda name: (-spaces[name], name))
    if scored is not None:
        order.sort(key=lambda name: -scored.of_group(groups[name], space))
    share = _shared(False, scored)
    shares = divide.balance(request.replicas, spaces, holding, order)
    targets: dict[str, int] = {}
    for name, members in groups.items():
        part = _part(request, shares[name])
        inside = {c.name: kept[c.name] for c in members if kept.get(c.name)} if kept else {}
        spare = room if kept else space
        targets |= _steady(part, members, spare, inside, share)
    return _nonzero(targets)


def _part(request: Request, replicas: int) -> Request:
    """The same for some of the replicas; groups keep or divide anew as the whole does."""
    return replace(request, replicas=replicas, fresh=False)


def static_weights(placement: Placement, chosen: Sequence[Candidate]) -> dict[str, int]:
    """The largest matching weight of each member; members without one are out unless none has one."""
    scheduling = placement.replica_scheduling
    preference = scheduling.weight_preference if scheduling is not None else None
    rules = preference.static_weight_list if preference is not None else ()
    weights = {
        c.name: max((r.weight for r in rules if matches(r.target_cluster, c)), default=0)
        for c in chosen
    }
    return weights if any(weights.values()) else dict.fromkeys(weights, 1)


def _nonzero(targets: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in targets.items() if count > 0}
