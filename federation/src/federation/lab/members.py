"""The lab as a client of the API servers it started: are they ready, may these join, who is there.

All access is by the admin kubeconfigs that servers leave in their data directories.
"""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.clusters import bootstrap
from federation.lab import programs
from federation.lab.plan import ClusterPlan, LabPlan
from machinery.api.core import NODES
from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.client import kubeconfig
from machinery.client.rest import RestClient
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import StatusError
from machinery.meta.objectmeta import Condition

TOKEN_LIFE = dt.timedelta(hours=1)
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Row:
    """One member, for the table at the end."""

    name: str
    zone: str
    region: str
    provider: str
    ready: str
    version: str
    nodes: str


@asynccontextmanager
async def operator(plan: LabPlan, process: str) -> AsyncIterator[RestClient]:
    """A client of the server that runs as `process`, as its administrator."""
    client = kubeconfig.load(programs.admin_kubeconfig(plan, process)).client()
    try:
        yield client
    finally:
        await client.close()


async def server_ready(plan: LabPlan, process: str) -> str:
    """Empty when `process` serves; else what it is not doing yet."""
    if not Path(programs.admin_kubeconfig(plan, process)).exists():
        return "has not written its admin.kubeconfig yet"
    try:
        async with operator(plan, process) as client:
            await client.request("GET", "/readyz")
    except (ConnectionError, StatusError, kubeconfig.KubeconfigError) as error:
        return f"is not ready: {error}"
    return ""


async def cluster_token(plan: LabPlan, cluster: ClusterPlan) -> str:
    """A token with which `cluster` may join the federation."""
    async with operator(plan, plan.federation[0].name) as client:
        return await _mint(
            client, bootstrap.cluster_groups(cluster.name), f"lab: cluster {cluster.name}"
        )


async def node_token(plan: LabPlan, cluster: ClusterPlan) -> str:
    """A token with which nodes may join `cluster`."""
    async with operator(plan, cluster.control.name) as client:
        return await _mint(client, bootstrap.NODES_GROUP, f"lab: nodes of {cluster.name}")


async def _mint(client: RestClient, group: str, description: str) -> str:
    token = await bootstrap.mint(client, group, TOKEN_LIFE, description, SystemClock(), SystemIds())
    return str(token)


def ca_pem(plan: LabPlan, process: str) -> bytes:
    """The certificate authority of the server that runs as `process`."""
    return kubeconfig.load(programs.admin_kubeconfig(plan, process)).ca


def write_kubeconfig(plan: LabPlan) -> str:
    """One kubeconfig for kubectl: contexts `federation` and one per member."""
    path = f"{plan.spec.directory}/kubeconfig"
    places = {"federation": plan.federation[0].name}
    places |= {cluster.name: cluster.control.name for cluster in plan.clusters}
    documents: list[tuple[Path, dict[str, Any]]] = []
    for context, process in places.items():
        access = kubeconfig.load(programs.admin_kubeconfig(plan, process))
        documents.append((Path(plan.spec.directory), kubeconfig.document(context, access)))
    kubeconfig.write(path, kubeconfig.merge(documents), keep_others=False)
    return path


async def rows(plan: LabPlan) -> list[Row]:
    """Every member of the plan as the federation sees it."""
    async with operator(plan, plan.federation[0].name) as client:
        listed = await client.list(CLUSTERS)
    known = {cluster.metadata.name: cluster for cluster in listed.items}
    return [_row(cluster, known.get(cluster.name)) for cluster in plan.clusters]


def _row(cluster: ClusterPlan, seen: Cluster | None) -> Row:
    wanted = len(cluster.nodes) + cluster.hollow_count
    if seen is None:
        return Row(cluster.name, cluster.zone, cluster.region, "", "not joined", "", f"0/{wanted}")
    ready = next((c for c in seen.status.conditions if c.type == "Ready"), Condition("Ready"))
    summary = seen.status.node_summary
    return Row(
        name=cluster.name,
        zone=seen.spec.zone or ",".join(seen.spec.zones),
        region=seen.spec.region,
        provider=seen.spec.provider,
        ready=ready.status if ready.status == "True" else f"{ready.status} ({ready.reason})",
        version=seen.status.kubernetes_version,
        nodes=f"{summary.ready_num}/{max(summary.total_num, wanted)}",
    )


async def ready_nodes(plan: LabPlan, cluster: ClusterPlan) -> int:
    """How many nodes of `cluster` are Ready, by its own API server."""
    async with operator(plan, cluster.control.name) as client:
        listed = await client.list(NODES)
    return sum(
        any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)
        for node in listed.items
    )


class WaitError(Exception):
    """Something did not come in time; the text says what was missing last."""


async def wait_for(
    missing: Callable[[], Awaitable[str]], seconds: float, report: Callable[[str], None]
) -> None:
    """Ask until nothing is missing; report each change of the answer. An error of a server is a lack too."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    said = ""

    async def ask() -> str:
        try:
            return await missing()
        except (ConnectionError, StatusError) as error:
            return str(error)

    while lack := await ask():
        if lack != said:
            report(lack)
            said = lack
        if loop.time() > deadline:
            raise WaitError(lack)
        await asyncio.sleep(_POLL_S)
