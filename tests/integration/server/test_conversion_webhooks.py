"""Custom kinds whose versions a webhook converts: read, written, listed and watched in both; what is refused of its answers."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.support.apiserver import RunningServer, running_server
from tests.support.webhook import Client, Webhooks, client_of, register, running_webhooks
from tests.support.widgets import DEFINITIONS, GROUP, NAME, define, definition, version

from machinery.api.webhook_kinds import VALIDATING
from machinery.client.interface import DeleteOptions, dynamic
from machinery.meta.errors import StatusError
from machinery.meta.objectmeta import Object
from machinery.meta.resource import Document, ObjectKey, Resource

pytestmark = pytest.mark.integration
V1, V2 = (f"/apis/{GROUP}/{v}/namespaces/default/widgets" for v in ("v1", "v2"))
MERGE = "application/merge-patch+json"
HOST_PORT: Document = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": {"hostPort": {"type": "string"}}}},
}
SPLIT: Document = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {"host": {"type": "string"}, "port": {"type": "string"}},
        }
    },
}
PLAIN = dynamic(GROUP, "v2", "widgets", "Widget", namespaced=True)


def converted(document: Document, api_version: str) -> Document:
    """v1 has `host:port`, v2 both apart."""
    spec = document.get("spec") or {}
    if api_version.endswith("/v2"):
        host, _, port = spec.get("hostPort", ":").partition(":")
        spec = {"host": host, "port": port}
    else:
        spec = {"hostPort": f"{spec.get('host', '')}:{spec.get('port', '')}"}
    return {**document, "apiVersion": api_version, "spec": spec}


def convert(request: Document) -> Document:
    objects = [converted(one, request["desiredAPIVersion"]) for one in request["objects"]]
    return {"result": {"status": "Success"}, "convertedObjects": objects}


def versions(storage: str = "v1") -> list[Document]:
    return [
        {**version("v1", HOST_PORT), "storage": storage == "v1"},
        {**version("v2", SPLIT), "storage": storage == "v2"},
    ]


def custom(hooks: Webhooks, storage: str = "v1", review: str = "v1") -> Document:
    document = definition("widgets", "Widget", *versions(storage))
    config = {"url": hooks.url("/convert"), "caBundle": hooks.ca_bundle}
    hook = {"clientConfig": config, "conversionReviewVersions": [review]}
    document["spec"]["conversion"] = {"strategy": "Webhook", "webhook": hook}
    return document


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


@pytest.fixture
async def hooks() -> AsyncIterator[Webhooks]:
    async with running_webhooks() as running:
        running.answers["/convert"] = convert
        yield running


@pytest.fixture
async def client(server: RunningServer, hooks: Webhooks) -> AsyncIterator[Client]:
    await define(server.rest, custom(hooks))
    async with client_of(server) as found:
        yield found


def old(name: str = "a", value: str = "h:1", **labels: str) -> Document:
    metadata = {"name": name, "labels": labels} if labels else {"name": name}
    return {
        "apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": metadata,
        "spec": {"hostPort": value},
    }  # fmt: skip


def new(name: str = "b", host: str = "h", port: str = "1") -> Document:
    return {
        "apiVersion": f"{GROUP}/v2", "kind": "Widget", "metadata": {"name": name},
        "spec": {"host": host, "port": port},
    }  # fmt: skip


async def test_read_and_written_in_both_versions(client: Client, hooks: Webhooks) -> None:
    made = await client.ask("POST", V1, old())
    assert (made.status, hooks.asked) == (201, [])
    seen = await client.ask("GET", f"{V2}/a")
    assert seen.body["apiVersion"] == f"{GROUP}/v2"
    assert seen.body["spec"] == {"host": "h", "port": "1"}
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        assert seen.body["metadata"][key] == made.body["metadata"][key]
    made = await client.ask("POST", V2, new())
    assert (made.status, made.body["spec"]) == (201, {"host": "h", "port": "1"})
    assert (await client.ask("GET", f"{V1}/b")).body["spec"] == {"hostPort": "h:1"}
    changed = await client.ask("PATCH", f"{V2}/a", {"spec": {"port": "2"}}, MERGE)
    assert (changed.status, changed.body["spec"]) == (200, {"host": "h", "port": "2"})
    assert changed.body["metadata"]["generation"] == 2
    assert (await client.ask("GET", f"{V1}/a")).body["spec"] == {"hostPort": "h:2"}
    whole = await client.ask("GET", f"{V2}/a")
    whole.body["spec"]["host"] = "g"
    assert (await client.ask("PUT", f"{V2}/a", whole.body)).status == 200
    assert (await client.ask("GET", f"{V1}/a")).body["spec"] == {"hostPort": "g:2"}
    gone = await client.ask("DELETE", f"{V2}/b")
    assert gone.status == 200
    assert (await client.ask("GET", f"{V1}/b")).status == 404


async def test_what_the_webhook_is_asked(client: Client, hooks: Webhooks) -> None:
    await client.ask("POST", V1, old(a="b"))
    await client.ask("GET", f"{V2}/a")
    ((path, review),) = hooks.asked
    assert path == "/convert"
    assert (review["kind"], review["apiVersion"]) == (
        "ConversionReview", "apiextensions.k8s.io/v1",
    )  # fmt: skip
    request = review["request"]
    assert request["uid"]
    assert request["desiredAPIVersion"] == f"{GROUP}/v2"
    (sent,) = request["objects"]
    assert (sent["apiVersion"], sent["spec"]) == (f"{GROUP}/v1", {"hostPort": "h:1"})
    assert sent["metadata"]["labels"] == {"a": "b"}


async def test_server_side_apply_through_the_other_version(client: Client) -> None:
    await client.ask("POST", V1, old("b"))
    applied = new("b", "g", "7")
    answer = await client.ask(
        "PATCH", f"{V2}/b?fieldManager=me&force=true", applied, "application/apply-patch+yaml"
    )
    assert (answer.status, answer.body["spec"]) == (200, {"host": "g", "port": "7"})
    assert (await client.ask("GET", f"{V1}/b")).body["spec"] == {"hostPort": "g:7"}


async def test_lists_ask_once(client: Client, hooks: Webhooks) -> None:
    for number in range(20):
        await client.ask("POST", V1, old(f"w{number:02}", f"h:{number}"))
    listed = await client.ask("GET", V2)
    assert [item["spec"]["port"] for item in listed.body["items"]] == [str(n) for n in range(20)]
    assert {item["apiVersion"] for item in listed.body["items"]} == {f"{GROUP}/v2"}
    assert [len(review["request"]["objects"]) for _, review in hooks.asked] == [20]
    await client.ask("GET", V2)  # the answers are known for a moment
    assert len(hooks.asked) == 1
    gone = await client.ask("DELETE", V2)
    assert len(gone.body["items"]) == 20


async def test_mixed_storage_versions(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    """After the storage version has changed objects lie in either; each is shown in both."""
    await client.ask("POST", V1, old("a", "h:1"))
    change = {"spec": {"versions": versions("v2")}}
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}"
    answer = await client.ask("PATCH", path, change, MERGE)
    assert answer.body["status"]["storedVersions"] == ["v1", "v2"]
    await client.ask("POST", V2, new("b", "g", "2"))
    hooks.asked.clear()
    listed = await client.ask("GET", V2)
    assert [item["spec"] for item in listed.body["items"]] == [
        {"host": "h", "port": "1"}, {"host": "g", "port": "2"},
    ]  # fmt: skip
    assert [len(review["request"]["objects"]) for _, review in hooks.asked] == [1]
    listed = await client.ask("GET", V1)
    assert [item["spec"]["hostPort"] for item in listed.body["items"]] == ["h:1", "g:2"]


class Watch:
    """A watch over HTTPS, event by event."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def event(self) -> Document:
        async with asyncio.timeout(10):
            found: Document = json.loads(await self._answer.content.readline())
            return found

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            return await self._answer.content.readline() == b""

    async def events(self, count: int) -> list[tuple[str, Document]]:
        found = [await self.event() for _ in range(count)]
        return [(one["type"], one["object"]) for one in found]


@contextlib.asynccontextmanager
async def watching(server: RunningServer, *paths: str) -> AsyncIterator[list[Watch]]:
    """Watches of the paths, all of them begun."""
    connector = aiohttp.TCPConnector(ssl=server.tls())
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(server.api.url, connector=connector)
        )
        yield [Watch(await stack.enter_async_context(session.get(path))) for path in paths]


async def test_watches_show_every_event_in_order(server: RunningServer, client: Client) -> None:
    """Of both versions, with what was there before, and with what happened since a revision."""
    first = await client.ask("POST", V1, old("a", "h:0"))
    async with watching(server, f"{V2}?watch=1", f"{V1}?watch=1") as (watch, other):
        assert await watch.events(1) == [("ADDED", (await client.ask("GET", f"{V2}/a")).body)]
        for number in range(1, 6):
            change = {"spec": {"hostPort": f"h:{number}"}}
            await client.ask("PATCH", f"{V1}/a", change, MERGE)
        await client.ask("POST", V2, new("b"))
        await client.ask("DELETE", f"{V1}/a")
        told = await watch.events(7)
        assert [(kind, one["spec"]["port"]) for kind, one in told] == [
            *(("MODIFIED", str(number)) for number in range(1, 6)), ("ADDED", "1"), ("DELETED", "5"),
        ]  # fmt: skip
        assert {one["apiVersion"] for _, one in told} == {f"{GROUP}/v2"}
        revisions = [int(one["metadata"]["resourceVersion"]) for _, one in told]
        assert revisions == sorted(revisions)
        same = await other.events(8)
        assert [one["spec"]["hostPort"] for _, one in same[:6]] == [f"h:{n}" for n in range(6)]
    since = first.body["metadata"]["resourceVersion"]
    async with watching(server, f"{V2}?watch=1&resourceVersion={since}") as (watch,):
        again = await watch.events(7)
        assert [one["spec"] for _, one in again] == [one["spec"] for _, one in told]


async def test_a_watch_ends_where_nobody_converts(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    """The stream says why and ends; that of the storage version goes on."""
    async with watching(server, f"{V2}?watch=1", f"{V1}?watch=1") as (watch, other):
        hooks.answers["/convert"] = lambda _: web.Response(status=404)
        await client.ask("POST", V1, old())
        event = await watch.event()
        assert (event["type"], event["object"]["code"]) == ("ERROR", 500)
        told = "conversion webhook for example.com/v1, Kind=Widget failed: "
        assert event["object"]["message"].startswith(told)
        assert (await other.event())["type"] == "ADDED"
        assert await watch.ended()


async def test_bookmarks_wait_for_what_is_not_told(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    going = asyncio.Event()

    async def slow(request: Document) -> Document:
        await going.wait()
        return convert(request)

    async with watching(server, f"{V2}?watch=1&allowWatchBookmarks=true") as (watch,):
        hooks.answers["/convert"] = slow
        await client.ask("POST", V1, old())
        server.api.watches.bookmark_all()
        going.set()
        assert (await watch.event())["type"] == "ADDED"


async def test_table_and_metadata(server: RunningServer, client: Client) -> None:
    await client.ask("POST", V1, old())
    connector = aiohttp.TCPConnector(ssl=server.tls())
    async with aiohttp.ClientSession(server.api.url, connector=connector) as session:
        for form in ("Table", "PartialObjectMetadataList"):
            headers = {"Accept": f"application/json;as={form};v=v1;g=meta.k8s.io"}
            async with session.get(V2, headers=headers) as answer:
                found = await answer.json()
            assert found["kind"] == form


async def test_within_the_process(server: RunningServer, client: Client, hooks: Webhooks) -> None:
    """Controllers read and write the version that they name; who reads metadata alone needs no webhook."""
    await client.ask("POST", V1, old())
    key = ObjectKey("default", "a")
    found = await server.local.get(PLAIN, key)
    assert found["spec"] == {"host": "h", "port": "1"}
    await server.local.patch(PLAIN, key, {"spec": {"port": "9"}})
    listing = await server.local.list(PLAIN)
    assert [one["spec"]["port"] for one in listing.items] == ["9"]
    hooks.answers["/convert"] = lambda _: web.Response(status=500)
    bare: Resource[Object] = Resource(GROUP, "v2", "widgets", "Widget", True, Object)
    assert (await server.local.get(bare, key)).metadata.name == "a"
    assert [one.metadata.name for one in (await server.local.list(bare)).items] == ["a"]


async def test_a_definition_goes_though_its_webhook_is_dead(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    await client.ask("POST", V1, old())
    hooks.answers["/convert"] = lambda _: web.Response(status=500)
    await server.rest.delete(DEFINITIONS, ObjectKey("", NAME), DeleteOptions())
    async with asyncio.timeout(20):
        while (await client.ask("GET", V1)).status != 404:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.05)


async def test_v1beta1_reviews(server: RunningServer, hooks: Webhooks) -> None:
    await define(server.rest, custom(hooks, review="v1beta1"))
    hooks.answers["/convert"] = lambda request: web.json_response({"response": convert(request)})
    async with client_of(server) as client:
        await client.ask("POST", V1, old())
        assert (await client.ask("GET", f"{V2}/a")).body["spec"] == {"host": "h", "port": "1"}
    assert hooks.asked[0][1]["apiVersion"] == "apiextensions.k8s.io/v1beta1"


async def test_from_none_to_webhook_and_back(server: RunningServer, hooks: Webhooks) -> None:
    document = custom(hooks)
    strategy = document["spec"].pop("conversion")
    await define(server.rest, document)
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}"
    async with client_of(server) as client:
        await client.ask("POST", V1, old())
        for given, spec in (
            (None, {}),
            (strategy, {"host": "h", "port": "1"}),
            ({"strategy": "None", "webhook": None}, {}),
        ):
            if given is not None:
                done = await client.ask("PATCH", path, {"spec": {"conversion": given}}, MERGE)
                assert done.status == 200, done.message
            assert (await client.ask("GET", f"{V2}/a")).body.get("spec", {}) == spec


async def test_admission_webhooks_see_the_version_of_their_rule(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    rule = {"groups": [GROUP], "versions": ["v1"], "resources": ["widgets"], "operations": ["*"]}
    await register(server, VALIDATING, "c", hooks.webhook("/judge", **rule))
    assert (await client.ask("POST", V2, new())).status == 201
    request = hooks.last("/judge")
    assert (request["object"]["apiVersion"], request["object"]["spec"]) == (
        f"{GROUP}/v1", {"hostPort": "h:1"},
    )  # fmt: skip
    assert request["requestKind"]["version"] == "v2"
    await client.ask("DELETE", f"{V2}/b")
    assert hooks.last("/judge")["oldObject"]["spec"] == {"hostPort": "h:1"}


async def test_fields_select_in_the_storage_version_alone(
    server: RunningServer, hooks: Webhooks
) -> None:
    document = custom(hooks)
    for one, path in zip(
        document["spec"]["versions"], (".spec.hostPort", ".spec.host"), strict=True
    ):
        one["selectableFields"] = [{"jsonPath": path}]
    await define(server.rest, document)
    async with client_of(server) as client:
        await client.ask("POST", V1, old())
        found = await client.ask("GET", f"{V1}?fieldSelector=spec.hostPort%3Dh:1")
        assert len(found.body["items"]) == 1
        refused = await client.ask("GET", f"{V2}?fieldSelector=spec.host%3Dh")
        assert refused.status == 400
        assert "objects are converted to v2 by a webhook" in refused.message


# ---------------------------------------------------------------------------------------------------------- bad answers
def spoiled(**change: Any) -> Any:
    """A conversion whose first object is otherwise."""

    def answer(request: Document) -> Document:
        found = convert(request)
        first = found["convertedObjects"][0]
        found["convertedObjects"][0] = {
            **first, **{key: value for key, value in change.items() if key != "metadata"},
            "metadata": {**first["metadata"], **change.get("metadata", {})},
        }  # fmt: skip
        return found

    return answer


FAILED = r"conversion webhook for example\.com/v1, Kind=Widget failed: "
INVALID = "conversion webhook for example.com/v1, Kind=Widget returned invalid converted object at index 0: "


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda _: web.Response(status=404), FAILED + "the server could not find the requested resource"),
        (lambda _: web.Response(body=b"?"), FAILED + "couldn't get version/kind; json parse error: .*"),
        (lambda _: web.json_response({}), FAILED + r"expected webhook response of apiextensions\.k8s\.io/v1, Kind=ConversionReview, got /, Kind="),
        (lambda _: {"uid": "x"}, FAILED + 'expected response.uid="[-0-9a-f]+", got "x"'),
        (lambda _: {}, FAILED + r"response\.result\.status was '', not 'Success'"),
        (lambda _: {"result": {"status": "Failure", "message": "no way"}}, FAILED + "no way"),
        (lambda _: {"result": {"status": "Success"}}, re.escape("conversion webhook for example.com/v1, Kind=Widget returned 0 objects, expected 1")),
        (lambda _: {"result": {"status": "Success"}, "convertedObjects": [1]}, re.escape(INVALID) + "it is no object"),
        (spoiled(apiVersion="example.com/v9"), re.escape(INVALID + "invalid groupVersion (expected example.com/v2, received example.com/v9)")),
        (spoiled(kind="Gadget"), re.escape(INVALID + "invalid kind (expected Widget, received Gadget)")),
        (spoiled(metadata={"name": "z"}), re.escape(INVALID + "must have the same name: a != z")),
        (spoiled(metadata={"namespace": "z"}), re.escape(INVALID + "must have the same namespace: default != z")),
        (spoiled(metadata={"uid": "z"}), re.escape(INVALID) + "must have the same UID: .* != z"),
        (spoiled(metadata={"labels": [1]}), re.escape(INVALID + "invalid metadata.labels of type list in converted object")),
        (spoiled(metadata={"labels": {"a": 1}}), re.escape(INVALID + "metadata.labels[a] must be a string, but is int in converted object")),
        (spoiled(metadata={"labels": {"-": "x"}}), re.escape(INVALID) + "metadata.labels: .*"),
    ],
)  # fmt: skip
async def test_bad_answers(client: Client, hooks: Webhooks, answer: Any, message: str) -> None:
    await client.ask("POST", V1, old())
    hooks.answers["/convert"] = answer
    for method, path in (("GET", f"{V2}/a"), ("GET", V2), ("DELETE", f"{V2}/a")):
        refused = await client.ask(method, path)
        assert refused.status == 500
        assert re.fullmatch(message, refused.message), refused.message
    assert (await client.ask("GET", f"{V1}/a")).status == 200
    hooks.answers["/convert"] = convert
    assert (await client.ask("GET", f"{V2}/a")).status == 200


async def test_metadata_is_put_back(client: Client, hooks: Webhooks) -> None:
    """Labels and annotations are the webhook's to change, all else is not."""
    await client.ask("POST", V1, old(a="b"))
    hooks.answers["/convert"] = spoiled(
        metadata={
            "labels": {"c": "d"}, "annotations": {"e": "f"}, "finalizers": ["x/y"],
            "resourceVersion": "1", "creationTimestamp": None, "managedFields": [],
        }
    )  # fmt: skip
    found = (await client.ask("GET", f"{V2}/a")).body["metadata"]
    assert (found["labels"], found["annotations"]) == ({"c": "d"}, {"e": "f"})
    assert "finalizers" not in found
    stored = (await client.ask("GET", f"{V1}/a")).body["metadata"]
    for key in ("resourceVersion", "creationTimestamp", "managedFields", "uid"):
        assert found[key] == stored[key]


async def test_a_write_that_cannot_be_converted_is_not_done(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    hooks.answers["/convert"] = lambda _: {"result": {"status": "Failure", "message": "no"}}
    refused = await client.ask("POST", V2, new())
    assert (refused.status, refused.message) == (
        500, "conversion webhook for example.com/v2, Kind=Widget failed: no",
    )  # fmt: skip
    assert (await client.ask("GET", f"{V1}/b")).status == 404
    with pytest.raises(StatusError, match="failed: no"):
        await server.local.create(PLAIN, new(), "default")
