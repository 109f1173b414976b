"""Scores: they choose and weigh, and never cost a placement, room that is not there, or a move of what runs."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.placement.questions import divided, fleets, requests

from federation.placement import capacity
from federation.placement.divide import by_score, filled, fnv1a_32, webster
from federation.placement.explain import Report, explain
from federation.placement.model import Candidate, Decision, NoFit, Request, Unschedulable
from federation.placement.plan import place, usable
from federation.placement.scores import ADVICE, figures, misread, scored
from machinery.api.fleet.policy import Placement, ReplicaSchedulingStrategy, SpreadConstraint
from machinery.api.fleet.resilience import ScoreRule

prices, zones = st.integers(0, 90), st.sampled_from(["za", "zb"])
COST, CARBON = ScoreRule("cost"), ScoreRule("carbon", 3)
MOST_ONE = (SpreadConstraint("cluster", min_groups=1, max_groups=1),)


def member(name: str, pods: int = 10, zone: str = "za", **figures: int) -> Candidate:
    return Candidate(name, zones=(zone,), free={"pods": pods}, figures=figures)


def ask(
    scheduling: ReplicaSchedulingStrategy | None = None,
    constraints: tuple[SpreadConstraint, ...] = (),
    **more: object,
) -> Request:
    placement = Placement(
        replica_scheduling=scheduling or divided(), spread_constraints=constraints
    )
    request = Request("a", "apps/v1", "Deployment", placement, 6, scores=(COST,))
    return replace(request, **more)  # type: ignore[arg-type]


def decided(request: Request, fleet: list[Candidate]) -> Decision | None:
    try:
        return place(request, fleet)
    except NoFit:
        return None


@given(requests, fleets())
def test_scores_never_cost_the_placement(request: Request, fleet: list[Candidate]) -> None:
    plain = replace(request, scores=())
    with_scores, without = decided(request, fleet), decided(plain, fleet)
    assert (with_scores is None) == (without is None)
    if with_scores is not None and without is not None:
        if not request.scores:
            assert with_scores == without
        assert sum(with_scores.targets.values()) == sum(without.targets.values()) or (
            request.placement.replica_scheduling is None
        )


@given(requests, fleets())
def test_what_is_given_by_room_is_never_beyond_it(request: Request, fleet: list[Candidate]) -> None:
    dynamic = msgspec.structs.replace(request.placement, replica_scheduling=divided())
    request = replace(request, placement=dynamic, preferences=None, spread=())
    decision = decided(request, fleet)
    if decision is None:
        return
    room = capacity.rooms(usable(fleet, request), request.asks)
    for name, count in decision.targets.items():
        assert count <= room[name] + request.previous.get(name, 0)


@given(requests, fleets(), st.integers(2, 1000))
def test_it_does_not_matter_what_the_currency_is(
    request: Request, fleet: list[Candidate], factor: int
) -> None:
    other = [
        msgspec.structs.replace(c, figures={by: value * factor for by, value in c.figures.items()})
        for c in fleet
    ]
    assert decided(request, fleet) == decided(request, other)


@given(
    st.lists(st.tuples(st.integers(0, 20), prices, prices, zones), min_size=1, max_size=5),
    st.integers(0, 20),
    st.sampled_from([divided(), divided(aggregated=True)]),
    st.sampled_from([(), MOST_ONE, (SpreadConstraint("zone", min_groups=1, max_groups=1),)]),
)
def test_a_change_of_prices_moves_nothing(
    offers: list[tuple[int, int, int, str]],
    replicas: int,
    scheduling: ReplicaSchedulingStrategy,
    constraints: tuple[SpreadConstraint, ...],
) -> None:
    request = ask(scheduling, constraints, replicas=replicas, scores=(COST, ScoreRule("capacity")))
    fleet = [
        member(name, pods, zone, cost=cost)
        for name, (pods, cost, _, zone) in zip("abcde", offers, strict=False)
    ]
    decision = decided(request, fleet)
    if decision is None:
        return
    held = decision.targets
    there = [
        member(name, pods - held.get(name, 0), zone, cost=cost)
        for name, (pods, _, cost, zone) in zip("abcde", offers, strict=False)
    ]
    again = place(replace(request, previous=held), there)
    assert again.targets == held


def test_the_mean_of_the_others_is_neither_good_nor_bad() -> None:
    fleet = [member("a", cost=20), member("b"), member("c", cost=80)]
    found = scored((COST,), fleet, dict.fromkeys("abc", 10), (), fresh=False)
    assert found.of == {"a": 100, "b": 62, "c": 25}
    assert found.untold == {"cost": {"b"}}


def test_a_sum_is_by_weight_and_at_least_one() -> None:
    fleet = [member("a", cost=0, carbon=600), member("b", cost=5, carbon=100)]
    found = scored((COST, CARBON), fleet, {"a": 10, "b": 5}, (), fresh=False)
    assert found.of == {"a": 100 + 3 * 16, "b": 3 * 100}
    dear = scored((COST,), fleet, {"a": 10, "b": 5}, (), fresh=False)
    assert dear.of == {"a": 100, "b": 1}


@pytest.mark.parametrize(
    ("fresh", "rules", "stays", "of_holder"),
    [
        (False, (COST,), True, 25),
        (True, (COST,), False, 25),
        (False, (COST, ScoreRule("locality", 2)), False, 225),
        (True, (COST, ScoreRule("locality", 2)), False, 25),
    ],
    ids=["it stays", "from scratch", "staying has a weight", "from scratch it has none"],
)
def test_who_holds_the_workload(
    fresh: bool, rules: tuple[ScoreRule, ...], stays: bool, of_holder: int
) -> None:
    fleet = [member("a", cost=80), member("b", cost=20)]
    found = scored(rules, fleet, {"a": 9, "b": 9}, {"a": 2}, fresh=fresh)
    assert (found.stays, found.of["a"]) == (stays, of_holder)


@given(
    st.integers(0, 60),
    st.dictionaries(st.sampled_from("abcde"), st.tuples(st.integers(0, 20), st.integers(1, 500))),
    st.sampled_from(["a", "b"]),
)
def test_a_weighed_division_gives_all_and_no_more_than_there_is(
    wanted: int, offers: Mapping[str, tuple[int, int]], uid: str
) -> None:
    room = [(name, count) for name, (count, _) in offers.items()]
    scores = {name: score for name, (_, score) in offers.items()}
    rooms = dict(room)
    if sum(rooms.values()) < wanted:
        with pytest.raises(Unschedulable):
            _ = by_score(wanted, room, scores, uid)
        with pytest.raises(Unschedulable):
            _ = filled(wanted, room)
        return
    for given_ in (by_score(wanted, room, scores, uid), filled(wanted, room)):
        assert sum(given_.values()) == wanted
        assert all(count <= rooms[name] for name, count in given_.items())
    equal = by_score(wanted, room, dict.fromkeys(scores, 7), uid)
    assert {n: c for n, c in equal.items() if c} == {
        n: c for n, c in webster(wanted, rooms, uid).items() if c
    }


def test_what_cannot_be_read_is_told_and_the_rest_is_taken() -> None:
    said = {"ubernetes.io/cost-per-cpu-hour": "cheap", "ubernetes.io/carbon-g-per-kwh": "35.5"}
    assert figures(said) == {"carbon": 35_500_000}
    assert misread(said) == (
        "ubernetes.io/cost-per-cpu-hour 'cheap' is not a decimal number of at least 0"
    )
    assert misread({"ubernetes.io/carbon-g-per-kwh": "35.5"}) == misread({}) == ""


def test_many_that_tell_nothing_are_counted() -> None:
    fleet = [member("a", cost=1), *(member(f"m{n}") for n in range(5))]
    decision = place(ask(), fleet)
    assert [w.message for w in decision.warnings] == [
        "no cost (ubernetes.io/cost-per-cpu-hour) is told by m0, m1, m2 and 2 more: each counts as the mean of "
        "the others"
    ]
    assert {w.reason for w in decision.warnings} <= ADVICE


CHEAP_BETA = [member("alpha", 20, cost=80), member("beta", 10, cost=20), member("gamma", 9)]


@pytest.mark.parametrize(
    ("request_", "fleet", "where", "told"),
    [
        (ask(), CHEAP_BETA, "", "clusters are scored by cost x 1"),
        (ask(), CHEAP_BETA, "", "free room is weighed by the score"),
        (ask(), CHEAP_BETA, "", "clusters that hold the workload come before all others"),
        (ask(scores=(COST, CARBON)), CHEAP_BETA, "", "scored by cost x 1, carbon x 3"),
        (ask(), CHEAP_BETA, "beta", "its score is 100: cost 100 x 1"),
        (ask(), CHEAP_BETA, "gamma", "cost 62 x 1 (it does not tell, which counts as the mean"),
        (
            ask(),
            CHEAP_BETA,
            "",
            "ScoreUntold: no cost (ubernetes.io/cost-per-cpu-hour) is told by gamma: each",
        ),
        (ask(divided(aggregated=True)), CHEAP_BETA, "", "and are filled one after the other"),
        (ask(None, MOST_ONE), CHEAP_BETA, "", "first, then those with the higher score, then the"),
        (
            ask(None, MOST_ONE, fresh=True),
            CHEAP_BETA,
            "",
            "1 clusters at most: those with the higher score, then the roomiest, then by name",
        ),
        (
            ask(None, (SpreadConstraint("zone", min_groups=1),)),
            CHEAP_BETA,
            "",
            "then where the score is higher, then to the roomier",
        ),
        (ask(divided(static=True)), CHEAP_BETA, "", "ScoresHaveNoSay: scores have no say"),
        (
            ask(None, (SpreadConstraint("zone", min_groups=1, max_groups=1), *MOST_ONE)),
            [member("alpha", 2, cost=1), member("beta", 20, cost=9)],
            "",
            "ScoresSetAside: with its scores the workload has no placement: failed to assign",
        ),
    ],
)
def test_it_says_how_clusters_are_scored(
    request_: Request, fleet: list[Candidate], where: str, told: str
) -> None:
    report = explain(request_, fleet)
    assert report.decision == place(request_, fleet)
    assert told in _sentences(report, where)


def test_scores_that_are_set_aside_are_not_told_as_if_they_counted() -> None:
    constraints = (SpreadConstraint("zone", min_groups=1, max_groups=1), *MOST_ONE)
    report = explain(ask(None, constraints), [member("a", 2, cost=1), member("b", 20, cost=9)])
    assert report.decision is not None and report.decision.targets == {"b": 6}
    assert "scored by" not in _sentences(report, "") + _sentences(report, "a")


def test_nothing_of_scores_is_said_where_nobody_asks() -> None:
    report = explain(ask(scores=()), CHEAP_BETA)
    assert "score" not in _sentences(report, "") + _sentences(report, "beta")


def test_the_first_name_stands_for_a_hash_that_goes_forwards() -> None:
    assert fnv1a_32("a") % 2 == 0


def _sentences(report: Report, where: str) -> str:
    if not where:
        return "\n".join(report.sentences)
    return "\n".join(next(c.sentences for c in report.clusters if c.name == where))
