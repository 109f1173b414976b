"""The stores under contract, each behind one small factory."""

from collections.abc import AsyncIterator, Iterator

import pytest

from machinery.store.interface import Store
from machinery.store.memory import MemoryStore


class MemoryBackend:
    """Makes empty memory stores."""

    name = "memory"

    def new(self) -> Store:
        return MemoryStore()


Backend = MemoryBackend


@pytest.fixture(scope="module", params=["memory"])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    yield MemoryBackend()


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    store = backend.new()
    await store.start()
    yield store
    await store.close()
