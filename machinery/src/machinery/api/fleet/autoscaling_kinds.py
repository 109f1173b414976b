"""`autoscaling.karmada.io/v1alpha1` as it is served: paths, columns and schemas, as Karmada has them."""

from machinery.api.fleet.schema import AGE, FLAG, NUMBER, TEXT, TIME, array, served, struct
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

AUTOSCALING: tuple[ServedKind, ...] = (CRON_FEDERATED_HPA,)
