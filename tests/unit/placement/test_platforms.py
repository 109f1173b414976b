"""Image platforms against node platforms: who is left out, why, and what room there is."""

from typing import Any

import msgspec
import pytest

from federation.placement import capacity, platforms
from federation.placement.model import Candidate, NoFit, Request
from federation.placement.plan import place
from machinery.api.fleet.policy import Placement
from machinery.api.fleet.work import NodeClaim

AMD, ARM = "linux/amd64", "linux/arm64"
MIXED = Candidate(
    "mixed",
    free={"cpu": 9000, "pods": 30},
    platforms={AMD: {"cpu": 6000, "pods": 20}, ARM: {"cpu": 3000, "pods": 10}},
)
INTEL = Candidate("intel", free={"cpu": 4000, "pods": 9}, platforms={AMD: {"cpu": 4000, "pods": 9}})
PI = Candidate("pi", free={"cpu": 2000, "pods": 9}, platforms={ARM: {"cpu": 2000, "pods": 9}})
SILENT = Candidate("silent", free={"cpu": 4000, "pods": 9})
FLEET = [MIXED, INTEL, PI, SILENT]
DYNAMIC = msgspec.convert(
    {
        "replicaScheduling": {
            "replicaSchedulingType": "Divided",
            "replicaDivisionPreference": "Weighted",
            "weightPreference": {"dynamicWeight": "AvailableReplicas"},
        }
    },
    Placement,
)


def claim(**spec: Any) -> NodeClaim:
    return msgspec.convert(spec, NodeClaim)


def affine(*terms: list[dict[str, Any]]) -> NodeClaim:
    listed = [{"matchExpressions": term} for term in terms]
    return claim(hardNodeAffinity={"nodeSelectorTerms": listed})


def arch(operator: str, *values: str) -> dict[str, Any]:
    return {"key": "kubernetes.io/arch", "operator": operator, "values": list(values)}


def request(stated: str = "", node_claim: NodeClaim | None = None, **more: Any) -> Request:
    built = platforms.parse(stated) if stated else frozenset()
    given: dict[str, Any] = {"replicas": 1, "asks": {"cpu": 1000}} | more
    return Request(
        "u", "apps/v1", "Deployment", DYNAMIC, node_claim=node_claim, platforms=built, **given
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("linux/amd64", {AMD}),
        ("linux/amd64,linux/arm64", {AMD, ARM}),
        (" linux/amd64 , linux/arm64 ", {AMD, ARM}),
        ("linux/arm/v7", {"linux/arm"}),
        ("windows/amd64", {"windows/amd64"}),
        ("amd64", '"amd64" is no platform: they are like linux/amd64'),
        ("linux/amd64,", '"" is no platform: they are like linux/amd64'),
        ("Linux/amd64", '"Linux/amd64" is no platform: they are like linux/amd64'),
        ("linux/amd64;linux/arm64", '"linux/amd64;linux/arm64" is no platform: they are like linux/amd64'),
    ],
)  # fmt: skip
def test_the_annotation(text: str, found: set[str] | str) -> None:
    read, wrong = platforms.read({platforms.ANNOTATION: text})
    assert (wrong or read) == found


CASES: dict[str, tuple[Request, dict[str, int]]] = {
    "nothing is said": (request(), {"mixed": 9, "intel": 4, "pi": 2, "silent": 4}),
    "one image": (request(AMD), {"mixed": 6, "intel": 4, "silent": 4}),
    "the other": (request(ARM), {"mixed": 3, "pi": 2, "silent": 4}),
    "both": (request(f"{AMD},{ARM}"), {"mixed": 9, "intel": 4, "pi": 2, "silent": 4}),
    "none of them": (request("windows/amd64"), {"silent": 4}),
    "a selector": (
        request("", claim(nodeSelector={"kubernetes.io/arch": "arm64"})),
        {"mixed": 3, "pi": 2, "silent": 4},
    ),
    "a selector of something else": (
        request("", claim(nodeSelector={"disk": "ssd"})),
        {"mixed": 9, "intel": 4, "pi": 2, "silent": 4},
    ),
    "the system": (request("", claim(nodeSelector={"kubernetes.io/os": "windows"})), {"silent": 4}),
    "affinity": (request("", affine([arch("In", "arm64")])), {"mixed": 3, "pi": 2, "silent": 4}),
    "affinity against": (
        request("", affine([arch("NotIn", "arm64")])),
        {"mixed": 6, "intel": 4, "silent": 4},
    ),
    "affinity to any of two": (
        request("", affine([arch("In", "arm64")], [arch("In", "amd64")])),
        {"mixed": 9, "intel": 4, "pi": 2, "silent": 4},
    ),
    "affinity with what is not known here": (
        request("", affine([arch("In", "arm64"), {"key": "disk", "operator": "Exists"}])),
        {"mixed": 3, "pi": 2, "silent": 4},
    ),
    "images and affinity cross": (
        request(f"{AMD},{ARM}", affine([arch("In", "arm64")])),
        {"mixed": 3, "pi": 2, "silent": 4},
    ),
    "images and affinity exclude each other": (
        request(AMD, affine([arch("In", "arm64")])),
        {"silent": 4},
    ),
}


@pytest.mark.parametrize(("asked", "rooms"), CASES.values(), ids=CASES.keys())
def test_who_has_nodes_for_it_and_how_much_room(asked: Request, rooms: dict[str, int]) -> None:
    passed = [c for c in FLEET if not platforms.missing(asked, c)]
    assert capacity.rooms(platforms.all_narrowed(passed, asked), asked.asks) == rooms


def test_the_reason_is_told() -> None:
    with pytest.raises(NoFit) as error:
        place(request("windows/amd64"), [INTEL, PI])
    assert str(error.value) == (
        "0/2 clusters are available: 2 cluster(s) did not have a node of platform windows/amd64."
    )
    selected = request("", claim(nodeSelector={"kubernetes.io/arch": "s390x"}))
    decision = place(request(ARM, replicas=2), FLEET)
    assert decision.left_out["intel"] == "cluster(s) did not have a node of platform linux/arm64"
    assert platforms.missing(selected, PI).endswith("platform linux/s390x")


def test_what_runs_stays_though_its_nodes_are_away_for_a_moment() -> None:
    asked = request(ARM, replicas=2, previous={"intel": 2})
    assert place(asked, [INTEL, PI]).targets == {"intel": 2}
    more = request(ARM, replicas=3, previous={"intel": 2})
    assert place(more, [INTEL, PI]).targets == {"intel": 2, "pi": 1}


@pytest.mark.parametrize(
    ("reserved", "room"),
    [
        ({}, 3),
        ({f"{ARM}:cpu": 2000, f"{ARM}:pods": 2, "cpu": 2000, "pods": 2}, 1),
        ({f"{AMD}:cpu": 6000, f"{AMD}:pods": 6, "cpu": 6000, "pods": 6}, 3),
        ({"cpu": 8000, "pods": 8}, 1),
    ],
    ids=["none", "on such nodes", "on other nodes", "on any nodes"],
)
def test_reservations_by_platform(reserved: dict[str, int], room: int) -> None:
    free = {name: value - reserved.get(name, 0) for name, value in (MIXED.free or {}).items()}
    member = Candidate("mixed", free=free, platforms=MIXED.platforms, reserved=reserved)
    asked = request(ARM)
    assert capacity.available(platforms.narrowed(member, asked), asked.asks) == room


@pytest.mark.parametrize(
    ("stated", "selector", "only"),
    [
        ("", {}, ""),
        (ARM, {}, ARM),
        (f"{AMD},{ARM}", {}, ""),
        (f"{AMD},{ARM}", {"kubernetes.io/arch": "arm64"}, ARM),
        ("", {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "windows"}, "windows/amd64"),
    ],
)
def test_the_only_platform(stated: str, selector: dict[str, str], only: str) -> None:
    built = platforms.parse(stated) if stated else frozenset()
    found = platforms.only_one(built, claim(nodeSelector=selector))
    assert found == only
    assert platforms.asks_of({"cpu": 5}, found) == (
        {f"{only}:cpu": 5, f"{only}:pods": 1} if only else {}
    )
