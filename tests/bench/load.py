"""The load on an API server: a process of clients that carries out one job after the other, and tells what it saw.

keep          connections that ask again as soon as they are answered
scan          LISTs of all pods, gzipped, one after the other; beside them, if wanted, GETs without a pause
follow        watchers, and writers that change objects until every watcher was told of all of it
"""

import asyncio
import itertools
import json
import multiprocessing
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self, cast

import uvloop
from tests.bench import realpods, wire
from tests.bench.wire import Files, Wire

MAPS = "/api/v1/namespaces/default/configmaps"
FOLLOWED = {"pods": realpods.PODS, "configmaps": MAPS}
MERGE = "application/merge-patch+json"
_DEADLINE_S = 300.0
_numbers = itertools.count(1)
"""Never the same twice in this process."""


@dataclass(frozen=True)
class Keep:
    """`what` is one of `_requests`' words."""

    what: str
    connections: int
    seconds: float
    port: int = 0
    """Of another server than the job's usual one."""


@dataclass(frozen=True)
class Scan:
    lists: int
    meanwhile: bool = False
    """Whether somebody asks for one object all the time."""


@dataclass(frozen=True)
class Follow:
    """Each of `writers` changes its own object `changes` times; how many of them at once is what batches events."""

    resource: str
    watchers: int
    writers: int
    changes: int


@dataclass
class Seen:
    """What came of a job. Seconds are wall clock."""

    operations: int = 0
    size: int = 0
    took: list[float] = field(default_factory=list)
    """Of each operation."""
    first: list[float] = field(default_factory=list)
    """A LIST's first piece of its body."""
    meanwhile: list[float] = field(default_factory=list)
    """GETs beside it."""


def _requests(what: str, number: int) -> Iterator[bytes]:
    """What one connection asks, for ever."""
    pod = f"{realpods.PODS}/{realpods.FIRST}"
    if what == "bare":
        return itertools.repeat(wire.request("GET", "/"))
    if what == "get":
        return itertools.repeat(wire.request("GET", pod))
    if what == "create":
        body = json.dumps(realpods.wish()).encode()
        return itertools.repeat(wire.request("POST", realpods.PODS, body, "application/json"))
    if what == "status":
        return (_report(realpods.name_of(number), count) for count in _numbers)
    if what == "configmap":
        return (_map(count) for count in _numbers)
    raise ValueError(what)


def _report(name: str, count: int) -> bytes:
    body = json.dumps(realpods.change(count), separators=(",", ":")).encode()  # as Go writes it
    path = f"{realpods.PODS}/{name}/status"
    return wire.request("PATCH", path, body, realpods.STRATEGIC)


def _map(number: int) -> bytes:
    document = {"metadata": {"name": f"m-{number}"}, "data": {"text": "x" * 1000}}
    return wire.request("POST", MAPS, json.dumps(document).encode(), "application/json")


async def _keep(job: Keep, port: int, files: Files, started: Any) -> Seen:
    seen = Seen()
    wires = await Wire.several(job.port or port, files, "bench", job.connections)
    await started()
    until = time.monotonic() + job.seconds

    async def one(number: int, connection: Wire) -> None:
        asked = _requests(job.what, number)
        while (begun := time.monotonic()) < until:
            connection.writer.write(next(asked))
            status, size = await connection.answer()
            assert status in (200, 201), status
            seen.operations += 1
            seen.size += size
            seen.took.append(time.monotonic() - begun)
        connection.writer.close()

    await asyncio.gather(*itertools.starmap(one, enumerate(wires)))
    return seen


async def _scan(job: Scan, port: int, files: Files, started: Any) -> Seen:
    seen = Seen()
    lists, gets = await Wire.several(port, files, "bench", 2)
    await started()
    asking = True

    async def beside() -> None:
        asked = wire.request("GET", f"{realpods.PODS}/{realpods.FIRST}")
        while asking:
            begun = time.monotonic()
            gets.writer.write(asked)
            assert (await gets.answer())[0] == 200
            seen.meanwhile.append(time.monotonic() - begun)

    task = asyncio.create_task(beside()) if job.meanwhile else None
    for _ in range(job.lists):
        begun = time.monotonic()
        lists.send("GET", "/api/v1/pods", "gzip")
        status, head = await lists.head()
        assert status == 200 and b"gzip" in head, head
        size = len(await lists.chunk())
        seen.first.append(time.monotonic() - begun)
        while more := len(await lists.chunk()):
            size += more
        seen.took.append(time.monotonic() - begun)
        seen.operations += 1
        seen.size += size
    asking = False
    if task is not None:
        await task
    return seen


class _Listener(asyncio.Protocol):
    """One watcher: counts the events that it was sent. A line of JSON ends with the only newline in it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._tail = b""
        self.events = -1
        """The head's end counts as one."""
        self.begun = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self.transport.write(wire.request("GET", self._path))

    def data_received(self, data: bytes) -> None:
        text = self._tail + data
        self.events += text.count(b"\n\r\n")
        self._tail = text[-2:]
        if not self.begun.done():
            assert text.startswith(b"HTTP/1.1 200"), text[:200]
            self.begun.set_result(None)


async def _listeners(job: Follow, port: int, files: Files, revision: str) -> Sequence[_Listener]:
    loop, tls = asyncio.get_running_loop(), wire.context(files, "bench")
    path = f"{FOLLOWED[job.resource]}?watch=1&resourceVersion={revision}"
    gate = asyncio.Semaphore(16)  # handshakes at a time

    async def one() -> _Listener:
        async with gate:
            _, listener = await loop.create_connection(
                lambda: _Listener(path), "127.0.0.1", port, ssl=tls, server_hostname="127.0.0.1"
            )
        await listener.begun
        return listener

    return await asyncio.gather(*(one() for _ in range(job.watchers)))


async def _follow(job: Follow, port: int, files: Files, started: Any) -> Seen:
    seen = Seen()
    (asking,) = await Wire.several(port, files, "bench", 1)
    asking.send("GET", f"{FOLLOWED[job.resource]}?limit=1")
    _, head = await asking.head()
    listed = await asking.reader.readexactly(int(head.split(b"content-length:")[1].split()[0]))
    listeners = await _listeners(
        job, port, files, json.loads(listed)["metadata"]["resourceVersion"]
    )
    # last, for a connection on which nothing is asked is ended, and many watchers take their time to come
    wires = await Wire.several(port, files, "bench", job.writers)
    await started()

    async def write(number: int, connection: Wire) -> None:
        for _ in range(job.changes):
            begun = time.monotonic()
            connection.writer.write(_change(job.resource, number))
            assert (await connection.answer())[0] == 200
            seen.took.append(time.monotonic() - begun)

    await asyncio.gather(*itertools.starmap(write, enumerate(wires)))
    seen.operations = job.writers * job.changes
    latest = time.monotonic() + _DEADLINE_S
    while any(listener.events < seen.operations for listener in listeners):
        assert time.monotonic() < latest, [listener.events for listener in listeners][:10]
        await asyncio.sleep(0.005)
    for listener in listeners:
        assert listener.events == seen.operations
        listener.transport.abort()
    return seen


def _change(resource: str, number: int) -> bytes:
    """A small change of the number's own object, always another."""
    name = realpods.name_of(number) if resource == "pods" else f"followed-{number}"
    body = {"metadata": {"annotations": {"n": str(next(_numbers))}}}
    return wire.request("PATCH", f"{FOLLOWED[resource]}/{name}", json.dumps(body).encode(), MERGE)


_WORK: dict[type, Any] = {Keep: _keep, Scan: _scan, Follow: _follow}


async def _serve(port: int, files: Files, jobs: Any, told: Any) -> None:
    loop = asyncio.get_running_loop()

    async def started() -> None:
        told.put("ready")

    while (job := await loop.run_in_executor(None, jobs.get)) is not None:
        told.put(await _WORK[type(job)](job, port, files, started))


def _process(port: int, files: Files, jobs: Any, told: Any) -> None:
    uvloop.run(_serve(port, files, jobs, told))


@dataclass(frozen=True)
class Measured:
    """A job, and what it took this process."""

    seen: Seen
    cpu_s: float
    wall_s: float


class Load:
    """The clients' process, from the server's side."""

    def __init__(self, port: int, files: Files) -> None:
        context = multiprocessing.get_context("spawn")
        self._jobs, self._told = context.Queue(), context.Queue()
        self._process = context.Process(
            target=_process, args=(port, files, self._jobs, self._told), daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        self._process.join(10)

    async def run(self, job: Keep | Scan | Follow) -> Measured:
        """Carry a job out. What connections cost that are opened for it is not counted."""
        self._jobs.put(job)
        assert await self._answer() == "ready"
        cpu, wall = time.process_time(), time.monotonic()
        seen = await self._answer()
        return Measured(seen, time.process_time() - cpu, time.monotonic() - wall)

    async def _answer(self) -> Any:
        loop = asyncio.get_running_loop()
        while True:
            with suppress(queue.Empty):
                return await loop.run_in_executor(None, self._told.get, True, 2.0)
            assert self._process.is_alive(), "the clients' process has ended"
