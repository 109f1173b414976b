"""Distributing endpoints over slices with few writes. Pure.

Every proxy and every DNS server reads each slice that is written, so a change is put where something changes anyway: what
is gone is taken out, what is new fills the slices that are written in any case, fullest first, then one untouched slice
that it fits into best, and only then a new one. Slices are never merged for tidiness.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from machinery.api.discovery_kinds import Endpoint, EndpointPort, EndpointSlice

ENDPOINTS_MAX = 100
"""Endpoints in one slice."""

Ports = tuple[EndpointPort, ...]


@dataclass
class Packed:
    """What becomes of a slice: `kept` None is a new one. `write` tells whether it differs from what is stored."""

    kept: EndpointSlice | None
    ports: Ports
    endpoints: list[Endpoint]
    write: bool = False


@dataclass
class Packing:
    """All slices of one Service and one address type as they should be, and those to delete."""

    slices: list[Packed] = field(default_factory=list)
    gone: list[EndpointSlice] = field(default_factory=list)


Identity = tuple[tuple[str, ...], str, str, str]


def identity(endpoint: Endpoint) -> Identity:
    """What makes two endpoints the same one, whatever their state."""
    target = endpoint.target_ref
    where = (target.namespace, target.name) if target is not None else ("", "")
    return (endpoint.addresses, endpoint.hostname, *where)


def ports_key(ports: Iterable[EndpointPort]) -> frozenset[EndpointPort]:
    return frozenset(ports)


def pack(
    desired: Iterable[tuple[Ports, Endpoint]], existing: Sequence[EndpointSlice]
) -> Packing:  # fmt: skip
    """Endpoints with the same ports share slices."""
    groups: dict[frozenset[EndpointPort], tuple[Ports, dict[Identity, Endpoint]]] = {}
    for ports, endpoint in desired:
        _, members = groups.setdefault(ports_key(ports), (ports, {}))
        members[identity(endpoint)] = endpoint
    packing = Packing()
    held: dict[frozenset[EndpointPort], list[EndpointSlice]] = {}
    for one in existing:
        held.setdefault(ports_key(one.ports), []).append(one)
    for key, slices in held.items():
        if key not in groups:
            packing.gone += slices
    for key, (ports, members) in groups.items():
        _pack_group(ports, members, held.get(key, []), packing)
    return packing


def _pack_group(
    ports: Ports, members: dict[Identity, Endpoint], existing: list[EndpointSlice], packing: Packing
) -> None:
    mine: list[Packed] = []
    for one in existing:
        packed = _sifted(one, members)
        if packed.endpoints or not packed.write:
            mine.append(packed)
        else:
            packing.gone.append(one)
    left = list(members.values())
    written = sorted((p for p in mine if p.write), key=lambda p: -len(p.endpoints))
    for packed in written:
        left = _fill(packed, left)
    while left:
        target = _best(mine, len(left)) if len(left) < ENDPOINTS_MAX else None
        if target is None:
            target = Packed(None, ports, [], write=True)
            mine.append(target)
        left = _fill(target, left)
    packing.slices += mine


def _sifted(one: EndpointSlice, members: dict[Identity, Endpoint]) -> Packed:
    """The slice with what is still wanted of it; that is taken out of `members`."""
    kept: list[Endpoint] = []
    for endpoint in one.endpoints:
        wanted = members.pop(identity(endpoint), None)
        if wanted is not None:
            kept.append(wanted)
    return Packed(one, one.ports, kept, write=tuple(kept) != one.endpoints)


def _fill(packed: Packed, left: list[Endpoint]) -> list[Endpoint]:
    room = max(0, ENDPOINTS_MAX - len(packed.endpoints))
    if room and left:
        packed.endpoints += left[:room]
        packed.write = True
    return left[room:]


def _best(mine: Sequence[Packed], count: int) -> Packed | None:
    """The untouched slice that is fullest once `count` more are in it."""
    fitting = [p for p in mine if not p.write and len(p.endpoints) + count <= ENDPOINTS_MAX]
    return max(fitting, key=lambda p: len(p.endpoints), default=None)
