"""What an autoscaler decides and says: tables after upstream's rules and words."""

import datetime as dt
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from machinery.api.autoscaling import MetricSpec, ScalingSpec
from machinery.autoscaling.deciding import (
    Decision,
    Read,
    Refusal,
    Said,
    Warned,
    conditions,
    decide,
    outcome,
    status_of,
    tolerance_of,
)
from machinery.autoscaling.rates import Change, Past, Recommended
from machinery.autoscaling.replicas import MetricError, Proposal
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 1, 1, 1, 0, tzinfo=dt.UTC)
CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}
MEMORY = {
    "type": "ContainerResource",
    "containerResource": {
        "name": "memory",
        "container": "web",
        "target": {"type": "AverageValue", "averageValue": "10Mi"},
    },
}
QUEUE = {"type": "Pods", "pods": {"metric": {"name": "queue"}}}
RAISING = {"scaleUp": {"stabilizationWindowSeconds": 60, "policies": [
    {"type": "Pods", "value": 9, "periodSeconds": 60}]}}  # fmt: skip


def spec(*metrics: Document, **more: Any) -> ScalingSpec:
    document = {"minReplicas": 2, "maxReplicas": 10, "metrics": metrics or (CPU,)} | more
    return msgspec.convert(document, ScalingSpec)


def says(**replicas: int) -> Read:
    """By name of the resource; what is not named cannot be read."""

    def read(metric: MetricSpec, _: tuple[Fraction, Fraction]) -> Proposal:
        source = metric.of_pods
        if source is None or source.name not in replicas:
            raise MetricError(f"no {metric.type}")
        percent = source.target.average_utilization
        return Proposal(replicas[source.name], Fraction(1, 4), percent)

    return read


def told(decision: Decision) -> dict[str, str]:
    """Conditions as the last word has it."""
    return {one.type: f"{one.status} {one.reason}" for one in decision.said}


def ago(seconds: float, replicas: int) -> Past:
    return Past((Recommended(NOW - dt.timedelta(seconds=seconds), replicas),))


GOT, READY = "True SucceededGetScale", "True ReadyForNewScale"
FOUND, WITHIN = "True ValidMetricFound", "False DesiredWithinRange"
STEADY = {"AbleToScale": READY, "ScalingActive": FOUND, "ScalingLimited": WITHIN}


@pytest.mark.parametrize(
    ("name", "spec_", "current", "read", "past", "wanted", "why", "said"),
    [
        ("off", spec(), 0, says(cpu=4), Past(), 0, "", {"AbleToScale": GOT, "ScalingActive": "False ScalingDisabled"}),
        ("above the most", spec(), 12, says(cpu=4), Past(), 10, "Current number of replicas above Spec.MaxReplicas", {"AbleToScale": GOT}),
        ("below the least", spec(), 1, says(cpu=4), Past(), 2, "Current number of replicas below Spec.MinReplicas", {"AbleToScale": GOT}),
        ("up", spec(), 3, says(cpu=5), Past(), 5, "cpu resource utilization (percentage of request) above target", STEADY),
        ("down after the window", spec(), 5, says(cpu=3), ago(301, 5), 3, "All metrics below target", STEADY),
        ("held by the window", spec(), 5, says(cpu=3), ago(299, 5), 5, "All metrics below target",
         STEADY | {"AbleToScale": "True ScaleDownStabilized"}),
        ("held by a window upwards", spec(behavior=RAISING), 5, says(cpu=8), ago(30, 5), 5, "cpu resource utilization (percentage of request) above target",
         STEADY | {"AbleToScale": "True ScaleUpStabilized"}),
        ("too many", spec(), 8, says(cpu=14), Past(), 10, "cpu resource utilization (percentage of request) above target",
         STEADY | {"ScalingLimited": "True TooManyReplicas"}),
        ("too fast", spec(maxReplicas=50), 8, says(cpu=40), Past(), 16, "cpu resource utilization (percentage of request) above target",
         STEADY | {"ScalingLimited": "True ScaleUpLimit"}),
        ("the most that one asks for", spec(CPU, MEMORY), 3, says(cpu=4, memory=6), Past(), 6, "memory resource above target", STEADY),
        ("one cannot be read: up", spec(QUEUE, CPU), 3, says(cpu=4), Past(), 4, "cpu resource utilization (percentage of request) above target", STEADY),
        ("one cannot be read: not down", spec(QUEUE, CPU), 3, says(cpu=2), ago(301, 3), None, "",
         {"AbleToScale": GOT, "ScalingActive": "False FailedGetPodsMetric"}),
        ("none can be read", spec(), 3, says(), Past(), None, "", {"AbleToScale": GOT, "ScalingActive": "False FailedGetResourceMetric"}),
        ("not known whose pods", spec(), 3, Refusal("InvalidSelector", "m", Warned("SelectorRequired", "w")), Past(), None, "",
         {"AbleToScale": GOT, "ScalingActive": "False InvalidSelector"}),
    ],
)  # fmt: skip
def test_decisions(
    name: str,
    spec_: ScalingSpec,
    current: int,
    read: Read | Refusal,
    past: Past,
    wanted: int | None,
    why: str,
    said: dict[str, str],
) -> None:
    found = decide(spec_, current, read, past, NOW)
    assert (found.replicas, found.why, told(found)) == (wanted, why, said), name
    assert found.rescales == (wanted not in (None, current)), name


@pytest.mark.parametrize(
    ("metric", "reason", "first"),
    [
        (CPU, "FailedGetResourceMetric", "failed to get cpu resource metric value: "),
        (MEMORY, "FailedGetContainerResourceMetric", "failed to get web container metric value: "),
        (QUEUE, "FailedGetPodsMetric", "failed to get pods metric value: "),
        ({"type": "Object", "object": {"metric": {"name": "q"}, "target": {"value": "1"}}},
         "FailedGetObjectMetric", "failed to get object metric value: "),
        ({"type": "Object", "object": {"metric": {"name": "q"}, "target": {"averageValue": "1"}}},
         "FailedGetObjectMetric", "failed to get object metric value: failed to get q object metric: "),
        ({"type": "External", "external": {"metric": {"name": "q"}, "target": {"value": "1"}}},
         "FailedGetExternalMetric", "failed to get q external metric value: failed to get external metric q: "),
        ({"type": "External", "external": {"metric": {"name": "q"}, "target": {"averageValue": "1"}}},
         "FailedGetExternalMetric", "failed to get q external metric value: failed to get q external metric: "),
    ],
)  # fmt: skip
def test_words_for_what_cannot_be_read(metric: Document, reason: str, first: str) -> None:
    found = decide(spec(metric, metric), 3, says(), Past(), NOW)
    text = f"no {metric['type']}"
    assert found.warned == (
        Warned(reason, text),
        Warned(reason, text),
        Warned(
            "FailedComputeMetricsReplicas",
            f"invalid metrics (2 invalid out of 2), first error is: {first}{text}",
        ),
    )
    assert found.said[-1].message == f"the HPA was unable to compute the replica count: {text}"
    assert found.metrics == ({"type": ""}, {"type": ""})


def test_what_the_write_came_to() -> None:
    planned = decide(spec(), 3, says(cpu=5), Past(), NOW)
    done = outcome(planned, NOW)
    assert told(done) == STEADY | {"AbleToScale": "True SucceededRescale"}
    assert done.past.changes == (Change(NOW, 2),)
    refused = outcome(planned, NOW, "it has changed")
    assert told(refused)["AbleToScale"] == "False FailedUpdateScale"
    assert (refused.rescales, refused.past.changes) == (False, ())
    assert refused.warned == (
        Warned(
            "FailedRescale",
            "New size: 5; reason: cpu resource utilization (percentage of request) above target; "
            "error: it has changed",
        ),
    )


def test_status() -> None:
    held: Document = {"desiredReplicas": 7}
    unknown = status_of(held, decide(spec(), 3, says(), Past(), NOW), 4, NOW)
    assert [unknown[k] for k in ("currentReplicas", "desiredReplicas", "observedGeneration")] == [3, 7, 4]  # fmt: skip
    assert "lastScaleTime" not in unknown
    both = status_of(held, decide(spec(CPU, MEMORY), 3, says(cpu=5, memory=2), Past(), NOW), 4, NOW)
    assert (both["desiredReplicas"], both["lastScaleTime"]) == (5, "2026-01-01T01:00:00Z")
    assert both["currentMetrics"] == [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "current": {"averageUtilization": 50, "averageValue": "250m"}},
        },
        {
            "type": "ContainerResource",
            "containerResource": {
                "name": "memory",
                "container": "web",
                "current": {"averageValue": "250m"},
            },
        },
    ]  # fmt: skip
    bounded = status_of(both, decide(spec(), 1, says(), Past(), NOW), 4, NOW)
    assert bounded["currentMetrics"] is None, "nothing was measured: it is taken away"


def test_conditions_keep_their_place_and_their_time() -> None:
    old = "2026-01-01T00:00:00Z"
    able = {"type": "AbleToScale", "status": "True", "reason": "A", "message": "a", "lastTransitionTime": old}  # fmt: skip
    held = [able, {**able, "type": "ScalingActive"}, {**able, "type": "Other"}]
    said = [Said("ScalingActive", "False", "B", "b"), Said("AbleToScale", "True", "C", "c")]
    found = conditions(held, said, NOW)
    assert [(c["type"], c["status"], c["reason"], c["lastTransitionTime"]) for c in found] == [
        ("AbleToScale", "True", "C", old),
        ("ScalingActive", "False", "B", "2026-01-01T01:00:00Z"),
        ("Other", "True", "A", old),
    ]


def test_tolerances() -> None:
    assert tolerance_of(spec()) == (Fraction(1, 10), Fraction(1, 10))
    own = spec(behavior={"scaleDown": {"tolerance": "50m"}, "scaleUp": {}})
    assert tolerance_of(own) == (Fraction(1, 20), Fraction(1, 10))
