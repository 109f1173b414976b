"""Placement by zone: even over zones, by room inside a zone, steady through scaling."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.placement.divide import balance, webster
from federation.placement.model import Candidate, NoFit, Request, Unschedulable
from federation.placement.plan import place
from machinery.api.core import Taint
from machinery.api.fleet.policy import (
    ClusterPreferences,
    Placement,
    ReplicaSchedulingStrategy,
    SpreadConstraint,
)

BY_ZONE = Placement(
    spread_constraints=(SpreadConstraint(spread_by_field="zone", min_groups=1),),
    replica_scheduling=ReplicaSchedulingStrategy(
        replica_scheduling_type="Divided",
        replica_division_preference="Weighted",
        weight_preference=ClusterPreferences(dynamic_weight="AvailableReplicas"),
    ),
)


def member(name: str, zone: str, pods: int = 100, *taints: Taint) -> Candidate:
    return Candidate(name, zones=(zone,) if zone else (), free={"pods": pods}, taints=taints)


def ask(replicas: int, previous: Mapping[str, int] | None = None) -> Request:
    return Request("uid", "apps/v1", "Deployment", BY_ZONE, replicas, previous=previous or {})


THREE = [member("alpha", "zone-a"), member("beta", "zone-b"), member("gamma", "zone-c")]


@pytest.mark.parametrize(
    ("replicas", "previous", "wanted"),
    [
        (6, {}, {"alpha": 2, "beta": 2, "gamma": 2}),
        (7, {}, {"alpha": 3, "beta": 2, "gamma": 2}),
        (7, {"alpha": 2, "beta": 2, "gamma": 2}, {"alpha": 3, "beta": 2, "gamma": 2}),
        (5, {"alpha": 2, "beta": 2, "gamma": 2}, {"alpha": 2, "beta": 2, "gamma": 1}),
        (1, {"gamma": 1}, {"gamma": 1}),
        (2, {"gamma": 2, "beta": 2}, {"beta": 1, "gamma": 1}),
        (0, {"alpha": 2}, {}),
    ],
    ids=["even", "one more", "grows", "shrinks", "stays", "shrinks where it is", "none"],
)
def test_zones_differ_by_at_most_one(
    replicas: int, previous: dict[str, int], wanted: dict[str, int]
) -> None:
    assert place(ask(replicas, previous), THREE).targets == wanted


def test_members_of_a_zone_share_by_free_room() -> None:
    fleet = [member("a1", "zone-a", 30), member("a2", "zone-a", 10), member("b1", "zone-b", 100)]
    assert place(ask(8), fleet).targets == {"a1": 3, "a2": 1, "b1": 4}


def test_a_full_zone_is_made_up_by_the_others() -> None:
    fleet = [member("a", "zone-a", 1), member("b", "zone-b"), member("c", "zone-c")]
    assert place(ask(7), fleet).targets == {"a": 1, "b": 3, "c": 3}


def test_too_little_room_places_nothing() -> None:
    with pytest.raises(Unschedulable, match="Clusters available replicas 3 are not enough"):
        place(ask(4), [member("a", "zone-a", 1), member("b", "zone-b", 2)])


def test_a_tainted_member_gets_nothing_new_and_keeps_what_it_holds() -> None:
    taint = Taint(key="cluster.karmada.io/not-ready", effect="NoSchedule")
    fleet = [member("a", "zone-a", 100, taint), member("b", "zone-b")]
    decision = place(ask(2), fleet)
    assert decision.targets == {"b": 2}
    assert "untolerated taint {cluster.karmada.io/not-ready:NoSchedule}" in decision.left_out["a"]
    assert place(ask(2, {"a": 1, "b": 1}), fleet).targets == {"a": 1, "b": 1}


@pytest.mark.parametrize("effect", ["NoSchedule", "NoExecute"])
def test_who_grows_gets_nothing_more_on_a_tainted_member(effect: str) -> None:
    taint = Taint(key="ubernetes.io/cordon", effect=effect)
    fleet = [member("a", "zone-a", 100, taint), member("b", "zone-b")]
    assert place(ask(6, {"a": 1, "b": 1}), fleet).targets == {"a": 1, "b": 5}
    with pytest.raises(Unschedulable):
        place(ask(6, {"a": 1}), fleet[:1])


def test_a_member_without_a_zone_is_left_out_with_the_reason() -> None:
    decision = place(ask(2), [member("a", ""), member("b", "zone-b")])
    assert decision.left_out == {"a": 'cluster(s) did not have "zone" property'}


def test_without_members_the_sentence_says_so() -> None:
    with pytest.raises(NoFit, match="no cluster has joined"):
        place(ask(2), [])


ROOMS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 20), min_size=1)


@given(ROOMS, st.integers(0, 60), st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 20)))
def test_balance_is_even_and_within_room(
    room: dict[str, int], wanted: int, held: dict[str, int]
) -> None:
    given_ = balance(wanted, room, held, sorted(room))
    assert sum(given_.values()) == min(wanted, sum(room.values()))
    assert all(0 <= given_[name] <= room[name] for name in room)
    highest = max(given_.values())
    assert all(given_[name] >= highest - 1 for name in room if given_[name] < room[name])


@given(st.integers(0, 200), ROOMS, st.text(max_size=8))
def test_webster_gives_every_seat_and_keeps_quota_order(
    seats: int, weights: dict[str, int], uid: str
) -> None:
    given_ = webster(seats, weights, uid)
    if any(weights.values()):
        assert sum(given_.values()) == seats
    for a in given_:
        for b in given_:
            if weights[a] > weights[b]:
                assert given_[a] >= given_[b]
