"""Hypothesis' questions to the planner: requests of every kind, and fleets of up to five members."""

from hypothesis import strategies as st
from msgspec import structs

from federation.placement.model import Candidate, Request, Shape
from federation.placement.preferences import Preference, Preferences
from machinery.api.core import Taint, Toleration
from machinery.api.fleet.policy import (
    ClusterAffinity,
    ClusterAffinityTerm,
    ClusterPreferences,
    Placement,
    ReplicaSchedulingStrategy,
    SpreadConstraint,
    StaticClusterWeight,
)
from machinery.api.fleet.resilience import ScoreRule, SpreadRule

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")
KINDS = frozenset({("apps/v1", "Deployment"), ("v1", "ConfigMap")})
counts = st.integers(0, 40)


def divided(*, aggregated: bool = False, static: bool = False) -> ReplicaSchedulingStrategy:
    weights = tuple(
        StaticClusterWeight(ClusterAffinity(cluster_names=(name,)), number)
        for number, name in enumerate(NAMES, 1)
    )
    preference = (
        ClusterPreferences(weights)
        if static
        else ClusterPreferences(dynamic_weight="AvailableReplicas")
    )
    return ReplicaSchedulingStrategy(
        "Divided", "Aggregated" if aggregated else "Weighted", preference
    )


placements = st.builds(
    Placement,
    cluster_affinities=st.sampled_from(
        [
            (),
            (
                ClusterAffinityTerm(affinity_name="first", cluster_names=("alpha", "beta")),
                ClusterAffinityTerm(affinity_name="rest", exclude=("alpha",)),
            ),
        ]
    ),
    cluster_tolerations=st.sampled_from([(), (Toleration(key="team", operator="Exists"),)]),
    spread_constraints=st.sampled_from(
        [
            (),
            (SpreadConstraint("zone", min_groups=1),),
            (SpreadConstraint("region", min_groups=1), SpreadConstraint("cluster", max_groups=3)),
            (SpreadConstraint("cluster", min_groups=1, max_groups=2),),
        ]
    ),
    replica_scheduling=st.sampled_from(
        [None, divided(), divided(aggregated=True), divided(static=True)]
    ),
)
candidates = st.builds(
    Candidate,
    st.just(""),
    labels=st.sampled_from([{}, {"env": "prod"}, {"env": "prod", "a": "b"}]),
    provider=st.sampled_from(["", "aws"]),
    region=st.sampled_from(["r1", "r2"]),
    zones=st.sampled_from([("za",), ("zb",), ("zb", "zc")]),
    taints=st.sampled_from([(), (Taint(key="team", effect="NoSchedule"),)]),
    kinds=st.sampled_from([None, KINDS, KINDS | {("batch/v1", "Job")}]),
    free=st.one_of(
        st.none(), st.fixed_dictionaries({"pods": counts, "cpu": st.integers(-100, 9000)})
    ),
    cut=st.booleans(),
    barred=st.sampled_from(["", "cluster(s) had a workload that this one must not share it with"]),
    shapes=st.sampled_from([(), (Shape(2, {"cpu": 500, "pods": 4}),)]),
    reserved=st.sampled_from([{}, {"pods": 2, "cpu": 200}]),
    estimate=st.one_of(st.none(), counts),
    platforms=st.sampled_from(
        [{}, {"linux/amd64": {"pods": 5, "cpu": 900}}, {"linux/arm64": {"pods": 3}}]
    ),
    figures=st.fixed_dictionaries(
        {}, optional={"cost": st.integers(0, 90), "carbon": st.integers(0, 10**9)}
    ),
)


@st.composite
def fleets(draw: st.DrawFn) -> list[Candidate]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
    return [structs.replace(draw(candidates), name=name) for name in names]


requests = st.builds(
    Request,
    st.text(min_size=1, max_size=4),
    st.just("apps/v1"),
    st.just("Deployment"),
    placements,
    replicas=counts,
    asks=st.sampled_from([{}, {"cpu": 100}]),
    previous=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9), max_size=3),
    evicting=st.frozensets(st.sampled_from(NAMES), max_size=1),
    key=st.just("demo/web"),
    fresh=st.booleans(),
    affinity_name=st.sampled_from(["", "rest"]),
    spread=st.sampled_from([(), (SpreadRule("zone"),)]),
    preferences=st.sampled_from(
        [None, Preferences(clusters={"*": Preference(weight=1), "beta": Preference(2, 9, 3)})]
    ),
    waiting=st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3), max_size=1),
    headroom=st.sampled_from(["", "zone"]),
    platforms=st.sampled_from([frozenset(), frozenset({"linux/amd64"})]),
    scores=st.lists(
        st.builds(
            ScoreRule,
            st.sampled_from(["cost", "carbon", "capacity", "locality"]),
            st.integers(1, 10),
        ),
        max_size=3,
        unique_by=lambda rule: rule.by,
    ).map(tuple),
)
