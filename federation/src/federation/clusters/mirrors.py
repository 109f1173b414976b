"""Mirrors: Pods, Nodes, ReplicaSets and Events of every linked member, shown at the federation and kept up to date.

While a member is linked, informers over the link feed the mirror; when it is not, the mirror stays as it was last seen,
and the Cluster's condition says that it is old. After a reconnect the informers go on where they were, or list anew, so
that what vanished meanwhile vanishes here. Mirrors live in memory; a restarted server fills them again. Their revisions come
from the database: while that is away the mirror stands still, and what changed meanwhile is written afterwards.
"""

import asyncio
import logging
from typing import Protocol

from federation.clusters.links import Links
from federation.clusters.mirroring import MIRRORED, mirror_key, mirrored
from machinery.client.informer import Handler, Informer
from machinery.client.rest import RestClient
from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner, cancel_all
from machinery.meta.errors import StatusError
from machinery.meta.resource import Document, ObjectKey, Resource, document_key

log = logging.getLogger(__name__)

RETRY_S = 2.0


class MirrorStore(Protocol):
    """Where mirrors are written (the API server's own). Raises StatusError when it cannot take them now."""

    async def put(self, resource: Resource[Document], document: Document) -> None: ...

    async def remove(self, resource: Resource[Document], key: ObjectKey) -> None: ...


class ClusterMirror:
    """One member: informers that live as long as it does, and a writer that keeps their order."""

    def __init__(self, cluster: str, client: RestClient, store: MirrorStore, clock: Clock) -> None:
        self.cluster = cluster
        self._client, self._store, self._clock = client, store, clock
        self._dirty: dict[tuple[Resource[Document], ObjectKey], None] = {}
        self._wake = asyncio.Event()
        self._informers = {r: Informer(client, r, clock) for r in MIRRORED}
        self._running: list[asyncio.Task[None]] = []
        for resource, informer in self._informers.items():
            informer.on_change(self._changed(resource))

    def _changed(self, resource: Resource[Document]) -> Handler[Document]:
        def changed(old: Document | None, new: Document | None) -> None:
            document = new if new is not None else old
            if document is not None:
                self._dirty[resource, document_key(document)] = None
                self._wake.set()

        return changed

    def start(self, owner: TaskOwner) -> None:
        """The member is linked: list and watch."""
        self._running = [
            owner.spawn(informer.run(), f"mirror-{self.cluster}-{resource.plural}")
            for resource, informer in self._informers.items()
        ]

    async def pause(self) -> None:
        """The link is gone: stop asking; what is shown stays."""
        running, self._running = self._running, []
        await cancel_all(running)

    async def write(self) -> None:
        """Bring the store up to date, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                await self._write_one(next(iter(self._dirty)))

    async def _write_one(self, entry: tuple[Resource[Document], ObjectKey]) -> None:
        """Off the list before it is looked at: a change meanwhile puts it back."""
        del self._dirty[entry]
        try:
            await self._sync(*entry)
        except StatusError as error:
            log.info("mirror not written", extra={"cluster": self.cluster, "error": str(error)})
            self._dirty[entry] = None
            await self._clock.sleep(RETRY_S)

    async def _sync(self, resource: Resource[Document], key: ObjectKey) -> None:
        document = self._informers[resource].get(key)
        if document is None:
            await self._store.remove(resource, mirror_key(key, self.cluster))
            return
        whole = {"apiVersion": resource.api_version, "kind": resource.kind} | document
        await self._store.put(resource, mirrored(whole, self.cluster))

    async def clear(self) -> None:
        """The member has left: show nothing of it any more."""
        await self.pause()
        for resource, informer in self._informers.items():
            for document in informer.list():
                await self._store.remove(resource, mirror_key(document_key(document), self.cluster))
        await self._client.close()


class Mirrors:
    """All members."""

    def __init__(self, links: Links, store: MirrorStore, clock: Clock) -> None:
        self._links, self._store, self._clock = links, store, clock
        self._members: dict[str, ClusterMirror] = {}
        self._tasks = TaskOwner()
        links.on_change(self._link_changed)

    def _link_changed(self, cluster: str, connected: bool) -> None:
        if self._tasks.closed:
            return
        member = self._members.get(cluster)
        if member is None:
            client = self._links.client(cluster)
            member = self._members[cluster] = ClusterMirror(
                cluster, client, self._store, self._clock
            )
            _ = self._tasks.spawn(member.write(), f"mirror-{cluster}-writer")
        if connected:
            log.info("mirroring", extra={"cluster": cluster})
            member.start(self._tasks)
        else:
            log.info("mirror stands still, the link is gone", extra={"cluster": cluster})
            _ = self._tasks.spawn(member.pause(), f"mirror-{cluster}-pause")

    async def forget(self, cluster: str) -> None:
        """The member has left the federation."""
        member = self._members.pop(cluster, None)
        if member is not None:
            await member.clear()

    async def close(self) -> None:
        """Stop mirroring."""
        await self._tasks.close()
