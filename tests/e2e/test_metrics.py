"""What real containers use, from their control groups to `kubectl top` at the federation; and a FederatedHPA that follows it."""

import re
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

import pytest
from tests.support.fleet import (
    MEMBERS,
    Api,
    Document,
    Fleet,
    Workload,
    condition,
    core,
    deployment,
    deployments,
    until,
)

from machinery.api.fleet.autoscaling import FEDERATED_HPAS
from machinery.meta.quantity import quantity_of

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.timeout(600)]

Kubectl = Callable[..., str]
METRICS = "/apis/metrics.k8s.io/v1beta1"
LIMIT = 0.05
"""Cores that a container may use. Six of them leave most of a small machine to those who measure."""
BURN = "while [ -e /load/on ]; do i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; done; exec sleep 3600"
PATIENCE_S = 180.0
"""Metrics are 15 to 30 s old, and looked at every 15 s."""


def burner(namespace: str) -> Document:
    """Containers that burn what their limit allows, as long as the ConfigMap `load` says so."""
    container = {
        "command": ["sh", "-c", BURN],
        "resources": {
            "requests": {"cpu": "50m", "memory": "16Mi"},
            "limits": {"cpu": "50m", "memory": "32Mi"},
        },
        "volumeMounts": [{"name": "load", "mountPath": "/load"}],
    }
    volumes = [{"name": "load", "configMap": {"name": "load"}}]
    return deployment(
        "burn", namespace, 3, container=container, volumes=volumes, terminationGracePeriodSeconds=0
    )


def scaler(namespace: str) -> Document:
    """A tenth of the request is the target: pods that burn double, also on a machine that has little to give."""
    at_once = {"stabilizationWindowSeconds": 0}
    return {
        "apiVersion": FEDERATED_HPAS.api_version,
        "kind": FEDERATED_HPAS.kind,
        "metadata": {"name": "burn", "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "burn"},
            "minReplicas": 3,
            "maxReplicas": 6,
            "behavior": {"scaleDown": at_once, "scaleUp": at_once},
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 10},
                    },
                }
            ],
        },
    }


def measured_nodes(api: Api) -> Document:
    """Usage by node, once every node has some: a rate takes two looks, where that of a pod begins with its container."""
    found = {n["metadata"]["name"]: n["usage"] for n in api.list(f"{METRICS}/nodes")}
    return found if set(found) == {f"node-1.{member}" for member in MEMBERS} else {}


def used(
    fleet: Fleet, namespace: str, context: str = "federation", app: str = "burn"
) -> dict[str, tuple[float, int]]:
    """(cores, bytes) of each pod of the app that is measured."""
    path = f"{METRICS}/namespaces/{namespace}/pods?labelSelector={quote(f'app={app}')}"
    found = {}
    for item in fleet.api(context).list(path):
        usage = [one["usage"] for one in item["containers"]]
        found[item["metadata"]["name"]] = (
            float(sum(quantity_of(u["cpu"]).value for u in usage)),
            sum(quantity_of(u["memory"]).whole for u in usage),
        )
    return found


def test_a_federated_hpa_follows_what_containers_really_use(fleet: Fleet, namespace: str) -> None:
    api = fleet.api()
    load = {"metadata": {"name": "load"}, "data": {"on": ""}}
    api.create(core(namespace, "configmaps"), load)
    api.create(deployments(namespace), burner(namespace))
    burn = Workload(fleet, namespace, "burn")
    burn.stands(1, 1, 1)

    def burning() -> bool:
        amounts = used(fleet, namespace)
        return len(amounts) == 3 and all(cpu > 0.2 * LIMIT for cpu, _ in amounts.values())

    until(burning, lambda: f"three pods that burn: {used(fleet, namespace)}", PATIENCE_S)
    for cpu, memory in used(fleet, namespace).values():
        assert cpu < 2 * LIMIT, "the limit holds, so more was never used"
        assert 0 < memory < 32 << 20
    names = {pod["metadata"]["name"] for pod in burn.pods()}
    assert set(used(fleet, namespace)) == names, "metrics have the names that pods have here"
    for member in MEMBERS:
        assert set(used(fleet, namespace, member)) == {
            pod["metadata"]["name"] for pod in burn.pods(member)
        }
    nodes = until(partial(measured_nodes, api), "usage of every node", PATIENCE_S)
    assert all(quantity_of(usage["memory"]).whole > 100 << 20 for usage in nodes.values())

    path = FEDERATED_HPAS.path(namespace, "burn")
    api.create(FEDERATED_HPAS.path(namespace), scaler(namespace))

    def wants(replicas: int) -> bool:
        found: Document = api.get(deployments(namespace, "burn"))
        return bool(found["spec"]["replicas"] == replicas)

    until(lambda: wants(6), lambda: f"6 replicas: {api.get(path)['status']}", PATIENCE_S)
    active = until(lambda: condition(api.get(path), "ScalingActive"), "the condition")
    assert (active["status"], active["reason"]) == ("True", "ValidMetricFound")
    assert burn.total(6) == [2, 2, 2]

    api.merge(core(namespace, "configmaps", "load"), {"data": {"on": None, "off": ""}})
    until(lambda: wants(3), lambda: f"3 replicas: {api.get(path)['status']}", PATIENCE_S)
    assert burn.total(3) == [1, 1, 1]


def test_kubectl_top(kubectl: Kubectl, fleet: Fleet, namespace: str) -> None:
    fleet.api().create(deployments(namespace), deployment("web", namespace, 3))
    web = Workload(fleet, namespace, "web")
    web.stands(1, 1, 1)
    names = {pod["metadata"]["name"] for pod in web.pods()}

    def measured() -> bool:
        return set(used(fleet, namespace, app="web")) == names

    until(measured, lambda: f"{names}: {used(fleet, namespace, app='web')}", PATIENCE_S)
    listed = kubectl("federation", "top", "pods", "-n", namespace, "--no-headers")
    rows = [line.split() for line in listed.splitlines()]
    assert {row[0] for row in rows} == names
    assert all(re.fullmatch(r"\d+m", cpu) and re.fullmatch(r"\d+Mi", m) for _, cpu, m in rows)
    pod = min(names)
    words = ("top", "pod", pod, "-n", namespace, "--containers", "--no-headers")
    assert kubectl("federation", *words).split()[:2] == [pod, "whoami"]
    until(partial(measured_nodes, fleet.api()), "usage of every node", PATIENCE_S)
    for member in MEMBERS:
        assert kubectl(member, "top", "nodes", "--no-headers").split()[0] == "node-1"
    listed = kubectl("federation", "top", "nodes", "--no-headers")
    rows = [line.split() for line in listed.splitlines()]
    assert {row[0] for row in rows} == {f"node-1.{member}" for member in MEMBERS}
    assert all(re.fullmatch(r"\d+%", row[2]) for row in rows)
