"""CronJob: which Job is due, what of its Jobs to keep, and what to report. Pure.

A Job's name says the minute for which it was made: that is the lock that keeps a start from being made twice, whoever dies in between.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from cluster_agent.control.controllers.batch import (
    COMPLETE,
    CRONJOBS,
    FAILED,
    JOBS,
    CronJob,
    CronJobStatus,
    Job,
)
from cluster_agent.control.controllers.cronjob.schedule import (
    ScheduleError,
    Times,
    ZoneError,
    times,
    zone_of,
)
from machinery.api.core import ObjectReference
from machinery.controller.action import Action, Create, Delete, Emit, SetStatus
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import is_true, owner_reference
from machinery.meta.resource import Document

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
"""Annotation of a Job: when it was due, as the CronJob's time zone tells it."""
MISSED_MANY = 100
"""More starts than these that were missed are worth a word."""
AFTER_DUE_S = 0.1
"""A timer may ring a little early; a look that comes too soon would be for nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about a CronJob, and what its status is when it is done."""

    status: CronJobStatus
    actions: Sequence[Action] = ()
    start: Create | None = None
    """The Job to make; `started` adds it to the status."""
    due: dt.datetime | None = None
    """When that Job was due."""
    wait_s: float | None = None
    """When to look again."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Starts since the last one that was made."""

    since: dt.datetime
    last: dt.datetime | None = None
    """The newest of them."""
    some: bool = False
    many: bool = False


def plan(cron: CronJob, jobs: Sequence[Job], now: dt.datetime) -> Plan:
    """`jobs` are all that the CronJob controls; in `status.active` are only those of them that are there."""
    kept = Plan(cron.status)
    if cron.deleting:
        return _seen(cron, jobs, kept)
    kept, left = _history(cron, jobs, kept)
    seen = _seen(cron, left, kept)
    try:
        schedule = times(cron.spec.schedule, zone_of(cron.spec.time_zone))
    except ZoneError as error:
        text = f'invalid timeZone: "{cron.spec.time_zone}": {error}'
        return _told(cron, seen, "Warning", "UnknownTimeZone", text)
    except ScheduleError as error:
        text = f'unparseable schedule: "{cron.spec.schedule}" : {error}'
        return _told(cron, seen, "Warning", "UnparseableSchedule", text)
    if cron.spec.suspend:
        return seen
    try:
        return _due(cron, seen, left, schedule, now)
    except ScheduleError as error:
        text = f"invalid schedule: {cron.spec.schedule} : {error}"
        return _told(cron, seen, "Warning", "InvalidSchedule", text)


def _due(cron: CronJob, seen: Plan, jobs: Iterable[Job], schedule: Times, now: dt.datetime) -> Plan:
    """The start that is due, unless something speaks against it."""
    deadline_s = cron.spec.starting_deadline_seconds
    missed = missed_starts(cron, schedule, now, deadline_s)
    waiting = replace(seen, wait_s=_next_in(cron, schedule, now))
    due = missed.last
    if due is None:
        return waiting
    if missed.many:
        text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        waiting = _told(cron, waiting, "Warning", "TooManyMissedTimes", text)
    if deadline_s is not None and due + dt.timedelta(seconds=deadline_s) < now:
        text = f"Missed scheduled time to start a job: {due:%a, %d %b %Y %H:%M:%S +0000}"
        return _told(cron, waiting, "Warning", "MissSchedule", text)
    active = seen.status.active
    if job_name(cron, due) in {ref.name for ref in active} or cron.status.last_schedule_time == due:
        return waiting
    if active and cron.spec.concurrency_policy == "Forbid":
        text = (
            "Not starting job because prior execution is running and concurrency policy is Forbid"
        )
        return _told(cron, waiting, "Normal", "JobAlreadyActive", text)
    if active and cron.spec.concurrency_policy == "Replace":
        by_uid = {job.metadata.uid: job for job in jobs}
        running = [by_uid[ref.uid] for ref in active if ref.uid in by_uid]
        waiting = replace(
            waiting,
            actions=[*waiting.actions, *_deletes(cron, running)],
            status=msgspec.structs.replace(waiting.status, active=()),
        )
    return replace(waiting, start=Create(JOBS, job_document(cron, due)), due=due)


def missed_starts(
    cron: CronJob, schedule: Times, now: dt.datetime, deadline_s: int | None
) -> Missed:
    """What was due since the last start, without counting one by one: a clock that jumped decades must cost nothing.

    How many were missed is reckoned from the time between the first two.
    """
    since = cron.status.last_schedule_time or cron.metadata.creation_timestamp or now
    if deadline_s is not None:
        since = max(since, now - dt.timedelta(seconds=deadline_s))
    first = schedule.following(since)
    if now < first:
        return Missed(since)
    second = schedule.following(first)
    if now < second:
        return Missed(since, first)
    between = round((second - first).total_seconds())
    if between < 1:
        raise ScheduleError("time difference between two schedules is less than 1 second")
    count = int((now - first).total_seconds()) // between + 1
    last = None
    moment = schedule.following(first + dt.timedelta(seconds=(count - 2) * between))
    while moment <= now:
        last = moment
        moment = schedule.following(moment)
    return Missed(since, last, some=True, many=count > MISSED_MANY)


def _next_in(cron: CronJob, schedule: Times, now: dt.datetime) -> float:
    """Seconds until the next start is due."""
    missed = missed_starts(cron, schedule, now, None)
    begin = missed.last or (now if missed.some else missed.since)
    moment = schedule.following(begin)
    if moment <= now:
        moment = schedule.following(now)
    return (moment - now).total_seconds() + AFTER_DUE_S


def job_name(cron: CronJob, due: dt.datetime) -> str:
    """The CronJob's name and the minute of the start, counted from 1970."""
    return f"{cron.metadata.name}-{int(due.timestamp()) // 60}"


def job_document(cron: CronJob, due: dt.datetime) -> Document:
    """The Job of the template."""
    template = cron.spec.job_template
    owner = CronJob(api_version="batch/v1", kind="CronJob", metadata=cron.metadata)
    at = due.astimezone(zone_of(cron.spec.time_zone)).isoformat(timespec="seconds")
    metadata: Document = {
        "name": job_name(cron, due),
        "namespace": cron.metadata.namespace,
        "annotations": {
            **(template.metadata.get("annotations") or {}),
            SCHEDULED_AT: at.replace("+00:00", "Z"),
        },
        "ownerReferences": [owner_reference(owner)],
    }
    if labels := template.metadata.get("labels"):
        metadata["labels"] = labels
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template.spec}


def started(cron: CronJob, planned: Plan, job: Job) -> CronJobStatus:
    """The status when the Job is made."""
    reference = ObjectReference(
        api_version="batch/v1",
        kind="Job",
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        resource_version=job.metadata.resource_version,
    )
    active = tuple(r for r in planned.status.active if r.uid != reference.uid)
    return msgspec.structs.replace(
        planned.status, active=(*active, reference), last_schedule_time=planned.due
    )


# ----------------------------------------------------------------------------------------------------------- its Jobs
def finish_of(job: Job) -> str:
    """Complete, Failed, or nothing yet."""
    for kind in (COMPLETE, FAILED):
        if is_true(job.status.conditions, kind):
            return kind
    return ""


def _history(cron: CronJob, jobs: Sequence[Job], planned: Plan) -> tuple[Plan, list[Job]]:
    """Delete the oldest ended Jobs above the limits: the plan with that, and the Jobs that are left."""
    spec, gone = cron.spec, list[Job]()
    limits: Mapping[str, int | None] = {
        COMPLETE: spec.successful_jobs_history_limit,
        FAILED: spec.failed_jobs_history_limit,
    }
    for kind, limit in limits.items():
        ended = sorted((j for j in jobs if finish_of(j) == kind and not j.deleting), key=_begun)
        if limit is not None and len(ended) > limit:
            gone += ended[: len(ended) - limit]
    if not gone:
        return planned, list(jobs)
    uids = {job.metadata.uid for job in gone}
    active = tuple(ref for ref in planned.status.active if ref.uid not in uids)
    status = msgspec.structs.replace(planned.status, active=active)
    for job in gone:
        status = _with_success(status, job)
    left = [job for job in jobs if job.metadata.uid not in uids]
    return replace(planned, status=status, actions=_deletes(cron, gone)), left


def _begun(job: Job) -> tuple[bool, float, str]:
    """By start; those that never started last."""
    start = job.status.start_time
    return (start is None, start.timestamp() if start is not None else 0.0, job.metadata.name)


def _deletes(cron: CronJob, jobs: Iterable[Job]) -> list[Action]:
    return [
        Delete(JOBS, job.key, job.metadata.uid, propagation_policy="Background") for job in jobs
    ]


def _seen(cron: CronJob, jobs: Sequence[Job], planned: Plan) -> Plan:
    """`status.active` and the last success, by what the Jobs say of themselves."""
    status, by_uid = planned.status, {job.metadata.uid: job for job in jobs}
    known = {ref.uid for ref in status.active}
    told: list[Emit] = []
    for job in jobs:
        ended, listed = finish_of(job), job.metadata.uid in known
        if not ended and not listed and not job.deleting:
            text = f"Saw a job that the controller did not create or forgot: {job.metadata.name}"
            told.append(emit(cron, "Warning", "UnexpectedJob", text))
        elif ended and listed:
            text = f"Saw completed job: {job.metadata.name}, condition: {ended}"
            told.append(emit(cron, "Normal", "SawCompletedJob", text))
        status = _with_success(status, job)
    active = []
    for ref in status.active:
        if ref.uid not in by_uid:
            text = f"Active job went missing: {ref.name}"
            told.append(emit(cron, "Normal", "MissingJob", text))
        elif not finish_of(by_uid[ref.uid]):
            active.append(ref)
    status = msgspec.structs.replace(status, active=tuple(active))
    return replace(planned, status=status, actions=[*planned.actions, *told])


def _with_success(status: CronJobStatus, job: Job) -> CronJobStatus:
    at = job.status.completion_time
    last = status.last_successful_time
    if finish_of(job) != COMPLETE or at is None or (last is not None and at <= last):
        return status
    return msgspec.structs.replace(status, last_successful_time=at)


# -------------------------------------------------------------------------------------------------------------- words
def emit(cron: CronJob, kind: str, reason: str, message: str) -> Emit:
    """An Event on the CronJob."""
    return Emit(CRONJOBS, cron.key, cron.metadata.uid, kind, reason, message)


def _told(cron: CronJob, planned: Plan, kind: str, reason: str, message: str) -> Plan:
    return replace(planned, actions=[*planned.actions, emit(cron, kind, reason, message)])


def write(cron: CronJob, status: CronJobStatus) -> list[SetStatus]:
    """The write, if there is anything new, as a compare-and-swap."""
    if status == cron.status:
        return []
    times_ = {
        "lastScheduleTime": status.last_schedule_time,
        "lastSuccessfulTime": status.last_successful_time,
    }
    wire: Document = {name: None if at is None else rfc3339(at) for name, at in times_.items()}
    wire["active"] = [_reference(ref) for ref in status.active] or None
    return [SetStatus(CRONJOBS, cron.key, wire, cron.metadata.resource_version)]


def _reference(ref: ObjectReference) -> Document:
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "namespace": ref.namespace,
        "name": ref.name,
        "uid": ref.uid,
        "resourceVersion": ref.resource_version,
    }
