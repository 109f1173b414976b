"""What a test of survival is made of: a Deployment with its Service, clients that ask it all the time, faults in the lab, and
the checks that hold over every sample (`tests.support.sampler`) and every request.

Clients are `fedctl lab load`: processes on nodes' hosts that share no client library with us.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.fleet import (
    AWAY,
    MEMBERS,
    Document,
    Fleet,
    Workload,
    core,
    deployment,
    deployments,
    until,
)
from tests.support.sampler import Sample, Sampler

from federation.lab import report
from federation.lab.requests import Request

LONG = os.environ.get("UBERNETES_TEST_LONG", "") not in ("", "0")
"""Whether faults last as long as they do in the promise (minutes), not as long as they must to show it."""

OWN, FLEET = "svc.cluster.local", "svc.clusterset.local"
"""Names of Services: of the client's own cluster, and of all clusters."""

DOMAIN = os.environ.get("UBERNETES_TEST_DOMAIN", FLEET)
"""Where the clients of a zone's death and of a drain go."""

RATE = 20
CLUSTERS = "/apis/cluster.karmada.io/v1alpha1/clusters"
DOMAINS = "/apis/ubernetes.io/v1alpha1/failuredomains"
BINDINGS = "/apis/work.karmada.io/v1alpha2/namespaces/{}/resourcebindings"


class Load:
    """New connections from zones to a target, recorded, until the block ends."""

    def __init__(self, fleet: Fleet, target: str, sources: Sequence[str], out: Path) -> None:
        self._fleet, self._target, self._sources, self._out = fleet, target, sources, out
        self._process: subprocess.Popen[str] | None = None
        self.requests: tuple[Request, ...] = ()

    def __enter__(self) -> "Load":
        words = ("load", self._target, "--from", ",".join(self._sources), "--rate", str(RATE))
        command = (sys.executable, "-m", "federation.cli", "lab", "--dir", self._fleet.directory)
        self._process = subprocess.Popen(
            (*command, *words, "--seconds", "3600", "--out", str(self._out)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(self._begun, lambda: f"a load from {self._sources}: {self._out}")
        return self

    def _begun(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._process.communicate()[0]
        seen = {r.source for r in self.so_far()}
        return seen == set(self._sources)

    def so_far(self) -> tuple[Request, ...]:
        """All until now, also while it runs."""
        if not self._out.exists():
            return ()
        return report.parse(self._out.read_bytes()).requests

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        told, _ = self._process.communicate(timeout=30)
        self.requests = self.so_far()
        print(told)

    def answering(self, since: float, until: float = float("inf")) -> set[str]:
        """Clusters that answered between the two moments."""
        return {r.cluster for r in self.so_far() if r.ok and since <= r.t < until}

    def failed(self, since: float = 0.0, until: float = float("inf")) -> list[Request]:
        """Requests that failed, of those that began between the two moments."""
        return [r for r in self.requests if since <= r.t < until and not r.ok]


class Scene:
    """A namespace of its own with workloads, seen by a sampler."""

    def __init__(self, fleet: Fleet, namespace: str, directory: Path) -> None:
        self.fleet, self.namespace, self.directory = fleet, namespace, directory
        self._loads = 0
        fleet.api().create("/api/v1/namespaces", {"metadata": {"name": namespace}})

    def end(self) -> None:
        """Nobody waits for it: the next scene has another namespace."""
        self.fleet.api().delete(f"/api/v1/namespaces/{self.namespace}")

    def workload(self, name: str, replicas: int, **pod: Any) -> Workload:
        """A Deployment and a Service of its name; `pod` as `deployment` takes it."""
        api = self.fleet.api()
        ports = [{"port": 80, "protocol": "TCP"}]
        api.create(
            core(self.namespace, "services"),
            {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}},
        )
        api.create(deployments(self.namespace), deployment(name, self.namespace, replicas, **pod))
        return Workload(self.fleet, self.namespace, name)

    def consistent(self, name: str, grant_seconds: int | None) -> None:
        """Say of a Deployment that it may never run twice; None: with the grant of the federation's choice."""
        wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        spec: Document = {"resourceSelectors": [wanted], "mode": "consistency"}
        if grant_seconds is not None:
            spec["grantSeconds"] = grant_seconds
        policy = {"apiVersion": "ubernetes.io/v1alpha1", "kind": "ResiliencePolicy"}
        path = f"/apis/ubernetes.io/v1alpha1/namespaces/{self.namespace}/resiliencepolicies"
        self.fleet.api().create(path, policy | {"metadata": {"name": name}, "spec": spec})

    def export(self, name: str) -> None:
        """Have the Service answer in every cluster, from all."""
        kind = {"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport"}
        path = f"/apis/multicluster.x-k8s.io/v1beta1/namespaces/{self.namespace}/serviceexports"
        self.fleet.api().create(path, kind | {"metadata": {"name": name}})

    def load(self, name: str, *sources: str, domain: str = OWN) -> Load:
        """Clients of the Service `name` in these zones."""
        self._loads += 1
        out = self.directory / f"load-{self.namespace}-{self._loads}.jsonl"
        return Load(self.fleet, f"{name}.{self.namespace}.{domain}", sources, out)

    def sampler(self) -> Sampler:
        return Sampler(self.fleet, self.namespace, self.directory / f"{self.namespace}.jsonl")

    def binding(self, name: str) -> Document:
        return self.fleet.api().get(f"{BINDINGS.format(self.namespace)}/{name}-deployment")

    def placement(self, name: str) -> tuple[object, object]:
        """What is decided, and what is being moved."""
        spec = self.binding(name)["spec"]
        return spec.get("clusters"), spec.get("gracefulEvictionTasks")


def verdict(fleet: Fleet, domain: str) -> str:
    """The federation's verdict on `cluster.NAME`, `zone.NAME` or `fleet`."""
    found: str = fleet.api().get(f"{DOMAINS}/{domain}").get("status", {}).get("verdict", "")
    return found


def events_about(fleet: Fleet, name: str, since: float) -> set[str]:
    """Reasons of the Events on objects of this name that were told since then."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
    found = fleet.api().list("/api/v1/events")
    return {
        e["reason"]
        for e in found
        if e["involvedObject"].get("name") == name
        and (e.get("lastTimestamp") or e["metadata"]["creationTimestamp"]) >= stamp
    }


def answered(fleet: Fleet) -> bool:
    """Whether the federation's API can be read."""
    try:
        fleet.api().list(CLUSTERS)
    except AWAY:
        return False
    return True


# ---------------------------------------------------------------------------------------------------- checks
def dips(samples: Sequence[Sample], app: str, wanted: int) -> list[str]:
    """Moments at which fewer than `wanted` pods were Ready and running."""
    found = []
    for sample in samples:
        serving = sample.serving(app)
        if serving is not None and len(serving) < wanted:
            found.append(f"{sample.t:.2f}: {sorted(serving)}")
    return found


def unseen(samples: Sequence[Sample]) -> int:
    """Samples in which the API or a containerd did not answer."""
    return sum(s.ready is None or None in s.zones.values() for s in samples)


def most(samples: Sequence[Sample], app: str) -> int:
    """The most containers that ran at one sampled moment."""
    return max((len(s.running(app)) for s in samples), default=0)


def told_of(fleet: Fleet, scene: Scene, since: float) -> dict[str, set[str]]:
    """Reasons of the Events since then: of the scene's namespace, and of each member."""
    found = {m: events_about(fleet, m, since) for m in MEMBERS}
    return found | {"web": events_about(fleet, "web-deployment", since)}


def in_zone(sample: Sample, cluster: str, app: str) -> frozenset[tuple[str, int]]:
    """Ids and start times of the app's containers there."""
    held = sample.zones[cluster]
    return frozenset((c.id, c.started) for c in held or () if c.app == app)
