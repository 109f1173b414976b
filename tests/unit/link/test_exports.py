"""What the link reports of an export, and how often it writes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from cluster_agent.link import exports
from cluster_agent.link.exports import (
    DOCUMENTS,
    ENDPOINTS_MAX,
    RECONNECT_S,
    WRITE_EVERY_S,
    Report,
    plan,
    report,
)
from federation.simulator.server import FederationServer
from federation.simulator.virtual import VirtualClock, run
from machinery.api.core import NAMESPACES
from machinery.api.discovery_kinds import ENDPOINTSLICES, EndpointSlice
from machinery.api.fleet.cluster import CLUSTER_LEASES
from machinery.api.fleet.multicluster import (
    SERVICE_EXPORTS,
    SOURCE_CLUSTER_LABEL,
    ExportedServiceSpec,
    ServiceExport,
)
from machinery.api.fleet.multicluster import SERVICE_NAME_LABEL as IMPORT_LABEL
from machinery.api.service_kinds import SERVICES, Service
from machinery.client.informer import Informer
from machinery.client.interface import PatchType, dynamic
from machinery.controller.action import Create, Delete, Patch
from machinery.controller.manager import Manager
from machinery.kit.ids import SeededIds
from machinery.kit.tasks import TaskOwner
from machinery.meta.errors import NotFound
from machinery.meta.resource import Document, ObjectKey

NAMESPACE = "karmada-es-alpha"
WEB = ObjectKey("demo", "web")
REPORTED = ObjectKey(NAMESPACE, "web.demo")
MADE = "2026-01-01T00:00:00Z"
EVENTS = dynamic("", "v1", "events", "Event", True)


def meta(name: str = "web", **more: Any) -> Document:
    return {"name": name, "namespace": "demo"} | more


def export(valid: bool = True, deleting: bool = False, **spec: Any) -> ServiceExport:
    metadata = meta(creationTimestamp=MADE) | ({"deletionTimestamp": MADE} if deleting else {})
    state = [{"type": "Valid", "status": "True" if valid else "False"}]
    document = {"metadata": metadata, "spec": spec, "status": {"conditions": state}}
    return msgspec.convert(document, ServiceExport)


def service(deleting: bool = False, **spec: Any) -> Service:
    usual: Document = {
        "clusterIP": "10.96.0.9",
        "ipFamilies": ["IPv4"],
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    }
    metadata = meta() | ({"deletionTimestamp": MADE} if deleting else {})
    return msgspec.convert({"metadata": metadata, "spec": usual | spec}, Service)


def endpoint(address: str, **conditions: bool) -> Document:
    return {"addresses": [address], "conditions": conditions or {"ready": True}}


def raw(name: str, *endpoints: Document, family: str = "IPv4", port: int = 8080) -> Document:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta(name, labels={"kubernetes.io/service-name": "web"}),
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "protocol": "TCP", "port": port}],
    }


def piece(name: str, *endpoints: Document, **given: Any) -> EndpointSlice:
    return msgspec.convert(raw(name, *endpoints, **given), EndpointSlice)


@pytest.mark.parametrize(
    ("exported", "served", "told"),
    [
        (export(), service(), True),
        (None, service(), False),
        (export(valid=False), service(), False),
        (export(deleting=True), service(), False),
        (export(), None, False),
        (export(), service(deleting=True), False),
        (export(), service(type="ExternalName"), False),
    ],
    ids=["valid", "not exported", "not valid", "withdrawn", "no Service", "Service goes", "a name"],
)
def test_only_valid_exports_of_services_are_told(
    exported: ServiceExport | None, served: Service | None, told: bool
) -> None:
    assert (report(exported, served, ()) is not None) is told


def spec_of(*slices: EndpointSlice, export_spec: Document | None = None, **spec: Any) -> Document:
    found = report(export(**(export_spec or {})), service(**spec), slices)
    assert found is not None
    msgspec.convert(found.spec, ExportedServiceSpec)
    return found.spec


def test_a_report_says_what_the_service_is() -> None:
    said = spec_of(
        piece("web-1", endpoint("10.1.0.2")),
        export_spec={"exportedLabels": {"team": "a"}},
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
        trafficDistribution="PreferClose",
    )
    assert said == {
        "service": {"namespace": "demo", "name": "web"},
        "exportedAt": MADE,
        "type": "ClusterSetIP",
        "ports": [{"protocol": "TCP", "port": 80, "name": "http"}],
        "ipFamilies": ["IPv4"],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "internalTrafficPolicy": "Cluster",
        "trafficDistribution": "PreferClose",
        "exportedLabels": {"team": "a"},
        "slices": [
            {
                "addressType": "IPv4",
                "ports": [{"protocol": "TCP", "port": 8080, "name": "http"}],
                "endpoints": [{"addresses": ["10.1.0.2"], "conditions": {"ready": True}}],
            }
        ],
    }
    assert spec_of(clusterIP="None")["type"] == "Headless"
    assert spec_of(type="NodePort")["type"] == "ClusterSetIP"


def test_endpoints_that_share_ports_are_one_slice_whatever_slices_they_came_in() -> None:
    one, two = endpoint("10.1.0.2"), endpoint("10.1.0.3")
    split = [piece("a", two), piece("b", one), piece("c", endpoint("10.1.0.4"), port=9090)]
    (first, second) = spec_of(*split)["slices"]
    assert [e["addresses"][0] for e in first["endpoints"]] == ["10.1.0.2", "10.1.0.3"]
    assert [e["addresses"][0] for e in second["endpoints"]] == ["10.1.0.4"]
    assert spec_of(*reversed(split)) == spec_of(*split), "their order does not count"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([endpoint("10.1.0.2", ready=False)], []),
        ([endpoint("10.1.0.2", ready=False, serving=True, terminating=True)], [False]),
        ([endpoint("10.1.0.2", ready=True), endpoint("10.1.0.2", ready=False, serving=True)], [True]),
        ([endpoint("10.1.0.2", ready=False, serving=True), endpoint("10.1.0.2", ready=True)], [True]),
    ],
    ids=["not ready", "serving to the end", "a ready one hides its double", "in any order"],
)  # fmt: skip
def test_only_endpoints_that_answer_are_told(found: list[Document], told: list[bool]) -> None:
    pieces = spec_of(*(piece(str(number), one) for number, one in enumerate(found)))["slices"]
    assert [e["conditions"]["ready"] for p in pieces for e in p["endpoints"]] == told


def raw_many(count: int) -> list[Document]:
    addresses = [f"10.1.{number // 250}.{number % 250}" for number in range(count)]
    starts = range(0, count, 100)
    return [raw(f"web-{at}", *map(endpoint, addresses[at : at + 100])) for at in starts]


def many(count: int) -> list[EndpointSlice]:
    return [msgspec.convert(one, EndpointSlice) for one in raw_many(count)]


def told_of(found: Report | None) -> set[str]:
    assert found is not None
    return {e["addresses"][0] for p in found.spec["slices"] for e in p["endpoints"]}


def test_of_too_many_endpoints_a_choice_is_told_that_stays() -> None:
    before = report(export(), service(), many(ENDPOINTS_MAX + 200))
    after = report(export(), service(), many(ENDPOINTS_MAX + 210))
    assert before is not None
    assert (len(told_of(before)), before.left_out) == (ENDPOINTS_MAX, 200)
    assert len(told_of(before) - told_of(after)) <= 10
    unready = [piece("z", endpoint("10.9.0.1", ready=False, serving=True)), *many(ENDPOINTS_MAX)]
    assert "10.9.0.1" not in told_of(report(export(), service(), unready)), "ready ones first"


HELD: Document = {"metadata": {"name": "web.demo", "uid": "u"}, "spec": {"a": 1}}


@pytest.mark.parametrize(
    ("wanted", "held", "kinds"),
    [
        (None, None, []),
        (None, HELD, [Delete]),
        (Report({"a": 1}), None, [Create]),
        (Report({"a": 1}), HELD, []),
        (Report({"a": 2}), HELD, [Patch]),
        (Report({"a": 2}), {**HELD, "metadata": {**HELD["metadata"], "deletionTimestamp": MADE}}, []),
    ],
    ids=["nothing", "not exported any more", "new", "the same", "changed", "goes first"],
)  # fmt: skip
def test_plan(wanted: Report | None, held: Document | None, kinds: list[type]) -> None:
    actions = plan(WEB, NAMESPACE, wanted, held)
    assert [type(action) for action in actions] == kinds
    for action in actions:
        if isinstance(action, Patch):
            assert action.patch_type is PatchType.JSON, "labels that go must go"


# ------------------------------------------------------------------------------------------------ with two real APIs
class World:
    """A member's API and a federation's, both without controllers; the link's exports between them."""

    def __init__(self) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.home = FederationServer(self.clock, SeededIds(1), lambda manager, api: None)
        self.hub = FederationServer(self.clock, SeededIds(2), lambda manager, api: None)
        self.writes = 0
        self._tasks = TaskOwner()
        self.manager: Manager

    async def start(self) -> None:
        for server, name in ((self.home, "demo"), (self.hub, CLUSTER_LEASES)):
            await server.start()
            client = server.client("test")
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            await client.create(NAMESPACES, body)
        await self.hub.admit("alpha")
        self.manager = Manager(self.home.client("link"), self.clock, SeededIds(3), component="link")
        agent = self.hub.agent("alpha")
        reported = Informer(agent, DOCUMENTS, self.clock, namespace=NAMESPACE)
        exports.setup(self.manager, agent, reported, NAMESPACE)

        def count(old: Document | None, new: Document | None) -> None:
            self.writes += 1

        reported.on_change(count)
        _ = self._tasks.spawn(reported.run(), "reported")
        await self.manager.start()

    async def stop(self) -> None:
        await self.manager.stop()
        await self._tasks.close()
        await self.home.stop()
        await self.hub.stop()

    async def export(self, endpoints: int = 1) -> None:
        client = self.home.client("test")
        ports = [{"name": "http", "port": 80}]
        await client.create(SERVICES, {"metadata": meta(), "spec": {"ports": ports}}, "demo")
        for document in raw_many(endpoints):
            await client.create(ENDPOINTSLICES, document, "demo")
        await client.create(SERVICE_EXPORTS, {"metadata": meta()}, "demo")
        await self.judge("True")

    async def judge(self, status: str) -> None:
        state = {"conditions": [{"type": "Valid", "status": status}]}
        client = self.home.client("test")
        await client.patch(SERVICE_EXPORTS, WEB, {"status": state}, subresource="status")

    async def endpoints(self, *addresses: str) -> None:
        patch = {"endpoints": [endpoint(address) for address in addresses]}
        client = self.home.client("test")
        await client.patch(ENDPOINTSLICES, ObjectKey("demo", "web-0"), patch)

    async def told(self) -> list[str] | None:
        try:
            held = await self.hub.client("test").get(DOCUMENTS, REPORTED)
        except NotFound:
            return None
        return [e["addresses"][0] for p in held["spec"]["slices"] for e in p["endpoints"]]


def story(told: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = World()
        await world.start()
        await told(world)
        await world.stop()

    run(whole())


def test_an_export_is_told_kept_in_step_and_withdrawn() -> None:
    async def told(world: World) -> None:
        await world.export()
        await asyncio.sleep(1)
        assert await world.told() == ["10.1.0.0"]
        await world.endpoints("10.1.0.7")
        await asyncio.sleep(1)
        assert await world.told() == ["10.1.0.7"]
        before = world.writes
        await asyncio.sleep(60)
        assert world.writes == before, "what is as it should be is not written"
        await world.judge("False")
        await asyncio.sleep(1)
        assert await world.told() is None

    story(told)


def test_a_burst_is_one_write_and_a_storm_five_a_second() -> None:
    async def told(world: World) -> None:
        await world.export()
        await asyncio.sleep(1)
        before = world.writes
        for number in range(10):
            await world.endpoints(f"10.1.0.{number + 1}")
        await asyncio.sleep(1)
        assert (world.writes - before, await world.told()) == (1, ["10.1.0.10"])
        before = world.writes
        for number in range(100):
            await world.endpoints(f"10.1.1.{number}")
            await asyncio.sleep(0.02)
        await asyncio.sleep(1)
        assert world.writes - before <= 2 / WRITE_EVERY_S + 1
        assert await world.told() == ["10.1.1.99"]

    story(told)


def test_what_is_changed_at_the_federation_is_put_right() -> None:
    async def told(world: World) -> None:
        await world.export()
        await asyncio.sleep(1)
        hub = world.hub.client("test")
        await hub.delete(DOCUMENTS, REPORTED)
        stray = {
            "metadata": {"name": "old.demo"},
            "spec": {"service": {"namespace": "demo", "name": "old"}, "type": "Headless"},
        }
        await hub.create(DOCUMENTS, stray, NAMESPACE)
        await asyncio.sleep(1)
        assert await world.told() == ["10.1.0.0"]
        left = (await hub.list(DOCUMENTS, NAMESPACE)).items
        assert [one["metadata"]["name"] for one in left] == ["web.demo"]

    story(told)


def test_what_changed_while_the_federation_was_away_is_told_after() -> None:
    async def told(world: World) -> None:
        await world.export()
        await asyncio.sleep(1)
        await world.hub.stop()
        await world.endpoints("10.1.0.9")
        await asyncio.sleep(30)
        await world.hub.start()
        await asyncio.sleep(RECONNECT_S + 10)
        assert await world.told() == ["10.1.0.9"]

    story(told)


def test_endpoints_that_are_left_out_are_an_event_on_the_export() -> None:
    async def told(world: World) -> None:
        await world.export(ENDPOINTS_MAX + 50)
        await asyncio.sleep(5)
        told = await world.told()
        assert told is not None
        assert len(told) == ENDPOINTS_MAX
        events = (await world.home.client("test").list(EVENTS, "demo")).items
        (event,) = [e for e in events if e["reason"] == "EndpointsLeftOut"]
        assert event["involvedObject"]["kind"] == "ServiceExport"
        assert "50 are left out" in event["message"]

    story(told)


def test_slices_of_imports_are_nobodys_endpoints() -> None:
    labels = {IMPORT_LABEL: "web", SOURCE_CLUSTER_LABEL: "beta"}
    document = {"metadata": meta("web-beta", labels=labels), "addressType": "IPv4"}
    assert exports.slice_keys(msgspec.convert(document, EndpointSlice)) == []
