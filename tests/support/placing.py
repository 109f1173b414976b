"""A federation's API server with the controllers that place, and three members that nobody plays: for what is asked of it.

async with federation() as server:
    await deployed(server, policy("alpha"), deployment())
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.support.apiserver import RunningServer, running_server

from federation.clusters import access
from federation.clusters.estimates import NoEstimator
from federation.controllers import (
    defaults,
    dependencies,
    detector,
    dispatcher,
    journal,
    placer,
    registry,
)
from federation.controllers.reservations import Reservations
from federation.propagation.templates import DEPLOYMENTS, NAMESPACES
from federation.reviews.registry import reviews
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.decision import DECISIONS
from machinery.api.fleet.kinds import FLEET
from machinery.api.fleet.work import RESOURCE_BINDINGS, WORK_DOCUMENTS
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.client.interface import Client, dynamic
from machinery.controller.manager import Manager
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server.app import ApiServer, Extensions

POLICIES = dynamic(
    "policy.karmada.io", "v1alpha1", "propagationpolicies", "PropagationPolicy", True
)
ZONES = {"alpha": "za", "beta": "zb", "gamma": "zc"}
KINDS = [
    {"groupVersion": "apps/v1", "resources": [{"kind": "Deployment"}]},
    {"groupVersion": "v1", "resources": [{"kind": "ConfigMap"}, {"kind": "Secret"}]},
]


def deployment(replicas: int = 6, image: str = "whoami:1", name: str = "web") -> Document:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    }


def policy(*clusters: str, name: str = "web") -> Document:
    return {
        "apiVersion": "policy.karmada.io/v1alpha1",
        "kind": "PropagationPolicy",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}],
            "placement": {
                "clusterAffinity": {"clusterNames": list(clusters)},
                "replicaScheduling": {
                    "replicaSchedulingType": "Divided",
                    "replicaDivisionPreference": "Weighted",
                    "weightPreference": {"dynamicWeight": "AvailableReplicas"},
                },
            },
        },
    }


async def join(client: Client, name: str, zone: str, pods: int = 30) -> None:
    document = {
        "apiVersion": CLUSTERS.api_version,
        "kind": "Cluster",
        "metadata": {"name": name},
        "spec": {"syncMode": "Pull", "zones": [zone]},
    }
    _ = await client.create(CLUSTERS, document)
    status = {"apiEnablements": KINDS, "resourceSummary": {"allocatable": {"pods": str(pods)}}}
    _ = await client.patch(CLUSTERS, ObjectKey("", name), {"status": status}, subresource="status")
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"karmada-es-{name}"}}
    _ = await client.create(NAMESPACES, space)


@contextlib.asynccontextmanager
async def federation() -> AsyncIterator[RunningServer]:
    """A server with the controllers that place, and three members that nobody plays."""
    held: list[ApiServer] = []
    clock, ids = SystemClock(), SystemIds()
    extensions = Extensions(
        admission=registry.admission(ids),
        reviews=reviews(lambda: held[0], clock, ids),
        bootstrap=access.common(),
    )
    async with running_server(
        kinds=(*BUILTIN, *TEMPLATE_KINDS, *FLEET), extensions=extensions
    ) as server:
        held.append(server.api)
        manager = Manager(server.local, clock, ids, component="federation")
        settings = registry.Settings([], server.api.authority)
        operator = registry.operator_settings(manager, settings)
        placer.setup(manager, operator, Reservations(manager, NoEstimator()))
        for room in (defaults, detector, dependencies, dispatcher, journal):
            room.setup(manager)
        await manager.start()
        try:
            for name, zone in ZONES.items():
                await join(server.local, name, zone)
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
            _ = await server.local.create(NAMESPACES, space)
            yield server
        finally:
            await manager.stop()


async def until(check: Callable[[], Any], what: str) -> Any:
    """What `check` comes to, as soon as that is something."""
    for _ in range(400):
        found = await check()
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"never: {what}")


async def deployed(server: RunningServer, *manifests: Document) -> None:
    """Applied, decided and dispatched."""
    for one in manifests or (deployment(),):
        resource = DEPLOYMENTS if one["kind"] == "Deployment" else POLICIES
        _ = await server.rest.create(resource, one, "demo")

    async def journaled() -> bool:
        return bool((await server.local.list(DECISIONS, "demo")).items)

    await until(journaled, "the decision is journaled")

    async def works() -> bool:
        return len(await _works(server)) > 0

    await until(works, "Works are there")


async def _works(server: RunningServer) -> list[Document]:
    found = (await server.local.list(WORK_DOCUMENTS)).items
    return [w for w in found if w["spec"]["workload"]["manifests"][0]["kind"] == "Deployment"]


async def state(server: RunningServer) -> dict[str, str]:
    """Every object that a plan might have changed, and its version."""
    found = {}
    for resource in (RESOURCE_BINDINGS, DEPLOYMENTS, WORK_DOCUMENTS, POLICIES):
        documents = (await server.local.list(plainly(resource))).items
        for one in documents:
            meta = one["metadata"]
            found[f"{resource}/{meta['namespace']}/{meta['name']}"] = meta["resourceVersion"]
    return found


def plainly(resource: Resource[Any]) -> Resource[Document]:
    """The same kind as whole documents."""
    return Resource(
        resource.group,
        resource.version,
        resource.plural,
        resource.kind,
        resource.namespaced,
        dict,
    )
