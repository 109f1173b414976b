"""Deletion protection, blast radius and identity, on the whole server with its controllers: what is refused, and what goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from tests.unit.controllers_federation.test_flow import BINDING, WEB, Fleet, deployment

from federation.clusters.admission import OneIdentity
from federation.clusters.links import Links
from federation.clusters.refusals import CALM_S, IDENTITY_CONFLICT, LINK_REFUSED, Refusals
from federation.propagation.templates import CONFIGMAPS, DEPLOYMENTS, NAMESPACES, SERVICES
from federation.simulator.virtual import run
from machinery.api.coordination import LEASES
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.api.fleet.policy import CLUSTER_PROPAGATION_POLICIES
from machinery.api.fleet.resilience import FEDERATION_CONFIGS
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.client.interface import dynamic
from machinery.meta.errors import Conflict, Forbidden, NotFound
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.call import Call
from machinery.server.local import LocalClient
from machinery.server.user import AUTHENTICATED, MASTERS, UserInfo
from machinery.wire.link import OLDEST_HEADER, UPGRADE_TOKEN, VERSION_HEADER

PERSON = UserInfo("anna", (MASTERS, AUTHENTICATED))
DEMO = ObjectKey("", "demo")
PROTECTED = {"resourcetemplate.karmada.io/deletion-protected": "Always"}
BINDINGS = dynamic("work.karmada.io", "v1alpha2", "resourcebindings", "ResourceBinding", True)


class Guarded(Fleet):
    """The fleet with a person at the keyboard."""

    @property
    def person(self) -> LocalClient:
        assert self.server.api is not None
        return self.server.api.client(PERSON, "kubectl")

    async def limit(self, clusters: int) -> None:
        body = {
            "apiVersion": FEDERATION_CONFIGS.api_version,
            "kind": "FederationConfig",
            "metadata": {"name": "default"},
            "spec": {"deletionGuard": {"maxClusters": clusters}},
        }
        await self.person.create(FEDERATION_CONFIGS, body)

    async def annotate(self, resource: Resource[Any], key: ObjectKey, value: str) -> None:
        mark = {"metadata": {"annotations": {"ubernetes.io/confirm-delete": value}}}
        await self.person.patch(resource, key, mark)

    async def label(self, resource: Resource[Any], key: ObjectKey, labels: Document) -> None:
        await self.person.patch(resource, key, {"metadata": {"labels": labels}})

    async def there(self, resource: Resource[Any], key: ObjectKey) -> bool:
        try:
            await self.person.get(resource, key)
        except NotFound:
            return False
        return True

    async def carried(self) -> int:
        """Deployments that members are to run."""
        return sum([len(await self.works(name, "Deployment")) for name in ("alpha", "beta", "gamma")])  # fmt: skip

    async def members_let_go(self) -> None:
        """What the members' links do with deleted Works."""
        for name in ("alpha", "beta", "gamma"):
            for kind in ("Deployment", "Namespace", "Service", "ConfigMap"):
                for work in await self.works(name, kind):
                    if work["metadata"].get("deletionTimestamp"):
                        key = ObjectKey(work["metadata"]["namespace"], work["metadata"]["name"])
                        works = dynamic("work.karmada.io", "v1alpha1", "works", "Work", True)
                        await self.client.patch(works, key, {"metadata": {"finalizers": None}})
        await asyncio.sleep(2)


def guarded(story: Callable[[Guarded], Awaitable[None]]) -> None:
    async def play() -> None:
        fleet = Guarded()
        await fleet.start()
        await fleet.person.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(2)
        assert await fleet.carried() == 3
        try:
            await story(fleet)
        finally:
            await fleet.server.stop()

    run(play())


# ------------------------------------------------------------------------------------------------------ blast radius
def test_three_clusters_are_deleted_from_without_a_word() -> None:
    async def story(fleet: Guarded) -> None:
        await fleet.person.delete(DEPLOYMENTS, WEB)
        await asyncio.sleep(2)
        await fleet.members_let_go()
        assert await fleet.carried() == 0

    guarded(story)


def test_a_wide_delete_is_confirmed_and_then_carried_out_to_the_end() -> None:
    async def story(fleet: Guarded) -> None:
        await fleet.limit(2)
        with pytest.raises(Forbidden, match=r"in 3 clusters \(alpha, beta, gamma\)"):
            await fleet.person.delete(DEPLOYMENTS, WEB)
        with pytest.raises(Forbidden, match="confirm-delete=3"):
            await fleet.person.delete(BINDINGS, BINDING)
        await asyncio.sleep(2)
        assert await fleet.carried() == 3
        await fleet.annotate(DEPLOYMENTS, WEB, "2")
        with pytest.raises(Forbidden):
            await fleet.person.delete(DEPLOYMENTS, WEB)
        await fleet.annotate(DEPLOYMENTS, WEB, "3")
        await fleet.person.delete(DEPLOYMENTS, WEB)
        await asyncio.sleep(2)
        await fleet.members_let_go()
        assert not await fleet.there(BINDINGS, BINDING), "the collector is not asked"
        assert await fleet.carried() == 0

    guarded(story)


def test_a_namespace_counts_with_all_that_is_in_it() -> None:
    async def story(fleet: Guarded) -> None:
        await fleet.limit(2)
        with pytest.raises(Forbidden, match="kubectl annotate namespaces demo"):
            await fleet.person.delete(NAMESPACES, DEMO)
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "demo"},
        }
        await fleet.person.create(SERVICES, service | {"spec": {"ports": [{"port": 80}]}})
        with pytest.raises(Forbidden, match="services"):
            await fleet.person.delete(SERVICES, WEB)
        await fleet.annotate(NAMESPACES, DEMO, "3")
        await fleet.person.delete(NAMESPACES, DEMO)
        for _ in range(5):
            await asyncio.sleep(5)
            await fleet.members_let_go()
        assert not await fleet.there(NAMESPACES, DEMO), "the namespace controller is not asked"
        assert await fleet.carried() == 0

    guarded(story)  # fmt: skip


# -------------------------------------------------------------------------------------------------------- protection
def test_what_is_protected_stays_and_so_does_its_namespace() -> None:
    async def story(fleet: Guarded) -> None:
        await fleet.label(DEPLOYMENTS, WEB, PROTECTED)
        with pytest.raises(Forbidden, match="This resource is protected"):
            await fleet.person.delete(DEPLOYMENTS, WEB)
        await asyncio.sleep(1)
        with pytest.raises(Forbidden) as refused:
            await fleet.person.delete(NAMESPACES, DEMO)
        assert refused.value.message == (
            'admission webhook "resourcedeletionprotection.karmada.io" denied the request: '
            "This namespace holds protected resources (deployments.apps/web), please make sure to remove the label: "
            "resourcetemplate.karmada.io/deletion-protected"
        )
        await asyncio.sleep(2)
        assert await fleet.carried() == 3
        await fleet.label(DEPLOYMENTS, WEB, dict.fromkeys(PROTECTED))
        await asyncio.sleep(1)
        await fleet.person.delete(NAMESPACES, DEMO)
        for _ in range(5):
            await asyncio.sleep(5)
            await fleet.members_let_go()
        assert not await fleet.there(NAMESPACES, DEMO)

    guarded(story)


@pytest.mark.parametrize(
    ("resource", "key"),
    [
        (CLUSTERS, ObjectKey("", "alpha")),
        (CLUSTER_PROPAGATION_POLICIES, ObjectKey("", "default-spread")),
        (NAMESPACES, DEMO),
        (CONFIGMAPS, ObjectKey("demo", "settings")),
        (BINDINGS, BINDING),
    ],
    ids=["a cluster", "a policy", "a namespace", "what needs no policy", "a binding"],
)
def test_anything_can_be_protected(resource: Resource[Any], key: ObjectKey) -> None:
    async def story(fleet: Guarded) -> None:
        if resource is CONFIGMAPS:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
            await fleet.person.create(CONFIGMAPS, body, "demo")
        await fleet.label(resource, key, PROTECTED)
        with pytest.raises(Forbidden, match="This resource is protected"):
            await fleet.person.delete(resource, key)
        await fleet.label(resource, key, {name: "Never" for name in PROTECTED})
        await fleet.person.delete(resource, key)

    guarded(story)


# ---------------------------------------------------------------------------------------------------------- identity
ALPHA = ObjectKey("", "alpha")


def introduces(cluster_id: str, region: str = "region-1") -> Document:
    return {"spec": {"id": cluster_id, "region": region}}


def test_a_second_cluster_of_one_name_moves_nothing_and_is_told() -> None:
    async def story(fleet: Guarded) -> None:
        agent = fleet.server.agent("alpha")
        await agent.patch(CLUSTERS, ALPHA, introduces("one"))
        await agent.patch(CLUSTERS, ALPHA, introduces("one", "region-9"))
        before = await fleet.divided()
        with pytest.raises(
            Conflict, match="id one, and this agent speaks for the cluster with id two"
        ) as refused:
            await agent.patch(CLUSTERS, ALPHA, introduces("two", "region-7"))
        assert "kubectl patch cluster alpha" in refused.value.message
        for other in ({"spec": {"id": None}}, {"spec": {"id": ""}}):
            with pytest.raises(Conflict):
                await agent.patch(CLUSTERS, ALPHA, other)
        held = await fleet.client.get(CLUSTERS, ALPHA)
        assert (held.spec.id, held.spec.region) == ("one", "region-9")
        assert await fleet.divided() == before
        lease = ObjectKey("karmada-cluster", "alpha")
        renewed = {
            "metadata": {"annotations": {"ubernetes.io/cluster-id": "one"}},
            "spec": {"leaseDurationSeconds": 11},
        }
        await agent.patch(LEASES, lease, renewed)
        renewed["metadata"]["annotations"]["ubernetes.io/cluster-id"] = "two"
        with pytest.raises(Conflict, match="two clusters cannot have one name"):
            await agent.patch(LEASES, lease, renewed)
        await fleet.person.patch(CLUSTERS, ALPHA, {"spec": {"id": ""}})
        await agent.patch(CLUSTERS, ALPHA, introduces("two"))
        assert (await fleet.client.get(CLUSTERS, ALPHA)).spec.id == "two", "said by a person first"
        await agent.patch(LEASES, lease, renewed)

    guarded(story)  # fmt: skip


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        (["a"] * 30, 0),
        ([f"s{i}" for i in range(30)], 0),
        (["a", "a", "b", "a", "b", "a", "b", "b", "b"], 0),
        (["a", "b"] * 5, 0),
        (["a", "b"] * 6, 1),
        (["a", "b"] * 30, 5),
        ([], 0),
    ],
    ids=[
        "one agent", "started over and over", "late heartbeats of the one before", "almost", "two by turns", "for long", "nobody",
    ],
)  # fmt: skip
def test_a_machine_and_its_copy_are_told(starts: list[str], told: int) -> None:
    heard: list[tuple[str, str, str]] = []
    guard = OneIdentity(lambda _: "one", lambda *words: heard.append(words))
    kind = Scheme(BUILTIN).by_gvk("coordination.k8s.io", "v1", "Lease")
    assert kind is not None
    user = UserInfo("ubernetes:cluster:alpha", (AUTHENTICATED,))
    for start in starts:
        annotations = {"ubernetes.io/cluster-id": "one", "ubernetes.io/agent-instance": start}
        body: Document = {"metadata": {"name": "alpha", "annotations": annotations}}
        guard.validate(
            AdmissionRequest("update", kind, "karmada-cluster", "alpha", "", body, body, Call(user))
        )
    assert len(heard) == told
    assert set(heard) <= {("alpha", "one", "one")}


def test_a_conflict_of_names_is_a_condition_until_it_is_calm() -> None:
    async def story(fleet: Guarded) -> None:
        async def said() -> tuple[str, str] | None:
            cluster: Cluster = await fleet.client.get(CLUSTERS, ALPHA)
            one = condition(cluster.status.conditions, IDENTITY_CONFLICT)
            return None if one is None else (one.status, one.message)

        conflicts = Refusals(fleet.clock)
        await conflicts.run_once(fleet.client)
        assert await said() is None
        conflicts.conflict("alpha", "one", "two")
        conflicts.conflict("nobody", "one", "two")
        await conflicts.run_once(fleet.client)
        told = await said()
        assert told is not None
        assert told[0] == "True"
        assert "id two, which is not one" in told[1]
        await asyncio.sleep(CALM_S + 1)
        await conflicts.run_once(fleet.client)
        told = await said()
        assert told is not None and told[0] == "False"

    guarded(story)


def test_a_condition_that_a_former_process_left_ends_too() -> None:
    async def story(fleet: Guarded) -> None:
        first = Refusals(fleet.clock)
        first.conflict("alpha", "one", "two")
        first.refused("alpha", "upgrade the agent")
        first.conflict("beta", "one", "one")
        assert "a machine was copied" in first._told["beta", IDENTITY_CONFLICT].message  # noqa: SLF001
        await first.run_once(fleet.client)
        cluster = await fleet.client.get(CLUSTERS, ALPHA)
        old = condition(cluster.status.conditions, LINK_REFUSED)
        assert old is not None and old.message == "upgrade the agent"
        second = Refusals(fleet.clock)
        keeping = asyncio.create_task(second.run_forever(fleet.client))
        await asyncio.sleep(CALM_S / 2)
        cluster = await fleet.client.get(CLUSTERS, ALPHA)
        one = condition(cluster.status.conditions, IDENTITY_CONFLICT)
        assert one is not None and one.status == "True"
        await asyncio.sleep(CALM_S)
        keeping.cancel()
        cluster = await fleet.client.get(CLUSTERS, ALPHA)
        one = condition(cluster.status.conditions, IDENTITY_CONFLICT)
        assert one is not None and one.status == "False"

    guarded(story)


def test_a_dial_of_another_age_is_told() -> None:
    heard: list[tuple[str, str]] = []

    async def story(fleet: Guarded) -> None:
        links = Links(fleet.clock, lambda cluster, why: heard.append((cluster, why)))
        agent = UserInfo("ubernetes:cluster:alpha", (AUTHENTICATED,))
        asked = make_mocked_request(
            "GET",
            "/ubernetes/v1/link?cluster=alpha",
            headers={"Upgrade": UPGRADE_TOKEN, VERSION_HEADER: "0", OLDEST_HEADER: "0"},
        )
        answer = await links.accept(asked, agent)
        assert answer.status == 400
        with pytest.raises(Forbidden, match="cannot dial the link as cluster"):
            await links.accept(asked, UserInfo("ubernetes:cluster:beta", (AUTHENTICATED,)))
        with pytest.raises(Forbidden, match="cannot dial the link as cluster"):
            await links.accept(asked, PERSON)

    guarded(story)
    ((cluster, why),) = heard
    assert cluster == "alpha"
    assert why.endswith('upgrade the agent of cluster "alpha"')
