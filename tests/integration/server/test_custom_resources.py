"""Kinds that users define: served on every replica, by every verb, until their definition goes."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.postgres import Postgres, postgres
from tests.support.protowriter import double, envelope, number, part, text
from tests.support.widgets import DEFINITIONS, NAME, WIDGETS, define, definition, version, widget

from machinery.api.core import NAMESPACES
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.client.dynamic_kinds import is_established
from machinery.client.interface import DeleteOptions, ListOptions, PatchType, dynamic
from machinery.controller.manager import Manager
from machinery.controllers import garbagecollector, namespace
from machinery.controllers.garbagecollector import controller as garbage
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import (
    Conflict,
    Invalid,
    MethodNotAllowed,
    NotFound,
    UnsupportedMediaType,
)
from machinery.meta.resource import ObjectKey
from machinery.server.app import ApiServer
from machinery.server.config import ServerConfig
from machinery.store.memory import MemoryStore
from machinery.store.sql import open_store

__all__ = ["postgres"]
pytestmark = pytest.mark.integration
KEY = ObjectKey("default", "a")
DEFINITION = ObjectKey("", NAME)
MAPS = dynamic("", "v1", "configmaps", "ConfigMap", namespaced=True)
assert garbagecollector.__doc__


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


async def test_a_definition_in_protobuf(server: RunningServer) -> None:
    """As a typed Go client creates it: the kind is served by its schema, with its default and its minimum."""
    size = text(1, "size"), part(2, text(5, "integer"), double(11, 1.0), part(8, text(1, "3")))
    spec = text(1, "spec"), part(2, text(5, "object"), part(29, *size))
    schema = part(4, part(1, text(5, "object"), part(29, *spec)))
    kind = text(1, "example.com"), part(3, text(1, "widgets"), text(4, "Widget"))
    versions = part(7, text(1, "v1"), number(2, 1), number(3, 1), schema)
    await server.rest.request(
        "POST",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        body=envelope(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            part(1, text(1, NAME)),
            part(2, *kind, text(4, "Namespaced"), versions),
        ),
        content_type="application/vnd.kubernetes.protobuf",
    )
    made = widget()
    del made["spec"]["size"]
    assert (await server.rest.create(WIDGETS, made))["spec"] == {"size": 3}
    with pytest.raises(Invalid, match="should be greater than or equal to 1"):
        await server.rest.create(WIDGETS, widget("b", size=0))


async def body(server: RunningServer, path: str, **options: Any) -> Any:
    return json.loads(await server.rest.request("GET", path, **options))


async def until(check: Any, seconds: float = 5.0) -> Any:
    """The first true answer of an async check."""
    async with asyncio.timeout(seconds):
        while not (found := await check()):  # noqa: ASYNC110 - nobody tells when a server is done
            await asyncio.sleep(0.01)
    return found


async def absent(server: RunningServer, resource: Any, key: ObjectKey) -> bool:
    try:
        await server.rest.get(resource, key)
    except NotFound:
        return True
    return False


# --------------------------------------------------------------------------------------------------------- definitions
async def test_a_definition_is_established_and_served_when_its_create_is_answered(
    server: RunningServer,
) -> None:
    await define(server.rest)
    found = await server.rest.get(DEFINITIONS, DEFINITION)
    assert is_established(found)
    assert found["status"]["acceptedNames"]["listKind"] == "WidgetList"
    assert found["status"]["storedVersions"] == ["v1"]
    listed = await body(server, "/apis/example.com/v1")
    assert [row["name"] for row in listed["resources"]] == [
        "widgets", "widgets/status", "widgets/scale",
    ]  # fmt: skip
    openapi = await body(server, "/openapi/v3/apis/example.com/v1")
    assert "com.example.v1.Widget" in openapi["components"]["schemas"]
    made = await server.rest.create(WIDGETS, widget())
    assert made["spec"] == {"size": 3, "mode": "A", "replicas": 1}


async def test_a_name_in_use_is_not_given(server: RunningServer) -> None:
    await define(server.rest)
    await define(server.rest, definition("wodgets", "Widget"))
    found = await server.rest.get(DEFINITIONS, ObjectKey("", "wodgets.example.com"))
    conditions = {c["type"]: (c["status"], c["reason"]) for c in found["status"]["conditions"]}
    assert conditions["NamesAccepted"] == ("False", "ListKindConflict")
    assert conditions["Established"] == ("False", "NotAccepted")
    with pytest.raises(NotFound):
        await body(server, "/apis/example.com/v1/wodgets")


async def test_a_definition_takes_its_objects_along(server: RunningServer) -> None:
    await define(server.rest)
    held = {**widget("held"), "metadata": {**widget("held")["metadata"], "finalizers": ["x.y/z"]}}
    for one in (widget(), widget("b"), held):
        await server.rest.create(WIDGETS, one)
    await server.rest.delete(DEFINITIONS, DEFINITION)
    found = await server.rest.get(DEFINITIONS, DEFINITION)
    assert found["metadata"]["deletionTimestamp"]
    assert [w["metadata"]["name"] for w in (await server.rest.list(WIDGETS)).items] == ["held"]
    with pytest.raises(MethodNotAllowed, match="create not allowed while custom resource"):
        await server.rest.create(WIDGETS, widget("late"))
    await server.rest.patch(
        WIDGETS, ObjectKey("default", "held"), {"metadata": {"finalizers": None}}
    )
    await until(lambda: absent(server, DEFINITIONS, DEFINITION))
    with pytest.raises(NotFound):
        await server.rest.list(WIDGETS)
    assert "example.com" not in {group["name"] for group in (await body(server, "/apis"))["groups"]}
    await define(server.rest)
    assert not (await server.rest.list(WIDGETS)).items


async def test_a_definition_without_objects_is_gone_with_the_answer(server: RunningServer) -> None:
    await define(server.rest)
    await server.rest.delete(DEFINITIONS, DEFINITION)
    with pytest.raises(NotFound):
        await server.rest.get(DEFINITIONS, DEFINITION)


# ------------------------------------------------------------------------------------------------------------ replicas
async def test_other_replicas_serve_it_and_a_restart_finds_it() -> None:
    store = MemoryStore()
    async with running_server(store=store) as first:
        second = ApiServer(first.api.scheme, store, first.api.config, SystemClock(), SystemIds())
        await second.start()
        try:
            await define(first.rest)
            await first.rest.create(WIDGETS, widget())
            client = second.client()

            async def seen() -> bool:
                return second.scheme.by_plural("example.com", "v1", "widgets") is not None

            await until(seen, 1.0)
            assert (await client.get(WIDGETS, KEY))["spec"]["size"] == 3
            third = ApiServer(first.api.scheme, store, first.api.config, SystemClock(), SystemIds())
            await third.start()
            assert (await third.client().get(WIDGETS, KEY))["spec"]["size"] == 3
            await third.stop()
            await first.rest.delete(DEFINITIONS, DEFINITION)

            async def gone() -> bool:
                return second.scheme.by_plural("example.com", "v1", "widgets") is None

            await until(gone, 2.0)
        finally:
            await second.stop()


@contextlib.asynccontextmanager
async def replica(url: str, like: ApiServer | None = None) -> AsyncIterator[ApiServer]:
    """A server with a store of its own over a shared database; a second one has the first one's scheme."""
    store = open_store(url)
    await store.start()
    scheme = Scheme(BUILTIN) if like is None else like.scheme
    server = ApiServer(scheme, store, ServerConfig(), SystemClock(), SystemIds())
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        await store.close()


@pytest.mark.slow
async def test_two_servers_on_one_postgresql(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with replica(url) as first, replica(url, first) as second:
        one, two = first.client(), second.client()
        await one.create(DEFINITIONS, definition())

        async def known() -> bool:
            return all(s.scheme.by_plural("example.com", "v1", "widgets") for s in (first, second))

        await until(known, 1.0)
        await two.create(WIDGETS, widget())
        assert (await one.get(WIDGETS, KEY))["spec"]["mode"] == "A"
        rivals = [definition(f"w{n}s", "Rival") for n in (1, 2)]
        await asyncio.gather(one.create(DEFINITIONS, rivals[0]), two.create(DEFINITIONS, rivals[1]))

        async def judged() -> bool:
            found = await one.list(DEFINITIONS)
            return all((c.get("status") or {}).get("conditions") for c in found.items)

        await until(judged, 2.0)
        await two.delete(DEFINITIONS, DEFINITION)

        async def gone() -> bool:
            return not any(
                s.scheme.by_plural("example.com", "v1", "widgets") for s in (first, second)
            )

        await until(gone, 3.0)


# ------------------------------------------------------------------------------------------------------------- objects
async def test_every_verb(server: RunningServer) -> None:
    await define(server.rest)
    events: list[tuple[str, str]] = []

    async def follow() -> None:
        async for event in server.rest.watch(WIDGETS, "default"):
            events.append((event.type.value, event.object["metadata"]["name"]))

    watching = asyncio.create_task(follow())
    await asyncio.sleep(0.05)
    await server.rest.create(WIDGETS, widget())
    patched = await server.rest.patch(
        WIDGETS, KEY, {"spec": {"size": 4}, "status": {"replicas": 9}}
    )
    assert (patched["metadata"]["generation"], "status" in patched) == (2, False)
    status = await server.rest.patch(
        WIDGETS, KEY, {"spec": {"size": 9}, "status": {"replicas": 2}}, subresource="status"
    )
    assert (status["spec"]["size"], status["status"]) == (4, {"replicas": 2})
    assert status["metadata"]["generation"] == 2
    put = await server.rest.update(WIDGETS, {**status, "spec": {"size": 5}})
    assert put["spec"] == {"size": 5, "mode": "A", "replicas": 1}
    with pytest.raises(Invalid):
        await server.rest.patch(
            WIDGETS, KEY, [{"op": "remove", "path": "/spec/size"}], PatchType.JSON
        )
    with pytest.raises(UnsupportedMediaType, match="accepted media types include"):
        await server.rest.patch(WIDGETS, KEY, {"spec": {"size": 4}}, PatchType.STRATEGIC)
    applied = await server.rest.patch(
        WIDGETS, KEY, {**widget(size=7), "spec": {"size": 7}}, PatchType.APPLY, force=True
    )
    assert applied["spec"]["size"] == 7
    scale = dynamic("example.com", "v1", "widgets", "Scale", namespaced=True)
    scaled = await server.rest.patch(scale, KEY, {"spec": {"replicas": 6}}, subresource="scale")
    assert (scaled["spec"], scaled["status"]) == ({"replicas": 6}, {"replicas": 2})
    by_mode = ListOptions(field_selector="spec.mode=B")
    await server.rest.create(WIDGETS, widget("b", mode="B"))
    listed = await server.rest.list(WIDGETS, "default", by_mode)
    assert [one["metadata"]["name"] for one in listed.items] == ["b"]
    await server.rest.delete(WIDGETS, KEY)
    await server.rest.request("DELETE", "/apis/example.com/v1/namespaces/default/widgets")

    async def all_told() -> bool:
        return events[-1:] == [("DELETED", "b")]

    await until(all_told)
    assert events[0] == ("ADDED", "a")
    assert ("DELETED", "a") in events
    watching.cancel()


async def test_versions_show_the_same_object_by_their_own_schemas(server: RunningServer) -> None:
    def schema(own: str) -> Any:
        fields = {"a": {"type": "string"}, own: {"type": "string", "default": f"d{own}"}}
        spec = {"type": "object", "properties": fields}
        return {"type": "object", "properties": {"spec": spec}}

    old = version("v1", schema("v1"), storage=False, deprecated=True)
    await define(server.rest, definition("widgets", "Widget", old, version("v2", schema("v2"))))
    group = await body(server, "/apis/example.com")
    assert [row["version"] for row in group["versions"]] == ["v2", "v1"]
    raw = {**widget(), "spec": {"a": "1"}}
    async with aiohttp.ClientSession() as session:
        path = "/apis/example.com/v1/namespaces/default/widgets"
        answer = await session.post(server.api.url + path, json=raw, ssl=server.tls())
    warnings = " ".join(answer.headers.getall("Warning", ()))
    assert "example.com/v1 Widget is deprecated; use example.com/v2 Widget" in warnings
    newer = dynamic("example.com", "v2", "widgets", "Widget", namespaced=True)
    assert (await server.rest.get(newer, KEY))["spec"] == {"a": "1", "v2": "dv2"}
    assert (await server.rest.get(WIDGETS, KEY))["spec"] == {"a": "1"}
    hidden = {"spec": {"versions": [{**old, "served": False}, version("v2", schema("v2"))]}}
    await server.rest.patch(DEFINITIONS, DEFINITION, hidden)
    with pytest.raises(NotFound):
        await server.rest.get(WIDGETS, KEY)
    assert (await server.rest.get(newer, KEY))["apiVersion"] == "example.com/v2"


async def test_managers_of_one_version_are_known_to_the_other(server: RunningServer) -> None:
    versions = (version("v1", storage=False), version("v2"))
    await define(server.rest, definition("widgets", "Widget", *versions))
    newer = dynamic("example.com", "v2", "widgets", "Widget", namespaced=True)
    await server.rest.patch(WIDGETS, KEY, widget(size=3), PatchType.APPLY)
    taken = {**widget(size=4), "apiVersion": "example.com/v2"}
    other = server.api.client(manager="other")
    with pytest.raises(Conflict, match="conflict with"):
        await other.patch(newer, KEY, taken, PatchType.APPLY)
    forced = await other.patch(newer, KEY, taken, PatchType.APPLY, force=True)
    owners = {
        row["manager"]: row["apiVersion"]
        for row in forced["metadata"]["managedFields"]
        if "f:size" in row["fieldsV1"].get("f:spec", {})
    }
    assert owners == {"other": "example.com/v2"}


async def test_a_changed_schema_judges_what_comes_and_prunes_what_is_there(
    server: RunningServer,
) -> None:
    await define(server.rest)
    await server.rest.create(WIDGETS, widget(mode="B"))
    stricter = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    }
    await server.rest.patch(
        DEFINITIONS, DEFINITION, {"spec": {"versions": [version("v1", stricter)]}}
    )
    assert (await server.rest.get(WIDGETS, KEY))["spec"] == {"size": 3}
    with pytest.raises(Invalid, match="must be of type integer"):
        await server.rest.patch(WIDGETS, KEY, {"spec": {"size": "x"}})


# --------------------------------------------------------------------------------------------------------- controllers
async def controllers(server: RunningServer) -> Manager:
    clock, ids = SystemClock(), SystemIds()
    manager = Manager(server.local, clock, ids, component="test")
    garbage.setup(manager, server.api.scheme.kinds)
    namespace.setup(manager, server.api.scheme.kinds, grace_s=0.0)
    await manager.start()
    return manager


async def test_custom_objects_own_and_are_owned(server: RunningServer) -> None:
    manager = await controllers(server)
    try:
        await define(server.rest)
        owner = await server.rest.create(WIDGETS, widget("owner"))
        reference = {
            "apiVersion": "example.com/v1", "kind": "Widget", "name": "owner",
            "uid": owner["metadata"]["uid"],
        }  # fmt: skip
        meta = {"name": "owned", "ownerReferences": [reference]}
        owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
        await server.rest.create(MAPS, owned, "default")
        child = widget("child")
        child["metadata"]["ownerReferences"] = [reference]
        await server.rest.create(WIDGETS, child)
        await server.rest.delete(
            WIDGETS, ObjectKey("default", "owner"), DeleteOptions(propagation_policy="Background")
        )
        await until(lambda: absent(server, MAPS, ObjectKey("default", "owned")))
        await until(lambda: absent(server, WIDGETS, ObjectKey("default", "child")))
        await server.rest.delete(DEFINITIONS, DEFINITION)
        await define(server.rest)
        assert not (await server.rest.list(WIDGETS)).items
    finally:
        await manager.stop()


async def test_a_namespace_takes_custom_objects_along(server: RunningServer) -> None:
    manager = await controllers(server)
    try:
        await define(server.rest)
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await server.rest.create(NAMESPACES, space)
        await server.rest.create(WIDGETS, widget("a", "demo"))
        await server.rest.create(WIDGETS, widget("kept"))
        await server.rest.delete(NAMESPACES, ObjectKey("", "demo"))
        await until(lambda: absent(server, NAMESPACES, ObjectKey("", "demo")), 10.0)
        left = [one["metadata"]["name"] for one in (await server.rest.list(WIDGETS)).items]
        assert left == ["kept"]
    finally:
        await manager.stop()


# ------------------------------------------------------------------------------------------------------------- kubectl
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
async def test_kubectl(server: RunningServer, tmp_path: Path) -> None:
    config = server.write_kubeconfig(tmp_path)

    async def kubectl(*words: str, stdin: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", config, "--cache-dir", str(tmp_path / "cache"), *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 40)
        assert process.returncode == 0, out.decode()
        return out.decode()

    described = definition(shortNames=["wd"], categories=["all"])
    await kubectl("apply", "-f", "-", stdin=json.dumps(described))
    await kubectl("wait", "--for=condition=established", f"crd/{NAME}", "--timeout=5s")
    await kubectl("apply", "-f", "-", stdin=json.dumps(widget()))
    assert "configured" in await kubectl("apply", "-f", "-", stdin=json.dumps(widget(size=4)))
    shown = (await kubectl("get", "wd")).splitlines()
    assert shown[0].split() == ["NAME", "SIZE"]
    assert shown[1].split() == ["a", "4"]
    assert "widget.example.com/a" in await kubectl("get", "all")
    assert "what is wanted" in await kubectl("explain", "widgets.spec")
    await kubectl("scale", "widget/a", "--replicas=5")
    await kubectl("delete", "crd", NAME)
    assert NAME not in await kubectl("get", "crd")
