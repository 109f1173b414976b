"""From a database URL to a store. What only PostgreSQL needs is imported for it alone: SQLAlchemy takes a second to load."""

from machinery.kit.clock import Clock
from machinery.store.history import History
from machinery.store.log import LogStore
from machinery.store.memory import MemoryStore
from machinery.store.sealing import Sealer
from machinery.store.sql.sqlite import SqliteStore


def open_store(
    url: str,
    *,
    clock: Clock | None = None,
    history: History | None = None,
    relaxed_flush_s: float = 180.0,
    migrate_to: str = "store@head",
    sealer: Sealer | None = None,
) -> LogStore:
    """`sqlite:///path`, `postgresql://user@host/name` or `memory://`; nothing is touched before `start`."""
    scheme, separator, rest = url.partition("://")
    backend = scheme.partition("+")[0]
    if not separator:
        raise ValueError(f"database URL {url!r} cannot be read; {_SHAPES}")
    if backend == "memory":
        return MemoryStore(history)
    if backend == "sqlite":
        path = rest.partition("?")[0].removeprefix("/")
        if not rest.startswith("/") or path in ("", ":memory:"):
            raise ValueError(f"database URL {url!r} names no file; {_SHAPES}")
        return SqliteStore(
            path,
            clock=clock,
            history=history,
            relaxed_flush_s=relaxed_flush_s,
            migrate_to=migrate_to,
            sealer=sealer,
        )
    if backend == "postgresql":
        from machinery.store.sql.postgres import PostgresStore  # a second of imports

        return PostgresStore(_plain(url), history=history, migrate_to=migrate_to, sealer=sealer)
    raise ValueError(f"database URL {url!r}: unknown database {backend}; {_SHAPES}")


def _plain(url: str) -> str:
    """A PostgreSQL URL without the name of a driver. Raises ValueError."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"database URL {url!r} cannot be read; {_SHAPES}") from error
    return parsed.set(drivername="postgresql").render_as_string(hide_password=False)


_SHAPES = "use sqlite:///path/to/file.db or postgresql://user:password@host:5432/name"
