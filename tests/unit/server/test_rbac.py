"""Rules, bindings, aggregation and escalation, as tables."""

from typing import Any

import pytest

from machinery.server.rbac import Attributes, Index, Policy, Rule, compact_text, uncovered
from machinery.server.user import UserInfo, service_account_user


def rule(**fields: Any) -> dict[str, Any]:
    return {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], **fields}


def role(name: str, *rules: dict[str, Any], namespace: str = "", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, **metadata}, "rules": list(rules)}


def binding(
    to: str, *subjects: dict[str, str], namespace: str = "", kind: str = "ClusterRole"
) -> dict[str, Any]:
    return {
        "metadata": {"name": f"b-{to}", "namespace": namespace},
        "roleRef": {"kind": kind, "name": to},
        "subjects": list(subjects),
    }


USER = {"kind": "User", "name": "alice"}
ALICE = UserInfo("alice", ("devs",))


@pytest.mark.parametrize(
    ("given", "asked", "expected"),
    [
        (rule(), Attributes("get", "", "pods", "", "a", "p"), True),
        (rule(), Attributes("list", "", "pods", "", "a"), False),
        (rule(verbs=["*"]), Attributes("delete", "", "pods"), True),
        (rule(), Attributes("get", "apps", "pods"), False),
        (rule(apiGroups=["*"]), Attributes("get", "apps", "pods"), True),
        (rule(), Attributes("get", "", "pods", "log"), False),
        (rule(resources=["pods/log"]), Attributes("get", "", "pods", "log"), True),
        (rule(resources=["*/log"]), Attributes("get", "", "pods", "log"), True),
        (rule(resources=["*"]), Attributes("get", "", "pods", "log"), True),
        (rule(resourceNames=["x"]), Attributes("get", "", "pods", "", "a", "x"), True),
        (rule(resourceNames=["x"]), Attributes("get", "", "pods", "", "a", "y"), False),
        (rule(resourceNames=["x"], verbs=["list"]), Attributes("list", "", "pods"), False),
        ({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}, Attributes("get", path="/metrics"), True),
        ({"verbs": ["get"], "nonResourceURLs": ["/api*"]}, Attributes("get", path="/apis/apps"), True),
        ({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}, Attributes("get", "", "pods"), False),
    ],
)  # fmt: skip
def test_rule_covers(given: dict[str, Any], asked: Attributes, expected: bool) -> None:
    assert Rule.read(given).covers(asked) is expected


@pytest.mark.parametrize(
    ("policy", "user", "namespace", "expected"),
    [
        (Policy(cluster_roles=[role("r", rule())], cluster_bindings=[binding("r", USER)]), ALICE, "x", True),
        (Policy(cluster_roles=[role("r", rule())], bindings=[binding("r", USER, namespace="a")]), ALICE, "a", True),
        (Policy(cluster_roles=[role("r", rule())], bindings=[binding("r", USER, namespace="a")]), ALICE, "b", False),
        (Policy(cluster_roles=[role("r", rule())], bindings=[binding("r", USER, namespace="a")]), ALICE, "", False),
        (
            Policy(
                roles=[role("r", rule(), namespace="a")],
                bindings=[binding("r", {"kind": "Group", "name": "devs"}, namespace="a", kind="Role")],
            ),
            ALICE, "a", True,
        ),
        (
            Policy(
                cluster_roles=[role("r", rule())],
                bindings=[binding("r", {"kind": "ServiceAccount", "name": "sa", "namespace": "a"}, namespace="a")],
            ),
            service_account_user("a", "sa"), "a", True,
        ),
        (Policy(cluster_bindings=[binding("missing", USER)]), ALICE, "", False),
    ],
)  # fmt: skip
def test_bindings(policy: Policy, user: UserInfo, namespace: str, expected: bool) -> None:
    index = Index(policy)
    asked = Attributes("get", "", "pods", "", namespace, "p")
    assert index.allows(user, asked) is expected
    assert index.allows(user, asked) is expected, "a remembered answer is the same"


def test_aggregation_reaches_through_aggregated_roles() -> None:
    def gathers(name: str, label: str, **labels: str) -> dict[str, Any]:
        selector = {"matchLabels": {label: "true"}}
        found = role(name, labels=labels)
        return {**found, "aggregationRule": {"clusterRoleSelectors": [selector]}}

    policy = Policy(
        cluster_roles=[
            gathers("edit", "to-edit"),
            gathers("view", "to-view", **{"to-edit": "true"}),
            role("base", rule(), labels={"to-view": "true"}),
        ],
        cluster_bindings=[binding("edit", USER)],
    )
    assert Index(policy).allows(ALICE, Attributes("get", "", "pods"))


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ({"matchLabels": {"a": "1"}}, {"a": "1"}, True),
        ({"matchLabels": {"a": "1", "b": "1"}}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": "2"}, False),
        ({"matchLabels": {"b": "1"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": "2", "b": "1"}, True),
        ({}, {}, True),
    ],
)  # fmt: skip
def test_aggregation_by_selectors(selector: Any, labels: dict[str, str], expected: bool) -> None:
    sums = role("sum", rule(resources=["secrets"]))
    policy = Policy(
        cluster_roles=[
            {**sums, "aggregationRule": {"clusterRoleSelectors": [selector]}},
            role("base", rule(), labels=labels),
        ],
        cluster_bindings=[binding("sum", USER)],
    )
    assert Index(policy).allows(ALICE, Attributes("get", "", "pods")) is expected
    assert not Index(policy).allows(ALICE, Attributes("get", "", "secrets")), "its own count not"


def test_aggregation_in_a_circle_ends() -> None:
    def gathers(name: str, label: str, own: str) -> dict[str, Any]:
        found = role(name, labels={own: "true"})
        selector = {"matchLabels": {label: "true"}}
        return {**found, "aggregationRule": {"clusterRoleSelectors": [selector]}}

    policy = Policy(cluster_roles=[gathers("a", "b", "a"), gathers("b", "a", "b")])
    assert not Index(policy).allows(ALICE, Attributes("get", "", "pods"))


def test_reason_names_the_binding() -> None:
    policy = Policy(
        roles=[role("r", rule(), namespace="a")],
        bindings=[binding("r", USER, namespace="a", kind="Role")],
    )
    reason = Index(policy).reason(ALICE, Attributes("get", "", "pods", "", "a"))
    assert reason == 'RBAC: allowed by RoleBinding "b-r/a" of Role "r" to User "alice"'


@pytest.mark.parametrize(
    ("held", "wanted", "missing"),
    [
        (rule(verbs=["get", "list"]), rule(verbs=["get"]), ""),
        (rule(), rule(verbs=["get", "list"]), '{APIGroups:[""], Resources:["pods"], Verbs:["list"]}'),
        (rule(verbs=["*"], apiGroups=["*"], resources=["*"]), rule(resources=["secrets"]), ""),
        (rule(resourceNames=["a"]), rule(), '{APIGroups:[""], Resources:["pods"], Verbs:["get"]}'),
        (rule(), rule(resourceNames=["a"]), ""),
        (rule(resources=["*/log"]), rule(resources=["pods/log"]), ""),
        (
            rule(), {"verbs": ["get"], "nonResourceURLs": ["/metrics"]},
            '{NonResourceURLs:["/metrics"], Verbs:["get"]}',
        ),
    ],
)  # fmt: skip
def test_escalation(held: dict[str, Any], wanted: dict[str, Any], missing: str) -> None:
    parts = uncovered([Rule.read(held)], [Rule.read(wanted)])
    assert compact_text(parts) == missing
