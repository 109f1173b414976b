"""What a decision is told to be made of: filters, room, weights, groups, tiers, tie-breaks; always of the decision itself."""

from dataclasses import replace

import pytest
from hypothesis import given
from msgspec import structs
from tests.unit.placement.questions import divided, fleets, requests

from federation.placement.explain import Report, explain
from federation.placement.model import Candidate, NoFit, Request
from federation.placement.plan import place
from federation.placement.preferences import Preference, Preferences
from machinery.api.core import Taint
from machinery.api.fleet.policy import (
    ClusterAffinity,
    ClusterAffinityTerm,
    Placement,
    ReplicaSchedulingStrategy,
    SpreadConstraint,
)
from machinery.api.fleet.resilience import SpreadRule

KINDS = frozenset({("apps/v1", "Deployment")})


def member(name: str, zone: str = "za", pods: int = 10, **more: object) -> Candidate:
    return Candidate(name, {}, "p", "r", (zone,), kinds=KINDS, free={"pods": pods}, **more)  # type: ignore[arg-type]


ALPHA, BETA, GAMMA = member("alpha"), member("beta", "zb", 20), member("gamma", "zc", 5)
FLEET = [ALPHA, BETA, GAMMA]
DYNAMIC = Placement(replica_scheduling=divided())
BY_ZONE = Placement(
    replica_scheduling=divided(), spread_constraints=(SpreadConstraint("zone", min_groups=1),)
)
GROUPS = Placement(
    cluster_affinities=(
        ClusterAffinityTerm(affinity_name="near", cluster_names=("gamma",)),
        ClusterAffinityTerm(affinity_name="far", cluster_names=("alpha", "beta")),
    ),
    replica_scheduling=divided(),
)
TIERS = Placement(
    cluster_affinities=(
        ClusterAffinityTerm(
            affinity_name="own",
            cluster_names=("gamma",),
            overflow_affinities=(
                ClusterAffinityTerm(affinity_name="cloud", cluster_names=("beta",)),
            ),
        ),
    ),
    replica_scheduling=divided(),
)


def ask(placement: Placement = DYNAMIC, replicas: int = 7, **more: object) -> Request:
    return Request("uid", "apps/v1", "Deployment", placement, replicas, **more)  # type: ignore[arg-type]


def of(report: Report, name: str) -> str:
    return "; ".join(next(c for c in report.clusters if c.name == name).sentences)


@pytest.mark.parametrize(
    ("request_", "fleet", "where", "told"),
    [
        (ask(), FLEET, "", "all 3 clusters may run the workload"),
        (ask(), FLEET, "", "7 replicas are divided by free room (Webster)"),
        (ask(), FLEET, "beta", "it has room for 20 more replicas, pods is the scarcest"),
        (
            ask(asks={"cpu": 100}),
            [structs.replace(ALPHA, free={"pods": 10, "cpu": 250}), BETA],
            "alpha",
            "it has room for 2 more replicas, cpu is the scarcest",
        ),
        (
            ask(),
            [structs.replace(ALPHA, reserved={"pods": 3}), BETA],
            "alpha",
            "what earlier decisions gave away and it has not reported yet is taken off",
        ),
        (ask(), [structs.replace(ALPHA, free=None), BETA], "alpha", "which counts as no room"),
        (
            ask(),
            [structs.replace(ALPHA, estimate=4), BETA],
            "alpha",
            "it has room for 4 more replicas, by the word of its own scheduler",
        ),
        (
            ask(platforms=frozenset({"linux/arm64"})),
            [
                structs.replace(
                    ALPHA, platforms={"linux/amd64": {"pods": 6}, "linux/arm64": {"pods": 4}}
                )
            ],
            "alpha",
            "only its nodes of the workload's platforms count; it has room for 4 more replicas",
        ),
        (
            ask(),
            [structs.replace(ALPHA, taints=(Taint(key="team", effect="NoSchedule"),)), BETA],
            "alpha",
            "left out: it had untolerated taint {team:NoSchedule}",
        ),
        (
            ask(),
            [structs.replace(ALPHA, kinds=frozenset()), BETA],
            "alpha",
            "left out: it did not have the API resource",
        ),
        (
            ask(evicting=frozenset({"alpha"})),
            FLEET,
            "alpha",
            "left out: it is in the process of eviction",
        ),
        (
            ask(),
            [structs.replace(ALPHA, barred="no company"), BETA],
            "alpha",
            "left out: no company",
        ),
        (
            ask(previous={"alpha": 2}),
            [structs.replace(ALPHA, cut=True), BETA],
            "alpha",
            "its link is cut: it keeps what it holds and gets no more; 2 before, 2 now",
        ),
        (
            ask(previous={"alpha": 3}),
            [structs.replace(ALPHA, taints=(Taint(key="team", effect="NoSchedule"),)), BETA],
            "alpha",
            "it is tainted since: it keeps what it holds and gets no more; 3 before, 3 now",
        ),
        (
            ask(previous={"alpha": 5}),
            FLEET,
            "",
            "what is placed stays: 5 of 7, 2 are missing",
        ),
        (
            ask(previous={"alpha": 9}),
            FLEET,
            "",
            "what is placed stays: 9 of 7, 2 are too many",
        ),
        (
            ask(previous={"alpha": 5}, fresh=True),
            FLEET,
            "",
            "the division is made anew: what runs counts as room",
        ),
        (
            ask(BY_ZONE),
            FLEET,
            "",
            "replicas are balanced over zone: za:2, zb:3, zc:2; the odd ones go where more run already",
        ),
        (
            ask(
                Placement(
                    replica_scheduling=divided(),
                    spread_constraints=(SpreadConstraint("cluster", min_groups=1, max_groups=2),),
                )
            ),
            FLEET,
            "gamma",
            "not selected by the spread constraints, with room for 5 in all",
        ),
        (
            ask(GROUPS, 9),
            FLEET,
            "",
            "affinity group near does not do: failed to assign replicas: failed to scale up: Clusters available replicas 5",
        ),
        (ask(GROUPS, 9), FLEET, "", "affinity group far is used"),
        (
            ask(GROUPS, 2, affinity_name="far"),
            FLEET,
            "",
            "begins at affinity group far, which was used last; near is not tried",
        ),
        (ask(TIERS, 9), FLEET, "gamma", "in tier 0 of its affinity group, which is filled first"),
        (ask(TIERS, 9), FLEET, "beta", "tier 1 of its affinity group, which gets what the tiers"),
        (
            ask(Placement(replica_scheduling=divided(static=True))),
            FLEET,
            "beta",
            "its weight is 2 of 6",
        ),
        (
            ask(Placement(replica_scheduling=divided(static=True))),
            FLEET,
            "",
            "room has no say in a division by static weights",
        ),
        (
            ask(Placement(replica_scheduling=ReplicaSchedulingStrategy("Duplicated"))),
            FLEET,
            "",
            "every selected cluster runs all 7 replicas",
        ),
        (
            ask(preferences=Preferences(clusters={"beta": Preference(2, 9, 3)})),
            FLEET,
            "beta",
            "the preferences want at least 2, at most 9, weight 3",
        ),
        (
            ask(preferences=Preferences(clusters={"beta": Preference(2, 9, 3)})),
            FLEET,
            "alpha",
            "the preferences have no entry for it, and none for all",
        ),
        (
            ask(spread=(SpreadRule("zone"),)),
            FLEET,
            "",
            "zone must differ by at most 1: za:2, zb:3, zc:2",
        ),
        (
            ask(
                Placement(cluster_affinity=ClusterAffinity(cluster_names=("nowhere",))),
            ),
            FLEET,
            "",
            "refused: 0/3 clusters are available: 3 cluster(s) did not match the placement",
        ),
        (
            ask(replicas=90),
            FLEET,
            "",
            "refused: failed to assign replicas: failed to scale up: Clusters available",
        ),
    ],
)
def test_it_says_why(request_, fleet, where, told):
    report = explain(request_, fleet)
    assert told in (of(report, where) if where else "; ".join(report.sentences))


@pytest.mark.parametrize(
    ("uid", "fleet", "replicas", "told"),
    [
        ("uid", [member("a"), member("b")], 3, "between a, b: fewer replicas first, then by name"),
        ("uid", [member(n) for n in "abcde"], 1, "between a, b, c and 2 more"),
        ("uid", [member("a"), member("b")], 4, ""),
        ("uid", [member("a"), member("b", pods=11)], 1, ""),
    ],
    ids=["two", "many", "even", "one has more"],
)
def test_ties_are_told(uid, fleet, replicas, told):
    report = explain(replace(ask(replicas=replicas), uid=uid), fleet)
    text = "; ".join(s for s in report.sentences if "a tie" in s)
    assert told in text and bool(told) == bool(text)


@pytest.mark.parametrize("uid", ["u", "v", "uid", "x"])
def test_the_way_of_a_tie_is_the_way_it_went(uid):
    report = explain(replace(ask(replicas=1), uid=uid), [member("a"), member("b")])
    (told,) = [s for s in report.sentences if "a tie" in s]
    winner = "a" if ", forwards by" in told else "b"
    assert report.decision is not None and dict(report.decision.targets) == {winner: 1}


@given(requests, fleets())
def test_it_is_of_the_decision(request_, fleet):
    report = explain(request_, fleet)
    try:
        decision = place(request_, fleet)
    except NoFit as error:
        assert (report.decision, report.refusal) == (None, str(error))
        return
    assert report.decision == decision
    told = {c.name: c.replicas for c in report.clusters if c.replicas}
    assert told == {name: count for name, count in decision.targets.items() if count}
    for name in decision.left_out:
        assert of(report, name), f"{name} was left out, and it is not said why"
