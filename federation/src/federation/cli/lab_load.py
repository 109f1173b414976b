"""`fedctl lab load` and `fedctl lab report`: requests from inside zones, each recorded; what the record says.

Ctrl-C (or SIGTERM) ends a load before its time and loses nothing of the record: its marks are written and summed up as ever.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from federation.cli.errors import CliError
from federation.lab.plan import HostPlan, LabPlan

_END_S = 5.0


def add(verbs: "argparse._SubParsersAction[Any]") -> None:  # noqa: SLF001
    """Declare them."""
    from federation.lab import programs

    load = verbs.add_parser("load", help="new connections a second from a zone, each recorded")
    load.add_argument("target", metavar="ADDRESS[:PORT][/path]")
    load.add_argument(
        "--from",
        dest="sources",
        required=True,
        metavar="ZONE[,ZONE]",
        help="zones or hosts; of a zone its first node is taken",
    )
    load.add_argument(
        "--rate", type=float, default=20.0, help="a second, from each (default: %(default)s)"
    )
    load.add_argument("--seconds", type=float, default=60.0, help="default: %(default)s")
    load.add_argument(
        "--dns",
        default=programs.DNS_ADDRESS,
        metavar="SERVER",
        help="asked for each request if ADDRESS is a name (default: the node's, %(default)s)",
    )
    load.add_argument("--out", required=True, metavar="FILE", help="JSON lines; overwritten")
    report = verbs.add_parser("report", help="sum a record up, draw it")
    report.add_argument("file", metavar="FILE")
    report.add_argument("--svg", default="", metavar="FILE", help="write a picture too")
    report.add_argument("--title", default="Requests by answering zone")


def run(arguments: argparse.Namespace, directory: str) -> int:
    """Do one of them."""
    return _load(arguments, directory) if arguments.verb == "load" else _report(arguments)


def _load(arguments: argparse.Namespace, directory: str) -> int:
    from federation.lab import faults, report
    from machinery.kit.clock import SystemClock

    clock = SystemClock()
    plan = _check(arguments, directory)
    sources = {word: _host(plan, word) for word in arguments.sources.split(",")}
    off = {host.name for p in faults.load(directory).off for host in faults.places(plan)[p]}
    if dark := [word for word, host in sources.items() if host.name in off]:
        raise CliError(f"{dark[0]} has no power: `fedctl lab revive` gives it back")
    begun = clock.now().timestamp()
    with open(arguments.out, "wb"):
        pass  # a name that cannot be written is told before the load starts
    children: dict[str, subprocess.Popen[bytes]] = {}
    handler = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for word, host in sorted(sources.items()):
            children[word] = _child(plan, word, host, arguments)
        early = _wait(children, arguments.seconds)
    finally:
        signal.signal(signal.SIGTERM, handler)
        for child in children.values():
            child.kill()
            child.wait()
    marks = faults.history(directory, begun, clock.now().timestamp())
    with open(arguments.out, "ab") as file:
        file.writelines(msgspec.json.encode(mark) + b"\n" for mark in marks)
    print("\n".join(report.figures(report.summarise(_read(arguments.out)))))
    for word, child in children.items():
        if child.returncode and not early:
            print(f"  the load from {word} ended before its time")
    return 0


def _check(arguments: argparse.Namespace, directory: str) -> LabPlan:
    from federation.lab import requests, state

    known = state.load(directory)
    if known is None or not known.spec.rooted:
        raise CliError("no lab with hosts here: `fedctl lab up`, as root, starts one")
    try:
        requests.parse_target(arguments.target)
    except ValueError as error:
        raise CliError(str(error)) from error
    if not 0 < arguments.rate <= 1000 or not 0 < arguments.seconds <= 86400:
        raise CliError("--rate: up to 1000 a second; --seconds: up to 86400")
    return known.plan()


def _host(plan: LabPlan, word: str) -> HostPlan:
    """A host by its name; of a place its first node, where it has one."""
    from federation.lab import faults

    named = [host for host in plan.hosts if host.name == word]
    if named:
        return named[0]
    try:
        found = faults.places(plan)[faults.place_of(plan, word)]
    except faults.FaultError as error:
        raise CliError(str(error)) from error
    return next((host for host in found if host.role == "node"), found[0])


def _child(
    plan: LabPlan, source: str, host: HostPlan, arguments: argparse.Namespace
) -> "subprocess.Popen[bytes]":
    from federation.lab import network
    from federation.lab.process import LAB_MARK, NAME_MARK

    command = (
        *(sys.executable, "-m", "federation.lab.load", arguments.target, "--source", source),
        *("--rate", str(arguments.rate), "--seconds", str(arguments.seconds)),
        *("--dns", arguments.dns),
    )
    directory = plan.spec.directory
    with open(arguments.out, "ab") as output:
        return subprocess.Popen(
            network.enter(plan, f"{directory}/ns", host.name, command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            env=os.environ | {LAB_MARK: directory, NAME_MARK: "load"},
            start_new_session=True,  # a Ctrl-C is ours to hear
        )


def _wait(children: "dict[str, subprocess.Popen[bytes]]", seconds: float) -> bool:
    """Whether the user ended it. A generator whose host is killed ends at once; none may outlast its time for long."""
    deadline = time.monotonic() + seconds + _END_S * 2
    try:
        for child in children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
    except KeyboardInterrupt:
        return True
    return False


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM is heard as Ctrl-C is."""
    raise KeyboardInterrupt


def _report(arguments: argparse.Namespace) -> int:
    from federation.lab import picture, report

    recording = _read(arguments.file)
    print(report.text(recording))
    if arguments.svg:
        Path(arguments.svg).write_text(picture.svg(recording, arguments.title))
        print(f"picture: {arguments.svg}")
    return 0


def _read(path: str) -> Any:
    from federation.lab import report

    try:
        return report.parse(Path(path).read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise CliError(f"{path}: {error}") from error
