"""Defaults: what a federation has before anybody asked: its namespaces, the policies `default-spread` and `default-whole`, and
the staged update strategy `one-zone-at-a-time`.

Policies and strategy are made once and then belong to the operator: an edit stays, a deletion is not undone while the marker
on their namespace says that they were installed.
"""

from collections.abc import Mapping

from machinery.api.core import NAMESPACES
from machinery.api.fleet.cluster import CLUSTER_LEASES
from machinery.api.fleet.policy import CLUSTER_PROPAGATION_POLICIES
from machinery.api.fleet.rollouts import STAGED_UPDATE_STRATEGIES
from machinery.controller.action import Action, Create, Patch
from machinery.controller.manager import Manager
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey

SYSTEM_NAMESPACE = "ubernetes-system"
INSTALLED = "ubernetes.io/default-policy-installed"
WHOLE_INSTALLED = "ubernetes.io/default-whole-installed"
STRATEGY_INSTALLED = "ubernetes.io/default-strategy-installed"

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
        "resourceSelectors": [
            {"apiVersion": "apps/v1", "kind": "Deployment"},
            {"apiVersion": "v1", "kind": "ReplicationController"},
        ],
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
DEFAULT_WHOLE: Document = {
    "apiVersion": "policy.karmada.io/v1alpha1",
    "kind": "ClusterPropagationPolicy",
    "metadata": {
        "name": "default-whole",
        "annotations": {
            "kubernetes.io/description": "What must not run twice goes whole to one cluster."
        },
    },
    "spec": {
        "resourceSelectors": [
            {"apiVersion": "apps/v1", "kind": "StatefulSet"},
            {"apiVersion": "batch/v1", "kind": "Job"},
            {"apiVersion": "batch/v1", "kind": "CronJob"},
        ],
        "priority": -1000,
        "propagateDeps": True,
        "placement": {
            "spreadConstraints": [{"spreadByField": "cluster", "minGroups": 1, "maxGroups": 1}],
            "replicaScheduling": {
                "replicaSchedulingType": "Divided",
                "replicaDivisionPreference": "Aggregated",
            },
        },
    },
}

ONE_ZONE: Document = {
    "apiVersion": "ubernetes.io/v1alpha1",
    "kind": "StagedUpdateStrategy",
    "metadata": {
        "name": "one-zone-at-a-time",
        "namespace": SYSTEM_NAMESPACE,
        "annotations": {
            "kubernetes.io/description": "All clusters of a zone, then the next zone; what fails is rolled back everywhere."
        },
    },
    "spec": {
        "stages": [{"name": "zone", "groupBy": "zone", "maxConcurrency": "100%"}],
        "healthGate": {"progressDeadline": "10m", "minSuccessTime": "30s"},
        "failureAction": "Rollback",
    },
}


def namespace(name: str) -> Document:
    """A Namespace to create."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def plan(marks: Mapping[str, str]) -> list[Action]:
    """`marks`: annotations of the system namespace, which say what was installed before."""
    actions: list[Action] = [
        Create(NAMESPACES, namespace(name), exists_ok=True)
        for name in (SYSTEM_NAMESPACE, CLUSTER_LEASES)
    ]
    for mark, resource, document in (
        (INSTALLED, CLUSTER_PROPAGATION_POLICIES, DEFAULT_SPREAD),
        (WHOLE_INSTALLED, CLUSTER_PROPAGATION_POLICIES, DEFAULT_WHOLE),
        (STRATEGY_INSTALLED, STAGED_UPDATE_STRATEGIES, ONE_ZONE),
    ):
        if marks.get(mark) == "true":
            continue
        patch = {"metadata": {"annotations": {mark: "true"}}}
        actions.append(Create(resource, document, exists_ok=True))
        actions.append(Patch(NAMESPACES, ObjectKey("", SYSTEM_NAMESPACE), patch))
    return actions


async def install(manager: Manager) -> None:
    """Run once at start."""
    try:
        found = await manager.client.get(NAMESPACES, ObjectKey("", SYSTEM_NAMESPACE))
        marks: Mapping[str, str] = found.metadata.annotations
    except NotFound:
        marks = {}
    _ = await manager.executor.apply(plan(marks))


def setup(manager: Manager) -> None:
    """Installed when leading begins."""
    manager.runnable("defaults", lambda: install(manager))
