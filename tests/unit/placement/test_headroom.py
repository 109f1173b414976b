"""Room that is kept free for the loss of a domain: how much, where, and from whom."""

from typing import Any

import msgspec
import pytest

from federation.placement.headroom import Demand, Demands
from federation.placement.ledger import less
from federation.placement.model import Candidate, NoFit, Request
from federation.placement.plan import place
from machinery.api.core import Taint
from machinery.api.fleet.policy import Placement
from machinery.meta.resource import ObjectKey

WEB, OTHER = ObjectKey("demo", "web"), ObjectKey("demo", "other")


def placement(**spec: Any) -> Placement:
    scheduling = {
        "replicaSchedulingType": "Divided",
        "replicaDivisionPreference": "Weighted",
        "weightPreference": {"dynamicWeight": "AvailableReplicas"},
    }
    return msgspec.convert({"replicaScheduling": scheduling} | spec, Placement)


ANYWHERE = placement()
ONLY_AB = placement(clusterAffinity={"clusterNames": ["a", "b"]})
TOLERANT = placement(clusterTolerations=[{"operator": "Exists"}])


def fleet(**rooms: int) -> list[Candidate]:
    """A cluster a zone, by name."""
    return [Candidate(n, zones=(f"z-{n}",), free={"pods": room}) for n, room in rooms.items()]


def demand(clusters: dict[str, int], lost: int = 0, of: Placement = ANYWHERE) -> Demand:
    return Demand("zone", of, {}, clusters, lost)


@pytest.mark.parametrize(
    ("demands", "rooms", "kept"),
    [
        ([demand({"a": 6, "b": 6, "c": 6})], {"a": 20, "b": 20, "c": 20}, {"a": 3, "b": 3, "c": 3}),
        ([demand({"a": 6})], {"a": 20, "b": 20, "c": 20}, {"a": 0, "b": 3, "c": 3}),
        ([demand({"a": 6})], {"a": 20, "b": 30, "c": 10}, {"a": 0, "b": 5, "c": 2}),
        ([demand({"a": 6}), demand({"a": 2})], {"a": 9, "b": 20, "c": 20}, {"a": 0, "b": 4, "c": 4}),
        ([demand({"a": 6}), demand({"b": 6})], {"a": 9, "b": 9, "c": 9}, {"a": 3, "b": 3, "c": 3}),
        ([demand({"a": 60})], {"a": 20, "b": 4, "c": 3}, {"a": 0, "b": 4, "c": 3}),
        ([demand({"a": 6})], {"a": 20}, {"a": 0}),
        ([demand({"b": 3}, lost=3)], {"b": 6, "c": 6}, {"b": 2, "c": 6}),
        ([demand({}, lost=4)], {"b": 6, "c": 6}, {"b": 2, "c": 2}),
        ([demand({"a": 6}, of=ONLY_AB)], {"a": 20, "b": 20, "c": 20}, {"a": 0, "b": 6}),
        (
            [demand({"a": 6}, of=ONLY_AB), demand({"a": 6})],
            {"a": 20, "b": 20, "c": 20},
            {"a": 0, "b": 9, "c": 3},
        ),
        ([demand({"gone": 6})], {"b": 6, "c": 6}, {"b": 0, "c": 0}),
    ],
    ids=["even", "one domain holds all", "by free room", "a loss hits all in it", "one loss at a time",
         "not enough anywhere", "nowhere to go", "lost already, and one more", "lost already",
         "only where it may go", "different ways to go are summed up", "of a cluster that has left"],
)  # fmt: skip
def test_what_is_kept(demands: list[Demand], rooms: dict[str, int], kept: dict[str, int]) -> None:
    book = Demands()
    for number, item in enumerate(demands):
        book.put(ObjectKey("demo", f"web-{number}"), item)
    found = book.kept(fleet(**rooms))
    assert {name: amounts.get("pods", 0) for name, amounts in found.items()} == kept


@pytest.mark.parametrize(
    ("member", "of", "kept"),
    [
        (Candidate("b", zones=("z",), free={"pods": 9}, cut=True), ANYWHERE, 0),
        (Candidate("b", zones=("z",)), ANYWHERE, 0),
        (Candidate("b", zones=("z",), free={"pods": 9}, taints=(Taint(key="t", effect="NoSchedule"),)), ANYWHERE, 0),
        (Candidate("b", zones=("z",), free={"pods": 9}, taints=(Taint(key="t", effect="NoSchedule"),)), TOLERANT, 4),
        (Candidate("b", free={"pods": 9}), ANYWHERE, 4),
    ],
    ids=["cut off", "tells no room", "tainted", "tolerated", "of no zone: it is not lost with any"],
)  # fmt: skip
def test_who_takes_part(member: Candidate, of: Placement, kept: int) -> None:
    book = Demands()
    book.put(WEB, demand({"a": 4}, of=of))
    found = book.kept([*fleet(a=9), member])
    assert found.get("b", {}).get("pods", 0) == kept


def test_resources_by_themselves() -> None:
    book = Demands()
    book.put(WEB, Demand("zone", ANYWHERE, {"cpu": 1000, "memory": 0}, {"a": 4}))
    members = [Candidate(n, zones=(n,), free={"pods": 9, "cpu": 8000}) for n in "abc"]
    assert book.kept(members) == {
        "a": {"pods": 0, "cpu": 0},
        "b": {"pods": 2, "cpu": 2000},
        "c": {"pods": 2, "cpu": 2000},
    }


def test_a_workload_keeps_nothing_from_itself() -> None:
    book = Demands()
    book.put(WEB, demand({"a": 6}))
    assert book.kept(fleet(a=9, b=9), but=WEB) == {}
    assert book.kept(fleet(a=9, b=9), but=OTHER)["b"] == {"pods": 6}
    book.put(WEB, demand({"a": 2}))
    assert book.kept(fleet(a=9, b=9))["b"] == {"pods": 2}
    book.put(WEB, None)
    assert (book.kept(fleet(a=9, b=9)), bool(book)) == ({}, False)


def test_others_do_not_get_the_room_and_the_workload_does() -> None:
    """Three zones of ten, the workload has four in each: two of each zone's six stay free for it."""
    book = Demands()
    book.put(WEB, demand({"a": 4, "b": 4, "c": 4}))
    members = fleet(a=6, b=6, c=6)
    kept = book.kept(members, but=OTHER)
    left = [less(c, kept[c.name]) for c in members]

    def other(replicas: int) -> Request:
        return Request("o", "apps/v1", "Deployment", ANYWHERE, replicas)

    assert dict(place(other(12), left).targets) == {"a": 4, "b": 4, "c": 4}
    with pytest.raises(NoFit):
        place(other(13), left)
    # zone a is lost with all of it, and the others are as full as they were allowed to get
    own = Request(
        "w", "apps/v1", "Deployment", ANYWHERE, 12, previous={"b": 4, "c": 4},
        evicting=frozenset("a"), headroom="zone",
    )  # fmt: skip
    survivors = [less(c, {"pods": 4}) for c in members if c.name != "a"]
    lost = book.kept(survivors, but=WEB)
    decision = place(own, [less(c, lost.get(c.name, {})) for c in survivors])
    assert dict(decision.targets) == {"b": 6, "c": 6}
    assert [w.reason for w in decision.warnings] == ["HeadroomShort"]
