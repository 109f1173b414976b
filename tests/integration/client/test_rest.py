"""The HTTP client against a real TLS server that answers by script."""

import asyncio
import socket
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import orjson
import pytest
from aiohttp import web
from tests.support.tls import TestAuthority

from machinery.api.core import CONFIGMAPS, NODES, PODS
from machinery.client import rest
from machinery.client.informer import Informer
from machinery.client.interface import (
    DeleteOptions,
    EventType,
    ListOptions,
    PatchType,
    dynamic,
)
from machinery.client.rest import RestClient, Unreachable
from machinery.kit.clock import SystemClock
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import (
    AlreadyExists,
    Expired,
    Forbidden,
    InternalError,
    StatusError,
    already_exists,
)
from machinery.meta.resource import ObjectKey

pytestmark = pytest.mark.integration
AUTHORITY = TestAuthority()
KEY = ObjectKey("demo", "a")
POD = {"metadata": {"name": "a", "namespace": "demo", "resourceVersion": "5"}}


class Script:
    """Answers with what it is told; notes what it was asked."""

    def __init__(self):
        self.asked, self.answers, self.peer = [], [], None

    async def handle(self, request):
        body = await request.read()
        self.peer = request.transport.get_extra_info("peercert")
        self.asked.append((request.method, request.path_qs, dict(request.headers), body))
        answer = self.answers.pop(0)
        if callable(answer):
            return await answer(request)
        status, document = answer
        raw = document if isinstance(document, bytes) else orjson.dumps(document)
        return web.Response(status=status, body=raw)


@asynccontextmanager
async def talking(*answers, identity=None, **options):
    script = Script()
    script.answers += answers
    server = web.Server(script.handle)
    site = await asyncio.get_running_loop().create_server(
        server, "127.0.0.1", 0, ssl=AUTHORITY.server_context()
    )
    url = f"https://localhost:{site.sockets[0].getsockname()[1]}"
    client = RestClient(url, AUTHORITY.client_context(identity), **options)
    try:
        yield client, script
    finally:
        await client.close()
        site.close()
        await server.shutdown(0.1)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("call", "method", "target", "body"),
    [
        pytest.param(
            lambda c: c.get(PODS, KEY), "GET", "/api/v1/namespaces/demo/pods/a", b"", id="get"
        ),
        pytest.param(
            lambda c: c.get(NODES, ObjectKey("", "system:x"), subresource="status"),
            "GET", "/api/v1/nodes/system:x/status", b"", id="get-status",
        ),
        pytest.param(
            lambda c: c.create(PODS, {"metadata": {"namespace": "demo"}}),
            "POST", "/api/v1/namespaces/demo/pods?fieldManager=ubernetes",
            b'{"metadata":{"namespace":"demo"}}', id="create",
        ),
        pytest.param(
            lambda c: c.create(PODS, {"x": 1}, "demo", name="a", subresource="binding"),
            "POST", "/api/v1/namespaces/demo/pods/a/binding?fieldManager=ubernetes",
            b'{"x":1}', id="bind",
        ),
        pytest.param(
            lambda c: c.update(PODS, POD, subresource="status"),
            "PUT", "/api/v1/namespaces/demo/pods/a/status?fieldManager=ubernetes",
            orjson.dumps(POD), id="update",
        ),
        pytest.param(
            lambda c: c.patch(PODS, KEY, {"a": None}, PatchType.APPLY, force=True),
            "PATCH", "/api/v1/namespaces/demo/pods/a?fieldManager=ubernetes&force=true",
            b'{"a":null}', id="apply",
        ),
        pytest.param(
            lambda c: c.delete(PODS, KEY), "DELETE", "/api/v1/namespaces/demo/pods/a", b"",
            id="delete",
        ),
        pytest.param(
            lambda c: c.delete(PODS, KEY, DeleteOptions(0, "Orphan", "u", "7")),
            "DELETE", "/api/v1/namespaces/demo/pods/a",
            b'{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,'
            b'"propagationPolicy":"Orphan","preconditions":{"uid":"u","resourceVersion":"7"}}',
            id="delete-options",
        ),
    ],
)  # fmt: skip
async def test_what_is_sent(call, method, target, body):
    async with talking((200, POD)) as (client, script):
        await call(client)
        (asked,) = script.asked
        assert (asked[0], asked[1], asked[3]) == (method, target, body)


async def test_lists_carry_options_and_items_get_their_kind():
    page = {"metadata": {"resourceVersion": "9", "continue": "more"}, "items": [POD]}
    maps = dynamic("", "v1", "pods", "Pod", namespaced=True)
    async with talking((200, page), (200, page), (200, {"items": None})) as (client, script):
        options = ListOptions("a in (b,c)", "spec.nodeName=n1", limit=1, continue_="tok")
        listing = await client.list(PODS, "", options)
        path, _, query = script.asked[0][1].partition("?")
        assert path == "/api/v1/pods"
        assert dict(parse_qsl(query)) == {
            "labelSelector": "a in (b,c)",
            "fieldSelector": "spec.nodeName=n1",
            "continue": "tok",
            "limit": "1",
        }
        assert (listing.resource_version, listing.continue_) == ("9", "more")
        assert (listing.items[0].kind, listing.items[0].api_version) == ("Pod", "v1")
        (document,) = (await client.list(maps)).items
        assert document == {"apiVersion": "v1", "kind": "Pod", **POD}
        assert (await client.list(PODS)).items == []


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        pytest.param(
            409, already_exists("pods", "", "a").to_status(), AlreadyExists, 'pods "a" already',
            id="status",
        ),
        pytest.param(403, b"<html>proxy says no", Forbidden, "proxy says no", id="html"),
        pytest.param(418, b"", StatusError, "the server answered 418", id="empty"),
    ],
)  # fmt: skip
async def test_refusals_become_errors(status, body, error, words):
    async with talking((status, body)) as (client, _):
        with pytest.raises(error, match=words) as caught:
            await client.get(PODS, KEY)
        assert caught.value.status_code == status


def watching(*lines, cut=0):
    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        raw = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        for start in range(0, len(raw), cut or len(raw)):
            await response.write(raw[start : start + (cut or len(raw))])
        return response

    return answer


async def test_watch_lines_of_any_length_and_cut():
    big = {"metadata": {"name": "big", "resourceVersion": "6"}, "data": {"k": "x" * 3_000_000}}
    small = {"metadata": {"name": "s", "resourceVersion": "7"}}
    mark = {"kind": "ConfigMap", "metadata": {"resourceVersion": "99"}}
    lines = [
        {"type": "ADDED", "object": big},
        {"type": "DELETED", "object": small},
        {"type": "BOOKMARK", "object": mark},
    ]
    async with talking(watching(*lines, cut=65_000)) as (client, script):
        stream = client.watch(CONFIGMAPS, "demo", ListOptions(resource_version="5"))
        events = [event async for event in stream]
        assert [(e.type, e.resource_version) for e in events] == [
            (EventType.ADDED, "6"),
            (EventType.DELETED, "7"),
            (EventType.BOOKMARK, "99"),
        ]
        assert len(events[0].object.data["k"]) == 3_000_000
        assert script.asked[0][1] == (
            "/api/v1/namespaces/demo/configmaps?resourceVersion=5&watch=true&allowWatchBookmarks=true"
        )


async def test_an_error_event_is_raised():
    status = Expired("too old resource version: 5 (10)").to_status()
    async with talking(watching({"type": "ERROR", "object": status})) as (client, _):
        with pytest.raises(Expired, match="too old"):
            [event async for event in client.watch(PODS)]


async def test_an_informer_lives_on_it():
    page = {"metadata": {"resourceVersion": "9"}, "items": [POD]}
    gone = {
        "type": "DELETED",
        "object": {**POD, "metadata": {**POD["metadata"], "resourceVersion": "10"}},
    }

    asked_again = asyncio.Event()

    async def hang(request):
        asked_again.set()
        await asyncio.sleep(30)

    async with talking((200, page), watching(gone), hang) as (client, script):
        informer = Informer(client, PODS, SystemClock())
        changes: asyncio.Queue = asyncio.Queue()
        informer.on_change(lambda old, new: changes.put_nowait((old is not None, new is not None)))
        owner = TaskOwner()
        owner.spawn(informer.run(), "informer")
        assert await changes.get() == (False, True)
        assert await changes.get() == (True, False)
        await asyncio.wait_for(asked_again.wait(), 5)
        assert "resourceVersion=10" in script.asked[2][1]
        await owner.close()


async def test_tokens_are_asked_anew_and_certificates_shown():
    tokens = iter(["one", "two"])
    async with talking((200, POD), (200, POD), token=lambda: next(tokens)) as (client, script):
        await client.get(PODS, KEY)
        await client.get(PODS, KEY)
        assert [a[2]["Authorization"] for a in script.asked] == ["Bearer one", "Bearer two"]
        assert script.peer is None or script.peer == {}
    identity = AUTHORITY.issue("jane", "admins")
    async with talking((200, POD), identity=identity) as (client, script):
        await client.get(PODS, KEY)
        assert script.peer["subject"] == (
            (("organizationName", "admins"),),
            (("commonName", "jane"),),
        )


async def test_no_answer_is_a_connection_error():
    async def hang(request):
        await asyncio.sleep(30)

    async def drop(request):
        request.transport.abort()
        return web.Response()

    async with talking(hang, drop, (200, b"not json"), timeout_s=0.2) as (client, _):
        with pytest.raises(Unreachable, match="TimeoutError"):
            await client.get(PODS, KEY)
        with pytest.raises(Unreachable):
            await client.create(PODS, {}, "demo")
        with pytest.raises(Unreachable, match="not of the Kubernetes API"):
            await client.list(PODS)
    stranger = RestClient("https://localhost:1", AUTHORITY.client_context())
    with pytest.raises(Unreachable, match="localhost:1"):
        await stranger.get(PODS, KEY)
    await stranger.close()


async def test_a_server_of_another_authority_is_not_believed():
    async with talking((200, POD)) as (client, _):
        other = RestClient(client.base_url, TestAuthority("other").client_context())
        with pytest.raises(Unreachable, match="certificate verify failed"):
            await other.get(PODS, KEY)
        await other.close()


async def test_one_object_that_does_not_fit_keeps_no_other_out(caplog):
    bad = {"metadata": {"name": "bad", "namespace": "demo"}, "spec": {"containers": "none"}}
    page = {"metadata": {"resourceVersion": "9"}, "items": [bad, POD]}
    lines = [{"type": "ADDED", "object": bad}, {"type": "ADDED", "object": POD}]
    async with talking((200, page), watching(*lines), (200, bad)) as (client, _):
        assert [p.key for p in (await client.list(PODS)).items] == [KEY]
        assert [e.object.key async for e in client.watch(PODS)] == [KEY]
        with pytest.raises(InternalError, match="Pod does not fit its view"):
            await client.get(PODS, KEY)
    assert [r.object for r in caplog.records if r.msg == "object skipped"] == ["pods/demo/bad"] * 2


async def test_the_kernel_asks_whether_the_other_end_is_still_there():
    """A watch that hears nothing of a cut would wait for a quarter of an hour."""
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
    with rest._socket(address) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert 0 < sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 20_000
    async with talking((200, POD)) as (client, _):
        await client.get(PODS, KEY)
        factory = client._session.connector._socket_factory
        assert factory is rest._socket
