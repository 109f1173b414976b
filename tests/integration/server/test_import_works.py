"""What the federation sends of an import is what a member's server takes: applied by the link's own hands, and taken away."""

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.apiserver import RunningServer, running_server

from cluster_agent.link.member import Member
from federation.controllers import imports
from federation.traffic.conflicts import Export
from federation.traffic.merge import merge
from machinery.api.discovery_kinds import Endpoint, EndpointConditions, EndpointPort
from machinery.api.fleet.multicluster import ExportedServiceSpec, ExportedSlice, ImportPort
from machinery.api.fleet.multicluster_kinds import MEMBER
from machinery.api.kinds import BUILTIN
from machinery.api.service_kinds import ClientIPConfig, SessionAffinityConfig
from machinery.client.informer import Informer
from machinery.client.interface import PatchType, dynamic
from machinery.kit.clock import SystemClock
from machinery.meta.resource import Document, ObjectKey

pytestmark = pytest.mark.integration
WEB = ObjectKey("default", "web")
SLICES = dynamic("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", True)
IMPORTS = imports.SERVICE_IMPORTS
RESOURCES = {("discovery.k8s.io/v1", "EndpointSlice"): SLICES, (IMPORTS.api_version, IMPORTS.kind): IMPORTS}  # fmt: skip


@pytest.fixture
async def member() -> AsyncIterator[RunningServer]:
    async with running_server(kinds=(*BUILTIN, *MEMBER)) as running:
        yield running


def export(cluster: str, count: int, **spec: Any) -> Export:
    """`count` endpoints; everything else that a Service can say."""
    endpoints = tuple(
        Endpoint((f"10.1.{i // 250}.{i % 250 + 1}",), EndpointConditions(ready=True), f"web-{i}", "n1", "z1")
        for i in range(count)
    )  # fmt: skip
    piece = ExportedSlice("IPv4", endpoints, (EndpointPort("http", "TCP", 8080, "http"),))
    fields: dict[str, Any] = {
        "exported_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "ports": (ImportPort(80, "http", app_protocol="http"), ImportPort(53, "dns", "UDP")),
        "ip_families": ("IPv4",),
        "session_affinity": "ClientIP",
        "session_affinity_config": SessionAffinityConfig(ClientIPConfig(60)),
        "internal_traffic_policy": "Cluster",
        "traffic_distribution": "PreferClose",
        "exported_labels": {"app": "web"},
        "exported_annotations": {"note": "any text"},
        "slices": (piece,) if count else (),
    }
    return Export(cluster, ExportedServiceSpec(**(fields | spec)))


def work(*exports: Export) -> Document:
    merged = merge(exports)
    assert merged is not None
    (made,) = imports.wanted_works(WEB, merged, ["alpha"]).values()
    return made


async def bring(server: RunningServer, document: Document) -> list[str]:
    """Apply and prune as the link does; names of the slices afterwards."""
    copies: dict[Any, Informer[Document]] = {}
    for resource in RESOURCES.values():
        copies[resource] = Informer(server.local, resource, SystemClock())
        await copies[resource].list_once()
    hands = Member(
        server.local, lambda *kind: RESOURCES.get(kind), lambda r: copies[r], SystemClock()
    )
    for number, manifest in enumerate(document["spec"]["workload"]["manifests"]):
        outcome = await hands.apply(document, number, manifest)
        assert outcome.error == ""
    for copy in copies.values():
        await copy.list_once()
    await hands.prune(document)
    found = await server.local.list(SLICES, "default")
    return [d["metadata"]["name"] for d in found.items]


async def test_an_import_is_applied_and_shrinks(member: RunningServer) -> None:
    names = await bring(member, work(export("alpha", 3), export("beta", 250)))
    assert len(names) == 3
    held = await member.local.get(IMPORTS, WEB)
    assert held["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 60}}
    assert [p["name"] for p in held["spec"]["ports"]] == ["http", "dns"]

    ips = {"spec": {"ips": ["10.221.0.7"]}}
    await member.local.patch(IMPORTS, WEB, ips, PatchType.MERGE)
    shrunk = await bring(member, work(export("alpha", 3), export("beta", 40)))
    assert len(shrunk) == 1
    assert set(shrunk) < set(names)
    held = await member.local.get(IMPORTS, WEB)
    assert held["spec"]["ips"] == ["10.221.0.7"], "addresses are the member's own"
    assert await bring(member, work(export("alpha", 3))) == []


async def test_a_headless_import_and_one_without_endpoints(member: RunningServer) -> None:
    bare = {"session_affinity": "None", "session_affinity_config": None, "type": "Headless"}
    await bring(member, work(export("beta", 2, **bare, ports=())))
    held = await member.local.get(IMPORTS, WEB)
    assert (held["spec"]["type"], held["spec"]["ports"]) == ("Headless", [])
    (piece,) = (await member.local.list(SLICES, "default")).items
    assert len(piece["endpoints"]) == 2
    assert await bring(member, work(export("beta", 0))) == []
