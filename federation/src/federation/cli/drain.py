"""Drain a cluster: its replicas start elsewhere first, and leave it when as many are ready there.

Waits until the cluster is empty, and says meanwhile what it waits for. Interrupted or timed out, the drain goes on by
itself; `fedctl uncordon` takes it back. Workloads that tolerate the taint ubernetes.io/drain stay.
"""

import argparse

from federation.cli import connection
from federation.cli.errors import CliError
from machinery.api.core import Taint
from machinery.api.fleet.cluster import CLUSTERS, DRAIN_TAINT
from machinery.api.fleet.work import ResourceBinding
from machinery.client.interface import Client
from machinery.kit.clock import Clock, SystemClock, rfc3339
from machinery.meta.resource import ObjectKey
from machinery.scheduling.tolerations import tolerates

LOOK_S = 1.0
TAINT = Taint(key=DRAIN_TAINT, effect="NoExecute")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("cluster")
    parser.add_argument(
        "--timeout", type=float, default=600.0, help="seconds (default: %(default)s)"
    )
    parser.add_argument("--no-wait", action="store_true", help="begin, and do not wait for the end")
    connection.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Taint it, then wait."""
    name = arguments.cluster
    connection.call(arguments, lambda client: begin(client, name))
    print(f"{name} gets nothing new and is being emptied, surge first.")
    if arguments.no_wait:
        return 0
    left = connection.call(
        arguments, lambda client: emptied(client, name, SystemClock(), arguments.timeout)
    )
    if left:
        raise CliError(
            f"after {arguments.timeout:g} s {name} still runs {', '.join(left)}: there is no room elsewhere, or "
            "it does not get ready there; the drain goes on, `fedctl uncordon` takes it back"
        )
    print(f"{name} is empty.")
    return 0


async def begin(client: Client, name: str) -> None:
    """Raises CliError, StatusError, ConnectionError."""
    held = await connection.cluster(client, name)
    now = rfc3339(SystemClock().now())
    more = [
        {"key": DRAIN_TAINT, "effect": effect, "timeAdded": now}
        for effect in ("NoSchedule", "NoExecute")
    ]
    patch = connection.taints(held, frozenset({DRAIN_TAINT}), more)
    await client.patch(CLUSTERS, ObjectKey("", name), patch)


async def emptied(client: Client, name: str, clock: Clock, timeout_s: float) -> list[str]:
    """Wait until nothing but tolerant workloads run there; what still runs when the time is over."""
    until = clock.monotonic() + timeout_s
    told: list[str] = []
    while True:
        left = [running(b, name) for b in await connection.bindings(client) if runs(b, name)]
        if not left or clock.monotonic() >= until:
            return left
        if left != told:
            told = left
            print(f"  waiting for {', '.join(left)}")
        await clock.sleep(LOOK_S)


def runs(binding: ResourceBinding, name: str) -> bool:
    """Whether the drain has to wait for the binding."""
    placement = binding.spec.placement
    if placement is None or not (binding.spec.replicas or binding.spec.components):
        return False
    if tolerates(placement.cluster_tolerations, TAINT):
        return False
    return _count(binding, name) > 0


def running(binding: ResourceBinding, name: str) -> str:
    """`demo/web (2)`."""
    return f"{connection.placed(binding)} ({_count(binding, name)})"


def _count(binding: ResourceBinding, name: str) -> int:
    decided = sum(t.replicas or bool(t.components) for t in binding.spec.clusters if t.name == name)
    kept = sum(
        t.replicas or 0 for t in binding.spec.graceful_eviction_tasks if t.from_cluster == name
    )
    return decided + kept
