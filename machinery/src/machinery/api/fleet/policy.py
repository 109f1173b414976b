"""`policy.karmada.io/v1alpha1` PropagationPolicy and ClusterPropagationPolicy: what goes where."""

from machinery.api.core import LabelSelector, Toleration
from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import Resource


class ResourceSelector(View):
    api_version: str
    kind: str
    namespace: str = ""
    name: str = ""
    label_selector: LabelSelector | None = None


class FieldRequirement(View):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class FieldSelector(View):
    match_expressions: tuple[FieldRequirement, ...] = ()


class ClusterAffinity(View):
    label_selector: LabelSelector | None = None
    field_selector: FieldSelector | None = None
    cluster_names: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class ClusterAffinityTerm(ClusterAffinity):
    affinity_name: str = ""


class SpreadConstraint(View):
    spread_by_field: str = ""
    spread_by_label: str = ""
    min_groups: int = 0
    max_groups: int = 0


class StaticClusterWeight(View):
    target_cluster: ClusterAffinity = ClusterAffinity()
    weight: int = 0


class ClusterPreferences(View):
    static_weight_list: tuple[StaticClusterWeight, ...] = ()
    dynamic_weight: str = ""


class ReplicaSchedulingStrategy(View):
    replica_scheduling_type: str = ""
    replica_division_preference: str = ""
    weight_preference: ClusterPreferences | None = None


class Placement(View):
    cluster_affinity: ClusterAffinity | None = None
    cluster_affinities: tuple[ClusterAffinityTerm, ...] = ()
    cluster_tolerations: tuple[Toleration, ...] = ()
    spread_constraints: tuple[SpreadConstraint, ...] = ()
    replica_scheduling: ReplicaSchedulingStrategy | None = None


class SuspendClusters(View):
    cluster_names: tuple[str, ...] = ()


class Suspension(View):
    dispatching: bool = False
    dispatching_on_clusters: SuspendClusters | None = None
    scheduling: bool = False


class PropagationSpec(View):
    resource_selectors: tuple[ResourceSelector, ...] = ()
    propagate_deps: bool = False
    placement: Placement = Placement()
    priority: int = 0
    preemption: str = "Never"
    scheduler_name: str = "default-scheduler"
    conflict_resolution: str = "Abort"
    suspension: Suspension | None = None
    preserve_resources_on_deletion: bool = False


class PropagationPolicy(Object):
    spec: PropagationSpec = PropagationSpec()


class ClusterPropagationPolicy(Object):
    spec: PropagationSpec = PropagationSpec()


PROPAGATION_POLICIES: Resource[PropagationPolicy] = Resource(
    "policy.karmada.io", "v1alpha1", "propagationpolicies", "PropagationPolicy", True,
    PropagationPolicy,
)  # fmt: skip
CLUSTER_PROPAGATION_POLICIES: Resource[ClusterPropagationPolicy] = Resource(
    "policy.karmada.io", "v1alpha1", "clusterpropagationpolicies", "ClusterPropagationPolicy", False,
    ClusterPropagationPolicy,
)  # fmt: skip
