"""The SQLite file as the writer thread sees it: lock, migrate, replay, commit.

WAL with synchronous=FULL: a commit is on the disk when it returns. One process owns the file, by a lock beside it
that dies with the process. When a commit fails, its rows are looked for: a commit may have happened although it
reported an error. What was reported as failed but cannot be looked up is deleted by the next commit.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from machinery.store.interface import Change, Row, StoreUnavailable
from machinery.store.sql.ledger import Ledger
from machinery.store.sql.migrate import MigrationError, is_current, upgrade
from machinery.store.sql.replay import Replay
from machinery.store.sql.values import Codec

INSERT = (
    "INSERT INTO store_log (revision, key, change, value, create_revision, previous_revision)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "busy_timeout = 5000",
    "journal_size_limit = 67108864",
)
REPLAY = "SELECT revision, key, change, value, create_revision FROM store_log ORDER BY revision"


class LogRow(NamedTuple):
    """A row of store_log; its value is compressed by the commit."""

    revision: int
    key: str
    change: Change
    value: bytes | None
    create_revision: int
    previous_revision: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction."""

    rows: Sequence[LogRow] = ()
    trim: Sequence[int] = ()
    reserve: int = 0
    packed: bool = False
    """Whether values are already as they are to lie there."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What the file held, and the highest revision that may ever have been issued."""

    rows: Sequence[Row]
    revision: int
    ledger: Ledger
    fresh: bool


class SqliteFile:
    """Blocking; used by one thread at a time."""

    def __init__(
        self,
        path: str,
        migrate_to: str = "store@head",
        connection_class: type[sqlite3.Connection] = sqlite3.Connection,
        codec: Codec | None = None,
    ) -> None:
        self.path = path
        self._migrate_to = migrate_to
        self._connection_class = connection_class
        self._codec = codec or Codec()
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._doubtful: list[int] = []

    def open(self) -> Opened:
        """Lock the file, bring its schema up to date, read it."""
        self._take_lock()
        try:
            self._connection = self._connect()
            if not is_current(self._connection, self._migrate_to):
                self._migrate()
            return self._replay()
        except (sqlite3.Error, MigrationError, ValueError) as error:
            self.close()
            raise StoreUnavailable(
                f"{self.path} cannot be used: {error}; if it is damaged, restore it from a backup"
            ) from error

    def close(self) -> None:
        """Release everything. Nothing is pending here."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def commit(self, commit: Commit) -> frozenset[int]:
        """Make it durable; the revisions that lost against a row already there. Raises StoreUnavailable."""
        rows = commit.rows if commit.packed else [self._packed(row) for row in commit.rows]
        try:
            refused = self._transaction(rows, commit)
        except sqlite3.Error as error:
            self._roll_back()
            if not self._happened(commit):
                raise StoreUnavailable(f"{self.path}: {error}") from error
            return frozenset()
        self._doubtful.clear()
        return refused

    # ------------------------------------------------------------------------------------------------ inside
    def _packed(self, row: LogRow) -> LogRow:
        return (
            row if row.value is None else row._replace(value=self._codec.pack(row.key, row.value))
        )

    def _transaction(self, rows: Sequence[LogRow], commit: Commit) -> frozenset[int]:
        connection = self._driver()
        connection.execute("BEGIN IMMEDIATE")
        trim = [*commit.trim, *self._doubtful]
        if trim:
            connection.executemany(
                "DELETE FROM store_log WHERE revision = ?", [(number,) for number in trim]
            )
        before = connection.total_changes
        connection.executemany(INSERT, rows)
        refused: frozenset[int] = frozenset()
        if connection.total_changes - before != len(rows):
            refused = frozenset(row.revision for row in rows) - self._present(rows)
        if commit.reserve:
            connection.execute("UPDATE store_state SET reserved = ?", (commit.reserve,))
        connection.execute("COMMIT")
        return refused

    def _present(self, rows: Sequence[LogRow]) -> frozenset[int]:
        find = "SELECT 1 FROM store_log WHERE revision = ? AND key = ?"
        return frozenset(
            row.revision
            for row in rows
            if self._driver().execute(find, (row.revision, row.key)).fetchone()
        )

    def _roll_back(self) -> None:
        try:
            if self._driver().in_transaction:
                self._driver().execute("ROLLBACK")
        except (sqlite3.Error, StoreUnavailable):
            self._reconnect()

    def _reconnect(self) -> None:
        broken, self._connection = self._connection, None
        if broken is not None:
            with contextlib.suppress(sqlite3.Error):
                broken.close()
        with contextlib.suppress(sqlite3.Error):
            self._connection = self._connect()

    def _happened(self, commit: Commit) -> bool:
        """Whether a commit that reported an error is in the file after all."""
        self._doubtful += [row.revision for row in commit.rows]
        if not commit.rows:
            return False
        try:
            there = len(self._present(commit.rows)) == len(commit.rows)
        except (sqlite3.Error, StoreUnavailable):
            return False
        if there:
            self._doubtful = self._doubtful[: -len(commit.rows)]
        return there

    def _driver(self) -> sqlite3.Connection:
        if self._connection is None:
            self._reconnect()
        if self._connection is None:
            raise StoreUnavailable(f"{self.path} cannot be opened")
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            check_same_thread=False,
            isolation_level=None,
            factory=self._connection_class,
        )
        try:
            for pragma in (*PRAGMAS, *(("secure_delete = ON",) if self._codec.seals else ())):
                connection.execute(f"PRAGMA {pragma}").close()
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _migrate(self) -> None:
        """Raises MigrationError. Over a connection of Alembic's own, and nothing is kept of it."""
        from sqlalchemy import NullPool, create_engine, event
        from sqlalchemy.exc import DatabaseError

        engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool)
        event.listen(engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE") and None)
        try:
            with engine.begin() as connection:
                upgrade(connection, self._migrate_to)
        except DatabaseError as error:
            raise MigrationError(str(error)) from error
        finally:
            engine.dispose()

    def _take_lock(self) -> None:
        path = Path(f"{self.path}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise StoreUnavailable(
                f"{self.path} is in use by process {owner}; a SQLite store has one server, "
                "stop it first, or use PostgreSQL for several"
            ) from error
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock

    def _replay(self) -> Opened:
        connection = self._driver()
        replay = Replay()
        (reserved,) = connection.execute("SELECT max(reserved) FROM store_state").fetchone()
        for row in connection.execute(REPLAY):
            replay.add(*row)
        revision = max(replay.revision, reserved or 0)
        rows = replay.rows(self._codec.unpack)
        return Opened(rows, revision, replay.ledger, replay.empty and not reserved)
