"""Events for people, without drowning the store in them.

Three steps, as client-go's recorder takes them (k8s.io/client-go/tools/record). Similar events (all equal but the
message) beyond ten in ten minutes are folded into one whose message says so. An event equal to one already written is
counted up on that object by a PATCH. And each object has a budget: twenty-five at once, then one every five minutes. Here
we differ: each reason for a Warning has a budget of its own, or a cluster whose line flaps would use up the word of its death.

Deciding (`EventCorrelator`) is pure and bounded; writing happens in the background, in order, and a failed write is
logged and forgotten: an Event is never a reason to reconcile again.
"""

import asyncio
import datetime as dt
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from machinery.client.interface import Client, PatchType, dynamic
from machinery.controller.action import Emit
from machinery.kit.clock import Clock, rfc3339
from machinery.kit.ids import Ids
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)
V = TypeVar("V")

EVENTS = dynamic("", "v1", "events", "Event", namespaced=True)
CLUSTER_SCOPED_NAMESPACE = "default"
"""Where Events on objects without a namespace live."""

CORRELATOR_KEYS_MAX = 4096
SIMILAR_MAX = 10
SIMILAR_WINDOW_S = 600.0
BURST = 25
REFILL_S = 300.0
QUEUE_MAX = 1000
MESSAGE_MAX = 1024
NAME_MAX = 253

SpamKey = tuple[str, str, str, str]
SimilarKey = tuple[str, str, str, str, str]
SameKey = tuple[str, str, str, str, str, str]


class _Lru(Generic[V]):
    """A dict that forgets what was not used for longest."""

    def __init__(self, keys_max: int) -> None:
        self._items: OrderedDict[Any, V] = OrderedDict()
        self._keys_max = keys_max

    def get(self, key: Any) -> V | None:
        if (value := self._items.get(key)) is not None:
            self._items.move_to_end(key)
        return value

    def put(self, key: Any, value: V) -> None:
        self._items[key] = value
        self._items.move_to_end(key)
        while len(self._items) > self._keys_max:
            self._items.popitem(last=False)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(slots=True)
class _Similar:
    messages: set[str]
    at: float


@dataclass(slots=True)
class _Written:
    """An Event that exists, or is about to: its name is fixed by whoever wrote it first."""

    key: ObjectKey
    count: int
    first: dt.datetime


@dataclass(frozen=True, slots=True)
class Record:
    """What is to be written: a new Event (`count` 1) or one counted up."""

    emit: Emit
    key: ObjectKey
    count: int
    first: dt.datetime
    last: dt.datetime


@dataclass(slots=True)
class EventCorrelator:
    """Which record, if any, an Emit comes to. Pure but for what it remembers."""

    _buckets: _Lru[_Bucket] = field(default_factory=lambda: _Lru(CORRELATOR_KEYS_MAX))
    _similar: _Lru[_Similar] = field(default_factory=lambda: _Lru(CORRELATOR_KEYS_MAX))
    _written: _Lru[_Written] = field(default_factory=lambda: _Lru(CORRELATOR_KEYS_MAX))

    def correlate(self, emit: Emit, now: dt.datetime, monotonic: float, tag: str) -> Record | None:
        """None: the budget is spent. `tag` makes the name of a new Event unique."""
        same, emit = self._aggregate(emit, monotonic)
        reason = emit.reason if emit.type == "Warning" else ""
        if not self._spend((str(emit.resource), str(emit.key), emit.uid, reason), monotonic):
            return None
        known = self._written.get(same)
        if known is None:
            namespace = emit.key.namespace or CLUSTER_SCOPED_NAMESPACE
            name = f"{emit.key.name[: NAME_MAX - len(tag) - 1]}.{tag}"
            known = _Written(ObjectKey(namespace, name), 0, now)
        known.count += 1
        self._written.put(same, known)
        return Record(emit, known.key, known.count, known.first, now)

    def _aggregate(self, emit: Emit, monotonic: float) -> tuple[SameKey, Emit]:
        similar: SimilarKey = (
            str(emit.resource), str(emit.key), emit.uid, emit.type, emit.reason,
        )  # fmt: skip
        seen = self._similar.get(similar)
        if seen is None or monotonic - seen.at > SIMILAR_WINDOW_S:
            seen = _Similar(set(), monotonic)
        seen.at = monotonic
        if len(seen.messages) < SIMILAR_MAX:
            seen.messages.add(emit.message)
        self._similar.put(similar, seen)
        if emit.message in seen.messages and len(seen.messages) < SIMILAR_MAX:
            return (*similar, emit.message), emit
        combined = f"(combined from similar events): {emit.message}"
        return (*similar, ""), Emit(
            emit.resource, emit.key, emit.uid, emit.type, emit.reason, combined, emit.action
        )

    def _spend(self, key: SpamKey, monotonic: float) -> bool:
        bucket = self._buckets.get(key) or _Bucket(BURST, monotonic)
        bucket.tokens = min(BURST, bucket.tokens + (monotonic - bucket.at) / REFILL_S)
        bucket.at = monotonic
        self._buckets.put(key, bucket)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


class EventRecorder:
    """Takes Emits at once, writes them in the background (`run`) or on demand (`flush`)."""

    def __init__(
        self, client: Client, clock: Clock, ids: Ids, *, component: str, host: str = ""
    ) -> None:
        self._client, self._clock, self._ids = client, clock, ids
        self._component, self._host = component, host
        self._correlator = EventCorrelator()
        self._queue: deque[Record] = deque(maxlen=QUEUE_MAX)
        self._wake = asyncio.Event()

    def emit(self, emit: Emit) -> None:
        """Have an Event written; drops the oldest unwritten one when too many wait."""
        tag = self._ids.uid().replace("-", "")[:16]
        record = self._correlator.correlate(emit, self._clock.now(), self._clock.monotonic(), tag)
        if record is not None:
            self._queue.append(record)
            self._wake.set()

    async def run(self) -> None:
        """Write what comes until cancelled."""
        while True:
            await self._wake.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write all that waits."""
        self._wake.clear()
        while self._queue:
            record = self._queue.popleft()
            try:
                await self._write(record)
            except (StatusError, ConnectionError, TimeoutError) as error:
                log.warning(
                    "event not recorded",
                    extra={
                        "object": str(record.emit.key),
                        "reason": record.emit.reason,
                        "error": str(error),
                    },
                )

    async def _write(self, record: Record) -> None:
        if record.count > 1:
            patch = {
                "count": record.count,
                "lastTimestamp": rfc3339(record.last),
                "message": record.emit.message[:MESSAGE_MAX],
            }
            try:
                await self._client.patch(EVENTS, record.key, patch, PatchType.MERGE)
                return
            except NotFound:
                pass  # expired meanwhile: written anew
        await self._client.create(EVENTS, self.document(record), record.key.namespace)

    def document(self, record: Record) -> Document:
        """The core/v1 Event in wire shape."""
        emit = record.emit
        source = {"component": self._component} | ({"host": self._host} if self._host else {})
        involved = {
            "kind": emit.resource.kind,
            "namespace": emit.key.namespace,
            "name": emit.key.name,
            "uid": emit.uid,
            "apiVersion": emit.resource.api_version,
        }
        document: Document = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": record.key.name, "namespace": record.key.namespace},
            "involvedObject": {name: value for name, value in involved.items() if value},
            "reason": emit.reason,
            "message": emit.message[:MESSAGE_MAX],
            "source": source,
            "firstTimestamp": rfc3339(record.first),
            "lastTimestamp": rfc3339(record.last),
            "count": record.count,
            "type": emit.type,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
        if emit.action:
            document["action"] = emit.action
        return document
