"""Two clusters with one name: what admission refused is kept as a condition on the Cluster, for people.

Each server tells of the agents that came to it, and takes the word back when none has come for CALM_S. A word that a former
process left behind counts as heard when this one began.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from machinery.api.fleet.cluster import CLUSTERS
from machinery.client.interface import Client, dynamic
from machinery.kit.clock import Clock, rfc3339
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

IDENTITY_CONFLICT: Final = "IdentityConflict"
CALM_S: Final = 300.0
LOOK_S: Final = 30.0
DOCUMENTS = dynamic(CLUSTERS.group, CLUSTERS.version, CLUSTERS.plural, CLUSTERS.kind, False)


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of a cluster: the ids, and when another one came last."""

    known: str
    came: str
    at: float


def condition(told: Told, now: float) -> tuple[str, str, str]:
    """Status, reason and message."""
    if now - told.at >= CALM_S:
        return "False", "OneCluster", "no other cluster has come under this name lately"
    return (
        "True",
        "AnotherCluster",
        f"an agent came under this name for the cluster with id {told.came or '(unknown)'}, which is not {told.known}: it is "
        "refused and nothing of this cluster changes; stop it or give it another name",
    )


def plan(cluster: Document, said: tuple[str, str, str], now: str) -> Document | None:
    """Merge patch that has the condition say so; None where it does."""
    status, reason, message = said
    conditions = list((cluster.get("status") or {}).get("conditions") or ())
    old = next((c for c in conditions if c["type"] == IDENTITY_CONFLICT), None)
    if old is None and status == "False":
        return None
    if old is not None and (old["status"], old.get("message")) == (status, message):
        return None
    since = old["lastTransitionTime"] if old is not None and old["status"] == status else now
    fresh = {
        "type": IDENTITY_CONFLICT, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since,
    }  # fmt: skip
    others = [c for c in conditions if c["type"] != IDENTITY_CONFLICT]
    version = cluster["metadata"]["resourceVersion"]
    return {
        "metadata": {"resourceVersion": version},
        "status": {"conditions": [*others, fresh]},
    }


def left_behind(clusters: Mapping[str, Document], now: float) -> dict[str, Told]:
    """Words that stand when a process begins."""
    found = {}
    for name, cluster in clusters.items():
        for one in (cluster.get("status") or {}).get("conditions") or ():
            if one["type"] == IDENTITY_CONFLICT and one["status"] == "True":
                found[name] = Told((cluster.get("spec") or {}).get("id") or "", "", now)
    return found


class IdentityConflicts:
    """`note` is called by admission; `run_forever` writes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, Told] = {}
        self._news = asyncio.Event()

    def note(self, cluster: str, known: str, came: str) -> None:
        """An agent came under a name that is another cluster's."""
        log.warning(
            "two clusters have one name", extra={"cluster": cluster, "known": known, "came": came}
        )
        self._told[cluster] = Told(known, came, self._clock.monotonic())
        self._news.set()

    async def run_forever(self, client: Client) -> None:
        """Keep the conditions."""
        await self._begin(client)
        while True:
            self._news.clear()
            await self.run_once(client)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()

    async def _begin(self, client: Client) -> None:
        while True:
            try:
                listing = await client.list(DOCUMENTS)
            except (StatusError, ConnectionError) as error:
                log.info("clusters are not read", extra={"error": str(error)})
                await self._clock.sleep(LOOK_S)
                continue
            now = self._clock.monotonic()
            found = {one["metadata"]["name"]: one for one in listing.items}
            self._told = left_behind(found, now) | self._told
            return

    async def run_once(self, client: Client) -> None:
        """Write what has changed; what cannot be written is written the next time."""
        for name, told in list(self._told.items()):
            now = self._clock.monotonic()
            try:
                await self._write(client, name, condition(told, now))
            except (StatusError, ConnectionError) as error:
                log.info("condition not written", extra={"cluster": name, "error": str(error)})
                continue
            if now - told.at >= CALM_S:
                self._told.pop(name, None)

    async def _write(self, client: Client, name: str, said: tuple[str, str, str]) -> None:
        key = ObjectKey("", name)
        try:
            cluster = await client.get(DOCUMENTS, key)
        except NotFound:
            return
        patch = plan(cluster, said, rfc3339(self._clock.now()))
        if patch is not None:
            await client.patch(DOCUMENTS, key, patch, subresource="status")
