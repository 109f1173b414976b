"""The member's heartbeat: its Lease at the federation, renewed every two seconds.

The federation judges by when it received a renewal, so the time written here is for people only. A renewal that fails is
not repeated faster: the next one comes soon enough, and one that hangs does not keep it back. Each has a connection of its
own then: on the old one TCP would go on to wait for as long again as a cut took, and a line that flaps would never be heard.
A renewal without an answer is given up in the end; that several are under way is harmless, since each grants only what was
true before it was sent.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from cluster_agent.link.grants import Grants, Prepared
from machinery.api.coordination import LEASES, Lease
from machinery.api.fleet.cluster import CLUSTER_LEASES
from machinery.client.interface import Client
from machinery.kit.clock import Clock, rfc3339_micro
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
PREPARE_S = 1.0
ANSWER_S = 5.0
IN_FLIGHT_MAX = 4
DURATION_S = 10


def lease(cluster: str, now: str, signed: Mapping[str, str] = {}) -> Document:
    """The Lease to create."""
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {"name": cluster, "namespace": CLUSTER_LEASES, "annotations": dict(signed)},
        "spec": {"holderIdentity": cluster, "leaseDurationSeconds": DURATION_S, "renewTime": now},
    }


class Heartbeat:
    """`run_once` renews; `run_forever` goes on."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        cluster: str,
        heard: Callable[[Lease], None] = lambda _: None,
        grants: Grants | None = None,
        answered: Callable[[], str] = lambda: "",
        alive: Callable[[], Awaitable[None]] | None = None,
        signed: Mapping[str, str] = {},
    ) -> None:
        """`heard` is told of every renewal that the federation accepted, with the Lease as it stands there.

        `grants` are handed on around each renewal; `answered` is the word of the last inventory. `alive` raises
        ConnectionError while there must be no heartbeat. A heartbeat for a cluster of another id than the federation knows
        under this name is refused there; `signed` are the annotations that say who speaks.
        """
        self._client, self._clock, self._cluster = client, clock, cluster
        self._heard, self._grants, self._answered = heard, grants, answered
        self._failing = False
        self._alive, self._signed = alive, dict(signed)

    async def run_once(self) -> None:
        """Renew the Lease, or make it. Raises StatusError, ConnectionError, TimeoutError."""
        if self._alive is not None:
            await self._alive()
        prepared = await self._prepare()
        now = rfc3339_micro(self._clock.now())
        key = ObjectKey(CLUSTER_LEASES, self._cluster)
        async with asyncio.timeout(ANSWER_S):
            try:
                renewed = {"metadata": {"annotations": self._signed}, "spec": {"renewTime": now}}
                stands = await self._client.patch(LEASES, key, renewed)
            except NotFound:
                stands = await self._client.create(
                    LEASES, lease(self._cluster, now, self._signed), CLUSTER_LEASES
                )
        self._heard(stands)
        if prepared is not None and self._grants is not None:
            await self._grants.confirm(prepared, stands, self._answered())

    async def _prepare(self) -> Prepared | None:
        """What grants need to know before; a heartbeat does not wait for it."""
        if self._grants is None:
            return None
        try:
            async with asyncio.timeout(PREPARE_S):
                return await self._grants.prepare()
        except (StatusError, ConnectionError, TimeoutError) as error:
            log.info("no grants this time", extra={"error": str(error)})
            return None

    async def run_forever(self) -> None:
        """Every HEARTBEAT_S, whatever comes."""
        under_way = TaskOwner()
        try:
            while True:
                if len(under_way) < IN_FLIGHT_MAX:
                    _ = under_way.spawn(self._attempt(), "heartbeat")
                await self._clock.sleep(HEARTBEAT_S)
        finally:
            await under_way.close()

    async def _attempt(self) -> None:
        try:
            await self.run_once()
            self._failing = False
        except (StatusError, ConnectionError, TimeoutError) as error:
            if not self._failing:
                log.warning("heartbeat not accepted", extra={"error": str(error)})
            self._failing = True
