"""A change goes from cluster to cluster over real HTTP: two members with all their controllers, and a hollow node in each."""

import base64
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.integration.fleet.test_services_over_clusters import eventually
from tests.integration.node.clusters import TOKEN, TOKEN_ID, TOKEN_SECRET, node

from cluster_agent.cli import ControlFile, FederationFile, start_control
from cluster_agent.node.config import NodeConfig
from federation.app import FederationServer
from federation.cli import approve, rollout
from federation.clusters import bootstrap
from federation.config import FederationConfig
from federation.propagation.templates import DEPLOYMENTS
from machinery.api.core import NAMESPACES, PODS, SECRETS
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.rollouts import (
    APPROVAL_REQUESTS,
    STAGED_UPDATE_RUNS,
    STAGED_UPDATE_STRATEGIES,
    STRATEGY,
    StagedUpdateRun,
)
from machinery.client.interface import Client
from machinery.client.rest import RestClient
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import Invalid
from machinery.meta.resource import Document, ObjectKey
from machinery.server.pki import client_context

pytestmark = [pytest.mark.integration, pytest.mark.slow]
WEB = ObjectKey("demo", "web")
OLD, NEW = "whoami:1", "whoami:2"


@dataclass
class Fleet:
    federation: Client
    """As an administrator, over HTTP."""
    members: dict[str, Client] = field(default_factory=dict)


@asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    """Members alpha and beta, one zone each."""
    clock, ids = SystemClock(), SystemIds()
    async with AsyncExitStack() as stack:
        config = FederationConfig(dataDir=str(folder / "federation"), listen=("127.0.0.1:0",))
        federation = FederationServer(config, clock, ids)
        server = await federation.start()
        stack.push_async_callback(federation.stop)
        pair = server.client_pair("admin", ("system:masters",))
        rest = RestClient(server.url, client_context(server.ca_pem, pair))
        stack.push_async_callback(rest.close)
        found = Fleet(rest)
        ca_file = folder / "federation-ca.crt"
        ca_file.write_text(server.ca_pem)
        for name in ("alpha", "beta"):
            groups = bootstrap.cluster_groups(name)
            token = await bootstrap.mint(rest, groups, dt.timedelta(hours=1), "t", clock, ids)
            joins = FederationFile(server.url, str(ca_file), str(token))
            listen = ("127.0.0.1:0",)
            file = ControlFile(
                name, str(folder / name), listen=listen, zone=f"zone-{name}", federation=joins
            )
            control, link = await start_control(file)
            stack.push_async_callback(control.stop)
            assert link is not None
            stack.push_async_callback(link.stop)
            api = control.server
            assert api is not None
            found.members[name] = api.client(manager="test")
            await found.members[name].create(SECRETS, node_token(), "kube-system")
            (folder / f"{name}-ca.crt").write_text(api.ca_pem)
            _ = await stack.enter_async_context(node(node_config(name, api.url, folder)))
        yield found


def node_config(member: str, url: str, folder: Path) -> NodeConfig:
    return NodeConfig(
        node_name=f"{member}-node-1",
        state_dir=str(folder / f"node-{member}"),
        api_server=url,
        ca_file=str(folder / f"{member}-ca.crt"),
        bootstrap_token=TOKEN,
        runtime="hollow",
        zone=f"zone-{member}",
        kubelet_port=0,
        health_port=0,
        capacity={"cpu": "8", "memory": "32Gi"},
        hollow_sandbox_s=0.02,
        hollow_start_s=0.02,
    )


def node_token() -> Document:
    data = {
        "token-id": TOKEN_ID,
        "token-secret": TOKEN_SECRET,
        "usage-bootstrap-authentication": "true",
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": f"bootstrap-token-{TOKEN_ID}"},
        "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()},
    }


def deployment() -> Document:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "demo",
            "annotations": {STRATEGY: "by-zone"},
        },
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": OLD}]},
            },
        },
    }


def strategy(most: int) -> Document:
    stage = {
        "name": "zone",
        "groupBy": "zone",
        "maxConcurrency": most,
        "afterStageTasks": [{"type": "Approval"}],
    }
    return {
        "apiVersion": "ubernetes.io/v1alpha1",
        "kind": "StagedUpdateStrategy",
        "metadata": {"name": "by-zone", "namespace": "demo"},
        "spec": {"stages": [stage]},
    }


async def has_room(world: Fleet) -> bool:
    """Whether every member has told what its node offers."""
    clusters = (await world.federation.list(CLUSTERS)).items
    told = [c for c in clusters if c.status.resource_summary.allocatable]
    return len(told) == len(world.members)


async def runs(world: Fleet, image: str, **wanted: int) -> bool:
    """Whether so many pods of that image are ready in each member."""
    for name, count in wanted.items():
        pods = (await world.members[name].list(PODS, "demo")).items
        ready = sum(
            p.spec.containers[0].image == image
            and not p.deleting
            and any(c.type == "Ready" and c.status == "True" for c in p.status.conditions)
            for p in pods
        )
        if ready != count:
            return False
    return True


async def state(world: Fleet) -> StagedUpdateRun:
    return await world.federation.get(STAGED_UPDATE_RUNS, ObjectKey("demo", "web-1"))


async def waits_for_approval(world: Fleet, name: str) -> bool:
    """Whether the run says so, and the request is there to be answered: it is made a moment later."""
    status = (await state(world)).status
    requests = (await world.federation.list(APPROVAL_REQUESTS, "demo")).items
    asked = name in {request.metadata.name for request in requests}
    return status.state == "Waiting" and name in status.message and asked


async def counted(world: Fleet, updated: int) -> bool:
    """Whether `kubectl rollout status` sees so many updated replicas, of the newest generation."""
    found = await world.federation.get(DEPLOYMENTS, WEB)
    status = found.get("status") or {}
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return False
    return bool(status.get("updatedReplicas", 0) == updated)


@pytest.mark.timeout(240)
async def test_a_change_goes_zone_by_zone_with_an_approval_between(tmp_path: Path) -> None:
    async with fleet(tmp_path) as world:
        client = world.federation
        await eventually(lambda: has_room(world))
        demo = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await client.create(NAMESPACES, demo)
        with pytest.raises(Invalid, match="maxConcurrency"):
            await client.create(STAGED_UPDATE_STRATEGIES, strategy(0), "demo")
        await client.create(STAGED_UPDATE_STRATEGIES, strategy(1), "demo")
        await client.create(DEPLOYMENTS, deployment(), "demo")
        await eventually(lambda: runs(world, OLD, alpha=2, beta=2))
        await eventually(lambda: counted(world, 4))

        containers = [{"name": "web", "image": NEW}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        await client.patch(DEPLOYMENTS, WEB, patch)
        await eventually(lambda: waits_for_approval(world, "web-1-after-zone-zone-alpha"))
        assert await runs(world, NEW, alpha=2, beta=0)
        assert await runs(world, OLD, alpha=0, beta=2)
        await eventually(lambda: counted(world, 0))
        key = ObjectKey("demo", "web-1-after-zone-zone-alpha")
        await approve.answer(client, key, "it looks well", yes=True)
        await eventually(lambda: waits_for_approval(world, "web-1-after-zone-zone-beta"))
        assert await runs(world, NEW, alpha=2, beta=2)
        # Not before somebody has said that it is good: kubectl rollout status still waits.
        assert await counted(world, 2)
        run = await rollout.found(client, "demo", "deploy/web")
        assert next(iter(rollout.table(run))).startswith("web-1  Waiting  stage zone-zone-beta")
        key = ObjectKey("demo", "web-1-after-zone-zone-beta")
        await approve.answer(client, key, "it looks well", yes=True)
        await eventually(lambda: counted(world, 4))
        assert (await state(world)).status.state == "Succeeded"
