"""Choosing a Service's addresses and node ports. Pure: what is taken is asked, chance is handed in.

A value that the user asked for is taken or refused in upstream's words, a missing one is picked. Nothing is claimed here:
a rehearsal (`dryRun`) goes exactly this far.
"""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from machinery.api.services import (
    HEALTH_PORT,
    NONE,
    needs_cluster_ip,
    needs_health_port,
    needs_node_ports,
    wants_node_ports,
)
from machinery.api.validation.causes import Causes
from machinery.meta.errors import InternalError, invalid
from machinery.meta.resource import Document
from machinery.server.services.ranges import AddressRange, Draw, PortRange, Range, pick

FULL = "range is full"


@dataclass(frozen=True, slots=True)
class Choice:
    """The ranges, and how to ask about them."""

    addresses: Sequence[AddressRange]
    ports: PortRange
    taken: Callable[[str], bool]
    """Whether somebody else holds a key."""
    pending: Callable[[str], bool]
    """Whether somebody is about to hold it; asked before it is picked, not when a user asks for it."""
    draw: Draw
    rehearsal: bool = False
    claimed: Sequence[AddressRange] = ()
    """Out of which addresses have claims, where that is more than may be chosen from."""
    templates: bool = False
    """Whether an address out of no range is kept: it is another cluster's."""

    def keys(self, spec: Document) -> Iterable[str]:
        """The keys of all that a Service holds."""
        return keys_of(spec, self.claimed or self.addresses, self.ports)

    def pick(self, held: Range, ours: set[str]) -> str | None:
        """A free value that this Service does not hold yet either."""
        return pick(
            held, lambda key: key in ours or self.taken(key) or self.pending(key), self.draw
        )


def choose(spec: Document, before: Document | None, name: str, choice: Choice) -> Document:
    """The spec with its cluster addresses and node ports. Raises Invalid, InternalError (the range is full)."""
    held = set(choice.keys(before or {}))
    spec = _with_addresses(spec, held, name, choice)
    spec = _with_ports(spec, held, name, choice)
    return _with_health_port(spec, held, choice)


def keys_of(
    spec: Document, addresses: Sequence[AddressRange], ports: PortRange
) -> Iterable[str]:  # fmt: skip
    """The keys of all that a Service holds."""
    if needs_cluster_ip(spec):
        for text in spec.get("clusterIPs") or ():
            held = None if text == NONE else range_of(text, addresses)
            if held is not None:
                yield held.key(text)
    numbers = [port.get("nodePort", 0) for port in spec.get("ports") or ()]
    for number in (*numbers, spec.get(HEALTH_PORT, 0)):
        if number and needs_node_ports(spec) and ports.holds(number):
            yield ports.key(str(number))


def range_of(text: str, addresses: Sequence[AddressRange]) -> AddressRange | None:
    """The range that an address lies in."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return next((held for held in addresses if held.holds(address)), None)


# ---------------------------------------------------------------------------------------------------------- addresses
def _with_addresses(spec: Document, held: set[str], name: str, choice: Choice) -> Document:
    given = list(spec.get("clusterIPs") or ())
    if not choice.addresses or not needs_cluster_ip(spec) or given[:1] == [NONE]:
        return spec
    found: list[str] = []
    for index, family in enumerate(spec.get("ipFamilies") or ()):
        ranges = [one for one in choice.addresses if one.family == family]
        if not ranges:
            continue
        text = given[index] if index < len(given) else ""
        own = range_of(text, ranges) if text else None
        if text and (own or not choice.templates):
            _check_address(text, own or ranges[0], given, held, name, choice)
        found.append(text or _new_address(ranges, choice))
    if not found:
        return spec
    return {**spec, "clusterIP": found[0], "clusterIPs": found}


def _new_address(ranges: Sequence[AddressRange], choice: Choice) -> str:
    """Of the first range that has one left."""
    for held in ranges:
        if (value := choice.pick(held, set())) is not None:
            return value
    raise InternalError(f"failed to allocate a serviceIP: {FULL}")


def _check_address(
    text: str, held: AddressRange, given: list[str], ours: set[str], name: str, choice: Choice
) -> None:
    """Refuse an address that cannot be had; one that the Service has already is never refused."""
    address = ipaddress.ip_address(text)
    key = held.key(text)
    if key in ours:
        return
    why = ""
    if not held.holds(address):
        why = (
            f"the provided IP ({text}) is not in the valid range. The range of valid IPs is "
            f"{held.network}"
        )
    elif not held.usable(address):
        why = "the provided network does not match the current range"
    elif choice.taken(key):
        why = "provided IP is already allocated"
    if why:
        causes = Causes()
        causes.invalid("spec.clusterIPs", given, f"failed to allocate IP {text}: {why}")
        raise invalid("Service", "", name, causes)


# -------------------------------------------------------------------------------------------------------------- ports
def _with_ports(spec: Document, held: set[str], name: str, choice: Choice) -> Document:
    """Ports of one number and several protocols share their nodePort, as upstream has it."""
    ports = spec.get("ports") or ()
    if not needs_node_ports(spec) or not ports:
        return spec
    automatic = wants_node_ports(spec)
    by_port: dict[int, int] = {}
    ours: set[str] = set()
    out: list[Document] = []
    for index, port in enumerate(ports):
        number, asked = port.get("port", 0), port.get("nodePort", 0)
        if asked or automatic:
            wanted = asked or by_port.get(number) or _asked_later(ports, number)
            if wanted:
                _check_port(wanted, f"spec.ports[{index}].nodePort", held | ours, name, choice)
            else:
                wanted = _new_port(held | ours, choice, "failed to allocate a nodePort")
            by_port.setdefault(number, wanted)
            ours.add(choice.ports.key(str(wanted)))
            port = {**port, "nodePort": wanted}  # noqa: PLW2901 - a copy of what was looped over
        out.append(port)
    return {**spec, "ports": out}


def _asked_later(ports: Sequence[Document], number: int) -> int:
    asked = (p.get("nodePort", 0) for p in ports if p.get("port") == number)
    return next((value for value in asked if value), 0)


def _check_port(number: int, field: str, ours: set[str], name: str, choice: Choice) -> None:
    key = choice.ports.key(str(number))
    if key in ours:
        return
    why = _port_fault(number, key, choice)
    if why:
        causes = Causes()
        causes.invalid(field, number, why)
        raise invalid("Service", "", name, causes)


def _port_fault(number: int, key: str, choice: Choice) -> str:
    """Why a port cannot be had; a rehearsal does not look at the range, as upstream's does not."""
    if not choice.ports.holds(number):
        if choice.rehearsal:
            return ""
        return (
            "provided port is not in the valid range. The range of valid ports is "
            f"{choice.ports}"
        )  # fmt: skip
    return "provided port is already allocated" if choice.taken(key) else ""


def _new_port(ours: set[str], choice: Choice, failing: str) -> int:
    value = choice.pick(choice.ports, ours)
    if value is None:
        raise InternalError(f"{failing}: {FULL}")
    return int(value)


def _with_health_port(spec: Document, held: set[str], choice: Choice) -> Document:
    if not needs_health_port(spec):
        return spec
    asked = spec.get(HEALTH_PORT, 0)
    ours = held | set(choice.keys({**spec, HEALTH_PORT: 0}))
    if not asked:
        failing = "failed to allocate a HealthCheck NodePort"
        return {**spec, HEALTH_PORT: _new_port(ours, choice, failing)}
    key = choice.ports.key(str(asked))
    why = "" if key in held else _port_fault(asked, key, choice)
    if why:
        raise InternalError(f"failed to allocate requested HealthCheck NodePort {asked}: {why}")
    return spec
