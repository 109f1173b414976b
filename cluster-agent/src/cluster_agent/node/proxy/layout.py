"""The table's frame: which maps and chains there are, and which rules connect them. No elements, no state.

    gate (-110)       closed ports: reject or drop before anything is rewritten
    services (-100)   remembered client, then slot maps: one lookup a size class, `numgen` picks the slot
    guard (-90)       what still bears a service address has no such port: reject; clients with affinity are remembered
    masquerade (100)  hairpin, host processes, and what would be answered past this node

Every map and set but `affinity` carries a generation number: a full load fills new ones beside those in use, and one
transaction moves the rules over. Source addresses are kept wherever the answer comes back through this node anyway.
A table of another name is never named.

What nft 1.0.6 (Debian 12) wants: slot maps for each protocol, since `th dport` in a map that the kernel already has is
misread; `meta l4proto tcp` before `ct original proto-dst`. It also runs out of registers, and aborts the process, for a
map of remembered IPv6 clients: there the slot is picked by a hash of the client's address, so a client keeps its
endpoint as long as that endpoint keeps the slot, and affinity has no timeout.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cluster_agent.node.proxy.model import PROTOCOLS, ProxyConfig, family_of
from cluster_agent.node.proxy.slots import CLASSES

TABLE = "ubernetes-proxy"
SPACES = ("vip", "port", "outvip", "outport")
"""Service addresses and node ports; `out`: only for clients that are neither this node nor its pods."""
AFFINITY_CLIENTS_MAX = 65_536
HASHED = "hash"

Transaction = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """One family's table in one generation."""

    config: ProxyConfig
    family: str
    generation: int
    bridge_filters: bool
    timeouts: frozenset[int] = frozenset()
    """Affinity times in use; each has its own rule, since a rule's timeout is a constant."""

    @property
    def remembers(self) -> bool:
        """Whether clients with affinity are remembered one by one; if not, their slot is a hash of their address."""
        return self.family == "ip"

    @property
    def table(self) -> str:
        return f"{self.family} {TABLE}"

    def name(self, base: str) -> str:
        """A map or set of this generation."""
        return f"{base}-{self.generation}"

    # -------------------------------------------------------------------------------------------------- map and set
    def holders(self) -> dict[str, str]:
        """Names of maps and sets, and the command that adds each."""
        address = "ipv6_addr" if self.family == "ip6" else "ipv4_addr"
        front = {
            "vip": f"{address} . inet_proto . inet_service",
            "port": "inet_proto . inet_service",
        }
        made: dict[str, str] = {}

        def add(what: str, name: str, spec: str) -> None:
            made[name] = f"add {what} {self.table} {name} {{ {spec} ; }}"

        for space in SPACES:
            kind = space.removeprefix("out")
            for protocol in PROTOCOLS:
                for size in CLASSES:
                    key = self._key(kind, protocol, size)
                    value = f"{self.family} daddr . {protocol} dport"
                    add("map", self.slot_map(space, size, protocol), f"typeof {key} : {value}")
            add("map", self.name(f"closed-{space}"), f"type {front[kind]} : verdict")
        for kind in ("vip", "port"):
            add("set", self.name(f"fronts-{kind}"), f"type {front[kind]}")
        add("set", self.name("cluster-ips"), f"type {address}")
        add("set", self.name("hairpin"), f"type {address} . {address}")
        for tail in sorted(map(str, self.timeouts)) if self.remembers else (HASHED,):
            made.update(self._sticky(tail))
        if not self.remembers:
            return made
        add(
            "map",
            "affinity",
            f"type {address} . {front['vip']} : {address} . inet_service ; flags dynamic,timeout ; "
            f"size {AFFINITY_CLIENTS_MAX}",
        )
        return made

    def _sticky(self, tail: str) -> dict[str, str]:
        address = "ipv6_addr" if self.family == "ip6" else "ipv4_addr"
        types = {
            "vip": f"{address} . inet_proto . inet_service",
            "port": "inet_proto . inet_service",
        }
        return {
            name: f"add set {self.table} {name} {{ type {spec} ; }}"
            for kind, spec in types.items()
            for name in [self.name(f"sticky-{kind}-{tail}")]
        }

    def new_timeout(self, seconds: int) -> Transaction:
        """What one more affinity time needs in a table that is loaded."""
        rules = (f"add rule {self.table} remember {rule}" for rule in self._remember(seconds))
        return (*self._sticky(str(seconds)).values(), *rules)

    # -------------------------------------------------------------------------------------------------------- rules
    def chains(self) -> dict[str, tuple[str, list[str]]]:
        """Chain names with their hook (empty: none) and rules, each after those it jumps to."""
        gate, nat, guard = "filter", "nat", "filter"
        return {
            "refuse": ("", ["reject"]),
            "gate": ("", list(self._gate())),
            "vips": ("", list(self._slots("vip"))),
            "ports": ("", list(self._slots("port"))),
            "outside": ("", list(self._outside())),
            "services": ("", list(self._services())),
            "remember": ("", [r for s in sorted(self.timeouts) for r in self._remember(s)]),
            "guard": ("", list(self._guard())),
            "masquerading": ("", list(self._masquerading())),
            "gate-prerouting": (_hook(gate, "prerouting", -110), ["ct state new jump gate"]),
            "gate-output": (_hook(gate, "output", -110), ["ct state new jump gate"]),
            "nat-prerouting": (_hook(nat, "prerouting", -100), ["jump services"]),
            "nat-output": (_hook(nat, "output", -100), ["jump services"]),
            "guard-prerouting": (_hook(guard, "prerouting", -90), ["ct state new jump guard"]),
            "guard-output": (_hook(guard, "output", -90), ["ct state new jump guard"]),
            "nat-postrouting": (_hook(nat, "postrouting", 100), list(self._postrouting())),
        }

    @property
    def _pods(self) -> str:
        return _ranges(self.config.pod_cidrs, self.family)

    @property
    def _vip(self) -> str:
        return f"{self.family} daddr . meta l4proto . th dport"

    @property
    def _to_node(self) -> str:
        loopback = "::1" if self.family == "ip6" else "127.0.0.0/8"
        return f"{self.family} daddr != {loopback} fib daddr type local"

    @property
    def _from_outside(self) -> str:
        return f"{self.family} saddr != {self._pods} fib saddr type != local"

    def _gate(self) -> Iterator[str]:
        port = "meta l4proto . th dport"
        yield f"{self._from_outside} {self._vip} vmap @{self.name('closed-outvip')}"
        yield f"{self._from_outside} {self._to_node} {port} vmap @{self.name('closed-outport')}"
        yield f"{self._vip} vmap @{self.name('closed-vip')}"
        yield f"{self._to_node} {port} vmap @{self.name('closed-port')}"

    def slot_map(self, space: str, size: int, protocol: str) -> str:
        """The name of a slot map."""
        return self.name(f"{space}{size}-{protocol}")

    def _key(self, kind: str, protocol: str, size: int, how: str = "numgen random") -> str:
        address = f"{self.family} daddr . " if kind == "vip" else ""
        pick = f" . {how} mod {size}" if size > 1 else ""
        return f"{address}{protocol} dport{pick}"

    def _dnat(self, space: str, *, hashed: bool = False) -> Iterator[str]:
        kind = space.removeprefix("out")
        guard = f"{self._to_node} " if kind == "port" else ""
        how = "numgen random"
        if hashed:
            front = self._vip if kind == "vip" else "meta l4proto . th dport"
            guard += f"{front} @{self.name(f'sticky-{kind}-{HASHED}')} "
            how = f"jhash {self.family} saddr"
        for protocol in PROTOCOLS:
            for size in CLASSES:
                key = self._key(kind, protocol, size, how)
                yield (
                    f"meta l4proto {protocol} {guard}dnat {self.family} to {key} "
                    f"map @{self.slot_map(space, size, protocol)}"
                )

    def _slots(self, space: str) -> Iterator[str]:
        if not self.remembers:
            yield from self._dnat(space, hashed=True)
        yield from self._dnat(space)

    def _outside(self) -> Iterator[str]:
        yield from self._slots("outvip")
        yield from self._slots("outport")

    def _services(self) -> Iterator[str]:
        if self.remembers:
            yield f"dnat {self.family} to {self.family} saddr . {self._vip} map @affinity"
        yield f"{self._from_outside} jump outside"
        yield f"{self._vip} @{self.name('fronts-vip')} goto vips"
        yield f"meta l4proto . th dport @{self.name('fronts-port')} {self._to_node} goto ports"

    def _guard(self) -> Iterator[str]:
        yield "ct status dnat goto remember"
        yield f"{self.family} daddr @{self.name('cluster-ips')} reject"
        ranges = _ranges(self.config.service_cidrs, self.family)
        if ranges:
            yield f"{self.family} daddr {ranges} drop"

    def _original(self, kind: str) -> Iterator[str]:
        for protocol in PROTOCOLS:
            address = f"ct original {self.family} daddr . " if kind == "vip" else ""
            yield f"meta l4proto {protocol} {address}meta l4proto . ct original proto-dst"

    def _remember(self, seconds: int) -> Iterator[str]:
        for kind in ("vip", "port"):
            for match in self._original(kind):
                yield (
                    f"{match} @{self.name(f'sticky-{kind}-{seconds}')} update @affinity "
                    f"{{ {self.family} saddr . ct original {self.family} daddr . meta l4proto . "
                    f"ct original proto-dst timeout {seconds}s : {self.family} daddr . th dport }}"
                )

    def _postrouting(self) -> Iterator[str]:
        for kind in ("vip", "port"):
            for match in self._original(kind):
                yield f"ct status dnat {match} @{self.name(f'fronts-{kind}')} jump masquerading"
        keep = _ranges((*self.config.egress_except, *self.config.pod_cidrs), self.family)
        if _ranges(self.config.egress_except, self.family):
            yield (
                f"{self.family} saddr {self._pods} {self.family} daddr != {keep} "
                "masquerade fully-random"
            )

    def _masquerading(self) -> Iterator[str]:
        source, target = f"{self.family} saddr", f"{self.family} daddr"
        yield f"{source} . {target} @{self.name('hairpin')} masquerade fully-random"
        if not self.bridge_filters:
            yield f"{source} {self._pods} {target} {self._pods} masquerade fully-random"
        yield "fib saddr type local masquerade fully-random"
        yield f"{source} != {self._pods} {target} != {self._pods} masquerade fully-random"

    # ------------------------------------------------------------------------------------------------- transactions
    def prepare(self) -> Transaction:
        """The table and this generation's maps, empty and unused; and the chain that elements jump to."""
        return (
            f"add table {self.table}",
            *self.holders().values(),
            f"add chain {self.table} refuse",
        )

    def switch(self, present: Iterable[tuple[str, str]]) -> Transaction:
        """All rules move to this generation at once. `present`: what the table holds, of whatever version."""
        chains = self.chains()
        old = [name for what, name in present if what == "chain" and name not in chains]
        lines = [f"add chain {self.table} {n} {hook}".rstrip() for n, (hook, _) in chains.items()]
        lines += [f"flush chain {self.table} {name}" for name in (*chains, *old)]
        lines += [
            f"add rule {self.table} {name} {rule}"
            for name, (_, rules) in chains.items()
            for rule in rules
        ]
        return tuple(lines)

    def clean(self, present: Iterable[tuple[str, str]]) -> Transaction:
        """Take away what the table holds beyond this generation."""
        keep = {*self.holders(), *self.chains()}
        stale = [(what, name) for what, name in present if name not in keep]
        order = sorted(stale, key=lambda item: item[0] == "chain")  # maps may hold jumps to chains
        return tuple(f"delete {what} {self.table} {name}" for what, name in order)


def _hook(kind: str, hook: str, priority: int) -> str:
    return f"{{ type {kind} hook {hook} priority {priority} ; policy accept ; }}"


def _ranges(cidrs: Iterable[str], family: str) -> str:
    mine = [ipaddress.ip_network(cidr) for cidr in cidrs if family_of(cidr) == family]
    four = ipaddress.collapse_addresses(n for n in mine if isinstance(n, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(n for n in mine if isinstance(n, ipaddress.IPv6Network))
    texts = [str(network) for network in (*four, *six)]
    return f"{{ {', '.join(texts)} }}" if texts else ""


def next_generation(present: Iterable[tuple[str, str]]) -> int:
    """One above every generation that is in the table."""
    tails = [name.rpartition("-")[2] for _, name in present]
    return max((int(tail) for tail in tails if tail.isdigit()), default=0) + 1
