"""Inventory: after the member was out of sight, it says what runs here before anybody decides about it.

The federation asks by a word on the member's heartbeat Lease, which every renewal brings along. The answer is the same word
on the Cluster, written after every Work was looked at once and its status was written anew. So nothing that the federation
remembers from before is taken for the present, and no two clocks are compared.

A member whose agent has just started may have lost its power: what its API remembers of pods is then older than the truth.
So the first inventory of a process waits until every node that counts as ready has renewed its Lease, 30 s at most.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from machinery.api.coordination import LEASES, Lease
from machinery.api.core import NODES
from machinery.api.fleet.cluster import (
    CLUSTERS,
    INVENTORY,
    INVENTORY_AT,
    INVENTORY_WANTED,
    execution_namespace,
)
from machinery.api.fleet.work import WORK_DOCUMENTS
from machinery.client.interface import Client
from machinery.kit.clock import Clock, rfc3339
from machinery.meta.errors import StatusError
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

NODE_LEASES = "kube-node-lease"
NODES_WAIT_S = 30.0
NODES_LOOK_S = 1.0
SETTLE_S = 2.0
"""From a node's first sign of life until it has told its pods' states."""
RETRY_S = 2.0

Bring = Callable[[ObjectKey, Document], Awaitable[None]]
"""Bring one Work to what it says and write its status anew."""


class Inventory:
    """`heard` is told of every accepted heartbeat; `run_forever` answers."""

    def __init__(
        self, federation: Client, member: Client, clock: Clock, cluster: str, bring: Bring
    ) -> None:
        self._federation, self._member, self._clock = federation, member, clock
        self._cluster, self._bring = cluster, bring
        self._asked = ""
        self._answered = ""
        self._new_word = asyncio.Event()
        self._nodes_told = False

    @property
    def answered(self) -> str:
        """The word that was answered last."""
        return self._answered

    def heard(self, lease: Lease) -> None:
        """A heartbeat was accepted; the Lease may ask."""
        word = lease.metadata.annotations.get(INVENTORY_WANTED, "")
        if word and word != self._answered:
            self._asked = word
            self._new_word.set()

    async def run_forever(self) -> None:
        """Answer whenever asked."""
        while True:
            await self._new_word.wait()
            self._new_word.clear()
            try:
                await self.answer(self._asked)
            except (StatusError, ConnectionError, TimeoutError) as error:
                log.info("inventory not accepted", extra={"error": str(error)})
                await self._clock.sleep(RETRY_S)
                self._new_word.set()

    async def answer(self, word: str) -> None:
        """Look at every Work, then say so. Raises StatusError, ConnectionError."""
        if not self._nodes_told:
            await self._wait_for_nodes()
            self._nodes_told = True
        listing = await self._federation.list(WORK_DOCUMENTS, execution_namespace(self._cluster))
        works = [w for w in listing.items if not w["metadata"].get("deletionTimestamp")]
        for work in works:
            metadata = work["metadata"]
            await self._bring(ObjectKey(metadata["namespace"], metadata["name"]), work)
        answer = {INVENTORY: word, INVENTORY_AT: rfc3339(self._clock.now())}
        key = ObjectKey("", self._cluster)
        await self._federation.patch(CLUSTERS, key, {"metadata": {"annotations": answer}})
        self._answered = word
        log.info("inventory made", extra={"works": len(works), "word": word})

    async def _wait_for_nodes(self) -> None:
        """Until every node that counts as ready has renewed its Lease since now."""
        waiting = await self._renewals()
        until = self._clock.monotonic() + NODES_WAIT_S
        while waiting and self._clock.monotonic() < until:
            await self._clock.sleep(NODES_LOOK_S)
            now = await self._renewals()
            waiting = {name: at for name, at in waiting.items() if name in now and now[name] == at}
        await self._clock.sleep(SETTLE_S)

    async def _renewals(self) -> dict[str, object]:
        nodes = await self._member.list(NODES)
        ready = {n.metadata.name for n in nodes.items if is_true(n.status.conditions, "Ready")}
        leases = await self._member.list(LEASES, NODE_LEASES)
        held = {lease.metadata.name: lease.spec.renew_time for lease in leases.items}
        return {name: held[name] for name in ready if name in held}
