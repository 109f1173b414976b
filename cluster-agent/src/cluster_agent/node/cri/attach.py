"""Attach through CRI's streaming server: a WebSocket client of the v4 channel protocol, on the loopback.

The container's own pipes belong to containerd, so attach goes through it; exec does not (`cri.tasks`). Version 4 has
no end of input: an attached process sees its input end only when the connection is closed.
"""

import asyncio

import aiohttp

from cluster_agent.node.cri.interface import RuntimeFault, StreamRequest, Streams
from machinery.wire import channels

CONNECT_TIMEOUT_S = 10.0


async def attach(url: str, request: StreamRequest, streams: Streams) -> None:
    """Join the streams until the container's output ends or the caller is cancelled."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        try:
            socket = await session.ws_connect(url, protocols=(channels.V4,), max_msg_size=0)
        except aiohttp.ClientError as error:
            raise RuntimeFault(f"attach: {error}") from error
        async with asyncio.TaskGroup() as group:
            side = [group.create_task(_resizes(socket, streams))]
            if request.stdin:
                side.append(group.create_task(_input(socket, streams)))
            try:
                await _output(socket, streams)
            finally:
                for task in side:
                    task.cancel()
                await socket.close()


async def _output(socket: aiohttp.ClientWebSocketResponse, streams: Streams) -> None:
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY:
            continue
        frame = channels.decode(message.data)
        if frame is None or not frame.data:
            continue
        if frame.channel == channels.STDOUT:
            await streams.stdout(frame.data)
        elif frame.channel == channels.STDERR:
            await streams.stderr(frame.data)


async def _input(socket: aiohttp.ClientWebSocketResponse, streams: Streams) -> None:
    while (data := await streams.read_stdin()) is not None:
        await socket.send_bytes(channels.encode(channels.STDIN, data))


async def _resizes(socket: aiohttp.ClientWebSocketResponse, streams: Streams) -> None:
    while (size := await streams.read_resize()) is not None:
        await socket.send_bytes(channels.encode_resize(*size))
