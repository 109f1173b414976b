"""A fleet for benches: a real federation server, and many members in this process, each with a store of its own.

The server is a process: SQLite with synchronous=FULL, TLS, RBAC, all controllers. A member is `cluster_agent`'s own link
(certificate by CSR, heartbeat, report, reversed connections, Works by server-side apply, all over TLS on loopback) above
an API server with a memory store and without controllers: a Deployment that arrives there is there, and makes no pods. So what is
measured ends with the object in the member, as in the peers' figures.
"""

import asyncio
import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.bench.bench_rollout import Program, free_port

from cluster_agent.link.app import Link, LinkConfig
from cluster_agent.link.identity import FederationAccess
from cluster_agent.link.report import Place
from federation.clusters import bootstrap as tokens
from machinery.api.fleet.cluster import CLUSTERS, READY
from machinery.api.fleet.multicluster_kinds import MEMBER
from machinery.api.kinds import BUILTIN
from machinery.api.scheme import Scheme
from machinery.client import kubeconfig
from machinery.client.interface import Client, dynamic
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import StatusError
from machinery.meta.objectmeta import is_true
from machinery.meta.resource import Document, ObjectKey, Resource
from machinery.server import bootstrap
from machinery.server.app import ApiServer, Extensions, settle_collector
from machinery.server.config import ServerConfig
from machinery.server.user import MASTERS, UserInfo
from machinery.store.memory import MemoryStore
from machinery.wire.link import VIA_LINK

CLOCK, IDS = SystemClock(), SystemIds()
DEPLOYMENTS = dynamic("apps", "v1", "deployments", "Deployment", True)
NAMESPACES = dynamic("", "v1", "namespaces", "Namespace", False)
NODES = dynamic("", "v1", "nodes", "Node", False)
START_S = 900.0
"""For all members to be Ready; a machine that others use as well is slow in this."""
KINDS = (("apps/v1", (("Deployment", "deployments"),)), ("v1", (("ConfigMap", "configmaps"),)))


def zone_of(number: int, zones: int) -> str:
    return f"zone-{number % zones}"


class Member:
    """One member cluster in this process."""

    def __init__(self, number: int, zones: int, scheme: Scheme) -> None:
        self.name, self.zone = f"member-{number:03}", zone_of(number, zones)
        self.region = f"region-{number % zones % 3}"
        self._scheme = scheme
        self.api: ApiServer | None = None
        self._link: Link | None = None

    async def start(self, url: str, ca: str, token: str, folder: Path) -> None:
        federation = UserInfo("ubernetes:federation", (MASTERS,)).authenticated()
        extensions = Extensions(
            authenticators=[lambda request: federation if request.get(VIA_LINK) else None]
        )
        config = ServerConfig(name=self.name, service_accounts=False)
        store = MemoryStore()
        await store.start()
        api = self.api = ApiServer(self._scheme, store, config, CLOCK, IDS, extensions=extensions)
        await api.cache.start()
        await bootstrap.ensure(api.registry, api.scheme, list(bootstrap.documents()))
        client = api.client(manager="bench")
        await client.create(NODES, self._node())
        place = Place(self.name, "bench", self.region, (self.zone,), "", "0", "v1.36.2", KINDS)
        home = folder / self.name
        home.mkdir()
        access = FederationAccess(url, ca.encode(), token)
        self._link = Link(
            LinkConfig(place, access, home), api.client(manager="ubernetes-federation"), api.handler,
            self._resource, CLOCK, IDS,
        )  # fmt: skip
        self._link.start()

    def _node(self) -> Document:
        offered = {"cpu": "100000", "memory": "1000Ti", "pods": "1000000"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
        labels = {"topology.kubernetes.io/zone": self.zone}
        return {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-0", "labels": labels},
            "spec": {}, "status": {"allocatable": offered, "capacity": offered, "conditions": [ready]},
        }  # fmt: skip

    def _resource(self, version: str, kind: str) -> Resource[Document] | None:
        group, _, number = version.rpartition("/")
        known = self._scheme.by_gvk(group, number, kind)
        if known is None:
            return None
        return dynamic(known.group, known.version, known.plural, known.kind, known.namespaced)

    def has(self, key: ObjectKey, plural: str = "apps/deployments") -> bool:
        """Whether the object is there now."""
        return self.api is not None and self.api.peek(plural, key.namespace, key.name) is not None

    async def die(self) -> None:
        """Its agent is gone from one moment to the next; what it holds stays."""
        link, self._link = self._link, None
        if link is not None:
            await link.stop()

    async def stop(self) -> None:
        await self.die()
        if self.api is not None:
            self.api.watches.close_all()
            await self.api.cache.stop()


@dataclass
class Fleet:
    """`server` is the process, `client` the administrator's connection to it."""

    server: Program
    client: Client
    members: list[Member] = field(default_factory=list)

    async def until(
        self, what: Callable[[], bool], limit_s: float, pause_s: float = 0.005
    ) -> float:
        """Seconds until it is so. Raises TimeoutError."""
        started = time.monotonic()
        while not what():
            if time.monotonic() - started > limit_s:
                raise TimeoutError(f"not so after {limit_s} s")
            await asyncio.sleep(pause_s)
        return time.monotonic() - started

    async def settled(
        self, quiet_s: float = 1.5, share: float = 0.35, limit_s: float = 120.0
    ) -> None:
        """Until the server does little but hear heartbeats."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            before = self.server.cpu()
            await asyncio.sleep(quiet_s)
            if self.server.cpu() - before < share * quiet_s:
                return

    async def clusters_ready(self) -> int:
        found = (await self.client.list(CLUSTERS)).items
        return sum(
            is_true(c.status.conditions, READY) and bool(c.status.resource_summary.allocatable)
            for c in found
        )


def start_server(folder: Path, port: int, **settings: Any) -> "subprocess.Popen[bytes]":
    """federation-server as an operator starts it."""
    file = folder / "federation.yaml"
    listen = {"dataDir": str(folder / "federation"), "listen": [f"127.0.0.1:{port}"]}
    file.write_text(yaml.safe_dump(listen | settings))
    command = [str(Path(sys.executable).parent / "federation-server"), "--config", str(file)]
    command += ["--log-level", "warning", "--log-file", str(folder / "federation.log")]
    return subprocess.Popen(command, env=os.environ | {"FEDERATION_DATABASE_URL": ""})


async def connect(
    folder: Path, process: "subprocess.Popen[bytes]", limit_s: float = START_S
) -> Client:
    """Once the server answers."""
    file = folder / "federation" / "admin.kubeconfig"
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError((folder / "federation.log").read_text()[-2000:])
        if file.exists():
            client = kubeconfig.load(file).client(field_manager="bench")
            try:
                await client.list(NAMESPACES)
            except (StatusError, ConnectionError, TimeoutError):
                await client.close()
            else:
                return client
        await asyncio.sleep(0.05)
    raise TimeoutError("the federation server does not answer")


@asynccontextmanager
async def a_fleet(count: int, zones: int = 10, **settings: Any) -> AsyncIterator[Fleet]:
    """`count` members in `zones` zones, Ready; everything ends with the block."""
    scheme = Scheme((*BUILTIN, *MEMBER))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        port = free_port()
        process = start_server(folder, port, **settings)
        fleet: Fleet | None = None
        try:
            client = await connect(folder, process)
            fleet = Fleet(Program("federation-server", process), client)
            ca = (kubeconfig.load(folder / "federation" / "admin.kubeconfig").ca or b"").decode()
            url = f"https://127.0.0.1:{port}"
            for number in range(count):
                member = Member(number, zones, scheme)
                fleet.members.append(member)
                group = tokens.cluster_groups(member.name)
                token = await tokens.mint(client, group, dt.timedelta(hours=1), "bench", CLOCK, IDS)
                await member.start(url, ca, str(token), folder)
            await ready(fleet)
            settle_collector()  # as each member's own process does: here one pause would be all members' at once
            yield fleet
        finally:
            if fleet is not None:
                for member in fleet.members:
                    with suppress(ConnectionError, StatusError):
                        await member.stop()
                await fleet.client.close()
            process.terminate()
            process.wait(30)


async def ready(fleet: Fleet) -> None:
    """Every member is heard and tells its room."""
    until = time.monotonic() + START_S
    while (there := await fleet.clusters_ready()) < len(fleet.members):
        if time.monotonic() > until:
            raise TimeoutError(f"{there} of {len(fleet.members)} members are Ready")
        await asyncio.sleep(0.25)
    await fleet.settled()


def deployment(name: str, namespace: str, replicas: int, **labels: str) -> Document:
    own = {"app": name}
    container = {"name": "web", "image": "docker.io/lab/whoami:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": own | labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": own}, "spec": {"containers": [container]}},
        },
    }


def namespace(name: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def policy(name: str, where: str, label: str, placement: Document) -> Document:
    """A PropagationPolicy for Deployments with label `bench: LABEL`."""
    selector = {"apiVersion": "apps/v1", "kind": "Deployment"}
    return {
        "apiVersion": "policy.karmada.io/v1alpha1",
        "kind": "PropagationPolicy",
        "metadata": {"name": name, "namespace": where},
        "spec": {
            "resourceSelectors": [selector | {"labelSelector": {"matchLabels": {"bench": label}}}],
            "placement": placement,
        },
    }
