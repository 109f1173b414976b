"""Bugs that are planted on purpose: the simulator is worth what it finds. Each one breaks one function of the product.

    with planted(BUGS["eager delete"]):
        play(seed)

`hunt` plays seeds until a rule is broken; which rules a bug may break stands beside it. The list is the acceptance list's
kind of bug: moves that never end, deletions too early, evidence that is believed too soon, fences and switches ignored.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from federation.controllers import dispatcher, evictor, failback, failover, health
from federation.domains import verdict
from federation.domains.settings import ENABLED
from federation.placement import filter as placement_filter
from federation.placement import plan as placement_plan
from federation.propagation import moves, works
from federation.propagation.resilience import CONSISTENCY
from federation.simulator.virtual import EPOCH
from machinery.api.fleet.cluster import READY, Cluster
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


def _bug(sentence: str, rules: str, *patches: Where) -> Bug:
    return Bug(sentence, frozenset(rules.split(", ")), patches)


BUGS: Mapping[str, Bug] = {
    "forgotten cancel": _bug(
        "no move ever ends, also when the cluster is back",
        "moves",
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
        (evictor, "silence_wait_s", _unwaited(evictor.silence_wait_s)),
    ),
    "link taken for life": _bug(
        "a cluster whose link alone is cut is evacuated though other members reach it",
        "serves",
        (evictor, "silence_wait_s", _left_behind(evictor.silence_wait_s)),
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
