"""A client with sockets of its own, and a server on loopback."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.unit.node.dns.dnsworld import STATE, question

from cluster_agent.node.dns.model import DnsConfig, State
from cluster_agent.node.dns.response import Response, read_response
from cluster_agent.node.dns.server import DnsServer
from machinery.kit.clock import Clock, SystemClock


@asynccontextmanager
async def serving(
    state: State | None = STATE,
    *,
    clock: Clock | None = None,
    address: str = "127.0.0.1",
    **settings: Any,
) -> AsyncIterator[tuple[DnsServer, int]]:
    """A started server and its port."""
    given = {"port": 0, "resolv_conf": "", **settings}
    config = DnsConfig(addresses=(address,), **given)
    server = DnsServer(config, clock or SystemClock(), random.Random(1).random)
    if state is not None:
        server.set_state(state)
    await server.start()
    try:
        yield server, server.ports[address]
    finally:
        await server.stop()


async def udp(
    port: int, name: str, qtype: str, *, address: str = "127.0.0.1", **query: Any
) -> Response:
    """One question over UDP."""
    return read_response(await udp_raw(port, question(name, qtype, **query), address=address))


async def udp_raw(port: int, message: bytes, *, address: str = "127.0.0.1") -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((address, port))
        await loop.sock_sendall(sock, message)
        async with asyncio.timeout(20):
            return await loop.sock_recv(sock, 65_535)


async def tcp_raw(port: int, *messages: bytes) -> list[bytes]:
    """Several messages on one connection, all sent before the first answer is read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for message in messages:
            writer.write(len(message).to_bytes(2, "big") + message)
        answers = []
        async with asyncio.timeout(20):
            for _ in messages:
                size = int.from_bytes(await reader.readexactly(2), "big")
                answers.append(await reader.readexactly(size))
        return answers
    finally:
        writer.close()
        await writer.wait_closed()


async def tcp(port: int, name: str, qtype: str, **query: Any) -> Response:
    """One question over TCP."""
    (answer,) = await tcp_raw(port, question(name, qtype, **query))
    return read_response(answer)
