"""Why a workload is where it is: filters, room, weights and ties of its last decision, from the journal.

    fedctl why deploy/web -n demo
    fedctl why deploy/web -n demo -c gamma      of one cluster only
    fedctl why clusterrole/reader               of what is in no namespace; of a custom kind: Ring/one

Exit codes: 0 told; 1 there is no such object, or you may not read it; 2 wrong usage.
"""

import argparse
import json
from collections.abc import Iterator

from federation.cli import connection, words
from machinery.api.fleet.decision import PLACEMENT_EXPLANATIONS
from machinery.meta.resource import Document


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("workload", metavar="KIND/NAME", help="as in deploy/web")
    parser.add_argument("-n", "--namespace", default="default", help="default: %(default)s")
    parser.add_argument("-c", "--cluster", default="", help="of this cluster only")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    connection.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print."""
    kind, name = words.placed(arguments.workload)
    spec: Document = {
        "workload": {"kind": kind, "namespace": arguments.namespace, "name": name},
    }
    if arguments.cluster:
        spec["cluster"] = arguments.cluster
    body = {
        "apiVersion": PLACEMENT_EXPLANATIONS.api_version,
        "kind": PLACEMENT_EXPLANATIONS.kind,
        "spec": spec,
    }
    answer = connection.call(arguments, lambda client: client.create(PLACEMENT_EXPLANATIONS, body))
    status = answer["status"]
    if arguments.output == "json":
        print(json.dumps(status, indent=2))
    else:
        print("\n".join(text(status, what(answer["spec"]["workload"]))))
    return 0


def what(workload: Document) -> str:
    """`Deployment demo/web`, or `ClusterRole reader` of what is in no namespace, which the federation knows."""
    home = workload.get("namespace")
    return (
        f"{workload['kind']} {home}/{workload['name']}"
        if home
        else f"{workload['kind']} {workload['name']}"
    )


def text(status: Document, name: str) -> Iterator[str]:
    """The explanation in lines."""
    if status.get("decision"):
        stands = "stands" if status.get("standing") else "does not stand any more"
        yield f"{name}: {status['result']}: {status['message']}"
        yield f"  decision {status['decision']} of {status.get('decidedAt', '?')}, which {stands}"
    else:
        yield f"{name}: {status['message']}"
    if status.get("replays") not in (None, "same"):
        yield f"  decided again it comes out otherwise: {status['replays']}"
    for sentence in status.get("sentences", ()):
        if sentence != status["message"]:
            yield f"  {sentence}"
    for one in status.get("clusters", ()):
        group = f" ({one['group']})" if one.get("group") else ""
        yield ""
        yield f"{one['name']}{group}: {one.get('replicas', 0)} replicas"
        for sentence in one.get("sentences", ()):
            yield f"  {sentence}"
    history = status.get("history", [])[1:]
    if history:
        yield ""
        yield "before:"
    for one in history:
        yield f"  {one.get('decidedAt', '')}  {one['controller']}  {one['result']}: {one['message']}"
