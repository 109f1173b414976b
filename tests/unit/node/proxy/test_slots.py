"""Shares, classes and moves of slots: properties over generated endpoints."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_agent.node.proxy.model import Endpoint
from cluster_agent.node.proxy.slots import (
    CLASSES,
    SHRINK_AFTER_S,
    Slots,
    apportion,
    assign,
    choose,
    exact_bounds,
    smallest,
    subset,
)

weights_of = st.dictionaries(
    st.integers(1, 250).map(lambda n: f"10.0.0.{n} . 80"),
    st.integers(1, 1_000),
    min_size=1,
    max_size=60,
)


def equal(count: int) -> dict[str, int]:
    return {f"10.1.{n // 200}.{n % 200} . 80": 1 for n in range(count)}


def moves(before: Slots, after: Slots) -> int:
    assert before.size == after.size
    return sum(a != b for a, b in zip(before.holders, after.holders, strict=True))


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (1, 1),
        (2, 16),
        (3, 128),
        (4, 16),
        (5, 128),
        (7, 128),
        (8, 16),
        (16, 16),
        (17, 128),
        (18, 1024),
        (1000, 1024),
    ],
)
def test_the_smallest_class_that_is_exact_enough(count: int, size: int) -> None:
    assert smallest(equal(count)) == size


@settings(max_examples=60, deadline=None)
@given(weights_of)
def test_every_share_is_within_a_tenth_or_the_class_is_the_largest(weights: dict[str, int]) -> None:
    slots = assign(None, weights, 0.0, "s")
    counts = Counter(slots.holders)
    assert set(counts) == set(weights)
    if exact_bounds(weights, slots.size) is None:
        assert slots.size == CLASSES[-1]
        return
    total = sum(weights.values())
    for target, weight in weights.items():
        ideal = slots.size * weight / total
        assert abs(counts[target] - ideal) <= ideal / 10 + 1e-9


@settings(max_examples=60, deadline=None)
@given(weights_of, st.integers(0, 59))
def test_an_endpoint_that_goes_moves_only_its_own_slots(
    weights: dict[str, int], which: int
) -> None:
    gone = sorted(weights)[which % len(weights)]
    rest = {t: w for t, w in weights.items() if t != gone}
    if not rest:
        return
    before = assign(None, weights, 0.0, "s")
    held = Counter(before.holders)
    counts = apportion(rest, before.size, held)
    lost = sum(max(0, held[t] - counts[t]) for t in rest)
    # Rounding may ask a slot of some; nobody loses more than that.
    assert lost <= len(rest)
    assert sum(counts.values()) == before.size


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9, 20, 100])
def test_equal_endpoints_one_leaves_and_returns(count: int) -> None:
    full = equal(count + 1)
    gone = sorted(full)[count // 2]
    rest = {t: w for t, w in full.items() if t != gone}
    one = assign(Slots(("x",) * 1024), full, 0.0, "s")
    share = Counter(one.holders)[gone]
    two = assign(one, rest, 0.0, "s")
    assert moves(one, two) == share
    assert all(new != gone for new in two.holders)
    three = assign(two, full, 0.0, "s")
    assert moves(two, three) == Counter(three.holders)[gone] <= share + 1


def test_nothing_changes_means_the_same_object() -> None:
    slots = assign(None, equal(5), 0.0, "s")
    assert assign(slots, equal(5), 9.0, "s") is slots


def test_a_port_grows_at_once_and_shrinks_after_a_quiet_time() -> None:
    four = assign(None, equal(4), 0.0, "s")
    three = assign(four, equal(3), 1.0, "s")
    assert (four.size, three.size) == (16, 128)
    back = assign(three, equal(4), 2.0, "s")
    assert (back.size, back.smaller_since) == (128, 2.0)
    assert assign(back, equal(3), 3.0, "s").smaller_since is None
    early = assign(back, equal(4), 2.0 + SHRINK_AFTER_S - 0.1, "s")
    assert early.size == 128
    assert assign(early, equal(4), 2.0 + SHRINK_AFTER_S, "s").size == 16


def test_more_endpoints_than_slots_use_a_stable_subset() -> None:
    many = equal(1_500)
    used = subset(many, "demo/web")
    assert len(used) == 1_024
    assert subset(dict(reversed(many.items())), "demo/web") == used
    assert subset(many, "demo/api").keys() != used.keys()
    slots = assign(None, many, 0.0, "demo/web")
    assert slots.left_out == 476
    gone = next(iter(used))
    after = subset({t: w for t, w in many.items() if t != gone}, "demo/web")
    assert len(after.keys() - used.keys()) == 1
    assert used.keys() - after.keys() == {gone}


def test_a_small_weight_never_starves() -> None:
    slots = assign(None, {"a . 1": 1, "b . 1": 100_000}, 0.0, "s")
    assert Counter(slots.holders) == {"a . 1": 1, "b . 1": 1_023}


READY = Endpoint("10.0.0.1", 80, node="a")
ENDING = Endpoint("10.0.0.2", 80, ready=False, serving=True, terminating=True, node="b")
DEAD = Endpoint("10.0.0.3", 80, ready=False, serving=False, terminating=True, node="a")
STARTING = Endpoint("10.0.0.4", 80, ready=False, serving=False, node="a")
UNPAID = Endpoint("10.0.0.5", 80, weight=0, node="a")


@pytest.mark.parametrize(
    ("endpoints", "node", "chosen"),
    [
        ([READY, ENDING, DEAD], "", {"10.0.0.1 . 80"}),
        ([ENDING, DEAD, STARTING], "", {"10.0.0.2 . 80"}),
        ([DEAD, STARTING, UNPAID], "", set()),
        ([READY, ENDING], "b", {"10.0.0.2 . 80"}),
        ([READY, ENDING], "c", set()),
        ([], "", set()),
    ],
    ids=["ready", "only ending", "never dead or starting", "local", "none local", "none"],
)
def test_which_endpoints_are_used(endpoints: list[Endpoint], node: str, chosen: set[str]) -> None:
    assert set(choose(endpoints, node)) == chosen
