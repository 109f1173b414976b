"""IPAddresses and ServiceCIDRs through a real server: who has which address, and ranges that come and go."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server
from tests.support.loopclock import LoopClock

from cluster_agent.control.controllers import servicecidr
from cluster_agent.control.controllers.servicecidr import IP_ADDRESSES, SERVICE_CIDRS, default_cidr
from machinery.api.kinds import BUILTIN
from machinery.api.template_kinds import RUN_BY_MEMBERS
from machinery.client.interface import PatchType, dynamic
from machinery.controller.manager import Manager
from machinery.kit.ids import SeededIds
from machinery.meta.errors import AlreadyExists, InternalError, Invalid, NotFound
from machinery.meta.resource import Document, ObjectKey
from machinery.server.app import Extensions
from machinery.server.config import ServerConfig

pytestmark = pytest.mark.integration
KINDS = (*BUILTIN, *RUN_BY_MEMBERS)
SERVICES = dynamic("", "v1", "services", "Service", True)
SMALL = "10.96.0.0/29"
"""The API's own address, and five others."""
CONFIG = ServerConfig(service_cidr=SMALL)
EXTENSIONS = Extensions(bootstrap=[default_cidr(SMALL)])


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(kinds=KINDS, config=CONFIG, extensions=EXTENSIONS) as running:
        yield running


def service(name: str, **spec: Any) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"port": 80}], **spec},
    }


def cidr(name: str, *cidrs: str) -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": name},
        "spec": {"cidrs": list(cidrs)},
    }


def address(ip: str, **parent: str) -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": ip},
        "spec": {"parentRef": parent},
    }


async def test_a_services_address_is_an_object_as_long_as_the_service_has_it(
    server: RunningServer,
) -> None:
    made = await server.rest.create(SERVICES, service("web"), "default")
    ip = made["spec"]["clusterIP"]
    found = await server.rest.get(IP_ADDRESSES, ObjectKey("", ip))
    parent = {"resource": "services", "namespace": "default", "name": "web"}
    assert found["spec"] == {"parentRef": parent}
    assert found["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    assert found["metadata"]["uid"]
    assert [one["metadata"]["name"] for one in (await server.local.list(IP_ADDRESSES)).items] == [
        ip
    ]
    await server.rest.delete(SERVICES, ObjectKey("default", "web"))
    with pytest.raises(NotFound):
        await server.rest.get(IP_ADDRESSES, ObjectKey("", ip))


async def test_an_address_that_somebody_reserved_is_not_given(server: RunningServer) -> None:
    gateway = {"group": "gateway.networking.k8s.io", "resource": "gateways", "name": "g"}
    await server.rest.create(IP_ADDRESSES, address("10.96.0.4", **gateway))
    with pytest.raises(AlreadyExists):
        await server.rest.create(IP_ADDRESSES, address("10.96.0.4", **gateway))
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        await server.rest.create(SERVICES, service("a", clusterIP="10.96.0.4"), "default")
    given = []
    with pytest.raises(InternalError, match="range is full"):
        for number in range(9):
            made = await server.rest.create(SERVICES, service(f"s{number}"), "default")
            given.append(made["spec"]["clusterIP"])
    assert "10.96.0.4" not in given
    services = server.api.registry.services
    assert services is not None
    for _ in range(2):
        await services.repair()
    assert await server.rest.get(IP_ADDRESSES, ObjectKey("", "10.96.0.4")), "it is not ours to end"


async def test_an_address_whose_object_was_deleted_gets_it_again(server: RunningServer) -> None:
    made = await server.rest.create(SERVICES, service("web"), "default")
    key = ObjectKey("", made["spec"]["clusterIP"])
    await server.rest.delete(IP_ADDRESSES, key)
    services = server.api.registry.services
    assert services is not None
    await services.repair()
    assert (await server.rest.get(IP_ADDRESSES, key))["spec"]["parentRef"]["name"] == "web"


@pytest.mark.parametrize(
    ("resource", "document", "field", "words"),
    [
        (SERVICE_CIDRS, cidr("a"), "spec.cidrs", "Required value: at least one CIDR required"),
        (SERVICE_CIDRS, cidr("a", "10.1.0.0/24", "10.2.0.0/24"), "spec.cidrs", "no more than one IP for each"),
        (SERVICE_CIDRS, cidr("a", "10.1.0.0/24", "fd00::/64", "10.3.0.0/24"), "spec.cidrs", "up to 2 values"),
        (SERVICE_CIDRS, cidr("a", "10.1.0.1/24"), "spec.cidrs[0]", "must not have bits set beyond"),
        (SERVICE_CIDRS, cidr("a", "10.1/24"), "spec.cidrs[0]", "must be a valid CIDR value"),
        (SERVICE_CIDRS, cidr("a", "FD00::/64"), "spec.cidrs[0]", 'must be in canonical form ("fd00::/64")'),
        (IP_ADDRESSES, address("a", resource="services", name="x"), "metadata.name", "unable to parse IP"),
        (IP_ADDRESSES, address("FD00::1", resource="s", name="x"), "metadata.name", "must be a canonical format"),
        (IP_ADDRESSES, address("10.1.1.1", resource="services"), "spec.parentRef.name", "Required value"),
        (IP_ADDRESSES, address("10.1.1.1", name="x"), "spec.parentRef.resource", "Required value"),
    ],
)  # fmt: skip
async def test_refused(
    server: RunningServer, resource: Any, document: Document, field: str, words: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await server.rest.create(resource, document)
    told = {cause["field"]: cause["message"] for cause in (refused.value.details or {})["causes"]}
    assert words in told[field]


async def test_what_stays_as_it_is(server: RunningServer) -> None:
    await server.rest.create(SERVICE_CIDRS, cidr("more", "10.97.0.0/24"))
    key = ObjectKey("", "more")
    with pytest.raises(Invalid, match="field is immutable"):
        await server.rest.patch(SERVICE_CIDRS, key, {"spec": {"cidrs": ["10.98.0.0/24"]}})
    both = {"spec": {"cidrs": ["10.97.0.0/24", "fd00::/112"]}}
    assert (await server.rest.patch(SERVICE_CIDRS, key, both))["spec"] == both["spec"]
    await server.rest.create(IP_ADDRESSES, address("10.1.1.1", resource="services", name="x"))
    with pytest.raises(Invalid, match="field is immutable"):
        patch = {"spec": {"parentRef": {"name": "y"}}}
        await server.rest.patch(IP_ADDRESSES, ObjectKey("", "10.1.1.1"), patch, PatchType.MERGE)


@pytest.mark.looptime
async def test_a_range_that_comes_is_used_and_goes_when_it_is_not() -> None:
    clock = LoopClock()
    async with running_server(
        kinds=KINDS, config=CONFIG, extensions=EXTENSIONS, clock=clock, ids=SeededIds(1)
    ) as server:
        manager = Manager(server.local, clock, SeededIds(2), component="test")
        servicecidr.setup(manager, KINDS)
        await manager.start()
        try:
            for number in range(5):
                await server.local.create(SERVICES, service(f"s{number}"), "default")
            with pytest.raises(InternalError):
                await server.local.create(SERVICES, service("last"), "default")
            await server.local.create(SERVICE_CIDRS, cidr("more", "10.97.0.0/24"))
            await clock.sleep(1)
            last = await server.local.create(SERVICES, service("last"), "default")
            assert last["spec"]["clusterIP"].startswith("10.97.0.")
            await server.local.delete(SERVICE_CIDRS, ObjectKey("", "more"))
            await clock.sleep(20)
            going = await server.local.get(SERVICE_CIDRS, ObjectKey("", "more"))
            assert going["status"]["conditions"][0]["reason"] == "Terminating"
            patch = {"metadata": {"labels": {"a": "b"}}}
            key = ObjectKey("default", "last")
            kept = await server.local.patch(SERVICES, key, patch)
            assert kept["spec"]["clusterIP"] == last["spec"]["clusterIP"]
            with pytest.raises(InternalError):
                await server.local.create(SERVICES, service("more"), "default")
            await server.local.delete(SERVICES, key)
            await clock.sleep(20)
            with pytest.raises(NotFound):
                await server.local.get(SERVICE_CIDRS, ObjectKey("", "more"))
        finally:
            await manager.stop()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
async def test_kubectl(server: RunningServer, tmp_path: Path) -> None:
    await server.rest.create(SERVICES, service("web", clusterIP="10.96.0.3"), "default")
    process = await asyncio.create_subprocess_exec(
        "kubectl", "--kubeconfig", server.write_kubeconfig(tmp_path), "get", "ip,servicecidrs",
        "--no-headers", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said = (await process.communicate())[0].decode().split()
    assert said[:2] == ["ipaddress.networking.k8s.io/10.96.0.3", "services/default/web"]
    assert said[3:5] == ["servicecidr.networking.k8s.io/kubernetes", SMALL]
