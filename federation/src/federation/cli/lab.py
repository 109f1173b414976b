"""A fleet on this machine: hosts are network namespaces, nodes run real containers, `.lab` holds all of it.

fedctl lab up       start it (repeat it freely)        fedctl lab status   what runs
fedctl lab down     remove every trace of it           fedctl lab exec     a command on one of its hosts

fedctl lab kill|revive ZONE      power            fedctl lab slow ZONE        latency and loss
fedctl lab cut|heal ZONE         its line         fedctl lab freeze|thaw      one process
fedctl lab load ADDRESS          requests, each recorded; `fedctl lab report` sums up and plots
"""

import argparse
import os
import sys
import time
from pathlib import Path

import msgspec

from federation.cli import lab_faults, lab_load
from federation.cli.errors import CliError


def add(parser: argparse.ArgumentParser) -> None:
    """Declare `up`, `down`, `status`, `exec`, and what the modules for faults and load declare."""
    parser.add_argument(
        "--dir", default="", help="the lab's directory (default: .lab of this checkout)"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="start the fleet")
    up.add_argument(
        "--clusters", default="alpha,beta,gamma", help="names, with commas (default: %(default)s)"
    )
    up.add_argument(
        "--nodes", type=int, default=1, help="nodes of each cluster (default: %(default)s)"
    )
    up.add_argument(
        "--runtime",
        choices=("containerd", "hollow"),
        help="default: containerd; without root: hollow",
    )
    up.add_argument(
        "--hollow-nodes", type=int, default=0, metavar="N", help="further nodes that only pretend"
    )
    up.add_argument(
        "--servers",
        type=int,
        default=1,
        metavar="N",
        help="federation servers; several need PostgreSQL",
    )
    up.add_argument(
        "--server-zones",
        default="",
        metavar="ZONES",
        help="the zone that each server dies with, with commas (default: servers are in no zone)",
    )
    up.add_argument(
        "--database-url",
        default=os.environ.get("FEDERATION_DATABASE_URL", ""),
        help="the federation's database: postgresql://… (default: $FEDERATION_DATABASE_URL, else SQLite)",
    )
    up.add_argument(
        "--bin-dir", default=os.path.dirname(sys.executable), help="where the programs are"
    )
    verbs.add_parser("down", help="stop the fleet, remove every trace but the logs")
    status = verbs.add_parser("status", help="hosts, processes, restarts")
    status.add_argument("-o", "--output", choices=("table", "json"), default="table")
    run = verbs.add_parser("exec", help="run a command on a host of the lab")
    run.add_argument("host", help="for example alpha-node-1 (see `fedctl lab status`)")
    run.add_argument(
        "command", nargs=argparse.REMAINDER, help="for example ctr -n k8s.io containers ls"
    )
    lab_faults.add(verbs)
    lab_load.add(verbs)


def run(arguments: argparse.Namespace) -> int:
    """Do one of them."""
    directory = lab_directory(arguments.dir, os.getcwd())
    match arguments.verb:
        case "up":
            return _up(arguments, directory)
        case "down":
            return _down(directory)
        case "status":
            return _status(directory, arguments.output)
        case "exec":
            return _exec(directory, arguments.host, arguments.command)
        case "load" | "report":
            return lab_load.run(arguments, directory)
        case _:
            return lab_faults.run(arguments, directory)


def lab_directory(given: str, here: str) -> str:
    """`.lab` of the checkout that `here` is in, unless another directory is given."""
    if given:
        return os.path.realpath(given)
    for place in (Path(here), *Path(here).parents):
        if (place / "federation" / "pyproject.toml").exists():
            return os.path.realpath(place / ".lab")
    raise CliError(f"{here} is in no checkout of ubernetes: change into one, or give --dir")


def _up(arguments: argparse.Namespace, directory: str) -> int:
    from federation.cli import lab_tables
    from federation.lab import fleet, preflight
    from federation.lab.hosts import HostError
    from federation.lab.plan import LabSpec, PlanError, Runtime
    from federation.lab.state import StateError
    from federation.lab.teardown import TeardownError

    rooted = os.geteuid() == 0
    runtime: Runtime = arguments.runtime or ("containerd" if rooted else "hollow")
    report = Lines()
    if not rooted:
        report(
            "not root: no real containers; nodes are hollow (they pretend), all on loopback addresses"
        )
    spec = LabSpec(
        directory=directory,
        clusters=_names(arguments.clusters),
        nodes=arguments.nodes,
        runtime=runtime,
        hollow_nodes=arguments.hollow_nodes,
        servers=arguments.servers,
        server_zones=_names(arguments.server_zones),
        database_url=arguments.database_url,
        rooted=rooted,
    )
    try:
        plan, rows = fleet.bring_up(spec, os.path.realpath(arguments.bin_dir), report)
    except (PlanError, StateError, HostError, TeardownError, fleet.UpError) as error:
        raise CliError(str(error)) from error
    report("the fleet is up")
    lab_tables.show_fleet(plan, rows, preflight.proxy_hint(plan, dict(os.environ)))
    return 0


def _names(given: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",") if name.strip())


def _down(directory: str) -> int:
    from federation.lab import state, teardown

    known = state.load(directory)
    if known is None and not os.path.isdir(directory):
        print("no lab here: nothing to do")
        return 0
    rooted = os.geteuid() == 0
    if known is not None and known.spec.rooted and not rooted:
        raise CliError("this lab was started by root: run `fedctl lab down` as root")
    try:
        with state.lock(directory):
            teardown.take_down(directory, Lines(), rooted=rooted)
    except (state.StateError, teardown.TeardownError) as error:
        raise CliError(str(error)) from error
    print(f"the lab is gone; its logs are in {directory}/log")
    return 0


def _status(directory: str, output: str) -> int:
    from federation.cli import lab_tables
    from federation.lab import channel, faults, fleet, state

    known = state.load(directory)
    if known is None:
        raise CliError("no lab here: `fedctl lab up` starts one")
    try:
        found = fleet.statuses(directory)
    except channel.NoSupervisor:
        raise CliError(
            "the lab's supervisor does not answer (killed, or the machine was rebooted): `fedctl lab up` brings it back"
        ) from None
    if output == "json":
        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
    else:
        lab_tables.show_processes(known.plan(), found)
        for line in faults.describe(faults.load(directory)):
            print(f"Fault: {line}")
    return 0


def _exec(directory: str, host: str, command: list[str]) -> int:
    from federation.cli import unknown
    from federation.lab import faults, network, state

    known = state.load(directory)
    if known is None or not known.spec.rooted:
        raise CliError("no lab with hosts here: `fedctl lab up`, as root, starts one")
    plan = known.plan()
    names = [found.name for found in plan.hosts]
    if host not in names:
        raise CliError(unknown("host", host, names))
    words = tuple(command[1:] if command[:1] == ["--"] else command) or ("/bin/sh",)
    off = [h.name for p in faults.load(directory).off for h in faults.places(plan)[p]]
    if host in off:
        raise CliError(f"{host} has no power: `fedctl lab revive` gives it back")
    argv = network.enter(plan, f"{directory}/ns", host, words)
    os.execv(argv[0], argv)


class Lines:
    """Progress: one line a step, with the seconds since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:5.1f} s] {text}", flush=True)
