"""What a run of an expression may handle is estimated from above."""

from typing import Any

import pytest

from machinery.api.expressions.costs import estimate, size_of

DOCUMENTS = [
    {},
    {"a": "b", "c": [1, 2, {"d": None}]},
    {"a": 'quote " and \\ back\\\\slash"', "b": "é" * 10},
    {"long key of a map": {"x": "y" * 50}, "e": ["", {}, []]},
    [[], [[]], {"a": {}}],
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_quick_size_is_never_below_the_exact_one(document: Any) -> None:
    exact, quick = size_of(document), estimate(document)
    assert quick.values >= exact.values
    assert quick.longest >= exact.longest
