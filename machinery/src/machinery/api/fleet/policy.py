"""`policy.karmada.io/v1alpha1`: what goes where (PropagationPolicy), and how it differs there (OverridePolicy)."""

from typing import Any

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


class OverflowAffinity(ClusterAffinity):
    """Clusters for what an affinity group, and the tiers before this one, have no room for."""

    affinity_name: str = ""


class ClusterAffinityTerm(ClusterAffinity):
    affinity_name: str = ""
    overflow_affinities: tuple[OverflowAffinity, ...] = ()


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


class GroupedBy(View):
    """Workloads with the same value of this label are a group."""

    group_by_label_key: str = ""


class WorkloadAffinity(View):
    affinity: GroupedBy | None = None
    anti_affinity: GroupedBy | None = None


class Placement(View):
    cluster_affinity: ClusterAffinity | None = None
    cluster_affinities: tuple[ClusterAffinityTerm, ...] = ()
    cluster_tolerations: tuple[Toleration, ...] = ()
    spread_constraints: tuple[SpreadConstraint, ...] = ()
    replica_scheduling: ReplicaSchedulingStrategy | None = None
    workload_affinity: WorkloadAffinity | None = None


class SuspendClusters(View):
    cluster_names: tuple[str, ...] = ()


class Suspension(View):
    dispatching: bool = False
    dispatching_on_clusters: SuspendClusters | None = None
    scheduling: bool = False


class SchedulePriority(View):
    priority_class_source: str = ""
    priority_class_name: str = ""


class StateRule(View):
    """`json_path` is looked up in the workload's status in the cluster that it leaves; what it finds travels as a label."""

    alias_label_name: str
    json_path: str


class StatePreservation(View):
    rules: tuple[StateRule, ...] = ()


class DecisionConditions(View):
    toleration_seconds: int = 300


class ApplicationFailover(View):
    """A workload that is unhealthy in a cluster for longer than is tolerated leaves it."""

    decision_conditions: DecisionConditions = DecisionConditions()
    purge_mode: str = "Gracefully"
    grace_period_seconds: int | None = None
    state_preservation: StatePreservation | None = None


class ClusterFailover(View):
    """How a workload leaves a cluster that is drained or dead."""

    purge_mode: str = "Gracefully"
    state_preservation: StatePreservation | None = None


class FailoverBehavior(View):
    """Absent parts: the workload does not move for its own health; it leaves drained and dead clusters Gracefully."""

    application: ApplicationFailover | None = None
    cluster: ClusterFailover | None = None


class PropagationSpec(View):
    resource_selectors: tuple[ResourceSelector, ...] = ()
    propagate_deps: bool = False
    placement: Placement = Placement()
    priority: int = 0
    preemption: str = "Never"
    dependent_overrides: tuple[str, ...] = ()
    """The policy claims nothing before override policies of these names exist (of its namespace, or of the cluster)."""
    scheduler_name: str = "default-scheduler"
    failover: dict[str, Any] | None = None
    """Handed on to bindings as it is written (a FailoverBehavior)."""
    conflict_resolution: str = "Abort"
    activation_preference: str = ""
    """Lazy: what the policy says counts for a template that is there already only when the template changes next."""
    suspension: Suspension | None = None
    preserve_resources_on_deletion: bool = False
    schedule_priority: SchedulePriority | None = None
    """Its class's value is handed on to bindings: of those that wait for room the highest is placed first."""


class PropagationPolicy(Object):
    spec: PropagationSpec = PropagationSpec()


class ClusterPropagationPolicy(Object):
    spec: PropagationSpec = PropagationSpec()


class PlaintextOverrider(View):
    """One step of a JSON patch on the whole object."""

    path: str = ""
    operator: str = ""
    value: Any = None


class ImagePredicate(View):
    path: str = ""


class ImageOverrider(View):
    """`component` is Registry, Repository or Tag (a digest counts as a tag)."""

    component: str = ""
    operator: str = ""
    value: str = ""
    predicate: ImagePredicate | None = None
    """Which image; absent: those of all containers."""


class CommandArgsOverrider(View):
    container_name: str = ""
    operator: str = ""
    value: tuple[str, ...] = ()


class LabelAnnotationOverrider(View):
    operator: str = ""
    value: dict[str, str] = {}


class TextPatch(View):
    """One step of a JSON patch inside a field that holds JSON or YAML."""

    sub_path: str = ""
    operator: str = ""
    value: Any = None


class FieldOverrider(View):
    """Steps inside the text at `field_path` (RFC 6901); either `json` or `yaml`."""

    field_path: str = ""
    json: tuple[TextPatch, ...] = ()
    yaml: tuple[TextPatch, ...] = ()


class Overriders(View):
    plaintext: tuple[PlaintextOverrider, ...] = ()
    image_overrider: tuple[ImageOverrider, ...] = ()
    command_overrider: tuple[CommandArgsOverrider, ...] = ()
    args_overrider: tuple[CommandArgsOverrider, ...] = ()
    labels_overrider: tuple[LabelAnnotationOverrider, ...] = ()
    annotations_overrider: tuple[LabelAnnotationOverrider, ...] = ()
    field_overrider: tuple[FieldOverrider, ...] = ()


class OverrideRule(View):
    """`target_cluster` absent: every cluster."""

    target_cluster: ClusterAffinity | None = None
    overriders: Overriders = Overriders()


class OverrideSpec(View):
    """No `resource_selectors`: every object (of the policy's namespace).

    `target_cluster` and `overriders` are the deprecated form of a single rule, read where there are no `override_rules`.
    """

    resource_selectors: tuple[ResourceSelector, ...] = ()
    override_rules: tuple[OverrideRule, ...] = ()
    target_cluster: ClusterAffinity | None = None
    overriders: Overriders = Overriders()


class OverridePolicy(Object):
    spec: OverrideSpec = OverrideSpec()


class ClusterOverridePolicy(Object):
    spec: OverrideSpec = OverrideSpec()


PROPAGATION_POLICIES: Resource[PropagationPolicy] = Resource(
    "policy.karmada.io", "v1alpha1", "propagationpolicies", "PropagationPolicy", True,
    PropagationPolicy,
)  # fmt: skip
CLUSTER_PROPAGATION_POLICIES: Resource[ClusterPropagationPolicy] = Resource(
    "policy.karmada.io", "v1alpha1", "clusterpropagationpolicies", "ClusterPropagationPolicy", False,
    ClusterPropagationPolicy,
)  # fmt: skip
OVERRIDE_POLICIES: Resource[OverridePolicy] = Resource(
    "policy.karmada.io", "v1alpha1", "overridepolicies", "OverridePolicy", True, OverridePolicy,
)  # fmt: skip
CLUSTER_OVERRIDE_POLICIES: Resource[ClusterOverridePolicy] = Resource(
    "policy.karmada.io", "v1alpha1", "clusteroverridepolicies", "ClusterOverridePolicy", False,
    ClusterOverridePolicy,
)  # fmt: skip
