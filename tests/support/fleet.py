"""A fleet as its users and its enemies meet it: `fedctl lab`, kubectl, a small HTTP client, signals.

State is read by the HTTP client, so that tests of real containers run on a machine without kubectl as well; kubectl is
used where kubectl is what is tested. Everything waits by asking again until a generous deadline.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from federation.lab import channel, network, state
from machinery.client import kubeconfig

WHOAMI = "docker.io/lab/whoami:1"
WHOAMI_2 = "docker.io/lab/whoami:2"
MEMBERS = ("alpha", "beta", "gamma")
ZONES = {"alpha": "zone-a", "beta": "zone-b", "gamma": "zone-c"}
REGIONS = {"alpha": "region-1", "beta": "region-1", "gamma": "region-2"}
AT_ONCE: Mapping[str, object] = {"env": [{"name": "LINGER", "value": "0"}]}
"""A container of whoami that ends when it is told to, for pods that nobody asks meanwhile; by default it serves 3 s longer."""
UP_S = 240
KUBECTL = shutil.which("kubectl")

Document = dict[str, Any]


T = TypeVar("T")


class Refused(Exception):
    """An API server's answer that is no success."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(f"{code}: {body[:500]}")
        self.code = code


AWAY = (OSError, http.client.HTTPException, Refused)


def until(condition: Callable[[], T], what: str | Callable[[], object], seconds: float = 90.0) -> T:
    """The first true answer of `condition`; errors of a server that is away count as no answer yet."""
    deadline = time.monotonic() + seconds
    while True:
        error: Exception | None = None
        try:
            if value := condition():
                return value
        except AWAY as caught:
            error = caught
        if time.monotonic() > deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"gave up waiting: {told}" + (f" ({error})" if error else ""))
        time.sleep(0.1)


class Api:
    """One API server over one kept connection, made anew when it broke. For one thread."""

    def __init__(self, access: kubeconfig.Access, timeout_s: float = 10.0) -> None:
        self._access = access
        self._ssl = access.ssl_context()
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def request(self, method: str, path: str, body: object = None, kind: str = "json") -> Document:
        """One answer. Raises Refused, or what a broken connection raises.

        A read on a kept connection that turns out to be dead is asked again on a fresh one.
        """
        kept = self._connection is not None
        try:
            return self._ask(method, path, body, kind)
        except (OSError, http.client.HTTPException):
            if method != "GET" or not kept:
                raise
        return self._ask(method, path, body, kind)

    def _ask(self, method: str, path: str, body: object, kind: str) -> Document:
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = f"application/{kind}"
        if token := self._access.token:
            headers["Authorization"] = f"Bearer {token}"
        connection = self._connection = self._connection or self._connect()
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except BaseException:
            self.close()
            raise
        if answer.status >= 300:
            raise Refused(answer.status, text)
        document: Document = json.loads(text) if text.startswith("{") else {"text": text}
        return document

    def _connect(self) -> http.client.HTTPConnection:
        place = urlsplit(self._access.server)
        assert place.hostname is not None
        assert self._ssl is not None
        return http.client.HTTPSConnection(
            place.hostname, place.port, context=self._ssl, timeout=self._timeout_s
        )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str) -> Document:
        return self.request("GET", path)

    def list(self, path: str) -> list[Document]:
        items: list[Document] = self.get(path)["items"]
        return items

    def create(self, path: str, document: Document) -> Document:
        return self.request("POST", path, document)

    def merge(self, path: str, patch: Document) -> Document:
        return self.request("PATCH", path, patch, "merge-patch+json")

    def delete(self, path: str) -> Document:
        return self.request("DELETE", path)


@dataclass(frozen=True)
class Task:
    """A running process of a container, as the kernel knows it: a restart changes both."""

    pid: int
    started: str


class Fleet:
    """`fedctl lab` on a directory of its own."""

    def __init__(
        self, directory: Path, *options: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.directory = str(directory)
        self.options = options
        self.env = env or {}
        self.said = ""
        """What `up` printed."""
        self._apis: dict[str, Api] = {}

    # ------------------------------------------------------------------------------------------------ the lab
    def lab(self, *words: str, code: int = 0) -> str:
        argv = (sys.executable, "-m", "federation.cli", "lab", "--dir", self.directory, *words)
        return run(argv, code=code, timeout=UP_S, env=self.env)

    def up(self, *options: str, code: int = 0) -> str:
        self.said = self.lab("up", *self.options, *options, code=code)
        return self.said

    def down(self) -> None:
        self.leave()
        self.lab("down")

    def leave(self) -> None:
        """Close the shared connections."""
        for api in self._apis.values():
            api.close()
        self._apis.clear()

    def enter(self, host: str, *command: str, code: int | None = 0) -> str:
        """A command on one of the lab's hosts; what `fedctl lab exec` does, without its start. No `code`: any will do."""
        known = state.load(self.directory)
        assert known is not None
        pins = f"{self.directory}/ns"
        return run(network.enter(known.plan(), pins, host, command), code=code)

    def processes(self) -> dict[str, Document]:
        """The supervisor's word on each process."""
        found = channel.ask(self.directory, "status")
        return {process["name"]: process for process in found["processes"]}

    def pids(self) -> dict[str, int]:
        return {name: process["pid"] for name, process in self.processes().items()}

    def signal(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send it to one of the lab's processes; its pid."""
        pid: int = self.processes()[name]["pid"]
        assert pid, f"{name} does not run"
        os.kill(pid, number)
        return pid

    # ------------------------------------------------------------------------------------------------ clients
    @property
    def kubeconfig(self) -> str:
        return f"{self.directory}/kubeconfig"

    def api(self, context: str = "federation") -> Api:
        """The one that tests share; it is closed with the fleet."""
        if context not in self._apis:
            self._apis[context] = self.own_api(context)
        return self._apis[context]

    def own_api(self, context: str = "federation") -> Api:
        """For a thread of its own, which closes it."""
        return Api(kubeconfig.load(self.kubeconfig, context))

    def kubectl_argv(self, context: str, *words: str) -> tuple[str, ...]:
        assert KUBECTL is not None
        cache = f"--cache-dir={Path(self.directory).parent}/kubectl-cache"
        return (KUBECTL, "--kubeconfig", self.kubeconfig, "--context", context, cache, *words)

    def kubectl(self, context: str, *words: str, stdin: str = "", code: int = 0) -> str:
        """What kubectl printed, on both streams; `code` is its expected end."""
        return run(self.kubectl_argv(context, *words), stdin=stdin, code=code)

    # ------------------------------------------------------------------------------------------------ the truth below
    def tasks(self) -> dict[str, Task]:
        """Every container that runs on any node: its first process, by container id."""
        found = {}
        for host in self.nodes():
            for line in self.enter(host, "ctr", "-n", "k8s.io", "tasks", "ls").splitlines()[1:]:
                name, pid, state = line.split()
                if state == "RUNNING":
                    found[name] = Task(int(pid), start_time(int(pid)))
        return found

    def nodes(self) -> list[str]:
        """The hosts with real containers."""
        suffix = "-containerd"
        return [n.removesuffix(suffix) for n in self.processes() if n.endswith(suffix)]

    def fetch(self, pod: Document, cluster: str) -> str:
        """The answer of a member's pod on port 80, asked from its node."""
        host = f"{cluster}-{pod['spec']['nodeName']}"
        url = f"http://{pod['status']['podIP']}:80/"
        return self.enter(host, "busybox", "timeout", "5", "busybox", "wget", "-qO-", url).strip()


def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    code: int | None = 0,
    timeout: float = 90.0,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run to the end; standard output and error together. The exit code must be `code`, if one is given."""
    done = subprocess.run(
        argv,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, **(env or {}), "NO_PROXY": "*"},
    )
    assert code in (None, done.returncode), (
        f"{' '.join(argv)}\nexit {done.returncode}: {done.stdout}"
    )
    return done.stdout


def start_time(pid: int) -> str:
    """In clock ticks since the boot; with the pid it names a process for ever. Empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return ""


# ---------------------------------------------------------------------------------------------------- documents
def deployment(name: str, namespace: str, replicas: int, **pod: Any) -> Document:
    """A Deployment of whoami; `pod` overrides fields of the pod's spec, `container` those of its container."""
    container = {"name": "whoami", "image": WHOAMI} | pod.pop("container", {})
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 5} | pod,
            },
        },
    }


def deployments(namespace: str, name: str = "") -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments" + (f"/{name}" if name else "")


def core(namespace: str, plural: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def is_ready(document: Document) -> bool:
    """The condition Ready of a Pod, Node or Cluster, and not on its way out."""
    conditions = document.get("status", {}).get("conditions", [])
    told = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return told and "deletionTimestamp" not in document["metadata"]


def condition(document: Document, kind: str = "Ready") -> Document:
    """One condition of it, {} where it has none of that kind."""
    found = document.get("status", {}).get("conditions", [])
    return next((c for c in found if c["type"] == kind), {})


class Workload:
    """One Deployment at the federation, seen from there and from the members."""

    def __init__(self, fleet: Fleet, namespace: str, name: str) -> None:
        self.fleet, self.namespace, self.name = fleet, namespace, name

    def pods(self, context: str = "federation") -> list[Document]:
        selector = f"?labelSelector=app%3D{self.name}"
        return self.fleet.api(context).list(core(self.namespace, "pods") + selector)

    def spread(self) -> list[int]:
        """Ready pods in alpha, beta, gamma, by the federation's mirrors."""
        return [self.count()[member] for member in MEMBERS]

    def count(self) -> Counter[str]:
        return Counter(cluster_of(pod) for pod in self.pods() if is_ready(pod))

    def stands(self, *wanted: int) -> None:
        """Wait until this many pods are Ready per member, and none is left over."""

        def told() -> bool:
            return self.spread() == list(wanted) and len(self.pods()) == sum(wanted)

        until(told, lambda: f"{self.name}: {self.spread()}, not {list(wanted)}: {self.names()}")

    def total(self, replicas: int) -> list[int]:
        """Wait until `replicas` are Ready and no other pod is left; how they are spread, the most first."""

        def told() -> bool:
            return sum(self.spread()) == len(self.pods()) == replicas

        until(told, lambda: f"{self.name}: {self.spread()}, not {replicas} pods: {self.names()}")
        return sorted(self.spread(), reverse=True)

    def names(self) -> list[str]:
        return [f"{p['metadata']['name']} {p.get('status', {}).get('phase')}" for p in self.pods()]

    def identities(self) -> dict[str, tuple[str, str, str, int]]:
        """Of each pod in its member: uid, container id, start, restarts."""
        found = {}
        for member in MEMBERS:
            for pod in self.pods(member):
                status = pod["status"]["containerStatuses"][0]
                found[f"{pod['metadata']['name']}.{member}"] = (
                    pod["metadata"]["uid"],
                    status["containerID"],
                    status["state"]["running"]["startedAt"],
                    status["restartCount"],
                )
        return found

    def serves(self, member: str) -> bool:
        """Every pod of it in `member` answers with its own name and place."""
        pods = self.pods(member)
        return bool(pods) and all(self.fleet.fetch(p, member) == answer(p, member) for p in pods)


class Standing:
    """What runs, by the members' word and by the kernel's."""

    def __init__(self, web: Workload) -> None:
        self._web = web
        self.pods: dict[str, tuple[str, str, str, int]] = web.identities()
        self.tasks: dict[str, Task] = self._ours()

    def _ours(self) -> dict[str, Task]:
        ours = {identity[1].removeprefix("containerd://") for identity in self.pods.values()}
        found = {name: task for name, task in self._web.fleet.tasks().items() if name in ours}
        assert set(found) == ours, "every container that a member speaks of runs"
        return found

    def kept(self) -> bool:
        """Whether every container still runs as the same process; others may have come."""
        return self.tasks.items() <= self._web.fleet.tasks().items()

    def unchanged(self) -> None:
        """The same pods, containers and processes; all Ready again, and serving."""
        self._web.stands(2, 2, 2)
        assert self._web.identities() == self.pods
        assert self._ours() == self.tasks
        for member in MEMBERS:
            assert self._web.serves(member)


def cluster_of(mirror: Document) -> str:
    """The member that a mirror is of."""
    label: str = mirror["metadata"]["labels"]["ubernetes.io/cluster"]
    return label


def answer(pod: Document, member: str) -> str:
    """What whoami says in a member's pod: `web-abc node-1 alpha zone-a`."""
    return f"{pod['metadata']['name']} {pod['spec']['nodeName']} {member} {ZONES[member]}"


def clusters_ready(fleet: Fleet) -> bool:
    """Whether the federation holds every member to be Ready."""
    found = fleet.api().list("/apis/cluster.karmada.io/v1alpha1/clusters")
    return len(found) == len(MEMBERS) and all(is_ready(c) for c in found)


def settled(fleet: Fleet) -> bool:
    """Whether nothing that an earlier test deleted is still on its way out: a member holds no namespace that ends, or has ended."""
    found = [n["metadata"] for n in fleet.api().list("/api/v1/namespaces")]
    kept = {m["name"] for m in found if "deletionTimestamp" not in m}
    held = [n for member in MEMBERS for n in fleet.api(member).list("/api/v1/namespaces")]
    return {n["metadata"]["name"] for n in held} <= kept


def standing(fleet: Fleet) -> Iterator[Fleet]:
    """Body of a fixture: a fleet that is up, and taken down whatever happens."""
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.down()
