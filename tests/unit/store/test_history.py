"""Bounds of the ring, and sorted keys against a plain sorted list."""

import random

import pytest

from machinery.store.history import History
from machinery.store.interface import Compacted
from machinery.store.memory import MemoryStore
from machinery.store.sortedkeys import CHUNK_KEYS, SortedKeys


async def test_slow_watcher_ends_with_compacted() -> None:
    store = MemoryStore(History(events_max=10))
    slow = store.watch("/a/", store.current_revision())
    other = store.watch("/b/", store.current_revision())
    for i in range(11):
        await store.create(f"/a/{i}", b"v")
    with pytest.raises(Compacted):
        await anext(aiter(slow))
    await store.create("/b/x", b"v")
    assert len(await anext(aiter(other))) == 1
    with pytest.raises(Compacted):
        store.watch("/a/", 1)


async def test_ring_is_bounded_by_bytes() -> None:
    store = MemoryStore(History(events_max=1000, bytes_max=100))
    rows = [await store.create(f"/a/{i}", b"v" * 30) for i in range(10)]
    assert store.oldest_revision() == rows[-4].revision
    assert len(await anext(aiter(store.watch("/a/", rows[-4].revision)))) == 3


async def test_ring_is_trimmed_by_every_commit() -> None:
    store = MemoryStore(History(events_max=5))
    row = await store.create("/a/x", b"v")
    for _ in range(100):
        row = await store.update("/a/x", b"v", row.revision)
        assert row.revision - store.oldest_revision() <= 6
    assert row.revision - store.oldest_revision() == 5


@pytest.mark.parametrize("seed", range(3))
def test_sorted_keys_agree_with_a_sorted_list(seed: int) -> None:
    roll = random.Random(seed)
    names = [f"/r/{roll.choice('abc')}/{roll.choice('xyz')}/{i}" for i in range(5 * CHUNK_KEYS)]
    keys, model = SortedKeys(names[: 2 * CHUNK_KEYS]), set(names[: 2 * CHUNK_KEYS])
    for name in names[2 * CHUNK_KEYS :]:
        keys.add(name)
        model.add(name)
        if roll.random() < 0.7:
            victim = roll.choice(names)
            if victim in model:
                keys.remove(victim)
                model.discard(victim)
    for prefix in ("/", "/r/", "/r/a/", "/r/b/y/", "/r/c/z/", "/q/", "/r/d/"):
        assert keys.below(prefix) == sorted(k for k in model if k.startswith(prefix))
    for name in sorted(model):
        keys.remove(name)
    assert keys.below("/") == []
    assert len(keys) == 0
