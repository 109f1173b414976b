"""Which port listens for which egress, and which server line holds which endpoint: kept as they are wherever possible.

Pods' connections are steered to a listener by the kernel's tables, which may be a moment older than the listeners. So a
port that was given back is not given to another Service before many others have been, and whoever comes back finds its own.
Endpoints move in and out of fixed server lines, so that HAProxy can be told at run time and need not load anew.

Limits: 9,900 listeners; what is above that raises TooManyListeners.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster_agent.node.gateway.model import EGRESS_PORTS, EgressKey, Ingress, Target

RETIRED_MAX = 64
BLOCK = 64
"""Listeners are opened by blocks of ports: a new egress within a block needs no reload."""
LISTENERS_MAX = len(EGRESS_PORTS) - RETIRED_MAX
LINES_MIN = 4
WASTE_MAX = 4
"""Server lines are given up when there are more than this many times what is needed."""

Lines = Mapping[str, tuple[Target | None, ...]]
"""Server name of an ingress -> its server lines, in order; None is an unused one."""


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


def place(previous: Lines, ingress: Iterable[Ingress]) -> Lines:
    """Server lines for these, each endpoint where it was. Pure."""
    return {item.server_name: _placed(previous.get(item.server_name, ()), item) for item in ingress}


def _placed(before: tuple[Target | None, ...], item: Ingress) -> tuple[Target | None, ...]:
    wanted = dict.fromkeys(item.targets)
    needed = max(LINES_MIN, 1 << max(len(wanted) - 1, 0).bit_length())
    if not needed <= len(before) <= needed * WASTE_MAX:
        before = (*before[:needed], *[None] * (needed - len(before)))
    lines: list[Target | None] = []
    for target in before:
        keep = target is not None and target in wanted
        lines.append(target if keep else None)
        if target is not None:
            wanted.pop(target, None)
    new = iter(wanted)
    return tuple(line if line is not None else next(new, None) for line in lines)
