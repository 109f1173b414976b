"""A real API server over HTTPS, and what must hold for every answer of it.

The server runs in this process, so that what an input costs is seen as this process's CPU, and whatever it logs can be read.
"""

import asyncio
import contextlib
import copy
import dataclasses
import json
import logging
from collections.abc import Iterator
from typing import Any

import aiohttp
from tests.fuzz.inputs import objects
from tests.support.apiserver import RunningServer, running_server
from tests.support.widgets import DEFINITIONS, GROUP, SCALE, definition, version

from machinery.api.scheme import ServedKind
from machinery.meta.resource import Document
from machinery.server.config import ServerConfig

CUSTOM: Document = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {
                "name": {"type": "string", "pattern": "^(a+)+$", "maxLength": 40},
                "size": {"type": "integer", "minimum": 1, "default": 1},
                "when": {"type": "string", "format": "date-time"},
                "lasts": {"type": "string", "format": "duration"},
                "either": {"x-kubernetes-int-or-string": True},
                "parts": {
                    "type": "array", "maxItems": 20, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"],
                    "items": {
                        "type": "object", "required": ["key"],
                        "properties": {"key": {"type": "string", "maxLength": 30}, "value": {"type": "number"}},
                    },
                },
                "tags": {"type": "array", "maxItems": 20, "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 30}},
                "whole": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
                "free": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
            },
            "x-kubernetes-validations": [
                {"rule": "!has(self.lasts) || duration(self.lasts) >= duration('1s')"},
                {"rule": "!has(self.parts) || self.parts.all(a, self.parts.exists(b, a.key == b.key))"},
                {"rule": "!has(self.tags) || self.tags.isSorted() || self.tags.map(t, t.find('(a+)+$')).size() >= 0"},
                {"rule": "!has(oldSelf.size) || self.size >= oldSelf.size", "messageExpression": "has(self.name) ? 'of ' + self.name : 'smaller'"},
            ],
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}  # fmt: skip
MINE = {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": {"name": "stock"}, "spec": {"size": 2, "tags": ["a"], "parts": [{"key": "a"}]}}  # fmt: skip
OURS_500 = "Internal Server Error"
"""Upstream answers some input with a 500 that says why; ours says nothing, and is never right."""


@dataclasses.dataclass(frozen=True)
class Item:
    """An object that is there."""

    kind: ServedKind
    collection: str
    name: str
    document: Document

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.name}"


class Faults(logging.Handler):
    """What was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record)[-2000:])


class Arena:
    """The server, a client, and an object of every recorded kind."""

    def __init__(self, runner: asyncio.Runner, server: RunningServer, faults: Faults) -> None:
        self.runner, self.server, self.faults = runner, server, faults
        self.session: aiohttp.ClientSession | None = None
        self.items: list[Item] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.faults.found.append(str(context)))
        connector = aiohttp.TCPConnector(ssl=self.server.tls(), limit=4)
        timeout = aiohttp.ClientTimeout(total=20)
        self.session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        )
        columns = {"subresources": {"status": {}, "scale": SCALE}}
        await self.server.rest.create(
            DEFINITIONS, definition("widgets", "Widget", version("v1", CUSTOM, **columns))
        )
        for document in (MINE, *objects()):
            await self._stock(document)
        assert len(self.items) > 12, [item.path for item in self.items]

    async def _stock(self, document: Document) -> None:
        version = str(document.get("apiVersion", ""))
        group, _, served = version.rpartition("/")
        kind = self.server.api.scheme.by_gvk(group, served, str(document.get("kind", "")))
        if kind is None or not kind.storable or any(i.kind is kind for i in self.items):
            return
        name = kind.plural + ".example.com" if kind.kind == "CustomResourceDefinition" else "stock"
        metadata = {**(document.get("metadata") or {}), "name": name}
        metadata.pop("namespace", None)
        collection = self.collection(kind)
        body = {**document, "metadata": metadata}
        status, _, raw = await self.ask("POST", collection, json.dumps(body).encode(), {})
        if status == 201:
            self.items.append(Item(kind, collection, name, json.loads(raw)))

    @staticmethod
    def collection(kind: ServedKind) -> str:
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        return (
            f"{root}/namespaces/default/{kind.plural}"
            if kind.namespaced
            else f"{root}/{kind.plural}"
        )

    async def ask(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        assert self.session is not None
        from yarl import URL

        sent = {"Content-Type": "application/json", **headers} if body is not None else headers
        url = URL(self.server.api.url + target, encoded=True)
        async with self.session.request(method, url, data=body, headers=sent) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    def tried(self, method: str, target: str, body: bytes | None = None, **headers: str) -> int:
        """The status of a request whose answer was looked at."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        status, told, raw = self.runner.run(self.ask(method, target, body, named))
        self.check(status, told, raw)
        return status

    def check(self, status: int, headers: dict[str, str], raw: bytes) -> None:
        """An answer is an object, or a Status that says what is wrong; nothing was logged."""
        faults, self.faults.found[:] = self.faults.found[:], []
        assert not faults, faults[0]
        assert "X-Injected" not in headers
        if (
            "json" not in headers.get("Content-Type", "")
            or headers.get("Content-Encoding") == "gzip"
        ):
            assert OURS_500.encode() not in raw, raw[:300]
            return
        document = json.loads(raw) if raw else {}
        if status < 400:
            return
        assert document["kind"] == "Status", document
        assert (document["status"], document["code"]) == ("Failure", status)
        assert isinstance(document["message"], str)
        if status >= 500:
            assert OURS_500 not in document["message"], document
            assert (
                status in (501, 503, 504)
                or "reason" not in document
                or document["reason"] == "InternalError"
            ), document

    def stock(self) -> list[Item]:
        return copy.copy(self.items)


@contextlib.contextmanager
def arena(**more: Any) -> Iterator[Arena]:
    """An arena while the block runs; `more` is for the server: kinds, extensions."""
    faults = Faults()
    logging.getLogger().addHandler(faults)
    try:
        with asyncio.Runner() as runner:
            running = running_server(config=ServerConfig(shutdown_grace_s=0.2), **more)
            found = Arena(runner, runner.run(running.__aenter__()), faults)
            try:
                runner.run(found.open())
                yield found
            finally:
                runner.run(_close(found, running))
    finally:
        logging.getLogger().removeHandler(faults)


async def _close(found: Arena, running: Any) -> None:
    if found.session is not None:
        await found.session.close()
    await running.__aexit__(None, None, None)
