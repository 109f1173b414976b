"""Starts a program's controllers in order, keeps them going, and stops them in the reverse order.

    informers synced  →  (leadership, if asked for)  →  controllers  →  runnables

A controller is a queue of keys, the informers that fill it and a few workers that empty it through
`Reconciler.reconcile(key)`. A key is reconciled by one worker at a time. An error puts its key back with a growing
pause, a `TerminalError` does not, and neither touches any other key. Informers are shared: two controllers that watch
Pods the same way hold one copy.

`run_once` is the same work as one pass: list, drain every queue, write the Events. Drills and tests use it.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from machinery.client.informer import Handler, Informer
from machinery.client.interface import Client
from machinery.client.leaderelection import LeaderElector
from machinery.client.objects import controller_reference, key_of
from machinery.client.workqueue import ShutDown, WorkQueue
from machinery.controller.action import Result, TerminalError
from machinery.controller.executor import Executor
from machinery.controller.recorder import EventRecorder
from machinery.kit.backoff import Backoff
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.kit.logcontext import bind
from machinery.kit.metrics import METRICS
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import Conflict, NotFound
from machinery.meta.resource import ObjectKey, Resource, split_api_version

log = logging.getLogger(__name__)
T = TypeVar("T")
Worth: TypeAlias = Callable[[T | None, T | None], bool]

WORKERS = 4
RUN_ONCE_PASSES_MAX = 100
RUNNABLE_BACKOFF = Backoff(base_s=1.0, cap_s=60.0, jitter=0.2)
RUNNABLE_HEALTHY_S = 60.0
"""A runnable that lived this long starts counting its failures anew."""

_SECONDS = (0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0)
RECONCILES = METRICS.counter(
    "controller_runtime_reconcile_total", "Reconciles.", ["controller", "result"]
)
RECONCILE_SECONDS = METRICS.histogram(
    "controller_runtime_reconcile_time_seconds", "Time.", ["controller"], buckets=_SECONDS
)
OUTCOMES = ("success", "requeue_after", "conflict", "error", "terminal")
ACTIVE = METRICS.gauge("controller_runtime_active_workers", "Workers at work.", ["controller"])


class Reconciler(Protocol):
    """Makes the world of one key what it should be, from what it finds, not from what happened."""

    async def reconcile(self, key: ObjectKey) -> Result: ...


class ControllerBuilder:
    """One controller, and the fluent way to say what it watches."""

    def __init__(
        self,
        manager: "Manager",
        name: str,
        reconciler: Reconciler,
        workers: int,
        queue: WorkQueue[ObjectKey],
    ) -> None:
        self.name, self.queue = name, queue
        self._manager, self._reconciler, self._workers = manager, reconciler, workers
        self._active, self._seconds = ACTIVE.labels(name), RECONCILE_SECONDS.labels(name)
        self._outcomes = {outcome: RECONCILES.labels(name, outcome) for outcome in OUTCOMES}

    # ------------------------------------------------------------------------------------------------ watching
    def watches(
        self,
        resource: Resource[T],
        keys: Callable[[T], Iterable[ObjectKey]] | None = None,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        when: Worth[T] | None = None,
        later: Callable[[ObjectKey], float] | None = None,
    ) -> "ControllerBuilder":
        """Reconcile `keys(object)` whenever an object changes; without `keys`, the object's own key.

        Of a change both the old and the new object are asked, so whoever lost a child hears of it too. `when` says of
        (old, new), None where there is none, whether the change is worth a look at once; of what is not, one look is taken
        `later(key)` seconds after the first, or none.
        """
        informer = self._manager.informer(
            resource,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
        )
        return self.watches_informer(informer, keys, when=when, later=later)

    def watches_informer(
        self,
        informer: Informer[T],
        keys: Callable[[T], Iterable[ObjectKey]] | None = None,
        *,
        when: Worth[T] | None = None,
        later: Callable[[ObjectKey], float] | None = None,
    ) -> "ControllerBuilder":
        """As `watches`, of an informer that may belong to another client; its owner runs it."""
        queue = self.queue
        now = _adds(queue.add, keys)
        if when is None:
            informer.on_change(now)
            return self
        rest: Handler[T] | None = None
        if (pause := later) is not None:
            rest = _adds(lambda key: queue.add_within(key, pause(key)), keys)
        informer.on_change(_sorted(when, now, rest))
        return self

    def owns(self, child: Resource[Any], owner: Resource[Any]) -> "ControllerBuilder":
        """Reconcile the owner, by controller owner reference, whenever a child changes."""
        return self.watches(child, lambda item: owner_keys(item, owner))

    # ------------------------------------------------------------------------------------------------- running
    def enqueue(self, key: ObjectKey) -> None:
        """Have `key` reconciled, for a reason that no informer shows."""
        self.queue.add(key)

    def run(self, owner: TaskOwner) -> None:
        """Start the workers."""
        for index in range(self._workers):
            _ = owner.spawn(self._work(), f"{self.name}-{index}")

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except ShutDown:
                return
            await self._process(key)
            await asyncio.sleep(0)

    async def drain(self) -> int:
        """Reconcile every key that waits now or comes up meanwhile; how many reconciles it took."""
        count = 0
        while (key := self.queue.get_nowait()) is not None:
            await self._process(key)
            count += 1
        return count

    async def _process(self, key: ObjectKey) -> None:
        reconcile_id = self._manager.ids.suffix(8)
        self._active.inc()
        started = self._manager.clock.monotonic()
        try:
            with bind(controller=self.name, key=str(key), reconcile_id=reconcile_id):
                outcome = await self._reconcile(key)
        finally:
            self.queue.done(key)
            self._active.dec()
        self._outcomes[outcome].inc()
        self._seconds.observe(self._manager.clock.monotonic() - started)

    async def _reconcile(self, key: ObjectKey) -> str:
        extra: dict[str, Any] = {"failures": self.queue.failures(key) + 1}
        try:
            result = await self._reconciler.reconcile(key)
        except TerminalError as error:
            log.error("reconcile failed for good", extra={"error": str(error)})
            self.queue.forget(key)
            return "terminal"
        except (Conflict, NotFound) as error:
            log.info("reconcile raced, trying again", extra={**extra, "error": str(error)})
            self.queue.add_rate_limited(key)
            return "conflict"
        except Exception:  # noqa: BLE001 - the supervisor of reconciles: one key's fault stays with that key
            log.exception("reconcile failed", extra=extra)
            self.queue.add_rate_limited(key)
            return "error"
        self.queue.forget(key)
        if result.requeue_after is not None:
            self.queue.add_after(key, result.requeue_after)
            return "requeue_after"
        return "success"


def _adds(
    add: Callable[[ObjectKey], None], keys: Callable[[T], Iterable[ObjectKey]] | None
) -> Handler[T]:
    """Adds the keys of what an informer tells."""
    if keys is None:

        def own(old: T | None, new: T | None) -> None:
            add(key_of(old if new is None else new))

        return own

    def asked(old: T | None, new: T | None) -> None:
        if old is not None:
            for key in keys(old):
                add(key)
        if new is not None:
            for key in keys(new):
                add(key)

    return asked


def _sorted(when: Worth[T], now: Handler[T], rest: Handler[T] | None) -> Handler[T]:
    """`now` hears of the changes that are worth a look at once, `rest` of the others."""

    def heard(old: T | None, new: T | None) -> None:
        if when(old, new):
            now(old, new)
        elif rest is not None:
            rest(old, new)

    return heard


class Manager:
    """The composition of one program's controllers over one client."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        ids: Ids,
        *,
        component: str,
        host: str = "",
        elector: LeaderElector | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """With `elector`, controllers and runnables run only while leading; `on_lost`: this manager is at its end."""
        self.client, self.clock, self.ids, self.component = client, clock, ids, component
        self.roll = random.Random(ids.uid()).random
        self.recorder = EventRecorder(client, clock, ids, component=component, host=host)
        self.executor = Executor(client, self.recorder)
        self._elector, self._on_lost = elector, on_lost
        self._informers: dict[tuple[Any, ...], Informer[Any]] = {}
        self._informer_runs: dict[tuple[Any, ...], asyncio.Task[None]] = {}
        self._controllers: list[ControllerBuilder] = []
        self._runnables: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._informer_tasks = TaskOwner()
        self._recorder_tasks = TaskOwner()
        self._worker_tasks = TaskOwner()
        self._runnable_tasks = TaskOwner()
        self._election_tasks = TaskOwner()
        self._started = self._leading = False

    # ----------------------------------------------------------------------------------------------- wiring up
    def informer(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Informer[T]:
        """The shared informer; one asked for after `start` starts at once."""
        identity = (resource.gvk, resource.view, namespace, label_selector, field_selector)
        if (known := self._informers.get(identity)) is not None:
            return known
        informer = Informer(
            self.client,
            resource,
            self.clock,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            roll=self.roll,
        )
        self._informers[identity] = informer
        if self._started:
            self._run_informer(identity)
        return informer

    def _run_informer(self, identity: tuple[Any, ...]) -> None:
        informer = self._informers[identity]
        self._informer_runs[identity] = self._informer_tasks.spawn(
            informer.run(), f"informer-{informer.resource}"
        )

    def forget_informer(self, resource: Resource[Any]) -> None:
        """Stop the informers of a resource that is served no more; whoever holds one keeps what it last knew."""
        for identity in [key for key in self._informers if key[0] == resource.gvk]:
            del self._informers[identity]
            if (task := self._informer_runs.pop(identity, None)) is not None:
                task.cancel()

    def controller(
        self, name: str, reconciler: Reconciler, *, workers: int = WORKERS
    ) -> ControllerBuilder:
        """A controller; say what it watches on what is returned."""
        assert workers > 0, "a controller without workers does nothing"
        queue: WorkQueue[ObjectKey] = WorkQueue(self.clock, name=name, roll=self.roll)
        builder = ControllerBuilder(self, name, reconciler, workers, queue)
        self._controllers.append(builder)
        if self._leading:
            builder.run(self._worker_tasks)
        return builder

    def withdraw(self, builder: ControllerBuilder) -> None:
        """End a controller whose kind is served no more: keys that wait are dropped, one being worked on is finished."""
        self._controllers.remove(builder)
        if not self._runnable_tasks.closed:
            _ = self._runnable_tasks.spawn(builder.queue.close(), f"{builder.name}-end")

    def runnable(self, name: str, fn: Callable[[], Awaitable[None]]) -> None:
        """Something else that runs while the controllers do; restarted with back-off when it fails."""
        self._runnables.append((name, fn))
        if self._leading:
            _ = self._runnable_tasks.spawn(self._keep_running(name, fn), name)

    # ------------------------------------------------------------------------------------------------- running
    @property
    def synced(self) -> bool:
        """Whether every informer has its first list."""
        return all(informer.synced for informer in self._informers.values())

    @property
    def controllers(self) -> Sequence[ControllerBuilder]:
        """Every controller that was set up."""
        return self._controllers

    @property
    def leading(self) -> bool:
        """Whether controllers run."""
        return self._leading

    @property
    def superseded(self) -> bool:
        """Whether another was seen to lead."""
        return self._elector is not None and self._elector.superseded

    async def start(self) -> None:
        """Return once the informers are synced and, without an elector, everything runs."""
        assert not self._started, "a manager starts once"
        self._started = True
        for identity in list(self._informers):
            self._run_informer(identity)
        for informer in list(self._informers.values()):
            await informer.wait_synced()
        if self._elector is None:
            self._lead()
        else:
            _ = self._election_tasks.spawn(self._elect(self._elector), "leader-election")

    async def _elect(self, elector: LeaderElector) -> None:
        await elector.run(self._lead)
        log.error("leadership lost", extra={"component": self.component})
        try:
            await self._stop_leading()
        finally:
            if self._on_lost is not None:
                self._on_lost()

    def _lead(self) -> None:
        self._leading = True
        log.info("controllers started", extra={"component": self.component})
        _ = self._recorder_tasks.spawn(self.recorder.run(), "event-recorder")
        for controller in self._controllers:
            controller.run(self._worker_tasks)
        for name, fn in self._runnables:
            _ = self._runnable_tasks.spawn(self._keep_running(name, fn), name)

    async def _keep_running(self, name: str, fn: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            started = self.clock.monotonic()
            try:
                await fn()
                return
            except Exception:  # noqa: BLE001 - the supervisor of runnables
                log.exception("runnable failed, starting it again", extra={"runnable": name})
            lived = self.clock.monotonic() - started
            failures = 1 if lived > RUNNABLE_HEALTHY_S else failures + 1
            await self.clock.sleep(RUNNABLE_BACKOFF.delay(failures, self.roll))

    async def stop(self, *, flush: bool = True) -> None:
        """The reverse of `start`: runnables, controllers, Events, leadership, informers.

        Without `flush` Events that wait are lost, as when a process is killed.
        """
        await self._election_tasks.close()
        await self._stop_leading(flush=flush)
        if self._elector is not None:
            await self._elector.release()
        await self._informer_tasks.close()

    async def _stop_leading(self, *, flush: bool = True) -> None:
        was_leading, self._leading = self._leading, False
        await self._runnable_tasks.close()
        for controller in self._controllers:
            await controller.queue.close()
        await self._worker_tasks.close()
        await self._recorder_tasks.close()
        if was_leading and flush:
            await self.recorder.flush()

    async def run_once(self) -> int:
        """List everything, reconcile until nothing waits, write the Events; how many reconciles it took.

        Delayed keys stay delayed. A plan that never comes to rest is cut off after `RUN_ONCE_PASSES_MAX` passes.
        """
        total = 0
        for _ in range(RUN_ONCE_PASSES_MAX):
            informers = len(self._informers)
            for informer in list(self._informers.values()):
                await informer.list_once()
            count = 0
            for controller in self._controllers:
                count += await controller.drain()
            total += count
            if not count and len(self._informers) == informers:
                break
        else:
            log.error("run_once did not come to rest", extra={"reconciles": total})
        await self.recorder.flush()
        return total


def owner_keys(item: Any, owner: Resource[Any]) -> list[ObjectKey]:
    """The key of the controller that owns `item`, if it is of kind `owner` (whatever version is written there)."""
    reference = controller_reference(item)
    if reference is None or reference.kind != owner.kind:
        return []
    if split_api_version(reference.api_version)[0] != owner.group:
        return []
    return [ObjectKey(key_of(item).namespace if owner.namespaced else "", reference.name)]
