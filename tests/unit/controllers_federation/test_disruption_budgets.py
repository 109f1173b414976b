"""Disruption budgets over clusters: drains and failback wait for them, failover does not."""

import asyncio
from typing import Any

from tests.unit.controllers_federation.moving_fleet import BINDING, EVEN, TWO, WEB, Fleet, play

from federation.controllers.evictor import within_budgets
from federation.propagation import moves
from federation.propagation.departures import Cause, Due
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.rollouts import DISRUPTION_BUDGETS
from machinery.api.fleet.work import ResourceBinding
from machinery.controller.action import Emit, RequeueAfter
from machinery.meta.objectmeta import ObjectMeta
from machinery.meta.resource import ObjectKey


async def budget(fleet: Fleet, **spec: Any) -> None:
    document = {
        "apiVersion": "ubernetes.io/v1alpha1",
        "kind": "PlacementDisruptionBudget",
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {"resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}]} | spec,
    }
    await fleet.client.create(DISRUPTION_BUDGETS, document, "demo")


def due(cluster: str, reason: str, wait_s: float = 0.0) -> Due:
    binding = ResourceBinding(metadata=ObjectMeta(name="web", namespace="demo", uid="u"))
    return Due(binding, cluster, Cause(reason, "why"), wait_s=wait_s)


def test_of_two_drains_at_once_the_second_knows_of_the_first() -> None:
    asked: list[tuple[str, frozenset[str]]] = []

    def refusal(_: ResourceBinding, cluster: str, disturbed: frozenset[str]) -> str:
        asked.append((cluster, disturbed))
        return "one is away already" if disturbed else ""

    drains = [due("a", moves.DRAINED), due("b", moves.DRAINED), due("c", moves.DRAINED, 5)]
    passed, held = within_budgets(drains, refusal)
    assert [d.cluster for d in passed] == ["a", "c"]
    assert asked == [("a", frozenset()), ("b", frozenset({"a"}))]
    assert [type(a) for a in held if not isinstance(a, Emit)] == [RequeueAfter]
    (told,) = (a for a in held if isinstance(a, Emit))
    assert told.message == "it stays in b, which is drained, for now: one is away already"


def test_a_dead_cluster_asks_no_budget_and_counts_as_away() -> None:
    def refusal(_: ResourceBinding, cluster: str, disturbed: frozenset[str]) -> str:
        return "no" if disturbed == {"a"} else ""

    lost = [due("a", moves.UNREACHABLE), due("b", moves.DRAINED)]
    passed, held = within_budgets(lost, refusal)
    assert [d.cluster for d in passed] == ["a"]
    assert held


def test_a_drain_waits_while_another_cluster_is_away() -> None:
    async def story(fleet: Fleet) -> None:
        await budget(fleet, maxUnavailable=1)
        await fleet.policy(failover="Disabled")
        await fleet.deploy()
        await fleet.members["gamma"].crash(power=False)
        await asyncio.sleep(20)
        await fleet.taint("beta", "NoSchedule", "NoExecute")
        await asyncio.sleep(30)
        assert await fleet.divided() == EVEN
        assert "DrainHeld" in await fleet.reasons(WEB) | await fleet.reasons(BINDING)
        fleet.members["gamma"].start()
        await asyncio.sleep(60)
        assert "beta" not in await fleet.divided()
        assert fleet.pods("beta") == 0
        assert fleet.ready() == 6

    play(story)


def test_without_a_budget_the_same_drain_begins_at_once() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.policy(failover="Disabled")
        await fleet.deploy()
        await fleet.members["gamma"].crash(power=False)
        await asyncio.sleep(20)
        await fleet.taint("beta", "NoSchedule", "NoExecute")
        await asyncio.sleep(30)
        assert "beta" not in await fleet.divided()

    play(story)


def test_failover_asks_no_budget_and_failback_waits_for_one() -> None:
    async def story(fleet: Fleet) -> None:
        await budget(fleet, maxUnavailable=0)
        await fleet.configure(failback={"stabilizationSeconds": 10})
        await fleet.deploy()
        await fleet.members["alpha"].crash(power=True)
        await asyncio.sleep(40)
        assert await fleet.divided() == TWO
        fleet.members["alpha"].start()
        await asyncio.sleep(90)
        assert await fleet.divided() == TWO
        assert "FailbackHeld" in await fleet.reasons(WEB) | await fleet.reasons(BINDING)
        key = ObjectKey("demo", "web")
        spec = {"maxUnavailable": 2}
        await fleet.client.patch(DISRUPTION_BUDGETS, key, {"spec": spec})
        await asyncio.sleep(60)
        assert await fleet.divided() == EVEN
        assert [c.metadata.name for c in (await fleet.client.list(CLUSTERS)).items] == list(EVEN)

    play(story)
