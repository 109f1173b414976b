"""Decide a journaled decision again, from the inputs that it was made of, and compare.

    fedctl replay web-deployment-3f9a0c1b2d -n demo
    fedctl replay 3f9a0c1b2d                             the end of its name will do

Exit codes: 0 the same comes out; 1 something else does, or it cannot be read; 2 wrong usage.
"""

import argparse
import json

from federation.cli import connection
from machinery.api.fleet.decision import DECISION_REPLAYS
from machinery.meta.resource import Document


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("id", metavar="ID", help="name of a Decision, or the end of it")
    parser.add_argument("-n", "--namespace", default="", help="default: look in all")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    connection.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print."""
    body = {
        "apiVersion": DECISION_REPLAYS.api_version,
        "kind": DECISION_REPLAYS.kind,
        "spec": {"namespace": arguments.namespace, "name": arguments.id},
    }
    answer = connection.call(arguments, lambda client: client.create(DECISION_REPLAYS, body))
    status = answer["status"]
    print(json.dumps(status, indent=2) if arguments.output == "json" else text(answer))
    return 0 if status["same"] else 1


def text(answer: Document) -> str:
    """The answer in a sentence."""
    spec, status = answer["spec"], answer["status"]
    name = f"{spec['namespace']}/{spec['name']}"
    said = f"{name}: {status.get('recorded') or 'no message'}"
    if status["same"]:
        return f"{said}\ndecided again: the same"
    versions = ""
    if status.get("recordedVersion") != status.get("version"):
        versions = f" (by version {status['version']}; {status.get('recordedVersion')} decided it)"
    return f"{said}\ndecided again{versions}: {status['difference']}"
