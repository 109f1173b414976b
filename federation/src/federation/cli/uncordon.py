"""Uncordon a cluster: it may be used again, and a drain that is not over is taken back.

What was moved away goes back when the fleet is balanced again, after the stabilisation window.
"""

import argparse

from federation.cli import connection
from machinery.api.fleet.cluster import CLUSTERS, CORDON_TAINT, DRAIN_TAINT
from machinery.client.interface import Client
from machinery.meta.resource import ObjectKey


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("cluster")
    connection.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Take the taints away."""
    connection.call(arguments, lambda client: uncordon(client, arguments.cluster))
    print(f"{arguments.cluster} is used again.")
    return 0


async def uncordon(client: Client, name: str) -> None:
    """Raises CliError, StatusError, ConnectionError."""
    held = await connection.cluster(client, name)
    patch = connection.taints(held, frozenset({CORDON_TAINT, DRAIN_TAINT}), [])
    await client.patch(CLUSTERS, ObjectKey("", name), patch)
