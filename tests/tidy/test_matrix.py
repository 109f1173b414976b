"""The compatibility matrix that is kept in the repo: its two files agree, nothing of it is red that must work, nothing is left out."""

import pytest
from tests.matrix import kinds
from tests.matrix.record import ABSENT, Cell, dump, load, reds
from tests.matrix.render import render
from tests.tidy import tree

PAGE = "docs/compatibility.md"
if PAGE not in tree.files():
    pytest.skip("`make matrix` has not been run", allow_module_level=True)
VERSIONS, CELLS = load(tree.text("docs/compatibility.json"))


def test_the_page_is_what_the_cells_say() -> None:
    assert render(VERSIONS, CELLS) == tree.text(PAGE)
    assert load(dump(VERSIONS, CELLS)) == (VERSIONS, sorted(CELLS))


def test_every_exception_has_a_reason() -> None:
    assert [c for c in CELLS if c.outcome == ABSENT and len(c.told) < 10] == []


@pytest.mark.parametrize("table", ["resources", "commands", "python", "kopf", "helm", "checklist"])
@pytest.mark.parametrize("server", ["member", "federation"])
def test_every_table_was_run_at_both_servers(table: str, server: str) -> None:
    assert len([c for c in CELLS if (c.table, c.server) == (table, server)]) >= 9


def test_every_required_resource_has_a_row() -> None:
    rows = {c.item for c in CELLS if (c.table, c.server) == ("resources", "member")}
    lives = {title for title, r in kinds.recorded().items() if "watch" in r.verbs}
    assert len(lives) > 50
    assert sorted(lives - rows) == []


def test_what_is_red_makes_a_run_fail() -> None:
    cell = Cell("resources", "member", "v1 pods", "get", "kopf", "M", "fail", "why")
    later = Cell("resources", "member", "v1 pods", "get", "kopf", "L", "fail", "why")
    assert reds([cell, later, Cell("t", "s", "i", "v", "c", "S", "absent", "why")]) == [cell]
