"""Carries pod statuses to the API: only changes, only the newest, a few at a time, and patiently while it is away.

The last act for a deleted pod goes through here too, so that its final status is written before the object is removed.
A status that could not be written is kept; there is at most one per pod.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from machinery.api.core import PODS, Pod
from machinery.client.interface import Client, DeleteOptions, PatchType
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import Conflict, NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

RETRY = Backoff(base_s=0.5, cap_s=10.0)


@dataclass(slots=True)
class _Entry:
    key: ObjectKey
    uid: str
    wanted: Document | None = None
    sent: Document | None = None
    last: bool = False
    busy: bool = False
    failures: int = 0


class StatusWriter:
    """One per process; hollow nodes share it."""

    def __init__(
        self, client: Client, clock: Clock, gone: Callable[[str], None], *, writers: int = 32
    ) -> None:
        self._client, self._clock, self._gone, self._writers = client, clock, gone, writers
        self._entries: dict[str, _Entry] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._later = TaskOwner()

    def put(self, pod: Pod, document: Document) -> None:
        """The pod's status is now `document`."""
        entry = self._entry(pod)
        if entry.last or document == (entry.wanted or entry.sent):
            return
        entry.wanted = document
        self._ask(entry)

    def finish(self, pod: Pod, document: Document) -> None:
        """The pod has ended for good: write the last status, then remove the object."""
        entry = self._entry(pod)
        if entry.last:
            return
        entry.wanted = None if document == entry.sent else document
        entry.last = True
        self._ask(entry)

    def forget(self, uid: str) -> None:
        """The pod is no more; nothing is left to write."""
        self._entries.pop(uid, None)

    def _entry(self, pod: Pod) -> _Entry:
        uid = pod.metadata.uid
        if uid not in self._entries:
            self._entries[uid] = _Entry(pod.key, uid)
        return self._entries[uid]

    def _ask(self, entry: _Entry) -> None:
        if not entry.busy:
            entry.busy = True
            self._queue.put_nowait(entry.uid)

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._writers):
                    _ = group.create_task(self._work())
        finally:
            await self._later.close()

    async def _work(self) -> None:
        while True:
            uid = await self._queue.get()
            entry = self._entries.get(uid)
            if entry is None:
                continue
            try:
                await self._write(entry)
            except NotFound:
                self._done(entry)
            except Conflict as error:
                log.info("pod was replaced", extra={"pod": str(entry.key), "error": error.message})
                self._done(entry)
            except (StatusError, ConnectionError, TimeoutError) as error:
                entry.failures += 1
                extra = {"pod": str(entry.key), "uid": uid, "error": str(error)}
                log.warning("pod status not written", extra=extra)
                _ = self._later.spawn(self._retry(entry), "status retry")
            else:
                entry.failures, entry.busy = 0, False
                if entry.wanted is not None or (entry.last and uid in self._entries):
                    self._ask(entry)

    async def _retry(self, entry: _Entry) -> None:
        await self._clock.sleep(RETRY.delay(entry.failures))
        self._queue.put_nowait(entry.uid)

    async def _write(self, entry: _Entry) -> None:
        wanted = entry.wanted
        if wanted is not None:
            patch = {
                "metadata": {"uid": entry.uid},
                "status": _with_ips_replaced(wanted, entry.sent),
            }
            await self._client.patch(
                PODS, entry.key, patch, PatchType.STRATEGIC, subresource="status"
            )
            entry.sent = wanted
            if entry.wanted is wanted:
                entry.wanted = None
        if entry.last and entry.wanted is None:
            options = DeleteOptions(grace_period_seconds=0, uid=entry.uid)
            await self._client.delete(PODS, entry.key, options)
            self._done(entry)

    def _done(self, entry: _Entry) -> None:
        self._entries.pop(entry.uid, None)
        self._gone(entry.uid)


def _with_ips_replaced(wanted: Document, sent: Document | None) -> Document:
    """podIPs merge by address in a strategic patch: a changed address must replace the list."""
    if sent is None or sent.get("podIPs") in (None, wanted.get("podIPs")):
        return wanted
    return wanted | {"podIPs": [*wanted.get("podIPs", []), {"$patch": "replace"}]}
