"""Preferences of the object, overflow tiers and spreads over groups and clusters, through `place`."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from msgspec import structs

from federation.placement.capacity import available
from federation.placement.model import Candidate, NoFit, Request, Shape, Unselectable
from federation.placement.plan import place
from federation.placement.preferences import parse
from machinery.api.core import Taint
from machinery.api.fleet.policy import (
    ClusterAffinityTerm,
    ClusterPreferences,
    OverflowAffinity,
    Placement,
    ReplicaSchedulingStrategy,
    SpreadConstraint,
)
from machinery.api.fleet.resilience import SpreadRule

DYNAMIC = ReplicaSchedulingStrategy(
    replica_scheduling_type="Divided",
    replica_division_preference="Weighted",
    weight_preference=ClusterPreferences(dynamic_weight="AvailableReplicas"),
)


def member(name: str, pods: int | None = 100, **more: object) -> Candidate:
    free = None if pods is None else {"pods": pods}
    return structs.replace(Candidate(name, free=free, zones=(f"zone-{name}",)), **more)  # type: ignore[arg-type]


def ask(
    replicas: int, placement: Placement, previous: Mapping[str, int] | None = None, text: str = ""
) -> Request:
    return Request(
        "uid",
        "apps/v1",
        "Deployment",
        placement,
        replicas,
        previous=previous or {},
        key="shop/web",
        preferences=parse(text) if text else None,
    )


# ------------------------------------------------------------------------------------------------------ preferences
EQUAL = '{"clusters": {"*": {"weight": 1}}}'
BURST = '{"rebalance": true, "clusters": {"home": {"weight": 1000000}, "cloud": {"weight": 1}}}'


@pytest.mark.parametrize(
    ("text", "replicas", "rooms", "previous", "wanted"),
    [
        (EQUAL, 6, (9, 9), {}, {"cloud": 3, "home": 3}),
        (EQUAL, 6, (9, 9), {"home": 5}, {"cloud": 1, "home": 5}),
        (EQUAL, 6, (1, 9), {}, {"cloud": 5, "home": 1}),
        (BURST, 6, (9, 9), {}, {"home": 6}),
        (BURST, 6, (4, 9), {}, {"cloud": 2, "home": 4}),
        (BURST, 6, (1, 9), {"home": 4, "cloud": 2}, {"cloud": 1, "home": 5}),
        (BURST, 6, (5, 9), {"home": 4, "cloud": 2}, {"home": 6}),
        ('{"clusters": {"*": {"minReplicas": 2, "maxReplicas": 4, "weight": 1}}}', 8, (9, 9), {}, {"cloud": 4, "home": 4}),
        ('{"clusters": {"cloud": {"minReplicas": 1}}}', 1, (9, 9), {}, {"cloud": 1}),
    ],
    ids=[
        "equal", "what runs stays", "room", "home first", "bursts", "home grows", "contracts",
        "bounds", "one",
    ],
)  # fmt: skip
def test_preferences_divide(
    text: str,
    replicas: int,
    rooms: tuple[int, int],
    previous: dict[str, int],
    wanted: dict[str, int],
) -> None:
    fleet = [member("home", rooms[0]), member("cloud", rooms[1])]
    decision = place(ask(replicas, Placement(), previous, text), fleet)
    assert decision.targets == wanted
    assert decision.waiting == {}
    assert decision.warnings == ()


def test_what_has_no_room_waits_and_is_told() -> None:
    fleet = [member("home", 2), member("cloud", 1)]
    decision = place(ask(5, Placement(), {}, EQUAL), fleet)
    assert sum(decision.targets.values()) == 5
    assert sum(decision.waiting.values()) == 2
    assert [w.reason for w in decision.warnings] == ["WaitingForRoom"]
    # The waiting ones count as placed: rooms are told as less than nothing, and nothing changes.
    told = {"home": 2, "cloud": 1}
    full = [member(n, told[n] - decision.targets.get(n, 0)) for n in told]
    again = replace(ask(5, Placement(), decision.targets, EQUAL), waiting=dict(decision.waiting))
    assert place(again, full).targets == decision.targets
    # Room for all of them in one place: those that wait elsewhere go there.
    room = [
        member("home", 2 - decision.targets["home"]),
        member("cloud", 9 - decision.targets["cloud"]),
    ]
    assert place(again, room).waiting == {}
    assert place(again, room).targets == {"home": 2, "cloud": 3}


def test_a_maximum_leaves_the_rest_without_a_place() -> None:
    text = '{"clusters": {"*": {"maxReplicas": 2, "weight": 1}}}'
    decision = place(ask(9, Placement(), {}, text), [member("home"), member("cloud")])
    assert decision.targets == {"cloud": 2, "home": 2}
    assert [w.reason for w in decision.warnings] == ["PreferencesShort"]
    assert "5 of 9 replicas" in decision.warnings[0].message


def test_preferences_that_give_nothing_are_a_refusal() -> None:
    with pytest.raises(NoFit, match="give no cluster any of 3 replicas"):
        place(ask(3, Placement(), {}, '{"clusters": {"nope": {"weight": 1}}}'), [member("home")])
    assert place(ask(0, Placement(), {}, EQUAL), [member("home")]).targets == {}


def test_preferences_respect_filters_taints_and_unknown_room() -> None:
    taint = Taint("maintenance", "NoSchedule")
    fleet = [member("home", 9, taints=(taint,)), member("cloud", 9), member("edge", None)]
    grown = place(ask(12, Placement(), {"home": 3}, EQUAL), fleet)
    assert grown.targets["home"] == 3
    assert sum(grown.targets.values()) == 12
    only = Placement(cluster_affinities=(ClusterAffinityTerm(cluster_names=("edge",)),))
    assert place(ask(500, only, {}, EQUAL), fleet).targets == {"edge": 500}


def test_a_fresh_decision_balances() -> None:
    asked = ask(6, Placement(), {"home": 6}, EQUAL)
    fleet = [member("home"), member("cloud")]
    assert place(asked, fleet).targets == {"home": 6}
    assert place(replace(asked, fresh=True), fleet).targets == {"cloud": 3, "home": 3}


def test_a_spread_rule_moves_within_the_maximum() -> None:
    text = '{"clusters": {"home": {"weight": 9}, "cloud": {"maxReplicas": 2, "weight": 1}}}'
    rule = SpreadRule("zone", max_skew=1, when_unsatisfiable="ScheduleAnyway")
    asked = replace(ask(10, Placement(), {}, text), spread=(rule,))
    decision = place(asked, [member("home"), member("cloud")])
    assert decision.targets == {"cloud": 2, "home": 8}
    assert [w.reason for w in decision.warnings] == ["SpreadNotMet"]


# ------------------------------------------------------------------------------------------------------------ tiers
def tiered(**more: object) -> Placement:
    return Placement(
        cluster_affinities=(
            ClusterAffinityTerm(
                cluster_names=("home",),
                affinity_name="own",
                overflow_affinities=(
                    OverflowAffinity(cluster_names=("home", "near")),
                    OverflowAffinity(cluster_names=("far", "far2")),
                ),
            ),
        ),
        replica_scheduling=DYNAMIC,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("replicas", "previous", "wanted"),
    [
        (4, {}, {"home": 4}),
        (7, {}, {"home": 5, "near": 2}),
        (16, {}, {"home": 5, "near": 5, "far": 3, "far2": 3}),
        (4, {"home": 2, "near": 5, "far": 3}, {"home": 4}),
        (9, {"near": 9}, {"home": 5, "near": 4}),
    ],
    ids=["fits", "overflows", "to the last tier", "contracts", "comes back"],
)
def test_tiers_fill_in_order(
    replicas: int, previous: dict[str, int], wanted: dict[str, int]
) -> None:
    fleet = [member(n, 5) for n in ("home", "near", "far", "far2")]
    decision = place(ask(replicas, tiered(), previous), fleet)
    assert decision.targets == wanted
    assert decision.affinity_name == "own"


def test_tiers_that_are_all_full() -> None:
    fleet = [member(n, 5) for n in ("home", "near", "far", "far2", "stranger")]
    with pytest.raises(NoFit, match="Clusters available replicas are not enough"):
        place(ask(21, tiered(), {}), fleet)


def test_a_limit_of_clusters_keeps_the_first_tiers() -> None:
    limit = (SpreadConstraint(spread_by_field="cluster", min_groups=1, max_groups=2),)
    fleet = [member("home", 5), member("near", 6), member("far", 50), member("far2", 50)]
    placement = tiered(spread_constraints=limit)
    assert place(ask(10, placement, {}), fleet).targets == {"home": 5, "near": 5}


# ----------------------------------------------------------------------------------------------- groups and clusters
def spread(field: str, groups: tuple[int, int], clusters: tuple[int, int]) -> Placement:
    return Placement(
        spread_constraints=(
            SpreadConstraint(spread_by_field=field, min_groups=groups[0], max_groups=groups[1]),
            SpreadConstraint(
                spread_by_field="cluster", min_groups=clusters[0], max_groups=clusters[1]
            ),
        ),
        replica_scheduling=DYNAMIC,
    )


REGIONS = [
    member("a1", 40, region="ra"), member("a2", 20, region="ra"), member("a3", 10, region="ra"),
    member("b1", 36, region="rb"), member("b2", 18, region="rb"), member("b3", 9, region="rb"),
    member("c1", 20, region="rc"), member("c2", 16, region="rc"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "clusters", "used"),
    [
        ((1, 1), (1, 1), {"a1"}),
        ((2, 2), (1, 3), {"a1", "a2", "b1"}),
        ((2, 3), (5, 12), {"a1", "a2", "a3", "b1", "b2", "b3"}),
        ((3, 3), (1, 2), {"a1", "b1", "c1"}),
    ],
    ids=["one", "best of each, then the roomiest", "all of two", "one each, whatever the limit"],
)
def test_regions_and_clusters(
    groups: tuple[int, int], clusters: tuple[int, int], used: set[str]
) -> None:
    replicas = 60 if clusters != (1, 1) else 30
    asked = ask(replicas, spread("region", groups, clusters))
    assert place(asked, REGIONS).targets.keys() == used


def test_too_few_regions_or_clusters() -> None:
    with pytest.raises(Unselectable, match="feasible region"):
        place(ask(3, spread("region", (4, 4), (1, 9))), REGIONS)
    with pytest.raises(Unselectable, match="less than the cluster"):
        place(ask(3, spread("region", (1, 1), (4, 9))), REGIONS)


def test_zones_beside_clusters_are_balanced_within_the_limit() -> None:
    fleet = [member(f"m{i}", 50, zones=(f"zone-{i % 3}",)) for i in range(9)]
    decision = place(ask(12, spread("zone", (3, 3), (3, 6))), fleet)
    assert len(decision.targets) == 6
    by_zone = [sum(n for m, n in decision.targets.items() if int(m[1]) % 3 == z) for z in range(3)]
    assert by_zone == [4, 4, 4]


def test_a_hundred_regions_end_in_time() -> None:
    fleet = [member(f"m{i}", 10, region=f"r{i:02}") for i in range(100)]
    decision = place(ask(400, spread("region", (40, 60), (40, 60))), fleet)
    assert len(decision.targets) >= 40


# ----------------------------------------------------------------------------------------------------------- shapes
def test_room_by_shape() -> None:
    """Ten nodes that are half full are not five empty ones."""
    asks = {"cpu": 3000}
    sums = Candidate("m", free={"cpu": 20_000, "pods": 100})
    assert available(sums, asks) == 6
    halves = structs.replace(sums, shapes=(Shape(10, {"cpu": 2000}),))
    assert available(halves, asks) == 0
    mixed = structs.replace(sums, shapes=(Shape(2, {"cpu": 2000}), Shape(3, {"cpu": 7000})))
    assert available(mixed, asks) == 6
    assert available(mixed, asks | {"gpu": 1}) == 0
    assert available(structs.replace(mixed, free={"cpu": 20_000, "pods": 4}), asks) == 4
