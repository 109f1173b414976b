"""Staged updates and disruption budgets as they are served: schemas, defaults and columns.

What a schema cannot say (durations, one of two fields, stages of one name) is `federation.propagation.rollouts.rules`.
"""

from machinery.api.fleet.schema import (
    AGE,
    CONDITIONS,
    FLAG,
    LABEL_SELECTOR,
    NUMBER,
    QUANTITY,
    RESOURCE_SELECTOR,
    TEXT,
    TIME,
    Schema,
    array,
    choice,
    served,
    struct,
)
from machinery.api.scheme import Column, ServedKind

_NAME = TEXT | {
    "minLength": 1,
    "maxLength": 63,
    "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
}
_TASKS = array(
    struct(("type",), type=choice("TimedWait", "Approval"), waitTime=TEXT), maxItems=2
)  # fmt: skip
_STAGE = struct(
    ("name",),
    name=_NAME,
    labelSelector=LABEL_SELECTOR,
    groupBy=choice("provider", "region", "zone", "cluster"),
    sortingLabelKey=TEXT,
    maxConcurrency=QUANTITY | {"default": 1},
    beforeStageTasks=_TASKS,
    afterStageTasks=_TASKS,
)
_GATE = struct(progressDeadline=TEXT, minSuccessTime=TEXT)
_STRATEGY: dict[str, Schema] = {
    "stages": array(_STAGE, minItems=1, maxItems=64),
    "healthGate": _GATE,
    "failureAction": choice("Stop", "Rollback") | {"default": "Stop"},
    "skipUnreachable": FLAG,
}
_TASK_STATUS = struct(
    ("type",), type=TEXT, approvalRequestName=TEXT, waitTime=TEXT, startTime=TIME, finishTime=TIME
)
_CLUSTER = struct(
    ("clusterName",),
    clusterName=TEXT,
    state=choice(
        "Pending", "Updating", "Soaking", "Succeeded", "Failed", "Skipped", "RolledBack"
    ),
    fromTemplate=TEXT,
    startTime=TIME,
    healthyTime=TIME,
    healthyReplicas=NUMBER,
    finishTime=TIME,
    suspended=FLAG,
    message=TEXT,
)  # fmt: skip
_STAGE_STATUS = struct(
    ("stageName",),
    stageName=TEXT,
    state=choice("Pending", "Waiting", "Updating", "Verifying", "Succeeded"),
    maxConcurrency=NUMBER,
    startTime=TIME,
    finishTime=TIME,
    beforeStageTasks=array(_TASK_STATUS),
    clusters=array(_CLUSTER),
    afterStageTasks=array(_TASK_STATUS),
)
_V = "ubernetes.io/v1alpha1"

STAGED_UPDATE_STRATEGY = served(
    _V, "StagedUpdateStrategy", "stagedupdatestrategies", "sus", namespaced=True,
    spec=struct(("stages",), **_STRATEGY),
    columns=(
        Column("Stages", "string", "{.spec.stages[*].name}"),
        Column("On-Failure", "string", ".spec.failureAction"),
        AGE,
    ),
)  # fmt: skip
STAGED_UPDATE_RUN = served(
    _V, "StagedUpdateRun", "stagedupdateruns", "sur", namespaced=True,
    spec=struct(
        ("workload", "stagedRolloutStrategyName"),
        workload=struct(
            ("name",),
            apiVersion=choice("apps/v1") | {"default": "apps/v1"},
            kind=choice("Deployment", "StatefulSet", "DaemonSet") | {"default": "Deployment"},
            name=TEXT | {"minLength": 1},
        ),
        stagedRolloutStrategyName=TEXT | {"minLength": 1},
        resourceSnapshotIndex=TEXT,
        state=choice("Initialize", "Run", "Stop", "Rollback") | {"default": "Initialize"},
        skipUnreachable=FLAG,
    ),
    status=struct(
        state=choice(
            "Initialized", "Progressing", "Waiting", "Stopped",
            "Succeeded", "Failed", "RolledBack", "Superseded",
        ),
        message=TEXT, targetTemplate=TEXT, resourceSnapshotIndexUsed=TEXT,
        stagedUpdateStrategySnapshot=struct(**_STRATEGY),
        startTime=TIME, finishTime=TIME, currentStage=TEXT,
        updatedClusters=NUMBER, totalClusters=NUMBER,
        stages=array(_STAGE_STATUS), conditions=CONDITIONS,
    ),
    columns=(
        Column("Workload", "string", ".spec.workload.name"),
        Column("State", "string", ".status.state"),
        Column("Stage", "string", ".status.currentStage"),
        Column("Updated", "string", "{.status.updatedClusters}/{.status.totalClusters}"),
        AGE,
        Column("Message", "string", ".status.message", priority=1),
    ),
)  # fmt: skip
APPROVAL_REQUEST = served(
    _V, "ApprovalRequest", "approvalrequests", "areq", namespaced=True,
    spec=struct(
        ("targetUpdateRun", "targetStage"), targetUpdateRun=TEXT, targetStage=TEXT
    ),
    status=struct(conditions=CONDITIONS),
    columns=(
        Column("Update-Run", "string", ".spec.targetUpdateRun"),
        Column("Stage", "string", ".spec.targetStage"),
        Column("Approved", "string", '.status.conditions[?(@.type=="Approved")].status'),
        AGE,
    ),
)  # fmt: skip
DISRUPTION_BUDGET = served(
    _V, "PlacementDisruptionBudget", "placementdisruptionbudgets", "crpdb", namespaced=True,
    spec=struct(
        ("resourceSelectors",),
        resourceSelectors=array(RESOURCE_SELECTOR, minItems=1),
        of=choice("Clusters", "Replicas") | {"default": "Clusters"},
        minAvailable=QUANTITY,
        maxUnavailable=QUANTITY,
    ),
    columns=(
        Column("Of", "string", ".spec.of"),
        Column("Min-Available", "string", ".spec.minAvailable"),
        Column("Max-Unavailable", "string", ".spec.maxUnavailable"),
        AGE,
    ),
)  # fmt: skip
ROLLOUTS: tuple[ServedKind, ...] = (
    STAGED_UPDATE_STRATEGY, STAGED_UPDATE_RUN, APPROVAL_REQUEST, DISRUPTION_BUDGET,
)  # fmt: skip
