"""An autoscaler that the federation sends to its members, beside a Deployment that it divides: neither undoes the other."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.fleet.test_services_over_clusters import eventually
from tests.integration.fleet.test_staged_update import Fleet, fleet, has_room

from federation.propagation.templates import AUTOSCALERS, DEPLOYMENTS
from machinery.api.core import NAMESPACES
from machinery.api.fleet.work import WORKS
from machinery.client.interface import dynamic
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey

pytestmark = [pytest.mark.integration, pytest.mark.slow]
WEB = ObjectKey("demo", "web")
POLICIES = dynamic(
    "policy.karmada.io", "v1alpha1", "propagationpolicies", "PropagationPolicy", True
)


def deployment() -> Document:
    labels = {"app": "web"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "whoami:1"}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "web", "namespace": "demo"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def autoscaler() -> Document:
    """At least three in each cluster, whatever is measured."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 5}
    metadata = {"name": "web", "namespace": "demo"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": spec,
    }


def policy() -> Document:
    selector = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
    placement = {"clusterAffinity": {"clusterNames": ["alpha", "beta"]}}
    return {
        "apiVersion": "policy.karmada.io/v1alpha1",
        "kind": "PropagationPolicy",
        "metadata": {"name": "autoscalers", "namespace": "demo"},
        "spec": {"resourceSelectors": [selector], "placement": placement},
    }


@pytest.mark.timeout(240)
async def test_a_propagated_autoscaler_and_a_divided_deployment(tmp_path: Path) -> None:
    async with fleet(tmp_path) as world:
        assert await eventually(lambda: has_room(world))
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await world.federation.create(NAMESPACES, namespace)
        await world.federation.create(POLICIES, policy(), "demo")
        await world.federation.create(DEPLOYMENTS, deployment(), "demo")
        assert await eventually(lambda: ready(world, 1))
        await world.federation.create(AUTOSCALERS, autoscaler(), "demo")
        assert await eventually(lambda: ready(world, 3)), "the members' own controllers scale it"
        assert await eventually(lambda: told(world, 6)), "the template's status is the sum"
        template: Any = await world.federation.get(DEPLOYMENTS, WEB)
        assert template["spec"]["replicas"] == 2, "the template's number is the user's"

        # a new wish travels, and takes nothing back
        change = {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}
        await world.federation.patch(DEPLOYMENTS, WEB, change)
        assert await eventually(lambda: changed(world))
        await world.federation.patch(DEPLOYMENTS, WEB, {"spec": {"replicas": 4}})
        await asyncio.sleep(3)
        for member in world.members.values():
            live: Any = await member.get(DEPLOYMENTS, WEB)
            assert live["spec"]["replicas"] == 3
        works = (await world.federation.list(WORKS)).items
        conditions = {c.reason for work in works for c in work.status.conditions}
        assert not {"Repaired", "RepairsPaused"} & conditions, "nothing was taken for drift"


async def ready(world: Fleet, each: int) -> bool:
    """Whether every member runs so many."""
    try:
        found: list[Any] = [await m.get(DEPLOYMENTS, WEB) for m in world.members.values()]
    except NotFound:
        return False
    return all((one.get("status") or {}).get("readyReplicas") == each for one in found)


async def told(world: Fleet, together: int) -> bool:
    status: Any = (await world.federation.get(AUTOSCALERS, WEB)).get("status") or {}
    return bool(status.get("desiredReplicas") == together)


async def changed(world: Fleet) -> bool:
    found: list[Any] = [await m.get(DEPLOYMENTS, WEB) for m in world.members.values()]
    return all(one["spec"]["template"]["metadata"].get("annotations") for one in found)
