"""Scores in a ResiliencePolicy: from the policy to the clusters; prices that change, and prices that cannot be read."""

import asyncio

import pytest
from tests.unit.controllers_federation.moving_fleet import BINDING, WEB, Fleet, play
from tests.unit.controllers_federation.test_journal import decisions, differing

from federation.clusters.candidates import candidate
from federation.controllers import capacity
from federation.propagation.questions import question, request_of
from federation.propagation.resilience import DEMANDS, demanded, demands
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.policy import PROPAGATION_POLICIES, Placement
from machinery.api.fleet.resilience import RESILIENCE_POLICIES, ResilienceSpec, ScoreRule
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding, ResourceBindingSpec
from machinery.controller.action import Emit, SetStatus
from machinery.kit.clock import rfc3339
from machinery.meta.errors import Invalid
from machinery.meta.objectmeta import Condition, ObjectMeta, condition
from machinery.meta.resource import ObjectKey

POLICY = ObjectKey("demo", "web")
PRICE, CARBON = "ubernetes.io/cost-per-cpu-hour", "ubernetes.io/carbon-g-per-kwh"
NOW = "2026-11-29T12:00:00Z"


def asked(spec: ResilienceSpec) -> ResourceBinding:
    text = demanded(spec)
    annotations = {DEMANDS: text} if text is not None else {}
    return ResourceBinding(
        metadata=ObjectMeta(annotations=annotations),
        spec=ResourceBindingSpec(placement=Placement()),
    )


def test_the_scores_travel_and_are_part_of_the_question() -> None:
    cheap = ResilienceSpec(scores=(ScoreRule("cost", 5), ScoreRule("carbon")))
    assert demands(asked(cheap).metadata.annotations).scores == cheap.scores
    assert request_of(asked(cheap), fresh=False).scores == cheap.scores
    other = ResilienceSpec(scores=(ScoreRule("cost", 4), ScoreRule("carbon")))
    assert len({question(asked(spec)) for spec in (cheap, other, ResilienceSpec())}) == 3


def test_who_scores_nothing_asks_as_before_there_were_scores() -> None:
    assert demanded(ResilienceSpec(headroom="N-1 zone")) == '{"spread":[],"headroom":"N-1 zone"}'


BY_ROOM = {
    "apiVersion": PROPAGATION_POLICIES.api_version,
    "kind": PROPAGATION_POLICIES.kind,
    "metadata": {"name": "by-room", "namespace": "demo"},
    "spec": {
        "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}],
        "placement": {
            "replicaScheduling": {
                "replicaSchedulingType": "Divided",
                "replicaDivisionPreference": "Weighted",
                "weightPreference": {"dynamicWeight": "AvailableReplicas"},
            }
        },
    },
}


def cluster(conditions: tuple[Condition, ...] = (), **annotations: str) -> Cluster:
    told = {f"ubernetes.io/{name.replace('_', '-')}": text for name, text in annotations.items()}
    made = Cluster(metadata=ObjectMeta(name="alpha", annotations=told))
    return Cluster(
        metadata=made.metadata,
        status=type(made.status)(conditions=conditions),
    )


def test_a_candidate_has_the_figures_that_can_be_read() -> None:
    told = cluster(cost_per_cpu_hour="0.031", carbon_g_per_kwh="a lot")
    assert candidate(told).figures == {"cost": 31000}


def test_figures_that_cannot_be_read_are_told_once_and_taken_back() -> None:
    bad = cluster(cost_per_cpu_hour="0,03")
    status, event = capacity.plan(bad, NOW)
    assert isinstance(status, SetStatus) and isinstance(event, Emit)
    assert (event.type, event.reason) == ("Warning", "FiguresUnreadable")
    assert event.message == (
        "What the cluster costs or emits is not known: ubernetes.io/cost-per-cpu-hour '0,03' is not a decimal "
        "number of at least 0."
    )
    held = Condition(capacity.FIGURES_READ, "False", "Unreadable", event.message)
    assert capacity.plan(cluster((held,), cost_per_cpu_hour="0,03"), NOW) == []
    (mended,) = capacity.plan(cluster((held,), cost_per_cpu_hour="0.03"), NOW)
    assert isinstance(mended, SetStatus)
    assert [(c["type"], c["status"]) for c in mended.status["conditions"]] == [
        (capacity.FIGURES_READ, "True")
    ]
    assert capacity.plan(cluster(cost_per_cpu_hour="0.03"), NOW) == []


def test_what_a_policy_may_not_say_is_refused() -> None:
    async def story(fleet: Fleet) -> None:
        for scores in (
            [{"by": "beauty"}],
            [{"by": "cost", "weight": 0}],
            [{"by": "cost", "weight": 11}],
            [{"weight": 1}],
            [{"by": "cost"}, {"by": "cost", "weight": 2}],
        ):
            with pytest.raises(Invalid):
                await fleet.policy(scores=scores)
        await fleet.policy(scores=[{"by": "cost"}])
        held = await fleet.client.get(RESILIENCE_POLICIES, POLICY)
        assert held.spec.scores == (ScoreRule("cost", 1),)

    play(story)


def test_the_cheap_cluster_gets_more_and_a_price_alone_moves_nothing() -> None:
    async def story(fleet: Fleet) -> None:
        async def say(name: str, **annotations: str | None) -> None:
            marks = {"metadata": {"annotations": annotations}}
            await fleet.client.patch(CLUSTERS, ObjectKey("", name), marks)

        async def outlives() -> tuple[str, str]:
            held = condition((await fleet.binding()).status.conditions, "Resilient")
            assert held is not None
            return held.status, held.message

        for name, price in {"alpha": "0.09", "beta": "0.03", "gamma": "dear"}.items():
            await say(name, **{PRICE: price})
        await fleet.policy(scores=[{"by": "cost", "weight": 5}])
        await fleet.client.create(PROPAGATION_POLICIES, BY_ROOM)
        await fleet.deploy(6)
        first = await fleet.divided()
        assert sum(first.values()) == 6 and first["beta"] > first["alpha"]
        status, message = await outlives()
        assert status == "True" and "is told by gamma: each counts" in message
        assert "ScoreUntold" in await fleet.reasons(WEB)
        assert "FiguresUnreadable" in await fleet.reasons(ObjectKey("", "gamma"))

        await say("alpha", **{PRICE: "0.01"})
        await say("gamma", **{PRICE: "0.9"})
        await asyncio.sleep(60)
        assert await fleet.divided() == first
        gamma = await fleet.client.get(CLUSTERS, ObjectKey("", "gamma"))
        read = condition(gamma.status.conditions, capacity.FIGURES_READ)
        assert read is not None and read.status == "True"

        again = {"spec": {"rescheduleTriggeredAt": rfc3339(fleet.clock.now())}}
        await fleet.client.patch(RESOURCE_BINDINGS, BINDING, again)
        await asyncio.sleep(60)
        after = await fleet.divided()
        assert sum(after.values()) == 6 and after["alpha"] > after.get("beta", 0)
        assert len(await decisions(fleet)) >= 2
        assert await differing(fleet) == []

    play(story)
