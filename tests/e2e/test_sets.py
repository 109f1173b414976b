"""StatefulSets and DaemonSets with real containers on a member of two nodes, and one that the federation places there.

A pod's volume is a folder of the machine under the pod's name; claims are `test_volumes`' business.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.fleet import Document, Fleet, core, is_ready, standing, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are made as root"),
    pytest.mark.timeout(420),
]
MEMBER, NAMESPACE = "alpha", "sets"
NODES = ("node-1", "node-2")
EXECS = itertools.count()
START = 'echo "$POD_NAME $VERSION" >> /data/starts; trap "exit 0" TERM; while :; do sleep 0.2; done'


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A federation over one cluster of two nodes."""
    folder = tmp_path_factory.mktemp("sets") / ".lab"
    yield from standing(Fleet(folder, "--clusters", MEMBER, "--nodes", "2"))


def apps(plural: str, namespace: str, name: str = "") -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def workload(kind: str, name: str, folder: Path, **spec: Any) -> Document:
    labels = {"app": name}
    name_of = {"fieldRef": {"fieldPath": "metadata.name"}}
    container = {
        "name": "c",
        "image": "docker.io/lab/busybox:1",
        "command": ["sh", "-c", START],
        "env": [{"name": "POD_NAME", "valueFrom": name_of}, {"name": "VERSION", "value": "1"}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "subPathExpr": "$(POD_NAME)"}],
    }
    volume = {"name": "data", "hostPath": {"path": str(folder), "type": "DirectoryOrCreate"}}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "volumes": [volume]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def headless(name: str) -> Document:
    ports = [{"port": 80, "protocol": "TCP"}]
    return {
        "metadata": {"name": name},
        "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": ports},
    }


def pods(fleet: Fleet, namespace: str, app: str) -> dict[str, Document]:
    found = fleet.api(MEMBER).list(core(namespace, "pods") + f"?labelSelector=app%3D{app}")
    return {pod["metadata"]["name"]: pod for pod in found}


def inside(fleet: Fleet, pod: Document, line: str) -> str:
    """What a shell line says in the pod; its failure is no error."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    words = ("tasks", "exec", "--exec-id", f"sets-{next(EXECS)}", container, "sh", "-c")
    host = f"{MEMBER}-{pod['spec']['nodeName']}"
    return fleet.enter(host, "ctr", "-n", "k8s.io", *words, f"{{ {line}; }} 2>&1; true")


def starts(fleet: Fleet, pod: Document) -> list[str]:
    """What each start of a pod of that name has left in its volume: its name and version."""
    return inside(fleet, pod, "cat /data/starts").split("\n")[:-1]


def stands(fleet: Fleet, namespace: str, name: str, replicas: int) -> dict[str, Document]:
    """Wait until the set is whole and of one revision; its pods."""

    def whole() -> bool:
        live = fleet.api(MEMBER).get(apps("statefulsets", namespace, name))
        status = live["status"]
        counts = ("replicas", "availableReplicas", "updatedReplicas")
        return (
            status.get("observedGeneration") == live["metadata"]["generation"]
            and all(status.get(count, 0) == replicas for count in counts)
            and status["currentRevision"] == status["updateRevision"]
        )

    until(whole, f"{name} is whole: {sorted(pods(fleet, namespace, name))}")
    return pods(fleet, namespace, name)


def update(fleet: Fleet, plural: str, name: str, version: str) -> None:
    change = {"name": "VERSION", "value": version}
    template = {"spec": {"containers": [{"name": "c", "env": [change]}]}}
    fleet.api(MEMBER).request(
        "PATCH",
        apps(plural, NAMESPACE, name),
        {"spec": {"template": template}},
        "strategic-merge-patch+json",
    )


def test_a_stateful_set_keeps_names_and_volumes(pair: Fleet, tmp_path: Path) -> None:
    api = pair.api(MEMBER)
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    api.create(core(NAMESPACE, "services"), headless("db"))
    document = workload("StatefulSet", "db", tmp_path / "db", replicas=3, serviceName="db")
    api.create(apps("statefulsets", NAMESPACE), document)
    first = stands(pair, NAMESPACE, "db", 3)
    assert sorted(first) == ["db-0", "db-1", "db-2"]
    for name, pod in first.items():
        assert starts(pair, pod) == [f"{name} 1"]
        assert inside(pair, pod, "hostname").strip() == name
    address = first["db-1"]["status"]["podIP"]
    look = f"nslookup -type=a db-1.db.{NAMESPACE}.svc.cluster.local."
    until(lambda: address in inside(pair, first["db-0"], look), "DNS answers a pod's own name")

    api.delete(core(NAMESPACE, "pods", "db-1"))
    until(lambda: uid(pair, "db-1") not in ("", first["db-1"]["metadata"]["uid"]), "a new db-1")
    second = stands(pair, NAMESPACE, "db", 3)
    assert starts(pair, second["db-1"]) == ["db-1 1", "db-1 1"], "the same name and volume"
    kept = [second[name]["metadata"]["uid"] for name in ("db-0", "db-2")]
    assert kept == [first[name]["metadata"]["uid"] for name in ("db-0", "db-2")]

    update(pair, "statefulsets", "db", "2")
    third = stands(pair, NAMESPACE, "db", 3)
    made = [third[name]["metadata"]["creationTimestamp"] for name in ("db-2", "db-1", "db-0")]
    assert made == sorted(made), "the highest first"
    for name, pod in third.items():
        assert starts(pair, pod)[-1] == f"{name} 2"
    revisions = api.list(apps("controllerrevisions", NAMESPACE))
    assert sorted(one["revision"] for one in revisions) == [1, 2]


def uid(fleet: Fleet, name: str) -> str:
    pod = pods(fleet, NAMESPACE, "db").get(name)
    return pod["metadata"]["uid"] if pod is not None else ""


def daemons(fleet: Fleet) -> list[str]:
    """The nodes with a ready pod of it, and how many there are in all."""
    found = pods(fleet, NAMESPACE, "log").values()
    return sorted(pod["spec"].get("nodeName", "") for pod in found if is_ready(pod))


def test_a_daemon_set_is_on_every_node(pair: Fleet, tmp_path: Path) -> None:
    api = pair.api(MEMBER)
    document = workload("DaemonSet", "log", tmp_path / "log")
    api.create(apps("daemonsets", NAMESPACE), document)
    until(lambda: daemons(pair) == list(NODES), lambda: f"on both nodes: {daemons(pair)}")
    taint = {"key": "test", "value": "away", "effect": "NoExecute"}
    node = f"/api/v1/nodes/{NODES[1]}"
    api.merge(node, {"spec": {"taints": [taint]}})
    until(lambda: daemons(pair) == [NODES[0]], "gone from the node that is tainted")
    api.merge(node, {"spec": {"taints": None}})
    until(lambda: daemons(pair) == list(NODES), "back on it")
    update(pair, "daemonsets", "log", "2")

    def updated() -> bool:
        live = api.get(apps("daemonsets", NAMESPACE, "log"))
        status = live["status"]
        seen = status.get("observedGeneration") == live["metadata"]["generation"]
        return seen and status.get("updatedNumberScheduled") == status.get("numberAvailable") == 2

    until(updated, "both are of the new template")
    for name, pod in pods(pair, NAMESPACE, "log").items():
        assert starts(pair, pod) == [f"{name} 2"]


def test_the_federation_places_a_stateful_set(pair: Fleet, tmp_path: Path) -> None:
    api = pair.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": "placed"}})
    api.create(core("placed", "services"), headless("db"))
    document = workload("StatefulSet", "db", tmp_path / "db", replicas=2, serviceName="db")
    api.create(apps("statefulsets", "placed"), document)
    path = "/apis/work.karmada.io/v1alpha2/namespaces/placed/resourcebindings/db-statefulset"

    def healthy() -> bool:
        told = api.get(path).get("status", {}).get("aggregatedStatus") or []
        return [(one["clusterName"], one.get("health")) for one in told] == [(MEMBER, "Healthy")]

    until(healthy, lambda: f"the federation calls it Healthy: {api.get(path).get('status')}")
    found = stands(pair, "placed", "db", 2)
    assert sorted(found) == ["db-0", "db-1"]
    for name, pod in found.items():
        assert starts(pair, pod) == [f"{name} 1"]

    def reported() -> bool:
        status = api.get(apps("statefulsets", "placed", "db"))["status"]
        return bool(status.get("availableReplicas") == status.get("readyReplicas") == 2)

    until(reported, "the template says so")
