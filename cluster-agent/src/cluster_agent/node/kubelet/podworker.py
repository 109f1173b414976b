"""One pod's worker: look, plan, act, report, again until there is nothing to do.

States, of which only the first two are ever left:
    syncing     the pod runs or shall run
    ending      deleted, orphaned or past its deadline: everything stops with its grace
    released    containers have ended, volumes and cgroup are gone; a deleted pod is now removed from the API
    gone        the kubelet has dropped the worker

A worker has a task only while something is to be done; a resting pod costs no task and no timer. Changes of any kind
(spec, runtime, probe, object, clock) do nothing but `wake` it, so that a burst of them costs one pass. Steps of one pod
run one after another; stopping a container runs beside them, because it may take the whole grace and an impatient user
may shorten it.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from cluster_agent.node.cri.interface import (
    RuntimeContainer,
    RuntimeFault,
    RuntimePod,
)
from cluster_agent.node.kubelet import starter, status
from cluster_agent.node.kubelet.events import pod_subject
from cluster_agent.node.kubelet.hooks import HookFault
from cluster_agent.node.kubelet.plan import (
    CreateSandbox,
    Plan,
    Release,
    RemoveContainer,
    RemoveSandbox,
    StartContainer,
    Step,
    StopContainer,
    plan,
)
from cluster_agent.node.kubelet.resources import every_container, is_sidecar
from cluster_agent.node.kubelet.services import HandlerFault, Services
from cluster_agent.node.kubelet.starter import StepFault
from cluster_agent.node.kubelet.world import HEALTHY, Ending, Health, Wait, World
from machinery.api.core import Container, Pod
from machinery.api.fleet.resilience import GRANT_SECONDS
from machinery.kit.backoff import Backoff

log = logging.getLogger(__name__)

PULL_BACKOFF = Backoff(base_s=10, cap_s=300)
SETUP_BACKOFF = Backoff(base_s=0.5, cap_s=60)
UNAVAILABLE_RETRY_S = 1.0
STARTS = (CreateSandbox, StartContainer)
"""Steps that a pod without a grant does not take."""
PRE_STOP_EXTRA_S = 2.0


class Interrupted(Exception):
    """The pod began to end while it was still being set up."""


@dataclass(slots=True)
class _Stopping:
    task: "asyncio.Task[None]"
    grace_s: float


class PodWorker:
    """Keeps one pod (one uid) as wanted."""

    def __init__(self, services: Services, pod: Pod, done: Callable[[str], None]) -> None:
        """`done` hears of the end of a pod that the API has forgotten already."""
        self._s, self.pod, self._done = services, pod, done
        self.uid = pod.metadata.uid
        self.in_api = True
        self._told: set[tuple[str, str]] = set()
        self._waits: dict[str, Wait] = {}
        self._messages: dict[str, str] = {}
        self._stopping: dict[str, _Stopping] = {}
        self._tracked: set[str] = set()
        self._ending: Ending | None = None
        self._scope: asyncio.Timeout | None = None
        self._released = False
        self._prepared = False
        self._finished = False
        self._start_time = pod.status.start_time
        self._dirty, self._failures = False, 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._timer_at: dt.datetime | None = None
        self.observed = RuntimePod(self.uid)

    # ---------------------------------------------------------------------------------------------- being told
    def update(self, pod: Pod) -> None:
        """The pod as the API has it now."""
        before, self.pod = self.pod, pod
        if pod.deleting:
            grace = pod.metadata.deletion_grace_period_seconds
            self.end(30.0 if grace is None else float(grace), deleted=True)
        if _worth_a_look(before, pod):
            self.wake()
        if before.metadata.labels != pod.metadata.labels or (
            before.metadata.annotations != pod.metadata.annotations
        ):
            self.refresh()
            if GRANT_SECONDS in pod.metadata.annotations:
                self.wake()

    def orphan(self) -> None:
        """The API does not know the pod any more."""
        self.in_api = False
        grace = self.pod.spec.termination_grace_period_seconds
        self.end(30.0 if grace is None else float(grace), deleted=True)
        self.wake()

    def end(
        self, grace_s: float, *, deleted: bool, reason: str = "", message: str = "", phase: str = ""
    ) -> None:
        """The pod shall end. A later call may only shorten the grace, or turn an ended pod into a deleted one."""
        now = self._s.clock.now()
        before = self._ending
        if deleted and (before is None or not before.deleted):
            self._released = False
        if before is None:
            self._ending = Ending(now, grace_s, deleted, reason, message, phase)
        elif grace_s < before.grace_s or (deleted and not before.deleted):
            shorter = min(grace_s, before.grace_s)
            self._ending = replace(before, grace_s=shorter, deleted=deleted or before.deleted)
        else:
            return
        for stop_id, stopping in list(self._stopping.items()):
            if grace_s < stopping.grace_s:
                del self._stopping[stop_id]
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())
            self._scope = None
        self.wake()

    def wake(self) -> None:
        """Look again soon."""
        self._dirty = True
        if self._task is None and not self._s.tasks.closed:
            self._task = self._s.tasks.spawn(self._run(), f"pod {self.pod.key}")

    def refresh(self) -> None:
        """An object that the pod uses has changed: bring its volumes up to date."""
        if self._prepared and self._ending is None:
            _ = self._s.tasks.spawn(self._refresh(), f"refresh {self.pod.key}")
        elif not self._prepared:
            self._waits.pop("", None)
            self.wake()

    def retry(self) -> None:
        """Something a waiting container needs may be there now: do not wait for the back-off."""
        for name, wait in list(self._waits.items()):
            if wait.reason not in ("ErrImagePull", "ErrImageNeverPull"):
                del self._waits[name]
        self.refresh()
        self.wake()

    @property
    def ending(self) -> Ending | None:
        return self._ending

    def waiting_reason(self, name: str) -> str:
        """Why a container does not run, as the status says; empty when it runs or has ended for good."""
        container = _spec_of(self.pod, name)
        if container is None:
            return ""
        document = status.container_status(
            self._world(), container, self._s.clock.now(), self._s.runtime.name,
            init=starter.is_init(self.pod, name),
        )  # fmt: skip
        reason: str = document["state"].get("waiting", {}).get("reason", "")
        return reason

    @property
    def finished(self) -> bool:
        """Everything of the pod is gone from this machine."""
        return self._finished

    # -------------------------------------------------------------------------------------------------- the loop
    async def _run(self) -> None:
        failures = self._failures
        try:
            while self._dirty and not self._finished:
                self._dirty = False
                try:
                    await self._sync()
                    failures = 0
                except (RuntimeFault, OSError) as error:
                    failures += 1
                    extra = {"pod": str(self.pod.key), "uid": self.uid, "error": str(error)}
                    log.warning("pod pass failed", extra=extra)
                except Exception:  # noqa: BLE001 - one pod's fault must not stop the others, nor itself for ever
                    failures += 1
                    log.exception("pod pass died", extra={"pod": str(self.pod.key)})
                if failures:
                    pause = UNAVAILABLE_RETRY_S * min(failures, 30)
                    self._wake_at(self._s.clock.now() + dt.timedelta(seconds=pause))
                    return
        finally:
            self._task, self._failures = None, failures
        if self._dirty and not self._finished:
            self.wake()

    async def _sync(self) -> None:
        now = self._s.clock.now()
        if self._start_time is None:
            self._start_time = now
        self.observed = await self._s.runtime.observe(self.uid)
        self._check_deadline(now)
        held = self._check_grant(now)
        self._watch_health()
        world = self._world()
        todo = plan(world, now)
        if held:
            todo = Plan(tuple(s for s in todo.steps if not isinstance(s, STARTS)), todo.wake_at)
        self._forget_waits(world)
        self._report(world, todo, now)
        for step in todo.steps:
            await self._perform(step)
            if self._ending is not world.ending:
                break
        if any(not isinstance(step, StopContainer) for step in todo.steps):
            self._dirty = True
        if todo.wake_at is not None:
            self._wake_at(todo.wake_at)
        if self._released and self._ending is not None and self._ending.deleted:
            self._finish()

    def _world(self) -> World:
        health: dict[str, Health] = {}
        for record in self.observed.containers:
            if record.running:
                health[record.id] = self._health_of(record)
        return World(
            pod=self.pod,
            observed=self.observed,
            health=health,
            waits=self._waits,
            stopping=frozenset(self._stopping),
            ending=self._ending,
            released=self._released,
            start_time=self._start_time,
            messages=self._messages,
        )

    def _health_of(self, record: RuntimeContainer) -> Health:
        health = self._s.prober.health(record.id) or HEALTHY
        container = _spec_of(self.pod, record.name)
        wanted = record.annotations.get("io.kubernetes.container.hash")
        if container is not None and wanted and wanted != starter.image_hash(container):
            return replace(health, failed="definition")
        return health

    def _check_deadline(self, now: dt.datetime) -> None:
        deadline = self.pod.spec.active_deadline_seconds
        if deadline is None or self._ending is not None or self._start_time is None:
            return
        if self.pod.status.phase in ("Succeeded", "Failed"):
            return
        if (now - self._start_time).total_seconds() >= deadline:
            text = "Pod was active on the node longer than the specified deadline"
            self._s.events.emit(pod_subject(self.pod), "Normal", "DeadlineExceeded", text)
            grace = self.pod.spec.termination_grace_period_seconds
            self._ending = Ending(
                now,
                30.0 if grace is None else float(grace),
                False,
                "DeadlineExceeded",
                text,
                "Failed",
            )

    def _check_grant(self, now: dt.datetime) -> bool:
        """End what runs without a grant; True when nothing may be started."""
        left = self._s.grants.left_s(self.pod)
        if left is None or self._ending is not None:
            return False
        if left > 0:
            self._wake_at(now + dt.timedelta(seconds=left))
            return False
        if self.pod.status.phase in ("Succeeded", "Failed"):
            return True
        if any(not c.ended for c in self.observed.containers):
            text = (
                "The grant to run here has ended: the federation has not been heard of for too long"
            )
            self._s.events.emit(pod_subject(self.pod), "Warning", "GrantExpired", text)
            grace = self.pod.spec.termination_grace_period_seconds
            seconds = 30.0 if grace is None else float(grace)
            self._ending = Ending(now, seconds, False, "GrantExpired", text, "Failed")
            return False
        if self._tell("", "WaitingForGrant"):
            text = "Waits for a grant of the federation to run here"
            self._s.events.emit(pod_subject(self.pod), "Normal", "WaitingForGrant", text)
        return True

    def _watch_health(self) -> None:
        """Probe what runs, forget what does not, and read the last words of what has ended."""
        running: set[str] = set()
        ip = self._ip()
        for record in self.observed.containers:
            if record.running:
                running.add(record.id)
                container = _spec_of(self.pod, record.name)
                probed = container is not None and (
                    is_sidecar(container) or not starter.is_init(self.pod, record.name)
                )
                if probed and container is not None and self._ending is None:
                    self._s.prober.track(self.pod, container, record, ip)
            elif record.ended and record.id not in self._messages:
                self._messages[record.id] = self._last_words(record)
        for container_id in self._tracked - running:
            self._s.prober.untrack(container_id)
        self._tracked = running

    def _last_words(self, record: RuntimeContainer) -> str:
        container = _spec_of(self.pod, record.name)
        if container is None:
            return ""
        for hook in self._s.hooks:
            if text := hook.message(self.pod, container, record):
                return text
        return ""

    def _ip(self) -> str:
        sandbox = self.observed.sandbox
        if self.pod.spec.host_network or sandbox is None or not sandbox.ips:
            return self._s.host_ip
        return sandbox.ips[0]

    def _forget_waits(self, world: World) -> None:
        """A container that runs waits for nothing; the count of failed pulls is forgotten with it."""
        for name in list(self._waits):
            record = world.observed.latest(name) if name else None
            if record is not None and record.running:
                del self._waits[name]

    def _report(self, world: World, todo: Plan, now: dt.datetime) -> None:
        if self._s.quiet and todo.steps and world.ending is None and not self._waits:
            return
        if not self.in_api or self._finished:
            return
        over = world.ending is None and self.pod.status.phase in ("Succeeded", "Failed")
        if over and not world.observed.containers:
            return
        document = status.pod_status(
            world, now, runtime=self._s.runtime.name, host_ip=self._s.host_ip
        )
        self._emit_back_off(world, now)
        self._s.statuses.put(self.pod, document)

    def _emit_back_off(self, world: World, now: dt.datetime) -> None:
        """One event for each attempt that has to wait."""
        if world.ending is not None:
            return
        for container in every_container(self.pod.spec):
            record = world.observed.latest(container.name)
            wait = world.waits.get(container.name)
            subject = pod_subject(
                self.pod, container.name, init=starter.is_init(self.pod, container.name)
            )
            if wait is not None and wait.reason == "ErrImagePull":
                shown = wait.tried_at + dt.timedelta(seconds=status.ERROR_SHOWN_S)
                if wait.until > now >= shown and self._tell(container.name, str(wait.failures)):
                    text = f'Back-off pulling image "{container.image}"'
                    self._s.events.emit(subject, "Normal", "BackOff", text)
                    self._s.events.emit(subject, "Warning", "Failed", "Error: ImagePullBackOff")
            elif record is not None and record.ended and status.restart_at(record) > now:
                restarts = status.should_restart(world, container, record)
                if restarts and self._tell(container.name, record.id):
                    meta = self.pod.metadata
                    where = f"pod {meta.name}_{meta.namespace}({meta.uid})"
                    text = f"Back-off restarting failed container {container.name} in {where}"
                    self._s.events.emit(subject, "Warning", "BackOff", text)

    def _tell(self, name: str, what: str) -> bool:
        if (name, what) in self._told:
            return False
        self._told = {t for t in self._told if t[0] != name} | {(name, what)}
        return True

    def _finish(self) -> None:
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()
        if not self.in_api:
            self._done(self.uid)
            return
        world = self._world()
        now = self._s.clock.now()
        document = status.pod_status(
            world, now, runtime=self._s.runtime.name, host_ip=self._s.host_ip
        )
        self._s.statuses.finish(self.pod, document)

    # ------------------------------------------------------------------------------------------------- the clock
    def _wake_at(self, moment: dt.datetime) -> None:
        if self._timer is not None and not self._timer.done():
            if self._timer_at is not None and self._timer_at <= moment:
                return
            self._timer.cancel()
        self._timer_at = moment
        self._timer = self._s.tasks.spawn(self._ring(moment), f"timer {self.pod.key}")

    async def _ring(self, moment: dt.datetime) -> None:
        pause = (moment - self._s.clock.now()).total_seconds()
        await self._s.clock.sleep(max(pause, 0.0) + 0.005)
        self._timer, self._timer_at = None, None
        self.wake()

    # ------------------------------------------------------------------------------------------------- the steps
    async def _perform(self, step: Step) -> None:
        match step:
            case CreateSandbox():
                await self._guarded("", self._create_sandbox(step))
            case StartContainer():
                await self._guarded(step.name, self._start_container(step))
            case StopContainer():
                self._stop(step)
            case RemoveContainer():
                await self._s.runtime.remove_container(step.id)
                self._messages.pop(step.id, None)
            case RemoveSandbox():
                await self._s.runtime.remove_sandbox(step.id)
            case Release():
                await self._release(step)

    async def _guarded(self, name: str, work: Awaitable[None]) -> None:
        """Turn a failure into a wait that the planner respects and people see."""
        now = self._s.clock.now()
        before = self._waits.get(name)
        failures = before.failures + 1 if before is not None else 1
        try:
            await work
        except Interrupted:
            return
        except StepFault as error:
            pulling = error.reason in ("ErrImagePull", "PostStartHookError")
            pause = (PULL_BACKOFF if pulling else SETUP_BACKOFF).delay(failures)
            until = now + dt.timedelta(seconds=pause)
            self._waits[name] = Wait(
                error.reason, error.message, self._s.clock.now(), until, failures
            )
        else:
            self._waits.pop(name, None)

    async def _create_sandbox(self, step: CreateSandbox) -> None:
        if step.attempt > 0:
            text = "Pod sandbox changed, it will be killed and re-created."
            self._s.events.emit(pod_subject(self.pod), "Normal", "SandboxChanged", text)
            for old in self.observed.sandboxes:
                await self._s.runtime.stop_sandbox(old.id)
        await self._interruptible(self._prepare())
        await starter.create_sandbox(self._s, self.pod, step.attempt)

    async def _start_container(self, step: StartContainer) -> None:
        if not self._prepared:
            await self._interruptible(self._prepare())
        container = starter.find(self.pod, step.name)
        if not step.existing:
            await self._interruptible(starter.ensure_image(self._s, self.pod, container))
        await starter.start_container(self._s, self.pod, step, self.observed)

    async def _prepare(self) -> None:
        for hook in self._s.hooks:
            try:
                await hook.prepare(self.pod)
            except HookFault as error:
                self._s.events.emit(pod_subject(self.pod), "Warning", error.reason, error.message)
                raise StepFault("ContainerCreating", "") from error
        self._prepared = True

    async def _interruptible(self, work: Awaitable[None]) -> None:
        """Wait for `work`, or give it up as soon as the pod shall end."""
        if self._ending is not None:
            close_unawaited(work)
            raise Interrupted
        if self._s.quiet:
            await work
            return
        scope = self._scope = asyncio.timeout(None)
        try:
            async with scope:
                await work
        except TimeoutError:
            if not scope.expired():
                raise
            raise Interrupted from None
        finally:
            self._scope = None

    def _stop(self, step: StopContainer) -> None:
        if step.reason in ("liveness", "startup"):
            text = f"Container {step.name} failed {step.reason} probe, will be restarted"
        elif step.reason == "definition":
            text = f"Container {step.name} definition changed, will be restarted"
        else:
            text = f"Stopping container {step.name}"
        subject = pod_subject(self.pod, step.name, init=starter.is_init(self.pod, step.name))
        self._s.events.emit(subject, "Normal", "Killing", text)
        task = self._s.tasks.spawn(self._stop_now(step), f"stop {self.pod.key}/{step.name}")
        self._stopping[step.id] = _Stopping(task, step.grace_s)

    async def _stop_now(self, step: StopContainer) -> None:
        clock = self._s.clock
        started = clock.monotonic()
        grace = step.grace_s
        try:
            if grace > 0 and step.reason != "unknown":
                await self._pre_stop(step)
                left = grace - (clock.monotonic() - started)
                grace = max(left, PRE_STOP_EXTRA_S if left < grace else left)
            await self._s.runtime.stop_container(step.id, grace)
        except RuntimeFault as error:
            extra = {"pod": str(self.pod.key), "container": step.name, "error": str(error)}
            log.warning("container not stopped", extra=extra)
            await clock.sleep(UNAVAILABLE_RETRY_S)
        finally:
            known = self._stopping.get(step.id)
            if known is not None and known.task is asyncio.current_task():
                del self._stopping[step.id]
            self.wake()

    async def _pre_stop(self, step: StopContainer) -> None:
        container = _spec_of(self.pod, step.name)
        if container is None or container.lifecycle.pre_stop is None:
            return
        work = self._s.handlers.pre_stop(self.pod, container, step.id, self._ip())
        try:
            async with asyncio.timeout(step.grace_s):
                await work
        except TimeoutError:
            log.info("preStop used up the grace", extra={"pod": str(self.pod.key)})
        except HandlerFault as error:
            subject = pod_subject(self.pod, step.name)
            self._s.events.emit(subject, "Warning", "FailedPreStopHook", str(error))

    async def _release(self, step: Release) -> None:
        runtime = self._s.runtime
        for sandbox in self.observed.sandboxes:
            await runtime.stop_sandbox(sandbox.id)
        self.observed = await runtime.observe(self.uid)
        for record in self.observed.containers:
            if record.ended and record.id not in self._messages:
                self._messages[record.id] = self._last_words(record)
        for container_id in self._tracked:
            self._s.prober.untrack(container_id)
        last = self.observed
        if step.forget:
            for record in last.containers:
                await runtime.remove_container(record.id)
            for sandbox in last.sandboxes:
                await runtime.remove_sandbox(sandbox.id)
        for hook in reversed(self._s.hooks):
            await hook.release(self.pod, forget=step.forget)
        self._released = True

    async def _refresh(self) -> None:
        for hook in self._s.hooks:
            try:
                await hook.update(self.pod)
            except HookFault as error:
                self._s.events.emit(pod_subject(self.pod), "Warning", error.reason, error.message)


def _spec_of(pod: Pod, name: str) -> Container | None:
    return next((c for c in every_container(pod.spec) if c.name == name), None)


def close_unawaited(work: Awaitable[None]) -> None:
    """Drop a coroutine that will not be awaited after all."""
    if asyncio.iscoroutine(work):
        work.close()


def _worth_a_look(before: Pod, after: Pod) -> bool:
    """Our own status writes come back as events; they tell us nothing new. A generation saves comparing specs."""
    if after.spec.readiness_gates and before.status.conditions != after.status.conditions:
        return True
    if before.deleting != after.deleting:
        return True
    generation = after.metadata.generation
    if generation:
        return before.metadata.generation != generation
    return before.spec != after.spec
