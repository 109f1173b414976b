"""One request through a proxy: head and body to the backend, its answer back; after an upgrade, bytes both ways.

Both bodies stream, at the pace of whoever reads them. A backend that hangs up before it has answered is told as 503; one that
does so in the middle of its answer ends the client's connection, for the rest cannot be said to be missing in any other way.
"""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import CIMultiDict

from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import ServiceUnavailable, StatusError
from machinery.server.audit.auditor import begun
from machinery.server.nodehttp import ResponseHead, open_body, read_head
from machinery.server.proxy.forwarding import Pairs, Way, answered, asked, is_sound, is_upgrade
from machinery.server.proxy.places import Place
from machinery.wire.handover import HandedOver, streams
from machinery.wire.splice import Streams, splice

CONNECT_TIMEOUT_S = 30.0
CLIENT_CHECK_S = 5.0
"""How often it is looked whether the client is still there, while the backend says nothing."""
_NO_BODY = (204, 304)
Reach = Callable[[Place], Awaitable[Streams]]
"""A connection to a place. Raises ServiceUnavailable."""


def unreachable(why: object) -> StatusError:
    """What is said of a backend that does not answer."""
    return ServiceUnavailable(f"error trying to reach service: {why}")


def _anybody() -> ssl.SSLContext:
    """TLS with whatever certificate a pod has made for itself, as upstream: who proxies to https trusts the pod network."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def direct(place: Place) -> Streams:
    """By the machine's own routes."""
    if not (place.port.isascii() and place.port.isdecimal()):
        raise unreachable(f"dial tcp: lookup tcp/{place.port}: unknown port")
    if len(place.port) > 5 or int(place.port) > 65535:
        raise unreachable(f"dial tcp: address {place.port}: invalid port")
    tls = _anybody() if place.tls else None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await asyncio.open_connection(place.host, int(place.port), ssl=tls)
    except TimeoutError:
        raise unreachable(f"dial tcp {place.text}: i/o timeout") from None
    except ssl.SSLError as error:
        plain = error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
        text = (
            "tls: first record does not look like a TLS handshake"
            if plain
            else f"tls: {error.reason}"
        )
        raise unreachable(text) from error
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise unreachable(f"dial tcp {place.text}: connect: {why}") from error


async def relay(
    request: web.BaseRequest, way: Way, backend: Streams, host: str
) -> web.StreamResponse:
    """The answer of a backend that has been connected; `host` is its own name. Raises ServiceUnavailable."""
    headers = list(request.headers.items())
    upgrade = is_upgrade(headers)
    reader, writer = backend
    tasks = TaskOwner(on_death=lambda _name, _error: None)
    try:
        body = request.can_read_body
        writer.write(
            _head(
                request, way, asked(headers, way, request.remote or "", upgrade=upgrade), body=body
            )
        )
        if body:
            _ = tasks.spawn(_send(request, writer), "proxy-body")
        gone = tasks.spawn(client_gone(request), "proxy-client")
        gone.add_done_callback(lambda task: None if task.cancelled() else writer.close())
        try:
            head = await _final(reader, upgrade=upgrade)
        except asyncio.IncompleteReadError as error:
            raise unreachable("EOF") from error
        except OSError as error:
            raise unreachable(error) from error
        if not is_sound(head.pairs):
            raise unreachable("malformed MIME header line")
        if head.status != 101:
            back = answered(head.pairs, way, host, request.headers.get("Host", ""))
            return await _answer(request, head, back, reader)
        await tasks.close()
        return await _switched(request, head, backend)
    finally:
        await tasks.close()
        writer.close()


def _head(request: web.BaseRequest, way: Way, headers: Pairs, *, body: bool) -> bytes:
    lines = [f"{request.method} {way.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers]
    length = request.headers.get("Content-Length", "")
    if body:
        lines.append(f"Content-Length: {length}" if length else "Transfer-Encoding: chunked")
    elif request.method in ("POST", "PUT", "PATCH"):
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def invite(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _send(request: web.BaseRequest, writer: asyncio.StreamWriter) -> None:
    """The client's body, as it comes."""
    chunked = "Content-Length" not in request.headers
    invite(request)
    try:
        async for piece in request.content.iter_any():
            if piece:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
    except BaseException:
        writer.close()  # half a body is none
        raise


async def client_gone(request: web.BaseRequest) -> None:
    """Returns when the client has gone, or has been handed over."""
    while True:
        await asyncio.sleep(CLIENT_CHECK_S)
        if request.transport is None or request.transport.is_closing():
            return


async def _final(reader: asyncio.StreamReader, *, upgrade: bool) -> ResponseHead:
    """The head that is no interim one; a switch that nobody asked for is none either."""
    while True:
        head = await read_head(reader)
        if head.status >= 200 or (head.status == 101 and upgrade):
            return head
        if head.status == 101:
            raise ConnectionError("the backend changes to another protocol, unasked")


async def _answer(
    request: web.BaseRequest, head: ResponseHead, headers: Pairs, reader: asyncio.StreamReader
) -> web.StreamResponse:
    chunked = "chunked" in head.headers.get("transfer-encoding", "").lower()
    length = head.headers.get("content-length", "")
    counted = not chunked and length.isascii() and length.isdecimal()
    passed = CIMultiDict(
        (name, value) for name, value in headers if counted or name.lower() != "content-length"
    )
    passed.extend(begun(request, head.status))
    response = web.StreamResponse(status=head.status, headers=passed)
    await response.prepare(request)
    if request.method != "HEAD" and head.status not in _NO_BODY:
        left = int(length) if counted else 0
        async for piece in open_body(head, reader):
            left -= len(piece)
            await response.write(piece)
        if counted and left:
            raise ConnectionResetError("the backend's answer ended early")
    await response.write_eof()
    return response


async def _switched(
    request: web.BaseRequest, head: ResponseHead, backend: Streams
) -> web.StreamResponse:
    try:
        client = streams(request)
    except OSError as error:
        raise unreachable(error) from error
    _ = begun(request, 101)
    client[1].write(head.raw)
    try:
        await splice(client, backend)
    except OSError:
        return HandedOver()  # one side broke; both are closed
    return HandedOver()
