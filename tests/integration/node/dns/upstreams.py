"""A fake upstream resolver on loopback: what it answers, how slowly, what it loses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.wire import Name, Query, Record

SOA = Record(
    wire.name_of("test"),
    wire.SOA,
    60,
    wire.soa_data(wire.name_of("ns.test"), wire.name_of("root.test"), (1, 2, 3, 4, 30)),
)


@dataclass
class FakeUpstream(asyncio.DatagramProtocol):
    """Answers from a table; what is not in it does not exist."""

    records: dict[tuple[Name, int], list[Record]] = field(default_factory=dict)
    delay_s: float = 0.0
    lose: Callable[[int], bool] = lambda _count: False
    """Which query, counted from one, gets no answer."""
    rcode: int | None = None
    old: bool = False
    """Knows no EDNS."""
    forge: Callable[[bytes], list[bytes]] = lambda _answer: []
    """Datagrams sent before the answer."""
    asked: list[tuple[Query, bool]] = field(default_factory=list)
    port: int = 0

    def put(self, name: str, rtype: int, rdata: bytes, ttl: int = 60) -> None:
        owner = wire.name_of(name)
        self.records.setdefault((owner, rtype), []).append(Record(owner, rtype, ttl, rdata))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        query = wire.read_query(data)
        self.asked.append((query, True))
        answer = self._answer(query, udp=True)
        loop = asyncio.get_running_loop()
        for forged in self.forge(answer):
            self._transport.sendto(forged, address)
        if self.lose(len(self.asked)):
            return
        _ = loop.call_later(self.delay_s, self._transport.sendto, answer, address)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        query = wire.read_query(await reader.readexactly(size))
        self.asked.append((query, False))
        answer = self._answer(query, udp=False)
        writer.write(len(answer).to_bytes(2, "big") + answer)
        await writer.drain()
        writer.close()

    def _answer(self, query: Query, *, udp: bool) -> bytes:
        if self.old and query.udp_size:
            return wire.reply(query._replace(udp_size=0), wire.EMPTY, wire.FORMERR)
        if self.rcode is not None:
            return wire.reply(query, wire.EMPTY, self.rcode)
        found = self.records.get((query.name, query.qtype), [])
        known = any(name == query.name for name, _ in self.records)
        sections = wire.encode(
            query.question, found, () if found else (SOA,), limit=wire.limit_of(query, udp=udp)
        )
        return wire.reply(query, sections, wire.NOERROR if known else wire.NXDOMAIN, wire.RA)


@asynccontextmanager
async def running(upstream: FakeUpstream) -> AsyncIterator[str]:
    """Listen; gives `ip#port`, the same for UDP and TCP."""
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(upstream.stream, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(
        lambda: upstream, ("127.0.0.1", upstream.port)
    )
    try:
        yield f"127.0.0.1#{upstream.port}"
    finally:
        transport.close()
        server.close()
        await server.wait_closed()
