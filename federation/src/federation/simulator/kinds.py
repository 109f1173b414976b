"""Kinds that users bring themselves in some histories, and objects of a cluster: documents only.

Gadgets are a custom kind: `spec.size` counts their replicas, which only the scripts beside their definition say. The definition
goes into every member by a policy of its own and stays there through drains, for with it every Gadget of a member would go.
ClusterRoles named `viewer-N` go wherever a policy says. What members cost and emit is said by operators.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from federation.placement.scores import CARBON, COST, FIGURES
from federation.propagation.resilience import FLEET_WIDE
from federation.propagation.templates import CLUSTER_ROLES
from machinery.api.fleet.interpretation import CUSTOMIZATIONS
from machinery.api.fleet.policy import CLUSTER_PROPAGATION_POLICIES
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.client.dynamic_kinds import CUSTOM_RESOURCE_DEFINITIONS
from machinery.client.interface import dynamic
from machinery.meta.resource import Document, Resource

GADGETS = dynamic("sim.example.org", "v1", "gadgets", "Gadget", True)
GADGET, ROLE = "Gadget", "ClusterRole"
SIZED = {"Deployment": "replicas", GADGET: "size"}
"""Kinds with replicas: the field of `spec` that counts them."""
PLURALS = {"Deployment": "deployments", GADGET: "gadgets"}

PREFERS: Mapping[str, tuple[Document, ...]] = {
    "cheap": ({"by": COST, "weight": 1},),
    "green": ({"by": CARBON, "weight": 1},),
    "mixed": ({"by": COST, "weight": 3}, {"by": CARBON, "weight": 1}, {"by": "capacity"}),
    "near": ({"by": COST, "weight": 2}, {"by": "locality", "weight": 1}),
}
"""Label `prefers` of a Deployment -> what its ResiliencePolicy asks."""
FIGURE_OF = {COST: FIGURES[COST], CARBON: FIGURES[CARBON]}

_COUNT = "function GetReplicas(o) return o.spec.size, nil end"
_REVISE = "function ReviseReplica(o, n) o.spec.size = n; return o end"
_SUM = """function AggregateStatus(o, items)
  o.status = {replicas = 0, readyReplicas = 0}
  for _, item in ipairs(items) do
    o.status.replicas = o.status.replicas + (item.status.replicas or 0)
    o.status.readyReplicas = o.status.readyReplicas + (item.status.readyReplicas or 0)
  end
  return o end"""


class Said(Protocol):
    """The part of a step that a document is made of."""

    @property
    def where(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> str | int | float: ...


def of(resource: Resource[Any], name: str, spec: Document, namespace: str = "") -> Document:
    """An object with a spec."""
    where = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name} | where,
        "spec": spec,
    }


def gadget(step: Said) -> Document:
    """The Gadget of a step: its size and the image of its pods."""
    count, image = str(step.value).split()
    return of(GADGETS, step.name, {"size": int(count), "image": image}, step.where)


def role(step: Said) -> Document:
    """The ClusterRole of a step: one verb on pods."""
    return {
        "apiVersion": CLUSTER_ROLES.api_version,
        "kind": CLUSTER_ROLES.kind,
        "metadata": {"name": step.name},
        "rules": rules(str(step.value)),
    }


def rules(verb: str) -> list[Document]:
    """What a ClusterRole allows."""
    return [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]


def definition() -> Document:
    """Of Gadgets."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer", "minimum": 0},
                    "image": {"type": "string"},
                },
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    names = {"plural": GADGETS.plural, "kind": GADGET, "singular": "gadget"}
    version = {
        "name": GADGETS.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    return of(
        CUSTOM_RESOURCE_DEFINITIONS,
        f"{GADGETS.plural}.{GADGETS.group}",
        {
            "group": GADGETS.group,
            "scope": "Namespaced",
            "names": names | {"listKind": f"{GADGET}List"},
            "versions": [version],
        },
    )


def interpreter() -> Document:
    """What the scripts say of Gadgets."""
    scripts = {"replicaResource": _COUNT, "replicaRevision": _REVISE, "statusAggregation": _SUM}
    return of(
        CUSTOMIZATIONS,
        "gadgets",
        {
            "target": {"apiVersion": GADGETS.api_version, "kind": GADGET},
            "customizations": {name: {"luaScript": text} for name, text in scripts.items()},
        },
    )


def _everywhere(name: str, kind: Resource[Any], placement: Document) -> Document:
    spec = {
        "resourceSelectors": [{"apiVersion": kind.api_version, "kind": kind.kind}],
        "placement": placement,
    }
    return of(CLUSTER_PROPAGATION_POLICIES, name, spec)


def custom_policies() -> list[Document]:
    """Gadgets are divided by room; their definition goes everywhere, whatever taints there are."""
    scheduling = {
        "replicaSchedulingType": "Divided",
        "replicaDivisionPreference": "Weighted",
        "weightPreference": {"dynamicWeight": "AvailableReplicas"},
    }
    return [
        _everywhere(
            "definitions", CUSTOM_RESOURCE_DEFINITIONS, {"clusterTolerations": [{"operator": "Exists"}]}
        ),
        _everywhere("gadgets", GADGETS, {"replicaScheduling": scheduling}),
    ]  # fmt: skip


def wide_policies() -> list[Document]:
    """ClusterRoles go everywhere."""
    return [_everywhere("roles", CLUSTER_ROLES, {})]


def preferences() -> list[Document]:
    """A ResiliencePolicy for each label `prefers`."""
    selector = {"apiVersion": "apps/v1", "kind": "Deployment"}
    return [
        of(
            RESILIENCE_POLICIES,
            f"prefers-{name}",
            {
                "scores": list(scores),
                "resourceSelectors": [
                    selector | {"labelSelector": {"matchLabels": {"prefers": name}}}
                ],
            },
            FLEET_WIDE,
        )
        for name, scores in PREFERS.items()
    ]
