"""Jobs that have ended are deleted, with their pods, when their owner's ttlSecondsAfterFinished is over.

The living Job is looked at before: a longer time that was asked for in the meantime counts.
"""

import datetime as dt

from cluster_agent.control.controllers.batch import COMPLETE, FAILED, JOBS, Job
from machinery.controller.action import Action, Delete, RequeueAfter, Result
from machinery.controller.executor import Executor
from machinery.controller.manager import Manager
from machinery.controllers.events import executor_for
from machinery.meta.errors import NotFound
from machinery.meta.resource import ObjectKey


def plan(job: Job, now: dt.datetime) -> list[Action]:
    """Delete it, or look again when its time is over; nothing while it runs, and of a Job without a limit."""
    ttl_s, ended = job.spec.ttl_seconds_after_finished, finished_at(job)
    if ttl_s is None or ended is None or job.deleting:
        return []
    left = ttl_s - (now - ended).total_seconds()
    if left > 0:
        return [RequeueAfter(left)]
    meta = job.metadata
    return [Delete(JOBS, job.key, meta.uid, meta.resource_version, propagation_policy="Foreground")]


def finished_at(job: Job) -> dt.datetime | None:
    """When the Job was Complete or Failed."""
    for c in job.status.conditions:
        if c.type in (COMPLETE, FAILED) and c.status == "True":
            return c.last_transition_time
    return None


class TtlReconciler:
    """Read, plan, look at what lives, plan again, act."""

    def __init__(self, manager: Manager, executor: Executor) -> None:
        self._client, self._clock, self._executor = manager.client, manager.clock, executor
        self._jobs = manager.informer(JOBS)

    async def reconcile(self, key: ObjectKey) -> Result:
        job = self._jobs.get(key)
        actions = plan(job, self._clock.now()) if job is not None else []
        if any(isinstance(action, Delete) for action in actions):
            try:
                actions = plan(await self._client.get(JOBS, key), self._clock.now())
            except NotFound:
                return Result()
        return await self._executor.apply(actions)


def setup(manager: Manager) -> None:
    """Watch Jobs."""
    executor = executor_for(manager, "ttl-after-finished-controller")
    manager.controller("ttl-after-finished", TtlReconciler(manager, executor)).watches(JOBS)
