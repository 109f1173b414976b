"""Audit policies: which rule decides, what is refused, and what the built-in one leaves out."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from machinery.server import launch
from machinery.server.audit import default, policy
from machinery.server.audit.policy import Level, PolicyError
from machinery.server.audit.settings import AuditSettings
from machinery.server.request import parse_target
from machinery.server.user import LOOPBACK, UserInfo

ALICE = UserInfo("alice", ("devs", "system:authenticated"))
BOB = UserInfo("bob", ("ops", "system:authenticated"))
NODE = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))
AGENT = UserInfo("ubernetes:cluster:a", ("ubernetes:clusters", "system:authenticated"))
PODS = "/api/v1/namespaces/demo/pods"
SECRET = "/api/v1/namespaces/demo/secrets/s"


def of(*rules: dict[str, Any], **top: Any) -> policy.Policy:
    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **top}
    return policy.read(yaml.safe_dump(document), "test")


def level(held: policy.Policy, user: UserInfo | None, request: str) -> str:
    method, _, target = request.partition(" ")
    return policy.NAMES[held.decide(user, parse_target(method, target)).level]


def core(*resources: str, names: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return [{"group": "", "resources": list(resources), "resourceNames": list(names)}]


CASES = [
    # rule, user, request, whether it matches
    ({}, ALICE, f"GET {PODS}", True),
    ({}, ALICE, "GET /metrics", True),
    ({}, None, f"GET {PODS}", True),
    ({"users": ["alice"]}, ALICE, f"GET {PODS}", True),
    ({"users": ["alice"]}, BOB, f"GET {PODS}", False),
    ({"users": ["alice"]}, None, f"GET {PODS}", False),
    ({"userGroups": ["ops", "devs"]}, ALICE, f"GET {PODS}", True),
    ({"userGroups": ["ops"]}, ALICE, f"GET {PODS}", False),
    ({"userGroups": ["ops"]}, None, f"GET {PODS}", False),
    ({"verbs": ["list"]}, ALICE, f"GET {PODS}", True),
    ({"verbs": ["get"]}, ALICE, f"GET {PODS}", False),
    ({"verbs": ["watch"]}, ALICE, f"GET {PODS}?watch=1", True),
    ({"verbs": ["*"]}, ALICE, f"GET {PODS}", False),  # no wildcard, as upstream
    ({"verbs": ["get"]}, ALICE, "GET /metrics", True),
    ({"verbs": ["deletecollection"]}, ALICE, f"DELETE {PODS}", True),
    ({"namespaces": ["demo"]}, ALICE, f"GET {PODS}", True),
    ({"namespaces": ["other"]}, ALICE, f"GET {PODS}", False),
    ({"namespaces": [""]}, ALICE, "GET /api/v1/nodes", True),
    ({"namespaces": [""]}, ALICE, f"GET {PODS}", False),
    ({"namespaces": ["demo"]}, ALICE, "GET /metrics", False),
    ({"resources": [{"group": ""}]}, ALICE, f"POST {PODS}", True),
    ({"resources": [{"group": ""}]}, ALICE, "POST /apis/apps/v1/namespaces/demo/deployments", False),
    ({"resources": [{"group": ""}]}, ALICE, "GET /metrics", False),
    ({"resources": [{"group": "apps"}]}, ALICE, "GET /apis/apps/v1/deployments", True),
    ({"resources": core("pods")}, ALICE, f"GET {PODS}/a", True),
    ({"resources": core("pods")}, ALICE, f"GET {PODS}/a/log", False),
    ({"resources": core("pods/log")}, ALICE, f"GET {PODS}/a/log", True),
    ({"resources": core("pods/log")}, ALICE, f"GET {PODS}/a", False),
    ({"resources": core("pods/*")}, ALICE, f"GET {PODS}/a/log", True),
    ({"resources": core("pods/*")}, ALICE, f"GET {PODS}/a", True),
    ({"resources": core("pods/*")}, ALICE, f"GET {SECRET}", False),
    ({"resources": core("*/log")}, ALICE, f"GET {PODS}/a/log", True),
    ({"resources": core("*/log")}, ALICE, f"GET {PODS}/a/status", False),
    ({"resources": core("*/log")}, ALICE, f"GET {PODS}/a", False),
    ({"resources": core("*")}, ALICE, f"GET {PODS}/a/log", True),
    ({"resources": core("secrets", names=("s",))}, ALICE, f"GET {SECRET}", True),
    ({"resources": core("secrets", names=("t",))}, ALICE, f"GET {SECRET}", False),
    ({"resources": core("secrets", names=("s",))}, ALICE, "GET /api/v1/secrets", False),
    ({"resources": [*core("pods"), *core("secrets", names=("s",))]}, ALICE, f"GET {SECRET}", True),
    ({"nonResourceURLs": ["/metrics"]}, ALICE, "GET /metrics", True),
    ({"nonResourceURLs": ["/metrics"]}, ALICE, "GET /metrics/a", False),
    ({"nonResourceURLs": ["/metrics*"]}, ALICE, "GET /metrics/a", True),
    ({"nonResourceURLs": ["*"]}, ALICE, "GET /version", True),
    ({"nonResourceURLs": ["*"]}, ALICE, f"GET {PODS}", False),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "user", "request_line", "matches"), CASES)
def test_a_rule_matches(
    rule: dict[str, Any], user: UserInfo | None, request_line: str, matches: bool
) -> None:
    held = of({"level": "Request", **rule}, {"level": "Metadata"})
    wanted = "Request" if matches else "Metadata"
    assert level(held, user, request_line) == wanted
    assert level(held, user, request_line) == wanted  # sorted out before
    assert level(of({"level": "Request", **rule}), user, request_line) == (
        "Request" if matches else "None"
    )


def test_the_first_rule_that_matches_decides_for_each_user_anew() -> None:
    held = of(
        {"level": "None", "users": ["bob"]},
        {"level": "RequestResponse", "resources": core("pods"), "namespaces": ["demo"]},
        {"level": "Metadata"},
    )
    lines = [(BOB, PODS), (ALICE, PODS), (ALICE, "/api/v1/namespaces/x/pods"), (BOB, PODS)]
    assert [level(held, user, f"POST {path}") for user, path in lines] == [
        "None", "RequestResponse", "Metadata", "None",
    ]  # fmt: skip


def test_stages_of_rule_and_policy_add_up_and_the_rule_overrides_managed_fields() -> None:
    held = of(
        {"level": "Metadata", "users": ["alice"], "omitStages": ["ResponseStarted"]},
        {"level": "Request", "omitManagedFields": False},
        omitStages=["RequestReceived"],
        omitManagedFields=True,
    )
    info = parse_target("POST", PODS)
    assert held.decide(ALICE, info) == (
        Level.METADATA,
        {"RequestReceived", "ResponseStarted"},
        True,
    )
    assert held.decide(BOB, info) == (Level.REQUEST, {"RequestReceived"}, False)


def test_questions_are_forgotten_when_there_are_too_many() -> None:
    held = of({"level": "Metadata"})
    for number in range(policy.QUESTIONS_MAX + 10):
        assert level(held, ALICE, f"GET /apis/g/v1/kinds{number}") == "Metadata"
    assert len(held._sorted) <= policy.QUESTIONS_MAX


BAD = [
    ("a: [", "is not YAML"),
    ("[]", "is no Policy"),
    ("kind: Policy\napiVersion: audit.k8s.io/v1beta1\nrules: [{level: None}]", "'audit.k8s.io/v1beta1'"),
    ("kind: Policy\napiVersion: audit.k8s.io/v1", "illegal policy with 0 rules"),
    ({"rules": [{}]}, "rules[0].level: Required value"),
    ({"rules": [{"level": "All"}]}, 'rules[0].level: Unsupported value: "All": supported values: "Metadata", "None"'),
    ({"rules": [{"level": "None", "user": ["a"]}]}, 'unknown field "rules[0].user"'),
    ({"rules": [{"level": "None", "users": "alice"}]}, "rules[0].users: expected a list of texts"),
    ({"rules": [{"level": "None", "nonResourceURLs": ["metrics"]}]}, "must begin with a '/' character"),
    ({"rules": [{"level": "None", "nonResourceURLs": ["/a*b"]}]}, "must be the final character of the rule"),
    (
        {"rules": [{"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["b"]}]},
        "rules cannot apply to both regular resources and non-resource URLs",
    ),
    ({"rules": [{"level": "None", "resources": [{"group": "apps/v1"}]}]}, 'resources[0].group: Invalid value: "apps/v1"'),
    (
        {"rules": [{"level": "None", "resources": [{"group": "", "resourceNames": ["a"]}]}]},
        "using resourceNames requires at least one resource",
    ),
    ({"rules": [{"level": "None", "omitStages": ["Never"]}]}, "allowed stages are RequestReceived,ResponseStarted"),
    ({"omitStages": ["Never"], "rules": [{"level": "None"}]}, "omitStages[0]"),
    ({"omitManagedFields": "yes", "rules": [{"level": "None"}]}, "omitManagedFields: expected true or false"),
    ({"rules": ["all"]}, "rules[0]: expected a mapping"),
    ({"rules": [{"level": "None", "resources": ["pods"]}]}, "rules[0].resources: expected a list of groups"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "told"), BAD)
def test_a_bad_policy_is_refused(given: str | dict[str, Any], told: str) -> None:
    if isinstance(given, dict):
        given = yaml.safe_dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", **given})
    with pytest.raises(PolicyError) as refused:
        policy.read(given, "policy.yaml")
    assert "policy.yaml: " in str(refused.value)
    assert told in str(refused.value)


def test_every_fault_is_told_at_once_and_a_file_that_is_not_there() -> None:
    text = "kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: A}, {level: B}]"
    with pytest.raises(PolicyError, match=r"rules\[0\].*; rules\[1\]"):
        policy.read(text, "p")
    with pytest.raises(PolicyError, match="/nowhere/p.yaml: audit policy cannot be read"):
        policy.load("/nowhere/p.yaml")


DEPLOY = "/apis/apps/v1/namespaces/demo/deployments"
BUILT_IN = [
    (ALICE, f"POST {DEPLOY}", "Metadata"),
    (ALICE, f"PATCH {DEPLOY}/web", "Metadata"),
    (ALICE, f"PATCH {DEPLOY}/web/scale", "Metadata"),
    (ALICE, f"PATCH {DEPLOY}/web/status", "Metadata"),
    (LOOPBACK, f"PATCH {DEPLOY}/web/status", "None"),
    (LOOPBACK, f"POST {PODS}", "Metadata"),
    (ALICE, f"GET {DEPLOY}/web", "None"),
    (ALICE, f"GET {DEPLOY}?watch=1", "None"),
    (ALICE, f"GET {SECRET}", "None"),
    (ALICE, f"PUT {SECRET}", "Metadata"),
    (ALICE, f"DELETE {SECRET}", "Metadata"),
    (ALICE, f"GET {PODS}/a/exec", "Metadata"),
    (ALICE, f"POST {PODS}/a/portforward", "Metadata"),
    (ALICE, f"GET {PODS}/a/log", "None"),
    (ALICE, f"POST {PODS}/a/eviction", "Metadata"),
    (NODE, "PATCH /api/v1/nodes/n1/status", "None"),
    (NODE, f"PATCH {PODS}/a/status", "None"),
    (NODE, f"DELETE {PODS}/a", "Metadata"),
    (NODE, "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", "None"),
    (AGENT, "PATCH /apis/cluster.karmada.io/v1alpha1/clusters/a/status", "None"),
    (AGENT, "PATCH /apis/work.karmada.io/v1alpha1/namespaces/x/works/w/status", "None"),
    (ALICE, "POST /api/v1/namespaces/demo/events", "None"),
    (ALICE, "POST /apis/events.k8s.io/v1/namespaces/demo/events", "None"),
    (ALICE, "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "None"),
    (ALICE, "POST /apis/authentication.k8s.io/v1/tokenreviews", "None"),
    (ALICE, "GET /metrics", "None"),
    (None, f"POST {DEPLOY}", "Metadata"),
    (ALICE, "POST /apis/example.com/v1/namespaces/demo/guestbooks", "Metadata"),
]  # fmt: skip


@pytest.mark.parametrize(("user", "request_line", "wanted"), BUILT_IN)
def test_the_built_in_policy(user: UserInfo | None, request_line: str, wanted: str) -> None:
    assert level(default.policy(), user, request_line) == wanted


def test_the_built_in_policy_passes_its_own_check_and_holds_no_bodies() -> None:
    held = policy.read(yaml.safe_dump(default.document()), "built-in")
    assert held.rules == default.policy().rules
    assert max(rule.decision.level for rule in held.rules) is Level.METADATA


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ([{"level": "Metadata"}], []),
        ([{"level": "Request", "resources": core("pods")}], []),
        ([{"level": "Request", "resources": core("secrets"), "users": ["bob"]}], ["secrets"]),
        ([{"level": "Metadata", "resources": core("secrets")}, {"level": "Request", "resources": core("secrets")}], []),
        ([{"level": "Request", "verbs": ["get"]}], []),
        ([{"level": "RequestResponse", "verbs": ["get"]}], ["secrets"]),
        ([{"level": "Request"}], ["secrets", "serviceaccounts/token", "tokenreviews"]),
    ],
)  # fmt: skip
def test_policies_that_write_secrets_into_the_log_are_told(
    rules: list[dict[str, Any]], wanted: list[str]
) -> None:
    assert policy.spilled(of(*rules)) == wanted
    assert policy.spilled(default.policy()) == []


def test_settings_become_the_servers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert launch.audit_config(AuditSettings(enabled=False), "/data") is None
    made = launch.audit_config(AuditSettings(), "/data")
    assert made is not None
    assert (made.path, made.bytes_max, made.backups_max) == ("/data/audit/audit.log", 10_000_000, 9)
    assert made.policy.rules == default.policy().rules
    assert not caplog.records
    file = tmp_path / "policy.yaml"
    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Request"}]}
    file.write_text(yaml.safe_dump(document))
    made = launch.audit_config(AuditSettings(policyFile=str(file), path="/log/a"), "/data")
    assert made is not None
    assert made.path == "/log/a"
    [record] = caplog.records
    assert record.message == "the audit policy writes secrets into the audit log"
    assert "secrets" in record.resources  # type: ignore[attr-defined]
