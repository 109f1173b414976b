"""PostgreSQL: several writers, a database that goes away, a process that sleeps."""

import asyncio
import itertools
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import pytest
from tests.support.postgres import Postgres

from machinery.store.interface import (
    Change,
    Compacted,
    Durability,
    Event,
    KeyExists,
    KeyNotFound,
    RevisionMismatch,
    Row,
    StoreUnavailable,
    Watch,
)
from machinery.store.sql.postgres import PostgresStore


@asynccontextmanager
async def started(url: str, **options: Any) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url, **options)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def read(watch: Watch, count: int) -> list[Event]:
    events: list[Event] = []
    batches = aiter(watch)
    while len(events) < count:
        events += await asyncio.wait_for(anext(batches), 30)
    return events


async def until_connected(store: PostgresStore) -> None:
    for _ in range(2000):
        if store.connected:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the store did not come back")


RACER = """
import asyncio, sys
from machinery.store.interface import RevisionMismatch
from machinery.store.sql import open_store

async def main():
    store = open_store(sys.argv[1])
    await store.start()
    wins = losses = 0
    async def racer(races):
        nonlocal wins, losses
        for _ in range(races):
            row = store.get("/a/counter")
            try:
                await store.update("/a/counter", b"%d" % (int(row.value) + 1), row.revision)
                wins += 1
            except RevisionMismatch:
                losses += 1
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            _ = group.create_task(racer(500))
    await store.close()
    print(wins, losses)

asyncio.run(main())
"""


@pytest.mark.timeout(180)
async def test_two_processes_one_key_ten_thousand_races(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with started(url) as store:
        start = store.current_revision()
        watch = store.watch("/a/", start)
        await store.create("/a/counter", b"0")
        command = [sys.executable, "-c", RACER, url]
        racers = [
            await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(2)
        ]
        outputs = [(await racer.communicate())[0].split() for racer in racers]
        assert [racer.returncode for racer in racers] == [0, 0]
        counts = [(int(wins), int(losses)) for wins, losses in outputs]
        assert sum(map(sum, counts)) == 10_000
        wins = sum(wins for wins, _ in counts)
        assert all(wins > 0 for wins, _ in counts)
        await store.barrier()
        row = store.get("/a/counter")
        assert row is not None
        assert int(row.value) == wins
        events = await read(watch, wins + 1)
        assert [int(event.row.value) for event in events] == list(range(wins + 1))


async def test_tailers_miss_nothing_and_agree(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(started(url)) for _ in range(3)]
        start = stores[0].current_revision()
        watches = [store.watch("/a/", start) for store in stores]

        async def write(store: PostgresStore, name: str) -> None:
            for i in range(150):
                row = await store.create(f"/a/{name}-{i}", b"1")
                if i % 3 == 0:
                    await store.update(row.key, b"2", row.revision)
                if i % 5 == 0:
                    await store.create(f"/m/{name}-{i}", b"1", Durability.MEMORY)

        async with asyncio.TaskGroup() as group:
            for number, store in enumerate(stores):
                for writer in range(5):
                    _ = group.create_task(write(store, f"{number}-{writer}"))
        seen = [await read(watch, 15 * 200) for watch in watches]
        assert seen[0] == seen[1] == seen[2]
        revisions = [event.row.revision for event in seen[0]]
        assert revisions == sorted(set(revisions))
        assert [len(store.list("/m/").rows) for store in stores] == [150, 150, 150]
        for store in stores:
            await store.barrier()
        assert len({tuple(store.list("/a/").rows) for store in stores}) == 1


async def test_barrier_sees_what_others_committed(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with started(url, poll_s=60.0) as one, started(url, poll_s=60.0) as other:
        for i in range(50):
            row = await one.create(f"/a/{i}", b"1")
            revisions = await asyncio.gather(*(other.barrier() for _ in range(5)))
            assert min(revisions) >= row.revision
            assert other.get(row.key) == row


async def test_refusals_are_judged_by_what_others_committed(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with started(url, poll_s=60.0) as one, started(url, poll_s=60.0) as other:
        row = await one.create("/a/x", b"1")
        newer = await other.update("/a/x", b"2", row.revision)
        with pytest.raises(RevisionMismatch) as refused:
            await one.update("/a/x", b"3", row.revision)
        assert refused.value.current == newer
        newest = await one.update("/a/x", b"3", newer.revision)
        await other.delete("/a/x", newest.revision)
        with pytest.raises(KeyNotFound):
            await one.delete("/a/x", newest.revision)
        again = await one.create("/a/x", b"4")
        with pytest.raises(KeyExists):
            await other.create("/a/x", b"5")
        assert other.get("/a/x") == again


async def test_notify_is_only_a_hint(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with started(url, poll_s=0.05) as one, started(url) as other:
        one._connection._driver._listeners.clear()  # it hears nothing more; asking the driver would cross the store's own use of it
        watch = one.watch("/a/", one.current_revision())
        row = await other.create("/a/x", b"1")
        assert [event.row for event in await read(watch, 1)] == [row]


async def test_memory_rows_stay_here_and_their_numbers_are_known_there(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with started(url, poll_s=60.0) as one, started(url, poll_s=60.0) as other:
        row = await one.create("/m/x", b"1", Durability.MEMORY)
        for _ in range(500):
            if other.current_revision() >= row.revision:
                break
            await asyncio.sleep(0.01)
        other.watch("/m/", row.revision).close()
        assert other.get("/m/x") is None
        assert (await other.create("/a/x", b"1")).revision > row.revision
        top = (await one.update("/m/x", b"2", row.revision)).revision
    async with started(url) as again:
        assert again.current_revision() >= top
        assert again.get("/m/x") is None
        assert (await again.create("/a/y", b"1")).revision > top


async def test_servers_may_start_at_once(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    stores = [PostgresStore(url) for _ in range(4)]
    await asyncio.gather(*(store.start() for store in stores))
    await asyncio.gather(*(store.create(f"/a/{i}", b"1") for i, store in enumerate(stores)))
    await asyncio.gather(*(store.close() for store in stores))


async def end_backends(url: str) -> None:
    admin = await asyncpg.connect(url)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'ubernetes-store' AND datname = current_database()"
    )
    await admin.close()


async def test_broken_connection_under_load_loses_and_doubles_nothing(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with started(url) as store, started(url) as other:
        start = store.current_revision()
        watch = other.watch("/a/", start)
        told: dict[str, Row] = {}
        asked = unavailable = 0
        broken = asyncio.Event()

        async def write(name: int) -> None:
            nonlocal asked, unavailable
            for i in itertools.count():
                asked += 1
                key, last = f"/a/{name}-{i}", i >= 100 and broken.is_set()
                try:
                    told[key] = await store.create(key, b"1")
                    if last:
                        return  # written since the last time that the connections were broken
                except StoreUnavailable:
                    unavailable += 1
                    assert store.get("/a/never") is None  # reads go on
                    await until_connected(store)

        async def break_it() -> None:
            for _ in range(4):
                await asyncio.sleep(0.1)
                await end_backends(url)
            broken.set()

        async with asyncio.TaskGroup() as group:
            _ = group.create_task(break_it())
            for name in range(10):
                _ = group.create_task(write(name))
        row = await store.create("/a/last", b"1")
        while True:
            await until_connected(other)
            try:
                await other.barrier()
                break
            except StoreUnavailable:
                continue  # it finds out only now that its connection is broken
        assert unavailable > 0
        assert len(told) + unavailable == asked
        # A write that was reported as failed is not there, one that was reported as done is, on both sides.
        expected = [*sorted(told.values(), key=lambda row: row.revision), row]
        assert [event.row for event in await read(watch, len(expected))] == expected
        assert list(store.list("/a/").rows) == sorted(expected, key=lambda row: row.key)


async def test_database_that_crashes_and_comes_back(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with started(url, unknown_wait_s=0.5) as store:
        row = await store.create("/a/x", b"1")
        mirror = await store.create("/m/x", b"1", Durability.MEMORY)
        postgres.stop(signal.SIGQUIT)
        with pytest.raises(StoreUnavailable):
            await store.update("/a/x", b"2", row.revision)
        with pytest.raises(StoreUnavailable):
            await store.barrier()
        assert store.get("/a/x") == row
        watch = store.watch("/a/", row.revision)
        await asyncio.to_thread(postgres.start)
        await until_connected(store)
        newer = await store.update("/a/x", b"2", row.revision)
        assert newer.revision > mirror.revision
        assert store.get("/m/x") == mirror
        assert [event.row for event in await read(watch, 1)] == [newer]


async def test_close_while_the_database_is_away(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with started(url, unknown_wait_s=0.2) as store:
        postgres.stop(signal.SIGQUIT)
        try:
            writes = [asyncio.create_task(store.create(f"/a/{i}", b"1")) for i in range(3)]
            await asyncio.sleep(0)
            await asyncio.wait_for(store.close(), 20)
            for write in writes:
                with pytest.raises(StoreUnavailable):
                    await write
        finally:
            await asyncio.to_thread(postgres.start)


async def test_unreachable_database_is_a_clear_error() -> None:
    store = PostgresStore("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await store.start()


async def test_trimming_keeps_the_log_bounded(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with started(url, retain_revisions=50) as store, started(url) as other:
        row = await store.create("/a/x", b"1")
        for i in range(600):
            row = await store.update("/a/x", b"%d" % i, row.revision)
        assert store.trim_backlog <= 50 + 110
        await other.barrier()
        assert other.trim_backlog <= 50 + 110  # it heard of the trimming and deletes nothing itself
        await store.compact(store.current_revision())
        await store.barrier()
    admin = await asyncpg.connect(url)
    assert await admin.fetchval("SELECT count(*) FROM store_log") <= 2
    await admin.close()


async def test_sleeper_reloads_and_ends_its_watchers(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    async with started(url, poll_s=60.0) as sleeper, started(url, retain_revisions=0) as worker:
        kept = await sleeper.create("/a/kept", b"1")
        gone = await sleeper.create("/a/gone", b"1")
        mirror = await sleeper.create("/m/x", b"1", Durability.MEMORY)
        await worker.barrier()
        watch = sleeper.watch("/a/", sleeper.current_revision())
        # Asleep: it hears nothing, and reads nothing.
        await sleeper._connection._driver.remove_listener("store_log", sleeper._connection._heard)
        await worker.delete("/a/gone", gone.revision)
        row = kept
        for i in range(300):
            row = await worker.update("/a/kept", b"%d" % i, row.revision)
        # The first write after it wakes believes in rows of long ago.
        with pytest.raises(RevisionMismatch) as refused:
            await sleeper.update("/a/kept", b"mine", kept.revision)
        assert refused.value.current == row
        assert list(sleeper.list("/").rows) == [row, mirror]
        with pytest.raises(Compacted):
            await read(watch, 1)
        assert (await sleeper.create("/a/gone", b"2")).create_revision > row.revision
        await sleeper._connection._driver.add_listener("store_log", sleeper._connection._heard)


async def test_kill_9_of_a_server_loses_no_answered_write(postgres: Postgres) -> None:
    from tests.contract.store.test_sqlite_faults import killed_writer

    url = postgres.fresh_url()
    async with started(url) as other:
        got = await asyncio.to_thread(killed_writer, url, 300)
        await other.barrier()
        for key, revision in got:
            if key != "-":
                row = other.get(key)
                assert row is not None
                assert row.revision == revision
        assert (await other.create("/b/x", b"1")).revision > max(number for _, number in got)
        events = await read(other.watch("/b/", other.current_revision() - 1), 1)
        assert events[0].change is Change.CREATE
