"""What the member's link decides about Works, and what it does with them."""

from typing import Any

import pytest

from cluster_agent.link.works import (
    Outcome,
    belongs,
    conflict,
    identifier,
    status_plan,
    work_keys,
)
from machinery.api.fleet.work import EXECUTION_FINALIZER
from machinery.meta.resource import Document, ObjectKey

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:01:00Z"
KEY = ObjectKey("karmada-es-alpha", "web-1")


def live(**labels: str) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "demo", "labels": labels, "generation": 2},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 1},
    }


def work(resolution: str = "abort", status: Document | None = None) -> Document:
    annotations = {"work.karmada.io/conflict-resolution": resolution}
    document: Document = {
        "metadata": {
            "name": KEY.name,
            "namespace": KEY.namespace,
            "annotations": annotations,
            "finalizers": [EXECUTION_FINALIZER],
        },
        "spec": {"workload": {"manifests": []}},
    }
    return document | ({"status": status} if status is not None else {})


@pytest.mark.parametrize(
    ("existing", "resolution", "refused"),
    [
        (None, "abort", False),
        (live(**{"karmada.io/managed": "true"}), "abort", False),
        (live(), "abort", True),
        (live(), "overwrite", False),
    ],
    ids=["nothing there", "ours", "somebody else's", "taken over on purpose"],
)
def test_an_object_of_somebody_else_is_a_conflict(
    existing: Document | None, resolution: str, refused: bool
) -> None:
    assert bool(conflict(existing, work(resolution))) is refused


def test_the_conflict_says_what_to_do() -> None:
    assert "conflictResolution: Overwrite" in conflict(live(), work())


def test_a_manifest_is_named_as_karmada_names_it() -> None:
    assert identifier(0, live(), "deployments") == {
        "ordinal": 0,
        "group": "apps",
        "version": "v1",
        "kind": "Deployment",
        "resource": "deployments",
        "namespace": "demo",
        "name": "web",
    }


def test_only_the_work_that_made_an_object_may_take_it_away() -> None:
    made = live()
    made["metadata"]["annotations"] = {
        "work.karmada.io/name": KEY.name,
        "work.karmada.io/namespace": KEY.namespace,
    }
    assert belongs(made, KEY)
    assert work_keys(made) == [KEY]
    assert not belongs(made, ObjectKey(KEY.namespace, "other"))
    assert not belongs(live(), KEY)


def test_status_carries_health_and_what_came_back() -> None:
    named = identifier(0, live(), "deployments")
    status = status_plan(work(), [Outcome(named, live=live())], NOW)
    assert status is not None
    (entry,) = status["manifestStatuses"]
    assert entry["health"] == "Healthy"
    assert entry["status"]["generation"] == 2
    (applied,) = status["conditions"]
    assert (applied["status"], applied["reason"]) == ("True", "AppliedSuccessful")


def test_an_unchanged_status_is_not_written() -> None:
    named = identifier(0, live(), "deployments")
    first = status_plan(work(), [Outcome(named, live=live())], NOW)
    assert status_plan(work(status=first), [Outcome(named, live=live())], LATER) is None


def test_a_failure_is_told_with_its_words_and_the_time_it_began() -> None:
    named = identifier(0, live(), "deployments")
    good = status_plan(work(), [Outcome(named, live=live())], NOW)
    bad: Any = status_plan(
        work(status=good), [Outcome(named, 'namespaces "demo" not found')], LATER
    )
    (applied,) = bad["conditions"]
    assert applied["status"] == "False"
    assert 'namespaces "demo" not found' in applied["message"]
    assert applied["lastTransitionTime"] == LATER
    assert bad["manifestStatuses"][0]["health"] == "Unknown"
