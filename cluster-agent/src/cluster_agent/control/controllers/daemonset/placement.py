"""Which nodes a DaemonSet's pod belongs on, and the pod that is made for one. Pure.

The scheduler binds these pods like any other: each carries a node affinity that names its node, and tolerates what
befalls nodes by themselves, since a daemon often is what mends it.
"""

from typing import Any, Final

import msgspec

from cluster_agent.control.controllers.sets import (
    REVISION_HASH_LABEL,
    DaemonSet,
    set_document,
    typed,
)
from cluster_agent.control.controllers.workloads import template_labels
from machinery.api.core import PODS, Node, Pod, PodSpec, Taint
from machinery.meta.names import dns_subdomain
from machinery.meta.objectmeta import ObjectMeta, owner_reference
from machinery.meta.resource import Document
from machinery.scheduling.filters import matches_affinity
from machinery.scheduling.tolerations import tolerates

GENERATION: Final = "deprecated.daemonset.template.generation"
GENERATION_LABEL: Final = "pod-template-generation"
_NODE_NAME: Final = "metadata.name"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_TAINTS: Final = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)
"""Taints `node.kubernetes.io/…` that every daemon tolerates."""
_HOST_NETWORK_TAINT: Final = ("network-unavailable", "NoSchedule")


class Placement:
    """The nodes of one template: compiled once, asked of every node."""

    def __init__(self, ds: DaemonSet) -> None:
        spec = ds.spec.template.get("spec") or {}
        spec = {**spec, "tolerations": tolerations(spec)}
        self._pod = Pod(metadata=ObjectMeta(), spec=msgspec.convert(spec, PodSpec))

    def wants(self, node: Node) -> bool:
        """Whether a pod is to be made there."""
        return self._fits(node) and not self._untolerated(node, ("NoSchedule", "NoExecute"))

    def keeps(self, node: Node) -> bool:
        """Whether one that is there may stay: NoSchedule keeps new pods away, it does not chase old ones."""
        return self._fits(node) and not self._untolerated(node, ("NoExecute",))

    def _fits(self, node: Node) -> bool:
        named = self._pod.spec.node_name
        return named in ("", node.metadata.name) and matches_affinity(self._pod, node)

    def _untolerated(self, node: Node, effects: tuple[str, ...]) -> bool:
        return any(
            taint.effect in effects and not tolerates(self._pod.spec.tolerations, taint)
            for taint in node.spec.taints
        )


def facts(node: Node) -> tuple[dict[str, str], tuple[Taint, ...]]:
    """What of a node is asked here; heartbeats change none of it."""
    return node.metadata.labels, node.spec.taints


def tolerations(spec: Document) -> list[Document]:
    """The template's tolerations, and those of every daemon."""
    given = list(spec.get("tolerations") or ())
    own = [*_TAINTS, *([_HOST_NETWORK_TAINT] if spec.get("hostNetwork") else [])]
    for name, effect in own:
        mine = {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
        if mine not in given:
            given.append(mine)
    return given


def node_of(pod: Pod) -> str:
    """The node that a daemon pod is on, or is meant for."""
    if pod.spec.node_name:
        return pod.spec.node_name
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    for term in required.node_selector_terms if required is not None else ():
        for one in term.match_fields:
            if one.key == _NODE_NAME and one.operator == "In" and len(one.values) == 1:
                return one.values[0]
    return ""


def pod_document(ds: DaemonSet, node: str, digest: str) -> Document:
    """The pod for one node, of the present template, to be named by the server."""
    template = ds.spec.template
    given = template.get("metadata") or {}
    labels = {**template_labels(template), REVISION_HASH_LABEL: digest}
    if generation := template_generation(ds):
        labels[GENERATION_LABEL] = generation
    metadata: Document = {
        "generateName": pod_prefix(ds.metadata.name),
        "namespace": ds.metadata.namespace,
        "labels": labels,
        "ownerReferences": [owner_reference(typed(ds))],
    }
    metadata |= {k: given[k] for k in ("annotations", "finalizers") if given.get(k)}
    spec = template.get("spec") or {}
    spec = {**spec, "affinity": _affinity(spec, node), "tolerations": tolerations(spec)}
    return set_document(PODS, metadata, spec=spec)


def template_generation(ds: DaemonSet) -> str:
    """How often the template was changed, which old clients ask for; empty if it is no number."""
    found = ds.metadata.annotations.get(GENERATION, "")
    return found if found.isdecimal() else ""


def pod_prefix(name: str) -> str:
    """`name-`, or the bare name where that leaves no room."""
    return f"{name}-" if not dns_subdomain(f"{name}-x") else name


def _affinity(spec: Document, node: str) -> Document:
    """The template's affinity, its required nodes replaced by the one."""
    affinity: dict[str, Any] = dict(spec.get("affinity") or {})
    name = {"key": _NODE_NAME, "operator": "In", "values": [node]}
    required = {"nodeSelectorTerms": [{"matchFields": [name]}]}
    affinity["nodeAffinity"] = {**(affinity.get("nodeAffinity") or {}), _REQUIRED: required}
    return affinity
