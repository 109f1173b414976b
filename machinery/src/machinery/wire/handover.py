"""Takes a connection away from aiohttp's server, after the request head, for bytes that are not HTTP.

aiohttp knows how to give up a connection to its own WebSocket only. Here the handler of the request gets the
transport itself: the server's protocol is told that its connection is gone and forgets it, and whatever came after
the head (a client may be quick) is handed over with it.
"""

import asyncio

from aiohttp import web


class HandedOver(web.Response):
    """What the handler returns afterwards; the server finds no connection to write it to, which is right."""


def take_over(request: web.BaseRequest, protocol: asyncio.Protocol) -> asyncio.Transport:
    """Put `protocol` in charge of the request's connection. Raises ConnectionResetError when that is gone.

    Bytes received behind the request head are fed to `protocol` before anything else.
    """
    transport, server = request.transport, request.protocol
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the connection was lost before it could be taken over")
    tail = bytes(server._message_tail)  # noqa: SLF001 - aiohttp keeps it for its own WebSocket and offers no other way
    server.transport = None
    server._task_handler = None  # noqa: SLF001 - or a server with handler cancellation would cancel its caller
    server.connection_lost(None)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if tail:
        protocol.data_received(tail)
    if not transport.is_closing():
        transport.resume_reading()
    return transport


def streams(request: web.BaseRequest) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As `take_over`, for code that likes streams."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = take_over(request, protocol)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
