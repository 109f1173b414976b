"""What a flood by one client leaves others: their latency while it asks for long LISTs on hundreds of connections.

    .venv/bin/python tests/bench/bench_fairness.py [--pods 10000] [--connections 200] [--seconds 10]

The flood asks again as soon as it is answered, and after a second where it is told 429. Beside it another user reads and patches one
object at a time, a node renews its Lease, and a watch waits for each patch. The flood is a process of its own, the others are
another; TLS and RBAC are on. Wall clock on a shared machine: what is told is only whether others wait for seconds.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import realpods
from tests.bench.report import Figure, hand_over, percentile
from tests.bench.wire import Begin, Files, Wire, bind, credentials, process
from tests.support.apiserver import RunningServer, running_server

from machinery.server.app import settle_collector
from machinery.store.sql import open_store

NODE = "system:node:n1"
PODS = realpods.PODS
MAP = "/api/v1/namespaces/default/configmaps/shared"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
WANTED_S = 1.0


async def flood(port: int, files: Files, connections: int, begin: Begin) -> Counter[int]:
    """Answers by status."""
    found: Counter[int] = Counter()
    wires = await Wire.several(port, files, "flood", connections)
    until = await begin()

    async def one(wire: Wire) -> None:
        while time.time() < until:
            status = await wire.ask("GET", PODS)
            found[status] += 1
            if status == 429:
                await asyncio.sleep(1)

    await asyncio.gather(*map(one, wires))
    return found


async def others(port: int, files: Files, begin: Begin) -> dict[str, list[float]]:
    """Seconds of every request, by what it was."""
    took: dict[str, list[float]] = {
        "GET": [], "GET, the long way": [], "patch until watched": [], "node's lease": [],
    }  # fmt: skip
    watch, reads, writes = await Wire.several(port, files, "other", 3)
    (node,) = await Wire.several(port, files, "node", 1)
    watch.send("GET", f"{MAP.rpartition('/')[0]}?watch=1&fieldSelector=metadata.name%3Dshared")
    assert (await watch.head())[0] == 200
    await watch.chunk()
    until = await begin()

    async def reading() -> None:
        while time.time() < until:
            for name, path in (("GET", MAP), ("GET, the long way", f"{MAP}?resourceVersion=0")):
                begun = time.monotonic()
                assert await reads.ask("GET", path) == 200
                took[name].append(time.monotonic() - begun)
            await asyncio.sleep(0.01)

    async def patching() -> None:
        for number in range(1 << 30):
            if time.time() >= until:
                return
            body = json.dumps({"data": {"n": str(number)}}).encode()
            begun = time.monotonic()
            assert await writes.ask("PATCH", MAP, body, "application/merge-patch+json") == 200
            await watch.chunk()
            took["patch until watched"].append(time.monotonic() - begun)
            await asyncio.sleep(0.01)

    async def renewing() -> None:
        for number in range(1 << 30):
            if time.time() >= until:
                return
            body = json.dumps({"spec": {"leaseDurationSeconds": 40 + number % 2}}).encode()
            begun = time.monotonic()
            assert await node.ask("PATCH", LEASE, body, "application/merge-patch+json") == 200
            took["node's lease"].append(time.monotonic() - begun)
            await asyncio.sleep(0.01)

    await asyncio.gather(reading(), patching(), renewing())
    return took


async def _prepare(server: RunningServer, folder: Path) -> Files:
    ask = server.rest.request
    for user in ("flood", "other"):
        await bind(server, user, "edit")
    await ask("POST", MAP.rpartition("/")[0], body=b'{"metadata": {"name": "shared"}}')
    lease = {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}
    await ask("POST", LEASE.rpartition("/")[0], body=json.dumps(lease).encode())
    users = [("flood", "flood", ()), ("other", "other", ()), ("node", NODE, ("system:nodes",))]
    return await credentials(server, folder, users)


async def run(pods: int, connections: int, seconds: float) -> list[Figure]:
    """One flood."""
    context, loop = multiprocessing.get_context("spawn"), asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/store.db")
        async with running_server(store=store) as server:
            files = await _prepare(server, Path(folder))
            await realpods.fill(server, pods)
            settle_collector()
            told, go, port = [context.Queue(), context.Queue()], context.Queue(), server.api.port
            works = (
                (flood, told[0], go, port, files, connections),
                (others, told[1], go, port, files),
            )
            processes = [context.Process(target=process, args=work) for work in works]
            for started in processes:
                started.start()
            for queue in told:
                assert await loop.run_in_executor(None, queue.get) == "ready"
            for _ in told:
                go.put(time.time() + seconds)
            statuses, took = [await loop.run_in_executor(None, queue.get) for queue in told]
            for started in processes:
                started.join()
    note = f"{statuses[200]} LISTs, {statuses[429]} refused, {connections} connections"
    figures = [
        Figure(f"flood of LISTs of {pods:,} pods", statuses[200] / seconds, "1/s", note=note)
    ]
    for name, times in took.items():
        times = times or [seconds]
        p99 = percentile(times, 0.99)
        note = f"median {statistics.median(times) * 1e3:.0f} ms, worst {max(times) * 1e3:.0f} ms of {len(times):,}"
        figures.append(Figure(f"meanwhile, {name}: p99", p99, "s", WANTED_S, note=note))
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", default="", help="write the figures into this file")
    options = parser.parse_args()
    results = uvloop.run(run(options.pods, options.connections, options.seconds))
    hand_over(results, options.json)
