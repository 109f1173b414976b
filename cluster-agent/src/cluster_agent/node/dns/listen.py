"""The sockets: UDP read in batches straight off the descriptor, TCP by streams.

An asyncio datagram transport costs more than most answers, so the UDP socket is read here until it is empty or a batch
is done. An answer that would block is dropped, as the network might: the client asks again.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from cluster_agent.node.dns.resolver import Answer
from machinery.kit.tasks import TaskOwner

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[bytes, str, bool], Answer]
"""(message, client's address, came by UDP) -> answer"""

BATCH = 32
DATAGRAM_MAX = 4_096
BUFFER_BYTES = 1 << 20
IP_FREEBIND = 15
"""Linux; the socket module does not name it."""
BIND_TRIES = 16


def _socket(kind: socket.SocketKind, address: str, port: int, *, free_bind: bool) -> socket.socket:
    """A bound socket that does not block."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        if free_bind:
            sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def bound_pair(address: str, port: int, *, free_bind: bool) -> tuple[socket.socket, socket.socket]:
    """UDP and TCP on the same port, also where the system chooses it. Raises OSError."""
    for left in reversed(range(BIND_TRIES)):
        udp = _socket(socket.SOCK_DGRAM, address, port, free_bind=free_bind)
        try:
            tcp = _socket(socket.SOCK_STREAM, address, udp.getsockname()[1], free_bind=free_bind)
        except OSError:
            udp.close()
            if port or not left:
                raise
            continue
        return udp, tcp
    raise OSError(f"no port of {address} is free for UDP and TCP alike")


class UdpListener:
    """One address, over UDP."""

    def __init__(self, sock: socket.socket, handler: Handler, tasks: TaskOwner) -> None:
        self._sock, self._handler, self._tasks = sock, handler, tasks
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        for _ in range(BATCH):
            try:
                data, source = self._sock.recvfrom(DATAGRAM_MAX)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier answer
            answer = self._handler(data, source[0], True)
            if isinstance(answer, bytes):
                self._send(answer, source)
            elif answer is not None:
                _ = self._tasks.spawn(self._later(answer, source), "dns answer")

    async def _later(self, answer: Coroutine[Any, Any, bytes], source: Any) -> None:
        self._send(await answer, source)

    def _send(self, answer: bytes, source: Any) -> None:
        try:
            self._sock.sendto(answer, source)
        except OSError as error:
            log.debug("answer not sent", extra={"to": source[0], "error": str(error)})

    def close(self) -> None:
        """Stop listening."""
        _ = self._loop.remove_reader(self._sock.fileno())
        self._sock.close()


class TcpListener:
    """One address, over TCP: messages with a length in front, one after the other on each connection."""

    def __init__(
        self, handler: Handler, tasks: TaskOwner, *, connections_max: int, idle_s: float
    ) -> None:
        self._handler, self._tasks = handler, tasks
        self._max, self._idle_s = connections_max, idle_s
        self._open = 0
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Listen on `sock`."""
        self._server = await asyncio.start_server(self._connected, sock=sock)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= self._max or self._tasks.closed:
            writer.close()
            return
        self._open += 1
        _ = self._tasks.spawn(self._serve(reader, writer), "dns connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = writer.get_extra_info("peername")[0]
        try:
            while await self._one(reader, writer, source):
                pass
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is done, or too slow
        finally:
            self._open -= 1
            writer.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str
    ) -> bool:
        async with asyncio.timeout(self._idle_s):
            size = int.from_bytes(await reader.readexactly(2), "big")
            data = await reader.readexactly(size)
        answer = self._handler(data, source, False)
        if answer is None:
            return False
        message = answer if isinstance(answer, bytes) else await answer
        writer.write(len(message).to_bytes(2, "big") + message)
        async with asyncio.timeout(self._idle_s):
            await writer.drain()
        return True

    def close(self) -> None:
        """Stop listening; connections end with their tasks."""
        if self._server is not None:
            self._server.close()
