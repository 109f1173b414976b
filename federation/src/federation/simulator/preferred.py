"""Whether a decision that was made by scores follows them: worked out anew from what the journal holds of it. Pure.

The judge does not read the product's scores: it goes out from the figures of the clusters that passed the filters, and says
something only where no rounding can have turned it round. Asked are decisions that divide anew, for what is placed stays.

    Aggregated          a cluster that is clearly better is full before a worse one gets anything
    divided by room     of two clusters of a zone, the clearly better one with no less room gets no less
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import msgspec

from federation.placement import capacity, scores
from federation.placement.journal import PLACE
from federation.placement.model import Candidate, Request
from federation.placement.plan import strategy_of, usable
from federation.propagation.replays import inputs_of
from federation.propagation.resilience import DEMANDS
from machinery.api.fleet.decision import Decision, FleetRecord
from machinery.meta.resource import Document

STAYED = "other clusters fit better"
"""Why a cluster that passed the filters got nothing."""
HIGHEST = 100


def scored(binding: Document | None) -> bool:
    """Whether the workload prefers some clusters to others."""
    annotations = ((binding or {}).get("metadata") or {}).get("annotations") or {}
    return '"scores"' in annotations.get(DEMANDS, "")


def misjudged(document: Document, record: Document | None) -> str:
    """Where the Decision does not follow the scores; empty where it does, or nothing can be said. `record`: its fleet."""
    spec = document["spec"]
    aside = any(w["reason"] == scores.SET_ASIDE for w in spec.get("warnings") or ())
    if spec["function"] != PLACE or spec["result"] != "Scheduled" or aside:
        return ""
    held = None if record is None else msgspec.convert(record, FleetRecord)
    asked = inputs_of(msgspec.convert(document, Decision), held)
    if not anew(asked.values):
        return ""
    return passed_over(asked.values, _passed(asked.fleet, spec.get("leftOut") or ()), spec)


def anew(request: Request) -> bool:
    """Whether everything was divided by the scores, on clusters that nothing else chose."""
    whole = not any(c.max_groups for c in request.placement.spread_constraints)
    divides = strategy_of(request) in ("Aggregated", "Dynamic")
    return bool(request.scores) and whole and divides and (request.fresh or not request.previous)


def passed_over(request: Request, passed: Sequence[Candidate], spec: Document) -> str:
    """Which cluster should have had more than another one."""
    aggregated = strategy_of(request) == "Aggregated"
    by_zone = any(c.spread_by_field == "zone" for c in request.placement.spread_constraints)
    room = capacity.rooms(usable(passed, request), request.asks)
    if request.fresh:
        room = {name: count + request.previous.get(name, 0) for name, count in room.items()}
    given = {c["name"]: c["replicas"] for c in spec.get("clusters") or ()}
    values = worth(request, passed, room)
    doubt = 2 * sum(rule.weight for rule in request.scores)
    takers = [candidate for candidate in passed if given.get(candidate.name)]
    for better in passed:
        for worse in takers:
            a, b = better.name, worse.name
            if values[a] <= values[b] + doubt:
                continue
            if aggregated:
                wrong = given.get(a, 0) < room[a]
            else:
                alike = not by_zone or better.zones == worse.zones
                wrong = alike and room[a] >= room[b] and given[b] > given.get(a, 0)
            if wrong:
                return _said(given, a, b, values, room)
    return ""


def _said(
    given: Mapping[str, int],
    better: str,
    worse: str,
    values: Mapping[str, Fraction],
    room: Mapping[str, int],
) -> str:
    told = {name: f"{float(values[name]):.0f}" for name in (better, worse)}
    return f"it gives {given}, though {better} suits better than {worse} {told} and has room for {room[better]}"


def _passed(fleet: Iterable[Candidate], left_out: Iterable[Document]) -> Sequence[Candidate]:
    out = {name for one in left_out if one["reason"] != STAYED for name in one["clusters"]}
    return [candidate for candidate in fleet if candidate.name not in out]


def worth(
    request: Request, passed: Sequence[Candidate], room: Mapping[str, int]
) -> dict[str, Fraction]:
    """What each cluster is worth to the workload: the larger, the better."""
    found = {candidate.name: Fraction(0) for candidate in passed}
    for rule in request.scores:
        for name, value in _by(rule.by, request, passed, room).items():
            found[name] += rule.weight * value
    return found


def _by(
    by: str, request: Request, passed: Sequence[Candidate], room: Mapping[str, int]
) -> dict[str, Fraction]:
    names = [candidate.name for candidate in passed]
    if by == "capacity":
        most = max(room.values(), default=0) or 1
        return {name: Fraction(HIGHEST * room[name], most) for name in names}
    if by == "locality":
        stays = () if request.fresh else request.previous
        return {name: Fraction(HIGHEST if name in stays else 0) for name in names}
    told = {c.name: c.figures[by] for c in passed if by in c.figures}
    least = min(told.values(), default=0)
    values = {name: Fraction(HIGHEST * least, figure) for name, figure in told.items()}
    mean = sum(values.values(), Fraction(0)) / len(values) if values else Fraction(0)
    return {name: values.get(name, mean) for name in names}
