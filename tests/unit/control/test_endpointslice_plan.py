"""Which slices, which Endpoints: tables of plans."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest

from cluster_agent.control.controllers import endpointslicemirroring, kubernetesservice
from cluster_agent.control.controllers.endpoints import plan as old
from cluster_agent.control.controllers.endpointslice.packing import ENDPOINTS_MAX, pack
from cluster_agent.control.controllers.endpointslice.plan import MANAGER, plan, slice_labels
from cluster_agent.control.controllers.endpointslice.triggers import TriggerTimes
from machinery.api.core import (
    Container,
    ContainerPort,
    ObjectReference,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
)
from machinery.api.discovery_kinds import (
    ENDPOINTSLICES,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from machinery.api.service_kinds import (
    ENDPOINTS,
    EndpointAddress,
    Endpoints,
    EndpointSubset,
    Service,
    ServicePort,
    ServiceSpec,
)
from machinery.api.service_kinds import EndpointPort as OldPort
from machinery.controller.action import Create, Delete, Patch
from machinery.meta.objectmeta import Condition, ObjectMeta, OwnerReference
from machinery.meta.resource import ObjectKey

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PORTS = (EndpointPort("", "TCP", 8080),)


def service(**given: Any) -> Service:
    usual: dict[str, Any] = {
        "selector": {"app": "x"},
        "ports": (ServicePort(80, target_port=8080),),
        "cluster_ip": "10.96.0.9",
        "ip_families": ("IPv4",),
    }
    meta = ObjectMeta(name="s", namespace="demo", uid="S", labels=given.pop("labels", {}))
    return Service(metadata=meta, spec=ServiceSpec(**{**usual, **given}))


def pod(number: int, *, ready: bool = True, deleting: bool = False, **given: Any) -> Pod:
    meta = ObjectMeta(
        name=f"p{number}",
        namespace="demo",
        uid=f"P{number}",
        labels={"app": "x"},
        creation_timestamp=NOW + dt.timedelta(seconds=number),
        deletion_timestamp=NOW if deleting else None,
    )
    address = f"10.244.{number // 250}.{number % 250 + 2}"
    status = PodStatus(
        phase=given.pop("phase", "Running"),
        pod_ip=given.pop("ip", address),
        pod_ips=tuple(PodIP(ip) for ip in given.pop("ips", ())),
        conditions=(Condition("Ready", "True" if ready else "False", last_transition_time=NOW),),
    )
    containers = (Container("c", ports=given.pop("ports", ())),)
    return Pod(metadata=meta, spec=PodSpec(containers, node_name="n1", **given), status=status)


def endpoint(number: int, *, ready: bool = True) -> Endpoint:
    address = f"10.244.{number // 250}.{number % 250 + 2}"
    return Endpoint(
        (address,),
        EndpointConditions(ready, ready, False),
        node_name="n1",
        target_ref=ObjectReference(
            kind="Pod", namespace="demo", name=f"p{number}", uid=f"P{number}"
        ),
    )


def piece(name: str, numbers: Sequence[int], **given: Any) -> EndpointSlice:
    meta = ObjectMeta(
        name=name,
        namespace="demo",
        uid=name,
        resource_version="7",
        labels=given.pop("labels", slice_labels(service())),
        owner_references=(OwnerReference(kind="Service", name="s", uid="S", controller=True),),
    )
    ports = given.pop("ports", PORTS if numbers else ())
    return EndpointSlice(
        metadata=meta, endpoints=tuple(endpoint(n) for n in numbers), ports=ports, **given
    )


# ------------------------------------------------------------------------------------------------------------ writing
def sizes(actions: Sequence[Any]) -> list[tuple[str, str, int]]:
    """(what, which, how many endpoints) of each write."""
    told: list[tuple[str, str, int]] = []
    for action in actions:
        match action:
            case Create():
                told.append(("create", "", len(action.document["endpoints"])))
            case Patch():
                assert isinstance(action.patch, dict)
                told.append(("patch", action.key.name, len(action.patch.get("endpoints", ()))))
            case Delete():
                told.append(("delete", action.key.name, 0))
            case _:
                raise AssertionError(action)
    return told


def r(first: int, last: int) -> list[int]:
    return list(range(first, last))


@pytest.mark.parametrize(
    ("pods", "existing", "expected"),
    [
        pytest.param([], {}, [("create", "", 0)], id="an-empty-slice-for-none"),
        pytest.param([], {"a": []}, [], id="the-empty-slice-stays"),
        pytest.param([], {"a": [1]}, [("patch", "a", 0)], id="the-last-one-goes"),
        pytest.param([1], {"a": []}, [("patch", "a", 1)], id="the-empty-slice-is-used"),
        pytest.param(r(0, 101), {}, [("create", "", 100), ("create", "", 1)], id="a-hundred-each"),
        pytest.param(r(0, 150), {"a": r(0, 100), "b": r(100, 150)}, [], id="nothing-to-do"),
        pytest.param(
            r(0, 151), {"a": r(0, 100), "b": r(100, 150)}, [("patch", "b", 51)], id="into-what-has-room"
        ),
        pytest.param(
            r(0, 31), {"a": r(0, 20), "b": r(20, 30)}, [("patch", "a", 21)], id="fullest-that-fits"
        ),
        pytest.param(
            [*r(1, 20), *r(20, 32)], {"a": r(0, 20), "b": r(20, 30)}, [("patch", "a", 21)],
            id="into-a-slice-that-is-written-anyway",
        ),
        pytest.param(
            r(20, 30), {"a": r(0, 20), "b": r(20, 30)}, [("delete", "a", 0)], id="empty-slices-go"
        ),
        pytest.param(
            r(0, 240), {"a": r(0, 60), "b": r(60, 120)},
            [("create", "", 100), ("patch", "a", 80)][::-1], id="rest-goes-where-it-fits",
        ),
    ],
)  # fmt: skip
def test_few_writes(
    pods: list[int], existing: dict[str, list[int]], expected: list[tuple[str, str, int]]
) -> None:
    slices = [piece(name, numbers) for name, numbers in existing.items()]
    found = sizes(plan(service(), [pod(n) for n in pods], {}, slices))
    assert sorted(found) == sorted(expected)


def test_after_the_writes_there_is_nothing_to_do() -> None:
    pods = [pod(n) for n in range(230)]
    packing = pack([(PORTS, endpoint(n)) for n in range(230)], [])
    slices = [
        piece(f"s{index}", [int(e.target_ref.name[1:]) for e in packed.endpoints if e.target_ref])
        for index, packed in enumerate(packing.slices)
    ]
    assert max(len(one.endpoints) for one in slices) == ENDPOINTS_MAX
    assert plan(service(), pods, {}, slices) == []


# -------------------------------------------------------------------------------------------------------- what it says
def the_endpoint(found: Sequence[Any]) -> dict[str, Any]:
    (create,) = found
    (only,) = create.document["endpoints"]
    return dict(only)


@pytest.mark.parametrize(
    ("given", "spec", "conditions"),
    [
        ({}, {}, (True, True, False)),
        ({"ready": False}, {}, (False, False, False)),
        ({"deleting": True}, {}, (False, True, True)),
        ({"deleting": True, "ready": False}, {}, (False, False, True)),
        ({"ready": False}, {"publish_not_ready_addresses": True}, (True, False, False)),
        ({"deleting": True}, {"publish_not_ready_addresses": True}, (True, True, True)),
    ],
)
def test_conditions(given: Any, spec: Any, conditions: tuple[bool, ...]) -> None:
    told = the_endpoint(plan(service(**spec), [pod(1, **given)], {}, []))
    assert tuple(told["conditions"].values()) == conditions


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        ({}, 1), ({"phase": "Succeeded"}, 0), ({"phase": "Failed"}, 0), ({"ip": ""}, 0),
        ({"phase": "Pending"}, 1), ({"deleting": True}, 1),
    ],
)  # fmt: skip
def test_who_counts(given: Any, counted: int) -> None:
    (create,) = plan(service(), [pod(1, **given)], {}, [])
    assert isinstance(create, Create)
    assert len(create.document["endpoints"]) == counted


def test_zone_hostname_and_labels() -> None:
    headless = service(cluster_ip="None", labels={"team": "a"})
    mine = pod(1, hostname="h", subdomain="s")
    (create,) = plan(headless, [mine], {"n1": "zone-a"}, [], "2026-01-01T00:00:00Z")
    assert isinstance(create, Create)
    told = the_endpoint([create])
    assert (told["hostname"], told["zone"], told["nodeName"]) == ("h", "zone-a", "n1")
    metadata = create.document["metadata"]
    assert metadata["labels"] == {
        "team": "a",
        "service.kubernetes.io/headless": "",
        "kubernetes.io/service-name": "s",
        "endpointslice.kubernetes.io/managed-by": MANAGER,
    }
    assert metadata["ownerReferences"][0]["uid"] == "S"
    assert list(metadata["annotations"].values()) == ["2026-01-01T00:00:00Z"]
    elsewhere = the_endpoint(plan(headless, [pod(1, hostname="h", subdomain="t")], {}, []))
    assert "hostname" not in elsewhere


def test_hints_keep_traffic_near() -> None:
    near = service(traffic_distribution="PreferSameZone")
    told = the_endpoint(plan(near, [pod(1)], {"n1": "zone-a"}, []))
    assert told["hints"] == {"forZones": [{"name": "zone-a"}]}


def test_ports_by_name_part_the_pods() -> None:
    named = service(ports=(ServicePort(80, target_port="http"),))
    ports = [(ContainerPort(8080, "http"),), (ContainerPort(9090, "http"),), ()]
    pods = [pod(n, ports=mine) for n, mine in enumerate(ports)]
    found = plan(named, pods, {}, [])
    numbers = [
        [port["port"] for port in action.document["ports"] or ()]
        for action in found
        if isinstance(action, Create)
    ]
    assert sorted(numbers) == [[], [8080], [9090]]


def test_both_families() -> None:
    dual = service(ip_families=("IPv6", "IPv4"))
    found = plan(dual, [pod(1, ips=("10.244.0.3", "fd00::3")), pod(2)], {}, [])
    told = {
        action.document["addressType"]: [e["addresses"] for e in action.document["endpoints"]]
        for action in found
        if isinstance(action, Create)
    }
    assert told == {"IPv6": [["fd00::3"]], "IPv4": [["10.244.0.3"], ["10.244.0.4"]]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [({"selector": {}}, []), ({"type": "ExternalName"}, [])],
    ids=["no-selector", "external-name"],
)
def test_slices_of_others_are_left_alone(spec: Any, expected: list[Any]) -> None:
    assert plan(service(**spec), [pod(1)], {}, [piece("a", [5])]) == expected


def test_a_slice_of_an_earlier_service_is_not_taken_over() -> None:
    other = piece("a", [5])
    other = EndpointSlice(
        metadata=ObjectMeta(name="a", namespace="demo", uid="a", labels=other.metadata.labels),
        endpoints=other.endpoints,
        ports=(EndpointPort("", "TCP", 1),),
    )
    assert sizes(plan(service(), [pod(1)], {}, [other])) == [("create", "", 1), ("delete", "a", 0)]


def test_trigger_times_tell_the_oldest_change_once() -> None:
    times, mine = TriggerTimes(), service()
    assert times.of(mine, [pod(1)]) == "2026-01-01T00:00:00Z"
    assert times.of(mine, [pod(1)]) == ""
    times.forget(mine.key)
    assert times.of(mine, [pod(1)]) == "2026-01-01T00:00:00Z"


# ---------------------------------------------------------------------------------------------------------- Endpoints
def test_endpoints_say_when_they_are_cut() -> None:
    pods = [pod(n, ready=n % 4 != 0) for n in range(1200)]
    (create,) = old.plan(ObjectKey("demo", "s"), service(), pods, None)
    assert isinstance(create, Create)
    (subset,) = create.document["subsets"]
    assert (len(subset["addresses"]), len(subset["notReadyAddresses"])) == (900, 100)
    assert create.document["metadata"]["annotations"] == {old.OVER_CAPACITY: "truncated"}
    (create,) = old.plan(ObjectKey("demo", "s"), service(), [pod(n) for n in range(1200)], None)
    assert isinstance(create, Create)
    (subset,) = create.document["subsets"]
    assert (len(subset["addresses"]), subset.get("notReadyAddresses")) == (1000, None)


def test_endpoints_go_with_their_service() -> None:
    written = Endpoints(metadata=ObjectMeta(name="s", namespace="demo", uid="E"))
    key = ObjectKey("demo", "s")
    assert old.plan(key, None, [], written) == [Delete(ENDPOINTS, key, uid="E")]
    assert old.plan(key, None, [], None) == []


# ---------------------------------------------------------------------------------------------------------- mirroring
def written(**meta: Any) -> Endpoints:
    subset = EndpointSubset(
        (EndpointAddress("192.0.2.1"), EndpointAddress("fd00::1")),
        (EndpointAddress("192.0.2.2"),),
        (OldPort(80),),
    )
    metadata = ObjectMeta(name="s", namespace="demo", uid="E", **meta)
    return Endpoints(metadata=metadata, subsets=(subset,))


def test_written_endpoints_become_slices_of_each_family() -> None:
    found = endpointslicemirroring.plan(service(selector={}), written(), [])
    told = {
        action.document["addressType"]: [
            (e["addresses"][0], e["conditions"]["ready"]) for e in action.document["endpoints"]
        ]
        for action in found
        if isinstance(action, Create)
    }
    assert told == {
        "IPv4": [("192.0.2.1", True), ("192.0.2.2", False)],
        "IPv6": [("fd00::1", True)],
    }


@pytest.mark.parametrize(
    ("given", "meta"),
    [
        ({}, {}),
        ({"selector": {}}, {"labels": {endpointslicemirroring.SKIP: "true"}}),
        ({"selector": {}}, {"annotations": {endpointslicemirroring.LEADER: "{}"}}),
    ],
    ids=["has-a-selector", "asked-not-to", "an-election"],
)
def test_what_is_not_mirrored(given: Any, meta: Any) -> None:
    held = piece("a", [1])
    found = endpointslicemirroring.plan(service(**given), written(**meta), [held])
    assert found == [Delete(ENDPOINTSLICES, held.key, uid="a")]


# ------------------------------------------------------------------------------------------------- service kubernetes
def test_the_service_kubernetes_names_the_server() -> None:
    address = kubernetesservice.ApiAddress("10.96.0.1", "192.0.2.7", 6443)
    found = kubernetesservice.plan(address, None, None, None)
    kinds = [a.document["kind"] for a in found if isinstance(a, Create)]
    assert kinds == ["Service", "Endpoints", "EndpointSlice"]
    told = [a.document for a in found if isinstance(a, Create)]
    assert told[0]["spec"]["clusterIP"] == "10.96.0.1"
    assert told[2]["endpoints"][0]["addresses"] == ["192.0.2.7"]


def test_a_loopback_server_is_no_endpoint() -> None:
    address = kubernetesservice.ApiAddress("10.96.0.1", "127.0.0.1", 6443)
    found = kubernetesservice.plan(address, None, None, None)
    assert [a.document["kind"] for a in found if isinstance(a, Create)] == ["Service"]
