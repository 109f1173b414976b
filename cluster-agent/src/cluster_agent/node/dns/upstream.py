"""One question to one upstream server, over UDP and where that does not suffice over TCP.

Every question has a random id and a socket of its own, so also a random port; a datagram that is not a whole
answer to this question (id, name, type; the kernel checks the sender) is passed over and the wait goes on.
"""

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cluster_agent.node.dns import wire
from cluster_agent.node.dns.cache import Key
from cluster_agent.node.dns.response import Response, query_bytes, read_response
from cluster_agent.node.dns.wire import MalformedError

DATAGRAM_MAX = 4_096
REREAD_S = 5.0


class Server(NamedTuple):
    """Where an upstream resolver listens."""

    address: str
    port: int = 53

    @classmethod
    def of(cls, text: str) -> "Server":
        """`ip` or `ip#port`. Raises ValueError."""
        address, _, port = text.partition("#")
        _ = ipaddress.ip_address(address.partition("%")[0])
        return cls(address, int(port) if port else 53)

    def __str__(self) -> str:
        return f"{self.address}#{self.port}"


class Servers:
    """Who is asked: the servers of the configuration, or those of resolv.conf, read again when it changes."""

    def __init__(self, given: Iterable[str], resolv_conf: str, own: Iterable[Server]) -> None:
        self._path, self._own = resolv_conf, frozenset(own)
        named = [Server.of(text) for text in given]
        self._fixed = bool(named)
        self._servers = [server for server in named if server not in self._own]
        self._stamp: tuple[int, int] | None = None
        self._look_at = float("-inf")

    def current(self, now: float) -> list[Server]:
        """In order of preference; never ourselves, or a query would go round for ever."""
        if not self._fixed and now >= self._look_at:
            self._look_at = now + REREAD_S
            self._reread()
        return self._servers

    def _reread(self) -> None:
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                status = os.fstat(file.fileno())
                stamp = status.st_mtime_ns, status.st_ino
                if stamp == self._stamp:
                    return
                text = file.read()
        except OSError:
            return  # being replaced, or gone: what we knew still holds
        self._stamp = stamp
        self._servers = [server for server in nameservers(text) if server not in self._own]


def nameservers(text: str) -> list[Server]:
    """The servers that a resolv.conf names."""
    found: list[Server] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            found.append(Server.of(words[1]))
        except ValueError:
            continue
    return found


async def exchange(
    server: Server, key: Key, roll: Callable[[], float], timeout_s: float
) -> Response:
    """The server's answer. Raises TimeoutError, OSError or MalformedError."""
    response = await _udp(server, key, roll, timeout_s, edns=True)
    if response.rcode in (
        wire.FORMERR,
        wire.NOTIMP,
    ):  # servers older than EDNS, of which there are many at home
        response = await _udp(server, key, roll, timeout_s, edns=False)
    if response.truncated:
        async with asyncio.timeout(timeout_s):
            response = await _tcp(server, key, int(roll() * 0x10000))
    return response


async def _udp(
    server: Server, key: Key, roll: Callable[[], float], timeout_s: float, *, edns: bool
) -> Response:
    id_ = int(roll() * 0x10000)
    message = query_bytes(id_, key.name, key.qtype, edns=edns, do=key.do and edns, cd=key.cd)
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((server.address, server.port))
        async with asyncio.timeout(timeout_s):
            await loop.sock_sendall(sock, message)
            while True:
                data = await loop.sock_recv(sock, DATAGRAM_MAX)
                if data[:2] != message[:2]:
                    continue
                try:
                    response = read_response(data)
                except MalformedError:
                    continue
                if _answers(response, key):
                    return response


def _answers(response: Response, key: Key) -> bool:
    return response.name == key.name and response.qtype == key.qtype


async def _tcp(server: Server, key: Key, id_: int) -> Response:
    message = query_bytes(id_, key.name, key.qtype, do=key.do, cd=key.cd)
    reader, writer = await asyncio.open_connection(server.address, server.port)
    try:
        writer.write(len(message).to_bytes(2, "big") + message)
        size = int.from_bytes(await reader.readexactly(2), "big")
        response = read_response(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        raise MalformedError("the connection ended before the answer") from None
    finally:
        writer.close()
    if response.id != id_ or not _answers(response, key):
        raise MalformedError("the answer to another question")
    return response
