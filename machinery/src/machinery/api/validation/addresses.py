"""IP addresses and ranges in objects, in the words of a 1.36 server."""

import ipaddress
from typing import Final

from machinery.api.validation.causes import Causes

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

BAD_IP: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
BAD_RANGE: Final = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def parsed(text: str) -> Address | None:
    """The address, None where it is none (a scope id makes it none)."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


def address(field: str, text: str, causes: Causes) -> Address | None:
    """Complain about what is no address."""
    found = parsed(text)
    if found is None:
        causes.invalid(field, text, BAD_IP)
    return found


def network(field: str, text: str, causes: Causes) -> None:
    """Complain about what is no range; host bits may be set, as upstream allows."""
    if "/" not in text or "%" in text or _network(text) is None:
        causes.invalid(field, text, BAD_RANGE)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def endpoint_address(field: str, text: str, causes: Causes) -> None:
    """An address that traffic may be sent to: not one that means this host or this link. No word on what is no address."""
    found = parsed(text)
    if found is None:
        return
    if found.is_unspecified:
        causes.invalid(field, text, f"may not be unspecified ({text})")
    if found.is_loopback:
        causes.invalid(field, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if found.is_link_local:
        causes.invalid(
            field, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        )
    if _is_link_local_multicast(found):
        causes.invalid(
            field, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        )


def _is_link_local_multicast(found: Address) -> bool:
    if found.version == 4:
        return found in ipaddress.ip_network("224.0.0.0/24")
    return found.packed[0] == 0xFF and found.packed[1] & 0x0F == 0x02
