"""What every store does, case by case."""

import asyncio
from collections.abc import Sequence

import pytest

from machinery.store.interface import (
    Change,
    Compacted,
    Durability,
    Event,
    FutureRevision,
    KeyExists,
    KeyNotFound,
    RevisionMismatch,
    Row,
    Store,
    StoreUnavailable,
    Watch,
)

POD = "/registry/core/pods/demo/web-1"
PODS = "/registry/core/pods/"
ALL_CLASSES = pytest.mark.parametrize("durability", list(Durability), ids=lambda d: d.value)


async def take(watch: Watch, count: int) -> list[Event]:
    """The next `count` events of a watch."""
    events: list[Event] = []
    batches = aiter(watch)
    while len(events) < count:
        events += await asyncio.wait_for(anext(batches), 10)
    assert len(events) == count
    return events


def brief(events: Sequence[Event]) -> list[tuple[Change, str, bytes]]:
    return [(event.change, event.row.key, event.row.value) for event in events]


@ALL_CLASSES
async def test_create_is_seen_by_get_list_and_watch(store: Store, durability: Durability) -> None:
    before = store.current_revision()
    watch = store.watch(PODS, before)
    row = await store.create(POD, b"one", durability)
    assert row == Row(POD, b"one", row.revision, row.revision)
    assert row.revision > before
    assert store.get(POD) == row
    assert list(store.list(PODS).rows) == [row]
    assert store.list(PODS).revision == store.current_revision() >= row.revision
    assert await take(watch, 1) == [Event(Change.CREATE, row, None)]


@ALL_CLASSES
async def test_a_begun_create_settles_with_its_row(store: Store, durability: Durability) -> None:
    watch = store.watch(PODS, store.current_revision())
    write = store.begin_create(POD, b"one", durability)
    assert write is not None
    row = await write
    assert store.get(POD) == row == Row(POD, b"one", row.revision, row.revision)
    assert await take(watch, 1) == [Event(Change.CREATE, row, None)]


async def test_a_create_that_must_wait_or_would_be_refused_is_not_begun(store: Store) -> None:
    first = store.begin_create(POD, b"one")
    assert first is not None
    before = first.done()
    assert store.begin_create(POD, b"two") is None, "in flight, or there already"
    assert first.done() is before
    row = await first
    assert store.begin_create(POD, b"two") is None
    assert store.get(POD) == row
    await store.close()
    assert store.begin_create(POD + "x", b"two") is None


@ALL_CLASSES
async def test_a_begun_update_settles_with_its_row(store: Store, durability: Durability) -> None:
    first = await store.create(POD, b"one", durability)
    watch = store.watch(PODS, first.revision)
    write = store.begin_update(POD, b"two", first.revision, durability)
    assert write is not None
    row = await write
    assert store.get(POD) == row == Row(POD, b"two", row.revision, first.revision)
    assert await take(watch, 1) == [Event(Change.UPDATE, row, first)]
    assert not store.in_flight(POD)


async def test_an_update_that_must_wait_or_would_be_refused_is_not_begun(store: Store) -> None:
    assert store.begin_update(POD, b"two", 1) is None, "there is none"
    first = await store.create(POD, b"one")
    assert store.begin_update(POD, b"two", first.revision - 1) is None, "another revision"
    write = store.begin_update(POD, b"two", first.revision)
    assert write is not None
    if store.in_flight(POD):
        assert store.begin_update(POD, b"three", first.revision) is None
    row = await write
    assert store.begin_update(POD, b"three", first.revision) is None, "it has moved on"
    await store.close()
    assert store.begin_update(POD, b"three", row.revision) is None


@ALL_CLASSES
async def test_update_keeps_create_revision(store: Store, durability: Durability) -> None:
    first = await store.create(POD, b"one", durability)
    watch = store.watch(PODS, first.revision)
    second = await store.update(POD, b"two", first.revision, durability)
    assert second.create_revision == first.revision < second.revision
    assert store.get(POD) == second
    assert await take(watch, 1) == [Event(Change.UPDATE, second, first)]


@ALL_CLASSES
@pytest.mark.parametrize("final", [None, b"final"], ids=["last value", "final value"])
async def test_delete(store: Store, durability: Durability, final: bytes | None) -> None:
    first = await store.create(POD, b"one", durability)
    watch = store.watch(PODS, first.revision)
    gone = await store.delete(POD, first.revision, final, durability)
    assert gone.revision > first.revision
    assert gone.value == (final or b"one")
    assert store.get(POD) is None
    assert not store.list(PODS).rows
    assert await take(watch, 1) == [Event(Change.DELETE, gone, first)]


@ALL_CLASSES
async def test_create_again_after_delete(store: Store, durability: Durability) -> None:
    for _ in range(3):
        row = await store.create(POD, b"one", durability)
        assert row.create_revision == row.revision
        await store.delete(POD, row.revision, None, durability)
    assert store.get(POD) is None


async def test_refusals(store: Store) -> None:
    row = await store.create(POD, b"one")
    with pytest.raises(KeyExists):
        await store.create(POD, b"two")
    newer = await store.update(POD, b"two", row.revision)
    for attempt in (
        store.update(POD, b"three", row.revision),
        store.delete(POD, row.revision),
        store.update(POD, b"three", newer.revision + 100),
    ):
        with pytest.raises(RevisionMismatch) as refused:
            await attempt
        assert refused.value.current == newer
    for missing in (store.update("/a/b", b"", 1), store.delete("/a/b", 1)):
        with pytest.raises(KeyNotFound):
            await missing
    assert store.get(POD) == newer


async def test_one_of_many_wins(store: Store) -> None:
    row = await store.create(POD, b"0")
    results = await asyncio.gather(
        *(store.update(POD, b"%d" % i, row.revision) for i in range(50)), return_exceptions=True
    )
    winners = [result for result in results if isinstance(result, Row)]
    losers = [result for result in results if isinstance(result, RevisionMismatch)]
    assert (len(winners), len(losers)) == (1, 49)
    assert store.get(POD) == winners[0]
    assert all(loser.current == winners[0] for loser in losers)
    creates = await asyncio.gather(
        *(store.create("/registry/x", b"%d" % i) for i in range(50)), return_exceptions=True
    )
    assert sum(isinstance(result, KeyExists) for result in creates) == 49


async def test_revisions_are_unique_and_watch_sees_all_in_order(store: Store) -> None:
    start = store.current_revision()
    watch = store.watch("/registry/", start)
    classes = list(Durability)
    rows = await asyncio.gather(
        *(store.create(f"/registry/a/{i}", b"v", classes[i % 3]) for i in range(300))
    )
    revisions = [row.revision for row in rows]
    assert len(set(revisions)) == 300
    events = await take(watch, 300)
    seen = [event.row.revision for event in events]
    assert seen == sorted(revisions)
    late = await take(store.watch("/registry/", seen[99]), 200)
    assert late == events[100:]


async def test_watch_from_each_revision_is_the_suffix(store: Store) -> None:
    start = store.current_revision()
    row = await store.create(POD, b"1")
    row = await store.update(POD, b"2", row.revision)
    await store.delete(POD, row.revision)
    await store.create(POD, b"3")
    await store.create("/registry/core/nodes//n", b"other")
    events = await take(store.watch(PODS, start), 4)
    assert brief(events) == [
        (Change.CREATE, POD, b"1"),
        (Change.UPDATE, POD, b"2"),
        (Change.DELETE, POD, b"2"),
        (Change.CREATE, POD, b"3"),
    ]
    for position, event in enumerate(events[:-1]):
        rest = events[position + 1 :]
        assert await take(store.watch(PODS, event.row.revision), len(rest)) == rest


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("/a/", ["/a//x", "/a/b/x", "/a/b/y", "/a/c"]),
        ("/a/b/", ["/a/b/x", "/a/b/y"]),
        ("/a//", ["/a//x"]),
        ("/ab/", ["/ab/z"]),
        ("/a/c/", []),
        ("/zz/", []),
        ("/", ["/a//x", "/a/b/x", "/a/b/y", "/a/c", "/a0", "/ab/z"]),
    ],
)
async def test_prefixes(store: Store, prefix: str, expected: list[str]) -> None:
    start = store.current_revision()
    watch = store.watch(prefix, start)
    for key in ["/ab/z", "/a/c", "/a0", "/a/b/y", "/a//x", "/a/b/x"]:
        await store.create(key, b"v")
    assert [row.key for row in store.list(prefix).rows] == expected
    seen = await take(watch, len(expected)) if expected else []
    assert sorted(event.row.key for event in seen) == expected


async def test_prefix_must_end_in_slash(store: Store) -> None:
    with pytest.raises(ValueError, match="ends in"):
        store.list("/registry")
    with pytest.raises(ValueError, match="ends in"):
        store.watch("/registry", store.current_revision())


async def test_future_revision(store: Store) -> None:
    row = await store.create(POD, b"1")
    with pytest.raises(FutureRevision):
        store.watch(PODS, row.revision + 1_000)
    with pytest.raises(FutureRevision):
        await store.compact(row.revision + 1_000)


async def test_compact(store: Store) -> None:
    row = await store.create(POD, b"1")
    middle = await store.update(POD, b"2", row.revision)
    last = await store.update(POD, b"3", middle.revision)
    assert await store.compact(middle.revision) == middle.revision == store.oldest_revision()
    with pytest.raises(Compacted) as refused:
        store.watch(PODS, row.revision)
    assert refused.value.oldest == middle.revision
    assert brief(await take(store.watch(PODS, middle.revision), 1)) == [(Change.UPDATE, POD, b"3")]
    assert store.get(POD) == last
    assert await store.compact(row.revision) == middle.revision


async def test_closed_watch_stops(store: Store) -> None:
    watch = store.watch(PODS, store.current_revision())
    await store.create(POD, b"1")
    watch.close()
    assert [batch async for batch in watch] == []
    await store.create(POD + "0", b"1")
    watch.close()


async def test_close_ends_watchers_and_refuses_writes(store: Store) -> None:
    watch = store.watch(PODS, store.current_revision())
    await store.create(POD, b"1")
    await store.close()
    assert [brief(batch) async for batch in watch] == [[(Change.CREATE, POD, b"1")]]
    with pytest.raises(StoreUnavailable):
        await store.create(POD + "0", b"1")
    assert store.get(POD) is not None


async def test_barrier_is_not_behind_the_callers_writes(store: Store) -> None:
    row = await store.create(POD, b"1")
    revisions = await asyncio.gather(*(store.barrier() for _ in range(10)))
    assert all(revision >= row.revision for revision in revisions)


async def test_class_of_a_key_is_kept(store: Store) -> None:
    stored = await store.create(POD, b"1")
    stored = await store.update(POD, b"2", stored.revision, Durability.MEMORY)
    mirror = await store.create(POD + "m", b"1", Durability.MEMORY)
    mirror = await store.update(POD + "m", b"2", mirror.revision, Durability.DURABLE)
    assert store.get(POD) == stored
    assert store.get(POD + "m") == mirror
    await store.delete(POD, stored.revision, None, Durability.MEMORY)
    await store.delete(POD + "m", mirror.revision)
    assert not store.list(PODS).rows
    await store.create(POD, b"3", Durability.MEMORY)
    await store.create(POD + "m", b"3")
    assert len(store.list(PODS).rows) == 2


async def test_cancelled_caller_does_not_wedge_the_key(store: Store) -> None:
    row = await store.create(POD, b"1")
    task = asyncio.create_task(store.update(POD, b"2", row.revision))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await store.barrier()
    current = store.get(POD)
    assert current is not None
    try:
        current = await asyncio.wait_for(store.update(POD, b"3", current.revision), 10)
    except RevisionMismatch as moved:
        assert moved.current is not None
        current = await store.update(POD, b"3", moved.current.revision)
    assert store.get(POD) == current
