"""The three proxies of one server: from a name in a URL to a pod, an endpoint or a node, and through to it.

Pods and endpoints are reached by the machine's own routes, as upstream's API server reaches them; a node without a port by its
kubelet's mutual TLS (`node_proxy`). Whom a request may reach at all is RBAC's matter, by the verb that its method stands for.
"""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from aiohttp import web

from machinery.api.scheme import Scheme, ServedKind
from machinery.meta import errors
from machinery.meta.resource import Document
from machinery.server.node_proxy import DIALLING, NodeProxy
from machinery.server.proxy import places
from machinery.server.proxy.forwarding import is_upgrade, way_of
from machinery.server.proxy.places import Named, Place
from machinery.server.proxy.relay import Reach, direct, relay, unreachable
from machinery.server.registry import Registry
from machinery.server.replies import TEXT_TYPE, Reply
from machinery.server.request import RequestInfo
from machinery.wire.splice import Streams

Backend = tuple[str, Callable[[], Awaitable[Streams]]]
"""What it is called in a Host header, and how it is reached."""
SERVICE_NAME = "kubernetes.io/service-name"
"""Label of the EndpointSlices of a Service."""


class Proxies:
    """Answers `proxy` below pods, services and nodes."""

    def __init__(
        self, registry: Registry, scheme: Scheme, kubelets: NodeProxy, reach: Reach | None = None
    ) -> None:
        self._registry = registry
        self._kubelets = kubelets
        self._reach = reach or direct
        self._pods = scheme.by_plural("", "v1", "pods")
        self._slices = scheme.by_plural("discovery.k8s.io", "v1", "endpointslices")
        self._turns = itertools.count()

    async def connect(
        self, request: web.BaseRequest, info: RequestInfo, kind: ServedKind
    ) -> web.StreamResponse:
        """One request. Raises BadRequest, NotFound, ServiceUnavailable, InternalError."""
        way = way_of(request.raw_path, namespaced=kind.namespaced)
        host, dial = await self._backend(kind, info, places.split(info.name, kind.singular))
        asks = request.method in ("GET", "HEAD") and not is_upgrade(request.headers.items())
        if not way.rest and asks:
            location = ("Location", way.prefix + "/" + way.query)
            return Reply(301, b"", TEXT_TYPE, (location,))
        return await relay(request, way, await dial(), host)

    async def _backend(self, kind: ServedKind, info: RequestInfo, asked: Named) -> Backend:
        if kind.plural == "nodes":
            return await self._node(kind, asked)
        if kind.plural == "services":
            return self._at(await self._endpoint(kind, info, asked))
        pod = (await self._registry.get(kind, info.namespace, asked.name)).read()
        return self._at(places.of_pod(pod, asked))

    def _at(self, place: Place) -> Backend:
        return place.text, partial(self._reach, place)

    async def _node(self, kind: ServedKind, asked: Named) -> Backend:
        await self._registry.row(kind, "", asked.name)
        address = self._kubelets.address(asked.name)
        if asked.port and asked.port != str(address.port):
            return self._at(places.place_of(address.host, asked.port, asked.scheme))
        return f"{address.host}:{address.port}", partial(self._kubelet, asked.name)

    async def _kubelet(self, node: str) -> Streams:
        try:
            return await self._kubelets.open(node)
        except errors.InternalError as error:
            raise unreachable(error.message.removeprefix(DIALLING)) from error

    async def _endpoint(self, kind: ServedKind, info: RequestInfo, asked: Named) -> Place:
        """One of the ready pods behind the port, each in its turn."""
        service = (await self._registry.get(kind, info.namespace, asked.name)).read()
        name = places.port_name(service, asked)
        found = places.endpoints(self._slices_of(info.namespace, asked.name), name)
        first = next(self._turns)
        for turn in range(len(found)):
            one = found[(first + turn) % len(found)]
            pod = self._pod(info.namespace, one.pod)
            if pod is not None and places.has_address(pod, one.address):
                return places.place_of(one.address, one.port, asked.scheme)
        raise places.none_available(info.name)

    def _slices_of(self, namespace: str, service: str) -> Sequence[Document]:
        if self._slices is None:
            return ()
        entries = self._registry.cache.of(self._slices).labelled(SERVICE_NAME, service)
        return [entry.document() for entry in entries if entry.namespace == namespace]

    def _pod(self, namespace: str, name: str) -> Document | None:
        return None if self._pods is None else self._registry.peek(self._pods, namespace, name)
