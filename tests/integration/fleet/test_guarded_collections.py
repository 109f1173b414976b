"""A DELETE of a whole collection, where one of its objects must stay: nothing of it goes."""

from collections.abc import AsyncIterator

import pytest
from tests.support.apiserver import RunningServer, running_server

from federation.controllers import registry
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.client.interface import dynamic
from machinery.kit.ids import SystemIds
from machinery.meta.errors import Forbidden
from machinery.meta.resource import Document, ObjectKey
from machinery.server.app import Extensions

pytestmark = pytest.mark.integration
PATH = "/api/v1/namespaces/default/configmaps"
CONFIGMAPS = dynamic("", "v1", "configmaps", "ConfigMap", True)
BINDINGS = dynamic("work.karmada.io", "v1alpha2", "resourcebindings", "ResourceBinding", True)
PROTECTED = {"resourcetemplate.karmada.io/deletion-protected": "Always"}


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    holder: list[RunningServer] = []
    admission = registry.admission(
        SystemIds(), committed=lambda: holder[0].api.committed if holder else None
    )
    extensions = Extensions(admission=admission)
    async with running_server(kinds=(*BUILTIN, *FLEET), extensions=extensions) as running:
        holder.append(running)
        for number in range(60):
            metadata: Document = {"name": f"c{number:02}", "labels": {"part": str(number % 2)}}
            await running.local.create(CONFIGMAPS, {"metadata": metadata}, "default")
        yield running


async def names(server: RunningServer) -> int:
    return len((await server.local.list(CONFIGMAPS, "default")).items)


async def test_a_protected_object_keeps_the_others(server: RunningServer) -> None:
    key = ObjectKey("default", "c59")
    await server.local.patch(CONFIGMAPS, key, {"metadata": {"labels": PROTECTED}})
    with pytest.raises(Forbidden, match="This resource is protected"):
        await server.rest.request("DELETE", PATH)
    assert await names(server) == 60
    await server.rest.request("DELETE", PATH, query={"labelSelector": "part=0"})
    assert await names(server) == 30
    await server.local.patch(
        CONFIGMAPS, key, {"metadata": {"labels": dict.fromkeys(PROTECTED, "Never")}}
    )
    await server.rest.request("DELETE", PATH)
    assert await names(server) == 0


async def test_one_that_reaches_too_far_keeps_the_others(server: RunningServer) -> None:
    binding = {
        "apiVersion": "work.karmada.io/v1alpha2",
        "kind": "ResourceBinding",
        "metadata": {"name": "c30-configmap"},
        "spec": {
            "resource": {"apiVersion": "v1", "kind": "ConfigMap", "name": "c30", "namespace": "default"},
            "clusters": [{"name": f"m{i}"} for i in range(21)],
        },
    }  # fmt: skip
    await server.local.create(BINDINGS, binding, "default")
    with pytest.raises(Forbidden, match="kubectl annotate configmaps c30 -n default"):
        await server.rest.request("DELETE", PATH)
    assert await names(server) == 60
    confirm = {"metadata": {"annotations": {"ubernetes.io/confirm-delete": "21"}}}
    await server.local.patch(CONFIGMAPS, ObjectKey("default", "c30"), confirm)
    await server.rest.request("DELETE", PATH)
    assert await names(server) == 0
