"""Kinds of staged updates as clients see them: columns, defaults, and a status of which the schema drops nothing."""

import datetime as dt
from typing import Any

import pytest
from tests.unit.propagation.staged_story import Story, strategy

from federation.propagation.rollouts import plan
from machinery.api import decode, defaults, schemas, table
from machinery.api.fleet.rollout_kinds import (
    APPROVAL_REQUEST,
    DISRUPTION_BUDGET,
    STAGED_UPDATE_RUN,
    STAGED_UPDATE_STRATEGY,
)
from machinery.api.scheme import ServedKind
from machinery.api.validation import custom
from machinery.api.validation.causes import Causes

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
RUN_SPEC = {"workload": {"name": "web"}, "stagedRolloutStrategyName": "s"}
STAGES = {"stages": [{"name": "z", "groupBy": "zone"}]}
SELECTORS = {"resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}]}


def document(kind: ServedKind, spec: Any, **more: Any) -> dict[str, Any]:
    head = {"apiVersion": kind.api_version, "kind": kind.kind}
    return head | {"metadata": {"name": "x", "namespace": "demo"}, "spec": spec} | more


def test_every_field_of_a_status_is_in_the_schema() -> None:
    tasks = {"beforeStageTasks": [{"type": "Approval"}, {"type": "TimedWait", "waitTime": "1m"}]}
    spec = strategy(stages=[{"name": "z", "groupBy": "zone", **tasks}])
    story = Story(spec).tell("tick 60; approve web-1-before-z-zone-1; well a; lost b; gone d")
    written = document(STAGED_UPDATE_RUN, RUN_SPEC, status=plan.document(story.run.status))
    written["status"] = {k: v for k, v in written["status"].items() if v is not None}
    unknown: list[str] = []
    schema = schemas.schema_of(STAGED_UPDATE_RUN)
    assert decode.prune(schema, written, "", unknown) == written
    assert unknown == []
    causes = Causes()
    custom.validate(schema, written, causes, None)
    assert not causes
    kept = set(written["status"]["stages"][0]["clusters"][0])
    assert {"clusterName", "state", "fromTemplate", "startTime", "healthyTime"} <= kept


TABLES = [
    (
        STAGED_UPDATE_RUN,
        document(
            STAGED_UPDATE_RUN,
            RUN_SPEC,
            status={
                "state": "Waiting", "currentStage": "z-a", "updatedClusters": 1, "totalClusters": 3,
                "message": "why",
            },
        ),
        ["x", "web", "Waiting", "z-a", "1/3", "why"],
    ),
    (
        STAGED_UPDATE_STRATEGY,
        document(STAGED_UPDATE_STRATEGY, STAGES | {"failureAction": "Rollback"}),
        ["x", "z", "Rollback"],
    ),
    (
        APPROVAL_REQUEST,
        document(APPROVAL_REQUEST, {"targetUpdateRun": "web-1", "targetStage": "z-a"}),
        ["x", "web-1", "z-a", None],
    ),
    (
        DISRUPTION_BUDGET,
        document(DISRUPTION_BUDGET, SELECTORS | {"of": "Clusters", "maxUnavailable": "25%"}),
        ["x", "Clusters", None, "25%"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "held", "cells"), TABLES, ids=[t[0].kind for t in TABLES])
def test_columns(kind: ServedKind, held: dict[str, Any], cells: list[Any]) -> None:
    (row,) = table.to_table(kind, [held], NOW)["rows"]
    names = [c["name"] for c in table.to_table(kind, [held], NOW)["columnDefinitions"]]
    assert [c for n, c in zip(names, row["cells"], strict=True) if n != "Age"] == cells


DEFAULTS = [
    (STAGED_UPDATE_RUN, RUN_SPEC, ("state", "Initialize")),
    (STAGED_UPDATE_RUN, RUN_SPEC, ("workload", {"name": "web", "apiVersion": "apps/v1", "kind": "Deployment"})),
    (STAGED_UPDATE_STRATEGY, STAGES, ("failureAction", "Stop")),
    (STAGED_UPDATE_STRATEGY, STAGES, ("stages", [{"name": "z", "groupBy": "zone", "maxConcurrency": 1}])),
    (DISRUPTION_BUDGET, SELECTORS, ("of", "Clusters")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spec", "filled"), DEFAULTS)
def test_defaults(kind: ServedKind, spec: dict[str, Any], filled: tuple[str, Any]) -> None:
    name, value = filled
    assert defaults.apply_defaults(kind, document(kind, spec))["spec"][name] == value


REFUSED = [
    (STAGED_UPDATE_RUN, RUN_SPEC | {"state": "Go"}, "spec.state"),
    (STAGED_UPDATE_RUN, RUN_SPEC | {"workload": {"name": "web", "kind": "Job"}}, "spec.workload.kind"),
    (STAGED_UPDATE_RUN, {"workload": {"name": "web"}}, "spec.stagedRolloutStrategyName"),
    (STAGED_UPDATE_STRATEGY, {"stages": []}, "spec.stages"),
    (STAGED_UPDATE_STRATEGY, {"stages": [{"name": "A b"}]}, "spec.stages[0].name"),
    (STAGED_UPDATE_STRATEGY, {"stages": [{"name": "a", "groupBy": "rack"}]}, "spec.stages[0].groupBy"),
    (STAGED_UPDATE_STRATEGY, STAGES | {"failureAction": "Ignore"}, "spec.failureAction"),
    (DISRUPTION_BUDGET, SELECTORS | {"of": "Pods"}, "spec.of"),
    (DISRUPTION_BUDGET, {"resourceSelectors": []}, "spec.resourceSelectors"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spec", "field"), REFUSED)
def test_what_the_schemas_refuse(kind: ServedKind, spec: dict[str, Any], field: str) -> None:
    causes = Causes()
    custom.validate(schemas.schema_of(kind), document(kind, spec), causes, None)
    assert field in [cause["field"] for cause in causes]
