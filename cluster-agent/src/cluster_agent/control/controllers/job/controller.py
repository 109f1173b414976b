"""Job controller, the acting half.

What is written of a Job decides what is done next, so a pass works only from a copy that shows the last write, and from pods that
show what was done to them; where the informers are behind, the next event brings the next pass. Ends of pods are gathered for a
second, so that a Job of many short pods is not looked at for each.
"""

import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from cluster_agent.control.controllers import claims
from cluster_agent.control.controllers.api_errors import is_namespace_terminating
from cluster_agent.control.controllers.batch import JOBS, Job
from cluster_agent.control.controllers.job.backoff import Record
from cluster_agent.control.controllers.job.judge import completed, deadline_in, judge
from cluster_agent.control.controllers.job.plan import Order, freeing, idle, plan, removal
from cluster_agent.control.controllers.job.podmaking import owner_of
from cluster_agent.control.controllers.job.sight import TRACKING, Sight, is_tracked, look
from cluster_agent.control.controllers.job.status import Tally, emit, tally, write
from cluster_agent.control.controllers.ownership import concerned, still_lives
from cluster_agent.control.controllers.pods import (
    CONTROLLER_INDEX,
    ORPHANS,
    controller_index,
)
from machinery.api.core import PODS, Pod
from machinery.client.interface import ListOptions, PatchType
from machinery.controller.action import Action, Create, Delete, Patch, Result
from machinery.controller.executor import OnDone
from machinery.controller.expectations import Expectations
from machinery.controller.manager import Manager, owner_keys
from machinery.controllers.events import SpeakingExecutor, executor_for
from machinery.meta.errors import Forbidden, NotFound, StatusError
from machinery.meta.objectmeta import Condition, controller_of
from machinery.meta.resource import ObjectKey

CONTROLLER_NAME = "kubernetes.io/job-controller"
"""What `managedBy` says of a Job that is ours."""
GATHER_S = 1.0
"""Events of pods are gathered so long."""
GONE = sys.maxsize
"""The revision of a pod that is no more: later than any that an informer shows."""
LOOK_AGAIN_S = 5.0
"""Where an informer is behind, and should its event be lost."""


def is_ours(job: Job) -> bool:
    return job.spec.managed_by in (None, CONTROLLER_NAME)


class JobReconciler:
    """Read, judge, plan, act, write."""

    def __init__(self, manager: Manager, executor: SpeakingExecutor) -> None:
        self._client, self._clock, self._executor = manager.client, manager.clock, executor
        self._jobs = manager.informer(JOBS)
        self._pods = manager.informer(PODS)
        self._pods.add_index(CONTROLLER_INDEX, controller_index)
        self._expectations = Expectations(self._pods, manager.clock)
        self._records: dict[ObjectKey, tuple[str, Record]] = {}
        """Failures to wait for, with the uid of the Job."""
        self._written: dict[ObjectKey, int] = {}
        """The revision of the last status written."""
        self._freed: dict[str, int] = {}
        """Pods that have lost the finalizer, by uid, with the revision that shows it."""

    async def reconcile(self, key: ObjectKey) -> Result:
        job = self._jobs.get(key)
        if job is None or not is_ours(job):
            self._forget(key)
            return Result()
        if job.finished:
            self._forget(key)
            await self._executor.apply(freeing(self._owned(job)), on_done=self._note_freed)
            return Result()
        if not await self._is_up_to_date(job):
            return Result(LOOK_AGAIN_S)
        return await self._sync(job)

    async def _is_up_to_date(self, job: Job) -> bool:
        """Whether the informers show all that was done for the Job, by us or by who led before us."""
        key = job.key
        if self._written.get(key, 0) > _revision(job):
            return False
        uid, _ = self._records.get(key, ("", None))
        if uid != job.metadata.uid and job.status.start_time is not None:
            await self._meet(job)
            if self._written.get(key, 0) > _revision(job):
                return False
        return self._expectations.satisfied(key)

    async def _meet(self, job: Job) -> None:
        """A Job that somebody else has begun: learn from the server what our informers must show before we count and make pods."""
        live = await self._client.get(JOBS, job.key)
        self._written[job.key] = _revision(live)
        uid, labels = job.metadata.uid, job.spec.selector.match_labels
        options = ListOptions(label_selector=",".join(f"{k}={v}" for k, v in labels.items()))
        pods = {
            pod.metadata.uid: pod
            for pod in (await self._client.list(PODS, job.metadata.namespace, options)).items
            if (owner := controller_of(pod.metadata)) is not None and owner.uid == uid
        }
        for pod in pods.values():
            self._expectations.created(job.key, pod)
            self._note_freed_pod(pod)
        for pod in self._pods.by_index(CONTROLLER_INDEX, uid):
            if pod.metadata.uid not in pods:
                self._freed[pod.metadata.uid] = GONE

    async def _sync(self, job: Job) -> Result:
        pods = await self._claimed(job)
        sight, now = look(job, pods), self._clock.now()
        record = self._record(job, sight)
        decided = judge(sight, now)
        order, after, error = idle(sight), Order(0, 0, 0), None
        acted = decided is None and not job.deleting
        if acted:
            order, error = await self._manage(sight, plan(sight, record, now))
            decided = _complete(sight, order, now=self._clock.now())
        elif decided is not None:
            order = after = removal(sight, sight.active)
        fresh = tally(sight, decided, order, self._clock.now(), acted=acted)
        await self._write(job, fresh, after.actions)
        self._records[job.key] = (job.metadata.uid, record)
        if error is not None:
            raise error
        waits = [order.wait_s]
        if decided is None:
            waits.append(deadline_in(_with_status(job, fresh), self._clock.now()))
        return Result(min((wait for wait in waits if wait is not None), default=None))

    async def _write(self, job: Job, fresh: Tally, after: Sequence[Action]) -> None:
        """The status first; only then may anything happen that it has counted."""
        applied = await self._executor.apply(
            write(job, fresh.status), on_done=lambda _, answer: self._note_written(job, answer)
        )
        if applied.applied:
            for event in fresh.told:
                self._executor.emit(event)
        await self._executor.apply(after, on_done=self._note_managed(job))
        await self._executor.apply(freeing(fresh.counted), on_done=self._note_freed)

    async def _manage(self, sight: Sight, order: Order) -> tuple[Order, StatusError | None]:
        """Make or delete pods: how it came out, and the first error, unless the namespace is on its way out."""
        job, made = sight.job, 0
        note = self._note_managed(job)

        def on_done(action: Action, answer: Any) -> None:
            nonlocal made
            made += isinstance(action, Create)
            note(action, answer)

        try:
            await self._executor.apply(order.actions, on_done=on_done)
        except StatusError as error:
            if not order.makes:
                raise
            came = order.without(order.makes - made)
            if isinstance(error, Forbidden) and is_namespace_terminating(error):
                return came, None
            text = f"Error creating: {error.message}"
            self._executor.emit(emit(job, "Warning", "FailedCreate", text))
            return came, error
        return order, None

    # ------------------------------------------------------------------------------------------------ memory
    def _record(self, job: Job, sight: Sight) -> Record:
        """The failures so far. In the first pass of this process they are read from all pods that are still there."""
        uid, known = self._records.get(job.key, ("", Record()))
        if uid == job.metadata.uid:
            return known.seen(sight.new_succeeded, sight.new_failed)
        ended = [pod for pod in sight.pods if not is_tracked(pod)]
        return Record().seen(
            [*sight.new_succeeded, *(p for p in ended if p.status.phase == "Succeeded")],
            [*sight.new_failed, *(p for p in ended if p.status.phase == "Failed")],
        )

    def _forget(self, key: ObjectKey) -> None:
        self._expectations.forget(key)
        self._records.pop(key, None)
        self._written.pop(key, None)

    def forget_pod(self, pod: Pod) -> None:
        """The pod is gone."""
        self._freed.pop(pod.metadata.uid, None)

    def _note_written(self, job: Job, answer: Any) -> None:
        self._written[job.key] = _revision(answer)

    def _note_freed(self, action: Action, answer: Any) -> None:
        if isinstance(action, Patch) and isinstance(answer, Pod):
            self._note_freed_pod(answer)

    def _note_freed_pod(self, pod: Pod) -> None:
        if not is_tracked(pod):
            self._freed[pod.metadata.uid] = _revision(pod)

    def _note_managed(self, job: Job) -> OnDone:
        """Expect what was done, and tell the user of it."""
        expect, emit_now = self._expectations.note(job.key), self._executor.emit

        def on_done(action: Action, answer: Any) -> None:
            expect(action, answer)
            self._note_freed(action, answer)
            if isinstance(action, Create):
                text = f"Created pod: {answer.metadata.name}"
                emit_now(emit(job, "Normal", "SuccessfulCreate", text))
            elif isinstance(action, Delete):
                text = f"Deleted pod: {action.key.name}"
                emit_now(emit(job, "Normal", "SuccessfulDelete", text))

        return on_done

    # -------------------------------------------------------------------------------------------------- pods
    def _owned(self, job: Job) -> list[Pod]:
        """The Job's pods as we left them: one whose finalizer we have taken has none, whatever the informer still shows."""
        owned = []
        for pod in self._pods.by_index(CONTROLLER_INDEX, job.metadata.uid):
            freed = self._freed.get(pod.metadata.uid)
            if freed is not None and freed > _revision(pod):
                left = tuple(f for f in pod.metadata.finalizers if f != TRACKING)
                metadata = msgspec.structs.replace(pod.metadata, finalizers=left)
                pod = msgspec.structs.replace(pod, metadata=metadata)
            owned.append(pod)
        return owned

    async def _claimed(self, job: Job) -> list[Pod]:
        """The pods that are the Job's, after it has adopted and let go what it should."""
        orphans = self._pods.by_index(CONTROLLER_INDEX, ORPHANS + job.metadata.namespace)
        found = claims.claim(job, job.spec.selector, [*self._owned(job), *orphans])
        await self._executor.apply(_release(job, pod) for pod in found.released)
        owned = list(found.owned)
        if found.adoptable and await still_lives(self._client, JOBS, job):
            for pod in found.adoptable:
                await self._executor.apply([_adopt(job, pod)])
                owned.append(_tracked(pod))
        return owned


class OrphanReconciler:
    """Takes the finalizer off pods that no Job will ever count: the Job is gone, or has let go of them."""

    def __init__(self, manager: Manager, executor: SpeakingExecutor) -> None:
        self._client, self._executor = manager.client, executor
        self._pods = manager.informer(PODS)

    async def reconcile(self, key: ObjectKey) -> Result:
        pod = self._pods.get(key)
        if pod is None or not is_tracked(pod) or await self._is_counted_on(pod):
            return Result()
        try:
            return await self._executor.apply(freeing([pod]))
        except NotFound:
            return Result()

    async def _is_counted_on(self, pod: Pod) -> bool:
        """Whether somebody looks after the pod: a living Job, or a controller of another kind. Asked of the server."""
        owner = controller_of(pod.metadata)
        if owner is None:
            return False
        keys = owner_keys(pod, JOBS)
        if not keys:
            return True
        try:
            job = await self._client.get(JOBS, keys[0])
        except NotFound:
            return False
        return job.metadata.uid == owner.uid


def _complete(sight: Sight, order: Order, *, now: Any) -> Condition | None:
    """Without completions one success is enough, when nobody works any more."""
    wanted = sight.job.spec.completions
    enough = sight.succeeded > 0 if wanted is None else sight.succeeded >= wanted
    return completed(now) if enough and order.active == 0 else None


def _with_status(job: Job, fresh: Tally) -> Job:
    return msgspec.structs.replace(job, status=fresh.status)


def _revision(item: Any) -> int:
    """Revisions of one server compare as integers."""
    text = item.metadata.resource_version
    return int(text) if text.isdecimal() else 0


def _tracked(pod: Pod) -> Pod:
    """An adopted pod as it is written now."""
    finalizers = tuple(dict.fromkeys((*pod.metadata.finalizers, TRACKING)))
    metadata = msgspec.structs.replace(pod.metadata, finalizers=finalizers)
    return msgspec.structs.replace(pod, metadata=metadata)


def _adopt(job: Job, pod: Pod) -> Action:
    patch = {"metadata": {"ownerReferences": [owner_of(job)], "finalizers": [TRACKING]}}
    return Patch(PODS, pod.key, patch, PatchType.STRATEGIC, uid=pod.metadata.uid)


def _release(job: Job, pod: Pod) -> Action:
    reference = {"$patch": "delete", "uid": job.metadata.uid}
    patch = {
        "metadata": {
            "ownerReferences": [reference],
            "$deleteFromPrimitiveList/finalizers": [TRACKING],
        }
    }
    return Patch(PODS, pod.key, patch, PatchType.STRATEGIC, uid=pod.metadata.uid)


def setup(manager: Manager) -> None:
    """Watch Jobs and pods: a pod concerns its Job, an orphan every Job that would take it."""
    executor = executor_for(manager, "job-controller")
    reconciler = JobReconciler(manager, executor)
    jobs, pods = manager.informer(JOBS), manager.informer(PODS)
    queue = manager.controller("job", reconciler).queue
    orphans = manager.controller("job-orphans", OrphanReconciler(manager, executor)).queue

    def on_job(old: Job | None, new: Job | None) -> None:
        seen = new or old
        assert seen is not None
        queue.add(seen.key)
        if new is None:
            for pod in pods.by_index(CONTROLLER_INDEX, seen.metadata.uid):
                orphans.add(pod.key)

    def on_pod(old: Pod | None, new: Pod | None) -> None:
        freed = old is not None and is_tracked(old) and (new is None or not is_tracked(new))
        for pod in (old, new):
            for key in concerned(jobs, pod) if pod is not None else ():
                queue.add_after(key, 0.0 if freed else GATHER_S)
        if new is None:
            assert old is not None
            reconciler.forget_pod(old)
        elif is_tracked(new) and not any(jobs.get(key) for key in owner_keys(new, JOBS)):
            orphans.add(new.key)

    jobs.on_change(on_job)
    pods.on_change(on_pod)
