"""Views of Job and CronJob as their controllers need them: with the whole pod template.

As in `workloads`, a template is the document itself and is never mutated: copies are made along the path that changes.
"""

import datetime as dt
from typing import Any

from machinery.api.core import LabelSelector, ObjectReference
from machinery.meta.objectmeta import Condition, Object, View, is_true
from machinery.meta.resource import Resource

COMPLETE, FAILED, SUSPENDED = "Complete", "Failed", "Suspended"
SUCCESS_CRITERIA_MET, FAILURE_TARGET = "SuccessCriteriaMet", "FailureTarget"


class OnExitCodes(View):
    operator: str = ""
    values: tuple[int, ...] = ()
    container_name: str | None = None


class OnPodCondition(View):
    type: str = ""
    status: str = "True"


class FailureRule(View):
    action: str = ""
    on_exit_codes: OnExitCodes | None = None
    on_pod_conditions: tuple[OnPodCondition, ...] = ()


class PodFailurePolicy(View):
    rules: tuple[FailureRule, ...] = ()


class SuccessRule(View):
    succeeded_indexes: str | None = None
    succeeded_count: int | None = None


class SuccessPolicy(View):
    rules: tuple[SuccessRule, ...] = ()


class JobSpec(View):
    parallelism: int = 1
    completions: int | None = None
    active_deadline_seconds: int | None = None
    backoff_limit: int = 6
    backoff_limit_per_index: int | None = None
    max_failed_indexes: int | None = None
    selector: LabelSelector = LabelSelector()
    template: dict[str, Any] = {}
    ttl_seconds_after_finished: int | None = None
    completion_mode: str = "NonIndexed"
    suspend: bool = False
    pod_replacement_policy: str = ""
    pod_failure_policy: PodFailurePolicy | None = None
    success_policy: SuccessPolicy | None = None
    managed_by: str | None = None


class UncountedTerminatedPods(View):
    """Uids of pods that have ended and still carry the finalizer: seen, not yet in the counts."""

    succeeded: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class JobStatus(View):
    conditions: tuple[Condition, ...] = ()
    start_time: dt.datetime | None = None
    completion_time: dt.datetime | None = None
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    terminating: int | None = None
    ready: int | None = None
    completed_indexes: str = ""
    failed_indexes: str | None = None
    uncounted_terminated_pods: UncountedTerminatedPods | None = None


class Job(Object):
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    @property
    def indexed(self) -> bool:
        return self.spec.completion_mode == "Indexed"

    @property
    def finished(self) -> bool:
        """Complete or Failed: nothing about it changes any more."""
        conditions = self.status.conditions
        return is_true(conditions, COMPLETE) or is_true(conditions, FAILED)


class JobTemplate(View):
    metadata: dict[str, Any] = {}
    spec: dict[str, Any] = {}


class CronJobSpec(View):
    schedule: str = ""
    time_zone: str | None = None
    starting_deadline_seconds: int | None = None
    concurrency_policy: str = "Allow"
    suspend: bool = False
    job_template: JobTemplate = JobTemplate()
    successful_jobs_history_limit: int | None = None
    failed_jobs_history_limit: int | None = None


class CronJobStatus(View):
    active: tuple[ObjectReference, ...] = ()
    last_schedule_time: dt.datetime | None = None
    last_successful_time: dt.datetime | None = None


class CronJob(Object):
    spec: CronJobSpec = CronJobSpec()
    status: CronJobStatus = CronJobStatus()


JOBS: Resource[Job] = Resource("batch", "v1", "jobs", "Job", True, Job)
CRONJOBS: Resource[CronJob] = Resource("batch", "v1", "cronjobs", "CronJob", True, CronJob)
