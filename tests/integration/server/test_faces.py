"""One kind under two versions, through a real server: what is written as one is read, listed and watched as the other."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from tests.support.apiserver import RunningServer, running_server

from machinery.api.fleet.multicluster import SERVICE_EXPORTS
from machinery.api.fleet.multicluster_kinds import MULTICLUSTER
from machinery.api.kinds import BUILTIN
from machinery.client.interface import Client, PatchType, dynamic
from machinery.meta.errors import AlreadyExists, BadRequest, Conflict, Invalid, NotFound
from machinery.meta.resource import Document, ObjectKey

pytestmark = pytest.mark.integration
GROUP = "multicluster.x-k8s.io"
NEW = dynamic(GROUP, "v1beta1", "serviceexports", "ServiceExport", True)
OLD = dynamic(GROUP, "v1alpha1", "serviceexports", "ServiceExport", True)
FACES = [NEW, OLD]
WEB = ObjectKey("default", "web")
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(kinds=(*BUILTIN, *MULTICLUSTER)) as running:
        yield running


def clients(server: RunningServer) -> dict[str, Client]:
    return {"http": server.rest, "local": server.local}


def export(version: str, labels: dict[str, str] | None = None) -> Document:
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": "ServiceExport",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"exportedLabels": labels or {"app": "web"}},
    }


def version(document: Document) -> str:
    found: str = document["apiVersion"]
    return found.removeprefix(f"{GROUP}/")


async def ask(
    server: RunningServer, path: str, accept: str = "application/json", method: str = "GET"
) -> Any:
    """The answer as it travels."""
    connector = aiohttp.TCPConnector(ssl=server.tls())
    async with aiohttp.ClientSession(connector=connector) as session:
        url = server.api.url + path
        async with session.request(method, url, headers={"Accept": accept}) as answer:
            return orjson.loads(await answer.read())


@pytest.mark.parametrize("way", ["http", "local"])
@pytest.mark.parametrize("written", FACES, ids=["v1beta1", "v1alpha1"])
async def test_every_verb_by_either_version(server: RunningServer, way: str, written: Any) -> None:
    client = clients(server)[way]
    made = await client.create(written, export(written.version), "default")
    assert version(made) == written.version
    with pytest.raises(AlreadyExists):
        await client.create(OLD, export("v1alpha1"), "default")
    both = {face.version: await client.get(face, WEB) for face in FACES}
    assert {v: version(d) for v, d in both.items()} == {
        "v1beta1": "v1beta1",
        "v1alpha1": "v1alpha1",
    }
    assert both["v1beta1"] | {"apiVersion": ""} == both["v1alpha1"] | {"apiVersion": ""}
    for face in FACES:
        listed = await client.list(face, "default")
        assert [version(d) for d in listed.items] == [face.version]

    held = both[written.version]
    changed = await client.update(written, held | {"spec": {"exportedLabels": {"app": "other"}}})
    assert version(changed) == written.version
    assert changed["metadata"]["generation"] == 2
    with pytest.raises(Conflict):
        await client.update(written, held | {"spec": {"exportedLabels": {"app": "late"}}})
    merged = await client.patch(written, WEB, {"spec": {"exportedLabels": {"tier": "a"}}})
    assert merged["spec"]["exportedLabels"] == {"app": "other", "tier": "a"}
    ops = [
        {"op": "test", "path": "/apiVersion", "value": written.api_version},
        {"op": "remove", "path": "/spec/exportedLabels/tier"},
    ]
    assert version(await client.patch(written, WEB, ops, PatchType.JSON)) == written.version
    same = await client.patch(written, WEB, {"spec": {"exportedLabels": {"app": "other"}}})
    assert same["metadata"]["resourceVersion"] == (await client.get(NEW, WEB))["metadata"]["resourceVersion"]  # fmt: skip
    status = {"status": {"conditions": [{"type": "Valid", "status": "True", "reason": "Valid"}]}}
    told = await client.patch(written, WEB, status, subresource="status")
    assert version(told) == written.version
    told = await client.update(written, told | {"status": {"conditions": []}}, subresource="status")
    assert (version(told), told["status"]) == (written.version, {"conditions": []})
    await client.delete(written, WEB)
    for face in FACES:
        with pytest.raises(NotFound):
            await client.get(face, WEB)


@pytest.mark.parametrize("way", ["http", "local"])
async def test_apply_by_either_version_is_one_ownership(server: RunningServer, way: str) -> None:
    client = clients(server)[way]
    first = await client.patch(OLD, WEB, export("v1alpha1"), PatchType.APPLY, force=True)
    assert version(first) == "v1alpha1"
    again = await client.patch(NEW, WEB, export("v1beta1", {"x": "y"}), PatchType.APPLY, force=True)
    assert (version(again), again["spec"]["exportedLabels"]) == ("v1beta1", {"x": "y"})
    (entry,) = again["metadata"]["managedFields"]
    assert (entry["operation"], entry["apiVersion"]) == ("Apply", f"{GROUP}/v1beta1")
    with pytest.raises(BadRequest, match="invalid object type"):
        await client.patch(OLD, WEB, export("v1beta1"), PatchType.APPLY, force=True)


@pytest.mark.parametrize("way", ["http", "local"])
async def test_bodies_are_judged_the_same(server: RunningServer, way: str) -> None:
    client = clients(server)[way]
    for face in FACES:
        with pytest.raises(Invalid, match=r"spec\.exportedLabels"):
            await client.create(face, export(face.version, {"a b": "c"}), "default")
    if way == "http":
        with pytest.raises(BadRequest, match="does not match the expected API version"):
            await client.create(OLD, export("v1beta1"), "default")


@pytest.mark.parametrize("way", ["http", "local"])
async def test_a_watch_speaks_the_version_it_was_asked_in(server: RunningServer, way: str) -> None:
    client = clients(server)[way]

    async def first_events(face: Any, count: int) -> list[tuple[str, str, str]]:
        seen = []
        async for event in client.watch(face, "default"):
            document = event.object
            seen.append((event.type.value, version(document), document["metadata"]["name"]))
            if len(seen) == count:
                break
        return seen

    await client.create(OLD, export("v1alpha1"), "default")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        watches = {f.version: group.create_task(first_events(f, 3)) for f in FACES}
        while server.api.watches.count() < 2:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
        await client.patch(NEW, WEB, {"spec": {"exportedLabels": {"a": "b"}}})
        await client.delete(OLD, WEB)
    for name, watch in watches.items():
        assert watch.result() == [(kind, name, "web") for kind in ("ADDED", "MODIFIED", "DELETED")]


async def test_tables_and_metadata(server: RunningServer) -> None:
    await server.rest.create(NEW, export("v1beta1"), "default")
    for face in FACES:
        path = f"/apis/{GROUP}/{face.version}/namespaces/default/serviceexports"
        table = await ask(server, path, TABLE)
        assert [c["name"] for c in table["columnDefinitions"]][:3] == ["Name", "Valid", "Conflict"]
        assert [row["cells"][0] for row in table["rows"]] == ["web"]
        whole = await ask(server, path + "?includeObject=Object", TABLE)
        assert version(whole["rows"][0]["object"]) == face.version
        assert len((await ask(server, path, PARTIAL))["items"]) == 1
        listed = await ask(server, path)
        assert (version(listed), version(listed["items"][0])) == (face.version, face.version)


async def test_delete_answers_in_the_version_it_was_asked_in(server: RunningServer) -> None:
    held = export("v1alpha1")
    held["metadata"]["finalizers"] = ["example.org/hold"]
    await server.rest.create(OLD, held, "default")
    path = f"/apis/{GROUP}/v1alpha1/namespaces/default/serviceexports"
    going = await ask(server, path + "/web", method="DELETE")
    assert version(going) == "v1alpha1"
    assert going["metadata"]["deletionTimestamp"]
    await server.rest.patch(OLD, WEB, {"metadata": {"finalizers": None}})
    await server.rest.create(OLD, export("v1alpha1"), "default")
    listed = await ask(server, path, method="DELETE")
    assert [version(d) for d in listed["items"]] == ["v1alpha1"]
    assert (await server.rest.list(NEW, "default")).items == []


async def test_discovery_prefers_the_stored_version(server: RunningServer) -> None:
    groups = (await ask(server, "/apis"))["groups"]
    (group,) = (g for g in groups if g["name"] == GROUP)
    assert group["preferredVersion"]["version"] == "v1beta1"
    assert [v["version"] for v in group["versions"]] == ["v1beta1", "v1alpha1"]
    aggregated = (await ask(server, "/apis", DISCOVERY))["items"]
    (found,) = (g for g in aggregated if g["metadata"]["name"] == GROUP)
    shown = {v["version"]: [r["resource"] for r in v["resources"]] for v in found["versions"]}
    assert shown == dict.fromkeys(("v1beta1", "v1alpha1"), ["serviceexports", "serviceimports"])
    hashes = set()
    for face in FACES:
        resources = (await ask(server, f"/apis/{GROUP}/{face.version}"))["resources"]
        assert {r["name"] for r in resources} >= {"serviceexports", "serviceexports/status"}
        hashes |= {r["storageVersionHash"] for r in resources if r["name"] == "serviceexports"}
    assert len(hashes) == 1


async def test_openapi_describes_both(server: RunningServer) -> None:
    for face in FACES:
        document = await ask(server, f"/openapi/v3/apis/{GROUP}/{face.version}")
        schema = document["components"]["schemas"][
            f"io.ubernetes.{GROUP}.{face.version}.ServiceExport"
        ]
        (gvk,) = schema["x-kubernetes-group-version-kind"]
        assert gvk["version"] == face.version
        assert f"/apis/{GROUP}/{face.version}/namespaces/{{namespace}}/serviceexports" in document["paths"]  # fmt: skip


async def test_typed_views_read_either(server: RunningServer) -> None:
    await server.local.create(OLD, export("v1alpha1"), "default")
    typed = await server.local.get(SERVICE_EXPORTS, WEB)
    assert (typed.api_version, typed.spec.exported_labels) == (f"{GROUP}/v1beta1", {"app": "web"})


async def test_new_events_may_be_applied(server: RunningServer) -> None:
    """The first face there was: what is applied as events.k8s.io is core's Event too."""
    events = dynamic("events.k8s.io", "v1", "events", "Event", True)
    core = dynamic("", "v1", "events", "Event", True)
    document = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Told", "action": "Tell",
        "note": "said", "reportingController": "c", "reportingInstance": "i",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    }  # fmt: skip
    key = ObjectKey("default", "e")
    applied = await server.rest.patch(events, key, document, PatchType.APPLY, force=True)
    assert applied["note"] == "said"
    assert (await server.rest.get(core, key))["message"] == "said"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
async def test_kubectl_works_with_both(server: RunningServer, tmp_path: Path) -> None:
    path = server.write_kubeconfig(tmp_path)

    async def kubectl(*words: str, stdin: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", path, "--cache-dir", str(tmp_path / "cache"), *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 40)
        assert process.returncode == 0, out.decode()
        return out.decode()

    for face in ("v1alpha1", "v1beta1"):
        assert "serviceexport" in await kubectl("apply", "-f", "-", stdin=orjson.dumps(export(face)).decode())  # fmt: skip
    shown = "jsonpath={.items[*].apiVersion}"
    assert await kubectl("get", "svcex", "-o", shown) == f"{GROUP}/v1beta1"
    old = await kubectl("get", f"serviceexports.v1alpha1.{GROUP}", "-o", shown)
    assert old == f"{GROUP}/v1alpha1"
    assert "exportedLabels" in await kubectl(
        "explain", "serviceexport.spec", "--api-version", f"{GROUP}/v1alpha1"
    )
    assert "deleted" in await kubectl("delete", f"serviceexports.v1alpha1.{GROUP}", "web")
