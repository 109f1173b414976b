"""From one Deployment to N running pods on hollow nodes, over HTTP: pods a second, and CPU per pod of each process.

    .venv/bin/python tests/bench/bench_rollout.py [--pods 5000] [--nodes 200] [--node-processes 1] [--keep DIR]

The programs are those of a real member, as processes: `cluster-agent control` (SQLite with synchronous=FULL, TLS, RBAC,
controllers, scheduler, Events) and `cluster-agent node` with hollow nodes (a pod takes 0.23 s to start, as a real one
would). This process creates the Deployment, asks for it ten times a second (which is also the probe of the API's
latency under load), and counts pods at the end. CPU is user+sys from /proc, from before the create on.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import uvloop
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import yardstick
from tests.bench.report import Figure, hand_over

from machinery.api.core import NODES, PODS
from machinery.client import kubeconfig
from machinery.client.interface import Client, ListOptions, dynamic
from machinery.meta.errors import NotFound, StatusError
from machinery.meta.resource import Document, ObjectKey

DEPLOYMENTS = dynamic("apps", "v1", "deployments", "Deployment", True)
CERTIFICATE_REQUESTS = dynamic(
    "certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", False
)
KEY = ObjectKey("default", "bench")
PODS_PER_SECOND_WANTED = 300
PROBE_S = 0.1
START_LIMIT_S = 120.0
TICKS = os.sysconf("SC_CLK_TCK")
YARDSTICK_EVERY = 10


@dataclass
class Program:
    """A started process and where its CPU stood."""

    name: str
    process: "subprocess.Popen[bytes]"
    started_at: float = 0.0

    def cpu(self) -> float:
        """Seconds of user + sys, all threads."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def mark(self) -> None:
        self.started_at = self.cpu()

    def used(self) -> float:
        return self.cpu() - self.started_at


@dataclass
class Rollout:
    """What came of it."""

    pods: int
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    rss: dict[str, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    running: int = 0
    yardsticks: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3

    def figures(self, nodes: int) -> list[Figure]:
        everything = sum(self.cpu.values()) / self.pods * 1e6
        quiet = yardstick.when_quiet(everything, self.yardsticks)
        what = f"rollout of {self.pods:,} pods, {nodes} nodes"
        per_pod = [
            Figure(f"  CPU {name}", used / self.pods * 1e6, "us/pod", note=f"{self.rss[name]:.0f} MB RSS")
            for name, used in self.cpu.items()
        ]  # fmt: skip
        return [
            Figure(what, self.running / self.seconds, "pods/s", least=PODS_PER_SECOND_WANTED),
            Figure("  until all were Ready", self.seconds, "s"),
            *per_pod,
            Figure("  CPU of all processes", everything, "us/pod", note=quiet),
            yardstick.figure(self.yardsticks),
            Figure("  GET meanwhile, p50", self.percentile(0.5), "ms"),
            Figure("  GET meanwhile, p99", self.percentile(0.99), "ms"),
        ]


def free_port() -> int:
    """A port nobody has right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def deployment(replicas: int) -> Document:
    """What a user would apply: no requests, so that a node's pod limit is the only bound."""
    labels = {"app": KEY.name}
    container = {"name": "web", "image": "docker.io/lab/whoami:1", "ports": [{"containerPort": 80}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": KEY.name, "namespace": KEY.namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


class Member:
    """One member as processes, in a folder of its own."""

    def __init__(self, folder: Path, nodes: int, node_processes: int) -> None:
        self.folder, self.nodes, self.node_processes = folder, nodes, node_processes
        self.port = free_port()
        self.programs: list[Program] = []
        self._logs: list[IO[bytes]] = []

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "control" / "admin.kubeconfig"

    def _start(self, name: str, verb: str, settings: dict[str, Any]) -> None:
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(settings))
        log = (self.folder / f"{name}.log").open("wb")
        self._logs.append(log)
        command = [str(Path(sys.executable).parent / "cluster-agent"), verb, "--config", str(file)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        self.programs.append(Program(name, process))

    def start_control(self) -> None:
        control = {
            "cluster": "bench",
            "dataDir": str(self.folder / "control"),
            "listen": [f"127.0.0.1:{self.port}"],
        }
        self._start("control", "control", control)

    def start_nodes(self) -> None:
        shares = [self.nodes // self.node_processes] * self.node_processes
        shares[0] += self.nodes - sum(shares)
        for number, share in enumerate(shares):
            node = {
                "node": f"hollow{number}",
                "zone": f"zone-{number}",
                "server": f"https://127.0.0.1:{self.port}",
                "caFile": "",
                "kubeconfig": str(self.kubeconfig),
                "runtime": "hollow",
                "stateDir": str(self.folder / f"node{number}"),
                "podCIDR": f"10.{128 + number}.0.0/16",
                "hollowNodes": share,
                "kubeletPort": 0,
            }
            self._start(f"node{number}", "node", node)

    def check(self) -> None:
        """A program that has ended is told, with the end of its log."""
        for program in self.programs:
            code = program.process.poll()
            if code is not None:
                tail = (self.folder / f"{program.name}.log").read_text()[-2000:]
                raise RuntimeError(f"{program.name} ended with {code}:\n{tail}")

    def stop(self) -> None:
        for program in reversed(self.programs):
            program.process.terminate()
        for program in self.programs:
            try:
                program.process.wait(20)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()
        for log in self._logs:
            log.close()


@contextmanager
def a_member(folder: Path, nodes: int, node_processes: int) -> Iterator[Member]:
    """Stopped whatever happens."""
    member = Member(folder, nodes, node_processes)
    try:
        yield member
    finally:
        member.stop()


async def connect(member: Member) -> Client:
    """Once the control process answers."""
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until:
        member.check()
        if member.kubeconfig.exists():
            client = kubeconfig.load(member.kubeconfig).client(field_manager="bench")
            try:
                await client.get(NODES, ObjectKey("", "nobody"))
            except NotFound:
                return client
            except (StatusError, ConnectionError, TimeoutError):
                await client.close()
        await asyncio.sleep(0.1)
    raise TimeoutError("the control process does not answer")


async def nodes_ready(client: Client, member: Member) -> None:
    """Every hollow node is registered, may take pods and has its certificate: the start is over."""
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until:
        member.check()
        nodes = (await client.list(NODES)).items
        requests = (await client.list(CERTIFICATE_REQUESTS)).items
        issued = [one for one in requests if one.get("status", {}).get("certificate")]
        free = [node for node in nodes if not node.spec.taints]
        if len(free) == member.nodes <= len(issued):
            return
        await asyncio.sleep(0.5)
    raise TimeoutError(f"{len(nodes)} of {member.nodes} nodes are ready")


async def roll_out(client: Client, member: Member, pods: int, limit_s: float) -> Rollout:
    """Create, probe until all are ready, count."""
    result = Rollout(pods)
    for program in member.programs:
        program.mark()
    started = time.monotonic()
    await client.create(DEPLOYMENTS, deployment(pods), KEY.namespace)
    while time.monotonic() - started < limit_s:
        asked = time.monotonic()
        found = await client.get(DEPLOYMENTS, KEY)
        result.latencies.append(time.monotonic() - asked)
        if len(result.latencies) % YARDSTICK_EVERY == 1:
            result.yardsticks.append(yardstick.measure())
        if found.get("status", {}).get("readyReplicas", 0) >= pods:
            break
        await asyncio.sleep(PROBE_S)
    result.seconds = time.monotonic() - started
    result.cpu = {program.name: program.used() for program in member.programs}
    result.rss = {program.name: program.rss_mb() for program in member.programs}
    running = ListOptions(field_selector="status.phase=Running")
    result.running = len((await client.list(PODS, KEY.namespace, running)).items)
    return result


async def run(
    folder: Path, pods: int, nodes: int, node_processes: int, limit_s: float
) -> list[Figure]:
    """One rollout on a fresh member."""
    with a_member(folder, nodes, node_processes) as member:
        member.start_control()
        client = await connect(member)
        try:
            member.start_nodes()
            await nodes_ready(client, member)
            await asyncio.sleep(2.0)
            print(f"processes: { {p.name: p.process.pid for p in member.programs} }", flush=True)
            return (await roll_out(client, member, pods, limit_s)).figures(nodes)
        finally:
            await client.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pods", type=int, default=5_000)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--node-processes", type=int, default=1)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds to wait for the pods")
    parser.add_argument("--keep", default="", help="work in this folder and leave it")
    parser.add_argument("--json", default="", help="write the figures into this file")
    got = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(got.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = uvloop.run(run(folder, got.pods, got.nodes, got.node_processes, got.limit))
    hand_over(figures, got.json)


if __name__ == "__main__":
    main()
