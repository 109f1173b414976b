"""fedctl: one module per verb, imported when the verb is used (rich and aiohttp cost more than most verbs do).

A verb module has `add(parser)`, which declares its arguments, and `run(arguments) -> exit code`. An error that the user can
mend is a CliError: one clear text on standard error, exit code 1, no traceback.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from importlib import metadata

from federation.cli.errors import CliError
from federation.cli.parser import Parser

VERBS = {
    "lab": "a whole fleet on this machine: up, down, status, exec; faults, load and its report",
    "join": "mint a short-lived token with which a cluster joins the federation",
    "plan": "what applying manifests would do, cluster by cluster, before it is done",
    "why": "why a workload is where it is",
    "get": "the journal's decisions, also of one workload",
    "replay": "decide a journaled decision again and compare",
    "audit": "who deployed what, when: the audit logs of servers, read from their files",
    "cordon": "a cluster gets nothing new; what runs there stays",
    "drain": "a cluster's replicas start elsewhere, then leave it",
    "uncordon": "a cluster is used again; ends cordon and drain",
    "rebalance": "divide a workload anew over the fleet as it is now, surge first",
    "rollout": "a staged update: status, stop, resume, rollback",
    "approve": "what a staged update waits for",
    "leave": "a cluster leaves the federation, unless it holds the last copy of something",
    "backup": "the federation's whole state into one file",
    "restore": "a backup into an empty data directory",
    "divide": "how a planner would divide replicas over clusters; reads a question from standard input",
    "debug": "dump the state of a lab's processes, secrets removed",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The program `fedctl`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] in ("--version", "version"):
        print(f"fedctl {metadata.version('federation')}")
        return 0
    if words[0] not in VERBS:
        print(unknown("verb", words[0], VERBS), file=sys.stderr)
        return 2
    return _run(words[0], words[1:])


def _run(verb: str, words: Sequence[str]) -> int:
    module = importlib.import_module(f"federation.cli.{verb}")
    parser = Parser(prog=f"fedctl {verb}", description=module.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.add(parser)
    arguments = parser.parse_args(words)
    try:
        return int(module.run(arguments))
    except CliError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(
            f"error: {error.strerror}: {error.filename}: it belongs to another user (root?); "
            "run this as that user, or remove it first",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def usage() -> str:
    """What `fedctl --help` says."""
    lines = [
        "usage: fedctl VERB …",
        "",
        "What only a federation has; everything else is kubectl's.",
        "",
    ]
    lines += [f"  {name:9} {text}" for name, text in VERBS.items()]
    return "\n".join(
        [*lines, "", "`fedctl VERB --help` tells more; `fedctl --version` the version."]
    )


def unknown(what: str, given: str, known: Sequence[str] | dict[str, str]) -> str:
    """A mistyped word, with the nearest right one."""
    near = difflib.get_close_matches(given, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known)}"
    return f"fedctl: unknown {what} {given!r}; {hint}"
