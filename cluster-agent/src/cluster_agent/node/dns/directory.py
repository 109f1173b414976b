"""All names of our zones: which Service, pod or address a name means, and what is known about it.

The tables are changed object by object: a change forgets one Service's view and touches the reverse names of one slice,
whatever the number of Services; views are made again when somebody asks. `generation` counts the changes, so that
answers kept elsewhere know when they are old.

Before a zone's first state is in, its names fail (SERVFAIL) rather than not exist: a client that was told that a name
does not exist stops asking.
"""

import ipaddress
import logging
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias, TypeVar

from cluster_agent.node.dns import records, wire
from cluster_agent.node.dns.model import (
    DnsConfig,
    PodName,
    Service,
    ServiceName,
    Slice,
    State,
)
from cluster_agent.node.dns.records import NO_DATA, NO_NAME, Addresses, Found, View
from cluster_agent.node.dns.reverse import ReverseZones, address_of
from cluster_agent.node.dns.wire import Name, Record

log = logging.getLogger(__name__)
K = TypeVar("K")
SliceKey: TypeAlias = tuple[str, str]

CLUSTER_VERSION, CLUSTERSET_VERSION = "1.1.0", "1.0.0"
VERSION_TTL_S = 28_800
REFRESH_S, RETRY_S, EXPIRE_S = 7_200, 1_800, 86_400


class Zone(NamedTuple):
    """One of the two trees of names."""

    name: Name
    text: str
    version: str
    imported: bool
    services: Name
    """`svc.<zone>`."""

    @classmethod
    def of(cls, domain: str, version: str, *, imported: bool) -> "Zone":
        name = wire.name_of(domain.lower())
        return cls(name, wire.text_of(name), version, imported, b"\x03svc" + name)


class Result(NamedTuple):
    """What was found, and under whose authority: the zone's name and how metrics call it."""

    found: Found
    zone: Name
    zone_text: str


class Directory:
    """The names of one cluster, and of the clusterset as it sees it."""

    def __init__(self, config: DnsConfig, serial: int = 1) -> None:
        self._config, self._serial = config, serial
        self.zones = [Zone.of(config.cluster_domain, CLUSTER_VERSION, imported=False)]
        if config.clusterset_domain:
            zone = Zone.of(config.clusterset_domain, CLUSTERSET_VERSION, imported=True)
            self.zones.append(zone)
        self._reverse_zones = ReverseZones(config.reverse_cidrs)
        self._ready: dict[bool, bool] = {False: False, True: False}
        self._services: dict[ServiceName, Service] = {}
        self._slices: dict[SliceKey, Slice] = {}
        self._slices_of: dict[ServiceName, dict[SliceKey, Slice]] = {}
        self._views: dict[ServiceName, View] = {}
        self._namespaces: set[str] = set()
        self._used: Counter[tuple[str, bool]] = Counter()
        self._pods: dict[PodName, tuple[bytes, ...]] = {}
        self._pod_addresses: Counter[tuple[str, bytes]] = Counter()
        self._services_at: dict[bytes, tuple[ServiceName, ...]] = {}
        self._slices_at: dict[bytes, tuple[SliceKey, ...]] = {}
        self.generation = 0
        own = config.nameservers or config.addresses
        self._own = Addresses()
        for address in own:
            self._own.add(ipaddress.ip_address(address).packed)

    # ---------------------------------------------------------------------------------------------------- readiness
    @property
    def ready(self) -> bool:
        """Whether the cluster's own names are known."""
        return self._ready[False]

    def mark_ready(self, *, imported: bool = False) -> None:
        """The first state of the cluster's names, or of the imported ones, is in."""
        self._ready[imported] = True
        self.generation += 1

    def set_state(self, state: State) -> None:
        """Replace everything by `state`; what is equal is left alone. Then both zones are ready."""
        services = {service.key: service for service in state.services}
        for service_key in self._services.keys() - services.keys():
            self.remove_service(service_key)
        for slice_key in self._slices.keys() - state.slices.keys():
            self.remove_slice(slice_key)
        for pod in self._pods.keys() - state.pods.keys():
            self.remove_pod(pod)
        for namespace in self._namespaces - state.namespaces:
            self.remove_namespace(namespace)
        for service in services.values():
            self.put_service(service)
        for slice_key, slice_ in state.slices.items():
            self.put_slice(slice_key, slice_)
        for pod, addresses in state.pods.items():
            self.put_pod(pod, addresses)
        for namespace in state.namespaces:
            self.put_namespace(namespace)
        for imported in self._ready:
            self.mark_ready(imported=imported)

    # ------------------------------------------------------------------------------------------------------ changes
    def put_service(self, service: Service) -> None:
        """A Service or import is new or has changed."""
        key = service.key
        old = self._services.get(key)
        if old == service:
            return
        if old is None:
            self._used[key.namespace, key.imported] += 1
        self._move_service(key, service)

    def remove_service(self, key: ServiceName) -> None:
        """It is gone."""
        if key in self._services:
            self._used[key.namespace, key.imported] -= 1
            self._move_service(key, None)

    def _move_service(self, key: ServiceName, service: Service | None) -> None:
        for address in addresses_of(self._services.pop(key, None)):
            remove_from(self._services_at, address, key)
        if service is not None:
            self._services[key] = service
            for address in addresses_of(service):
                add_to(self._services_at, address, key)
        self._forget(key)

    def put_slice(self, key: SliceKey, slice_: Slice) -> None:
        """A slice, by its own namespace and name, is new or has changed."""
        old = self._slices.get(key)
        if old == slice_:
            return
        if old is not None:
            self.remove_slice(key)
        self._slices[key] = slice_
        self._slices_of.setdefault(slice_.owner, {})[key] = slice_
        for address in backends_of(slice_):
            add_to(self._slices_at, address, key)
        self._forget(slice_.owner)

    def remove_slice(self, key: SliceKey) -> None:
        """It is gone."""
        slice_ = self._slices.pop(key, None)
        if slice_ is None:
            return
        for address in backends_of(slice_):
            remove_from(self._slices_at, address, key)
        siblings = self._slices_of[slice_.owner]
        del siblings[key]
        if not siblings:
            del self._slices_of[slice_.owner]
        self._forget(slice_.owner)

    def put_namespace(self, name: str) -> None:
        """It exists, with or without Services."""
        if name not in self._namespaces:
            self._namespaces.add(name)
            self.generation += 1

    def remove_namespace(self, name: str) -> None:
        """It is gone."""
        self._namespaces.discard(name)
        self.generation += 1

    def put_pod(self, pod: PodName, addresses: Iterable[str]) -> None:
        """A pod has these addresses now."""
        fresh = tuple(a for a in map(records.packed, addresses) if a is not None)
        if self._pods.get(pod, ()) == fresh:
            return
        self.remove_pod(pod)
        if fresh:
            self._pods[pod] = fresh
            self._pod_addresses.update((pod.namespace, address) for address in fresh)
        self.generation += 1

    def remove_pod(self, pod: PodName) -> None:
        """It is gone, or has ended."""
        addresses = self._pods.pop(pod, ())
        for address in addresses:
            count_down(self._pod_addresses, (pod.namespace, address))
        self.generation += bool(addresses)

    def _forget(self, key: ServiceName) -> None:
        self._views.pop(key, None)
        self.generation += 1

    # ------------------------------------------------------------------------------------------------------ lookups
    def lookup(self, name: Name, qtype: int) -> Result | None:
        """What our zones say; None for names that are none of ours."""
        labels = wire.labels_of(name)
        for zone in self.zones:
            if (prefix := _inside(name, labels, zone.name)) is not None:
                if not self._ready[zone.imported]:
                    return Result(Found(wire.SERVFAIL), zone.name, zone.text)
                return Result(self._in_zone(zone, prefix, name, qtype), zone.name, zone.text)
        if labels and labels[-1] == b"arpa":
            return self._by_address(name, labels, qtype)
        return None

    def _by_address(self, name: Name, labels: list[bytes], qtype: int) -> Result | None:
        address = address_of(labels)
        targets = self._names_at(address) if address is not None else {}
        zone = self._reverse_zones.zone_of(name, labels)
        if zone is None and not targets:
            return None
        text = f"{labels[-2].decode()}.arpa."
        if not self._ready[False]:
            return Result(Found(wire.SERVFAIL), zone or name, text)
        if not targets:
            found = NO_NAME if address is not None else NO_DATA
        elif qtype == wire.PTR:
            rows = (Record(name, wire.PTR, self._config.ttl_s, target) for target in targets)
            found = Found(answer=tuple(rows))
        else:
            found = NO_DATA
        return Result(found, zone or name, text)

    def _names_at(self, address: bytes) -> dict[Name, None]:
        """The Services with this address, and the hosts."""
        names: dict[Name, None] = {}
        domain = self.zones[0].services
        for key in self._services_at.get(address, ()):
            if (name := records.prefixed((key.name, key.namespace), domain)) is not None:
                names[name] = None
        for slice_key in self._slices_at.get(address, ()):
            slice_ = self._slices[slice_key]
            service = self._services.get(slice_.owner)
            if service is not None and not service.external_name:
                names |= dict.fromkeys(records.names_of(service, slice_, address, domain))
        return names

    def _in_zone(self, zone: Zone, prefix: list[str], name: Name, qtype: int) -> Found:
        ttl = self._config.ttl_s
        match prefix:
            case []:
                return self._at_apex(zone, qtype)
            case [*rest, service, namespace, "svc"]:
                view = self._view(ServiceName(namespace, service, zone.imported), zone)
                if view is None:
                    return NO_NAME
                return records.answer(view, tuple(rest), qtype, ttl, imported=zone.imported)
            case ["svc"] | ["dns"]:
                return NO_DATA
            case ["dns-version"]:
                text = Record(name, wire.TXT, VERSION_TTL_S, wire.txt_data(zone.version))
                return Found(answer=(text,)) if qtype == wire.TXT else NO_DATA
            case ["ns", "dns"]:
                return records.at(name, self._own, qtype, ttl)
            case [namespace, "svc"]:
                return NO_DATA if self._namespace_known(namespace, zone) else NO_NAME
            case _ if prefix[-1] == "pod" and not zone.imported:
                return self._pod(prefix[:-1], name, qtype)
            case _:
                return NO_NAME

    def _namespace_known(self, namespace: str, zone: Zone) -> bool:
        return namespace in self._namespaces or self._used[namespace, zone.imported] > 0

    def _at_apex(self, zone: Zone, qtype: int) -> Found:
        if qtype == wire.SOA:
            return Found(answer=(self.soa(zone.name),))
        if qtype == wire.NS:
            server = b"\x02ns\x03dns" + zone.name
            ttl = self._config.ttl_s
            addresses = [records.at(server, self._own, t, ttl) for t in (wire.A, wire.AAAA)]
            extra = tuple(record for found in addresses for record in found.answer)
            return Found(answer=(Record(zone.name, wire.NS, ttl, server),), additional=extra)
        return NO_DATA

    def _pod(self, prefix: list[str], name: Name, qtype: int) -> Found:
        if self._config.pods == "disabled":
            return NO_NAME
        if len(prefix) < 2:
            known = not prefix or self._namespace_known(prefix[0], self.zones[0])
            return NO_DATA if known else NO_NAME
        host, namespace = prefix[-2:]
        address = pod_address(host)
        if address is None or len(prefix) > 2:
            return NO_NAME
        if self._config.pods == "verified":
            known = (namespace, address) in self._pod_addresses
        else:
            known = self._namespace_known(namespace, self.zones[0])
        if not known:
            return NO_NAME
        addresses = Addresses()
        addresses.add(address)
        return records.at(name, addresses, qtype, self._config.ttl_s)

    def _view(self, key: ServiceName, zone: Zone) -> View | None:
        view = self._views.get(key)
        if view is None:
            service = self._services.get(key)
            if service is None:
                return None
            slices = list(self._slices_of.get(key, {}).values())
            hosts_max = self._config.headless_hosts_max
            view = records.compile_view(service, slices, zone.services, hosts_max)
            self._views[key] = view
            if view.overlong:
                extra = {"service": f"{key.namespace}/{key.name}", "hosts": len(view.overlong)}
                log.warning("host names too long for DNS are left out", extra=extra)
        return view

    def soa(self, zone: Name) -> Record:
        """The start of authority: who is responsible, and how long a "no" may be kept."""
        server, mailbox = (
            b"\x02ns\x03dns" + self.zones[0].name,
            b"\x0ahostmaster" + self.zones[0].name,
        )
        for own in self.zones:
            if own.name == zone:
                server, mailbox = b"\x02ns\x03dns" + zone, b"\x0ahostmaster" + zone
        ttl = self._config.ttl_s
        serial = (self._serial + self.generation) & 0xFFFFFFFF
        data = wire.soa_data(server, mailbox, (serial, REFRESH_S, RETRY_S, EXPIRE_S, ttl))
        return Record(zone, wire.SOA, ttl, data)


def _inside(name: Name, labels: list[bytes], zone: Name) -> list[str] | None:
    """The labels in front of `zone`; None where `name` is not in it."""
    if not name.endswith(zone):
        return None
    size = len(name) - len(zone)
    prefix: list[str] = []
    for label in labels:
        if size <= 0:
            break
        prefix.append(label.decode("latin-1"))
        size -= len(label) + 1
    return prefix if size == 0 else None


def pod_address(host: str) -> bytes | None:
    """`10-0-0-5` or `fd00--5`."""
    if host.count("-") == 3 and "--" not in host:
        return records.packed(host.replace("-", "."))
    return records.packed(host.replace("-", ":"))


def addresses_of(service: Service | None) -> set[bytes]:
    """The addresses that lead back to a Service by name: its own, but not those of an import."""
    if service is None or service.imported or service.headless or service.external_name:
        return set()
    return {a for a in map(records.packed, service.ips) if a is not None}


def backends_of(slice_: Slice) -> set[bytes]:
    """The addresses that lead back to hosts: no imported ones, whose names are not published this way."""
    if slice_.cluster:
        return set()
    texts = (text for endpoint in slice_.endpoints for text in endpoint.addresses)
    return {a for a in map(records.packed, texts) if a is not None}


def add_to(table: dict[bytes, tuple[K, ...]], address: bytes, key: K) -> None:
    """One more at this address; tuples, since nearly all have one member."""
    table[address] = (*table.get(address, ()), key)


def remove_from(table: dict[bytes, tuple[K, ...]], address: bytes, key: K) -> None:
    """One less; an entry of none goes."""
    left = tuple(other for other in table[address] if other != key)
    if left:
        table[address] = left
    else:
        del table[address]


def count_down(counter: Counter[K], key: K) -> None:
    """One less; an entry of zero goes."""
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
