"""What the database holds beyond the view: rows nobody needs any more, and changes it has not seen yet.

Superseded rows wait here for their trimming, in the order in which they may go: all older rows of a key before (or
with) its tombstone, so that a crash in between never brings a deleted object back. `last` is the revision of a key's
newest stored row wherever the view's row does not tell it: after a delete, until the tombstone is trimmed, and for
relaxed changes that only memory has seen.
"""

from collections import deque
from dataclasses import dataclass

from machinery.store.interface import Change, Event

TRIM_ROWS_MAX = 500
TRIM_ROWS_MIN = 100
"""Trimming fewer rows at once touches a page for nearly every row."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """A row that may go once nobody needs to see the change `at` that superseded it."""

    at: int
    revision: int
    tombstone_of: str = ""


class Ledger:
    """Pure bookkeeping; the stores tell it what happened and ask what to do."""

    def __init__(self) -> None:
        self._superseded: deque[Superseded] = deque()
        self._last: dict[str, int] = {}
        self._dirty: dict[str, int] = {}

    @property
    def backlog(self) -> int:
        """Superseded rows that are still stored."""
        return len(self._superseded)

    def previous(self, key: str, current: int) -> int:
        """The revision of the key's newest stored row, 0 if none; `current` is what the view says."""
        return self._last.get(key, current)

    def stored(self, key: str, change: Change, revision: int, previous: int) -> None:
        """A row was committed on top of the stored row `previous`."""
        self._dirty.pop(key, None)
        self._last.pop(key, None)
        if previous:
            self._superseded.append(Superseded(revision, previous))
        if change is Change.DELETE:
            self._superseded.append(Superseded(revision, revision, key))
            self._last[key] = revision

    def relaxed(self, event: Event) -> None:
        """A change was published that the database has not seen."""
        key = event.row.key
        if key not in self._last:
            self._last[key] = 0 if event.previous is None else event.previous.revision
        self._dirty[key] = event.row.revision

    def dirty(self, limit: int) -> list[tuple[str, int, int]]:
        """Keys to flush: (key, revision of the change, revision of the newest stored row)."""
        found: list[tuple[str, int, int]] = []
        for key, revision in self._dirty.items():
            if len(found) == limit:
                break
            found.append((key, revision, self._last[key]))
        return found

    def forget(self, key: str) -> None:
        """A relaxed key came and went without the database: nothing to flush."""
        del self._dirty[key], self._last[key]

    def due(self, horizon: int, at_least: int = TRIM_ROWS_MIN) -> list[Superseded]:
        """What may go as of `horizon`, at most one transaction's worth; nothing while it is too little."""
        found: list[Superseded] = []
        for row in self._superseded:
            if row.at > horizon or len(found) == TRIM_ROWS_MAX:
                break
            found.append(row)
        return found if len(found) >= at_least else []

    def trimmed(self, rows: list[Superseded]) -> None:
        """These rows, the first of `due`, are gone from the database."""
        for row in rows:
            gone = self._superseded.popleft()
            assert gone == row
            if row.tombstone_of and self._last.get(row.tombstone_of) == row.revision:
                if row.tombstone_of in self._dirty:
                    self._last[row.tombstone_of] = 0
                else:
                    del self._last[row.tombstone_of]

    def trimmed_elsewhere(self, compacted: int) -> None:
        """Another process trimmed everything that was superseded up to `compacted`."""
        while self._superseded and self._superseded[0].at <= compacted:
            self.trimmed([self._superseded[0]])
