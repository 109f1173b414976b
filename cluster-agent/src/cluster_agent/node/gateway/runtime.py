"""What is said to a running HAProxy, and what its answers mean: pure functions around one line of text each way.

The commands follow from what runs and what is wanted, never from what changed: a node process that was away may ask
again at any time, and an answer that went wrong shows in the next comparison.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster_agent.node.gateway.allocation import Berth, Berths
from cluster_agent.node.gateway.model import Target
from cluster_agent.node.gateway.render import (
    BERTH,
    CLIENTS_MAP,
    EGRESS_MAP,
    INGRESS_MAP,
    MAPS,
    NAMES_MAP,
    Files,
    berth_name,
)

COMMAND_MAX = 8_000
"""Bytes of one line; HAProxy takes 16,383."""
_FRONTEND, _SERVER = "1", "4"


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
    """Backend of a berth -> server line -> its endpoint, None for one that is off."""
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
    """`show servers state`: the server lines of every berth."""
    found: dict[str, dict[str, Target | None]] = {}
    names: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if line.startswith("# "):
            names = words[1:]
            continue
        row = dict(zip(names, words, strict=False))
        backend = row.get("be_name", "")
        if not backend.startswith(BERTH):
            continue
        on = row["srv_op_state"] != "0"
        target = Target(row["srv_addr"], int(row["srv_port"])) if on else None
        found.setdefault(backend, {})[row["srv_name"]] = target
    return found


def parse_map(text: str) -> dict[str, str]:
    """`show map NAME`: lines of a pointer, a key and a value."""
    words = (line.split() for line in text.splitlines())
    return {row[1]: row[2] for row in words if len(row) == 3}


def berths_of(running: Running) -> Berths:
    """As `allocation.place` keeps them, from a process that was found. Raises KeyError for one that is not ours."""
    names = {backend: name for name, backend in running.maps[INGRESS_MAP].items()}
    backends = [berth_name(number) for number in range(len(running.lines))]
    return tuple(
        Berth(names.get(backend, ""), tuple(lines[f"s{i}"] for i in range(1, len(lines) + 1)))
        for backend, lines in ((name, running.lines[name]) for name in backends)
    )


# ---------------------------------------------------------------------------------------------------------- commands
def changes(wanted: Files, running: Running) -> list[str]:
    """What makes a process of the same shape serve `wanted`; nothing when it does already. Pure.

    Ways in are closed before what is behind them changes, and opened after. An export that goes takes its connections along.
    """
    drops = {name: _drops(name, wanted.maps[name], running.maps.get(name, {})) for name in MAPS}
    puts = {name: _puts(name, wanted.maps[name], running.maps.get(name, {})) for name in MAPS}
    served = {backend: name for name, backend in running.maps.get(INGRESS_MAP, {}).items()}
    found = [*drops[EGRESS_MAP], *drops[CLIENTS_MAP], *drops[INGRESS_MAP]]
    for number, berth in enumerate(wanted.berths):
        backend = berth_name(number)
        lines = running.lines.get(backend, {})
        cut = served.get(backend, berth.name) != berth.name
        for i, target in enumerate(berth.lines, 1):
            found += _line_changes(f"{backend}/s{i}", lines.get(f"s{i}"), target, cut)
    found += [*puts[INGRESS_MAP], *puts[CLIENTS_MAP]]
    return [*found, *puts[NAMES_MAP], *puts[EGRESS_MAP], *drops[NAMES_MAP]]


def cuts(wanted: Files, running: Running) -> list[str]:
    """What ends the exports that go, in a process that is about to be replaced and would serve them to the end. Pure."""
    gone = {
        name: backend
        for name, backend in sorted(running.maps.get(INGRESS_MAP, {}).items())
        if name not in wanted.maps[INGRESS_MAP]
    }
    return [
        command
        for name, backend in gone.items()
        for command in (
            f"del map {INGRESS_MAP} {name}",
            *(f"shutdown sessions server {backend}/{s}" for s in running.lines.get(backend, {})),
        )
    ]


def _line_changes(
    server: str, before: Target | None, target: Target | None, cut: bool
) -> list[str]:
    found = []
    if before is not None and (cut or target is None):
        found.append(f"set server {server} state maint")
    if before is not None and cut:
        found.append(f"shutdown sessions server {server}")
    if target is not None and (cut or before != target):
        found.append(f"set server {server} addr {target.ip} port {target.port}")
        found.append(f"set server {server} state ready")
    return found


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
