"""From a database URL to a store. What only PostgreSQL needs is imported for it alone: SQLAlchemy takes a second to load."""

import re

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
        raise ValueError(f"database URL {_masked(url)!r} cannot be read; {_SHAPES}")
    if backend == "memory":
        return MemoryStore(history)
    if backend == "sqlite":
        path = rest.partition("?")[0].removeprefix("/")
        if not rest.startswith("/") or path in ("", ":memory:"):
            raise ValueError(f"database URL {_masked(url)!r} names no file; {_SHAPES}")
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

        return PostgresStore(plain(url), history=history, migrate_to=migrate_to, sealer=sealer)
    raise ValueError(f"database URL {_masked(url)!r}: unknown database {backend}; {_SHAPES}")


def plain(url: str) -> str:
    """A PostgreSQL URL without the name of a driver. Raises ValueError.

    Of several hosts (`host:port,host:port`) the one that takes writes is looked for at every connect: behind a standby
    that was promoted stands the same log.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    rest = url.partition("://")[2]
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, hosts = place.rpartition("@")
    tail = rest[len(place) :]
    try:
        read = [make_url(f"postgresql://{user}{at}{host}{tail}") for host in hosts.split(",")]
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"database URL {_masked(url)!r} cannot be read; {_SHAPES}") from error
    if len(read) == 1:
        return read[0].render_as_string(hide_password=False)
    if not all(one.host for one in read):
        raise ValueError(f"database URL {_masked(url)!r} names an empty host; {_SHAPES}")
    if "target_session_attrs" in read[0].query:
        return f"postgresql://{rest}"
    return f"postgresql://{rest}{'&' if '?' in tail else '?'}target_session_attrs=read-write"


def _masked(url: str) -> str:
    """The URL as a message may show it: messages go into logs."""
    scheme, separator, rest = url.partition("://")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _ = place.rpartition("@")
    name, colon, _ = user.partition(":")
    hidden = f"{name}:***" if colon else name
    rest = re.sub(r"(?i)(password=)[^&]*", r"\1***", rest[len(user) :])
    return f"{scheme}{separator}{hidden}{rest}" if at else f"{scheme}{separator}{rest}"


_SHAPES = (
    "use sqlite:///path/to/file.db, postgresql://user:password@host:5432/name, "
    "or with a standby postgresql://user:password@host:5432,host:5432/name"
)
