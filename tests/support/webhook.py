"""Users' webhooks for tests: one HTTPS server on loopback with a CA of its own, and what is registered of it.

hooks = running_webhooks(); hooks.answers["/deny"] = lambda request: {"allowed": False}
await register(server, MUTATING, "name", hooks.webhook("/deny", resources=["configmaps"]))
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from tests.support.apiserver import RunningServer

from machinery.api.scheme import ServedKind
from machinery.kit.clock import SystemClock
from machinery.meta.resource import Document
from machinery.server.pki import CertificateAuthority, server_context

Answer = Callable[[Document], Any]
"""From the review's request to the response without its uid, or to a whole web.Response, or to something to wait for."""
NAMES = ("localhost", "127.0.0.1", "hook.default.svc", "converter.default.svc")


def patch(*operations: Document) -> Document:
    """A response that allows and changes."""
    return {
        "allowed": True,
        "patchType": "JSONPatch",
        "patch": base64.b64encode(orjson.dumps(operations)).decode(),
    }


def label(key: str, value: str) -> Answer:
    """A webhook that labels whatever it sees."""

    def answer(request: Document) -> Document:
        labels = {**(request["object"]["metadata"].get("labels") or {}), key: value}
        return patch({"op": "add", "path": "/metadata/labels", "value": labels})

    return answer


def allow(_: Document) -> Document:
    return {"allowed": True}


@dataclass
class Webhooks:
    """The server: what it answers by path, and what it was asked."""

    authority: CertificateAuthority
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, Document]] = field(default_factory=list)
    """(path, the whole review), in order."""
    requests: list[web.Request] = field(default_factory=list)
    port: int = 0
    sockets: set[Any] = field(default_factory=set)
    """Peers' addresses: one for each connection."""

    @property
    def ca_bundle(self) -> str:
        return base64.b64encode(self.authority.certificate_pem).decode()

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def last(self, path: str = "") -> Document:
        """The request of the latest review, to that path if one is given."""
        found = [review for at, review in self.asked if path in ("", at)]
        request: Document = found[-1]["request"]
        return request

    def webhook(self, path: str, **fields: Any) -> Document:
        """A webhook of a configuration: about ConfigMaps that are created, if nothing else is said."""
        rule = {
            "apiGroups": fields.pop("groups", [""]),
            "apiVersions": fields.pop("versions", ["v1"]),
            "operations": fields.pop("operations", ["CREATE"]),
            "resources": fields.pop("resources", ["configmaps"]),
            "scope": "*",
        }
        return {
            "name": f"{path.strip('/').replace('/', '-') or 'root'}.example.com",
            "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": self.url(path), "caBundle": self.ca_bundle},
            "rules": [rule], "timeoutSeconds": 5, **fields,
        }  # fmt: skip

    async def handle(self, request: web.Request) -> web.StreamResponse:
        review = orjson.loads(await request.read())
        self.requests.append(request)
        self.asked.append((request.path, review))
        assert request.transport is not None
        self.sockets.add(request.transport.get_extra_info("peername"))
        found = self.answers.get(request.path, allow)(review["request"])
        if asyncio.iscoroutine(found):
            found = await found
        if isinstance(found, web.StreamResponse):
            return found
        uid = review["request"]["uid"]
        return web.json_response({**review, "request": None, "response": {"uid": uid, **found}})


@contextlib.asynccontextmanager
async def running_webhooks(*names: str) -> AsyncIterator[Webhooks]:
    """The server, on a free port."""
    authority = CertificateAuthority.create("webhook-ca", SystemClock())
    hooks = Webhooks(authority)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", hooks.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    pair = authority.issue_serving("webhook", list(names or NAMES))
    tls = server_context(authority.certificate_pem.decode(), pair)
    tls.verify_mode = ssl.CERT_NONE
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    hooks.port = runner.addresses[0][1]
    try:
        yield hooks
    finally:
        await runner.cleanup()


async def register(server: RunningServer, kind: ServedKind, name: str, *webhooks: Document) -> None:
    """Create the configuration, or give it these webhooks."""
    path = f"/apis/{kind.group}/v1/{kind.plural}"
    body = orjson.dumps(
        {
            "apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name},
            "webhooks": list(webhooks),
        }
    )  # fmt: skip
    await server.rest.request("POST", path, body=body)


@dataclass
class Answered:
    """An answer over HTTPS."""

    status: int
    body: Document
    warnings: list[str]

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class Client:
    """Requests as the administrator, whose answers are seen whole."""

    def __init__(self, server: RunningServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self._session = session

    async def ask(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Answered:
        headers = {"Content-Type": content_type} if body is not None else {}
        data = None if body is None else orjson.dumps(body)
        url = self.server.api.url + path
        async with self._session.request(method, url, data=data, headers=headers) as answer:
            told = [
                text.split('"', 1)[1].rstrip('"') for text in answer.headers.getall("Warning", ())
            ]
            body = await answer.read()
            known = answer.content_type == "application/json"
            return Answered(answer.status, orjson.loads(body) if known else {}, told)


@contextlib.asynccontextmanager
async def client_of(server: RunningServer) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(ssl=server.tls())
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(server, session)


def config_map(name: str = "a", **labels: str) -> Document:
    """A small object to write."""
    return {"metadata": {"name": name, "labels": labels} if labels else {"name": name}}
