"""Exec through containerd's task service: named pipes for the streams, CloseIO for the end of the input.

CRI's own streaming server (containerd 1.6) takes WebSocket v4 only, which cannot say that the input has ended, so
`cat x | kubectl exec -i` would hang. The task service can: the process gets pipes of ours, and when the input ends its
pipe is closed. Terminals and resizing go the same way, so that exec has one path.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import orjson

from cluster_agent.node.cri import pbwire
from cluster_agent.node.cri.interface import NotInRuntime, RuntimeFault, StreamRequest, Streams

NAMESPACE = (("containerd-namespace", "k8s.io"),)
PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
READ_BYTES = 32 * 1024
DRAIN_S = 3.0
"""How long output may come after the process has ended (a background child may hold the pipe for ever)."""
SIGKILL = 9

Call = Callable[[str, bytes], Awaitable[bytes]]
"""(method, request) -> answer, as bytes."""


def raw_call(
    channel: grpc.aio.Channel, translate: Callable[[grpc.aio.AioRpcError], Exception]
) -> Call:
    """Unary calls with hand-made messages over `channel`."""

    async def call(method: str, request: bytes) -> bytes:
        stub = channel.unary_unary(method)
        try:
            answer: bytes = await stub(request, metadata=NAMESPACE)
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        return answer

    return call


class TaskExec:
    """One process in a running container."""

    def __init__(self, call: Call, folder: Path, container_id: str, exec_id: str) -> None:
        self._call, self._container, self._exec = call, container_id, exec_id
        self._folder = folder / exec_id
        self._started = False

    async def run(self, request: StreamRequest, streams: Streams) -> int:
        """From the start to the end; the exit code. When cancelled the process is killed."""
        self._folder.mkdir(parents=True, mode=0o700)
        try:
            return await self._run(request, streams)
        finally:
            await self._clear()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _pipe(self, name: str, wanted: bool) -> str:
        if not wanted:
            return ""
        path = str(self._folder / name)
        os.mkfifo(path, 0o600)
        return path

    async def _run(self, request: StreamRequest, streams: Streams) -> int:
        stdin = self._pipe("stdin", request.stdin)
        stdout = self._pipe("stdout", True)  # the shim wants both, also when nobody listens
        stderr = self._pipe("stderr", not request.tty)
        held = [os.open(p, os.O_RDWR | os.O_NONBLOCK) for p in (stdin, stdout, stderr) if p]
        out = streams.stdout if request.stdout or request.tty else _discard
        err = streams.stderr if request.stderr else _discard
        readers = [
            (os.open(path, os.O_RDONLY | os.O_NONBLOCK), send)
            for path, send in ((stdout, out), (stderr, err))
            if path
        ]
        try:
            await self._exec_and_start(request, stdin, stdout, stderr)
            writer = os.open(stdin, os.O_WRONLY | os.O_NONBLOCK) if stdin else -1
        except BaseException:
            for descriptor, _ in readers:
                os.close(descriptor)
            raise
        finally:
            for descriptor in held:
                os.close(descriptor)
        return await self._pump(request, streams, readers, writer)

    async def _exec_and_start(
        self, request: StreamRequest, stdin: str, stdout: str, stderr: str
    ) -> None:
        process = await self._process(request)
        any_spec = pbwire.message(_1=PROCESS_TYPE, _2=orjson.dumps(process))
        body = pbwire.message(
            _1=self._container, _2=stdin, _3=stdout, _4=stderr, _5=request.tty, _6=any_spec,
            _7=self._exec,
        )  # fmt: skip
        await self._task("Exec", body)
        self._started = True
        await self._task("Start", pbwire.message(_1=self._container, _2=self._exec))

    async def _task(self, method: str, body: bytes) -> bytes:
        return await self._call(f"/containerd.services.tasks.v1.Tasks/{method}", body)

    async def _process(self, request: StreamRequest) -> dict[str, Any]:
        """The container's own process (user, environment, limits) with another command."""
        answer = await self._call(
            "/containerd.services.containers.v1.Containers/Get", pbwire.message(_1=self._container)
        )
        container = pbwire.first(answer, 1)
        spec = pbwire.first(container, 5) if isinstance(container, bytes) else None
        value = pbwire.first(spec, 2) if isinstance(spec, bytes) else None
        if not isinstance(value, bytes):
            raise NotInRuntime(f"container {self._container} has no specification")
        process: dict[str, Any] = orjson.loads(value)["process"]
        process |= {"args": list(request.command), "terminal": request.tty}
        if request.tty:
            env = [e for e in process.get("env", []) if not e.startswith("TERM=")]
            process["env"] = [*env, "TERM=xterm"]
        else:
            process.pop("consoleSize", None)
        return process

    # --------------------------------------------------------------------------------------------------- the streams
    async def _pump(
        self,
        request: StreamRequest,
        streams: Streams,
        readers: Sequence[tuple[int, Callable[[bytes], Awaitable[None]]]],
        writer: int,
    ) -> int:
        async with asyncio.TaskGroup() as group:
            outputs = [group.create_task(_copy_out(fd, send)) for fd, send in readers]
            side = [group.create_task(self._copy_in(writer, streams))] if writer >= 0 else []
            if request.tty:
                side.append(group.create_task(self._resize(streams)))
            code = await self._wait()
            if outputs:
                await asyncio.wait(outputs, timeout=DRAIN_S)
            for task in (*outputs, *side):
                task.cancel()
        return code

    async def _wait(self) -> int:
        answer = await self._task("Wait", pbwire.message(_1=self._container, _2=self._exec))
        code = pbwire.first(answer, 1)
        return code if isinstance(code, int) else 0

    async def _copy_in(self, descriptor: int, streams: Streams) -> None:
        """Input until its end; then the pipe is closed on both sides."""
        try:
            while (data := await streams.read_stdin()) is not None:
                await _write_all(descriptor, data)
        except BrokenPipeError:
            return
        finally:
            os.close(descriptor)
        with contextlib.suppress(RuntimeFault):
            await self._task("CloseIO", pbwire.message(_1=self._container, _2=self._exec, _3=True))

    async def _resize(self, streams: Streams) -> None:
        while (size := await streams.read_resize()) is not None:
            body = pbwire.message(_1=self._container, _2=self._exec, _3=size[0], _4=size[1])
            with contextlib.suppress(RuntimeFault):
                await self._task("ResizePty", body)

    async def _clear(self) -> None:
        """Kill what may still run, and forget it."""
        if not self._started:
            return
        kill = pbwire.message(_1=self._container, _2=self._exec, _3=SIGKILL)
        forget = pbwire.message(_1=self._container, _2=self._exec)
        with contextlib.suppress(RuntimeFault):
            await self._task("Kill", kill)
        for _ in range(20):
            try:
                await self._task("DeleteProcess", forget)
            except RuntimeFault:
                await asyncio.sleep(0.05)
            else:
                return


async def _discard(_data: bytes) -> None:
    return


async def _copy_out(descriptor: int, send: Callable[[bytes], Awaitable[None]]) -> None:
    """Everything from a pipe until all its writers have gone."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            try:
                data = os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                await _ready(loop, descriptor, write=False)
                continue
            if not data:
                return
            await send(data)
    finally:
        os.close(descriptor)


async def _write_all(descriptor: int, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await _ready(loop, descriptor, write=True)


async def _ready(loop: asyncio.AbstractEventLoop, descriptor: int, *, write: bool) -> None:
    """Until the pipe can be read or written."""
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    add, remove = (
        (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    )
    add(descriptor, wake)
    try:
        await waiter
    finally:
        remove(descriptor)
