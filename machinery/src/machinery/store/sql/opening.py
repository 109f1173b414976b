"""From a database URL to a store."""

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from machinery.kit.clock import Clock
from machinery.store.history import History
from machinery.store.log import LogStore
from machinery.store.memory import MemoryStore
from machinery.store.sql.sqlite import SqliteStore


def open_store(
    url: str,
    *,
    clock: Clock | None = None,
    history: History | None = None,
    relaxed_flush_s: float = 180.0,
    migrate_to: str = "store@head",
) -> LogStore:
    """`sqlite:///path`, `postgresql://user@host/name` or `memory://`; nothing is touched before `start`."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"database URL {url!r} cannot be read; {_SHAPES}") from error
    backend = parsed.get_backend_name()
    if backend == "memory":
        return MemoryStore(history)
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError(f"database URL {url!r} names no file; {_SHAPES}")
        return SqliteStore(
            parsed.database,
            clock=clock,
            history=history,
            relaxed_flush_s=relaxed_flush_s,
            migrate_to=migrate_to,
        )
    if backend == "postgresql":
        from machinery.store.sql.postgres import (
            PostgresStore,
        )  # a second of imports: only where used

        plain = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
        return PostgresStore(plain, history=history, migrate_to=migrate_to)
    raise ValueError(f"database URL {url!r}: unknown database {backend}; {_SHAPES}")


_SHAPES = "use sqlite:///path/to/file.db or postgresql://user:password@host:5432/name"
