"""ServiceCIDR: when it is ready, and what keeps it from going."""

import datetime as dt
from typing import Any

import pytest

from cluster_agent.control.controllers.servicecidr import (
    FINALIZER,
    GRACE_S,
    IN_USE,
    SERVICE_CIDRS,
    default_cidr,
    in_use,
    plan,
)
from machinery.client.interface import PatchType
from machinery.controller.action import Patch, RequeueAfter, SetStatus
from machinery.meta.resource import ObjectKey

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
KEY = ObjectKey("", "more")
READY = {
    "type": "Ready",
    "status": "True",
    "reason": "",
    "message": "Kubernetes Service CIDR is ready",
    "lastTransitionTime": "2026-05-01T12:00:00Z",
}


def cidr(*cidrs: str, deleted: str = "", held: bool = True, **status: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "more"}
    if held:
        metadata["finalizers"] = ["mine", FINALIZER]
    if deleted:
        metadata["deletionTimestamp"] = deleted
    return {"metadata": metadata, "spec": {"cidrs": list(cidrs)}, "status": status}


def finalizers(*names: str) -> Patch:
    return Patch(SERVICE_CIDRS, KEY, {"metadata": {"finalizers": list(names)}}, PatchType.MERGE)


def test_a_new_one_is_held_and_ready() -> None:
    assert plan(cidr("10.97.0.0/24", held=False), [], [], NOW) == [
        finalizers(FINALIZER),
        SetStatus(SERVICE_CIDRS, KEY, {"conditions": [READY]}),
    ]
    assert plan(cidr("10.97.0.0/24", conditions=[READY]), [], [], NOW) == []


def test_the_time_of_a_condition_stays_while_its_status_does() -> None:
    told = cidr("10.97.0.0/24", conditions=[{**READY, "message": "other"}])
    later = NOW + dt.timedelta(hours=1)
    assert plan(told, [], [], later) == [SetStatus(SERVICE_CIDRS, KEY, {"conditions": [READY]})]


def test_one_that_is_used_stays_and_says_why() -> None:
    going = cidr("10.97.0.0/24", deleted="2026-05-01T11:00:00Z", conditions=[READY])
    wanted = {**READY, "status": "False", "reason": "Terminating", "message": IN_USE}
    assert plan(going, [], ["10.97.0.9"], NOW) == [
        SetStatus(SERVICE_CIDRS, KEY, {"conditions": [wanted]})
    ]


def test_one_that_nobody_uses_goes_after_a_moment() -> None:
    going = cidr("10.97.0.0/24", deleted="2026-05-01T12:00:00Z")
    assert plan(going, [], ["10.96.0.9"], NOW) == [RequeueAfter(GRACE_S)]
    later = NOW + dt.timedelta(seconds=GRACE_S)
    assert plan(going, [], ["10.96.0.9"], later) == [finalizers("mine")]
    assert plan(cidr("10.97.0.0/24", deleted="2026-05-01T12:00:00Z", held=False), [], [], NOW) == []


@pytest.mark.parametrize(
    ("others", "addresses", "expected"),
    [
        ([], ["10.97.0.1"], True),
        ([], ["10.98.0.1", "fd00::1"], False),
        ([cidr("10.97.0.0/16")], ["10.97.0.1"], False),
        ([cidr("10.97.0.0/16", deleted="2026-05-01T11:00:00Z")], ["10.97.0.1"], True),
        ([cidr("10.97.0.0/25")], ["10.97.0.1", "10.97.0.200"], True),
    ],
)
def test_what_holds_it(others: list[Any], addresses: list[str], expected: bool) -> None:
    assert in_use(cidr("10.97.0.0/24"), others, addresses) is expected


def test_the_range_of_the_control_plane() -> None:
    assert default_cidr("10.96.0.0/16, fd00::/112")["spec"] == {
        "cidrs": ["10.96.0.0/16", "fd00::/112"]
    }
