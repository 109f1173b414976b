"""Whose rules a ClusterRole that gathers others shows."""

from typing import Any

import pytest

from machinery.controller.action import Patch
from machinery.controllers.rolesums import CLUSTER_ROLES, plan
from machinery.meta.resource import Document, ObjectKey


def rule(resource: str) -> Document:
    return {"apiGroups": [""], "resources": [resource], "verbs": ["get"]}


def role(name: str, *resources: str, **labels: str) -> Document:
    return {"metadata": {"name": name, "labels": labels}, "rules": [rule(r) for r in resources]}


def gathering(*selectors: Document, rules: Any = None, **metadata: Any) -> Document:
    return {
        "metadata": {"name": "sum", "resourceVersion": "7", "labels": {"a": "1"}} | metadata,
        "aggregationRule": {"clusterRoleSelectors": list(selectors)},
        "rules": rules,
    }


A, B = {"matchLabels": {"a": "1"}}, {"matchExpressions": [{"key": "b", "operator": "Exists"}]}
ROLES = [
    role("y", "pods", "secrets", a="1"),
    role("x", "pods", "events", a="1"),
    role("z", "nodes", b="any"),
    role("other", "services"),
]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (gathering(A), ["pods", "events", "secrets"]),
        (gathering(B, A), ["nodes", "pods", "events", "secrets"]),
        (gathering(B, rules=[rule("mine")]), ["nodes"]),
        (gathering(B, rules=[rule("nodes")]), None),
        (gathering({"matchLabels": {"a": "2"}}, rules=[]), None),
        (gathering({"matchLabels": {"a": "2"}}), None),
        (gathering({"matchLabels": {"a": "2"}}, rules=[rule("gone")]), []),
        (gathering(A, deletionTimestamp="2026-01-01T00:00:00Z"), None),
        (role("y", "pods", a="1"), None),
    ],
    ids=["by name, each once", "selector by selector", "replaced", "as it is", "none", "none yet", "none any more", "going", "gathers none"],
)  # fmt: skip
def test_plan(given: Document, expected: list[str] | None) -> None:
    actions = plan(given, [given, *ROLES])
    if expected is None:
        assert actions == []
        return
    wanted = {"rules": [rule(name) for name in expected]}
    assert actions == [Patch(CLUSTER_ROLES, ObjectKey("", "sum"), wanted, resource_version="7")]
