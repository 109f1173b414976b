"""What operators of a fleet ask for besides policies, in Karmada's shapes: workloads placed anew."""

import datetime as dt

from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import Resource


class WorkloadReference(View):
    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""


class WorkloadRebalancerSpec(View):
    """`ttl_seconds_after_finished`: the object goes so long after its end; absent: never."""

    workloads: tuple[WorkloadReference, ...] = ()
    ttl_seconds_after_finished: int | None = None


class ObservedWorkload(View):
    """`result` is Successful, Failed, or empty as long as it is not done."""

    workload: WorkloadReference = WorkloadReference()
    result: str = ""
    reason: str = ""


class WorkloadRebalancerStatus(View):
    observed_workloads: tuple[ObservedWorkload, ...] = ()
    observed_generation: int = 0
    finish_time: dt.datetime | None = None


class WorkloadRebalancer(Object):
    spec: WorkloadRebalancerSpec = WorkloadRebalancerSpec()
    status: WorkloadRebalancerStatus = WorkloadRebalancerStatus()


WORKLOAD_REBALANCERS: Resource[WorkloadRebalancer] = Resource(
    "apps.karmada.io", "v1alpha1", "workloadrebalancers", "WorkloadRebalancer", False,
    WorkloadRebalancer,
)  # fmt: skip
