"""Tables: ages, the word for a pod's status, and columns by JSONPath."""

import datetime as dt
from typing import Any

import pytest

from machinery.api import jsonpath, table
from machinery.api.kinds import BUILTIN, POD
from machinery.api.scheme import Column, Scheme, ServedKind
from machinery.api.table.cells import human_duration, selector_text

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SCHEME = Scheme(BUILTIN)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"),
        (599, "9m59s"), (600, "10m"), (10_799, "179m"), (10_800, "3h"), (11_000, "3h3m"),
        (28_800, "8h"), (172_799, "47h"), (172_800, "2d"), (176_400, "2d1h"), (691_200, "8d"),
        (63_071_999, "729d"), (63_072_000, "2y"), (63_158_400, "2y1d"), (252_288_000, "8y"),
    ],
)  # fmt: skip
def test_durations(seconds: float, expected: str) -> None:
    assert human_duration(seconds) == expected


def running(**more: Any) -> dict[str, Any]:
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    return {"name": "c", "ready": True, "restartCount": 0, "state": state, **more}


def waiting(reason: str) -> dict[str, Any]:
    return {"name": "c", "restartCount": 0, "state": {"waiting": {"reason": reason}}}


def ended(code: int, **more: Any) -> dict[str, Any]:
    return {"name": "c", "restartCount": 0, "state": {"terminated": {"exitCode": code, **more}}}


def pod(status: dict[str, Any], **more: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c"}], **more.pop("spec", {})}
    metadata = {"name": "p", "creationTimestamp": "2026-01-01T11:59:00Z", **more}
    return {"metadata": metadata, "spec": spec, "status": status}


SIDECAR = {"initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]}
RESTARTED = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T11:55:00Z"}}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param(pod({"phase": "Pending"}), ["0/1", "Pending", "0"], id="pending"),
        pytest.param(
            pod({"phase": "Running", "containerStatuses": [running()]}), ["1/1", "Running", "0"], id="running"
        ),
        pytest.param(
            pod({"phase": "Running", "containerStatuses": [running(restartCount=3, lastState=RESTARTED)]}),
            ["1/1", "Running", "3 (5m ago)"], id="restarted",
        ),
        pytest.param(
            pod({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff")]}),
            ["0/1", "CrashLoopBackOff", "0"], id="waiting",
        ),
        pytest.param(
            pod({"phase": "Failed", "containerStatuses": [ended(3)]}), ["0/1", "ExitCode:3", "0"], id="exit-code"
        ),
        pytest.param(
            pod({"phase": "Failed", "containerStatuses": [ended(0, signal=9)]}),
            ["0/1", "Signal:9", "0"], id="signal",
        ),
        pytest.param(
            pod({"phase": "Failed", "reason": "Evicted"}), ["0/1", "Evicted", "0"], id="reason"
        ),
        pytest.param(
            pod({"phase": "Running"}, deletionTimestamp="2026-01-01T12:00:00Z"),
            ["0/1", "Terminating", "0"], id="terminating",
        ),
        pytest.param(
            pod({"phase": "Running", "reason": "NodeLost"}, deletionTimestamp="2026-01-01T12:00:00Z"),
            ["0/1", "Unknown", "0"], id="node-lost",
        ),
        pytest.param(
            pod({"phase": "Succeeded"}, deletionTimestamp="2026-01-01T12:00:00Z"),
            ["0/1", "Succeeded", "0"], id="finished-while-deleting",
        ),
        pytest.param(
            pod({"phase": "Pending", "initContainerStatuses": [waiting("PodInitializing")]},
                spec={"initContainers": [{"name": "c"}, {"name": "d"}]}),
            ["0/1", "Init:0/2", "0"], id="initialising",
        ),
        pytest.param(
            pod({"phase": "Pending", "initContainerStatuses": [ended(1)]},
                spec={"initContainers": [{"name": "c"}]}),
            ["0/1", "Init:ExitCode:1", "0"], id="init-failed",
        ),
        pytest.param(
            pod({"phase": "Running", "containerStatuses": [running()],
                 "initContainerStatuses": [
                     {**running(restartCount=1), "name": "s", "started": True}, {**ended(0), "name": "i"}]},
                spec=SIDECAR),
            ["2/2", "Running", "1"], id="sidecar",
        ),
        pytest.param(
            pod({"phase": "Running", "containerStatuses": [running(), ended(0, reason="Completed")]},
                spec={"containers": [{"name": "a"}, {"name": "b"}]}),
            ["1/2", "NotReady", "0"], id="one-completed-and-not-ready",
        ),
        pytest.param(
            pod({"phase": "Running", "containerStatuses": [ended(0, reason="Completed"), running()],
                 "conditions": [{"type": "Ready", "status": "True"}]},
                spec={"containers": [{"name": "a"}, {"name": "b"}]}),
            ["1/2", "Running", "0"], id="one-completed-one-running",
        ),
        pytest.param(
            pod({"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            ["0/1", "SchedulingGated", "0"], id="gated",
        ),
    ],
)  # fmt: skip
def test_pod(document: dict[str, Any], expected: list[str]) -> None:
    got = table.to_table(POD, [document], NOW)["rows"][0]["cells"]
    assert got[:4] == ["p", *expected]
    assert got[4] == "60s"


def test_wide_pod_cells() -> None:
    document = pod(
        {
            "podIPs": [{"ip": "10.0.0.1"}],
            "nominatedNodeName": "m",
            "conditions": [{"type": "gate", "status": "True"}],
        },
        spec={
            "nodeName": "n",
            "readinessGates": [{"conditionType": "gate"}, {"conditionType": "other"}],
        },
    )
    assert table.to_table(POD, [document], NOW)["rows"][0]["cells"][5:] == [
        "10.0.0.1",
        "n",
        "m",
        "1/2",
    ]


def test_finished_pods_carry_a_condition() -> None:
    row = table.to_table(POD, [pod({"phase": "Failed"})], NOW)["rows"][0]
    assert list(row) == ["cells", "conditions", "object"]
    assert row["conditions"][0]["reason"] == "Failed"


NODE = {
    "metadata": {
        "name": "n",
        "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {"unschedulable": True},
    "status": {
        "conditions": [{"type": "Ready", "status": "False"}],
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "nodeInfo": {"kubeletVersion": "v1.36", "kernelVersion": "6.1"},
    },
}


@pytest.mark.parametrize(
    ("group", "name", "document", "expected"),
    [
        pytest.param(
            "", "Node", NODE,
            ["n", "NotReady,SchedulingDisabled", "edge,worker", "12h", "v1.36", "10.0.0.1", "<none>",
             "<unknown>", "6.1", "<unknown>"], id="node",
        ),
        pytest.param(
            "", "Node", {"metadata": {"name": "n"}},
            ["n", "Unknown", "<none>", "<unknown>", "", "<none>", "<none>", *["<unknown>"] * 3], id="new-node",
        ),
        pytest.param(
            "apps", "ReplicaSet",
            {"metadata": {"name": "r"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
             "template": {"spec": {"containers": [{"name": "x", "image": "i"}, {"name": "y", "image": "j"}]}}},
             "status": {"replicas": 2, "readyReplicas": 1}},
            ["r", 3, 2, 1, "<unknown>", "x,y", "i,j", "a=b"], id="replicaset",
        ),
        pytest.param(
            "", "Event",
            {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"},
             "type": "Warning", "reason": "R", "message": " m \n", "source": {"component": "k", "host": "h"},
             "firstTimestamp": "2026-01-01T11:00:00Z", "lastTimestamp": "2026-01-01T11:59:30Z", "count": 4},
            ["30s", "Warning", "R", "pod/p", "spec", "k, h", "m", "60m", 4, "e"], id="event",
        ),
        pytest.param(
            "", "Event",
            {"metadata": {"name": "e"}, "involvedObject": {"kind": "Node"}, "eventTime": "2026-01-01T11:59:00.000000Z",
             "series": {"count": 9, "lastObservedTime": "2026-01-01T11:59:59.000000Z"}},
            ["1s", "", "", "node", "", "", "", "60s", 9, "e"], id="event-series",
        ),
        pytest.param(
            "certificates.k8s.io", "CertificateSigningRequest",
            {"metadata": {"name": "c"}, "spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600},
             "status": {"conditions": [{"type": "Approved"}, {"type": "Failed"}], "certificate": "eA=="}},
            ["c", "<unknown>", "s", "u", "60m", "Approved,Failed,Issued"], id="csr",
        ),
        pytest.param(
            "", "Secret", {"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "", "b": ""}},
            ["s", "Opaque", 2, "<unknown>"], id="secret",
        ),
    ],
)  # fmt: skip
def test_cells(group: str, name: str, document: dict[str, Any], expected: list[Any]) -> None:
    kind = SCHEME.by_gvk(group, "v1", name)
    assert kind is not None
    got = table.to_table(kind, [document], NOW)
    assert got["rows"][0]["cells"] == expected
    assert len(got["columnDefinitions"]) == len(expected)


@pytest.mark.parametrize("kind", BUILTIN, ids=lambda k: f"{k.kind}.{k.group}")
def test_every_kind_prints_an_empty_object(kind: ServedKind) -> None:
    got = table.to_table(kind, [{}], NOW)
    assert len(got["rows"][0]["cells"]) == len(got["columnDefinitions"])
    assert all(column["name"] for column in got["columnDefinitions"])


def test_what_a_row_embeds() -> None:
    document = {"metadata": {"name": "p"}, "spec": {}}
    embed = {
        mode: table.to_table(POD, [document], NOW, include_object=mode, with_columns=False)  # type: ignore[arg-type]
        for mode in ("None", "Metadata", "Object")
    }
    assert embed["None"]["rows"][0]["object"] is None
    assert embed["Metadata"]["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert embed["Object"]["rows"][0]["object"] == {"kind": "Pod", "apiVersion": "v1", **document}
    assert embed["None"]["columnDefinitions"] is None


def test_selector_words() -> None:
    expressions = [
        {"key": "z", "operator": "In", "values": ["2", "1"]},
        {"key": "a", "operator": "DoesNotExist"},
        {"key": "y", "operator": "Exists"},
    ]
    selector = {"matchLabels": {"m": "n"}, "matchExpressions": expressions}
    assert selector_text(selector) == "!a,m=n,y,z in (1,2)"
    assert selector_text({}) == "<none>"


# ------------------------------------------------------------------------------------------------------- own kinds
WIDGET = ServedKind(
    "example.com", "v1", "Widget", "widgets", "widget", True, "com.example.v1.Widget",
    custom=True, schema={"type": "object"},
    columns=(
        Column("Size", "integer", ".spec.size", description="how big"),
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Keys", "string", ".spec.list[*].k", priority=1),
        Column("When", "date", ".spec.when"),
        Column("Map", "string", ".spec.map"),
    ),
)  # fmt: skip


def test_own_columns() -> None:
    document = {
        "metadata": {"name": "w"},
        "spec": {"size": 6.0, "list": [{"k": "a"}, {"k": "b"}], "when": "2026-01-01T11:59:00Z", "map": {"a": 1}},
        "status": {"conditions": [{"type": "X", "status": "0"}, {"type": "Ready", "status": "True"}]},
    }  # fmt: skip
    got = table.to_table(WIDGET, [document, {"metadata": {"name": "e"}}], NOW)
    assert [row["cells"] for row in got["rows"]] == [
        ["w", 6, "True", "a", "60s", '{"a":1}'],
        ["e", None, None, None, None, None],
    ]
    assert [c["description"] for c in got["columnDefinitions"][1:3]] == [
        "how big",
        "Custom resource definition column (in JSONPath format): "
        '.status.conditions[?(@.type=="Ready")].status',
    ]


def test_own_kind_without_columns_shows_its_age() -> None:
    plain = ServedKind("a.b", "v1", "P", "ps", "p", True, "b.a.P", custom=True, schema={})
    got = table.to_table(
        plain, [{"metadata": {"name": "x", "creationTimestamp": "2026-01-01T11:59:00Z"}}], NOW
    )
    assert [c["name"] for c in got["columnDefinitions"]] == ["Name", "Age"]
    assert got["rows"][0]["cells"] == ["x", "60s"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".a.b", [1]), ("{.a.b}", [1]), (r".x\.y", [2]), ("['x.y']", [2]), (".l[0]", [3]),
        (".l[-1]", [{"k": 5}]), (".l[9]", []), (".l[*]", [3, {"k": 5}]), (".gone.b", []),
        (".l[?(@.k==5)].k", [5]), (".l[?(@.k!=5)]", [3]), (".a.*", [1]),
    ],
)  # fmt: skip
def test_json_path(path: str, expected: list[Any]) -> None:
    document = {"a": {"b": 1}, "x.y": 2, "l": [3, {"k": 5}]}
    assert jsonpath.compile_path(path)(document) == expected


@pytest.mark.parametrize("path", ["a", ".a[1:2]", ".a..b", ".a[?(@.b>1)]", ".a[?(@.b==c)]"])
def test_json_path_not_understood(path: str) -> None:
    with pytest.raises(ValueError, match="unsupported"):
        jsonpath.compile_path(path)


def test_a_column_in_braces_is_a_template() -> None:
    fill = jsonpath.compile_template("{.status.ready}/{.status.total}")
    assert fill({"status": {"ready": 1, "total": 3}}) == "1/3"
    assert fill({}) is None
    assert jsonpath.compile_template("{.spec.zones[*]}")({"spec": {"zones": ["a", "b"]}}) == "a,b"
