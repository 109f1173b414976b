"""The row of a pod: its status in one word, from phase, containers, init containers and deletion.

The word is what a person should look at first: the waiting reason of a container beats the phase, a failing init
container beats the others, and deletion beats all.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from machinery.api.table.cells import (
    AGE,
    NAME,
    NONE,
    Printer,
    TableColumn,
    age_of,
    human_duration,
    name_of,
    parse,
)
from machinery.meta.resource import Document

_POD = "io.k8s.api.core.v1.Pod"
_NODE_LOST = "NodeLost"
_TERMINAL = frozenset({"Succeeded", "Failed"})


@dataclass(slots=True)
class _Count:
    """What the container statuses add up to."""

    restarts: int = 0
    last_restart: dt.datetime | None = None
    ready: int = 0
    running: bool = False

    def restarted(self, status: Mapping[str, Any]) -> None:
        self.restarts += int(status.get("restartCount") or 0)
        ended = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
        moment = parse(ended) if ended else None
        if moment is not None and (self.last_restart is None or self.last_restart < moment):
            self.last_restart = moment


@dataclass(slots=True)
class _Init:
    """How far the init containers are; `reason` is empty when they do not hold the pod up."""

    count: _Count = field(default_factory=_Count)
    sidecars: _Count = field(default_factory=_Count)
    reason: str = ""


def cells(pod: Document, now: dt.datetime) -> list[Any]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    count, reason = _summary(spec, status)
    total = len(spec.get("containers") or ()) + sum(
        _is_sidecar(container) for container in spec.get("initContainers") or ()
    )
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        if status.get("reason") == _NODE_LOST:
            reason = "Unknown"
        elif status.get("phase") not in _TERMINAL:
            reason = "Terminating"
    restarts = str(count.restarts)
    if count.restarts and count.last_restart is not None:
        restarts += f" ({human_duration((now - count.last_restart).total_seconds())} ago)"
    ips: Any = status.get("podIPs") or ({},)
    return [
        name_of(pod),
        f"{count.ready}/{total}",
        reason,
        restarts,
        age_of(pod, now),
        ips[0].get("ip") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


def _summary(spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[_Count, str]:
    """The counts that are shown, and the status in a word."""
    reason = status.get("reason") or status.get("phase") or ""
    conditions = status.get("conditions") or ()
    if any(
        c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in conditions
    ):
        reason = "SchedulingGated"
    init = _init(spec, status)
    if init.reason and not _holds(conditions, "Initialized"):
        init.count.ready = init.sidecars.ready
        return init.count, init.reason
    return _containers(status, conditions, init.sidecars, init.reason or reason)


def _is_sidecar(container: Mapping[str, Any]) -> bool:
    return container.get("restartPolicy") == "Always"


def _init(spec: Mapping[str, Any], status: Mapping[str, Any]) -> _Init:
    containers = {c.get("name"): c for c in spec.get("initContainers") or ()}
    result = _Init()
    for index, row in enumerate(status.get("initContainerStatuses") or ()):
        result.count.restarted(row)
        sidecar = _is_sidecar(containers.get(row.get("name")) or {})
        if sidecar:
            result.sidecars.restarted(row)
        state = row.get("state") or {}
        terminated = state.get("terminated")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if sidecar and row.get("started"):
            result.sidecars.ready += bool(row.get("ready"))
            continue
        waiting = (state.get("waiting") or {}).get("reason")
        if terminated is not None:
            result.reason = "Init:" + _ended(terminated)
        elif waiting and waiting != "PodInitializing":
            result.reason = f"Init:{waiting}"
        else:
            result.reason = f"Init:{index}/{len(containers)}"
        break
    return result


def _ended(terminated: Mapping[str, Any]) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _containers(
    status: Mapping[str, Any], conditions: Any, count: _Count, reason: str
) -> tuple[_Count, str]:
    for row in reversed(status.get("containerStatuses") or ()):
        count.restarted(row)
        state = row.get("state") or {}
        terminated = state.get("terminated")
        waiting = (state.get("waiting") or {}).get("reason")
        if waiting:
            reason = waiting
        elif terminated is not None:
            reason = _ended(terminated)
        elif row.get("ready") and state.get("running") is not None:
            count.running = True
            count.ready += 1
    if reason == "Completed" and count.running:
        reason = "Running" if _holds(conditions, "Ready") else "NotReady"
    return count, reason


def _holds(conditions: Any, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def _gates(spec: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    gates = spec.get("readinessGates")
    if not gates:
        return NONE
    conditions = status.get("conditions") or ()
    met = sum(_holds(conditions, gate.get("conditionType", "")) for gate in gates)
    return f"{met}/{len(gates)}"


PRINTER = Printer(
    (
        NAME,
        TableColumn("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        TableColumn("Status", "The aggregate status of the containers in this pod."),
        TableColumn(
            "Restarts",
            "The number of times the containers in this pod have been restarted"
            " and when the last container in this pod has restarted.",
        ),
        AGE,
        TableColumn("IP", f"={_POD}Status/podIP", priority=1),
        TableColumn("Node", f"={_POD}Spec/nodeName", priority=1),
        TableColumn("Nominated Node", f"={_POD}Status/nominatedNodeName", priority=1),
        TableColumn("Readiness Gates", f"={_POD}Spec/readinessGates", priority=1),
    ),
    cells,
)
