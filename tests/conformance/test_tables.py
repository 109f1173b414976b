"""The tables are tables: each row is one rule of its own that says where it comes from, and every section is played."""

from pathlib import Path

import pytest
from tests.support.tables import areas, faults, table


@pytest.mark.parametrize("area", areas())
def test_each_row_is_a_rule_of_its_own(area: str) -> None:
    assert faults(area) == []


@pytest.mark.parametrize("area", areas())
def test_every_section_has_a_runner(area: str) -> None:
    runner = (Path(__file__).parent / f"test_{area}.py").read_text()
    sections = {row.section for row in table(area)}
    assert {s for s in sections if f'cases("{area}", "{s}")' not in runner} == set()
