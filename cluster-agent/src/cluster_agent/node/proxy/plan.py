"""From what is wanted and what is installed to transactions for the kernel. Pure: nothing here touches the kernel.

    entry(service, before)          what one Service puts into the table: fronts, their slots, shared elements
    plan_changes(ledger, changes)   the entries that change, and what must follow
    transactions(ledger, plan)      the difference, in as few elements as possible
    plan_load(ledger, frame)        everything, into maps of a new generation, rules last

A Ledger is what we believe is installed; it changes only by `commit`, after the kernel has agreed. Two Services that
want the same address and port: the one that has it keeps it, the other waits and is noted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cluster_agent.node.proxy.layout import HASHED, Frame, Transaction
from cluster_agent.node.proxy.model import Note, ProxyConfig, Service, ServicePort, family_of
from cluster_agent.node.proxy.slots import Slots, assign, choose

SERVICES_PER_TRANSACTION_MAX = 2_000
ELEMENTS_PER_TRANSACTION_MAX = 20_000
"""Bounds the memory of libnftables (2 KiB an element) and how long the kernel holds its lock."""
ELEMENTS_PER_COMMAND_MAX = 4_000

Element = tuple[str, str]
"""Map or set without its generation, and key."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where clients knock: a service address, or a node port (no ip)."""

    ip: str
    protocol: str
    port: int

    @property
    def kind(self) -> str:
        return "vip" if self.ip else "port"

    @property
    def key(self) -> str:
        text = f"{self.protocol} . {self.port}"
        return f"{self.ip} . {text}" if self.ip else text


@dataclass(frozen=True, slots=True)
class Front:
    """An address as one kind of client sees it."""

    address: Address
    outside: bool
    """Only for clients that are neither this node nor its pods (externalTrafficPolicy Local)."""
    slots: Slots | None
    closed: str = ""
    """The verdict without slots."""

    def elements(self) -> Iterator[tuple[Element, str]]:
        """What it puts into the table."""
        space = ("out" if self.outside else "") + self.address.kind
        if self.slots is None:
            yield (f"closed-{space}", self.address.key), self.closed
            return
        name = f"{space}{self.slots.size}-{self.address.protocol}"
        key = " . ".join(filter(None, (self.address.ip, str(self.address.port))))
        if self.slots.size == 1:
            yield (name, key), self.slots.holders[0]
        else:
            for number, holder in enumerate(self.slots.holders):
                yield (name, f"{key} . {number}"), holder


@dataclass(frozen=True, slots=True)
class Entry:
    """What one Service has in one family's table."""

    service: Service
    fronts: Mapping[tuple[Address, bool], Front]
    pools: Mapping[tuple[str, int, bool], Slots]
    """By protocol, port and locality: where the next assignment starts from."""
    sticky: str
    """How its clients keep their endpoint: seconds, "hash" (see `layout`), or not at all."""
    shared: frozenset[Element]
    """Elements that several Services may want."""

    def addresses(self) -> set[Address]:
        return {address for address, _ in self.fronts}

    def targets(self, address: Address) -> frozenset[str]:
        """Everything that a connection to this address may have been sent to."""
        found: set[str] = set()
        for outside in (False, True):
            front = self.fronts.get((address, outside))
            if front is not None and front.slots is not None:
                found.update(front.slots.holders)
        return frozenset(found)

    def marks(self, address: Address) -> Iterator[tuple[Element, str]]:
        """Elements that an address has whatever stands behind it."""
        yield (f"fronts-{address.kind}", address.key), ""
        if self.sticky:
            yield (f"sticky-{address.kind}-{self.sticky}", address.key), ""

    def elements(self) -> Iterator[tuple[Element, str]]:
        """All of its own."""
        for address in self.addresses():
            yield from self.marks(address)
        for front in self.fronts.values():
            yield from front.elements()


def _times(entry: Entry | None) -> Iterator[int]:
    if entry is not None and entry.fronts and entry.sticky.isdigit():
        yield int(entry.sticky)


@dataclass(slots=True)
class Ledger:
    """What is installed in one family's table."""

    family: str
    entries: dict[str, Entry] = field(default_factory=dict)
    owners: dict[Address, str] = field(default_factory=dict)
    waiting: dict[Address, set[str]] = field(default_factory=dict)
    """Services that lost an address to another: they are looked at again when it is free."""
    shared: Counter[Element] = field(default_factory=Counter)

    def timeouts(self) -> frozenset[int]:
        """Affinity times in use."""
        return frozenset(seconds for e in self.entries.values() for seconds in _times(e))

    def sticky(self, address: Address) -> frozenset[str]:
        """Targets that a remembered client of this address may still have; none if it has no affinity."""
        entry = self.entries.get(self.owners.get(address, ""))
        return entry.targets(address) if entry and entry.service.affinity_s else frozenset()

    def commit(self, plan: "Plan") -> None:
        """The kernel has it."""
        touched: set[Element] = set()
        for key, entry in plan.entries.items():
            before = self.entries.pop(key, None)
            if before is not None:
                for address in before.addresses():
                    if self.owners.get(address) == key:
                        del self.owners[address]
                self.shared.subtract(before.shared)
                touched |= before.shared
            if entry is not None:
                self.entries[key] = entry
                self.shared.update(entry.shared)
        for key, entry in plan.entries.items():
            self.owners.update(dict.fromkeys(entry.addresses() if entry else (), key))
        for element in touched:
            if not self.shared[element]:
                del self.shared[element]
        self.waiting = {address: set(keys) for address, keys in plan.waiting.items()}


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: first its `transactions`, then `commit`, then connections and remembered clients."""

    entries: Mapping[str, Entry | None]
    waiting: Mapping[Address, set[str]]
    flows: Mapping[Address, frozenset[str]]
    """UDP and SCTP addresses whose targets changed, and TCP addresses that lost one, with those they have now."""
    sweep: bool
    """Remembered clients may point at an endpoint that is gone."""
    notes: tuple[Note, ...]


# ------------------------------------------------------------------------------------------------------------- entries
def wanted(service: Service, family: str) -> list[tuple[Address, ServicePort, str]]:
    """The addresses of a Service in a family: ("cluster" | "external", as clients come)."""
    found: list[tuple[Address, ServicePort, str]] = []
    inside = [ip for ip in service.cluster_ips if family_of(ip) == family]
    outside = [ip for ip in service.external_ips if family_of(ip) == family]
    for port in service.ports:
        found += [(Address(ip, port.protocol, port.port), port, "cluster") for ip in inside]
        found += [(Address(ip, port.protocol, port.port), port, "external") for ip in outside]
        if port.node_port and inside:
            found.append((Address("", port.protocol, port.node_port), port, "external"))
    return found


def make_entry(
    key: str,
    service: Service,
    before: Entry | None,
    addresses: Iterable[tuple[Address, ServicePort, str]],
    config: ProxyConfig,
    family: str,
    now: float,
) -> Entry:
    """What a Service installs at these addresses, with slots as near to `before` as may be."""
    pools: dict[tuple[str, int, bool], Slots] = {}
    made: dict[tuple[str, int, bool], Slots | None] = {}
    fronts: dict[tuple[Address, bool], Front] = {}
    own: set[str] = set()

    def slots(port: ServicePort, local: bool) -> Slots | None:
        name = (port.protocol, port.port, local)
        if name not in made:
            mine = (e for e in port.endpoints if family_of(e.ip) == family)
            weights = choose(mine, config.node if local else "")
            last = before.pools.get(name) if before is not None else None
            found = assign(last, weights, now, f"{key} {name}") if weights else None
            made[name] = found
            if found is not None:
                pools[name] = found
        return made[name]

    def add(address: Address, port: ServicePort, outside: bool, local: bool) -> None:
        found = slots(port, local)
        fronts[address, outside] = Front(
            address, outside, found, "drop" if local else "goto refuse"
        )

    for address, port, side in addresses:
        if side == "cluster":
            add(address, port, outside=False, local=service.internal_local)
            own.add(address.ip)
        else:
            add(address, port, outside=False, local=False)
            if service.external_local:
                add(address, port, outside=True, local=True)
    shared = {("cluster-ips", ip) for ip in own}
    for port in service.ports if fronts else ():
        shared |= {
            ("hairpin", f"{e.ip} . {e.ip}")
            for e in port.endpoints
            if e.node == config.node and family_of(e.ip) == family
        }
    sticky = str(service.affinity_s) if family == "ip" else HASHED
    return Entry(service, fronts, pools, sticky if service.affinity_s else "", frozenset(shared))


# ------------------------------------------------------------------------------------------------------------- changes
@dataclass(slots=True)
class _Claims:
    """Who gets which address while a step is planned."""

    ledger: Ledger
    taken: dict[Address, str] = field(default_factory=dict)
    freed: set[Address] = field(default_factory=set)
    waiting: dict[Address, set[str]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def take(self, address: Address, key: str) -> bool:
        holder = self.taken.get(address)
        if holder is None and address not in self.freed:
            holder = self.ledger.owners.get(address)
        if holder is not None and holder != key:
            self.waiting.setdefault(address, set()).add(key)
            self.notes.append(
                Note(
                    key,
                    "AddressInUse",
                    f"{address.key.replace(' . ', ' ')} is served for {holder} already",
                )
            )
            return False
        self.taken[address] = key
        return True


def plan_changes(
    ledger: Ledger,
    changes: Mapping[str, Service | None],
    config: ProxyConfig,
    now: float,
) -> Plan:
    """The step from the ledger to the ledger with these Services changed (None: gone)."""
    family = ledger.family
    work = dict(changes)
    claims = _Claims(ledger)
    claims.waiting = {a: {k for k in keys if k not in work} for a, keys in ledger.waiting.items()}
    freed = {a: key for key, service in work.items() for a in _frees(ledger, key, service)}
    for address in freed:
        for key in sorted(claims.waiting.pop(address, ())):
            if key in ledger.entries:
                work.setdefault(key, ledger.entries[key].service)
    claims.waiting = {a: left for a, keys in claims.waiting.items() if (left := keys - set(work))}
    claims.freed = set(freed)
    entries: dict[str, Entry | None] = {}
    order = sorted(work, key=lambda key: (key not in freed.values(), key))
    for key in order:
        service = work[key]
        if service is None:
            entries[key] = None
            continue
        mine = [item for item in wanted(service, family) if claims.take(item[0], key)]
        entries[key] = make_entry(key, service, ledger.entries.get(key), mine, config, family, now)
        claims.notes += _left_out(key, entries[key], ledger.entries.get(key))
    return Plan(
        entries=entries,
        waiting=claims.waiting,
        flows=_flows(ledger, entries),
        sweep=any(_sweeps(ledger.entries.get(key), entry) for key, entry in entries.items()),
        notes=tuple(claims.notes),
    )


def _frees(ledger: Ledger, key: str, service: Service | None) -> set[Address]:
    before = ledger.entries.get(key)
    if before is None:
        return set()
    after = {a for a, _, _ in wanted(service, ledger.family)} if service is not None else set()
    return before.addresses() - after


def _left_out(key: str, entry: Entry | None, before: Entry | None) -> Iterator[Note]:
    for name, slots in entry.pools.items() if entry is not None else ():
        last = before.pools.get(name) if before is not None else None
        if slots.left_out and (last is None or not last.left_out):
            yield Note(
                key,
                "EndpointsTruncated",
                f"port {name[1]}/{name[0]} has {slots.left_out} endpoints more than the {slots.size} "
                "a node can spread over; a stable random subset is used",
            )


def _flows(ledger: Ledger, entries: Mapping[str, Entry | None]) -> dict[Address, frozenset[str]]:
    old: dict[Address, frozenset[str]] = {}
    new: dict[Address, frozenset[str]] = {}
    for key, entry in entries.items():
        for found, side in ((ledger.entries.get(key), old), (entry, new)):
            if found is not None:
                side.update({a: found.targets(a) for a in found.addresses()})
    return {
        address: new.get(address, frozenset())
        for address in {**old, **new}
        if _misled(address.protocol, old.get(address), new.get(address))
    }


def _misled(protocol: str, old: frozenset[str] | None, new: frozenset[str] | None) -> bool:
    """Whether entries may lead astray: of TCP, only those of a target that went."""
    return bool((old or frozenset()) - (new or frozenset())) if protocol == "tcp" else old != new


def _sweeps(before: Entry | None, entry: Entry | None) -> bool:
    if before is None or not before.service.affinity_s:
        return False
    kept = entry if entry is not None and entry.service.affinity_s else None
    return any(
        before.targets(a) - (kept.targets(a) if kept is not None else frozenset())
        for a in before.addresses()
    )


# -------------------------------------------------------------------------------------------------------- transactions
def new_timeouts(plan: Plan, frame: Frame) -> frozenset[int]:
    """Affinity times that the frame has no rule for yet."""
    times = {seconds for entry in plan.entries.values() for seconds in _times(entry)}
    return frozenset(times - frame.timeouts)


@dataclass(slots=True)
class _Batch:
    """Elements of one transaction: what goes, with the value it had, and what comes."""

    gone: dict[Element, str] = field(default_factory=dict)
    come: dict[Element, str] = field(default_factory=dict)
    services: int = 0

    def differ(self, before: Entry | None, entry: Entry | None) -> None:
        """Count the difference of one Service in."""
        self.services += 1
        old, new = _unequal(before, entry), _unequal(entry, before)
        self.gone.update(old)
        self.come.update(new)

    @property
    def full(self) -> bool:
        return (
            self.services >= SERVICES_PER_TRANSACTION_MAX
            or len(self.gone) + len(self.come) >= ELEMENTS_PER_TRANSACTION_MAX
        )

    def commands(self, frame: Frame) -> Iterator[str]:
        """Deletions first: an element may come back with another value."""
        same = {e for e, value in self.gone.items() if self.come.get(e) == value}
        yield from _commands("delete", frame, {e: "" for e in self.gone if e not in same})
        yield from _commands("add", frame, {e: v for e, v in self.come.items() if e not in same})


def _unequal(entry: Entry | None, other: Entry | None) -> dict[Element, str]:
    """Elements of `entry` save those of parts that `other` has just so."""
    if entry is None:
        return {}
    found: dict[Element, str] = {}
    for name, front in entry.fronts.items():
        if other is None or other.fronts.get(name) != front:
            found.update(front.elements())
    kept = other.addresses() if other is not None else set()
    alike = other is not None and other.sticky == entry.sticky
    for address in entry.addresses():
        if not alike or address not in kept:
            found.update(entry.marks(address))
    return found


def _commands(verb: str, frame: Frame, elements: Mapping[Element, str]) -> Iterator[str]:
    by_map: dict[str, list[str]] = {}
    for (name, key), value in elements.items():
        by_map.setdefault(name, []).append(f"{key} : {value}" if value else key)
    for name, texts in by_map.items():
        for start in range(0, len(texts), ELEMENTS_PER_COMMAND_MAX):
            part = " , ".join(texts[start : start + ELEMENTS_PER_COMMAND_MAX])
            yield f"{verb} element {frame.table} {frame.name(name)} {{ {part} }}"


def transactions(ledger: Ledger, plan: Plan, frame: Frame) -> Iterator[Transaction]:
    """The commands of a step, before it is committed. A Service is never cut in two."""
    come, gone = _shared(ledger, plan)
    batch = _Batch(come=dict.fromkeys(come, ""))
    first = [c for s in sorted(new_timeouts(plan, frame)) for c in frame.new_timeout(s)]
    for key, entry in plan.entries.items():
        if batch.full:
            yield (*first, *batch.commands(frame))
            batch, first = _Batch(), []
        batch.differ(ledger.entries.get(key), entry)
    batch.gone.update(dict.fromkeys(gone, ""))
    commands = (*first, *batch.commands(frame))
    if commands:
        yield commands


def _shared(ledger: Ledger, plan: Plan) -> tuple[list[Element], list[Element]]:
    change: Counter[Element] = Counter()
    for key, entry in plan.entries.items():
        before = ledger.entries.get(key)
        change.update(entry.shared if entry is not None else ())
        change.subtract(before.shared if before is not None else ())
    come = [e for e, n in change.items() if n > 0 and not ledger.shared[e]]
    gone = [e for e, n in change.items() if n < 0 and not ledger.shared[e] + n]
    return come, gone


def plan_load(
    ledger: Ledger, frame: Frame, present: Sequence[tuple[str, str]]
) -> Iterator[Transaction]:
    """The whole ledger into a new generation. What serves now goes on until the last but one transaction."""
    yield frame.prepare()
    batch = _Batch(come=dict.fromkeys(ledger.shared, ""))
    for key in sorted(ledger.entries):
        if batch.full:
            yield tuple(batch.commands(frame))
            batch = _Batch()
        batch.differ(None, ledger.entries[key])
    if commands := tuple(batch.commands(frame)):
        yield commands
    yield frame.switch(present)
    if commands := frame.clean(present):
        yield commands
