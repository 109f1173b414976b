"""A federation and two members in this process, over real HTTP: an export in one is an import in both, and goes again."""

import asyncio
import datetime as dt
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509

from cluster_agent.cli import ControlFile, FederationFile, start_control
from cluster_agent.link.gatewaycert import fault, held_in
from federation.app import FederationServer
from federation.clusters import bootstrap
from federation.config import FederationConfig
from machinery.api.core import NAMESPACES, NODES, SECRETS
from machinery.api.discovery_kinds import ENDPOINTSLICES, EndpointSlice
from machinery.api.fleet.multicluster import (
    CLUSTER_ID_PROPERTY,
    CLUSTER_NETWORKS,
    CLUSTER_PROPERTIES,
    DIRECT,
    GATEWAY_NODE,
    GATEWAY_SECRET,
    PEERS,
    SERVICE_EXPORTS,
    SERVICE_IMPORTS,
    SOURCE_CLUSTER_LABEL,
    ServiceImport,
    gateway_name,
)
from machinery.api.service_kinds import SERVICES
from machinery.client.interface import Client
from machinery.client.rest import RestClient
from machinery.kit.clock import SystemClock
from machinery.kit.ids import SystemIds
from machinery.meta.errors import StatusError
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey
from machinery.server.pki import client_context
from machinery.server.user import NODES as NODES_GROUP

pytestmark = [pytest.mark.integration, pytest.mark.slow]
T = TypeVar("T")
WAIT_S = 40.0
MEMBERS = {"alpha": "10.221.0.0/16", "beta": "10.222.0.0/16"}
WEB = ObjectKey("demo", "web")
ADDRESSES = ("10.64.0.5", "10.64.0.6")


@dataclass
class Fleet:
    federation: Client
    members: dict[str, Client]
    nodes: dict[str, RestClient]
    """As a node of the member, over HTTP."""
    ca: bytes


@asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    clock, ids = SystemClock(), SystemIds()
    async with AsyncExitStack() as stack:
        config = FederationConfig(dataDir=str(folder / "federation"), listen=("127.0.0.1:0",))
        federation = FederationServer(config, clock, ids)
        server = await federation.start()
        stack.push_async_callback(federation.stop)
        client = server.client(manager="test")
        ca = server.ca_pem.encode()
        found = Fleet(client, {}, {}, ca)
        ca_file = folder / "federation-ca.crt"
        ca_file.write_bytes(ca)
        for name, cidr in MEMBERS.items():
            groups = bootstrap.cluster_groups(name)
            token = await bootstrap.mint(client, groups, dt.timedelta(hours=1), "t", clock, ids)
            file = ControlFile(
                name,
                str(folder / name),
                listen=("127.0.0.1:0",),
                zone=f"zone-{name}",
                clustersetCidr=cidr,
                federation=FederationFile(server.url, str(ca_file), str(token)),
            )
            control, link = await start_control(file)
            stack.push_async_callback(control.stop)
            assert link is not None
            stack.push_async_callback(link.stop)
            api = control.server
            assert api is not None
            found.members[name] = api.client(manager="test")
            pair = api.client_pair("system:node:n1", (NODES_GROUP,))
            node = RestClient(api.url, client_context(api.ca_pem, pair))
            found.nodes[name] = node
            stack.push_async_callback(node.close)
        yield found


async def eventually(what: Callable[[], Awaitable[T]]) -> T:
    """The first true answer; an object that is not there yet counts as no answer."""
    said: object = None
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    if value := await what():
                        return value
                except StatusError as error:
                    said = error
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"did not come true in {WAIT_S} s; last error {said}") from None


def body(kind: str, version: str, name: str, **more: object) -> Document:
    namespace = {} if kind in ("Namespace", "Node") else {"namespace": WEB.namespace}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name} | namespace} | more


async def serve(member: Client) -> None:
    """A Service without selector, whose endpoints are ours to say."""
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]
    await member.create(SERVICES, body("Service", "v1", WEB.name, spec={"ports": ports}), "demo")
    piece = body(
        "EndpointSlice",
        "discovery.k8s.io/v1",
        "web-1",
        addressType="IPv4",
        ports=[{"name": "http", "port": 8080, "protocol": "TCP"}],
        endpoints=[{"addresses": [a], "conditions": {"ready": True}} for a in ADDRESSES],
    )
    piece["metadata"]["labels"] = {"kubernetes.io/service-name": WEB.name}
    await member.create(ENDPOINTSLICES, piece, "demo")
    export = body("ServiceExport", SERVICE_EXPORTS.api_version, WEB.name)
    await member.create(SERVICE_EXPORTS, export, "demo")


async def slices(member: Client, source: str) -> list[EndpointSlice]:
    found = (await member.list(ENDPOINTSLICES, "demo")).items
    return [one for one in found if one.metadata.labels.get(SOURCE_CLUSTER_LABEL) == source]


async def imported(member: Client) -> ServiceImport | None:
    found = await member.get(SERVICE_IMPORTS, WEB)
    ready = condition(found.status.conditions, "Ready")
    return found if ready is not None and ready.status == "True" else None


@pytest.mark.timeout(180)
async def test_an_export_becomes_an_import_everywhere_and_goes_again(tmp_path: Path) -> None:
    async with fleet(tmp_path) as world:
        alpha, beta = world.members["alpha"], world.members["beta"]
        await alpha.create(NAMESPACES, body("Namespace", "v1", "demo"))
        await serve(alpha)
        await eventually(lambda: imported(alpha))
        # The import waits for the namespace in a member that has none of that name.
        await beta.create(NAMESPACES, body("Namespace", "v1", "demo"))
        for name, member in world.members.items():
            found = await eventually(lambda member=member: imported(member))  # type: ignore[misc]
            assert [c.cluster for c in found.status.clusters] == ["alpha"]
            (address,) = found.spec.ips
            assert ipaddress.ip_address(address) in ipaddress.ip_network(MEMBERS[name])

        for member in world.members.values():
            (piece,) = await eventually(lambda member=member: slices(member, "alpha"))  # type: ignore[misc]
            assert sorted(e.addresses[0] for e in piece.endpoints) == list(ADDRESSES)
            assert [p.port for p in piece.ports] == [8080]
            assert piece.service_name == ""
            owner = (await member.get(SERVICE_IMPORTS, WEB)).metadata.uid
            await eventually(lambda member=member, owner=owner: owned(member, owner))  # type: ignore[misc]

        export = await eventually(lambda: exported(alpha))
        assert export == {"Valid": "Valid", "Ready": "Exported", "Conflict": "NoConflicts"}

        patch = [{"addresses": [ADDRESSES[0]], "conditions": {"ready": True}}]
        await alpha.patch(ENDPOINTSLICES, ObjectKey("demo", "web-1"), {"endpoints": patch})
        await eventually(lambda: has(beta, 1))
        await eventually(lambda: has(alpha, 1))

        kept = (await beta.get(SERVICE_IMPORTS, WEB)).spec.ips
        assert kept, "an address is kept through all of that"
        await alpha.delete(SERVICE_EXPORTS, WEB)
        for member in world.members.values():
            await eventually(lambda member=member: gone(member))  # type: ignore[misc]


async def owned(member: Client, uid: str) -> bool:
    (piece,) = await slices(member, "alpha")
    return [r.uid for r in piece.metadata.owner_references] == [uid]


async def exported(member: Client) -> dict[str, str]:
    found = (await member.get(SERVICE_EXPORTS, WEB)).status.conditions
    ready = condition(found, "Ready")
    return {c.type: c.reason for c in found} if ready and ready.status == "True" else {}


async def has(member: Client, count: int) -> bool:
    found = await slices(member, "alpha")
    return sum(len(one.endpoints) for one in found) == count


async def gone(member: Client) -> bool:
    left = (await member.list(SERVICE_IMPORTS, "demo")).items
    return not left and not await slices(member, "alpha")


@pytest.mark.timeout(180)
async def test_a_member_gets_its_gateways_identity_and_says_how_it_is_reached(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path) as world:
        alpha = world.members["alpha"]
        secret = await eventually(lambda: alpha.get(SECRETS, GATEWAY_SECRET))
        held = held_in(secret)
        assert fault(held, "alpha", world.ca) == ""
        names = x509.load_pem_x509_certificate(held.certificate).extensions
        dns = names.get_extension_for_class(x509.SubjectAlternativeName).value
        assert dns.get_values_for_type(x509.DNSName) == [gateway_name("alpha")]
        read = await world.nodes["alpha"].get(SECRETS, GATEWAY_SECRET)
        assert read.data == secret.data, "nodes may read it"
        with pytest.raises(StatusError, match="forbidden"):
            await world.nodes["alpha"].list(SECRETS, "kube-system")

        said = await eventually(lambda: alpha.get(CLUSTER_PROPERTIES, ObjectKey("", CLUSTER_ID_PROPERTY)))  # fmt: skip
        assert said.spec.value == "alpha"

        note = {"address": "10.1.0.1", "port": 15443, "cidrs": ["10.64.0.0/24"], "probe": "10.64.0.1"}  # fmt: skip
        peers = [{"cluster": "beta", "path": DIRECT, "reason": "all answer"}]
        node = body("Node", "v1", "n1")
        node["metadata"]["annotations"] = {GATEWAY_NODE: json.dumps(note), PEERS: json.dumps(peers)}
        await alpha.create(NODES, node)
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        await alpha.patch(NODES, ObjectKey("", "n1"), {"status": ready}, subresource="status")

        async def told() -> bool:
            found = await world.federation.get(CLUSTER_NETWORKS, ObjectKey("", "alpha"))
            way = found.spec.gateways and found.status.summary == "beta=Direct"
            return bool(way) and found.status.observed_at is not None

        await eventually(told)
