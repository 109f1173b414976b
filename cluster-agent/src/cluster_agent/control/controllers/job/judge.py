"""Whether a Job is decided: what it waits for no longer, and why. Pure.

The answer is the interim condition, SuccessCriteriaMet or FailureTarget. It is written before anything is done about it, so that
no later look decides otherwise; Complete or Failed follows when every pod is counted and gone.
"""

import datetime as dt

from cluster_agent.control.controllers.batch import (
    FAILURE_TARGET,
    SUCCESS_CRITERIA_MET,
    Job,
)
from cluster_agent.control.controllers.job.policies import match, met_rule
from cluster_agent.control.controllers.job.sight import Sight, is_failed
from machinery.meta.objectmeta import Condition, condition


def judge(sight: Sight, now: dt.datetime) -> Condition | None:
    """The interim condition: the one that stands, or the first reason for one."""
    job = sight.job
    for kind in (SUCCESS_CRITERIA_MET, FAILURE_TARGET):
        found = condition(job.status.conditions, kind)
        if found is not None and found.status == "True":
            return found
    for pod in sight.pods if job.spec.pod_failure_policy is not None else ():
        said = match(job, pod) if is_failed(job, pod) else None
        if said is not None and said.action == "FailJob":
            return failure("PodFailurePolicy", said.message, now)
    if sight.failed > job.spec.backoff_limit or _restarted_too_often(sight):
        text = "Job has reached the specified backoff limit"
        return failure("BackoffLimitExceeded", text, now)
    if deadline_in(job, now) == 0.0:
        text = "Job was active longer than specified deadline"
        return failure("DeadlineExceeded", text, now)
    return _by_index(sight, now) if job.indexed else None


def _by_index(sight: Sight, now: dt.datetime) -> Condition | None:
    spec, completions = sight.job.spec, sight.job.spec.completions or 0
    if sight.failed_indexes is not None:
        failed = len(sight.failed_indexes)
        if spec.max_failed_indexes is not None and failed > spec.max_failed_indexes:
            text = "Job has exceeded the specified maximal number of failed indexes"
            return failure("MaxFailedIndexesExceeded", text, now)
        if failed and failed + len(sight.completed) >= completions:
            return failure("FailedIndexes", "Job has failed indexes", now)
    rule = met_rule(spec.success_policy, sight.completed, completions)
    if rule is not None:
        return success("SuccessPolicy", f"Matched rules at index {rule}", now)
    return None


def deadline_in(job: Job, now: dt.datetime) -> float | None:
    """Seconds until activeDeadlineSeconds is over, 0 when it is; None without one, and while the Job is suspended."""
    limit, start = job.spec.active_deadline_seconds, job.status.start_time
    if limit is None or start is None or job.spec.suspend:
        return None
    return max(0.0, limit - (now - start).total_seconds())


def completed(now: dt.datetime) -> Condition:
    """Enough pods have succeeded."""
    return success("CompletionsReached", "Reached expected number of succeeded pods", now)


def success(reason: str, message: str, now: dt.datetime) -> Condition:
    return stamped(SUCCESS_CRITERIA_MET, "True", reason, message, now)


def failure(reason: str, message: str, now: dt.datetime) -> Condition:
    return stamped(FAILURE_TARGET, "True", reason, message, now)


def stamped(kind: str, status: str, reason: str, message: str, now: dt.datetime) -> Condition:
    """A condition as of now."""
    at = now.replace(microsecond=0)
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_probe_time=at,
        last_transition_time=at,
    )


def _restarted_too_often(sight: Sight) -> bool:
    """Where containers start again in their pod, restarts count against the limit."""
    spec = sight.job.spec
    if (spec.template.get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        status.restart_count
        for pod in sight.pods
        if pod.status.phase in ("Running", "Pending")
        for status in (*pod.status.container_statuses, *pod.status.init_container_statuses)
    )
    return restarts > 0 if spec.backoff_limit == 0 else restarts >= spec.backoff_limit
