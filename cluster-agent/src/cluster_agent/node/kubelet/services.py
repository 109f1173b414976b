"""What a pod worker works with; built once by the composition root, shared by the pods of a node."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster_agent.node.cri.interface import ImageAuth, Runtime, RuntimeContainer
from cluster_agent.node.kubelet.events import EventSink
from cluster_agent.node.kubelet.grants import Grants
from cluster_agent.node.kubelet.hooks import Hook
from cluster_agent.node.kubelet.world import Health
from machinery.api.core import Container, Pod
from machinery.kit.clock import Clock
from machinery.kit.tasks import TaskOwner
from machinery.meta.resource import Document


class Prober(Protocol):
    """Runs the probes of running containers; `kubelet.probes`, and a cheap twin for hollow nodes."""

    def track(self, pod: Pod, container: Container, record: RuntimeContainer, ip: str) -> None:
        """Probe this container from now on; repeated calls change nothing."""
        ...

    def health(self, container_id: str) -> Health | None:
        """What is known; None when it is not tracked."""
        ...

    def untrack(self, container_id: str) -> None: ...


class HandlerRunner(Protocol):
    """Runs a lifecycle handler (postStart, preStop)."""

    async def pre_stop(self, pod: Pod, container: Container, record_id: str, ip: str) -> None:
        """Raises HandlerFault."""
        ...

    async def post_start(self, pod: Pod, container: Container, record_id: str, ip: str) -> None:
        """Raises HandlerFault."""
        ...


class StatusSink(Protocol):
    """Where pod statuses go; `kubelet.statuswriter`."""

    def put(self, pod: Pod, document: Document) -> None: ...

    def finish(self, pod: Pod, document: Document) -> None: ...

    def forget(self, uid: str) -> None: ...


class HandlerFault(Exception):
    """A lifecycle handler failed; the text says how."""


@dataclass(frozen=True, slots=True)
class Services:
    """One node's tools."""

    node_name: str
    host_ip: str
    runtime: Runtime
    hooks: Sequence[Hook]
    statuses: StatusSink
    events: EventSink
    prober: Prober
    handlers: HandlerRunner
    clock: Clock
    tasks: TaskOwner
    image_auth: Callable[[Pod, str], Awaitable[Sequence[ImageAuth]]]
    """Credentials for an image, from the pod's imagePullSecrets."""
    grants: Grants
    """Whether pods of mode consistency may run."""
    quiet: bool = False
    """Do not report the steps on the way (hollow nodes): one status write per pod instead of three."""
