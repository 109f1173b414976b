"""The row of hooks: each owns one concern of a pod's life on this machine.

`HOOKS` in `node.app` is the one visible order; they are called front to back when something is made and back to front
when it is released. Every method has a default that does nothing. All must tolerate being called twice, and `release`
must be safe without `prepare`: after a crash the kubelet repeats, it does not remember.
"""

from cluster_agent.node.cri.interface import ContainerConfig, RuntimeContainer, SandboxConfig
from machinery.api.core import Container, Pod


class HookFault(Exception):
    """Something a pod needs is not there yet; the text is shown to people, the pod waits and tries again."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class Hook:
    """One concern. `reason` of a HookFault: `FailedMount`, `CreateContainerConfigError` …"""

    async def prepare(self, pod: Pod) -> None:
        """Before the sandbox is made, and once after the node process has started. Raises HookFault."""

    def sandbox(self, pod: Pod, config: SandboxConfig) -> SandboxConfig:
        """Add to what the sandbox is made from."""
        return config

    def container(self, pod: Pod, container: Container, config: ContainerConfig) -> ContainerConfig:
        """Add to what a container is made from. Raises HookFault."""
        return config

    async def connected(self, pod: Pod, ips: tuple[str, ...]) -> None:
        """The sandbox has its addresses (none: the host's); before each start of a container. Raises HookFault."""

    async def update(self, pod: Pod) -> None:
        """The pod's metadata, or an object that it uses, has changed while it runs."""

    def message(self, pod: Pod, container: Container, record: RuntimeContainer) -> str:
        """The termination message of an ended container."""
        return ""

    async def release(self, pod: Pod, *, forget: bool) -> None:
        """The containers have ended. With `forget` nothing of the pod shall remain on this machine."""
