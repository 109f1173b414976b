"""Objects of a cluster with replicas of their own, by a user's interpreter, move as workloads in namespaces do."""

import asyncio
from typing import Any

import pytest
from tests.unit.controllers_federation.test_flow import Fleet, fleet_story
from tests.unit.controllers_federation.test_wide_and_custom_flow import RINGS, definition, of, says

from federation.cli import drain, leave, rebalance
from federation.cli.errors import CliError
from federation.controllers.rebalancer import binding_key
from federation.propagation import moves
from federation.propagation.templates import CUSTOM_RESOURCE_DEFINITIONS
from machinery.api.core import EVENTS
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.interpretation import CUSTOMIZATIONS
from machinery.api.fleet.operations import (
    FEDERATED_RESOURCE_QUOTAS,
    WORKLOAD_REBALANCERS,
    WorkloadReference,
)
from machinery.api.fleet.policy import CLUSTER_PROPAGATION_POLICIES
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.api.fleet.rollouts import DISRUPTION_BUDGETS
from machinery.api.fleet.work import CLUSTER_RESOURCE_BINDINGS, ResourceBinding
from machinery.client.interface import Client
from machinery.meta.resource import Document, ObjectKey

KEY = ObjectKey("", "one-ring")
EVEN = {"alpha": 2, "beta": 2, "gamma": 2}
TWO = {"beta": 3, "gamma": 3}
SAID = {
    "replicaResource": "{'replicas': object.spec.size, 'replicaRequirements': {'resourceRequest': {'cpu': '1'}}}",
    "replicaRevision": "{'spec': {'size': replicas}}",
}
RING = {"apiVersion": RINGS.api_version, "kind": RINGS.kind}


def placement(**more: Any) -> Document:
    return {
        "replicaScheduling": {
            "replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted",
        },
    } | more  # fmt: skip


async def placed(client: Client, size: int = 6, **spec: Any) -> None:
    """A Ring of so many, divided over all members."""
    await client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(RINGS))
    answers = {field: {"expression": text} for field, text in SAID.items()}
    said = {"target": RING, "customizations": answers}
    await client.create(CUSTOMIZATIONS, of(CUSTOMIZATIONS, "rings", spec=said))
    whole = {"resourceSelectors": [RING], "placement": placement()} | spec
    policy = of(CLUSTER_PROPAGATION_POLICIES, "rings", spec=whole)
    await client.create(CLUSTER_PROPAGATION_POLICIES, policy)
    await asyncio.sleep(1)
    await client.create(RINGS, of(RINGS, "one", spec={"size": size}))
    await asyncio.sleep(2)


async def binding(client: Client) -> ResourceBinding:
    return await client.get(CLUSTER_RESOURCE_BINDINGS, KEY)


async def divided(client: Client) -> dict[str, int]:
    return {t.name: t.replicas for t in (await binding(client)).spec.clusters}


async def kept(client: Client) -> dict[str, int]:
    return moves.kept(await binding(client))


async def reasons(client: Client) -> set[str]:
    return {e.reason for e in (await client.list(EVENTS, "default")).items}


async def drained(fleet: Fleet, name: str) -> None:
    taints = [{"key": "ubernetes.io/drain", "effect": e} for e in ("NoSchedule", "NoExecute")]
    await fleet.client.patch(CLUSTERS, ObjectKey("", name), {"spec": {"taints": taints}})
    await fleet.beat("alpha", "beta", "gamma")
    await asyncio.sleep(2)


async def ready(fleet: Fleet, **counts: int) -> None:
    """What members say of their part."""
    for cluster, count in counts.items():
        (work,) = await fleet.works(cluster, "Ring")
        await fleet.beat("alpha", "beta", "gamma")
        await says(fleet, work, {"readyReplicas": count, "availableReplicas": count})


async def silent(fleet: Fleet, *others: str) -> None:
    """Only the others are heard for a while."""
    for _ in range(25):
        await fleet.beat(*others)
        await asyncio.sleep(1)


def test_it_leaves_a_dead_cluster() -> None:
    async def story(fleet: Fleet) -> None:
        await placed(fleet.client)
        await ready(fleet, alpha=2, beta=2, gamma=2)
        await silent(fleet, "beta", "gamma")
        assert (await divided(fleet.client), await kept(fleet.client)) == (TWO, {"alpha": 2})
        assert "EvictWorkload" in await reasons(fleet.client)

    fleet_story(story)


def test_a_policy_for_the_whole_federation_keeps_it_where_it_is() -> None:
    async def story(fleet: Fleet) -> None:
        spec = {"resourceSelectors": [RING], "failover": "Disabled"}
        body = of(RESILIENCE_POLICIES, "rings", spec=spec)
        body["metadata"]["namespace"] = "ubernetes-system"
        await fleet.client.create(RESILIENCE_POLICIES, body, "ubernetes-system")
        await placed(fleet.client)
        await silent(fleet, "beta", "gamma")
        assert (await divided(fleet.client), await kept(fleet.client)) == (EVEN, {})

    fleet_story(story)


def test_a_drain_lets_the_old_replicas_go_when_the_new_ones_are_ready() -> None:
    async def story(fleet: Fleet) -> None:
        await placed(fleet.client)
        await ready(fleet, alpha=2, beta=2, gamma=2)
        await drained(fleet, "alpha")
        assert (await divided(fleet.client), await kept(fleet.client)) == (TWO, {"alpha": 2})
        assert drain.runs(await binding(fleet.client), "alpha")
        assert drain.running(await binding(fleet.client), "alpha") == "one (2)"
        await ready(fleet, beta=3, gamma=3)
        assert (await divided(fleet.client), await kept(fleet.client)) == (TWO, {})

    fleet_story(story)


def test_a_budget_of_the_whole_federation_holds_a_drain_back() -> None:
    async def story(fleet: Fleet) -> None:
        spec = {"resourceSelectors": [RING], "maxUnavailable": 0}
        body = of(DISRUPTION_BUDGETS, "rings", spec=spec)
        body["metadata"]["namespace"] = "ubernetes-system"
        await fleet.client.create(DISRUPTION_BUDGETS, body, "ubernetes-system")
        await placed(fleet.client)
        await ready(fleet, alpha=2, beta=2, gamma=2)
        await drained(fleet, "alpha")
        assert (await divided(fleet.client), await kept(fleet.client)) == (EVEN, {})
        assert "DrainHeld" in await reasons(fleet.client)

    fleet_story(story)


def test_a_cluster_does_not_leave_with_its_last_copy() -> None:
    async def story(fleet: Fleet) -> None:
        only = {"clusterAffinity": {"clusterNames": ["alpha"]}}
        await placed(fleet.client, placement=placement(**only))
        assert await leave.leave(fleet.client, "alpha", force=False) == ["Ring one"]
        assert await drain.emptied(fleet.client, "alpha", fleet.clock, 1.0) == ["one (6)"]

    fleet_story(story)


def test_it_is_rebalanced_by_name() -> None:
    async def story(fleet: Fleet) -> None:
        await placed(fleet.client)
        await ready(fleet, alpha=2, beta=2, gamma=2)
        (asked,) = await rebalance.begin(fleet.client, ["Ring/one"], "demo")
        await asyncio.sleep(3)
        (held,) = (await fleet.client.list(WORKLOAD_REBALANCERS)).items
        assert [one.result for one in held.status.observed_workloads] == ["Successful"]
        after = await rebalance.settled(fleet.client, [asked], fleet.clock, 60)
        assert after[asked].spec.reschedule_triggered_at is not None
        with pytest.raises(CliError, match="no ring/two, or no policy .*get clusterresourcebind"):
            await rebalance.begin(fleet.client, ["Ring/two"], "demo")
        with pytest.raises(CliError, match="'Wheel/one' is no workload"):
            await rebalance.begin(fleet.client, ["Wheel/one"], "demo")
        assert binding_key(WorkloadReference(kind="Ring", name="one")) == KEY

    fleet_story(story)


def test_no_namespaces_quota_is_used_up_by_it() -> None:
    async def story(fleet: Fleet) -> None:
        quota = of(
            FEDERATED_RESOURCE_QUOTAS, "none", spec={"overall": {"requests.cpu": "0", "cpu": "0"}}
        )
        await fleet.client.create(FEDERATED_RESOURCE_QUOTAS, quota, "demo")
        await placed(fleet.client)
        assert await divided(fleet.client) == EVEN

    fleet_story(story)


def test_it_leaves_a_cluster_for_its_own_health() -> None:
    async def story(fleet: Fleet) -> None:
        health = {"decisionConditions": {"tolerationSeconds": 5}, "purgeMode": "Gracefully"}
        await placed(fleet.client, failover={"application": health}, propagateDeps=True)
        await ready(fleet, alpha=2, beta=2, gamma=2)
        (work,) = await fleet.works("alpha", "Ring")
        for _ in range(12):
            await fleet.beat("alpha", "beta", "gamma")
            (work,) = await fleet.works("alpha", "Ring")
            await says(fleet, work, {"readyReplicas": 0}, health="Unhealthy")
        assert await kept(fleet.client) == {"alpha": 2}
        assert await divided(fleet.client) == TWO

    fleet_story(story)
