"""What people are told of a run: Events on the run, and of its turns on the workload too. Pure."""

from collections.abc import Iterator

from federation.propagation.rollouts.gates import UNHEARD
from federation.propagation.templates import resource_of
from machinery.api.fleet.rollouts import (
    STAGED_UPDATE_RUNS,
    StagedUpdateRun,
    StagedUpdateRunStatus,
    StageStatus,
    TaskStatus,
)
from machinery.controller.action import Action, Emit
from machinery.meta.resource import Document, ObjectKey

ENDS = {
    "Succeeded": ("Normal", "StagedUpdateSucceeded"),
    "Failed": ("Warning", "StagedUpdateFailed"),
    "RolledBack": ("Warning", "StagedUpdateRolledBack"),
    "Superseded": ("Normal", "StagedUpdateSuperseded"),
    "Stopped": ("Normal", "StagedUpdateStopped"),
    "Waiting": ("Normal", "StagedUpdateWaiting"),
}


def on_workload(template: Document, level: str, reason: str, message: str) -> Action:
    """An Event on the workload."""
    resource = resource_of(template["apiVersion"], template["kind"])
    assert resource is not None, f"{template['kind']} is no template"
    metadata = template["metadata"]
    about = ObjectKey(metadata["namespace"], metadata["name"])
    return Emit(resource, about, metadata["uid"], level, reason, message)


def news(
    run: StagedUpdateRun, status: StagedUpdateRunStatus, template: Document | None
) -> Iterator[Action]:
    """What changed between the run's status and the one that is written."""
    before = run.status
    for level, reason, text in _stages(before, status):
        yield _on_run(run, level, reason, text)
    turned = (before.state, _grounds(before)) != (status.state, _grounds(status))
    if turned and status.state in ENDS:
        level, reason = ENDS[status.state]
        yield _on_run(run, level, reason, status.message)
        if template is not None:
            yield on_workload(template, level, reason, f"{run.metadata.name}: {status.message}")


def _grounds(status: StagedUpdateRunStatus) -> str:
    """What a run waits for; a message with other numbers is no news."""
    if status.state != "Waiting":
        return ""
    return next((c.reason for c in status.conditions if c.status == "False"), "")


def _stages(
    before: StagedUpdateRunStatus, status: StagedUpdateRunStatus
) -> Iterator[tuple[str, str, str]]:
    old = {stage.stage_name: stage for stage in before.stages}
    for stage in status.stages:
        was = old.get(stage.stage_name, StageStatus(stage.stage_name))
        if was.state == "Pending" and stage.state != "Pending":
            names = ", ".join(c.cluster_name for c in stage.clusters) or "no cluster"
            yield "Normal", "StageStarted", f"stage {stage.stage_name} begins: {names}"
        yield from _clusters(was, stage)
        asked = {t.approval_request_name for t in _tasks(stage)} - {""}
        for name in sorted(asked - {t.approval_request_name for t in _tasks(was)}):
            text = f"stage {stage.stage_name} waits for the approval of {name}"
            yield "Normal", "ApprovalRequested", text
        if stage.state == "Succeeded" != was.state:
            yield "Normal", "StageSucceeded", f"stage {stage.stage_name} is through"


def _tasks(stage: StageStatus) -> Iterator[TaskStatus]:
    yield from stage.before_stage_tasks
    yield from stage.after_stage_tasks


def _clusters(was: StageStatus, stage: StageStatus) -> Iterator[tuple[str, str, str]]:
    old = {c.cluster_name: c for c in was.clusters}
    for cluster in stage.clusters:
        name, before = cluster.cluster_name, old.get(cluster.cluster_name)
        if before is not None and before.state == cluster.state:
            if cluster.message == UNHEARD != before.message:
                yield "Warning", "ClusterUnreachable", f"{name}: {cluster.message}"
            continue
        if cluster.state == "Updating":
            yield "Normal", "ClusterUpdateStarted", f"{name} gets the new template"
        if cluster.state == "Failed":
            yield "Warning", "ClusterUpdateFailed", f"{name}: {cluster.message}"
        if cluster.state == "Skipped":
            yield "Normal", "ClusterSkipped", f"{name}: {cluster.message}"


def _on_run(run: StagedUpdateRun, level: str, reason: str, message: str) -> Action:
    return Emit(STAGED_UPDATE_RUNS, run.key, run.metadata.uid, level, reason, message)
