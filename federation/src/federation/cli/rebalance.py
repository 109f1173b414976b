"""Rebalance workloads: the planner divides them anew over the fleet as it is now, as if nothing ran.

    fedctl rebalance deploy/web -n demo
    fedctl rebalance Ring/one                   of a custom kind, named as its definition writes it

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
from machinery.api.fleet.work import CLUSTER_RESOURCE_BINDINGS, ResourceBinding, binding_resource
from machinery.client.dynamic_kinds import DEFINITIONS, served_resources
from machinery.client.interface import Client
from machinery.kit.clock import Clock, SystemClock
from machinery.meta.errors import NotFound
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey, Resource

LOOK_S = 0.5
TTL_S = 300
KINDS: Mapping[str, tuple[str, str]] = {
    "deployment": ("apps/v1", "Deployment"),
    "deploy": ("apps/v1", "Deployment"),
    "statefulset": ("apps/v1", "StatefulSet"),
    "sts": ("apps/v1", "StatefulSet"),
    "job": ("batch/v1", "Job"),
    "replicationcontroller": ("v1", "ReplicationController"),
    "rc": ("v1", "ReplicationController"),
}
"""What kubectl calls the kinds that have replicas to divide. Custom kinds have them where an interpreter says so."""
NO_BINDING = "there is no {}, or no policy places it (kubectl get {})"


@dataclass(frozen=True, slots=True)
class Workload:
    """`deploy/web` of a namespace; the namespace of an object of a cluster is empty."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def binding(self) -> ObjectKey:
        return ObjectKey(self.namespace, f"{self.name}-{self.kind.lower()}")

    @property
    def wire(self) -> Document:
        home = {"namespace": self.namespace} if self.namespace else {}
        return {"apiVersion": self.api_version, "kind": self.kind, **home, "name": self.name}

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
    before = connection.call(
        arguments, lambda client: begin(client, arguments.workloads, arguments.namespace)
    )
    if arguments.no_wait:
        print("A new division is asked for.")
        return 0
    clock = SystemClock()
    after = connection.call(
        arguments, lambda client: settled(client, before, clock, arguments.timeout)
    )
    for line in table(rows(before, after)):
        print(line)
    late = [text for binding in after.values() if (text := open_end(binding))]
    if late:
        raise CliError(f"after {arguments.timeout:g} s {'; '.join(late)}")
    return 0


def workload(text: str, namespace: str, custom: Iterable[Resource[Document]] = ()) -> Workload:
    """`deploy/web`, or `Ring/one` of one of the `custom` kinds. Raises CliError."""
    kind, _, name = text.partition("/")
    singular = kind.lower().partition(".")[0]
    known = KINDS.get(singular) or KINDS.get(singular.removesuffix("s"))
    if name and known is not None:
        return Workload(*known, namespace, name)
    for one in custom:
        if name and one.kind == kind:
            return Workload(one.api_version, kind, namespace if one.namespaced else "", name)
    kinds = ", ".join(KINDS)
    raise CliError(
        f"{text!r} is no workload: give KIND/NAME, where KIND is one of {kinds}, or a custom kind as"
        " its definition writes it"
    )


async def _custom(client: Client) -> list[Resource[Document]]:
    """The kinds that definitions serve, each in its preferred version."""
    definitions = (await client.list(DEFINITIONS)).items
    return [kind for definition in definitions for kind in served_resources(definition)[:1]]


async def begin(
    client: Client, texts: Sequence[str], namespace: str
) -> dict[Workload, ResourceBinding]:
    """Ask for the division; the bindings as they were. Raises CliError, StatusError, ConnectionError."""
    custom = await _custom(client) if any(text[:1].isupper() for text in texts) else []
    before = {}
    for one in [workload(text, namespace, custom) for text in texts]:
        try:
            before[one] = await _binding(client, one)
        except NotFound as error:
            where = (
                f"resourcebindings -n {one.namespace}"
                if one.namespace
                else CLUSTER_RESOURCE_BINDINGS.plural
            )
            raise CliError(NO_BINDING.format(one, where)) from error
    request = {
        "apiVersion": WORKLOAD_REBALANCERS.api_version,
        "kind": WORKLOAD_REBALANCERS.kind,
        "metadata": {"generateName": "fedctl-"},
        "spec": {"workloads": [w.wire for w in before], "ttlSecondsAfterFinished": TTL_S},
    }
    made = await client.create(WORKLOAD_REBALANCERS, request)
    print(f"WorkloadRebalancer {made.metadata.name} asks for a new division.")
    return before


async def settled(
    client: Client, workloads: Iterable[Workload], clock: Clock, timeout_s: float
) -> dict[Workload, ResourceBinding]:
    """Wait until all is decided and moved; the bindings as they are then, or when the time is over."""
    until = clock.monotonic() + timeout_s
    while True:
        held = {w: await _binding(client, w) for w in workloads}
        if clock.monotonic() >= until or not any(open_end(b) for b in held.values()):
            return held
        await clock.sleep(LOOK_S)


async def _binding(client: Client, one: Workload) -> ResourceBinding:
    binding: ResourceBinding = await client.get(binding_resource(one.binding), one.binding)
    return binding


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
