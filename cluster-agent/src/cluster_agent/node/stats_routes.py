"""What a node and its pods use, on the kubelet's port: /stats/summary and /metrics/resource.

Hollow nodes of one process share the port; which of them is meant is known from the name that the client's TLS asked for.
"""

from collections.abc import Callable, Mapping

import msgspec
from aiohttp import web

from cluster_agent.node.parts import NodeParts
from cluster_agent.node.stats import Sampler
from cluster_agent.node.stats_views import TEXT_TYPE, resource_metrics, summary


class StatsRoutes:
    """The two answers."""

    def __init__(
        self, parts: Mapping[str, NodeParts], meant: Callable[[web.Request], str | None]
    ) -> None:
        """`meant`: the node whose certificate the client was shown, if that is known."""
        self._parts, self._meant = parts, meant

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/stats/summary", self._summary)
        app.router.add_get("/metrics/resource", self._resource)

    def _sampler(self, request: web.Request) -> Sampler:
        name = self._meant(request)
        parts = self._parts.get(name) if name else None
        if parts is None and len(self._parts) == 1:
            parts = next(iter(self._parts.values()))
        if parts is None or parts.sampler is None:
            raise web.HTTPNotFound(text="which node is meant is not known: ask for it by name")
        return parts.sampler

    async def _summary(self, request: web.Request) -> web.Response:
        now, base = await self._sampler(request).now()
        body = msgspec.json.encode(summary(now, base))
        return web.Response(body=body, content_type="application/json")

    async def _resource(self, request: web.Request) -> web.Response:
        now, _ = await self._sampler(request).now()
        return web.Response(
            body=resource_metrics(now).encode(), headers={"Content-Type": TEXT_TYPE}
        )
