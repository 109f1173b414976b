"""taint.yaml: who may be placed in a tainted cluster, and when those leave that are there."""

import datetime as dt
from typing import Any

import msgspec
import pytest
from tests.support.tables import Row, cases

from federation.placement.model import Candidate, NoFit, Request
from federation.placement.plan import place
from federation.propagation.departures import toleration_s
from machinery.api.core import Taint, Toleration
from machinery.api.fleet.cluster import Cluster
from machinery.api.fleet.policy import Placement

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def tolerations(row: Row) -> tuple[Toleration, ...]:
    return msgspec.convert(row["tolerations"], tuple[Toleration, ...])


def tainted(said: dict[str, Any]) -> dict[str, Any]:
    """A taint of the wire; `age` becomes its time."""
    wire = {field: value for field, value in said.items() if field != "age"}
    if "age" in said:
        wire["timeAdded"] = (NOW - dt.timedelta(seconds=said["age"])).isoformat()
    return wire


@pytest.mark.parametrize("row", cases("taint", "schedule"))
def test_schedule(row: Row) -> None:
    taints = msgspec.convert([tainted(t) for t in row["taints"]], tuple[Taint, ...])
    previous = {"alpha": 1} if row.get("holds") else {}
    request = Request(
        "uid",
        "apps/v1",
        "Deployment",
        Placement(cluster_tolerations=tolerations(row)),
        1,
        previous=previous,
    )
    try:
        found = dict(place(request, [Candidate("alpha", taints=taints)]).targets)
    except NoFit:
        found = {}
    assert found == ({"alpha": 1} if row["placed"] else {})


@pytest.mark.parametrize("row", cases("taint", "leave"))
def test_leave(row: Row) -> None:
    wire = {"metadata": {"name": "alpha"}, "spec": {"taints": [tainted(t) for t in row["taints"]]}}
    cluster = msgspec.convert(wire, Cluster)
    wait = toleration_s(cluster, tolerations(row), NOW)
    assert ("never" if wait is None else wait) == row["leaves"]
