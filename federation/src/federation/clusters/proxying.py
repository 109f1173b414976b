"""`proxy` below mirrored pods and nodes, and below Services: passed on to a member as the user who asked.

A pod or node is where its mirror came from. A Service stands in many members; a request goes to one in which a pod that it
selects is ready, to each in its turn, as often as it has such pods; `NAME.CLUSTER` says which one is meant, also where the Service
is that cluster's own. The member chooses the endpoint and authorises the user once more. Redirects lead back through here.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol
from urllib.parse import quote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from federation.clusters.forward import Lookup, as_user, away, pass_upgrade
from federation.clusters.links import Links
from federation.clusters.mirroring import source_of
from machinery.api.fleet.cluster import MANAGED_LABEL
from machinery.kit.tasks import TaskOwner
from machinery.meta import errors
from machinery.meta.resource import Document, ObjectKey
from machinery.server.audit.auditor import begun
from machinery.server.proxy import places
from machinery.server.proxy.forwarding import Pairs, Way, answered, asked, is_upgrade, way_of
from machinery.server.proxy.places import Named
from machinery.server.proxy.relay import client_gone, invite
from machinery.server.request import RequestInfo
from machinery.server.user import UserInfo
from machinery.wire.link import LinkDown
from machinery.wire.linkpool import LinkPool

SINGULARS = {"pods": "pod", "nodes": "node", "services": "service"}


class Fleet(Protocol):
    """What the federation knows of its members' objects."""

    def service(self, key: ObjectKey) -> Document | None:
        """The Service as it was made here."""
        ...

    def pods(self, namespace: str, selector: Mapping[str, str]) -> Iterable[Document]:
        """Mirrors with these labels."""
        ...

    def members(self) -> Iterable[str]:
        """Names of all clusters."""
        ...


class There(NamedTuple):
    """Whom a request goes to, and what its object is called there."""

    cluster: str
    name: str


class ProxyForwarder:
    """Answers `proxy`; for what is no member's there is nothing to pass on to."""

    def __init__(
        self, links: Links, fleet: Fleet, pods: Lookup, nodes: Callable[[str], Document | None]
    ) -> None:
        self._links, self._fleet, self._pods, self._nodes = links, fleet, pods, nodes
        self._turns = itertools.count()

    async def connect(
        self, request: web.BaseRequest, info: RequestInfo, user: UserInfo
    ) -> web.StreamResponse | None:
        """One request; None where the object is the federation's own. Raises NotFound, BadRequest, ServiceUnavailable."""
        named = places.split(info.name, SINGULARS[info.resource])
        there = self._there(info, named)
        if there is None:
            return None
        try:
            pool = self._links.get(there.cluster)
        except LinkDown as error:
            raise away(there.cluster) from error
        here = way_of(request.raw_path, namespaced=bool(info.namespace))
        name = _renamed(info.name, there.name)
        way = Way(_prefix(info.namespace, info.resource, name), here.rest, here.query)
        try:
            return await self._passed(request, pool, here, way, user)
        except LinkDown as error:
            raise away(there.cluster) from error

    # --------------------------------------------------------------------------------------------------------- whom
    def _there(self, info: RequestInfo, named: Named) -> There | None:
        if info.resource == "services":
            return self._service(info, named)
        if info.resource == "nodes":
            found = self._nodes(named.name)
        else:
            found = self._pods(ObjectKey(info.namespace, named.name))
        source = source_of(found) if found is not None else None
        return None if source is None else There(*source)

    def _service(self, info: RequestInfo, named: Named) -> There:
        name, dot, cluster = named.name.partition(".")
        if dot and cluster in self._fleet.members():
            return There(cluster, name)
        service = self._fleet.service(ObjectKey(info.namespace, named.name))
        if service is None:
            raise errors.not_found("services", "", named.name)
        _ = places.port_name(service, named)  # a number that is none of its ports is told here
        selector = (service.get("spec") or {}).get("selector") or {}
        ready = ready_in(self._fleet.pods(info.namespace, selector) if selector else ())
        if not ready:
            raise places.none_available(info.name)
        connected = set(self._links.connected)
        reached = [one for one in ready if one in connected]
        if not reached:
            raise away(ready[0])
        return There(reached[next(self._turns) % len(reached)], named.name)

    # ------------------------------------------------------------------------------------------------------ passing
    async def _passed(
        self, request: web.BaseRequest, pool: LinkPool, here: Way, way: Way, user: UserInfo
    ) -> web.StreamResponse:
        headers = list(request.headers.items())
        upgrade = is_upgrade(headers)
        passed = asked(headers, here, request.remote or "", upgrade=upgrade)
        if upgrade:
            sent = as_user(passed, user)
            return await pass_upgrade(request, pool, way.whole + way.query, sent)
        passed = [pair for pair in passed if pair[0].lower() != "connection"]
        body = None
        if request.can_read_body:
            invite(request)
            body = request.content.iter_any()
            passed += [("Content-Length", v) for v in request.headers.getall("Content-Length", ())]
        tasks = TaskOwner(on_death=lambda _name, _error: None)
        try:
            gone = tasks.spawn(client_gone(request), "proxy-client")
            asking = tasks.spawn(
                pool.request(request.method, way.whole + way.query, as_user(passed, user), body),
                "proxy-request",
            )
            await asyncio.wait({asking, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise ConnectionResetError("the client is gone")
            async with asking.result() as answer:
                gone.add_done_callback(lambda _: answer.close())
                return await _answer(request, answer, here, way)
        finally:
            await tasks.close()


async def _answer(
    request: web.BaseRequest, answer: aiohttp.ClientResponse, here: Way, way: Way
) -> web.StreamResponse:
    host = request.headers.get("Host", "")
    back = answered(led_back(list(answer.headers.items()), here, way), here, host, host)
    response = web.StreamResponse(status=answer.status, headers=CIMultiDict(back))
    response.headers.update(begun(request, answer.status))
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    except aiohttp.ClientError as error:
        raise ConnectionResetError("the member's answer ended early") from error
    await response.write_eof()
    return response


# ---------------------------------------------------------------------------------------------------------------- pure
def ready_in(pods: Iterable[Document]) -> list[str]:
    """The cluster of every pod that is ready, one entry a pod."""
    return [
        str(cluster)
        for pod in pods
        if (cluster := (pod["metadata"].get("labels") or {}).get(MANAGED_LABEL))
        and not pod["metadata"].get("deletionTimestamp")
        and any(
            one.get("type") == "Ready" and one.get("status") == "True"
            for one in (pod.get("status") or {}).get("conditions") or ()
        )
    ]


def led_back(headers: Pairs, here: Way, way: Way) -> Pairs:
    """Redirects below the member's path of the object, as redirects below ours."""
    return [
        (name, here.prefix + value.removeprefix(way.prefix))
        if name.lower() == "location" and (value + "/").startswith(way.prefix + "/")
        else (name, value)
        for name, value in headers
    ]


def _renamed(identity: str, name: str) -> str:
    """`name`, `name:port` or `scheme:name:port` with another name, as a step of a path."""
    parts = identity.split(":")
    parts[1 if len(parts) == 3 else 0] = name
    return quote(":".join(parts), safe=":")


def _prefix(namespace: str, plural: str, name: str) -> str:
    within = f"namespaces/{namespace}/" if namespace else ""
    return f"/api/v1/{within}{plural}/{name}/proxy"
