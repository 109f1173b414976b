"""The way to a kubelet: logs, exec, attach, port-forward; connections for the node proxy.

The kubelet is reached at its Node's InternalIP and kubeletEndpoint port by mutual TLS; that it is the right node is
read from its certificate (CN system:node:<name>), not from its address, which may change. Upgrades are spliced: the
kubelet's answer goes to the client as it came, then bytes flow both ways, none lost behind either head.
"""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from aiohttp import web

from machinery.api.scheme import Scheme, ServedKind
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server.audit.auditor import begun
from machinery.server.nodehttp import ResponseHead, open_body, read_head
from machinery.server.pki import Pair, load_pair
from machinery.server.registry import Registry
from machinery.server.replies import TEXT_TYPE, Reply
from machinery.server.request import RequestInfo, truthy
from machinery.server.user import NODE_PREFIX
from machinery.wire.handover import HandedOver, streams
from machinery.wire.splice import splice
from machinery.wire.upgrade import is_websocket

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
ERROR_BODY_BYTES_MAX = 64 * 1024
DIALLING = "error dialing backend: "
"""How every message begins that a kubelet is not reached."""
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_STREAM_HEADERS = (
    "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions", "X-Stream-Protocol-Version",
)  # fmt: skip
_LOG_OPTIONS = (
    "follow", "previous", "timestamps", "tailLines", "sinceSeconds", "sinceTime", "limitBytes", "stream",
)  # fmt: skip
Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class KubeletAddress:
    """Where a node's kubelet listens."""

    node: str
    host: str
    port: int


class NodeProxy:
    """Connects clients with kubelets."""

    def __init__(self, registry: Registry, scheme: Scheme, tls: ssl.SSLContext) -> None:
        self._registry = registry
        self._pods = scheme.by_plural("", "v1", "pods")
        self._nodes = scheme.by_plural("", "v1", "nodes")
        self._tls = tls

    def identify(self, pair: Pair) -> None:
        """Show kubelets this certificate, in connections made from now on."""
        load_pair(self._tls, pair)

    async def connect(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind
    ) -> web.StreamResponse:
        """One of the streams. Raises NotFound, BadRequest, ServiceUnavailable, InternalError."""
        if kind is not self._pods:
            raise errors.MethodNotAllowed(
                "the server does not allow this method on the requested resource", details={}
            )
        pod = (await self._registry.get(kind, info.namespace, info.name)).read()
        if info.subresource == "log":
            return await self._log(request, info, pod)
        node = (pod.get("spec") or {}).get("nodeName", "")
        if not node:
            raise errors.BadRequest(f"pod {info.name} does not have a host assigned")
        return await self._upgrade(request, self.address(node), stream_target(info, pod))

    def address(self, node: str) -> KubeletAddress:
        """Where the node says its kubelet is. Raises NotFound, InternalError."""
        assert self._nodes is not None
        document = self._registry.peek(self._nodes, "", node)
        if document is None:
            raise errors.not_found("nodes", "", node)
        status = document.get("status") or {}
        endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
        for wanted in ("InternalIP", "Hostname", "ExternalIP"):
            for each in status.get("addresses") or ():
                if each.get("type") == wanted and endpoint.get("Port"):
                    return KubeletAddress(node, each["address"], int(endpoint["Port"]))
        raise errors.InternalError(
            f"no preferred addresses found; known addresses: {status.get('addresses') or []}"
        )

    async def open(self, node: str) -> Pipe:
        """A connection to that node's kubelet, for requests of our own. Raises NotFound, InternalError."""
        return await self._dial(self.address(node))

    # -------------------------------------------------------------------------------------------------------- logs
    async def _log(
        self, request: web.BaseRequest, info: RequestInfo, pod: Document
    ) -> web.StreamResponse:
        check_log_options(info)
        container = pick_container(pod, info.first("container"))
        node = (pod.get("spec") or {}).get("nodeName", "")
        if not node:
            return Reply(204, b"", TEXT_TYPE)
        options = [(key, info.first(key)) for key in _LOG_OPTIONS if key in info.query]
        path = f"/containerLogs/{info.namespace}/{info.name}/{quote(container)}"
        target = f"{path}?{urlencode(options)}" if options else path
        return await self._plain(request, self.address(node), target)

    async def _plain(
        self, request: web.BaseRequest, address: KubeletAddress, target: str
    ) -> web.StreamResponse:
        """A request and its streamed answer; ends when either side does."""
        body = await request.read() if request.can_read_body else b""
        kubelet = await self._dial(address)
        try:
            kubelet[1].write(_head(request, address, target, (), len(body)) + body)
            head = await read_head(kubelet[0])
            return await self._relay(request, head, kubelet[0])
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise errors.InternalError(
                f"error reading from the kubelet of {address.node}: {error}"
            ) from error
        finally:
            kubelet[1].close()

    async def _relay(
        self, request: web.BaseRequest, head: ResponseHead, reader: asyncio.StreamReader
    ) -> web.StreamResponse:
        if head.status >= 400:
            raise refusal(head.status, await _limited(head, reader))
        content = head.headers.get("content-type", "text/plain")
        headers = {"Content-Type": content, **begun(request, head.status)}
        response = web.StreamResponse(status=head.status, headers=headers)
        await response.prepare(request)
        async for piece in open_body(head, reader):
            await response.write(piece)
        await response.write_eof()
        return response

    # ----------------------------------------------------------------------------------------------------- upgrade
    async def _upgrade(
        self, request: web.BaseRequest, address: KubeletAddress, target: str
    ) -> web.StreamResponse:
        if "Upgrade" not in request.headers:
            raise errors.BadRequest("Upgrade request required")
        kubelet = await self._dial(address)
        try:
            kubelet[1].write(_head(request, address, target, _STREAM_HEADERS, 0))
            head = await read_head(kubelet[0])
            if head.status != 101:
                raise refusal(head.status, await _limited(head, kubelet[0]))
            client = streams(request)
        except (asyncio.IncompleteReadError, OSError) as error:
            kubelet[1].close()
            raise errors.InternalError(f"{DIALLING}{error}") from error
        except errors.StatusError:
            kubelet[1].close()
            raise
        _ = begun(request, 101)
        client[1].write(head.raw)
        try:
            await splice(client, kubelet, frames=is_websocket(head.headers))
        except OSError as error:
            log.debug(
                "a stream to a kubelet broke", extra={"node": address.node, "error": str(error)}
            )
        return HandedOver()

    async def _dial(self, address: KubeletAddress) -> Pipe:
        """A connection to the kubelet that has proved to be this node's."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, ssl=self._tls, server_hostname=address.node
                )
        except TimeoutError:
            raise errors.InternalError(
                f"{DIALLING}dial tcp {address.host}:{address.port}: i/o timeout"
            ) from None
        except OSError as error:
            raise errors.InternalError(
                f"{DIALLING}dial tcp {address.host}:{address.port}: {error.strerror or error}"
            ) from error
        certificate = writer.get_extra_info("peercert") or {}
        names = [v for part in certificate.get("subject", ()) for k, v in part if k == "commonName"]
        if names != [NODE_PREFIX + address.node]:
            writer.close()
            raise errors.InternalError(
                f"{DIALLING}{address.host}:{address.port} is not node {address.node}: "
                f"its certificate names {names}"
            )
        return reader, writer


# -------------------------------------------------------------------------------------------------------------- pure
def stream_target(info: RequestInfo, pod: Document) -> str:
    """The kubelet's path and query for exec, attach or port-forward. Raises BadRequest."""
    if info.subresource == "portforward":
        ports = [("port", port) for port in forwarded_ports(info)]
        query = f"?{urlencode(ports)}" if ports else ""
        return f"/portForward/{info.namespace}/{info.name}{query}"
    container = pick_container(pod, info.first("container"))
    options = [("command", part) for part in info.query.get("command", [])]
    if info.subresource == "exec" and not options:
        raise errors.BadRequest("you must specify at least 1 command for the container")
    names = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))
    asked = [(there, "1") for here, there in names if here in info.query and truthy(info, here)]
    if not any(key in ("input", "output", "error") for key, _ in asked):
        raise errors.BadRequest("you must specify at least one of stdin, stdout, stderr")
    path = f"/{info.subresource}/{info.namespace}/{info.name}/{quote(container)}"
    return f"{path}?{urlencode([*asked, *options])}"


def forwarded_ports(info: RequestInfo) -> list[str]:
    """The ports that a client of WebSocket channels names: once each, or with commas. Raises BadRequest."""
    ports = []
    for value in info.query.get("ports", info.query.get("port", [])):
        for text in value.split(","):
            if not (text.isascii() and text.isdecimal()):
                raise errors.BadRequest(f'strconv.ParseUint: parsing "{text}": invalid syntax')
            if len(text) > 5 or int(text) > 65535:
                raise errors.BadRequest(f'strconv.ParseUint: parsing "{text}": value out of range')
            ports.append(text)
    return ports


def pick_container(pod: Document, asked: str) -> str:
    """The container that is meant. Raises BadRequest in upstream's words."""
    spec = pod.get("spec") or {}
    name = pod["metadata"]["name"]
    plain = [c["name"] for c in spec.get("containers") or ()]
    initial = [c["name"] for c in spec.get("initContainers") or ()]
    ephemeral = [c["name"] for c in spec.get("ephemeralContainers") or ()]
    if asked:
        if asked not in (*plain, *initial, *ephemeral):
            raise errors.BadRequest(f"container {asked} is not valid for pod {name}")
        return asked
    preferred = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER, "")
    if preferred in plain:
        return str(preferred)
    if len(plain) == 1:
        return str(plain[0])
    text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(plain)}]"
    if initial:
        text += f" or one of the init containers: [{' '.join(initial)}]"
    raise errors.BadRequest(text)


def check_log_options(info: RequestInfo) -> None:
    """PodLogOptions as upstream checks them. Raises Invalid, BadRequest."""
    causes = []
    for key, least in (("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)):
        if key not in info.query:
            continue
        text = info.first(key)
        try:
            value = int(text)
        except ValueError:
            raise errors.BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
        if value < least:
            bound = "greater than or equal to 0" if least == 0 else "greater than 0"
            causes.append(("FieldValueInvalid", f"Invalid value: {value}: must be {bound}", key))
    if "sinceSeconds" in info.query and "sinceTime" in info.query:
        message = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        causes.append(("FieldValueForbidden", message, "[]"))
    if causes:
        raise errors.invalid(
            "PodLogOptions", "", info.name,
            [{"reason": reason, "message": message, "field": field} for reason, message, field in causes],
        )  # fmt: skip


def refusal(status: int, body: bytes) -> errors.StatusError:
    """What a kubelet's refusal is to the client: its words, and its code where that says something."""
    text = body.decode("utf-8", "replace").strip()
    if status == 404:
        return errors.NotFound(text or "not found", details={})
    if status == 400:
        return errors.BadRequest(text or "bad request")
    if status == 403:
        return errors.Forbidden(text or "forbidden")
    if status == 503:
        return errors.ServiceUnavailable(text)
    return errors.InternalError(text or f"the kubelet answered {status}")


def _head(
    request: web.BaseRequest,
    address: KubeletAddress,
    target: str,
    passed: Sequence[str],
    body_bytes: int,
) -> bytes:
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {address.host}:{address.port}"]
    for name in passed:
        lines += [f"{name}: {value}" for value in request.headers.getall(name, [])]
    lines.append("Connection: Upgrade" if passed else "Connection: close")
    if body_bytes:
        lines.append(f"Content-Length: {body_bytes}")
        lines.append(f"Content-Type: {request.headers.get('Content-Type', 'application/json')}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def _limited(head: ResponseHead, reader: asyncio.StreamReader) -> bytes:
    found = b""
    async for piece in open_body(head, reader):
        found += piece
        if len(found) > ERROR_BODY_BYTES_MAX:
            break
    return found[:ERROR_BODY_BYTES_MAX]


__all__ = ["KubeletAddress", "NodeProxy", "pick_container", "refusal", "stream_target"]
