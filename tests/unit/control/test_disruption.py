"""How many disruptions a budget allows, by its pods and what their controllers want."""

import datetime as dt
from typing import Any

import pytest

from cluster_agent.control.controllers.disruption import DELETION_S, Scales, plan
from machinery.api import disruption
from machinery.api.core import Pod, PodStatus
from machinery.controller.action import Emit, RequeueAfter, SetStatus
from machinery.kit.clock import rfc3339
from machinery.meta import errors
from machinery.meta.objectmeta import Condition, ObjectMeta
from machinery.meta.resource import Document

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
AGO = NOW - dt.timedelta(seconds=10)


def pod(name: str, *, ready: bool = True, going: bool = False) -> Pod:
    metadata = ObjectMeta(name=name, namespace="demo", deletion_timestamp=NOW if going else None)
    conditions = (Condition(type="Ready", status="True" if ready else "False"),)
    return Pod(metadata=metadata, status=PodStatus(phase="Running", conditions=conditions))


def budget(spec: Document, status: Document | None = None) -> Document:
    metadata = {
        "name": "b",
        "namespace": "demo",
        "uid": "u",
        "resourceVersion": "5",
        "generation": 3,
    }
    return {"metadata": metadata, "spec": spec, "status": status or {}}


def written(actions: list[Any]) -> Document:
    (found,) = (action.status for action in actions if isinstance(action, SetStatus))
    return dict(found)


PODS = [pod("a"), pod("b"), pod("c"), pod("d", ready=False)]


@pytest.mark.parametrize(
    ("spec", "scale", "wanted"),
    [
        ({"minAvailable": 2}, 0, (1, 3, 2, 4)),
        ({"minAvailable": 5}, 0, (0, 3, 5, 4)),
        ({"maxUnavailable": 1}, 4, (0, 3, 3, 4)),
        ({"maxUnavailable": 3}, 4, (2, 3, 1, 4)),
        ({"maxUnavailable": "30%"}, 10, (0, 3, 7, 10)),
        ({"minAvailable": "25%"}, 5, (1, 3, 2, 5)),
        ({"maxUnavailable": 1}, 0, (0, 3, 0, 0)),
        ({}, 0, (0, 3, 0, 0)),
    ],
)  # fmt: skip
def test_what_is_allowed(spec: Document, scale: int, wanted: tuple[int, int, int, int]) -> None:
    status = written(plan(budget(spec), PODS, Scales(scale), NOW))
    names = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    assert tuple(status[name] for name in names) == wanted
    assert status["observedGeneration"] == 3


def test_an_evicted_pod_is_not_healthy_until_it_is_gone() -> None:
    held = {"disruptedPods": {"a": rfc3339(AGO), "gone": rfc3339(AGO)}}
    actions = plan(budget({"minAvailable": 2}, held), PODS, Scales(), NOW)
    status = written(actions)
    assert (status["currentHealthy"], status["disruptionsAllowed"]) == (2, 0)
    assert status["disruptedPods"] == {"a": rfc3339(AGO), "gone": None}
    assert RequeueAfter(DELETION_S - 10) in actions


def test_a_pod_that_does_not_go_after_its_eviction_counts_again() -> None:
    held = {"disruptedPods": {"a": rfc3339(NOW - dt.timedelta(seconds=DELETION_S + 1))}}
    actions = plan(budget({"minAvailable": 2}, held), PODS, Scales(), NOW)
    assert written(actions)["disruptionsAllowed"] == 1
    assert [a.reason for a in actions if isinstance(a, Emit)] == ["NotDeleted"]


def test_what_cannot_be_worked_out_allows_nothing() -> None:
    actions = plan(budget({"maxUnavailable": 1}), PODS, Scales(failure="no scale"), NOW)
    status = written(actions)
    assert status["disruptionsAllowed"] == 0
    assert (status["conditions"][0]["reason"], status["conditions"][0]["message"]) == (
        "SyncFailed",
        "no scale",
    )


def test_a_status_that_is_right_is_not_written_again() -> None:
    spec = {"minAvailable": 2}
    status = {
        k: v for k, v in written(plan(budget(spec), PODS, Scales(), AGO)).items() if v is not None
    }
    assert plan(budget(spec, status), PODS, Scales(), NOW) == []


# --------------------------------------------------------------------------------------------------------- evictions
RUNNING = {"metadata": {"name": "p", "labels": {"a": "b"}}, "status": {"phase": "Running"}}


@pytest.mark.parametrize(
    ("policy", "healthy", "wanted"),
    [("IfHealthyBudget", 2, True), ("IfHealthyBudget", 1, False), ("AlwaysAllow", 0, True)],
)
def test_a_pod_that_is_not_ready(policy: str, healthy: int, wanted: bool) -> None:
    held = budget(
        {"unhealthyPodEvictionPolicy": policy}, {"desiredHealthy": 2, "currentHealthy": healthy}
    )
    assert disruption.is_free(held, RUNNING) is wanted


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        ({"matchLabels": {"a": "b"}}, True),
        ({}, True),
        (None, False),
        ({"matchLabels": {"a": "c"}}, False),
    ],
)
def test_which_pods_a_budget_protects(selector: Document | None, wanted: bool) -> None:
    assert disruption.protects({"spec": {"selector": selector}}, RUNNING) is wanted


def test_an_eviction_takes_one() -> None:
    held = budget({}, {"observedGeneration": 3, "disruptionsAllowed": 2})
    after = disruption.taken(held, "p", rfc3339(NOW))["status"]
    assert (after["disruptionsAllowed"], after["disruptedPods"]) == (1, {"p": rfc3339(NOW)})


def test_a_budget_that_was_changed_is_waited_for() -> None:
    with pytest.raises(errors.TooManyRequests) as refused:
        disruption.taken(budget({}, {"observedGeneration": 2, "disruptionsAllowed": 9}), "p", "")
    assert refused.value.details is not None
    assert refused.value.details["retryAfterSeconds"] == 10
