"""The channels of exec, attach or port-forward on a WebSocket of aiohttp's, in the form of the subprotocol that was agreed on."""

from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from machinery.wire import channels


class ChannelSocket:
    """What is sent and heard by channel; the socket's own end is its owner's."""

    def __init__(self, socket: web.WebSocketResponse, protocol: str) -> None:
        self._socket, self._protocol = socket, protocol

    async def send(self, channel: int, data: bytes) -> None:
        """One message. Raises ConnectionError."""
        message = channels.packed(self._protocol, channel, data)
        if isinstance(message, str):
            await self._socket.send_str(message)
        else:
            await self._socket.send_bytes(message)

    async def frames(self) -> AsyncIterator[channels.Frame]:
        """What the client says, until it goes away. Both kinds of messages count: the official Python client sends text as text."""
        async for message in self._socket:
            if message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                frame = channels.unpacked(self._protocol, message.data)
                if frame is not None:
                    yield frame
