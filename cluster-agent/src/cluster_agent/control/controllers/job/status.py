"""Job: what is written of it, and which pods lose the finalizer for it. Pure.

Exact counting takes two writes. The first puts the uids of ended pods into uncountedTerminatedPods (or their indexes into
completedIndexes), with the interim condition where the Job is decided. Then the pods lose the finalizer. The second moves each uid whose
pod has none any more from there into the counts. Whatever is cut off between is taken up again from what stands written.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from cluster_agent.control.controllers.batch import (
    COMPLETE,
    FAILED,
    JOBS,
    SUCCESS_CRITERIA_MET,
    SUSPENDED,
    Job,
    JobStatus,
    UncountedTerminatedPods,
)
from cluster_agent.control.controllers.conditions import to_wire
from cluster_agent.control.controllers.job.indexes import index_of
from cluster_agent.control.controllers.job.judge import stamped
from cluster_agent.control.controllers.job.plan import Order
from cluster_agent.control.controllers.job.policies import match
from cluster_agent.control.controllers.job.sight import (
    Sight,
    has_valid_index,
    is_failed,
    is_tracked,
    uncounted_of,
)
from machinery.api.core import Pod
from machinery.controller.action import Emit, SetStatus
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import Condition, condition
from machinery.meta.resource import Document

UNCOUNTED_MAX = 500
"""Pods counted in one pass: their uids stand in the status meanwhile."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The next status, the pods that it has counted, and what people are told once it stands written."""

    status: JobStatus
    counted: Sequence[Pod] = ()
    """They may lose the finalizer when the status is written."""
    told: Sequence[Emit] = ()


@dataclass(slots=True)
class _Counts:
    succeeded: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    full: bool = False


def tally(
    sight: Sight, decided: Condition | None, order: Order, now: dt.datetime, *, acted: bool
) -> Tally:
    """The status after `order` is carried out. `acted`: pods were managed, so that suspension is true of them too."""
    job = sight.job
    old = job.status
    counts, done = _begun(sight)
    _count(sight, decided, counts)
    status = msgspec.structs.replace(
        old,
        active=order.active,
        ready=max(0, min(order.ready, order.active)),
        terminating=order.terminating,
        succeeded=old.succeeded + done.succeeded,
        failed=old.failed + done.failed,
        uncounted_terminated_pods=UncountedTerminatedPods(
            tuple(counts.succeeded), tuple(counts.failed)
        ),
        start_time=old.start_time or (None if job.spec.suspend else now.replace(microsecond=0)),
    )
    if job.indexed:
        completed = sight.completed.with_indexes(counts.indexes)
        failed = sight.failed_indexes
        status = msgspec.structs.replace(
            status,
            succeeded=len(completed),
            completed_indexes=str(completed),
            failed_indexes=None if failed is None else str(failed),
        )
    fresh = Tally(status, counts.pods)
    if decided is not None:
        return _decided(job, decided, fresh, now, waiting=counts.full)
    return _suspension(job, fresh, now) if acted else fresh


@dataclass(frozen=True, slots=True)
class _Done:
    succeeded: int
    failed: int


def _begun(sight: Sight) -> tuple[_Counts, _Done]:
    """What waits to be counted from the passes before, and how many pods of those have lost the finalizer."""
    before = uncounted_of(sight.job)
    held = {pod.metadata.uid for pod in sight.pods if is_tracked(pod)}
    counts = _Counts(
        [uid for uid in before.succeeded if uid in held],
        [uid for uid in before.failed if uid in held],
    )
    return counts, _Done(
        len(before.succeeded) - len(counts.succeeded), len(before.failed) - len(counts.failed)
    )


def _count(sight: Sight, decided: Condition | None, counts: _Counts) -> None:
    """Write down every pod whose end may be counted now."""
    for pod in sight.pods:
        if not is_tracked(pod) or not _may_count(sight, decided, pod):
            continue
        counts.pods.append(pod)
        _write_down(sight, decided, pod, counts)
        if len(counts.indexes) + len(counts.succeeded) + len(counts.failed) >= UNCOUNTED_MAX:
            counts.full = True
            return


def _may_count(sight: Sight, decided: Condition | None, pod: Pod) -> bool:
    """Whether the pod may lose the finalizer: it or the Job has ended, and no replacement has to learn from it."""
    if sight.job.deleting or decided is not None or pod.status.phase == "Succeeded":
        return True
    if not is_failed(sight.job, pod):
        return False
    index = index_of(pod)
    last = sight.replaceable.get(index) if index is not None else None
    return last is None or last.metadata.uid != pod.metadata.uid


def _write_down(sight: Sight, decided: Condition | None, pod: Pod, counts: _Counts) -> None:
    job, uid = sight.job, pod.metadata.uid
    if uid in counts.failed:
        return
    if pod.status.phase == "Succeeded":
        if not job.indexed:
            if uid not in counts.succeeded:
                counts.succeeded.append(uid)
        elif (
            (index := index_of(pod)) is not None
            and has_valid_index(job, pod)
            and index not in sight.before
        ):
            counts.indexes.append(index)
        return
    # of a Job that has failed, every pod that has not ended well has failed; of one that has enough, those that we delete have not
    if decided is None:
        ended = is_failed(job, pod)
    else:
        ended = decided.type != SUCCESS_CRITERIA_MET or pod.status.phase == "Failed"
    valid = not job.indexed or has_valid_index(job, pod)
    if ended and valid and match(job, pod).counts:
        counts.failed.append(uid)


def _decided(
    job: Job, decided: Condition, fresh: Tally, now: dt.datetime, *, waiting: bool
) -> Tally:
    """The interim condition, or the last one when nothing is left to count and nobody is left."""
    status = fresh.status
    if condition(status.conditions, decided.type) != decided:
        conditions = (*(c for c in status.conditions if c.type != decided.type), decided)
        status = msgspec.structs.replace(status, conditions=conditions)
    uncounted = status.uncounted_terminated_pods or UncountedTerminatedPods()
    left = bool(fresh.counted or uncounted.succeeded or uncounted.failed or waiting)
    if left or status.active or status.terminating:
        return replace(fresh, status=status)
    well = decided.type == SUCCESS_CRITERIA_MET
    last = stamped(COMPLETE if well else FAILED, "True", decided.reason, decided.message, now)
    status = msgspec.structs.replace(
        status,
        conditions=(*status.conditions, last),
        completion_time=last.last_transition_time if well else status.completion_time,
    )
    return Tally(status, told=_last_words(job, status, last))


def _last_words(job: Job, status: JobStatus, last: Condition) -> list[Emit]:
    if last.type == FAILED:
        return [emit(job, "Warning", last.reason, last.message)]
    told = [emit(job, "Normal", "Completed", "Job completed")]
    if job.spec.completions is not None and status.succeeded > job.spec.completions:
        text = "Too many succeeded pods running after completion count reached"
        told.insert(0, emit(job, "Warning", "TooManySucceededPods", text))
    return told


def _suspension(job: Job, fresh: Tally, now: dt.datetime) -> Tally:
    """Condition Suspended. Who is resumed starts anew: the deadline does not run while a Job is suspended."""
    status, suspended = fresh.status, job.spec.suspend
    held = condition(status.conditions, SUSPENDED)
    if (held.status == "True" if held is not None else False) == suspended:
        return fresh
    words = ("JobSuspended", "Job suspended") if suspended else ("JobResumed", "Job resumed")
    last = stamped(SUSPENDED, "True" if suspended else "False", *words, now)
    conditions = (*(c for c in status.conditions if c.type != SUSPENDED), last)
    status = msgspec.structs.replace(
        status,
        conditions=conditions,
        start_time=status.start_time if suspended else last.last_transition_time,
    )
    reason = "Suspended" if suspended else "Resumed"
    return replace(fresh, status=status, told=[emit(job, "Normal", reason, words[1])])


def emit(job: Job, kind: str, reason: str, message: str) -> Emit:
    """An Event on the Job."""
    return Emit(JOBS, job.key, job.metadata.uid, kind, reason, message)


def write(job: Job, status: JobStatus) -> list[SetStatus]:
    """The write, if there is anything new, as a compare-and-swap: nobody counts from an old copy."""
    if status == job.status:
        return []
    return [SetStatus(JOBS, job.key, _to_wire(status), job.metadata.resource_version)]


def _to_wire(status: JobStatus) -> Document:
    """The status as a merge patch: what upstream leaves out is null."""
    uncounted = status.uncounted_terminated_pods or UncountedTerminatedPods()
    times = {"startTime": status.start_time, "completionTime": status.completion_time}
    return {
        "conditions": [to_wire(c) for c in status.conditions] or None,
        **{name: None if at is None else rfc3339(at) for name, at in times.items()},
        "active": status.active or None,
        "succeeded": status.succeeded or None,
        "failed": status.failed or None,
        "terminating": status.terminating,
        "ready": status.ready,
        "completedIndexes": status.completed_indexes or None,
        "failedIndexes": status.failed_indexes,
        "uncountedTerminatedPods": {
            "succeeded": list(uncounted.succeeded) or None,
            "failed": list(uncounted.failed) or None,
        },
    }
