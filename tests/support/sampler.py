"""The truth, five times a second: what every zone's containerd runs, and what the federation's API says of it.

A process of its own, so that the test beside it may be busy: it appends one JSON line a sample to a file, and `Sampler` reads
the file, also while it grows. containerd is asked over its own socket (`/proc/PID/root/run/containerd/containerd.sock`,
PID from the lab's supervisor), so neither our API nor our kubelet has a say in it.

A sample's two halves are asked one after the other, the API first: what is ready there and then runs in containerd did both
at one moment at least. A side that does not answer is `None`, never "nothing"; a zone without power runs nothing.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from cri_api.v1 import api_pb2 as pb
from cri_api.v1 import api_pb2_grpc as services
from tests.support.fleet import AWAY, Api, Fleet, cluster_of, core, is_ready

from federation.lab import channel, faults, state
from machinery.api.fleet.cluster import INVENTORY, INVENTORY_WANTED
from machinery.client import kubeconfig

EVERY_S = 0.2
ANSWER_S = 1.0
PROCESSES_S = 1.0
ROOT = Path(__file__).parents[2]
STOP = "stop"


@dataclass(frozen=True)
class Running:
    """A container that runs, by its containerd's word. `started` is in nanoseconds since 1970."""

    id: str
    pod: str
    app: str
    started: int


@dataclass(frozen=True)
class Sample:
    """One moment; `t` is seconds since 1970, when the sample began."""

    t: float
    zones: Mapping[str, tuple[Running, ...] | None]
    """By cluster: what its nodes run; None: its containerd did not answer."""
    ready: Mapping[str, frozenset[str]] | None
    """By app: pods that are Ready in the federation's list, as `pod.cluster`; None: it did not answer."""
    reported: Mapping[str, int] = field(default_factory=dict)
    """By Deployment: `status.readyReplicas` at the federation."""
    answered: Mapping[str, bool] = field(default_factory=dict)
    """By cluster: whether its last inventory is the one that the federation asked for last."""

    def running(self, app: str) -> dict[str, str]:
        """Containers of the app that run, `pod.cluster` by id."""
        return {
            c.id: f"{c.pod}.{cluster}"
            for cluster, containers in self.zones.items()
            for c in containers or ()
            if c.app == app
        }

    def spread(self, app: str) -> Counter[str]:
        """Running containers by cluster."""
        return Counter(pod.rpartition(".")[2] for pod in self.running(app).values())

    def serving(self, app: str) -> frozenset[str] | None:
        """Pods that are Ready by the API's word and run by containerd's; None if either cannot be asked."""
        if self.ready is None:
            return None
        return self.ready.get(app, frozenset()) & frozenset(self.running(app).values())


class Sampler:
    """Samples one namespace while the block runs."""

    def __init__(self, fleet: Fleet, namespace: str, out: Path) -> None:
        self._fleet, self._namespace, self._out = fleet, namespace, out
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Sampler":
        self._out.unlink(missing_ok=True)
        command = (sys.executable, "-m", "tests.support.sampler", self._fleet.directory)
        self._process = subprocess.Popen(
            (*command, self._namespace, str(self._out)), cwd=ROOT, stdin=subprocess.PIPE
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        ended = self._process.poll()
        self._process.stdin.close()
        code = self._process.wait(20)
        if kind is None:
            assert ended is None, "the sampler ended before its time"
            assert code == 0

    def samples(self, since: float = 0.0) -> list[Sample]:
        """All until now that began after `since`."""
        if not self._out.exists():
            return []
        lines = self._out.read_bytes().splitlines(keepends=True)
        found = [parse(line) for line in lines if line.endswith(b"\n")]
        return [sample for sample in found if sample.t >= since]

    def last(self) -> Sample | None:
        """The newest one."""
        found = self.samples()
        return found[-1] if found else None

    def first(
        self, told: Callable[[Sample], object], since: float, until: float = float("inf")
    ) -> Sample | None:
        """The first one in which it is so."""
        return next((s for s in self.samples(since) if s.t <= until and told(s)), None)


def parse(line: bytes) -> Sample:
    """A line of the file."""
    document = json.loads(line)
    return Sample(
        document["t"],
        {
            cluster: None if held is None else tuple(Running(*c) for c in held)
            for cluster, held in document["zones"].items()
        },
        None
        if document["ready"] is None
        else {app: frozenset(pods) for app, pods in document["ready"].items()},
        document["reported"],
        document["answered"],
    )


def gaps(samples: list[Sample]) -> float:
    """The longest time between two samples, in seconds."""
    times = [sample.t for sample in samples]
    return max((b - a for a, b in zip(times, times[1:], strict=False)), default=0.0)


# ---------------------------------------------------------------------------------------------------- the process
class Containerd:
    """One node's containerd over CRI; a new channel whenever its process is another one."""

    def __init__(self) -> None:
        self._pid = 0
        self._channel: Any = None
        self._started: dict[str, int] = {}

    def running(self, pid: int, namespace: str) -> list[Running] | None:
        """What runs in the namespace's pods; None without an answer."""
        if not pid:
            return None
        try:
            return list(self._ask(pid, namespace))
        except grpc.RpcError:
            return None

    def _ask(self, pid: int, namespace: str) -> Iterator[Running]:
        if pid != self._pid:
            if self._channel is not None:
                self._channel.close()
            socket = f"/proc/{pid}/root/run/containerd/containerd.sock"
            options = (
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 200),
            )
            self._channel, self._pid = grpc.insecure_channel(f"unix://{socket}", options), pid
        runtime = services.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        alive = pb.ContainerStateValue(state=pb.CONTAINER_RUNNING)
        wanted = pb.ContainerFilter(
            state=alive, label_selector={"io.kubernetes.pod.namespace": namespace}
        )
        listing = runtime.ListContainers(
            pb.ListContainersRequest(filter=wanted), timeout=ANSWER_S
        ).containers
        for container in listing:
            if container.id not in self._started:
                request = pb.ContainerStatusRequest(container_id=container.id)
                status = runtime.ContainerStatus(request, timeout=ANSWER_S).status
                self._started[container.id] = status.started_at
            pod = container.labels["io.kubernetes.pod.name"]
            app = pod.rsplit("-", 2)[
                0
            ]  # of a Deployment: its name, the template's hash, five letters
            yield Running(container.id, pod, app, self._started[container.id])


class Witness:
    """Takes samples of a lab."""

    def __init__(self, directory: str, namespace: str) -> None:
        known = state.load(directory)
        assert known is not None
        self._plan = known.plan()
        self._directory, self._namespace = directory, namespace
        self._nodes = {
            host.name: (cluster.name, cluster.zone, Containerd())
            for cluster in self._plan.clusters
            for host in cluster.nodes
        }
        self._api = Api(kubeconfig.load(f"{directory}/kubeconfig", "federation"), ANSWER_S)
        self._pids: dict[str, int] = {}
        self._pids_at = float("-inf")

    def sample(self) -> dict[str, Any]:
        """One, as the file's document."""
        begun = time.time()
        ready, reported, answered = self._told()
        off = faults.load(self._directory).off
        self._look_at_processes()
        zones: dict[str, list[tuple[str, str, str, int]] | None] = {}
        for host, (cluster, zone, containerd) in self._nodes.items():
            pid = self._pids.get(f"{host}-containerd", 0)
            found = [] if zone in off else containerd.running(pid, self._namespace)
            before = zones.get(cluster, [])
            if found is None or before is None:
                zones[cluster] = None
                self._pids_at = float("-inf")
            else:
                zones[cluster] = before + [(c.id, c.pod, c.app, c.started) for c in found]
        told = {"ready": ready, "reported": reported, "answered": answered}
        return {"t": begun, "zones": zones} | told

    def _told(self) -> tuple[dict[str, list[str]] | None, dict[str, int], dict[str, bool]]:
        deployments = f"/apis/apps/v1/namespaces/{self._namespace}/deployments"
        try:
            pods = self._api.list(core(self._namespace, "pods"))
            found = self._api.list(deployments)
            answered = self._inventories()
        except AWAY:
            return None, {}, {}
        ready: dict[str, list[str]] = {}
        for pod in pods:
            name = pod["metadata"]["name"]
            assert name.endswith(f".{cluster_of(pod)}")
            app = pod["metadata"].get("labels", {}).get("app", "")
            held = ready.setdefault(app, [])
            if is_ready(pod):
                held.append(name)
        reported = {
            d["metadata"]["name"]: d.get("status", {}).get("readyReplicas", 0) for d in found
        }
        return ready, reported, answered

    def _inventories(self) -> dict[str, bool]:
        def words(path: str, annotation: str) -> dict[str, str]:
            metadata = [item["metadata"] for item in self._api.list(path)]
            return {m["name"]: m.get("annotations", {}).get(annotation, "") for m in metadata}

        clusters = words("/apis/cluster.karmada.io/v1alpha1/clusters", INVENTORY)
        leases = "/apis/coordination.k8s.io/v1/namespaces/karmada-cluster/leases"
        wanted = words(leases, INVENTORY_WANTED)
        return {name: word == wanted.get(name, "") for name, word in clusters.items()}

    def _look_at_processes(self) -> None:
        if time.monotonic() - self._pids_at < PROCESSES_S:
            return
        try:
            told = channel.ask(self._directory, "status")["processes"]
        except channel.NoSupervisor:
            return
        self._pids = {p["name"]: p["pid"] for p in told}
        self._pids_at = time.monotonic()


def main(directory: str, namespace: str, out: str) -> None:
    """Sample until standard input ends."""
    import select

    witness = Witness(directory, namespace)
    due = time.monotonic()
    with open(out, "ab", buffering=0) as file:
        while True:
            file.write(json.dumps(witness.sample()).encode() + b"\n")
            due = max(due + EVERY_S, time.monotonic())
            if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
