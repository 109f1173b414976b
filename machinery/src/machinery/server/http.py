"""The HTTPS front: connections, identity, rights, limits; then the right handler.

No router and no middleware stack: `Front.handle` is the whole way of a request, in this order:

    health check (no identity needed) → raw route → identity → impersonation → authorization → a seat → API or plain path

What a client may take of the server is told in shares.py; connections that send nothing of what they began are ended by a
sweep. Everything that is refused leaves as metav1.Status.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner
from machinery.meta import errors
from machinery.meta.errors import StatusError, Unauthorized
from machinery.server.audit.auditor import TRAIL, Auditor, is_long
from machinery.server.audit.event import HEADER, Trail
from machinery.server.authn import Authenticator
from machinery.server.authz import Authorizer
from machinery.server.config import Listen, ServerConfig
from machinery.server.connections import Connection, Server
from machinery.server.fairness import SEAT, Fairness, Seat
from machinery.server.impersonation import impersonated, is_asked
from machinery.server.negotiate import YAML
from machinery.server.proxy.forwarding import is_upgrade
from machinery.server.quick import Counts, Quick
from machinery.server.rbac import Attributes
from machinery.server.replies import (
    BROWSERS,
    JSON_TYPE,
    Reply,
    compress,
    error_reply,
    pretty,
    yaml_bytes,
)  # fmt: skip
from machinery.server.request import STREAMS, RequestInfo, parse_target, truthy
from machinery.server.shares import SCANS, begins_with_all, share_of
from machinery.server.user import ANONYMOUS, UserInfo
from machinery.store.interface import StoreUnavailable
from machinery.store.outcome import OutcomeUnknown

log = logging.getLogger(__name__)

RawRoute = Callable[[web.BaseRequest, UserInfo], Awaitable[web.StreamResponse]]


def _may_be_repeated(error: StatusError) -> bool:
    """The store is away and did not take the write: clients that know Retry-After try again by themselves."""
    why = error.__cause__
    return isinstance(why, StoreUnavailable) and not isinstance(why, OutcomeUnknown)


class PlainPaths(Protocol):
    """What is served beside the API: health, version, metrics, discovery, OpenAPI."""

    def health(self, info: RequestInfo) -> Reply | None:
        """The answer to a health check, which needs no identity; None for any other path."""
        ...

    async def answer(self, request: web.BaseRequest, info: RequestInfo) -> web.StreamResponse:
        """The answer to any other path that is not an object's."""
        ...


class Api(Protocol):
    """What is served of objects."""

    async def __call__(
        self, request: web.BaseRequest, info: RequestInfo, user: UserInfo
    ) -> web.StreamResponse: ...

    def cost(self, info: RequestInfo) -> int:
        """How many objects the request looks at."""
        ...


class Front:
    """Serves one API on its addresses."""

    def __init__(  # noqa: PLR0913 - what a server has, handed in once
        self,
        config: ServerConfig,
        authenticator: Authenticator,
        authorizer: Authorizer,
        clock: Clock,
        api: Api,
        plain: PlainPaths,
        raw_routes: Mapping[str, RawRoute],
        quick: Quick | None,
        auditor: Auditor | None = None,
    ) -> None:
        self._limits = config.limits
        self._fairness = Fairness(self._limits)
        self._tasks = TaskOwner()
        self._config = config
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._clock = clock
        self._api = api
        self._plain = plain
        self._raw_routes = dict(raw_routes)
        self._server: Server | None = None
        self._sockets: list[asyncio.Server] = []
        self._quick = quick
        self._auditor = auditor
        self.requests: Counts = {} if quick is None else quick.counts

    # ------------------------------------------------------------------------------------------------- life
    async def start(self, tls: ssl.SSLContext | None) -> None:
        """Listen. Raises OSError when an address is taken."""
        loop = asyncio.get_running_loop()
        limits = self._limits
        self._server = Server(self.handle, self._quick, limits, self._clock)
        for listen in self._config.listen:
            self._sockets.append(
                await loop.create_server(
                    self._server,
                    listen.host,
                    listen.port,
                    ssl=tls,
                    ssl_handshake_timeout=limits.handshake_s if tls is not None else None,
                    backlog=1024,
                    reuse_address=True,
                )  # fmt: skip
            )
        _ = self._tasks.spawn(self._sweep(self._server), "connections")

    async def _sweep(self, server: Server) -> None:
        while True:
            await self._clock.sleep(self._limits.sweep_s)
            server.sweep()

    @property
    def addresses(self) -> list[Listen]:
        """Where it listens, with the ports that the system chose."""
        return [
            Listen(*socket.getsockname()[:2])
            for server in self._sockets
            for socket in server.sockets
        ]

    async def stop(self) -> None:
        """No new connections; running requests get their time."""
        await self._tasks.close()
        for server in self._sockets:
            server.close()
        if self._server is not None:
            self._server.pre_shutdown()
            await self._server.shutdown(self._config.shutdown_grace_s)
        self._sockets.clear()

    # ------------------------------------------------------------------------------------------------- requests
    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, start to end."""
        info = parse_target(request.method, request.raw_path)
        auditor = self._auditor
        trail = None if auditor is None else auditor.seen(info, request.headers)
        refused: StatusError | None = None
        try:
            reply = await self._answer(request, info)
        except StatusError as error:
            refused = error
            reply = self._refusal(request, error)
        except (web.HTTPRequestEntityTooLarge, RequestPayloadError) as error:
            refused = self._unreadable(error)
            reply = error_reply(refused)
        except (asyncio.CancelledError, ConnectionError):
            if auditor is not None and trail is not None:
                auditor.broken(trail)
            raise
        except Exception as fault:
            # the supervisor of a request: a fault in one must not take the server down
            log.exception("request failed", extra={"method": info.method, "path": info.path})
            reply = error_reply(errors.InternalError("Internal Server Error"))
            if auditor is not None and trail is not None:
                auditor.panicked(trail, fault)
        if auditor is not None and trail is not None:
            self._record(auditor, trail, request, reply, refused)
        key = (info.verb, info.resource, reply.status)
        self.requests[key] = self.requests.get(key, 0) + 1
        return reply

    def _unreadable(self, error: Exception) -> StatusError:
        """Why a body was not read to its end."""
        if isinstance(error, RequestPayloadError):
            return errors.BadRequest("the request body does not end where its head says")
        limit = self._limits.body_bytes_max
        return errors.TooLarge(f"Request entity too large: limit is {limit}")

    def _record(
        self,
        auditor: Auditor,
        trail: Trail,
        request: web.BaseRequest,
        reply: web.StreamResponse,
        refused: StatusError | None,
    ) -> None:
        """The end of a request, for the audit log; the client is told the id."""
        if refused is not None and refused.status_code == 401 and trail.user is None:
            auditor.unknown(trail, request.headers, request.raw_path, _remote(request))
        else:
            if refused is not None:
                self._bodies(trail, request, reply)
            auditor.completed(trail, reply.status, refused)
        if isinstance(reply, Reply):
            reply.extra = (*reply.extra, (HEADER, trail.audit_id))

    def _bodies(self, trail: Trail, request: web.BaseRequest, reply: web.StreamResponse) -> None:
        """Those that the policy wants: what was read of the request, and the answer before it is made smaller."""
        if self._auditor is not None and self._auditor.wants_bodies(trail):
            body = request._read_bytes  # noqa: SLF001 - to ask for it would wait for what nobody has read
            self._auditor.bodies(trail, request.headers, body, reply)

    async def _answer(self, request: web.BaseRequest, info: RequestInfo) -> web.StreamResponse:
        if not info.is_resource:
            health = self._plain.health(info)
            if health is not None:
                self._identified(request, info, ANONYMOUS)
                return health
        protocol = request.protocol
        peer = protocol.identity() if isinstance(protocol, Connection) else None
        user = await self._known(request, peer)
        self._identified(request, info, user)
        headers = request.headers
        if is_asked(headers):
            user = impersonated(headers, user, self._authorizer)
            if info.audit is not None:
                info.audit.impersonated = user
        route = self._raw_routes.get(info.path)
        if route is not None:
            return await route(request, user)
        if info.is_resource:
            asked = Attributes(
                info.verb, info.group, info.resource, info.subresource, info.namespace, info.name
            )
            self._check(user, asked, info)
            if info.verb == "get" and _is_command(request, info):
                self._authorizer.check(user, asked._replace(verb="create"))
            reply = await self._seated(request, info, user)
        else:
            self._check(user, Attributes(info.method.lower(), path=info.path), info)
            seat = await self._fairness.enter(share_of(user, info, 0, 0))
            try:
                reply = await self._plain.answer(request, info)
            finally:
                seat.leave()
        if info.audit is not None:
            self._bodies(info.audit, request, reply)
        return self._finished(request, info, reply) if isinstance(reply, Reply) else reply

    async def _seated(
        self, request: web.BaseRequest, info: RequestInfo, user: UserInfo
    ) -> web.StreamResponse:
        """A request for objects, when it has its share. Raises TooManyRequests."""
        if not is_long(info):
            seat = await self._seat(info, user)
            request[SEAT] = seat
            try:
                return await self._api(request, info, user)
            finally:
                seat.leave()
        if isinstance(request.protocol, Connection):
            request.protocol.lasts()
        with self._fairness.lasts(user.name):
            if info.verb != "watch" or not begins_with_all(info):
                return await self._api(request, info, user)
            seat = request[SEAT] = await self._seat(info, user)
            try:
                return await self._api(request, info, user)
            finally:
                seat.leave()

    async def _seat(self, info: RequestInfo, user: UserInfo) -> Seat:
        """Scans are what looks at more than a segment, for a segment is a turn of the loop."""
        cost = self._api.cost(info) if info.verb in SCANS else 1
        segment = self._config.list_segment_objects
        return await self._fairness.enter(share_of(user, info, cost, segment))

    async def _known(self, request: web.BaseRequest, peer: UserInfo | None) -> UserInfo:
        """Who asks. Raises Unauthorized."""
        try:
            return self._authenticator.authenticate(request, peer)
        except Unauthorized:
            if not await self._authenticator.learned(request.headers):
                raise
        return self._authenticator.authenticate(request, peer)

    def _identified(self, request: web.BaseRequest, info: RequestInfo, user: UserInfo) -> None:
        trail = info.audit
        if self._auditor is None or trail is None:
            return
        if is_long(info):
            request[TRAIL] = trail
        self._auditor.identified(trail, user, request.headers, request.raw_path, _remote(request))

    def _check(self, user: UserInfo, asked: Attributes, info: RequestInfo) -> None:
        """Raises Forbidden."""
        auditor, trail = self._auditor, info.audit
        if auditor is None or trail is None:
            self._authorizer.check(user, asked)
            return
        allowed = self._authorizer.allows(user, asked)
        auditor.judged(trail, user, asked, allowed=allowed)
        if not allowed:
            self._authorizer.check(user, asked)

    def _refusal(self, request: web.BaseRequest, error: StatusError) -> Reply:
        if error.status_code == 401:
            return error_reply(error)
        if _may_be_repeated(error):
            error.details = {**(error.details or {}), "retryAfterSeconds": 1}
        accept = request.headers.get("Accept", "")
        if accept.startswith(YAML):
            return Reply(error.status_code, yaml_bytes(error.to_status()), YAML)
        reply = error_reply(error)
        if request.headers.get("User-Agent", "").startswith(BROWSERS):
            reply.payload = pretty(reply.payload)
        return reply

    def _finished(self, request: web.BaseRequest, info: RequestInfo, reply: Reply) -> Reply:
        """Indent for people, compress for the wire."""
        if reply.content == JSON_TYPE:
            wanted = (
                truthy(info, "pretty")
                if "pretty" in info.query
                else (request.headers.get("User-Agent", "")[:8].startswith(BROWSERS))
            )
            if wanted and reply.payload:
                reply.payload = pretty(reply.payload)
        if (
            len(reply.payload) >= self._config.gzip_bytes_min
            and "gzip" in request.headers.get("Accept-Encoding", "")
            and not any(name == "Content-Encoding" for name, _ in reply.extra)
        ):
            reply.payload = compress(reply.payload)
            reply.extra = (*reply.extra, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
        return reply


def _is_command(request: web.BaseRequest, info: RequestInfo) -> bool:
    """Whether a GET does more than to look: an upgrade, which by way of a kubelet runs commands as well."""
    through_node = info.subresource == "proxy" and info.resource == "nodes"
    return info.subresource in STREAMS or (through_node and is_upgrade(request.headers.items()))


def _remote(request: web.BaseRequest) -> str:
    """The client's address; of a request that came over a link, what its line shows."""
    protocol = request.protocol
    return protocol.remote() if isinstance(protocol, Connection) else (request.remote or "")
