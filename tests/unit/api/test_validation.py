"""Validation beyond the recordings: one row a rule, `field: message` of every cause."""

from typing import Any

import pytest

from machinery.api.defaults import apply_defaults
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN, CSR, NAMESPACE, NODE, POD
from machinery.api.scheme import Scheme, ServedKind
from machinery.api.validation import validate_create, validate_update
from machinery.api.validation.causes import Causes, go_quote
from machinery.api.warnings import warnings_of

SCHEME = Scheme(BUILTIN)
RBAC = "rbac.authorization.k8s.io"


def kind(name: str, group: str = "") -> ServedKind:
    found = SCHEME.by_gvk(group, "v1", name)
    assert found is not None
    return found


def told(of: ServedKind, body: dict[str, Any]) -> list[str]:
    """The complaints about a new object in namespace `n`, after its defaults."""
    metadata = (
        {"name": "a"} | ({"namespace": "n"} if of.namespaced else {}) | body.get("metadata", {})
    )
    causes = validate_create(of, apply_defaults(of, body | {"metadata": metadata}))
    return [f"{cause['field']}: {cause['message']}" for cause in causes]


def in_pod(**spec: Any) -> list[str]:
    return told(POD, {"spec": {"containers": [{"name": "c", "image": "i"}]} | spec})


def in_container(**part: Any) -> list[str]:
    return in_pod(containers=[{"name": "c", "image": "i"} | part], volumes=[{"name": "v"}])


C = "spec.containers[0]"
CONTAINER: list[tuple[dict[str, Any], list[str]]] = [
    ({"name": "a.b"}, [f'{C}.name: Invalid value: "a.b": must not contain dots']),
    ({"image": " i"}, [f'{C}.image: Invalid value: " i": must not have leading or trailing whitespace']),
    ({"terminationMessagePolicy": "X"}, [f'{C}.terminationMessagePolicy: Unsupported value: "X": supported values: "FallbackToLogsOnError", "File"']),
    ({"imagePullPolicy": "X"}, [f'{C}.imagePullPolicy: Unsupported value: "X": supported values: "Always", "IfNotPresent", "Never"']),
    ({"ports": [{"containerPort": 80, "name": "-"}]}, [f'{C}.ports[0].name: Invalid value: "-": must contain at least one letter (a-z)', f'{C}.ports[0].name: Invalid value: "-": must not begin or end with a hyphen']),
    ({"ports": [{"containerPort": 80, "hostPort": 70000}]}, [f"{C}.ports[0].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive"]),
    ({"env": [{"name": "A", "valueFrom": {}}]}, [f'{C}.env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`']),
    ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}, "configMapKeyRef": {"name": "s", "key": "k"}}}]}, [f'{C}.env[0].valueFrom: Invalid value: "": may not have more than one field specified at a time']),
    ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}]}, [f"{C}.env[0].valueFrom.secretKeyRef.name: Required value", f"{C}.env[0].valueFrom.secretKeyRef.key: Required value"]),
    ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]}, [f'{C}.env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"']),
    ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}}]}, []),
    ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "x"}}}]}, [f'{C}.env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "x": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"']),
    ({"envFrom": [{}]}, [f'{C}.envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`']),
    ({"envFrom": [{"configMapRef": {}}]}, [f"{C}.envFrom[0].configMapRef.name: Required value"]),
    ({"volumeMounts": [{"name": "v"}]}, [f"{C}.volumeMounts[0].mountPath: Required value"]),
    ({"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "../x"}]}, [f"{C}.volumeMounts[0].subPath: Invalid value: \"../x\": must not contain '..'"]),
    ({"volumeMounts": [{"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"}]}, [f"{C}.volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"]),
    ({"resources": {"requests": {"hugepages-2Mi": "2Mi", "cpu": "1"}}}, [f"{C}.resources.limits: Required value: Limit must be set for non overcommitable resources"]),
    ({"resources": {"limits": {"example.com/g": "2"}, "requests": {"example.com/g": "1"}}}, [f'{C}.resources.requests: Invalid value: "1": must be equal to example.com/g limit of 2']),
    ({"livenessProbe": {}}, [f"{C}.livenessProbe: Required value: must specify a handler type"]),
    ({"livenessProbe": {"exec": {}}}, [f"{C}.livenessProbe.exec.command: Required value"]),
    ({"readinessProbe": {"tcpSocket": {"port": "x_"}}}, [f'{C}.readinessProbe.tcpSocket.port: Invalid value: "x_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)']),
    ({"startupProbe": {"grpc": {"port": 1}, "periodSeconds": -1}}, [f"{C}.startupProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0"]),
    ({"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}}, [f'{C}.securityContext: Invalid value: {{"privileged":true,"allowPrivilegeEscalation":false}}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true']),
    ({"restartPolicy": "X"}, [f'{C}.restartPolicy: Unsupported value: "X": supported values: "Always", "OnFailure", "Never"']),
]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "expected"), CONTAINER, ids=[str(part)[:60] for part, _ in CONTAINER]
)
def test_containers(part: dict[str, Any], expected: list[str]) -> None:
    assert in_container(**part) == expected


POD_SPEC: list[tuple[dict[str, Any], list[str]]] = [
    ({"dnsPolicy": "X"}, ['spec.dnsPolicy: Unsupported value: "X": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"']),
    ({"dnsConfig": {"nameservers": ["x"]}}, ['spec.dnsConfig.nameservers[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)']),
    ({"dnsPolicy": "None", "dnsConfig": {}}, ["spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"]),
    ({"hostAliases": [{"ip": "x", "hostnames": ["a"]}]}, ['spec.hostAliases.ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)']),
    ({"imagePullSecrets": [{}]}, ["spec.imagePullSecrets[0].name: Required value"]),
    ({"readinessGates": [{"conditionType": "a/b"}]}, []),
    ({"schedulingGates": [{"name": "a/b"}, {"name": "a/b"}]}, ['spec.schedulingGates[1]: Duplicate value: "a/b"']),
    ({"nodeName": "x", "schedulingGates": [{"name": "a/b"}]}, ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]),
    ({"os": {"name": "beos"}}, ['spec.os.name: Unsupported value: "beos": supported values: "linux", "windows"']),
    ({"volumes": [{"name": "v", "secret": {}}]}, ["spec.volumes[0].secret.secretName: Required value"]),
    ({"volumes": [{"name": "v", "persistentVolumeClaim": {}}]}, ["spec.volumes[0].persistentVolumeClaim.claimName: Required value"]),
    ({"volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "/a"}]}}]}, ['spec.volumes[0].configMap.items[0].path: Invalid value: "/a": must be a relative path']),
    ({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 5}}]}}]}, ["spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes"]),
    ({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}, {"configMap": {"name": "s", "items": [{"key": "k", "path": "p"}]}}]}}]}, ['spec.volumes[0].projected.sources[1].configMap.path: Invalid value: "p": conflicting duplicate paths']),
    ({"initContainers": [{"name": "i", "image": "x", "livenessProbe": {"exec": {"command": ["a"]}}}]}, ["spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"]),
    ({"initContainers": [{"name": "i", "image": "x", "restartPolicy": "Always", "livenessProbe": {"exec": {"command": ["a"]}}}]}, []),
    ({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {}}]}}}, ["spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100"]),
    ({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 1}]}, ["spec.topologySpreadConstraints[0].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"]),
    ({"tolerations": [{"key": "a", "operator": "X"}]}, ['spec.tolerations[0].operator: Unsupported value: "X": supported values: "Equal", "Exists"']),
    ({"securityContext": {"sysctls": [{"name": "a"}, {"name": "a"}]}}, ['spec.securityContext.sysctls[1].name: Duplicate value: "a"']),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "expected"), POD_SPEC, ids=[str(spec)[:60] for spec, _ in POD_SPEC]
)
def test_pods(spec: dict[str, Any], expected: list[str]) -> None:
    assert in_pod(**spec) == expected


TEMPLATE = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
WORKLOAD = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}
OTHERS: list[tuple[ServedKind, dict[str, Any], list[str]]] = [
    (kind("Deployment", "apps"), {"spec": WORKLOAD | {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}}, ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]),
    (kind("Deployment", "apps"), {"spec": WORKLOAD | {"strategy": {"rollingUpdate": {"maxUnavailable": "101%"}}}}, ['spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%']),
    (kind("Deployment", "apps"), {"spec": WORKLOAD | {"selector": {"matchExpressions": [{"key": "a", "operator": "X"}]}}}, ['spec.selector.matchExpressions[0].operator: Invalid value: "X": not a valid selector operator', 'spec.selector: Invalid value: {"matchExpressions":[{"key":"a","operator":"X"}]}: invalid label selector']),
    (kind("ReplicaSet", "apps"), {"spec": WORKLOAD | {"minReadySeconds": -1}}, ["spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"]),
    (kind("Secret"), {"type": "kubernetes.io/dockercfg"}, ["data[.dockercfg]: Required value"]),
    (kind("ClusterRole", RBAC), {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}]}, ['rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs']),
    (kind("ClusterRoleBinding", RBAC), {"roleRef": {"kind": "Role", "name": "r"}}, ['roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"']),
    (kind("ClusterRoleBinding", RBAC), {"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "s"}]}, ["subjects[0].namespace: Required value"]),
    (kind("RuntimeClass", "node.k8s.io"), {"handler": "A"}, ["handler: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]),
    (kind("PriorityClass", "scheduling.k8s.io"), {"metadata": {"name": "system-node-critical"}, "value": 2000001000}, []),
    (kind("Event"), {"involvedObject": {"namespace": "other"}}, ['involvedObject.namespace: Invalid value: "other": does not match event.namespace']),
    (NODE, {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]}}, ['metadata.taints[1]: Duplicate value: {"key":"a","effect":"NoSchedule"}']),
    (NODE, {"status": {"capacity": {"cpu": "-1"}}}, ['status.capacity[cpu]: Invalid value: "-1": must be greater than or equal to 0', 'status.allocatable[cpu]: Invalid value: "-1": must be greater than or equal to 0']),
    (NODE, {"metadata": {"namespace": "n"}}, ["metadata.namespace: Forbidden: not allowed on this type"]),
    (kind("ConfigMap"), {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": n, "uid": n, "controller": True} for n in "xy"]}}, ['metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"Pod","name":"x","uid":"x","controller":true},{"apiVersion":"v1","kind":"Pod","name":"y","uid":"y","controller":true}]: Only one reference can have Controller set to true. Found "true" in references for x and y']),
    (kind("ConfigMap"), {"metadata": {"finalizers": ["plain"]}}, ['metadata.finalizers[0]: Invalid value: "plain": name is neither a standard finalizer name nor is it fully qualified']),
    (kind("ConfigMap"), {"metadata": {"generateName": "a-"}}, []),
]  # fmt: skip


@pytest.mark.parametrize(("of", "body", "expected"), OTHERS, ids=[f"{of.kind}-{str(body)[:50]}" for of, body, _ in OTHERS])  # fmt: skip
def test_other_kinds(of: ServedKind, body: dict[str, Any], expected: list[str]) -> None:
    assert told(of, body) == expected


# --------------------------------------------------------------------------------------------------------------- updates
META = {"name": "a", "uid": "u", "resourceVersion": "1"}


def changed(
    of: ServedKind, old: dict[str, Any], new: dict[str, Any], subresource: str = ""
) -> list[str]:
    metadata = META | ({"namespace": "n"} if of.namespaced else {})
    before = apply_defaults(of, {"metadata": metadata} | old)
    after = apply_defaults(of, {"metadata": metadata} | new)
    return [
        f"{c['field']}: {c['message']}" for c in validate_update(of, after, before, subresource)
    ]


BARE = {"containers": [{"name": "c", "image": "i"}]}
UPDATES: list[tuple[ServedKind, dict[str, Any], dict[str, Any], str, list[str]]] = [
    (POD, {"spec": BARE}, {"spec": BARE | {"activeDeadlineSeconds": 5}}, "", []),
    (POD, {"spec": BARE | {"activeDeadlineSeconds": 5}}, {"spec": BARE | {"activeDeadlineSeconds": 6}}, "", ["spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"]),
    (POD, {"spec": BARE | {"tolerations": [{"key": "a", "operator": "Exists"}]}}, {"spec": BARE}, "", ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]),
    (POD, {"spec": BARE | {"schedulingGates": [{"name": "g"}]}}, {"spec": BARE}, "", []),
    (POD, {"spec": BARE}, {"spec": BARE | {"initContainers": [{"name": "i", "image": "x"}]}}, "", ["spec.initContainers: Forbidden: pod updates may not add or remove initContainers"]),
    (POD, {"status": {"qosClass": "Burstable"}}, {"status": {"qosClass": "Burstable", "podIPs": [{"ip": "x"}]}}, "status", ['status.podIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)']),
    (POD, {"spec": BARE, "status": {"qosClass": "BestEffort"}}, {"spec": {"containers": []}, "status": {"qosClass": "BestEffort"}}, "resize", ["spec.containers: Forbidden: resource resize may not add or remove containers"]),
    (NODE, {"spec": {"podCIDR": "10.0.0.0/24"}}, {"spec": {"podCIDR": "10.0.1.0/24"}}, "", ['spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid']),
    (NODE, {"spec": {"providerID": "a"}}, {"spec": {"providerID": "b"}}, "", ['spec.providerID: Forbidden: node updates may not change providerID except from "" to valid']),
    (NAMESPACE, {}, {"spec": {"finalizers": ["x"]}}, "finalize", ['spec.finalizers[0]: Invalid value: "x": name is neither a standard finalizer name nor is it fully qualified']),
    (kind("Deployment", "apps"), {"spec": WORKLOAD}, {"spec": WORKLOAD, "status": {"replicas": 1, "readyReplicas": 2}}, "status", ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]),
    (kind("Secret"), {"immutable": True, "data": {"a": "AA=="}}, {"immutable": True, "data": {}}, "", ["data: Forbidden: field is immutable when `immutable` is set"]),
    (kind("RuntimeClass", "node.k8s.io"), {"handler": "a"}, {"handler": "b"}, "", ['handler: Invalid value: "b": field is immutable']),
    (CSR, {"status": {"certificate": "AA=="}}, {"status": {"certificate": "AQ=="}}, "status", ["status.certificate: Forbidden: updates may not modify existing certificate content"]),
]  # fmt: skip


@pytest.mark.parametrize(("of", "old", "new", "subresource", "expected"), UPDATES, ids=[f"{row[0].kind}-{row[3]}-{index}" for index, row in enumerate(UPDATES)])  # fmt: skip
def test_updates(of: ServedKind, old: dict[str, Any], new: dict[str, Any], subresource: str, expected: list[str]) -> None:  # fmt: skip
    assert changed(of, old, new, subresource) == expected


def test_a_pod_that_may_not_change_shows_what_would() -> None:
    (complaint,) = changed(POD, {"spec": BARE}, {"spec": BARE | {"hostname": "h"}})
    assert complaint.startswith("spec: Forbidden: pod updates may not change fields other than")
    assert '\n- "Hostname": "",\n+ "Hostname": "h",\n' in complaint


# -------------------------------------------------------------------------------------------------------------- own kinds
SCHEMA = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10},
                "mode": {"type": "string", "enum": ["A", "B"]},
                "name": {"type": "string", "maxLength": 4, "pattern": "^[a-z]+$"},
                "list": {"type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
                "any": {"x-kubernetes-int-or-string": True},
                "when": {"type": "string", "format": "date-time"},
                "null": {"type": "string", "nullable": True},
                "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            },
        }
    },
}  # fmt: skip
OWN = ServedKind("x.io", "v1", "X", "xs", "x", True, "io.ubernetes.X", schema=SCHEMA, custom=True)
CUSTOM: list[tuple[dict[str, Any], list[str]]] = [
    ({"size": 5}, []),
    ({}, ["spec.size: Required value"]),
    ({"size": "5"}, ['spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"']),
    ({"size": 0}, ["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"]),
    ({"size": 11}, ["spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"]),
    ({"size": 5, "mode": "C"}, ['spec.mode: Unsupported value: "C": supported values: "A", "B"']),
    ({"size": 5, "name": "UP"}, ["spec.name: Invalid value: \"UP\": spec.name in body should match '^[a-z]+$'"]),
    ({"size": 5, "name": "abcde"}, ["spec.name: Too long: may not be more than 4 bytes"]),
    ({"size": 5, "list": [{"k": "a"}, {"k": "a"}]}, ['spec.list[1]: Duplicate value: {"k":"a"}']),
    ({"size": 5, "list": [{}]}, ["spec.list[0].k: Required value"]),
    ({"size": 5, "list": [{"k": "a"}, {"k": "b"}, {"k": "c"}]}, ["spec.list: Too many: 3: must have at most 2 items"]),
    ({"size": 5, "any": True}, ['spec.any: Invalid value: "boolean": spec.any in body must be of type integer,string: "boolean"']),
    ({"size": 5, "any": "25%", "null": None}, []),
    ({"size": 5, "when": "yesterday"}, ['spec.when: Invalid value: "yesterday": spec.when in body must be of type date-time: "yesterday"']),
    ({"size": 5, "map": {"a": "x"}}, ['spec.map.a: Invalid value: "string": spec.map.a in body must be of type integer: "string"']),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), CUSTOM, ids=[str(spec) for spec, _ in CUSTOM])
def test_own_kinds(spec: dict[str, Any], expected: list[str]) -> None:
    assert told(OWN, {"spec": spec}) == expected


@pytest.mark.parametrize("of", FLEET, ids=lambda k: k.kind)
def test_an_empty_own_object_is_judged_without_a_fault_of_ours(of: ServedKind) -> None:
    assert all(": Required value" in line for line in told(of, {"spec": {}}))


# --------------------------------------------------------------------------------------------------------- words, advice
@pytest.mark.parametrize(("text", "quoted"), [("a", '"a"'), ('a"b', '"a\\"b"'), ("\x00", '"\\x00"'), ("é", '"é"'), ("\n", '"\\n"'), ("\u200b", '"\\u200b"')])  # fmt: skip
def test_go_quoting(text: str, quoted: str) -> None:
    assert go_quote(text) == quoted


def test_the_forms_of_a_cause() -> None:
    causes = Causes()
    causes.not_found("f", "x", "why")
    causes.too_many("f", 2, 1)
    causes.forbidden("f", "")
    assert [c["message"] for c in causes] == ['Not found: "x": why', "Too many: 2: must have at most 1 item", "Forbidden"]  # fmt: skip


def test_advice() -> None:
    ports = [{"containerPort": 80, "protocol": "TCP"}] * 2
    spec = {
        "nodeSelector": {"beta.kubernetes.io/os": "linux"},
        "containers": [{"name": "c", "ports": ports}],
    }
    found = warnings_of(POD, {"metadata": {"name": "a.b"}, "spec": spec}, creating=True)
    assert [text.split(":")[0] for text in found] == ["spec.nodeSelector[beta.kubernetes.io/os]", "spec.containers[0].ports[1]", "metadata.name"]  # fmt: skip
    assert warnings_of(POD, {"metadata": {"name": "a.b"}, "spec": {}}, creating=False) == ()
