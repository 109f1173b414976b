"""One connection to PostgreSQL and the few things that the store says over it.

The engine is SQLAlchemy's; the statements go through the driver connection, where a batch of 64 rows costs the
client under 4 µs a row. A lost connection leaves an append of unknown outcome behind: `replace` therefore ends the old
backend before it looks at the log, so what is not there then will never be there.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from machinery.store.interface import StoreUnavailable
from machinery.store.sql.migrate import MigrationError, upgrade
from machinery.store.sql.replay import Replay
from machinery.store.view import FIRST_REVISION

MIGRATION_LOCK = 7_020_117_312
APPEND_LOCK = 7_020_117_311
"""The lock that `store_append` takes (migration store_0001)."""
CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 30.0
FILL_TIMEOUT_S = 600.0
TAIL_ROWS_MAX = 2_000
NUMBER_ONLY = 0
"""The change of a row that wants a revision and no place in the log."""

APPEND = "SELECT ordinal, revision, previous_revision FROM store_append($1, $2, $3, $4, $5, $6)"
TRIM = "SELECT store_trim($1, $2)"
TAIL = """
SELECT s.compacted, l.revision, l.key, l.change, l.value, l.create_revision, l.previous_revision, l.writer
FROM store_state s LEFT JOIN LATERAL (
    SELECT * FROM store_log WHERE revision > $1 AND revision <= $2 ORDER BY revision LIMIT $3
) l ON true ORDER BY l.revision
"""
ISSUED = "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM store_revision"
REPLAY = "SELECT revision, key, change, value, create_revision FROM store_log ORDER BY revision"
FILLED = "SELECT EXISTS (SELECT FROM store_log)"
SCHEMA = "SELECT version_num FROM alembic_version"
END_BACKEND = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2
"""
LOST = (
    OSError,
    EOFError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a backend ended between two messages of the protocol
    SQLAlchemyError,
)
"""What a statement raises when the database is away, refuses, or the connection broke under it."""


class Asked(NamedTuple):
    """A write as `store_append` takes it, value compressed."""

    key: str
    change: int
    value: bytes | None
    created: int
    expected: int


class Logged(NamedTuple):
    """A row of the log as the tail reads it."""

    revision: int
    key: str
    change: int
    value: bytes | None
    create_revision: int
    previous_revision: int
    writer: int


class Appended(NamedTuple):
    """The answer to an append: what the log held before, and (revision, previous) by position of the accepted."""

    base: int
    accepted: dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Tail:
    """What the log holds after a revision, and up to where it was compacted when that was read."""

    rows: list[Logged]
    compacted: int


class PostgresConnection:
    """Used by one task at a time. `on_notify` hears "writer:revision" of every append anywhere."""

    def __init__(
        self, url: str, on_notify: Callable[[str], None], on_lost: Callable[[], None]
    ) -> None:
        self._url = url
        self._on_notify = on_notify
        self._on_lost = on_lost
        self._engine: AsyncEngine | None = None
        self._pooled: AsyncConnection | None = None
        self._driver: Any = None
        self._backend: tuple[int, object] | None = None

    @property
    def connected(self) -> bool:
        """Whether a statement is worth trying."""
        return self._driver is not None and not self._driver.is_closed()

    async def open(self, migrate_to: str | None) -> None:
        """Connect; with `migrate_to` bring the schema up to date first. Raises StoreUnavailable."""
        if self._engine is None:
            self._engine = create_async_engine(
                "postgresql+asyncpg://", poolclass=NullPool, async_creator=self._dial
            )
        try:
            if migrate_to is not None:
                await self._migrate(self._engine, migrate_to)
            self._pooled = await self._engine.connect()
            raw = await self._pooled.get_raw_connection()
            self._driver = raw.driver_connection
            await self._end_old_backend()
            self._driver.add_termination_listener(lambda _: self._on_lost())
            await self._driver.add_listener("store_log", self._heard)
        except MigrationError as error:
            raise StoreUnavailable(f"the database cannot be used: {error}") from error
        except LOST as error:
            await self.drop()
            raise StoreUnavailable(f"the database cannot be reached: {reason(error)}") from error

    async def drop(self) -> None:
        """Give up a connection that failed."""
        pooled, self._pooled, self._driver = self._pooled, None, None
        if pooled is None:
            return
        try:
            await pooled.invalidate()
            await pooled.close()
        except LOST:
            return

    async def close(self) -> None:
        """End in good order."""
        if self._driver is not None and not self._driver.is_closed():
            with contextlib.suppress(*LOST):
                await self._driver.remove_listener("store_log", self._heard)
        self._on_lost = lambda: None
        if self._pooled is not None:
            await self.drop()
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    # ---------------------------------------------------------------------------------------------- statements
    async def append(self, writer: int, asked: Sequence[Asked]) -> Appended:
        """One batch in one transaction of one statement. Raises one of LOST; then its outcome is unknown."""
        keys, changes, values, created, expected = (
            list(column) for column in zip(*asked, strict=True)
        )
        records = await self._driver.fetch(APPEND, writer, keys, changes, values, created, expected)
        accepted = {place - 1: (revision, previous) for place, revision, previous in records[1:]}
        return Appended(records[0][1], accepted)

    async def tail(self, after: int, up_to: int = 2**63 - 1) -> Tail:
        """The next rows after a revision."""
        records = await self._driver.fetch(TAIL, after, up_to, TAIL_ROWS_MAX)
        rows = [Logged(*record[1:]) for record in records if record[1] is not None]
        return Tail(rows, records[0][0])

    async def replay(self) -> Replay:
        """The whole log in one snapshot, and the highest revision issued before it.

        The snapshot is taken under the lock of the appenders: no number up to that revision is still on its way.
        """
        driver, replay = self._driver, Replay()
        await driver.execute("SELECT pg_advisory_lock($1)", APPEND_LOCK)
        async with driver.transaction(isolation="repeatable_read", readonly=True):
            issued = await driver.fetchval(ISSUED)
            await driver.execute("SELECT pg_advisory_unlock($1)", APPEND_LOCK)
            async for record in driver.cursor(REPLAY, prefetch=TAIL_ROWS_MAX):
                replay.add(*record)
        replay.revision = max(replay.revision, issued)
        return replay

    async def schema(self) -> list[str]:
        """The revisions of the schema. Raises one of LOST."""
        return [str(row[0]) for row in await self._driver.fetch(SCHEMA)]

    async def fill(self, rows: Sequence[Logged], revision: int) -> bool:
        """Put these rows into a log that never held one, in one transaction, and number on above `revision`.

        False, and nothing done, for a log that was ever used. Raises one of LOST.
        """
        driver = self._driver
        async with driver.transaction():
            await driver.execute("SELECT pg_advisory_xact_lock($1)", APPEND_LOCK)
            if await driver.fetchval(FILLED) or await driver.fetchval(ISSUED) > FIRST_REVISION:
                return False
            await driver.copy_records_to_table(
                "store_log", records=rows, columns=list(Logged._fields), timeout=FILL_TIMEOUT_S
            )
            await driver.execute("UPDATE store_state SET compacted = $1", revision)
            await driver.execute("SELECT setval('store_revision', $1)", revision)
        return True

    async def trim(self, revisions: Sequence[int], compacted: int) -> None:
        """Delete superseded rows; everything superseded up to `compacted` is then gone."""
        await self._driver.execute(TRIM, revisions, compacted)

    # ------------------------------------------------------------------------------------------------- inside
    async def _dial(self) -> Any:
        return await asyncpg.connect(
            dsn=self._url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": "ubernetes-store", "jit": "off"},
        )

    async def _migrate(self, engine: AsyncEngine, target: str) -> None:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            await connection.run_sync(upgrade, target)

    async def _end_old_backend(self) -> None:
        if self._backend is not None:
            ended = await self._driver.fetch(END_BACKEND, *self._backend)
            if not all(row[0] for row in ended):
                raise TimeoutError("the old connection does not end")
        self._backend = await self._driver.fetchrow(
            "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        )

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._on_notify(str(payload))


def reason(error: BaseException) -> str:
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return "it did not answer in time"
    return str(error) or type(error).__name__
