"""The stores under contract, each behind one small factory."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.postgres import Postgres, postgres

from machinery.store.interface import Store
from machinery.store.memory import MemoryStore
from machinery.store.sql import open_store

__all__ = ["postgres"]


class MemoryBackend:
    """Makes empty memory stores."""

    persistent = False

    def url(self) -> str:
        """A place that nobody used yet."""
        return "memory://"

    def open(self, url: str) -> Store:
        return MemoryStore()


class SqliteBackend:
    """Makes SQLite stores, each in a file of its own."""

    persistent = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = itertools.count()

    def url(self) -> str:
        return f"sqlite:///{self._folder}/{next(self._count)}.db"

    def open(self, url: str) -> Store:
        return open_store(url)


class PostgresBackend:
    """Makes PostgreSQL stores, each in a database of its own."""

    persistent = True

    def __init__(self, server: Postgres) -> None:
        self.server = server

    def url(self) -> str:
        return self.server.fresh_url()

    def open(self, url: str) -> Store:
        return open_store(url)


Backend = MemoryBackend | SqliteBackend | PostgresBackend


def _backend(name: str, request: pytest.FixtureRequest) -> Backend:
    if name == "memory":
        return MemoryBackend()
    if name == "postgres":
        return PostgresBackend(request.getfixturevalue("postgres"))
    return SqliteBackend(request.getfixturevalue("tmp_path_factory").mktemp("sqlite"))


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each store in turn."""
    return _backend(request.param, request)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def persistent(request: pytest.FixtureRequest) -> Backend:
    """Each store that outlives its process."""
    return _backend(request.param, request)


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    store = backend.open(backend.url())
    await store.start()
    yield store
    await store.close()
