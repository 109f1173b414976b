"""The federation's brain at scale: decisions, distribution, failover, cold start, memory, zone loss, beside the peers' figures.

    .venv/bin/python tests/bench/bench_federation.py [--quick] [--only decisions,distribution,…]

decisions     the placer alone over SQLite with synchronous=FULL, 100 clusters, 1,000 bindings that wait (as the peer was measured:
              bindings written directly, nothing else running); all its writes are in it
distribution  100 members (`tests.bench.fleet`: real server process, real links over TLS, members' stores in this process):
              one Deployment to 50 of them; 30 (with --full 200) Deployments of 1,000 replicas over all, one after the other
failover      a member's agent is gone: until its workload is in another member, by the default clock and by a tuned one
flaps         1,000 links cut for less than the grace, in the SIMULATOR (virtual time, real controllers): nothing may move
zone          200 (with --full 1,000) workloads over the members of ten zones, and one zone's agents are gone at once
cold          a server starts on a database of workloads and as many ConfigMaps, with their bindings and Works: 3,000,
              with --full 30,000, which a server must first have made
memory        the same with 500, or 2,000, applications of five objects; wanted is what is wanted of 2,000

Wall figures are of a machine where 100 members share two cores with the server; the CPU seconds of the server's process are
what its work takes. The baseline of the run is the yardstick (see there); peers' figures stand in the notes.
"""

import argparse
import asyncio
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import coldstart, yardstick
from tests.bench.bench_rollout import Program, free_port
from tests.bench.decisions import decide
from tests.bench.flaps import flap
from tests.bench.fleet import (
    DEPLOYMENTS,
    NAMESPACES,
    Fleet,
    Member,
    a_fleet,
    connect,
    deployment,
    namespace,
    policy,
    start_server,
)
from tests.bench.report import Figure, hand_over, percentile

from machinery.api.fleet.policy import PROPAGATION_POLICIES
from machinery.api.fleet.resilience import FAILURE_DOMAINS
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.meta.resource import Document, ObjectKey

WHERE = "bench"
DUPLICATED: Document = {"replicaSchedulingType": "Duplicated"}
SPREAD: Document = {
    "replicaSchedulingType": "Divided",
    "replicaDivisionPreference": "Weighted",
    "weightPreference": {"dynamicWeight": "AvailableReplicas"},
}
TUNED = {"heartbeatSuspectSeconds": 2.5, "heartbeatUnreachableSeconds": 3.5}
LIMIT_S = 120.0
SHM = Path("/dev/shm")
"""Memory as a folder."""


class Sizes:
    """How big everything is."""

    def __init__(self, *, quick: bool, full: bool = False) -> None:
        self.members = 20 if quick else 100
        self.to = 10 if quick else 50
        self.deployments = 200 if full else 5 if quick else 30
        self.replicas = 1000
        self.decisions = 200 if quick else 1000
        self.flaps = 100 if quick else 1000
        self.workloads = 1000 if full else 50 if quick else 200
        self.cold = 30_000 if full else 300 if quick else 3_000
        self.applications = 2000 if full else 100 if quick else 500
        self.zones = 10


# ------------------------------------------------------------------------------------------------------- decisions
async def decisions(sizes: Sizes, samples: list[float]) -> list[Figure]:
    """Bindings that wait, then a placer."""
    figures = []
    for name, placement, peer in (
        ("to one of 100 clusters", one_cluster(), "Karmada 42/s, 39 ms CPU"),
        (
            "divided over 100 clusters",
            {"replicaScheduling": SPREAD},
            "Karmada to fifty 18/s, 95 ms CPU",
        ),
    ):
        samples.append(yardstick.measure())
        told = await decide(sizes.decisions, placement)
        samples.append(yardstick.measure())
        quiet = yardstick.when_quiet(told.cpu_us, samples)
        note = f"{told.cpu_us:,.0f} us CPU each ({quiet}), {told.per_cpu_s:,.0f} a CPU s; {peer}"
        figures.append(
            Figure(f"decisions with durable writes, {name}", told.per_s, "/s", least=500, note=note)
        )
    return figures


def one_cluster() -> Document:
    aggregated = {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Aggregated"}
    only = [{"spreadByField": "cluster", "minGroups": 1, "maxGroups": 1}]
    return {"replicaScheduling": aggregated, "spreadConstraints": only}


# ---------------------------------------------------------------------------------------------------- distribution
async def create(fleet: Fleet, name: str, replicas: int, label: str) -> ObjectKey:
    await fleet.client.create(DEPLOYMENTS, deployment(name, WHERE, replicas, bench=label), WHERE)
    return ObjectKey(WHERE, name)


async def prepare(fleet: Fleet, sizes: Sizes) -> None:
    names = [member.name for member in fleet.members[: sizes.to]]
    some = {"clusterAffinity": {"clusterNames": names}, "replicaScheduling": DUPLICATED}
    await fleet.client.create(NAMESPACES, namespace(WHERE))
    for label, placement in (("some", some), ("all", {"replicaScheduling": SPREAD})):
        await fleet.client.create(
            PROPAGATION_POLICIES, policy(label, WHERE, label, placement), WHERE
        )
    await fleet.settled()


async def to_some(fleet: Fleet, sizes: Sizes, samples: list[float]) -> list[Figure]:
    """One Deployment to many members, a few times."""
    walls, cpus, whole = [], [], []
    targets = fleet.members[: sizes.to]
    for number in range(7):
        fleet.server.mark()
        started = time.monotonic()
        key = await create(fleet, f"some-{number}", 3, "some")
        await fleet.until(lambda key=key: all(m.has(key) for m in targets), LIMIT_S)
        walls.append(time.monotonic() - started)
        cpus.append(fleet.server.used())
        await fleet.settled()
        whole.append(fleet.server.used())
        samples.append(yardstick.measure())
    per = statistics.median(cpus) / len(targets) * 1e3
    note = f"{yardstick.when_quiet(per * 1e3, samples)} us; with its status back {statistics.median(whole) / len(targets) * 1e3:.1f}"
    return [
        Figure(
            f"one Deployment to {len(targets)} members, in all of them", statistics.median(walls), "s", most=0.5,
            note="median of 7; Karmada 9.0 s, tuned 3.6 s",
        ),
        Figure(
            "  server's CPU per member", per, "ms", most=5,
            note=f"{note}; Karmada 80-100 ms",
        ),
    ]  # fmt: skip


async def to_all(fleet: Fleet, sizes: Sizes) -> list[Figure]:
    """Deployments over the whole fleet, one after the other."""
    walls = []
    fleet.server.mark()
    for number in range(sizes.deployments):
        started = time.monotonic()
        key = await create(fleet, f"all-{number}", sizes.replicas, "all")
        await fleet.until(lambda key=key: all(m.has(key) for m in fleet.members), LIMIT_S)
        walls.append(time.monotonic() - started)
    works = sizes.deployments * len(fleet.members)
    what = f"{sizes.deployments} Deployments of {sizes.replicas} replicas over {len(fleet.members)} members"
    return [
        Figure(
            f"{what}: P99 of distribution", percentile(walls, 0.99), "s", most=0.5,
            note=f"median {statistics.median(walls):.2f} s; Karmada publishes 0.99 s",
        ),
        Figure("  server's CPU per Work", fleet.server.used() / works * 1e3, "ms"),
        Figure("  server's memory then", fleet.server.rss_mb(), "MB"),
    ]  # fmt: skip


async def distribution(sizes: Sizes, samples: list[float]) -> list[Figure]:
    async with a_fleet(sizes.members, sizes.zones) as fleet:
        await prepare(fleet, sizes)
        return [*await to_some(fleet, sizes, samples), *await to_all(fleet, sizes)]


# -------------------------------------------------------------------------------------------------------- failover
async def failover(sizes: Sizes, _: list[float]) -> list[Figure]:
    """One member's agent is gone."""
    figures = []
    for what, settings, most, peer in (
        ("by default", {}, 20.0, "Karmada 40.7 s"),
        ("tuned (3.5 s of silence)", TUNED, 5.0, "Karmada 6.9 s"),
    ):
        async with a_fleet(5, 5, **settings) as fleet:
            await fleet.client.create(NAMESPACES, namespace(WHERE))
            rules = policy("one", WHERE, "one", one_cluster())
            await fleet.client.create(PROPAGATION_POLICIES, rules, WHERE)
            key = await create(fleet, "one", 4, "one")
            await fleet.until(lambda key=key: any(m.has(key) for m in fleet.members), LIMIT_S)
            (home,) = [m for m in fleet.members if m.has(key)]
            await fleet.settled()
            others = [m for m in fleet.members if m is not home]
            started = time.monotonic()
            await home.die()
            await fleet.until(lambda key=key, o=others: any(m.has(key) for m in o), LIMIT_S)
            seconds = time.monotonic() - started
            figures.append(
                Figure(
                    f"a member dies: its workload is in another, {what}",
                    seconds,
                    "s",
                    most=most,
                    note=peer,
                )
            )
    return figures


async def flaps(sizes: Sizes, _: list[float]) -> list[Figure]:
    told = await asyncio.to_thread(flap, sizes.flaps)
    note = f"in the simulator, {told.virtual_s / 60:.0f} virtual minutes, {told.cpu_s:.0f} CPU s"
    return [
        Figure(
            f"{told.flaps} flaps below the grace: evictions", told.evictions, "", most=0, note=note
        )
    ]


# ------------------------------------------------------------------------------------------------------------ zone
async def zone(sizes: Sizes, _: list[float]) -> list[Figure]:
    """All agents of a zone are gone at once."""
    async with a_fleet(sizes.members, sizes.zones) as fleet:
        await fleet.client.create(NAMESPACES, namespace(WHERE))
        keys = [ObjectKey(WHERE, f"web-{number}") for number in range(sizes.workloads)]
        for key in keys:  # default-spread: over the zones, one replica in each
            await create(fleet, key.name, sizes.zones, "")
        await fleet.until(
            lambda: all(sum(m.has(k) for m in fleet.members) >= sizes.zones for k in keys), 600, 0.5
        )
        await fleet.settled()
        lost = [m for m in fleet.members if m.zone == "zone-0"]
        fleet.server.mark()
        started = time.monotonic()
        await asyncio.gather(*(m.die() for m in lost))
        verdict = await verdict_s(fleet, started)
        placed = await replaced_s(fleet, keys, lost, started)
        cpu = fleet.server.used()
    what = f"a zone of {len(lost)} members dies with {len(keys)} workloads"
    return [
        Figure(f"{what}: verdict on the zone", verdict, "s", most=15),
        Figure("  all of them placed again and in other members, after it", placed - verdict, "s", most=60,
               note="Karmada by its defaults 11-33 min, switched off"),
        Figure("  server's CPU per workload", cpu / len(keys) * 1e3, "ms"),
    ]  # fmt: skip


async def verdict_s(fleet: Fleet, started: float) -> float:
    key = ObjectKey("", "zone-zone-0")
    while time.monotonic() - started < LIMIT_S:
        domains = (await fleet.client.list(FAILURE_DOMAINS)).items
        if any("zone-0" in d.metadata.name and d.status.verdict == "Dead" for d in domains):
            return time.monotonic() - started
        await asyncio.sleep(0.1)
    raise TimeoutError(f"no verdict on {key.name}")


async def replaced_s(
    fleet: Fleet, keys: Sequence[ObjectKey], lost: Sequence[Member], started: float
) -> float:
    """Until every binding names only living members, and they have it."""
    gone = {m.name for m in lost}
    by_name = {m.name: m for m in fleet.members}
    while time.monotonic() - started < 5 * LIMIT_S:
        bindings = (await fleet.client.list(RESOURCE_BINDINGS, WHERE)).items
        placed = [b for b in bindings if b.spec.resource.kind == "Deployment"]
        good = [
            all(
                t.name not in gone and by_name[t.name].has(ObjectKey(WHERE, b.spec.resource.name))
                for t in b.spec.clusters
            )
            and sum(t.replicas for t in b.spec.clusters) == b.spec.replicas
            for b in placed
        ]
        if len(good) == len(keys) and all(good):
            return time.monotonic() - started
        await asyncio.sleep(0.5)
    raise TimeoutError(f"{sum(good)} of {len(keys)} are placed again")


# ------------------------------------------------------------------------------------------------------ cold start
async def cold(sizes: Sizes, _: list[float]) -> list[Figure]:
    told = await start_cold(sizes.cold, 1)
    what = f"cold start, {sizes.cold:,} workloads and {sizes.cold:,} ConfigMaps ({told.objects:,} objects)"
    return [
        Figure(f"{what}: at rest", told.seconds, "s", most=60, note=f"{told.cpu_s:.0f} CPU s; Karmada 5 min"),
        Figure("  memory then", told.rss_mb, "MB"),
    ]  # fmt: skip


async def memory(sizes: Sizes, _: list[float]) -> list[Figure]:
    told = await start_cold(sizes.applications, 4)
    what = f"{sizes.applications:,} applications of five objects (with bindings and Works {told.objects:,})"
    note = f"{told.before_mb:.0f} before a restart; Karmada 2-3 GB by its users"
    return [Figure(f"{what}: memory", told.rss_mb, "MB", most=500, note=note)]


@dataclass(frozen=True)
class Cold:
    """A server that started on a full database."""

    seconds: float
    cpu_s: float
    rss_mb: float
    objects: int
    before_mb: float
    """Memory of the server that filled it."""


async def start_cold(workloads: int, companions: int) -> Cold:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "fleet"
        with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as quick:
            objects, before_mb = await coldstart.fill(Path(quick), workloads, companions)
            shutil.copytree(quick, folder)  # only the filling may be quick
        started = time.monotonic()
        process = start_server(folder, free_port())
        server = Program("federation-server", process)
        try:
            client = await connect(folder, process, 600.0)
            async with coldstart.beating(client):
                seconds = await coldstart.at_rest(server, started)
                told = Cold(seconds, server.cpu(), server.rss_mb(), objects, before_mb)
            await client.close()
            return told
        finally:
            process.terminate()
            process.wait(60)


# ------------------------------------------------------------------------------------------------------------ all
Part = Callable[[Sizes, list[float]], Awaitable[list[Figure]]]
PARTS: dict[str, Part] = {
    "decisions": decisions,
    "distribution": distribution,
    "failover": failover,
    "flaps": flaps,
    "zone": zone,
    "cold": cold,
    "memory": memory,
}


async def run(names: Sequence[str], sizes: Sizes) -> list[Figure]:
    samples = [yardstick.measure()]
    figures: list[Figure] = []
    for name in names:
        print(f"measuring {name}", flush=True)
        figures += await PARTS[name](sizes, samples)
        samples.append(yardstick.measure())
    return [*figures, yardstick.figure(samples)]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--quick", action="store_true", help="small: a fifth of the members or less"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="the sizes that are promised, in much longer time",
    )
    parser.add_argument("--only", default=",".join(PARTS), help="which parts, with commas between")
    parser.add_argument("--json", default="", help="write the figures into this file")
    got = parser.parse_args()
    names = got.only.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    logging.basicConfig(level=logging.CRITICAL)
    hand_over(uvloop.run(run(names, Sizes(quick=got.quick, full=got.full))), got.json)


if __name__ == "__main__":
    main()
