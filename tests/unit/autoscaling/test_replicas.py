"""Replicas by load, and how fast they may change: tables after HPA v2's rules."""

import datetime as dt
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from machinery.api.autoscaling import ResourceSource, ScalingSpec
from machinery.api.core import Pod
from machinery.autoscaling import replicas
from machinery.autoscaling.rates import Change, Past, Recommended, allowed
from machinery.autoscaling.replicas import MetricError, Sample
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 1, 1, 1, 0, tzinfo=dt.UTC)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


def pod(name: str, state: str = "", cpu: str = "1", old_s: float = 3600) -> Pod:
    """`state`: pending, failed, going, unready (has been ready), never (was never ready), silent (says nothing)."""
    began = ago(old_s)
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": began}
    if state == "unready":
        ready |= {"status": "False", "lastTransitionTime": ago(60)}
    if state == "never":
        ready |= {"status": "False"}
    phase = {"pending": "Pending", "failed": "Failed"}.get(state, "Running")
    status: Document = {"phase": phase, "startTime": began}
    if state != "silent":
        status["conditions"] = [ready]
    requests = {"cpu": cpu, "memory": "100Mi"} if cpu else {}
    container = {"name": "web", "resources": {"requests": requests}}
    metadata: Document = {"name": name}
    if state == "going":
        metadata["deletionTimestamp"] = NOW
    document = {"metadata": metadata, "spec": {"containers": [container]}, "status": status}
    return msgspec.convert(document, Pod, strict=False)


def sample(cpu: float, at_s: float = 10, window_s: float = 30) -> Sample:
    return Sample({"web": {"cpu": Fraction(str(cpu))}}, ago(at_s), window_s)


def source(container: str = "", name: str = "cpu", **target: Any) -> ResourceSource:
    document = {"name": name, "container": container, "target": target}
    return msgspec.convert(document, ResourceSource)


HALF = source(averageUtilization=50)


@pytest.mark.parametrize(
    ("why", "states", "used", "current", "wanted"),
    [
        ("as it should be", ["", ""], [0.5, 0.5], 2, 2),
        ("within a tenth", ["", ""], [0.55, 0.55], 2, 2),
        ("beyond it", ["", ""], [0.56, 0.56], 2, 3),
        ("a tenth below", ["", "", ""], [0.45, 0.45, 0.45], 3, 3),
        ("half the load, half the pods", ["", "", "", ""], [0.25] * 4, 4, 2),
        ("four times the load", ["", ""], [2, 2], 2, 8),
        ("the measured pods count, not the asked ones", ["", "", ""], [1, 1, 1], 5, 6),
        ("one is not measured and it would grow: as if idle", ["", "", ""], [1, 1, None], 3, 4),
        ("so idle that nothing changes", ["", "", "", ""], [1, 1, None, None], 4, 4),
        ("one is not measured and it would shrink: as if busy", ["", "", "", ""], [0.1, 0.1, 0.1, None], 4, 3),
        ("so busy that nothing changes", ["", ""], [0.1, None], 2, 2),
        ("a starting pod counts as idle when it grows", ["", "", "pending"], [1, 1, None], 3, 4),
        ("but not when it shrinks", ["", "", "pending"], [0.25, 0.25, None], 3, 1),
        ("one that ends is nobody", ["", "", "going"], [1, 1, 9], 3, 4),
        ("nor one that failed", ["", "", "failed"], [1, 1, 9], 3, 4),
        ("ready no more after an hour: its sample is believed", ["", "unready"], [1, 1], 2, 4),
        ("never ready after an hour: it is starting", ["", "never"], [1, 9], 2, 2),
        ("says nothing of itself: it is starting", ["", "silent"], [1, 9], 2, 2),
    ],
)  # fmt: skip
def test_replicas_by_use(
    why: str, states: list[str], used: list[float | None], current: int, wanted: int
) -> None:
    pods = [pod(f"p{i}", state) for i, state in enumerate(states)]
    samples = {f"p{i}": sample(value) for i, value in enumerate(used) if value is not None}
    assert replicas.propose(current, HALF, pods, samples, NOW).replicas == wanted, why


@pytest.mark.parametrize(
    ("why", "old_s", "state", "at_s", "starting"),
    [
        ("young, ready, a whole window since", 100, "", 10, False),
        ("young, ready, the window began before", 20, "", 10, True),
        ("young and not ready", 100, "never", 10, True),
        ("no longer young", 301, "", 10, False),
    ],
)
def test_samples_of_cpu_of_starting_pods_are_not_believed(
    why: str, old_s: float, state: str, at_s: float, starting: bool
) -> None:
    pods = [pod("a", state, old_s=old_s)]
    found = replicas.population(pods, {"a": sample(1, at_s)}, "cpu", "", NOW)
    assert (found.starting == {"a"}) == starting, why
    memory = Sample({"web": {"memory": Fraction(1)}}, ago(at_s), 30)
    assert replicas.population(pods, {"a": memory}, "memory", "", NOW).used, "memory is"


def test_other_targets() -> None:
    pods = [pod("a"), pod("b")]
    samples = {"a": sample(0.3), "b": sample(0.1)}
    average = replicas.propose(2, source(averageValue="100m"), pods, samples, NOW)
    assert (average.replicas, average.average, average.percent) == (4, Fraction(1, 5), None)
    percent = replicas.propose(2, HALF, pods, samples, NOW)
    assert (percent.replicas, percent.percent) == (1, 20)
    own = replicas.propose(2, source("web", averageUtilization=10), pods, samples, NOW)
    assert own.replicas == 4
    one = replicas.propose(2, source(averageValue="100m"), pods, {"a": sample(0.05)}, NOW)
    assert one.replicas == 2, (
        "shrinking, one that is not measured counts as it should be: 75 %, two pods"
    )


@pytest.mark.parametrize(
    ("pods", "used", "wanted", "why"),
    [
        ([], {}, HALF, "no pods returned by selector while calculating replica count"),
        ([pod("a")], {}, HALF, "did not receive metrics for targeted pods"),
        ([pod("a", cpu="")], {"a": 1}, HALF, "missing request for cpu in container web of Pod a"),
        ([pod("a", cpu="0")], {"a": 1}, HALF, "no metrics returned matched known pods"),
        (
            [pod("a")],
            {"a": 1},
            source(),
            "neither an average utilization target nor an average value",
        ),
        ([pod("a")], {"a": 1}, source("other", averageUtilization=50), "did not receive metrics"),
        ([pod("a", "going")], {"a": 1}, HALF, "did not receive metrics"),
    ],
)
def test_when_there_is_no_number(
    pods: list[Pod], used: dict[str, float], wanted: ResourceSource, why: str
) -> None:
    samples = {name: sample(value) for name, value in used.items()}
    with pytest.raises(MetricError, match=why):
        _ = replicas.propose(1, wanted, pods, samples, NOW)


# ---------------------------------------------------------------------------------------------------------------- samples
@pytest.mark.parametrize(
    ("text", "wanted"),
    [("30s", 30.0), ("1m0s", 60.0), ("1h2m3.5s", 3723.5), ("250ms", 0.25), ("0s", 0.0)],
)
def test_durations(text: str, wanted: float) -> None:
    assert replicas.seconds(text) == wanted


def test_samples_are_read() -> None:
    document = {
        "metadata": {"name": "a"},
        "timestamp": "2026-01-01T00:59:50Z",
        "window": "15s",
        "containers": [
            {"name": "web", "usage": {"cpu": "250000000n", "memory": "10Mi"}},
            {"name": "side", "usage": {"cpu": "50m", "memory": "1Mi"}},
        ],
    }
    found = replicas.sample_of(document)
    assert found is not None
    assert found.use("cpu", "") == Fraction(3, 10)
    assert found.use("cpu", "side") == Fraction(1, 20)
    assert found.use("gpu", "") is None
    assert (found.at, found.window_s) == (ago(10), 15.0)
    for broken in ({"timestamp": None}, {"window": "soon"}, {"containers": [{"name": "x"}]}):
        assert replicas.sample_of(document | broken) is None


# ------------------------------------------------------------------------------------------------------------------ rates
def spec(least: int = 1, most: int = 100, **behavior: Any) -> ScalingSpec:
    document: Document = {"minReplicas": least, "maxReplicas": most}
    if behavior:
        document["behavior"] = {"scaleUp": UP, "scaleDown": DOWN} | behavior
    return msgspec.convert(document, ScalingSpec)


def policy(kind: str, value: int, period: int = 60) -> Document:
    return {"type": kind, "value": value, "periodSeconds": period}


UP = {
    "stabilizationWindowSeconds": 0,
    "policies": [policy("Pods", 4, 15), policy("Percent", 100, 15)],
}
DOWN = {"policies": [policy("Percent", 100, 15)]}


def past(*recommended: tuple[float, int], changes: tuple[tuple[float, int], ...] = ()) -> Past:
    return Past(
        tuple(Recommended(ago(s), n) for s, n in recommended),
        tuple(Change(ago(s), n) for s, n in changes),
    )


@pytest.mark.parametrize(
    ("why", "spec_", "current", "desired", "past_", "wanted", "reason"),
    [
        ("no behavior: twice as many at once", spec(), 10, 50, past((1, 10)), 20, "ScaleUpLimit"),
        ("but four", spec(), 1, 50, past((1, 1)), 4, "ScaleUpLimit"),
        ("no more than the most", spec(most=15), 10, 50, past((1, 10)), 15, "TooManyReplicas"),
        ("no fewer than the least", spec(least=3), 10, 1, past((400, 10)), 3, "TooFewReplicas"),
        ("the first recommendation is the present number", spec(), 10, 2, past(), 10, "DesiredWithinRange"),
        ("downwards the highest of five minutes", spec(), 10, 2, past((299, 7), (301, 9)), 7, "DesiredWithinRange"),
        ("down when it lasts", spec(), 10, 2, past((301, 9)), 2, "DesiredWithinRange"),
        ("upwards at once", spec(), 10, 12, past((10, 3)), 12, "DesiredWithinRange"),
        ("a window of its own", spec(scaleDown=DOWN | {"stabilizationWindowSeconds": 60}), 10, 2, past((61, 9)), 2, "DesiredWithinRange"),
        ("a window upwards: the lowest counts", spec(scaleUp=UP | {"stabilizationWindowSeconds": 60}), 10, 20, past((30, 12)), 12, "DesiredWithinRange"),
        ("a window upwards: none lower than now", spec(scaleUp=UP | {"stabilizationWindowSeconds": 60}), 10, 20, past((30, 4)), 10, "DesiredWithinRange"),
        ("the policy that changes most", spec(scaleUp=UP), 10, 50, past((1, 10)), 20, "ScaleUpLimit"),
        ("or least", spec(scaleUp=UP | {"selectPolicy": "Min"}), 10, 50, past((1, 10)), 14, "ScaleUpLimit"),
        ("or none", spec(scaleUp=UP | {"selectPolicy": "Disabled"}), 10, 50, past((1, 10)), 10, "ScaleUpLimit"),
        ("what was added in the period counts", spec(scaleUp={"policies": [policy("Pods", 4)]}), 12, 50, past((1, 9), changes=((30, 3),)), 13, "ScaleUpLimit"),
        ("what was added before does not", spec(scaleUp={"policies": [policy("Pods", 4)]}), 12, 50, past((1, 9), changes=((61, 3),)), 16, "ScaleUpLimit"),
        ("what was taken away makes room again", spec(scaleUp={"policies": [policy("Pods", 4)]}), 8, 50, past((1, 9), changes=((30, -2),)), 14, "ScaleUpLimit"),
        ("never below what there is", spec(scaleUp={"policies": [policy("Pods", 1)]}), 12, 50, past((1, 9), changes=((30, 6),)), 12, "ScaleUpLimit"),
        ("odd percents upwards round up", spec(scaleUp={"policies": [policy("Percent", 10)]}), 15, 50, past((1, 15)), 17, "ScaleUpLimit"),
        ("and downwards down", spec(scaleDown={"stabilizationWindowSeconds": 0, "policies": [policy("Percent", 10)]}), 15, 1, past((1, 15)), 13, "ScaleDownLimit"),
        ("pods downwards", spec(scaleDown={"stabilizationWindowSeconds": 0, "policies": [policy("Pods", 4)]}), 15, 1, past((1, 15), changes=((30, -3),)), 14, "ScaleDownLimit"),
        ("down, changing most", spec(scaleDown={"stabilizationWindowSeconds": 0, "policies": [policy("Pods", 4), policy("Percent", 50)]}), 20, 1, past((1, 20)), 10, "ScaleDownLimit"),
        ("down, changing least", spec(scaleDown={"selectPolicy": "Min", "stabilizationWindowSeconds": 0, "policies": [policy("Pods", 4), policy("Percent", 50)]}), 20, 1, past((1, 20)), 16, "ScaleDownLimit"),
    ],
)  # fmt: skip
def test_how_fast_it_may_change(
    why: str, spec_: ScalingSpec, current: int, desired: int, past_: Past, wanted: int, reason: str
) -> None:  # fmt: skip
    found = allowed(spec_, current, desired, past_, NOW)
    assert (found.replicas, found.reason) == (wanted, reason), why


def test_what_is_older_than_any_window_is_forgotten() -> None:
    old = past((3601, 5), (10, 6), changes=((3601, 1), (10, 2)))
    assert [r.replicas for r in old.with_recommendation(7, NOW).recommended] == [6, 7]
    assert [c.replicas for c in old.with_change(3, NOW).changes] == [2, 3]
