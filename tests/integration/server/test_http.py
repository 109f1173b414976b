"""The HTTPS front: identity, limits, forms of answers, watches on the wire."""

import asyncio
import gzip
import io
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.support.apiserver import RunningServer, running_server

from machinery.api.scheme import ServedKind
from machinery.client.interface import dynamic
from machinery.server.app import Extensions
from machinery.server.config import ServerConfig
from machinery.server.pki import CertificateAuthority, client_context
from machinery.server.user import UserInfo

pytestmark = pytest.mark.integration
CONFIG = ServerConfig(
    static_tokens=(
        ("tok-bob", UserInfo("bob")),
        ("tok-root", UserInfo("root", ("system:masters",))),
    ),
    bookmark_interval_s=0.2,
)
ROOT = {"Authorization": "Bearer tok-root"}
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
_CONFIG_MAPS = dynamic("", "v1", "configmaps", "ConfigMap", namespaced=True)


class Wire:
    """Requests without a client certificate."""

    def __init__(self, server: RunningServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        data = body if isinstance(body, bytes | io.BytesIO | None) else json.dumps(body).encode()
        sent = {**({"Content-Type": "application/json"} if data else {}), **(headers or {})}
        url = self.server.api.url + path
        async with self.session.request(method, url, headers=sent, data=data) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    async def json(self, method: str, path: str, **rest: Any) -> Any:
        headers = {**ROOT, "Accept-Encoding": "identity", **rest.pop("headers", {})}
        _, _, raw = await self.ask(method, path, headers, **rest)
        return json.loads(raw)

    async def watchers(self, count: int) -> None:
        """Wait until so many watches are open."""
        async with asyncio.timeout(10):
            while self.server.api.watches.count() != count:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)

    async def add(self, name: str, **labels: str) -> Any:
        document = {"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}}
        return await self.json("POST", CONFIG_MAPS, body=document)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with running_server(config=CONFIG) as server:
        connector = aiohttp.TCPConnector(ssl=client_context(server.api.ca_pem))
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            yield Wire(server, session)


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/apis", "/version", "/metrics", "/openapi/v3", "/api/v1/namespaces", "/nothing", "/openid/v1/jwks"],
)  # fmt: skip
async def test_nobody_is_anonymous(wire: Wire, path: str) -> None:
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer nope"}):
        status, _, raw = await wire.ask("GET", path, headers)
        assert status == 401
        assert json.loads(raw)["reason"] == "Unauthorized"


@pytest.mark.parametrize(
    "path", ["/healthz", "/livez", "/readyz", "/readyz/ping", "/livez?verbose"]
)
async def test_health_is_for_everybody(wire: Wire, path: str) -> None:
    status, _, raw = await wire.ask("GET", path)
    assert status == 200
    assert raw.startswith((b"ok", b"[+]"))


async def test_health_tells_no_secret(wire: Wire) -> None:
    _, _, raw = await wire.ask("GET", "/readyz?verbose&exclude=etcd")
    assert raw.decode().splitlines()[-1] == "readyz check passed"
    status, _, _ = await wire.ask("GET", "/readyz/nothing")
    assert status == 404


async def test_a_strange_certificate_ends_the_handshake(wire: Wire) -> None:
    stranger = CertificateAuthority.create("other", wire.server.api.clock).issue_client(
        "root", ("system:masters",)
    )
    tls = client_context(wire.server.api.ca_pem, stranger)
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.server.api.port, ssl=tls)
        try:
            writer.write(b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n")
        finally:
            writer.close()


async def test_rights_are_asked_before_existence(wire: Wire) -> None:
    bob = {"Authorization": "Bearer tok-bob"}
    for path in (CONFIG_MAPS, f"{CONFIG_MAPS}/nope", "/apis/nothing/v1/things"):
        status, _, raw = await wire.ask("GET", path, bob)
        assert status == 403
        assert 'User "bob" cannot' in json.loads(raw)["message"]
    status, _, _ = await wire.ask("GET", "/api", bob)
    assert status == 200, "discovery is for every known user"


async def test_a_new_binding_counts_at_once(wire: Wire) -> None:
    bob = {"Authorization": "Bearer tok-bob"}
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "apiGroup": group, "name": "bob"}],
    }
    await wire.json("POST", f"/apis/{group}/v1/namespaces/default/rolebindings", body=binding)
    assert (await wire.ask("GET", CONFIG_MAPS, bob))[0] == 200
    assert (await wire.ask("GET", "/api/v1/namespaces/default/secrets", bob))[0] == 403
    await wire.json("DELETE", f"/apis/{group}/v1/namespaces/default/rolebindings/b")
    assert (await wire.ask("GET", CONFIG_MAPS, bob))[0] == 403


async def test_a_body_has_a_limit(wire: Wire) -> None:
    status, _, raw = await wire.ask(
        "POST", CONFIG_MAPS, ROOT, io.BytesIO(b"x" * (3 * 1024 * 1024 + 1))
    )
    assert status == 413
    assert json.loads(raw)["reason"] == "RequestEntityTooLarge"
    assert (await wire.ask("GET", CONFIG_MAPS, ROOT))[0] == 200


@pytest.mark.parametrize(
    ("method", "headers", "body", "status"),
    [
        ("POST", {"Content-Type": "text/plain"}, b"x", 415),
        ("POST", {}, b"{", 400),
        ("GET", {"Accept": "application/vnd.kubernetes.protobuf"}, None, 406),
        ("PUT", {}, {"metadata": {"name": "a"}}, 405),
    ],
)
async def test_refusals_are_statuses(
    wire: Wire, method: str, headers: dict[str, str], body: Any, status: int
) -> None:
    code, _, raw = await wire.ask(method, CONFIG_MAPS, {**ROOT, **headers}, body)
    assert code == status
    document = json.loads(raw)
    assert (document["kind"], document["code"]) == ("Status", status)


async def test_yaml_in_and_out(wire: Wire) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\ndata:\n  a: 'on'\n"
    status, headers, raw = await wire.ask(
        "POST", CONFIG_MAPS, {**ROOT, "Content-Type": "application/yaml", "Accept": "application/yaml"}, body
    )  # fmt: skip
    assert status == 201
    assert headers["Content-Type"] == "application/yaml"
    assert b"kind: ConfigMap\n" in raw


async def test_warnings_travel_as_headers(wire: Wire) -> None:
    status, headers, _ = await wire.ask(
        "POST", CONFIG_MAPS, ROOT, {"metadata": {"name": "w"}, "extra": 1}
    )
    assert status == 201
    assert headers["Warning"] == '299 - "unknown field \\"extra\\""'


async def test_big_answers_are_compressed_when_asked(wire: Wire) -> None:
    big = {"metadata": {"name": "big"}, "data": {"k": "x" * 200_000}}
    await wire.json("POST", CONFIG_MAPS, body=big)
    path = f"{CONFIG_MAPS}/big"
    _, headers, raw = await wire.ask("GET", path, {**ROOT, "Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(raw))["data"] == big["data"]
    _, headers, raw = await wire.ask("GET", path, {**ROOT, "Accept-Encoding": "identity"})
    assert "Content-Encoding" not in headers
    assert len(raw) > 200_000


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_a_long_list_in_segments(wire: Wire, encoding: str) -> None:
    for number in range(600):
        await wire.server.local.create(
            _CONFIG_MAPS, {"metadata": {"name": f"c{number:03}"}}, "default"
        )
    _, headers, raw = await wire.ask("GET", CONFIG_MAPS, {**ROOT, "Accept-Encoding": encoding})
    if encoding == "gzip":
        assert headers["Content-Encoding"] == "gzip"
        raw = gzip.decompress(raw)
    listed = json.loads(raw)
    assert [item["metadata"]["name"] for item in listed["items"]] == [
        f"c{n:03}" for n in range(600)
    ]
    assert (await wire.ask("GET", CONFIG_MAPS, ROOT))[0] == 200, "the connection goes on"


async def test_openapi_is_cached_by_hash(wire: Wire) -> None:
    index = await wire.json("GET", "/openapi/v3")
    path = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    status, headers, _ = await wire.ask("GET", path, ROOT)
    assert status == 200
    assert "immutable" in headers["Cache-Control"]
    status, _, _ = await wire.ask("GET", path, {**ROOT, "If-None-Match": headers["Etag"]})
    assert status == 304


async def test_metrics(wire: Wire) -> None:
    await wire.add("a")
    # The process's metrics are everybody's: in a long run they are many enough to be packed.
    _, _, raw = await wire.ask("GET", "/metrics", {**ROOT, "Accept-Encoding": "identity"})
    text = raw.decode()
    assert 'apiserver_request_total{verb="create",resource="configmaps",code="201"} 1' in text
    assert 'apiserver_storage_objects{resource="configmaps"} 1' in text


async def test_impersonation_needs_the_right(wire: Wire) -> None:
    reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    as_carol = {"Impersonate-User": "carol", "Impersonate-Group": "staff"}
    answer = await wire.json("POST", reviews, headers=as_carol, body={})
    assert answer["status"]["userInfo"] == {
        "username": "carol",
        "groups": ["staff", "system:authenticated"],
    }
    bob = {"Authorization": "Bearer tok-bob"}
    status, _, raw = await wire.ask("POST", reviews, {**bob, **as_carol}, {})
    assert status == 403
    assert 'cannot impersonate resource "users"' in json.loads(raw)["message"]


# ----------------------------------------------------------------------------------------------------------- watches
async def events(
    wire: Wire, query: str, count: int, headers: dict[str, str] | None = None
) -> list[Any]:
    """The first `count` events of a watch."""
    url = f"{wire.server.api.url}{CONFIG_MAPS}?watch=1&{query}"
    found: list[Any] = []
    async with wire.session.get(url, headers={**ROOT, **(headers or {})}) as answer:
        assert answer.status == 200
        async for line in answer.content:
            found.append(json.loads(line))
            if len(found) == count:
                break
    return found


def told(found: list[Any]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in found]


async def test_watch_from_a_revision_is_contiguous(wire: Wire) -> None:
    first = await wire.add("a")
    await wire.add("b")
    await wire.json("DELETE", f"{CONFIG_MAPS}/a")
    revision = first["metadata"]["resourceVersion"]
    found = await events(wire, f"resourceVersion={revision}", 2)
    assert told(found) == [("ADDED", "b"), ("DELETED", "a")]
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in found]
    assert revisions == sorted(revisions)
    assert revisions[0] > int(revision)


async def test_watch_without_a_revision_begins_with_what_is_there(wire: Wire) -> None:
    await wire.add("a", x="1")
    await wire.add("b")

    async def later() -> None:
        await wire.watchers(1)
        await wire.json(
            "PATCH", f"{CONFIG_MAPS}/b", headers={"Content-Type": "application/merge-patch+json"},
            body={"metadata": {"labels": {"x": "1"}}},
        )  # fmt: skip

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(events(wire, "labelSelector=x%3D1", 2))
        _ = group.create_task(later())
    assert told(watching.result()) == [("ADDED", "a"), ("ADDED", "b")]


async def test_initial_events_end_with_a_bookmark(wire: Wire) -> None:
    await wire.add("a")
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    found = await events(wire, query, 2)
    assert told(found) == [("ADDED", "a"), ("BOOKMARK", "")]
    metadata = found[1]["object"]["metadata"]
    assert metadata["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(metadata["resourceVersion"]) >= int(
        found[0]["object"]["metadata"]["resourceVersion"]
    )


async def test_bookmarks_come_by_themselves(wire: Wire) -> None:
    first = await wire.add("a")
    await wire.add("b", other="yes")
    revision = first["metadata"]["resourceVersion"]
    found = await events(
        wire, f"resourceVersion={revision}&allowWatchBookmarks=true&labelSelector=x", 1
    )
    assert found[0]["type"] == "BOOKMARK"
    assert int(found[0]["object"]["metadata"]["resourceVersion"]) > int(revision)


async def test_a_watch_ends_in_time_and_the_connection_goes_on(wire: Wire) -> None:
    await wire.add("a")
    url = f"{wire.server.api.url}{CONFIG_MAPS}?watch=1&timeoutSeconds=1"
    async with wire.session.get(url, headers=ROOT) as answer:
        lines = (await answer.read()).splitlines()
    assert told([json.loads(line) for line in lines]) == [("ADDED", "a")]
    assert (await wire.ask("GET", CONFIG_MAPS, ROOT))[0] == 200


async def test_table_watch_has_columns_once(wire: Wire) -> None:
    await wire.add("a")
    await wire.add("b")
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    found = await events(wire, "", 2, accept)
    assert [event["object"]["kind"] for event in found] == ["Table", "Table"]
    assert found[0]["object"]["columnDefinitions"]
    assert not found[1]["object"]["columnDefinitions"]
    assert found[1]["object"]["rows"][0]["cells"][0] == "b"


@pytest.mark.parametrize("more", ["", "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"])
async def test_a_watch_from_the_future_is_504(wire: Wire, more: str) -> None:
    added = await wire.add("now")
    ahead = int(added["metadata"]["resourceVersion"]) + 1000
    status, headers, raw = await wire.ask(
        "GET", f"{CONFIG_MAPS}?watch=1&resourceVersion={ahead}{more}", ROOT
    )
    told = json.loads(raw)
    assert (status, told["reason"], headers["Retry-After"]) == (504, "Timeout", "1")
    assert told["message"].startswith(f"Timeout: Too large resource version: {ahead}, current: ")
    assert told["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


@pytest.mark.parametrize(("path", "texts"), [(CONFIG_MAPS, ["beta is away"]), ("/api/v1/pods", [])])
@pytest.mark.parametrize(
    "accept", ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"]
)
async def test_a_list_can_warn(path: str, texts: list[str], accept: str) -> None:
    def away(kind: ServedKind) -> list[str]:
        return ["beta is away"] if kind.plural == "configmaps" else []

    async with running_server(config=CONFIG, extensions=Extensions(list_warnings=away)) as server:
        tls = client_context(server.api.ca_pem)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
            headers = {**ROOT, "Accept": accept}
            async with session.get(server.api.url + path, headers=headers) as answer:
                assert answer.status == 200
                found = answer.headers.getall("Warning", [])
    assert found == [f'299 - "{text}"' for text in texts]


async def test_too_old_is_410() -> None:
    config = ServerConfig(static_tokens=CONFIG.static_tokens, watch_ring_events_max=2)
    async with running_server(config=config) as server:
        connector = aiohttp.TCPConnector(ssl=client_context(server.api.ca_pem))
        async with aiohttp.ClientSession(connector=connector) as session:
            wire = Wire(server, session)
            first = await wire.add("a")
            for name in "bcde":
                await wire.add(name)
            found = await events(wire, f"resourceVersion={first['metadata']['resourceVersion']}", 1)
    assert found[0]["type"] == "ERROR"
    assert (found[0]["object"]["code"], found[0]["object"]["reason"]) == (410, "Expired")


async def test_clients_that_vanish_leave_nothing_behind(wire: Wire) -> None:
    await wire.add("a")
    for _ in range(3):
        await events(wire, "", 1)
    await wire.watchers(0)
    assert wire.server.api.watches.count() == 0
