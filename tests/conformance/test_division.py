"""division.yaml: how replicas are divided, by the placer and by the planners of preferences."""

import pytest
from tests.support import deciding
from tests.support.deciding import ASCENDING, DESCENDING
from tests.support.tables import Row, cases

from federation.placement.divide import fnv1a_32
from federation.placement.planners import PLANNERS, Question
from federation.placement.preferences import Preference


def test_the_two_uids_break_ties_in_opposite_ways() -> None:
    assert [fnv1a_32(uid) % 2 for uid in (ASCENDING, DESCENDING)] == [0, 1]


@pytest.mark.parametrize("row", cases("division", "place"))
def test_place(row: Row) -> None:
    decision = deciding.check(row)
    if decision is not None:
        assert decision.affinity_name == row.get("group", "")
        assert dict(decision.waiting) == row.get("waits", {})


@pytest.mark.parametrize("row", cases("division", "planner"))
def test_planner(row: Row) -> None:
    wanted = {
        name: Preference(said.get("min", 0), said.get("max"), said.get("w", 0))
        for name, said in row["prefs"].items()
    }
    question = Question(
        row["total"],
        list(row["clusters"]),
        wanted,
        row.get("rebalance", False),
        row.get("current", {}),
        row.get("capacity", {}),
        row.get("key", ""),
    )
    for name in row["planners"]:
        answer = PLANNERS[name](question)
        assert answer.plan == row["plan"], name
        assert answer.overflow == row.get("overflow", {}), name
