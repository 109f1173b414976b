"""Division by the preferences that stand on the object (federation v1's planner over the clusters that were selected).

Federation v1 knows a cluster's capacity only when pods of the workload are unschedulable there; here it is known from the
members' reports. What no cluster has room for waits where it is due (v1's overflow), so that it starts as soon as there is
room; the decision says how many, since waiting replicas are not room for others. In all never more than are wanted: v1
with rebalance would ask for the overflow on top of what it placed elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from federation.placement import capacity
from federation.placement.model import Candidate, Request, Unschedulable, Warned
from federation.placement.planners import PLANNERS, Plan, Question
from federation.placement.preferences import ANY, Preferences

WAITING, SHORT = "WaitingForRoom", "PreferencesShort"


@dataclass(frozen=True, slots=True)
class Shared:
    """The division, what of it waits for room, and what is to be told."""

    targets: dict[str, int]
    waiting: dict[str, int] = field(default_factory=dict)
    told: tuple[Warned, ...] = ()


def divide(request: Request, chosen: Sequence[Candidate]) -> Shared:
    """Raises Unschedulable when the preferences give no cluster anything."""
    wanted = request.preferences
    assert wanted is not None
    if not request.replicas:
        return Shared({})
    names = [c.name for c in chosen]
    answer = PLANNERS[wanted.planner](
        Question(
            request.replicas,
            names,
            wanted.clusters,
            wanted.rebalance or request.fresh,
            {name: request.previous[name] for name in names if name in request.previous},
            rooms(request, chosen),
            request.key,
        )
    )
    left = request.replicas - sum(answer.plan.values())
    waiting = _waiting(request, wanted, answer, left)
    left -= sum(waiting.values())
    targets = {name: count + waiting.get(name, 0) for name, count in answer.plan.items()}
    targets = {name: count for name, count in targets.items() if count}
    if not targets:
        raise Unschedulable(
            "failed to assign replicas: the object's preferences give no cluster any of "
            f"{request.replicas} replicas"
        )
    return Shared(targets, waiting, _told(request.replicas, waiting, left))


def _waiting(request: Request, wanted: Preferences, answer: Plan, left: int) -> dict[str, int]:
    """Where `left` replicas wait: where they do already, since moving them would gain nothing, then where they are due."""
    limits = capped(wanted, dict.fromkeys(answer.plan, request.replicas))
    found: dict[str, int] = {}
    for source in (request.waiting, answer.overflow):
        for name, count in sorted(source.items()):
            if name not in answer.plan:
                continue
            held = found.get(name, 0)
            more = min(count - held, left, limits[name] - answer.plan[name] - held)
            if more > 0:
                found[name] = held + more
                left -= more
    return dict(sorted(found.items()))


def _told(replicas: int, waiting: Mapping[str, int], left: int) -> tuple[Warned, ...]:
    told = []
    if waiting:
        where = ", ".join(f"{count} in {name}" for name, count in waiting.items())
        told.append(Warned(WAITING, f"no cluster has room yet for some replicas: {where}"))
    if left:
        text = (
            f"{left} of {replicas} replicas have no place: the preferences let no cluster take more"
        )
        told.append(Warned(SHORT, text))
    return tuple(told)


def rooms(request: Request, chosen: Sequence[Candidate]) -> dict[str, int]:
    """The most that each could run, for those of which it is known.

    What waits in a cluster counts as placed there, so its room is told as less than nothing. That may be the fault of others
    as well: a cluster keeps at least what ran there.
    """
    found: dict[str, int] = {}
    for candidate in chosen:
        held = request.previous.get(candidate.name, 0)
        if candidate.cut:
            found[candidate.name] = held
        elif candidate.free is not None:
            waiting = min(held, request.waiting.get(candidate.name, 0))
            more = capacity.balance(candidate, request.asks)
            found[candidate.name] = held - waiting + max(0, more + waiting)
    return found


def capped(preferences: Preferences, most: Mapping[str, int]) -> dict[str, int]:
    """`most`, and not beyond the preferred maximum."""
    limits = {}
    for name, count in most.items():
        own = preferences.clusters.get(name, preferences.clusters.get(ANY))
        limit = 0 if own is None else own.max_replicas
        limits[name] = count if limit is None else min(count, limit)
    return limits
