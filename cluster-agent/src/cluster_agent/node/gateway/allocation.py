"""Which port listens for which egress, which backend serves which export: kept as they are wherever possible. Pure.

Pods' connections are steered to a listener by the kernel's tables, which may be a moment older than the listeners. So a
port that was given back is not given to another Service before many others have been, and whoever comes back finds its own.
Exports move in and out of fixed backends, and endpoints in and out of fixed server lines, so that HAProxy can be told at run
time and need not load anew.

Limits: 9,900 listeners; what is above that raises TooManyListeners. Backends and lines grow and never shrink while
HAProxy runs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster_agent.node.gateway.model import EGRESS_PORTS, EgressKey, Ingress, Target

RETIRED_MAX = 64
BLOCK = 64
"""Listeners are opened by blocks of ports: a new egress within a block needs no reload."""
LISTENERS_MAX = len(EGRESS_PORTS) - RETIRED_MAX
BERTHS = 16
"""Backends for exported ports are made by so many: a new export needs no reload while one is free."""
LINES_MIN = 4

Lines = tuple[Target | None, ...]
"""The server lines of a backend, in order; None is an unused one."""


@dataclass(frozen=True, slots=True)
class Berth:
    """A backend for one exported port at a time: its server name, empty for none, and its lines."""

    name: str
    lines: Lines


Berths = tuple[Berth, ...]
"""By number, from 0."""


class TooManyListeners(ValueError):
    """More egress than there are ports."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """Ports in use, and those that were given back last (oldest first) with their former owners."""

    ports: Mapping[EgressKey, int] = field(default_factory=dict)
    retired: tuple[tuple[EgressKey, int], ...] = ()

    @property
    def blocks(self) -> int:
        """How many blocks of ports must be open."""
        numbers = [*self.ports.values(), *(port for _, port in self.retired)]
        return (max(numbers) - EGRESS_PORTS.start) // BLOCK + 1 if numbers else 1


def allocate(previous: Allocation, keys: Iterable[EgressKey]) -> Allocation:
    """Ports for exactly these keys. Raises TooManyListeners. Pure."""
    wanted = sorted(set(keys))
    if len(wanted) > LISTENERS_MAX:
        raise TooManyListeners(f"{len(wanted)} listeners are wanted, {LISTENERS_MAX} can be had")
    former = {key: port for key, port in previous.retired}
    ports = {key: previous.ports[key] for key in wanted if key in previous.ports}
    ports |= {key: former[key] for key in wanted if key in former}
    gone = [(key, port) for key, port in sorted(previous.ports.items()) if key not in ports]
    kept = [(key, port) for key, port in previous.retired if key not in ports]
    retired = tuple([*kept, *gone][-RETIRED_MAX:])
    taken = {*ports.values(), *(port for _, port in retired)}
    free = (port for port in EGRESS_PORTS if port not in taken)
    for key in wanted:
        if key not in ports:
            ports[key] = next(free)
    return Allocation(ports, retired)


def dump(allocation: Allocation) -> object:
    """As a document; `load` reads it."""
    return {
        "ports": [[*_words(key), port] for key, port in sorted(allocation.ports.items())],
        "retired": [[*_words(key), port] for key, port in allocation.retired],
    }


def load(document: object) -> Allocation:
    """Raises ValueError, TypeError or KeyError for what `dump` did not write."""
    if not isinstance(document, dict):
        raise TypeError("not a document of listeners")
    return Allocation(
        dict(_entry(row) for row in document["ports"]),
        tuple(_entry(row) for row in document["retired"]),
    )


def _words(key: EgressKey) -> tuple[str, str, int, str]:
    return (key.namespace, key.service, key.port, key.cluster)


def _entry(row: object) -> tuple[EgressKey, int]:
    if not isinstance(row, list):
        raise TypeError("not a listener")
    namespace, service, number, cluster, port = row
    if port not in EGRESS_PORTS:
        raise ValueError(f"{port} is no port of a listener")
    return EgressKey(namespace, service, number, cluster), port


def place(previous: Berths, ingress: Iterable[Ingress]) -> Berths:
    """Each name in the berth that it has, each endpoint in its line; newcomers where there is room. Pure."""
    wanted = {item.server_name: item.targets for item in ingress}
    berths = [
        Berth(b.name, _lines(b.lines, wanted[b.name]))
        if b.name in wanted
        else Berth("", (None,) * len(b.lines))
        for b in previous
    ]
    placed = {berth.name for berth in berths}
    for name, targets in wanted.items():
        if name not in placed:
            number = _free(berths, len(targets))
            berths[number] = Berth(name, _lines(berths[number].lines, targets))
    spare = -len(berths) % BERTHS or (0 if berths else BERTHS)
    return (*berths, *[Berth("", (None,) * LINES_MIN)] * spare)


def _free(berths: list[Berth], needed: int) -> int:
    """The smallest free berth that is large enough, or else the largest; a new one where none is free."""
    free = [(len(b.lines) < needed, len(b.lines), i) for i, b in enumerate(berths) if not b.name]
    if not free:
        berths.append(Berth("", (None,) * LINES_MIN))
        return len(berths) - 1
    fitting = [entry for entry in free if not entry[0]]
    return min(fitting)[2] if fitting else max(free, key=lambda entry: entry[1])[2]


def _lines(before: tuple[Target | None, ...], targets: tuple[Target, ...]) -> Lines:
    wanted = dict.fromkeys(targets)
    needed = max(LINES_MIN, 1 << max(len(wanted) - 1, 0).bit_length())
    lines = [target if target in wanted else None for target in before]
    lines += [None] * (needed - len(lines))
    new = iter([target for target in wanted if target not in lines])
    return tuple(line if line is not None else next(new, None) for line in lines)
