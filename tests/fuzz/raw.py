"""Bytes to a server as they are, and what comes back."""

import asyncio

from tests.support.apiserver import RunningServer


async def exchange(
    server: RunningServer, sent: bytes, *, timeout_s: float = 5.0
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of the first answer; status 0 where the connection was closed without one."""
    raw = await everything(server, sent, timeout_s=timeout_s)
    return first(raw)


async def everything(server: RunningServer, sent: bytes, *, timeout_s: float = 5.0) -> bytes:
    """All that comes back until the connection ends or nothing has come for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.api.port, ssl=server.tls())
    found = bytearray()
    try:
        writer.write(sent)
        async with asyncio.timeout(timeout_s):
            while piece := await reader.read(1 << 16):
                found += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return bytes(found)


def first(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """The first answer of what a server sent."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1."):
        return 0, {}, raw
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    length = int(headers.get("Content-Length", len(body)))
    return int(lines[0].split(" ")[1]), headers, body[:length]
