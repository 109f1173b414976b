"""Requests on a mirror, passed on to the member as the user who asked.

GET of logs streams through; exec, attach and port-forward are upgrades, spliced; DELETE, eviction and patches are answered with
what the member answered. What names the mirror's own revision or managers (PUT, apply, a patch with a resourceVersion) would say
something else there: it is not passed on, and admission refuses it. The user was authorised here for the mirror; the member authorises again, for the same user by
impersonation. A member that is away is said so: 503 with its name, nothing is queued.
"""

from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from aiohttp import web
from multidict import CIMultiDict

from federation.clusters.links import Links
from federation.clusters.mirroring import mirrored, source_of
from machinery.meta.errors import ServiceUnavailable, StatusError, from_status
from machinery.meta.resource import Document, ObjectKey
from machinery.server.audit.auditor import begun
from machinery.server.call import Intercepted
from machinery.server.request import RequestInfo
from machinery.server.user import UserInfo
from machinery.wire.handover import HandedOver, streams
from machinery.wire.link import LinkDown
from machinery.wire.linkpool import LinkPool, UpgradeRefused
from machinery.wire.splice import splice
from machinery.wire.upgrade import is_websocket

Lookup = Callable[[ObjectKey], Document | None]
"""The pod of that key at the federation, mirror or not."""

APPLY = "application/apply-patch+yaml"
PASSED_ON = (
    "Content-Type",
    "Accept",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Upgrade",
    "Connection",
    "X-Stream-Protocol-Version",
)


def member_path(namespace: str, name: str, subresource: str, query: Mapping[str, list[str]]) -> str:
    """The path at the member of a pod, or without a namespace of a node, with the caller's query."""
    where = f"namespaces/{quote(namespace)}/pods" if namespace else "nodes"
    path = f"/api/v1/{where}/{quote(name)}"
    if subresource:
        path += f"/{subresource}"
    pairs = [(key, value) for key, values in query.items() for value in values]
    return f"{path}?{urlencode(pairs)}" if pairs else path


class Forwarder:
    """Passes on what is asked of mirrored pods, and changes of mirrored nodes."""

    def __init__(
        self, links: Links, pods: Lookup, nodes: Callable[[str], Document | None] = lambda _: None
    ) -> None:
        self._links, self._pods, self._nodes = links, pods, nodes

    def _source(self, namespace: str, name: str) -> tuple[LinkPool, str] | None:
        mirror = self._pods(ObjectKey(namespace, name)) if namespace else self._nodes(name)
        source = source_of(mirror) if mirror is not None else None
        if source is None:
            return None
        cluster, there = source
        try:
            return self._links.get(cluster), there
        except LinkDown as error:
            raise away(cluster) from error

    # ------------------------------------------------------------------------------------------------ streams
    async def connect(
        self, request: web.BaseRequest, info: RequestInfo, user: UserInfo
    ) -> web.StreamResponse | None:
        """log, exec, attach, portforward of a mirror; None for pods of the federation's own."""
        found = self._source(info.namespace, info.name)
        if found is None:
            return None
        pool, name = found
        path = member_path(info.namespace, name, info.subresource, info.query)
        sent = as_user([(k, v) for k in PASSED_ON for v in request.headers.getall(k, ())], user)
        try:
            if "Upgrade" in request.headers:
                return await pass_upgrade(request, pool, path, sent)
            return await self._stream(request, pool, path, sent)
        except LinkDown as error:
            raise away(pool.cluster) from error

    @staticmethod
    async def _stream(
        request: web.BaseRequest, pool: LinkPool, path: str, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        async with await pool.request("GET", path, headers) as answer:
            response = web.StreamResponse(
                status=answer.status, headers=begun(request, answer.status)
            )
            response.content_type = answer.content_type
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    # ------------------------------------------------------------------------------------------------- writes
    async def delete(self, asked: Intercepted) -> tuple[int, Document] | None:
        """DELETE of a mirror."""
        return await self._pass(asked, "DELETE", "")

    async def evict(self, asked: Intercepted) -> tuple[int, Document] | None:
        """POST of an Eviction of a mirror."""
        return await self._pass(asked, "POST", "eviction")

    async def patch(self, asked: Intercepted) -> tuple[int, Document] | None:
        """PATCH of a mirror: the member's object changes, and the mirror follows it; so cordon, taint, label work here."""
        if not asked.body or not portable(asked.content_type, asked.body):
            return None
        answered = await self._pass(asked, "PATCH", "")
        if answered is None:
            return None
        status, document = answered
        return status, mirrored(
            document, asked.name.removeprefix(f"{document['metadata']['name']}.")
        )

    async def _pass(
        self, asked: Intercepted, method: str, subresource: str
    ) -> tuple[int, Document] | None:
        found = self._source(asked.namespace, asked.name)
        if found is None:
            return None
        pool, name = found
        path = member_path(asked.namespace, name, subresource, asked.query)
        body = asked.body
        if subresource == "eviction" and body:
            body = renamed(body, name)
        headers = {"Content-Type": asked.content_type} if body and asked.content_type else {}
        try:
            sent = as_user(list(headers.items()), asked.user)
            async with await pool.request(method, path, sent, body or None) as answer:
                document = orjson.loads(await answer.read())
        except (LinkDown, aiohttp.ClientError) as error:
            raise away(pool.cluster) from error
        if answer.status >= 400:
            raise from_status(document)
        return answer.status, document


async def pass_upgrade(
    request: web.BaseRequest, pool: LinkPool, path: str, headers: CIMultiDict[str]
) -> web.StreamResponse:
    """The member's answer to a request for another protocol, and bytes both ways if it agrees. Raises LinkDown."""
    try:
        upgraded = await pool.open_upgrade(request.method, path, headers)
    except UpgradeRefused as refused:
        body = refused.body
        content = refused.headers.get("Content-Type", "application/json").split(";")[0]
        return web.Response(status=refused.status, body=body, content_type=content)
    reader, writer = streams(request)
    _ = begun(request, 101)
    lines = "".join(f"{name}: {value}\r\n" for name, value in upgraded.headers.items())
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode("latin-1"))
    member = upgraded.reader, upgraded.writer
    await splice((reader, writer), member, frames=is_websocket(upgraded.headers))
    return HandedOver()


def as_user(headers: list[tuple[str, str]], user: UserInfo) -> CIMultiDict[str]:
    """Groups are a header each, and so are the protocols that an old kubectl offers: this is a multi-dict."""
    groups = [("Impersonate-Group", group) for group in user.groups]
    return CIMultiDict([*headers, ("Impersonate-User", user.name), *groups])


def renamed(body: bytes, name: str) -> bytes:
    """An Eviction names its pod in the body too."""
    try:
        document = orjson.loads(body)
    except ValueError:
        return body
    document.setdefault("metadata", {})["name"] = name
    return orjson.dumps(document)


def portable(content_type: str, body: bytes) -> bool:
    """Whether a patch says the same of the member's object: no apply, and nothing of revisions."""
    return (
        content_type != APPLY
        and b'"resourceVersion"' not in body
        and b"/resourceVersion" not in body
    )


def away(cluster: str) -> StatusError:
    """What a user hears when the member cannot be asked."""
    return ServiceUnavailable(
        f'cluster "{cluster}" is not connected to the federation: try again when it is, or ask it directly'
    )
