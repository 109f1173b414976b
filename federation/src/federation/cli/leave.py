"""Let a cluster leave the federation. Its objects stay in it and are its own from then on.

Refused while it holds the last ready copy of anything: drain it first. With --force it leaves all the same, and what the
federation loses is told.
"""

import argparse

from federation.cli import connection
from federation.cli.errors import CliError
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.work import ResourceBinding
from machinery.client.interface import Client, DeleteOptions
from machinery.meta.resource import ObjectKey


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("cluster")
    parser.add_argument("--force", action="store_true", help="leave even with the last copies")
    connection.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look, then delete the Cluster."""
    name = arguments.cluster
    lost = connection.call(arguments, lambda client: leave(client, name, force=arguments.force))
    if lost and not arguments.force:
        raise CliError(
            f"{name} holds the last copy of {', '.join(lost)}: `fedctl drain {name}` first, or --force"
        )
    for what in lost:
        print(f"lost to the federation: {what}")
    print(f"{name} leaves. Its objects stay in it.")
    return 0


async def leave(client: Client, name: str, *, force: bool) -> list[str]:
    """Delete the Cluster unless something would be lost; what that is. Raises CliError, StatusError."""
    held = await connection.cluster(client, name)
    bindings = await connection.bindings(client)
    lost = [what for binding in bindings if (what := last_copy(binding, name))]
    if not lost or force:
        await client.delete(CLUSTERS, ObjectKey("", name), DeleteOptions(uid=held.metadata.uid))
    return lost


def last_copy(binding: ResourceBinding, name: str) -> str:
    """What would be lost, or the empty string."""
    spec = binding.spec
    holders = {t.name for t in spec.clusters if t.replicas or t.components}
    holders |= {t.from_cluster for t in spec.graceful_eviction_tasks if t.replicas}
    sets = len(spec.components) > 1
    if name not in holders or not (spec.replicas or sets):
        return ""
    elsewhere = sum(
        item.health == "Healthy" if sets else int((item.status or {}).get("readyReplicas") or 0)
        for item in binding.status.aggregated_status
        if item.cluster_name != name and item.health != "Unknown"
    )
    if elsewhere:
        return ""
    return f"{spec.resource.kind} {connection.placed(binding)}"
