"""Admission policies and bindings: what is filled in, what is refused and in which words."""

import datetime as dt
from typing import Any

import pytest

from machinery.api import defaults, strategy, validation
from machinery.api.policy_kinds import (
    MUTATING_BINDING,
    MUTATING_POLICY,
    VALIDATING_BINDING,
    VALIDATING_POLICY,
)
from machinery.api.scheme import ServedKind
from machinery.api.table import to_table
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
RULE = {
    "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
    "resources": ["deployments"],
}  # fmt: skip
HEAD = "compilation failed: ERROR: <input>"


def policy(**spec: Any) -> Document:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [RULE]},
            "validations": [{"expression": "object.spec.replicas < 5"}], **spec,
        },
    }  # fmt: skip


def mutating(*mutations: Document, **spec: Any) -> Document:
    return policy(**{"validations": None, "reinvocationPolicy": "Never", **spec}, mutations=mutations)  # fmt: skip


def binding(**spec: Any) -> Document:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": ["Deny"], **spec},
    }  # fmt: skip


def complaints(kind: ServedKind, document: Document) -> list[str]:
    found = validation.validate_create(kind, defaults.apply_defaults(kind, document))
    return [f"{one['field'].removeprefix('spec.')}: {one['message']}" for one in found]


def test_what_is_filled_in() -> None:
    spec = defaults.apply_defaults(VALIDATING_POLICY, policy())["spec"]
    assert spec["failurePolicy"] == "Fail"
    assert spec["matchConstraints"] == {
        "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
        "resourceRules": [{**RULE, "scope": "*"}],
    }  # fmt: skip
    bound = defaults.apply_defaults(VALIDATING_BINDING, binding(matchResources={}))["spec"]
    assert bound["matchResources"]["matchPolicy"] == "Equivalent"
    assert "matchResources" not in defaults.apply_defaults(MUTATING_BINDING, binding())["spec"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"validations": [{"expression": "request.userInfo.username == 'a' && namespaceObject.metadata.name == 'b' && authorizer.requestResource.check('x').allowed()"}]}, []),
        ({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": [{"expression": "params.data.a == 'x'"}]}, []),
        ({"variables": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a + 1"}], "validations": [{"expression": "variables.b == 2"}]}, []),
        ({"auditAnnotations": [{"key": "k", "valueExpression": "object.metadata.name + 'x'"}, {"key": "l", "valueExpression": "null"}], "validations": None}, []),
        ({"failurePolicy": "Retry"}, ['failurePolicy: Unsupported value: "Retry": supported values: "Fail", "Ignore"']),
        ({"matchConstraints": None}, ["matchConstraints: Required value"]),
        ({"matchConstraints": {}}, ["matchConstraints.resourceRules: Required value"]),
        ({"matchConstraints": {"resourceRules": [{**RULE, "operations": []}]}}, ["matchConstraints.resourceRules[0].operations: Required value"]),
        ({"matchConstraints": {"resourceRules": [{**RULE, "resourceNames": ["a", "a", "x/y"]}]}}, ['matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: "a"', "matchConstraints.resourceRules[0].resourceNames[2]: Invalid value: \"x/y\": may not contain '/'"]),
        ({"paramKind": {"apiVersion": "a/b/c", "kind": "Some thing"}}, ['paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c', "paramKind.kind: Invalid value: \"Some thing\": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"]),
        ({"validations": []}, ["validations: Required value: validations or auditAnnotations must contain at least one item", "auditAnnotations: Required value: validations or auditAnnotations must contain at least one item"]),
        ({"validations": [{"expression": "1 + 1"}]}, ['validations[0].expression: Invalid value: "1 + 1": must evaluate to bool but got int']),
        ({"validations": [{"expression": "object.spec.paused"}]}, ['validations[0].expression: Invalid value: "object.spec.paused": must evaluate to bool but got dyn']),
        ({"validations": [{"expression": "  "}]}, ["validations[0].expression: Required value: expression is not specified"]),
        ({"validations": [{"expression": "params.x == 1"}]}, [f"validations[0].expression: Invalid value: \"params.x == 1\": {HEAD}:1:1: undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^"]),
        ({"validations": [{"expression": "request.who == 'a'"}]}, [f"validations[0].expression: Invalid value: \"request.who == 'a'\": {HEAD}:1:8: undefined field 'who'\n | request.who == 'a'\n | .......^"]),
        ({"validations": [{"expression": "variables.x"}]}, [f"validations[0].expression: Invalid value: \"variables.x\": {HEAD}:1:10: undefined field 'x'\n | variables.x\n | .........^"]),
        ({"validations": [{"expression": "true", "message": "a\nb", "messageExpression": " ", "reason": "Unauthorized"}]}, ['validations[0].messageExpression: Invalid value: " ": must be non-empty if specified', 'validations[0].message: Invalid value: "a\\nb": message must not contain line breaks', 'validations[0].reason: Unsupported value: "Unauthorized": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"']),
        ({"validations": [{"expression": "true", "messageExpression": "1"}]}, ['validations[0].messageExpression: Invalid value: "1": must evaluate to string but got int']),
        ({"validations": [{"expression": "true", "messageExpression": "string(authorizer.path('/x').check('get').allowed())"}]}, [f"validations[0].messageExpression: Invalid value: \"string(authorizer.path('/x').check('get').allowed())\": {HEAD}:1:8: undeclared reference to 'authorizer' (in container '')\n | string(authorizer.path('/x').check('get').allowed())\n | .......^"]),
        ({"variables": [{"name": "a-b", "expression": ""}, {"name": "in", "expression": "1 +"}]}, ['variables[0].name: Invalid value: "a-b": name is not a valid CEL identifier', "variables[0].expression: Required value: expression is not specified", 'variables[1].name: Invalid value: "in": name is not a valid CEL identifier', f"variables[1].expression: Invalid value: \"1 +\": {HEAD}:1:4: Syntax error: mismatched input '<EOF>' expecting {{'[', '{{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}}\n | 1 +\n | ...^"]),
        ({"matchConditions": [{"name": "a", "expression": "true"}, {"name": "a", "expression": "'x'"}]}, ["matchConditions[1].expression: Invalid value: \"'x'\": must evaluate to bool but got string", 'matchConditions[1].name: Duplicate value: "a"']),
        ({"auditAnnotations": [{"key": "a b", "valueExpression": "1"}]}, ["auditAnnotations[0].key: Invalid value: \"p/a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')", 'auditAnnotations[0].valueExpression: Invalid value: "1": must evaluate to one of [string null_type] but got int']),
    ],
)  # fmt: skip
def test_a_validating_policy(spec: dict[str, Any], expected: list[str]) -> None:
    assert complaints(VALIDATING_POLICY, policy(**spec)) == expected


def apply(expression: str) -> Document:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def json_patch(expression: str) -> Document:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (mutating(apply("Object{spec: Object.spec{replicas: object.spec.replicas + 1}}")), []),
        (mutating(json_patch("[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]")), []),
        (mutating(json_patch("[]")), ["mutations[0].jsonPatch.expression: Invalid value: \"[]\": must evaluate to list(JSONPatch) but got list(dyn)"]),
        (mutating(), ["mutations: Required value: mutations must contain at least one item"]),
        (mutating(apply("Object{}"), reinvocationPolicy="Always"), ['reinvocationPolicy: Unsupported value: "Always": supported values: "IfNeeded", "Never"']),
        (mutating(apply("Object{}"), reinvocationPolicy=""), ["reinvocationPolicy: Required value"]),
        (mutating({"patchType": "Merge"}), ['mutations[0].patchType: Unsupported value: "Merge": supported values: "ApplyConfiguration", "JSONPatch"']),
        (mutating({"patchType": "JSONPatch"}), ["mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch"]),
        (mutating(apply("Object.spec{a: 1}")), ['mutations[0].applyConfiguration.expression: Invalid value: "Object.spec{a: 1}": must evaluate to Object but got Object.spec']),
        (mutating(apply("Object{a: b}")), [f"mutations[0].applyConfiguration.expression: Invalid value: \"Object{{a: b}}\": {HEAD}:1:11: undeclared reference to 'b' (in container '')\n | Object{{a: b}}\n | ..........^"]),
        (mutating(json_patch("[JSONPatch{op: 'add', where: '/a'}]")), [f"mutations[0].jsonPatch.expression: Invalid value: \"[JSONPatch{{op: 'add', where: '/a'}}]\": {HEAD}:1:23: undefined field 'where'\n | [JSONPatch{{op: 'add', where: '/a'}}]\n | ......................^"]),
    ],
)  # fmt: skip
def test_a_mutating_policy(document: Document, expected: list[str]) -> None:
    assert complaints(MUTATING_POLICY, document) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"paramRef": {"name": "x", "parameterNotFoundAction": "Allow"}}, []),
        ({"policyName": ""}, ["policyName: Required value"]),
        ({"validationActions": []}, ["validationActions: Required value: at least one validation action is required"]),
        ({"validationActions": ["Deny", "Warn"]}, ['validationActions: Invalid value: ["Deny","Warn"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)']),
        ({"validationActions": ["Page"]}, ['validationActions[0]: Unsupported value: "Page": supported values: "Audit", "Deny", "Warn"']),
        ({"paramRef": {"name": "x", "selector": {}}}, ["paramRef.name: Forbidden: name and selector are mutually exclusive", "paramRef.selector: Forbidden: name and selector are mutually exclusive", "paramRef.parameterNotFoundAction: Required value"]),
        ({"paramRef": {"parameterNotFoundAction": "Deny"}}, ["paramRef: Required value: one of name or selector must be specified"]),
        ({"matchResources": {"resourceRules": [{**RULE, "resources": []}]}}, ["matchResouces.resourceRules[0].resources: Required value"]),
    ],
)  # fmt: skip
def test_a_binding(spec: dict[str, Any], expected: list[str]) -> None:
    assert complaints(VALIDATING_BINDING, binding(**spec)) == expected


def test_conditions_that_stay_are_not_compiled_again() -> None:
    old = defaults.apply_defaults(
        VALIDATING_POLICY, policy(matchConditions=[{"name": "a", "expression": "nothing.that.is"}])
    )
    old["metadata"]["resourceVersion"] = "1"
    new = {**old, "spec": {**old["spec"], "failurePolicy": "Ignore"}}
    assert validation.validate_update(VALIDATING_POLICY, new, old) == []
    changed = {**new, "spec": {**new["spec"], "paramKind": {"apiVersion": "v1", "kind": "X"}}}
    (one,) = validation.validate_update(VALIDATING_POLICY, changed, old)
    assert one["field"] == "spec.matchConditions[0].expression"


def test_a_generation_counts_the_wish_and_a_status_is_the_servers() -> None:
    made = strategy.prepare_create(VALIDATING_POLICY, {**policy(), "status": {"x": 1}})
    assert (made["metadata"]["generation"], made["status"]) == (1, {})
    other = {**made, "spec": {**made["spec"], "failurePolicy": "Ignore"}}
    changed = strategy.prepare_update(VALIDATING_POLICY, other, made, "")
    assert changed["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("ref", "cell"),
    [
        (None, "<unset>"),
        ({"name": "a"}, "*/a"),
        ({"name": "a", "namespace": "n"}, "n/a"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}"),
    ],
)  # fmt: skip
def test_the_table_of_bindings(ref: Document | None, cell: str) -> None:
    document = binding(**({} if ref is None else {"paramRef": ref}))
    document["metadata"]["creationTimestamp"] = "2026-11-29T00:00:00Z"
    table = to_table(VALIDATING_BINDING, [document], NOW)
    assert table["rows"][0]["cells"] == ["b", "p", cell, "24h"]
