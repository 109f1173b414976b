"""How many writes a second a store takes, and what each costs in CPU of this process.

python tests/bench/bench_store.py sqlite:////tmp/bench.db --clients 1 64 512 --bytes 2277
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.report import Figure, hand_over

from machinery.store.interface import Durability, Store
from machinery.store.sql import open_store


@dataclass(frozen=True)
class Result:
    """One run; CPU is user + system of this process, without a database server's."""

    clients: int
    writes: int
    seconds: float
    cpu_us_per_write: float

    @property
    def writes_per_second(self) -> float:
        return self.writes / self.seconds


async def bench(
    store: Store, clients: int, writes: int, size: int, durability: Durability
) -> Result:
    """`clients` tasks that each create, update and delete objects, one write after the other."""
    value = os.urandom(size // 3) + b" " * (size - size // 3)  # compresses by three, as a pod does
    share = max(1, writes // clients // 3)

    async def client(name: int) -> None:
        for i in range(share):
            row = await store.create(f"/bench/{clients}/{name}-{i}", value, durability)
            row = await store.update(row.key, value, row.revision, durability)
            if i % 2:
                await store.delete(row.key, row.revision, None, durability)
            else:
                await store.update(row.key, value, row.revision, durability)

    wall, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for name in range(clients):
            _ = group.create_task(client(name))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done = share * clients * 3
    return Result(clients, done, wall, cpu / done * 1e6)


async def run(
    url: str, clients: Sequence[int], writes: int, size: int, durability: Durability
) -> list[Figure]:
    """Two figures for each number of clients, then what a list and a restart cost."""
    store = open_store(url)
    await store.start()
    figures: list[Figure] = []
    for count in clients:
        result = await bench(store, count, writes, size, durability)
        what = f"{url.partition(':')[0]} {durability.value}, {result.clients} writers"
        figures.append(Figure(f"{what}: writes", result.writes_per_second, "writes/s"))
        figures.append(Figure(f"{what}: CPU", result.cpu_us_per_write, "us CPU/write"))
    start = time.process_time()
    rows = len(store.list("/bench/").rows)
    figures.append(Figure(f"list of {rows:,} rows", (time.process_time() - start) * 1e3, "ms CPU"))
    await store.close()
    again = open_store(url)
    start = time.perf_counter()
    await again.start()
    figures.append(Figure("restart", time.perf_counter() - start, "s"))
    await again.close()
    return figures


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("url", nargs="?", default="", help="default: SQLite in a temporary folder")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 512])
    parser.add_argument("--writes", type=int, default=20_000, help="for each number of clients")
    parser.add_argument("--bytes", type=int, default=2277, help="size of a value")
    parser.add_argument(
        "--durability", choices=[d.value for d in Durability], default=Durability.DURABLE.value
    )
    parser.add_argument("--json", default="", help="write the figures into this file")
    got = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = got.url or f"sqlite:///{folder}/store.db"
        work = run(url, got.clients, got.writes, got.bytes, Durability(got.durability))
        hand_over(asyncio.run(work), got.json)


if __name__ == "__main__":
    main()
