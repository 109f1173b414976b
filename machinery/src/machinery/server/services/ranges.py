"""Ranges out of which values are given: cluster addresses and node ports, each as numbers below a size.

The lower end of a range is left to users who ask for a certain value; what is chosen for them comes from the rest while
there is any (upstream's static band). A random probe finds a free value in all but nearly full ranges; then the free ones
are counted. Pure: randomness is handed in, and so is the question whether a value is taken.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PROBES: Final = 16
ROOT: Final = "/registry/ranges/"
RANGES: Final = f"{ROOT}serviceips//"
"""Where claims of addresses lie that are no objects."""
SEARCH_MAX: Final = 1 << 17
"""Values that are looked at one by one in a nearly full range; a larger one is never that full."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Draw = Callable[[int], int]
"""A random number below the argument."""


@dataclass(frozen=True, slots=True)
class AddressRange:
    """The cluster addresses of one family."""

    network: Network
    root: str = RANGES
    """Below which the claims of its addresses lie."""

    @classmethod
    def parse(cls, text: str, root: str = RANGES) -> "AddressRange":
        """`10.96.0.0/16`. Raises ValueError."""
        network = ipaddress.ip_network(text.strip())
        if network.num_addresses < 8:
            raise ValueError(f"service_cidr: {text} is too small for services")
        return cls(network, root)

    @property
    def family(self) -> str:
        return f"IPv{self.network.version}"

    @property
    def first(self) -> str:
        """The address of the API server's own Service."""
        return str(self.network[1])

    def holds(self, address: Address) -> bool:
        return address.version == self.network.version and address in self.network

    def usable(self, address: Address) -> bool:
        """Neither the network's own address nor (IPv4) its broadcast address."""
        if address == self.network[0]:
            return False
        return self.network.version == 6 or address != self.network[-1]

    @property
    def size(self) -> int:
        """How many values may be chosen; `value` 0 is the second usable address, the first is the API server's."""
        last = 1 if self.network.version == 4 else 0
        return min(self.network.num_addresses, 1 << 62) - 2 - last

    @property
    def reserved(self) -> int:
        return static_band(self.network.num_addresses, 16, 256)

    def value(self, number: int) -> str:
        return str(self.network[number + 2])

    def key(self, value: str) -> str:
        return f"{self.root}{ipaddress.ip_address(value)}"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Node ports."""

    low: int = 30000
    high: int = 32767

    @classmethod
    def parse(cls, text: str) -> "PortRange":
        """`30000-32767`. Raises ValueError."""
        low, dash, high = text.partition("-")
        if not dash or not 0 < int(low) <= int(high) <= 65535:
            raise ValueError(f"node_ports: {text!r} is not a range of ports")
        return cls(int(low), int(high))

    @property
    def size(self) -> int:
        return self.high - self.low + 1

    @property
    def reserved(self) -> int:
        return static_band(self.size, 32, 128)

    def holds(self, port: int) -> bool:
        return self.low <= port <= self.high

    def value(self, number: int) -> str:
        return str(self.low + number)

    def key(self, value: str) -> str:
        return f"{ROOT}servicenodeports//{value}"

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"


Range = AddressRange | PortRange


def static_band(size: int, smallest: int, largest: int) -> int:
    """How many values at the lower end are chosen last; upstream's min(max(16, size/16), 256) and the ports' like."""
    step = 16 if largest == 256 else 32
    if size <= smallest:
        return 0
    return min(max(16, size // step), largest, size - 1)


def pick(held: Range, taken: Callable[[str], bool], draw: Draw) -> str | None:
    """A free value, or None: the range is full. `taken` is asked about keys."""
    bands = ((held.reserved, held.size), (0, min(held.reserved, held.size)))
    for low, high in bands:
        if high <= low:
            continue
        for _ in range(PROBES):
            value = held.value(low + draw(high - low))
            if not taken(held.key(value)):
                return value
        values = [held.value(n) for n in range(low, min(high, low + SEARCH_MAX))]
        free = [value for value in values if not taken(held.key(value))]
        if free:
            return free[draw(len(free))]
    return None
