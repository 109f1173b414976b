"""What one look at a Job and its pods shows: who is active, who has ended, what counts already. Pure.

A pod counts once. While it carries the finalizer it has not been counted for good: it is new, or its uid stands in
uncountedTerminatedPods; of an Indexed Job completedIndexes is the count of successes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cluster_agent.control.controllers.batch import Job, UncountedTerminatedPods
from cluster_agent.control.controllers.job.backoff import finished_at
from cluster_agent.control.controllers.job.indexes import Indexes, index_of, indexes_of, parse
from cluster_agent.control.controllers.job.policies import match
from cluster_agent.control.controllers.pods import is_active, is_ready, is_terminating
from machinery.api.core import Pod

TRACKING = "batch.kubernetes.io/job-tracking"
"""Finalizer of every pod of a Job: it stays until the pod's end is counted."""
FAILURES = "batch.kubernetes.io/job-index-failure-count"
"""Annotation of a pod: how often its index had failed before it, without what the policy ignores."""
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
"""The same of what the policy ignores."""
INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Sight:
    """A Job as it stands."""

    job: Job
    pods: Sequence[Pod]
    active: Sequence[Pod]
    terminating: int
    ready: int
    new_succeeded: Sequence[Pod]
    """Ended well, and neither counted nor written down as uncounted."""
    new_failed: Sequence[Pod]
    succeeded: int
    """All of them, new ones included."""
    failed: int
    """All that count against the back-off limit."""
    before: Indexes = Indexes()
    """Completed indexes that the status has."""
    completed: Indexes = Indexes()
    """With those of the new pods."""
    failed_indexes: Indexes | None = None
    """None without a limit for each index."""
    replaceable: Mapping[int, Pod] = field(default_factory=dict)
    """By index, the failed pod that keeps its finalizer until its replacement carries its failures on."""


def is_tracked(pod: Pod) -> bool:
    return TRACKING in pod.metadata.finalizers


def replaces_failed_only(job: Job) -> bool:
    """Whether a pod that is being deleted is replaced only when it has ended."""
    spec = job.spec
    return spec.pod_replacement_policy == "Failed" or spec.pod_failure_policy is not None


def is_failed(job: Job, pod: Pod) -> bool:
    """Ended badly; a pod that is being deleted counts as such too, where it is replaced before its end."""
    if pod.status.phase == "Failed":
        return True
    return not replaces_failed_only(job) and pod.deleting and pod.status.phase != "Succeeded"


def has_valid_index(job: Job, pod: Pod) -> bool:
    """Whether the pod works on an index that the Job has."""
    index = index_of(pod)
    return index is not None and index < (job.spec.completions or 0)


def uncounted_of(job: Job) -> UncountedTerminatedPods:
    return job.status.uncounted_terminated_pods or UncountedTerminatedPods()


def look(job: Job, pods: Iterable[Pod]) -> Sight:
    """Sort the pods out; those of an Indexed Job in the order of their indexes."""
    pods = list(pods)
    if job.indexed:
        pods.sort(key=lambda pod: -1 if (index := index_of(pod)) is None else index)
    active = [pod for pod in pods if is_active(pod)]
    uncounted = uncounted_of(job)
    fresh = [p for p in pods if is_tracked(p) and (not job.indexed or has_valid_index(job, p))]
    succeeded = [
        p
        for p in fresh
        if p.status.phase == "Succeeded" and p.metadata.uid not in uncounted.succeeded
    ]
    failed = [p for p in fresh if is_failed(job, p) and p.metadata.uid not in uncounted.failed]
    counted = sum(1 for p in failed if match(job, p).counts)
    sight = Sight(
        job=job,
        pods=pods,
        active=active,
        terminating=sum(1 for pod in pods if is_terminating(pod)),
        ready=sum(1 for pod in active if is_ready(pod)),
        new_succeeded=succeeded,
        new_failed=failed,
        succeeded=job.status.succeeded + len(succeeded) + len(uncounted.succeeded),
        failed=job.status.failed + counted + len(uncounted.failed),
    )
    return _with_indexes(sight, fresh) if job.indexed else sight


def _with_indexes(sight: Sight, fresh: Sequence[Pod]) -> Sight:
    job = sight.job
    completions = job.spec.completions or 0
    before = parse(job.status.completed_indexes, completions)
    completed = before | indexes_of(p for p in fresh if p.status.phase == "Succeeded")
    failed: Indexes | None = None
    replaceable: Mapping[int, Pod] = {}
    if job.spec.backoff_limit_per_index is not None:
        failed = parse(job.status.failed_indexes or "", completions)
        failed |= indexes_of(p for p in fresh if _fails_index(job, p))
        over = completed | failed | indexes_of(sight.active)
        replaceable = _replaceable(sight.new_failed, over)
    return replace(
        sight,
        succeeded=len(completed),
        before=before,
        completed=completed,
        failed_indexes=failed,
        replaceable=replaceable,
    )


def _fails_index(job: Job, pod: Pod) -> bool:
    """Whether the pod's failure is its index's last."""
    if not is_failed(job, pod):
        return False
    said = match(job, pod)
    limit = job.spec.backoff_limit_per_index or 0
    return said.action == "FailIndex" or (said.counts and _noted(pod, FAILURES) >= limit)


def _replaceable(failed: Iterable[Pod], over: Indexes) -> Mapping[int, Pod]:
    """The last failed pod of each index on which nobody works and that is not decided."""
    last: dict[int, Pod] = {}
    for pod in failed:
        index = index_of(pod)
        if index is None or index in over:
            continue
        other = last.get(index)
        if other is None or (
            failures_of(other) <= failures_of(pod) and finished_at(other) <= finished_at(pod)
        ):
            last[index] = pod
    return last


def failures_of(pod: Pod) -> int:
    """How often the pod's index had failed before it, in any way."""
    return _noted(pod, FAILURES) + _noted(pod, IGNORED)


def carried_on(job: Job, replaced: Pod | None) -> dict[str, str]:
    """Annotations of the pod that comes after `replaced` on its index."""
    failures, ignored = 0, 0
    if replaced is not None:
        failures, ignored = _noted(replaced, FAILURES), _noted(replaced, IGNORED)
        counts = match(job, replaced).counts
        failures, ignored = failures + counts, ignored + (not counts)
    return {FAILURES: str(failures)} | ({IGNORED: str(ignored)} if ignored else {})


def _noted(pod: Pod, annotation: str) -> int:
    """A count that we wrote; what a user made of it is 0 when it is none."""
    text = pod.metadata.annotations.get(annotation, "")
    count = int(text) if text.isascii() and text.isdecimal() else 0
    return count if count <= INT32_MAX else 0
