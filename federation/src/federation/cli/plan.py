"""What applying manifests would do, cluster by cluster; nothing is written.

    fedctl plan -f web.yaml                 replicas before and after, and what each cluster gets otherwise
    fedctl plan -f policy.yaml -o json      policies too: every workload that they would move
    kustomize build . | fedctl plan -f -

The federation applies them to a copy of itself and lets its controllers run there. You need the rights to apply them.

Exit codes: 0 the plan stands; 1 something cannot be applied, or would find no place; 2 wrong usage; with --exit-code also
3, where something would change.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from federation.cli import connection
from federation.cli.errors import CliError
from machinery.api.fleet.decision import PLACEMENT_PLANS
from machinery.meta.resource import Document

SUFFIXES = (".yaml", ".yml", ".json")
CHANGES = 3
PLACED = ("", "Scheduled")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "-f", "--filename", action="append", required=True, metavar="FILE",
        help="a file, a folder of them, or - for standard input; more than one may be given",
    )  # fmt: skip
    parser.add_argument(
        "-n", "--namespace", default="default",
        help="of manifests that name none (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="why, also where nothing changes"
    )
    parser.add_argument(
        "--exit-code", action="store_true", help="end with 3 where something would change"
    )
    connection.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read, ask, print."""
    objects = [one for name in arguments.filename for one in manifests(name)]
    if not objects:
        raise CliError(f"{', '.join(arguments.filename)}: there is no manifest in it")
    for one in objects:
        _ = one.setdefault("metadata", {}).setdefault("namespace", arguments.namespace)
    body = {
        "apiVersion": PLACEMENT_PLANS.api_version,
        "kind": PLACEMENT_PLANS.kind,
        "spec": {"objects": objects},
    }
    answer = connection.call(arguments, lambda client: client.create(PLACEMENT_PLANS, body))
    status = answer["status"]
    if arguments.output == "json":
        print(json.dumps(status, indent=2))
    else:
        print("\n".join(text(status, verbose=arguments.verbose)))
    for warning in status.get("warnings", ()):
        print(f"warning: {warning}", file=sys.stderr)
    return verdict(status, exit_code=arguments.exit_code)


def verdict(status: Document, *, exit_code: bool) -> int:
    """How the verb ends."""
    if any(one.get("result", "") not in PLACED for one in status["objects"]):
        return 1
    return CHANGES if exit_code and status.get("changed") else 0


def manifests(name: str) -> Iterator[Document]:
    """The objects of a file, of a folder's files, or of standard input; lists are taken apart. Raises CliError."""
    if name == "-":
        yield from parsed("standard input", sys.stdin.buffer.read())
        return
    path = Path(name)
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix in SUFFIXES)
    for file in files:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise CliError(f"{file}: {error.strerror}") from error
        yield from parsed(str(file), data)


def parsed(name: str, data: bytes) -> Iterator[Document]:
    """The objects of a text in YAML or JSON. Raises CliError."""
    try:
        documents: list[Any] = list(yaml.safe_load_all(data))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CliError(f"{name} is no YAML: {error}") from error
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict) or "kind" not in document:
            raise CliError(f"{name}: a manifest is an object with apiVersion, kind and metadata")
        if document["kind"].endswith("List") and isinstance(document.get("items"), list):
            yield from document["items"]
        else:
            yield document


# ----------------------------------------------------------------------------------------------------------- printing
def text(status: Document, *, verbose: bool) -> list[str]:
    """The answer, object by object."""
    lines: list[str] = []
    for one in status["objects"]:
        lines += [*described(one, verbose=verbose), ""]
    said = "Nothing would change." if not status.get("changed") else "Nothing was written."
    return [*lines, said]


def described(one: Document, *, verbose: bool) -> list[str]:
    """One object: what becomes of itself, its decision, its clusters."""
    what = one["object"]
    name = f"{what['namespace']}/{what['name']}" if what.get("namespace") else what["name"]
    lines = [f"{what['kind']} {name}: {HEADS[one['change']]}{claimed(one)}"]
    if message := one.get("message"):
        result = one.get("result", "")
        lines.append(f"  {result}: {message}" if result else f"  {message}")
    lines += [f"  {w['reason']}: {w['message']}" for w in one.get("warnings", ())]
    clusters = [c for c in one.get("clusters", ()) if verbose or moved(c)]
    if clusters:
        width = max(len("CLUSTER"), *(len(c["name"]) for c in clusters))
        lines.append(f"  {'CLUSTER':{width}}  BEFORE  AFTER   KEPT  WORK")
        lines += [line for c in clusters for line in row(c, width, verbose=verbose)]
    if verbose or one.get("result", "") not in PLACED:
        lines += [
            f"  {', '.join(group['clusters'])}: {group['reason']}"
            for group in one.get("leftOut", ())
        ]
    return lines


HEADS = {
    "Create": "is new",
    "Update": "is changed",
    "Unchanged": "stays as it is",
    "Delete": "goes",
}


def claimed(one: Document) -> str:
    """Who places it."""
    return f", placed by {one['policy']}" if one.get("policy") else ""


def moved(cluster: Document) -> bool:
    """Whether anything of the cluster changes."""
    return bool(cluster["before"] != cluster["after"] or cluster["work"] != "Unchanged")


def row(cluster: Document, width: int, *, verbose: bool) -> Iterator[str]:
    """One cluster, and below it what it gets otherwise and why."""
    kept = cluster.get("kept") or "-"
    yield (
        f"  {cluster['name']:{width}}  {cluster['before']:>6}  {cluster['after']:>5}  {kept:>5}  "
        f"{cluster['work']}"
    )
    if cluster.get("why") and (verbose or cluster["before"] != cluster["after"]):
        yield f"      why: {cluster['why']}"
    for one in cluster.get("differences", ()):
        yield f"      {one['path']}: {one.get('before', '(absent)')} -> {one.get('after', '(absent)')}"
    if cluster.get("more"):
        yield f"      and {cluster['more']} more paths"
