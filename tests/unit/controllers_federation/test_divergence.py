"""What is told of objects that are not the federation's, or that others changed: conditions of the binding, Events on the template."""

from typing import Any

import msgspec
import pytest

from federation.controllers.divergence import HOW, TEXT_MAX, concerned, plan
from machinery.api.fleet.work import ResourceBinding, Work
from machinery.controller.action import Action, Emit, SetStatus
from machinery.meta.resource import Document, ObjectKey

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
EXISTS = (
    "Failed to apply all manifests (0/1): resource(kind=Deployment, demo/web) already exists in the cluster {} and the "
    "work.karmada.io/conflict-resolution strategy value is empty, Karmada will not manage this resource"
)


def said(kind: str, status: str, reason: str, message: str, at: str = EARLY) -> Document:
    return {
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at,
    }  # fmt: skip


def work(cluster: str, *conditions: Document, going: bool = False) -> Work:
    metadata: Document = {
        "name": "web-1",
        "namespace": f"karmada-es-{cluster}",
        "annotations": {
            "resourcebinding.karmada.io/name": "web-deployment",
            "resourcebinding.karmada.io/namespace": "demo",
        },
    }
    if going:
        metadata["deletionTimestamp"] = EARLY
    return msgspec.convert(
        {"metadata": metadata, "status": {"conditions": list(conditions)}}, Work, strict=False
    )


def binding(*conditions: Document, kind: str = "Deployment") -> ResourceBinding:
    resource = {"apiVersion": "apps/v1", "kind": kind, "namespace": "demo", "name": "web", "uid": "u"}  # fmt: skip
    return msgspec.convert(
        {
            "metadata": {"name": "web-deployment", "namespace": "demo", "resourceVersion": "7"},
            "spec": {"resource": resource},
            "status": {"conditions": list(conditions)},
        },
        ResourceBinding,
        strict=False,
    )


APPLIED = said("Applied", "True", "AppliedSuccessful", "Manifest has been successfully applied")
SCHEDULED = said("Scheduled", "True", "Success", "Binding has been scheduled successfully.")
REPORTED = said("Drifted", "True", "Reported", "Deployment demo/web: spec.replicas is 7, wanted 2")
PAUSED = said(
    "Drifted", "True", "RepairsPaused", "Deployment demo/web: spec.replicas is 7, wanted 2; undone"
)
REPAIRED = said(
    "Drifted",
    "False",
    "Repaired",
    "repaired: Deployment demo/web: spec.replicas is 7, wanted 2",
    LATE,
)
AS_STATED = said("Drifted", "False", "AsStated", "as its manifest says again", LATE)


def conflict(cluster: str) -> Document:
    return said("Applied", "False", "AppliedFailed", EXISTS.format(cluster))


def written(actions: list[Action]) -> dict[str, tuple[str, str]]:
    (status,) = (a for a in actions if isinstance(a, SetStatus))
    assert status.resource_version == "7"
    conditions: Any = status.status["conditions"] or []
    return {c["type"]: (c["status"], c["reason"]) for c in conditions}


def events(actions: list[Action]) -> list[tuple[str, str]]:
    return [(a.type, a.reason) for a in actions if isinstance(a, Emit)]


@pytest.mark.parametrize(
    ("works", "conditions", "told"),
    [
        ([work("a", APPLIED, REPORTED)], {"Drifted": ("True", "Reported")}, [("Warning", "Drifted")]),
        ([work("a", PAUSED)], {"Drifted": ("True", "RepairsPaused")}, [("Warning", "RepairsPaused")]),
        ([work("a", REPAIRED)], {"Drifted": ("False", "Repaired")}, [("Normal", "DriftRepaired")]),
        ([work("a", AS_STATED)], {"Drifted": ("False", "AsStated")}, []),
        ([work("a", REPAIRED), work("b", REPORTED)], {"Drifted": ("True", "Reported")}, [("Warning", "Drifted")]),
        ([work("a", conflict("a"))], {"Conflicted": ("True", "AlreadyExists")}, [("Warning", "SyncFailed")]),
        (
            [work("a", conflict("a")), work("b", REPAIRED)],
            {"Drifted": ("False", "Repaired"), "Conflicted": ("True", "AlreadyExists")},
            [("Normal", "DriftRepaired"), ("Warning", "SyncFailed")],
        ),
    ],
    ids=["reported", "paused", "repaired", "over", "one stands, one is over", "somebody else's", "both"],
)  # fmt: skip
def test_news(
    works: list[Work], conditions: dict[str, tuple[str, str]], told: list[tuple[str, str]]
) -> None:
    actions = plan(binding(SCHEDULED), works)
    assert written(actions) == {"Scheduled": ("True", "Success")} | conditions
    assert events(actions) == told


@pytest.mark.parametrize(
    "works",
    [
        [],
        [work("a", APPLIED)],
        [work("a", said("Applied", "False", "AppliedFailed", "namespaces not found"))],
        [work("a", REPORTED, going=True)],
    ],
    ids=["no Works", "all is well", "another failure", "its Work goes"],
)
def test_nothing_to_tell(works: list[Work]) -> None:
    assert plan(binding(SCHEDULED), works) == []


def told_before(*works: Work) -> ResourceBinding:
    """The binding after its Works were told of."""
    (status,) = (a for a in plan(binding(SCHEDULED), works) if isinstance(a, SetStatus))
    conditions: Any = status.status["conditions"]
    return binding(*conditions)


def test_what_was_told_is_not_told_again() -> None:
    works = [work("a", REPORTED), work("b", conflict("b"))]
    assert plan(told_before(*works), works) == []


def test_each_repair_is_told() -> None:
    again = work("a", REPAIRED | {"lastTransitionTime": "2026-01-01T00:02:00Z"})
    assert events(plan(told_before(work("a", REPAIRED)), [again])) == [("Normal", "DriftRepaired")]


def test_what_is_settled_goes_without_a_word() -> None:
    before = told_before(work("a", conflict("a")))
    actions = plan(before, [work("a", APPLIED)])
    assert written(actions) == {"Scheduled": ("True", "Success")}
    assert events(actions) == []


def test_the_event_says_where_what_and_how() -> None:
    actions = plan(binding(), [work("beta", conflict("beta")), work("alpha", conflict("alpha"))])
    (event,) = (a for a in actions if isinstance(a, Emit))
    assert event.key == ObjectKey("demo", "web")
    assert event.uid == "u"
    assert event.message.index("cluster(alpha)") < event.message.index("cluster(beta)")
    assert "already exists in the cluster alpha" in event.message
    assert event.message.endswith(HOW)


def test_messages_are_bounded() -> None:
    long = REPORTED | {"message": "x" * 4000}
    many = [work(f"c{i}", long) for i in range(100)] + [work("z", conflict("z" * 2000))]
    for action in plan(binding(), many):
        if isinstance(action, Emit):
            assert len(action.message) <= TEXT_MAX
    few = [work(f"c{i}", REPORTED) for i in range(9)]
    (event,) = (a for a in plan(binding(), few) if isinstance(a, Emit))
    assert event.message.endswith("and 4 more clusters")


def test_works_that_say_nothing_of_it_wake_nobody() -> None:
    assert concerned(work("a", APPLIED)) == []
    assert concerned(work("a", APPLIED, REPAIRED)) == [ObjectKey("demo", "web-deployment")]
    assert concerned(work("a", conflict("a"))) == [ObjectKey("demo", "web-deployment")]
