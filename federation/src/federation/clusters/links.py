"""The links of all members: who may dial, whose connections are whose, and clients over them.

A member's agent dials with its client certificate; the certificate's name says which cluster it is, the query of the dial
must agree. What comes back over the link is authorised by the member as the federation, or as the user for whom the
federation speaks (impersonation).
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial

from aiohttp import web

from machinery.client.rest import RestClient
from machinery.kit.clock import Clock
from machinery.meta.errors import Forbidden
from machinery.server.pki import AGENT_PREFIX
from machinery.server.user import UserInfo
from machinery.wire.link import LinkDown
from machinery.wire.linkpool import LINK_URL, LinkPool

log = logging.getLogger(__name__)

OnChange = Callable[[str, bool], None]
"""(cluster, connected)."""


def member_of(user: UserInfo) -> str:
    """The cluster whose agent the user is; empty for anybody else."""
    name = user.name
    return name.removeprefix(AGENT_PREFIX) if name.startswith(AGENT_PREFIX) else ""


class Links:
    """One pool a member, made when it first dials."""

    def __init__(self, clock: Clock, refused: Callable[[str, str], None] = lambda *_: None) -> None:
        """`refused` hears of a member whose agent speaks no version that is spoken here, and why."""
        self._clock, self._refused = clock, refused
        self._pools: dict[str, LinkPool] = {}
        self._listeners: list[OnChange] = []

    def on_change(self, listener: OnChange) -> None:
        """Be told when a member's first connection comes and its last one goes."""
        self._listeners.append(listener)

    async def accept(self, request: web.BaseRequest, user: UserInfo) -> web.StreamResponse:
        """The raw route of the dial. Raises Forbidden for anyone but a member's agent."""
        cluster = member_of(user)
        asked = request.rel_url.query.get("cluster", cluster)
        if not cluster or asked != cluster:
            who = asked or "nobody"
            raise Forbidden(f'user "{user.name}" cannot dial the link as cluster "{who}"')
        return await self._pool(cluster).accept(request)

    def _pool(self, cluster: str) -> LinkPool:
        pool = self._pools.get(cluster)
        if pool is None:

            def changed(connected: bool) -> None:
                for listener in self._listeners:
                    listener(cluster, connected)

            pool = self._pools[cluster] = LinkPool(
                cluster, self._clock, on_change=changed, on_skew=partial(self._refused, cluster)
            )
        return pool

    def get(self, cluster: str) -> LinkPool:
        """The member's connections. Raises LinkDown when it has none."""
        pool = self._pools.get(cluster)
        if pool is None or not pool.connected:
            raise LinkDown(f'cluster "{cluster}" is not connected')
        return pool

    @property
    def connected(self) -> tuple[str, ...]:
        """The members that are connected here."""
        return tuple(sorted(name for name, pool in self._pools.items() if pool.connected))

    def client(self, cluster: str, headers: Mapping[str, str] | None = None) -> RestClient:
        """A client of the member, as the federation itself or, with impersonation headers, as a user."""
        pool = self._pool(cluster)
        return RestClient(LINK_URL, connector=pool.connector, headers=headers)

    async def close(self) -> None:
        """Cut all links."""
        for pool in self._pools.values():
            await pool.close()
