"""Which script answers, and answers that are none."""

from typing import Any

import msgspec
import pytest

from machinery.api.fleet.interpretation import (
    AGGREGATE,
    DEPENDENCY,
    HEALTH,
    OPERATIONS,
    REFLECT,
    REPLICA,
    RETAIN,
    REVISE,
    ResourceInterpreterCustomization,
)
from machinery.meta.resource import Document
from machinery.scripts.customizations import BUILT_IN, Customizations, InterpretationFailed

OBJECT: Document = {
    "apiVersion": "example.io/v1",
    "kind": "Shard",
    "metadata": {"name": "s", "namespace": "demo"},
    "spec": {"count": 3, "args": []},
    "status": {"ready": 2, "phase": "Up"},
}


def customization(name: str = "c", kind: str = "Shard", at: int = 1, **scripts: str) -> Any:
    document = {
        "metadata": {"name": name, "creationTimestamp": f"2026-01-01T00:00:0{at}Z"},
        "spec": {
            "target": {"apiVersion": "example.io/v1", "kind": kind},
            "customizations": {field: {"luaScript": text} for field, text in scripts.items()},
        },
    }
    return msgspec.convert(document, ResourceInterpreterCustomization)


def saying(field: str, text: str) -> Customizations:
    return Customizations([customization(**{field: text})])


def test_only_what_is_said_is_answered() -> None:
    scripts = saying("healthInterpretation", "function InterpretHealth(o) return true end")
    assert scripts.answers(OBJECT, HEALTH)
    assert not scripts.answers(OBJECT | {"kind": "Other"}, HEALTH)
    assert not scripts.answers(OBJECT, REFLECT)
    assert not any(BUILT_IN.answers(OBJECT, one) for one in OPERATIONS)
    assert scripts.kinds(HEALTH) == {("example.io/v1", "Shard")}


def test_of_two_the_older_answers() -> None:
    young = customization(
        "a", at=2, healthInterpretation="function InterpretHealth() return false end"
    )
    old = customization(
        "b", at=1, healthInterpretation="function InterpretHealth() return true end"
    )
    assert Customizations([young, old]).healthy(OBJECT) is True


def test_every_question() -> None:
    count = "function GetReplicas(o) return o.spec.count, {resourceRequest = {cpu = '1'}} end"
    assert saying("replicaResource", count).replicas(OBJECT, {}) == (
        3,
        {"resourceRequest": {"cpu": "1"}},
    )
    revise = "function ReviseReplica(o, n) o.spec.count = n return o end"
    assert saying("replicaRevision", revise).revised(OBJECT, 5)["spec"] == {"count": 5, "args": []}
    retain = "function Retain(want, live) want.spec.count = live.spec.count return want end"
    live = OBJECT | {"spec": {"count": 9}}
    assert saying("retention", retain).retained(OBJECT, live)["spec"]["count"] == 9
    reflect = "function ReflectStatus(o) return {ready = o.status.ready} end"
    assert saying("statusReflection", reflect).reflected(OBJECT) == {"ready": 2}
    needs = """function GetDependencies(o)
        return {{apiVersion = 'v1', kind = 'Secret', namespace = o.metadata.namespace, name = 'k'}} end"""
    assert saying("dependencyInterpretation", needs).dependencies(OBJECT, {}) == [
        {"apiVersion": "v1", "kind": "Secret", "namespace": "demo", "name": "k"}
    ]
    total = """function AggregateStatus(o, items)
        local ready = 0
        for _, item in ipairs(items) do ready = ready + item.status.ready end
        o.status.ready = ready
        return o end"""
    items = [{"clusterName": c, "status": {"ready": 4}} for c in ("alpha", "beta")]
    assert saying("statusAggregation", total).aggregated(OBJECT, items)["status"]["ready"] == 8


@pytest.mark.parametrize(
    ("operation", "body", "why"),
    [
        (REPLICA, "return -1", "number of replicas is -1"),
        (REPLICA, "return 1.5", "number of replicas is 1.5"),
        (REPLICA, "return 2^40", "number of replicas"),
        (REPLICA, "return nil", "number of replicas is None"),
        (REPLICA, "return 1, 'much'", "no table"),
        (REVISE, "return {}", "give the object back"),
        (REVISE, "a.metadata.name = 'other' return a", "give the object back"),
        (RETAIN, "a.kind = 'Other' return a", "give the object back"),
        (AGGREGATE, "return nil", "give the object back"),
        (REFLECT, "return 3", "no table"),
        (HEALTH, "return 'yes'", "no boolean"),
        (HEALTH, "return nil", "no boolean"),
        (DEPENDENCY, "return {{kind = 'Secret'}}", "no reference"),
        (DEPENDENCY, "return 'all'", "no reference"),
    ],
)
def test_what_is_no_answer(operation: Any, body: str, why: str) -> None:
    scripts = saying(operation.field, f"function {operation.function}(a, b) {body} end")
    ask: dict[str, Any] = {
        REPLICA.field: lambda: scripts.replicas(OBJECT, {}),
        REVISE.field: lambda: scripts.revised(OBJECT, 1),
        RETAIN.field: lambda: scripts.retained(OBJECT, OBJECT),
        AGGREGATE.field: lambda: scripts.aggregated(OBJECT, []),
        REFLECT.field: lambda: scripts.reflected(OBJECT),
        HEALTH.field: lambda: scripts.healthy(OBJECT),
        DEPENDENCY.field: lambda: scripts.dependencies(OBJECT, {}),
    }
    with pytest.raises(InterpretationFailed, match=why) as error:
        ask[operation.field]()
    assert f"{operation.name} by ResourceInterpreterCustomization(c)" in str(error.value)


def test_nothing_reflected_and_nothing_needed() -> None:
    assert saying("statusReflection", "function ReflectStatus() end").reflected(OBJECT) is None
    for text in ("", "return {}"):
        script = f"function GetDependencies() {text} end"
        assert saying("dependencyInterpretation", script).dependencies(OBJECT, {}) == []


def test_an_expression_answers_in_the_place_of_a_script() -> None:
    document = {
        "metadata": {"name": "c"},
        "spec": {
            "target": {"apiVersion": "example.io/v1", "kind": "Shard"},
            "customizations": {
                "replicaResource": {"expression": "object.spec.count"},
                "replicaRevision": {"expression": "{'metadata': {'name': 'other'}}"},
            },
        },
    }
    scripts = Customizations([msgspec.convert(document, ResourceInterpreterCustomization)])
    assert scripts.replicas(OBJECT, {}) == (3, None)
    with pytest.raises(InterpretationFailed, match="give the object back"):
        scripts.revised(OBJECT, 1)
    with pytest.raises(InterpretationFailed, match=r"by ResourceInterpreterCustomization\(c\): no"):
        scripts.replicas(OBJECT | {"spec": {}}, {})
