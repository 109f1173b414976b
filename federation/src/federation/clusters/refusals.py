"""What this server refused of a member's agent, kept as conditions on the Cluster, for people.

    IdentityConflict   an agent came under the name for another cluster (admission refused it)
    LinkRefused        an agent that is too old, or too new, dialled the link

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
LINK_REFUSED: Final = "LinkRefused"
CALM: Final[Mapping[str, tuple[str, str]]] = {
    IDENTITY_CONFLICT: ("OneCluster", "no other cluster has come under this name lately"),
    LINK_REFUSED: ("Spoken", "no agent was refused lately"),
}
"""What is said when it is over: reason and message."""
CALM_S: Final = 300.0
LOOK_S: Final = 30.0
DOCUMENTS = dynamic(CLUSTERS.group, CLUSTERS.version, CLUSTERS.plural, CLUSTERS.kind, False)


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of a cluster, and when there was cause for it last."""

    reason: str
    message: str
    at: float


Key = tuple[str, str]
"""Cluster and type of condition."""


def condition(kind: str, told: Told, now: float) -> Document:
    """The condition without its time."""
    if now - told.at < CALM_S:
        return {"type": kind, "status": "True", "reason": told.reason, "message": told.message}
    reason, message = CALM[kind]
    return {"type": kind, "status": "False", "reason": reason, "message": message}


def plan(cluster: Document, said: Document, now: str) -> Document | None:
    """Merge patch that has the cluster say so; None where it does."""
    conditions = list((cluster.get("status") or {}).get("conditions") or ())
    old = next((c for c in conditions if c["type"] == said["type"]), None)
    if old is None and said["status"] == "False":
        return None
    if old is not None and (old["status"], old.get("message")) == (said["status"], said["message"]):
        return None
    same = old is not None and old["status"] == said["status"]
    fresh = said | {"lastTransitionTime": old["lastTransitionTime"] if old and same else now}
    others = [c for c in conditions if c["type"] != said["type"]]
    version = cluster["metadata"]["resourceVersion"]
    return {
        "metadata": {"resourceVersion": version},
        "status": {"conditions": [*others, fresh]},
    }


def left_behind(clusters: Mapping[str, Document], now: float) -> dict[Key, Told]:
    """Words that stand when a process begins."""
    return {
        (name, one["type"]): Told(one.get("reason", ""), one.get("message", ""), now)
        for name, cluster in clusters.items()
        for one in (cluster.get("status") or {}).get("conditions") or ()
        if one["type"] in CALM and one["status"] == "True"
    }


class Refusals:
    """`conflict` is called by admission, `refused` by the links; `run_forever` writes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[Key, Told] = {}
        self._news = asyncio.Event()

    def conflict(self, cluster: str, known: str, came: str) -> None:
        """An agent came under a name that is another cluster's; with the same id, a machine and its copy speak by turns."""
        if known == came:
            message = (
                "two agents speak by turns with the identity of this cluster: a machine was copied, or two were started with "
                "the same data; stop one of them"
            )
            self._note(cluster, IDENTITY_CONFLICT, "TwoAgents", message)
            return
        message = (
            f"an agent came under this name for the cluster with id {came or '(none)'}, which is not {known}: it is refused "
            "and nothing of this cluster changes; stop it or give it another name"
        )
        self._note(cluster, IDENTITY_CONFLICT, "AnotherCluster", message)

    def refused(self, cluster: str, why: str) -> None:
        """An agent dialled the link with a version that is not spoken here."""
        self._note(cluster, LINK_REFUSED, "VersionSkew", why)

    def _note(self, cluster: str, kind: str, reason: str, message: str) -> None:
        before = self._told.get((cluster, kind))
        if before is None or before.message != message:
            log.warning("agent refused", extra={"cluster": cluster, "reason": message})
        self._told[cluster, kind] = Told(reason, message, self._clock.monotonic())
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
        for (name, kind), told in list(self._told.items()):
            now = self._clock.monotonic()
            try:
                await self._write(client, name, condition(kind, told, now))
            except (StatusError, ConnectionError) as error:
                log.info("condition not written", extra={"cluster": name, "error": str(error)})
                continue
            if now - told.at >= CALM_S:
                self._told.pop((name, kind), None)

    async def _write(self, client: Client, name: str, said: Document) -> None:
        key = ObjectKey("", name)
        try:
            cluster = await client.get(DOCUMENTS, key)
        except NotFound:
            return
        patch = plan(cluster, said, rfc3339(self._clock.now()))
        if patch is not None:
            await client.patch(DOCUMENTS, key, patch, subresource="status")
