"""Suspension, preservation and lazy policies from the policy to the Works, on the whole server with its controllers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.unit.controllers_federation.test_flow import BINDING, WEB, ZONES, Fleet, deployment

from federation.propagation.templates import DEPLOYMENTS
from federation.simulator.virtual import run
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.policy import PROPAGATION_POLICIES
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.meta.resource import Document, ObjectKey

POLICY = ObjectKey("demo", "p")
ALL = ("alpha", "beta", "gamma")


def policy(**spec: Any) -> Document:
    placement = {"replicaScheduling": {"replicaSchedulingType": "Duplicated"}}
    return {
        "apiVersion": PROPAGATION_POLICIES.api_version,
        "kind": "PropagationPolicy",
        "metadata": {"name": "p", "namespace": "demo"},
        "spec": {
            "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}],
            "placement": placement,
        }
        | spec,
    }


class Told(Fleet):
    """The fleet with a policy of its own."""

    async def change(self, spec: Document) -> None:
        await self.client.patch(PROPAGATION_POLICIES, POLICY, {"spec": spec})
        await asyncio.sleep(2)

    async def scale(self, replicas: int) -> None:
        await self.client.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": replicas}})
        await asyncio.sleep(2)

    async def carried(self) -> dict[str, tuple[int, bool]]:
        """Replicas by cluster, and whether they wait."""
        found = {}
        for name in ZONES:
            for work in await self.works(name, "Deployment"):
                (manifest,) = work["spec"]["workload"]["manifests"]
                waits = work["spec"]["suspendDispatching"]
                found[name] = (manifest["spec"]["replicas"], waits)
        return found


def told(spec: Document, story: Callable[[Told], Awaitable[None]]) -> None:
    async def play() -> None:
        fleet = Told()
        await fleet.start()
        await fleet.client.create(PROPAGATION_POLICIES, policy(**spec))
        await asyncio.sleep(1)
        await fleet.client.create(DEPLOYMENTS, deployment(2))
        await asyncio.sleep(2)
        try:
            await story(fleet)
        finally:
            await fleet.server.stop()

    run(play())


def everywhere(replicas: int, *waiting: str) -> dict[str, tuple[int, bool]]:
    return {name: (replicas, name in waiting) for name in ALL}


SOME = {"dispatchingOnClusters": {"clusterNames": ["beta"]}}


@pytest.mark.parametrize(
    ("suspension", "waiting"),
    [
        (None, ()),
        ({"dispatching": False}, ()),
        ({"dispatching": True}, ALL),
        (SOME, ("beta",)),
        ({"dispatchingOnClusters": {"clusterNames": ["nowhere"]}}, ()),
    ],
    ids=["not", "said to be not", "all", "one cluster", "a cluster that is none"],
)
def test_works_wait_and_go_on(suspension: Document | None, waiting: tuple[str, ...]) -> None:
    async def story(fleet: Told) -> None:
        assert await fleet.carried() == everywhere(2, *waiting)
        await fleet.scale(5)
        assert await fleet.carried() == everywhere(5, *waiting), "what waits is the newest"
        await fleet.change({"suspension": None})
        assert await fleet.carried() == everywhere(5)

    told({} if suspension is None else {"suspension": suspension}, story)


def test_what_runs_may_be_suspended_later() -> None:
    async def story(fleet: Told) -> None:
        await fleet.change({"suspension": {"dispatching": True}})
        assert await fleet.carried() == everywhere(2, *ALL)
        await fleet.change({"suspension": SOME | {"dispatching": None}})
        assert await fleet.carried() == everywhere(2, "beta")

    told({}, story)


def test_a_cluster_that_leaves_while_suspended_leaves_nothing_behind() -> None:
    async def story(fleet: Told) -> None:
        await fleet.client.delete(CLUSTERS, ObjectKey("", "beta"))
        await asyncio.sleep(3)
        assert await fleet.carried() == {"alpha": (2, True), "gamma": (2, True)}
        await fleet.change({"suspension": None})
        assert await fleet.carried() == {"alpha": (2, False), "gamma": (2, False)}

    told({"suspension": {"dispatching": True}}, story)


def test_a_template_that_goes_while_suspended_is_taken_away() -> None:
    async def story(fleet: Told) -> None:
        await fleet.client.delete(DEPLOYMENTS, WEB)
        await asyncio.sleep(3)
        for name in ZONES:
            for work in await fleet.works(name, "Deployment"):
                assert work["metadata"]["deletionTimestamp"]

    told({"suspension": {"dispatching": True}}, story)


def test_failover_while_suspended_decides_and_waits_and_keeps_what_was() -> None:
    divided = {
        "replicaScheduling": {
            "replicaSchedulingType": "Divided",
            "replicaDivisionPreference": "Weighted",
        }
    }

    async def story(fleet: Told) -> None:
        for name in ALL:
            await fleet.report_work(name)
        await fleet.change({"suspension": {"dispatching": True}})
        for _ in range(40):
            await fleet.beat("alpha", "beta")
            await asyncio.sleep(1)
        spec = (await fleet.binding()).spec
        assert "gamma" not in {t.name for t in spec.clusters}, "the decision does not wait"
        assert sum(t.replicas for t in spec.clusters) == 6
        carried = await fleet.carried()
        assert set(carried) == set(ALL), "nothing unseen is deleted"
        assert all(waits for _, waits in carried.values()), "and nothing is dispatched"
        await fleet.change({"suspension": None})
        carried = await fleet.carried()
        assert carried["alpha"] == (3, False)
        assert carried["beta"] == (3, False)

    async def six(fleet: Told) -> None:
        await fleet.scale(6)
        await story(fleet)

    told({"placement": divided}, six)  # fmt: skip


def test_that_scheduling_is_suspended_is_said_on_the_binding_and_stays() -> None:
    async def story(fleet: Told) -> None:
        held = {"spec": {"suspension": {"scheduling": True}}}
        await fleet.client.patch(RESOURCE_BINDINGS, BINDING, held)
        await asyncio.sleep(1)
        await fleet.change({"placement": {"clusterAffinity": {"clusterNames": ["alpha"]}}})
        spec = (await fleet.binding()).spec
        assert spec.suspension is not None and spec.suspension.scheduling
        assert len(spec.clusters) == 3, "nothing is decided"
        await fleet.change({"suspension": {"dispatching": True}})
        spec = (await fleet.binding()).spec
        assert spec.suspension is not None
        assert (spec.suspension.scheduling, spec.suspension.dispatching) == (True, True)
        await fleet.client.patch(
            RESOURCE_BINDINGS, BINDING, {"spec": {"suspension": {"scheduling": None}}}
        )
        await asyncio.sleep(2)
        assert [t.name for t in (await fleet.binding()).spec.clusters] == ["alpha"]

    told({}, story)


def test_preservation_travels_and_may_be_taken_back() -> None:
    async def story(fleet: Told) -> None:
        async def preserved() -> set[bool]:
            works = [w for name in ALL for w in await fleet.works(name, "Deployment")]
            return {w["spec"]["preserveResourcesOnDeletion"] for w in works}

        assert await preserved() == {True}
        assert (await fleet.binding()).spec.preserve_resources_on_deletion
        await fleet.change({"preserveResourcesOnDeletion": False})
        assert await preserved() == {False}

    told({"preserveResourcesOnDeletion": True}, story)


# -------------------------------------------------------------------------------------------------------------- lazy
ONLY_ALPHA = {
    "placement": {
        "clusterAffinity": {"clusterNames": ["alpha"]},
        "replicaScheduling": {"replicaSchedulingType": "Duplicated"},
    }
}
LAZY = {"activationPreference": "Lazy"}


def test_a_lazy_policy_waits_for_the_template() -> None:
    async def story(fleet: Told) -> None:
        assert set(await fleet.carried()) == set(ALL), "a new template is not kept waiting"
        await fleet.change(ONLY_ALPHA)
        assert set(await fleet.carried()) == set(ALL)
        await fleet.client.patch(
            DEPLOYMENTS, WEB, {"status": {"replicas": 1}}, subresource="status"
        )
        await asyncio.sleep(2)
        assert set(await fleet.carried()) == set(ALL), "a status is no change"
        await fleet.scale(3)
        assert [t.name for t in (await fleet.binding()).spec.clusters] == ["alpha"]

    told(LAZY, story)  # fmt: skip


def test_a_policy_that_becomes_lazy_with_its_change_waits_too() -> None:
    async def story(fleet: Told) -> None:
        await fleet.change(ONLY_ALPHA | LAZY)
        assert set(await fleet.carried()) == set(ALL)
        await fleet.change({"activationPreference": None})
        assert [t.name for t in (await fleet.binding()).spec.clusters] == ["alpha"]
        annotations = (await fleet.binding()).metadata.annotations
        assert "ubernetes.io/lazy-template" not in annotations

    told({}, story)


def test_a_lazy_policy_that_comes_later_claims_nothing_before_the_template_changes() -> None:
    async def story(fleet: Told) -> None:
        of_all = "clusterpropagationpolicy.karmada.io/name"
        assert (await fleet.binding()).metadata.annotations[of_all] == "default-spread"
        late = policy(**ONLY_ALPHA, **LAZY)
        late["metadata"]["name"] = "late"
        await fleet.client.create(PROPAGATION_POLICIES, late)
        await asyncio.sleep(2)
        assert (await fleet.binding()).metadata.annotations[of_all] == "default-spread"
        await fleet.scale(3)
        held = await fleet.binding()
        assert held.metadata.annotations["propagationpolicy.karmada.io/name"] == "late"
        assert [t.name for t in held.spec.clusters] == ["alpha"]

    told({"resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap"}]}, story)
