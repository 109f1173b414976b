"""From the log back to the current state, the same for both databases."""

from collections.abc import Callable

from machinery.store.interface import Change, Row
from machinery.store.sql.ledger import Ledger
from machinery.store.view import FIRST_REVISION


class Replay:
    """Fed with every row of the log in order of revision; only values that survive are decompressed."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.revision = FIRST_REVISION
        self._newest: dict[str, tuple[int, bytes | None, int]] = {}

    def add(self, revision: int, key: str, change: int, value: bytes | None, created: int) -> None:
        """The next row."""
        before = self._newest.pop(key, None)
        done = Change(change)
        self.ledger.stored(key, done, revision, before[0] if before else 0)
        if done is not Change.DELETE:
            self._newest[key] = (revision, value, created)
        self.revision = revision

    @property
    def empty(self) -> bool:
        """Whether the log held nothing at all."""
        return not self._newest and not self.ledger.backlog

    def rows(self, unpack: Callable[[str, bytes], bytes]) -> list[Row]:
        """The rows that are there at the end; `unpack` gets their key and what lies there."""
        return [
            Row(key, unpack(key, value or b""), revision, created)
            for key, (revision, value, created) in self._newest.items()
        ]
