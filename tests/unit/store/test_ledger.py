"""What may go from the log, and when."""

import pytest

from machinery.store.interface import Change, Event, Row
from machinery.store.sql.ledger import TRIM_ROWS_MAX, Ledger
from machinery.store.sql.replay import Replay


def relaxed(ledger: Ledger, change: Change, revision: int, previous: int) -> None:
    before = Row("k", b"", previous, previous) if previous else None
    ledger.relaxed(Event(change, Row("k", b"", revision, previous or revision), before))


def test_rows_are_due_when_what_superseded_them_is_old() -> None:
    ledger = Ledger()
    ledger.stored("k", Change.CREATE, 2, 0)
    ledger.stored("k", Change.UPDATE, 5, 2)
    ledger.stored("k", Change.UPDATE, 9, 5)
    assert [row.revision for row in ledger.due(4, 1)] == []
    assert [row.revision for row in ledger.due(5, 1)] == [2]
    assert [row.revision for row in ledger.due(9, 1)] == [2, 5]
    assert ledger.due(9, 3) == []


def test_tombstone_goes_last_and_is_remembered_until_then() -> None:
    ledger = Ledger()
    ledger.stored("k", Change.CREATE, 2, 0)
    ledger.stored("k", Change.DELETE, 3, 2)
    assert ledger.previous("k", 0) == 3
    due = ledger.due(3, 1)
    assert [row.revision for row in due] == [2, 3]
    ledger.trimmed(due)
    assert ledger.previous("k", 0) == 0
    assert ledger.backlog == 0


def test_one_transaction_is_bounded() -> None:
    ledger = Ledger()
    for revision in range(1, 2 * TRIM_ROWS_MAX):
        ledger.stored("k", Change.UPDATE, revision + 1, revision)
    assert len(ledger.due(10**9)) == TRIM_ROWS_MAX


def test_relaxed_changes_build_on_the_newest_stored_row() -> None:
    ledger = Ledger()
    ledger.stored("k", Change.CREATE, 2, 0)
    relaxed(ledger, Change.UPDATE, 3, 2)
    relaxed(ledger, Change.UPDATE, 4, 3)
    assert ledger.dirty(10) == [("k", 4, 2)]
    assert ledger.previous("k", 4) == 2
    ledger.stored("k", Change.UPDATE, 4, 2)
    assert ledger.dirty(10) == []
    assert ledger.previous("k", 4) == 4


def test_relaxed_create_over_a_tombstone_that_is_then_trimmed() -> None:
    ledger = Ledger()
    ledger.stored("k", Change.CREATE, 2, 0)
    ledger.stored("k", Change.DELETE, 3, 2)
    relaxed(ledger, Change.CREATE, 4, 0)
    assert ledger.dirty(10) == [("k", 4, 3)]
    ledger.trimmed(ledger.due(3, 1))
    assert ledger.dirty(10) == [("k", 4, 0)]


def test_trimmed_elsewhere() -> None:
    ledger = Ledger()
    for revision in range(1, 10):
        ledger.stored("k", Change.UPDATE, revision + 1, revision)
    ledger.trimmed_elsewhere(5)
    assert [row.revision for row in ledger.due(100, 1)] == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("log", "rows", "backlog"),
    [
        ([], [], 0),
        ([(2, "a", 1, b"x", 2)], [Row("a", b"x", 2, 2)], 0),
        ([(2, "a", 1, b"x", 2), (3, "a", 2, b"y", 2)], [Row("a", b"y", 3, 2)], 1),
        ([(2, "a", 1, b"x", 2), (3, "a", 3, None, 2)], [], 2),
        ([(3, "a", 3, None, 2)], [], 1),
        (
            [(2, "a", 1, b"x", 2), (3, "a", 3, None, 2), (4, "a", 1, b"z", 4)],
            [Row("a", b"z", 4, 4)],
            2,
        ),
    ],
    ids=["empty", "created", "updated", "deleted", "lone tombstone", "created again"],
)
def test_replay(
    log: list[tuple[int, str, int, bytes | None, int]], rows: list[Row], backlog: int
) -> None:
    replay = Replay()
    for row in log:
        replay.add(*row)
    assert replay.rows(lambda _, lying: lying) == rows
    assert replay.ledger.backlog == backlog
    assert replay.empty == (not log)
