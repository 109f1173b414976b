"""A member's autoscalers: what is read of the metrics, and upstream's words for what cannot be."""

import datetime as dt
from typing import Any

import msgspec
import pytest

from cluster_agent.control.controllers.horizontalpodautoscaler.plan import Seen, plan
from cluster_agent.control.controllers.horizontalpodautoscaler.targets import Target
from machinery.api.autoscaling import HorizontalPodAutoscaler
from machinery.api.core import Pod
from machinery.autoscaling.deciding import Decision
from machinery.autoscaling.rates import Past
from machinery.client.interface import dynamic
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 1, 1, 1, 0, tzinfo=dt.UTC)
BEGAN = "2026-01-01T00:00:00Z"
DEPLOYMENTS = dynamic("apps", "v1", "deployments", "Deployment", True)


def resource(name: str = "cpu", container: str = "", **target: Any) -> Document:
    source = {"name": name, "target": target or {"averageUtilization": 50}}
    if container:
        return {"type": "ContainerResource", "containerResource": source | {"container": container}}
    return {"type": "Resource", "resource": source}


def pod(name: str, cpu: str = "1") -> Pod:
    containers = [
        {"name": "web", "resources": {"requests": {"cpu": cpu, "memory": "100Mi"}}},
        {"name": "proxy", "resources": {"requests": {"cpu": cpu}}},
    ]
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": BEGAN}
    document = {
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {"containers": containers},
        "status": {"phase": "Running", "startTime": BEGAN, "conditions": [ready]},
    }
    return msgspec.convert(document, Pod, strict=False)


def used(name: str, web: str, proxy: str = "", memory: str = "10Mi") -> Document:
    containers = [{"name": "web", "usage": {"cpu": web, "memory": memory}}]
    if proxy:
        containers.append({"name": "proxy", "usage": {"cpu": proxy, "memory": memory}})
    return {
        "metadata": {"name": name, "namespace": "demo"},
        "timestamp": "2026-01-01T00:59:50Z",
        "window": "15s",
        "containers": containers,
    }


def decide(metric: Document, seen: Seen, replicas: int = 2, selector: str = "app=web") -> Decision:
    document = {
        "metadata": {"name": "h", "namespace": "demo", "uid": "u-1"},
        "spec": {"minReplicas": 1, "maxReplicas": 9, "metrics": [metric]},
    }
    scale = {"spec": {"replicas": replicas}, "status": {"selector": selector}}
    held = msgspec.convert(document, HorizontalPodAutoscaler)
    return plan(held, Target(DEPLOYMENTS, scale), seen, Past(), NOW)


PODS = [pod("a"), pod("b")]
BUSY = Seen(PODS, [used("a", "1500m", "500m"), used("b", "1", "1")])


@pytest.mark.parametrize(
    ("metric", "wanted", "current"),
    [
        (resource(), 4, {"averageUtilization": 100, "averageValue": "2"}),
        (resource(container="proxy"), 3, {"averageUtilization": 75, "averageValue": "750m"}),
        (resource(averageValue="500m"), 4, {"averageValue": "2"}),
        (resource("memory", averageValue="10Mi"), 4, {"averageValue": "20971520"}),
        (resource("memory", "web", averageUtilization=10), 2, {"averageUtilization": 10, "averageValue": "10485760"}),
    ],
)  # fmt: skip
def test_numbers(metric: Document, wanted: int, current: Document) -> None:
    found = decide(metric, BUSY)
    (entry,) = found.metrics
    source = entry.get("resource") or entry["containerResource"]
    assert (found.replicas, source["current"]) == (wanted, current)


HEAD = "failed to get cpu utilization: "
FETCH = HEAD + "unable to get metrics for resource cpu: "


@pytest.mark.parametrize(
    ("metric", "seen", "why"),
    [
        (resource(), Seen(PODS, unread="it is not served"), FETCH + "unable to fetch metrics from resource metrics API: it is not served"),
        (resource(), Seen(PODS), FETCH + "no metrics returned from resource metrics API"),
        (resource(), Seen([], [used("a", "1")]), HEAD + "no pods returned by selector while calculating replica count"),
        (resource(averageValue="1"), Seen([], [used("a", "1")]), "failed to get cpu usage: no pods returned by selector while calculating replica count"),
        (resource(container="proxy"), Seen(PODS, [used("a", "1")]),
         FETCH + "failed to get container metrics: container proxy not present in metrics for pod demo/a"),
        (resource("memory"), BUSY, "failed to get memory utilization: missing request for memory in container proxy of Pod a"),
        (resource(type="Utilization"), BUSY, "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set"),
        ({"type": "Pods", "pods": {"metric": {"name": "q"}}}, BUSY,
         "unable to get metric q: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"),
        ({"type": "Object", "object": {"metric": {"name": "q"}, "describedObject": {"kind": "Service", "name": "s"}}}, BUSY,
         "unable to get metric q: Service on demo s/unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"),
        ({"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"b": "2", "a": "1"}}}}}, BUSY,
         "unable to get external metric demo/q/&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{},}: "
         "unable to fetch metrics from external metrics API: the server could not find the requested resource (get q.external.metrics.k8s.io)"),
    ],
)  # fmt: skip
def test_words(metric: Document, seen: Seen, why: str) -> None:
    found = decide(metric, seen)
    assert (found.replicas, found.warned[0].message) == (None, why)
    assert found.said[-1].status == "False"


@pytest.mark.parametrize(
    ("selector", "seen", "reason", "warned"),
    [
        ("", BUSY, "InvalidSelector", "selector is required"),
        ("a b", Seen(selector_fault="unable to parse"), "InvalidSelector",
         "couldn't convert selector into a corresponding internal selector object: unable to parse"),
        ("app=web", Seen(PODS, rivals=["demo/h", "demo/i"]), "AmbiguousSelector",
         "pods by selector app=web are controlled by multiple HPAs: [demo/h demo/i]"),
    ],
)  # fmt: skip
def test_whose_pods(selector: str, seen: Seen, reason: str, warned: str) -> None:
    found = decide(resource(), seen, selector=selector)
    assert (found.replicas, found.said[-1].reason) == (None, reason)
    assert {one.message for one in found.warned} == {warned}
    assert found.warned[-1].reason == "FailedComputeMetricsReplicas"


def test_one_with_itself_is_no_rival() -> None:
    found = decide(resource(), Seen(PODS, BUSY.metrics, rivals=["demo/h"]))
    assert found.replicas == 4
