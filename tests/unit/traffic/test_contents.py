"""What a member is sent: the import without addresses, slices of the others, and traffic only to ports that are the same."""

import json
from typing import Any

import pytest
from tests.unit.traffic.test_merge import HTTP, HTTPS, export

from federation.traffic import contents
from federation.traffic.conflicts import Export
from federation.traffic.merge import Merged, merge
from machinery.api.discovery_kinds import Endpoint, EndpointConditions, EndpointPort
from machinery.api.fleet.multicluster import (
    CONFLICTS,
    EXPORTING_CLUSTERS,
    HEADLESS,
    ExportedSlice,
    ImportPort,
)
from machinery.meta.resource import Document, ObjectKey

WEB = ObjectKey("demo", "web")


def ends(*addresses: str, **ports: int) -> ExportedSlice:
    """A slice of ready endpoints; `ports` by name."""
    found = tuple(Endpoint((a,), EndpointConditions(ready=True)) for a in addresses)
    return ExportedSlice("IPv4", found, tuple(EndpointPort(n, "TCP", p) for n, p in ports.items()))


def merged(*exports: Export) -> Merged:
    found = merge(exports)
    assert found is not None
    return found


def addresses(slices: list[Document]) -> list[str]:
    return [a for s in slices for e in s["endpoints"] for a in e["addresses"]]


def test_the_import_has_no_address_and_says_who_exports() -> None:
    labels = {"exported_labels": {"app": "web"}}
    exports = [export("beta", 1, type=HEADLESS, **labels), export("alpha", 0, **labels)]
    document = contents.service_import(WEB, merged(*exports))
    assert document["spec"] == {
        "type": "ClusterSetIP",
        "ports": [{"port": 80, "protocol": "TCP", "name": "http"}],
        "ipFamilies": ["IPv4"],
        "sessionAffinity": "None",
    }
    metadata = document["metadata"]
    assert metadata["labels"] == {"app": "web"}
    assert metadata["annotations"][EXPORTING_CLUSTERS] == "alpha,beta"
    told = json.loads(metadata["annotations"][CONFLICTS])
    assert (told["status"], told["reason"]) == ("True", "TypeConflict")
    held = contents.held(document)
    assert held is not None
    assert (held.type, held.type_from) == ("ClusterSetIP", "alpha")


def test_a_member_gets_the_endpoints_of_all_others() -> None:
    exports = [
        export("alpha", slices=(ends("10.0.0.1", http=8080),)),
        export("beta", slices=(ends("10.1.0.1", "10.1.0.2", http=8080),)),
    ]
    found = merged(*exports)
    assert addresses(contents.slices(WEB, found, "alpha")) == ["10.1.0.1", "10.1.0.2"]
    assert addresses(contents.slices(WEB, found, "beta")) == ["10.0.0.1"]
    assert addresses(contents.slices(WEB, found, "gamma")) == ["10.0.0.1", "10.1.0.1", "10.1.0.2"]
    (one,) = contents.slices(WEB, found, "beta")
    assert one["metadata"]["labels"] == {
        "multicluster.kubernetes.io/service-name": "web",
        "multicluster.kubernetes.io/source-cluster": "alpha",
        "endpointslice.kubernetes.io/managed-by": "clusterset.ubernetes.io",
    }
    assert one["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]


def test_terminating_endpoints_travel_as_what_they_are() -> None:
    going = Endpoint(
        ("10.0.0.1",), EndpointConditions(ready=False, serving=True, terminating=True), "web-0", "n1", "z1"
    )  # fmt: skip
    ports = (EndpointPort("http", "TCP", 80),)
    found = merged(export("alpha", slices=(ExportedSlice("IPv4", (going,), ports),)))
    (one,) = contents.slices(WEB, found, "beta")
    assert one["endpoints"] == [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": False, "serving": True, "terminating": True},
            "hostname": "web-0",
            "nodeName": "n1",
            "zone": "z1",
        }
    ]


STRICT: list[tuple[str, dict[str, Any], list[list[str]]]] = [
    ("the same port", {"ports": (HTTP,)}, [["http"]]),
    ("another number", {"ports": (ImportPort(8080, "http"),)}, []),
    ("another protocol", {"ports": (ImportPort(80, "http", "UDP"),)}, []),
    ("another name", {"ports": (ImportPort(80, "web"),)}, []),
    ("one of two", {"ports": (HTTP, ImportPort(8443, "https"))}, [["http"]]),
    ("one that only this cluster has", {"ports": (ImportPort(9, "own"),)}, [["own"]]),
]


@pytest.mark.parametrize(("spec", "wanted"), [c[1:] for c in STRICT], ids=[c[0] for c in STRICT])
def test_traffic_goes_only_to_ports_that_are_the_same(
    spec: dict[str, Any], wanted: list[list[str]]
) -> None:
    ports = {p.name: 1000 + p.port for p in spec["ports"]}
    young = export("beta", 1, slices=(ends("10.1.0.1", **ports),), **spec)
    found = contents.slices(WEB, merged(export("alpha", 0, ports=(HTTP, HTTPS)), young), "alpha")
    assert [[p["name"] for p in s["ports"]] for s in found] == wanted


def test_headless_endpoints_keep_their_names_without_their_ports() -> None:
    exports = [
        export("alpha", type=HEADLESS),
        export("beta", 1, ports=(ImportPort(8080, "http"),), slices=(ends("10.1.0.1", http=8080),)),
    ]
    (one,) = contents.slices(WEB, merged(*exports), "alpha")
    assert one["ports"] == []
    assert addresses([one]) == ["10.1.0.1"]


def test_slices_hold_a_hundred_and_their_names_are_stable() -> None:
    many = [f"10.1.{i // 250}.{i % 250}" for i in range(250)]
    found = contents.slices(WEB, merged(export("beta", slices=(ends(*many, http=80),))), "alpha")
    assert [len(s["endpoints"]) for s in found] == [100, 100, 50]
    names = [s["metadata"]["name"] for s in found]
    assert len(set(names)) == 3
    backwards = merged(
        export("beta", slices=(ends(*many[125:], http=80), ends(*many[:125], http=80)))
    )
    assert contents.slices(WEB, backwards, "alpha") == found


def test_names_tell_clusters_families_and_ports_apart() -> None:
    six = ExportedSlice("IPv6", (Endpoint(("fd00::1",)),), (EndpointPort("http", "TCP", 80),))
    parts = (ends("10.0.0.1", http=80), ends("10.0.0.2", http=81), six)
    exports = [export("a-b", slices=parts), export("b", slices=parts)]
    names = [s["metadata"]["name"] for s in contents.slices(WEB, merged(*exports), "c")]
    names += [s["metadata"]["name"] for s in contents.slices(ObjectKey("demo", "web-a"), merged(exports[1]), "c")]  # fmt: skip
    assert len(set(names)) == len(names) == 9
