"""Quotas over the whole fleet: usage, refusals, grants on their way, shares."""

import datetime as dt
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from federation.propagation import quota
from federation.propagation.quota import Placed
from machinery.api.fleet.operations import FederatedResourceQuota
from machinery.api.fleet.work import ResourceBinding
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 1, 1, 0, 1, tzinfo=dt.UTC)


def held(annotations: Document | None = None, **spec: Any) -> FederatedResourceQuota:
    document = {
        "metadata": {"name": "q", "namespace": "demo", "annotations": annotations or {}},
        "spec": spec,
    }
    return msgspec.convert(document, FederatedResourceQuota)


def binding(
    clusters: dict[str, int],
    kept: dict[str, tuple[str, int]] | None = None,
    kind: str = "Divided",
    replicas: int = 6,
    **requests: str,
) -> ResourceBinding:
    tasks = [
        {"fromCluster": name, "reason": reason, "producer": "x", "replicas": count}
        for name, (reason, count) in (kept or {}).items()
    ]
    return msgspec.convert(
        {
            "metadata": {"name": "web-deployment", "namespace": "demo"},
            "spec": {
                "replicas": replicas,
                "replicaRequirements": {"resourceRequest": requests or {"cpu": "500m"}},
                "placement": {"replicaScheduling": {"replicaSchedulingType": kind}},
                "clusters": [{"name": n, "replicas": c} for n, c in clusters.items()],
                "gracefulEvictionTasks": tasks,
            },
        },
        ResourceBinding,
    )


def amounts(**values: float) -> dict[str, Fraction]:
    return {name: Fraction(str(value)) for name, value in values.items()}


# ------------------------------------------------------------------------------------------------------------------ usage
@pytest.mark.parametrize(
    ("why", "placed", "kept", "kind", "count"),
    [
        ("nothing is decided", {}, {}, "Divided", 0),
        ("as divided", {"a": 4, "b": 2}, {}, "Divided", 6),
        ("in each cluster", {"a": 6, "b": 6}, {}, "Duplicated", 12),
        ("what a dead cluster holds keeps its place", {"b": 4}, {"a": ("ClusterUnreachable", 2)}, "Divided", 6),
        ("until it stands elsewhere", {"b": 6}, {"a": ("ClusterUnreachable", 2)}, "Divided", 6),
        ("drained as well", {}, {"a": ("ClusterDrained", 6)}, "Divided", 6),
        ("a surplus that moves is not counted twice", {"b": 6}, {"a": ("Rebalanced", 3)}, "Divided", 6),
        ("nor while there are fewer", {"b": 4}, {"a": ("Rebalanced", 3)}, "Divided", 4),
        ("more than asked counts as it stands", {"a": 8}, {"b": ("ClusterDrained", 2)}, "Divided", 8),
        ("each of a duplicated one", {"b": 6}, {"a": ("ClusterUnreachable", 6)}, "Duplicated", 6),
    ],
)  # fmt: skip
def test_replicas_that_count(
    why: str, placed: dict[str, int], kept: Any, kind: str, count: int
) -> None:
    found = quota.usage(binding(placed, kept, kind))
    assert found == ({"cpu": Fraction(count, 2), "pods": Fraction(count)} if count else {}), why


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("cpu", "cpu"), ("requests.cpu", "cpu"), ("memory", "memory"), ("pods", "pods"),
        ("requests.nvidia.com/gpu", "nvidia.com/gpu"), ("hugepages-2Mi", "hugepages-2Mi"),
        ("limits.cpu", ""), ("count/x.y", ""), ("services", ""), ("requests.storage", ""),
    ],
)  # fmt: skip
def test_what_is_measured(name: str, base: str) -> None:
    assert quota.measured(name) == base


def test_usage_is_told_in_the_quotas_own_unit_and_only_where_there_is_some() -> None:
    limits = held(overall={"requests.cpu": "10", "memory": "8Gi", "pods": 5, "limits.cpu": "4"})
    used = {"cpu": Fraction(3, 2), "memory": Fraction(3 * 1024**3), "nvidia.com/gpu": Fraction(1)}
    assert quota.used_document(limits, used) == {"memory": "3Gi", "requests.cpu": "1500m"}


# --------------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("why", "overall", "others", "before", "after", "refused"),
    [
        ("room", {"cpu": "10"}, {"cpu": 4}, {}, {"cpu": 6}, ""),
        ("one too many", {"cpu": "10"}, {"cpu": 4}, {}, {"cpu": 6.001}, "cpu: requested sum 10001m, limit 10."),
        ("its own share is not counted twice", {"cpu": "10"}, {"cpu": 4}, {"cpu": 6}, {"cpu": 6}, ""),
        ("less is never refused", {"cpu": "1"}, {"cpu": 4}, {"cpu": 6}, {"cpu": 5}, ""),
        ("as much as before neither", {"cpu": "1"}, {"cpu": 4}, {"cpu": 6}, {"cpu": 6}, ""),
        ("any of them", {"cpu": "10", "pods": "2"}, {}, {}, {"cpu": 1, "pods": 3}, "pods: requested sum 3, limit 2."),
        ("under its other name", {"requests.cpu": "1"}, {}, {}, {"cpu": 2}, "requests.cpu: requested sum 2, limit 1."),
        ("in binary", {"memory": "1Gi"}, {}, {}, {"memory": 2 * 1024**3}, "memory: requested sum 2Gi, limit 1Gi."),
        ("what is not limited", {"memory": "1Gi"}, {}, {}, {"cpu": 99}, ""),
        ("what is not measured", {"limits.cpu": "1"}, {}, {}, {"cpu": 99}, ""),
        ("none at all", {"cpu": "0"}, {}, {}, {"cpu": 1}, "cpu: requested sum 1, limit 0."),
    ],
)  # fmt: skip
def test_refusals(
    why: str, overall: Document, others: Any, before: Any, after: Any, refused: str
) -> None:
    found = quota.refusal(
        held(overall=overall), amounts(**others), amounts(**before), amounts(**after)
    )
    words = f"FederatedResourceQuota(demo/q) exceeded for resource {refused}" if refused else ""
    assert found == words, why


# ----------------------------------------------------------------------------------------------------------------- grants
def test_a_grant_counts_until_it_shows_or_cannot_come_any_more() -> None:
    text = quota.granted({}, "a", amounts(cpu=6), NOW)
    text = quota.granted(
        quota.grants(held({quota.GRANTS: text}, overall={})), "b", amounts(cpu=2), NOW
    )
    grants = quota.grants(held({quota.GRANTS: text}, overall={}))
    assert set(grants) == {"a", "b"}
    seen = {"a": amounts(cpu=4), "b": amounts(cpu=2)}
    assert set(quota.unseen(grants, seen, NOW)) == {"a"}
    assert quota.promised(grants, seen, "c") == amounts(cpu=2)
    assert quota.promised(grants, seen, "a") == {}
    assert quota.unseen(grants, {"b": amounts(cpu=2)}, NOW) == {}, "its binding is gone"
    late = NOW + dt.timedelta(seconds=quota.IN_FLIGHT_S)
    assert quota.unseen(grants, seen, late) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 3}', '{"a": {"usage": {"cpu": 3}}}'])
def test_a_spoiled_annotation_counts_as_none(text: str) -> None:
    assert quota.grants(held({quota.GRANTS: text}, overall={})) == {}


# ----------------------------------------------------------------------------------------------------------------- shares
@pytest.mark.parametrize(
    ("why", "overall", "placed", "now", "wanted"),
    [
        ("evenly", {"pods": "9"}, {"a": {}, "b": {}, "c": {}}, {}, {"a": "3", "b": "3", "c": "3"}),
        ("odd ones to the first", {"pods": "8"}, {"a": {}, "b": {}, "c": {}}, {}, {"a": "3", "b": "3", "c": "2"}),
        ("beside what stands", {"pods": "9"}, {"a": {"pods": 5}, "b": {}}, {}, {"a": "7", "b": "2"}),
        ("nothing is left", {"pods": "5"}, {"a": {"pods": 5}, "b": {}}, {}, {"a": "5", "b": "0"}),
        ("more stands than may", {"pods": "5"}, {"a": {"pods": 7}, "b": {}}, {}, {"a": "7", "b": "0"}),
        ("it stays while it is enough", {"pods": "9"}, {"a": {"pods": 5}, "b": {}},
         {"a": {"pods": "5"}, "b": {"pods": "4"}}, {"a": "5", "b": "4"}),
        ("it is shared anew when one has too little", {"pods": "9"}, {"a": {"pods": 6}, "b": {}},
         {"a": {"pods": "5"}, "b": {"pods": "4"}}, {"a": "8", "b": "1"}),
        ("or the quota shrinks", {"pods": "8"}, {"a": {}, "b": {}},
         {"a": {"pods": "5"}, "b": {"pods": "4"}}, {"a": "4", "b": "4"}),
        ("or a cluster comes", {"pods": "9"}, {"a": {}, "b": {}, "c": {}},
         {"a": {"pods": "5"}, "b": {"pods": "4"}}, {"a": "3", "b": "3", "c": "3"}),
        ("or leaves", {"pods": "9"}, {"a": {}},
         {"a": {"pods": "5"}, "b": {"pods": "4"}}, {"a": "9"}),
        ("no clusters", {"pods": "9"}, {}, {}, {}),
    ],
)  # fmt: skip
def test_dynamic_shares(
    why: str, overall: Document, placed: Any, now: Any, wanted: dict[str, str]
) -> None:
    stands = Placed({name: amounts(**part) for name, part in placed.items()})
    found = quota.dynamic(held(overall=overall), stands, now)
    assert found == {name: {"pods": value} for name, value in wanted.items()}, why


def test_shares_of_cpu_are_thousandths_and_never_more_than_the_quota_in_sum() -> None:
    stands = Placed({"a": amounts(cpu=0.25), "b": {}, "c": {}})
    found = quota.dynamic(held(overall={"cpu": "1", "count/x": "3"}), stands, {})
    assert found == {"a": {"cpu": "500m"}, "b": {"cpu": "250m"}, "c": {"cpu": "250m"}}
