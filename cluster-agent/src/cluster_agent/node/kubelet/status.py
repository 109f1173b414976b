"""The status of a pod, from what the runtime shows and the probes say. Pure; wording and rules are upstream's.

The answer is the document that goes to /status. Conditions of other writers (readiness gates, DisruptionTarget) are
not in it: the status writer patches strategically, by condition type, so that nobody's condition is lost.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from cluster_agent.node.cri.interface import (
    NOTE_BACKOFF,
    ContainerPhase,
    RuntimeContainer,
)
from cluster_agent.node.kubelet.resources import is_sidecar, qos_class
from cluster_agent.node.kubelet.world import World
from machinery.api.core import (
    Container,
    ContainerStateTerminated,
    ContainerStatus,
    EphemeralContainer,
)
from machinery.kit.backoff import Backoff
from machinery.kit.clock import rfc3339 as _rfc3339
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document

RESTART_BACKOFF = Backoff(base_s=10, cap_s=300)
RESTART_RESET_S = 600
ERROR_SHOWN_S = 1.0
"""How long a failed pull shows as ErrImagePull before it shows as ImagePullBackOff."""

rfc3339 = lru_cache(maxsize=8192)(_rfc3339)
"""A status says the same few moments many times; writing one down costs more than looking it up."""

_EPOCH = "1970-01-01T00:00:00Z"


# ------------------------------------------------------------------------------------------------------ back-off
def failures_of(record: RuntimeContainer) -> int:
    """How many starts in a row came before this one."""
    return int(record.annotations.get(NOTE_BACKOFF, "0") or 0)


def next_failures(record: RuntimeContainer) -> int:
    """The number that the next attempt carries: forgotten after ten minutes between its start and its end."""
    started = record.started_at or record.created_at
    ended = record.finished_at or started
    return 0 if (ended - started).total_seconds() > RESTART_RESET_S else failures_of(record) + 1


def restart_at(record: RuntimeContainer) -> dt.datetime:
    """When an ended container may run again: the first restart at once, then 10 s doubling to 300 s."""
    ended = record.finished_at or record.created_at
    repeats = next_failures(record) - 1
    if repeats <= 0:
        return ended
    return ended + dt.timedelta(seconds=RESTART_BACKOFF.delay(repeats))


def restart_pause(record: RuntimeContainer) -> int:
    """The whole pause before the next attempt, for the message."""
    repeats = next_failures(record) - 1
    return int(RESTART_BACKOFF.delay(repeats)) if repeats > 0 else 0


def should_restart(world: World, container: Container, record: RuntimeContainer) -> bool:
    """Whether the restart policy wants an ended container to run again; an ephemeral one never does."""
    if isinstance(container, EphemeralContainer):
        return False
    policy = container.restart_policy or world.pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and record.exit_code != 0)


def has_run(world: World, guest: EphemeralContainer, records: Sequence[RuntimeContainer]) -> bool:
    """Whether an ephemeral container ran before, as the runtime shows or, when that has forgotten it, the API says."""
    if records:
        return any(record.phase is not ContainerPhase.CREATED for record in records)
    return _known(world, guest) is not None


def _known(world: World, guest: EphemeralContainer) -> ContainerStatus | None:
    """What the API says of one that had a container."""
    statuses = world.pod.status.ephemeral_container_statuses
    return next((s for s in statuses if s.name == guest.name and s.container_id), None)


# ---------------------------------------------------------------------------------------------- container statuses
def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def terminated(world: World, record: RuntimeContainer, runtime: str) -> Document:
    """ContainerStateTerminated of an ended attempt."""
    reason = record.reason or ("Completed" if record.exit_code == 0 else "Error")
    state: Document = {
        "exitCode": record.exit_code,
        "reason": reason,
        "startedAt": rfc3339(record.started_at) if record.started_at else _EPOCH,
        "finishedAt": rfc3339(record.finished_at) if record.finished_at else _EPOCH,
        "containerID": f"{runtime}://{record.id}",
    }
    if message := world.messages.get(record.id) or record.message:
        state["message"] = message
    return {"terminated": state}


def _waiting(reason: str, message: str = "") -> Document:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def _wait_state(world: World, container: Container, now: dt.datetime) -> Document | None:
    wait = world.waits.get(container.name)
    if wait is None:
        return None
    backing_off = wait.until > now >= wait.tried_at + dt.timedelta(seconds=ERROR_SHOWN_S)
    if wait.reason == "ErrImagePull" and backing_off:
        text = f'Back-off pulling image "{container.image}": ErrImagePull: {wait.message}'
        return _waiting("ImagePullBackOff", text)
    return _waiting(wait.reason, wait.message)


def crash_loop_message(world: World, container: Container, record: RuntimeContainer) -> str:
    """`back-off 20s restarting failed container=c pod=p_ns(uid)`."""
    meta = world.pod.metadata
    return (
        f"back-off {_duration(restart_pause(record))} restarting failed container={container.name} "
        f"pod={meta.name}_{meta.namespace}({meta.uid})"
    )


def _default_state(world: World) -> Document:
    if world.pod.spec.init_containers:
        return _waiting("PodInitializing")
    return _waiting("ContainerCreating")


def _state(
    world: World, container: Container, record: RuntimeContainer | None, now: dt.datetime, rt: str
) -> Document:
    wait = None if world.ending else _wait_state(world, container, now)
    if record is None or record.phase is ContainerPhase.CREATED:
        return wait or _default_state(world)
    if record.running:
        started = record.started_at or record.created_at
        return {"running": {"startedAt": rfc3339(started)}}
    if record.ended:
        if world.ending is None and should_restart(world, container, record):
            if wait is not None:
                return wait
            if restart_at(record) > now:
                message = crash_loop_message(world, container, record)
                return _waiting("CrashLoopBackOff", message)
        return terminated(world, record, rt)
    return _waiting("ContainerStatusUnknown", "The runtime lost track of the container")


def _restarts(world: World, container: Container, record: RuntimeContainer | None) -> int:
    if record is not None:
        return record.attempt
    statuses = world.pod.status.container_statuses + world.pod.status.init_container_statuses
    return next((s.restart_count for s in statuses if s.name == container.name), 0)


def container_status(
    world: World, container: Container, now: dt.datetime, runtime: str, *, init: bool
) -> Document:
    """One entry of containerStatuses or initContainerStatuses."""
    attempts = world.observed.of(container.name)
    record = attempts[-1] if attempts else None
    state = _state(world, container, record, now, runtime)
    last: Document = {}
    if record is not None and record.ended and "waiting" in state:
        last = terminated(world, record, runtime)
    elif len(attempts) > 1 and attempts[-2].ended:
        last = terminated(world, attempts[-2], runtime)
    running = record is not None and record.running
    health = world.health_of(record.id) if running and record is not None else None
    started = health is not None and health.started
    if init and not is_sidecar(container):
        ready = "terminated" in state and state["terminated"]["exitCode"] == 0
        started = running
    else:
        ready = started and health is not None and health.ready
    shown = record if record is not None and record.phase is not ContainerPhase.CREATED else None
    document: Document = {
        "name": container.name,
        "state": state,
        "lastState": last,
        "ready": ready,
        "restartCount": _restarts(world, container, record),
        "image": (shown.image if shown else "") or container.image,
        "imageID": shown.image_id if shown else "",
        "started": started,
    }
    if shown is not None:
        document["containerID"] = f"{runtime}://{shown.id}"
    return document


def _told(view: ContainerStateTerminated) -> Document:
    """As the API has it: nothing that was not said, but for the code."""
    document: Document = msgspec.to_builtins(view)
    return {key: value for key, value in document.items() if value or key == "exitCode"}


def ephemeral_status(
    world: World, guest: EphemeralContainer, now: dt.datetime, runtime: str
) -> Document:
    """One entry of ephemeralContainerStatuses. It is never ready and never restarted, and no probe has started it."""
    found = container_status(world, guest, now, runtime, init=False)
    del found["started"]
    found |= {"ready": False, "restartCount": 0, "lastState": {}}
    known = _known(world, guest)
    if known is not None and not world.observed.of(guest.name):
        state = _lost("The container could not be located when the pod was observed")
        if known.state.terminated is not None:
            state = {"terminated": _told(known.state.terminated)}
        found |= {"state": state, "imageID": known.image_id, "containerID": known.container_id}
    return found


# ----------------------------------------------------------------------------------------------------------- phase
def _init_outlook(world: World, statuses: Iterable[tuple[Container, Document]]) -> tuple[int, int]:
    pending = failed = 0
    for container, status in statuses:
        state, last = status["state"], status["lastState"]
        if is_sidecar(container):
            pending += 0 if (status["started"] or last or "terminated" in state) else 1
        elif "terminated" in state:
            failed += 1 if state["terminated"]["exitCode"] != 0 else 0
        elif "running" in state or not last:
            pending += 1
        elif last["terminated"]["exitCode"] != 0:
            failed += 1
        else:
            pending += 1
    return pending, failed


def phase(world: World, inits: list[Document], mains: list[Document]) -> str:
    """Pending, Running, Succeeded or Failed."""
    spec = world.pod.spec
    pending, failed = _init_outlook(world, zip(spec.init_containers, inits, strict=True))
    if failed and spec.restart_policy == "Never":
        return "Failed"
    waiting = running = stopped = succeeded = 0
    for status in mains:
        state, last = status["state"], status["lastState"]
        if "running" in state:
            running += 1
        elif "terminated" in state:
            stopped += 1
            succeeded += state["terminated"]["exitCode"] == 0
        elif last:
            stopped += 1
        else:
            waiting += 1
    if pending or failed or waiting:
        return "Pending"
    if running:
        return "Running"
    if stopped and spec.restart_policy != "Always":
        if stopped == succeeded:
            return "Succeeded"
        if spec.restart_policy == "Never":
            return "Failed"
    return "Running" if stopped else "Pending"


# ------------------------------------------------------------------------------------------------------ conditions
def _condition(
    world: World, kind: str, ok: bool, now: dt.datetime, reason: str = "", message: str = ""
) -> Document:
    """One condition; its transition time stays as long as its status does."""
    status = "True" if ok else "False"
    before = condition(world.pod.status.conditions, kind)
    since = now
    if before is not None and before.status == status and before.last_transition_time:
        since = before.last_transition_time
    result: Document = {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": rfc3339(since),
    }
    if world.pod.metadata.generation:
        result["observedGeneration"] = world.pod.metadata.generation
    return (
        result | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
    )


def _names(statuses: Iterable[Document]) -> str:
    return "[" + " ".join(s["name"] for s in statuses) + "]"


def _initialized(
    world: World, inits: list[Document], ended: str, now: dt.datetime
) -> tuple[bool, Document]:
    spec = world.pod.spec
    open_ = [
        status
        for container, status in zip(spec.init_containers, inits, strict=True)
        if not (status["started"] if is_sidecar(container) else status["ready"])
    ]
    if ended == "Succeeded":
        return True, _condition(world, "Initialized", True, now, "PodCompleted")
    if not open_:
        return True, _condition(world, "Initialized", True, now)
    text = f"containers with incomplete status: {_names(open_)}"
    return False, _condition(world, "Initialized", False, now, "ContainersNotInitialized", text)


def _gates(world: World) -> str:
    """Why the readiness gates hold the pod back; empty when they do not."""
    problems = []
    for gate in world.pod.spec.readiness_gates:
        found = condition(world.pod.status.conditions, gate.condition_type)
        if found is None:
            problems.append(
                f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.'
            )
        elif found.status != "True":
            problems.append(
                f'the status of pod readiness gate "{gate.condition_type}" is not "True", but {found.status}'
            )
    return ", ".join(problems)


def _conditions(
    world: World, ended: str, inits: list[Document], mains: list[Document], now: dt.datetime
) -> list[Document]:
    spec = world.pod.spec
    sandbox = world.observed.sandbox
    sidecars = [s for c, s in zip(spec.init_containers, inits, strict=True) if is_sidecar(c)]
    unready = [s for s in [*sidecars, *mains] if not s["ready"]]
    ready_to_start = sandbox is not None and sandbox.ready
    _, initialized = _initialized(world, inits, ended, now)
    reason, message = "", ""
    if ended == "Succeeded":
        reason = "PodCompleted"
    elif ended == "Failed":
        reason = "PodFailed"
    elif unready:
        reason = "ContainersNotReady"
        message = f"containers with unready status: {_names(unready)}"
    good = not reason
    gate_reason, gate_message = reason, message
    if good and spec.readiness_gates and (text := _gates(world)):
        gate_reason, gate_message = "ReadinessGatesNotReady", text
    return [
        _condition(world, "PodReadyToStartContainers", ready_to_start, now),
        initialized,
        _condition(world, "Ready", good and not gate_reason, now, gate_reason, gate_message),
        _condition(world, "ContainersReady", good, now, reason, message),
        _condition(world, "PodScheduled", True, now),
    ]


# ------------------------------------------------------------------------------------------------------ the whole
def pod_status(world: World, now: dt.datetime, *, runtime: str, host_ip: str) -> Document:
    """The status document of a pod."""
    pod, ending = world.pod, world.ending
    spec = pod.spec
    inits = [container_status(world, c, now, runtime, init=True) for c in spec.init_containers]
    mains = [container_status(world, c, now, runtime, init=False) for c in spec.containers]
    guests = [ephemeral_status(world, c, now, runtime) for c in spec.ephemeral_containers]
    if ending is not None and world.released:
        inits = [_settled(s) for s in inits]
        mains = [_settled(s) for s in mains]
        guests = [_settled(s) for s in guests]
    now_phase = phase(world, inits, mains)
    if ending is not None:
        now_phase = _ending_phase(world, now_phase, mains)
    ended = now_phase if now_phase in ("Succeeded", "Failed") else ""
    document: Document = {
        "phase": now_phase,
        "conditions": _conditions(world, ended, inits, mains, now),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": rfc3339(world.start_time or now),
        "containerStatuses": mains,
        "qosClass": pod.status.qos_class or qos_class(spec),
    }
    if inits:
        document["initContainerStatuses"] = inits
    if guests:
        document["ephemeralContainerStatuses"] = guests
    if pod.metadata.generation:
        document["observedGeneration"] = pod.metadata.generation
    if ips := pod_ips(world, host_ip):
        document |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    if ending is not None and ending.reason:
        document |= {"reason": ending.reason, "message": ending.message}
    return document


def pod_ips(world: World, host_ip: str) -> tuple[str, ...]:
    """The pod's addresses; a pod in the host's network has the host's."""
    sandbox = world.observed.sandbox
    if sandbox is None:
        return (world.pod.status.pod_ip,) if world.pod.status.pod_ip else ()
    if world.pod.spec.host_network:
        return (host_ip,)
    return sandbox.ips or ((world.pod.status.pod_ip,) if world.pod.status.pod_ip else ())


def _settled(status: Document) -> Document:
    """After the end a container that never ran is reported as such, not as still waiting."""
    if "waiting" not in status["state"]:
        return status
    state = status["lastState"] or _lost(
        "The container could not be located when the pod was terminated"
    )
    started = {"started": False} if "started" in status else {}
    return status | {"state": state, "ready": False} | started


def _lost(message: str) -> Document:
    """The end of a container that nobody has seen end."""
    state = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message}
    return {"terminated": state | {"startedAt": None, "finishedAt": None}}


def _ending_phase(world: World, found: str, mains: list[Document]) -> str:
    ending = world.ending
    assert ending is not None
    if not world.released:
        before = world.pod.status.phase
        return found if found in ("Running", "Pending") else (before or found)
    if ending.phase:
        return ending.phase
    before = world.pod.status.phase
    if before in ("Succeeded", "Failed"):
        return before
    failed = any(s["state"].get("terminated", {}).get("exitCode") != 0 for s in mains)
    return "Failed" if failed else "Succeeded"
