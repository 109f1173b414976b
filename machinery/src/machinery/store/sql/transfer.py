"""The whole state of a store, taken out while its servers run, and put into an empty one: for backups.

What is taken is the present row of every key, as of one revision: history is not state. SQLite is read by a second
connection in one transaction, which WAL lets happen beside the writer; PostgreSQL by the replay that servers start with.
Values stay the checked frames that the log holds, but each is opened once, so that a damaged one is found when the
backup is made and not when it is needed; those that lie encrypted stay so, and need their keys where they are put. What a SQLite store has only in memory (Events and node heartbeats of the last
minutes) is not in it.

Where it is put, numbering goes on REVISION_STEP above, since nobody knows what was issued after the backup: a watcher
of before is told to list again, and no number names two states. (etcd's `--bump-revision --mark-compacted`.)
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from machinery.store.interface import Change, StoreUnavailable
from machinery.store.sql.migrate import known
from machinery.store.sql.opening import plain
from machinery.store.sql.replay import Replay
from machinery.store.sql.sqlite_file import REPLAY, Commit, LogRow, SqliteFile
from machinery.store.sql.values import Codec

REVISION_STEP = 10**12
"""More than a year of the fastest writing."""
BATCH_ROWS = 5_000


class TransferError(Exception):
    """The store cannot be read, or not be filled; the text says why."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A key's present row; `value` is the log's frame."""

    key: str
    value: bytes
    revision: int
    create_revision: int


@dataclass(frozen=True, slots=True)
class Saved:
    """Rows by revision, the highest revision that may have been issued when they were read, the schema's revisions."""

    rows: Sequence[Stored]
    revision: int
    schema: Sequence[str]


def saved(replay: Replay, revision: int, schema: Sequence[str]) -> Saved:
    """Raises TransferError for a damaged value."""
    codec = Codec()
    rows = [
        Stored(row.key, row.value, row.revision, row.create_revision)
        for row in replay.rows(lambda _, lying: lying)
    ]
    for row in rows:
        try:
            codec.checked(row.value)
        except ValueError as error:
            raise TransferError(f"{row.key}: {error}") from error
    return Saved(sorted(rows, key=lambda r: r.revision), revision, sorted(schema))


def database(url: str) -> str:
    """The file of a `sqlite:///` URL; empty for PostgreSQL. Raises TransferError."""
    scheme, _, rest = url.partition("://")
    path = rest.partition("?")[0].removeprefix("/")
    match scheme.partition("+")[0]:
        case "sqlite" if rest.startswith("/") and path:
            return path
        case "postgresql":
            _ = _plain(url)
            return ""
        case _:
            raise TransferError("the database URL names neither SQLite nor PostgreSQL")


async def read(url: str) -> Saved:
    """The state, consistent, beside running servers. Raises TransferError."""
    file = database(url)
    return await asyncio.to_thread(_read_file, file) if file else await _read_postgres(url)


def _read_file(path: str) -> Saved:
    if not Path(path).exists():
        raise TransferError(f"there is no store at {path}")
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
            connection.execute("BEGIN")
            (reserved,) = connection.execute("SELECT max(reserved) FROM store_state").fetchone()
            schema = [
                row[0] for row in connection.execute("SELECT version_num FROM alembic_version")
            ]
            replay = Replay()
            for row in connection.execute(REPLAY):
                replay.add(*row)
    except sqlite3.Error as error:
        raise TransferError(f"{path} cannot be read: {error}") from error
    return saved(replay, max(replay.revision, reserved or 0), schema)


async def _read_postgres(url: str) -> Saved:
    from machinery.store.sql.postgres_connection import LOST, PostgresConnection, reason

    connection = PostgresConnection(_plain(url), lambda _: None, lambda: None)
    try:
        await connection.open(None)
        schema = await connection.schema()
        replay = await connection.replay()
    except StoreUnavailable as error:
        raise TransferError(str(error)) from error
    except LOST as error:
        raise TransferError(f"the database cannot be read: {reason(error)}") from error
    finally:
        await connection.close()
    return saved(replay, replay.revision, schema)


async def fill(url: str, state: Saved, migrate_to: str) -> int:
    """Put the state into an empty store; the revision that its numbers continue above. Raises TransferError."""
    unknown = sorted(set(state.schema) - known())
    if unknown:
        raise TransferError(
            f"the backup is of a newer database schema ({', '.join(unknown)}): restore it with the version that made it"
        )
    revision = state.revision + REVISION_STEP
    file = database(url)
    if file:
        await asyncio.to_thread(_fill_file, file, state, revision, migrate_to)
    else:
        await _fill_postgres(url, state, revision, migrate_to)
    return revision


def _fill_file(path: str, state: Saved, revision: int, migrate_to: str) -> None:
    if Path(path).exists():
        raise TransferError(f"{path} exists: a backup is restored into an empty place only")
    file = SqliteFile(path, migrate_to)
    try:
        file.open()
        for start in range(0, len(state.rows), BATCH_ROWS):
            part = state.rows[start : start + BATCH_ROWS]
            rows = [
                LogRow(r.revision, r.key, Change.CREATE, r.value, r.create_revision, 0)
                for r in part
            ]
            refused = file.commit(Commit(rows, packed=True))
            if refused:
                raise TransferError(f"the backup holds a key or revision twice: {min(refused)}")
        file.commit(Commit(reserve=revision))
    except StoreUnavailable as error:
        raise TransferError(str(error)) from error
    finally:
        file.close()


async def _fill_postgres(url: str, state: Saved, revision: int, migrate_to: str) -> None:
    from machinery.store.sql.postgres_connection import LOST, Logged, PostgresConnection, reason

    connection = PostgresConnection(_plain(url), lambda _: None, lambda: None)
    rows = [
        Logged(r.revision, r.key, Change.CREATE, r.value, r.create_revision, 0, 0)
        for r in state.rows
    ]
    try:
        await connection.open(migrate_to)
        if not await connection.fill(rows, revision):
            raise TransferError(
                "the database is not empty: a backup is restored into a new one only (CREATE DATABASE)"
            )
    except StoreUnavailable as error:
        raise TransferError(str(error)) from error
    except LOST as error:
        raise TransferError(f"the database cannot be filled: {reason(error)}") from error
    finally:
        await connection.close()


def _plain(url: str) -> str:
    try:
        return plain(url)
    except ValueError as error:
        raise TransferError(str(error)) from error
