"""The table that follows from the policies: chains, sets of addresses, and who is judged by which chain. Pure.

    egress (-6)     forwarded from a pod here that a policy isolates: goto the chain of its policies
    ingress (-5)    forwarded to one
    from-gateway    out of the gateway's process on this node to a pod of this node: as ingress from another machine
    to-gateway      from a pod to the gateway on this node: as egress, judged by the address and port that the pod asked for

All stand after the service proxy has rewritten the destination, so that pods' addresses are seen. An `accept` ends one
direction only: the next hook judges the other. Connections that are there already go on, with what belongs to them.
What this node's own processes say to its pods, and pods to their node and to themselves, is never judged. Addresses that
are good on one link only say nothing of a pod: where somebody is judged, they lead from no pod of the bridge to another.

A pod is a key of a map per direction and family; the chain it leads to is that of its set of policies (`pods-in-…`), which
jumps to one chain a policy (`in-…`) and drops the rest. Peers are sets, named by what selects them: a pod that comes or
goes changes elements and no rule. Only policies that select a pod of this node are here at all.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cluster_agent.node.policy.ledger import Ledger, NamedPort
from cluster_agent.node.policy.model import (
    DIRECTIONS,
    EGRESS,
    INGRESS,
    PORT_MAX,
    Block,
    Chain,
    Group,
    Holder,
    Key,
    Port,
    Rule,
    Ruleset,
    family_of,
)

TABLE = "ubernetes-policy"
COMMENT_MAX = 120
"""nft takes 128 bytes."""
_TYPES = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}
_NEIGHBOURS = (
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, "
    "mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept"
)
"""Without these nobody finds anybody on an IPv6 link; bridged ones come by here too."""
_LINK_LOCAL = "fe80::/10"
_SHORT = {INGRESS: "in", EGRESS: "out"}


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where this node's gateway to other clusters is: what pods say to it leaves the cluster, what it says comes in."""

    address: str
    first: int
    last: int
    uid: int
    """The user its process runs as."""


@dataclass(slots=True)
class _Draft:
    """The table while it is written."""

    ledger: Ledger
    families: Sequence[str]
    holders: dict[str, Holder] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)

    def group(self, group: Group, family: str) -> str:
        """The set of a group's addresses of a family."""
        name = f"peers{_digit(family)}-{_digest(str(group))}"
        if name not in self.holders:
            found = self.ledger.addresses(group, family)
            self.holders[name] = Holder("set", f"type {_TYPES[family]}", found)
        return name

    def named(self, port: NamedPort, family: str) -> str:
        """The set of addresses, protocol and numbers behind a port's name."""
        name = f"ports{_digit(family)}-{_digest(' '.join(port))}"
        if name not in self.holders:
            spec = f"type {_TYPES[family]} . inet_proto . inet_service"
            self.holders[name] = Holder("set", spec, self.ledger.numbers(port, family))
        return name


def compile_rules(
    ledger: Ledger, families: Sequence[str], gateway: Gateway | None = None, bridge: str = ""
) -> Ruleset:
    """The table of this node; an empty one where no policy selects a pod of it. `bridge`: the name of the pods'."""
    draft = _Draft(ledger, families)
    judged: dict[str, dict[str, str]] = {direction: {} for direction in DIRECTIONS}
    """Direction -> address -> the profile that judges it."""
    profiles: dict[tuple[str, tuple[Key, ...]], str] = {}
    owners = _owners(ledger)
    for direction in DIRECTIONS:
        for key, policies in _isolated(ledger, direction):
            name = profiles.get((direction, policies))
            if name is None:
                name = profiles[direction, policies] = _profile(draft, direction, policies, gateway)
            for ip in (one for one in ledger.pods[key].ips if owners[one] == key):
                judged[direction][ip] = name
    if not profiles:
        return Ruleset()
    _bases(draft, judged, gateway, bridge)
    return Ruleset(draft.holders, draft.chains)


def _isolated(ledger: Ledger, direction: str) -> Iterator[tuple[Key, tuple[Key, ...]]]:
    """Pods of this node with the policies that select them in a direction."""
    local = set(ledger.local_pods())
    found: dict[Key, list[Key]] = {}
    for key in sorted(ledger.policies):
        policy = ledger.policies[key]
        if direction in policy.rules:
            for pod in ledger.subjects(policy) & local:
                found.setdefault(pod, []).append(key)
    for pod in sorted(found):
        yield pod, tuple(found[pod])


def _owners(ledger: Ledger) -> dict[str, Key]:
    """Whose address it is: of a pod that leaves and another that has got its address already, the other's."""
    local = sorted(ledger.local_pods(), key=lambda key: (not ledger.pods[key].leaving, key))
    return {ip: key for key in local for ip in ledger.pods[key].ips}


# ------------------------------------------------------------------------------------------------------------ chains
def _profile(
    draft: _Draft, direction: str, policies: tuple[Key, ...], gateway: Gateway | None
) -> str:
    """The chain of a set of policies, with theirs; its name."""
    short = _SHORT[direction]
    name = f"pods-{short}-{_digest(' '.join(map(str, policies)))}"
    ways = [(short, name, False)]
    if direction == EGRESS and gateway is not None:
        ways.append(("gate", _gate_name(name), True))
    for prefix, profile, original in ways:
        jumps = []
        for key in policies:
            chain = f"{prefix}-{_digest(str(key))}"
            if chain not in draft.chains:
                rules = draft.ledger.policies[key].rules[direction]
                words = (w for rule in rules for w in _rule(draft, direction, rule, original))
                draft.chains[chain] = Chain(tuple(dict.fromkeys(words)))
            jumps.append(f'jump {chain} comment "{str(key)[:COMMENT_MAX]}"')
        draft.chains[profile] = Chain((*jumps, "drop"))
    return name


def _gate_name(profile: str) -> str:
    return profile.replace("pods-out-", "pods-gate-")


def _rule(draft: _Draft, direction: str, rule: Rule, original: bool) -> Iterator[str]:
    """The nft rules of one item. `original`: of what the pod asked for, before anything was rewritten."""
    for family in draft.families:
        peers = list(_peers(draft, direction, rule, family, original))
        for peer in peers:
            for port in _ports(draft, rule, family, original):
                if peer or port:
                    yield f"{peer}{port}accept"
                else:
                    yield "accept"


def _peers(draft: _Draft, direction: str, rule: Rule, family: str, original: bool) -> Iterator[str]:
    """What the other end's address must match, with a blank behind; empty for everybody."""
    if not rule.peers:
        yield ""
        return
    end = "saddr" if direction == INGRESS else "daddr"
    field_ = f"ct original {family} {end}" if original else f"{family} {end}"
    groups = [] if original else [p for p in rule.peers if isinstance(p, Group)]
    for group in dict.fromkeys(groups):
        yield f"{field_} @{draft.group(group, family)} "
    blocks = [p for p in rule.peers if isinstance(p, Block) and p.family == family]
    whole = _collapsed(block.cidr for block in blocks if not block.excepts)
    if whole:
        yield f"{field_} {_one_of(whole)} "
    for block in dict.fromkeys(b for b in blocks if b.excepts):
        (cidr,) = _collapsed((block.cidr,))
        yield f"{field_} {cidr} {field_} != {_one_of(_collapsed(block.excepts))} "


def _ports(draft: _Draft, rule: Rule, family: str, original: bool) -> Iterator[str]:
    """What protocol and port must match, with a blank behind; empty for everything."""
    if not rule.ports:
        yield ""
        return
    for protocol in dict.fromkeys(port.protocol for port in rule.ports):
        mine = [port for port in rule.ports if port.protocol == protocol and not port.name]
        if any(port.first is None for port in mine):
            yield f"meta l4proto {protocol} "
        elif mine:
            numbers = _one_of(_spans(mine))
            port_field = "ct original proto-dst" if original else f"{protocol} dport"
            guard = f"meta l4proto {protocol} " if original else ""
            yield f"{guard}{port_field} {numbers} "
    if original:
        return
    for named in dict.fromkeys((port.name, port.protocol) for port in rule.ports if port.name):
        yield f"{family} daddr . meta l4proto . th dport @{draft.named(named, family)} "


def _bases(
    draft: _Draft, judged: dict[str, dict[str, str]], gateway: Gateway | None, bridge: str
) -> None:
    """The chains that the kernel calls, and the maps by which they find a pod's chain."""
    everyone = {ip for addresses in judged.values() for ip in addresses}
    known = ["ct state established,related accept", _NEIGHBOURS]
    for family in draft.families:
        own = frozenset(f"{ip} . {ip}" for ip in everyone if family_of(ip) == family)
        name = f"self{_digit(family)}"
        draft.holders[name] = Holder("set", f"type {_TYPES[family]} . {_TYPES[family]}", own)
        known.append(f"{family} saddr . {family} daddr @{name} accept")
    if bridge:
        ends = ("saddr", "daddr")
        known += [f'iifname "{bridge}" ip6 {end} {_LINK_LOCAL} drop' for end in ends]
    for direction, priority in ((EGRESS, -6), (INGRESS, -5)):
        jumps = list(_dispatch(draft, direction, direction, judged[direction]))
        draft.chains[direction] = Chain((*known, *jumps), _hook("forward", priority))
    if gateway is None:
        return
    first = known[:1]
    reached = {ip: _gate_name(name) for ip, name in judged[EGRESS].items()}
    jumps = list(_dispatch(draft, "gate", EGRESS, reached, only="ip"))
    to = f"ip daddr != {gateway.address} accept"
    ports = f"tcp dport != {gateway.first}-{gateway.last} accept"
    draft.chains["to-gateway"] = Chain((*first, to, ports, *jumps), _hook("input", -6))
    jumps = list(_dispatch(draft, INGRESS, INGRESS, judged[INGRESS]))
    draft.chains["gateway-speaks"] = Chain(tuple(jumps))
    # Said of who it is, not of who it is not: a packet without a socket has no user, and matches neither.
    speaks = f"meta skuid {gateway.uid} goto gateway-speaks"
    draft.chains["from-gateway"] = Chain((*first, speaks), _hook("output", -5))


def _dispatch(
    draft: _Draft, base: str, direction: str, judged: dict[str, str], only: str = ""
) -> Iterator[str]:
    end = "saddr" if direction == EGRESS else "daddr"
    for family in draft.families:
        if only and family != only:
            continue
        name = f"{base}{_digit(family)}"
        mine = {ip: chain for ip, chain in judged.items() if family_of(ip) == family}
        elements = frozenset(f"{ip} : goto {chain}" for ip, chain in mine.items())
        draft.holders[name] = Holder("map", f"type {_TYPES[family]} : verdict", elements)
        yield f"{family} {end} vmap @{name}"


# ------------------------------------------------------------------------------------------------------------- words
def _hook(hook: str, priority: int) -> str:
    return f"{{ type filter hook {hook} priority {priority} ; policy accept ; }}"


def _digit(family: str) -> str:
    return "6" if family == "ip6" else "4"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _collapsed(cidrs: Iterable[str]) -> list[str]:
    """Ranges of one family, none inside another: nft wants it so."""
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
    four = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv6Network))
    return [str(network) for network in (*four, *six)]


def _spans(ports: Iterable[Port]) -> list[str]:
    """Numbers and ranges in order, none inside another."""
    spans = sorted(
        (port.first, max(port.first, port.last or port.first))
        for port in ports
        if port.first is not None
    )
    merged: list[tuple[int, int]] = []
    for first, last in spans:
        assert 0 < first <= last <= PORT_MAX, f"ports {first}-{last}"
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return [str(first) if first == last else f"{first}-{last}" for first, last in merged]


def _one_of(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"
