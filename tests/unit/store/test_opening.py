"""Database URLs, right and wrong."""

import re

import pytest

from machinery.store.memory import MemoryStore
from machinery.store.sql import open_store
from machinery.store.sql.migrate import scripts
from machinery.store.sql.opening import plain
from machinery.store.sql.postgres import PostgresStore
from machinery.store.sql.sqlite import SqliteStore


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryStore),
        ("sqlite:////var/lib/x.db", SqliteStore),
        ("sqlite:///x.db?mode=rw", SqliteStore),
        ("postgresql://user:pass@db:5432/name", PostgresStore),
        ("postgresql+asyncpg://db/name", PostgresStore),
        ("postgresql://user:p%40ss@one:5432,two:5433/name", PostgresStore),
    ],
)
def test_right(url: str, kind: type) -> None:
    assert type(open_store(url)) is kind


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "cannot be read; use sqlite:///path"),
        ("/var/lib/x.db", "cannot be read; use sqlite:///path"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://db/name", "unknown database mysql; use sqlite:///path"),
        ("postgresql://db:port/name", "cannot be read; use sqlite:///path"),
        ("postgresql://one:5432,two:port/name", "cannot be read; use sqlite:///path"),
        ("postgresql://one,,two/name", "names an empty host; use sqlite:///path"),
    ],
)
def test_wrong(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql://me:secret@db/name", "mysql://me:***@db/name"),
        ("postgresql://me:secret@one,two:port/name", "postgresql://me:***@one,two:port/name"),
        ("postgresql://:secret@db:port/name", "postgresql://:***@db:port/name"),
        ("postgresql://db:port/name?user=me&password=secret&ssl=on", "db:port/name?user=me&password=***&ssl=on"),
        ("mysql://me@db/name", "mysql://me@db/name"),
    ],
)  # fmt: skip
def test_a_message_shows_no_password(url: str, shown: str) -> None:
    with pytest.raises(ValueError, match=re.escape(shown)) as raised:
        open_store(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        (
            "postgresql+asyncpg://u@one:1/db?application_name=x",
            "postgresql://u@one:1/db?application_name=x",
        ),
        (
            "postgresql+asyncpg://u:p%40w@one:1,[::1]:2/db",
            "postgresql://u:p%40w@one:1,[::1]:2/db?target_session_attrs=read-write",
        ),
        (
            "postgresql://one,two/db?ssl=require",
            "postgresql://one,two/db?ssl=require&target_session_attrs=read-write",
        ),
        (
            "postgresql://one,two/db?target_session_attrs=primary",
            "postgresql://one,two/db?target_session_attrs=primary",
        ),
    ],
)
def test_of_several_hosts_the_one_that_takes_writes_is_dialled(url: str, dialled: str) -> None:
    assert plain(url) == dialled


def test_migrations_are_found() -> None:
    assert (scripts() / "versions" / "store").is_dir()
