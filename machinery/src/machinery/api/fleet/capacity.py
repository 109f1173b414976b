"""`ubernetes.io/v1alpha1` CapacityEstimate: how many replicas of a shape would really fit into a member now.

A create-only review of the member's API server, answered and forgotten. Karmada asks the same of its scheduler-estimator
over gRPC; the shape of the question is its `replicaRequirements`.
"""

from machinery.api.fleet.work import ReplicaRequirements
from machinery.meta.objectmeta import Object, View
from machinery.meta.resource import Resource


class CapacityEstimateSpec(View):
    """`replicas`: how many are wanted; no more are counted. Absent: as many as fit."""

    replica_requirements: ReplicaRequirements = ReplicaRequirements()
    replicas: int | None = None


class NodeEstimate(View):
    name: str
    replicas: int = 0


class CapacityEstimateStatus(View):
    """`by_node`: where, for nodes that hold any. `reason`: why no more fit, in the scheduler's words; empty when all do."""

    replicas: int = 0
    by_node: tuple[NodeEstimate, ...] = ()
    reason: str = ""


class CapacityEstimate(Object):
    spec: CapacityEstimateSpec = CapacityEstimateSpec()
    status: CapacityEstimateStatus = CapacityEstimateStatus()


CAPACITY_ESTIMATES: Resource[CapacityEstimate] = Resource(
    "ubernetes.io", "v1alpha1", "capacityestimates", "CapacityEstimate", False, CapacityEstimate
)
