"""Short ways to write down pods and what a runtime shows of them."""

import datetime as dt
from typing import Any

import msgspec

from cluster_agent.node.cri.interface import (
    NOTE_BACKOFF,
    NOTE_HASH,
    ContainerPhase,
    RuntimeContainer,
    RuntimePod,
    Sandbox,
)
from cluster_agent.node.kubelet.world import World
from machinery.api.core import Pod

T0 = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def after(seconds: float) -> dt.datetime:
    return T0 + dt.timedelta(seconds=seconds)


def container(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "local/app:1", **fields}


def pod(
    *containers: dict[str, Any],
    init: tuple[dict[str, Any], ...] = (),
    guests: tuple[dict[str, Any], ...] = (),
    status: dict[str, Any] | None = None,
    meta: dict[str, Any] | None = None,
    **spec: Any,
) -> Pod:
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "demo", "uid": "uid-1", **(meta or {})},
        "spec": {
            "nodeName": "node-1",
            "containers": list(containers) or [container("c")],
            "initContainers": list(init),
            "ephemeralContainers": list(guests),
            **spec,
        },
        "status": status or {},
    }
    return msgspec.convert(document, Pod)


def sandbox(number: int = 0, *, ready: bool = True, ip: str = "10.0.0.5") -> Sandbox:
    ips = (ip,) if ip and ready else ()
    return Sandbox(f"s{number}", "uid-1", "web", "demo", number, ready, T0, ips)


def record(
    name: str,
    attempt: int = 0,
    phase: str = "running",
    *,
    box: int = 0,
    code: int = 0,
    start: float = 0,
    end: float = 0,
    failures: int = 0,
    reason: str = "",
    image: str = "local/app:1",
) -> RuntimeContainer:
    state = ContainerPhase(phase)
    return RuntimeContainer(
        id=f"{name}-{attempt}",
        sandbox_id=f"s{box}",
        name=name,
        attempt=attempt,
        phase=state,
        created_at=after(start),
        image=image,
        image_id="sha256:1",
        started_at=None if state is ContainerPhase.CREATED else after(start),
        finished_at=after(end) if state is ContainerPhase.EXITED else None,
        exit_code=code,
        reason=reason,
        annotations={NOTE_BACKOFF: str(failures), NOTE_HASH: image},
    )


def observed(*records: RuntimeContainer, boxes: tuple[Sandbox, ...] | None = None) -> RuntimePod:
    sandboxes = (sandbox(),) if boxes is None else boxes
    return RuntimePod("uid-1", "web", "demo", sandboxes, tuple(records))


def world(wanted: Pod, found: RuntimePod | None = None, **fields: Any) -> World:
    from cluster_agent.node.kubelet.world import HEALTHY

    found = found or RuntimePod("uid-1")
    health = {c.id: HEALTHY for c in found.containers if c.running} | fields.pop("health", {})
    fields.setdefault("start_time", T0)
    return World(pod=wanted, observed=found, health=health, **fields)
