"""Part of bench_federation: the placer alone, over a durable store, with bindings that wait for it."""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.fleet import CLOCK, IDS, namespace

from federation.controllers import registry
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.kinds import FLEET
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.client.interface import Client, dynamic
from machinery.controller.manager import Manager
from machinery.meta.resource import Document, ObjectKey
from machinery.server import bootstrap
from machinery.server.app import ApiServer, Extensions, settle_collector
from machinery.server.config import ServerConfig
from machinery.store.sql import open_store

CLUSTERS_MAX = 100
TEAMS = 20
"""Namespaces that the bindings are in."""
NAMESPACES = dynamic("", "v1", "namespaces", "Namespace", False)


@dataclass(frozen=True)
class Decided:
    """Of one run; CPU is user + system of the process that decides and writes."""

    count: int
    wall_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        return self.count / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        return self.count / self.cpu_s

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.count * 1e6


def team(number: int) -> str:
    return f"team-{number % TEAMS}"


def cluster(number: int) -> Document:
    """A member that reported."""
    kinds = [
        {"groupVersion": "apps/v1", "resources": [{"kind": "Deployment", "name": "deployments"}]}
    ]
    ready = {
        "type": "Ready", "status": "True", "reason": "ClusterReady", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    offered = {"cpu": str(10_000 + 37 * number), "memory": "100Ti", "pods": "1000000"}
    return {
        "apiVersion": CLUSTERS.api_version,
        "kind": CLUSTERS.kind,
        "metadata": {"name": f"member-{number:03}"},
        "spec": {
            "syncMode": "Pull", "provider": "bench", "region": f"region-{number % 3}",
            "zones": [f"zone-{number % 10}"],
        },
        "status": {
            "kubernetesVersion": "v1.36.2", "apiEnablements": kinds, "conditions": [ready],
            "resourceSummary": {"allocatable": offered},
        },
    }  # fmt: skip


def binding(number: int, placement: Document) -> Document:
    """As the detector would have written it."""
    return {
        "apiVersion": RESOURCE_BINDINGS.api_version,
        "kind": RESOURCE_BINDINGS.kind,
        "metadata": {"name": f"web-{number}-deployment", "namespace": team(number)},
        "spec": {
            "resource": {
                "apiVersion": "apps/v1", "kind": "Deployment", "namespace": team(number),
                "name": f"web-{number}", "uid": IDS.uid(),
            },
            "replicas": 200,
            "replicaRequirements": {"resourceRequest": {"cpu": "250m", "memory": "256Mi"}},
            "placement": placement,
        },
    }  # fmt: skip


async def decide(count: int, placement: Document) -> Decided:
    """`count` bindings wait, then the placer starts; from there until the last one is Scheduled."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{Path(folder) / 'store.db'}", migrate_to="heads")
        await store.start()
        scheme = Scheme((*BUILTIN, *TEMPLATE_KINDS, *FLEET))
        config = ServerConfig(name="bench", service_accounts=False)
        extensions = Extensions(admission=registry.admission(IDS))
        api = ApiServer(scheme, store, config, CLOCK, IDS, extensions=extensions)
        await api.cache.start()
        try:
            await bootstrap.ensure(api.registry, api.scheme, list(bootstrap.documents()))
            client = api.client(manager="bench")
            for number in range(TEAMS):
                await client.create(NAMESPACES, namespace(team(number)))
            for number in range(CLUSTERS_MAX):
                await client.create(CLUSTERS, cluster(number))
                await status_of(client, f"member-{number:03}", cluster(number)["status"])
            for number in range(count):
                await client.create(RESOURCE_BINDINGS, binding(number, placement), team(number))
            return await _placed(api, count)
        finally:
            api.watches.close_all()
            await api.cache.stop()
            await store.close()


async def status_of(client: Client, name: str, status: Document) -> None:
    await client.patch(CLUSTERS, ObjectKey("", name), {"status": status}, subresource="status")


async def _placed(api: ApiServer, count: int) -> Decided:
    manager = Manager(api.client(manager="placer"), CLOCK, IDS, component="bench")
    kinds = [kind for kind in api.scheme.kinds if kind.storable]
    registry.setup_all(manager, registry.Settings(kinds, api.authority))
    manager._controllers[:] = [c for c in manager._controllers if c.name == "placer"]
    manager._runnables.clear()
    bindings = manager.informer(RESOURCE_BINDINGS)
    done: set[str] = set()
    over = asyncio.Event()

    def look(_: ResourceBinding | None, new: ResourceBinding | None) -> None:
        if new is not None and any(c.type == "Scheduled" for c in new.status.conditions):
            done.add(new.metadata.name)
            if len(done) >= count:
                over.set()

    bindings.on_change(look)
    settle_collector()
    wall, cpu = time.monotonic(), time.process_time()
    await manager.start()
    await asyncio.wait_for(over.wait(), 600)
    told = Decided(count, time.monotonic() - wall, time.process_time() - cpu)
    await manager.stop()
    return told
