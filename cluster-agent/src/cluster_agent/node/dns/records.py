"""What the names of one Service say: kubernetes/dns 1.1.0 for cluster.local, KEP-1645 1.0.0 for clusterset.local.

`compile_view` turns a Service and its slices into a `View` once; `answer` reads from it what a query wants. Both are
pure. A name exists when any type of record stands at it or below it; then other types have no data, which is not the
same as a name that does not exist. One exception is prescribed: `<cluster>.<service>…` of an import is reserved and
does not exist, though names of hosts stand below it.

Endpoints of a Service with an address have names too, as their reverse names lead there; the specification asks it of
headless ones only and allows more. Limits: no wildcards, no zonal names, SRV records all of one priority.
"""

import socket
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.model import Endpoint, Port, Service, Slice
from cluster_agent.node.dns.wire import Name, Record

Rest: TypeAlias = tuple[str, ...]
"""The labels in front of a Service's name, leftmost first."""

SRV_WEIGHT = 100
"""Shared out among the records of one answer, as CoreDNS does."""


@dataclass(slots=True)
class Addresses:
    """Packed, in order, each once: the keys of two dicts."""

    v4: dict[bytes, None] = field(default_factory=dict)
    v6: dict[bytes, None] = field(default_factory=dict)

    def add(self, packed: bytes) -> None:
        (self.v4 if len(packed) == 4 else self.v6)[packed] = None

    def of(self, qtype: int) -> Iterable[bytes]:
        if qtype == wire.A:
            return self.v4
        return self.v6 if qtype == wire.AAAA else ()

    def __bool__(self) -> bool:
        return bool(self.v4 or self.v6)


class Target(NamedTuple):
    """Where an SRV record leads: a port at the Service itself (no labels) or at one of its hosts."""

    port: int
    rest: Rest


@dataclass(slots=True)
class View:
    """One Service, ready to answer."""

    name: Name
    exists: bool = False
    addresses: Addresses = field(default_factory=Addresses)
    hosts: dict[Rest, Addresses] = field(default_factory=dict)
    named: dict[tuple[str, str], dict[Target, None]] = field(default_factory=dict)
    """(port, protocol) in lower case, without underscores -> where, each once."""
    every: dict[Target, None] = field(default_factory=dict)
    """Of all ports, named or not, each once."""
    alias: Name | None = None
    overlong: dict[Rest, None] = field(default_factory=dict)
    """Hosts that are left out: their name has more than 255 bytes, or a label of more than 63."""


class Found(NamedTuple):
    """An answer out of our zones. With `chase`, the records at that name belong to it too."""

    rcode: int = wire.NOERROR
    answer: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    chase: Name | None = None


NO_DATA = Found()
NO_NAME = Found(wire.NXDOMAIN)


def packed(address: str) -> bytes | None:
    """Four or sixteen bytes; None for what is no address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.inet_pton(family, address)
    except (OSError, ValueError):
        return None


# ------------------------------------------------------------------------------------------------------- compiling it
def compile_view(service: Service, slices: Sequence[Slice], domain: Name, hosts_max: int) -> View:
    """The names of a Service under `domain` (`svc.<zone>`)."""
    name = prefixed((service.name, service.namespace), domain)
    if name is None:
        return View(domain)
    view = View(name)
    if service.external_name:
        view.alias = alias_of(service.external_name)
        view.exists = view.alias is not None
        return view
    if service.headless or not service.imported:
        for slice_, endpoint in _bounded(service, slices, hosts_max):
            _add_hosts(view, service, slice_, endpoint)
    if not service.headless:
        for ip in service.ips:
            if (address := packed(ip)) is not None:
                view.addresses.add(address)
        _add_ports(view, service.ports, ())
    view.exists = bool(view.addresses)
    return view


def _add_hosts(view: View, service: Service, slice_: Slice, endpoint: Endpoint) -> None:
    for host, address in hosts_of(slice_, endpoint):
        if prefixed(host, view.name) is None:
            view.overlong[host] = None
            continue
        view.hosts.setdefault(host, Addresses()).add(address)
        if service.headless:
            view.addresses.add(address)
            _add_ports(view, slice_.ports, host)


def _add_ports(view: View, ports: Iterable[Port], rest: Rest) -> None:
    for port in ports:
        target = Target(port.port, rest)
        view.every[target] = None
        if port.name:
            key = port.name.lower(), port.protocol.lower()
            view.named.setdefault(key, {})[target] = None


def _bounded(
    service: Service, slices: Sequence[Slice], hosts_max: int
) -> list[tuple[Slice, Endpoint]]:
    """Endpoints to publish. Of a large import a subset that is the same for all names, types and nodes."""
    taken = [
        (slice_, endpoint)
        for slice_ in slices
        for endpoint in slice_.endpoints
        if published(service, endpoint)
    ]
    if not service.imported:
        return taken
    groups = {_group(slice_, endpoint) for slice_, endpoint in taken}
    if len(groups) <= hosts_max:
        return taken
    order = sorted(groups, key=lambda group: (zlib.crc32(group.encode()), group))
    kept = set(order[:hosts_max])
    return [(slice_, endpoint) for slice_, endpoint in taken if _group(slice_, endpoint) in kept]


def _group(slice_: Slice, endpoint: Endpoint) -> str:
    who = endpoint.pod or endpoint.hostname or " ".join(endpoint.addresses)
    return f"{slice_.cluster}/{who}"


def published(service: Service, endpoint: Endpoint) -> bool:
    """Ready endpoints, or all where the Service says so."""
    return endpoint.ready or service.publish_not_ready


def hosts_of(slice_: Slice, endpoint: Endpoint) -> list[tuple[Rest, bytes]]:
    """The labels of each address of an endpoint: its hostname, or the address with dashes; an import's cluster after it."""
    cluster = tuple(slice_.cluster.lower().split(".")) if slice_.cluster else ()
    found: list[tuple[Rest, bytes]] = []
    for text in endpoint.addresses:
        if (address := packed(text)) is not None:
            host = endpoint.hostname.lower() or text.lower().replace(".", "-").replace(":", "-")
            found.append(((host, *cluster), address))
    return found


def names_of(service: Service, slice_: Slice, address: bytes, domain: Name) -> list[Name]:
    """The names of the hosts of a slice that have this address, for its reverse name."""
    name = prefixed((service.name, service.namespace), domain)
    if name is None:
        return []
    hosts = [
        prefixed(host, name)
        for endpoint in slice_.endpoints
        if published(service, endpoint)
        for host, packed_ in hosts_of(slice_, endpoint)
        if packed_ == address
    ]
    return [host for host in hosts if host is not None]


def prefixed(rest: Rest, name: Name) -> Name | None:
    """`rest` in front of `name`; None when that is too long."""
    parts = bytearray()
    for label in rest:
        raw = label.lower().encode("latin-1", "replace")
        if not 0 < len(raw) <= wire.LABEL_MAX:
            return None
        parts.append(len(raw))
        parts += raw
    parts += name
    return bytes(parts) if len(parts) <= wire.NAME_MAX else None


def alias_of(external_name: str) -> Name | None:
    """Where an ExternalName leads; None when that is no name."""
    try:
        return wire.name_of(external_name)
    except ValueError:
        return None


# ---------------------------------------------------------------------------------------------------------- answering
def answer(view: View, rest: Rest, qtype: int, ttl: int, *, imported: bool = False) -> Found:
    """What stands at `<rest>.<service>`."""
    if not view.exists:
        return NO_NAME
    if not rest:
        return _at_service(view, qtype, ttl)
    if rest[-1].startswith("_"):
        return _at_port(view, rest, qtype, ttl)
    if imported and len(rest) < 2:
        return NO_NAME
    addresses = view.hosts.get(rest)
    if addresses is None:
        return NO_NAME
    owner = prefixed(rest, view.name)
    assert owner is not None
    return at(owner, addresses, qtype, ttl)


def at(owner: Name, addresses: Addresses, qtype: int, ttl: int) -> Found:
    """The address records at a name that exists."""
    return Found(
        answer=tuple(Record(owner, qtype, ttl, address) for address in addresses.of(qtype))
    )


def _at_service(view: View, qtype: int, ttl: int) -> Found:
    if view.alias is not None:
        record = Record(view.name, wire.CNAME, ttl, view.alias)
        return Found(answer=(record,), chase=view.alias if qtype != wire.CNAME else None)
    if qtype == wire.SRV:
        return _srv(view, view.name, view.every, ttl)
    return at(view.name, view.addresses, qtype, ttl)


def _at_port(view: View, rest: Rest, qtype: int, ttl: int) -> Found:
    protocol = rest[-1].removeprefix("_")
    if len(rest) == 1:
        known = any(protocol == p for _, p in view.named)
        return NO_DATA if known else NO_NAME
    if len(rest) > 2 or not rest[0].startswith("_"):
        return NO_NAME
    targets = view.named.get((rest[0].removeprefix("_"), protocol))
    if targets is None:
        return NO_NAME
    if qtype != wire.SRV:
        return NO_DATA
    owner = prefixed(rest, view.name)
    assert owner is not None
    return _srv(view, owner, targets, ttl)


def _srv(view: View, owner: Name, targets: Collection[Target], ttl: int) -> Found:
    weight = max(1, SRV_WEIGHT // max(1, len(targets)))
    records: list[Record] = []
    additional: list[Record] = []
    seen: set[Rest] = set()
    for target in targets:
        name = prefixed(target.rest, view.name)
        assert name is not None
        records.append(Record(owner, wire.SRV, ttl, wire.srv_data(0, weight, target.port, name)))
        if target.rest in seen:
            continue
        seen.add(target.rest)
        addresses = view.hosts[target.rest] if target.rest else view.addresses
        for qtype in (wire.A, wire.AAAA):
            additional += at(name, addresses, qtype, ttl).answer
    return Found(answer=tuple(records), additional=tuple(additional))
