"""The API server, one process: what each operation costs it, beside the promise and beside kube-apiserver with etcd.

    .venv/bin/python tests/bench/bench_api.py [--quick | --full] [--only get,create,status,list,watch,memory]

get         GET of a pod of 5.3 kB, 16 connections; beside it the same bytes from bare aiohttp over the same TLS
create      POST of a pod (1.5 kB) until the store has it, and of a ConfigMap of 1 kB, 16 connections
status      a kubelet's report by strategic merge patch, 16 pods of 5.3 kB
list        LIST of 30,000 pods, gzipped: CPU, the first piece of the body, and GETs of another connection meanwhile
watch       CPU for each event and watcher, the write included: one writer, whose changes are told one by one, and many at
            once, whose changes the store commits and watchers are told together
memory      resident memory of a server process with 30,000 pods less that of one with none: the one that was told of all of
            them (each a change), and one that starts on their database

TLS with client certificates, RBAC (the client is not in system:masters), field managers and validation are on; the store is SQLite
with synchronous=FULL. The clients are another process; what is counted is user+sys time of this one, in rounds, of which the
median counts. A busy neighbour makes every instruction dearer, so each figure is told as it was and as the yardstick beside it
says that it would be on a quiet machine; of waiting (wall clock) nothing of the kind can be said. `turn` is the longest time that
the loop spent between two looks at its sockets while it answered a LIST, in CPU time of its thread: so long others waited for it.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import realpods, wire, yardstick
from tests.bench.load import MAPS, Follow, Keep, Load, Measured, Scan
from tests.bench.report import Figure, hand_over, percentile, table
from tests.support.apiserver import RunningServer, running_server

from machinery.server.app import settle_collector
from machinery.server.pki import server_context
from machinery.store.sql import open_store

CONNECTIONS = 16
MANY = 1000
"""Watchers that take so long that one round must do."""
ROLE: dict[str, Any] = {
    "metadata": {"name": "bench"},
    "rules": [
        {"apiGroups": [""], "resources": ["pods", "pods/status", "configmaps"], "verbs": ["*"]}
    ],
}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seconds: float
    rounds: int
    pods: int
    lists: int
    watchers: tuple[int, ...]
    changes: int

    @classmethod
    def of(cls, *, quick: bool, full: bool) -> "Sizes":
        if quick:
            return cls(0.5, 1, 3_000, 2, (100,), 64)
        return cls(2.0, 5, 30_000, 5, (100, MANY) if full else (100,), 128)


@dataclass
class Bench:
    """A running server and its clients."""

    server: RunningServer
    load: Load
    folder: Path
    sizes: Sizes
    samples: list[float] = field(default_factory=list)
    """Of the yardstick, over everything."""

    async def rounds(self, job: Keep, count: int = 0) -> tuple[yardstick.Readings, list[float]]:
        """(CPU us of each operation, seconds that clients waited)."""
        readings, waited = yardstick.Readings(), list[float]()

        async def one() -> float:
            told = await self.load.run(job)
            waited.extend(told.seen.took)
            return told.cpu_s / told.seen.operations * 1e6

        for _ in range(count or self.sizes.rounds):
            await readings.take(one())
        self.samples += readings.samples
        return readings, waited


def cpu_figure(
    name: str, readings: yardstick.Readings, unit: str, most: float | None, note: str
) -> Figure:
    """As it was measured; what it would be on a quiet machine is judged in the note."""
    quiet, verdict = readings.quiet, ""
    if most is not None:
        verdict = " (ok)" if quiet <= most else " (MISSED)"
    told = f"~{quiet:,.{0 if quiet >= 20 else 1}f} if quiet{verdict}"
    return Figure(name, readings.median, unit, most, note=f"{told}; {note}")


def waits(seconds: list[float]) -> str:
    """Wall clock, for a note."""
    return (
        f"wall {statistics.median(seconds) * 1e3:.1f} ms, p99 {percentile(seconds, 0.99) * 1e3:.0f}"
    )


# ------------------------------------------------------------------------------------------------------------- get
async def get(bench: Bench) -> list[Figure]:
    """Beside the baseline, in turn."""
    body = await bench.server.rest.request("GET", f"{realpods.PODS}/{realpods.FIRST}")
    ours, bare, waited = yardstick.Readings(), yardstick.Readings(), list[float]()
    seconds = bench.sizes.seconds
    for _ in range(bench.sizes.rounds):
        await ours.take(_per_operation(bench, Keep("get", CONNECTIONS, seconds), waited))
        await bare.take(_bare(bench, body))
    bench.samples += ours.samples + bare.samples
    ratio = ours.median / bare.median
    peer = "kube-apiserver+etcd 540"
    return [
        Figure(f"bare aiohttp, TLS, {len(body):,} bytes", bare.median, "us CPU", note=f"~{bare.quiet:.0f} if quiet"),
        cpu_figure(f"GET pod of {len(body):,} bytes", ours, "us CPU", 45, f"{ratio:.1f} x bare; {waits(waited)}; {peer}"),
    ]  # fmt: skip


async def _per_operation(bench: Bench, job: Keep, waited: list[float]) -> float:
    told = await bench.load.run(job)
    waited.extend(told.seen.took)
    return told.cpu_s / told.seen.operations * 1e6


async def _bare(bench: Bench, body: bytes) -> float:
    """The same TLS and bytes from aiohttp's low-level server."""

    async def handler(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    api = bench.server.api
    bare = web.Server(handler, access_log=None)
    tls = server_context(api.ca_pem, api.authority.issue_serving("bare", ["127.0.0.1"]))
    listening = await asyncio.get_running_loop().create_server(bare, "127.0.0.1", 0, ssl=tls)
    try:
        port = listening.sockets[0].getsockname()[1]
        return await _per_operation(bench, Keep("bare", CONNECTIONS, bench.sizes.seconds, port), [])
    finally:
        listening.close()
        await bare.shutdown(1.0)


# ---------------------------------------------------------------------------------------------------------- writes
async def create(bench: Bench) -> list[Figure]:
    found = []
    for what, name, most, peer in (
        ("create", "create pod, durable", 200.0, "1,100-1,600"),
        ("configmap", "create ConfigMap, durable", None, "980"),
    ):
        readings, waited = await bench.rounds(Keep(what, CONNECTIONS, bench.sizes.seconds))
        note = f"{waits(waited)}; kube-apiserver+etcd {peer}"
        found.append(cpu_figure(name, readings, "us CPU", most, note))
    return found


async def status(bench: Bench) -> list[Figure]:
    await realpods.fill(bench.server, CONNECTIONS)
    readings, waited = await bench.rounds(Keep("status", CONNECTIONS, bench.sizes.seconds))
    note = f"{waits(waited)}; kube-apiserver+etcd 2,460"
    return [cpu_figure("status patch of a pod, durable", readings, "us CPU", 150, note)]


# ------------------------------------------------------------------------------------------------------------ list
async def list_(bench: Bench) -> list[Figure]:
    await realpods.fill(bench.server, bench.sizes.pods)
    settle_collector()
    alone = await _gets_alone(bench)
    readings = yardstick.Readings()
    first: list[float] = []
    took: list[float] = []
    size = 0

    async def one() -> float:
        nonlocal size
        told = await bench.load.run(Scan(1))
        first.extend(told.seen.first)
        took.extend(told.seen.took)
        size = told.seen.size
        return told.cpu_s * 1e3

    for _ in range(bench.sizes.lists):
        await readings.take(one())
    turn = await _longest_turn(bench)
    beside = (await bench.load.run(Scan(bench.sizes.lists, meanwhile=True))).seen.meanwhile
    bench.samples += readings.samples
    pods = len(bench.server.api.store.list("/registry/core/pods/").rows)
    raw = sum(len(row.value) for row in bench.server.api.store.list("/registry/core/pods/").rows)
    wall = f"wall {statistics.median(took) * 1e3:.0f} ms"
    return [
        cpu_figure(
            f"LIST of {pods:,} pods, {raw / 1e6:.0f} MB, gzipped to {size / 1e6:.1f}", readings, "ms CPU",
            100 * pods / 30_000, f"{wall}; kube-apiserver 650-850 for 49 MB, not gzipped",
        ),
        Figure("  its first bytes, median", statistics.median(first) * 1e3, "ms", 10, note=f"worst {max(first) * 1e3:.0f}"),
        Figure("  a GET meanwhile, worst", max(beside) * 1e3, "ms", 30,
            note=f"p99 {percentile(beside, 0.99) * 1e3:.0f}, of {len(beside):,}; with no LIST beside, worst {max(alone) * 1e3:.0f}"),
        cpu_figure("  longest turn of the loop", turn, "ms CPU", 10, "CPU time of its thread"),
    ]  # fmt: skip


async def _gets_alone(bench: Bench) -> list[float]:
    """What a single connection's GETs wait on this machine while nothing else is asked."""
    return (await bench.load.run(Keep("get", 1, bench.sizes.seconds))).seen.took


async def _longest_turn(bench: Bench) -> yardstick.Readings:
    """Of a few LISTs, each."""
    readings = yardstick.Readings()

    async def watch_turns(worst: list[float]) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            worst[0] = max(worst[0], now - before)
            before = now

    async def one() -> float:
        worst = [0.0]
        ticker = asyncio.create_task(watch_turns(worst))
        await bench.load.run(Scan(1))
        ticker.cancel()
        with suppress(asyncio.CancelledError):
            await ticker
        return worst[0] * 1e3

    for _ in range(bench.sizes.lists):
        await readings.take(one())
    return readings


# ----------------------------------------------------------------------------------------------------------- watch
async def watch(bench: Bench) -> list[Figure]:
    await realpods.fill(bench.server, 64)
    for number in range(64):
        body = b'{"metadata": {"name": "followed-%d"}, "data": {"text": "%b"}}' % (
            number,
            b"x" * 1000,
        )
        await bench.server.rest.request("POST", MAPS, body=body)
    settle_collector()
    found = []
    changes = bench.sizes.changes
    for watchers in bench.sizes.watchers:
        peer = "39 of 100" if watchers <= 100 else "23 of 1,000"
        for resource, size in (("pods", "5.3 kB"), ("configmaps", "1.3 kB")):
            for writers, how, most in ((1, "one by one", 8.0), (64, "64 writers", 2.0)):
                job = Follow(resource, watchers, writers, max(1, changes // writers))
                name = f"watch, {watchers:,} watchers, {how}, {size}: CPU per event and watcher"
                note = f"kube-apiserver {peer} for 1 kB, one by one"
                found.append(await _followed(bench, job, name, most, note))
    return found


async def _followed(bench: Bench, job: Follow, name: str, most: float, note: str) -> Figure:
    readings, alone, rates = yardstick.Readings(), yardstick.Readings(), list[float]()

    async def one(watchers: int) -> float:
        told: Measured = await bench.load.run(
            Follow(job.resource, watchers, job.writers, job.changes)
        )
        if watchers:
            rates.append(told.seen.operations * watchers / told.wall_s)
        return told.cpu_s / told.seen.operations * 1e6

    for _ in range(1 if job.watchers >= MANY else min(2, bench.sizes.rounds)):
        await readings.take(_shared(one(job.watchers), job.watchers))
        await alone.take(one(0))
    bench.samples += readings.samples
    told = f"a write alone {alone.median:,.0f} us; {statistics.median(rates):,.0f} events/s; {note}"
    return cpu_figure(name, readings, "us CPU", most, told)


async def _shared(measured: Awaitable[float], watchers: int) -> float:
    return await measured / watchers


# ---------------------------------------------------------------------------------------------------------- memory
async def memory(bench: Bench) -> list[Figure]:
    pods = bench.sizes.pods
    folder = bench.folder / "memory"
    folder.mkdir()
    fresh = await _holder(
        f"{folder}/none.db", 0
    )  # it has made its tables, for which much is imported
    none = await _holder(f"{folder}/none.db", 0)
    told = await _holder(f"{folder}/pods.db", pods)
    loaded = await _holder(f"{folder}/pods.db", 0)
    most, peer = 300 * pods / 30_000, "kube-apiserver 1,700-4,900 in all"
    return [
        Figure(f"{pods:,} pods of 5.3 kB in memory, told one by one", told - fresh, "MB", most, note=peer),
        Figure("  the same after a restart", loaded - none, "MB", most, note=f"a server with none {none:.0f}"),
    ]  # fmt: skip


async def _holder(database: str, pods: int) -> float:
    """MB resident of a server process on the database, after `pods` were put into it."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=_hold, args=(database, pods, told))
    process.start()
    resident: float = await asyncio.get_running_loop().run_in_executor(None, told.get)
    process.join()
    return resident


def _hold(database: str, pods: int, told: Any) -> None:
    async def hold() -> float:
        async with running_server(store=open_store(f"sqlite:///{database}")) as server:
            if pods:
                await realpods.fill(server, pods)
            settle_collector()
            await asyncio.sleep(2.0)
            return _resident_mb()

    told.put(uvloop.run(hold()))


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


# ------------------------------------------------------------------------------------------------------------- run
PARTS: dict[str, Callable[[Bench], Awaitable[list[Figure]]]] = {
    "get": get, "create": create, "status": status, "list": list_, "watch": watch, "memory": memory,
}  # fmt: skip


async def run(sizes: Sizes, parts: list[str]) -> list[Figure]:
    """Each part has a server of its own, so that none pays for what another left."""
    figures: list[Figure] = []
    samples: list[float] = []
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(f"sqlite:///{folder}/store.db")
            async with running_server(store=store) as server:
                await server.rest.request(
                    "POST",
                    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
                    body=json.dumps(ROLE).encode(),
                )
                await wire.bind(server, "bench", "bench")
                users = [("bench", "bench", ())]
                files = await wire.credentials(server, Path(folder), users)
                await realpods.begin(server)
                settle_collector()
                with Load(server.api.port, files) as load:
                    bench = Bench(server, load, Path(folder), sizes, samples)
                    found = await PARTS[part](bench)
        print(f"-- {part}\n{table(found)}", file=sys.stderr, flush=True)
        figures += found
    return [*figures, yardstick.figure(samples or [yardstick.measure()])]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small, for a look")
    parser.add_argument("--full", action="store_true", help="1,000 watchers as well: minutes")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, by comma")
    parser.add_argument("--json", default="", help="write the figures into this file")
    arguments = parser.parse_args()
    results = uvloop.run(
        run(Sizes.of(quick=arguments.quick, full=arguments.full), arguments.only.split(","))
    )
    hand_over(results, arguments.json)
