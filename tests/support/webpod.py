"""A web server as a pod might run one, and the way to it for an API server: pods have addresses of a network that is not there."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from machinery.server.app import ApiServer
from machinery.server.pki import server_context
from machinery.server.proxy.places import Place
from machinery.server.proxy.relay import direct
from machinery.wire.splice import Streams

BIG = 5_000_000


@dataclass
class Backend:
    """A web server as a pod might run one, on 80 in the clear and on 443 by TLS, and nothing else."""

    name: str = ""
    seen: list[web.BaseRequest] = field(default_factory=list)
    dialled: list[Place] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    async def reach(self, place: Place) -> Streams:
        self.dialled.append(place)
        port = self.ports.get(place.port, 1)
        return await direct(Place("127.0.0.1", str(port), place.tls))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        kind = request.path.rpartition("/")[2]
        if kind == "socket":
            return await self._socket(request)
        if kind == "hash":
            digest = hashlib.sha256(await request.read()).hexdigest()
            return web.json_response({"sha256": digest, "method": request.method})
        if kind == "stream":
            answer = web.StreamResponse()
            await answer.prepare(request)
            for _ in range(100):
                await answer.write(b"x" * (BIG // 100))
            return answer
        if kind == "login":
            raise web.HTTPFound("/welcome?a=b")
        if kind == "teapot":
            return web.Response(status=418, reason="Teapot", text="short and stout")
        if kind == "broken":
            assert request.transport is not None
            request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            request.transport.close()
            await asyncio.sleep(0)
        of = f" of {self.name}" if self.name else ""
        answer = web.Response(text=f"{request.method} {request.raw_path}{of}", headers={"X-A": "b"})
        answer.headers["Access-Control-Allow-Origin"] = "*"
        for cookie in ("a=1", "b=2"):
            answer.headers.add("Set-Cookie", cookie)
        return answer

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("chat",))
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    @asynccontextmanager
    async def serving(self, api: ApiServer) -> AsyncIterator[None]:
        """With a certificate of that server's CA, which the proxy does not look at."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        tls = server_context(api.ca_pem, api.authority.issue_serving("pod", ["pod"]))
        tls.verify_mode = ssl.CERT_NONE
        for port, context in (("80", None), ("443", tls)):
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            self.ports[port] = runner.addresses[-1][1]
        yield
        await runner.cleanup()


def endpoint(ip: str, pod: str) -> dict[str, Any]:
    return {"addresses": [ip], "targetRef": {"kind": "Pod", "name": pod, "namespace": "default"}}
