"""Journal: every decision about a binding is written down as a Decision, with its inputs, and the oldest go.

Placer, failback, evictor and failover put a note on the write that carries their decision; when it has been done, the journal hears of it,
and writes in its own time: a decision never waits for its entry. What waits when the process ends is lost, as Events are; an
entry that was written is DURABLE, since it is asked for after a crash most of all.

A Decision is named after its content, so that writing it twice writes it once. It belongs to its binding and goes with it. Kept
are the last `PER_WORKLOAD` of a binding and the last `TOTAL` of all, and the FleetRecords that these need.
"""

import asyncio
import datetime as dt
import hashlib
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from federation import __version__
from federation.domains.clock import LOOK_LATE_S
from federation.placement import journal
from federation.placement.journal import Digests, Record
from federation.propagation.replays import Note
from machinery.api.fleet.decision import (
    DECISIONS,
    FLEET_RECORDS,
    RECORDED,
    FleetRecord,
    Recorded,
)
from machinery.api.fleet.work import ResourceBinding, binding_resource
from machinery.controller.action import Action, Create, Delete, Result
from machinery.controller.manager import Manager
from machinery.kit.clock import rfc3339_micro
from machinery.kit.metrics import METRICS
from machinery.meta.errors import ServiceUnavailable, StatusError, Timeout, TooManyRequests
from machinery.meta.resource import Document, ObjectKey

log = logging.getLogger(__name__)

PER_WORKLOAD = 10
TOTAL = 10_000
TRIMMED_SHARE = 20
"""When there are more than `TOTAL`, a twentieth goes at once: finding the oldest costs a look at all."""
WAITING_MAX = 2_000
"""Notes that wait to be written; more are dropped, the oldest first."""
KEPT_S = 60.0
"""A FleetRecord that no Decision is known to need is kept so long: it may be about to be written."""
RECORDS_LATELY = 3
"""The last ones are kept: an entry that goes out from them may be on its way."""
SWEEP_S = 10.0
HOUSE = ObjectKey("", "journal")
"""The key of the housekeeping."""
BY_BINDING, BY_FLEET = "journal-binding", "journal-fleet"
NAME_MAX = 240
OF_CLUSTER_OBJECTS = "default"
"""Where decisions on objects without a namespace are kept, as Events on them are."""

DROPPED = METRICS.counter("journal_notes_dropped_total", "Decisions that were not journaled.")


@dataclass(frozen=True, slots=True)
class Heard:
    """A decision that was written, when, and the binding as it is since."""

    note: Note
    binding: ResourceBinding
    at: dt.datetime


def plan(held: Iterable[Recorded], limit: int) -> list[Action]:
    """The oldest beyond the limit go."""
    ordered = sorted(held, key=age)
    return [_gone(one) for one in ordered[: max(0, len(ordered) - limit)]]


def age(one: Recorded) -> tuple[dt.datetime, str]:
    """The oldest first."""
    return one.spec.decided_at or dt.datetime.min.replace(tzinfo=dt.UTC), one.metadata.name


def _gone(one: Recorded) -> Action:
    return Delete(DECISIONS, one.key, uid=one.metadata.uid)


def unneeded(
    records: Iterable[FleetRecord], needed: frozenset[str], now: dt.datetime
) -> tuple[list[Action], bool]:
    """FleetRecords that nobody needs any more, and whether some are still too young to tell."""
    actions: list[Action] = []
    young = False
    for record in records:
        if record.metadata.name in needed:
            continue
        made = record.metadata.creation_timestamp
        if made is not None and (now - made).total_seconds() < KEPT_S:
            young = True
            continue
        actions.append(Delete(FLEET_RECORDS, record.key, uid=record.metadata.uid))
    return actions, young


def document(heard: Heard, inputs: Document) -> Document:
    """The Decision."""
    note, binding = heard.note, heard.binding
    source, answer = binding.spec.resource, note.answer
    spec: Document = {
        "controller": note.controller,
        "workload": {
            "apiVersion": source.api_version,
            "kind": source.kind,
            "namespace": source.namespace,
            "name": source.name,
            "uid": source.uid,
        },
        "binding": {
            "name": binding.metadata.name,
            "uid": binding.metadata.uid,
            "resourceVersion": binding.metadata.resource_version,
        },
        "decidedAt": rfc3339_micro(heard.at),
        "question": note.question,
        "function": note.asked.function,
        "result": answer.result,
        "message": answer.message,
        "before": dict(note.before),
        **answer.fields,
        "inputs": inputs,
        "version": __version__,
    }
    return {
        "apiVersion": DECISIONS.api_version,
        "kind": DECISIONS.kind,
        "metadata": {
            "name": name_of(binding, inputs["hash"], answer),
            "namespace": binding.metadata.namespace or OF_CLUSTER_OBJECTS,
            "ownerReferences": [
                {
                    "apiVersion": binding_resource(binding.key).api_version,
                    "kind": binding_resource(binding.key).kind,
                    "name": binding.metadata.name,
                    "uid": binding.metadata.uid,
                }
            ],
        },
        "spec": {key: value for key, value in spec.items() if value},
    }


def name_of(binding: ResourceBinding, inputs_hash: str, answer: journal.Answer) -> str:
    """The binding's name and ten digits of what was decided on which version of it."""
    meta = binding.metadata
    text = f"{meta.uid} {meta.resource_version} {inputs_hash} {answer.result} {answer.message}"
    return f"{meta.name[:NAME_MAX]}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def record_document(record: Record, data: bytes) -> Document:
    """The FleetRecord."""
    encoding, text = journal.pack(data)
    return {
        "apiVersion": FLEET_RECORDS.api_version,
        "kind": FLEET_RECORDS.kind,
        "metadata": {"name": record.name},
        "spec": {"clusters": len(record.clusters), "encoding": encoding, "data": text},
    }


class JournalReconciler:
    """Bindings of which something was heard, and the house."""

    def __init__(self, manager: Manager) -> None:
        self._clock, self._executor = manager.clock, manager.executor
        self._decisions = manager.informer(RECORDED)
        self._decisions.add_index(BY_BINDING, lambda d: [d.spec.binding.uid])
        self._decisions.add_index(BY_FLEET, lambda d: [d.spec.inputs.fleet])
        self._records = manager.informer(FLEET_RECORDS)
        self._waiting: dict[ObjectKey, deque[Heard]] = {}
        self._count = 0
        self._digests = Digests()
        self._record = journal.NO_RECORD
        self._lately: deque[str] = deque(maxlen=RECORDS_LATELY)
        self._encoding = asyncio.Lock()
        self._swept = -SWEEP_S

    def take(self, key: ObjectKey, heard: Heard) -> None:
        """To be written soon. Drops the oldest when too many wait."""
        if self._count >= WAITING_MAX:
            oldest = next(iter(self._waiting))
            self._forget(oldest)
            DROPPED.inc()
            log.warning("decision not journaled, too many wait", extra={"binding": str(oldest)})
        self._waiting.setdefault(key, deque()).append(heard)
        self._count += 1

    def _forget(self, key: ObjectKey) -> None:
        waiting = self._waiting[key]
        waiting.popleft()
        self._count -= 1
        if not waiting:
            del self._waiting[key]

    async def reconcile(self, key: ObjectKey) -> Result:
        if key == HOUSE:
            return await self._keep_house()
        written = 0
        uid = ""
        while (waiting := self._waiting.get(key)) is not None:
            heard = waiting[0]
            uid = heard.binding.metadata.uid
            written += await self._write(heard)
            if self._waiting.get(key) is waiting and waiting and waiting[0] is heard:
                self._forget(key)
        if not written:
            return Result()
        return await self._executor.apply(self._trimmed(uid, written))

    async def _write(self, heard: Heard) -> int:
        """How many were written: what is refused, as in a namespace that ends, is not tried again."""
        try:
            entry = await self._entry(heard)
            _ = await self._executor.apply([Create(DECISIONS, entry, exists_ok=True)])
        except (ServiceUnavailable, Timeout, TooManyRequests):
            raise
        except StatusError as error:
            DROPPED.inc()
            log.info(
                "decision not journaled",
                extra={"binding": str(heard.binding.key), "error": str(error)},
            )
            return 0
        return 1

    async def _entry(self, heard: Heard) -> Document:
        """The Decision, when the fleet that it needs is written."""
        asked = heard.note.asked
        async with self._encoding:
            record, change = journal.NO_RECORD, {}
            if asked.fleet:
                change = journal.changed(asked.fleet, self._record)
                if not self._record.name or journal.stale(change, self._record):
                    await self._begin_record(asked.fleet)
                    change = journal.changed(asked.fleet, self._record)
                record = self._record
            encoding, data = journal.pack(journal.entry(asked, record, change))
            inputs = {"hash": self._digests.of(asked), "encoding": encoding, "data": data}
        return document(heard, inputs | ({"fleet": record.name} if record.name else {}))

    async def _begin_record(self, fleet: Sequence[Any]) -> None:
        record, data = journal.recorded(fleet)
        create = Create(FLEET_RECORDS, record_document(record, data), exists_ok=True)
        _ = await self._executor.apply([create])
        self._record = record
        self._lately.append(record.name)

    def lost(self, record: FleetRecord) -> None:
        """Somebody deleted a FleetRecord: the next decision goes out from another one."""
        if record.metadata.name == self._record.name:
            self._record = journal.NO_RECORD

    def _trimmed(self, uid: str, written: int) -> list[Action]:
        """Room for what was written, which the informer does not show yet."""
        held = self._decisions.by_index(BY_BINDING, uid)
        return plan(held, max(0, PER_WORKLOAD - written))

    # --------------------------------------------------------------------------------------------------------- house
    async def _keep_house(self) -> Result:
        now = self._clock.monotonic()
        if now - self._swept < SWEEP_S:
            return Result(SWEEP_S - (now - self._swept) + LOOK_LATE_S)
        self._swept = now
        actions: list[Action] = []
        if len(self._decisions) > TOTAL:
            actions += plan(self._decisions.list(), TOTAL - TOTAL // TRIMMED_SHARE)
        records = self._records.list()
        names = [r.metadata.name for r in records]
        needed = {n for n in names if self._decisions.by_index(BY_FLEET, n)} | set(self._lately)
        more, young = unneeded(records, frozenset(needed), self._clock.now())
        applied = await self._executor.apply([*actions, *more])
        return Result(KEPT_S, applied.applied) if young else applied


def setup(manager: Manager) -> None:
    """What the executor applies with a note on it; and the house, whenever something was written."""
    reconciler = JournalReconciler(manager)
    controller = manager.controller("journal", reconciler)

    def hear(action: Action, answer: Any) -> None:
        note = getattr(action, "note", None)
        if isinstance(note, Note) and isinstance(answer, ResourceBinding):
            reconciler.take(answer.key, Heard(note, answer, manager.clock.now()))
            controller.enqueue(answer.key)

    def changed(old: FleetRecord | None, new: FleetRecord | None) -> None:
        if old is not None and new is None:
            reconciler.lost(old)

    manager.executor.listen(hear)
    manager.informer(FLEET_RECORDS).on_change(changed)
    controller.watches(FLEET_RECORDS, lambda _: [HOUSE])
    decisions = manager.informer(RECORDED)
    controller.watches_informer(decisions, lambda _: [HOUSE] if len(decisions) > TOTAL else [])
