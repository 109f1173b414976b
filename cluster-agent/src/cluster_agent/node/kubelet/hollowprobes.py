"""Probes and handlers of hollow nodes: an answer by arithmetic instead of a task per probe.

A container is started and ready after its initial delay and one success threshold of periods, unless the pod's
annotation says that its probes fail. Nothing is asked of anybody, so five thousand pods cost no timers but one each
while they become ready.
"""

from collections.abc import Callable

from cluster_agent.node.cri.hollow import NOTE
from cluster_agent.node.cri.interface import RuntimeContainer
from cluster_agent.node.kubelet.world import Health
from machinery.api.core import Container, Pod, Probe
from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner


def _delay(probe: Probe | None) -> float:
    if probe is None:
        return 0.0
    return probe.initial_delay_seconds + (probe.success_threshold - 1) * probe.period_seconds


class HollowProber:
    """The Prober of hollow nodes."""

    def __init__(self, clock: Clock, tasks: TaskOwner, wake: Callable[[str], None]) -> None:
        self._clock, self._tasks, self._wake = clock, tasks, wake
        self._health: dict[str, Health] = {}

    def track(self, pod: Pod, container: Container, record: RuntimeContainer, ip: str) -> None:
        if record.id in self._health:
            return
        probes = (container.startup_probe, container.readiness_probe, container.liveness_probe)
        if probes == (None, None, None):
            return
        if pod.metadata.annotations.get(NOTE + "probe") == "fail":
            self._fail(pod, container, record)
            return
        delay = _delay(container.startup_probe) + _delay(container.readiness_probe)
        if delay <= 0:
            self._health[record.id] = Health()
            return
        self._health[record.id] = Health(started=container.startup_probe is None, ready=False)
        _ = self._tasks.spawn(self._later(pod.metadata.uid, record.id, delay), "hollow probe")

    def _fail(self, pod: Pod, container: Container, record: RuntimeContainer) -> None:
        unready = container.readiness_probe is not None
        self._health[record.id] = Health(started=container.startup_probe is None, ready=not unready)
        condemning = container.startup_probe or container.liveness_probe
        if condemning is None:
            return
        why = "startup" if container.startup_probe else "liveness"
        patience = _delay(condemning) + condemning.failure_threshold * condemning.period_seconds
        _ = self._tasks.spawn(
            self._later(pod.metadata.uid, record.id, patience, why), "hollow probe"
        )

    async def _later(self, uid: str, container_id: str, delay: float, failed: str = "") -> None:
        await self._clock.sleep(delay)
        if container_id in self._health:
            good = not failed
            self._health[container_id] = Health(started=good, ready=good, failed=failed)
            self._wake(uid)

    def health(self, container_id: str) -> Health | None:
        return self._health.get(container_id)

    def untrack(self, container_id: str) -> None:
        self._health.pop(container_id, None)


class HollowHandlers:
    """postStart and preStop of hollow nodes: nothing runs, so nothing is to be told; a preStop sleep is slept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def pre_stop(self, pod: Pod, container: Container, record_id: str, ip: str) -> None:
        hook = container.lifecycle.pre_stop
        if hook is not None and hook.sleep is not None:
            await self._clock.sleep(hook.sleep.seconds)

    async def post_start(self, pod: Pod, container: Container, record_id: str, ip: str) -> None:
        return
