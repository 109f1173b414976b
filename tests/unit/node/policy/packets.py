"""A table judged by hand: which packets it lets through. It knows the words that `layout` writes and no others."""

import ipaddress
import re
from dataclasses import dataclass

from cluster_agent.node.policy.model import Ruleset

_WORD = re.compile(
    r"(?P<pair>(?:ip6?) saddr \. (?:ip6?) daddr) @(?P<pairs>\S+)"
    r"|(?P<triple>(?:ip6?) daddr \. meta l4proto \. th dport) @(?P<triples>\S+)"
    r"|(?P<vmap>(?:ip6?) (?:saddr|daddr)) vmap @(?P<map>\S+)"
    r"|(?P<address>(?:ct original )?(?:ip6?) (?:saddr|daddr)) (?P<unlike>!= )?(?P<ranges>@\S+|\{[^}]*\}|\S+)"
    r"|(?P<port>(?:tcp|udp|sctp) dport|ct original proto-dst) (?P<than>!= )?(?P<numbers>\{[^}]*\}|\S+)"
    r"|meta l4proto (?P<protocol>\S+)"
    r"|meta skuid (?P<user>\d+)"
    r"|ct state (?P<state>\S+)"
    r"|icmpv6 type (?P<icmp>\{[^}]*\})"
    r'|comment "[^"]*"'
    r"|(?P<verdict>accept|drop)|(?:jump|goto) (?P<chain>\S+)"
)


@dataclass(frozen=True)
class Packet:
    """The first of a connection, after the service proxy; `asked` is what it was sent to, where that is another."""

    source: str
    target: str
    port: int = 80
    protocol: str = "tcp"
    asked: tuple[str, int] | None = None
    user: int = 0


def passes(ruleset: Ruleset, packet: Packet, *hooks: str) -> bool:
    """Whether all hooks let it through; by default those of forwarding."""
    if not ruleset.chains:
        return True
    return all(_judge(ruleset, hook, packet) != "drop" for hook in hooks or ("egress", "ingress"))


def _judge(ruleset: Ruleset, chain: str, packet: Packet) -> str:
    for rule in ruleset.chains[chain].rules:
        verdict = _rule(ruleset, rule, packet)
        if verdict:
            return verdict
    return ""


def _rule(ruleset: Ruleset, rule: str, packet: Packet) -> str:
    at = 0
    while at < len(rule):
        match = _WORD.match(rule, at)
        assert match is not None, f"unknown word in {rule!r} at {rule[at:]!r}"
        at = match.end() + 1
        found = match.groupdict()
        if found["verdict"]:
            return str(found["verdict"])
        if found["chain"]:
            return _judge(ruleset, found["chain"], packet)
        if found["vmap"]:
            key = _address(found["vmap"], packet)
            leads = dict(e.split(" : goto ") for e in ruleset.holders[found["map"]].elements)
            return _judge(ruleset, leads[key], packet) if key in leads else ""
        if not _matches(ruleset, found, packet):
            return ""
    return ""


def _matches(ruleset: Ruleset, found: dict[str, str], packet: Packet) -> bool:
    if found["pair"]:
        mine = f"{packet.source} . {packet.target}"
        return mine in ruleset.holders[found["pairs"]].elements
    if found["triple"]:
        mine = f"{packet.target} . {packet.protocol} . {packet.port}"
        return mine in ruleset.holders[found["triples"]].elements
    if found["address"]:
        inside = _in(ruleset, found["address"], found["ranges"], packet)
        return not inside if found["unlike"] else inside
    if found["port"]:
        within = _number(found["port"], found["numbers"], packet)
        return not within if found["than"] else within
    if found["protocol"]:
        return packet.protocol == found["protocol"]
    if found["user"]:
        return packet.user == int(found["user"])
    return not (found["state"] or found["icmp"])


def _address(field: str, packet: Packet) -> str:
    if field.startswith("ct original"):
        return packet.asked[0] if packet.asked else packet.target
    return packet.source if field.endswith("saddr") else packet.target


def _in(ruleset: Ruleset, field: str, ranges: str, packet: Packet) -> bool:
    mine = _address(field, packet)
    family = "ip6" if ":" in mine else "ip"
    if family not in field.split():
        return False
    if ranges.startswith("@"):
        return mine in ruleset.holders[ranges[1:]].elements
    return any(ipaddress.ip_address(mine) in ipaddress.ip_network(one) for one in _items(ranges))


def _number(field: str, numbers: str, packet: Packet) -> bool:
    port = packet.asked[1] if field.startswith("ct") and packet.asked else packet.port
    if not field.startswith("ct") and field.split()[0] != packet.protocol:
        return False
    spans = [one.partition("-") for one in _items(numbers)]
    return any(int(first) <= port <= int(last or first) for first, _, last in spans)


def _items(text: str) -> list[str]:
    return [one.strip() for one in text.strip("{} ").split(",")]
