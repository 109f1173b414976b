"""Tables of behaviour: a YAML file an area in tests/conformance, a row a rule, played by the area's runner.

A file is a mapping of sections to rows. A row has a `name`, which no other row of the file has, and `cites` what the rule is
taken from: a section of the peers' reference, a published manifest, or the thread of the pain that it cures. What else a row
holds is the runner's. Two rows of a section that say the same under two names are one too many.

    ROWS = table("taint")

    @pytest.mark.parametrize("row", cases("taint", "schedule"))
    def test_schedule(row: Row) -> None: ...
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

HOME = Path(__file__).parents[1] / "conformance"


@dataclass(frozen=True)
class Row:
    """One row. `row["field"]` must be there, `row.get("field")` may be."""

    area: str
    section: str
    name: str
    cites: str
    said: Mapping[str, Any]

    def __getitem__(self, field: str) -> Any:
        return self.said[field]

    def get(self, field: str, default: Any = None) -> Any:
        return self.said.get(field, default)


def areas() -> list[str]:
    """Every table that there is."""
    return sorted(path.stem for path in HOME.glob("*.yaml"))


@cache
def table(area: str) -> tuple[Row, ...]:
    """All rows of an area, in their order."""
    sections = yaml.safe_load((HOME / f"{area}.yaml").read_text())
    return tuple(_rows(area, sections))


def _rows(area: str, sections: Mapping[str, list[dict[str, Any]]]) -> Iterator[Row]:
    for section, rows in sections.items():
        for said in rows:
            rest = {field: value for field, value in said.items() if field not in ("name", "cites")}
            yield Row(area, section, said.get("name", ""), said.get("cites", ""), rest)


def cases(area: str, section: str) -> list[Any]:
    """The rows of a section as parameters of a test, named as they are."""
    found = [pytest.param(row, id=row.name) for row in table(area) if row.section == section]
    assert found, f"{area}.yaml has no section {section}"
    return found


def faults(area: str) -> list[str]:
    """What is wrong with the table itself."""
    names: set[str] = set()
    said: dict[str, str] = {}
    wrong: list[str] = []
    for row in table(area):
        if not row.name or row.name in names:
            wrong.append(f"{row.section}: the name {row.name!r} is missing or not its own")
        if cut := [field for field in row.said if " " in field]:
            wrong.append(f"{row.name}: a name with a comma wants quotes: {cut}")
        if not row.cites:
            wrong.append(f"{row.name}: cites nothing")
        names.add(row.name)
        text = row.section + json.dumps(row.said, sort_keys=True, default=str)
        if text in said:
            wrong.append(f"{row.name}: says what {said[text]} says")
        said[text] = row.name
    return wrong
