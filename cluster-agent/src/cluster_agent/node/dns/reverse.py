"""Reverse names: from `5.0.244.10.in-addr.arpa` to an address, and which of them are nobody's but ours.

An unknown address in a range of ours does not exist, and asking upstream would only leak it. The zone that says so is
the longest reverse name on a label border that lies inside the range: of 10.96.0.0/12 and 10.97.0.3 it is
`97.10.in-addr.arpa`.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

from cluster_agent.node.dns.wire import Name

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SUFFIXES: Final = {b"in-addr": (4, 8), b"ip6": (32, 4)}
"""Second label from the right -> how many labels an address has, and how many bits each."""


def address_of(labels: list[bytes]) -> bytes | None:
    """The address that a whole reverse name means."""
    parsed = _bits(labels)
    if parsed is None or parsed[1] != parsed[2]:
        return None
    value, _, width = parsed
    return value.to_bytes(width // 8, "big")


def _bits(labels: list[bytes]) -> tuple[int, int, int] | None:
    """The leading bits that a reverse name fixes, their number, and the width of the family."""
    if len(labels) < 2 or labels[-2] not in SUFFIXES:
        return None
    count, bits = SUFFIXES[labels[-2]]
    parts = labels[-3::-1]
    if len(parts) > count:
        return None
    value = 0
    for part in parts:
        try:
            number = int(part, 10 if bits == 8 else 16)
        except ValueError:
            return None
        written = b"%d" if bits == 8 else b"%x"
        if part != written % number or number >> bits:
            return None
        value = value << bits | number
    return value, len(parts) * bits, count * bits


class ReverseZones:
    """The ranges that are ours."""

    def __init__(self, cidrs: Iterable[str]) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(cidr) for cidr in cidrs]

    def zone_of(self, name: Name, labels: list[bytes]) -> Name | None:
        """The zone of ours that `name` lies in, if any."""
        parsed = _bits(labels)
        if parsed is None:
            return None
        value, known, width = parsed
        step = 8 if width == 32 else 4
        for network in self._networks:
            prefix = network.prefixlen
            if network.max_prefixlen != width or known < prefix:
                continue
            if value >> (known - prefix) != int(network.network_address) >> (width - prefix):
                continue
            kept = -(-prefix // step) + 2
            skipped = labels[: len(labels) - kept]
            return name[sum(len(label) + 1 for label in skipped) :]
        return None
