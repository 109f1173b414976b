"""The decisions of the journal, the newest first; kubectl shows them too, this by workload.

    fedctl get decisions -A
    fedctl get decisions deploy/web -n demo

Exit codes: 0 told, also where there are none; 1 refused; 2 wrong usage.
"""

import argparse
import datetime as dt
import json
from collections.abc import Iterable, Sequence

from federation.cli import connection, words
from machinery.api.fleet.decision import DECISIONS, Decision
from machinery.client.interface import Client
from machinery.kit.clock import SystemClock
from machinery.meta.objectmeta import to_document

RESOURCES = ("decisions", "decision", "dec")
REASON_MAX = 100
OLDEST = dt.datetime.min.replace(tzinfo=dt.UTC)


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("resource", choices=RESOURCES, help="everything else is kubectl's")
    parser.add_argument("workload", nargs="?", metavar="KIND/NAME", help="of one workload only")
    parser.add_argument("-n", "--namespace", default="default", help="default: %(default)s")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    connection.add(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print."""
    only = words.placed(arguments.workload) if arguments.workload else None
    namespace = "" if arguments.all_namespaces else arguments.namespace
    found = connection.call(arguments, lambda client: listed(client, namespace, only))
    if arguments.output == "json":
        print(json.dumps([to_document(one) for one in found], indent=2, default=str))
        return 0
    if not found:
        where = f" in namespace {namespace}" if namespace else ""
        print(f"The journal holds no decisions{where}.")
        return 0
    print("\n".join(table(found, SystemClock().now(), spaces=not namespace)))
    return 0


async def listed(client: Client, namespace: str, only: tuple[str, str] | None) -> list[Decision]:
    """The newest first; of one workload, or of all in a namespace. What may be in none is looked for everywhere."""
    anywhere = only is not None and only[0] not in words.KINDS.values()
    found = (await client.list(DECISIONS, "" if anywhere else namespace)).items
    if anywhere:
        found = [d for d in found if not namespace or d.spec.workload.namespace in ("", namespace)]
    kept = [d for d in found if only in (None, (d.spec.workload.kind, d.spec.workload.name))]
    return sorted(kept, key=lambda d: d.spec.decided_at or OLDEST, reverse=True)


def table(found: Iterable[Decision], now: dt.datetime, *, spaces: bool) -> list[str]:
    """Aligned columns; the reason comes last and is cut."""
    rows: list[Sequence[str]] = [("NAMESPACE", "NAME", "WORKLOAD", "BY", "RESULT", "AGE", "REASON")]
    for one in found:
        spec = one.spec
        what = f"{spec.workload.kind.lower()}/{spec.workload.name}"
        text = spec.message
        reason = text if len(text) <= REASON_MAX else text[: REASON_MAX - 1] + "…"
        meta = one.metadata
        since = age(spec.decided_at, now)
        rows.append((meta.namespace, meta.name, what, spec.controller, spec.result, since, reason))
    rows = rows if spaces else [row[1:] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(f"{cell:{w}}" for cell, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]


def age(at: dt.datetime | None, now: dt.datetime) -> str:
    """`12s`, `5m`, `3h`, `2d`."""
    if at is None:
        return "?"
    seconds = max(0, int((now - at).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
