"""Decisions for which there is room only in part."""

from tests.unit.controllers_federation.test_plans import confirmed, decided, first_binding, view

from federation.propagation import questions


def test_what_only_a_part_fits_for_is_no_answer_to_an_earlier_question() -> None:
    held = confirmed(decided(first_binding()))
    task = {
        "fromCluster": "alpha",
        "replicas": 2,
        "reason": "TaintUntolerated",
        "producer": "TaintManager",
    }
    rest = [{"name": name, "replicas": 2} for name in ("beta", "gamma")]
    short = {"replicas": 400, "clusters": rest, "gracefulEvictionTasks": [task]}
    part = decided(held | {"spec": held["spec"] | short})
    assert sum(target["replicas"] for target in part["spec"]["clusters"]) == 204
    again = part | {"spec": part["spec"] | {"replicas": 6}}  # what was asked before
    assert questions.open_question(view(again))
