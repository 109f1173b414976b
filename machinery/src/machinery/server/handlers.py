"""The verbs of the API over HTTP: from a request that may, to an answer in the right form."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from aiohttp import web

from machinery.api import decode
from machinery.api.kinds import CUSTOM_RESOURCE_DEFINITION
from machinery.api.scheme import Scheme, ServedKind
from machinery.kit.clock import Clock, rfc3339
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server import faces, patching, render
from machinery.server.audit.bodies import DELETE_OPTIONS
from machinery.server.audit.event import HEADER
from machinery.server.cache import Entry
from machinery.server.call import Call, Deletion, Intercepted, Interceptor
from machinery.server.computed import ComputedKinds
from machinery.server.config import ServerConfig
from machinery.server.definitions import Definitions
from machinery.server.deletion import RETURNS_OBJECT, deletion_of
from machinery.server.listing import Lister, Page, list_query, parse_int
from machinery.server.negotiate import YAML, Accepted, Form, media_type, negotiate
from machinery.server.options import call_of, warning_headers
from machinery.server.plain import method_not_allowed, not_found, page_not_found
from machinery.server.registry import Registry
from machinery.server.replies import (
    Compressor,
    Headers,
    Reply,
    Streamed,
    compressor,
    dumps,
    success_status,
    yaml_bytes,
)  # fmt: skip
from machinery.server.request import RequestInfo, truthy
from machinery.server.scale import SCALE
from machinery.server.shares import cost_of
from machinery.server.stored import Stored
from machinery.server.subresources import Subresources
from machinery.server.user import UserInfo
from machinery.server.watching import WatchServer
from machinery.server.webhooks.conversion import (
    BATCH_OBJECTS,
    converting,
    converts,
    outward_all,
)  # fmt: skip

CONNECTS = frozenset({"log", "exec", "attach", "portforward", "proxy"})
COLLECTION_BATCH = 50
UNREAD_S = 60.0
"""How long a client may leave a segment of a LIST unread before its connection is ended."""
ListWarnings = Callable[[ServedKind], Sequence[str]]
"""What a LIST of the kind should warn of: that a part of it could not be looked at lately."""


class Api:
    """Answers requests for objects."""

    def __init__(  # noqa: PLR0913 - what a server has, handed in once
        self,
        scheme: Scheme,
        registry: Registry,
        lister: Lister,
        watch_server: WatchServer,
        subresources: Subresources,
        config: ServerConfig,
        clock: Clock,
        interceptors: Mapping[tuple[str, str, str], Interceptor],
        list_warnings: ListWarnings | None = None,
        definitions: Definitions | None = None,
        computed: ComputedKinds | None = None,
    ) -> None:
        self._scheme = scheme
        self._registry = registry
        self._lister = lister
        self._watch_server = watch_server
        self._subresources = subresources
        self._config = config
        self._clock = clock
        self._interceptors = dict(interceptors)
        self._list_warnings = list_warnings
        self._definitions = definitions
        self._computed = computed or ComputedKinds({})

    async def __call__(
        self, request: web.BaseRequest, info: RequestInfo, user: UserInfo
    ) -> web.StreamResponse:
        """One request that has been authorized."""
        kind = self._kind(info)
        if kind is None:
            return page_not_found()
        if info.subresource:
            return await self._subresource(request, info, kind, user)
        if info.verb not in kind.verbs:
            raise method_not_allowed()
        answer = await self._whole(request, info, kind, user)
        if kind.deprecated and isinstance(answer, Reply):
            answer.extra = (*answer.extra, *warning_headers((kind.deprecated,)))
        return answer

    async def _whole(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind, user: UserInfo
    ) -> web.StreamResponse:
        """A request for an object or a collection."""
        interceptor = self._interceptors.get((info.verb, kind.group, kind.plural))
        if interceptor is not None:
            answer = await self._intercept(interceptor, request, info, kind, user)
            if answer is not None:
                return answer
        if kind.computed:
            return await self._compute(request, info, kind)
        if info.verb == "get":
            return await self._get(request, info, kind)
        if info.verb == "list":
            return await self._list(request, info, kind)
        if info.verb == "watch":
            return await self._watch_server.serve(request, info, kind, self.stored(kind))
        if info.verb in ("delete", "deletecollection"):
            return await self._delete(request, info, kind, user)
        return await self._write(request, info, kind, user)

    def cost(self, info: RequestInfo) -> int:
        """How many objects a scan looks at; 1 where that is not known."""
        kind = self._scheme.by_plural(info.group, info.version, info.resource)
        if kind is None or kind.computed or not kind.storable or info.subresource:
            return 1
        cache = self._registry.cache.of(self.stored(kind))
        within = info.namespace if kind.namespaced else ""
        return cost_of(info, len(cache.ordered(within)) if within else len(cache.entries))

    # ------------------------------------------------------------------------------------------------ routing
    def _kind(self, info: RequestInfo) -> ServedKind | None:
        """The kind behind the path. None: no such group. Raises NotFound, MethodNotAllowed."""
        kind = self._scheme.by_plural(info.group, info.version, info.resource)
        if "/" in info.name:
            raise not_found()
        if kind is None:
            if info.group and not self._scheme.is_fixed(info.group):
                return None
            raise not_found()
        in_namespace = bool(info.namespace) and info.resource != "namespaces"
        if not kind.namespaced and in_namespace:
            if kind.dynamic is not None:
                return None
            raise not_found()
        if kind.namespaced and not in_namespace:
            if info.name and info.verb not in ("list", "watch"):
                raise not_found()
            if info.verb not in ("list", "watch"):
                raise method_not_allowed()
        if info.verb == "create" and info.name and not info.subresource:
            raise method_not_allowed()
        if info.verb in ("update", "patch") and not info.name:
            raise method_not_allowed()
        if not kind.namespaced:
            info.namespace = ""
        return kind

    def stored(self, kind: ServedKind) -> ServedKind:
        """The kind under which objects of `kind` lie in the store."""
        return self._scheme.stored(kind)

    async def _intercept(
        self,
        interceptor: Interceptor,
        request: web.BaseRequest,
        info: RequestInfo,
        kind: ServedKind,
        user: UserInfo,
    ) -> Reply | None:
        body = await request.read() if request.can_read_body else b""
        answer = await interceptor(
            Intercepted(
                info.verb, kind, info.namespace, info.name, info.subresource, user, info.query, body,
                media_type(request.headers.get("Content-Type", "")),
            )
        )  # fmt: skip
        return None if answer is None else Reply(answer[0], dumps(answer[1]))

    # ------------------------------------------------------------------------------------------------- reading
    async def _get(self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind) -> Reply:
        accepted = negotiate(request.headers.get("Accept", ""))
        if "resourceVersion" in info.query:
            await self._lister.reached(info.first("resourceVersion"))
        found = await self._registry.get(self.stored(kind), info.namespace, info.name)
        return await self._object(200, found, info, kind, accepted, self._registry.stale())

    async def _compute(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind
    ) -> Reply:
        accepted = negotiate(request.headers.get("Accept", ""))
        document, warnings = await self._computed.answer(kind, info, accepted, self._clock.now())
        headers = tuple(warning_headers(tuple(warnings)))
        if accepted.yaml:
            return Reply(200, yaml_bytes(document), YAML, headers)
        return Reply(200, dumps(document), headers=headers)

    async def _object(  # noqa: PLR0913 - an answer has this many circumstances
        self,
        status: int,
        found: Stored,
        info: RequestInfo,
        kind: ServedKind,
        accepted: Accepted,
        warnings: list[str] | tuple[str, ...],
    ) -> Reply:
        """One object in its form. Raises InternalError where nobody converts it."""
        if not converts(kind):
            return self._shown(status, found, info, kind, accepted, warnings)
        return await converting(lambda: self._shown(status, found, info, kind, accepted, warnings))

    async def _documents(self, kind: ServedKind, entries: Sequence[Entry]) -> Iterable[Document]:
        """The objects as they are served."""
        if not converts(kind):
            return render.documents_of(kind, entries)
        found: list[Document] = []
        for first in range(0, len(entries), BATCH_OBJECTS):
            batch = entries[first : first + BATCH_OBJECTS]
            found += await outward_all(kind, [entry.document() for entry in batch])
            await asyncio.sleep(0)
        return found

    def _shown(  # noqa: PLR0913 - the same
        self,
        status: int,
        found: Stored,
        info: RequestInfo,
        kind: ServedKind,
        accepted: Accepted,
        warnings: list[str] | tuple[str, ...],
    ) -> Reply:
        _noted(info, found)
        headers = tuple(warning_headers(warnings)) if warnings else ()
        view = render.view_of(kind)
        if accepted.form is Form.OBJECT and not accepted.yaml and view is None:
            return Reply(status, found.wire() + b"\n", headers=headers)
        document = found.read()
        if view is not None:
            document = view(document)
        include = render.include_object(info.first("includeObject"))
        document = render.shown(kind, document, accepted, include, self._clock.now())
        if accepted.yaml:
            return Reply(status, yaml_bytes(document), YAML, headers)
        return Reply(status, dumps(document), headers=headers)

    async def _list(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind
    ) -> web.StreamResponse:
        accepted = negotiate(request.headers.get("Accept", ""))
        include = render.include_object(info.first("includeObject"))
        stored = self.stored(kind)
        cache = self._registry.cache.of(stored)
        page = await self._lister.page(cache, list_query(kind, info))
        metadata = page.metadata()
        segment = self._config.list_segment_objects
        whole = info.audit is not None and info.audit.whole
        advice = self._list_warnings(kind) if self._list_warnings is not None else ()
        headers = tuple(warning_headers((*self._registry.stale(), *advice)))
        plain = accepted.form is Form.OBJECT and not accepted.yaml and render.view_of(kind) is None
        if plain and (len(page.entries) <= segment or whole):
            body = render.list_head(kind, metadata) + render.items(kind, page.entries, cache.head)
            return Reply(200, body + render.LIST_TAIL, headers=headers)
        if plain:
            if info.audit is not None:
                headers = (*headers, (HEADER, info.audit.audit_id))
            return await self._stream_list(request, kind, page, cache.head, headers)
        documents = await self._documents(kind, page.entries)
        document = render.shown_list(
            kind, documents, metadata, accepted, include, self._clock.now()
        )
        if accepted.yaml:
            return Reply(200, yaml_bytes(document), YAML, headers)
        return Reply(200, dumps(document), headers=headers)

    async def _stream_list(
        self,
        request: web.BaseRequest,
        kind: ServedKind,
        page: Page,
        head: int,
        headers: Headers,
    ) -> web.StreamResponse:
        """A long list in segments; other requests are served between them."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        zipped = "gzip" in request.headers.get("Accept-Encoding", "")
        squeeze = compressor() if zipped else None
        lines = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        )
        if zipped:
            lines += b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"
        for name, value in headers:
            lines += f"{name}: {value}\r\n".encode("utf-8", "surrogateescape")
        keep = bool(request.keep_alive)
        transport.write(lines + (b"\r\n" if keep else b"Connection: close\r\n\r\n"))
        step = self._config.list_segment_objects
        entries = page.entries
        for first in range(0, len(entries), step):
            text = render.items(kind, entries[first : first + step], head)
            lead = render.list_head(kind, page.metadata()) if first == 0 else b","
            _write_chunk(transport, (lead, text), squeeze)
            await self._pause(request, transport)
        _write_chunk(transport, (render.LIST_TAIL,), squeeze, last=True)
        return Streamed(keep_alive=keep)

    async def _pause(self, request: web.BaseRequest, transport: asyncio.Transport) -> None:
        await asyncio.sleep(0)
        latest = self._clock.monotonic() + UNREAD_S
        limit = self._config.watch_buffer_bytes_max
        while not transport.is_closing() and transport.get_write_buffer_size() > limit:
            if self._clock.monotonic() > latest:
                transport.abort()
            await self._clock.sleep(0.005)
        if transport.is_closing():
            raise ConnectionResetError("the client is gone")

    # ------------------------------------------------------------------------------------------------- writing
    async def _write(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind, user: UserInfo
    ) -> Reply:
        accepted = negotiate(request.headers.get("Accept", ""))
        call = self._call(request, info, kind, user)
        body = await request.read()
        media = media_type(request.headers.get("Content-Type", ""))
        if info.verb == "patch":
            stored = await self._patch(info, kind, body, media, call)
            await self._followed(stored)
            status = 201 if stored.created else 200
            return await self._object(status, stored, info, kind, accepted, call.warnings)
        document = self._decode(kind, body, media, call)
        if info.audit is not None and info.audit.recorded:
            info.audit.asked(document)
        if not kind.storable:
            answer = await self._subresources.review(kind, document, info.namespace, call)
            return Reply(201, dumps(answer), headers=tuple(warning_headers(call.warnings)))
        into = self.stored(kind)
        document = faces.inward(kind, document)
        if info.verb == "create":
            stored = await self._registry.create(into, document, info.namespace, call)
            await self._followed(stored)
            return await self._object(201, stored, info, kind, accepted, call.warnings)
        stored = await self._registry.update(into, document, info.namespace, info.name, call)
        await self._followed(stored)
        status = 201 if stored.created else 200
        return await self._object(status, stored, info, kind, accepted, call.warnings)

    def _call(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind, user: UserInfo
    ) -> Call:
        call = call_of(request.headers, info, user)
        if kind.stored_as is not None and kind.dynamic is None:
            call.face = kind
        if info.audit is not None:
            info.audit.annotations = call.annotations
        return call

    async def _followed(self, stored: Stored) -> None:
        """A definition is answered when its kinds are served, if that is soon: its objects come next."""
        if stored.kind is CUSTOM_RESOURCE_DEFINITION and self._definitions is not None:
            await self._definitions.settled(stored.read()["metadata"]["name"], stored.revision)

    def _decode(self, kind: ServedKind, body: bytes, media: str, call: Call) -> Document:
        decoded = self._registry.bursts.body(kind, body, media, call.field_validation)
        call.warnings.extend(decoded.warnings)
        return decoded.document

    async def _patch(
        self, info: RequestInfo, kind: ServedKind, body: bytes, media: str, call: Call
    ) -> Stored:
        into = self.stored(kind)
        if media == patching.APPLY:
            return await self._apply(info, into, kind, body, call, "")
        make = faces.through(kind, patching.patcher(kind, media, body, info.name, call))
        return await self._registry.change(into, info.namespace, info.name, make, call)

    async def _apply(
        self,
        info: RequestInfo,
        into: ServedKind,
        kind: ServedKind,
        body: bytes,
        call: Call,
        subresource: str,
    ) -> Stored:
        """Server-side apply: onto the live object, or creating it."""
        applied = faces.inward(kind, self._subresources.applied(kind, body, info, call))
        force = truthy(info, "force")
        time = rfc3339(self._clock.now())
        make = patching.applier(into, applied, call, force, time, subresource)
        try:
            return await self._registry.change(
                into, info.namespace, info.name, make, call, subresource, manage=False
            )
        except errors.NotFound:
            if subresource or self._registry.peek(into, info.namespace, info.name) is not None:
                raise
        fresh = make(None)
        return await self._registry.create(into, fresh, info.namespace, call, manage=False)

    # ------------------------------------------------------------------------------------------------ deleting
    async def _delete(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind, user: UserInfo
    ) -> Reply:
        accepted = negotiate(request.headers.get("Accept", ""))
        call = self._call(request, info, kind, user)
        options = await self._deletion(request, info, call)
        into = self.stored(kind)
        if info.verb == "deletecollection":
            return await self._delete_collection(info, kind, options, call)
        found, gone = await self._registry.deleter.delete(
            into, info.namespace, info.name, options, call
        )
        await self._followed(found)
        _noted(info, found)
        headers = tuple(warning_headers(call.warnings))
        if gone and kind.kind not in RETURNS_OBJECT:
            metadata = found.read()["metadata"]
            details = {"name": info.name} | ({"group": kind.group} if kind.group else {})
            details |= {"kind": kind.plural, "uid": metadata.get("uid", "")}
            return Reply(200, dumps(success_status(details)), headers=headers)
        return await self._object(200, found, info, kind, accepted, call.warnings)

    async def _deletion(self, request: web.BaseRequest, info: RequestInfo, call: Call) -> Deletion:
        document: Document = {}
        if request.can_read_body and (body := await request.read()):
            media = media_type(request.headers.get("Content-Type", ""))
            document = decode.decode_body(DELETE_OPTIONS, body, media, "Ignore").document
        else:
            if "gracePeriodSeconds" in info.query:
                document["gracePeriodSeconds"] = parse_int(info.first("gracePeriodSeconds"))
            if "propagationPolicy" in info.query:
                document["propagationPolicy"] = info.first("propagationPolicy")
            if "orphanDependents" in info.query:
                document["orphanDependents"] = truthy(info, "orphanDependents")
        if "dryRun" in info.query:
            document["dryRun"] = info.query["dryRun"]
        return deletion_of(document)

    async def _delete_collection(
        self, info: RequestInfo, kind: ServedKind, options: Deletion, call: Call
    ) -> Reply:
        into = self.stored(kind)
        page = await self._lister.page(self._registry.cache.of(into), list_query(kind, info))
        options = Deletion(
            options.grace_period_seconds, options.propagation_policy, dry_run=options.dry_run
        )

        async def one(namespace: str, name: str) -> None:
            with contextlib.suppress(errors.NotFound):
                await self._registry.deleter.delete(into, namespace, name, options, call)

        judge = self._registry.deleter.judge
        lives = await self._documents(into, page.entries)
        for entry, live in zip(page.entries, lives, strict=True):
            # one that must stay keeps all the others
            judge(into, entry.namespace, entry.name, live, call)
        for first in range(0, len(page.entries), COLLECTION_BATCH):
            batch = page.entries[first : first + COLLECTION_BATCH]
            try:
                async with asyncio.TaskGroup() as group:
                    for entry in batch:
                        _ = group.create_task(one(entry.namespace, entry.name))
            except (
                ExceptionGroup
            ) as failed:  # an answer has room for one error: the first, with the rest in its cause
                raise failed.exceptions[0] from failed
        seen = await self._documents(kind, page.entries)
        listed = render.shown_list(
            kind, seen, page.metadata(), Accepted(), "None", self._clock.now()
        )
        return Reply(200, dumps(listed), headers=tuple(warning_headers(call.warnings)))

    # -------------------------------------------------------------------------------------------- subresources
    async def _subresource(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind, user: UserInfo
    ) -> web.StreamResponse:
        sub = kind.subresource(info.subresource)
        if sub is None and kind.dynamic is not None:
            raise errors.not_found(kind.plural, kind.group, info.name)
        if sub is None or (info.rest and info.subresource != "proxy"):
            raise not_found()
        if info.verb not in sub.verbs and (info.method, sub.name) != ("OPTIONS", "proxy"):
            raise method_not_allowed()
        if info.subresource in CONNECTS:
            return await self._subresources.connect(request, info, kind, user)
        key = (info.verb, kind.group, f"{kind.plural}/{info.subresource}")
        interceptor = self._interceptors.get(key)
        if interceptor is not None:
            answer = await self._intercept(interceptor, request, info, kind, user)
            if answer is not None:
                return answer
        accepted = negotiate(request.headers.get("Accept", ""))
        if info.verb == "get":
            if info.subresource == "scale":
                scale = await self._subresources.get_scale(kind, info)
                include = render.include_object(info.first("includeObject"))
                return Reply(
                    200, dumps(render.shown(SCALE, scale, accepted, include, self._clock.now()))
                )
            return await self._get(request, info, kind)
        call = self._call(request, info, kind, user)
        body = await request.read()
        media = media_type(request.headers.get("Content-Type", ""))
        if info.verb == "create":
            answer_document = await self._subresources.post(kind, sub, info, body, media, call)
            told = tuple(warning_headers(call.warnings))
            return Reply(201, dumps(answer_document), headers=told)
        if info.subresource == "scale":
            scale = await self._subresources.put_scale(kind, info, body, media, call)
            return Reply(200, dumps(scale), headers=tuple(warning_headers(call.warnings)))
        stored = await self._write_part(info, kind, body, media, call)
        return await self._object(200, stored, info, kind, accepted, call.warnings)

    async def _write_part(
        self, info: RequestInfo, kind: ServedKind, body: bytes, media: str, call: Call
    ) -> Stored:
        """PUT or PATCH of status, approval, finalize, ephemeralcontainers …"""
        into = self.stored(kind)
        if info.verb == "update":
            document = self._decode(kind, body, media, call)
            if info.audit is not None and info.audit.recorded:
                info.audit.asked(document)
            document = faces.inward(kind, document)
            return await self._registry.update(
                into, document, info.namespace, info.name, call, info.subresource
            )
        if media == patching.APPLY:
            return await self._apply(info, into, kind, body, call, info.subresource)
        make = faces.through(kind, patching.patcher(kind, media, body, info.name, call))
        return await self._registry.change(
            into, info.namespace, info.name, make, call, info.subresource
        )


# ------------------------------------------------------------------------------------------------------------ helpers
def _noted(info: RequestInfo, found: Stored) -> None:
    """Which object it was, for the audit log."""
    if info.audit is not None and info.audit.recorded and found.document is not None:
        info.audit.found(found.document["metadata"])


def _write_chunk(
    transport: asyncio.Transport,
    parts: tuple[bytes, ...],
    squeeze: Compressor | None,
    *,
    last: bool = False,
) -> None:
    """One chunk of a chunked body, compressed on the way if asked."""
    if squeeze is not None:
        data = b"".join([squeeze.compress(part) for part in parts])
        if last:
            data += squeeze.flush()
        parts = (data,) if data else ()
    size = sum(map(len, parts))
    if size:
        transport.writelines([b"%x\r\n" % size, *parts, b"\r\n"])
    if last:
        transport.write(b"0\r\n\r\n")
