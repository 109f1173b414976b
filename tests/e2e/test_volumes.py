"""Claims with real containers on a member of two nodes: data that outlive their pod, stay on its node, and go with the claim."""

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
MEMBER, NAMESPACE = "alpha", "stores"
EXECS = itertools.count()
START = 'echo "$POD_NAME" >> /data/starts; trap "exit 0" TERM; while :; do sleep 0.2; done'
CLAIM = {
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Gi"}},
}
VOLUMES = "/api/v1/persistentvolumes"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A federation over one cluster of two nodes."""
    folder = tmp_path_factory.mktemp("volumes") / ".lab"
    yield from standing(Fleet(folder, "--clusters", MEMBER, "--nodes", "2"))


def container(mount: Document, **more: Any) -> Document:
    name_of = {"fieldRef": {"fieldPath": "metadata.name"}}
    return {
        "name": "c",
        "image": "docker.io/lab/busybox:1",
        "command": ["sh", "-c", START],
        "env": [{"name": "POD_NAME", "valueFrom": name_of}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", **mount}],
        **more,
    }


def stateful_set(name: str, replicas: int) -> Document:
    labels = {"app": name}
    security = {"runAsUser": 1000, "fsGroup": 2000}
    spec = {"containers": [container({"subPath": "inner"})], "securityContext": security}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": CLAIM}],
        },
    }


def pods(fleet: Fleet, namespace: str, app: str) -> dict[str, Document]:
    found = fleet.api(MEMBER).list(core(namespace, "pods") + f"?labelSelector=app%3D{app}")
    return {pod["metadata"]["name"]: pod for pod in found}


def ready(fleet: Fleet, namespace: str, app: str, replicas: int) -> dict[str, Document]:
    def all_ready() -> bool:
        found = pods(fleet, namespace, app).values()
        whole = [p for p in found if is_ready(p) and not p["metadata"].get("deletionTimestamp")]
        return len(whole) == len(found) == replicas

    until(all_ready, lambda: f"{app} is ready: {pods(fleet, namespace, app)}")
    return pods(fleet, namespace, app)


def inside(fleet: Fleet, pod: Document, line: str) -> str:
    """What a shell line says in the pod; its failure is no error."""
    running = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    words = ("tasks", "exec", "--exec-id", f"volumes-{next(EXECS)}", running, "sh", "-c")
    host = f"{MEMBER}-{pod['spec']['nodeName']}"
    return fleet.enter(host, "ctr", "-n", "k8s.io", *words, f"{{ {line}; }} 2>&1; true")


def starts(fleet: Fleet, pod: Document) -> list[str]:
    return inside(fleet, pod, "cat /data/starts").split("\n")[:-1]


def volume_of(fleet: Fleet, claim: str) -> Document:
    api = fleet.api(MEMBER)
    held = api.get(core(NAMESPACE, "persistentvolumeclaims", claim))
    assert held["status"]["phase"] == "Bound", held
    return api.get(f"{VOLUMES}/{held['spec']['volumeName']}")


def test_data_outlive_their_pod_and_go_with_their_claim(pair: Fleet) -> None:
    api = pair.api(MEMBER)
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    sets = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets"
    api.create(sets, stateful_set("db", 2))
    first = ready(pair, NAMESPACE, "db", 2)
    for name, pod in first.items():
        assert starts(pair, pod) == [name]
        assert inside(pair, pod, "stat -c %g /data/starts").strip() == "2000", "the fsGroup's"
        volume = volume_of(pair, f"data-{name}")
        assert volume["status"]["phase"] == "Bound"
        assert Path(volume["spec"]["local"]["path"]).is_dir(), "on this machine, as all of a lab"

    api.delete(core(NAMESPACE, "pods", "db-1"))
    until(
        lambda: (
            pods(pair, NAMESPACE, "db").get("db-1", first["db-1"])["metadata"]["uid"]
            != first["db-1"]["metadata"]["uid"]
        ),
        "a new db-1",
    )
    second = ready(pair, NAMESPACE, "db", 2)
    assert starts(pair, second["db-1"]) == ["db-1", "db-1"], "the same data"
    assert second["db-1"]["spec"]["nodeName"] == first["db-1"]["spec"]["nodeName"]

    folder = Path(volume_of(pair, "data-db-1")["spec"]["local"]["path"])
    name = folder.name
    api.delete(core(NAMESPACE, "persistentvolumeclaims", "data-db-1"))
    held = api.get(core(NAMESPACE, "persistentvolumeclaims", "data-db-1"))
    assert held["metadata"]["deletionTimestamp"], "it waits for its pod"
    assert folder.is_dir()
    api.merge(f"{sets}/db", {"spec": {"replicas": 1}})
    until(lambda: name not in names(api.list(VOLUMES)), "the volume goes with its claim")
    assert not folder.exists()
    kept = Path(volume_of(pair, "data-db-0")["spec"]["local"]["path"])
    assert kept.is_dir(), "nobody else's folder goes"


def names(documents: list[Document]) -> set[str]:
    return {one["metadata"]["name"] for one in documents}


def test_a_volume_of_the_user_is_mounted_and_kept(pair: Fleet, tmp_path: Path) -> None:
    api = pair.api(MEMBER)
    here = tmp_path / "kept"
    here.mkdir()
    (here / "starts").write_text("before\n")
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "manual",
        "hostPath": {"path": str(here)},
    }
    api.create(VOLUMES, {"metadata": {"name": "mine"}, "spec": spec})
    wanted = {**CLAIM, "accessModes": ["ReadWriteMany"], "storageClassName": "manual"}
    claims = core(NAMESPACE, "persistentvolumeclaims")
    api.create(claims, {"metadata": {"name": "mine"}, "spec": wanted})
    pod_spec = {
        "containers": [container({})],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "mine", "readOnly": True}}
        ],
    }
    document = {"metadata": {"name": "reader", "labels": {"app": "reader"}}, "spec": pod_spec}
    api.create(core(NAMESPACE, "pods"), document)
    reader = ready(pair, NAMESPACE, "reader", 1)["reader"]
    assert starts(pair, reader) == ["before"], "it may not write"
    assert "Read-only" in inside(pair, reader, "touch /data/new")
    api.delete(core(NAMESPACE, "pods", "reader"))
    api.delete(core(NAMESPACE, "persistentvolumeclaims", "mine"))
    until(lambda: api.get(f"{VOLUMES}/mine")["status"]["phase"] == "Released", "released")
    assert (here / "starts").read_text() == "before\n"


def test_other_volumes_are_refused_by_name(pair: Fleet) -> None:
    api = pair.api(MEMBER)
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "shared",
        "nfs": {"server": "10.0.0.1", "path": "/x"},
    }
    api.create(VOLUMES, {"metadata": {"name": "shared"}, "spec": spec})
    wanted = {**CLAIM, "storageClassName": "shared"}
    claims = core(NAMESPACE, "persistentvolumeclaims")
    api.create(claims, {"metadata": {"name": "shared"}, "spec": wanted})
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "shared"}}
    pod_spec = {"containers": [container({})], "volumes": [volume]}
    api.create(core(NAMESPACE, "pods"), {"metadata": {"name": "nfs"}, "spec": pod_spec})

    def told() -> bool:
        events = api.list(core(NAMESPACE, "events"))
        return any(
            one["reason"] == "FailedMount"
            and 'volume "shared": nfs is not supported by this kubelet' in one["message"]
            for one in events
        )

    until(told, "the kubelet says what it cannot do")


def test_the_federation_places_a_set_with_claims(pair: Fleet) -> None:
    api = pair.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": "placed"}})
    api.create("/apis/apps/v1/namespaces/placed/statefulsets", stateful_set("db", 2))
    path = "/apis/work.karmada.io/v1alpha2/namespaces/placed/resourcebindings/db-statefulset"

    def healthy() -> bool:
        told = api.get(path).get("status", {}).get("aggregatedStatus") or []
        return [(one["clusterName"], one.get("health")) for one in told] == [(MEMBER, "Healthy")]

    until(healthy, lambda: f"the federation calls it Healthy: {api.get(path).get('status')}")
    for name, pod in ready(pair, "placed", "db", 2).items():
        assert starts(pair, pod) == [name]
