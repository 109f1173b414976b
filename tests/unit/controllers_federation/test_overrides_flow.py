"""Override policies and claims with all controllers of the federation on an in-process server, in virtual time."""

import asyncio
from typing import Any

import pytest
from tests.unit.controllers_federation.test_flow import (
    BINDING,
    WEB,
    ZONES,
    Fleet,
    deployment,
    fleet_story,
)

from federation.propagation.templates import DEPLOYMENTS
from machinery.api.fleet.policy import (
    CLUSTER_OVERRIDE_POLICIES,
    CLUSTER_PROPAGATION_POLICIES,
    OVERRIDE_POLICIES,
    PROPAGATION_POLICIES,
)
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.client.interface import DeleteOptions
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey

APPLIED = "policy.karmada.io/applied-overrides"
OVERRIDE = ObjectKey("demo", "o")


def override(*rules: Document, **selector: Any) -> Document:
    return {
        "apiVersion": "policy.karmada.io/v1alpha1",
        "kind": "OverridePolicy",
        "metadata": {"name": "o", "namespace": "demo"},
        "spec": {
            "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"} | selector],
            "overrideRules": list(rules),
        },
    }


def rule(cluster: str, **overriders: Any) -> Document:
    return {"targetCluster": {"clusterNames": [cluster]}, "overriders": overriders}


TAG = {"imageOverrider": [{"component": "Tag", "operator": "replace", "value": "slim"}]}
NOWHERE = {"plaintext": [{"path": "/spec/no/where", "operator": "add", "value": 1}]}


def propagation(name: str, clusters: list[str], **spec: Any) -> Document:
    selector = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    placement = {"clusterAffinity": {"clusterNames": clusters}}
    return {
        "apiVersion": "policy.karmada.io/v1alpha1",
        "kind": "PropagationPolicy",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {"resourceSelectors": [selector], "placement": placement} | spec,
    }


async def images(fleet: Fleet) -> dict[str, str]:
    """What each cluster shall run."""
    found = {}
    for cluster in ZONES:
        for work in await fleet.works(cluster, "Deployment"):
            pod = work["spec"]["workload"]["manifests"][0]["spec"]["template"]["spec"]
            found[cluster] = pod["containers"][0]["image"]
    return found


def test_a_policy_that_comes_changes_and_goes_renders_the_works_again() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(1)
        plain = {"alpha": "whoami:1", "beta": "whoami:1", "gamma": "whoami:1"}
        assert await images(fleet) == plain
        await fleet.client.create(OVERRIDE_POLICIES, override(rule("beta", **TAG)))
        await asyncio.sleep(1)
        assert await images(fleet) == plain | {"beta": "whoami:slim"}
        (work,) = await fleet.works("beta", "Deployment")
        assert '"policyName":"o"' in work["metadata"]["annotations"][APPLIED]
        moved = {"spec": {"overrideRules": [rule("gamma", **TAG)]}}
        await fleet.client.patch(OVERRIDE_POLICIES, OVERRIDE, moved)
        await asyncio.sleep(1)
        assert await images(fleet) == plain | {"gamma": "whoami:slim"}
        await fleet.client.delete(OVERRIDE_POLICIES, OVERRIDE, DeleteOptions())
        await asyncio.sleep(1)
        assert await images(fleet) == plain
        (work,) = await fleet.works("gamma", "Deployment")
        assert APPLIED not in work["metadata"]["annotations"]

    fleet_story(story)


def test_where_it_cannot_be_applied_what_runs_stays_and_the_others_go_on() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(DEPLOYMENTS, deployment(6))
        await asyncio.sleep(1)
        document = override(rule("alpha", **NOWHERE), rule("beta", **TAG))
        await fleet.client.create(OVERRIDE_POLICIES, document)
        await fleet.client.patch(DEPLOYMENTS, WEB, {"metadata": {"labels": {"new": "1"}}})
        await asyncio.sleep(1)
        assert await images(fleet) == {
            "alpha": "whoami:1",
            "beta": "whoami:slim",
            "gamma": "whoami:1",
        }
        labels = {}
        for cluster in ZONES:
            (work,) = await fleet.works(cluster, "Deployment")
            labels[cluster] = work["spec"]["workload"]["manifests"][0]["metadata"]["labels"]
        assert [name for name in ZONES if "new" in labels[name]] == ["beta", "gamma"]
        told = condition((await fleet.binding()).status.conditions, "Overridden")
        assert told is not None
        assert told.message.startswith("cluster(alpha): override policy(demo/o): add operation")
        version = (await fleet.binding()).metadata.resource_version
        await asyncio.sleep(30)
        assert (await fleet.binding()).metadata.resource_version == version, "told once"
        await fleet.client.delete(OVERRIDE_POLICIES, OVERRIDE, DeleteOptions())
        await asyncio.sleep(1)
        assert condition((await fleet.binding()).status.conditions, "Overridden") is None
        (work,) = await fleet.works("alpha", "Deployment")
        assert "new" in work["spec"]["workload"]["manifests"][0]["metadata"]["labels"]

    async def quiet(fleet: Fleet) -> None:
        async def beats() -> None:
            while True:
                await fleet.beat(*ZONES)
                await asyncio.sleep(2)

        beating = asyncio.create_task(beats())
        try:
            await story(fleet)
        finally:
            beating.cancel()

    fleet_story(quiet)


def test_a_cluster_policy_speaks_for_namespaces_too() -> None:
    async def story(fleet: Fleet) -> None:
        label = {"labelsOverrider": [{"operator": "add", "value": {"tier": "edge"}}]}
        document = override(rule("beta", **label), apiVersion="v1", kind="Namespace", name="demo")
        document |= {"kind": "ClusterOverridePolicy", "metadata": {"name": "edge"}}
        await fleet.client.create(CLUSTER_OVERRIDE_POLICIES, document)
        await asyncio.sleep(1)
        tiers = {}
        for cluster in ZONES:
            (work,) = await fleet.works(cluster, "Namespace")
            labels = work["spec"]["workload"]["manifests"][0]["metadata"]["labels"]
            tiers[cluster] = labels.get("tier")
        assert tiers == {"alpha": None, "beta": "edge", "gamma": None}

    fleet_story(story)


def test_a_claim_stays_is_taken_by_preemption_and_outlives_its_policy() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.create(PROPAGATION_POLICIES, propagation("first", ["alpha"]))
        await fleet.client.create(DEPLOYMENTS, deployment(2))
        await asyncio.sleep(1)
        assert await fleet.divided() == {"alpha": 2}
        await fleet.client.create(PROPAGATION_POLICIES, propagation("second", ["beta"], priority=9))
        await asyncio.sleep(1)
        assert await fleet.divided() == {"alpha": 2}, "a better one that comes later takes nothing"
        taking = {"spec": {"preemption": "Always"}}
        await fleet.client.patch(PROPAGATION_POLICIES, ObjectKey("demo", "second"), taking)
        await asyncio.sleep(1)
        assert await fleet.divided() == {"beta": 2}
        await fleet.client.delete(
            CLUSTER_PROPAGATION_POLICIES, ObjectKey("", "default-spread"), DeleteOptions()
        )
        for name in ("first", "second"):
            await fleet.client.delete(
                PROPAGATION_POLICIES, ObjectKey("demo", name), DeleteOptions()
            )
        await asyncio.sleep(1)
        assert await fleet.divided() == {"beta": 2}, "no policy, and it runs where it ran"
        binding: ResourceBinding = await fleet.client.get(RESOURCE_BINDINGS, BINDING)
        assert "propagationpolicy.karmada.io/name" not in binding.metadata.annotations
        await fleet.client.delete(DEPLOYMENTS, WEB, DeleteOptions())
        await asyncio.sleep(1)
        with pytest.raises(NotFound):
            await fleet.binding()

    fleet_story(story)


def test_a_policy_waits_for_the_overrides_that_it_depends_on() -> None:
    async def story(fleet: Fleet) -> None:
        await fleet.client.delete(
            CLUSTER_PROPAGATION_POLICIES, ObjectKey("", "default-spread"), DeleteOptions()
        )
        await fleet.client.create(
            PROPAGATION_POLICIES, propagation("p", ["alpha"], dependentOverrides=["o"])
        )
        await fleet.client.create(DEPLOYMENTS, deployment(2))
        await asyncio.sleep(1)
        with pytest.raises(NotFound):
            await fleet.binding()
        await fleet.client.create(OVERRIDE_POLICIES, override(rule("alpha", **TAG)))
        await asyncio.sleep(1)
        assert await images(fleet) == {"alpha": "whoami:slim"}

    fleet_story(story)
