"""What hollow pods would use: what their annotations say, or else half of what they ask for.

    hollow.ubernetes.io/cpu       cores that each container uses, such as 250m
    hollow.ubernetes.io/memory    bytes of its working set, such as 64Mi
Both may be changed while the pod runs: load comes and goes, and autoscalers follow. A limit bounds what is used, as a kernel
would. A container that asks for nothing uses 10m and 32Mi; the machine itself 50m and 256Mi besides.
"""

import datetime as dt
from collections.abc import Sequence

from cluster_agent.node.cri.hollow import NOTE
from cluster_agent.node.stats import ContainerRef, PodRef, Reading
from machinery.api.core import Container, Pod
from machinery.kit.clock import Clock
from machinery.meta.quantity import quantity_of

IDLE = {"cpu": "10m", "memory": "32Mi"}
MACHINE = {"cpu": "50m", "memory": "256Mi"}
NANO = 1_000_000_000


def used(pod: Pod, name: str, resource: str) -> int:
    """Nanocores or bytes that a container uses. An annotation that is no quantity counts as none."""
    container = next((c for c in pod.spec.containers + pod.spec.init_containers if c.name == name), None)  # fmt: skip
    amount = _asked(pod, container, resource)
    limit = container.resources.limits.get(resource) if container is not None else None
    return amount if limit is None else min(amount, _amount(limit, resource))


def _asked(pod: Pod, container: Container | None, resource: str) -> int:
    try:
        return max(0, _amount(pod.metadata.annotations[NOTE + resource], resource))
    except (KeyError, ValueError):
        request = container.resources.requests.get(resource) if container is not None else None
    return _amount(IDLE[resource], resource) if request is None else _amount(request, resource) // 2


def _amount(raw: str | int | float, resource: str) -> int:
    value = quantity_of(raw).value
    return int(value * NANO) if resource == "cpu" else int(value)


class HollowMeter:
    """The Meter of a hollow node: adds up what would have been used since it last looked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counted: dict[str, tuple[dt.datetime, int]] = {}
        """By container id: until when it has been counted, and the ns."""
        self._pods: dict[str, tuple[int, int]] = {}
        """By pod uid: CPU ns and bytes of the pass."""
        self._ended = 0
        """CPU ns of containers that are gone; the machine's counter does not go back."""
        self._memory = 0
        """Bytes of all pods, in the last pass."""
        self._born = clock.now()

    def container(self, pod: PodRef, ref: ContainerRef) -> Reading | None:
        now = self._clock.now()
        since, before = self._counted.get(ref.id, (ref.started_at, 0))
        gone = max(0.0, (now - since).total_seconds())
        total = before + int(used(pod.pod, ref.name, "cpu") * gone)
        self._counted[ref.id] = (now, total)
        memory = used(pod.pod, ref.name, "memory")
        cpu, held = self._pods.get(pod.uid, (0, 0))
        self._pods[pod.uid] = (cpu + total, held + memory)
        return Reading(total, memory, memory, memory)

    def pod(self, ref: PodRef) -> int | None:
        return self._pods[ref.uid][0] if ref.uid in self._pods else None

    def settle(self, pods: Sequence[PodRef]) -> None:
        alive = {container.id for ref in pods for container in ref.containers}
        for container_id in self._counted.keys() - alive:
            self._ended += self._counted.pop(container_id)[1]
        self._memory = sum(held for _, held in self._pods.values())
        self._pods.clear()

    def node(self) -> Reading | None:
        """The machine, as of the last pass: its own share, and its pods'."""
        own = _amount(MACHINE["cpu"], "cpu") * (self._clock.now() - self._born).total_seconds()
        total = int(own) + self._ended + sum(ns for _, ns in self._counted.values())
        memory = _amount(MACHINE["memory"], "memory") + self._memory
        return Reading(total, memory, memory, memory)
