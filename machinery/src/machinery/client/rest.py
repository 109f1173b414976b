"""The Client over HTTP/1.1: JSON in and out, one session of kept connections, watches as streams of lines.

Views are decoded straight from the bytes of an answer; a watch line may be of any length. What goes wrong on the way
raises `ConnectionError` (the request may or may not have been executed; reads and compare-and-swaps may be repeated),
what the server refuses raises its `StatusError`. Nothing is retried here: who asks knows whether asking again is safe.

`connector` lets the same client speak over something that is not a dialled TCP connection: the reversed link. Whoever
gave it closes it.
"""

import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
import orjson
from aiohappyeyeballs import AddrInfoType
from yarl import URL

from machinery.client.interface import (
    DeleteOptions,
    EventType,
    Listing,
    ListOptions,
    PatchType,
    WatchEvent,
)
from machinery.client.lines import LineBuffer
from machinery.client.objects import version_of
from machinery.meta.errors import InternalError, StatusError, from_status
from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import ObjectKey, Resource, document_key
from machinery.wire.link import watch_the_path_of

log = logging.getLogger(__name__)
T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 60.0
WATCH_SILENCE_MAX_S = 180.0
"""Servers send a bookmark about every minute; three missing ones mean that the line is dead."""
KEEPALIVE_S = 60.0
CONNECTIONS_MAX = 512
ERROR_BODY_MAX = 4096

_EVERYTHING, _AS_USUAL = ListOptions(), DeleteOptions()
_QUERY_NAMES = (
    ("label_selector", "labelSelector"),
    ("field_selector", "fieldSelector"),
    ("resource_version", "resourceVersion"),
    ("resource_version_match", "resourceVersionMatch"),
    ("continue_", "continue"),
)


class _ListMeta(View):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _ListFrame(View):
    items: list[msgspec.Raw] | None = None
    metadata: _ListMeta = _ListMeta()


class _WatchFrame(View):
    type: str
    object: msgspec.Raw


_LIST_DECODER = msgspec.json.Decoder(_ListFrame)
_WATCH_DECODER = msgspec.json.Decoder(_WatchFrame)
_OBJECT_DECODER = msgspec.json.Decoder(Object)
_VIEW_DECODERS: dict[Any, Callable[[Any], Any]] = {dict: orjson.loads}


class Unreachable(ConnectionError):
    """No answer: not connected, cut off, or too slow."""


def decode_view(resource: Resource[T], raw: bytes | memoryview | msgspec.Raw) -> T:
    """One object in the resource's view; items of lists that carry no kind are given it.

    Raises InternalError for an object that does not fit the view, Unreachable for what is not JSON at all.
    """
    view: Any = resource.view
    decode = _VIEW_DECODERS.get(view)
    if decode is None:
        decode = _VIEW_DECODERS[view] = msgspec.json.Decoder(view).decode
    try:
        if view is dict:
            document: Any = decode(bytes(raw))
            if "kind" not in document:
                document = {"apiVersion": resource.api_version, "kind": resource.kind, **document}
            return cast("T", document)
        value: Any = decode(raw)
    except msgspec.ValidationError as error:
        raise InternalError(f"{resource.kind} does not fit its view: {error}") from error
    except (msgspec.DecodeError, orjson.JSONDecodeError) as error:
        raise Unreachable(f"answer is not of the Kubernetes API: {error}") from error
    if isinstance(value, Object) and not value.kind:
        value = msgspec.structs.replace(value, api_version=resource.api_version, kind=resource.kind)
    return cast("T", value)


def _decode_fitting(resource: Resource[T], raw: msgspec.Raw) -> T | None:
    """As `decode_view`, None for one that does not fit: it must not keep all others out of an informer."""
    try:
        return decode_view(resource, raw)
    except InternalError as error:
        meta = _OBJECT_DECODER.decode(raw).metadata
        log.error(
            "object skipped",
            extra={"object": f"{resource}/{meta.namespace}/{meta.name}", "error": error.message},
        )
        return None


class RestClient:
    """The Client of one server and one identity."""

    def __init__(
        self,
        base_url: str,
        ssl_context: ssl.SSLContext | None = None,
        token: str | Callable[[], str] = "",
        *,
        connector: Callable[[], aiohttp.BaseConnector] | None = None,
        headers: Mapping[str, str] | None = None,
        field_manager: str = "ubernetes",
        server_hostname: str = "",
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._ssl, self._token, self._connector = ssl_context, token, connector
        self._headers = {"Accept": "application/json", **(headers or {})}
        self._field_manager, self._server_hostname = field_manager, server_hostname or None
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | None = None

    # ------------------------------------------------------------------------------------------- the protocol
    async def get(self, resource: Resource[T], key: ObjectKey, *, subresource: str = "") -> T:
        raw = await self.request("GET", _path(resource, key.namespace, key.name, subresource))
        return decode_view(resource, raw)

    async def list(
        self, resource: Resource[T], namespace: str = "", options: ListOptions = _EVERYTHING
    ) -> Listing[T]:
        raw = await self.request("GET", _path(resource, namespace), query=_query(options))
        frame = _decode(_LIST_DECODER, raw)
        items = [_decode_fitting(resource, item) for item in frame.items or ()]
        fitting = [item for item in items if item is not None]
        return Listing(fitting, frame.metadata.resource_version, frame.metadata.continue_)

    async def watch(
        self, resource: Resource[T], namespace: str = "", options: ListOptions = _EVERYTHING
    ) -> AsyncIterator[WatchEvent[T]]:
        query = {**_query(options), "watch": "true", "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=WATCH_SILENCE_MAX_S
        )
        path = _path(resource, namespace)
        lines = LineBuffer()
        try:
            async with self._open("GET", path, query, timeout=timeout) as response:
                await _raise_for_status(response)
                async for chunk in response.content.iter_any():
                    for line in lines.feed(chunk):
                        if (event := _event(resource, line)) is not None:
                            yield event
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable("GET", path, error) from error

    async def create(
        self,
        resource: Resource[T],
        document: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> T:
        namespace = namespace or (document.get("metadata") or {}).get("namespace") or ""
        path = _path(resource, namespace, name, subresource)
        raw = await self.request("POST", path, query=self._managed(), body=orjson.dumps(document))
        return decode_view(resource, raw)

    async def update(
        self, resource: Resource[T], document: Mapping[str, Any], *, subresource: str = ""
    ) -> T:
        key = document_key(dict(document))
        path = _path(resource, key.namespace, key.name, subresource)
        raw = await self.request("PUT", path, query=self._managed(), body=orjson.dumps(document))
        return decode_view(resource, raw)

    async def patch(
        self,
        resource: Resource[T],
        key: ObjectKey,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        *,
        subresource: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> T:
        query = self._managed() | ({"force": "true"} if force else {})
        query |= {"dryRun": "All"} if dry_run else {}
        raw = await self.request(
            "PATCH",
            _path(resource, key.namespace, key.name, subresource),
            query=query,
            body=orjson.dumps(patch),
            content_type=patch_type.value,
        )
        return decode_view(resource, raw)

    async def delete(
        self, resource: Resource[Any], key: ObjectKey, options: DeleteOptions = _AS_USUAL
    ) -> None:
        body = delete_body(options)
        await self.request(
            "DELETE",
            _path(resource, key.namespace, key.name),
            body=orjson.dumps(body) if body else None,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --------------------------------------------------------------------------------------------------- below
    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """One exchange of any path; the answer's bytes. Raises StatusError, Unreachable."""
        headers = {"Content-Type": content_type} if body is not None else {}
        try:
            async with self._open(
                method, path, query or {}, timeout=self._timeout, data=body, headers=headers
            ) as response:
                await _raise_for_status(response)
                answer: bytes = await response.read()
                return answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(method, path, error) from error

    async def stream(
        self, path: str, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        """The answer to a GET as it comes (logs)."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._open("GET", path, query or {}, timeout=timeout) as response:
                await _raise_for_status(response)
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable("GET", path, error) from error

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        timeout: aiohttp.ClientTimeout,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        if self._session is None:
            self._session = self._new_session()
        sent = {**self._headers, **(headers or {})}
        token = self._token() if callable(self._token) else self._token
        if token:
            sent["Authorization"] = f"Bearer {token}"
        text = self.base_url + path + ("?" + urlencode(query) if query else "")
        return self._session.request(
            method,
            URL(text, encoded=True),
            data=data,
            headers=sent,
            timeout=timeout,
            server_hostname=self._server_hostname,
        )

    def _new_session(self) -> aiohttp.ClientSession:
        if self._connector is not None:
            connector = self._connector()
        else:
            connector = aiohttp.TCPConnector(
                ssl=self._ssl if self._ssl is not None else True,
                limit=CONNECTIONS_MAX,
                keepalive_timeout=KEEPALIVE_S,
                socket_factory=_socket,
            )
        return aiohttp.ClientSession(
            connector=connector,
            connector_owner=self._connector is None,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _managed(self) -> dict[str, str]:
        return {"fieldManager": self._field_manager}

    def _unreachable(self, method: str, path: str, error: Exception) -> Unreachable:
        why = str(error) or type(error).__name__
        return Unreachable(f"{method} {self.base_url}{path}: {why}")


def _socket(address: AddrInfoType) -> socket.socket:
    """A watch that waits hears nothing of a cut: the kernel has to ask."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    if family in (socket.AF_INET, socket.AF_INET6):
        watch_the_path_of(sock)
    return sock


def delete_body(options: DeleteOptions) -> dict[str, Any]:
    """metav1.DeleteOptions in wire shape; empty when nothing is asked."""
    body: dict[str, Any] = {}
    if options.grace_period_seconds is not None:
        body["gracePeriodSeconds"] = options.grace_period_seconds
    if options.propagation_policy is not None:
        body["propagationPolicy"] = options.propagation_policy
    preconditions = {"uid": options.uid, "resourceVersion": options.resource_version}
    preconditions = {name: value for name, value in preconditions.items() if value}
    if preconditions:
        body["preconditions"] = preconditions
    return {"kind": "DeleteOptions", "apiVersion": "v1", **body} if body else {}


def _path(
    resource: Resource[Any], namespace: str = "", name: str = "", subresource: str = ""
) -> str:
    return quote(resource.path(namespace, name, subresource), safe="/:@!$&'()*+,;=~")


def _query(options: ListOptions) -> dict[str, str]:
    query = {wire: value for name, wire in _QUERY_NAMES if (value := str(getattr(options, name)))}
    if options.limit:
        query["limit"] = str(options.limit)
    return query


def _event(resource: Resource[T], line: bytes) -> WatchEvent[T] | None:
    frame = _decode(_WATCH_DECODER, line)
    if frame.type == "ERROR":
        raise from_status(orjson.loads(bytes(frame.object)))
    kind = EventType(frame.type)
    if kind is EventType.BOOKMARK:
        bookmark = _OBJECT_DECODER.decode(frame.object)
        return WatchEvent(kind, cast("T", bookmark), bookmark.metadata.resource_version)
    value = _decode_fitting(resource, frame.object)
    if value is None:
        return None
    return WatchEvent(kind, value, version_of(value))


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise Unreachable(f"answer is not of the Kubernetes API: {error}") from error


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    for warning in response.headers.getall("Warning", ()):
        log.info("server warns", extra={"path": response.url.path, "warning": warning})
    if response.status >= 400:
        raise status_error(response.status, await response.read())


def status_error(code: int, body: bytes) -> StatusError:
    """The error of an answer, whether its body is a Status or some proxy's page."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return from_status({**status, "code": status.get("code") or code})
    text = body[:ERROR_BODY_MAX].decode(errors="replace").strip()
    return from_status({"code": code, "message": text or f"the server answered {code}"})
