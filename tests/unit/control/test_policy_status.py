"""What the status of a ValidatingAdmissionPolicy says of its expressions."""

from typing import Any

from machinery.api.kinds import BUILTIN
from machinery.controller.action import SetStatus
from machinery.controllers.policystatus import Kinds, plan
from machinery.meta.resource import Document

WIDGET: Document = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {
                "name": "v1", "served": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"size": {"type": "integer"}}}
                        },
                    }
                },
            }
        ],
    },
}  # fmt: skip
KINDS = Kinds(BUILTIN, [WIDGET])


def rule(group: str, *resources: str) -> Document:
    return {"apiGroups": [group], "apiVersions": ["v1"], "resources": list(resources)}


def policy(*expressions: str, rules: list[Document] | None = None, **spec: Any) -> Document:
    return {
        "metadata": {"name": "p", "generation": 2, "resourceVersion": "7"},
        "spec": {
            "matchConstraints": {"resourceRules": rules or [rule("apps", "deployments")]},
            "validations": [{"expression": text} for text in expressions], **spec,
        },
        "status": {"observedGeneration": 1},
    }  # fmt: skip


def warned(document: Document) -> list[tuple[str, str]]:
    (action,) = plan(document, KINDS.by_resource, KINDS.by_kind)
    assert isinstance(action, SetStatus)
    assert (action.status["observedGeneration"], action.resource_version) == (2, "7")
    found = action.status["typeChecking"]["expressionWarnings"] or []
    return [(one["fieldRef"], one["warning"]) for one in found]


def test_what_fits_is_not_warned_of() -> None:
    assert warned(
        policy(
            "object.spec.replicas < 5 && oldObject.spec.replicas < 5",
            "object.spec.template.spec.containers.all(c, c.image.startsWith('a'))",
            "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
            "has(object.metadata.labels) && object.metadata.labels['a'] == 'b'",
            "object.spec.strategy.rollingUpdate.maxSurge == 1 || request.name == 'x'",
        )
    ) == []  # fmt: skip


def test_fields_and_types_that_are_not_there() -> None:
    assert warned(policy("object.replicas > 1", "object.spec.replicas == 'x'")) == [
        (
            "spec.validations[0].expression",
            "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n",
        ),
        (
            "spec.validations[1].expression",
            "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_==_' applied to '(int, string)'\n"
            " | object.spec.replicas == 'x'\n | .....................^\n",
        ),
    ]


def test_each_kind_is_told_and_variables_have_their_types() -> None:
    ((_, told),) = warned(
        policy(
            "variables.s.strategy != null",
            rules=[rule("apps", "replicasets", "deployments", "deployments/status")],
            variables=[{"name": "s", "expression": "object.spec"}],
        )
    )
    assert told == (
        "apps/v1, Kind=ReplicaSet: ERROR: <input>:1:12: undefined field 'strategy'\n | variables.s.strategy != null\n"
        " | ...........^\n"
    )


def test_custom_kinds_and_parameters() -> None:
    found = warned(
        policy(
            "object.spec.size < params.spec.most",
            rules=[rule("example.com", "widgets")],
            paramKind={"apiVersion": "example.com/v1", "kind": "Widget"},
        )
    )
    assert [text.split("\n")[0] for _, text in found] == [
        "example.com/v1, Kind=Widget: ERROR: <input>:1:31: undefined field 'most'"
    ]


def test_wildcards_and_unknown_kinds_are_not_looked_at() -> None:
    for rules in ([rule("*", "deployments")], [rule("apps", "*")], [rule("nowhere", "nothings")]):
        assert warned(policy("object.nothing", rules=rules)) == []


def test_a_generation_is_looked_at_once() -> None:
    seen = policy("object.nothing")
    seen["status"]["observedGeneration"] = 2
    assert plan(seen, KINDS.by_resource, KINDS.by_kind) == []
