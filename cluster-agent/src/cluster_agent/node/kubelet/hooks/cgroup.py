"""The pod's control group, its containers' limits, and their place in the kernel's queue for memory."""

import logging
from dataclasses import replace

from cluster_agent.node.cgroups import Cgroups
from cluster_agent.node.cri.interface import ContainerConfig, SandboxConfig
from cluster_agent.node.kubelet.hooks import Hook
from cluster_agent.node.kubelet.resources import container_resources, pod_resources, qos_class
from machinery.api.core import Container, Pod
from machinery.kit.clock import Clock

log = logging.getLogger(__name__)

TRIES = 20
PAUSE_S = 0.1


class Cgroup(Hook):
    """Made before the sandbox, removed in every hierarchy when the containers have ended."""

    def __init__(self, groups: Cgroups, memory_capacity: int, oom_floor: int, clock: Clock) -> None:
        self._groups, self._capacity, self._floor = groups, memory_capacity, oom_floor
        self._clock = clock

    async def prepare(self, pod: Pod) -> None:
        self._groups.create(qos_class(pod.spec), pod.metadata.uid, pod_resources(pod.spec))

    def sandbox(self, pod: Pod, config: SandboxConfig) -> SandboxConfig:
        parent = self._groups.parent(qos_class(pod.spec), pod.metadata.uid)
        return replace(config, cgroup_parent=parent)

    def container(self, pod: Pod, container: Container, config: ContainerConfig) -> ContainerConfig:
        limits = container_resources(pod.spec, container, self._capacity, self._floor)
        return replace(config, resources=limits)

    async def release(self, pod: Pod, *, forget: bool) -> None:
        for _ in range(TRIES):
            if self._groups.remove_everywhere(pod.metadata.uid):
                return
            await self._clock.sleep(PAUSE_S)
        log.warning("cgroup of a pod not removed", extra={"pod": str(pod.key)})
