"""What objects use of quotas, which quotas look at them, and what there is room for.

Source: the quota evaluators of Kubernetes 1.36 and their documentation.
"""

import datetime as dt
from typing import Any

import pytest

from machinery.api.kinds import BUILTIN
from machinery.api.quota import amounts, check, scopes, usage
from machinery.api.scheme import ServedKind
from machinery.api.template_kinds import TEMPLATE_KINDS
from machinery.api.validation import validate_create, validate_update
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def kind_of(name: str) -> ServedKind:
    return next(kind for kind in (*BUILTIN, *TEMPLATE_KINDS) if kind.kind == name)


def box(name: str = "c", requests: Any = None, limits: Any = None, **more: Any) -> Document:
    return {"name": name, "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


def used(name: str, document: Document) -> dict[str, str]:
    return amounts.written(usage.of(kind_of(name), document, NOW))


@pytest.mark.parametrize(
    ("name", "document", "wanted"),
    [
        (
            "Pod",
            {"spec": {"containers": [box(requests={"cpu": "100m", "memory": "1Gi"}, limits={"cpu": "1"}), box(requests={"cpu": "300m"})]}},
            {
                "count/pods": "1", "pods": "1", "cpu": "400m", "requests.cpu": "400m", "limits.cpu": "1",
                "memory": "1Gi", "requests.memory": "1Gi",
            },
        ),
        (
            "Pod",
            {"spec": {
                "containers": [box(requests={"cpu": "1"})],
                "initContainers": [box(requests={"cpu": "1"}, restartPolicy="Always"), box(requests={"cpu": "3"})],
                "overhead": {"cpu": "250m"},
            }},
            {"count/pods": "1", "pods": "1", "cpu": "4250m", "requests.cpu": "4250m"},
        ),
        (
            "Pod",
            {"spec": {"containers": [box(requests={"example.com/gpu": "2", "hugepages-2Mi": "4Mi"})]}},
            {
                "count/pods": "1", "pods": "1", "requests.example.com/gpu": "2", "hugepages-2Mi": "4Mi",
                "requests.hugepages-2Mi": "4Mi",
            },
        ),
        ("Pod", {"spec": {"containers": [box(requests={"cpu": "1"})]}, "status": {"phase": "Failed"}}, {"count/pods": "1"}),
        (
            "Pod",
            {"metadata": {"deletionTimestamp": "2025-12-31T23:59:00Z", "deletionGracePeriodSeconds": 30}, "spec": {}},
            {"count/pods": "1"},
        ),
        (
            "Service",
            {"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}},
            {"count/services": "1", "services": "1", "services.nodeports": "2", "services.loadbalancers": "1"},
        ),
        (
            "PersistentVolumeClaim",
            {"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}},
            {
                "count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "2Gi",
                "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
                "fast.storageclass.storage.k8s.io/requests.storage": "2Gi",
            },
        ),
        ("Secret", {}, {"count/secrets": "1", "secrets": "1"}),
        ("Deployment", {}, {"count/deployments.apps": "1"}),
    ],
    ids=["sum", "init and overhead", "devices", "ended", "overdue", "balancer", "claim", "secret", "deployment"],
)  # fmt: skip
def test_what_an_object_uses(name: str, document: Document, wanted: dict[str, str]) -> None:
    assert used(name, document) == wanted


SPREAD = {
    "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["a"]}]}
}


@pytest.mark.parametrize(
    ("spec", "pod", "wanted"),
    [
        ({"scopes": ["BestEffort"]}, {"containers": [box()]}, True),
        ({"scopes": ["NotBestEffort"]}, {"containers": [box()]}, False),
        ({"scopes": ["Terminating"]}, {"activeDeadlineSeconds": 5}, True),
        ({"scopes": ["NotTerminating"]}, {}, True),
        ({"scopes": ["BestEffort", "Terminating"]}, {"containers": [box()]}, False),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {"affinity": SPREAD}, True),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {}, False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}, {"priorityClassName": "high"}, True),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]}}, {"priorityClassName": "high"}, False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}, {}, True),
    ],
)  # fmt: skip
def test_which_pods_a_quota_looks_at(spec: Document, pod: Document, wanted: bool) -> None:
    assert scopes.selects({"spec": spec}, kind_of("Pod"), {"spec": pod}) is wanted


def test_a_quota_with_scopes_counts_pods_alone() -> None:
    assert not scopes.selects({"spec": {"scopes": ["NotTerminating"]}}, kind_of("Secret"), {})


def quota(hard: Document, taken: Document) -> Document:
    return {"metadata": {"name": "q"}, "status": {"hard": hard, "used": taken}}


@pytest.mark.parametrize(
    ("held", "pod", "why"),
    [
        (quota({"pods": "1"}, {"pods": "1"}), {"containers": [box()]}, "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"),
        (
            quota({"limits.cpu": "1", "requests.memory": "1Gi"}, {"limits.cpu": "0", "requests.memory": "0"}),
            {"containers": [box("b"), box("a", requests={"memory": "1Mi"})]},
            "failed quota: q: must specify limits.cpu for: a,b; requests.memory for: b",
        ),
        (quota({"pods": "1"}, {}), {"containers": [box()]}, "status unknown for quota: q, resources: pods"),
        (
            quota({"pods": "9", "requests.memory": "1Gi"}, {"pods": "8", "requests.memory": "512Mi"}),
            {"containers": [box(requests={"memory": "513Mi"})]},
            "exceeded quota: q, requested: requests.memory=513Mi, used: requests.memory=512Mi, limited: requests.memory=1Gi",
        ),
    ],
    ids=["full", "unsaid", "not counted yet", "one of two"],
)  # fmt: skip
def test_why_there_is_no_room(held: Document, pod: Document, why: str) -> None:
    with pytest.raises(check.Refused) as refused:
        check.charged(held, check.Asked(kind_of("Pod"), {"spec": pod}, None), NOW)
    assert str(refused.value) == why


def test_a_quota_that_enforces_nothing_yet_refuses_nothing() -> None:
    held = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}, "status": {}}
    assert check.charged(held, check.Asked(kind_of("Pod"), {"spec": {}}, None), NOW) == {}


def test_an_update_takes_what_it_uses_more() -> None:
    service = kind_of("Service")
    one, two = (
        {"spec": {"type": "NodePort", "ports": [{"port": p} for p in range(n)]}} for n in (1, 3)
    )
    held = quota(
        {"services": "1", "services.nodeports": "3"}, {"services": "1", "services.nodeports": "1"}
    )
    took = check.charged(held, check.Asked(service, two, one), NOW)
    assert amounts.written(took) == {"services.nodeports": "2"}
    assert check.charged(held, check.Asked(service, one, two), NOW) == {}


def complaints(spec: Document) -> list[str]:
    document = {"metadata": {"name": "q", "namespace": "n"}, "spec": spec}
    return [
        f"{c['field']}: {c['message']}" for c in validate_create(kind_of("ResourceQuota"), document)
    ]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"hard": {"nonsense": "1"}}, ['spec.hard[nonsense]: Invalid value: "nonsense": must be a standard resource for quota']),
        ({"hard": {"count/jobs.batch": "1500m"}}, ['spec.hard[count/jobs.batch]: Invalid value: "1500m": must be an integer']),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}},
            ["spec.scopeSelector.matchExpressions[0].values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"],
        ),
        ({"hard": {"hugepages-2Mi": "2Mi", "requests.storage": "1Gi", "count/x.example.com": "2"}}, []),
    ],
)  # fmt: skip
def test_what_a_quota_may_say(spec: Document, wanted: list[str]) -> None:
    assert complaints(spec) == wanted


def test_scopes_never_change() -> None:
    old = {
        "metadata": {"name": "q", "namespace": "n", "uid": "u", "resourceVersion": "1"},
        "spec": {"scopes": ["BestEffort"]},
    }
    found = validate_update(kind_of("ResourceQuota"), {**old, "spec": {}}, old)
    assert [cause["field"] for cause in found] == ["spec.scopes"]
