"""CronJob controller, the acting half: a timer for the next start, and a look whenever the CronJob or one of its Jobs changes.

A Job is made before the status says so. Who dies in between finds the name taken and the Job its own, and says so then. A pass works
only from a copy that shows the last write, and from Jobs that show what the last pass did.
"""

from collections.abc import Iterable
from typing import Any

from cluster_agent.control.controllers.api_errors import is_namespace_terminating
from cluster_agent.control.controllers.batch import CRONJOBS, JOBS, CronJob, Job
from cluster_agent.control.controllers.cronjob.plan import emit, plan, started, write
from cluster_agent.control.controllers.pods import CONTROLLER_INDEX
from machinery.controller.action import Action, Create, Delete, Result
from machinery.controller.expectations import Expectations
from machinery.controller.manager import Manager
from machinery.controllers.events import SpeakingExecutor, executor_for
from machinery.meta.errors import AlreadyExists, Forbidden, NotFound, StatusError
from machinery.meta.objectmeta import controller_of
from machinery.meta.resource import ObjectKey

CLOCK_TRUSTED_S = 600.0
"""A timer runs no longer than this: the clock on the wall may be set meanwhile, as it is after the start of a board without one."""
LOOK_AGAIN_S = 5.0
"""Where an informer is behind, and should its event be lost."""


class CronJobReconciler:
    """Read, plan, act, write."""

    def __init__(self, manager: Manager, executor: SpeakingExecutor) -> None:
        self._client, self._clock, self._executor = manager.client, manager.clock, executor
        self._crons = manager.informer(CRONJOBS)
        self._jobs = manager.informer(JOBS)
        self._jobs.add_index(CONTROLLER_INDEX, _owner_uid)
        self._expectations = Expectations(self._jobs, manager.clock)
        self._written: dict[ObjectKey, int] = {}
        """The revision of the last status written."""

    async def reconcile(self, key: ObjectKey) -> Result:
        cron = self._crons.get(key)
        if cron is None:
            self._expectations.forget(key)
            self._written.pop(key, None)
            return Result()
        if self._written.get(key, 0) > _revision(cron) or not self._expectations.satisfied(key):
            return Result(LOOK_AGAIN_S)
        jobs = self._jobs.by_index(CONTROLLER_INDEX, cron.metadata.uid)
        jobs.sort(key=lambda job: job.metadata.name)
        if await self._is_behind(cron, jobs):
            return Result(LOOK_AGAIN_S)
        planned = plan(cron, jobs, self._clock.now())
        await self._executor.apply(planned.actions, on_done=self._note(cron))
        status = planned.status
        if planned.start is not None:
            job = await self._start(cron, planned.start)
            if job is not None:
                status = started(cron, planned, job)
        await self._executor.apply(write(cron, status), on_done=self._note_written(key))
        wait_s = planned.wait_s
        return Result(None if wait_s is None else min(wait_s, CLOCK_TRUSTED_S))

    async def _start(self, cron: CronJob, start: Create) -> Job | None:
        """Make the Job; the one that is there already, if it is ours. None: nobody's business here."""
        note, made = self._note(cron), list[Job]()

        def on_done(action: Action, answer: Any) -> None:
            made.append(answer)
            note(action, answer)

        try:
            await self._executor.apply([start], on_done=on_done)
        except AlreadyExists:
            key = ObjectKey(cron.metadata.namespace, start.document["metadata"]["name"])
            there = await self._client.get(JOBS, key)
            owner = controller_of(there.metadata)
            return there if owner is not None and owner.uid == cron.metadata.uid else None
        except StatusError as error:
            if isinstance(error, Forbidden) and is_namespace_terminating(error):
                return None
            text = f"Error creating job: {error.message}"
            self._executor.emit(emit(cron, "Warning", "FailedCreate", text))
            raise
        return made[0]

    async def _is_behind(self, cron: CronJob, jobs: Iterable[Job]) -> bool:
        """Whether the server still has a Job of `status.active` that the informer does not show."""
        shown = {job.metadata.uid for job in jobs}
        for ref in cron.status.active:
            if ref.uid in shown:
                continue
            try:
                live = await self._client.get(JOBS, ObjectKey(cron.metadata.namespace, ref.name))
            except NotFound:
                continue
            if live.metadata.uid == ref.uid:
                return True
        return False

    def _note(self, cron: CronJob) -> Any:
        """Expect what was done, and tell the user of it."""
        expect = self._expectations.note(cron.key)

        def on_done(action: Action, answer: Any) -> None:
            expect(action, answer)
            if isinstance(action, Create):
                text = f"Created job {answer.metadata.name}"
                self._executor.emit(emit(cron, "Normal", "SuccessfulCreate", text))
            elif isinstance(action, Delete):
                text = f"Deleted job {action.key.name}"
                self._executor.emit(emit(cron, "Normal", "SuccessfulDelete", text))

        return on_done

    def _note_written(self, key: ObjectKey) -> Any:
        def on_done(action: Action, answer: Any) -> None:
            self._written[key] = _revision(answer)

        return on_done


def _owner_uid(job: Job) -> tuple[str, ...]:
    owner = controller_of(job.metadata)
    return (owner.uid,) if owner is not None else ()


def _revision(item: Any) -> int:
    """Revisions of one server compare as integers."""
    text = item.metadata.resource_version
    return int(text) if text.isdecimal() else 0


def setup(manager: Manager) -> None:
    """Watch CronJobs and their Jobs."""
    executor = executor_for(manager, "cronjob-controller")
    builder = manager.controller("cronjob", CronJobReconciler(manager, executor))
    builder.watches(CRONJOBS).owns(JOBS, CRONJOBS)
