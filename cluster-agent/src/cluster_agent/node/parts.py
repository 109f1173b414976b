"""What one node consists of, and what the nodes of a process share."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster_agent.node.annotations import Annotations
from cluster_agent.node.cri.interface import ImageAuth, Runtime
from cluster_agent.node.kubelet.grants import Grants
from cluster_agent.node.kubelet.kubelet import Kubelet
from cluster_agent.node.kubelet.statuswriter import StatusWriter
from cluster_agent.node.registration import Machine
from cluster_agent.node.stats import Sampler
from machinery.api.core import Pod
from machinery.client.rest import RestClient
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.kit.tasks import TaskOwner


@dataclass(frozen=True, slots=True)
class Shared:
    """Once per process."""

    client: RestClient
    clock: Clock
    ids: Ids
    tasks: TaskOwner
    statuses: StatusWriter
    machine: Machine


@dataclass(frozen=True, slots=True)
class NodeParts:
    """Once per node."""

    runtime: Runtime
    kubelet: Kubelet
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    """Work that runs as long as the node does: events, object cache, log rotation."""
    closers: Sequence[Callable[[], Awaitable[None]]] = field(default=())
    grants: Grants | None = None
    annotations: Annotations = field(default_factory=Annotations)
    sampler: Sampler | None = None
    """What the node and its pods use."""

    async def close(self) -> None:
        """Let go of what the node holds; pods stay."""
        for closer in self.closers:
            await closer()
        await self.runtime.close()


async def no_image_auth(pod: Pod, image: str) -> Sequence[ImageAuth]:
    """Hollow nodes pull nothing."""
    return ()
