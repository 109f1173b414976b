"""What the member's nodes have free: by platform, and by the node shapes of the Cluster's resource models. Pure.

Counted are nodes that take pods: ready, not cordoned. Free is what a node offers less what the pods on it ask for; a node that is
asked for more than it offers has nothing free.

Shapes (Karmada's `spec.resourceModels` and `status.resourceSummary.allocatableModelings`): a node is of the highest grade of
which it reaches the least amount of every resource; resources that a grade does not name do not matter. Nothing is
counted where the Cluster has no models: Karmada's default grades begin with nodes of less than one CPU or 4 GiB, which hold nothing
by their least amount, and a fleet of small machines would look full.
"""

from collections.abc import Iterable, Mapping, Sequence

from machinery.api.core import Node, Pod
from machinery.api.fleet.cluster import ResourceModel
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document
from machinery.scheduling.resources import CPU, PODS, amounts, node_allocatable, pod_requests

ARCH, OS = "kubernetes.io/arch", "kubernetes.io/os"
Free = Mapping[str, Mapping[str, int]]
"""By node: what it has free."""


def usable(node: Node) -> bool:
    """Whether the node takes pods."""
    return is_true(node.status.conditions, "Ready") and not node.spec.unschedulable


def free(nodes: Iterable[Node], placed: Iterable[Pod]) -> dict[str, dict[str, int]]:
    """What usable nodes have free. `placed`: pods that are bound and have not ended."""
    found = {node.metadata.name: node_allocatable(node) for node in nodes if usable(node)}
    for pod in placed:
        room = found.get(pod.spec.node_name)
        if room is not None:
            for name, value in (pod_requests(pod) | {PODS: 1}).items():
                room[name] = room.get(name, 0) - value
    return {node: {n: max(0, v) for n, v in room.items()} for node, room in found.items()}


def platform(node: Node) -> str:
    """`linux/amd64`; empty when its labels do not say."""
    labels = node.metadata.labels
    system, arch = labels.get(OS, ""), labels.get(ARCH, "")
    return f"{system}/{arch}" if system and arch else ""


def platforms(nodes: Iterable[Node], room: Free) -> list[Document]:
    """`status.nodePlatforms`. Nothing when some ready node does not say what it is: that one might do."""
    ready = [n for n in nodes if is_true(n.status.conditions, "Ready")]
    counts: dict[str, int] = {}
    sums: dict[str, dict[str, int]] = {}
    for node in ready:
        name = platform(node)
        counts[name] = counts.get(name, 0) + 1
        total = sums.setdefault(name, {})
        for resource, value in room.get(node.metadata.name, {}).items():
            total[resource] = total.get(resource, 0) + value
    if "" in counts:
        return []
    return [
        {"platform": name, "readyNum": counts[name], "free": quantities(sums[name])}
        for name in sorted(counts)
    ]


def modelings(models: Sequence[ResourceModel], room: Free) -> list[Document]:
    """`status.resourceSummary.allocatableModelings`: every grade, with how many nodes are of it."""
    ordered = sorted(models, key=lambda m: m.grade)
    least = {m.grade: amounts({r.name: r.min for r in m.ranges}) for m in ordered}
    counts = dict.fromkeys(least, 0)
    for node in room.values():
        reached = [
            grade
            for grade, floor in least.items()
            if all(node.get(name, 0) >= value for name, value in floor.items())
        ]
        if reached:
            counts[reached[-1]] += 1
    return [{"grade": grade, "count": count} for grade, count in counts.items()]


def quantities(sums: Mapping[str, int]) -> dict[str, str]:
    """In wire shape, by name."""
    return {
        name: f"{value}m" if name == CPU else str(value) for name, value in sorted(sums.items())
    }
