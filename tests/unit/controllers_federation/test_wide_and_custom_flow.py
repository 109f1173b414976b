"""Objects of a cluster and objects of custom kinds through all controllers of the federation."""

import asyncio
from typing import Any

from tests.unit.controllers_federation.test_flow import CONFIGMAP, Fleet, fleet_story

from federation.propagation.templates import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONFIGMAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    PRIORITY_CLASSES,
    STAYS,
    propagatable,
)
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.decision import DECISIONS
from machinery.api.fleet.interpretation import CUSTOMIZATIONS
from machinery.api.fleet.policy import (
    CLUSTER_OVERRIDE_POLICIES,
    CLUSTER_PROPAGATION_POLICIES,
    OVERRIDE_POLICIES,
    PROPAGATION_POLICIES,
)
from machinery.api.fleet.work import (
    CLUSTER_RESOURCE_BINDINGS,
    RESOURCE_BINDINGS,
    WORK_DOCUMENTS,
    ResourceBinding,
)
from machinery.client.interface import dynamic
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey, Resource

EVENTS = dynamic("", "v1", "events", "Event", True)
GUESTBOOKS = dynamic("webapp.my.domain", "v1", "guestbooks", "Guestbook", True)
RINGS = dynamic("webapp.my.domain", "v1", "rings", "Ring", False)
POLICY = ObjectKey("", "wide")
APPLIED = {
    "type": "Applied", "status": "True", "reason": "AppliedSuccessful", "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}  # fmt: skip


def of(resource: Resource[Any], name: str, **fields: Any) -> Document:
    metadata = {"name": name} | ({"namespace": "demo"} if resource.namespaced else {})
    head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    return head | fields


def role(name: str = "reader", **labels: str) -> Document:
    document = of(
        CLUSTER_ROLES, name, rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    )
    document["metadata"]["labels"] = labels
    return document


def definition(resource: Resource[Any]) -> Document:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return of(
        CUSTOM_RESOURCE_DEFINITIONS,
        f"{resource.plural}.{resource.group}",
        spec={
            "group": resource.group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {
                "plural": resource.plural, "kind": resource.kind,
                "singular": resource.kind.lower(), "listKind": f"{resource.kind}List",
            },
            "versions": [
                {
                    "name": resource.version, "served": True, "storage": True,
                    "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
                }
            ],
        },
    )  # fmt: skip


async def selects(
    fleet: Fleet, *clusters: str, kinds: tuple[Resource[Any], ...], **spec: Any
) -> None:
    """A ClusterPropagationPolicy brings the kinds to these clusters."""
    selectors = [{"apiVersion": r.api_version, "kind": r.kind} for r in kinds]
    placement = {"clusterAffinity": {"clusterNames": list(clusters)}}
    await fleet.client.create(
        CLUSTER_PROPAGATION_POLICIES,
        of(
            CLUSTER_PROPAGATION_POLICIES, POLICY.name,
            spec={"resourceSelectors": selectors, "placement": placement} | spec,
        ),
    )  # fmt: skip
    await asyncio.sleep(1)


async def placed(fleet: Fleet, name: str) -> tuple[str, ...]:
    binding: ResourceBinding = await fleet.client.get(
        CLUSTER_RESOURCE_BINDINGS, ObjectKey("", name)
    )
    return tuple(t.name for t in binding.spec.clusters)


async def bindings(fleet: Fleet) -> set[str]:
    return {b.metadata.name for b in (await fleet.client.list(CLUSTER_RESOURCE_BINDINGS)).items}


async def gone(fleet: Fleet, resource: Resource[Any], key: ObjectKey) -> bool:
    try:
        await fleet.client.get(resource, key)
    except NotFound:
        return True
    return False


async def says(fleet: Fleet, work: Document, status: Document, health: str = "Healthy") -> None:
    """The member's link reports."""
    (manifest,) = work["spec"]["workload"]["manifests"]
    group, _, version = manifest["apiVersion"].rpartition("/")
    named = {
        "group": group,
        "version": version,
        "kind": manifest["kind"],
        "name": manifest["metadata"]["name"],
    }
    said = {"identifier": {"ordinal": 0} | named, "status": status, "health": health}
    key = ObjectKey(work["metadata"]["namespace"], work["metadata"]["name"])
    body = {"status": {"conditions": [APPLIED], "manifestStatuses": [said]}}
    await fleet.client.patch(WORK_DOCUMENTS, key, body, subresource="status")
    await asyncio.sleep(1)


def space(name: str, **labels: str) -> Document:
    document = of(NAMESPACES, name)
    document["metadata"]["labels"] = labels
    return document


def test_a_namespace_that_stays_at_home_goes_where_a_policy_brings_it() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(NAMESPACES, space("lone", **{STAYS: "true"}))
        await selects(fleet, "gamma", kinds=(NAMESPACES,))
        assert await placed(fleet, "lone-namespace") == ("gamma",)
        reached = {
            cluster
            for cluster in ("alpha", "beta", "gamma")
            for work in await fleet.works(cluster, "Namespace")
            if work["spec"]["workload"]["manifests"][0]["metadata"]["name"] == "lone"
        }
        assert reached == {"gamma"}

    fleet_story(story)


def test_a_namespace_that_a_policy_takes_is_deleted_nowhere() -> None:
    async def story(fleet: Fleet) -> None:
        before = {c: await fleet.works(c, "Namespace") for c in ("alpha", "beta", "gamma")}
        await selects(fleet, "gamma", kinds=(NAMESPACES,))
        await asyncio.sleep(1)
        for cluster, works in before.items():
            (old,), (new,) = works, await fleet.works(cluster, "Namespace")
            assert old["metadata"]["uid"] == new["metadata"]["uid"]
            marks = new["metadata"].get("annotations") or {}
            bound = "clusterresourcebinding.karmada.io/name" in marks
            assert bound == (cluster == "gamma")
        assert await bindings(fleet) == {"demo-namespace"}

    fleet_story(story)


def test_namespaces_of_the_system_are_no_templates() -> None:
    assert not propagatable(space("kube-system"))
    assert not propagatable(space("default"))
    assert propagatable(space("demo"))


def test_a_cluster_role_goes_where_a_cluster_policy_says_and_leaves_with_it() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(CLUSTER_ROLES, role())
        await selects(fleet, "alpha", "beta", kinds=(CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS))
        assert await placed(fleet, "reader-clusterrole") == ("alpha", "beta")
        assert await fleet.works("gamma", "ClusterRole") == []
        (work,) = await fleet.works("alpha", "ClusterRole")
        marks = work["metadata"]["annotations"]
        assert marks["clusterresourcebinding.karmada.io/name"] == "reader-clusterrole"
        await says(fleet, work, {})
        binding: Any = await fleet.client.get(
            CLUSTER_RESOURCE_BINDINGS, ObjectKey("", "reader-clusterrole")
        )
        assert [i.cluster_name for i in binding.status.aggregated_status if i.applied] == ["alpha"]
        assert {d.spec.binding.name for d in (await fleet.client.list(DECISIONS)).items} >= {
            "reader-clusterrole"
        }
        await fleet.client.delete(CLUSTER_ROLES, ObjectKey("", "reader"))
        await asyncio.sleep(2)
        assert await bindings(fleet) == set()
        await fleet.release(await fleet.works("alpha", "ClusterRole"))
        await fleet.release(await fleet.works("beta", "ClusterRole"))
        assert await fleet.works("alpha", "ClusterRole") == []

    fleet_story(story)


def test_what_holds_clusters_together_never_travels() -> None:
    async def story(fleet: Fleet) -> None:
        kinds = (
            CLUSTER_ROLES,
            CLUSTER_ROLE_BINDINGS,
            PRIORITY_CLASSES,
            CUSTOM_RESOURCE_DEFINITIONS,
        )
        await fleet.client.create(PRIORITY_CLASSES, of(PRIORITY_CLASSES, "high", value=1000))
        await fleet.client.create(CLUSTER_ROLES, role("team:reader"))
        await fleet.client.create(CLUSTER_ROLES, role("system:mine"))
        await selects(fleet, "alpha", kinds=kinds)
        everything = (await fleet.client.list(CLUSTER_ROLES)).items
        assert len(everything) > 10
        assert await bindings(fleet) == {"high-priorityclass", "team.reader-clusterrole"}

    fleet_story(story)


def test_an_aggregated_role_is_made_of_the_roles_of_each_cluster() -> None:
    async def story(fleet: Fleet) -> None:
        rule = {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}
        await fleet.client.create(CLUSTER_ROLES, role() | {"aggregationRule": rule})
        await selects(fleet, "alpha", kinds=(CLUSTER_ROLES,))
        (work,) = await fleet.works("alpha", "ClusterRole")
        (manifest,) = work["spec"]["workload"]["manifests"]
        assert manifest["aggregationRule"] == rule
        assert "rules" not in manifest

    fleet_story(story)


def test_overrides_of_one_cluster_and_a_policy_that_goes() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(CLUSTER_ROLES, role())
        rule = {
            "targetCluster": {"clusterNames": ["beta"]},
            "overriders": {"labelsOverrider": [{"operator": "add", "value": {"zone": "b"}}]},
        }
        override = of(
            CLUSTER_OVERRIDE_POLICIES,
            "o",
            spec={
                "resourceSelectors": [
                    {"apiVersion": CLUSTER_ROLES.api_version, "kind": "ClusterRole"}
                ],
                "overrideRules": [rule],
            },
        )
        await fleet.client.create(CLUSTER_OVERRIDE_POLICIES, override)
        await selects(fleet, "alpha", "beta", kinds=(CLUSTER_ROLES,))
        labels = {}
        for cluster in ("alpha", "beta"):
            (work,) = await fleet.works(cluster, "ClusterRole")
            labels[cluster] = work["spec"]["workload"]["manifests"][0]["metadata"]["labels"].get(
                "zone"
            )
        assert labels == {"alpha": None, "beta": "b"}
        await fleet.client.delete(CLUSTER_PROPAGATION_POLICIES, POLICY)
        await asyncio.sleep(2)
        assert await gone(fleet, CLUSTER_PROPAGATION_POLICIES, POLICY)
        assert await placed(fleet, "reader-clusterrole") == ("alpha", "beta")

    fleet_story(story)


def test_a_definition_and_its_objects_travel_and_statuses_come_back() -> None:
    async def story(fleet: Fleet) -> None:
        await selects(fleet, "alpha", "beta", kinds=(CUSTOM_RESOURCE_DEFINITIONS,))
        await fleet.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(GUESTBOOKS))
        await asyncio.sleep(1)
        assert await placed(fleet, "guestbooks.webapp.my.domain-customresourcedefinition") == (
            "alpha",
            "beta",
        )
        (work,) = await fleet.works("alpha", "CustomResourceDefinition")
        assert "status" not in work["spec"]["workload"]["manifests"][0]
        await fleet.client.create(GUESTBOOKS, of(GUESTBOOKS, "book", spec={"size": 2}))
        selector = {"apiVersion": GUESTBOOKS.api_version, "kind": "Guestbook"}
        spec = {
            "resourceSelectors": [selector],
            "placement": {"clusterAffinity": {"clusterNames": ["alpha"]}},
        }
        await fleet.client.create(PROPAGATION_POLICIES, of(PROPAGATION_POLICIES, "p", spec=spec))
        await asyncio.sleep(2)
        binding = await fleet.client.get(RESOURCE_BINDINGS, ObjectKey("demo", "book-guestbook"))
        assert [t.name for t in binding.spec.clusters] == ["alpha"]
        (work,) = await fleet.works("alpha", "Guestbook")
        assert work["spec"]["workload"]["manifests"][0]["spec"] == {"size": 2}
        await says(fleet, work, {"pages": 7})
        binding = await fleet.client.get(RESOURCE_BINDINGS, ObjectKey("demo", "book-guestbook"))
        (item,) = binding.status.aggregated_status
        assert (item.status, item.health) == ({"pages": 7}, "Healthy")
        await fleet.client.patch(GUESTBOOKS, ObjectKey("demo", "book"), {"spec": {"size": 3}})
        await asyncio.sleep(1)
        (work,) = await fleet.works("alpha", "Guestbook")
        assert work["spec"]["workload"]["manifests"][0]["spec"] == {"size": 3}

    fleet_story(story)


def test_objects_of_a_cluster_of_a_custom_kind_and_the_end_of_their_definition() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(RINGS))
        await asyncio.sleep(1)
        await fleet.client.create(RINGS, of(RINGS, "one", spec={}))
        await selects(fleet, "gamma", kinds=(RINGS,))
        assert await placed(fleet, "one-ring") == ("gamma",)
        key = ObjectKey("", "rings.webapp.my.domain")
        await fleet.client.delete(CUSTOM_RESOURCE_DEFINITIONS, key)
        await asyncio.sleep(5)
        assert await gone(fleet, CUSTOM_RESOURCE_DEFINITIONS, key)
        assert await bindings(fleet) == set()
        await fleet.release(await fleet.works("gamma", "Ring"))
        await fleet.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(RINGS))
        await asyncio.sleep(1)
        await fleet.client.create(RINGS, of(RINGS, "two", spec={}))
        await asyncio.sleep(2)
        assert await placed(fleet, "two-ring") == ("gamma",)

    fleet_story(story)


def test_users_scripts_divide_a_custom_kind_and_bring_what_it_needs() -> None:
    count = "function GetReplicas(o) return o.spec.size end"
    revise = "function ReviseReplica(o, n) o.spec.size = n return o end"
    total = """function AggregateStatus(o, items)
      o.status = {pages = 0}
      for _, item in ipairs(items) do o.status.pages = o.status.pages + item.status.pages end
      return o end"""
    needs = """function GetDependencies(o)
      return {{apiVersion = 'v1', kind = 'ConfigMap', namespace = 'demo', name = 'settings'}} end"""
    scripts = {
        "replicaResource": count, "replicaRevision": revise, "statusAggregation": total,
        "dependencyInterpretation": needs,
    }  # fmt: skip
    customization = of(
        CUSTOMIZATIONS,
        "books",
        spec={
            "target": {"apiVersion": GUESTBOOKS.api_version, "kind": "Guestbook"},
            "customizations": {field: {"luaScript": text} for field, text in scripts.items()},
        },
    )
    placement = {
        "clusterAffinity": {"clusterNames": ["alpha", "beta"]},
        "replicaScheduling": {
            "replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted",
        },
    }  # fmt: skip

    async def story(fleet: Fleet) -> None:
        await fleet.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(GUESTBOOKS))
        await fleet.client.create(CUSTOMIZATIONS, customization)
        await fleet.client.create(CONFIGMAPS, CONFIGMAP)
        await selects(fleet, kinds=(GUESTBOOKS,), placement=placement, propagateDeps=True)
        await fleet.client.create(GUESTBOOKS, of(GUESTBOOKS, "book", spec={"size": 4}))
        await asyncio.sleep(2)
        for cluster in ("alpha", "beta"):
            (work,) = await fleet.works(cluster, "Guestbook")
            assert work["spec"]["workload"]["manifests"][0]["spec"] == {"size": 2}
            assert len(await fleet.works(cluster, "ConfigMap")) == 1
            await fleet.beat("alpha", "beta", "gamma")
            await says(fleet, work, {"pages": 5})
        held = await fleet.client.get(GUESTBOOKS, ObjectKey("demo", "book"))
        assert held["status"] == {"pages": 10}

    fleet_story(story)


def test_a_guestbook_is_placed_and_overridden_as_in_karmadas_walk_through() -> None:
    """The definition by a cluster policy, an object by a policy of its namespace, a field of it overridden in one member."""

    async def story(fleet: Fleet) -> None:
        name = f"{GUESTBOOKS.plural}.{GUESTBOOKS.group}"
        selector = {
            "apiVersion": CUSTOM_RESOURCE_DEFINITIONS.api_version,
            "kind": "CustomResourceDefinition",
            "name": name,
        }
        await fleet.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(GUESTBOOKS))
        await selects(fleet, "alpha", kinds=(), resourceSelectors=[selector])
        assert await placed(fleet, f"{name}-customresourcedefinition") == ("alpha",)
        books = {"apiVersion": GUESTBOOKS.api_version, "kind": "Guestbook"}
        where = {"clusterAffinity": {"clusterNames": ["alpha"]}}
        policy = {"resourceSelectors": [books], "placement": where}
        await fleet.client.create(PROPAGATION_POLICIES, of(PROPAGATION_POLICIES, "p", spec=policy))
        plain = [
            {"path": "/spec/size", "operator": "replace", "value": 4},
            {"path": "/metadata/annotations", "operator": "add", "value": {"foo": "bar"}},
        ]
        rule = {
            "targetCluster": {"clusterNames": ["alpha"]},
            "overriders": {"plaintext": plain},
        }
        override = {"resourceSelectors": [books], "overrideRules": [rule]}
        await fleet.client.create(OVERRIDE_POLICIES, of(OVERRIDE_POLICIES, "o", spec=override))
        fields = {"alias": "Name", "configMapName": "test", "size": 2}
        await fleet.client.create(GUESTBOOKS, of(GUESTBOOKS, "book", spec=fields))
        await asyncio.sleep(2)
        (work,) = await fleet.works("alpha", "Guestbook")
        (manifest,) = work["spec"]["workload"]["manifests"]
        assert manifest["spec"] == fields | {"size": 4}
        assert manifest["metadata"]["annotations"]["foo"] == "bar"
        assert await fleet.works("beta", "Guestbook") == []

    fleet_story(story)


def test_a_custom_kind_goes_only_where_it_is_served() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(GUESTBOOKS))
        for cluster, kinds in (("alpha", ()), ("beta", ("Guestbook",))):
            enabled = [
                {"groupVersion": "v1", "resources": [{"kind": "ConfigMap", "name": "configmaps"}]},
                *(
                    {
                        "groupVersion": "webapp.my.domain/v1",
                        "resources": [{"kind": kind, "name": "guestbooks"}],
                    }
                    for kind in kinds
                ),
            ]
            await fleet.client.patch(
                CLUSTERS,
                ObjectKey("", cluster),
                {"status": {"apiEnablements": enabled}},
                subresource="status",
            )
        await selects(fleet, "alpha", "beta", kinds=(GUESTBOOKS,))
        await fleet.client.create(GUESTBOOKS, of(GUESTBOOKS, "book", spec={}))
        await asyncio.sleep(2)
        binding = await fleet.client.get(RESOURCE_BINDINGS, ObjectKey("demo", "book-guestbook"))
        assert [t.name for t in binding.spec.clusters] == ["beta"]

    fleet_story(story)
