"""The kubelet's HTTPS endpoint: logs, exec and attach for the API server, health and metrics for operators.

Only the API server's kubelet client (by the common name of a certificate signed by the cluster's CA) or a member of
system:masters may come in; there is no anonymous path. Exec, attach and port-forward are upgrades, by WebSocket or SPDY
(`machinery.wire.upgrade` says which of their protocols). Hollow nodes of one process share one endpoint: a pod is looked
up in all of them.
"""

import datetime as dt
import functools
import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from cluster_agent.node import logs
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.cri.interface import (
    RuntimeContainer,
    RuntimeFault,
    RuntimePod,
    StreamRequest,
    Streams,
)
from cluster_agent.node.kubelet.podworker import PodWorker
from cluster_agent.node.kubelet.resources import every_container
from cluster_agent.node.parts import NodeParts
from cluster_agent.node.portforward import (
    ChannelForwarding,
    Forwarding,
    Target,
    WebSocketPipe,
    channel_ports,
)
from cluster_agent.node.spdystreams import SpdyStreams
from cluster_agent.node.stats_routes import StatsRoutes
from cluster_agent.node.streaming import WebSocketStreams
from machinery.kit.clock import Clock
from machinery.kit.metrics import METRICS
from machinery.wire import upgrade
from machinery.wire.handover import HandedOver
from machinery.wire.handover import streams as handed_streams
from machinery.wire.spdy.connection import StreamPipe
from machinery.wire.upgrade import NoUpgrade

log = logging.getLogger(__name__)

MASTERS = "system:masters"
MESSAGE_BYTES_MAX = 32 * 1024 * 1024
"""One WebSocket message of a client, as upstream; the Python client sends an input whole."""


class Refused(Exception):
    """A request that cannot be served, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class KubeletServer:
    """The endpoint of all nodes of this process."""

    def __init__(
        self,
        config: NodeConfig,
        parts: Mapping[str, NodeParts],
        context: ssl.SSLContext,
        ready: Callable[[], bool],
        clock: Clock,
        named: Callable[[ssl.SSLContext], str | None] = lambda _: None,
    ) -> None:
        """`named`: which node's certificate a connection with that context was shown."""
        self._config, self._parts, self._context = config, parts, context
        self._stats = StatsRoutes(parts, lambda request: _node_of(request, named))
        self._ready, self._clock = ready, clock
        self._runners: list[web.AppRunner] = []
        self.port = config.kubelet_port
        self.health_port = config.health_port

    async def start(self) -> None:
        """Listen. The handshake fails until the context has its certificate."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        for verb, handler in (("exec", self._exec), ("attach", self._attach)):
            for path in ("{namespace}/{pod}/{container}", "{namespace}/{pod}/{uid}/{container}"):
                app.router.add_get(f"/{verb}/{path}", handler)
                app.router.add_post(f"/{verb}/{path}", handler)
        for path in ("{namespace}/{pod}", "{namespace}/{pod}/{uid}"):
            app.router.add_get(f"/portForward/{path}", self._port_forward)
            app.router.add_post(f"/portForward/{path}", self._port_forward)
        app.router.add_get("/pods", self._pods)
        self._stats.add_to(app)
        self._add_health(app)
        address = self._config.kubelet_address or self._config.node_ip
        self.port = await self._listen(app, address, self._config.kubelet_port, self._context)
        if self._config.health_port >= 0:
            plain = web.Application()
            self._add_health(plain)
            port = self._config.health_port
            self.health_port = await self._listen(plain, "127.0.0.1", port, None)

    def _add_health(self, app: web.Application) -> None:
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)

    async def _listen(
        self, app: web.Application, address: str, port: int, context: ssl.SSLContext | None
    ) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handle_signals=False)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, address, port, ssl_context=context)
        await site.start()
        bound: tuple[str, int] = runner.addresses[0]
        return bound[1]

    async def stop(self) -> None:
        """Stop listening; open streams are cut."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    # ------------------------------------------------------------------------------------------------ who may enter
    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        names = subject_of(certificate_of(request), self._clock.now())
        if not may_enter(names, self._config.kubelet_client_names):
            text = f"Forbidden (user={names[0] or 'system:anonymous'}, path={request.path})"
            refusal = web.Response(status=403, text=text)
            refusal.force_close()  # who has a new certificate by now comes again with it
            return refusal
        try:
            response: web.StreamResponse = await handler(request)
        except Refused as error:
            return web.Response(status=error.status, text=error.message)
        except NoUpgrade as error:
            return web.Response(status=error.status, text=error.message, headers=error.headers)
        except RuntimeFault as error:
            return web.Response(status=500, text=str(error))
        return response

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _readyz(self, _request: web.Request) -> web.Response:
        if self._ready():
            return web.Response(text="ok")
        return web.Response(status=503, text="the pods of this node are not known yet")

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = METRICS.render()
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _pods(self, _request: web.Request) -> web.Response:
        items = [
            msgspec.to_builtins(worker.pod)
            for parts in self._parts.values()
            for worker in parts.kubelet.workers.values()
        ]
        document = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        return web.Response(body=msgspec.json.encode(document), content_type="application/json")

    # --------------------------------------------------------------------------------------------------- finding it
    def _worker(self, request: web.Request) -> tuple[NodeParts, PodWorker]:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        found: tuple[NodeParts, PodWorker] | None = None
        for parts in self._parts.values():
            for worker in parts.kubelet.workers.values():
                meta = worker.pod.metadata
                if meta.name == name and meta.namespace == namespace:
                    found = (parts, worker)
                    if worker.in_api:
                        return found
        if found is None:
            raise Refused(404, f'pod "{name}" does not exist')
        return found

    async def _running(self, request: web.Request) -> tuple[NodeParts, RuntimeContainer]:
        parts, worker = self._worker(request)
        wanted = request.match_info["container"]
        observed = await parts.runtime.observe(worker.uid)
        record = observed.latest(wanted)
        if record is None or not record.running:
            raise Refused(404, f'container "{wanted}" not found in pod "{worker.pod.key}"')
        return parts, record

    # --------------------------------------------------------------------------------------------------------- logs
    async def _logs(self, request: web.Request) -> web.StreamResponse:
        parts, worker = self._worker(request)
        name = request.match_info["container"]
        try:
            options = logs.options_of(dict(request.query), self._clock.now())
        except logs.LogOptionError as error:
            raise Refused(400, str(error)) from None
        observed = await parts.runtime.observe(worker.uid)
        record = pick_log(worker, observed, name, previous=options.previous)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        text = parts.runtime.log_text(record.id)
        if text is not None:
            formatter = logs.Formatter(options)
            lines = text.splitlines(keepends=True)
            if options.tail_lines is not None:
                lines = lines[len(lines) - min(options.tail_lines, len(lines)) :]
            await response.write(b"".join(map(formatter.line, lines)))
            if options.follow:
                while self._alive(worker, record.id):
                    await self._clock.sleep(1.0)
        else:
            path = Path(record.log_path)
            chunks = logs.read_log(
                path, options, self._clock, lambda: self._alive(worker, record.id)
            )
            async for chunk in chunks:
                await response.write(chunk)
        await response.write_eof()
        return response

    def _alive(self, worker: PodWorker, container_id: str) -> bool:
        if worker.finished:
            return False
        return any(c.id == container_id and not c.ended for c in worker.observed.containers)

    # ------------------------------------------------------------------------------------------------- exec, attach
    async def _exec(self, request: web.Request) -> web.StreamResponse:
        wanted = stream_request(request)
        if not wanted.command:
            raise Refused(400, "you must specify at least 1 command for the container")
        parts, record = await self._running(request)

        async def work(streams: Streams) -> int:
            return await parts.runtime.exec(record.id, wanted, streams)

        return await self._stream(request, wanted, work)

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        wanted = stream_request(request)
        parts, record = await self._running(request)

        async def work(streams: Streams) -> int:
            await parts.runtime.attach(record.id, wanted, streams)
            return 0

        return await self._stream(request, wanted, work)

    async def _stream(
        self, request: web.Request, wanted: StreamRequest, work: Any
    ) -> web.StreamResponse:
        chosen = upgrade.for_exec(_values(request))
        if chosen.spdy:
            pipe = _spdy(request, chosen)
            await SpdyStreams(pipe, wanted, chosen.protocol).run(work)
            return HandedOver()
        socket = await _websocket(request, chosen)
        streams = WebSocketStreams(socket, wanted, chosen.protocol)
        await streams.run(work)
        return socket

    # ------------------------------------------------------------------------------------------------- port-forward
    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        parts, worker = self._worker(request)
        chosen = upgrade.for_port_forward(_values(request))
        by_channels = not chosen.spdy and chosen.protocol != upgrade.TUNNEL
        try:
            ports = channel_ports(request.query.getall("port", [])) if by_channels else []
        except ValueError as error:
            raise Refused(400, str(error)) from None
        sandbox = (await parts.runtime.observe(worker.uid)).sandbox
        if sandbox is None or not sandbox.ready:
            raise Refused(404, f'pod not found ("{worker.pod.key}")')
        target = Target(sandbox.id, functools.partial(parts.runtime.connect, sandbox.id))
        if chosen.spdy:
            await Forwarding(_spdy(request, chosen), target).run()
            return HandedOver()
        socket = await _websocket(request, chosen)
        if by_channels:
            await ChannelForwarding(socket, target, ports, chosen.protocol).run()
        else:
            await Forwarding(WebSocketPipe(socket), target).run()
        return socket


def _values(request: web.Request) -> upgrade.Values:
    return lambda name: request.headers.getall(name, [])


def _spdy(request: web.Request, chosen: upgrade.Upgrade) -> StreamPipe:
    """The request's connection, on which SPDY is spoken from now on. Raises ConnectionResetError."""
    reader, writer = handed_streams(request)
    writer.write(upgrade.answer(chosen))
    return StreamPipe(reader, writer)


async def _websocket(request: web.Request, chosen: upgrade.Upgrade) -> web.WebSocketResponse:
    protocols = (chosen.protocol,) if chosen.protocol else ()
    socket = web.WebSocketResponse(
        protocols=protocols, compress=False, max_msg_size=MESSAGE_BYTES_MAX
    )
    await socket.prepare(request)
    return socket


def _node_of(request: web.Request, named: Callable[[ssl.SSLContext], str | None]) -> str | None:
    """The node that the client asked for by TLS."""
    transport = request.transport
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    return named(connection.context) if connection is not None else None


def certificate_of(request: web.Request) -> Mapping[str, Any]:
    """The client's, as ssl's getpeercert() describes it; empty where there is none."""
    transport = request.transport
    found = transport.get_extra_info("peercert") if transport is not None else None
    return found or {}


def subject_of(certificate: Mapping[str, Any], now: dt.datetime) -> tuple[str, tuple[str, ...]]:
    """(common name, organisations) of a certificate; TLS has checked who signed it. Nobody's, when it has ended meanwhile."""
    end = certificate.get("notAfter")
    if end and now.timestamp() > ssl.cert_time_to_seconds(end):
        return "", ()
    common, groups = "", []
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                common = value
            elif key == "organizationName":
                groups.append(value)
    return common, tuple(groups)


def may_enter(subject: tuple[str, tuple[str, ...]], names: tuple[str, ...]) -> bool:
    """Whether that client may use the endpoint."""
    return subject[0] in names or MASTERS in subject[1]


def stream_request(request: web.Request) -> StreamRequest:
    """What the query asks for; upstream's `input`, `output`, `error` are the kubelet's own names of the flags."""
    query = request.query

    def flag(*names: str) -> bool:
        return any(query.get(name, "").lower() in ("1", "true") for name in names)

    tty = flag("tty")
    wanted = StreamRequest(
        command=tuple(query.getall("command", [])),
        stdin=flag("stdin", "input"),
        stdout=flag("stdout", "output"),
        stderr=flag("stderr", "error") and not tty,
        tty=tty,
    )
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise Refused(400, "you must specify at least 1 of stdin, stdout, stderr")
    return wanted


def pick_log(
    worker: PodWorker, observed: RuntimePod, name: str, *, previous: bool
) -> RuntimeContainer:
    """Which attempt's log is meant. Raises Refused in upstream's wording."""
    pod = worker.pod
    known = {c.name for c in every_container(pod.spec)}
    if name not in known:
        raise Refused(400, f"container {name} is not valid for pod {pod.metadata.name}")
    attempts = observed.of(name)
    where = f'container "{name}" in pod "{pod.metadata.name}"'
    if previous:
        ended = attempts[-1] if attempts and attempts[-1].ended and _waits(worker, name) else None
        if ended is None and len(attempts) > 1:
            ended = attempts[-2]
        if ended is None:
            raise Refused(400, f"previous terminated {where} not found")
        return ended
    started = [c for c in attempts if c.started_at is not None]
    if not started:
        reason = worker.waiting_reason(name)
        raise Refused(400, f"{where} is waiting to start: {reason}")
    return started[-1]


def _waits(worker: PodWorker, name: str) -> bool:
    return bool(worker.waiting_reason(name))
