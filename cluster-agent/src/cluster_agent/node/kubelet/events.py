"""Events on pods and nodes, for people: counted up when they repeat, bounded, and never in anybody's way.

An emitted event goes into a short queue and one task writes it. While the API is away the newest are kept and written
later; what does not fit is dropped and counted. Wording is upstream's: people and tools grep for it.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter

from machinery.api.core import EVENTS, Pod
from machinery.client.interface import Client
from machinery.kit.clock import Clock, rfc3339
from machinery.kit.ids import Ids
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

QUEUE_MAX = 1_000
KNOWN_MAX = 4_096
DROPPED = Counter("kubelet_events_dropped", "Events that found the queue full.")


@dataclass(frozen=True, slots=True)
class Subject:
    """The object an event is about."""

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str = ""
    field_path: str = ""
    api_version: str = "v1"


def pod_subject(pod: Pod, container: str = "", *, init: bool = False) -> Subject:
    """A pod, or one of its containers."""
    meta = pod.metadata
    guest = any(c.name == container for c in pod.spec.ephemeral_containers)
    part = "initContainers" if init else "ephemeralContainers" if guest else "containers"
    field = f"spec.{part}{{{container}}}" if container else ""
    return Subject("Pod", meta.namespace, meta.name, meta.uid, meta.resource_version, field)


class EventSink(Protocol):
    """Where events go; `Recorder`, or `Silent` on hollow nodes."""

    def emit(self, subject: Subject, kind: str, reason: str, message: str) -> None: ...


class Silent:
    """Hollow nodes by the hundred would drown the API in events that tell nothing."""

    def emit(self, subject: Subject, kind: str, reason: str, message: str) -> None:
        return


@dataclass(slots=True)
class _Known:
    name: str
    count: int


class Recorder:
    """Writes events in the background; `run` is its task."""

    def __init__(self, client: Client, clock: Clock, ids: Ids, host: str) -> None:
        self._client, self._clock, self._ids, self._host = client, clock, ids, host
        self._queue: asyncio.Queue[tuple[Subject, str, str, str]] = asyncio.Queue(QUEUE_MAX)
        self._known: OrderedDict[tuple[str, str, str, str], _Known] = OrderedDict()

    def emit(self, subject: Subject, kind: str, reason: str, message: str) -> None:
        """`kind` is Normal or Warning."""
        if self._queue.full():
            self._queue.get_nowait()
            DROPPED.inc()
        self._queue.put_nowait((subject, kind, reason, message))

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            item = await self._queue.get()
            await self._write_patiently(*item)

    async def _write_patiently(
        self, subject: Subject, kind: str, reason: str, message: str
    ) -> None:
        while True:
            try:
                await self._write(subject, kind, reason, message)
            except StatusError as error:
                extra = {"reason": reason, "subject": subject.name, "error": error.message}
                log.info("event refused", extra=extra)
            except (ConnectionError, TimeoutError):
                await self._clock.sleep(2.0)
                continue
            return

    async def _write(self, subject: Subject, kind: str, reason: str, message: str) -> None:
        key = (subject.uid, subject.field_path, reason, message)
        now = rfc3339(self._clock.now())
        known = self._known.get(key)
        if known is not None:
            try:
                patch = {"count": known.count + 1, "lastTimestamp": now}
                target = ObjectKey(subject.namespace or "default", known.name)
                await self._client.patch(EVENTS, target, patch)
            except NotFound:
                del self._known[key]
            else:
                known.count += 1
                self._known.move_to_end(key)
                return
        name = f"{subject.name}.{self._ids.uid().replace('-', '')[:16]}"
        document = self._document(name, subject, kind, reason, message, now)
        await self._client.create(EVENTS, document, subject.namespace or "default")
        self._known[key] = _Known(name, 1)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def _document(
        self, name: str, subject: Subject, kind: str, reason: str, message: str, now: str
    ) -> Document:
        involved = {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "name": subject.name,
            "uid": subject.uid,
            "namespace": subject.namespace,
            "resourceVersion": subject.resource_version,
            "fieldPath": subject.field_path,
        }
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": subject.namespace or "default"},
            "involvedObject": {k: v for k, v in involved.items() if v},
            "reason": reason,
            "message": message[:1024],
            "type": kind,
            "source": {"component": "kubelet", "host": self._host},
            "reportingComponent": "kubelet",
            "reportingInstance": self._host,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
