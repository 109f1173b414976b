"""Mint a short-lived bootstrap token and print the command with which a cluster joins.

The token admits to nothing but asking for a member's certificate; it ends by itself.
"""

import argparse
import asyncio
import base64
import datetime as dt
import os

from federation.cli.errors import CliError
from federation.clusters import bootstrap
from machinery.client import kubeconfig
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import StatusError
from machinery.meta.names import dns_label


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("cluster", help="the name the cluster shall have")
    parser.add_argument(
        "--kubeconfig",
        default=os.environ.get("KUBECONFIG", ""),
        help="the federation's administrator (default: $KUBECONFIG, else ~/.kube/config)",
    )
    parser.add_argument("--context", default="federation", help="default: %(default)s")
    parser.add_argument(
        "--minutes", type=int, default=60, help="life of the token (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Mint and print."""
    if not 1 <= arguments.minutes <= 24 * 60:
        raise CliError(f"--minutes: 1 to {24 * 60}, not {arguments.minutes}")
    if wrong := dns_label(arguments.cluster):
        raise CliError(f"{arguments.cluster!r} is no name for a cluster: {wrong[0]}")
    paths = (arguments.kubeconfig or os.path.expanduser("~/.kube/config")).split(":")
    try:
        access = kubeconfig.load(paths, arguments.context)
        token = asyncio.run(
            _mint(access, arguments.cluster, dt.timedelta(minutes=arguments.minutes))
        )
    except (kubeconfig.KubeconfigError, ConnectionError) as error:
        raise CliError(str(error)) from error
    except StatusError as error:
        raise CliError(f"the federation refused: {error}") from error
    ca = base64.b64encode(access.ca).decode()
    print(f"On the machine of the cluster, within {arguments.minutes} minutes:")
    print(
        f"  cluster-agent join --cluster {arguments.cluster} --federation {access.server} --token {token} --ca-data {ca}"
    )
    return 0


async def _mint(access: kubeconfig.Access, cluster: str, life: dt.timedelta) -> str:
    client = access.client(field_manager="fedctl")
    try:
        minted = await bootstrap.mint(
            client,
            bootstrap.cluster_groups(cluster),
            life,
            f"join of {cluster}",
            SystemClock(),
            SystemIds(),
        )
    finally:
        await client.close()
    return str(minted)
