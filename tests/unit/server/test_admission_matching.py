"""Rules, match policy and selectors of webhooks and policies, as tables."""

from typing import Any

import pytest

from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Custom, Scheme, ServedKind
from machinery.meta.errors import NotFound
from machinery.server.admission.matching import Asked, Criteria, Equivalents, Rule, exempt

SCHEME = Scheme(BUILTIN)
CUSTOM = Custom("crons.x.io", "v1", {})
NEW, OLD = (
    ServedKind("x.io", v, "Cron", "crons", "cron", True, f"io.x.{v}.Cron", dynamic=CUSTOM)
    for v in ("v1", "v1beta1")
)
for own in (NEW, OLD):
    SCHEME.register(own)
EQUIVALENTS = Equivalents(SCHEME)
LABELS = {"prod": {"env": "prod"}, "test": {"env": "test"}, "plain": {}}


def kind(plural: str, group: str = "", version: str = "v1") -> ServedKind:
    found = SCHEME.by_plural(group, version, plural)
    assert found is not None
    return found


PODS, NODES, NAMESPACES = kind("pods"), kind("nodes"), kind("namespaces")
DEPLOYMENTS = kind("deployments", "apps")


def rule(**fields: Any) -> dict[str, Any]:
    return {
        "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
        "scope": "*", **fields,
    }  # fmt: skip


def pod(operation: str = "CREATE", subresource: str = "") -> Asked:
    return Asked(operation, PODS, subresource, "prod", "p")


NODE = Asked("CREATE", NODES, "", "", "n")
SPACE = Asked("CREATE", NAMESPACES, "", "prod", "prod")


@pytest.mark.parametrize(
    ("given", "asked", "expected"),
    [
        (rule(), pod(), True),
        (rule(), pod("UPDATE"), False),
        (rule(operations=["UPDATE", "CREATE"]), pod(), True),
        (rule(operations=["*"]), pod("CONNECT"), True),
        (rule(operations=["*"]), pod("CONNECT", "exec"), False),
        (rule(apiGroups=["apps"]), pod(), False),
        (rule(apiGroups=["*"]), pod(), True),
        (rule(apiVersions=["v2"]), pod(), False),
        (rule(apiVersions=["*"]), pod(), True),
        (rule(resources=["*"]), pod(), True),
        (rule(resources=["*"]), pod(subresource="status"), False),
        (rule(resources=["*/*"]), pod(), True),
        (rule(resources=["*/*"]), pod(subresource="status"), True),
        (rule(resources=["pods/*"]), pod(subresource="status"), True),
        (rule(resources=["pods/*"]), pod(), True),
        (rule(resources=["*/scale"]), pod(), False),
        (rule(resources=["*/status"]), pod(subresource="status"), True),
        (rule(resources=["nodes", "pods/status"]), pod(), False),
        (rule(scope="Namespaced"), pod(), True),
        (rule(scope="Cluster"), pod(), False),
        (rule(scope="Cluster", resources=["nodes"]), NODE, True),
        (rule(scope="Namespaced", resources=["nodes"]), NODE, False),
        (rule(scope="Cluster", resources=["namespaces"]), SPACE, True),
        (rule(scope="Namespaced", resources=["namespaces"]), SPACE, False),
        (rule(resourceNames=["p", "q"]), pod(), True),
        (rule(resourceNames=["q"]), pod(), False),
    ],
)
def test_rule(given: dict[str, Any], asked: Asked, expected: bool) -> None:
    assert Rule.of(given).matches(asked) is expected


def matched(
    criteria: Criteria, asked: Asked, document: Any = None, old: Any = None
) -> ServedKind | None:
    return criteria.matched(asked, document, old, LABELS.get, EQUIVALENTS)


CRONS = rule(apiGroups=["x.io"], apiVersions=["v1"], resources=["crons"])


@pytest.mark.parametrize(
    ("policy", "rules", "asked", "expected"),
    [
        ("Equivalent", [CRONS], OLD, NEW),
        ("Exact", [CRONS], OLD, None),
        ("Equivalent", [CRONS], NEW, NEW),
        ("Equivalent", [{**CRONS, "apiVersions": ["v1", "v1beta1"]}], OLD, OLD),
        ("Equivalent", [rule(resources=["events"])], kind("events", "events.k8s.io"), kind("events")),
        ("Equivalent", [rule(resources=["pods"])], kind("events", "events.k8s.io"), None),
        ("Equivalent", [], OLD, None),
    ],
)  # fmt: skip
def test_match_policy(
    policy: str, rules: list[Any], asked: ServedKind, expected: ServedKind | None
) -> None:
    criteria = Criteria.of_webhook({"rules": rules, "matchPolicy": policy})
    assert matched(criteria, Asked("CREATE", asked, "", "prod", "x")) == expected


def test_equivalents_follow_the_scheme() -> None:
    scheme = Scheme([NEW])
    equivalents = Equivalents(scheme)
    assert equivalents.of(NEW) == ()
    scheme.register(OLD)
    assert equivalents.of(NEW) == (OLD,)


PROD = {"namespaceSelector": {"matchLabels": {"env": "prod"}}}


@pytest.mark.parametrize(
    ("asked", "document", "expected"),
    [
        (Asked("CREATE", PODS, "", "prod", "p"), {}, True),
        (Asked("CREATE", PODS, "", "test", "p"), {}, False),
        (Asked("CREATE", NODES, "", "", "n"), {}, True),
        (SPACE, {"metadata": {"labels": {"env": "test"}}}, False),
        (SPACE, {"metadata": {"labels": {"env": "prod"}}}, True),
        (Asked("DELETE", NAMESPACES, "", "prod", "prod"), None, True),
        (Asked("DELETE", NAMESPACES, "", "test", "test"), None, False),
        (Asked("UPDATE", NAMESPACES, "status", "prod", "prod"), {"metadata": {}}, True),
    ],
)
def test_namespace_selector(asked: Asked, document: Any, expected: bool) -> None:
    rules = [rule(operations=["*"], resources=["*/*"])]
    criteria = Criteria.of_webhook({"rules": rules, **PROD})
    assert (matched(criteria, asked, document) is not None) is expected


def test_absent_namespace_fails_only_what_would_match() -> None:
    asked = Asked("CREATE", PODS, "", "nowhere", "p")
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        matched(Criteria.of_webhook({"rules": [rule()], **PROD}), asked, {})
    other = Criteria.of_webhook({"rules": [rule(resources=["secrets"])], **PROD})
    assert matched(other, asked, {}) is None


@pytest.mark.parametrize(
    ("document", "old", "expected"),
    [
        ({"metadata": {"labels": {"a": "1"}}}, None, True),
        ({"metadata": {"labels": {"a": "2"}}}, None, False),
        ({"metadata": {}}, {"metadata": {"labels": {"a": "1"}}}, True),
        (None, {"metadata": {"labels": {"a": "1"}}}, True),
        ({"command": ["sh"]}, None, False),
    ],
)
def test_object_selector(document: Any, old: Any, expected: bool) -> None:
    selector = {"objectSelector": {"matchLabels": {"a": "1"}}}
    criteria = Criteria.of_webhook({"rules": [rule()], **selector})
    assert (matched(criteria, pod(), document, old) is not None) is expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, True),
        ({"resourceRules": [rule()]}, True),
        ({"resourceRules": [rule(resources=["nodes"])]}, False),
        ({"resourceRules": [rule()], "excludeResourceRules": [rule(resourceNames=["p"])]}, False),
        ({"excludeResourceRules": [rule(resourceNames=["q"])]}, True),
    ],
)
def test_of_policy(resources: dict[str, Any], expected: bool) -> None:
    assert (matched(Criteria.of_policy(resources), pod(), {}) is not None) is expected


def test_configurations_are_exempt() -> None:
    group = "admissionregistration.k8s.io"
    configuration = ServedKind(
        group, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations",
        "mutatingwebhookconfiguration", False, "x",
    )  # fmt: skip
    assert exempt(configuration)
    assert not exempt(PODS)
