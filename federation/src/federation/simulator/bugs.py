"""Bugs that are planted on purpose: the simulator is worth what it finds. Each one breaks one function of the product.

    with planted(BUGS["eager delete"]):
        play(seed)

`hunt` plays seeds until a rule is broken; which rules a bug may break stands beside it. The list is the acceptance list's
kind of bug: moves that never end, deletions too early, evidence that is believed too soon, fences and switches ignored.
"""

import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from federation.controllers import (
    dependencies,
    dispatcher,
    evictor,
    failback,
    failover,
    health,
    reservations,
)
from federation.domains import verdict
from federation.domains.settings import ENABLED
from federation.placement import divide, scores
from federation.placement import filter as placement_filter
from federation.placement import plan as placement_plan
from federation.propagation import customized, departures, interpreter, moves, questions, works
from federation.propagation.resilience import CONSISTENCY
from federation.simulator.virtual import EPOCH
from machinery.api.fleet.cluster import READY, Cluster
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Action, Delete
from machinery.meta.objectmeta import is_true

Where = tuple[Any, str, Any]
"""(module or class, name, what stands there instead)."""


@dataclass(frozen=True, slots=True)
class Bug:
    """What is wrong, in one sentence, and the rules that may find it."""

    sentence: str
    rules: frozenset[str]
    patches: tuple[Where, ...]


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The product with this bug in it."""
    held = [(owner, name, getattr(owner, name)) for owner, name, _ in bug.patches]
    try:
        for owner, name, wrong in bug.patches:
            setattr(owner, name, wrong)
        yield
    finally:
        for owner, name, right in held:
            setattr(owner, name, right)


def _ready_alone(cluster: Cluster, _: object) -> bool:
    return not cluster.deleting and is_true(cluster.status.conditions, READY)


def _all_ready(_: object, seen: Iterable[str]) -> dict[str, moves.Seen]:
    return {name: moves.Seen(1_000_000) for name in seen}


def _always(
    plan: Callable[[evictor.Round], list[Action]],
) -> Callable[[evictor.Round], list[Action]]:
    return lambda round_: plan(replace(round_, settings=replace(round_.settings, failover=ENABLED)))


def _unwaited(wait_s: Callable[..., float | None]) -> Callable[..., float | None]:
    """Nobody waits for grants to end."""

    def wrong(cause: Any, spec: Any, document: Any, silent_s: float) -> float | None:
        return 0.0 if spec.mode == CONSISTENCY else wait_s(cause, spec, document, silent_s)

    return wrong


def _endless(fenced: Callable[..., Any]) -> Callable[..., Any]:
    return lambda document, epoch, grant_s, **more: fenced(document, epoch, 10 * grant_s, **more)


def _left_behind(wait_s: Callable[..., float | None]) -> Callable[..., float | None]:
    """Silence is death, whoever reaches the cluster."""

    def wrong(cause: Any, spec: Any, document: Any, silent_s: float) -> float | None:
        return wait_s(cause, spec, document, silent_s) if spec.mode == CONSISTENCY else 0.0

    return wrong


def _at_once(rules: Callable[..., tuple[bool, float]]) -> Callable[..., tuple[bool, float]]:
    return lambda own, settings: (rules(own, settings)[0], 0.0)


def _any_question(_: object, held: moves.Before, facts: moves.Facts) -> bool:
    return all(name in facts.seen and name not in facts.drained for name in held.clusters)


def _keeping(plan: Callable[..., list[Action]]) -> Callable[..., list[Action]]:
    return lambda wanted, held: [a for a in plan(wanted, held) if not isinstance(a, Delete)]


def _believing(self: health.Heartbeats, cluster: str) -> float | None:
    held = self._seen.get(cluster)  # noqa: SLF001 - the bug is in there
    if held is None:
        return None
    renewed = held[0]
    assert isinstance(renewed, dt.datetime)
    return (EPOCH + dt.timedelta(seconds=self._now()) - renewed).total_seconds()  # noqa: SLF001


def _may_go(task: moves.Task, facts: moves.Facts) -> bool:
    return moves._releasable(task, facts)  # noqa: SLF001 - the bug is beside it


def _spare_for_all(state: moves.State, facts: moves.Facts) -> moves.State:
    """What is ready above the wanted number is counted for every cluster anew."""
    if facts.fenced or not facts.settled:
        return state
    ready = sum(facts.seen[name].ready for name in state.running if name in facts.seen)
    spare = max(0, ready - sum(state.clusters.values()))
    tasks = [
        replace(t, replicas=t.replicas - min(t.replicas, spare)) if _may_go(t, facts) else t
        for t in state.tasks
    ]
    return replace(state, tasks=tuple(t for t in tasks if t.replicas))


def _without_surge(
    binding: ResourceBinding, target: Mapping[str, int], group: str, _: str
) -> list[Action]:
    after = replace(moves.state_of(binding), clusters=dict(target), displaced=None)
    return [moves.patch(binding, after, questions.in_group(binding, group))]


def _half_is_whole(evict: Callable[..., moves.State]) -> Callable[..., moves.State]:
    def wrong(state: moves.State, cluster: str, reason: str, why: str, facts: moves.Facts, *more: Any) -> moves.State:  # noqa: E501 # fmt: skip
        return evict(state, cluster, reason, why, replace(facts, settled=True), *more)

    return wrong


def _first_place(required_by: Callable[..., Any]) -> Callable[..., Any]:
    first: dict[str, Any] = {}
    return lambda binding: first.setdefault(binding.metadata.uid, required_by(binding))


def _blaming(self: health.Heartbeats, cluster: str) -> float | None:
    seen, heard = self._seen.get(cluster), self._heard.get(cluster)  # noqa: SLF001 - as above
    if seen is None or heard is not None:
        return None if heard is None else self._now() - heard  # noqa: SLF001
    return self._now()  # noqa: SLF001


def _of_the_living(fell: Callable[..., list[str]]) -> Callable[..., list[str]]:
    def wrong(own: verdict.Evidence, fleet: Iterable[verdict.Evidence], clock: Any) -> list[str]:
        return fell(own, [e for e in fleet if e is own or not e.was_silent], clock)

    return wrong


def _any_taint(cluster: Cluster) -> bool:
    return any(taint.key.startswith("ubernetes.io/") for taint in cluster.spec.taints)


def _by_name(seats: int, weights: Mapping[str, int], _: str) -> dict[str, int]:
    """Each gets its share rounded down, and the first by name what is left."""
    names = sorted(name for name, weight in weights.items() if weight > 0)
    total = sum(weights[name] for name in names)
    given = {name: seats * weights[name] // total for name in names}
    return given if total else {}


def _by_turns(webster: Callable[..., Any]) -> Callable[..., Any]:
    turn = itertools.count()
    return lambda seats, weights, _: webster(seats, weights, str(next(turn)))


def _first_full(
    wanted: int, room: Mapping[str, int], _: Mapping[str, int], order: Sequence[str]
) -> dict[str, int]:
    """The first group takes what it has room for, the next one the rest."""
    given: dict[str, int] = {}
    for name in order:
        given[name] = min(wanted - sum(given.values()), max(0, room[name]))
    return given


def _dear(told: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    """The most expensive is the best."""
    most = max(told.values(), default=0) or 1
    return {name: 100 * told.get(name, 0) // most for name in names}


def _whole(_: object, document: Any, count: int, share: int | None = None) -> Any:
    """What a script would revise stays as the user wrote it."""
    return interpreter.revised(document, count, share)


def _bug(sentence: str, rules: str, *patches: Where) -> Bug:
    return Bug(sentence, frozenset(rules.split(", ")), patches)


BUGS: Mapping[str, Bug] = {
    "forgotten cancel": _bug(
        "no move ever ends, also when the cluster is back",
        "moves, placed",
        (failover, "plan", lambda *_: []),
    ),
    "eager delete": _bug(
        "the Work of a cluster is deleted as soon as its replicas are to run elsewhere",
        "kept",
        (dispatcher, "asked", dispatcher.targets),
    ),
    "inventory skipped": _bug(
        "a cluster that returns is believed as soon as it is heard of",
        "believed",
        (failover, "believed", _ready_alone),
    ),
    "surge forgotten": _bug(
        "every replica that was decided is taken for one that is ready",
        "surge",
        (moves, "reported", _all_ready),
    ),
    "panic": _bug(
        "a server that lost most of its members evacuates them",
        "verdict",
        (verdict, "fell_together", lambda *_: []),
        (verdict, "_alone", lambda *_: []),
    ),
    "fence ignored": _bug(
        "a workload of mode consistency leaves a dead cluster before its grant has ended",
        "one",
        (departures, "silence_wait_s", _unwaited(departures.silence_wait_s)),
    ),
    "link taken for life": _bug(
        "a cluster whose link alone is cut is evacuated though other members reach it",
        "serves",
        (departures, "silence_wait_s", _left_behind(departures.silence_wait_s)),
    ),
    "drain overlaps": _bug(
        "a drained workload of mode consistency starts elsewhere before it has ended",
        "one",
        (moves, "stopping_s", lambda *_: 0.0),
    ),
    "endless grants": _bug(
        "pods of mode consistency are told grants that last longer than the federation waits",
        "one",
        (dispatcher, "fenced", _endless(works.fenced)),
    ),
    "switch ignored": _bug(
        "failover goes on while the operator has frozen it",
        "frozen",
        (evictor, "plan", _always(evictor.plan)),
    ),
    "taints ignored": _bug(
        "a decision gives replicas to clusters that are cordoned or not heard of",
        "usable",
        (placement_filter, "untolerated", lambda *_: None),
        (placement_plan, "untolerated", lambda *_: None),
    ),
    "hasty failback": _bug(
        "what was displaced goes back the moment its cluster is heard of again",
        "calm",
        (failback, "rules", _at_once(failback.rules)),
    ),
    "old answer": _bug(
        "the placement from before a failure comes back though the question is another one by now",
        "sum",
        (moves, "_restorable", _any_question),
    ),
    "work forgotten": _bug(
        "a cluster that has no replicas any more keeps its Work",
        "leftovers, alive",
        (dispatcher, "plan", _keeping(dispatcher.plan)),
    ),
    "clock believed": _bug(
        "silence is counted by the time that the member wrote, not by when it was received",
        "clock, verdict",
        (health.Heartbeats, "silent_s", _believing),
    ),
    "spare for all": _bug(
        "replicas that are ready above the wanted number let every cluster go that keeps some",
        "surge",
        (moves, "_release", _spare_for_all),
    ),
    "failback at once": _bug(
        "what goes back is let go where it is before it is ready where it goes",
        "surge, kept",
        (failback, "returned", _without_surge),
    ),
    "half is whole": _bug(
        "what is left after one loss is remembered at the next one as the placement to go back to",
        "sum",
        (moves, "evict", _half_is_whole(moves.evict)),
    ),
    "drain for all": _bug(
        "a drain drives out also what tolerates its taint",
        "driven",
        (departures, "toleration_s", lambda *_: 0.0),
    ),
    "cordon drains": _bug(
        "a cordon drives out what runs",
        "driven",
        (departures, "drained", _any_taint),
        (departures, "toleration_s", lambda *_: 0.0),
    ),
    "settings stay behind": _bug(
        "what a workload refers to stays in the clusters that were chosen first",
        "works, leftovers",
        (dependencies, "required_by", _first_place(dependencies.required_by)),
    ),
    "start blames": _bug(
        "a server that starts counts heartbeats that it did not hear itself as missed",
        "clock, verdict",
        (health.Heartbeats, "silent_s", _blaming),
    ),
    "brake of the living": _bug(
        "the brake does not count members that were judged before",
        "verdict",
        (verdict, "fell_together", _of_the_living(verdict.fell_together)),
    ),
    "rounding loses": _bug(
        "a division rounds each share down and gives out less than was asked",
        "sum",
        (divide, "webster", _by_name),
    ),
    "zones filled up": _bug(
        "groups are filled one after another instead of being balanced",
        "zones",
        (divide, "balance", _first_full),
    ),
    "room given twice": _bug(
        "a decision does not know what others have been given since the last report",
        "overbooked",
        (reservations.Reservations, "left", lambda _, fleet, __: list(fleet)),
    ),
    "dear taken for cheap": _bug(
        "of what clusters cost and emit the most is the best",
        "best",
        (scores, "_cheap", _dear),
    ),
    "customs undivided": _bug(
        "every cluster gets all replicas of a custom kind, whatever its script says",
        "works, status",
        (customized, "revised", _whole),
    ),
    "ties by turns": _bug(
        "of equal shares now one cluster gets the odd replica and now another",
        "replays",
        (divide, "webster", _by_turns(divide.webster)),
    ),
}


@dataclass(frozen=True, slots=True)
class Caught:
    """In which seed a bug was found, by which breach; seed 0: not found."""

    name: str
    seed: int = 0
    broken: str = ""
    cpu_s: float = 0.0

    @property
    def rule(self) -> str:
        return self.broken.partition(":")[0]


def hunt(name: str, seeds: Iterable[int], play: Callable[[int], tuple[str, float]]) -> Caught:
    """Play until a rule breaks. `play` gives the breach and the CPU seconds of a seed."""
    spent = 0.0
    with planted(BUGS[name]):
        for seed in seeds:
            broken, cpu_s = play(seed)
            spent += cpu_s
            if broken:
                return Caught(name, seed, broken, spent)
    return Caught(name, cpu_s=spent)
