"""A runtime without containers: the kubelet's own code at full length, nothing underneath.

It keeps what containerd would keep, in memory, and takes about as long: a sandbox ~140 ms, a container ~90 ms, an end
after SIGTERM ~50 ms. One process can hold hundreds of hollow nodes, which is how fleets of thousands of pods are shown
on a laptop. It is honest: logs and exec say that nothing runs here. What it does not show: images, a network
(addresses are handed out, nothing listens there). CPU and memory are made up, see `stats_hollow`.

Failures on demand, by annotations of the pod:
    hollow.ubernetes.io/fail           pull | create | sandbox | start   that step fails, always
    hollow.ubernetes.io/run-seconds    the container ends by itself after so long ...
    hollow.ubernetes.io/exit-code      ... with this code (0)
    hollow.ubernetes.io/probe          fail: every probe of the pod fails
    hollow.ubernetes.io/stop-seconds   how long the container takes to heed SIGTERM
And load on demand:
    hollow.ubernetes.io/cpu, /memory   what each container uses, as quantities
The state ends with the process, as a machine that is switched off: a restarted hollow node starts its pods anew.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster_agent.node.cri.interface import (
    ContainerConfig,
    ContainerPhase,
    ExecResult,
    Image,
    ImageAuth,
    ImagePullError,
    NotInRuntime,
    RuntimeContainer,
    RuntimeFault,
    RuntimePod,
    RuntimeStatus,
    Sandbox,
    SandboxConfig,
    StreamRequest,
    Streams,
)
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.kit.tasks import TaskOwner

NOTE = "hollow.ubernetes.io/"


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds that the steps take."""

    sandbox_s: float = 0.14
    start_s: float = 0.09
    stop_s: float = 0.05


class _Pod:
    """One pod's sandboxes and containers, oldest first."""

    __slots__ = ("annotations", "containers", "name", "namespace", "sandboxes", "uid")

    def __init__(self, config: SandboxConfig) -> None:
        self.uid, self.name, self.namespace = config.uid, config.name, config.namespace
        self.annotations: Mapping[str, str] = config.annotations
        self.sandboxes: dict[str, Sandbox] = {}
        self.containers: dict[str, RuntimeContainer] = {}

    def view(self) -> RuntimePod:
        return RuntimePod(
            self.uid,
            self.name,
            self.namespace,
            tuple(reversed(self.sandboxes.values())),
            tuple(self.containers.values()),
        )


class HollowRuntime:
    """The Runtime of one hollow node."""

    name = "hollow"

    def __init__(
        self, clock: Clock, ids: Ids, *, pod_cidr: str = "", delays: Delays = Delays()
    ) -> None:
        self._clock, self._ids, self._delays = clock, ids, delays
        self._pods: dict[str, _Pod] = {}
        self._by_container: dict[str, _Pod] = {}
        self._by_sandbox: dict[str, _Pod] = {}
        self._changed: Callable[[str], None] = lambda _uid: None
        self._exits = TaskOwner()
        self._network = ipaddress.ip_network(pod_cidr or "10.244.0.0/24")
        self._next_ip = 1
        self._free_ips: list[str] = []

    async def version(self) -> str:
        return "0.1.0"

    async def status(self) -> RuntimeStatus:
        return RuntimeStatus(runtime_ready=True, network_ready=True)

    # ------------------------------------------------------------------------------------------------ observing
    async def observe(self, uid: str) -> RuntimePod:
        pod = self._pods.get(uid)
        return RuntimePod(uid) if pod is None else pod.view()

    async def observe_all(self) -> dict[str, RuntimePod]:
        return {uid: pod.view() for uid, pod in self._pods.items()}

    async def watch(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        await asyncio.Event().wait()

    # ------------------------------------------------------------------------------------------------ sandboxes
    async def run_sandbox(self, config: SandboxConfig) -> str:
        await self._clock.sleep(self._delays.sandbox_s)
        if config.annotations.get(NOTE + "fail") == "sandbox":
            raise RuntimeFault("hollow: failed to set up sandbox, as the annotation asks")
        pod = self._pods.get(config.uid)
        if pod is None:
            pod = self._pods[config.uid] = _Pod(config)
        sandbox_id = self._new_id()
        pod.sandboxes[sandbox_id] = Sandbox(
            id=sandbox_id,
            uid=config.uid,
            name=config.name,
            namespace=config.namespace,
            attempt=config.attempt,
            ready=True,
            created_at=self._clock.now(),
            ips=() if config.host_network else (self._take_ip(),),
            annotations=config.annotations,
        )
        self._by_sandbox[sandbox_id] = pod
        return sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        pod = self._by_sandbox.get(sandbox_id)
        if pod is None:
            return
        sandbox = pod.sandboxes[sandbox_id]
        if sandbox.ready:
            self._free_ips.extend(sandbox.ips)
        for record in list(pod.containers.values()):
            if record.sandbox_id == sandbox_id and record.running:
                self._end(pod, record.id, 137)
        pod.sandboxes[sandbox_id] = replace(sandbox, ready=False, ips=())

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        pod = self._by_sandbox.pop(sandbox_id, None)
        if pod is None:
            return
        del pod.sandboxes[sandbox_id]
        for record in list(pod.containers.values()):
            if record.sandbox_id == sandbox_id:
                await self.remove_container(record.id)
        if not pod.sandboxes:
            self._pods.pop(pod.uid, None)

    def _take_ip(self) -> str:
        if self._free_ips:
            return self._free_ips.pop(0)
        self._next_ip += 1
        if self._next_ip >= self._network.num_addresses - 1:
            raise RuntimeFault(f"no IP addresses available in range set: {self._network}")
        return str(self._network[self._next_ip])

    def _new_id(self) -> str:
        return self._ids.uid().replace("-", "") * 2

    # ----------------------------------------------------------------------------------------------- containers
    async def create_container(
        self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig
    ) -> str:
        pod = self._by_sandbox.get(sandbox_id)
        if pod is None:
            raise NotInRuntime(f"sandbox {sandbox_id} not found")
        if pod.annotations.get(NOTE + "fail") == "create":
            raise RuntimeFault("hollow: failed to create container, as the annotation asks")
        container_id = self._new_id()
        pod.containers[container_id] = RuntimeContainer(
            id=container_id,
            sandbox_id=sandbox_id,
            name=config.name,
            attempt=config.attempt,
            phase=ContainerPhase.CREATED,
            created_at=self._clock.now(),
            image=config.image,
            image_id=f"hollow/{config.image}",
            annotations=config.annotations,
        )
        self._by_container[container_id] = pod
        return container_id

    async def start_container(self, container_id: str) -> None:
        await self._clock.sleep(self._delays.start_s)
        pod, record = self._find(container_id)
        if pod.annotations.get(NOTE + "fail") == "start":
            raise RuntimeFault("hollow: failed to start container, as the annotation asks")
        pod.containers[container_id] = replace(
            record, phase=ContainerPhase.RUNNING, started_at=self._clock.now()
        )
        if seconds := pod.annotations.get(NOTE + "run-seconds"):
            code = int(pod.annotations.get(NOTE + "exit-code", "0"))
            _ = self._exits.spawn(self._end_later(pod, container_id, float(seconds), code), "exit")

    async def _end_later(self, pod: _Pod, container_id: str, seconds: float, code: int) -> None:
        await self._clock.sleep(seconds)
        self._end(pod, container_id, code)

    def _end(self, pod: _Pod, container_id: str, code: int, reason: str = "") -> None:
        record = pod.containers.get(container_id)
        if record is None or record.ended:
            return
        pod.containers[container_id] = replace(
            record,
            phase=ContainerPhase.EXITED,
            finished_at=self._clock.now(),
            exit_code=code,
            reason=reason or ("Completed" if code == 0 else "Error"),
        )
        self._changed(pod.uid)

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        pod = self._by_container.get(container_id)
        if pod is None:
            return
        wanted = float(pod.annotations.get(NOTE + "stop-seconds", self._delays.stop_s))
        await self._clock.sleep(min(wanted, grace_s))
        self._end(pod, container_id, 143 if wanted <= grace_s else 137)

    async def remove_container(self, container_id: str) -> None:
        pod = self._by_container.pop(container_id, None)
        if pod is not None:
            pod.containers.pop(container_id, None)

    def crash(self, container_id: str, code: int = 1, reason: str = "Error") -> None:
        """Let a container end now: drills and tests."""
        pod, _ = self._find(container_id)
        self._end(pod, container_id, code, reason)

    def _find(self, container_id: str) -> tuple[_Pod, RuntimeContainer]:
        pod = self._by_container.get(container_id)
        if pod is None:
            raise NotInRuntime(f"container {container_id} not found")
        return pod, pod.containers[container_id]

    async def reopen_log(self, container_id: str) -> None:
        self._find(container_id)

    def log_text(self, container_id: str) -> bytes | None:
        pod, record = self._find(container_id)
        moment = (record.started_at or record.created_at).isoformat().replace("+00:00", "Z")
        return (
            f"{moment} stdout F hollow container {record.name} of pod {pod.namespace}/{pod.name} "
            f"(image {record.image}): no process runs here\n"
        ).encode()

    # --------------------------------------------------------------------------------------------------- images
    async def image(self, name: str) -> Image | None:
        return Image(id=f"hollow/{name}", names=(name,))

    async def images(self) -> Sequence[Image]:
        return ()

    async def pull(self, name: str, auth: ImageAuth | None = None) -> str:
        raise ImagePullError(f"hollow: no image {name} is to be had")

    # -------------------------------------------------------------------------------------------------- entering
    def _answer(self, container_id: str, command: Sequence[str]) -> bytes:
        pod, record = self._find(container_id)
        if not record.running:
            raise RuntimeFault(f"container {container_id} is not running")
        where = f"hollow container {record.name} of pod {pod.namespace}/{pod.name}"
        return f"{where}: nothing runs here; asked for: {' '.join(command)}\n".encode()

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float
    ) -> ExecResult:
        pod, _ = self._find(container_id)
        answer = self._answer(container_id, command)
        return ExecResult(1 if pod.annotations.get(NOTE + "probe") == "fail" else 0, answer)

    async def exec(self, container_id: str, request: StreamRequest, streams: Streams) -> int:
        await streams.stdout(self._answer(container_id, request.command))
        return 0

    async def attach(self, container_id: str, request: StreamRequest, streams: Streams) -> None:
        await streams.stdout(self._answer(container_id, ["attach"]))

    async def connect(
        self, sandbox_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise RuntimeFault(f"hollow: nothing listens on port {port}, for no process runs here")

    async def close(self) -> None:
        await self._exits.close()
