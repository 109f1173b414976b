"""The in-process client does what the HTTP client does; mirrors; what programs may add."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from tests.support.apiserver import RunningServer, running_server

from machinery.api.core import NAMESPACES, NODES, PODS, Namespace
from machinery.client.informer import Informer
from machinery.client.interface import (
    Client,
    DeleteOptions,
    EventType,
    ListOptions,
    Packed,
    PatchType,
    dynamic,
)  # fmt: skip
from machinery.kit.clock import SystemClock
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import AlreadyExists, Conflict, Expired, Forbidden, Invalid, NotFound
from machinery.meta.resource import Document, ObjectKey
from machinery.server.app import Extensions
from machinery.server.call import Call, Intercepted
from machinery.server.config import ServerConfig
from machinery.server.request import RequestInfo
from machinery.server.user import UserInfo

pytestmark = pytest.mark.integration
MAPS = dynamic("", "v1", "configmaps", "ConfigMap", namespaced=True)
DEPLOYMENTS = dynamic("apps", "v1", "deployments", "Deployment", namespaced=True)
SCALES = dynamic("autoscaling", "v1", "deployments", "Scale", namespaced=True)
NEW_EVENTS = dynamic("events.k8s.io", "v1", "events", "Event", namespaced=True)
EVENTS = dynamic("", "v1", "events", "Event", namespaced=True)
RAW_PODS = dynamic("", "v1", "pods", "Pod", namespaced=True)
"""For verbs that answer a Status."""
KEY = ObjectKey("default", "a")


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


@pytest.fixture(params=["local", "rest"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Client:
    return server.local if request.param == "local" else server.rest


def config_map(name: str, **labels: str) -> Document:
    return {"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}}


def pod(name: str, **spec: Any) -> Document:
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "x"}], **spec},
    }


async def test_the_life_of_an_object(client: Client) -> None:
    made = await client.create(MAPS, config_map("a"), "default")
    assert made["metadata"]["uid"]
    with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
        await client.create(MAPS, config_map("a"), "default")
    patched = await client.patch(MAPS, KEY, {"data": {"k": None, "n": "1"}})
    assert patched["data"] == {"n": "1"}
    again = await client.patch(MAPS, KEY, {"data": {"n": "1"}})
    assert again["metadata"]["resourceVersion"] == patched["metadata"]["resourceVersion"], (
        "nothing changed"
    )
    with pytest.raises(Conflict, match="the object has been modified"):
        await client.update(MAPS, made)
    updated = await client.update(MAPS, {**patched, "data": {"n": "2"}})
    assert (await client.get(MAPS, KEY)) == updated
    with pytest.raises(Conflict, match="UID in the precondition"):
        await client.delete(MAPS, KEY, DeleteOptions(uid="another"))
    await client.delete(MAPS, KEY, DeleteOptions(uid=made["metadata"]["uid"]))
    with pytest.raises(NotFound, match='configmaps "a" not found'):
        await client.get(MAPS, KEY)


async def test_what_is_invalid_is_refused(client: Client) -> None:
    with pytest.raises(Invalid, match="metadata.name: Invalid value"):
        await client.create(MAPS, config_map("UPPER"), "default")
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await client.create(MAPS, config_map("a"), "nowhere")


async def test_patches_of_every_type(client: Client) -> None:
    await client.create(PODS, pod("a"), "default")
    operations = [{"op": "add", "path": "/metadata/labels", "value": {"x": "1"}}]
    seen = await client.patch(PODS, KEY, operations, PatchType.JSON)
    assert seen.metadata.labels == {"x": "1"}
    image = {"spec": {"containers": [{"name": "c", "image": "y"}]}}
    seen = await client.patch(PODS, KEY, image, PatchType.STRATEGIC)
    assert [c.image for c in seen.spec.containers] == ["y"]
    seen = await client.patch(PODS, KEY, {"status": {"phase": "Running"}}, subresource="status")
    assert seen.status.phase == "Running"
    applied = {"apiVersion": "v1", "kind": "ConfigMap", **config_map("a")}
    made = await client.patch(MAPS, KEY, applied, PatchType.APPLY)
    assert made["metadata"]["managedFields"][0]["operation"] == "Apply"


async def test_generated_names_and_scale(client: Client) -> None:
    made = await client.create(MAPS, {"metadata": {"generateName": "g-"}}, "default")
    assert made["metadata"]["name"].startswith("g-")
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await client.create(DEPLOYMENTS, {"metadata": {"name": "a"}, "spec": spec}, "default")
    await client.patch(DEPLOYMENTS, KEY, {"spec": {"replicas": 4}}, subresource="scale")
    scale = await client.get(DEPLOYMENTS, KEY, subresource="scale")
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == (
        "Scale",
        {"replicas": 4},
        "a=b",
    )


async def test_bind_and_evict(client: Client) -> None:
    await client.create(NODES, {"metadata": {"name": "n1"}})
    await client.create(PODS, pod("a"), "default")
    target = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}}
    await client.create(RAW_PODS, target, "default", name="a", subresource="binding")
    bound = await client.get(PODS, KEY)
    assert bound.spec.node_name == "n1"
    with pytest.raises(Conflict, match='pod a is already assigned to node "n1"'):
        await client.create(RAW_PODS, target, "default", name="a", subresource="binding")
    await client.create(
        RAW_PODS, {"metadata": {"name": "a"}}, "default", name="a", subresource="eviction"
    )
    gone = await client.get(PODS, KEY)
    assert gone.deleting
    assert gone.metadata.deletion_grace_period_seconds == 30
    assert any(c.type == "DisruptionTarget" for c in gone.status.conditions)
    await client.delete(PODS, KEY, DeleteOptions(grace_period_seconds=0))
    with pytest.raises(NotFound):
        await client.get(PODS, KEY)


async def test_list_pages_and_selectors(client: Client) -> None:
    for name in "abc":
        await client.create(MAPS, config_map(name, odd="yes" if name != "b" else "no"), "default")
    first = await client.list(MAPS, "default", ListOptions(limit=2))
    assert [item["metadata"]["name"] for item in first.items] == ["a", "b"]
    rest = await client.list(MAPS, "default", ListOptions(continue_=first.continue_))
    assert [item["metadata"]["name"] for item in rest.items] == ["c"]
    odd = await client.list(MAPS, options=ListOptions(label_selector="odd=yes"))
    assert [item["metadata"]["name"] for item in odd.items] == ["a", "c"]
    named = await client.list(MAPS, "default", ListOptions(field_selector="metadata.name=b"))
    assert len(named.items) == 1


async def test_watch_after_list(client: Client) -> None:
    await client.create(PODS, pod("a"), "default")
    listed = await client.list(PODS, "default")
    assert [item.metadata.name for item in listed.items] == ["a"]
    await client.patch(PODS, KEY, {"metadata": {"labels": {"x": "1"}}})
    await client.delete(PODS, KEY)
    found = []
    async for event in client.watch(
        PODS, "default", ListOptions(resource_version=listed.resource_version)
    ):
        found.append((event.type, event.object.metadata.labels))
        if event.type is EventType.DELETED:
            break
    assert found == [(EventType.MODIFIED, {"x": "1"}), (EventType.DELETED, {"x": "1"})]


async def test_watch_hears_of_what_comes(client: Client, server: RunningServer) -> None:
    async def later() -> None:
        while server.api.watches.count() == 0:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
        await server.local.create(MAPS, config_map("new"), "default")

    async with asyncio.TaskGroup() as group:
        group.create_task(later())
        async for event in client.watch(MAPS, "default"):
            assert (event.type, event.object["metadata"]["name"]) == (EventType.ADDED, "new")
            assert event.resource_version == event.object["metadata"]["resourceVersion"]
            break


async def test_events_have_two_faces(client: Client) -> None:
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Tested", "message": "it was", "type": "Normal", "source": {"component": "me"},
    }  # fmt: skip
    await client.create(EVENTS, event, "default")
    seen = await client.get(NEW_EVENTS, ObjectKey("default", "e"))
    assert (seen["apiVersion"], seen["note"]) == ("events.k8s.io/v1", "it was")
    assert seen["regarding"]["name"] == "p"
    listed = await client.list(
        NEW_EVENTS, "default", ListOptions(field_selector="regarding.name=p")
    )
    assert len(listed.items) == 1
    await client.patch(NEW_EVENTS, ObjectKey("default", "e"), {"note": "changed"})
    assert (await client.get(EVENTS, ObjectKey("default", "e")))["message"] == "changed"


async def test_readers_share_one_view(server: RunningServer) -> None:
    await server.local.create(PODS, pod("a"), "default")
    first = (await server.local.list(PODS, "default")).items[0]
    second = (await server.local.list(PODS, "default")).items[0]
    assert first is second


async def test_documents_come_packed_to_who_asks_for_it(server: RunningServer) -> None:
    await server.local.create(MAPS, config_map("a"), "default")
    packing = ListOptions(packed=True, field_selector="metadata.name=a")
    (packed,) = (await server.local.list(MAPS, "default", packing)).items
    assert isinstance(packed, Packed)
    assert (packed.key, packed.read()) == (KEY, await server.local.get(MAPS, KEY))
    event = await anext(server.local.watch(MAPS, "default", packing))
    assert isinstance(event.object, Packed)
    assert event.object.read() is packed.read()
    views = await server.local.list(NAMESPACES, "", ListOptions(packed=True))
    assert all(isinstance(item, Namespace) for item in views.items)
    plain = await server.rest.list(MAPS, "default", packing)
    assert [item["data"] for item in plain.items] == [{"k": "v"}]


async def test_an_informer_of_documents_follows_its_own_server(server: RunningServer) -> None:
    informer = Informer(server.local, MAPS, SystemClock(), namespace="default")
    heard: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()
    informer.on_change(
        lambda old, new: heard.put_nowait((old and old["data"], new and new["data"]))
    )
    owner = TaskOwner()
    owner.spawn(informer.run(), "informer")
    try:
        await informer.wait_synced()
        while not heard.empty():  # what every namespace has
            heard.get_nowait()
        await server.local.create(MAPS, config_map("a"), "default")
        assert await heard.get() == (None, {"k": "v"})
        await server.rest.patch(MAPS, KEY, {"data": {"k": "w"}})
        assert await heard.get() == ({"k": "v"}, {"k": "w"})
        assert informer.get(KEY) == await server.local.get(MAPS, KEY)
        await server.local.delete(MAPS, KEY)
        assert await heard.get() == ({"k": "w"}, None)
        assert informer.get(KEY) is None
    finally:
        await owner.close()


async def test_a_local_client_has_its_users_rights(server: RunningServer) -> None:
    bob = server.api.client(UserInfo("bob"))
    with pytest.raises(Forbidden, match='User "bob" cannot list resource "configmaps"'):
        await bob.list(MAPS, "default")
    with pytest.raises(Forbidden):
        await bob.create(MAPS, config_map("a"), "default")


async def test_a_given_document_is_not_kept(server: RunningServer) -> None:
    document = config_map("a")
    await server.local.create(MAPS, document, "default")
    document["data"]["k"] = "changed later"
    assert (await server.local.get(MAPS, KEY))["data"] == {"k": "v"}
    assert "uid" not in document["metadata"]


async def test_a_local_watch_that_is_too_old() -> None:
    async with running_server(config=ServerConfig(watch_ring_events_max=2)) as server:
        first = await server.local.create(MAPS, config_map("a"), "default")
        for name in "bcde":
            await server.local.create(MAPS, config_map(name), "default")
        await server.api.cache.fresh()
        options = ListOptions(resource_version=first["metadata"]["resourceVersion"])
        with pytest.raises(Expired, match="too old resource version"):
            await anext(server.local.watch(MAPS, "default", options))


async def test_mirrors_are_served_and_not_judged(server: RunningServer) -> None:
    kind = server.api.scheme.by_plural("", "v1", "pods")
    assert kind is not None
    image = {
        "metadata": {"name": "p.alpha", "namespace": "far-away", "uid": "u", "labels": {"ubernetes.io/cluster": "alpha"}},
        "spec": {"nodeName": "n.alpha", "containers": [{"name": "c"}]},
        "status": {"phase": "Running"},
    }  # fmt: skip
    await server.api.mirror.put(kind, image)
    await server.api.mirror.put(kind, image)
    listed = await server.rest.list(PODS, "far-away")
    assert [(p.metadata.name, p.status.phase) for p in listed.items] == [("p.alpha", "Running")]
    before = listed.items[0].metadata.resource_version
    await server.api.mirror.put(kind, {**image, "status": {"phase": "Failed"}})
    seen = await server.rest.get(PODS, ObjectKey("far-away", "p.alpha"))
    assert (seen.status.phase, seen.metadata.uid) == ("Failed", "u")
    assert int(seen.metadata.resource_version) > int(before)
    await server.api.mirror.remove(kind, ObjectKey("far-away", "p.alpha"))
    await server.api.mirror.remove(kind, ObjectKey("far-away", "p.alpha"))
    with pytest.raises(NotFound):
        await server.rest.get(PODS, ObjectKey("far-away", "p.alpha"))


async def test_extensions() -> None:
    """Interceptors answer or pass, connects answer or pass, raw routes get the user, reviews are answered."""
    heard: list[tuple[str, str, str]] = []

    async def delete_pod(asked: Intercepted) -> tuple[int, Document] | None:
        heard.append((asked.verb, asked.name, asked.user.name))
        if not asked.name.endswith(".alpha"):
            return None
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}

    async def log(
        _request: web.BaseRequest, info: RequestInfo, _user: UserInfo
    ) -> web.StreamResponse | None:
        return web.Response(text="far") if info.name.endswith(".alpha") else None

    async def link(_request: web.BaseRequest, user: UserInfo) -> web.StreamResponse:
        return web.Response(text=user.name)

    async def review(document: Document, call: Call) -> Document:
        return {**document, "status": {"asked": call.user.name}}

    extensions = Extensions(
        connects={("pods", "log"): log},
        interceptors={("delete", "", "pods"): delete_pod},
        raw_routes={"/link": link},
        reviews={("authorization.k8s.io", "selfsubjectaccessreviews"): review},
    )
    async with running_server(extensions=extensions) as server:
        kind = server.api.scheme.by_plural("", "v1", "pods")
        assert kind is not None
        mirror = {
            "metadata": {"name": "p.alpha", "namespace": "default"},
            "spec": {"containers": []},
        }
        await server.api.mirror.put(kind, mirror)
        await server.rest.delete(PODS, ObjectKey("default", "p.alpha"))
        await server.local.delete(PODS, ObjectKey("default", "p.alpha"))
        assert heard == [
            ("delete", "p.alpha", "kubernetes-admin"), ("delete", "p.alpha", "system:apiserver"),
        ]  # fmt: skip
        await server.rest.get(PODS, ObjectKey("default", "p.alpha"))
        with pytest.raises(NotFound):
            await server.rest.delete(PODS, ObjectKey("default", "near"))
        assert (
            await server.rest.request("GET", "/api/v1/namespaces/default/pods/p.alpha/log")
            == b"far"
        )
        with pytest.raises(NotFound):
            await server.rest.request("GET", "/api/v1/namespaces/default/pods/near/log")
        assert await server.rest.request("GET", "/link") == b"kubernetes-admin"
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = json.loads(await server.rest.request("POST", path, body=b"{}"))
        assert answer["status"] == {"asked": "kubernetes-admin"}
