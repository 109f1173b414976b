"""A kubelet over a hollow runtime in virtual time, with what it writes kept in lists."""

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.support.loopclock import LoopClock

from cluster_agent.node.cri.hollow import Delays, HollowRuntime
from cluster_agent.node.kubelet.checkpoint import Checkpoints
from cluster_agent.node.kubelet.events import Subject
from cluster_agent.node.kubelet.grants import Grants
from cluster_agent.node.kubelet.hollowprobes import HollowHandlers, HollowProber
from cluster_agent.node.kubelet.hooks import Hook
from cluster_agent.node.kubelet.kubelet import Kubelet
from cluster_agent.node.kubelet.services import Services
from cluster_agent.node.parts import no_image_auth
from machinery.api.core import Pod
from machinery.kit.ids import SeededIds
from machinery.kit.tasks import TaskOwner


class Statuses:
    """Every status in order; `finished` pods would be deleted from the API now."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.finished: list[str] = []

    def put(self, pod: Pod, document: dict[str, Any]) -> None:
        if not self.written or self.written[-1] != document:
            self.written.append(document)

    def finish(self, pod: Pod, document: dict[str, Any]) -> None:
        self.written.append(document)
        self.finished.append(pod.metadata.uid)

    def forget(self, uid: str) -> None:
        return

    @property
    def last(self) -> dict[str, Any]:
        return self.written[-1]

    def phases(self) -> list[str]:
        return list(dict.fromkeys(d["phase"] for d in self.written))


class Events:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def emit(self, subject: Subject, kind: str, reason: str, message: str) -> None:
        self.told.append((reason, message))

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.told]


class Bench:
    """`async with Bench() as bench:`"""

    def __init__(
        self,
        *,
        hooks: Sequence[Hook] = (),
        runtime: HollowRuntime | None = None,
        checkpoints: Checkpoints | None = None,
        quiet: bool = False,
    ) -> None:
        self.clock, self.tasks = LoopClock(), TaskOwner()
        self.runtime = runtime or HollowRuntime(
            self.clock, SeededIds(1), pod_cidr="10.1.0.0/24", delays=Delays(0.1, 0.1, 0.1)
        )
        self.grants = Grants(self.clock)
        self.statuses, self.events = Statuses(), Events()
        self.prober = HollowProber(self.clock, self.tasks, lambda uid: self.kubelet.wake(uid))
        services = Services(
            node_name="node-1",
            host_ip="192.0.2.1",
            runtime=self.runtime,
            hooks=hooks,
            statuses=self.statuses,
            events=self.events,
            prober=self.prober,
            handlers=HollowHandlers(self.clock),
            clock=self.clock,
            tasks=self.tasks,
            image_auth=no_image_auth,
            grants=self.grants,
            quiet=quiet,
        )
        self.kubelet = Kubelet(services, checkpoints)

    async def __aenter__(self) -> "Bench":
        _ = self.tasks.spawn(self.kubelet.run(), "kubelet")
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.tasks.close()
