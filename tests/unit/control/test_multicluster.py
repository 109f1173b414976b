"""Services over clusters in a member: conditions of exports, addresses of imports, slices of its own endpoints."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from cluster_agent.control.controllers import clustersetslices, serviceexport
from cluster_agent.control.controllers.imports import exporting
from cluster_agent.control.controllers.serviceimport import controller as serviceimport
from cluster_agent.control.controllers.serviceimport.addresses import parse_ranges, pick
from cluster_agent.control.controllers.serviceimport.plan import holders, plan
from federation.simulator.server import FederationServer
from federation.simulator.virtual import VirtualClock, run
from machinery.api.core import NAMESPACES
from machinery.api.discovery_kinds import MANAGED_BY_LABEL, EndpointSlice
from machinery.api.discovery_kinds import SERVICE_NAME_LABEL as OWN_LABEL
from machinery.api.fleet.multicluster import (
    CONFLICTS,
    EXPORTING_CLUSTERS,
    SERVICE_IMPORTS,
    SERVICE_NAME_LABEL,
    SLICE_MANAGER,
    SOURCE_CLUSTER_LABEL,
    ServiceExport,
    ServiceImport,
)
from machinery.api.service_kinds import Service
from machinery.controller.action import Action, Create, Delete, Emit, Patch, RequeueAfter, SetStatus
from machinery.controller.manager import Manager
from machinery.kit.ids import SeededIds
from machinery.meta.objectmeta import condition
from machinery.meta.resource import Document, ObjectKey
from machinery.server.local import LocalClient

NOW, BEFORE = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
RANGE = parse_ranges("10.221.0.0/16")
WEB = ObjectKey("demo", "web")


def meta(name: str = "web", deleting: bool = False, **more: Any) -> Document:
    usual = {"name": name, "namespace": "demo", "uid": name, "generation": 1} | more
    return usual | ({"deletionTimestamp": BEFORE} if deleting else {})


def service(deleting: bool = False, ports: Sequence[Document] = (), **spec: Any) -> Service:
    given = ports or [{"name": "http", "port": 80}]
    document = {"metadata": meta(deleting=deleting), "spec": {"ports": list(given)} | spec}
    return msgspec.convert(document, Service)


def export(deleting: bool = False, conditions: Sequence[Document] = ()) -> ServiceExport:
    status = {"conditions": list(conditions)}
    return msgspec.convert({"metadata": meta(deleting=deleting), "status": status}, ServiceExport)


def imported(
    clusters: str = "alpha,beta",
    *,
    name: str = "web",
    made: str = BEFORE,
    deleting: bool = False,
    conflicts: str = "",
    conditions: Sequence[Document] = (),
    told: Sequence[str] = (),
    **spec: Any,
) -> ServiceImport:
    notes = {EXPORTING_CLUSTERS: clusters, CONFLICTS: conflicts}
    metadata = meta(name, deleting, creationTimestamp=made, annotations=notes, resourceVersion="7")
    usual = {
        "type": "ClusterSetIP",
        "ports": [{"name": "http", "port": 80}],
        "ipFamilies": ["IPv4"],
    }
    status = {"clusters": [{"cluster": c} for c in told], "conditions": list(conditions)}
    document = {"metadata": metadata, "spec": usual | spec, "status": status}
    return msgspec.convert(document, ServiceImport)


# --------------------------------------------------------------------------------------------------------------- exports
CONFLICT = '{"status": "True", "reason": "PortConflict", "message": "beta has other ports"}'


@pytest.mark.parametrize(
    ("served", "found", "valid", "ready", "conflict"),
    [
        (None, None, "NoService", "Pending", "NoConflicts"),
        (service(deleting=True), imported(), "NoService", "Pending", "NoConflicts"),
        (service(type="ExternalName"), imported(), "InvalidServiceType", "Pending", "NoConflicts"),
        (service(), None, "Valid", "Pending", "NoConflicts"),
        (service(), imported("beta"), "Valid", "Pending", "NoConflicts"),
        (service(), imported(deleting=True), "Valid", "Pending", "NoConflicts"),
        (service(), imported(), "Valid", "Exported", "NoConflicts"),
        (service(), imported(conflicts=CONFLICT), "Valid", "Exported", "PortConflict"),
        (service(), imported(conflicts="nonsense"), "Valid", "Exported", "NoConflicts"),
    ],
    ids=[
        "no Service", "Service goes", "a name", "not taken up", "others export it", "import goes",
        "exported", "a conflict", "an unreadable conflict",
    ],
)  # fmt: skip
def test_conditions_of_an_export(
    served: Service | None, found: ServiceImport | None, valid: str, ready: str, conflict: str
) -> None:
    (action,) = serviceexport.plan(export(), served, found, "alpha", NOW)
    assert isinstance(action, SetStatus)
    told = {c["type"]: c for c in action.status["conditions"]}
    assert [told[t]["reason"] for t in ("Valid", "Ready", "Conflict")] == [valid, ready, conflict]
    assert told["Valid"]["status"] == ("True" if valid == "Valid" else "False")
    assert told["Ready"]["status"] == ("True" if ready == "Exported" else "False")
    assert told["Conflict"]["status"] == ("False" if conflict == "NoConflicts" else "True")
    standing = export(conditions=action.status["conditions"])
    assert serviceexport.plan(standing, served, found, "alpha", "2027-01-01T00:00:00Z") == []


def test_a_condition_keeps_the_time_of_its_change_and_others_keep_theirs() -> None:
    odd = {
        "type": "Odd",
        "status": "True",
        "reason": "X",
        "message": "",
        "lastTransitionTime": BEFORE,
    }
    held = [odd, {"type": "Valid", "status": "True", "reason": "Old", "lastTransitionTime": BEFORE}]
    (action,) = serviceexport.plan(export(conditions=held), service(), None, "alpha", NOW)
    assert isinstance(action, SetStatus)
    told = {c["type"]: c for c in action.status["conditions"]}
    assert told["Odd"] == odd
    assert told["Valid"]["lastTransitionTime"] == BEFORE
    assert told["Ready"]["lastTransitionTime"] == NOW


@pytest.mark.parametrize("found", [None, export(deleting=True)], ids=["none", "goes"])
def test_nothing_is_said_of_an_export_that_goes(found: ServiceExport | None) -> None:
    assert serviceexport.plan(found, service(), imported(), "alpha", NOW) == []


def test_exporting_clusters_keep_their_order_and_count_once() -> None:
    assert exporting(imported("beta, alpha,beta,")) == ("beta", "alpha")


# --------------------------------------------------------------------------------------------------------------- addresses
@pytest.mark.parametrize(
    ("text", "services", "word"),
    [
        ("10.221.0.0/30", "", "too small"),
        ("10.221.0.0/16,10.222.0.0/16", "", "two ranges"),
        ("10.221.0.0/16", "10.221.4.0/24", "overlaps"),
        ("10.221.0.1/16", "", "host bits"),
    ],
)
def test_ranges_that_are_refused(text: str, services: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_ranges(text, services)


def test_ranges_that_are_taken() -> None:
    assert parse_ranges("") == ()
    both = parse_ranges("10.221.0.0/16, fd00:221::/112", "10.201.0.0/16,fd00:201::/112")
    assert [held.family for held in both] == ["IPv4", "IPv6"]


def test_the_same_name_gets_the_same_address_and_a_taken_one_the_next() -> None:
    first = pick(WEB, RANGE[0], ())
    assert first == pick(WEB, RANGE[0], {"10.221.0.9"})
    assert pick(WEB, RANGE[0], {first}) not in ("", first)


def test_every_address_of_a_small_range_is_given_once_and_then_none() -> None:
    (small,) = parse_ranges("10.221.0.0/29")
    taken: set[str] = set()
    for number in range(small.size):
        taken.add(pick(ObjectKey("demo", f"s{number}"), small, taken))
    assert (len(taken), "" in taken) == (small.size, False)
    assert not taken & {"10.221.0.0", "10.221.0.7"}, "neither the network nor its broadcast"
    assert pick(WEB, small, taken) == ""


def planned(
    one: ServiceImport, *others: ServiceImport, ranges: str = "10.221.0.0/16"
) -> list[Action]:
    return plan(one, parse_ranges(ranges), holders([one, *others]), NOW)


def ips_of(actions: list[Action]) -> list[str] | None:
    return next((a.patch["spec"]["ips"] for a in actions if isinstance(a, Patch)), None)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("families", "ranges", "count"),
    [
        (["IPv4"], "10.221.0.0/16", 1),
        (["IPv4", "IPv6"], "10.221.0.0/16,fd00:221::/112", 2),
        (["IPv6", "IPv4"], "10.221.0.0/16", 1),
        ([], "10.221.0.0/16,fd00:221::/112", 1),
    ],
    ids=["one", "both", "what is served", "not said"],
)
def test_one_address_for_each_family_that_is_served(
    families: list[str], ranges: str, count: int
) -> None:
    ips = ips_of(planned(imported(ipFamilies=families), ranges=ranges))
    assert ips is not None
    assert len(ips) == count
    if len(families) == 2 and count == 2:
        assert [":" in text for text in ips] == [family == "IPv6" for family in families]


def test_addresses_come_in_the_order_of_the_families() -> None:
    ranges = "10.221.0.0/16,fd00:221::/112"
    ips = ips_of(planned(imported(ipFamilies=["IPv6", "IPv4"]), ranges=ranges))
    assert ips is not None
    assert [":" in text for text in ips] == [True, False]


def ready(actions: list[Action]) -> tuple[str, str]:
    (status,) = [a.status for a in actions if isinstance(a, SetStatus)]
    (told,) = [c for c in status["conditions"] if c["type"] == "Ready"]
    return told["status"], told["reason"]


@pytest.mark.parametrize(
    ("one", "ranges", "said"),
    [
        (imported(ips=["10.221.0.9"]), "10.221.0.0/16", ("True", "Ready")),
        (imported(type="Headless"), "10.221.0.0/16", ("True", "Ready")),
        (imported(""), "", ("False", "NoAddressRange")),
        (imported("", type="Headless"), "", ("False", "Pending")),
        (imported("", ips=["10.221.0.9"]), "10.221.0.0/16", ("False", "Pending")),
        (imported(ips=["10.221.0.9"]), "", ("False", "NoAddressRange")),
        (imported(ipFamilies=["IPv6"]), "10.221.0.0/16", ("False", "IPFamilyNotSupported")),
    ],
    ids=[
        "has its address", "headless", "no range", "nobody exports", "nobody exports an address",
        "a range no more", "no such family",
    ],
)  # fmt: skip
def test_readiness(one: ServiceImport, ranges: str, said: tuple[str, str]) -> None:
    actions = planned(one, ranges=ranges)
    assert ips_of(actions) is None, "an address that stands stays"
    assert ready(actions) == said


def test_status_names_the_exporting_clusters_and_is_written_once() -> None:
    (action,) = planned(imported(ips=["10.221.0.9"]))
    assert isinstance(action, SetStatus)
    assert action.status["clusters"] == [{"cluster": "alpha"}, {"cluster": "beta"}]
    conditions = action.status["conditions"]
    standing = imported(ips=["10.221.0.9"], conditions=conditions, told=("alpha", "beta"))
    assert planned(standing) == []


def test_a_headless_import_has_no_address() -> None:
    actions = planned(imported(ips=["10.221.0.9"], type="Headless"))
    assert any(isinstance(a, Patch) for a in actions)
    assert ips_of(actions) is None


def test_of_two_that_hold_one_address_the_older_keeps_it() -> None:
    old = imported(ips=["10.221.0.9"])
    young = imported(name="late", made=NOW, ips=["10.221.0.9"])
    assert ips_of(planned(old, young)) is None
    actions = planned(young, old)
    ips = ips_of(actions)
    assert ips is not None
    assert "10.221.0.9" not in ips
    assert [a.reason for a in actions if isinstance(a, Emit)] == ["AddressChanged"]


def test_an_exhausted_range_is_a_condition_an_event_and_tried_again() -> None:
    others = [
        imported(name=f"s{number}", ips=[f"10.221.0.{number}"]) for number in range(2, 7)
    ]  # fmt: skip
    actions = planned(imported(), *others, ranges="10.221.0.0/29")
    assert ready(actions) == ("False", "AddressesExhausted")
    assert [a.reason for a in actions if isinstance(a, Emit)] == ["AddressesExhausted"]
    assert any(isinstance(a, RequeueAfter) for a in actions)
    (status,) = [a for a in actions if isinstance(a, SetStatus)]
    conditions, told = status.status["conditions"], ("alpha", "beta")
    again = planned(imported(conditions=conditions, told=told), *others, ranges="10.221.0.0/29")
    assert [type(a) for a in again] == [RequeueAfter], "said once"


# ------------------------------------------------------------------------------------------------- against the real API
class World:
    """A member's API with the one controller that gives addresses."""

    def __init__(self) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.server = FederationServer(self.clock, SeededIds(1), lambda manager, api: None)
        self.client: LocalClient

    async def start(self) -> None:
        await self.server.start()
        self.client = self.server.client("test")
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}
        await self.client.create(NAMESPACES, body)

    def controller(self, cidr: str = "10.221.0.0/16") -> Manager:
        client = self.server.client("controllers")
        manager = Manager(client, self.clock, SeededIds(2), component="controllers")
        serviceimport.setup(manager, parse_ranges(cidr))
        return manager

    async def make(self, *names: str, **spec: Any) -> None:
        usual = {"type": "ClusterSetIP", "ports": [{"port": 80}], "ipFamilies": ["IPv4"]} | spec
        for name in names:
            metadata = {"name": name, "annotations": {EXPORTING_CLUSTERS: "beta"}}
            await self.client.create(SERVICE_IMPORTS, {"metadata": metadata, "spec": usual}, "demo")

    async def held(self) -> dict[str, tuple[str, ...]]:
        found = (await self.client.list(SERVICE_IMPORTS, "demo")).items
        return {one.metadata.name: one.spec.ips for one in found}


def story(told: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = World()
        await world.start()
        await told(world)
        await world.server.stop()

    run(whole())


def test_no_address_is_given_twice_and_all_are_kept_by_the_next_leader() -> None:
    async def told(world: World) -> None:
        first = world.controller()
        await first.start()
        await world.make(*(f"s{number}" for number in range(40)))
        await asyncio.sleep(2)
        await first.stop()
        before = await world.held()
        given = [ip for ips in before.values() for ip in ips]
        assert (len(given), len(set(given))) == (40, 40)
        second = world.controller()
        await second.start()
        await world.make(*(f"t{number}" for number in range(40)))
        await asyncio.sleep(2)
        after = await world.held()
        assert {name: after[name] for name in before} == before
        given = [ip for ips in after.values() for ip in ips]
        assert (len(given), len(set(given))) == (80, 80)
        await second.stop()

    story(told)


def test_an_address_that_came_free_goes_to_one_that_waits() -> None:
    async def told(world: World) -> None:
        manager = world.controller("10.221.0.0/29")
        await manager.start()
        await world.make(*(f"s{number}" for number in range(6)))
        await asyncio.sleep(2)
        (waiting,) = [name for name, ips in (await world.held()).items() if not ips]
        one = await world.client.get(SERVICE_IMPORTS, ObjectKey("demo", waiting))
        said = condition(one.status.conditions, "Ready")
        assert said is not None
        assert said.reason == "AddressesExhausted"
        gone = next(name for name in (await world.held()) if name != waiting)
        await world.client.delete(SERVICE_IMPORTS, ObjectKey("demo", gone))
        await asyncio.sleep(15)
        assert (await world.held())[waiting]
        await manager.stop()

    story(told)


def test_a_type_that_changes_takes_the_address_and_gives_it_again() -> None:
    async def told(world: World) -> None:
        manager = world.controller()
        await manager.start()
        await world.make("web")
        await asyncio.sleep(1)
        before = await world.held()
        for kind in ("Headless", "ClusterSetIP"):
            await world.client.patch(SERVICE_IMPORTS, WEB, {"spec": {"type": kind}})
            await asyncio.sleep(1)
            assert bool((await world.held())["web"]) is (kind != "Headless")
        assert await world.held() == before
        await manager.stop()

    story(told)


# ----------------------------------------------------------------------------------------------------------------- slices
def endpoint(address: str, **conditions: bool) -> Document:
    return {"addresses": [address], "conditions": conditions or {"ready": True}}


def piece(name: str = "web-1", *endpoints: Document, **given: Any) -> EndpointSlice:
    usual: Document = {
        "metadata": meta(name, labels={OWN_LABEL: "web"}, resourceVersion="3"),
        "addressType": "IPv4",
        "endpoints": list(endpoints or [endpoint("10.64.0.5")]),
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }
    return msgspec.convert(usual | given, EndpointSlice)


def planned_slices(
    *sources: EndpointSlice,
    one: ServiceImport | None = None,
    out: ServiceExport | None = None,
    served: Service | None = None,
    existing: Sequence[EndpointSlice] = (),
) -> list[Action]:
    return clustersetslices.plan(
        one or imported(), out or export(), served or service(), sources, existing, "alpha"
    )


def made(action: Action, version: str = "5") -> EndpointSlice:
    """A created slice, as it stands afterwards."""
    assert isinstance(action, Create)
    document: Any = action.document
    metadata = document["metadata"] | {"uid": "u", "resourceVersion": version}
    return msgspec.convert({**document, "metadata": metadata}, EndpointSlice)


def test_a_copy_belongs_to_the_import_and_not_to_the_service() -> None:
    (action,) = planned_slices(piece())
    copy = made(action)
    assert copy.metadata.labels == {
        SERVICE_NAME_LABEL: "web",
        SOURCE_CLUSTER_LABEL: "alpha",
        MANAGED_BY_LABEL: SLICE_MANAGER,
    }
    assert copy.service_name == ""
    (owner,) = copy.metadata.owner_references
    assert (owner.kind, owner.api_version) == ("ServiceImport", SERVICE_IMPORTS.api_version)
    assert [e.addresses for e in copy.endpoints] == [("10.64.0.5",)]
    assert planned_slices(piece(), existing=[copy]) == [], "and is written once"


@pytest.mark.parametrize(
    ("ports", "wanted", "kept"),
    [
        ([{"name": "http", "port": 80}], [{"name": "http", "port": 80}], ["http"]),
        ([{"name": "http", "port": 81}], [{"name": "http", "port": 80}], []),
        ([{"name": "web", "port": 80}], [{"name": "http", "port": 80}], []),
        ([{"name": "http", "port": 80, "protocol": "UDP"}], [{"name": "http", "port": 80}], []),
    ],
    ids=["the same", "another number", "another name", "another protocol"],
)
def test_a_port_gets_traffic_only_where_it_is_the_same(
    ports: list[Document], wanted: list[Document], kept: list[str]
) -> None:
    names = [{"name": p["name"], "protocol": p.get("protocol", "TCP"), "port": 8080} for p in ports]
    source = piece(ports=names)
    actions = planned_slices(source, one=imported(ports=wanted), served=service(ports=ports))
    assert [p.name for a in actions for p in made(a).ports] == kept
    headless = imported(ports=wanted, type="Headless")
    (action,) = planned_slices(source, one=headless, served=service(ports=ports))
    assert [p.name for p in made(action).ports] == kept, "a headless import has its names anyway"


@pytest.mark.parametrize(
    ("conditions", "copied"),
    [
        ({"ready": True}, True),
        ({"ready": False}, False),
        ({"ready": False, "serving": True, "terminating": True}, True),
        ({"ready": False, "serving": False, "terminating": True}, False),
    ],
)
def test_only_endpoints_that_answer_are_copied(conditions: dict[str, bool], copied: bool) -> None:
    actions = planned_slices(piece("web-1", endpoint("10.64.0.5", **conditions)))
    assert bool(actions) is copied
    for action in actions:
        told = made(action).endpoints[0].conditions
        assert (told.ready, told.serving) == (conditions["ready"], conditions.get("serving"))


COPY = made(planned_slices(piece())[0])


@pytest.mark.parametrize(
    ("given", "sources"),
    [
        ({"out": export(deleting=True)}, [piece()]),
        ({"served": service(deleting=True)}, [piece()]),
        ({"served": service(type="ExternalName")}, [piece()]),
        ({"one": imported(deleting=True)}, [piece()]),
        ({}, []),
        ({}, [piece(addressType="FQDN")]),
    ],
    ids=["export goes", "Service goes", "a name", "import goes", "no slices", "names only"],
)
def test_copies_go_with_what_they_were_for(given: Any, sources: list[EndpointSlice]) -> None:
    (action,) = planned_slices(*sources, existing=[COPY], **given)
    assert isinstance(action, Delete)
    assert action.key == COPY.key


def test_nothing_stays_where_there_is_no_import_or_export() -> None:
    for one, out in ((None, export()), (imported(), None)):
        actions = clustersetslices.plan(one, out, service(), [piece()], [COPY], "alpha")
        assert [type(a) for a in actions] == [Delete]


def test_a_change_of_endpoints_is_one_patch_with_its_version() -> None:
    source = piece("web-1", endpoint("10.64.0.5"), endpoint("10.64.0.6"))
    (action,) = planned_slices(source, existing=[COPY])
    assert isinstance(action, Patch)
    assert set(action.patch) == {"endpoints"}
    assert action.resource_version == "5"


def test_slices_of_other_clusters_get_an_owner_and_are_left_alone_otherwise() -> None:
    labels = {
        SERVICE_NAME_LABEL: "web",
        SOURCE_CLUSTER_LABEL: "beta",
        MANAGED_BY_LABEL: SLICE_MANAGER,
    }
    foreign = piece(metadata=meta("web-beta", labels=labels, resourceVersion="4"))
    (action,) = planned_slices(existing=[foreign])
    assert isinstance(action, Patch)
    assert set(action.patch) == {"metadata"}
    assert set(action.patch["metadata"]) == {"ownerReferences"}  # type: ignore[call-overload]
    owner = action.patch["metadata"]["ownerReferences"]  # type: ignore[call-overload]
    owned = piece(metadata=meta("web-beta", labels=labels, ownerReferences=owner))
    assert planned_slices(existing=[owned]) == []
    assert clustersetslices.plan(None, None, None, (), [foreign], "alpha") == [], (
        "not ours to delete"
    )


def test_slices_of_imports_are_not_taken_for_the_services() -> None:
    assert clustersetslices.service_keys(COPY) == []
    assert clustersetslices.import_keys(COPY) == [WEB]
    assert clustersetslices.import_keys(piece()) == []
