"""Defaults: each row is a part of an object and what the server makes of it."""

import copy
from typing import Any

import pytest

from machinery.api import schemas
from machinery.api.defaults import apply_defaults
from machinery.api.kinds import BUILTIN, POD
from machinery.api.pod_defaults import pod_spec, pull_policy
from machinery.api.qos import qos_class
from machinery.api.scheme import Scheme, ServedKind

SCHEME = Scheme(BUILTIN)
RBAC = "rbac.authorization.k8s.io"


def kind(name: str, group: str = "") -> ServedKind:
    found = SCHEME.by_gvk(group, "v1", name)
    assert found is not None
    return found


IMAGES = [
    ("nginx", "Always"), ("nginx:latest", "Always"), ("nginx:1.2", "IfNotPresent"), ("r:5000/nginx", "Always"),
    ("r:5000/a/nginx:1", "IfNotPresent"), ("nginx@sha256:abc", "IfNotPresent"), ("nginx:latest@sha256:abc", "Always"),
    ("", "IfNotPresent"),
]  # fmt: skip


@pytest.mark.parametrize(("image", "policy"), IMAGES)
def test_pull_policy_by_tag(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def spec(*, of_pod: bool = True, **more: Any) -> Any:
    return pod_spec({"containers": [{"name": "c", "image": "i:1"}]} | more, of_pod=of_pod)


def test_a_bare_spec() -> None:
    assert spec() == {
        "containers": [
            {
                "name": "c",
                "image": "i:1",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent",
            }
        ],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "enableServiceLinks": True,
    }
    assert "enableServiceLinks" not in spec(of_pod=False)


def test_what_is_said_stays() -> None:
    said = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "dnsPolicy": "Default", "enableServiceLinks": False}  # fmt: skip
    assert said.items() <= spec(**said).items()


PARTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"ports": [{"containerPort": 80}]}, {"ports": [{"containerPort": 80, "protocol": "TCP"}]}),
    ({"livenessProbe": {"tcpSocket": {"port": 1}}}, {"livenessProbe": {"tcpSocket": {"port": 1}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}}),
    ({"readinessProbe": {"httpGet": {"port": 1}, "periodSeconds": 5}}, {"readinessProbe": {"httpGet": {"port": 1, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 5, "successThreshold": 1, "failureThreshold": 3}}),
    ({"startupProbe": {"grpc": {"port": 1}, "timeoutSeconds": 2}}, {"startupProbe": {"grpc": {"port": 1, "service": ""}, "timeoutSeconds": 2, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}}),
    ({"lifecycle": {"preStop": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}}, {"lifecycle": {"preStop": {"httpGet": {"port": 1, "path": "/", "scheme": "HTTPS"}}}}),
    ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}, {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}}]}),
    ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]}, {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}]}),
    ({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}, {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("part", "expected"), PARTS)
def test_parts_of_a_container(part: dict[str, Any], expected: dict[str, Any]) -> None:
    container = spec(containers=[{"name": "c", "image": "i:1"} | part])["containers"][0]
    assert {key: container[key] for key in expected} == expected


def test_requests_follow_limits_only_in_a_pod() -> None:
    containers = [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]
    assert "requests" not in spec(of_pod=False, containers=containers)["containers"][0]["resources"]


VOLUMES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"emptyDir": {}}),
    ({"secret": {"secretName": "s"}}, {"secret": {"secretName": "s", "defaultMode": 420}}),
    ({"configMap": {"name": "s", "defaultMode": 256}}, {"configMap": {"name": "s", "defaultMode": 256}}),
    ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x", "type": ""}}),
    ({"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.name"}}]}}, {"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}], "defaultMode": 420}}),
    ({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}, {"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}], "defaultMode": 420}}),
    ({"emptyDir": {"medium": "Memory"}}, {"emptyDir": {"medium": "Memory"}}),
    ({"image": {"reference": "a"}}, {"image": {"reference": "a", "pullPolicy": "Always"}}),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), VOLUMES)
def test_volumes(source: dict[str, Any], expected: dict[str, Any]) -> None:
    assert spec(volumes=[{"name": "v"} | source])["volumes"] == [{"name": "v"} | expected]


def test_the_two_names_of_a_service_account() -> None:
    assert spec(serviceAccount="a")["serviceAccountName"] == "a"
    assert spec(serviceAccountName="a")["serviceAccount"] == "a"


def test_ports_in_the_hosts_network() -> None:
    containers = [{"name": "c", "ports": [{"containerPort": 80}]}]
    assert (
        spec(hostNetwork=True, containers=containers)["containers"][0]["ports"][0]["hostPort"] == 80
    )
    assert "hostPort" not in spec(of_pod=False, hostNetwork=True, containers=containers)["containers"][0]["ports"][0]  # fmt: skip


KINDS: list[tuple[ServedKind, dict[str, Any], dict[str, Any]]] = [
    (kind("Namespace"), {"metadata": {"name": "a"}}, {"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}}, "spec": {}, "status": {"phase": "Active"}}),
    (kind("Secret"), {"stringData": {"a": "b"}, "data": {"c": "ZA=="}}, {"type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}}),
    (kind("RoleBinding", RBAC), {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}, {"roleRef": {"kind": "Role", "name": "r", "apiGroup": RBAC}, "subjects": [{"kind": "User", "name": "u", "apiGroup": RBAC}, {"kind": "ServiceAccount", "name": "s"}]}),
    (kind("PriorityClass", "scheduling.k8s.io"), {"value": 1}, {"value": 1, "preemptionPolicy": "PreemptLowerPriority"}),
    (kind("Role", RBAC), {}, {"rules": None}),
    (kind("Lease", "coordination.k8s.io"), {}, {"spec": {}}),
    (kind("ConfigMap"), {"data": {}}, {"data": {}}),
]  # fmt: skip


@pytest.mark.parametrize(("of", "body", "expected"), KINDS, ids=lambda v: getattr(v, "kind", ""))
def test_small_kinds(of: ServedKind, body: dict[str, Any], expected: dict[str, Any]) -> None:
    before = copy.deepcopy(body)
    assert apply_defaults(of, body) == expected
    assert body == before


def test_deployment() -> None:
    body = {"spec": {"template": {}, "strategy": {"rollingUpdate": {"maxSurge": 1}}}}
    found = apply_defaults(kind("Deployment", "apps"), body)["spec"]
    assert found["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 1},
    }
    assert (found["replicas"], found["revisionHistoryLimit"], found["progressDeadlineSeconds"]) == (
        1,
        10,
        600,
    )
    recreate = apply_defaults(
        kind("Deployment", "apps"), {"spec": {"strategy": {"type": "Recreate"}, "replicas": 0}}
    )
    assert (recreate["spec"]["strategy"], recreate["spec"]["replicas"]) == ({"type": "Recreate"}, 0)


def test_defaults_of_a_schema_fill_nested_objects() -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "default": {}, "properties": {"mode": {"type": "string", "default": "A"}}}}}  # fmt: skip
    own = ServedKind(
        "x.io", "v1", "X", "xs", "x", True, "io.ubernetes.X", schema=schema, custom=True
    )
    assert apply_defaults(own, {}) == {"spec": {"mode": "A"}}
    assert apply_defaults(own, {"spec": {"mode": None}}) == {"spec": {"mode": "A"}}
    assert apply_defaults(own, {"spec": {"mode": "B"}}) == {"spec": {"mode": "B"}}


def resources(requests: dict[str, str], limits: dict[str, str]) -> dict[str, Any]:
    return {"resources": {"requests": requests, "limits": limits}}


FULL = {"cpu": "1", "memory": "1Gi"}
QOS = [
    ([{}], "BestEffort"),
    ([resources({"cpu": "1"}, {})], "Burstable"),
    ([resources(FULL, FULL)], "Guaranteed"),
    ([resources({}, FULL)], "Guaranteed"),
    ([resources({"cpu": "500m"}, FULL)], "Burstable"),
    ([resources(FULL, FULL), {}], "Burstable"),
    ([{}, resources(FULL, FULL)], "Burstable"),
    ([resources({"cpu": "1000m", "memory": "1024Mi"}, FULL)], "Guaranteed"),
    ([resources({"nvidia.com/gpu": "1"}, {"nvidia.com/gpu": "1"})], "BestEffort"),
]


@pytest.mark.parametrize(("containers", "expected"), QOS)
def test_quality_of_service(containers: list[dict[str, Any]], expected: str) -> None:
    assert qos_class({"containers": containers}) == expected


def test_defaults_are_idempotent() -> None:
    once = apply_defaults(POD, {"spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A"}]}], "volumes": [{"name": "v"}]}})  # fmt: skip
    assert apply_defaults(POD, once) == once


@pytest.mark.parametrize(
    "of", [k for k in BUILTIN if k.storable], ids=lambda k: f"{k.group}/{k.kind}"
)
def test_what_is_filled_in_is_a_field_of_the_kind(of: ServedKind) -> None:
    """A strict client sends back what it has read: `kubectl replace` of a CSINode with a status was refused."""
    known = schemas.schema_of(of).get("properties", {})
    assert set(apply_defaults(of, {"metadata": {}})) <= {*known, "apiVersion", "kind", "metadata"}
