"""Thirteen months in one process that nobody starts again: every certificate is replaced in time and used live.

A federation's server, a member's server, the member's agent, a node's kubelet. They speak real TLS whose handshakes judge
certificates as of the day that it is there (`tests.support.timetravel`). Each month everyone talks to everyone over fresh
connections, and what was shown in the handshakes is noted.
"""

import asyncio
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tests.support.apiserver import RunningServer, running_server
from tests.support.timetravel import Travel, verify_at

from cluster_agent.link.identity import AgentIdentity, FederationAccess
from cluster_agent.node.access import NodeAccess, ServingCertificates
from cluster_agent.node.config import NodeConfig
from federation.clusters import access, bootstrap
from federation.controllers import identities
from machinery.api.fleet.cluster import CLUSTER_LEASES
from machinery.api.fleet.kinds import FLEET
from machinery.api.kinds import BUILTIN
from machinery.client import kubeconfig
from machinery.client.rest import RestClient
from machinery.controller.manager import Manager
from machinery.controllers import csr
from machinery.kit.clock import Clock
from machinery.kit.ids import SystemIds
from machinery.kit.tasks import TaskOwner
from machinery.server.app import Extensions
from machinery.server.config import ServerConfig
from machinery.server.launch import (
    ADMIN_KUBECONFIG,
    keep_admin_kubeconfig,
    write_admin_kubeconfig,
)
from machinery.server.pki import Pair, client_context
from machinery.server.user import UserInfo

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DAY_S = 86_400.0
MONTHS, MONTH_S = 13, 30.5 * DAY_S
LEAP_S = DAY_S
ROOT = UserInfo("root", ("system:masters",))
CONFIG = ServerConfig(static_tokens=(("tok-root", ROOT),))
LOG = "/api/v1/namespaces/default/pods/p/log"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


def serial(der: bytes | None) -> int:
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


async def shown_by(url: str, context: ssl.SSLContext) -> int:
    """The serial number of the certificate that a server shows a client who verifies it."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        return serial(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.close()
        await writer.wait_closed()


class World:
    """Both servers, the agent and the node, and what each has shown so far, by the name of the certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.travel = Travel(self.contexts)
        self.shown: dict[str, list[int]] = {}
        self.federation: RunningServer
        self.member: RunningServer
        self.agent: AgentIdentity
        self.access: NodeAccess
        self.serving: ServingCertificates
        self.trusts: dict[str, ssl.SSLContext] = {}
        """What verifies each server: contexts without a certificate of their own."""
        self._meanwhile = TaskOwner()
        self._whole = False

    def contexts(self) -> Iterator[ssl.SSLContext]:
        if not self._whole:
            return  # today is still today
        for server in (self.federation, self.member):
            yield server.api._tls  # noqa: SLF001 - what serves: nobody else may set its time
            yield server.api.node_proxy._tls  # noqa: SLF001
        assert self.access._context is not None  # noqa: SLF001
        yield from (self.agent.context, self.access._context, self.serving.context)  # noqa: SLF001
        yield from self.trusts.values()

    def note(self, name: str, number: int) -> None:
        seen = self.shown.setdefault(name, [])
        if number not in seen:
            seen.append(number)

    async def talk(self) -> None:
        """Everyone with everyone, over connections made now."""
        for name, server in (("federation", self.federation), ("member", self.member)):
            trust = self.trusts[name]
            self.note(f"{name} serving", await shown_by(server.api.url, trust))
        agent = await self.ask(self.federation, self.agent.context)
        assert agent == "ubernetes:cluster:alpha"
        assert self.access._context is not None  # noqa: SLF001
        assert await self.ask(self.member, self.access._context) == "system:node:n1"  # noqa: SLF001
        assert await self.ask(self.member, self.administrator()) == "kubernetes-admin"
        self.note("agent", self.kept("agent.crt"))
        self.note("kubelet client", self.kept("client.pem"))
        self.note("kubelet serving", self.kept("serving.pem"))
        client = RestClient(self.member.api.url, self.trusts["member"], "tok-root")
        try:
            told = await client.request("GET", LOG)
        finally:
            await client.close()
        assert told == b"a line\n"

    def kept(self, name: str) -> int:
        """Of the certificate on disk, which must be good today."""
        held = x509.load_pem_x509_certificate((self.folder / name).read_bytes())
        assert held.not_valid_after_utc > self.travel.now() + dt.timedelta(days=30), name
        return held.serial_number

    def administrator(self) -> ssl.SSLContext:
        """Who reads the file today."""
        found = kubeconfig.load(str(self.folder / ADMIN_KUBECONFIG))
        held = x509.load_pem_x509_certificate(found.certificate)
        self.note("administrator", held.serial_number)
        context = found.ssl_context()
        verify_at(context, self.travel.now())
        return context

    async def ask(self, server: RunningServer, context: ssl.SSLContext) -> str:
        """Whom the server takes the client for."""
        client = RestClient(server.api.url, context)
        try:
            answer = await client.request("POST", WHO, body=json.dumps(REVIEW).encode())
        finally:
            await client.close()
        name: str = json.loads(answer)["status"]["userInfo"]["username"]
        return name

    async def kubelet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers with one line of a log, and notes who asked."""
        await reader.readuntil(b"\r\n\r\n")
        peer = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.note("server as kubelets' client", serial(peer))
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\na line\n"
        )
        await writer.drain()
        writer.close()

    # ------------------------------------------------------------------------------------------------- set-up
    async def start(self, stack: AsyncExitStack) -> None:
        kinds = (*BUILTIN, *FLEET)
        clock = self.travel.clock("servers", watched=False)
        self.federation = await stack.enter_async_context(
            running_server(
                kinds=kinds,
                config=CONFIG,
                clock=clock,
                extensions=Extensions(bootstrap=access.common()),
            )
        )
        self.member = await stack.enter_async_context(running_server(config=CONFIG, clock=clock))
        for name, server in (("federation", self.federation), ("member", self.member)):
            self.trusts[name] = client_context(server.api.ca_pem)
            manager = Manager(server.local, clock, SystemIds(), component=name)
            setup = identities.setup if server is self.federation else csr.setup
            setup(manager, server.api.authority)
            await manager.start()
            stack.push_async_callback(manager.stop)
        stack.push_async_callback(self._meanwhile.close)
        await self._join()
        await self._add_node()
        written = write_admin_kubeconfig(self.member.api, str(self.folder))
        kept = keep_admin_kubeconfig(self.member.api, str(self.folder), written)
        self._spawn(kept, "admin kubeconfig")
        self._whole = True

    def _spawn(self, work: Any, name: str) -> None:
        _ = self._meanwhile.spawn(work, name)

    async def _token(self, server: RunningServer, clock: Clock, group: str) -> str:
        life = dt.timedelta(hours=1)
        token = await bootstrap.mint(server.local, group, life, "a test's", clock, SystemIds())
        return str(token)

    async def _join(self) -> None:
        clock = self.travel.clock("agent")
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CLUSTER_LEASES}}
        await self.federation.rest.request(
            "POST", "/api/v1/namespaces", body=json.dumps(namespace).encode()
        )
        group = f"{bootstrap.CLUSTERS_GROUP}:alpha"
        token = await self._token(self.federation, clock, group)
        ca = self.federation.api.ca_pem.encode()
        place = FederationAccess(self.federation.api.url, ca, token)
        self.agent = AgentIdentity("alpha", place, self.folder, clock)
        await self.travel.during(self.agent.obtain())
        self._spawn(self.agent.renew_forever(), "agent")

    async def _add_node(self) -> None:
        clock, serving_clock = self.travel.clock("kubelet"), self.travel.clock("kubelet serving")
        (self.folder / "ca.crt").write_text(self.member.api.ca_pem)
        config = NodeConfig(
            "n1", str(self.folder), api_server=self.member.api.url,
            ca_file=str(self.folder / "ca.crt"),
            bootstrap_token=await self._token(self.member, clock, "system:bootstrappers:alpha"),
        )  # fmt: skip
        self.access = NodeAccess(config, clock)
        client = await self.travel.during(self.access.connect())
        self._client = client
        self.serving = ServingCertificates(config, serving_clock, self.access.ca, ["n1"])
        listening = await asyncio.start_server(
            self.kubelet, "127.0.0.1", 0, ssl=self.serving.context
        )
        self._listening = listening
        await self._register(listening.sockets[0].getsockname()[1])
        self._spawn(self.access.keep_fresh(client), "kubelet client")
        ready, registered = asyncio.Event(), asyncio.Event()
        registered.set()
        self._spawn(self.serving.keep(client, registered.wait, ready.set), "kubelet serving")
        await self.travel.during(_waited(ready))

    async def _register(self, port: int) -> None:
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
        containers = [{"name": "c", "image": "x"}]
        spec = {"nodeName": "n1", "containers": containers}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
        rest = self.member.rest
        await rest.request("POST", "/api/v1/nodes", body=json.dumps(node).encode())
        await rest.request(
            "PATCH", "/api/v1/nodes/n1/status", body=json.dumps({"status": status}).encode(),
            content_type="application/merge-patch+json",
        )  # fmt: skip
        path = "/api/v1/namespaces/default/pods"
        await rest.request("POST", path, body=json.dumps(pod).encode())

    async def stop(self) -> None:
        self._listening.close()
        await self._listening.wait_closed()
        await self._client.close()


async def _waited(event: asyncio.Event) -> None:
    await event.wait()


@asynccontextmanager
async def world_in(folder: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        world = World(folder)
        await world.start(stack)
        stack.push_async_callback(world.stop)
        yield world


async def refused(world: World, pair: Pair) -> bool:
    """Whether the member's server ends the connection of a client with that certificate."""
    context = client_context(world.member.api.ca_pem, pair)
    verify_at(context, world.travel.now())
    try:
        await world.ask(world.member, context)
    except ConnectionError:
        return True
    return False


async def test_thirteen_months_without_a_restart(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        old = world.member.api.client_pair("root", ("system:masters",))
        assert not await refused(world, old)
        await world.talk()
        for _ in range(MONTHS):
            await world.travel.advance(MONTH_S, LEAP_S)
            await world.talk()
        assert await refused(world, old), "OpenSSL does not know what day it is"
    print({name: len(numbers) for name, numbers in world.shown.items()})
    assert world.travel.passed > 395 * DAY_S
    assert {name for name, numbers in world.shown.items() if len(numbers) < 2} == set()
    assert len(world.shown) == 7
