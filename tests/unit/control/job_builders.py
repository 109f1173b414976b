"""Jobs, CronJobs and their pods for tables."""

import datetime as dt
from typing import Any

from tests.unit.control.builders import NOW, ago

from cluster_agent.control.controllers.batch import (
    COMPLETE,
    CronJob,
    CronJobSpec,
    CronJobStatus,
    Job,
    JobSpec,
    JobStatus,
    JobTemplate,
    UncountedTerminatedPods,
)
from cluster_agent.control.controllers.job.indexes import INDEX
from cluster_agent.control.controllers.job.sight import FAILURES, IGNORED, TRACKING
from machinery.api.core import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStatus,
    LabelSelector,
    ObjectReference,
    Pod,
    PodSpec,
    PodStatus,
)
from machinery.meta.objectmeta import Condition, ObjectMeta, OwnerReference

OWNER = OwnerReference(api_version="batch/v1", kind="Job", name="j", uid="j-uid", controller=True)

UNSEEN = JobStatus()


def job(
    *,
    status: JobStatus = UNSEEN,
    deleting: bool = False,
    **spec: Any,
) -> Job:
    """A NonIndexed Job of one completion, unless told otherwise."""
    template = spec.pop(
        "template", {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}
    )
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    return Job(
        metadata=ObjectMeta(
            name="j",
            namespace="ns",
            uid="j-uid",
            resource_version="10",
            deletion_timestamp=NOW if deleting else None,
        ),
        spec=JobSpec(selector=LabelSelector(match_labels={"job": "j"}), template=template, **spec),
        status=status,
    )


def indexed(completions: int = 3, *, status: JobStatus = UNSEEN, **spec: Any) -> Job:
    spec = {"parallelism": completions} | spec
    return job(status=status, completions=completions, completion_mode="Indexed", **spec)


def per_index(completions: int = 3, limit: int = 1, **spec: Any) -> Job:
    return indexed(completions, backoff_limit_per_index=limit, backoff_limit=2**31 - 1, **spec)


def pod(
    name: str,
    phase: str = "Running",
    *,
    index: int | None = None,
    code: int | None = None,
    tracked: bool = True,
    deleting: bool = False,
    ready: bool = False,
    ended_s: float = 0.0,
    restarts: int = 0,
    failures: int = 0,
    ignored: int = 0,
    conditions: tuple[Condition, ...] = (),
) -> Pod:
    """A pod of the Job; one that has ended did so `ended_s` seconds ago."""
    if code is None and phase in ("Failed", "Succeeded"):
        code = 1 if phase == "Failed" else 0
    state = ContainerState()
    if code is not None:
        ended = ContainerStateTerminated(exit_code=code, finished_at=ago(ended_s))
        state = ContainerState(terminated=ended)
    notes = {} if index is None else {INDEX: str(index)}
    notes |= {FAILURES: str(failures)} if failures else {}
    notes |= {IGNORED: str(ignored)} if ignored else {}
    is_ready = Condition(
        type="Ready", status="True" if ready else "False", last_transition_time=ago(ended_s)
    )
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="ns",
            uid=f"{name}-uid",
            creation_timestamp=ago(1000),
            deletion_timestamp=NOW if deleting else None,
            deletion_grace_period_seconds=30 if deleting else None,
            labels={"job": "j"},
            annotations=notes,
            owner_references=(OWNER,),
            finalizers=(TRACKING,) if tracked else (),
        ),
        spec=PodSpec(node_name="n1"),
        status=PodStatus(
            phase=phase,
            conditions=(is_ready, *conditions),
            container_statuses=(ContainerStatus(name="c", restart_count=restarts, state=state),),
        ),
    )


def uncounted(*, succeeded: tuple[str, ...] = (), failed: tuple[str, ...] = ()) -> JobStatus:
    waiting = UncountedTerminatedPods(succeeded, failed)
    return JobStatus(start_time=ago(60), uncounted_terminated_pods=waiting)


# ------------------------------------------------------------------------------------------------------------ CronJob
def cron(
    schedule: str = "* * * * *",
    *,
    last: dt.datetime | None = None,
    active: tuple[str, ...] = (),
    age_s: float = 0.0,
    deleting: bool = False,
    **spec: Any,
) -> CronJob:
    references = tuple(
        ObjectReference(kind="Job", namespace="ns", name=name, uid=f"{name}-uid") for name in active
    )
    return CronJob(
        metadata=ObjectMeta(
            name="c",
            namespace="ns",
            uid="c-uid",
            resource_version="10",
            creation_timestamp=ago(age_s),
            deletion_timestamp=NOW if deleting else None,
        ),
        spec=CronJobSpec(
            schedule=schedule, job_template=JobTemplate(spec={"template": {}}), **spec
        ),
        status=CronJobStatus(active=references, last_schedule_time=last),
    )


def run(
    name: str,
    ended: str = "",
    *,
    started_s: float = 100.0,
    ended_s: float = 50.0,
    ttl: int | None = None,
) -> Job:
    """A Job of the CronJob; `ended` is Complete, Failed or nothing yet."""
    conditions: tuple[Condition, ...] = ()
    if ended:
        conditions = (Condition(type=ended, status="True", last_transition_time=ago(ended_s)),)
    return Job(
        metadata=ObjectMeta(name=name, namespace="ns", uid=f"{name}-uid", resource_version="7"),
        spec=JobSpec(ttl_seconds_after_finished=ttl),
        status=JobStatus(
            start_time=ago(started_s),
            completion_time=ago(ended_s) if ended == COMPLETE else None,
            conditions=conditions,
        ),
    )
