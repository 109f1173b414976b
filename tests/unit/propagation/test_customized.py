"""Users' interpreters at the federation: before what is built in, refused where they are no Lua or in each other's way."""

import json
from typing import Any

import msgspec
import pytest

from federation.propagation import customized, interpreter
from federation.propagation.admission.interpreters import InterpreterCustomizations
from federation.propagation.aggregate import MemberStatus
from federation.propagation.aggregation import Known
from federation.propagation.customized import BUILT_IN, Customizations
from machinery.api.fleet.interpretation import (
    RESOURCE_INTERPRETER_CUSTOMIZATION,
    ResourceInterpreterCustomization,
)
from machinery.api.validation import validate_create
from machinery.meta.errors import Forbidden
from machinery.meta.resource import Document, ObjectKey
from machinery.server.admission.interface import AdmissionRequest
from machinery.server.call import Call
from machinery.server.user import UserInfo

CONTAINER = {
    "name": "c",
    "image": "i",
    "resources": {"requests": {"cpu": "500m"}},
    "envFrom": [{"configMapRef": {"name": "settings"}}],
}
SHARD: Document = {
    "apiVersion": "example.io/v1",
    "kind": "Shard",
    "metadata": {"name": "s", "namespace": "demo", "uid": "u", "resourceVersion": "1"},
    "spec": {"count": 3, "template": {"spec": {"containers": [CONTAINER]}}},
    "status": {"ready": 1, "old": True},
}
COUNT = """
local kube = require("kube")
function GetReplicas(obj)
  return obj.spec.count, kube.accuratePodRequirements(obj.spec.template)
end
"""
DEPENDENCIES = """
local kube = require("kube")
function GetDependencies(obj)
  local found = kube.getPodDependencies(obj.spec.template, obj.metadata.namespace)
  table.insert(found, {apiVersion = 'v1', kind = 'Secret', namespace = 'demo', name = 'key'})
  table.insert(found, {apiVersion = 'apps/v1', kind = 'Deployment', namespace = 'demo', name = 'd'})
  table.insert(found, {apiVersion = 'v1', kind = 'Secret', namespace = 'other', name = 'key'})
  return found
end
"""


def document(
    name: str = "c", kind: str = "Shard", language: str = "luaScript", **scripts: str
) -> Document:
    return {
        "apiVersion": "config.karmada.io/v1alpha1",
        "kind": "ResourceInterpreterCustomization",
        "metadata": {"name": name},
        "spec": {
            "target": {"apiVersion": "example.io/v1", "kind": kind},
            "customizations": {field: {language: text} for field, text in scripts.items()},
        },
    }


def view(one: Document) -> ResourceInterpreterCustomization:
    return msgspec.convert(one, ResourceInterpreterCustomization)


def saying(**scripts: str) -> Customizations:
    return Customizations([view(document(**scripts))])


def test_replicas_with_the_library_for_pods() -> None:
    scripts = saying(replicaResource=COUNT)
    assert customized.replicas(scripts, SHARD) == (3, {"resourceRequest": {"cpu": "500m"}})
    assert customized.is_workload(scripts, SHARD)
    assert customized.replicas(BUILT_IN, SHARD) == (0, None)
    assert not customized.is_workload(BUILT_IN, SHARD)


def test_revision_is_the_users_or_none() -> None:
    script = "function ReviseReplica(o, n) o.spec.count = n return o end"
    scripts = saying(replicaRevision=script)
    assert customized.revised(scripts, SHARD, 7)["spec"]["count"] == 7
    assert customized.revised(BUILT_IN, SHARD, 7) is SHARD


def test_dependencies_that_can_follow() -> None:
    found = customized.dependencies(saying(dependencyInterpretation=DEPENDENCIES), SHARD)
    assert found["ConfigMap"] == {ObjectKey("demo", "settings")}
    assert found["Secret"] == {ObjectKey("demo", "key")}
    assert customized.dependencies(BUILT_IN, SHARD) == interpreter.dependencies(SHARD)


def test_quantities_in_scripts() -> None:
    script = "function GetReplicas() return require('kube').getResourceQuantity('2Ki') end"
    assert customized.replicas(saying(replicaResource=script), SHARD) == (2048, None)


def test_sums_count_only_members_that_are_heard_of() -> None:
    script = """function AggregateStatus(o, items)
        o.status = {ready = 0, from = {}}
        for _, item in ipairs(items) do
          o.status.ready = o.status.ready + item.status.ready
          table.insert(o.status.from, item.clusterName)
        end
        return o end"""
    members = [
        MemberStatus("alpha", 1, {"ready": 4}),
        MemberStatus("beta", 1, {"ready": 8}, seen=False),
        MemberStatus("gamma", 1, None),
    ]
    found = customized.summed(saying(statusAggregation=script), SHARD, members, Known("now"))
    assert found == {"ready": 4, "from": ["alpha"], "old": None}


# ----------------------------------------------------------------------------------------------------------- admission
class Held:
    """What the server holds."""

    def __init__(self, *documents: Document) -> None:
        self._held = [view(one) for one in documents]

    def list(self, resource: Any, namespace: str = "") -> Any:
        return iter(self._held)


def judge(new: Document, *held: Document) -> list[str]:
    """Warnings. Raises what it is refused with."""
    call = Call(user=UserInfo("tester"))
    kind = RESOURCE_INTERPRETER_CUSTOMIZATION
    request = AdmissionRequest("create", kind, "", new["metadata"]["name"], "", new, None, call)
    InterpreterCustomizations(lambda: Held(*held)).validate(request)
    return call.warnings


HEALTHY = "function InterpretHealth(o) return true end"


def test_good_scripts_are_accepted_without_a_word() -> None:
    other = document("other", statusReflection="function ReflectStatus(o) return o.status end")
    assert judge(document(healthInterpretation=HEALTHY), other) == []
    assert (
        judge(document(healthInterpretation=HEALTHY), document(healthInterpretation=HEALTHY)) == []
    )
    foreign = document("other", "Ring", healthInterpretation=HEALTHY)
    assert judge(document(healthInterpretation=HEALTHY), foreign) == []


def test_what_is_refused() -> None:
    with pytest.raises(Forbidden, match="customizations.healthInterpretation.luaScript: script:1"):
        judge(document(healthInterpretation="function ("))
    with pytest.raises(Forbidden, match=r"InterpreterOperation\(InterpretHealth\) of existing"):
        judge(document(healthInterpretation=HEALTHY), document("o", healthInterpretation=HEALTHY))


def test_expressions_are_compiled_and_in_the_way_of_scripts() -> None:
    good = document(language="expression", healthInterpretation="observed.spec.count > 1")
    assert judge(good) == []
    bad = document(language="expression", healthInterpretation="observed.spec.count +")
    with pytest.raises(Forbidden, match="healthInterpretation.expression: ERROR: <input>:1:22"):
        judge(bad)
    with pytest.raises(Forbidden, match=r"InterpreterOperation\(InterpretHealth\) of existing"):
        judge(good, document("o", healthInterpretation=HEALTHY))
    with pytest.raises(Forbidden, match=r"InterpreterOperation\(InterpretHealth\) of existing"):
        judge(document("o", healthInterpretation=HEALTHY), good)


def test_the_library_for_pods_is_there_for_expressions() -> None:
    said = "{'replicas': object.spec.count, 'replicaRequirements': kube.accuratePodRequirements(object.spec.template)}"
    scripts = Customizations([view(document(language="expression", replicaResource=said))])
    assert customized.replicas(scripts, SHARD) == (3, {"resourceRequest": {"cpu": "500m"}})
    said = "kube.getPodDependencies(object.spec.template, object.metadata.namespace)"
    scripts = Customizations([view(document(language="expression", dependencyInterpretation=said))])
    assert customized.dependencies(scripts, SHARD)["ConfigMap"] == {ObjectKey("demo", "settings")}


@pytest.mark.parametrize(
    ("said", "causes"),
    [
        ({"luaScript": HEALTHY}, []),
        ({"expression": "true"}, []),
        ({}, [("FieldValueRequired", "luaScript", "Required value")]),
        ({"expression": ""}, [("FieldValueRequired", "expression", "Required value")]),
        (
            {"luaScript": HEALTHY, "expression": "true"},
            [
                (
                    "FieldValueForbidden",
                    "expression",
                    "Forbidden: it may not be set beside luaScript",
                )
            ],
        ),
    ],
)
def test_one_language_answers(said: Document, causes: list[tuple[str, str, str]]) -> None:
    one = document()
    one["spec"]["customizations"] = {"healthInterpretation": said}
    where = "spec.customizations.healthInterpretation"
    assert validate_create(RESOURCE_INTERPRETER_CUSTOMIZATION, one) == [
        {"reason": reason, "message": message, "field": f"{where}.{field}"}
        for reason, field, message in causes
    ]


def test_what_is_warned_about() -> None:
    (warning,) = judge(document(healthInterpretation="function WrongName(x) return true end"))
    assert "no function InterpretHealth" in warning


def test_the_schema_knows_every_field() -> None:
    fields = RESOURCE_INTERPRETER_CUSTOMIZATION.schema["properties"]["spec"]["properties"]
    text = json.dumps(fields["customizations"])
    assert text.count('"luaScript": {') == 8
    assert text.count('"expression": {') == 8
