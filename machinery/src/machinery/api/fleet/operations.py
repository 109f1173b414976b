"""What operators of a fleet ask for besides policies of propagation, in Karmada's shapes: workloads placed anew, taints
that follow the conditions of clusters, and quotas over the whole fleet."""

import datetime as dt

from machinery.api.core import Taint
from machinery.api.fleet.policy import ClusterAffinity
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


class MatchCondition(View):
    """`operator` is In or NotIn, of the status of the cluster's condition of that type."""

    condition_type: str = ""
    operator: str = ""
    status_values: tuple[str, ...] = ()


class ClusterTaintPolicySpec(View):
    """Both lists are ANDed, and an empty one never matches. `target_clusters` absent: all."""

    target_clusters: ClusterAffinity | None = None
    add_on_conditions: tuple[MatchCondition, ...] = ()
    remove_on_conditions: tuple[MatchCondition, ...] = ()
    taints: tuple[Taint, ...] = ()


class ClusterTaintPolicy(Object):
    spec: ClusterTaintPolicySpec = ClusterTaintPolicySpec()


CLUSTER_TAINT_POLICIES: Resource[ClusterTaintPolicy] = Resource(
    "policy.karmada.io", "v1alpha1", "clustertaintpolicies", "ClusterTaintPolicy", False,
    ClusterTaintPolicy,
)  # fmt: skip


class StaticClusterAssignment(View):
    cluster_name: str = ""
    hard: dict[str, str | int] = {}


class FederatedResourceQuotaSpec(View):
    """Quantities by resource: for the namespace in all clusters together, and of that for single clusters."""

    overall: dict[str, str | int] = {}
    static_assignments: tuple[StaticClusterAssignment, ...] = ()


class ClusterQuotaStatus(View):
    """As the member reports its ResourceQuota."""

    cluster_name: str = ""
    hard: dict[str, str | int] = {}
    used: dict[str, str | int] = {}


class FederatedResourceQuotaStatus(View):
    overall: dict[str, str | int] = {}
    overall_used: dict[str, str | int] = {}
    aggregated_status: tuple[ClusterQuotaStatus, ...] = ()


class FederatedResourceQuota(Object):
    spec: FederatedResourceQuotaSpec = FederatedResourceQuotaSpec()
    status: FederatedResourceQuotaStatus = FederatedResourceQuotaStatus()


FEDERATED_RESOURCE_QUOTAS: Resource[FederatedResourceQuota] = Resource(
    "policy.karmada.io", "v1alpha1", "federatedresourcequotas", "FederatedResourceQuota", True,
    FederatedResourceQuota,
)  # fmt: skip
QUOTA_NAME = "federatedresourcequota.karmada.io/name"
QUOTA_NAMESPACE = "federatedresourcequota.karmada.io/namespace"
"""Labels of a Work that carries a part of a quota."""
