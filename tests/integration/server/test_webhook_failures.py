"""Webhooks that are dead, slow, mistaken or hostile: the failure policy decides, in upstream's words."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from tests.support.apiserver import RunningServer, running_server
from tests.support.webhook import (
    Client,
    Webhooks,
    client_of,
    config_map,
    patch,
    register,
    running_webhooks,
)

from machinery.api.scheme import ServedKind
from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.meta.resource import Document
from machinery.server.app import Extensions
from machinery.server.webhooks.client import BODY_BYTES_MAX

pytestmark = pytest.mark.integration
MAPS = "/api/v1/namespaces/default/configmaps"
CALLING = 'Internal error occurred: failed calling webhook "w.example.com": '


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with client_of(server) as found:
        yield found


async def _slow(_: Document) -> Document:
    await asyncio.sleep(3)
    return {"allowed": True}


def raw(body: str | bytes, status: int = 200, **headers: str) -> Any:
    data = body.encode() if isinstance(body, str) else body
    return lambda _request: web.Response(status=status, body=data, headers=headers)


def review(**response: Any) -> Any:
    """A whole review, whatever it was asked."""
    document = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", **response}
    return lambda _request: web.json_response(document)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


POST = r'failed to call webhook: Post "https://127\.0\.0\.1:\d+/w\?timeout=\d+s": '
INVALID = "received invalid webhook response: "


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_slow, POST + "context deadline exceeded"),
        (raw("no json"), "failed to call webhook: couldn't get version/kind; json parse error: .*"),
        (raw("[1]"), "failed to call webhook: couldn't get version/kind; json parse error: the answer is no object"),
        (raw("{}"), INVALID + r"expected webhook response of admission\.k8s\.io/v1, Kind=AdmissionReview, got /, Kind="),
        (review(), INVALID + "webhook response was absent"),
        (review(response={"allowed": True}), INVALID + r'expected response\.uid="[-0-9a-f]{36}", got ""'),
        (review(response={"allowed": True, "uid": "other"}), INVALID + r'expected response\.uid="[-0-9a-f]{36}", got "other"'),
        (review(response="x"), INVALID + "webhook response is no object"),
        (raw("", 404), "failed to call webhook: the server could not find the requested resource"),
        (raw('so "bad"', 500), r'failed to call webhook: an error on the server \("so \\"bad\\""\) has prevented the request from succeeding'),
        (raw("", 503), "failed to call webhook: the server is currently unable to handle the request"),
        (raw('{"kind":"Status","message":"told"}', 403), "failed to call webhook: told"),
        (raw("", 307, Location="https://127.0.0.1:1/"), r"failed to call webhook: the server asked us to go elsewhere \(307\); redirects are not followed"),
        (raw(b"x" * (BODY_BYTES_MAX + 1)), POST + f"the answer is larger than {BODY_BYTES_MAX} bytes"),
        (raw("{}", 200, **{"Content-Encoding": "gzip"}), INVALID + ".*"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [MUTATING, VALIDATING], ids=["mutating", "validating"])
async def test_no_answer(
    server: RunningServer, client: Client, hooks: Webhooks, kind: ServedKind, answer: Any,
    message: str,
) -> None:  # fmt: skip
    hooks.answers["/w"] = answer
    seconds = 1 if answer is _slow else 10
    await register(server, kind, "c", hooks.webhook("/w", timeoutSeconds=seconds))
    refused = await client.ask("POST", MAPS, config_map())
    assert (refused.status, refused.body["reason"]) == (500, "InternalError")
    assert re.fullmatch(re.escape(CALLING) + message, refused.message), refused.message
    assert refused.body["details"] == {
        "causes": [{"message": refused.message.removeprefix("Internal error occurred: ")}]
    }
    await register(server, kind, "d", hooks.webhook("/w", timeoutSeconds=seconds))
    path = f"/apis/admissionregistration.k8s.io/v1/{kind.plural}"
    for name in ("c", "d"):
        change = {"webhooks": [hooks.webhook("/w", timeoutSeconds=seconds, failurePolicy="Ignore")]}
        done = await client.ask("PATCH", f"{path}/{name}", change, "application/merge-patch+json")
        assert done.status == 200
    assert (await client.ask("POST", MAPS, config_map())).status == 201


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clientConfig": {"url": "https://127.0.0.1:1/w"}}, r'Post "https://127\.0\.0\.1:1/w\?timeout=5s": dial tcp 127\.0\.0\.1:1: connect: connection refused'),
        ({"clientConfig": {"url": "https://nowhere.invalid/w"}}, r'Post "https://nowhere\.invalid/w\?timeout=5s": dial tcp: lookup nowhere\.invalid: no such host'),
        ({"ca": ""}, ".*tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        ({"ca": encoded("no certificate")}, ".*unable to load root certificates"),
        ({"service": {"name": "hook"}}, r'Post "https://hook\.default\.svc:443\?timeout=5s": service "hook" not found'),
    ],
)  # fmt: skip
async def test_not_reached(
    server: RunningServer, client: Client, hooks: Webhooks, fields: Document, message: str
) -> None:
    hook = hooks.webhook("/w")
    config = hook["clientConfig"]
    if "ca" in fields:
        config["caBundle"] = fields["ca"]
    elif "service" in fields:
        hook["clientConfig"] = {"service": {"namespace": "default", **fields["service"]}}
    else:
        hook |= fields
    await register(server, VALIDATING, "c", hook)
    refused = await client.ask("POST", MAPS, config_map())
    assert refused.status == 500
    pattern = re.escape(CALLING) + "failed to call webhook: " + message
    assert re.fullmatch(pattern, refused.message), refused.message
    assert hooks.asked == []


async def test_a_connection_that_breaks(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    def breaks(_: Document) -> web.Response:
        assert hooks.requests[-1].transport is not None
        hooks.requests[-1].transport.abort()
        return web.Response()

    hooks.answers["/w"] = breaks
    await register(server, VALIDATING, "c", hooks.webhook("/w"))
    refused = await client.ask("POST", MAPS, config_map())
    assert refused.status == 500
    assert re.search(r'Post ".*": (EOF|connection reset by peer)$', refused.message)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (patch({"op": "remove", "path": "/data/x"}), 'Internal error occurred: admission webhook "w.example.com" returned a patch that does not apply to the object'),
        (patch({"op": "replace", "path": "/apiVersion", "value": "v2"}), "Internal error occurred: unable to decode v2, Kind=ConfigMap into v1, Kind=ConfigMap"),
        (patch({"op": "remove", "path": "/metadata"}), "Internal error occurred: the patched object has no metadata"),
        (patch({"op": "replace", "path": "", "value": [1]}), 'Internal error occurred: admission webhook "w.example.com" returned a patch that leaves no object'),
        (patch({"op": "add", "path": "/data", "value": {"a": 1}}), "Internal error occurred: .*data.*"),
        ({"allowed": True, "patchType": "JSONPatch", "patch": encoded('{"a": 1}')}, 'Internal error occurred: admission webhook "w.example.com" returned a patch that does not apply to the object'),
        ({"allowed": True, "patchType": "JSONPatch", "patch": encoded("nonsense")}, "Internal error occurred: .*"),
        ({"allowed": True, "patchType": "JSONPatch", "patch": "%"}, re.escape(CALLING) + INVALID + r"response\.patch is no base64"),
        ({"allowed": True, "patch": encoded("[]")}, re.escape(CALLING) + INVALID + r"webhook returned response\.patch but not response\.patchType"),
        ({"allowed": True, "patchType": "JSONPatch"}, re.escape(CALLING) + INVALID + r"webhook returned response\.patchType but not response\.patch"),
        ({"allowed": True, "patch": encoded("[{}]"), "patchType": "Merge"}, re.escape(CALLING) + 'unsupported patch type "Merge"'),
    ],
)  # fmt: skip
async def test_bad_patches(
    server: RunningServer, client: Client, hooks: Webhooks, response: Document, message: str
) -> None:
    hooks.answers["/w"] = lambda _: response
    await register(server, MUTATING, "c", hooks.webhook("/w"))
    refused = await client.ask("POST", MAPS, config_map())
    assert refused.status == 500
    assert re.fullmatch(message, refused.message), refused.message


async def test_a_validating_webhook_may_not_patch(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    hooks.answers["/w"] = lambda _: patch({"op": "add", "path": "/data", "value": {}})
    await register(server, VALIDATING, "c", hooks.webhook("/w"))
    refused = await client.ask("POST", MAPS, config_map())
    assert refused.message == CALLING + INVALID + "validating webhook may not return response.patch"


async def test_a_delete_cannot_be_patched(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    await client.ask("POST", MAPS, config_map())
    hooks.answers["/w"] = lambda _: patch({"op": "add", "path": "/data", "value": {}})
    await register(server, MUTATING, "c", hooks.webhook("/w", operations=["DELETE"]))
    refused = await client.ask("DELETE", f"{MAPS}/a")
    assert refused.message == (
        'Internal error occurred: admission webhook "w.example.com" attempted to modify the object, which is not '
        "supported for this operation"
    )


async def test_v1beta1_is_read_loosely(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    """Neither uid nor kind nor patch type of the old version are looked at."""
    operations = encoded('[{"op":"add","path":"/data","value":{"a":"b"}}]')
    answer = {"response": {"allowed": True, "patch": operations}}
    hooks.answers["/w"] = lambda _: web.json_response(answer)
    hook = hooks.webhook("/w", admissionReviewVersions=["v9", "v1beta1", "v1"])
    await register(server, MUTATING, "c", hook)
    done = await client.ask("POST", MAPS, config_map())
    assert (done.status, done.body["data"]) == (201, {"a": "b"})
    assert hooks.asked[0][1]["apiVersion"] == "admission.k8s.io/v1beta1"


async def test_a_refusal_is_no_failure(
    server: RunningServer, client: Client, hooks: Webhooks
) -> None:
    hooks.answers["/w"] = lambda _: {"allowed": False}
    await register(server, VALIDATING, "c", hooks.webhook("/w", failurePolicy="Ignore"))
    assert (await client.ask("POST", MAPS, config_map())).status == 400


async def test_the_certificate_must_be_of_that_host(server: RunningServer, client: Client) -> None:
    async with running_webhooks("elsewhere.example.com") as hooks:
        await register(server, VALIDATING, "c", hooks.webhook("/w"))
        refused = await client.ask("POST", MAPS, config_map())
        told = "tls: failed to verify certificate: x509: certificate is not valid for 127.0.0.1"
        assert (refused.status, refused.message.endswith(told)) == (500, True)
        assert hooks.asked == []


async def test_a_dead_webhook_does_not_keep_a_server_from_starting(server: RunningServer) -> None:
    """What a server makes at its start is nobody's business; afterwards the webhook counts again."""
    hook = {
        "name": "w.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": "https://127.0.0.1:1/w"},
        "rules": [
            {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
        ],
    }  # fmt: skip
    await register(server, VALIDATING, "c", hook)
    made = {
        "apiVersion": "v1", "kind": "ConfigMap", "data": {},
        "metadata": {"name": "made", "namespace": "default"},
    }  # fmt: skip
    other = running_server(store=server.api.store, extensions=Extensions(bootstrap=[made]))
    async with other as second, client_of(second) as client:
        assert (await client.ask("GET", f"{MAPS}/made")).status == 200
        assert (await client.ask("POST", MAPS, config_map())).status == 500
