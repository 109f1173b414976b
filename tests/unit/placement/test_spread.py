"""Spread and headroom of a ResiliencePolicy: over every method of division, hard and soft, after losses, and told."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.placement.filter import domain_of
from federation.placement.model import Candidate, NoFit, Request, Unschedulable, Unselectable
from federation.placement.plan import place
from machinery.api.fleet.policy import (
    ClusterAffinity,
    ClusterPreferences,
    Placement,
    ReplicaSchedulingStrategy,
    SpreadConstraint,
    StaticClusterWeight,
)
from machinery.api.fleet.resilience import SpreadRule

SOFT = "ScheduleAnyway"


def member(name: str, place_: str, pods: int = 100, **more: object) -> Candidate:
    """`place_`: provider/region/zone, as far as they are given from the right."""
    provider, region, zone = ["", "", *place_.split("/")][-3:]
    zones = (zone,) if zone else ()
    return Candidate(name, {}, provider, region, zones, free={"pods": pods}, **more)  # type: ignore[arg-type]


def divided(
    *,
    groups: tuple[str, ...] = (),
    aggregated: bool = False,
    weights: Mapping[str, int] | None = None,
) -> Placement:
    preference = ClusterPreferences(dynamic_weight="" if weights else "AvailableReplicas")
    if weights:
        preference = ClusterPreferences(
            tuple(
                StaticClusterWeight(ClusterAffinity(cluster_names=(name,)), weight)
                for name, weight in weights.items()
            )
        )
    return Placement(
        spread_constraints=tuple(SpreadConstraint(field, min_groups=1) for field in groups),
        replica_scheduling=ReplicaSchedulingStrategy(
            "Divided", "Aggregated" if aggregated else "Weighted", preference
        ),
    )


DYNAMIC, AGGREGATED, BY_ZONE = divided(), divided(aggregated=True), divided(groups=("zone",))
DUPLICATED = Placement(replica_scheduling=ReplicaSchedulingStrategy("Duplicated"))


def ask(
    replicas: int,
    *rules: SpreadRule,
    placement: Placement = DYNAMIC,
    previous: Mapping[str, int] | None = None,
    evicting: str = "",
    headroom: str = "",
) -> Request:
    return Request(
        "uid", "apps/v1", "Deployment", placement, replicas,
        previous=previous or {}, evicting=frozenset(evicting.split()), spread=rules, headroom=headroom,
    )  # fmt: skip


def rule(
    key: str = "zone", skew: int = 1, least: int = 0, when: str = "DoNotSchedule"
) -> SpreadRule:
    return SpreadRule(key, skew, least, when)


ABC = [member("a", "za", 100), member("b", "zb", 20), member("c", "zc", 20)]


@pytest.mark.parametrize(
    ("request_", "fleet", "targets"),
    [
        (ask(6), ABC, {"a": 4, "b": 1, "c": 1}),
        (ask(6, rule()), ABC, {"a": 2, "b": 2, "c": 2}),
        (ask(7, rule()), ABC, {"a": 3, "b": 2, "c": 2}),
        (ask(6, rule(skew=2)), ABC, {"a": 3, "b": 2, "c": 1}),
        (ask(6, rule(skew=9)), ABC, {"a": 4, "b": 1, "c": 1}),
        (ask(6, rule(), placement=AGGREGATED), ABC, {"a": 2, "b": 2, "c": 2}),
        (ask(6, rule("cluster"), placement=AGGREGATED), ABC, {"a": 2, "b": 2, "c": 2}),
        (
            ask(6, rule(), placement=divided(weights={"a": 10, "b": 1, "c": 1})),
            ABC,
            {"a": 2, "b": 2, "c": 2},
        ),
        # a member without weight is no place to go to
        (
            ask(6, rule(), placement=divided(weights={"a": 10, "b": 1})),
            ABC,
            {"a": 3, "b": 3},
        ),
        # what runs moves only as far as the rule asks
        (ask(6, rule(), previous={"a": 6}), ABC, {"a": 2, "b": 2, "c": 2}),
        (ask(6, rule(), previous={"a": 3, "b": 2, "c": 1}), ABC, {"a": 2, "b": 2, "c": 2}),
        (ask(6, rule(skew=2), previous={"a": 3, "b": 2, "c": 1}), ABC, {"a": 3, "b": 2, "c": 1}),
        # a lost zone shrinks the rule; minDomains shrinks with it
        (ask(6, rule(least=3), previous={"b": 2, "c": 2}, evicting="a"), ABC, {"b": 3, "c": 3}),
        # soft: as even as it gets
        (
            ask(9, rule(when=SOFT)),
            [member("a", "za"), member("b", "zb"), member("c", "zc", 1)],
            {"a": 4, "b": 4, "c": 1},
        ),
        # several clusters of a zone, and two rules at once
        (
            ask(8, rule("region"), rule("zone")),
            [
                member("a", "r1/za", 100),
                member("b", "r1/zb", 100),
                member("c", "r2/zc", 10),
                member("d", "r2/zd", 10),
            ],
            {"a": 2, "b": 2, "c": 2, "d": 2},
        ),
        (
            ask(6, rule()),
            [member("a1", "za", 50), member("a2", "za", 50), member("b", "zb", 5)],
            {"a1": 1, "a2": 2, "b": 3},
        ),
        # the zones of default-spread give way to what the policy asks, and no further
        (
            ask(6, rule("provider"), placement=BY_ZONE),
            [member("a", "p/r/za"), member("b", "p/r/zb"), member("c", "q/r/zc")],
            {"a": 1, "b": 2, "c": 3},
        ),
        # a cluster whose link is cut keeps what it has, and gets nothing more
        (
            ask(9, rule(when=SOFT), previous={"a": 2, "b": 2, "c": 2}),
            [member("a", "za", cut=True), *ABC[1:]],
            {"a": 2, "b": 3, "c": 4},
        ),
        (ask(0, rule()), ABC, {}),
    ],
)  # fmt: skip
def test_replicas_spread(
    request_: Request, fleet: list[Candidate], targets: dict[str, int]
) -> None:
    assert place(request_, fleet).targets == targets


@pytest.mark.parametrize(
    ("placement", "previous", "targets"),
    [
        (BY_ZONE, {"a": 2, "b": 2, "c": 2}, {"a": 2, "b": 4, "c": 3}),
        (DYNAMIC, {"a": 2, "b": 2, "c": 2}, {"a": 2, "b": 3, "c": 4}),
        (divided(weights={"a": 9, "b": 1, "c": 1}), {"a": 2, "b": 2, "c": 2}, {"a": 2, "b": 3, "c": 4}),
        (divided(weights={"a": 9, "b": 1, "c": 1}), {}, {"b": 4, "c": 5}),
        (DUPLICATED, {"a": 6, "b": 6, "c": 6}, {"a": 9, "b": 9, "c": 9}),
    ],
)  # fmt: skip
def test_a_cluster_whose_link_is_cut_gets_nothing_new(
    placement: Placement, previous: dict[str, int], targets: dict[str, int]
) -> None:
    fleet = [member("a", "za", cut=True), member("b", "zb"), member("c", "zc")]
    assert place(ask(9, placement=placement, previous=previous), fleet).targets == targets


def test_a_cut_cluster_gives_up_what_is_wanted_less() -> None:
    fleet = [member("a", "za", cut=True), member("b", "zb"), member("c", "zc")]
    found = place(ask(3, placement=BY_ZONE, previous={"a": 2, "b": 2, "c": 2}), fleet).targets
    assert found == {"a": 1, "b": 1, "c": 1}


TIGHT = [member("a", "za"), member("b", "zb"), member("c", "zc", 1)]


@pytest.mark.parametrize(
    ("request_", "fleet", "error", "message"),
    [
        (
            ask(9, rule()),
            TIGHT,
            Unschedulable,
            "failed to assign replicas: spread over zone: zb has 4 replicas and zc 1, maxSkew is 1",
        ),
        (
            ask(3, rule(least=3)),
            ABC[:2],
            Unselectable,
            "failed to select clusters: the number of feasible zone domains is 2, less than minDomains 3",
        ),
        (
            ask(3, rule("provider")),
            ABC,
            NoFit,
            '0/3 clusters are available: 3 cluster(s) did not have "provider" property.',
        ),
        (
            ask(3, rule("example.com/rack")),
            ABC,
            NoFit,
            '0/3 clusters are available: 3 cluster(s) did not have label "example.com/rack".',
        ),
    ],
)
def test_a_hard_rule_places_nothing_that_breaks_it(
    request_: Request, fleet: list[Candidate], error: type[NoFit], message: str
) -> None:
    with pytest.raises(error) as raised:
        place(request_, fleet)
    assert (type(raised.value), str(raised.value)) == (error, message)


@pytest.mark.parametrize(
    ("request_", "fleet", "told"),
    [
        (ask(6, rule()), ABC, []),
        (
            ask(9, rule(when=SOFT)),
            TIGHT,
            ["SpreadNotMet: spread over zone: zb has 4 replicas and zc 1, maxSkew is 1"],
        ),
        (
            ask(2, rule(least=3, when=SOFT)),
            ABC[:2],
            ["SpreadNotMet: spread over zone: 2 domains are left of minDomains 3"],
        ),
        (
            ask(6, rule(least=3), previous={"b": 2, "c": 2}, evicting="a"),
            ABC,
            ["SpreadNotMet: spread over zone: 2 domains are left of minDomains 3"],
        ),
        (
            ask(2, rule(), placement=DUPLICATED),
            ABC,
            [
                "SpreadNotMet: spread has no say: the placement is Duplicated, "
                "every cluster runs all replicas"
            ],
        ),
        (ask(6, headroom="zone"), ABC, []),
        (
            ask(30, placement=BY_ZONE, headroom="zone"),
            [member("a", "za", 20), member("b", "zb", 20), member("c", "zc", 7)],
            [
                "HeadroomShort: N-1 zone: of the 12 replicas of za 9 would find room elsewhere, "
                "3 would not"
            ],
        ),
        # what runs there counts as room there
        (
            ask(6, placement=BY_ZONE, previous={"a": 3, "b": 3}, headroom="zone"),
            [member("a", "za", 2), member("b", "zb", 2)],
            [
                "HeadroomShort: N-1 zone: of the 3 replicas of zb 2 would find room elsewhere, "
                "1 would not"
            ],
        ),
        (
            ask(4, headroom="cluster"),
            [member("a", "za", 100)],
            [
                "HeadroomShort: N-1 cluster: of the 4 replicas of a 0 would find room elsewhere, "
                "4 would not"
            ],
        ),
        (
            ask(4, headroom="region", placement=BY_ZONE),
            [member("a", "r1/za"), member("b", "r1/zb"), member("c", "r2/zc", 1)],
            [
                "HeadroomShort: N-1 region: of the 3 replicas of r1 0 would find room elsewhere, "
                "3 would not"
            ],
        ),
    ],
)
def test_what_is_told(request_: Request, fleet: list[Candidate], told: list[str]) -> None:
    decision = place(request_, fleet)
    assert [f"{w.reason}: {w.message}" for w in decision.warnings] == told


PLACES = st.lists(
    st.tuples(st.sampled_from("pq"), st.sampled_from("xyz"), st.integers(0, 30), st.integers(0, 6)),
    min_size=1,
    max_size=7,
)
RULES = st.lists(
    st.tuples(st.sampled_from(["provider", "zone", "cluster"]), st.integers(1, 3), st.booleans()),
    max_size=3,
    unique_by=lambda r: r[0],
)


@given(PLACES, RULES, st.integers(0, 60), st.sampled_from([DYNAMIC, AGGREGATED, BY_ZONE]))
def test_a_decision_keeps_the_sum_the_room_and_every_hard_rule(
    places: list[tuple[str, str, int, int]],
    rules: list[tuple[str, int, bool]],
    replicas: int,
    placement: Placement,
) -> None:
    fleet = [
        member(f"m{i}", f"{provider}/r/{provider}{zone}", pods)
        for i, (provider, zone, pods, _) in enumerate(places)
    ]
    held = {f"m{i}": count for i, (_, _, _, count) in enumerate(places) if count}
    spread = [rule(key, skew, when="DoNotSchedule" if hard else SOFT) for key, skew, hard in rules]
    try:
        targets = place(ask(replicas, *spread, placement=placement, previous=held), fleet).targets
    except NoFit:
        return
    assert sum(targets.values()) == replicas
    room = {c.name: (c.free or {})["pods"] + held.get(c.name, 0) for c in fleet}
    assert all(0 < count <= room[name] for name, count in targets.items())
    for one in spread:
        counts = Counter({domain_of(one.key, c): 0 for c in fleet})
        for c in fleet:
            counts[domain_of(one.key, c)] += targets.get(c.name, 0)
        if one.when_unsatisfiable != SOFT and replicas:
            assert max(counts.values()) - min(counts.values()) <= one.max_skew


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 90), st.integers(1, 3))
def test_one_hard_rule_refuses_only_what_cannot_be(
    rooms: list[int], replicas: int, skew: int
) -> None:
    fleet = [member(f"m{i}", f"z{i}", pods) for i, pods in enumerate(rooms)]
    most = sum(min(room, min(rooms) + skew) for room in rooms)
    try:
        place(ask(replicas, rule(skew=skew)), fleet)
        placed = True
    except NoFit:
        placed = False
    assert placed == (replicas <= most)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(1, 60))
def test_headroom_is_short_exactly_where_the_others_could_not_hold_all(
    rooms: list[int], replicas: int
) -> None:
    fleet = [member(f"m{i}", f"z{i}", pods) for i, pods in enumerate(rooms)]
    try:
        decision = place(ask(replicas, placement=BY_ZONE, headroom="zone"), fleet)
    except NoFit:
        return
    short = any(
        sum(rooms) - rooms[i] < replicas for i in range(len(rooms)) if decision.targets.get(f"m{i}")
    )
    assert bool(decision.warnings) == short


def test_a_large_fleet_is_divided_in_reasonable_time() -> None:
    fleet = [member(f"m{i:02}", f"r{i % 3}/z{i % 14}", 5000 - i) for i in range(70)]
    found = place(ask(20_000, rule(), rule("region"), placement=AGGREGATED), fleet).targets
    assert sum(found.values()) == 20_000
