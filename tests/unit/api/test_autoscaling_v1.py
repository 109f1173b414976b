"""HorizontalPodAutoscaler as v1 and as v2: what one has no words for stands in annotations, and nothing is lost on the way."""

from copy import deepcopy
from typing import Any

import orjson
import pytest

from machinery.api import autoscaling_v1 as v1

REFERENCE = {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}
CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
}
OTHERS: dict[str, dict[str, Any]] = {
    "memory": {
        "type": "Resource",
        "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "100Mi"}},
    },
    "cpu in cores": {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "500m"}},
    },
    "a container": {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": "app",
            "target": {"type": "Utilization", "averageUtilization": 70},
        },
    },
    "pods": {
        "type": "Pods",
        "pods": {
            "metric": {"name": "packets", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "1k"},
        },
    },
    "an object": {
        "type": "Object",
        "object": {
            "metric": {"name": "hits"},
            "describedObject": {"kind": "Ingress", "name": "main"},
            "target": {"type": "Value", "value": "10"},
        },
    },
    "an object, by pod": {
        "type": "Object",
        "object": {
            "metric": {"name": "hits"},
            "describedObject": {"kind": "Ingress", "name": "main"},
            "target": {"type": "AverageValue", "averageValue": "10"},
        },
    },
    "external": {
        "type": "External",
        "external": {
            "metric": {"name": "queue", "selector": {"matchLabels": {"q": "1"}}},
            "target": {"type": "AverageValue", "averageValue": "30"},
        },
    },
    "external, all": {
        "type": "External",
        "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}},
    },
}
BEHAVIOR = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}],
        "tolerance": "50m",
    }
}
CONDITION = {
    "type": "AbleToScale",
    "status": "True",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "reason": "ReadyForNewScale",
    "message": "ok",
}
STATUS = {
    "currentReplicas": 3,
    "desiredReplicas": 4,
    "currentMetrics": [
        {
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "current": {"averageUtilization": 55, "averageValue": "110m"},
            },
        }
    ],
    "conditions": [CONDITION],
}


def autoscaler(*metrics: Any, **more: Any) -> dict[str, Any]:
    spec = {"scaleTargetRef": REFERENCE, "minReplicas": 1, "maxReplicas": 5}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "annotations": {"mine": "1"}},
        "spec": {**spec, "metrics": [*metrics], **more},
        "status": STATUS,
    }


def test_a_share_of_cpu_has_a_field_in_v1() -> None:
    old = v1.to_v1(autoscaler(CPU))
    assert old["apiVersion"] == "autoscaling/v1"
    assert old["spec"] == {
        "scaleTargetRef": REFERENCE,
        "minReplicas": 1,
        "maxReplicas": 5,
        "targetCPUUtilizationPercentage": 60,
    }
    assert old["status"] == {
        "currentReplicas": 3,
        "desiredReplicas": 4,
        "currentCPUUtilizationPercentage": 55,
    }
    said = old["metadata"]["annotations"]
    assert said.pop("mine") == "1"
    assert {name: orjson.loads(text) for name, text in said.items()} == {
        v1.CONDITIONS: [CONDITION],
        v1.CURRENT: [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "currentAverageUtilization": 55,
                    "currentAverageValue": "110m",
                },
            }
        ],
    }


@pytest.mark.parametrize("metric", OTHERS.values(), ids=OTHERS)
def test_there_and_back_nothing_is_lost(metric: dict[str, Any]) -> None:
    given = autoscaler(metric, behavior=BEHAVIOR)
    old = v1.to_v1(given)
    assert "targetCPUUtilizationPercentage" not in old["spec"]
    assert v1.to_v2(old) == given


def test_the_one_with_a_field_comes_last() -> None:
    given = autoscaler(CPU, OTHERS["memory"], OTHERS["pods"])
    back = v1.to_v2(v1.to_v1(given))
    assert back["spec"]["metrics"] == [OTHERS["memory"], OTHERS["pods"], CPU]


def test_a_second_share_of_cpu_is_kept() -> None:
    given = autoscaler(CPU, deepcopy(CPU))
    assert v1.to_v2(v1.to_v1(given)) == given


def test_a_new_share_by_v1_leaves_the_other_metrics() -> None:
    old = v1.to_v1(autoscaler(OTHERS["memory"], CPU))
    changed = {**old, "spec": {**old["spec"], "targetCPUUtilizationPercentage": 90}}
    target = {"type": "Utilization", "averageUtilization": 90}
    assert v1.to_v2(changed)["spec"]["metrics"] == [
        OTHERS["memory"],
        {"type": "Resource", "resource": {"name": "cpu", "target": target}},
    ]


def test_behavior_has_the_names_of_go() -> None:
    said = v1.to_v1(autoscaler(CPU, behavior=BEHAVIOR))["metadata"]["annotations"][v1.BEHAVIOR]
    assert orjson.loads(said) == {
        "ScaleUp": {
            "StabilizationWindowSeconds": 0,
            "SelectPolicy": "Max",
            "Policies": [{"Type": "Pods", "Value": 4, "PeriodSeconds": 15}],
            "Tolerance": "50m",
        },
        "ScaleDown": None,
    }


@pytest.mark.parametrize("text", ["", "{", "5", "[5]", '[{"type": 7}]', '{"ScaleUp": [1]}', "null"])
@pytest.mark.parametrize("name", [v1.METRICS, v1.CURRENT, v1.CONDITIONS, v1.BEHAVIOR])
def test_an_annotation_that_cannot_be_read_is_none(name: str, text: str) -> None:
    old = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "annotations": {name: text}},
        "spec": {
            "scaleTargetRef": REFERENCE,
            "maxReplicas": 5,
            "targetCPUUtilizationPercentage": 7,
        },
    }
    new = v1.to_v2(old)
    target = {"type": "Utilization", "averageUtilization": 7}
    assert new == {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": REFERENCE,
            "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def test_an_applied_configuration_gets_nothing_that_it_does_not_say() -> None:
    applied = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {"maxReplicas": 9},
    }
    assert v1.to_v2(applied) == {**applied, "apiVersion": "autoscaling/v2"}
