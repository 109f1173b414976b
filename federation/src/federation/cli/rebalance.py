"""Rebalance workloads: the planner divides them anew over the fleet as it is now, as if nothing ran.

What runs stays for other clusters' good (a cluster that is busier than another, one that was added later); this verb asks for
the division that would be chosen today. What moves, moves surge first. It makes a WorkloadRebalancer, which goes away by
itself, waits until the new copies run and the old ones are gone, and shows the replicas before and after. Interrupted or
timed out, the move goes on by itself.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from federation.cli import connection
from federation.cli.errors import CliError
from machinery.api.fleet.operations import WORKLOAD_REBALANCERS
from machinery.api.fleet.work import RESOURCE_BINDINGS, ResourceBinding
from machinery.client.interface import Client
from machinery.kit.clock import Clock, SystemClock
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey

LOOK_S = 0.5
TTL_S = 300
KINDS: Mapping[str, tuple[str, str]] = {
    "deployment": ("apps/v1", "Deployment"),
    "deploy": ("apps/v1", "Deployment"),
    "statefulset": ("apps/v1", "StatefulSet"),
    "sts": ("apps/v1", "StatefulSet"),
    "job": ("batch/v1", "Job"),
}
"""What kubectl calls the kinds that have replicas to divide."""
NO_BINDING = "there is no {}, or no policy places it (kubectl get resourcebindings -n {})"


@dataclass(frozen=True, slots=True)
class Workload:
    """`deploy/web` of a namespace."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def binding(self) -> ObjectKey:
        return ObjectKey(self.namespace, f"{self.name}-{self.kind.lower()}")

    @property
    def wire(self) -> Document:
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
        }

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


@dataclass(frozen=True, slots=True)
class Row:
    """Replicas of a workload in one cluster."""

    workload: str
    cluster: str
    before: int
    after: int


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "workloads", nargs="+", metavar="KIND/NAME", help="deploy/web; more than one may be named"
    )
    parser.add_argument("-n", "--namespace", default="default", help="default: %(default)s")
    parser.add_argument(
        "--timeout", type=float, default=300.0, help="seconds (default: %(default)s)"
    )
    parser.add_argument("--no-wait", action="store_true", help="begin, and do not wait for the end")
    connection.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, wait, show."""
    workloads = [workload(text, arguments.namespace) for text in arguments.workloads]
    before = connection.call(arguments, lambda client: begin(client, workloads))
    if arguments.no_wait:
        print("A new division is asked for.")
        return 0
    clock = SystemClock()
    after = connection.call(
        arguments, lambda client: settled(client, workloads, clock, arguments.timeout)
    )
    for line in table(rows(before, after)):
        print(line)
    late = [text for one in workloads if (text := open_end(after[one]))]
    if late:
        raise CliError(f"after {arguments.timeout:g} s {'; '.join(late)}")
    return 0


def workload(text: str, namespace: str) -> Workload:
    """`deploy/web`. Raises CliError."""
    kind, _, name = text.partition("/")
    singular = kind.lower().partition(".")[0]
    known = KINDS.get(singular) or KINDS.get(singular.removesuffix("s"))
    if not name or known is None:
        raise CliError(
            f"{text!r} is no workload: give KIND/NAME, where KIND is one of {', '.join(KINDS)}"
        )
    return Workload(*known, namespace, name)


async def begin(client: Client, workloads: Sequence[Workload]) -> dict[Workload, ResourceBinding]:
    """Ask for the division; the bindings as they were. Raises CliError, StatusError, ConnectionError."""
    before = {}
    for one in workloads:
        try:
            before[one] = await client.get(RESOURCE_BINDINGS, one.binding)
        except NotFound as error:
            raise CliError(NO_BINDING.format(one, one.namespace)) from error
    request = {
        "apiVersion": WORKLOAD_REBALANCERS.api_version,
        "kind": WORKLOAD_REBALANCERS.kind,
        "metadata": {"generateName": "fedctl-"},
        "spec": {"workloads": [w.wire for w in workloads], "ttlSecondsAfterFinished": TTL_S},
    }
    made = await client.create(WORKLOAD_REBALANCERS, request)
    print(f"WorkloadRebalancer {made.metadata.name} asks for a new division.")
    return before


async def settled(
    client: Client, workloads: Sequence[Workload], clock: Clock, timeout_s: float
) -> dict[Workload, ResourceBinding]:
    """Wait until all is decided and moved; the bindings as they are then, or when the time is over."""
    until = clock.monotonic() + timeout_s
    while True:
        held = {w: await client.get(RESOURCE_BINDINGS, w.binding) for w in workloads}
        if clock.monotonic() >= until or not any(open_end(b) for b in held.values()):
            return held
        await clock.sleep(LOOK_S)


def open_end(binding: ResourceBinding) -> str:
    """What is still to be waited for; empty: nothing."""
    source, spec, status = binding.spec.resource, binding.spec, binding.status
    name = f"{source.kind.lower()}/{source.name}"
    asked, decided = spec.reschedule_triggered_at, status.last_scheduled_time
    scheduled = condition(status.conditions, "Scheduled")
    if asked is None or decided is None or decided < asked:
        refused = scheduled is not None and scheduled.status == "False"
        why = f": {scheduled.message}" if scheduled is not None and refused else ""
        return f"{name} is not decided yet{why}"
    left = sorted({t.from_cluster for t in spec.graceful_eviction_tasks})
    if left:
        return f"{name} still runs its old copies in {', '.join(left)}; the move goes on by itself"
    return ""


def rows(
    before: Mapping[Workload, ResourceBinding], after: Mapping[Workload, ResourceBinding]
) -> list[Row]:
    """Every cluster that had or has a part, by name."""
    found = []
    for one, then in before.items():
        old, new = _counts(then), _counts(after[one])
        found += [
            Row(str(one), name, old.get(name, 0), new.get(name, 0)) for name in sorted(old | new)
        ]
    return found


def _counts(binding: ResourceBinding) -> dict[str, int]:
    return {target.name: target.replicas for target in binding.spec.clusters}


def table(found: Iterable[Row]) -> list[str]:
    """Its lines."""
    cells = [("WORKLOAD", "CLUSTER", "BEFORE", "AFTER")]
    cells += [(r.workload, r.cluster, str(r.before), str(r.after)) for r in found]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
