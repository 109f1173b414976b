"""`autoscaling.karmada.io/v1alpha1`: replicas that follow a calendar, and replicas that follow the load in all clusters."""

import datetime as dt

from machinery.api.autoscaling import ScalingSpec, TargetReference
from machinery.meta.objectmeta import Condition, Object, View
from machinery.meta.resource import Resource


class CronFederatedHPARule(View):
    """`target_replicas` for what has replicas, the other two for a FederatedHPA; `time_zone` empty: UTC."""

    name: str = ""
    schedule: str = ""
    target_replicas: int | None = None
    target_min_replicas: int | None = None
    target_max_replicas: int | None = None
    suspend: bool = False
    time_zone: str | None = None
    successful_history_limit: int = 3
    failed_history_limit: int = 3


class CronFederatedHPASpec(View):
    scale_target_ref: TargetReference = TargetReference()
    rules: tuple[CronFederatedHPARule, ...] = ()


class SuccessfulExecution(View):
    """`schedule_time` is when it was due, `execution_time` when it was done."""

    schedule_time: dt.datetime
    execution_time: dt.datetime
    applied_replicas: int | None = None
    applied_min_replicas: int | None = None
    applied_max_replicas: int | None = None


class FailedExecution(View):
    schedule_time: dt.datetime
    execution_time: dt.datetime
    message: str = ""


class ExecutionHistory(View):
    """Of one rule, the newest first. `next_execution_time` None: it is suspended, or will never be due."""

    rule_name: str = ""
    next_execution_time: dt.datetime | None = None
    successful_executions: tuple[SuccessfulExecution, ...] = ()
    failed_executions: tuple[FailedExecution, ...] = ()


class CronFederatedHPAStatus(View):
    execution_histories: tuple[ExecutionHistory, ...] = ()


class CronFederatedHPA(Object):
    spec: CronFederatedHPASpec = CronFederatedHPASpec()
    status: CronFederatedHPAStatus = CronFederatedHPAStatus()


CRON_FEDERATED_HPAS: Resource[CronFederatedHPA] = Resource(
    "autoscaling.karmada.io", "v1alpha1", "cronfederatedhpas", "CronFederatedHPA", True,
    CronFederatedHPA,
)  # fmt: skip
FEDERATED_HPA = ("autoscaling.karmada.io/v1alpha1", "FederatedHPA")
"""Version and kind of what a CronFederatedHPA may scale by its limits."""


class FederatedHPAStatus(View):
    observed_generation: int = 0
    last_scale_time: dt.datetime | None = None
    current_replicas: int = 0
    desired_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class FederatedHPA(Object):
    spec: ScalingSpec = ScalingSpec()
    status: FederatedHPAStatus = FederatedHPAStatus()


FEDERATED_HPAS: Resource[FederatedHPA] = Resource(
    "autoscaling.karmada.io", "v1alpha1", "federatedhpas", "FederatedHPA", True, FederatedHPA
)
