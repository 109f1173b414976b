"""What readers see: the committed rows of one revision, and their history.

Only `publish` changes it, once per commit round and after the commit, so a reader never sees what may still fail.
"""

from collections.abc import Iterable, Sequence

from machinery.store.history import History, PrefixWatch
from machinery.store.interface import Change, Event, FutureRevision, Row, Snapshot
from machinery.store.sortedkeys import SortedKeys

FIRST_REVISION = 1
"""The revision of an empty store, as etcd's; 0 keeps its meaning "any" in the Kubernetes API."""


class View:
    """Current state by key, in key order, with the ring of events that led to it."""

    def __init__(self, history: History | None = None) -> None:
        self.revision = FIRST_REVISION
        self.history = history or History()
        self._rows: dict[str, Row] = {}
        self._keys = SortedKeys()

    def get(self, key: str) -> Row | None:
        """The committed row."""
        return self._rows.get(key)

    def rows(self) -> Iterable[Row]:
        """All rows, in no order."""
        return self._rows.values()

    def list(self, prefix: str) -> Snapshot:
        """The rows below `prefix`, in key order."""
        _check_prefix(prefix)
        rows = tuple(map(self._rows.__getitem__, self._keys.below(prefix)))
        return Snapshot(rows=rows, revision=self.revision)

    def watch(self, prefix: str, after_revision: int) -> PrefixWatch:
        """What happens below `prefix` after a revision."""
        _check_prefix(prefix)
        return self.history.watch(prefix, after_revision, self.revision)

    def publish(self, events: Sequence[Event], revision: int) -> None:
        """Make one commit round visible: rows first, then the watchers hear of them."""
        assert revision >= self.revision
        rows, keys = self._rows, self._keys
        for event in events:
            row = event.row
            if event.change is Change.DELETE:
                del rows[row.key]
                keys.remove(row.key)
            else:
                if event.change is Change.CREATE:
                    keys.add(row.key)
                rows[row.key] = row
        self.revision = revision
        if events:
            self.history.publish(events)

    def compact(self, revision: int) -> int:
        """Forget events up to `revision`; the oldest revision kept afterwards."""
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        self.history.compact(revision)
        return self.history.oldest

    def restore(self, rows: Iterable[Row], revision: int, oldest: int) -> None:
        """Replace everything (start, or a gap that cannot be filled); watchers end."""
        self._rows = {row.key: row for row in rows}
        self._keys = SortedKeys(self._rows)
        self.revision = revision
        self.history.restart(oldest)


def _check_prefix(prefix: str) -> None:
    if not prefix.endswith("/"):
        raise ValueError(f"a prefix ends in '/', got {prefix!r}")
