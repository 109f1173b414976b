"""`autoscaling/v2`: HorizontalPodAutoscalers, and what they share with the fleet's own autoscalers."""

from typing import Any

from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import Resource


class TargetReference(View):
    """What is scaled, in the namespace of the object that says so."""

    api_version: str = ""
    kind: str = ""
    name: str = ""


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


class MetricIdentifier(View):
    """A metric of a metrics API that users bring; `selector` is a LabelSelector as it is written."""

    name: str = ""
    selector: dict[str, Any] | None = None


class ForeignSource(View):
    """A metric of pods, of `described_object`, or of nothing that the cluster knows."""

    metric: MetricIdentifier = MetricIdentifier()
    described_object: TargetReference = TargetReference()
    target: MetricTarget = MetricTarget()


class MetricSpec(View):
    """One of them is given, by `type`: Resource, ContainerResource, Pods, Object or External."""

    type: str = ""
    resource: ResourceSource | None = None
    container_resource: ResourceSource | None = None
    pods: ForeignSource | None = None
    object: ForeignSource | None = None
    external: ForeignSource | None = None

    @property
    def of_pods(self) -> ResourceSource | None:
        """What is measured of pods by `metrics.k8s.io`; None: something else is asked."""
        by_type = {"Resource": self.resource, "ContainerResource": self.container_resource}
        return by_type.get(self.type)


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


class ScalingSpec(View):
    scale_target_ref: TargetReference = TargetReference()
    min_replicas: int = 1
    max_replicas: int = 0
    metrics: tuple[MetricSpec, ...] = ()
    behavior: Behavior | None = None


class HorizontalPodAutoscaler(Object):
    """`status` is kept as it is written: it is compared with what is to be written."""

    spec: ScalingSpec = ScalingSpec()
    status: dict[str, Any] = {}


HORIZONTAL_POD_AUTOSCALERS: Resource[HorizontalPodAutoscaler] = Resource(
    "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True,
    HorizontalPodAutoscaler,
)  # fmt: skip
