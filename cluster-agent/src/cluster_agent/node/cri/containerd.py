"""containerd over CRI v1, by gRPC on its socket.

The channel reconnects within half a second (gRPC's own defaults take more than one), because containerd may be killed
and restarted under running pods at any time; while it is away calls raise RuntimeUnavailable and nothing is decided.

What changed in the containers is learnt from containerd's event stream, which only says *that* something happened: it
triggers a listing, and the listing is compared with the one before. CRI applies an event a moment after it was
published, so a burst of listings follows each event; without the stream there is a listing every second.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
from cri_api.v1 import api_pb2 as pb
from cri_api.v1 import api_pb2_grpc as services

from cluster_agent.node import netns
from cluster_agent.node.cri import attach, convert, pbwire
from cluster_agent.node.cri.interface import (
    LABEL_POD_UID,
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
    RuntimeUnavailable,
    Sandbox,
    SandboxConfig,
    StreamRequest,
    Streams,
)
from cluster_agent.node.cri.tasks import TaskExec, raw_call
from machinery.kit.ids import Ids

log = logging.getLogger(__name__)
T = TypeVar("T")

CALL_TIMEOUT_S = 120.0
PULL_TIMEOUT_S = 900.0
RELIST_AFTER_EVENT_S = (0.03, 0.2, 1.0)
RELIST_WITH_EVENTS_S = 10.0
RELIST_WITHOUT_EVENTS_S = 1.0
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)

Picture = Mapping[str, frozenset[tuple[str, int]]]
"""uid -> (id, state) of its sandboxes and containers."""


def translate(error: grpc.aio.AioRpcError) -> RuntimeFault:
    """A gRPC error in our words."""
    details = error.details() or str(error.code())
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return RuntimeUnavailable(details)
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return NotInRuntime(details)
    return RuntimeFault(details)


class ContainerdRuntime:
    """The Runtime of a real node."""

    name = "containerd"

    def __init__(self, socket: str, state_dir: str, ids: Ids) -> None:
        self._channel = grpc.aio.insecure_channel(f"unix://{socket}", options=CHANNEL_OPTIONS)
        self._runtime = services.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._images = services.ImageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._raw = raw_call(self._channel, translate)
        self._ids = ids
        self._exec_dir = Path(state_dir) / "exec"
        self._known: dict[str, RuntimeContainer] = {}
        self._boxes: dict[str, Sandbox] = {}
        self._version = ""

    async def _call(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error

    async def close(self) -> None:
        await self._channel.close()

    async def version(self) -> str:
        if not self._version:
            answer = await self._call(
                self._runtime.Version(pb.VersionRequest(), timeout=CALL_TIMEOUT_S)
            )
            self._version = answer.runtime_version.removeprefix("v").split("~")[0]
        return self._version

    async def status(self) -> RuntimeStatus:
        answer = await self._call(self._runtime.Status(pb.StatusRequest(), timeout=5.0))
        found = {c.type: c for c in answer.status.conditions}
        runtime, network = found.get("RuntimeReady"), found.get("NetworkReady")
        return RuntimeStatus(
            runtime_ready=runtime is not None and runtime.status,
            network_ready=network is not None and network.status,
            message=network.message if network is not None else "",
        )

    # ------------------------------------------------------------------------------------------------ observing
    async def observe(self, uid: str) -> RuntimePod:
        selector = {LABEL_POD_UID: uid}
        boxes = await self._list_sandboxes(selector)
        records = await self._list_containers(selector)
        return await self._assemble(uid, boxes, records)

    async def observe_all(self) -> dict[str, RuntimePod]:
        boxes = convert.by_uid(await self._list_sandboxes({}))
        records = convert.by_uid(await self._list_containers({}))
        uids = [uid for uid in dict.fromkeys([*boxes, *records]) if uid]
        return {u: await self._assemble(u, boxes.get(u, []), records.get(u, [])) for u in uids}

    async def _list_sandboxes(self, selector: Mapping[str, str]) -> list[Any]:
        request = pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(label_selector=selector))
        answer = await self._call(self._runtime.ListPodSandbox(request, timeout=CALL_TIMEOUT_S))
        return list(answer.items)

    async def _list_containers(self, selector: Mapping[str, str]) -> list[Any]:
        request = pb.ListContainersRequest(filter=pb.ContainerFilter(label_selector=selector))
        answer = await self._call(self._runtime.ListContainers(request, timeout=CALL_TIMEOUT_S))
        return list(answer.containers)

    async def _assemble(self, uid: str, boxes: list[Any], records: list[Any]) -> RuntimePod:
        sandboxes = [s for b in boxes if (s := await self._sandbox(b)) is not None]
        containers = [c for r in records if (c := await self._container(r)) is not None]
        sandboxes.sort(key=lambda s: (s.attempt, s.created_at), reverse=True)
        containers.sort(key=lambda c: (c.attempt, c.created_at))
        named = sandboxes[0] if sandboxes else None
        return RuntimePod(
            uid,
            named.name if named else "",
            named.namespace if named else "",
            tuple(sandboxes),
            tuple(containers),
        )

    async def _sandbox(self, item: Any) -> Sandbox | None:
        ready = item.state == pb.SANDBOX_READY
        known = self._boxes.get(item.id)
        if known is not None and known.ready == ready:
            return known
        try:
            answer = await self._call(
                self._runtime.PodSandboxStatus(
                    pb.PodSandboxStatusRequest(pod_sandbox_id=item.id), timeout=CALL_TIMEOUT_S
                )
            )
        except NotInRuntime:
            return None
        found = convert.sandbox(answer.status)
        self._boxes[item.id] = found
        return found

    async def _container(self, item: Any) -> RuntimeContainer | None:
        """Details are asked for when the state has changed; a state's details never change."""
        known = self._known.get(item.id)
        phase = convert.PHASES.get(item.state, ContainerPhase.UNKNOWN)
        if known is not None and known.phase is phase and phase is not ContainerPhase.UNKNOWN:
            return known
        try:
            answer = await self._call(
                self._runtime.ContainerStatus(
                    pb.ContainerStatusRequest(container_id=item.id), timeout=CALL_TIMEOUT_S
                )
            )
        except NotInRuntime:
            return None
        found = convert.container(answer.status, item.pod_sandbox_id)
        self._known[item.id] = found
        return found

    # -------------------------------------------------------------------------------------------------- watching
    async def watch(self, changed: Callable[[str], None]) -> None:
        hint = asyncio.Event()
        live = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                _ = group.create_task(self._events_forever(hint, live))
                _ = group.create_task(self._relist_forever(changed, hint, live))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _events_forever(self, hint: asyncio.Event, live: asyncio.Event) -> None:
        request = pbwire.message(_1='topic~="^/tasks/"')
        while True:
            stream = self._channel.unary_stream("/containerd.services.events.v1.Events/Subscribe")
            with contextlib.suppress(grpc.aio.AioRpcError):
                live.set()
                async for _ in stream(request, metadata=(("containerd-namespace", "k8s.io"),)):
                    hint.set()
            live.clear()
            hint.set()
            await asyncio.sleep(RELIST_WITHOUT_EVENTS_S)

    async def _relist_forever(
        self, changed: Callable[[str], None], hint: asyncio.Event, live: asyncio.Event
    ) -> None:
        before = await self._picture()
        while True:
            pause = RELIST_WITH_EVENTS_S if live.is_set() else RELIST_WITHOUT_EVENTS_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await hint.wait()
            bursts = RELIST_AFTER_EVENT_S if hint.is_set() else (0.0,)
            hint.clear()
            for delay in bursts:
                await asyncio.sleep(delay)
                now = await self._picture()
                for uid in differing(before, now):
                    changed(uid)
                before = now

    async def _picture(self) -> Picture:
        picture: dict[str, set[tuple[str, int]]] = {}
        boxes, records = await self._list_sandboxes({}), await self._list_containers({})
        for item in (*boxes, *records):
            uid = item.labels.get(LABEL_POD_UID, "")
            picture.setdefault(uid, set()).add((item.id, item.state))
        alive = {item.id for item in (*boxes, *records)}
        for gone in [i for i in self._known if i not in alive]:
            del self._known[gone]
        for gone in [i for i in self._boxes if i not in alive]:
            del self._boxes[gone]
        return {uid: frozenset(items) for uid, items in picture.items() if uid}

    # ------------------------------------------------------------------------------------------------- sandboxes
    async def run_sandbox(self, config: SandboxConfig) -> str:
        request = pb.RunPodSandboxRequest(
            config=convert.sandbox_config(config), runtime_handler=config.runtime_handler
        )
        answer = await self._call(self._runtime.RunPodSandbox(request, timeout=CALL_TIMEOUT_S))
        return str(answer.pod_sandbox_id)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        with contextlib.suppress(NotInRuntime):
            await self._call(
                self._runtime.StopPodSandbox(
                    pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=CALL_TIMEOUT_S
                )
            )

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        with contextlib.suppress(NotInRuntime):
            await self._call(
                self._runtime.RemovePodSandbox(
                    pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=CALL_TIMEOUT_S
                )
            )

    # ------------------------------------------------------------------------------------------------ containers
    async def create_container(
        self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig
    ) -> str:
        request = pb.CreateContainerRequest(
            pod_sandbox_id=sandbox_id,
            config=convert.container_config(config, sandbox),
            sandbox_config=convert.sandbox_config(sandbox),
        )
        answer = await self._call(self._runtime.CreateContainer(request, timeout=CALL_TIMEOUT_S))
        return str(answer.container_id)

    async def start_container(self, container_id: str) -> None:
        request = pb.StartContainerRequest(container_id=container_id)
        await self._call(self._runtime.StartContainer(request, timeout=CALL_TIMEOUT_S))

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        request = pb.StopContainerRequest(container_id=container_id, timeout=round(grace_s))
        with contextlib.suppress(NotInRuntime):
            await self._call(self._runtime.StopContainer(request, timeout=grace_s + CALL_TIMEOUT_S))

    async def remove_container(self, container_id: str) -> None:
        request = pb.RemoveContainerRequest(container_id=container_id)
        with contextlib.suppress(NotInRuntime):
            await self._call(self._runtime.RemoveContainer(request, timeout=CALL_TIMEOUT_S))

    async def reopen_log(self, container_id: str) -> None:
        request = pb.ReopenContainerLogRequest(container_id=container_id)
        await self._call(self._runtime.ReopenContainerLog(request, timeout=CALL_TIMEOUT_S))

    def log_text(self, container_id: str) -> bytes | None:
        return None

    # ---------------------------------------------------------------------------------------------------- images
    async def image(self, name: str) -> Image | None:
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=name))
        answer = await self._call(self._images.ImageStatus(request, timeout=CALL_TIMEOUT_S))
        return convert.image(answer.image) if answer.HasField("image") else None

    async def images(self) -> Sequence[Image]:
        answer = await self._call(
            self._images.ListImages(pb.ListImagesRequest(), timeout=CALL_TIMEOUT_S)
        )
        return [convert.image(item) for item in answer.images]

    async def pull(self, name: str, auth: ImageAuth | None = None) -> str:
        request = pb.PullImageRequest(image=pb.ImageSpec(image=name))
        if auth is not None:
            request.auth.CopyFrom(pb.AuthConfig(username=auth.username, password=auth.password))
        try:
            answer = await self._images.PullImage(request, timeout=PULL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise translate(error) from error
            raise ImagePullError(error.details() or str(error.code())) from error
        return str(answer.image_ref)

    # -------------------------------------------------------------------------------------------------- entering
    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float
    ) -> ExecResult:
        request = pb.ExecSyncRequest(
            container_id=container_id, cmd=list(command), timeout=max(round(timeout_s), 1)
        )
        try:
            answer = await self._runtime.ExecSync(request, timeout=timeout_s + 10)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError(f"command timed out after {timeout_s:g}s") from error
            raise translate(error) from error
        return ExecResult(answer.exit_code, answer.stdout + answer.stderr)

    async def exec(self, container_id: str, request: StreamRequest, streams: Streams) -> int:
        exec_id = self._ids.uid().replace("-", "")
        return await TaskExec(self._raw, self._exec_dir, container_id, exec_id).run(
            request, streams
        )

    async def attach(self, container_id: str, request: StreamRequest, streams: Streams) -> None:
        answer = await self._call(
            self._runtime.Attach(
                pb.AttachRequest(
                    container_id=container_id,
                    stdin=request.stdin,
                    tty=request.tty,
                    stdout=request.stdout,
                    stderr=request.stderr and not request.tty,
                ),
                timeout=CALL_TIMEOUT_S,
            )
        )
        await attach.attach(answer.url, request, streams)

    async def connect(
        self, sandbox_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        answer = await self._call(
            self._runtime.PodSandboxStatus(
                pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=True),
                timeout=CALL_TIMEOUT_S,
            )
        )
        if answer.status.state != pb.SANDBOX_READY:
            raise RuntimeFault(f"sandbox container {sandbox_id} is not running")
        namespace = convert.network_namespace(answer.info)
        try:
            return await netns.connect_localhost(namespace, port)
        except OSError as error:
            raise RuntimeFault(
                f'failed to execute portforward in network namespace "{namespace or "host"}": '
                f'failed to connect to localhost:{port} inside namespace "{sandbox_id}", {error} '
            ) from error


def differing(before: Picture, now: Picture) -> list[str]:
    """Uids whose sandboxes or containers are not as they were."""
    return [uid for uid in dict.fromkeys([*before, *now]) if before.get(uid) != now.get(uid)]
