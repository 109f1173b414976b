"""ReplicationController: how it is filled in and judged, its Scale, what its deletion leaves; and the pods that it keeps."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers.replicaset import controller as replicaset
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import REPLICATION_CONTROLLER
from machinery.client.interface import DeleteOptions, ListOptions, PatchType, dynamic
from machinery.controller.manager import Manager
from machinery.controllers.garbagecollector import controller as garbage
from machinery.kit.ids import SeededIds
from machinery.meta.errors import Invalid
from machinery.meta.resource import Document, ObjectKey

pytestmark = pytest.mark.integration
KINDS = (*BUILTIN, REPLICATION_CONTROLLER)
RC = dynamic("", "v1", "replicationcontrollers", "ReplicationController", True)
PODS = dynamic("", "v1", "pods", "Pod", True)
WEB = ObjectKey("default", "web")


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(kinds=KINDS) as running:
        yield running


def controller(**spec: Any) -> Document:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"template": template, **spec},
    }


async def test_selector_and_labels_are_the_templates(server: RunningServer) -> None:
    made = await server.rest.create(RC, controller(), "default")
    assert made["spec"]["selector"] == {"app": "web"}
    assert made["metadata"]["labels"] == {"app": "web"}
    assert (made["spec"]["replicas"], made["metadata"]["generation"]) == (1, 1)
    assert made["status"] == {"replicas": 0}
    assert made["spec"]["template"]["spec"]["restartPolicy"] == "Always"


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"selector": {"app": "other"}}, "spec.template.metadata.labels", "`selector` does not match"),
        ({"replicas": -1}, "spec.replicas", "must be greater than or equal to 0"),
        ({"minReadySeconds": -1}, "spec.minReadySeconds", "must be greater than or equal to 0"),
        ({"template": {"spec": {"containers": [{"name": "c", "image": "x"}]}}}, "spec.selector", "Required value"),
        (
            {
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {
                        "restartPolicy": "Never", "activeDeadlineSeconds": 5,
                        "containers": [{"name": "c", "image": "x"}],
                    },
                }
            },
            "spec.template.spec.activeDeadlineSeconds",
            "activeDeadlineSeconds in ReplicationController is not Supported",
        ),
    ],
)  # fmt: skip
async def test_refused(server: RunningServer, spec: Document, field: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        await server.rest.create(RC, controller(**spec), "default")
    told = {cause["field"]: cause["message"] for cause in (refused.value.details or {})["causes"]}
    assert words in told[field]


async def test_scale_table_and_field_selector(server: RunningServer) -> None:
    await server.rest.create(RC, controller(replicas=2), "default")
    scale = await server.rest.get(RC, WEB, subresource="scale")
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 0, "selector": "app=web"}
    patch = {"spec": {"replicas": 5}}
    scaled = await server.rest.patch(RC, WEB, patch, PatchType.MERGE, subresource="scale")
    assert scaled["spec"] == {"replicas": 5}
    live = await server.rest.get(RC, WEB)
    assert (live["spec"]["replicas"], live["metadata"]["generation"]) == (5, 2)
    for value, count in (("0", 1), ("3", 0)):
        options = ListOptions(field_selector=f"status.replicas={value}")
        assert len((await server.local.list(RC, "default", options)).items) == count


@pytest.mark.looptime
@pytest.mark.parametrize("policy", [None, "Background"])
async def test_pods_are_made_and_stay_when_nobody_says_that_they_go(policy: str | None) -> None:
    clock = LoopClock()
    async with running_server(clock=clock, ids=SeededIds(1), kinds=KINDS) as server:
        manager = Manager(server.local, clock, SeededIds(2), component="test")
        replicaset.setup_replication_controllers(manager)
        garbage.setup(manager, KINDS, ())
        await manager.start()
        try:
            await server.local.create(RC, controller(replicas=3), "default")
            await clock.sleep(2)
            pods = (await server.local.list(PODS, "default")).items
            assert len(pods) == 3
            owner = pods[0]["metadata"]["ownerReferences"][0]
            assert (owner["apiVersion"], owner["kind"]) == ("v1", "ReplicationController")
            status = (await server.local.get(RC, WEB))["status"]
            assert status == {"replicas": 3, "fullyLabeledReplicas": 3, "observedGeneration": 1}
            await server.local.delete(RC, WEB, DeleteOptions(propagation_policy=policy))
            await clock.sleep(3)
            left = (await server.local.list(PODS, "default")).items
            assert len(left) == (3 if policy is None else 0)
            assert all("ownerReferences" not in pod["metadata"] for pod in left)
        finally:
            await manager.stop()
