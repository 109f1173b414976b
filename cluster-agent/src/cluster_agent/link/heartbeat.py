"""The member's heartbeat: its Lease at the federation, renewed every two seconds.

The federation judges by when it received a renewal, so the time written here is for people only. A renewal that fails is
not repeated faster: the next one comes soon enough.
"""

import logging
from collections.abc import Callable

from machinery.api.coordination import LEASES, Lease
from machinery.api.fleet.cluster import CLUSTER_LEASES
from machinery.client.interface import Client
from machinery.kit.clock import Clock, rfc3339_micro
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
DURATION_S = 10


def lease(cluster: str, now: str) -> Document:
    """The Lease to create."""
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {"name": cluster, "namespace": CLUSTER_LEASES},
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
    ) -> None:
        """`heard` is told of every renewal that the federation accepted, with the Lease as it stands there."""
        self._client, self._clock, self._cluster = client, clock, cluster
        self._heard = heard

    async def run_once(self) -> None:
        """Renew the Lease, or make it. Raises StatusError, ConnectionError."""
        now = rfc3339_micro(self._clock.now())
        key = ObjectKey(CLUSTER_LEASES, self._cluster)
        try:
            stands = await self._client.patch(LEASES, key, {"spec": {"renewTime": now}})
        except NotFound:
            stands = await self._client.create(LEASES, lease(self._cluster, now), CLUSTER_LEASES)
        self._heard(stands)

    async def run_forever(self) -> None:
        """Every HEARTBEAT_S, whatever comes."""
        failing = False
        while True:
            try:
                await self.run_once()
                failing = False
            except (StatusError, ConnectionError, TimeoutError) as error:
                if not failing:
                    log.warning("heartbeat not accepted", extra={"error": str(error)})
                failing = True
            await self._clock.sleep(HEARTBEAT_S)
