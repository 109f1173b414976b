"""`autoscaling.karmada.io/v1alpha1`: replicas that follow a calendar, and replicas that follow the load in all clusters."""

import datetime as dt

from machinery.meta.objectmeta import Condition, Object, View
from machinery.meta.resource import Resource


class TargetReference(View):
    """What is scaled, in the namespace of the object that says so."""

    api_version: str = ""
    kind: str = ""
    name: str = ""


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


class MetricTarget(View):
    """`type` is Utilization (of what pods request, in percent), Value or AverageValue."""

    type: str = ""
    average_utilization: int | None = None
    average_value: str | int | None = None
    value: str | int | None = None


class ResourceSource(View):
    """A resource of pods, or of one container in them."""

    name: str = ""
    container: str = ""
    target: MetricTarget = MetricTarget()


class MetricSpec(View):
    """One of the two is given, by `type` Resource or ContainerResource; other sources are told apart by `type` alone."""

    type: str = ""
    resource: ResourceSource | None = None
    container_resource: ResourceSource | None = None


class ScalingPolicy(View):
    """So many Pods, or so much Percent, may be added or taken away within the last `period_seconds`."""

    type: str = ""
    value: int = 0
    period_seconds: int = 0


class ScalingRules(View):
    stabilization_window_seconds: int | None = None
    select_policy: str = "Max"
    policies: tuple[ScalingPolicy, ...] = ()
    tolerance: str | int | None = None


class Behavior(View):
    scale_up: ScalingRules = ScalingRules()
    scale_down: ScalingRules = ScalingRules()


class FederatedHPASpec(View):
    scale_target_ref: TargetReference = TargetReference()
    min_replicas: int = 1
    max_replicas: int = 0
    metrics: tuple[MetricSpec, ...] = ()
    behavior: Behavior | None = None


class FederatedHPAStatus(View):
    observed_generation: int = 0
    last_scale_time: dt.datetime | None = None
    current_replicas: int = 0
    desired_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class FederatedHPA(Object):
    spec: FederatedHPASpec = FederatedHPASpec()
    status: FederatedHPAStatus = FederatedHPAStatus()


FEDERATED_HPAS: Resource[FederatedHPA] = Resource(
    "autoscaling.karmada.io", "v1alpha1", "federatedhpas", "FederatedHPA", True, FederatedHPA
)
