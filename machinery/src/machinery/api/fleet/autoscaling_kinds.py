"""`autoscaling.karmada.io/v1alpha1` as it is served: paths, columns and schemas, as Karmada has them."""

from machinery.api.fleet.schema import (
    AGE,
    ANY,
    CONDITIONS,
    FLAG,
    LABEL_SELECTOR,
    LARGE,
    NUMBER,
    NUMERAL,
    TEXT,
    TIME,
    array,
    served,
    struct,
)
from machinery.api.scheme import Column, ServedKind

TARGET_REFERENCE = struct(("kind", "name"), apiVersion=TEXT, kind=TEXT, name=TEXT)
_REFERENCE_COLUMNS = (
    Column("Reference-Kind", "string", ".spec.scaleTargetRef.kind"),
    Column("Reference-Name", "string", ".spec.scaleTargetRef.name"),
)
_EXECUTED = {"scheduleTime": TIME, "executionTime": TIME}
CRON_FEDERATED_HPA = served(
    "autoscaling.karmada.io/v1alpha1", "CronFederatedHPA", "cronfederatedhpas", "cronfhpa",
    namespaced=True,
    spec=struct(
        ("scaleTargetRef", "rules"),
        scaleTargetRef=TARGET_REFERENCE,
        rules=array(
            struct(
                ("name", "schedule"),
                name=TEXT | {"minLength": 1, "maxLength": 32},
                schedule=TEXT,
                targetReplicas=NUMBER,
                targetMinReplicas=NUMBER,
                targetMaxReplicas=NUMBER,
                suspend=FLAG | {"default": False},
                timeZone=TEXT,
                successfulHistoryLimit=NUMBER | {"default": 3, "minimum": 1, "maximum": 32},
                failedHistoryLimit=NUMBER | {"default": 3, "minimum": 0, "maximum": 32},
            )
        ),
    ),
    status=struct(
        executionHistories=array(
            struct(
                ("ruleName",),
                ruleName=TEXT,
                nextExecutionTime=TIME,
                successfulExecutions=array(
                    struct(
                        ("scheduleTime", "executionTime"),
                        **_EXECUTED,
                        appliedReplicas=NUMBER,
                        appliedMinReplicas=NUMBER,
                        appliedMaxReplicas=NUMBER,
                    )
                ),
                failedExecutions=array(
                    struct(("scheduleTime", "executionTime", "message"), **_EXECUTED, message=TEXT)
                ),
            )
        )
    ),
    columns=(*_REFERENCE_COLUMNS, AGE),
)  # fmt: skip
_TARGET = struct(
    ("type",),
    type=TEXT, value=NUMERAL, averageValue=NUMERAL, averageUtilization=NUMBER,
)  # fmt: skip
_METRIC = struct(("name",), name=TEXT, selector=LABEL_SELECTOR)
_RULES = struct(
    stabilizationWindowSeconds=NUMBER,
    selectPolicy=TEXT,
    policies=array(
        struct(("type", "value", "periodSeconds"), type=TEXT, value=NUMBER, periodSeconds=NUMBER)
    ),
    tolerance=NUMERAL,
)
FEDERATED_HPA_SPEC = struct(
    ("scaleTargetRef", "maxReplicas"),
    scaleTargetRef=TARGET_REFERENCE,
    minReplicas=NUMBER,
    maxReplicas=NUMBER,
    metrics=array(
        struct(
            ("type",),
            type=TEXT,
            object=struct(
                ("describedObject", "target", "metric"),
                describedObject=TARGET_REFERENCE, target=_TARGET, metric=_METRIC,
            ),
            pods=struct(("metric", "target"), metric=_METRIC, target=_TARGET),
            resource=struct(("name", "target"), name=TEXT, target=_TARGET),
            containerResource=struct(
                ("name", "target", "container"), name=TEXT, target=_TARGET, container=TEXT
            ),
            external=struct(("metric", "target"), metric=_METRIC, target=_TARGET),
        )
    ),
    behavior=struct(scaleUp=_RULES, scaleDown=_RULES),
)  # fmt: skip
FEDERATED_HPA = served(
    "autoscaling.karmada.io/v1alpha1", "FederatedHPA", "federatedhpas", "fhpa", namespaced=True,
    spec=FEDERATED_HPA_SPEC,
    status=struct(
        observedGeneration=LARGE,
        lastScaleTime=TIME,
        currentReplicas=NUMBER,
        desiredReplicas=NUMBER,
        currentMetrics=array(ANY),
        conditions=CONDITIONS,
    ),
    columns=(
        *_REFERENCE_COLUMNS,
        Column("MinPods", "integer", ".spec.minReplicas"),
        Column("MaxPods", "integer", ".spec.maxReplicas"),
        Column("Replicas", "integer", ".status.currentReplicas"),
        AGE,
    ),
)  # fmt: skip

AUTOSCALING: tuple[ServedKind, ...] = (CRON_FEDERATED_HPA, FEDERATED_HPA)
