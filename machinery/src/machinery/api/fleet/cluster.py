"""`cluster.karmada.io/v1alpha1` Cluster: a member, its place in the failure-domain tree, and what it can hold."""

from machinery.api.core import Taint
from machinery.kit.clock import rfc3339
from machinery.meta.objectmeta import Condition, Object, View
from machinery.meta.resource import Document, Resource

MANAGED_LABEL = "ubernetes.io/cluster"
"""On a mirror: the member that the object lives in."""
EXECUTION_PREFIX = "karmada-es-"
"""A member's Work namespace is this prefix and its name."""
CLUSTER_LEASES = "karmada-cluster"
"""The namespace of the members' heartbeat Leases, one by the name of each Cluster."""
READY = "Ready"
CORDON_TAINT = "ubernetes.io/cordon"
"""Key of the taint (NoSchedule) of a cluster that shall get nothing new."""
DRAIN_TAINT = "ubernetes.io/drain"
"""Key of the taint (NoExecute) of a cluster that is being emptied."""
UNREACHABLE_TAINT = "cluster.karmada.io/unreachable"
"""Key of the taint (NoSchedule) of a cluster that is not Ready."""
VERSION_ANNOTATION = "ubernetes.io/agent-version"
"""The version of the member's agent, set by the agent."""

INVENTORY_WANTED = "ubernetes.io/inventory-wanted"
"""On a member's heartbeat Lease, by the federation: a word that the member answers with an inventory."""
INVENTORY = "ubernetes.io/inventory"
"""On the Cluster, by the agent: the word it answered last, after every Work's status had been written anew."""
INVENTORY_AT = "ubernetes.io/inventory-at"
"""On the Cluster, by the agent: when that was, by its own clock (for people)."""

CLUSTER_ID = "ubernetes.io/cluster-id"
"""On a member's heartbeat Lease, by the agent: the id of the cluster that it speaks for."""
AGENT_INSTANCE = "ubernetes.io/agent-instance"
"""On a member's heartbeat Lease, by the agent: which start of an agent writes it."""
GRANTS_ENFORCED = "ubernetes.io/grants-enforced"
"""On the Cluster, by the agent: `false` where kubelets that are not ours run, which stop nothing when a grant ends."""


class APIResource(View):
    kind: str
    name: str = ""


class APIEnablement(View):
    group_version: str
    resources: tuple[APIResource, ...] = ()


class NodeSummary(View):
    total_num: int = 0
    ready_num: int = 0


class AllocatableModeling(View):
    grade: int
    count: int


class ResourceSummary(View):
    """Quantities by resource name: what nodes offer, what waiting pods ask, what placed pods ask."""

    allocatable: dict[str, str | int] = {}
    allocating: dict[str, str | int] = {}
    allocated: dict[str, str | int] = {}
    allocatable_modelings: tuple[AllocatableModeling, ...] = ()


class NodePlatform(View):
    """Ready nodes of one platform (`linux/amd64`, by the labels kubernetes.io/os and kubernetes.io/arch), and what is free on
    those that take pods. Ours: Karmada's Cluster has no such field."""

    platform: str
    ready_num: int = 0
    free: dict[str, str | int] = {}


class ResourceRange(View):
    """From `min` to below `max` of a resource; quantities."""

    name: str
    min: str | int = 0
    max: str | int = 0


class ResourceModel(View):
    """A node shape: what nodes of this grade have free."""

    grade: int
    ranges: tuple[ResourceRange, ...] = ()


class ClusterSpec(View):
    id: str = ""
    sync_mode: str = "Pull"
    api_endpoint: str = ""
    provider: str = ""
    region: str = ""
    zone: str = ""
    zones: tuple[str, ...] = ()
    taints: tuple[Taint, ...] = ()
    resource_models: tuple[ResourceModel, ...] = ()


class ClusterStatus(View):
    kubernetes_version: str = ""
    api_enablements: tuple[APIEnablement, ...] = ()
    conditions: tuple[Condition, ...] = ()
    node_summary: NodeSummary = NodeSummary()
    resource_summary: ResourceSummary = ResourceSummary()
    node_platforms: tuple[NodePlatform, ...] = ()


class Cluster(Object):
    spec: ClusterSpec = ClusterSpec()
    status: ClusterStatus = ClusterStatus()


CLUSTERS: Resource[Cluster] = Resource(
    "cluster.karmada.io", "v1alpha1", "clusters", "Cluster", False, Cluster
)


def enforces_grants(cluster: Cluster) -> bool:
    """Whether a pod that gets no more grants stops there; a cluster that says nothing has our kubelets."""
    return cluster.metadata.annotations.get(GRANTS_ENFORCED) != "false"


def execution_namespace(cluster: str) -> str:
    """Where a member's Works stand."""
    return EXECUTION_PREFIX + cluster


def taint_document(taint: Taint) -> Document:
    """A taint in wire shape, for a list of taints that is written whole."""
    document: Document = {"key": taint.key, "effect": taint.effect}
    if taint.value:
        document["value"] = taint.value
    if taint.time_added is not None:
        document["timeAdded"] = rfc3339(taint.time_added)
    return document
