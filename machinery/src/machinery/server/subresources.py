"""Paths below an object: scale, binding, eviction, token, reviews, and the streams (log, exec …)."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from machinery.api import decode, kinds, syntax
from machinery.api.managed_fields import apply_scale
from machinery.api.scheme import ServedKind, Subresource
from machinery.kit.clock import rfc3339
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server import patching
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.call import Call
from machinery.server.node_proxy import NodeProxy
from machinery.server.podverbs import PodVerbs, may_request_token
from machinery.server.proxy.proxies import Proxies
from machinery.server.registry import Registry
from machinery.server.request import RequestInfo, truthy
from machinery.server.reviews import Reviews
from machinery.server.scale import SCALE, scale_of, scaled
from machinery.server.user import UserInfo

ConnectHandler = Callable[
    [web.BaseRequest, RequestInfo, UserInfo], Awaitable[web.StreamResponse | None]
]
"""Answers log, exec, attach, portforward or proxy; None lets the built-in way have it."""
OwnReview = Callable[[Document, Call], Awaitable[Document]]
"""Answers a create-only kind of a program's own."""


class Subresources:
    """Everything that is not an object of its own."""

    def __init__(
        self,
        registry: Registry,
        reviews: Reviews,
        verbs: PodVerbs,
        proxy: NodeProxy,
        proxies: Proxies,
        connects: Mapping[tuple[str, str], ConnectHandler],
        own_reviews: Mapping[tuple[str, str], OwnReview],
    ) -> None:
        self._registry = registry
        self._reviews = reviews
        self._verbs = verbs
        self._proxy = proxy
        self._proxies = proxies
        self._connects = dict(connects)
        self._own_reviews = dict(own_reviews)

    # ------------------------------------------------------------------------------------------ create-only kinds
    async def review(
        self, kind: ServedKind, document: Document, namespace: str, call: Call
    ) -> Document:
        """The answer to a kind that is never stored. Raises MethodNotAllowed."""
        name = (document.get("metadata") or {}).get("name") or ""
        document = await self._registry.maker.passed(
            AdmissionRequest("create", kind, namespace, name, "", document, None, call)
        )
        own = self._own_reviews.get((kind.group, kind.plural))
        if own is not None:
            return await own(document, call)
        if kind.plural == "bindings" and not kind.group:
            return await self._verbs.bind(document, namespace, name, call)
        answer = self._reviews.by_plural.get(kind.plural)
        if answer is None:
            raise errors.MethodNotAllowed(
                "the server does not allow this method on the requested resource", details={}
            )
        return answer(document, call.user, namespace)

    async def post(
        self,
        kind: ServedKind,
        sub: Subresource,
        info: RequestInfo,
        body: bytes,
        media: str,
        call: Call,
    ) -> Document:
        """POST to binding, eviction or token."""
        await self._registry.row(kind, info.namespace, info.name)
        shape = kinds.subresource_body(kind, sub)
        decoded = decode.decode_body(shape, body, media, call.field_validation)
        call.warnings.extend(decoded.warnings)
        document = await self._registry.maker.passed(
            AdmissionRequest(
                "create", kind, info.namespace, info.name, sub.name, decoded.document, None, call
            )
        )
        if sub.name == "binding":
            return await self._verbs.bind(document, info.namespace, info.name, call)
        if sub.name == "eviction":
            return await self._verbs.evict(document, info.namespace, info.name, call)
        if why := may_request_token(call.user, document):
            raise errors.Forbidden(
                f'serviceaccounts "{info.name}" is forbidden: {why}',
                details={"name": info.name, "kind": "serviceaccounts"},
            )
        return await self._verbs.token(document, info.namespace, info.name, call)

    # ------------------------------------------------------------------------------------------------------ scale
    async def get_scale(self, kind: ServedKind, info: RequestInfo) -> Document:
        found = await self._registry.get(kind, info.namespace, info.name)
        return scale_of(kind, await self._registry.shown(kind, found))

    async def put_scale(
        self, kind: ServedKind, info: RequestInfo, body: bytes, media: str, call: Call
    ) -> Document:
        """PUT or PATCH of a Scale."""
        if info.verb == "update":
            decoded = decode.decode_body(SCALE, body, media, call.field_validation)
            call.warnings.extend(decoded.warnings)
            scale = decoded.document
            patching.check_name((scale.get("metadata") or {}).get("name", ""), info.name)

            def make(live: Document) -> Document:
                return scaled(kind, live, scale, info.name)

        elif media == patching.APPLY:
            apply_to = self._scale_applier(kind, body, info, call)

            def make(live: Document) -> Document:
                return apply_to(live)

        else:
            patch = patching.patcher(SCALE, media, body, info.name, call)

            def make(live: Document) -> Document:
                return scaled(kind, live, patch(scale_of(kind, live)), info.name)

        stored = await self._registry.change(
            kind, info.namespace, info.name, make, call, "scale", manage=media != patching.APPLY
        )
        return scale_of(kind, await self._registry.shown(kind, stored))

    def _scale_applier(
        self, kind: ServedKind, body: bytes, info: RequestInfo, call: Call
    ) -> Callable[[Document], Document]:
        """Server-side apply of a Scale: conflicts are found on the workload's own managers."""
        wanted = self.applied(SCALE, body, info, call)
        force, time = truthy(info, "force"), rfc3339(self._registry.clock.now())

        def make(live: Document) -> Document:
            scale, workload = apply_scale(
                SCALE, live, scale_of(kind, live), wanted, call.manager, force, time
            )
            return scaled(kind, workload, {"spec": scale.get("spec") or {}}, info.name)

        return make

    # ------------------------------------------------------------------------------------------------------ apply
    def applied(self, kind: ServedKind, body: bytes, info: RequestInfo, call: Call) -> Document:
        """The configuration that an apply sends. Raises BadRequest, Invalid."""
        if not info.first("fieldManager"):
            cause = {
                "reason": "FieldValueRequired",
                "message": "Required value: is required for apply patch",
                "field": "fieldManager",
            }
            raise errors.invalid("PatchOptions", "meta.k8s.io", "", [cause])
        try:
            document, twice = syntax.parse_yaml(body)
        except syntax.BadSyntax as error:
            raise errors.BadRequest(f"error decoding YAML: {error}") from None
        call.warnings.extend(f"yaml: {text}" for text in twice)
        if not isinstance(document, dict):
            raise errors.BadRequest("error decoding YAML: the configuration is not an object")
        version, name = document.get("apiVersion", ""), document.get("kind", "")
        if (version, name) != (kind.api_version, kind.kind):
            raise errors.BadRequest(f"invalid object type: {version or '/'}, Kind={name}")
        metadata = document.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise errors.BadRequest("error decoding YAML: metadata is not an object")
        given = metadata.get("name") or info.name
        patching.check_name(given, info.name)
        if metadata.get("managedFields"):
            raise errors.BadRequest("metadata.managedFields must be nil")
        if info.namespace and metadata.get("namespace", info.namespace) != info.namespace:
            raise errors.BadRequest(
                f"the namespace of the object ({metadata['namespace']}) does not match the namespace on the request "
                f"({info.namespace})"
            )
        return {**document, "metadata": {**metadata, "name": given}}

    # ---------------------------------------------------------------------------------------------------- streams
    async def _admitted(self, info: RequestInfo, kind: ServedKind, user: UserInfo) -> None:
        """Whether policies and webhooks let it connect. Raises StatusError."""
        call = Call(user)
        if info.audit is not None:
            info.audit.annotations = call.annotations
        options = connect_options(kind, info)
        asked = AdmissionRequest(
            "connect", kind, info.namespace, info.name, info.subresource, options, None, call
        )
        if await self._registry.maker.passed(asked) != options:
            raise errors.internal("the options of a connection may be refused, not changed")

    async def connect(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind, user: UserInfo
    ) -> web.StreamResponse:
        """log, exec, attach, portforward, proxy: an extension's, else the node's or the backend's."""
        if info.subresource != "log":
            await self._admitted(info, kind, user)
        handler = self._connects.get((kind.plural, info.subresource))
        if handler is not None:
            answer = await handler(request, info, user)
            if answer is not None:
                return answer
        if info.subresource == "proxy":
            return await self._proxies.connect(request, info, kind)
        return await self._proxy.connect(request, info, kind)


_FLAGS = ("stdin", "stdout", "stderr", "tty")


def connect_options(kind: ServedKind, info: RequestInfo) -> Document:
    """PodExecOptions and the like, as the query gives them: what webhooks are shown of a connection."""
    sub = kind.subresource(info.subresource)
    found: Document = {"kind": sub.kind if sub is not None else "", "apiVersion": "v1"}
    if info.subresource == "proxy":
        return {**found, "path": "/" + "/".join(info.rest)}
    found |= {flag: True for flag in _FLAGS if truthy(info, flag)}
    if container := info.first("container"):
        found["container"] = container
    if command := info.query.get("command"):
        found["command"] = command
    if ports := info.query.get("ports"):
        found["ports"] = [int(one) for text in ports for one in text.split(",") if one.isdecimal()]
    return found
