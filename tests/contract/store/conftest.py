"""The stores under contract, each behind one small factory."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from machinery.store.interface import Store
from machinery.store.memory import MemoryStore
from machinery.store.sql import open_store


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


Backend = MemoryBackend | SqliteBackend


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    if request.param == "memory":
        yield MemoryBackend()
    else:
        yield SqliteBackend(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    store = backend.open(backend.url())
    await store.start()
    yield store
    await store.close()
