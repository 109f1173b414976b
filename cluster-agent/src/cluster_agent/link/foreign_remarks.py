"""What a foreign cluster cannot do, or does not let us do, said once at the federation: conditions of its Cluster.

    GrantsEnforced=False         its kubelets stop nothing when a grant ends: no mode consistency, no stopAfterDisconnect
    ServicesOverClusters=False   no exports, imports, gateways: they need our node process
    MemberRights=True|False      whether our user there may do what a member must let it do; the message lists what is missing
    MemberAPI=True|False         whether its API server answered last

The list of conditions is shared with the controller that judges Ready: each write carries the version that was read, and a
refused one is made again at the next look.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from machinery.api.fleet.cluster import CLUSTERS, Cluster
from machinery.client.interface import Client
from machinery.kit.clock import Clock, rfc3339
from machinery.meta.errors import StatusError
from machinery.meta.objectmeta import Condition, condition_document
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

LOOK_S = 15.0
RETRY_S = 2.0
OWN = ("GrantsEnforced", "ServicesOverClusters", "MemberRights", "MemberAPI")


@dataclass(frozen=True, slots=True)
class Remark:
    """One condition without its time."""

    type: str
    status: bool
    reason: str
    message: str


GRANTS = Remark(
    "GrantsEnforced",
    False,
    "ForeignKubelets",
    "The cluster's kubelets do not enforce grants: workloads of mode consistency or with stopAfterDisconnect are not placed here",
)
SERVICES = Remark(
    "ServicesOverClusters",
    False,
    "ForeignCluster",
    "ServiceExports, ServiceImports and gateways need our node process and are switched off in this cluster",
)


def plan(held: Iterable[Condition], wanted: Sequence[Remark], now: str) -> list[Document] | None:
    """The whole list of conditions; None when it says so already."""
    present = list(held)
    by_type = {one.type: one for one in present}
    fresh = []
    for remark in wanted:
        status = "True" if remark.status else "False"
        old = by_type.get(remark.type)
        since = now
        if old is not None and old.status == status and old.last_transition_time is not None:
            since = rfc3339(old.last_transition_time)
        fresh.append(
            {
                "type": remark.type,
                "status": status,
                "reason": remark.reason,
                "message": remark.message,
                "lastTransitionTime": since,
            }
        )
    said = [(r.type, r.status, r.reason, r.message) for r in wanted]
    stands = [(c.type, c.status == "True", c.reason, c.message) for c in present if c.type in OWN]
    if sorted(said) == sorted(stands):
        return None
    return [*(condition_document(c) for c in present if c.type not in OWN), *fresh]


class Remarks:
    """`run_once` is one look."""

    def __init__(
        self,
        federation: Client,
        clock: Clock,
        cluster: str,
        wanted: Callable[[], Sequence[Remark]],
    ) -> None:
        self._federation, self._clock, self._wanted = federation, clock, wanted
        self._key = ObjectKey("", cluster)

    async def run_once(self) -> None:
        """Raises StatusError, ConnectionError."""
        cluster: Cluster = await self._federation.get(CLUSTERS, self._key)
        now = rfc3339(self._clock.now())
        conditions = plan(cluster.status.conditions, self._wanted(), now)
        if conditions is None:
            return
        guard = {"resourceVersion": cluster.metadata.resource_version}
        patch = {"metadata": guard, "status": {"conditions": conditions}}
        await self._federation.patch(CLUSTERS, self._key, patch, subresource="status")

    async def run_forever(self) -> None:
        """Look every LOOK_S, sooner after a failure: at first there is no Cluster yet."""
        while True:
            pause = LOOK_S
            try:
                await self.run_once()
            except (StatusError, ConnectionError, TimeoutError) as error:
                log.info("conditions not written", extra={"error": str(error)})
                pause = RETRY_S
            await self._clock.sleep(pause)
