"""What outlives the process, on every store that has a place of its own."""

import asyncio

import pytest
from tests.contract.store.conftest import Backend

from machinery.store.interface import Compacted, Durability, Store


async def opened(backend: Backend, url: str) -> Store:
    store = backend.open(url)
    await store.start()
    return store


async def test_rows_revisions_and_floor(persistent: Backend) -> None:
    url = persistent.url()
    store = await opened(persistent, url)
    assert store.oldest_revision() == 0
    store.watch("/a/", 0).close()
    await asyncio.gather(*(store.create(f"/a/{i}", b"%d" % i) for i in range(100)))
    changed = store.get("/a/7")
    assert changed is not None
    await store.update("/a/7", b"new", changed.revision)
    await store.create("/m/x", b"1", Durability.MEMORY)
    top = store.current_revision()
    rows = list(store.list("/a/").rows)
    await store.close()
    again = await opened(persistent, url)
    assert list(again.list("/").rows) == rows
    assert again.current_revision() >= top
    with pytest.raises(Compacted):
        again.watch("/a/", top - 1)
    more = await again.create("/m/x", b"2")
    assert more.revision > top
    assert more.create_revision == more.revision
    await again.close()


async def test_deleted_objects_do_not_reappear(persistent: Backend) -> None:
    url = persistent.url()
    for _ in range(3):
        store = await opened(persistent, url)
        assert not store.list("/a/").rows
        for i in range(20):
            row = await store.create(f"/a/{i}", b"1")
            row = await store.update(f"/a/{i}", b"2", row.revision)
            await store.delete(f"/a/{i}", row.revision)
        await store.compact(store.current_revision())
        await store.create("/b/x", b"1") if store.get("/b/x") is None else None
        await store.close()
    store = await opened(persistent, url)
    assert [row.key for row in store.list("/").rows] == ["/b/x"]
    await store.close()


async def test_closing_with_writes_under_way(persistent: Backend) -> None:
    url = persistent.url()
    store = await opened(persistent, url)
    tasks = [asyncio.create_task(store.create(f"/a/{i}", b"1")) for i in range(300)]
    await asyncio.sleep(0)
    await store.close()
    rows = [await task for task in tasks]
    again = await opened(persistent, url)
    assert sorted(again.list("/a/").rows, key=lambda row: row.revision) == rows
    await again.close()
