"""Workloads that belong together or apart: groups, what they bar, and decisions that are a moment old."""

from typing import Any

import msgspec
import pytest

from federation.controllers import placer
from federation.controllers.reservations import Lately
from federation.placement.model import Candidate, NoFit, Request
from federation.placement.plan import place
from federation.propagation import affinity
from federation.propagation.affinity import NOT_APART, NOT_NEAR, Groups
from machinery.api.fleet.policy import Placement
from machinery.api.fleet.work import ResourceBinding
from machinery.meta.resource import Document, ObjectKey

FLEET = [Candidate(name, free={"pods": 9}) for name in ("alpha", "beta", "gamma")]
TOGETHER = {"workloadAffinity": {"affinity": {"groupByLabelKey": "app"}}}
APART = {"workloadAffinity": {"antiAffinity": {"groupByLabelKey": "app"}}}


def placement(document: Document) -> Placement:
    return msgspec.convert(document, Placement)


@pytest.mark.parametrize(
    ("document", "labels", "wanted"),
    [
        (TOGETHER, {"app": "shop"}, Groups(near="app=shop")),
        (APART, {"app": "shop"}, Groups(apart="app=shop")),
        (APART, {"tier": "1"}, Groups()),
        ({}, {"app": "shop"}, Groups()),
        (TOGETHER, {"app": ""}, Groups(near="app=")),
    ],
    ids=["together", "apart", "no label", "nothing asked", "an empty value is one"],
)
def test_groups(document: Document, labels: dict[str, str], wanted: Groups) -> None:
    assert affinity.groups(placement(document), labels) == wanted


@pytest.mark.parametrize(
    ("own", "others", "wanted"),
    [
        (Groups("a=1"), [], ["", "", ""]),
        (Groups("a=1"), [(Groups("a=1"), [])], ["", "", ""]),
        (Groups("a=1"), [(Groups("a=1"), ["beta"])], [NOT_NEAR, "", NOT_NEAR]),
        (Groups("a=1"), [(Groups("a=2"), ["beta"])], ["", "", ""]),
        (Groups("", "a=1"), [(Groups("", "a=1"), ["beta"])], ["", NOT_APART, ""]),
        (Groups("", "a=1"), [(Groups("a=1"), ["beta"])], ["", "", ""]),
        (
            Groups("a=1", "b=1"),
            [(Groups("a=1", "b=1"), ["beta"]), (Groups("a=1"), ["gamma"])],
            [NOT_NEAR, NOT_APART, ""],
        ),
    ],
    ids=["first", "none placed", "near", "other group", "apart", "other kind", "both"],
)
def test_bars(own: Groups, others: list[Any], wanted: list[str]) -> None:
    assert [c.barred for c in affinity.barred(FLEET, own, others)] == wanted


def binding(name: str, asks: Document, clusters: tuple[str, ...] = (), version: str = "1") -> Any:
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "demo", "resourceVersion": version},
            "spec": {
                "resource": {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "namespace": "demo",
                    "name": name,
                    "uid": name,
                },
                "replicas": 1,
                "placement": asks,
                "clusters": [{"name": c, "replicas": 1} for c in clusters],
            },
        },
        ResourceBinding,
    )


class Templates:
    """An informer's `get`: every Deployment has the label app=shop."""

    def get(self, key: ObjectKey) -> Document:
        return {"metadata": {"name": key.name, "labels": {"app": "shop"}}}


def where(own: Any, others: list[Any], lately: Lately) -> dict[str, int]:
    """The placer's decision for one replica of it."""
    there = [(other, lately.clusters(other)) for other in others]
    fleet = placer.barred(own, FLEET, there, Templates())  # type: ignore[arg-type]
    actions = placer.plan(own, fleet, "2026-01-01T00:00:00Z")
    lately.remember(own, actions)
    asked = Request("u", "apps/v1", "Deployment", own.spec.placement, 1)
    return dict(place(asked, fleet).targets)


def test_two_that_belong_apart_are_decided_within_a_moment() -> None:
    one = APART | {"spreadConstraints": [{"spreadByField": "cluster", "maxGroups": 1}]}
    lately = Lately()
    first, second, third, fourth = (binding(name, one) for name in "abcd")
    assert where(first, [second], lately) == {"alpha": 1}
    assert where(second, [first], lately) == {"beta": 1}  # the watch shows nothing yet
    assert where(third, [first, second], lately) == {"gamma": 1}
    with pytest.raises(NoFit, match="3 cluster already has workload with the same anti-affinity"):
        where(fourth, [first, second, third], lately)
    gone = binding("a", one, version="2")
    assert where(fourth, [gone, second, third], lately) == {"alpha": 1}


def test_who_asks_for_nothing_is_barred_from_nothing() -> None:
    other = binding("a", APART, ("alpha", "beta", "gamma"))
    fleet = placer.barred(binding("b", {}), FLEET, [(other, ["alpha"])], Templates())  # type: ignore[arg-type]
    assert fleet == FLEET
