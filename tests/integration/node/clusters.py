"""An API server with the one controller that nodes need (certificates), and nodes that join it."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.support.apiserver import RunningServer, running_server

from cluster_agent.node.app import NodeProcess
from cluster_agent.node.config import NodeConfig
from machinery.api.core import NAMESPACES, PODS, SECRETS, Pod
from machinery.controller.manager import Manager
from machinery.controllers import csr
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import AlreadyExists
from machinery.meta.resource import Document, ObjectKey

TOKEN_ID, TOKEN_SECRET = "abcdef", "0123456789abcdef"
TOKEN = f"{TOKEN_ID}.{TOKEN_SECRET}"
WAIT_S = 30.0


async def eventually(what: Callable[[], Any], *, wait_s: float = WAIT_S) -> Any:
    """Wait until `what()` (or what it awaits) is true; its value. Fails with the last value."""
    value: Any = None
    try:
        async with asyncio.timeout(wait_s):
            while True:
                value = what()
                if asyncio.iscoroutine(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"did not come true in {wait_s} s; last value {value!r}") from None


class Cluster:
    """The server, seen as an administrator."""

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self.server, self.rest, self.folder = server, server.rest, folder

    async def prepare(self) -> None:
        for name in ("default", "demo", "kube-system", "kube-node-lease"):
            with contextlib.suppress(AlreadyExists):
                await self.rest.create(
                    NAMESPACES,
                    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
                )
        data = {
            "token-id": TOKEN_ID,
            "token-secret": TOKEN_SECRET,
            "usage-bootstrap-authentication": "true",
        }
        await self.rest.create(
            SECRETS,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "bootstrap.kubernetes.io/token",
                "metadata": {"name": f"bootstrap-token-{TOKEN_ID}"},
                "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()},
            },
            "kube-system",
        )

    def ca_file(self) -> str:
        path = self.folder / "ca.crt"
        path.write_text(self.server.api.ca_pem)
        return str(path)

    async def pod(self, name: str, node: str, **fields: Any) -> Pod:
        """A pod bound to a node; fields of the spec, and `meta`."""
        meta = fields.pop("meta", {})
        containers = fields.pop("containers", [{"name": "c", "image": "docker.io/lab/busybox:1"}])
        document: Document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **meta},
            "spec": {"nodeName": node, "containers": containers, **fields},
        }
        return await self.rest.create(PODS, document, "demo")

    async def get(self, name: str) -> Pod:
        return await self.rest.get(PODS, ObjectKey("demo", name))

    async def phase(self, name: str, wanted: str) -> Pod | None:
        found = await self.get(name)
        return found if found.status.phase == wanted else None

    async def ready(self, name: str) -> Pod | None:
        found = await self.get(name)
        statuses = found.status.container_statuses
        return found if statuses and all(s.ready for s in statuses) else None

    async def gone(self, name: str) -> bool:
        listing = await self.rest.list(PODS, "demo")
        return all(p.metadata.name != name for p in listing.items)


@contextlib.asynccontextmanager
async def cluster(folder: Path, **options: Any) -> AsyncIterator[Cluster]:
    """A running server with the certificates controller."""
    async with running_server(**options) as server:
        manager = Manager(server.local, SystemClock(), SystemIds(), component="test")
        csr.setup(manager, server.api.authority)
        await manager.start()
        made = Cluster(server, folder)
        await made.prepare()
        try:
            yield made
        finally:
            await manager.stop()


@contextlib.asynccontextmanager
async def node(config: NodeConfig) -> AsyncIterator[NodeProcess]:
    """A node process inside this one."""
    process = NodeProcess(config)
    try:
        await process.start()
        yield process
    finally:
        await process.stop()
