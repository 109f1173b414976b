"""What the gateways cost: CPU of both HAProxies per new connection and per megabyte, at rest, their memory; and whether
reloads under load lose connections.

    .venv/bin/python tests/bench/bench_gateway.py [--connections 3000] [--megabytes 400] [--rest 10] [--services 200]

As root, in network namespaces: two clusters on one wire, one gateway each. CPU is user + system of the processes.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.integration.node.gateway.sites import Site, World, until, up, world

from cluster_agent.node.gateway.gateway import Gateway
from cluster_agent.node.gateway.model import EgressKey, GatewayPlan, Target

FROM_BETA = EgressKey("shop", "web", 80, "beta")
SOURCE = """
import socket, threading
listener = socket.create_server(("", 8080), backlog=1024)
block = bytes(1 << 16)
def serve(link):
    with link:
        for _ in range(int.from_bytes(link.recv(4), "big")):
            link.sendall(block)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def cpu_s(*pids: int) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def process_of(site: Site) -> int:
    return int(json.loads((site.config.directory / "process.json").read_text())[0][0])


def fetch(target: Target, blocks: int) -> int:
    """Bytes that came; a connection that fails counts as none."""
    try:
        with socket.create_connection((target.ip, target.port), timeout=20) as link:
            link.sendall(blocks.to_bytes(4, "big"))
            count = 0
            while data := link.recv(1 << 18):
                count += len(data)
            return count
    except OSError:
        return -1


async def connections(near: Gateway, sites: list[Site], count: int) -> None:
    alpha, beta = sites
    target, pids = near.listener(FROM_BETA), (process_of(alpha), process_of(beta))
    before = [cpu_s(pid) for pid in pids]
    failed = await alpha.run(lambda: sum(fetch(target, 0) < 0 for _ in range(count)))
    spent = [(cpu_s(pid) - was) / count * 1e6 for pid, was in zip(pids, before, strict=True)]
    print(
        f"  a new connection: {spent[0]:5.0f} us CPU way out, {spent[1]:5.0f} us way in; {failed} of {count} failed"
    )


async def volume(near: Gateway, sites: list[Site], megabytes: int) -> None:
    alpha, beta = sites
    target, pids = near.listener(FROM_BETA), (process_of(alpha), process_of(beta))
    before = [cpu_s(pid) for pid in pids]
    came = await alpha.run(lambda: fetch(target, megabytes * 16))
    spent = [(cpu_s(pid) - was) / came * 1e9 for pid, was in zip(pids, before, strict=True)]
    print(
        f"  a megabyte:       {spent[0]:5.2f} ms CPU way out, {spent[1]:5.2f} ms way in ({came / 1e6:.0f} MB)"
    )


async def rest(sites: list[Site], seconds: float) -> None:
    for site in sites:
        pid = process_of(site)
        before = cpu_s(pid)
        await asyncio.sleep(seconds)
        share = (cpu_s(pid) - before) / seconds
        print(
            f"  at rest, {site.cluster}: {share * 100:.2f} % of a core, {rss_mib(pid):.1f} MiB resident"
        )


async def reloads(world: World, near: Gateway, far: Gateway, sites: list[Site]) -> None:
    """Connections all the time while both ends are replaced again and again."""
    alpha, beta = sites
    target, over = near.listener(FROM_BETA), threading.Event()
    results: list[int] = []

    def hammer() -> None:
        while not over.is_set():
            results.append(fetch(target, 1))

    work = asyncio.create_task(alpha.run(hammer))
    for _ in range(5):
        for gateway, site in ((near, alpha), (far, beta)):
            before = process_of(site)
            world.certify(gateway, site.cluster)
            await until(gateway, lambda g=gateway, s=site, b=before: g.ready and process_of(s) != b)
    over.set()
    await work
    failed = sum(count != 1 << 16 for count in results)
    print(f"  10 reloads under load: {failed} of {len(results)} connections failed")


async def run(options: argparse.Namespace, folder: Path) -> None:
    async with world(folder) as made:
        alpha, beta, _ = made.sites
        source = await asyncio.create_subprocess_exec(
            *beta.space.prefix, sys.executable, "-c", SOURCE, stdout=asyncio.subprocess.PIPE
        )
        assert source.stdout is not None
        _ = await source.stdout.readline()
        try:
            web = beta.exported(Target(beta.pod, 8080))
            far = await made.serve(beta, made.plan(beta, web, peers=(alpha,)))
            more = [EgressKey("shop", f"s{i}", 80, "beta") for i in range(options.services)]
            plan = GatewayPlan("alpha", (), (FROM_BETA, *more), (beta.as_peer,))
            near = await made.serve(alpha, plan)
            await until(near, lambda: up(near, beta) == (True, True))
            print(f"each probes one gateway and one node; {options.services} more imports")
            sites = [alpha, beta]
            await rest(sites, options.rest)
            await connections(near, sites, options.connections)
            await volume(near, sites, options.megabytes)
            await reloads(made, near, far, sites)
        finally:
            source.kill()
            _ = await source.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--connections", type=int, default=3_000)
    _ = parser.add_argument("--megabytes", type=int, default=400)
    _ = parser.add_argument("--rest", type=float, default=10.0)
    _ = parser.add_argument("--services", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(options, Path(folder)))


if __name__ == "__main__":
    main()
