"""What Helm 3 waits for with `install --wait`, asked of a federation over two members by Helm's own rules.

Source of the rules: helm/helm v3.18, pkg/kube/ready.go. The real program is in the compatibility matrix.
"""

from pathlib import Path

import pytest
from tests.integration.fleet.test_services_over_clusters import eventually
from tests.integration.fleet.test_staged_update import (
    NEW,
    WEB,
    Fleet,
    deployment,
    fleet,
    has_room,
    runs,
)

from federation.propagation.rollouts.snapshots import HASH_LABEL, HISTORY
from federation.propagation.templates import DEPLOYMENTS, REPLICATION_CONTROLLERS, SERVICES
from machinery.api.core import NAMESPACES
from machinery.meta.resource import Document, ObjectKey

pytestmark = [pytest.mark.integration, pytest.mark.slow]
OLDER = ObjectKey("demo", "older")


def body(kind: str, name: str, **spec: object) -> Document:
    metadata = {"name": name, "namespace": "demo"}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}


def observed(document: Document) -> bool:
    told = (document.get("status") or {}).get("observedGeneration", 0)
    return bool(told == document["metadata"].get("generation", 0))


async def deployed(world: Fleet) -> bool:
    """The controlled ReplicaSet of the same template has enough ready replicas: 25 % of four may be away."""
    held = await world.federation.get(DEPLOYMENTS, WEB)
    for record in (await world.federation.list(HISTORY, "demo")).items:
        owners = record["metadata"].get("ownerReferences") or ()
        template = record["spec"]["template"]
        labels = {k: v for k, v in template["metadata"]["labels"].items() if k != HASH_LABEL}
        bare = template | {"metadata": template["metadata"] | {"labels": labels}}
        if bare == held["spec"]["template"] and any(
            owner["uid"] == held["metadata"]["uid"] for owner in owners
        ):
            ready = (record.get("status") or {}).get("readyReplicas", 0)
            return observed(record) and observed(held) and ready >= 3
    return False


@pytest.mark.timeout(300)
async def test_helm_waits_no_longer_than_it_must(tmp_path: Path) -> None:
    async with fleet(tmp_path) as world:
        client = world.federation
        await eventually(lambda: has_room(world))
        demo = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await client.create(NAMESPACES, demo)
        web = deployment()
        del web["metadata"]["annotations"]
        await client.create(DEPLOYMENTS, web, "demo")
        service = body("Service", "web", selector={"app": "web"}, ports=[{"port": 80}])
        shown = await client.create(SERVICES, service, "demo")
        assert shown["spec"]["clusterIP"].startswith("240.")
        await eventually(lambda: deployed(world))

        containers = [{"name": "web", "image": NEW}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        await client.patch(DEPLOYMENTS, WEB, patch)
        assert not await deployed(world)
        await eventually(lambda: deployed(world))
        await eventually(lambda: runs(world, NEW, alpha=2, beta=2))

        for member in world.members.values():  # each gives its own address
            given = await member.get(SERVICES, ObjectKey("demo", "web"))
            assert given["spec"]["clusterIP"].startswith("10.96.")


@pytest.mark.timeout(300)
async def test_a_replication_controller_is_divided(tmp_path: Path) -> None:
    async with fleet(tmp_path) as world:
        client = world.federation
        await eventually(lambda: has_room(world))
        demo = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await client.create(NAMESPACES, demo)
        pods = {
            "metadata": {"labels": {"app": "older"}},
            "spec": {"containers": [{"name": "c", "image": NEW}]},
        }
        older = body("ReplicationController", "older", replicas=4, template=pods)
        await client.create(REPLICATION_CONTROLLERS, older, "demo")
        await eventually(lambda: runs(world, NEW, alpha=2, beta=2))

        async def summed_up() -> bool:
            held = await client.get(REPLICATION_CONTROLLERS, OLDER)
            counts = held.get("status") or {}
            return observed(held) and counts.get("readyReplicas") == 4

        await eventually(summed_up)
        await client.patch(REPLICATION_CONTROLLERS, OLDER, {"spec": {"replicas": 2}})
        await eventually(lambda: runs(world, NEW, alpha=1, beta=1))
