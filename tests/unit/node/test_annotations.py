"""What a node wants to say on its own Node, and what of it is missing there."""

import pytest

from cluster_agent.node.annotations import Annotations


@pytest.mark.parametrize(
    ("wanted", "held", "missing"),
    [
        ([], {"b": "2"}, {}),
        ([("a", "1")], {}, {"a": "1"}),
        ([("a", "1")], {"a": "1", "b": "2"}, {}),
        ([("a", "1")], {"a": "0"}, {"a": "1"}),
        ([("a", "1"), ("a", "2")], {"a": "1"}, {"a": "2"}),
        ([("a", None)], {"a": "1"}, {"a": None}),
        ([("a", "1"), ("a", None)], {"b": "2"}, {}),
    ],
)
def test_what_is_missing(
    wanted: list[tuple[str, str | None]], held: dict[str, str], missing: dict[str, str | None]
) -> None:
    annotations = Annotations()
    for name, value in wanted:
        annotations.put(name, value)
    assert annotations.missing(held) == missing


def test_only_news_are_told() -> None:
    annotations, told = Annotations(), list[str]()
    annotations.on_change(lambda: told.append("changed"))
    for value in ("1", "1", None, None, "1"):
        annotations.put("a", value)
    assert len(told) == 3
