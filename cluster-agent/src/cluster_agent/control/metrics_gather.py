"""Asks every node each 15 s for the counters of its pods, over the way that logs take.

Connections of the first 64 nodes are kept, since a TLS handshake costs both sides more than the answer; others are made anew each
time. A node whose answer cannot be read, or is longer than any honest one, has given none. Nodes that the control plane has not
heard of for long are not asked, so that dead machines cost nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from cluster_agent.control.metrics_points import Scrape, parse
from machinery.api.core import NODES, Node
from machinery.client.interface import Client
from machinery.kit.clock import Clock
from machinery.meta.errors import StatusError
from machinery.meta.objectmeta import condition
from machinery.server.nodehttp import ResponseHead, open_body, read_head

log = logging.getLogger(__name__)

INTERVAL_S = 15.0
ANSWER_S = 5.0
ANSWER_BYTES_MAX = 4 << 20
AT_ONCE = 32
KEPT_MAX = 64
PATH = "/metrics/resource"
Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Kubelets(Protocol):
    """The way to kubelets."""

    async def open(self, node: str) -> Pipe:
        """A connection that has proved to be that node's. Raises StatusError."""
        ...


class Unreadable(Exception):
    """An answer that is none."""


class Asker:
    """Requests to kubelets, over connections that are kept."""

    def __init__(self, kubelets: Kubelets) -> None:
        self._kubelets = kubelets
        self._kept: dict[str, Pipe] = {}

    async def scrape(self, node: str) -> Scrape:
        """What the node says now. Raises StatusError, OSError, EOFError, TimeoutError, Unreadable."""
        kept = self._kept.pop(node, None)
        async with asyncio.timeout(ANSWER_S):
            if kept is not None:
                try:
                    return await self._ask(node, kept)
                except (OSError, EOFError):
                    log.debug("a connection to a kubelet had ended", extra={"node": node})
            return await self._ask(node, await self._kubelets.open(node))

    async def _ask(self, node: str, pipe: Pipe) -> Scrape:
        reader, writer = pipe
        try:
            writer.write(f"GET {PATH} HTTP/1.1\r\nHost: {node}\r\n\r\n".encode())
            head = await read_head(reader)
            found = _read(head, await _whole(head, reader))
        except BaseException:
            writer.close()
            raise
        if len(self._kept) < KEPT_MAX and head.headers.get("connection", "").lower() != "close":
            self._kept[node] = pipe
        else:
            writer.close()
        return found

    def keep_only(self, nodes: set[str]) -> None:
        """Let go of the connections to all others."""
        for node in self._kept.keys() - nodes:
            self._kept.pop(node)[1].close()

    def close(self) -> None:
        """Let go of all."""
        self.keep_only(set())


async def _whole(head: ResponseHead, reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    async for piece in open_body(head, reader):
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise Unreadable(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def _read(head: ResponseHead, body: bytes) -> Scrape:
    """Raises Unreadable."""
    if head.status != 200:
        raise Unreadable(f"HTTP {head.status}: {body[:200].decode(errors='replace')}")
    try:
        return parse(body.decode())
    except ValueError as error:
        raise Unreadable(str(error)) from error


class Gatherer:
    """Every node, again and again. `heard` gets what they say."""

    def __init__(
        self,
        client: Client,
        kubelets: Kubelets,
        clock: Clock,
        heard: Callable[[str, Scrape], None],
        forget: Callable[[set[str]], None],
    ) -> None:
        """`forget` is told which nodes there are."""
        self._client, self._clock = client, clock
        self._asker = Asker(kubelets)
        self._heard, self._forget = heard, forget
        self._failing: set[str] = set()

    async def run_forever(self) -> None:
        """Until cancelled."""
        try:
            while True:
                began = self._clock.monotonic()
                await self.run_once()
                spent = self._clock.monotonic() - began
                await self._clock.sleep(max(1.0, INTERVAL_S - spent))
        finally:
            self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._asker.close()

    async def run_once(self) -> None:
        """Ask all nodes that are alive. Raises nothing."""
        try:
            nodes = list((await self._client.list(NODES)).items)
        except StatusError as error:
            log.warning("nodes not listed", extra={"error": str(error)})
            return
        names = {node.metadata.name for node in nodes}
        self._forget(names)
        self._failing &= names
        asked = [node.metadata.name for node in nodes if worth_asking(node)]
        self._asker.keep_only(set(asked))
        places = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for name in asked:
                _ = group.create_task(self._one(name, places))

    async def _one(self, node: str, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                found = await self._asker.scrape(node)
            except (StatusError, OSError, EOFError, TimeoutError, Unreadable) as error:
                if node not in self._failing:  # once, not every 15 s
                    text = str(error) or type(error).__name__
                    log.warning("a node gives no metrics", extra={"node": node, "error": text})
                self._failing.add(node)
                return
        self._failing.discard(node)
        self._heard(node, found)


def worth_asking(node: Node) -> bool:
    """Whether anybody is likely to answer."""
    ready = condition(node.status.conditions, "Ready")
    return ready is not None and ready.status != "Unknown"
