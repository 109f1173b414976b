"""What a query costs the name server: CPU of its process per query, and how many it answers a second on one core.

    .venv/bin/python tests/bench/bench_dns.py [--services 30000] [--seconds 3]

First the answers alone, then over real UDP sockets on loopback with clients in another process that keep a window of
queries open. CPU is user + system of the server's process; queries a second on one core is its reciprocal.
"""

import argparse
import asyncio
import multiprocessing
import random
import selectors
import socket
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.unit.node.dns.dnsworld import question

from cluster_agent.node.dns.model import DnsConfig, Endpoint, Port, Service, Slice, State
from cluster_agent.node.dns.server import DnsServer
from machinery.kit.clock import SystemClock

WINDOW = 64
ENDPOINTS = 3
SUFFIX = "svc.cluster.local"


def state(services: int) -> State:
    """Half of the Services headless with three endpoints, half with an address."""
    made, slices = [], {}
    for i in range(services):
        name, high, low = f"s{i}", i >> 8 & 0xFF, i & 0xFF
        ports = (Port(80, "TCP", "http"),)
        headless = i % 2 == 1
        ips = () if headless else (f"10.{96 + (i >> 16)}.{high}.{low}",)
        made.append(Service("demo", name, ips, ports, headless))
        endpoints = tuple(
            Endpoint((f"10.{200 + k}.{high}.{low}",), hostname=f"{name}-{k}")
            for k in range(ENDPOINTS)
        )
        slices["demo", name] = Slice("demo", name, endpoints, ports)
    return State(tuple(made), slices, frozenset({"demo"}))


def questions(services: int) -> dict[str, list[bytes]]:
    """Kind of query -> the queries."""
    few = range(0, min(services, 400), 2)
    return {
        "ClusterIP A": [question(f"s{i}.demo.{SUFFIX}", "A") for i in few],
        "headless A, shuffled": [question(f"s{i + 1}.demo.{SUFFIX}", "A") for i in few],
        "headless SRV": [question(f"_http._tcp.s{i + 1}.demo.{SUFFIX}", "SRV") for i in few],
        "NXDOMAIN of a search path": [question(f"example.com.demo.{SUFFIX}", "A") for _ in few],
        "never asked before": [
            question(f"s{i}.demo.{SUFFIX}", "A")
            for i in random.Random(1).sample(range(services), services)
        ],
    }


def bench_answers(server: DnsServer, services: int) -> None:
    """The answers alone."""
    for name, asked in questions(services).items():
        if name != "never asked before":
            asked *= -(-20_000 // len(asked))
            for data in asked[:400]:
                _ = server.resolver.answer(data, "10.0.0.1", udp=True)
        started = time.process_time()
        for data in asked:
            _ = server.resolver.answer(data, "10.0.0.1", udp=True)
        spent = (time.process_time() - started) / len(asked) * 1e6
        print(f"  answer alone, {name:28} {spent:6.1f} us CPU")


def bench_changes(server: DnsServer, services: int) -> None:
    """One Service or slice after the other changes."""
    count = 5_000
    started = time.process_time()
    for i in range(count):
        slice_ = Slice("demo", "s1", (Endpoint((f"10.250.{i >> 8}.{i & 0xFF}",)),))
        server.directory.put_slice(("demo", "s1"), slice_)
    spent = (time.process_time() - started) / count * 1e6
    print(f"  one changed slice among {services} Services     {spent:6.1f} us CPU")


def client(port: int, asked: list[bytes], seconds: float, done: Connection) -> None:
    """Keep a window of queries open; report how many were answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", port))
        with selectors.DefaultSelector() as selector:
            _ = selector.register(sock, selectors.EVENT_READ)
            done.send(exchange(sock, selector, asked, seconds))


def exchange(
    sock: socket.socket, selector: selectors.BaseSelector, asked: list[bytes], seconds: float
) -> int:
    """How many queries were answered."""
    answered = sent = 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        while sent - answered < WINDOW:
            _ = sock.send(asked[sent % len(asked)])
            sent += 1
        if not selector.select(0.5):
            sent = answered  # lost: open the window again
        try:
            while True:
                _ = sock.recv(4096)
                answered += 1
        except BlockingIOError:
            continue
    return answered


async def bench_sockets(server: DnsServer, services: int, seconds: float) -> None:
    """Over loopback."""
    port = server.ports["127.0.0.1"]
    context = multiprocessing.get_context("fork")
    for name, asked in questions(services).items():
        here, there = context.Pipe()
        started, wall = time.process_time(), time.perf_counter()
        process = context.Process(target=client, args=(port, asked, seconds, there))
        process.start()
        forked = time.process_time() - started
        answered = await asyncio.to_thread(here.recv)
        spent = time.process_time() - started - forked
        wall = time.perf_counter() - wall
        process.join()
        cost = spent / max(answered, 1) * 1e6
        print(
            f"  over UDP, {name:32} {cost:6.1f} us CPU, {1e6 / cost:8.0f} queries/s a core"
            f" ({answered / wall:.0f}/s by the clock, client beside it)"
        )


async def run(services: int, seconds: float) -> None:
    """All of it."""
    config = DnsConfig(addresses=("127.0.0.1",), port=0, resolv_conf="")
    server = DnsServer(config, SystemClock(), random.SystemRandom().random)
    started = time.process_time()
    server.set_state(state(services))
    print(f"first state of {services} Services: {time.process_time() - started:.2f} s CPU")
    await server.start()
    bench_answers(server, services)
    bench_changes(server, services)
    await bench_sockets(server, services, seconds)
    await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--services", type=int, default=30_000)
    _ = parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    uvloop.run(run(options.services, options.seconds))


if __name__ == "__main__":
    main()
