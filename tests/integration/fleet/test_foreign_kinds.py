"""Kinds that only a foreign cluster runs: a StatefulSet and a Job of the federation in it, and what it says of them."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.node.clusters import eventually
from tests.support.apiserver import RunningServer, running_server

from cluster_agent.cli import foreign_config, parser
from cluster_agent.link.foreign import Foreign
from federation.app import FederationServer
from federation.clusters import bootstrap
from federation.config import FederationConfig
from federation.propagation.templates import JOBS, NAMESPACES, STATEFULSETS
from machinery.api.fleet.cluster import CLUSTERS, READY
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.client.interface import Client, DeleteOptions, dynamic
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import condition, is_true
from machinery.meta.resource import Document, ObjectKey, Resource

pytestmark = [pytest.mark.integration, pytest.mark.slow]
CLOCK, IDS = SystemClock(), SystemIds()
EDGE, DB, ONCE = ObjectKey("", "edge"), ObjectKey("demo", "db"), ObjectKey("demo", "once")
NODES = dynamic("", "v1", "nodes", "Node", False)
ROOM = {"cpu": "8", "memory": "16Gi", "pods": "110"}
NODE: Document = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1"},
    "status": {
        "capacity": ROOM,
        "allocatable": ROOM,
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
LABELS = {"app": "x"}
POD = {"containers": [{"name": "c", "image": "i"}]}
ACCEPTED: Document = {
    "apiVersion": RESILIENCE_POLICIES.api_version,
    "kind": RESILIENCE_POLICIES.kind,
    "metadata": {"name": "foreign", "namespace": "demo"},
    "spec": {
        "resourceSelectors": [
            {"apiVersion": "apps/v1", "kind": "StatefulSet"},
            {"apiVersion": "batch/v1", "kind": "Job"},
        ],
        "mode": "availability",
    },
}


def thing(resource: Resource[Document], key: ObjectKey, **spec: Any) -> Document:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": spec,
    }


STATEFUL = thing(
    STATEFULSETS, DB, replicas=3, serviceName="db", selector={"matchLabels": LABELS},
    template={"metadata": {"labels": LABELS}, "spec": POD},
)  # fmt: skip
JOB = thing(
    JOBS, ONCE, parallelism=2, completions=4, template={"spec": POD | {"restartPolicy": "Never"}}
)


@dataclass
class Scene:
    federation: Client
    foreign: RunningServer


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        settings = FederationConfig(dataDir=str(folder / "federation"), listen=("127.0.0.1:0",))
        federation = FederationServer(settings, CLOCK, IDS)
        server = await federation.start()
        stack.push_async_callback(federation.stop)
        kinds = (*BUILTIN, *TEMPLATE_KINDS)
        foreign = await stack.enter_async_context(running_server(kinds=kinds))
        await foreign.local.create(NODES, NODE)
        await foreign.local.patch(
            NODES, ObjectKey("", "n1"), {"status": NODE["status"]}, subresource="status"
        )
        client = server.client(manager="test")
        groups = bootstrap.cluster_groups("edge")
        token = await bootstrap.mint(client, groups, dt.timedelta(hours=1), "t", CLOCK, IDS)
        (folder / "join-token").write_text(str(token))
        (folder / "federation-ca.crt").write_text(server.ca_pem)
        words = parser().parse_args(
            [
                "link", "--kubeconfig", foreign.write_kubeconfig(folder), "--cluster", "edge",
                "--federation", server.url, "--token-file", str(folder / "join-token"),
                "--ca-file", str(folder / "federation-ca.crt"), "--region", "region-9",
                "--zone", "zone-x", "--data-dir", str(folder / "agent"),
            ]
        )  # fmt: skip
        agent = Foreign(foreign_config(words), CLOCK, IDS)
        agent.start()
        stack.push_async_callback(agent.stop)
        yield Scene(client, foreign)


async def is_ready(fleet: Scene) -> bool:
    try:
        return is_true((await fleet.federation.get(CLUSTERS, EDGE)).status.conditions, READY)
    except NotFound:
        return False


async def there(client: Client, resource: Resource[Document], key: ObjectKey) -> Document | None:
    try:
        return await client.get(resource, key)
    except NotFound:
        return None


async def test_what_members_of_ours_do_not_run_runs_in_a_foreign_one(tmp_path: Path) -> None:
    async with scene(tmp_path) as fleet:
        await eventually(lambda: is_ready(fleet), wait_s=60)
        home, foreign = fleet.federation, fleet.foreign.local
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await home.create(NAMESPACES, namespace)
        await home.create(STATEFULSETS, STATEFUL)
        why = await eventually(lambda: refused(home), wait_s=20)
        assert "grants" in why.lower()

        await home.create(RESILIENCE_POLICIES, ACCEPTED)
        await home.patch(STATEFULSETS, DB, {"spec": {"replicas": 2}})
        made = await eventually(lambda: sized(foreign, 2), wait_s=20)
        counts = {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2}
        status = counts | {"observedGeneration": made["metadata"]["generation"]}
        await foreign.patch(STATEFULSETS, DB, {"status": status}, subresource="status")
        summed = await eventually(lambda: ready(home), wait_s=20)
        assert summed["status"]["availableReplicas"] == 2
        assert summed["status"]["observedGeneration"] == summed["metadata"]["generation"]

        await home.create(JOBS, JOB)
        job = await eventually(lambda: there(foreign, JOBS, ONCE), wait_s=20)
        assert (job["spec"]["parallelism"], job["spec"]["completions"]) == (2, 4)
        own = {"batch.kubernetes.io/controller-uid": job["metadata"]["uid"]}
        assert job["spec"]["selector"] == {"matchLabels": own}
        await foreign.patch(
            JOBS, ONCE, {"status": {"active": 2, "succeeded": 1}}, subresource="status"
        )
        await eventually(lambda: counted(home), wait_s=20)

        for resource, key in ((STATEFULSETS, DB), (JOBS, ONCE)):
            await home.delete(resource, key, DeleteOptions(propagation_policy="Background"))
            await eventually(lambda r=resource, k=key: absent(foreign, r, k), wait_s=20)


async def refused(home: Client) -> str:
    """Why the StatefulSet is placed nowhere, once it is said."""
    try:
        binding = await home.get(RESOURCE_BINDINGS, ObjectKey("demo", "db-statefulset"))
    except NotFound:
        return ""
    held = condition(binding.status.conditions, "Scheduled")
    return held.message if held is not None and held.status == "False" else ""


async def sized(foreign: Client, replicas: int) -> Document | None:
    found = await there(foreign, STATEFULSETS, DB)
    return found if found is not None and found["spec"]["replicas"] == replicas else None


async def ready(home: Client) -> Document | None:
    found = await home.get(STATEFULSETS, DB)
    return found if found["status"].get("readyReplicas") == 2 else None


async def counted(home: Client) -> bool:
    status = (await home.get(JOBS, ONCE))["status"]
    return (status.get("active"), status.get("succeeded")) == (2, 1)


async def absent(client: Client, resource: Resource[Document], key: ObjectKey) -> bool:
    return await there(client, resource, key) is None
