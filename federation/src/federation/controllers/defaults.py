"""Defaults: what a federation has before anybody asked: its namespaces and the policy `default-spread`.

The policy is made once and then belongs to the operator: an edit stays, a deletion is not undone while the marker on
its namespace says that it was installed.
"""

from machinery.api.core import NAMESPACES
from machinery.api.fleet.cluster import CLUSTER_LEASES
from machinery.api.fleet.policy import CLUSTER_PROPAGATION_POLICIES
from machinery.controller.action import Action, Create, Patch
from machinery.controller.manager import Manager
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey

SYSTEM_NAMESPACE = "ubernetes-system"
INSTALLED = "ubernetes.io/default-policy-installed"

DEFAULT_SPREAD: Document = {
    "apiVersion": "policy.karmada.io/v1alpha1",
    "kind": "ClusterPropagationPolicy",
    "metadata": {
        "name": "default-spread",
        "annotations": {
            "kubernetes.io/description": "Zones differ by at most one replica; inside a zone by free capacity."
        },
    },
    "spec": {
        "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment"}],
        "priority": -1000,
        "propagateDeps": True,
        "placement": {
            "spreadConstraints": [
                {"spreadByField": "zone", "minGroups": 1},
                {"spreadByField": "cluster", "minGroups": 1},
            ],
            "replicaScheduling": {
                "replicaSchedulingType": "Divided",
                "replicaDivisionPreference": "Weighted",
                "weightPreference": {"dynamicWeight": "AvailableReplicas"},
            },
        },
    },
}


def namespace(name: str) -> Document:
    """A Namespace to create."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def plan(marked: bool) -> list[Action]:
    """`marked`: the system namespace says that the policy was installed before."""
    actions: list[Action] = [
        Create(NAMESPACES, namespace(name), exists_ok=True)
        for name in (SYSTEM_NAMESPACE, CLUSTER_LEASES)
    ]
    if marked:
        return actions
    return [
        *actions,
        Create(CLUSTER_PROPAGATION_POLICIES, DEFAULT_SPREAD, exists_ok=True),
        Patch(
            NAMESPACES,
            ObjectKey("", SYSTEM_NAMESPACE),
            {"metadata": {"annotations": {INSTALLED: "true"}}},
        ),
    ]


async def install(manager: Manager) -> None:
    """Run once at start."""
    try:
        found = await manager.client.get(NAMESPACES, ObjectKey("", SYSTEM_NAMESPACE))
        marked = found.metadata.annotations.get(INSTALLED) == "true"
    except NotFound:
        marked = False
    _ = await manager.executor.apply(plan(marked))


def setup(manager: Manager) -> None:
    """Installed when leading begins."""
    manager.runnable("defaults", lambda: install(manager))
