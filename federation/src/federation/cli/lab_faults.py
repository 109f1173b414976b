"""`fedctl lab kill|revive|cut|heal|slow|freeze|thaw`: what breaks in the world, at will. Each may be repeated."""

import argparse
from typing import Any

from federation.cli.errors import CliError


def add(verbs: "argparse._SubParsersAction[Any]") -> None:  # noqa: SLF001
    """Declare them."""
    for name, text in (
        ("kill", "a power cut: every process and link of a zone's hosts, at once"),
        ("revive", "give a zone its power back"),
    ):
        _zone(verbs.add_parser(name, help=text))
    for name, text in (
        ("cut", "lose every packet between a zone and the others; links stay up"),
        ("heal", "end a cut (without --from: slowness too)"),
    ):
        parser = verbs.add_parser(name, help=text)
        _zone(parser)
        parser.add_argument(
            "--from",
            dest="other",
            default="",
            metavar="PLACE",
            help="only between the two: a zone or `federation`",
        )
        parser.add_argument(
            "--one-way", action="store_true", help="only what ZONE sends is lost, not what it gets"
        )
    slow = verbs.add_parser(
        "slow", help="latency and loss for all that enters and leaves a zone (0 and 0 end it)"
    )
    _zone(slow)
    slow.add_argument(
        "--latency", type=float, default=0.0, metavar="MS", help="in each direction, milliseconds"
    )
    slow.add_argument(
        "--loss", type=float, default=0.0, metavar="PERCENT", help="in each direction"
    )
    for name, text in (("freeze", "SIGSTOP one process"), ("thaw", "let it go on")):
        parser = verbs.add_parser(name, help=text)
        parser.add_argument("process", help="as in `fedctl lab status`, for example beta-control")


def _zone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("zone", metavar="ZONE", help="for example zone-a (or federation)")


def run(arguments: argparse.Namespace, directory: str) -> int:
    """Do one of them."""
    from federation.lab import channel, state
    from federation.lab.faults import FaultError
    from federation.lab.hosts import HostError

    if state.load(directory) is None:
        raise CliError("no lab here: `fedctl lab up` starts one")
    try:
        with state.lock(directory):
            print(_do(arguments, directory))
    except channel.NoSupervisor:
        raise CliError(
            "the lab's supervisor does not answer: `fedctl lab up` brings it back, and ends all faults"
        ) from None
    except (FaultError, HostError, state.StateError) as error:
        raise CliError(str(error)) from error
    return 0


def _do(arguments: argparse.Namespace, directory: str) -> str:
    from federation.lab import inject
    from federation.lab.faults import Slow
    from machinery.kit.clock import SystemClock

    clock = SystemClock()
    if arguments.verb in ("freeze", "thaw"):
        return inject.freeze(directory, arguments.process, clock, thaw=arguments.verb == "thaw")
    injector = inject.injector(directory, clock)
    match arguments.verb:
        case "kill":
            return injector.kill(arguments.zone)
        case "revive":
            return injector.revive(arguments.zone)
        case "cut":
            return injector.cut(arguments.zone, arguments.other, one_way=arguments.one_way)
        case "heal":
            return injector.heal(arguments.zone, arguments.other, one_way=arguments.one_way)
        case _:
            return injector.slow(arguments.zone, Slow(arguments.latency, arguments.loss))
