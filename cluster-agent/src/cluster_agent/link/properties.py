"""Who the member is in the set of clusters: two ClusterProperties (KEP-2149) in its own API.

`cluster.clusterset.k8s.io` holds the cluster's name, which is its id; `clusterset.k8s.io` says that it is a member, and of
what. Both stand as long as the member has a federation. What somebody else writes into them is put right again: an id that
changes under its users is worse than one that cannot be edited.
"""

import logging
from collections.abc import Iterable

from machinery.api.fleet.multicluster import (
    CLUSTER_ID_PROPERTY,
    CLUSTER_PROPERTIES,
    CLUSTERSET_PROPERTY,
    ClusterProperty,
)
from machinery.client.interface import Client
from machinery.controller.action import Action, Create, Patch
from machinery.kit.clock import Clock
from machinery.meta.errors import StatusError
from machinery.meta.resource import ObjectKey

log = logging.getLogger(__name__)

CLUSTERSET = "ubernetes"
CHECK_S = 60.0
RETRY_S = 2.0


def plan(held: Iterable[ClusterProperty], cluster: str) -> list[Action]:
    """What is missing, or says something else."""
    present = {one.metadata.name: one for one in held}
    actions: list[Action] = []
    for name, value in ((CLUSTER_ID_PROPERTY, cluster), (CLUSTERSET_PROPERTY, CLUSTERSET)):
        found = present.get(name)
        if found is None:
            document = {
                "apiVersion": CLUSTER_PROPERTIES.api_version,
                "kind": CLUSTER_PROPERTIES.kind,
                "metadata": {"name": name},
                "spec": {"value": value},
            }
            actions.append(Create(CLUSTER_PROPERTIES, document, exists_ok=True))
        elif found.spec.value != value:
            patch = {"spec": {"value": value}}
            actions.append(Patch(CLUSTER_PROPERTIES, ObjectKey("", name), patch))
    return actions


class Properties:
    """Keeps both; `run_once` is one look."""

    def __init__(self, member: Client, clock: Clock, cluster: str) -> None:
        self._member, self._clock, self._cluster = member, clock, cluster

    async def run_once(self) -> None:
        """Raises StatusError, ConnectionError."""
        held = await self._member.list(CLUSTER_PROPERTIES)
        for action in plan(held.items, self._cluster):
            if isinstance(action, Create):
                await self._member.create(action.resource, action.document)
            elif isinstance(action, Patch):
                await self._member.patch(action.resource, action.key, action.patch)

    async def run_forever(self) -> None:
        """Look every CHECK_S."""
        while True:
            pause = CHECK_S
            try:
                await self.run_once()
            except (StatusError, ConnectionError, TimeoutError) as error:
                log.warning("cluster properties not written", extra={"error": str(error)})
                pause = RETRY_S
            await self._clock.sleep(pause)
