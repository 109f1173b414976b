"""Staged updates as stories: real controllers, modelled members, virtual time."""

import asyncio
from typing import Any

from tests.unit.controllers_federation.moving_fleet import BINDING, WEB, Fleet, play

from federation.propagation.rollouts.record import record_of
from federation.propagation.templates import DEPLOYMENTS
from machinery.api.fleet.rollouts import (
    STAGED_UPDATE_RUNS,
    STAGED_UPDATE_STRATEGIES,
    STRATEGY,
    StagedUpdateRun,
)
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.meta.resource import Document, ObjectKey


async def stage(fleet: Fleet, name: str = "by-zone", **spec: Any) -> None:
    """A strategy of the namespace, and the workload that goes by it."""
    body = {
        "stages": [{"name": "zone", "groupBy": "zone"}],
        "healthGate": {"progressDeadline": "60s", "minSuccessTime": "5s"},
    } | spec
    document = {
        "apiVersion": "ubernetes.io/v1alpha1",
        "kind": "StagedUpdateStrategy",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": body,
    }
    await fleet.client.create(STAGED_UPDATE_STRATEGIES, document, "demo")
    await fleet.deploy()
    marks = {"metadata": {"annotations": {STRATEGY: name}}}
    await fleet.client.patch(DEPLOYMENTS, WEB, marks)
    await asyncio.sleep(3)


async def set_image(fleet: Fleet, image: str) -> None:
    containers = [{"name": "web", "image": image}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    await fleet.client.patch(DEPLOYMENTS, WEB, patch)


async def images(fleet: Fleet) -> dict[str, str]:
    """What each Work carries."""
    found = {}
    for name in fleet.members:
        (manifest,) = (await fleet.work(name))["spec"]["workload"]["manifests"]
        found[name] = manifest["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


async def run_named(fleet: Fleet, name: str) -> StagedUpdateRun:
    return await fleet.client.get(STAGED_UPDATE_RUNS, ObjectKey("demo", name))


async def status(fleet: Fleet) -> Document:
    found: Document = (await fleet.client.get(DEPLOYMENTS, WEB)).get("status") or {}
    return found


async def generation(fleet: Fleet) -> int:
    found: int = (await fleet.client.get(DEPLOYMENTS, WEB))["metadata"]["generation"]
    return found


async def said(fleet: Fleet, kind: str) -> str:
    held = next(c for c in (await status(fleet))["conditions"] if c["type"] == kind)
    return f"{held['status']} {held['reason']}"


OLD, NEW = "whoami:1", "whoami:2"


def test_a_change_goes_zone_by_zone_and_is_done_only_at_the_end() -> None:
    async def story(fleet: Fleet) -> None:
        await stage(fleet)
        await set_image(fleet, NEW)
        await asyncio.sleep(2)
        assert await images(fleet) == {"alpha": NEW, "beta": OLD, "gamma": OLD}
        await asyncio.sleep(14)
        assert (await images(fleet))["gamma"] == OLD
        told = await status(fleet)
        assert told["updatedReplicas"] == 2
        assert told["observedGeneration"] == await generation(fleet)
        await asyncio.sleep(40)
        assert await images(fleet) == {"alpha": NEW, "beta": NEW, "gamma": NEW}
        run = await run_named(fleet, "web-1")
        assert (run.status.state, run.status.updated_clusters) == ("Succeeded", 3)
        assert (await status(fleet))["updatedReplicas"] == 6
        assert await said(fleet, "Progressing") == "True NewReplicaSetAvailable"
        record = record_of(await fleet.client.get(RESOURCE_BINDINGS, BINDING))
        assert record is not None
        assert (record.clusters, record.open) == ({}, False)

    play(story)
