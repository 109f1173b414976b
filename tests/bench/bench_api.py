"""CPU of the API server per operation: GET, create of a pod (durable), LIST of 30,000 pods, beside bare aiohttp.

    .venv/bin/python tests/bench/bench_api.py [--pods 30000] [--seconds 2] [--rounds 5]

TLS with client certificates, RBAC (the client is not in system:masters), field managers and validation are on; the
store is SQLite with synchronous=FULL. The clients are another process; what is counted is user+sys time of this one.
The operations take turns in rounds and the median counts, because a busy neighbour makes every instruction dearer; even
so only ratios within one run say much, and wall figures nothing: each figure tells how often it holds the baseline, a GET
of the same bytes from bare aiohttp over the same TLS, measured in the same rounds.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import yardstick
from tests.bench.report import Figure, hand_over
from tests.support.apiserver import RunningServer, running_server

from machinery.server.app import settle_collector
from machinery.server.pki import server_context
from machinery.store.sql import open_store

USER = "bench"
BASELINE = "baseline: bare aiohttp, TLS, same bytes"
WANTED_US = {"GET pod": 60.0, "create pod, durable": 400.0}
CONNECTIONS = 16
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "generateName": "web-5d9c7b6f-",
        "labels": {"app": "web", "pod-template-hash": "5d9c7b6f"},
        "ownerReferences": [
            {
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c7b6f",
                "uid": "0b5a1a36-4c1b-4df8-9d5c-6d3a1f1c2b3a", "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    },
    "spec": {
        "containers": [
            {
                "name": "web", "image": "docker.io/lab/whoami:1", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            }
        ]
    },
}  # fmt: skip
REQUESTS = {
    "get": ("GET", "/api/v1/namespaces/default/pods/fixed", b""),
    "create": ("POST", "/api/v1/namespaces/default/pods", json.dumps(POD).encode()),
    "list": ("GET", "/api/v1/pods", b""),
    "bare": ("GET", "/", b""),
}


def _head(method: str, path: str, body: bytes) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: x",
        "Accept: application/json",
        "User-Agent: bench/1",
    ]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def _load(
    port: int, files: dict[str, str], what: str, seconds: float, report: object
) -> None:
    """Keep CONNECTIONS connections busy for `seconds`; puts (operations, bytes) into the queue."""
    tls = ssl.create_default_context(cafile=files["ca"])
    tls.check_hostname = False
    tls.load_cert_chain(files["cert"], files["key"])
    request = _head(*REQUESTS[what])
    counts = [0, 0]
    connections = 1 if what == "list" else CONNECTIONS
    pipes = [await asyncio.open_connection("127.0.0.1", port, ssl=tls) for _ in range(connections)]
    report.put("ready")  # type: ignore[attr-defined]
    until = time.monotonic() + seconds

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while time.monotonic() < until:
            writer.write(request)
            size = await _answer(reader)
            counts[0] += 1
            counts[1] += size
        writer.close()

    async with asyncio.TaskGroup() as group:
        for reader, writer in pipes:
            group.create_task(one(reader, writer))
    report.put(tuple(counts))  # type: ignore[attr-defined]


async def _answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith((b"http/1.1 200", b"http/1.1 201")), head
    if b"chunked" not in head:
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        return length
    total = 0
    while size := int(await reader.readline(), 16):
        await reader.readexactly(size + 2)
        total += size
    await reader.readline()
    return total


def _client(port: int, files: dict[str, str], what: str, seconds: float, report: object) -> None:
    uvloop.run(_load(port, files, what, seconds, report))


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


async def _measure(
    port: int, files: dict[str, str], what: str, seconds: float
) -> tuple[float, int, int]:
    """(CPU µs of this process per operation, operations, bytes)."""
    context = multiprocessing.get_context("spawn")
    report = context.Queue()
    process = context.Process(target=_client, args=(port, files, what, seconds, report))
    process.start()
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, report.get) == "ready"
    before = _cpu()
    operations, size = await loop.run_in_executor(None, report.get)
    used = _cpu() - before
    process.join()
    return used / max(operations, 1) * 1e6, operations, size


async def _bare(server: RunningServer, files: dict[str, str], body: bytes, seconds: float) -> float:
    """The same TLS and bytes from aiohttp's low-level server."""

    async def handler(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    bare = web.Server(handler, access_log=None)
    tls = server_context(
        server.api.ca_pem, server.api.authority.issue_serving("bare", ["127.0.0.1"])
    )
    listening = await asyncio.get_running_loop().create_server(bare, "127.0.0.1", 0, ssl=tls)
    try:
        used, _, _ = await _measure(listening.sockets[0].getsockname()[1], files, "bare", seconds)
        return used
    finally:
        listening.close()
        await bare.shutdown(1.0)


async def _prepare(server: RunningServer, folder: Path) -> dict[str, str]:
    """The client's certificate and its rights."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": USER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": USER}],
    }
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    await server.rest.request("POST", path, body=json.dumps(binding).encode())
    pod = {**POD, "metadata": {**POD["metadata"], "name": "fixed"}}  # type: ignore[dict-item]
    await server.rest.request("POST", REQUESTS["create"][1], body=json.dumps(pod).encode())
    pair = server.api.client_pair(USER)
    files = {name: str(folder / name) for name in ("ca", "cert", "key")}
    Path(files["ca"]).write_text(server.api.ca_pem)
    Path(files["cert"]).write_bytes(pair.certificate)
    Path(files["key"]).write_bytes(pair.key)
    return files


async def _fill(server: RunningServer, pods: int) -> None:
    """Bring the number of pods up to `pods`, in process."""
    from machinery.api.core import PODS

    have = len(server.api.registry.cache.of(server.api.scheme.by_plural("", "v1", "pods")).entries)  # type: ignore[arg-type]
    gate = asyncio.Semaphore(256)

    async def one() -> None:
        async with gate:
            await server.local.create(PODS, POD, "default")

    async with asyncio.TaskGroup() as group:
        for _ in range(max(pods - have, 0)):
            group.create_task(one())


async def run(pods: int, seconds: float, rounds: int) -> list[Figure]:
    """All measurements in one process and one run."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/store.db")
        async with running_server(store=store) as server:
            files = await _prepare(server, Path(folder))
            body = await server.rest.request("GET", REQUESTS["get"][1])
            settle_collector()
            port = server.api.port
            print(f"body of the pod: {len(body)} bytes; {CONNECTIONS} connections, TLS, RBAC")
            steps: dict[str, Callable[[], Awaitable[float]]] = {
                BASELINE: lambda: _bare(server, files, body, seconds),
                "GET pod": lambda: _first(_measure(port, files, "get", seconds)),
                "create pod, durable": lambda: _first(_measure(port, files, "create", seconds)),
            }
            samples: list[float] = []
            found = await _in_turn(steps, rounds, samples)
            figures = [
                Figure(
                    name, used, "us CPU/op", WANTED_US.get(name),
                    note=f"{used / found[BASELINE]:.1f} x baseline, {yardstick.when_quiet(used, samples)}",
                )
                for name, used in found.items()
            ]  # fmt: skip
            figures.append(yardstick.figure(samples))
            await _fill(server, pods)
            settle_collector()
            used, operations, size = await _measure(port, files, "list", max(seconds, 5.0))
            name = f"LIST {pods:,} pods ({size // max(operations, 1) / 1e6:.0f} MB)"
            return [*figures, Figure(name, used / 1e3, "ms CPU/op", most=200.0)]


async def _in_turn(
    steps: dict[str, Callable[[], Awaitable[float]]], rounds: int, samples: list[float]
) -> dict[str, float]:
    """The median of each step's rounds; yardsticks taken between them go into `samples`."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(await step())
            samples.append(yardstick.measure())
    return {name: statistics.median(values) for name, values in found.items()}


async def _first(measured: Awaitable[tuple[float, int, int]]) -> float:
    return (await measured)[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=30_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", default="", help="write the figures into this file")
    arguments = parser.parse_args()
    results = uvloop.run(run(arguments.pods, arguments.seconds, arguments.rounds))
    hand_over(results, arguments.json)
