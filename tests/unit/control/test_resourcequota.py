"""What a quota's count comes to, and when it is lowered."""

from fractions import Fraction
from typing import Any

import pytest

from cluster_agent.control.controllers import resourcequota
from cluster_agent.control.controllers.resourcequota import QUIET_S, plan
from machinery.controller.action import RequeueAfter, SetStatus
from machinery.meta.quantity import Quantity
from machinery.meta.resource import Document


def quota(hard: dict[str, str], status: Document) -> Document:
    metadata = {"name": "q", "namespace": "demo", "resourceVersion": "7"}
    return {"metadata": metadata, "spec": {"hard": hard}, "status": status}


def found(**counts: int) -> dict[str, Quantity]:
    return {name: Quantity(Fraction(number)) for name, number in counts.items()}


@pytest.mark.parametrize(
    ("status", "count", "still_s", "wanted"),
    [
        ({}, 2, 0.0, {"hard": {"pods": "5"}, "used": {"pods": "2"}}),
        ({"hard": {"pods": "5"}, "used": {"pods": "1"}}, 2, 0.0, {"hard": {"pods": "5"}, "used": {"pods": "2"}}),
        ({"hard": {"pods": "5"}, "used": {"pods": "3"}}, 2, 0.0, None),
        ({"hard": {"pods": "5"}, "used": {"pods": "3"}}, 2, QUIET_S, {"hard": {"pods": "5"}, "used": {"pods": "2"}}),
        ({"hard": {"pods": "5"}, "used": {"pods": "2"}}, 2, QUIET_S, None),
        (
            {"hard": {"pods": "9", "secrets": "1"}, "used": {"pods": "2", "secrets": "1"}}, 2, 0.0,
            {"hard": {"pods": "5", "secrets": None}, "used": {"pods": "2", "secrets": None}},
        ),
    ],
    ids=["new", "more than known", "ahead of what is seen", "ahead, and at rest", "as it is", "another limit"],
)  # fmt: skip
def test_the_status(status: Document, count: int, still_s: float, wanted: Any) -> None:
    actions = plan(quota({"pods": "5"}, status), found(pods=count), still_s)
    written = [action.status for action in actions if isinstance(action, SetStatus)]
    assert written == ([] if wanted is None else [wanted])


def test_a_count_that_is_ahead_is_looked_at_when_it_may_be_lowered() -> None:
    held = {"hard": {"pods": "5"}, "used": {"pods": "3"}}
    actions = plan(quota({"pods": "5"}, held), found(pods=2), 0.25)
    assert actions == [RequeueAfter(QUIET_S - 0.25)]


def test_what_is_written_is_a_compare_and_swap() -> None:
    actions = plan(quota({"pods": "5"}, {}), {}, 0.0)
    assert isinstance(actions[0], SetStatus)
    assert actions[0].resource_version == "7"
    assert actions[0].resource == resourcequota.RESOURCE_QUOTAS
