"""Snapshots of volumes over a real link: a policy's command runs in a pod of a linked cluster, and the binding says what came of it."""

from pathlib import Path

from tests.integration.fleet.test_foreign import (
    RBAC,
    Scene,
    _count,
    _ready,
    apply,
    deployment,
    scene,
)
from tests.integration.node.clusters import eventually

from cluster_agent.link.foreign_rights import ACCOUNT, NAMESPACE
from federation.propagation.volumes import CONDITION, Snapshot, shelf_of
from machinery.api.fleet.resilience import RESILIENCE_POLICIES
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.meta.objectmeta import Condition, condition
from machinery.meta.resource import Document, ObjectKey

BINDING = ObjectKey("demo", "web-deployment")


def policy() -> Document:
    return {
        "apiVersion": "ubernetes.io/v1alpha1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {
            "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}],
            "volumes": {
                "snapshot": {"command": ["save", "--to=a b"]},
                "restore": {"command": ["load"]},
                "intervalSeconds": 10,
            },
        },
    }


async def told(fleet: Scene) -> Condition | None:
    binding = await fleet.federation.get(RESOURCE_BINDINGS, BINDING)
    return condition(binding.status.conditions, CONDITION)


async def failed(fleet: Scene) -> bool:
    held = await told(fleet)
    return held is not None and held.reason == "SnapshotFailed" and "pods/exec" in held.message


async def taken(fleet: Scene) -> bool:
    held = await told(fleet)
    return held is not None and (held.status, held.reason) == ("True", "Taken")


async def kept(fleet: Scene) -> tuple[Snapshot, ...]:
    binding = await fleet.federation.get(RESOURCE_BINDINGS, BINDING)
    return shelf_of(binding.metadata.annotations).kept


async def test_a_snapshot_is_made_where_the_cluster_lets_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as fleet:
        await eventually(lambda: _ready(fleet), wait_s=60)
        await apply(fleet, deployment("web", 1))
        await fleet.federation.create(RESILIENCE_POLICIES, policy(), "demo")
        await eventually(lambda: _count(fleet, 1))
        await eventually(lambda: failed(fleet), wait_s=60)
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "snapshots"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
        }  # fmt: skip
        await fleet.foreign.create(RBAC["ClusterRoleBinding"], role)
        await eventually(lambda: kept(fleet), wait_s=60)
        (first, *_) = await kept(fleet)
        assert first.cluster == "edge"
        assert first.identifier.endswith("asked for: save --to=a b"), (
            "the last line that it printed"
        )
        await eventually(lambda: taken(fleet), wait_s=30)
