"""What would really fit, asked over real links: only one member has nodes with the label that a workload selects."""

from pathlib import Path

import pytest
from tests.integration.fleet.test_services_over_clusters import eventually
from tests.integration.fleet.test_staged_update import Fleet, fleet, has_room

from federation.propagation.templates import DEPLOYMENTS
from machinery.api.core import NAMESPACES, NODES
from machinery.api.fleet.capacity import CAPACITY_ESTIMATES
from machinery.api.fleet.cluster import CLUSTERS
from machinery.api.fleet.work import RESOURCE_BINDINGS
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey

pytestmark = [pytest.mark.integration, pytest.mark.slow]
SSD = {"disk": "ssd"}


def deployment() -> Document:
    labels = {"app": "web"}
    container = {"name": "web", "image": "whoami:1", "resources": {"requests": {"cpu": "1"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "nodeSelector": SSD},
            },
        },
    }


async def placed(world: Fleet) -> dict[str, int]:
    try:
        key = ObjectKey("demo", "web-deployment")
        binding = await world.federation.get(RESOURCE_BINDINGS, key)
    except NotFound:
        return {}
    return {t.name: t.replicas for t in binding.spec.clusters}


async def test_a_workload_goes_where_its_nodes_are(tmp_path: Path) -> None:
    async with fleet(tmp_path) as world:
        assert await eventually(lambda: has_room(world))
        for cluster in (await world.federation.list(CLUSTERS)).items:
            (platform,) = cluster.status.node_platforms
            assert platform.platform.startswith("linux/") and platform.ready_num == 1
            assert {"cpu", "memory", "pods"} <= platform.free.keys()
        node = ObjectKey("", "beta-node-1")
        await world.members["beta"].patch(NODES, node, {"metadata": {"labels": SSD}})
        question = {
            "apiVersion": CAPACITY_ESTIMATES.api_version,
            "kind": CAPACITY_ESTIMATES.kind,
            "spec": {
                "replicaRequirements": {
                    "resourceRequest": {"cpu": "1"},
                    "nodeClaim": {"nodeSelector": SSD},
                }
            },
        }
        rooms = {
            name: (await member.create(CAPACITY_ESTIMATES, question)).status.replicas
            for name, member in world.members.items()
        }
        assert rooms == {"alpha": 0, "beta": 8}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await world.federation.create(NAMESPACES, namespace)
        await world.federation.create(DEPLOYMENTS, deployment())

        async def decided() -> bool:
            return bool(await placed(world))

        assert await eventually(decided)
        assert await placed(world) == {"beta": 4}
