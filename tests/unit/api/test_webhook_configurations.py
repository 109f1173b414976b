"""Webhook configurations: what is filled in, what is refused and in which words; table and protobuf."""

import datetime as dt
from typing import Any

import pytest

from machinery.api import defaults, strategy, validation
from machinery.api.table import to_table
from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)


def hook(**fields: Any) -> Document:
    return {
        "name": "w.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": "https://127.0.0.1:1/x"},
        "rules": [
            {
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"],
            }
        ],
        **fields,
    }  # fmt: skip


def configuration(*hooks: Document, kind: Any = MUTATING) -> Document:
    document = {
        "apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "c"},
        "webhooks": list(hooks),
    }  # fmt: skip
    return defaults.apply_defaults(kind, document)


def causes(**fields: Any) -> list[str]:
    found = validation.validate_create(MUTATING, configuration(hook(**fields)))
    return [f"{one['field'].removeprefix('webhooks[0].')}: {one['message']}" for one in found]


def rule(**fields: Any) -> dict[str, Any]:
    return {"rules": [{**hook()["rules"][0], **fields}]}


def service(**fields: Any) -> dict[str, Any]:
    return {"clientConfig": {"service": {"name": "s", "namespace": "n", **fields}}}


def test_defaults() -> None:
    (filled,) = configuration(hook(**service()))["webhooks"]
    assert filled["failurePolicy"] == "Fail"
    assert filled["matchPolicy"] == "Equivalent"
    assert filled["timeoutSeconds"] == 10
    assert filled["namespaceSelector"] == filled["objectSelector"] == {}
    assert filled["reinvocationPolicy"] == "Never"
    assert filled["rules"][0]["scope"] == "*"
    assert filled["clientConfig"]["service"]["port"] == 443
    (other,) = configuration(hook(), kind=VALIDATING)["webhooks"]
    assert "reinvocationPolicy" not in other


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        (service(), []),
        (service(path="/a/b/"), []),
        (rule(operations=["*"], apiGroups=["*"], resources=["*/*"]), []),
        (rule(resources=["pods", "pods/status", "*/scale"]), []),
        ({"matchConditions": [{"name": "a/b", "expression": "object.metadata.name != 'x'"}]}, []),
        ({"name": ""}, ["name: Required value"]),
        ({"name": "a.b"}, ['name: Invalid value: "a.b": should be a domain with at least three segments separated by dots']),
        ({"sideEffects": None}, ["sideEffects: Required value: must specify one of None, NoneOnDryRun"]),
        ({"sideEffects": "Unknown"}, ['sideEffects: Unsupported value: "Unknown": supported values: "None", "NoneOnDryRun"']),
        ({"timeoutSeconds": 31}, ["timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"]),
        ({"timeoutSeconds": 0}, ["timeoutSeconds: Invalid value: 0: the timeout value must be between 1 and 30 seconds"]),
        ({"matchPolicy": "Like"}, ['matchPolicy: Unsupported value: "Like": supported values: "Equivalent", "Exact"']),
        ({"reinvocationPolicy": "Always"}, ['reinvocationPolicy: Unsupported value: "Always": supported values: "IfNeeded", "Never"']),
        ({"admissionReviewVersions": []}, ["admissionReviewVersions: Required value: must specify one of v1, v1beta1"]),
        ({"admissionReviewVersions": ["v1", "v1"]}, ['admissionReviewVersions[1]: Invalid value: "v1": duplicate version']),
        ({"clientConfig": {}}, ["clientConfig: Required value: exactly one of url or service is required"]),
        (
            {"clientConfig": {"url": "https://u:p@h/x?a=b#c"}},
            [
                'clientConfig.url: Invalid value: "u:p": user information is not permitted in the URL',
                'clientConfig.url: Invalid value: "c": fragments are not permitted in the URL',
                'clientConfig.url: Invalid value: "a=b": query parameters are not permitted in the URL',
            ],
        ),
        (
            {"clientConfig": {"url": "x"}},
            [
                "clientConfig.url: Invalid value: \"\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                'clientConfig.url: Invalid value: "": host must be specified; desired format: https://host[/path]',
            ],
        ),
        (service(name=""), ["clientConfig.service.name: Required value: service name is required"]),
        (service(port=70000), ["clientConfig.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive"]),
        (service(path="a"), ["clientConfig.service.path: Invalid value: \"a\": must start with a '/'", 'clientConfig.service.path: Invalid value: "a": segment[0] may not be empty']),
        (service(path="/a//b"), ['clientConfig.service.path: Invalid value: "/a//b": segment[1] may not be empty']),
        (rule(operations=[]), ["rules[0].operations: Required value"]),
        (rule(operations=["*", "CREATE"]), ["rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations"]),
        (rule(operations=["PATCH"]), ['rules[0].operations[0]: Unsupported value: "PATCH": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"']),
        (rule(apiGroups=[]), ["rules[0].apiGroups: Required value"]),
        (rule(apiVersions=["*", "v1"]), ["rules[0].apiVersions: Invalid value: [\"*\",\"v1\"]: if '*' is present, must not specify other API versions"]),
        (rule(apiVersions=[""]), ["rules[0].apiVersions[0]: Required value"]),
        (rule(resources=["pods/*", "pods/status"]), ["rules[0].resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status"]),
        (rule(resources=["*/status", "pods/status"]), ["rules[0].resources[1]: Invalid value: \"pods/status\": if '*/status' is present, must not specify pods/status"]),
        (rule(resources=["*/*", "pods"]), ["rules[0].resources: Invalid value: [\"*/*\",\"pods\"]: if '*/*' is present, must not specify other resources"]),
        (rule(resources=["*", "pods"]), ["rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources"]),
        (rule(scope="All"), ['rules[0].scope: Unsupported value: "All": supported values: "*", "Cluster", "Namespaced"']),
        (
            {"matchConditions": [{"name": "a", "expression": "true"}, {"name": "a", "expression": " "}, {"name": "", "expression": "1"}]},
            [
                "matchConditions[1].expression: Required value",
                'matchConditions[1].name: Duplicate value: "a"',
                'matchConditions[2].expression: Invalid value: "1": must evaluate to bool but got int',
                "matchConditions[2].name: Required value",
            ],
        ),
    ],
)  # fmt: skip
def test_causes(fields: dict[str, Any], expected: list[str]) -> None:
    assert causes(**fields) == expected


def test_too_many_conditions_are_not_compiled() -> None:
    conditions = [{"name": f"n{i}", "expression": "true"} for i in range(64)]
    conditions.append({"name": "n64", "expression": "object.("})
    assert causes(matchConditions=conditions) == [
        "matchConditions: Too many: 65: must have at most 64 items"
    ]


def test_generation_counts_changes_of_webhooks() -> None:
    new = strategy.prepare_create(MUTATING, configuration(hook()))
    assert new["metadata"]["generation"] == 1
    relabelled = {**new, "metadata": {**new["metadata"], "labels": {"a": "b"}}}
    assert strategy.prepare_update(MUTATING, relabelled, new, "")["metadata"]["generation"] == 1
    changed = {**new, "webhooks": []}
    assert strategy.prepare_update(MUTATING, changed, new, "")["metadata"]["generation"] == 2


def test_table() -> None:
    document = {**configuration(hook(), hook()), "metadata": {"name": "c"}}
    table = to_table(VALIDATING, [document], NOW)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Webhooks", "Age"]
    assert table["rows"][0]["cells"][:2] == ["c", 2]
