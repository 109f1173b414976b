"""The door to a container runtime, in the kubelet's own words.

CRI's messages are wide and generated; here stands what the kubelet reads and asks, as small values. Everything that
must survive a restart of the node process travels in labels and annotations of sandboxes and containers, so that
`observe` after `kill -9` gives back the very state that was there before: the runtime is the kubelet's memory.

Times are aware UTC datetimes, or None for "never".
"""

import asyncio
import datetime as dt
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

LABEL_POD_NAME = "io.kubernetes.pod.name"
LABEL_POD_NAMESPACE = "io.kubernetes.pod.namespace"
LABEL_POD_UID = "io.kubernetes.pod.uid"
LABEL_CONTAINER = "io.kubernetes.container.name"
NOTE_HASH = "io.kubernetes.container.hash"
NOTE_RESTARTS = "io.kubernetes.container.restartCount"
NOTE_MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
NOTE_MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
NOTE_GRACE = "io.kubernetes.pod.terminationGracePeriod"
NOTE_BACKOFF = "ubernetes.io/backoff-failures"
"""How many starts in a row came before this one, less those forgotten after ten good minutes: the back-off's state."""


class RuntimeFault(Exception):
    """A runtime call failed; the text is the runtime's own."""


class RuntimeUnavailable(RuntimeFault):
    """The runtime does not answer. Nothing is known about its containers, so nothing is decided on."""


class ImagePullError(RuntimeFault):
    """An image could not be had."""


class NotInRuntime(RuntimeFault):
    """The sandbox or container does not exist (any more)."""


class ContainerPhase(enum.Enum):
    """CRI's container states."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod's shared namespaces, held by the runtime."""

    id: str
    uid: str
    name: str
    namespace: str
    attempt: int
    ready: bool
    created_at: dt.datetime
    ips: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuntimeContainer:
    """One attempt at running one container of a pod."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    phase: ContainerPhase
    created_at: dt.datetime
    image: str = ""
    image_id: str = ""
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.phase is ContainerPhase.RUNNING

    @property
    def ended(self) -> bool:
        return self.phase is ContainerPhase.EXITED


@dataclass(frozen=True, slots=True)
class RuntimePod:
    """What the runtime has of one pod. Sandboxes newest first, containers oldest first."""

    uid: str
    name: str = ""
    namespace: str = ""
    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[RuntimeContainer, ...] = ()

    @property
    def sandbox(self) -> Sandbox | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    def of(self, name: str) -> list[RuntimeContainer]:
        """All attempts of a container, oldest first."""
        return [c for c in self.containers if c.name == name]

    def latest(self, name: str) -> RuntimeContainer | None:
        """The newest attempt of a container."""
        found = self.of(name)
        return found[-1] if found else None


@dataclass(frozen=True, slots=True)
class PortMapping:
    container_port: int
    host_port: int
    protocol: str = "TCP"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class Dns:
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What a sandbox is made from."""

    uid: str
    name: str
    namespace: str
    attempt: int
    hostname: str = ""
    log_directory: str = ""
    dns: Dns | None = None
    ports: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_pid: bool = False
    privileged: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    host_path: str
    container_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """Linux limits; 0 means "not set"."""

    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    memory_limit: int = 0
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What a container is made from."""

    name: str
    attempt: int
    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    resources: Resources = Resources()
    privileged: bool = False
    read_only_root: bool = False
    no_new_privileges: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    seccomp: str = ""
    """`RuntimeDefault` or `Unconfined`; empty is unconfined, as upstream's default is."""
    target_id: str = ""
    """The container whose process namespace it joins, where containers of the pod have one each."""
    pod_ips: tuple[str, ...] = ()
    """For hooks: the addresses that the sandbox has; the runtime does not read it."""


@dataclass(frozen=True, slots=True)
class Image:
    id: str
    names: tuple[str, ...] = ()
    size_bytes: int = 0
    user: str = ""
    """The image's own user: a number or a name; empty is root."""


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    runtime_ready: bool
    network_ready: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class ExecResult:
    exit_code: int
    output: bytes


class Streams(Protocol):
    """The far end of an exec or attach: where bytes go to and come from."""

    async def stdout(self, data: bytes) -> None: ...

    async def stderr(self, data: bytes) -> None: ...

    async def read_stdin(self) -> bytes | None:
        """The next piece of input; None is the end of it."""
        ...

    async def read_resize(self) -> tuple[int, int] | None:
        """The terminal's next width and height; None when there will be no more."""
        ...


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What kubectl asked of exec or attach."""

    command: tuple[str, ...] = ()
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


class Runtime(Protocol):
    """A container runtime. Every call may raise RuntimeUnavailable, and RuntimeFault with the runtime's words."""

    name: str
    """`containerd`, `hollow`: the scheme of container ids."""

    async def version(self) -> str:
        """`1.6.20`."""
        ...

    async def status(self) -> RuntimeStatus: ...

    async def observe(self, uid: str) -> RuntimePod:
        """One pod, fresh."""
        ...

    async def observe_all(self) -> dict[str, RuntimePod]:
        """All pods by uid, fresh."""
        ...

    async def watch(self, changed: Callable[[str], None]) -> None:
        """Call `changed(uid)` when a pod's containers changed ("" = unknown which), until cancelled or unavailable."""
        ...

    async def run_sandbox(self, config: SandboxConfig) -> str: ...

    async def stop_sandbox(self, sandbox_id: str) -> None: ...

    async def remove_sandbox(self, sandbox_id: str) -> None: ...

    async def create_container(
        self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig
    ) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        """SIGTERM, after `grace_s` SIGKILL; returns when it has ended."""
        ...

    async def remove_container(self, container_id: str) -> None: ...

    async def reopen_log(self, container_id: str) -> None: ...

    def log_text(self, container_id: str) -> bytes | None:
        """The whole log where it is not a file (hollow); None: read `log_path`."""
        ...

    async def image(self, name: str) -> Image | None:
        """The image if it is present."""
        ...

    async def images(self) -> Sequence[Image]: ...

    async def pull(self, name: str, auth: "ImageAuth | None" = None) -> str: ...

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float
    ) -> ExecResult:
        """Run to the end. Raises TimeoutError."""
        ...

    async def exec(self, container_id: str, request: StreamRequest, streams: Streams) -> int:
        """Run with streams; the exit code."""
        ...

    async def attach(self, container_id: str, request: StreamRequest, streams: Streams) -> None: ...

    async def connect(
        self, sandbox_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection to the port on the sandbox's localhost."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ImageAuth:
    username: str = ""
    password: str = ""
