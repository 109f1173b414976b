"""Database URLs, right and wrong."""

import pytest

from machinery.store.memory import MemoryStore
from machinery.store.sql import open_store
from machinery.store.sql.migrate import scripts
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
    ],
)
def test_wrong(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_store(url)


def test_migrations_are_found() -> None:
    assert (scripts() / "versions" / "store").is_dir()
