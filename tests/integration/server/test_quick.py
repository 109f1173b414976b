"""Requests without a task, GETs, creates and patches: the same words, the same rights and the same order as the usual way."""

import asyncio
import json
import re
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server

from machinery.store.interface import (
    Durability,
    KeyExists,
    KeyNotFound,
    RevisionMismatch,
    Row,
    StoreUnavailable,
)
from machinery.store.memory import MemoryStore

pytestmark = pytest.mark.integration
MAP = "/api/v1/namespaces/default/configmaps/one"
MAPS = "/api/v1/namespaces/default/configmaps"
ROW = Row("x", b"{}", 2, 1)
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Wire:
    """A connection that sees every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, Any]]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        size = LENGTH.search(head)
        assert size is not None, head
        return int(head.split()[1]), json.loads(await self.reader.readexactly(int(size[1])))


async def connect(server: RunningServer, user: str, groups: tuple[str, ...] = ()) -> Wire:
    tls = server.tls(server.api.client_pair(user, groups))
    return Wire(*await asyncio.open_connection("127.0.0.1", server.api.port, ssl=tls))


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


async def filled(server: RunningServer) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "one"},
        "data": {"a": "b"},
    }
    await server.rest.request("POST", MAPS, body=json.dumps(body).encode())


def at_once(server: RunningServer) -> int:
    """How many requests were answered at once so far."""
    assert server.api.quick is not None
    return server.api.quick.answered


async def test_the_answer_is_the_usual_one() -> None:
    async with running_server() as server:
        await filled(server)
        wire = await connect(server, "root", ("system:masters",))
        wire.writer.write(get(f"{MAP}?resourceVersion=0"))
        usual = await wire.answer()
        before = at_once(server)
        wire.writer.write(get(MAP))
        assert await wire.answer() == usual
        assert at_once(server) == before + 1
        assert usual[1]["data"] == {"a": "b"}
        wire.writer.close()


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with running_server() as server:
        await filled(server)
        wire = await connect(server, "root", ("system:masters",))
        wire.writer.write(get(MAP))
        await wire.answer()
        before = at_once(server)
        wire.writer.write(get(MAP) + get(MAP) + get(MAPS) + get(MAP) + get(MAP))
        kinds = [(await wire.answer())[1]["kind"] for _ in range(5)]
        assert kinds == ["ConfigMap", "ConfigMap", "ConfigMapList", "ConfigMap", "ConfigMap"]
        assert at_once(server) <= before + 2
        wire.writer.write(get(MAP))
        assert (await wire.answer())[0] == 200
        wire.writer.close()


@pytest.mark.parametrize(
    ("path", "lines", "status"),
    [
        (f"{MAPS}/none", (), 404),
        ("/api/v1/nothings/x", (), 404),
        ("/api/v1/configmaps/one", (), 404),
        ("/api/v1/namespaces/default/nodes/x", (), 404),
        (MAP, ("Accept: application/json;as=Table;v=v1;g=meta.k8s.io",), 200),
        (MAP, ("Accept: image/png",), 406),
        (MAP, ("Authorization: Bearer wrong",), 401),
        (MAP, ("Impersonate-User: nobody",), 403),
        (MAP, ("User-Agent: curl/8",), 200),
        (MAP, ("Connection: close",), 200),
        (f"{MAP}/status", (), 404),
    ],
)
async def test_everything_else_goes_the_usual_way(
    path: str, lines: tuple[str, ...], status: int
) -> None:
    async with running_server() as server:
        await filled(server)
        wire = await connect(server, "root", ("system:masters",))
        wire.writer.write(get(MAP))
        await wire.answer()
        before = at_once(server)
        wire.writer.write(get(path, *lines))
        assert (await wire.answer())[0] == status
        assert at_once(server) == before
        wire.writer.close()


async def test_rights_are_asked_every_time() -> None:
    async with running_server() as server:
        await filled(server)
        wire = await connect(server, "eve")
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "eve"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view",
            },
            "subjects": [
                {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "eve"},
            ],
        }  # fmt: skip
        path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
        statuses = []
        for step in ("", "POST", "DELETE"):
            if step == "POST":
                await server.rest.request("POST", path, body=json.dumps(binding).encode())
            if step == "DELETE":
                await server.rest.request("DELETE", f"{path}/eve")
            wire.writer.write(get(MAP))
            statuses.append((await wire.answer())[0])
        assert statuses == [403, 200, 403]
        wire.writer.close()


# ------------------------------------------------------------------------------------------------------------ creates
PODS = "/api/v1/namespaces/default/pods"
POD: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "web", "image": "a:1"}]},
}  # fmt: skip


def post(path: str, document: dict[str, Any] | bytes, *lines: str) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    if not any(line.startswith("Content-Type") for line in lines):
        head.append("Content-Type: application/json")
    return "\r\n".join([*head, *lines, "", ""]).encode() + body


def named(name: str, **metadata: Any) -> dict[str, Any]:
    return {**POD, "metadata": {"name": name, **metadata}}


async def settled(server: RunningServer) -> Wire:
    """A connection whose first request is over: aiohttp's loop of it sleeps."""
    wire = await connect(server, "root", ("system:masters",))
    wire.writer.write(get("/version"))
    await wire.answer()
    return wire


def begun(server: RunningServer) -> int:
    return server.api.quick_write.begun


class Gated(MemoryStore):
    """A store whose begun writes settle when they are told to, with what they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[asyncio.Future[Row], asyncio.Future[Row]]] = []
        self.closed = False

    def begin_create(
        self, key: str, value: bytes, durability: Durability = Durability.DURABLE
    ) -> asyncio.Future[Row] | None:
        return self._gate(super().begin_create(key, value, durability))

    def begin_update(
        self,
        key: str,
        value: bytes,
        expected_revision: int,
        durability: Durability = Durability.DURABLE,
    ) -> asyncio.Future[Row] | None:
        return self._gate(super().begin_update(key, value, expected_revision, durability))

    def _gate(self, done: asyncio.Future[Row] | None) -> asyncio.Future[Row] | None:
        if done is None or not self.closed:
            return done
        later: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self.held.append((later, done))
        return later

    def release(self, error: Exception | None = None) -> None:
        for later, done in self.held:
            later.set_exception(error) if error else later.set_result(done.result())
        self.held.clear()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0)


def bare(document: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from create to create."""
    own = ("name", "uid", "creationTimestamp", "resourceVersion")
    metadata = {k: v for k, v in document["metadata"].items() if k not in own}
    rows = [{k: v for k, v in r.items() if k != "time"} for r in metadata.pop("managedFields")]
    rows.sort(key=lambda row: row["manager"])  # they come by time
    return {**document, "metadata": {**metadata, "managedFields": rows}}


@pytest.mark.parametrize("query", ["", "?fieldManager=me&fieldValidation=Strict"])
@pytest.mark.parametrize(
    ("path", "document"),
    [
        (PODS, POD),
        (PODS, named("a", labels={"a": "b"})),
        (PODS, named("with.dots")),
        (MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "b"}}),
        ("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}),
    ],
)  # fmt: skip
async def test_a_begun_create_is_answered_as_usual(
    path: str, document: dict[str, Any], query: str
) -> None:
    answers = []
    for usual in (False, True):
        async with running_server() as server:
            wire = await settled(server)
            lines = ("Expect: nothing",) if usual else ()
            wire.writer.write(post(path + query, document, "User-Agent: me/1", *lines))
            status, answer = await wire.answer()
            assert status == 201, answer
            assert begun(server) == (0 if usual else 1)
            live = f"{path}/{answer['metadata']['name']}"
            wire.writer.write(get(live))
            assert await wire.answer() == (200, answer)
            answers.append(bare(answer))
            wire.writer.close()
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("path", "document", "lines", "status"),
    [
        (PODS, named("taken"), (), 409),
        (PODS, {**POD, "spec": {"containers": []}}, (), 422),
        (PODS, {**POD, "kind": "Node"}, (), 400),
        (PODS, b"{", (), 400),
        (PODS, POD, ("Content-Type: text/plain",), 415),
        (PODS, POD, ("Authorization: Bearer wrong",), 401),
        (PODS, POD, ("Impersonate-User: nobody",), 403),
        (PODS, POD, ("Accept: image/png",), 406),
        (f"{PODS}?dryRun=All", POD, (), 201),
        (f"{PODS}?fieldValidation=Nonsense", POD, (), 422),
        (f"{PODS}/name", POD, (), 405),
        ("/api/v1/pods", POD, (), 405),
        ("/api/v1/namespaces/none/pods", POD, (), 404),
    ],
)
async def test_what_is_refused_or_rehearsed_is_not_begun(
    path: str, document: Any, lines: tuple[str, ...], status: int
) -> None:
    async with running_server() as server:
        wire = await settled(server)
        wire.writer.write(post(PODS, named("taken")))
        await wire.answer()
        before = begun(server)
        wire.writer.write(post(path, document, *lines))
        assert (await wire.answer())[0] == status
        assert begun(server) == before
        wire.writer.close()


async def test_a_body_that_comes_later_goes_the_usual_way() -> None:
    async with running_server() as server:
        wire = await settled(server)
        whole = post(PODS, POD)
        wire.writer.write(whole[:-10])
        await until(lambda: any(c._messages for c in connections(server)) or in_progress(server))
        wire.writer.write(whole[-10:])
        assert (await wire.answer())[0] == 201
        assert begun(server) == 0
        wire.writer.close()


def connections(server: RunningServer) -> list[Any]:
    running = server.api._front._server
    assert running is not None
    return list(running.connections)


def in_progress(server: RunningServer) -> bool:
    return any(c._request_in_progress for c in connections(server))


async def test_what_comes_behind_a_begun_create_waits_for_its_answer() -> None:
    store = Gated()
    async with running_server(store=store) as server:
        await filled(server)
        wire = await settled(server)
        store.closed = True
        wire.writer.write(post(PODS, named("first")) + get(MAP) + get(f"{PODS}/first"))
        await until(lambda: store.held and len(connections(server)[-1]._messages) == 2)
        assert begun(server) >= 1
        store.release()
        store.closed = False
        kinds = [(await wire.answer())[1]["kind"] for _ in range(3)]
        assert kinds == ["Pod", "ConfigMap", "Pod"]
        wire.writer.write(post(PODS, POD))
        assert (await wire.answer())[0] == 201
        wire.writer.close()


@pytest.mark.parametrize(
    ("error", "status"), [(StoreUnavailable("full"), 503), (KeyExists("x"), 409)]
)
async def test_a_write_that_fails_is_told(error: Exception, status: int) -> None:
    store = Gated()
    async with running_server(store=store) as server:
        wire = await settled(server)
        store.closed = True
        wire.writer.write(post(PODS, named("first")))
        await until(lambda: store.held)
        store.release(error)
        answer = await wire.answer()
        assert (answer[0], answer[1]["kind"]) == (status, "Status")
        wire.writer.close()


async def test_a_client_that_left_meanwhile_troubles_nobody() -> None:
    store = Gated()
    async with running_server(store=store) as server:
        wire = await settled(server)
        store.closed = True
        wire.writer.write(post(PODS, named("first")))
        await until(lambda: store.held)
        (connection,) = [c for c in connections(server) if c._asleep is not None]
        task = connection._task_handler
        wire.writer.transport.abort()
        await until(lambda: connection.transport is None)
        store.release()
        await until(task.done)


async def test_the_end_of_the_server_waits_for_the_answer() -> None:
    store = Gated()
    async with running_server(store=store) as server:
        wire = await settled(server)
        store.closed = True
        wire.writer.write(post(PODS, named("first")))
        await until(lambda: store.held)
        stopping = asyncio.ensure_future(server.api._front.stop())
        (connection,) = [c for c in connections(server) if c._asleep is not None]
        await until(lambda: connection._handler_waiter is not None)
        store.release()
        assert (await wire.answer())[0] == 201
        await stopping
        wire.writer.close()


# ------------------------------------------------------------------------------------------------------------ patches
JSON, MERGE, STRATEGIC = (
    f"application/{form}+json" for form in ("json-patch", "merge-patch", "strategic-merge-patch")
)
READY: dict[str, Any] = {"status": {
    "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
}}  # fmt: skip


def patch(path: str, document: Any, media: str = MERGE, *lines: str) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = [f"PATCH {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, f"Content-Type: {media}", *lines, "", ""]).encode() + body


@pytest.mark.parametrize("query", ["", "?fieldManager=me&fieldValidation=Strict"])
@pytest.mark.parametrize(
    ("path", "document", "media"),
    [
        (f"{PODS}/web/status", READY, STRATEGIC),
        (f"{PODS}/web/status", READY, MERGE),
        (f"{PODS}/web/status", {"spec": {"hostname": "h"}, **READY}, STRATEGIC),
        (f"{PODS}/web/status", {}, STRATEGIC),
        (f"{PODS}/web", {"metadata": {"labels": {"a": "b"}}}, STRATEGIC),
        (f"{PODS}/web", [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}], JSON),
        (f"{MAPS}/one", {"data": {"a": "c"}}, MERGE),
        (f"{MAPS}/one", {"data": {"a": None, "d": "e"}}, STRATEGIC),
        (f"{MAPS}/one", {"data": {"a": "b"}}, MERGE),
    ],
)
async def test_a_begun_patch_is_answered_as_usual(
    path: str, document: Any, media: str, query: str
) -> None:
    answers = []
    for usual in (False, True):
        async with running_server() as server:
            await filled(server)
            wire = await settled(server)
            wire.writer.write(post(PODS, named("web")))
            await wire.answer()
            before = begun(server)
            lines = ("User-Agent: me/1", *(("Expect: nothing",) if usual else ()))
            wire.writer.write(patch(path + query, document, media, *lines))
            status, answer = await wire.answer()
            assert status == 200, answer
            assert begun(server) == before + (0 if usual else 1)
            wire.writer.write(get(path.removesuffix("/status")))
            assert await wire.answer() == (200, answer)
            answers.append(bare(answer))
            wire.writer.close()
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("path", "document", "media", "lines", "status"),
    [
        (f"{MAPS}/none", {}, MERGE, (), 404),
        (f"{MAPS}/one", b"{", MERGE, (), 400),
        (f"{MAPS}/one", {"data": 1}, MERGE, (), 422),
        (f"{MAPS}/one", {"metadata": {"name": "two"}}, MERGE, (), 400),
        (f"{MAPS}/one", {"metadata": {"namespace": "other"}}, MERGE, (), 400),
        (f"{MAPS}/one", {"metadata": {"resourceVersion": "1"}}, MERGE, (), 409),
        (f"{MAPS}/one", {"metadata": {"uid": "another"}}, MERGE, (), 422),
        (f"{MAPS}/one", {}, "text/plain", (), 415),
        (f"{MAPS}/one", {}, MERGE, ("Impersonate-User: nobody",), 403),
        (f"{MAPS}/one?dryRun=All", {"data": {"a": "c"}}, MERGE, (), 200),
        (f"{MAPS}/one?fieldManager=me", {"data": {"a": "c"}}, "application/apply-patch+yaml", (), 400),
        (f"{MAPS}/one/status", {}, MERGE, (), 404),
        (f"{PODS}/web/log", {}, MERGE, (), 405),
        (f"{PODS}/web", {"spec": {"nodeName": "other"}}, MERGE, (), 422),
        (MAPS, {}, MERGE, (), 405),
    ],
)  # fmt: skip
async def test_a_patch_that_is_refused_or_rehearsed_is_not_begun(
    path: str, document: Any, media: str, lines: tuple[str, ...], status: int
) -> None:
    async with running_server() as server:
        await filled(server)
        wire = await settled(server)
        wire.writer.write(post(PODS, named("web")))
        await wire.answer()
        before = begun(server)
        wire.writer.write(patch(path, document, media, *lines))
        answer = await wire.answer()
        assert answer[0] == status, answer
        assert begun(server) == before
        wire.writer.close()


async def test_a_patch_behind_another_of_its_object_waits_for_it_and_sees_it() -> None:
    store = Gated()
    async with running_server(store=store) as server:
        await filled(server)
        first, second = await settled(server), await settled(server)
        before = begun(server)
        store.closed = True
        first.writer.write(patch(MAP, {"data": {"b": "1"}}))
        await until(lambda: begun(server) == before + 1)
        second.writer.write(patch(MAP, {"data": {"c": "2"}}))
        store.closed = False
        store.release()
        assert (await first.answer())[1]["data"] == {"a": "b", "b": "1"}
        assert (await second.answer())[1]["data"] == {"a": "b", "b": "1", "c": "2"}
        for wire in (first, second):
            wire.writer.close()


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoreUnavailable("full"), 503), (KeyNotFound("x"), 404), (RevisionMismatch("x", ROW), 409)],
)
async def test_a_patch_that_is_not_stored_is_told(error: Exception, status: int) -> None:
    store = Gated()
    async with running_server(store=store) as server:
        await filled(server)
        wire = await settled(server)
        store.closed = True
        wire.writer.write(patch(MAP, {"data": {"b": "1"}}))
        await until(lambda: store.held)
        store.release(error)
        answer = await wire.answer()
        assert (answer[0], answer[1]["kind"]) == (status, "Status")
        wire.writer.close()
