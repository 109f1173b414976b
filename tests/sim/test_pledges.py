"""What the judge takes for surely owed in a cluster."""

import msgspec
import pytest

from federation.placement.ledger import TOLD_S, UNSEEN_S
from federation.simulator.pledges import Pledges
from federation.simulator.seen import Written
from machinery.api.fleet.work import ResourceBinding
from machinery.meta.resource import Document, ObjectKey

KEY, OTHER = ObjectKey("demo", "one"), ObjectKey("demo", "other")


def binding(kind: str, told: Document, replicas: int = 6) -> ResourceBinding:
    item = {"clusterName": "beta", "status": told}
    document = {
        "metadata": {"namespace": KEY.namespace, "name": KEY.name},
        "spec": {
            "resource": {"kind": kind},
            "replicas": replicas,
            "clusters": [{"name": "beta", "replicas": 6}],
        },
        "status": {"aggregatedStatus": [item]},
    }
    return msgspec.convert(document, ResourceBinding)


@pytest.mark.parametrize(
    ("kind", "told", "after_s", "owed"),
    [
        ("Deployment", {}, 3.0, 6),
        ("Deployment", {}, TOLD_S + 1, 6),
        ("Deployment", {"replicas": 4}, TOLD_S + 1, 2),
        ("Deployment", {}, UNSEEN_S, 0),
        ("Gadget", {"replicas": 0}, TOLD_S + 1, 6),
        ("Gadget", {}, 3.0, 6),
        ("Gadget", {}, TOLD_S, 0),
    ],
)
def test_who_tells_no_replicas_is_owed_them_for_a_moment(
    kind: str, told: Document, after_s: float, owed: int
) -> None:
    pledges = Pledges()
    pledges.take(Written("resourcebindings", KEY, None, {}, 100.0), binding(kind, told))
    assert pledges.least("beta", OTHER, 100.0 + after_s) == owed
    assert pledges.least("beta", KEY, 100.0 + after_s) == 0


@pytest.mark.parametrize(
    ("words", "owed"),
    [
        ([], 0),
        ([100.0], 6),
        ([100.0, 102.0, 105.0], 6),
        ([100.0, 102.0, 105.0, 108.0], 0),
        ([100.0, 109.0], 6),
        ([100.0, 109.0, 113.0, 116.0], 0),
    ],
    ids=["nobody listens", "cut at once", "cut later", "heard", "back", "back, and time to tell"],
)
def test_who_is_cut_off_cannot_tell_and_is_owed_what_was_decided(
    words: list[float], owed: int
) -> None:
    """Seeds 990 and 1368: room was given again in a cluster that was silent and not suspect yet."""
    pledges = Pledges()
    pledges.take(Written("gadgets", KEY, None, {}, 100.0), binding("Gadget", {}))
    for at in words:
        pledges.heard("beta", at)
    assert pledges.least("beta", OTHER, 120.0) == owed


@pytest.mark.parametrize(("told_after_s", "owed"), [(5.0, 6), (TOLD_S + 1, 0)])
def test_replicas_that_are_told_too_late_are_not_waited_for_again(
    told_after_s: float, owed: int
) -> None:
    pledges = Pledges()
    pledges.take(Written("gadgets", KEY, None, {}, 100.0), binding("Gadget", {}))
    told = binding("Gadget", {"replicas": 0})
    pledges.take(Written("gadgets", KEY, {}, {}, 100.0 + told_after_s), told)
    assert pledges.least("beta", OTHER, 120.0) == owed


def test_what_no_cluster_has_yet_may_be_decided_in_this_moment() -> None:
    pledges = Pledges()
    evicted = binding("Deployment", {"replicas": 6}, replicas=9)
    pledges.take(Written("resourcebindings", KEY, None, {}, 100.0), evicted)
    assert pledges.most("gamma", OTHER, 100.0) == 3
    assert pledges.most("gamma", KEY, 100.0) == 0
