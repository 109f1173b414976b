"""Addresses and networks: `ip`, `isIP`, `ip.isCanonical`, `cidr`, `isCIDR` and their methods.

As upstream has it, IPv4 written within IPv6 and zones (`fe80::1%eth0`) are no addresses; a network keeps the address it was
written with until it is `masked`.
"""

import ipaddress
import re
from typing import Final

from machinery.api.expressions.functions.shape import (
    CIDR,
    IP,
    Function,
    Value,
    free,
    made,
    text_in,
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_FAULT: Final = "network address parse error during conversion from string: "
_BITS: Final = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)


def _parsed(text: str) -> Address:
    """Raises ValueError in upstream's words."""
    if "%" in text and ":" in text:
        raise ValueError(f'IP address "{text}" with zone value is not allowed')
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(
            f'IP Address "{text}" parse error during conversion from string: ParseAddr("{text}"): unable to parse IP'
        ) from None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        raise ValueError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return found


def _is_address(text: str) -> bool:
    try:
        _parsed(text)
    except ValueError:
        return False
    return True


def _address(value: Value) -> Address:
    return ipaddress.ip_address(text_in(value))


def _written(address: Address) -> str:
    return str(address)


def _global_unicast(address: Address) -> bool:
    """As Go's: neither unspecified, loopback, multicast, link-local nor broadcast; private ones count."""
    return not (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
        or str(address) == "255.255.255.255"
    )


def _split(text: str) -> tuple[Address, int]:
    """The address and the length of a network's prefix. Raises ValueError."""
    head, slash, bits = text.rpartition("/")
    try:
        address = _parsed(head) if slash else None
    except ValueError as error:
        raise _no_network(text, str(error)) from None
    if address is None:
        raise _no_network(text, "no '/'")
    if not _BITS.fullmatch(bits):
        raise _no_network(text, f'bad bits after slash: "{bits}"')
    if int(bits) > address.max_prefixlen:
        raise _no_network(text, "prefix length out of range")
    return address, int(bits)


def _no_network(text: str, why: str) -> ValueError:
    return ValueError(f'{_FAULT}{_FAULT}netip.ParsePrefix("{text}"): {why}')


def _is_network(text: str) -> bool:
    try:
        _split(text)
    except ValueError:
        return False
    return True


def _cidr(text: str) -> Value:
    address, bits = _split(text)
    return made(CIDR, f"{address}/{bits}")


def _masked(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _has_address(network: Value, address: Address) -> bool:
    return address in _masked(text_in(network))


def _has_network(network: Value, text: str) -> bool:
    """The other must not be wider."""
    address, bits = _split(text)
    whole = _masked(text_in(network))
    return whole.version == address.version and whole.prefixlen <= bits and address in whole


_LOCAL_MULTICAST: Final = {
    4: ipaddress.ip_network("224.0.0.0/24"),
    6: ipaddress.ip_network("ff02::/16"),
}
FUNCTIONS: Final = (
    free("ip", "string_to_ip", ("string",), IP, lambda text: made(IP, _written(_parsed(text)))),
    free("isIP", "is_ip", ("string",), "bool", _is_address),
    free("ip.isCanonical", "ip_is_canonical", ("string",), "bool", lambda text: _written(_parsed(text)) == text),
    Function("family", "ip_family", (IP,), "int", lambda ip: _address(ip).version),
    Function("isUnspecified", "ip_is_unspecified", (IP,), "bool", lambda ip: _address(ip).is_unspecified),
    Function("isLoopback", "ip_is_loopback", (IP,), "bool", lambda ip: _address(ip).is_loopback),
    Function(
        "isLinkLocalMulticast", "ip_is_link_local_multicast", (IP,), "bool",
        lambda ip: _address(ip) in _LOCAL_MULTICAST[_address(ip).version],
    ),
    Function("isLinkLocalUnicast", "ip_is_link_local_unicast", (IP,), "bool", lambda ip: _address(ip).is_link_local),
    Function("isGlobalUnicast", "ip_is_global_unicast", (IP,), "bool", lambda ip: _global_unicast(_address(ip))),
    free("cidr", "string_to_cidr", ("string",), CIDR, _cidr),
    free("isCIDR", "is_cidr", ("string",), "bool", _is_network),
    Function("containsIP", "cidr_contains_ip_string", (CIDR, "string"), "bool", lambda net, text: _has_address(net, _parsed(text))),
    Function("containsIP", "cidr_contains_ip_ip", (CIDR, IP), "bool", lambda net, ip: _has_address(net, _address(ip))),
    Function("containsCIDR", "cidr_contains_cidr_string", (CIDR, "string"), "bool", _has_network),
    Function("containsCIDR", "cidr_contains_cidr", (CIDR, CIDR), "bool", lambda net, other: _has_network(net, text_in(other))),
    Function("ip", "cidr_ip", (CIDR,), IP, lambda net: made(IP, text_in(net).partition("/")[0])),
    Function("masked", "cidr_masked", (CIDR,), CIDR, lambda net: made(CIDR, str(_masked(text_in(net))))),
    Function("prefixLength", "cidr_prefix_length", (CIDR,), "int", lambda net: int(text_in(net).rpartition("/")[2])),
)  # fmt: skip
