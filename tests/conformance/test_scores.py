"""scores.yaml: which clusters a workload that asks for cheap, green, roomy or near ones gets, and what it is told."""

import pytest
from tests.support import deciding
from tests.support.tables import Row, cases

from federation.placement.scores import figure


@pytest.mark.parametrize("row", cases("scores", "chosen"))
def test_chosen(row: Row) -> None:
    deciding.check(row)


@pytest.mark.parametrize("row", cases("scores", "aggregated"))
def test_aggregated(row: Row) -> None:
    deciding.check(row)


@pytest.mark.parametrize("row", cases("scores", "weighed"))
def test_weighed(row: Row) -> None:
    deciding.check(row)


@pytest.mark.parametrize("row", cases("scores", "groups"))
def test_groups(row: Row) -> None:
    deciding.check(row)


@pytest.mark.parametrize("row", cases("scores", "told"))
def test_told(row: Row) -> None:
    deciding.check(row)


@pytest.mark.parametrize("row", cases("scores", "figures"))
def test_figures(row: Row) -> None:
    if "is" in row.said:
        assert figure(row["text"]) == row["is"]
        return
    with pytest.raises(ValueError, match=row["says"]):
        _ = figure(row["text"])
