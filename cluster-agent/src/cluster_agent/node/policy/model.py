"""What is enforced, as values: policies, pods and the table that follows from them.

Not the API's views: `inputs` turns those into these, and says in which form a peer or a port can come.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from machinery.meta.resource import ObjectKey
from machinery.meta.selectors import Selector

PROTOCOLS = ("tcp", "udp", "sctp")
INGRESS, EGRESS = "ingress", "egress"
DIRECTIONS = (EGRESS, INGRESS)
"""In the order in which a packet between two pods of one node is judged."""
FAMILIES = ("ip", "ip6")
PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class Group:
    """Pods by their labels, in one namespace or in all whose labels fit."""

    pods: Selector
    namespace: str = ""
    """The one namespace; empty: `spaces` decides."""
    spaces: Selector | None = None

    def __str__(self) -> str:
        """One text for one meaning: names of sets are made of it."""
        parts = sorted(str(Selector((one,))) for one in self.pods.requirements)
        where = f"={self.namespace}"
        if self.spaces is not None:
            where = "?" + ",".join(
                sorted(str(Selector((one,))) for one in self.spaces.requirements)
            )
        return f"{where} {','.join(parts)}"


@dataclass(frozen=True, slots=True)
class Block:
    """ipBlock: a range, less ranges inside it."""

    cidr: str
    excepts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for cidr in (self.cidr, *self.excepts):
            _ = ipaddress.ip_network(cidr, strict=False)

    @property
    def family(self) -> str:
        return "ip6" if ":" in self.cidr else "ip"


@dataclass(frozen=True, slots=True)
class Port:
    """Ports `first` to `last` of a protocol; those that pods call `name`; neither: the protocol's every port."""

    protocol: str = "tcp"
    first: int | None = None
    last: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r} is not one of {', '.join(PROTOCOLS)}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One item of ingress or egress: any of the peers on any of the ports. No peers: everybody; no ports: everything."""

    peers: tuple[Group | Block, ...] = ()
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """One NetworkPolicy. A direction that it does not name it leaves alone; one without rules it closes."""

    subject: Group
    rules: Mapping[str, tuple[Rule, ...]]
    """Direction -> its rules, for the directions of policyTypes."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What of a pod decides. Pods of the host's network and pods that have ended are none."""

    labels: Mapping[str, str]
    ips: tuple[str, ...]
    node: str = ""
    ports: tuple[tuple[str, str, int], ...] = ()
    """(name, protocol, number) of named container ports."""
    leaving: bool = False
    """Being deleted: if two pods claim one address, the other has it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A set or a map: its type as nft writes it, and its elements; a map's have a value."""

    kind: str
    spec: str
    elements: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Chain:
    """`hook` is empty for one that is jumped to."""

    rules: tuple[str, ...]
    hook: str = ""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The whole table. Chains stand after those that they jump to. Without chains there is no table at all."""

    holders: Mapping[str, Holder] = field(default_factory=dict)
    chains: Mapping[str, Chain] = field(default_factory=dict)


Key = ObjectKey
"""Of a policy or a pod."""


def family_of(address: str) -> str:
    """`ip` or `ip6`, for an address or a range."""
    return "ip6" if ":" in address else "ip"
