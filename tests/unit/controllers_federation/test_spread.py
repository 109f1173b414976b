"""Spread, headroom and limits of grants in a ResiliencePolicy: from the policy to the clusters, and what is told."""

import asyncio

import pytest
from tests.unit.controllers_federation.moving_fleet import EVEN, TWO, WEB, Fleet, play

from federation.controllers.placer import WARNED, warnings
from federation.propagation.questions import question, request_of
from federation.propagation.resilience import DEMANDS, demanded, demands
from machinery.api.fleet.policy import Placement
from machinery.api.fleet.resilience import RESILIENCE_POLICIES, ResilienceSpec, SpreadRule
from machinery.api.fleet.work import ResourceBinding, ResourceBindingSpec, TargetCluster
from machinery.meta.errors import Invalid
from machinery.meta.objectmeta import ObjectMeta, condition
from machinery.meta.resource import Document, ObjectKey

POLICY = ObjectKey("demo", "web")


def test_the_demands_travel_as_they_are() -> None:
    spec = ResilienceSpec(
        spread=(SpreadRule("zone", 2, 3, "ScheduleAnyway"),), headroom="N-1 region"
    )
    text = demanded(spec)
    assert text is not None
    found = demands({DEMANDS: text})
    assert (found.spread, found.headroom_key) == (spec.spread, "region")
    assert demanded(ResilienceSpec()) is None


@pytest.mark.parametrize("spoiled", ["", "{", '{"spread": 3}', "3"])
def test_a_spoiled_annotation_demands_nothing(spoiled: str) -> None:
    assert demands({DEMANDS: spoiled}).spread == ()
    spec = ResourceBindingSpec(placement=Placement(), clusters=(TargetCluster("a", 1),))
    held = ResourceBinding(metadata=ObjectMeta(annotations={WARNED: spoiled}), spec=spec)
    assert warnings(held, []) == ()


def test_the_question_is_another_one_only_where_something_is_demanded() -> None:
    plain = ResourceBinding()
    assert question(plain) == question(ResourceBinding(metadata=ObjectMeta(annotations={"a": "b"})))
    asked = ResourceBinding(metadata=ObjectMeta(annotations={DEMANDS: '{"headroom":"N-1 zone"}'}))
    assert question(asked) != question(plain)


async def outlives(fleet: Fleet) -> tuple[str, str, str] | None:
    held = condition((await fleet.binding()).status.conditions, "Resilient")
    return None if held is None else (held.status, held.reason, held.message)


def test_regions_differ_by_at_most_one() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(spread=[{"key": "region", "minDomains": 2}])
        await fleet.deploy(6)
        placed = await fleet.divided()
        assert placed["gamma"] == placed["alpha"] + placed["beta"] == 3
        assert (await outlives(fleet) or ("",))[0] == "True"
        await fleet.members["gamma"].crash(power=False)
        await asyncio.sleep(25)
        placed = await fleet.divided()
        assert sum(placed.values()) == 6
        assert "gamma" not in placed
        told = await outlives(fleet)
        assert told is not None
        assert told[:2] == ("False", "SpreadNotMet")
        assert told[2] == "spread over region: 1 domains are left of minDomains 2."
        assert "SpreadNotMet" in await fleet.reasons(WEB)
        fleet.members["gamma"].start()
        await asyncio.sleep(90)
        placed = await fleet.divided()
        assert placed["gamma"] == 3, "balanced again by failback, which decides nothing"
        assert (await outlives(fleet) or ("",))[0] == "True"

    play(story)


def test_what_was_told_is_told_again_when_its_placement_is_back() -> None:
    """A move that is taken back brings the old clusters back, and with them what they do not give."""

    async def story(fleet: Fleet) -> None:
        await fleet.policy(headroom="N-1 zone")
        await fleet.deploy(60)
        assert await fleet.divided() == {"alpha": 20, "beta": 20, "gamma": 20}
        assert (await outlives(fleet) or ("",))[0] == "True"
        fleet.members["gamma"].link.cut(fleet.clock.monotonic())
        await asyncio.sleep(25)
        told = await outlives(fleet)
        assert told is not None
        assert told[:2] == ("False", "HeadroomShort"), "two zones that are full"
        fleet.members["gamma"].link.heal()
        await asyncio.sleep(120)
        assert await fleet.divided() == {"alpha": 20, "beta": 20, "gamma": 20}
        assert (await outlives(fleet) or ("",))[0] == "True"

    play(story)


def test_a_new_rule_moves_what_runs_and_without_it_nothing_is_said() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.deploy(6)
        assert (await fleet.divided(), await outlives(fleet)) == (EVEN, None)
        await fleet.policy(spread=[{"key": "region"}])
        least = await fleet.pass_time(30)
        placed = await fleet.divided()
        assert (placed["gamma"], await fleet.kept()) == (3, {})
        assert least == 6, "surge first"
        assert (await outlives(fleet) or ("",))[0] == "True"
        await fleet.client.delete(RESILIENCE_POLICIES, POLICY)
        await asyncio.sleep(30)
        assert (await fleet.divided(), await outlives(fleet)) == (EVEN, None)

    play(story)


def test_a_shortfall_of_headroom_is_told_and_places_all_the_same() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(headroom="N-1 zone")
        await fleet.deploy(75)
        assert sum((await fleet.divided()).values()) == 75
        told = await outlives(fleet)
        assert told is not None
        assert told[:2] == ("False", "HeadroomShort")
        assert "N-1 zone: of the 25 replicas of" in told[2]
        assert "15 would not" in told[2]
        assert "HeadroomShort" in await fleet.reasons(WEB)

    play(story)


def test_a_hard_rule_refuses_a_first_placement() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(spread=[{"key": "zone", "minDomains": 4}])
        await fleet.deploy(6)
        held = condition((await fleet.binding()).status.conditions, "Scheduled")
        assert held is not None
        assert (held.status, held.reason) == ("False", "SchedulerError")
        assert "zone domains is 3, less than minDomains 4" in held.message

    play(story)


def test_a_soft_rule_after_a_loss_keeps_all_replicas() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(
            spread=[{"key": "zone", "minDomains": 3, "whenUnsatisfiable": "ScheduleAnyway"}]
        )
        await fleet.deploy(6)
        assert await fleet.divided() == EVEN
        await fleet.members["alpha"].crash(power=False)
        await asyncio.sleep(20)
        assert await fleet.divided() == TWO

    play(story)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"mode": "consistency", "stopAfterDisconnect": 60}, "stop by grantSeconds"),
        ({"stopAfterDisconnect": 5}, "greater than or equal to 20"),
        ({"spread": [{"key": "zone", "maxSkew": 0}]}, "maxSkew"),
        ({"spread": [{"key": "not a label"}]}, r"spread\[0\].key"),
        ({"spread": [{"key": "zone"}, {"key": "zone"}]}, "Duplicate"),
        ({"spread": [{"key": "zone", "whenUnsatisfiable": "Never"}]}, "whenUnsatisfiable"),
        ({"spread": [{"maxSkew": 1}]}, "key"),
        ({"headroom": "N-2 zone"}, "headroom"),
    ],
)
def test_a_policy_that_means_nothing_is_refused(spec: Document, why: str) -> None:
    async def story(fleet: Fleet) -> None:
        with pytest.raises(Invalid, match=why):
            await fleet.policy(**spec)

    play(story)


def test_the_request_asks_what_the_annotation_says() -> None:
    text = '{"spread":[{"key":"zone","maxSkew":1}],"headroom":"N-1 zone"}'
    spec = ResourceBindingSpec(placement=Placement())
    held = ResourceBinding(metadata=ObjectMeta(annotations={DEMANDS: text}), spec=spec)
    asked = request_of(held, fresh=False)
    assert (asked.spread, asked.headroom) == ((SpreadRule("zone"),), "zone")
