"""What to do next for one pod: a function of the pod as wanted, as found, and the clock. Pure.

The plan is level-triggered: it is asked again after every step and every change, and it starts from what the runtime
shows, so that it does not matter where a previous run was interrupted. Two rules keep running containers safe:
a container that runs is only ever stopped by an ending pod, a failed probe or a changed image, and a sandbox is only
made when there is no ready one.

    no ready sandbox      -> CreateSandbox
    initialising          -> Start of the next init container, one at a time; sidecars must have started
    running               -> Start of what is missing or has ended and may restart; Stop of what failed its probe
    ready sandbox         -> Start of ephemeral containers that never ran, whatever the others do
    all ended for good    -> Stop of sidecars, Release
    ending                -> Stop of containers, then of sidecars in reverse order, Release, Forget (deleted pods)
"""

import datetime as dt
from dataclasses import dataclass
from typing import TypeAlias

from cluster_agent.node.cri.interface import ContainerPhase, RuntimeContainer, Sandbox
from cluster_agent.node.kubelet import status
from cluster_agent.node.kubelet.resources import is_sidecar
from cluster_agent.node.kubelet.world import World
from machinery.api.core import Container, EphemeralContainer

GRACE_DEFAULT_S = 30.0
GRACE_AFTER_MAIN_S = 2.0
"""Sidecars get at least this much after the main containers used up the pod's grace."""


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    attempt: int


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Pull if need be, create, start, postStart. With `existing` the created container only has to be started."""

    name: str
    attempt: int
    failures: int = 0
    existing: str = ""


@dataclass(frozen=True, slots=True)
class StopContainer:
    """preStop, SIGTERM, after the grace SIGKILL."""

    id: str
    name: str
    grace_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Drop a dead attempt that nobody needs any more; the newest two stay, for `logs --previous`."""

    id: str


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    """Drop a dead sandbox whose containers are all gone or ended, after its successor came up."""

    id: str


@dataclass(frozen=True, slots=True)
class Release:
    """Stop the sandbox and clear volumes and cgroup away; `forget` removes containers and logs as well."""

    forget: bool


Step: TypeAlias = (
    CreateSandbox | StartContainer | StopContainer | RemoveContainer | RemoveSandbox | Release
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, and when to look again if nothing happens before."""

    steps: tuple[Step, ...] = ()
    wake_at: dt.datetime | None = None


class _Draft:
    """Collects steps and the earliest moment to look again."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.wake_at: dt.datetime | None = None

    def add(self, step: Step) -> None:
        self.steps.append(step)

    def look_at(self, moment: dt.datetime) -> None:
        self.wake_at = moment if self.wake_at is None else min(self.wake_at, moment)

    def plan(self) -> Plan:
        return Plan(tuple(self.steps), self.wake_at)


def plan(world: World, now: dt.datetime) -> Plan:
    """The next steps for one pod."""
    draft = _Draft()
    if world.ending is not None:
        _end(world, draft, now)
    elif world.pod.status.phase in ("Succeeded", "Failed") or _finished(world):
        _wind_up(world, draft)
    else:
        _keep(world, draft, now)
    return draft.plan()


def grace_of(world: World, probe_grace: int | None = None) -> float:
    """The pod's own grace, or that of the failed probe."""
    if probe_grace is not None:
        return float(probe_grace)
    grace = world.pod.spec.termination_grace_period_seconds
    return GRACE_DEFAULT_S if grace is None else float(grace)


# ------------------------------------------------------------------------------------------------------ keeping it
def _keep(world: World, draft: _Draft, now: dt.datetime) -> None:
    deadline = world.pod.spec.active_deadline_seconds
    if deadline is not None and world.start_time is not None:
        draft.look_at(world.start_time + dt.timedelta(seconds=deadline))
    sandbox = world.observed.sandbox
    if sandbox is None or not sandbox.ready:
        _need_sandbox(world, sandbox, draft, now)
        return
    _tidy(world, sandbox, draft)
    if _initialise(world, sandbox, draft, now):
        for container in world.pod.spec.containers:
            _tend(world, sandbox, container, draft, now)
    for guest in world.pod.spec.ephemeral_containers:
        _look_in(world, sandbox, guest, draft, now)


def _need_sandbox(world: World, sandbox: Sandbox | None, draft: _Draft, now: dt.datetime) -> None:
    wait = world.waits.get("")
    if wait is not None and wait.until > now:
        draft.look_at(wait.until)
        return
    busy = [c for c in world.observed.containers if c.running]
    for record in busy:
        if record.id not in world.stopping:
            draft.add(StopContainer(record.id, record.name, 0, "sandbox"))
    if not busy:
        draft.add(CreateSandbox(0 if sandbox is None else sandbox.attempt + 1))


def _tidy(world: World, sandbox: Sandbox, draft: _Draft) -> None:
    """Remove what is more than history."""
    observed = world.observed
    if len(observed.containers) > len(world.pod.spec.containers):
        by_name: dict[str, list[RuntimeContainer]] = {}
        for record in observed.containers:
            by_name.setdefault(record.name, []).append(record)
        for records in by_name.values():
            for record in records[:-2]:
                if record.ended:
                    draft.add(RemoveContainer(record.id))
    for old in observed.sandboxes[1:]:
        if not any(c.sandbox_id == old.id for c in observed.containers):
            draft.add(RemoveSandbox(old.id))


def _current(world: World, sandbox: Sandbox, name: str) -> RuntimeContainer | None:
    """The newest attempt, if it belongs to the present sandbox."""
    record = world.observed.latest(name)
    return record if record is not None and record.sandbox_id == sandbox.id else None


def _initialise(world: World, sandbox: Sandbox, draft: _Draft, now: dt.datetime) -> bool:
    """Walk the init containers; True when the main containers may run."""
    spec = world.pod.spec
    begun = any(_current(world, sandbox, c.name) is not None for c in spec.containers)
    for container in spec.init_containers:
        record = _current(world, sandbox, container.name)
        if is_sidecar(container):
            _tend(world, sandbox, container, draft, now)
            up = record is not None and record.running and world.health_of(record.id).started
            if not up and not begun:
                return False
        elif begun or (record is not None and record.ended and record.exit_code == 0):
            continue
        else:
            _tend(world, sandbox, container, draft, now)
            return False
    return True


def _tend(
    world: World, sandbox: Sandbox, container: Container, draft: _Draft, now: dt.datetime
) -> None:
    """One container: start it, restart it, stop it for a failed probe, or leave it alone."""
    record = _current(world, sandbox, container.name)
    if record is not None and record.id in world.stopping:
        return
    if record is None:
        last = world.observed.latest(container.name)
        done = last is not None and last.ended and not status.should_restart(world, container, last)
        if not done or container in world.pod.spec.init_containers:
            _start(world, container, last, draft, now)
    elif record.running:
        health = world.health_of(record.id)
        if health.failed:
            draft.add(_condemn(world, container, record, health.failed))
    elif record.phase is ContainerPhase.CREATED:
        if _may_try(world, container, draft, now):
            step = StartContainer(
                container.name, record.attempt, status.failures_of(record), record.id
            )
            draft.add(step)
    elif record.ended:
        if status.should_restart(world, container, record):
            _start(world, container, record, draft, now)
    else:
        draft.add(StopContainer(record.id, record.name, 0, "unknown"))


def _look_in(
    world: World, sandbox: Sandbox, guest: EphemeralContainer, draft: _Draft, now: dt.datetime
) -> None:
    """An ephemeral container: started until it has run once, and never again, also not in another sandbox.

    The last to be started in a pass, as its image may be long in coming.
    """
    records = world.observed.of(guest.name)
    for record in records:
        if record.phase is ContainerPhase.UNKNOWN and record.id not in world.stopping:
            draft.add(StopContainer(record.id, record.name, 0, "unknown"))
    if status.has_run(world, guest, records) or not _may_try(world, guest, draft, now):
        return
    last = records[-1] if records else None
    if last is None:
        draft.add(StartContainer(guest.name, 0))
    elif last.sandbox_id == sandbox.id:
        draft.add(StartContainer(guest.name, last.attempt, 0, last.id))
    else:
        draft.add(StartContainer(guest.name, last.attempt + 1))


def _condemn(
    world: World, container: Container, record: RuntimeContainer, why: str
) -> StopContainer:
    probe = container.startup_probe if why == "startup" else container.liveness_probe
    grace = probe.termination_grace_period_seconds if probe is not None else None
    return StopContainer(record.id, record.name, grace_of(world, grace), why)


def _may_try(world: World, container: Container, draft: _Draft, now: dt.datetime) -> bool:
    wait = world.waits.get(container.name)
    if wait is None or wait.until <= now:
        return True
    flip = wait.tried_at + dt.timedelta(seconds=status.ERROR_SHOWN_S)
    draft.look_at(flip if flip > now else wait.until)
    return False


def _start(
    world: World,
    container: Container,
    last: RuntimeContainer | None,
    draft: _Draft,
    now: dt.datetime,
) -> None:
    if not _may_try(world, container, draft, now):
        return
    if last is None:
        draft.add(StartContainer(container.name, first_attempt(world, container.name)))
        return
    if last.ended:
        moment = status.restart_at(last)
        if moment > now and (moment - now).total_seconds() <= status.RESTART_BACKOFF.cap_s:
            draft.look_at(moment)
            return
    draft.add(StartContainer(container.name, last.attempt + 1, status.next_failures(last)))


def first_attempt(world: World, name: str) -> int:
    """0, or one more than the API remembers when the runtime has forgotten everything (a re-installed machine)."""
    statuses = world.pod.status.container_statuses + world.pod.status.init_container_statuses
    for known in statuses:
        if known.name == name and known.container_id:
            return known.restart_count + 1
    return 0


# ---------------------------------------------------------------------------------------------------------- ending
def _finished(world: World) -> bool:
    """Whether the containers have all ended and the restart policy wants none of them back."""
    spec = world.pod.spec
    if spec.restart_policy == "Always" or not world.observed.containers:
        return False
    if spec.restart_policy == "Never" and _init_failed(world):
        return True
    for container in spec.containers:
        record = world.observed.latest(container.name)
        if record is None or not record.ended or status.should_restart(world, container, record):
            return False
    return True


def _init_failed(world: World) -> bool:
    for container in world.pod.spec.init_containers:
        record = world.observed.latest(container.name)
        if record is not None and record.ended and record.exit_code and not is_sidecar(container):
            return True
    return False


def _alive(record: RuntimeContainer) -> bool:
    return record.phase in (ContainerPhase.RUNNING, ContainerPhase.UNKNOWN)


def _wind_up(world: World, draft: _Draft) -> None:
    """All is done, but the pod object stays: sidecars stop, volumes go, containers stay for their logs."""
    if not _stop_all(world, draft, grace_of(world), grace_of(world)) and not world.released:
        draft.add(Release(forget=False))


def _end(world: World, draft: _Draft, now: dt.datetime) -> None:
    ending = world.ending
    assert ending is not None
    left = ending.grace_s - (now - ending.since).total_seconds()
    sidecar_grace = max(left, GRACE_AFTER_MAIN_S) if ending.grace_s > 0 else 0
    if not _stop_all(world, draft, ending.grace_s, sidecar_grace) and not world.released:
        draft.add(Release(forget=ending.deleted))


def _stop_all(world: World, draft: _Draft, grace_s: float, sidecar_grace_s: float) -> bool:
    """Stop main containers, then sidecars from the last to the first; True while anything is alive."""
    order = [c.name for c in world.pod.spec.init_containers if is_sidecar(c)]
    alive = [c for c in world.observed.containers if _alive(c)]
    first = [c for c in alive if c.name not in order]
    if not first and alive:
        last = max(alive, key=lambda c: order.index(c.name))
        first, grace_s = [last], sidecar_grace_s
    for record in first:
        if record.id not in world.stopping:
            draft.add(StopContainer(record.id, record.name, grace_s, "ending"))
    return bool(alive)
