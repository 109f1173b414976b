"""A cluster's names for the tests, and a client that reads answers as text."""

import ipaddress
import random
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.directory import Directory
from cluster_agent.node.dns.forward import Forwarder
from cluster_agent.node.dns.model import (
    DnsConfig,
    Endpoint,
    PodName,
    Port,
    Service,
    Slice,
    State,
)
from cluster_agent.node.dns.resolver import Resolver
from cluster_agent.node.dns.response import Response, query_bytes, read_response
from machinery.kit.clock import FakeClock
from machinery.kit.tasks import TaskOwner

TYPES = {name: number for number, name in wire.TYPE_NAMES.items()} | {"HINFO": wire.HINFO}
TYPE_NAMES = {number: name for name, number in TYPES.items()}

CONFIG = DnsConfig(
    addresses=("169.254.20.10",),
    nameservers=("10.96.0.10", "fd00:96::a"),
    reverse_cidrs=("10.96.0.0/12", "10.244.0.0/16", "fd00:244::/64"),
    resolv_conf="",
)

HTTP, DNS_TCP, DNS_UDP = Port(80, "TCP", "http"), Port(53, "TCP", "dns-tcp"), Port(53, "UDP", "dns")

SERVICES = (
    Service("demo", "web", ("10.96.0.20", "fd00:96::20"), (HTTP,)),
    Service("demo", "bare", ("10.96.0.21",), (Port(42, "TCP"), Port(42, "UDP"))),
    Service("kube-system", "kube-dns", ("10.96.0.10",), (DNS_UDP, DNS_TCP, Port(9153, "TCP", "metrics"))),
    Service("demo", "db", headless=True, ports=(Port(5432, "TCP", "pg"),)),
    Service("demo", "all", headless=True, publish_not_ready=True),
    Service("demo", "none", headless=True, ports=(HTTP,)),
    Service("demo", "gone", external_name="example.com"),
    Service("demo", "cousin", external_name="web.demo.svc.cluster.local"),
    Service("demo", "ring-a", external_name="ring-b.demo.svc.cluster.local"),
    Service("demo", "ring-b", external_name="ring-a.demo.svc.cluster.local"),
    Service("demo", "over", external_name="shop.demo.svc.clusterset.local"),
    Service("demo", "pending"),
    Service("demo", "web", ("10.112.0.5",), (HTTP,), imported=True),
    Service("demo", "shop", ("10.112.0.6", "fd00:112::6"), (Port(42, "TCP", "a"), Port(42, "UDP", "b")), imported=True),
    Service("demo", "ldb", headless=True, ports=(Port(5432, "TCP", "pg"),), imported=True),
    Service("demo", "idle", headless=True, ports=(HTTP,), imported=True),
    Service("far", "web", ("10.112.0.7",), imported=True),
)  # fmt: skip

PG = (Port(5432, "TCP", "pg"),)
SLICES = {
    ("demo", "web-1"): Slice(
        "demo", "web", (Endpoint(("10.244.1.5",)), Endpoint(("10.244.1.6",), ready=False)), (Port(8080, "TCP", "http"),)
    ),
    ("demo", "db-1"): Slice(
        "demo",
        "db",
        (
            Endpoint(("10.244.1.7",), hostname="db-0"),
            Endpoint(("10.244.1.8",), hostname="DB-1"),
            Endpoint(("10.244.1.9",)),
            Endpoint(("10.244.1.10",), hostname="db-3", ready=False),
        ),
        PG,
    ),
    ("demo", "db-2"): Slice("demo", "db", (Endpoint(("fd00:244::7",), hostname="db-0"),), PG),
    ("demo", "all-1"): Slice(
        "demo", "all", (Endpoint(("10.244.2.1",)), Endpoint(("10.244.2.2",), ready=False))
    ),
    ("demo", "none-1"): Slice("demo", "none", (Endpoint(("10.244.3.1",), ready=False),), (HTTP,)),
    ("demo", "alpha-web"): Slice("demo", "web", (Endpoint(("10.244.9.1",)),), (HTTP,), "alpha"),
    ("demo", "alpha-ldb"): Slice(
        "demo",
        "ldb",
        (Endpoint(("10.244.4.1",), hostname="ldb-0"), Endpoint(("10.244.4.2",), hostname="ldb-1", ready=False)),
        PG,
        "alpha",
    ),
    ("demo", "beta-ldb"): Slice(
        "demo", "ldb", (Endpoint(("10.245.4.1",), hostname="ldb-0"), Endpoint(("10.245.4.2",))), PG, "beta"
    ),
    ("demo", "beta-ldb6"): Slice("demo", "ldb", (Endpoint(("fd00:245::1",), hostname="ldb-0"),), PG, "beta"),
    ("demo", "gamma-ldb"): Slice(
        "demo", "ldb", (Endpoint(("10.246.4.1",), hostname="ldb-0"),), PG, "gamma.east"
    ),
}  # fmt: skip

STATE = State(
    services=SERVICES,
    slices=SLICES,
    namespaces=frozenset({"demo", "kube-system", "empty"}),
    pods={
        PodName("demo", "web-x"): ("10.244.1.5", "fd00:244::5"),
        PodName("demo", "db-0"): ("10.244.1.7",),
    },
)


@dataclass
class World:
    """Directory and resolver without sockets; nothing is upstream unless the configuration names somebody."""

    config: DnsConfig = CONFIG
    state: State | None = STATE
    seed: int = 0

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.roll = random.Random(self.seed).random
        self.directory = Directory(self.config)
        if self.state is not None:
            self.directory.set_state(self.state)
        self.tasks = TaskOwner()
        self.forwarder = Forwarder(self.config, self.clock, self.roll, self.tasks)
        self.resolver = Resolver(
            self.config, self.directory, self.forwarder, self.roll, self.clock.monotonic
        )

    def raw(self, message: bytes, *, udp: bool = True) -> bytes | None:
        """The answer to a message that is answered at once."""
        answer = self.resolver.answer(message, "10.244.1.1", udp=udp)
        assert not isinstance(answer, Coroutine), "the query went upstream"
        return answer

    def response(self, name: str, qtype: str, *, udp: bool = True, **query: Any) -> Response:
        """The whole answer."""
        answer = self.raw(question(name, qtype, **query), udp=udp)
        assert answer is not None
        return read_response(answer)

    def ask(self, name: str, qtype: str) -> tuple[str, list[str]]:
        """(result, answer records as text, sorted)."""
        return told(self.response(name, qtype, udp=False))


def question(name: str, qtype: str, *, id_: int = 7, **query: Any) -> bytes:
    """A query as a client sends it."""
    return query_bytes(id_, wire.name_of(name), TYPES[qtype], **query)


def told(response: Response) -> tuple[str, list[str]]:
    """(result, answer records as text, sorted): NODATA is a result of its own."""
    result = wire.RCODE_NAMES[response.rcode]
    if result == "NOERROR" and not response.answer:
        result = "NODATA"
    return result, sorted(text(record) for record in response.answer)


def text(record: wire.Record) -> str:
    """`web.demo.svc.cluster.local. A 10.96.0.20`."""
    name = f"{wire.text_of(record.name)} {TYPE_NAMES[record.rtype]} "
    data = record.rdata
    match record.rtype:
        case wire.A | wire.AAAA:
            return name + str(ipaddress.ip_address(data))
        case wire.SRV:
            numbers = [int.from_bytes(data[i : i + 2], "big") for i in (0, 2, 4)]
            return name + " ".join(map(str, numbers)) + " " + wire.text_of(data[6:])
        case wire.CNAME | wire.PTR | wire.NS:
            return name + wire.text_of(data)
        case wire.TXT:
            return name + data[1:].decode()
        case _:
            return name + data.hex()


def many(count: int, *, imported: bool = False) -> State:
    """A headless Service `big` with so many endpoints."""
    cluster = "alpha" if imported else ""
    slices = {
        ("demo", f"big-{first}"): Slice(
            "demo",
            "big",
            tuple(
                Endpoint((str(ipaddress.ip_address("10.200.0.0") + i),), hostname=f"big-{i}")
                for i in range(first, min(first + 100, count))
            ),
            PG,
            cluster,
        )
        for first in range(0, count, 100)
    }
    big = Service("demo", "big", headless=True, imported=imported)
    return replace(STATE, services=(big,), slices=slices)
