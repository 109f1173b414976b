"""The capacity ledger: what is reserved in which case, and decisions in a burst that do not overbook."""

from dataclasses import dataclass, replace

import msgspec
import pytest

from federation.placement import capacity
from federation.placement.ledger import (
    GROWN_S,
    SETTLE_S,
    TOLD_S,
    UNSEEN_S,
    WORD_S,
    Ledger,
    Reservation,
    Standing,
    less,
    whole,
)
from federation.placement.model import Candidate, NoFit, Request, Shape
from federation.placement.plan import place
from machinery.api.fleet.policy import Placement
from machinery.meta.resource import ObjectKey

WEB, OTHER = ObjectKey("demo", "web"), ObjectKey("demo", "other")
ONE = {"cpu": 1000}
AFTER = 0.001


@dataclass(frozen=True)
class Stands:
    """The binding is like this at `at`."""

    at: float
    asked: dict[str, int]
    shown: dict[str, int] | None = None
    cpu: int = 1000
    key: ObjectKey = WEB
    counted: bool = True
    held: bool = False
    since: float | None = None
    uid: str = "u"


@dataclass(frozen=True)
class Gone:
    at: float
    key: ObjectKey = WEB


@dataclass(frozen=True)
class Heard:
    at: float
    away: bool = False


@dataclass(frozen=True)
class Void:
    at: float


Step = Stands | Gone | Heard | Void


def play(steps: list[Step]) -> Ledger:
    ledger = Ledger(listening=any(isinstance(step, Heard) for step in steps))
    for step in steps:
        match step:
            case Stands():
                binding = Standing(
                    step.key,
                    step.uid,
                    {"cpu": step.cpu},
                    step.asked,
                    step.shown or {},
                    step.counted,
                    step.held,
                )
                ledger.stand(binding, step.at, step.since)
            case Gone():
                ledger.gone(step.key, step.at)
            case Heard():
                ledger.heard("a", step.at, away=step.away)
            case Void():
                ledger.void(WEB)
    return ledger


DECIDED = Stands(0, {"a": 3})
SHOWN = Stands(1, {"a": 3}, {"a": 3})
CASES: dict[str, tuple[list[Step], float, int]] = {
    "nothing decided": ([], 0, 0),
    "decided": ([DECIDED], 0, 3),
    "told twice, reserved once": ([DECIDED, replace(DECIDED, at=1)], 1, 3),
    "in part reported, the rest may not be in the sums yet": (
        [DECIDED, Stands(1, {"a": 3}, {"a": 2})], 1, 3,
    ),
    "in part reported, and settled": ([DECIDED, Stands(1, {"a": 3}, {"a": 2})], 1 + SETTLE_S, 1),
    "reported": ([DECIDED, SHOWN], 1 + SETTLE_S - AFTER, 3),
    "reported and settled": ([DECIDED, SHOWN], 1 + SETTLE_S, 0),
    "scale up": ([DECIDED, SHOWN, Stands(9, {"a": 5}, {"a": 3})], 9, 2),
    "scale up within the report": ([DECIDED, Stands(1, {"a": 5})], 1, 5),
    "scale down frees nothing before the report": (
        [DECIDED, SHOWN, Stands(9, {"a": 1}, {"a": 3})], 9, 0,
    ),
    "scale down of what was owed": ([DECIDED, Stands(1, {"a": 1})], 1 + SETTLE_S, 1),
    "more pods than are asked give nothing": ([Stands(0, {"a": 1}, {"a": 5})], 0, 0),
    "a move away, kept until it is ready elsewhere": (
        [DECIDED, SHOWN, Stands(9, {"a": 3, "b": 3}, {"a": 3})], 9, 0,
    ),
    "a move here": ([Stands(0, {"b": 3}, {"b": 3}), Stands(9, {"a": 3, "b": 3}, {"b": 3})], 9, 3),
    "taken back before it came": (
        [Stands(0, {"b": 3}, {"b": 3}), Stands(9, {"a": 3, "b": 3}, {"b": 3}),
         Stands(10, {"b": 3}, {"b": 3})], 10 + SETTLE_S, 0,
    ),
    "deleted, in the making": ([DECIDED, Gone(1)], 1, 3),
    "deleted": ([DECIDED, Gone(1)], 1 + SETTLE_S, 0),
    "deleted twice": ([DECIDED, Gone(1), Gone(2)], 1 + SETTLE_S, 0),
    "another one of the name": ([DECIDED, Stands(1, {"a": 1}, uid="v")], 1 + SETTLE_S, 1),
    "never written": ([DECIDED, Void(1)], 1, 0),
    "a pod was lost, and will be made again": ([DECIDED, SHOWN, Stands(9, {"a": 3}, {"a": 2})], 9, 1),
    "nobody waits for ever": ([DECIDED], UNSEEN_S, 0),
    "almost for ever": ([DECIDED], UNSEEN_S - AFTER, 3),
    "given up stays given up": ([DECIDED, Stands(UNSEEN_S + 1, {"a": 3})], UNSEEN_S + 1, 0),
    "given up and seen to be": ([DECIDED], UNSEEN_S + 1, 0),
    "a kind that tells no replicas": ([replace(DECIDED, counted=False)], TOLD_S, 0),
    "a kind that tells no replicas, in time": ([replace(DECIDED, counted=False)], TOLD_S - 1, 3),
    "dispatching is suspended": ([replace(DECIDED, held=True)], 10 * UNSEEN_S, 3),
    "dispatching goes on": (
        [replace(DECIDED, held=True), Stands(1000, {"a": 3})], 1000 + UNSEEN_S, 0,
    ),
    "silent: no time passes": ([Heard(0), DECIDED, Heard(1)], 10 * UNSEEN_S, 3),
    "silent with what was just reported": ([DECIDED, SHOWN, Heard(2)], 10 * UNSEEN_S, 3),
    "silent, and nobody can say so yet": (
        [Heard(0), replace(DECIDED, counted=False), Heard(2)], TOLD_S + 1, 3,
    ),
    "never heard": ([Heard(0), replace(DECIDED, asked={"b": 3}), Stands(1, {"a": 3})], UNSEEN_S, 3),
    "heard again after a longer pause: it has not told yet": (
        [Heard(0), DECIDED, SHOWN, Heard(2), Heard(1000, away=True),
         Heard(1000 + SETTLE_S - AFTER)], 1002 + SETTLE_S, 3,
    ),
    "heard again, and told": (
        [Heard(0), DECIDED, SHOWN, Heard(2), Heard(1000, away=True), Heard(1000 + SETTLE_S)], 1000 + SETTLE_S, 0,
    ),
    "heard again after a short pause": (
        [Heard(0), replace(DECIDED, counted=False), Heard(1), Heard(TOLD_S)], TOLD_S, 0,
    ),
    "heard all the time": ([Heard(0), DECIDED, SHOWN, Heard(3), Heard(1 + SETTLE_S)], 1 + SETTLE_S, 0),
    "a word of the time in between": ([Heard(0), DECIDED, SHOWN, Heard(9)], SETTLE_S, 3),
    "first word after the server's start: it has not told yet": (
        [replace(DECIDED, at=999, since=0), Heard(1000), Heard(1000 + TOLD_S - AFTER)], 2000, 3,
    ),
    "first word after the server's start, and time to tell": (
        [replace(DECIDED, at=999, since=0), Heard(1000), Heard(1000 + TOLD_S)], 2000, 0,
    ),
    "a server that has just started": ([replace(DECIDED, at=100, since=60)], 100, 3),
    "started long after the decision": ([replace(DECIDED, at=999, since=0)], 999, 0),
    "started after all was reported": ([replace(SHOWN, since=0)], 1, 0),
    "a clock that ran ahead": ([replace(DECIDED, at=5, since=50)], 5 + UNSEEN_S, 0),
    "two bindings": ([DECIDED, replace(DECIDED, key=OTHER)], 0, 6),
    "two bindings, one reported": (
        [DECIDED, replace(DECIDED, key=OTHER), SHOWN], 1 + SETTLE_S, 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "at", "pods"), CASES.values(), ids=CASES.keys())
def test_what_is_reserved(steps: list[Step], at: float, pods: int) -> None:
    reserved = play(steps).reserved("a", at)
    assert dict(reserved) == ({"pods": pods, "cpu": pods * 1000} if pods else {})


def test_what_was_given_up_is_not_reserved_again_by_a_heartbeat() -> None:
    ledger = play([DECIDED])
    assert not ledger.reserved("a", UNSEEN_S)
    ledger.stand(Standing(WEB, "u", ONE, {"a": 3}), UNSEEN_S + 1)
    assert not ledger.reserved("a", UNSEEN_S + 1)
    ledger.stand(Standing(WEB, "u", ONE, {"a": 4}), UNSEEN_S + 2)
    assert ledger.reserved("a", UNSEEN_S + 2)["pods"] == 4


def test_replicas_that_ask_for_more() -> None:
    ledger = play([SHOWN, Stands(9, {"a": 3}, {"a": 3}, cpu=1500)])
    assert dict(ledger.reserved("a", 9)) == {"cpu": 1500}
    assert not ledger.reserved("a", 9 + GROWN_S)
    assert not play([SHOWN, Stands(9, {"a": 3}, {"a": 3}, cpu=500)]).reserved("a", 9)


def test_who_is_owed_what() -> None:
    ledger = play([DECIDED, replace(DECIDED, at=2, key=OTHER)])
    assert ledger.reservations("a") == [
        Reservation(WEB, "u", "a", 3, ONE, 0),
        Reservation(OTHER, "u", "a", 3, ONE, 2),
    ]
    assert ledger.reservations("b") == []


def test_a_cluster_that_leaves_and_comes_back_owes_nothing() -> None:
    ledger = play([DECIDED])
    ledger.left("a")
    assert not ledger.reserved("a", 0)


@pytest.mark.parametrize(
    ("steps", "at", "busy"),
    [
        ([], 0, 0),
        ([DECIDED], 0, SETTLE_S),
        ([DECIDED, SHOWN], 2, SETTLE_S - 1),
        ([DECIDED, SHOWN], 1 + SETTLE_S, 0),
        ([DECIDED], UNSEEN_S, 0),
        ([DECIDED, Gone(1)], 2, 0),
        ([Heard(0), DECIDED, SHOWN, Heard(4)], 2, SETTLE_S - 1),
        ([Heard(0), DECIDED, SHOWN, Heard(4)], 1 + SETTLE_S, WORD_S),
        ([Heard(0), DECIDED, SHOWN, Heard(4), Heard(6)], 6, 0),
        ([Heard(0), DECIDED, SHOWN, Heard(4), Heard(20, away=True)], 20, SETTLE_S),
    ],
    ids=[
        "unknown",
        "owed",
        "told",
        "settled",
        "given up",
        "gone",
        "heard before it settles",
        "no word since",
        "a word since",
        "it was away",
    ],
)
def test_when_a_binding_is_counted_once(steps: list[Step], at: float, busy: float) -> None:
    assert play(steps).busy_s(WEB, at) == busy


# ------------------------------------------------------------------------------------------------------ by what is left
NODES = (Shape(2, {"cpu": 4000}), Shape(1, {"cpu": 500}))


@pytest.mark.parametrize(
    ("member", "taken", "room"),
    [
        (Candidate("a", free={"pods": 9, "cpu": 4000}), {}, 4),
        (Candidate("a", free={"pods": 9, "cpu": 4000}), {"pods": 1, "cpu": 2500}, 1),
        (Candidate("a", free={"pods": 3, "cpu": 4000}), {"pods": 2}, 1),
        (Candidate("a", free={"pods": 9, "cpu": 4000}), {"pods": 20, "cpu": 20_000}, 0),
        (Candidate("a", free={"cpu": 4000}), {"pods": 9, "cpu": 1000}, 3),
        (Candidate("a", free={"pods": 9, "cpu": 4000}), {"pods": 1, "gpu": 8}, 4),
        (Candidate("a"), {"pods": 1}, 0),
        (Candidate("a", free={"pods": 99, "cpu": 8500}, shapes=NODES), {}, 8),
        (Candidate("a", free={"pods": 99, "cpu": 8500}, shapes=NODES), {"cpu": 2500, "pods": 1}, 5),
        (Candidate("a", free={"pods": 99, "cpu": 8500}, shapes=NODES), {"pods": 97}, 2),
    ],
    ids=["nothing", "cpu", "pods", "overbooked", "pods not told", "not asked for", "not told",
         "shapes", "shapes less", "shapes, pods"],
)  # fmt: skip
def test_what_is_left(member: Candidate, taken: dict[str, int], room: int) -> None:
    left = less(member, taken)
    assert capacity.available(left, ONE) == room
    assert whole(left) == member


DYNAMIC = msgspec.convert(
    {
        "replicaScheduling": {
            "replicaSchedulingType": "Divided",
            "replicaDivisionPreference": "Weighted",
            "weightPreference": {"dynamicWeight": "AvailableReplicas"},
        }
    },
    Placement,
)
AGGREGATED = msgspec.convert(
    {
        "replicaScheduling": {
            "replicaSchedulingType": "Divided",
            "replicaDivisionPreference": "Aggregated",
        }
    },
    Placement,
)


@pytest.mark.parametrize("placement", [DYNAMIC, AGGREGATED], ids=["dynamic", "aggregated"])
def test_fifteen_workloads_decided_within_one_report(placement: Placement) -> None:
    """karmada#6518: they landed on one survivor, which was the roomiest by the one report."""
    fleet = [Candidate(name, free={"pods": 24, "cpu": 24_000}) for name in ("b", "c")]
    ledger, taken = Ledger(), {"b": 0, "c": 0}
    decided = 0
    for number in range(17):
        left = [less(c, ledger.reserved(c.name, 0)) for c in fleet]
        request = Request(f"u{number}", "apps/v1", "Deployment", placement, 3, ONE)
        try:
            targets = place(request, left).targets
        except NoFit:
            continue
        decided += 1
        key = ObjectKey("demo", f"web-{number}")
        ledger.stand(Standing(key, f"u{number}", ONE, targets), 0)
        for name, count in targets.items():
            taken[name] += count
    assert decided == 16
    assert taken == {"b": 24, "c": 24}
