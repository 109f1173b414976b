"""The lab's faults as values: which zones have no power, between which places packets are lost, which lines are slow.

A place is a zone or the federation. A cut is a set of directed pairs of places, so that two-way, one-way and partial cuts are
one thing, and each command is a function from faults to faults that may be repeated. They are kept in `.lab/faults.json` and
written before they are acted on: what a killed command left half done, its repetition (or `lab up`) finishes.

Limits: the operator's own cable to the machine is not cut (one looks into a zone that nobody else reaches), but it is slow where
the zone is slow. A frozen process is no entry here: the kernel knows it.
"""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import msgspec

from federation.lab import network
from federation.lab.plan import HostPlan, LabPlan
from federation.lab.state import write_file

FILE = "faults.json"
HISTORY = "log/faults.jsonl"
FEDERATION = "federation"
LATENCY_MAX_MS = 5_000.0

Pair = tuple[str, str]
"""Packets of the first place do not reach the second."""


class FaultError(Exception):
    """The fault cannot be made; the text says why."""


class Slow(msgspec.Struct, frozen=True):
    """A place's line to all others: this much later and this often lost, in each direction."""

    latency_ms: float = 0.0
    loss_percent: float = 0.0


class Faults(msgspec.Struct, frozen=True):
    """All that is wrong on purpose."""

    off: tuple[str, ...] = ()
    cuts: tuple[Pair, ...] = ()
    slow: dict[str, Slow] = {}


class Mark(msgspec.Struct, frozen=True):
    """One command in the history: seconds since 1970, and what was done."""

    t: float
    mark: str


# ------------------------------------------------------------------------------------------------------ places
def places(plan: LabPlan) -> dict[str, tuple[HostPlan, ...]]:
    """Every place and its hosts; first the federation: its address, and the servers that stand in no zone."""
    apart = [host for host in plan.federation if not host.zone]
    front = [plan.front] if plan.front else []
    found: dict[str, tuple[HostPlan, ...]] = {}
    if apart or front:
        found[FEDERATION] = (*apart, *front)
    for cluster in plan.clusters:
        hollow = (cluster.hollow,) if cluster.hollow else ()
        before = found.get(cluster.zone, ())
        found[cluster.zone] = (*before, cluster.control, *cluster.nodes, *hollow)
    for host in plan.federation:
        if host.zone:
            found[host.zone] += (host,)
    return found


def place_of(plan: LabPlan, word: str) -> str:
    """A place by its name, or a cluster's zone by the cluster's. Raises FaultError."""
    known = places(plan)
    if word in known:
        return word
    for cluster in plan.clusters:
        if cluster.name == word:
            return cluster.zone
    raise FaultError(f"there is no zone {word!r}; there is {', '.join(known)}")


# ------------------------------------------------------------------------------------------------------ transitions
def kill(faults: Faults, place: str) -> Faults:
    """Without power."""
    return msgspec.structs.replace(faults, off=_ordered({*faults.off, place}))


def revive(faults: Faults, place: str) -> Faults:
    """With power again."""
    return msgspec.structs.replace(faults, off=_ordered({*faults.off} - {place}))


def cut(
    plan: LabPlan, faults: Faults, place: str, other: str = "", *, one_way: bool = False
) -> Faults:
    """Nothing passes between `place` and `other` (empty: all others); one way: nothing that `place` sends."""
    pairs = _pairs(plan, place, other, one_way=one_way)
    return msgspec.structs.replace(faults, cuts=tuple(sorted({*faults.cuts, *pairs})))


def heal(
    plan: LabPlan, faults: Faults, place: str, other: str = "", *, one_way: bool = False
) -> Faults:
    """The opposite of `cut`. Without `other` and `one_way` the place's line is as good as new: not slow either."""
    pairs = set(_pairs(plan, place, other, one_way=one_way))
    left = tuple(pair for pair in faults.cuts if pair not in pairs)
    healed = msgspec.structs.replace(faults, cuts=left)
    return healed if other or one_way else slow(healed, place, Slow())


def slow(faults: Faults, place: str, how: Slow) -> Faults:
    """The place's line is slow; `Slow()` ends it. Raises FaultError."""
    if not 0 <= how.latency_ms <= LATENCY_MAX_MS:
        raise FaultError(f"--latency: 0 to {LATENCY_MAX_MS:.0f} milliseconds")
    if not 0 <= how.loss_percent < 100:
        raise FaultError("--loss: 0 to less than 100 percent (`cut` loses everything)")
    left = {name: old for name, old in faults.slow.items() if name != place}
    if how != Slow():
        left[place] = how
    return msgspec.structs.replace(faults, slow=dict(sorted(left.items())))


def _pairs(plan: LabPlan, place: str, other: str, *, one_way: bool) -> Iterator[Pair]:
    if other == place:
        raise FaultError(f"{place} cannot be cut from itself")
    for far in (other,) if other else places(plan):
        if far != place:
            yield (place, far)
            if not one_way:
                yield (far, place)


def _ordered(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


# ------------------------------------------------------------------------------------------------------ texts
def describe(faults: Faults) -> list[str]:
    """One line for each."""
    lines = [f"{place} is off" for place in faults.off]
    for source, target in faults.cuts:
        if (target, source) not in faults.cuts:
            lines.append(f"nothing from {source} reaches {target}")
        elif source < target:
            lines.append(f"{source} and {target} are cut off from each other")
    for place, how in faults.slow.items():
        parts = [f"{how.latency_ms:g} ms later"] if how.latency_ms else []
        parts += [f"{how.loss_percent:g} % lost"] if how.loss_percent else []
        lines.append(f"{place} is slow: {', '.join(parts)}, each way")
    return lines


def bridge(plan: LabPlan, place: str) -> str:
    """The bridge that a place's cables hang on while its line has latency."""
    return f"z{list(places(plan)).index(place)}"


def taps(plan: LabPlan, place: str) -> tuple[str, str]:
    """The two ends of a place's line with latency: in its own bridge, and in the WAN's."""
    name = bridge(plan, place)
    return f"{name}in", f"{name}out"


def ruleset(plan: LabPlan, faults: Faults) -> str:
    """For `nft -f -` in the WAN's namespace; it takes the place of the one before in one step.

    A place's packets come to the WAN's bridge by its cables or, while its line has latency, by the outer tap; both are
    always named, so that cuts hold while the cables are moved.
    """
    lines = ["add table bridge ubernetes", "delete table bridge ubernetes"]
    if not faults.cuts and not any(how.loss_percent for how in faults.slow.values()):
        return "\n".join(lines) + "\n"
    lines.append("add table bridge ubernetes")
    lines.append(
        "add chain bridge ubernetes forward { type filter hook forward priority 0; policy accept; }"
    )
    ports = {place: _ports(plan, place) for place in places(plan)}
    elements = [
        f'"{one}" . "{other}"'
        for source, target in faults.cuts
        for one, other in product(ports[source], ports[target])
    ]
    if elements:
        lines.append("add set bridge ubernetes cut { type ifname . ifname; }")
        lines.append(f"add element bridge ubernetes cut {{ {', '.join(elements)} }}")
        lines.append("add rule bridge ubernetes forward iifname . oifname @cut drop")
    for place, how in faults.slow.items():
        if how.loss_percent:
            inside = ", ".join(f'"{port}"' for port in (*ports[place], taps(plan, place)[0]))
            for here, there in (("iifname", "oifname"), ("oifname", "iifname")):
                lines.append(
                    f"add rule bridge ubernetes forward {here} {{ {inside} }} {there} != {{ {inside} }} "
                    f"numgen random mod 10000 < {round(how.loss_percent * 100)} drop"
                )
    return "\n".join(lines) + "\n"


def _ports(plan: LabPlan, place: str) -> list[str]:
    return [*(network.port(plan, host) for host in places(plan)[place]), taps(plan, place)[1]]


# ------------------------------------------------------------------------------------------------------ files
def load(directory: str) -> Faults:
    """The faults of the lab in `directory`."""
    path = Path(directory, FILE)
    return msgspec.json.decode(path.read_bytes(), type=Faults) if path.exists() else Faults()


def save(directory: str, faults: Faults) -> None:
    """Write them in one step."""
    write_file(Path(directory, FILE), msgspec.json.encode(faults))


def forget(directory: str) -> None:
    """After the machine was started anew: all hosts are."""
    Path(directory, FILE).unlink(missing_ok=True)


def record(directory: str, mark: Mark) -> None:
    """Add a line to the history. It stays with the logs, for plots."""
    path = Path(directory, HISTORY)
    os.makedirs(path.parent, exist_ok=True)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(mark) + b"\n")


def history(directory: str, since: float, until: float) -> list[Mark]:
    """The commands between two moments."""
    path = Path(directory, HISTORY)
    if not path.exists():
        return []
    marks = [msgspec.json.decode(line, type=Mark) for line in path.read_bytes().splitlines()]
    return [mark for mark in marks if since <= mark.t <= until]
