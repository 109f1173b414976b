"""Cordon a cluster: it gets nothing new, and what runs there stays.

`fedctl uncordon` takes it back, `fedctl drain` also empties the cluster.
"""

import argparse

from federation.cli import connection
from machinery.api.fleet.cluster import CLUSTERS, CORDON_TAINT
from machinery.client.interface import Client
from machinery.kit.clock import SystemClock, rfc3339
from machinery.meta.resource import ObjectKey


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("cluster")
    connection.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Taint it."""
    connection.call(arguments, lambda client: cordon(client, arguments.cluster))
    print(f"{arguments.cluster} gets nothing new; what runs there stays.")
    return 0


async def cordon(client: Client, name: str) -> None:
    """Raises CliError, StatusError, ConnectionError."""
    held = await connection.cluster(client, name)
    now = rfc3339(SystemClock().now())
    taint = {"key": CORDON_TAINT, "effect": "NoSchedule", "timeAdded": now}
    patch = connection.taints(held, frozenset({CORDON_TAINT}), [taint])
    await client.patch(CLUSTERS, ObjectKey("", name), patch)
