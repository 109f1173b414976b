"""A TCP forwarder: takes connections in one host of the lab and passes them to the first target that accepts.

Two uses. Several federation servers get one address that members and kubectl can keep (when a server dies, new connections go
to the next). And a host, which is alone in its namespace, reaches a database on the machine.

A target that does not accept is down, and the connections that it had are cut, as HAProxy does with `on-marked-down
shutdown-sessions`: one without power says nothing to anybody, and its clients would wait for as long as the forwarder holds them.

Limit: it looks at connections, not requests: what was in flight to a dead server is cut, and its client tries again.
"""

import argparse
import asyncio
import logging
import socket
from collections.abc import Sequence

from pyroute2 import netns

from machinery.kit.log import setup
from machinery.kit.tasks import TaskOwner
from machinery.wire.link import watch_the_path_of

log = logging.getLogger(__name__)

_CHUNK = 65536
_CONNECT_S = 2.0
Place = tuple[str, int]


def parse_place(text: str) -> Place:
    """`127.0.0.1:5432` as address and port."""
    address, _, port = text.rpartition(":")
    return address, int(port)


def order(targets: Sequence[Place], turn: int) -> list[Place]:
    """The targets to try for the `turn`-th connection: each begins one further on, so that the load is shared."""
    first = turn % len(targets)
    return [*targets[first:], *targets[:first]]


class Forwarder:
    """Passes what comes to `server` on to `targets`."""

    def __init__(self, targets: Sequence[Place]) -> None:
        self._targets = targets
        self._turn = 0
        self._open: dict[Place, set[asyncio.StreamWriter]] = {target: set() for target in targets}

    async def run(self, server: socket.socket) -> None:
        """Serve for ever."""
        listener = await asyncio.start_server(self._accept, sock=server)
        log.info("forwarding", extra={"targets": str(self._targets)})
        async with listener:
            await listener.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._turn += 1
        try:
            found = await self._connect()
            if found is not None:
                target, stream = found
                self._open[target].add(stream[1])
                try:
                    await splice((reader, writer), stream)
                finally:
                    self._open[target].discard(stream[1])
        finally:
            writer.close()

    async def _connect(self) -> "tuple[Place, Stream] | None":
        for target in order(self._targets, self._turn):
            address, port = target
            try:
                connected = asyncio.open_connection(address, port)
                found = await asyncio.wait_for(connected, _CONNECT_S)
            except (OSError, TimeoutError) as error:
                log.warning(
                    "target refused", extra={"target": f"{address}:{port}", "error": str(error)}
                )
                self._mark_down(target)
            else:
                watch_the_path_of(found[1].get_extra_info("socket"))
                return target, found
        return None

    def _mark_down(self, target: Place) -> None:
        for held in self._open[target]:
            held.transport.abort()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def splice(one: Stream, other: Stream) -> None:
    """Pass bytes both ways until both directions have ended."""
    owner = TaskOwner()
    tasks = [
        owner.spawn(_pump(one[0], other[1]), "there"),
        owner.spawn(_pump(other[0], one[1]), "back"),
    ]
    try:
        _ = await asyncio.wait(tasks)
    finally:
        await owner.close()
        other[1].close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()  # one side is gone: the other must hear it


def listen_in(namespace: str, place: Place) -> socket.socket:
    """A listening socket in the namespace pinned at `namespace` (empty: ours). A socket stays where it was made."""
    if not namespace:
        return socket.create_server(place)
    netns.pushns(namespace)
    try:
        return socket.create_server(place)
    finally:
        netns.popns()


def main() -> None:
    """The process. It runs in the namespace of its targets."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--namespace", default="")
    parser.add_argument("--listen", type=parse_place, required=True)
    parser.add_argument("--to", type=parse_place, nargs="+", required=True)
    arguments = parser.parse_args()
    setup("lab-forward")
    server = listen_in(arguments.namespace, arguments.listen)
    asyncio.run(Forwarder(arguments.to).run(server))


if __name__ == "__main__":
    main()
