"""Who deployed what, when: the audit logs of servers, read from their files; no server has to run.

    fedctl audit deploy/web -n demo              who changed the deployment, in this lab
    fedctl audit --user alice --since 2h         what alice changed
    fedctl audit --failed -f                     refused requests, as they come
    fedctl audit -c all --verb create --resource pods/exec
    fedctl audit --data-dir /var/lib/federation -o json

Without --data-dir and --file it reads the log of the lab's federation; -c adds members. What is recorded is the policy's to
say (`audit.policyFile`); --print-policy prints the built-in one.

Exit codes: 0 told, also where there is nothing; 1 there is no log, or it may not be read; 2 wrong usage.
"""

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from federation.cli import audit_events
from federation.cli.audit_events import Damage, Log, Recorded, Tail, Wanted
from federation.cli.errors import CliError
from machinery.kit.clock import SystemClock
from machinery.server.audit.files import audit_file

LIMIT = 10_000
"""Events of a table: it is held in memory to be aligned."""
RECENT = 1_000
"""Events that may be written between the look at a log's end and the reading of the log."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("object", nargs="?", metavar="KIND/NAME", help="as in deploy/web")
    parser.add_argument(
        "--user", action="append", default=[], help="name of a user, with * for any text"
    )
    parser.add_argument("--verb", action="append", default=[], help="create, patch, … with commas")
    parser.add_argument("--resource", default="", help="as in deployments, deploy or pods/exec")
    parser.add_argument("-n", "--namespace", default="", help="default: all")
    parser.add_argument("--name", default="", help="of the object")
    parser.add_argument("--since", default="", help="90m, 2h, 3d ago, or a time (UTC)")
    parser.add_argument("--until", default="", help="the same")
    parser.add_argument("--failed", action="store_true", help="only what was refused or failed")
    parser.add_argument(
        "--limit", type=int, default=LIMIT, metavar="N",
        help="the table shows the newest N events; 0: all (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("-f", "--follow", action="store_true", help="and what comes")
    parser.add_argument(
        "--dir", default="", help="the lab's directory (default: .lab of this checkout)"
    )
    parser.add_argument(
        "-c", "--cluster", action="append", default=[], metavar="NAME",
        help="of the lab: this member's log, too; all for all of them",
    )  # fmt: skip
    parser.add_argument("--data-dir", action="append", default=[], help="dataDir of a server")
    parser.add_argument("--file", action="append", default=[], help="an audit log")
    parser.add_argument(
        "--print-policy", action="store_true", help="print the built-in policy, and end"
    )


def run(arguments: argparse.Namespace) -> int:
    """Read, print."""
    if arguments.print_policy:
        return _print_policy()
    if arguments.limit < 0:
        raise CliError("--limit: a number of events, or 0 for all")
    wanted = asked(arguments)
    logs = places(arguments)
    try:
        _tell(arguments, logs, wanted)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _tell(arguments: argparse.Namespace, logs: Sequence[Log], wanted: Wanted) -> None:
    damage = Damage()
    tails = [tail(log) for log in logs] if arguments.follow else []
    several, as_json = len(logs) > 1, arguments.output == "json"
    recent: deque[bytes] = deque(maxlen=RECENT)
    found = noted(audit_events.read(logs, wanted, damage), recent)
    if as_json:
        sys.stdout.buffer.writelines(one.line for one in found)
        sys.stdout.buffer.flush()
    else:
        rows, older = newest(found, arguments.limit)
        if rows or arguments.follow:
            print("\n".join(table(audit_events.requests(rows), several=several)), flush=True)
        else:
            print("Nothing of that kind is recorded.")
        if older:
            print(f"{older} older events are not shown; --limit 0 shows all", file=sys.stderr)
    if damage.lines:
        where = ", ".join(sorted(damage.where))
        print(f"{damage.lines} lines are no events and were left out: {where}", file=sys.stderr)
    if arguments.follow:
        _follow(tails, wanted, frozenset(recent), as_json=as_json, several=several)


def noted(found: Iterable[Recorded], recent: deque[bytes]) -> Iterator[Recorded]:
    """The same; the lines of the last ones are in `recent` afterwards."""
    for one in found:
        recent.append(one.line)
        yield one


def newest(found: Iterable[Recorded], limit: int) -> tuple[list[Recorded], int]:
    """The last `limit` of them (0: all), and how many came before."""
    kept: deque[Recorded] = deque(maxlen=limit or None)
    number = 0
    for one in found:
        kept.append(one)
        number += 1
    return list(kept), number - len(kept)


def _print_policy() -> int:
    import yaml

    from machinery.server.audit import default

    print(yaml.safe_dump(default.document(), sort_keys=False), end="")
    return 0


def _follow(
    tails: Sequence[Tail], wanted: Wanted, shown: frozenset[bytes], *, as_json: bool, several: bool
) -> None:
    """What comes; the ends were marked before the files were read, so some of it has been shown."""
    try:
        for one in audit_events.follow(tails, wanted, Damage(), time.sleep):
            if one.line in shown:
                continue
            if as_json:
                sys.stdout.buffer.write(one.line)
                sys.stdout.buffer.flush()
            elif one.event.get("stage") != "RequestReceived":
                print("  ".join(cells(one, several=several)), flush=True)
    except KeyboardInterrupt:
        return
    finally:
        for each in tails:
            each.close()


def tail(log: Log) -> Tail:
    """Its end, to be followed. Raises CliError."""
    audit_events.existing(log)
    try:
        return Tail(log)
    except FileNotFoundError as error:
        raise CliError(f"{log.path}: was put aside in this moment: try again") from error


# ------------------------------------------------------------------------------------------------------------ asking
def asked(arguments: argparse.Namespace) -> Wanted:
    """The filters. Raises CliError."""
    if arguments.object and (arguments.resource or arguments.name):
        raise CliError("KIND/NAME says resource and name already: leave --resource and --name out")
    word, name = arguments.resource, arguments.name
    if arguments.object:
        word, slash, name = arguments.object.partition("/")
        if not slash or not name or not word:
            raise CliError(f"{arguments.object!r} names no object: say KIND/NAME, as in deploy/web")
    now = SystemClock().now()
    plain, _, subresource = word.partition("/")
    verbs = {verb for given in arguments.verb for verb in given.split(",") if verb}
    return Wanted(
        users=tuple(arguments.user),
        verbs=frozenset(verbs),
        resource=plural(plain) if plain else "",
        subresource=subresource,
        namespace=arguments.namespace,
        name=name,
        since=audit_events.moment(arguments.since, now) if arguments.since else "",
        until=audit_events.moment(arguments.until, now) if arguments.until else "",
        failed=arguments.failed,
    )


def plural(word: str) -> str:
    """The resource that kubectl calls so; of a custom kind its plural as it is given."""
    from machinery.api.fleet.kinds import FLEET
    from machinery.api.kinds import BUILTIN

    plain = word.lower().partition(".")[0]
    for kind in (*BUILTIN, *FLEET):
        if plain in (kind.plural, kind.singular, kind.kind.lower(), *kind.short_names):
            return kind.plural
    return plain


def places(arguments: argparse.Namespace) -> list[Log]:
    """The logs that are meant. Raises CliError."""
    given = [Log(path, audit_file(path)) for path in arguments.data_dir]
    given += [Log(path, path) for path in arguments.file]
    if given:
        if arguments.cluster or arguments.dir:
            raise CliError("-c and --dir are a lab's; --data-dir and --file any server's: not both")
        return given
    return _of_lab(arguments.dir, arguments.cluster)


def _of_lab(given: str, clusters: Sequence[str]) -> list[Log]:
    from federation.cli.lab import lab_directory
    from federation.lab import state
    from federation.lab.programs import data_dir

    directory = lab_directory(given, os.getcwd())
    known = state.load(directory)
    if known is None:
        raise CliError(
            f"no lab in {directory}: `fedctl lab up` starts one; for another server give --data-dir or --file"
        )
    plan = known.plan()
    names = [cluster.name for cluster in plan.clusters]
    if unknown := sorted(set(clusters) - {*names, "all"}):
        raise CliError(f"there is no cluster {unknown[0]!r}; there is {', '.join(names)}")
    logs = [Log("federation", audit_file(data_dir(plan, plan.federation[0].name)))]
    logs += [
        Log(cluster.name, audit_file(data_dir(plan, cluster.control.name)))
        for cluster in plan.clusters
        if cluster.name in clusters or "all" in clusters
    ]
    return logs


# ------------------------------------------------------------------------------------------------------------ printing
def cells(one: Recorded, *, several: bool) -> tuple[str, ...]:
    """A row; of several servers it says whose."""
    row = audit_events.row(one.event)
    return (one.server, *row) if several else row


def table(found: Iterable[Recorded], *, several: bool) -> list[str]:
    """Aligned columns; the result comes last and is not cut."""
    heading = ("SERVER", *audit_events.HEADINGS) if several else audit_events.HEADINGS
    rows = [heading, *(cells(one, several=several) for one in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heading) - 1)]
    return [
        "  ".join([*(f"{cell:{w}}" for cell, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
