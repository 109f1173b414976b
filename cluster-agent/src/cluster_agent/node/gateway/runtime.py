"""What is said to a running HAProxy, and what its answers mean: pure functions around one line of text each way.

The commands follow from what runs and what is wanted, never from what changed: a node process that was away may ask
again at any time, and an answer that went wrong shows in the next comparison.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster_agent.node.gateway.allocation import Lines
from cluster_agent.node.gateway.model import Target
from cluster_agent.node.gateway.render import MAPS, Files, backend_of

COMMAND_MAX = 8_000
"""Bytes of one line; HAProxy takes 16,383."""
_FRONTEND, _SERVER = "1", "4"
_INGRESS = backend_of("")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of `show stat`."""

    proxy: str
    server: str
    status: str
    check: str
    """How the last check ended, such as `L7OK`; `INI` before the first."""
    sessions: int
    refused: int

    @property
    def checked(self) -> bool:
        return self.check not in ("", "INI", "UNK")

    @property
    def up(self) -> bool:
        return self.status.startswith("UP")


@dataclass(frozen=True, slots=True)
class Running:
    """What of a running process can be changed."""

    lines: Mapping[str, Mapping[str, Target | None]]
    """Server name of an ingress -> server line -> its endpoint, None for one that is off."""
    maps: Mapping[str, Mapping[str, str]]


# --------------------------------------------------------------------------------------------------------- questions
def stat_commands(backends: Iterable[str]) -> list[str]:
    """The states of the servers of these backends, and the counters of both frontends."""
    return [
        f"show stat ingress {_FRONTEND} -1",
        f"show stat egress {_FRONTEND} -1",
        *(f"show stat {name} {_SERVER} -1" for name in backends),
    ]


def batches(commands: Iterable[str]) -> list[str]:
    """Commands as lines, as many in each as may be."""
    lines: list[str] = []
    for command in commands:
        if lines and len(lines[-1]) + len(command) < COMMAND_MAX:
            lines[-1] += ";" + command
        else:
            lines.append(command)
    return lines


# ----------------------------------------------------------------------------------------------------------- answers
def parse_info(text: str) -> dict[str, str]:
    """`show info`: name -> value."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def parse_stat(text: str) -> list[Row]:
    """One or several answers of `show stat`; what is no table (an unknown proxy) is left out."""
    rows: list[Row] = []
    names: dict[str, int] = {}
    for fields in csv.reader(io.StringIO(text)):
        if fields and fields[0].startswith("# "):
            names = {name.removeprefix("# "): i for i, name in enumerate(fields)}
        elif names and len(fields) >= len(names) - 1:
            value = {name: fields[i] for name, i in names.items() if i < len(fields)}
            rows.append(_row(value))
    return rows


def _row(value: Mapping[str, str]) -> Row:
    return Row(
        value["pxname"],
        value["svname"],
        value["status"],
        value.get("check_status", "").removeprefix("* "),
        int(value.get("scur") or 0),
        int(value.get("dses") or 0),
    )


def parse_lines(text: str) -> dict[str, dict[str, Target | None]]:
    """`show servers state`: the server lines of every ingress."""
    found: dict[str, dict[str, Target | None]] = {}
    names: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if line.startswith("# "):
            names = words[1:]
            continue
        row = dict(zip(names, words, strict=False))
        backend = row.get("be_name", "")
        if not backend.startswith(_INGRESS):
            continue
        on = row["srv_op_state"] != "0"
        target = Target(row["srv_addr"], int(row["srv_port"])) if on else None
        found.setdefault(backend.removeprefix(_INGRESS), {})[row["srv_name"]] = target
    return found


def parse_map(text: str) -> dict[str, str]:
    """`show map NAME`: lines of a pointer, a key and a value."""
    words = (line.split() for line in text.splitlines())
    return {row[1]: row[2] for row in words if len(row) == 3}


def lines_of(running: Mapping[str, Mapping[str, Target | None]]) -> Lines:
    """As `allocation.place` keeps them, from what a process that was found runs."""
    return {
        name: tuple(lines[f"s{i}"] for i in range(1, len(lines) + 1))
        for name, lines in running.items()
    }


# ---------------------------------------------------------------------------------------------------------- commands
def changes(wanted: Files, running: Running) -> list[str]:
    """What makes a process of the same shape serve `wanted`; nothing when it does already. Pure."""
    found: list[str] = []
    for server_name, targets in sorted(wanted.lines.items()):
        lines = running.lines.get(server_name, {})
        for number, target in enumerate(targets, 1):
            found += _line_changes(server_name, f"s{number}", lines.get(f"s{number}"), target)
    # A listener's server name stands before its way out does, and goes after it.
    for name in reversed(MAPS):
        found += _puts(name, wanted.maps[name], running.maps.get(name, {}))
    for name in MAPS:
        found += _drops(name, wanted.maps[name], running.maps.get(name, {}))
    return found


def _line_changes(
    server_name: str, line: str, before: Target | None, target: Target | None
) -> list[str]:
    if before == target:
        return []
    server = f"{backend_of(server_name)}/{line}"
    if target is None:
        return [f"set server {server} state maint"]
    return [
        f"set server {server} addr {target.ip} port {target.port}",
        f"set server {server} state ready",
    ]


def _puts(name: str, wanted: Mapping[str, str], running: Mapping[str, str]) -> list[str]:
    found = []
    for key, value in sorted(wanted.items()):
        if key not in running:
            found.append(f"add map {name} {key} {value}")
        elif running[key] != value:
            found.append(f"set map {name} {key} {value}")
    return found


def _drops(name: str, wanted: Mapping[str, str], running: Mapping[str, str]) -> list[str]:
    return [f"del map {name} {key}" for key in sorted(running) if key not in wanted]
