"""Federation v1's planner by its published vectors, the mended one, and what holds of each whatever is asked."""

import heapq
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.placement.vectors import VECTORS, Vector, counts, preferences

from federation.placement.divide import sainte_lague, webster
from federation.placement.planners import PLANNERS, PRIME, Question, hashes, v1, v2
from federation.placement.preferences import Preference, Preferences, parse

WART = "A10 B70"
"""kubernetes#31816: what v1 is known to get wrong."""


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: " ".join(v.text.split()))
def test_v1_gives_what_was_published(vector: Vector) -> None:
    answer = v1(vector.question)
    assert (answer.plan, answer.overflow) == (vector.plan, vector.overflow)


@pytest.mark.parametrize("vector", [v for v in VECTORS if WART not in v.text], ids=lambda v: v.text)
def test_v2_gives_the_same_where_v1_is_right(vector: Vector) -> None:
    answer = v2(vector.question)
    assert (answer.plan, answer.overflow) == (vector.plan, vector.overflow)


def asked(text: str, total: int, current: str = "", capacity: str = "") -> Question:
    return Question(
        total, "ABC", preferences(text), current=counts(current), capacity=counts(capacity)
    )


@pytest.mark.parametrize(
    ("question", "old", "new"),
    [
        (asked("*(w1)", 50, "A10 B70 C0"), "A0 B50 C0", "A10 B40 C0"),
        (asked("*(w1)", 4), "A0 B2 C2", "A1 B1 C2"),
        (asked("*(w1)", 20, "A4 B4 C30"), "A0 B0 C20", "A4 B4 C12"),
        (asked("A(w2) B(w1)", 9, "A9 B9 C9"), "A9 B0 C0", "A6 B3 C0"),
        (asked("A(w1) B(w0)", 9, "A6 B6"), "A6 B3 C0", "A6 B3 C0"),
        (asked("*(w1 min2)", 12, "A2 B2 C30"), "A2 B2 C8", "A2 B2 C8"),
        (asked("*(w1)", 9, "A9", "A5 B1 C9"), "A5 B1 C3", "A5 B1 C3"),
    ],
    ids=["31816", "ceil", "two small", "by weight", "weightless last", "above minimum", "no room"],
)
def test_what_v2_mends(question: Question, old: str, new: str) -> None:
    assert v1(question).plan == counts(old)
    assert v2(question).plan == counts(new)


@pytest.mark.parametrize("planner", PLANNERS)
def test_nothing_is_asked(planner: str) -> None:
    plan = PLANNERS[planner]
    assert plan(Question(9, [])).plan == {}
    assert plan(Question(0, "AB")).plan == {"A": 0, "B": 0}
    assert plan(Question(9, "AB", {})).plan == {"A": 0, "B": 0}
    assert plan(Question(9, "AB", {"*": Preference()})).plan == {"A": 0, "B": 0}
    assert sum(plan(Question(10**9, "ABC", key="a/b")).plan.values()) == 10**9


def test_webster_is_karmadas_within_bounds() -> None:
    weights = {"A": Preference(weight=3), "B": Preference(weight=2), "C": Preference(weight=1)}
    for total, wanted in ((12, "A6 B4 C2"), (13, "A7 B4 C2"), (14, "A7 B5 C2")):
        assert PLANNERS["webster"](Question(total, "ABC", weights)).plan == counts(wanted)
    bounded = {**weights, "A": Preference(max_replicas=3, weight=3), "C": Preference(4, None, 1)}
    assert PLANNERS["webster"](Question(12, "ABC", bounded)).plan == counts("A3 B5 C4")
    full = PLANNERS["webster"](Question(12, "ABC", weights, capacity={"A": 1, "B": 1, "C": 1}))
    assert (full.plan, full.overflow) == (counts("A1 B1 C1"), counts("A5 B3 C1"))


# ------------------------------------------------------------------------------------------------- whatever is asked
@st.composite
def questions(draw: st.DrawFn) -> Question:
    names = [f"member-{i}" for i in range(draw(st.integers(1, 7)))]
    few, some = st.integers(0, 8), st.integers(0, 60)

    def one() -> Preference:
        least = draw(few)
        most = draw(st.none() | st.integers(least, 60))
        return Preference(least, most, draw(st.sampled_from([0, 1, 1, 2, 5, 1000])))

    wanted = {name: one() for name in names if draw(st.booleans())}
    if draw(st.booleans()):
        wanted["*"] = one()
    return Question(
        draw(st.integers(0, 200)),
        names,
        wanted,
        draw(st.booleans()),
        {name: draw(some) for name in names if draw(st.booleans())},
        {name: draw(some) for name in names if draw(st.booleans())},
        draw(st.text("abc/-", max_size=6)),
    )


def limit(question: Question, name: str) -> int:
    wanted = question.preferences.get(name, question.preferences.get("*"))
    if wanted is None:
        return 0
    most = 10**9 if wanted.max_replicas is None else wanted.max_replicas
    return min(most, question.capacity.get(name, 10**9))


@pytest.mark.parametrize("planner", PLANNERS)
@given(question=questions())
def test_bounds_hold_and_nothing_is_left_that_somebody_may_take(
    planner: str, question: Question
) -> None:
    answer = PLANNERS[planner](question)
    assert answer.plan.keys() == set(question.clusters)
    assert all(0 <= n <= limit(question, name) for name, n in answer.plan.items())
    left = question.total - sum(answer.plan.values())
    assert left >= 0
    for name in question.clusters if left else ():
        wanted = question.preferences.get(name, question.preferences.get("*"))
        assert wanted is None or not wanted.weight or answer.plan[name] == limit(question, name)
    if not question.rebalance:
        assert all(n <= left for n in answer.overflow.values())
    assert answer.overflow.keys() <= question.capacity.keys()


@given(question=questions())
def test_v2_moves_nothing_when_it_need_not(question: Question) -> None:
    """Rebalance off: growing takes from nobody, shrinking gives to nobody beyond its minimum."""
    question = replace(question, rebalance=False)
    plan = v2(question).plan
    room = {name: limit(question, name) for name in question.clusters}
    kept = {name: min(question.current.get(name, 0), room[name]) for name in question.clusters}
    least = {name: _least(question, name) for name in question.clusters}
    if sum(max(kept[n], least[n]) for n in kept) <= question.total:
        assert all(plan[name] >= kept[name] for name in plan)
    elif not any(least.values()):
        assert all(plan[name] <= kept[name] for name in plan)


def _least(question: Question, name: str) -> int:
    wanted = question.preferences.get(name, question.preferences.get("*"))
    return 0 if wanted is None else wanted.min_replicas


@given(st.lists(st.text("abcdef-.09", min_size=1), max_size=20), st.text("ab/é", max_size=30))
def test_hashes_are_fnv1(names: list[str], key: str) -> None:
    def plain(text: str) -> int:
        value = 0x811C9DC5
        for byte in text.encode():
            value = ((value * PRIME) & 0xFFFFFFFF) ^ byte
        return value

    assert list(hashes(names, key)) == [plain(name + key) for name in names]


ALIKE = st.lists(st.integers(1, 9), min_size=30, max_size=90)
"""Many weights, many of them equal: few of them come into question for the seats that rounding leaves."""


@given(st.integers(0, 300), st.lists(st.integers(1, 400), min_size=1, max_size=12) | ALIKE)
def test_seats_are_those_of_the_procedure(seats: int, weights: list[int]) -> None:
    """Rounding and settling the rest gives exactly what giving one seat after the other does."""
    given_ = [0] * len(weights)
    heap = [(-Fraction(w), 0, i) for i, w in enumerate(weights)]
    heapq.heapify(heap)
    for _ in range(seats):
        _, held, i = heap[0]
        given_[i] = held + 1
        heapq.heapreplace(heap, (-Fraction(weights[i], 2 * held + 3), held + 1, i))
    assert sainte_lague(seats, weights) == given_


def test_a_billion_seats() -> None:
    assert webster(10**9, {"a": 3, "b": 2, "c": 1}, "uid") == {
        "a": 500_000_000,
        "b": 333_333_333,
        "c": 166_666_667,
    }


# ------------------------------------------------------------------------------------------------------ annotation
def test_the_annotation() -> None:
    said = parse('{"rebalance": true, "clusters": {"A": {"minReplicas": 1, "weight": 2}, "*": {}}}')
    wanted: Mapping[str, Preference] = {"A": Preference(1, None, 2), "*": Preference()}
    assert said == Preferences(True, wanted)
    assert parse("{}") == Preferences(clusters={"*": Preference(weight=1)})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "truncated"),
        ("[]", "Expected `object`"),
        ('{"clusters": {"A": {"wieght": 1}}}', "wieght"),
        ('{"clusters": {"A": {"weight": -1}}}', ">= 0"),
        ('{"clusters": {"A": {"minReplicas": 2, "maxReplicas": 1}}}', "minReplicas 2 is more than"),
        ('{"planner": "v3"}', "v3"),
    ],
)
def test_an_annotation_that_cannot_be_meant(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)
