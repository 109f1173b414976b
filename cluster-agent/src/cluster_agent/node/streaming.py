"""One exec or attach over a WebSocket: the channels of the wire on one side, the runtime's `Streams` on the other.

The socket's reader fills two short queues (input, sizes); a client that stops reading slows the process down through
the socket's own buffer, it does not grow ours. The end of the input arrives as version 5's close message. Before version 5
there is none: the input then ends when the client goes away. A command that does not read its input stops our reading too, and
then the end of a client is seen by the pings that cannot be written to it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from cluster_agent.node.channelsocket import ChannelSocket
from cluster_agent.node.cri.interface import RuntimeFault, StreamRequest
from machinery.wire import channels

log = logging.getLogger(__name__)

INPUT_MESSAGES_MAX = 64
SIZES_MAX = 64
"""Sizes of a terminal that nobody has asked for yet; the newest count."""
PING_S = 10.0


class WebSocketStreams:
    """The `Streams` of one connection."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        request: StreamRequest,
        protocol: str,
        ping_s: float = PING_S,
    ) -> None:
        """`protocol`: of those that are served (`channels`)."""
        self._socket, self._request, self._ping_s = socket, request, ping_s
        self._channels, self._protocol = ChannelSocket(socket, protocol), protocol
        self._input: asyncio.Queue[bytes | None] = asyncio.Queue(INPUT_MESSAGES_MAX)
        self._sizes: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue(SIZES_MAX)
        self._input_ended = False

    async def run(self, work: "Callable[[WebSocketStreams], Awaitable[int]]") -> None:
        """Do `work` between the first message and the final Status; give it up if the client goes away."""
        first = channels.first_channel(stdout=self._request.stdout, stderr=self._request.stderr)
        await self._channels.send(first, b"")
        status = channels.failure("the stream was cut")
        try:
            async with asyncio.TaskGroup() as group:
                worker = group.create_task(self._finish(work))
                reader = group.create_task(self._read())
                pings = group.create_task(self._ping())
                parts = {worker, reader, pings}
                await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
                for task in parts:
                    task.cancel()
        except* (ConnectionError, RuntimeError) as group_error:
            log.info("stream cut", extra={"error": str(group_error.exceptions[0])})
        if worker.done() and not worker.cancelled() and worker.exception() is None:
            status = worker.result()
        if not self._socket.closed:
            if words := channels.final_words(status, self._protocol):
                with contextlib.suppress(ConnectionError):
                    await self._channels.send(channels.ERROR, words)
            await self._socket.close()

    async def _finish(
        self, work: "Callable[[WebSocketStreams], Awaitable[int]]"
    ) -> dict[str, object]:
        try:
            return channels.exit_code(await work(self))
        except RuntimeFault as error:
            return channels.failure(str(error))

    async def _ping(self) -> None:
        """Until a ping cannot be written. Raises ConnectionError."""
        while True:
            await asyncio.sleep(self._ping_s)
            await self._socket.ping()

    async def _read(self) -> None:
        """Until the client goes away."""
        async for frame in self._channels.frames():
            if frame.channel == channels.STDIN and self._request.stdin:
                await self._put(frame.data)
            elif frame.channel == channels.RESIZE:
                if (size := channels.resize_of(frame.data)) is not None:
                    if self._sizes.full():
                        self._sizes.get_nowait()
                    self._sizes.put_nowait(size)
            elif self._protocol == channels.V5 and channels.closes(frame, channels.STDIN):
                await self._end_input()
        await self._end_input()

    async def _put(self, data: bytes) -> None:
        """In pieces, so that as many messages as are kept are no more bytes than they look."""
        step = channels.MESSAGE_BYTES_MAX
        for start in range(0, len(data), step):
            await self._input.put(data[start : start + step])

    async def _end_input(self) -> None:
        if not self._input_ended:
            self._input_ended = True
            await self._input.put(None)

    # ------------------------------------------------------------------------------------------- the runtime's side
    async def stdout(self, data: bytes) -> None:
        await self._send(channels.STDOUT, data)

    async def stderr(self, data: bytes) -> None:
        await self._send(channels.STDERR, data)

    async def _send(self, channel: int, data: bytes) -> None:
        step = channels.MESSAGE_BYTES_MAX
        for start in range(0, len(data), step):
            await self._channels.send(channel, data[start : start + step])

    async def read_stdin(self) -> bytes | None:
        return await self._input.get()

    async def read_resize(self) -> tuple[int, int] | None:
        return await self._sizes.get()
