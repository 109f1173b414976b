"""Which clusterset address an import gets. Pure.

The search begins at a place in the range that the import's own name gives and takes the first free address. So the same
import gets the same address when it is made anew, and an address that was given up is seldom given to another soon, while
names and connections may still remember it.
"""

import hashlib
import ipaddress
from collections.abc import Collection, Sequence

from machinery.meta.resource import ObjectKey
from machinery.server.services.ranges import AddressRange


def parse_ranges(text: str, service_cidr: str = "") -> tuple[AddressRange, ...]:
    """`10.221.0.0/16`, or one range of each family by a comma; none for the empty text.

    Raises ValueError, also where a range overlaps one of `service_cidr`: the same address would be two things.
    """
    found: list[AddressRange] = []
    services = [ipaddress.ip_network(part.strip()) for part in service_cidr.split(",") if part]
    for part in text.split(","):
        if not part.strip():
            continue
        network = ipaddress.ip_network(part.strip())
        if network.num_addresses < 8:
            raise ValueError(f"clusterset_cidr: {part} is too small")
        if any(network.version == s.version and network.overlaps(s) for s in services):
            raise ValueError(f"clusterset_cidr: {part} overlaps service_cidr {service_cidr}")
        found.append(AddressRange(network))
    if len({held.family for held in found}) != len(found):
        raise ValueError(f"clusterset_cidr: {text!r} has two ranges of one family")
    return tuple(found)


def served(families: Sequence[str], ranges: Sequence[AddressRange]) -> tuple[AddressRange, ...]:
    """The ranges of an import's addresses, in the order of its families; without families, of the first range."""
    if not families:
        return tuple(ranges[:1])
    by_family = {held.family: held for held in ranges}
    wanted = (by_family.get(family) for family in dict.fromkeys(families))
    return tuple(held for held in wanted if held is not None)


def pick(key: ObjectKey, held: AddressRange, taken: Collection[str]) -> str:
    """A free address for the import; empty when the range is exhausted."""
    digest = hashlib.sha256(f"{key.namespace}/{key.name}".encode()).digest()
    start = int.from_bytes(digest[:8], "big")
    # One more place than there are taken ones: where all of them are taken, none is free.
    for step in range(min(held.size, len(taken) + 1)):
        value = held.value((start + step) % held.size)
        if value not in taken:
            return value
    return ""


def held_in(addresses: Sequence[str], held: AddressRange) -> str:
    """The one of `addresses` that lies in the range and may be given; empty if none does."""
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if held.holds(address) and held.usable(address):
            return text
    return ""
